"""Rollout of restarts: only what is to be restarted, one process after the other, lines of a venue never both. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ipc.health import Reason, WorkerState
from ipc.lines import process_of, venue_of
from supervisor.config import Config, VenueConfig

#: Longest wait for a restarted worker to be live before the next one is restarted.
_LIVE_TIMEOUT_NS: Final = 30_000_000_000

#: How long a restarted line is live before the other one is restarted: its consumers need its books until then.
_SETTLE_NS: Final = 2_000_000_000

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
        changed=tuple(
            name
            for name in kept
            if shared_changed
            or old.venues[name] != new.venues[name]
            or _ports(old, old.venues[name]) != _ports(new, new.venues[name])
        ),
        settings=tuple(one.key for one in new.settings if before.get(one.key) != one.value),
    )


def _shared(config: Config) -> tuple[object, ...]:
    """Return the settings that all workers share."""
    blackbox = config.blackbox_kb, config.blackbox_dir, config.blackbox_keep
    shared = config.backoff, config.watchdog_tick_ms, config.fixture_speed, config.limit_share
    return *shared, blackbox, address_of(config)


def address_of(config: Config) -> tuple[object, ...] | None:
    """Return where the feeds listen on TCP, without the ports of single processes; None where they do not."""
    network = config.network
    return None if network is None else (network.host, network.port, network.curve_dir)


def _ports(config: Config, venue: VenueConfig) -> list[object]:
    """Return the TCP ports of a venue's lines."""
    ports = {} if config.network is None else config.network.ports
    return [ports.get(process_of(venue.name, line)) for line in venue.lines]


@dataclass(slots=True)
class Rollout:
    """Queue of processes to restart, one at a time.

    Attributes:
        waiting: Processes still to be restarted, with the reason.
        current: The one that was restarted last, until it is up.
        reason: Reason of that restart.
        since_ns: Time of that restart.
        live_ns: Time from which it was live, None before; only for the first one of two lines.
        held_ns: Time since which the next one may not end; None while it may.
        abandoned: Lines that are not restarted, for the other line of their venue did not become live again.
    """

    waiting: dict[str, Reason] = field(default_factory=dict)
    current: str | None = None
    reason: Reason | None = None
    since_ns: int = 0
    live_ns: int | None = None
    held_ns: int | None = None
    abandoned: list[str] = field(default_factory=list)

    def add(self, names: Iterable[str], reason: Reason) -> None:
        """Add processes to the end of the queue; one that waits keeps its place."""
        for name in names:
            self.waiting.setdefault(name, reason)

    def forget(self, name: str) -> None:
        """Remove a process that is no longer configured."""
        self.waiting.pop(name, None)
        if name == self.current:
            self.current = None

    def next(
        self, state: WorkerState | None, now_ns: int, may_end: Callable[[str], bool] = lambda _name: True
    ) -> str | None:
        """Return the process to restart now, if any.

        Args:
            state: That of :attr:`current`.
            now_ns: Monotonic time.
            may_end: Returns whether a process may end now: a line only while its venue has another. One that may not
                for 30 s is abandoned.
        """
        is_up = self.current is None or state in _SETTLED
        if not is_up and now_ns - self.since_ns < _LIVE_TIMEOUT_NS:
            return None
        if state is WorkerState.LIVE and self._is_line_next():
            self.live_ns = now_ns if self.live_ns is None else self.live_ns
            if now_ns - self.live_ns < _SETTLE_NS:
                return None
        if (self.current is not None and state is WorkerState.FAILED) or not is_up:
            self._abandon(str(self.current))
        following = next(iter(self.waiting), None)
        if following is not None and not may_end(following):
            self.held_ns = now_ns if self.held_ns is None else self.held_ns
            if now_ns - self.held_ns >= _LIVE_TIMEOUT_NS:
                del self.waiting[following]
                self.abandoned.append(following)
                self.held_ns = None
            return None
        self.current = following
        self.reason = None if following is None else self.waiting.pop(following)
        self.since_ns, self.live_ns, self.held_ns = now_ns, None, None
        return following

    def _is_line_next(self) -> bool:
        """Return whether the other line of the current one's venue comes next."""
        following = next(iter(self.waiting), None)
        if self.current is None or following in {None, self.current}:
            return False
        return venue_of(str(following)) == venue_of(self.current)

    def _abandon(self, current: str) -> None:
        """Leave the other line of the venue alone whose first one did not come back."""
        for name in [name for name in self.waiting if name != current and venue_of(name) == venue_of(current)]:
            del self.waiting[name]
            self.abandoned.append(name)
