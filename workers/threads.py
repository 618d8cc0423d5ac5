"""Supervised threads: whoever ends without being asked to is noticed, named and started again with backoff."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ipc.health import Reason
from ipc.log import get_log
from workers.backoff import Backoff, BackoffPolicy

__all__ = ["ThreadSupervisor"]

log = get_log(__name__)

_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Kept:
    name: str
    target: Callable[[], None]
    is_wanted: Callable[[], bool]
    backoff: Backoff
    thread: threading.Thread | None = None
    started_ns: int = 0
    restart_ns: int = 0
    restarts: int = 0
    crashed: list[bool] = field(default_factory=list)

    def start(self) -> None:
        self.crashed.clear()
        self.started_ns = time.monotonic_ns()
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.target()
        except Exception:
            self.crashed.append(True)
            log.exception("thread.crashed", thread=self.name)


class ThreadSupervisor:
    """Keeps a process's threads running; used by its main thread alone.

    ``restarts`` counts all that were started again.
    """

    def __init__(self, venue: str, policy: BackoffPolicy) -> None:
        self.restarts = 0
        self._venue = venue
        self._policy = policy
        self._kept: dict[str, _Kept] = {}

    def keep(self, name: str, target: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Start a thread, and again whenever it ends while ``is_wanted()``."""
        kept = _Kept(name, target, is_wanted, Backoff(self._policy))
        self._kept[name] = kept
        kept.start()

    def release(self, name: str, timeout_s: float) -> bool:
        """Stop keeping a thread that was told to end, if there is one; whether it did within ``timeout_s``."""
        kept = self._kept.pop(name, None)
        if kept is None or kept.thread is None:
            return True
        kept.thread.join(timeout_s)
        return not kept.thread.is_alive()

    def look(self) -> None:
        """Notice threads that ended, and start those that are due."""
        now = time.monotonic_ns()
        for kept in self._kept.values():
            if kept.thread is not None and not kept.thread.is_alive() and kept.is_wanted():
                self._ended(kept, now)
            if kept.thread is None and now >= kept.restart_ns and kept.is_wanted():
                kept.restarts += 1
                self.restarts += 1
                log.info("thread.restarted", venue=self._venue, thread=kept.name, restarts=kept.restarts)
                kept.start()

    def _ended(self, kept: _Kept, now: int) -> None:
        delay_ns = kept.backoff.failed(now - kept.started_ns)
        kept.restart_ns = now + delay_ns
        kept.thread = None
        log.error(
            "thread.ended",
            venue=self._venue,
            thread=kept.name,
            reason=Reason.CRASH if kept.crashed else Reason.CLEAN_EXIT,
            restarts=kept.restarts,
            delay_s=round(delay_ns / _NS, 3),
        )
