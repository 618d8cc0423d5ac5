"""Supervised threads: one that ends unexpectedly is logged and started again with backoff."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ipc.health import Reason
from ipc.log import get_log
from workers.backoff import Backoff, BackoffPolicy

log = get_log(__name__)

_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Supervised:
    name: str
    target: Callable[[], None]
    is_stopped: Callable[[], bool]
    backoff: Backoff
    thread: threading.Thread | None = None
    started_ns: int = 0
    restart_ns: int = 0
    restarts: int = 0
    has_crashed: bool = False

    def start(self) -> None:
        self.has_crashed = False
        self.started_ns = time.monotonic_ns()
        self.thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.target()
        except Exception:
            self.has_crashed = True
            log.exception("thread.crashed", thread=self.name)


class ThreadSupervisor:
    """Supervisor of a process's threads; only the main thread uses it.

    Attributes:
        restarts: Number of restarts of all threads.
    """

    def __init__(self, venue: str, policy: BackoffPolicy) -> None:
        self.restarts = 0
        self._venue = venue
        self._policy = policy
        #: By name.
        self._supervised: dict[str, _Supervised] = {}

    def keep(self, name: str, target: Callable[[], None], is_stopped: Callable[[], bool]) -> None:
        """Start a thread; start it again when it ends, unless ``is_stopped()``."""
        supervised = _Supervised(name, target, is_stopped, Backoff(self._policy))
        self._supervised[name] = supervised
        supervised.start()

    def release(self, name: str, timeout_s: float) -> bool:
        """Stop supervising a thread that was asked to end; return whether it ended within ``timeout_s``."""
        supervised = self._supervised.pop(name, None)
        if supervised is None or supervised.thread is None:
            return True
        supervised.thread.join(timeout_s)
        return not supervised.thread.is_alive()

    def restart_ended(self) -> None:
        """Log threads that ended and restart those whose delay is over."""
        now = time.monotonic_ns()
        for supervised in self._supervised.values():
            if supervised.thread is not None and not supervised.thread.is_alive() and not supervised.is_stopped():
                self._record_end(supervised, now)
            if supervised.thread is None and now >= supervised.restart_ns and not supervised.is_stopped():
                supervised.restarts += 1
                self.restarts += 1
                log.info("thread.restarted", venue=self._venue, thread=supervised.name, restarts=supervised.restarts)
                supervised.start()

    def _record_end(self, supervised: _Supervised, now: int) -> None:
        delay_ns = supervised.backoff.failed(now - supervised.started_ns)
        supervised.restart_ns = now + delay_ns
        supervised.thread = None
        log.error(
            "thread.ended",
            venue=self._venue,
            thread=supervised.name,
            reason=Reason.CRASH if supervised.has_crashed else Reason.CLEAN_EXIT,
            restarts=supervised.restarts,
            delay_s=round(delay_ns / _NS, 3),
        )
