"""Rollout of a changed configuration: only what changed is restarted, one worker after the other. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ipc.health import WorkerState
from supervisor.config import Config

#: Longest wait for a restarted worker to be live before the next one is restarted.
_LIVE_TIMEOUT_NS: Final = 30_000_000_000

#: States in which a restarted worker is not waited for; None for one that is not there.
_SETTLED: Final = frozenset({WorkerState.LIVE, WorkerState.FAILED, WorkerState.STOPPED, None})
#: Settings that are read once, at the start of the system.
_READ_AT_START: Final = frozenset({"supervisor.run_dir", "supervisor.log_level"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between two configurations.

    Attributes:
        added: New venues.
        removed: Venues that are no longer configured.
        changed: Venues that must be restarted for their settings to take effect.
        settings: Keys of the settings that differ.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def unapplied(self) -> tuple[str, ...]:
        """Keys of changed settings that take effect only when the system is started again."""
        return tuple(key for key in self.settings if key in _READ_AT_START)


def compare(old: Config, new: Config) -> Difference:
    """Return what differs between two configurations."""
    before = {setting.key: setting.value for setting in old.settings}
    shared_changed = _shared(old) != _shared(new)
    kept = [name for name in new.venues if name in old.venues]
    return Difference(
        added=tuple(name for name in new.venues if name not in old.venues),
        removed=tuple(name for name in old.venues if name not in new.venues),
        changed=tuple(name for name in kept if shared_changed or old.venues[name] != new.venues[name]),
        settings=tuple(one.key for one in new.settings if before.get(one.key) != one.value),
    )


def _shared(config: Config) -> tuple[object, ...]:
    """Return the settings that all workers share."""
    blackbox = config.blackbox_kb, config.blackbox_dir, config.blackbox_keep
    return config.backoff, config.watchdog_tick_ms, config.network, blackbox, config.fixture_speed


@dataclass(slots=True)
class Rollout:
    """Queue of workers to restart, one at a time.

    Attributes:
        waiting: Workers still to be restarted.
        current: The one that was restarted last, until it is up.
        since_ns: Time of that restart.
    """

    waiting: deque[str] = field(default_factory=deque)
    current: str | None = None
    since_ns: int = 0

    def add(self, names: Iterable[str]) -> None:
        """Add workers to the queue."""
        self.waiting.extend(name for name in names if name not in self.waiting)

    def forget(self, name: str) -> None:
        """Remove a worker that is no longer configured."""
        if name in self.waiting:
            self.waiting.remove(name)
        if name == self.current:
            self.current = None

    def next(self, state: WorkerState | None, now_ns: int) -> str | None:
        """Return the worker to restart now, if any; ``state`` is that of :attr:`current`."""
        is_up = self.current is None or state in _SETTLED
        if not is_up and now_ns - self.since_ns < _LIVE_TIMEOUT_NS:
            return None
        self.current = self.waiting.popleft() if self.waiting else None
        self.since_ns = now_ns
        return self.current
