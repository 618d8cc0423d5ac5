"""Rolling out a changed configuration: only what changed is restarted, one worker after the other. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ipc.health import WorkerState
from supervisor.config import Config

__all__ = ["Difference", "Rollout", "compare"]

#: The next worker does not wait longer than this for the one before it to be live.
_PATIENCE_NS: Final = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new configuration means for the workers."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def compare(old: Config, new: Config) -> Difference:
    """Which venues are new, gone, or to be restarted for their settings to take effect."""
    shared_changed = _shared(old) != _shared(new)
    kept = [name for name in new.venues if name in old.venues]
    return Difference(
        added=tuple(name for name in new.venues if name not in old.venues),
        removed=tuple(name for name in old.venues if name not in new.venues),
        changed=tuple(name for name in kept if shared_changed or old.venues[name] != new.venues[name]),
    )


def _shared(config: Config) -> tuple[object, ...]:
    """What every worker is told alike."""
    blackbox = config.blackbox_kb, config.blackbox_dir, config.blackbox_keep
    return config.backoff, config.watchdog_tick_ms, config.network, blackbox


@dataclass(slots=True)
class Rollout:
    """The workers that are still to be restarted, and the one that is coming up."""

    waiting: deque[str] = field(default_factory=deque)
    current: str | None = None
    since_ns: int = 0

    def add(self, names: Iterable[str]) -> None:
        """Restart these as well."""
        self.waiting.extend(name for name in names if name not in self.waiting)

    def forget(self, name: str) -> None:
        """It is not there any more."""
        if name in self.waiting:
            self.waiting.remove(name)
        if name == self.current:
            self.current = None

    def next(self, state: WorkerState | None, now_ns: int) -> str | None:
        """The worker to restart now, if it is time; ``state`` is that of :attr:`current`."""
        is_up = self.current is None or state in {WorkerState.LIVE, WorkerState.FAILED, None}
        if not is_up and now_ns - self.since_ns < _PATIENCE_NS:
            return None
        self.current = self.waiting.popleft() if self.waiting else None
        self.since_ns = now_ns
        return self.current
