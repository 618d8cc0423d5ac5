"""Arbitration of the last value of one topic: best bid and offer, mark, funding, instrument, a book of 20 levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ipc.arbitration.books import Changeover
from ipc.arbitration.positions import Position, time_of, value_limit_ns
from ipc.events import Event

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
_PAUSE_NS: Final = _NS
#: Least time without a value after which another source that has one takes over, where values have no time.
_QUIET_NS: Final = 3 * _NS
#: Members of every event; the rest is the value.
_ENVELOPE: Final = frozenset(Event.__struct_fields__)


def _content(event: Event) -> list[object]:
    """Return what an event says, without its stamps."""
    return [getattr(event, name) for name in event.__struct_fields__ if name not in _ENVELOPE]


class ValueArbiter:
    """Arbiter of one topic's values.

    Args:
        channel: Channel of the topic.
        venue: Venue of the topic.
        report: Called with the reason of each change-over.
    """

    def __init__(self, channel: str, venue: str, report: Callable[[Changeover], None]) -> None:
        #: Source that is delivered; None before the first value.
        self.active: int | None = None
        self._limit_ns = value_limit_ns(channel, venue)
        self._report = report
        #: Last value of each source, and when it came.
        self._last: dict[int, tuple[Event, int]] = {}
        self._position: Position = None
        #: Position and time of a value that another source had first.
        self._news: tuple[int, Position, int] | None = None
        self._changed_ns = -_PAUSE_NS

    @property
    def latest(self) -> Event | None:
        """Last value of the delivered source; None before the first."""
        return None if self.active is None else self._last[self.active][0]

    def handle(self, source: int, event: Event, now_ns: int) -> list[Event]:
        """Return what to deliver after a value of a source."""
        self._last[source] = event, now_ns
        position = time_of(event)
        if self.active is None:
            self.active = source
        if source == self.active:
            return self._deliver(event, position)
        if self._news is None and position is not None and self._position is not None and position > self._position:
            self._news = source, position, now_ns
        elif (
            self._news is None
            and position is None
            and now_ns - self._last[self.active][1] > max(_QUIET_NS, self._limit_ns)
        ):
            self._news = source, None, now_ns - self._limit_ns
        return []

    def leave(self, source: int, now_ns: int) -> list[Event]:
        """Return what to deliver when a source was lost: the value of another one, if it is newer."""
        others = [other for other in self._last if other != source]
        if source != self.active or not others:
            return []
        return self._change_to(max(others, key=lambda other: self._last[other][1]), now_ns, "lost")

    def judge(self, now_ns: int, heartbeats: Sequence[int]) -> list[Event]:
        """Return what to deliver when the delivered source is behind or silent; see :meth:`BookArbiter.judge`."""
        if self.active is None or now_ns - self._changed_ns < _PAUSE_NS:
            return []
        heard = heartbeats[self.active]
        if now_ns - heard > 1_500 * _MS:
            for source in self._last:
                if heartbeats[source] - heard >= _NS:
                    return self._change_to(source, now_ns, "silent")
        if self._news is None or now_ns - self._news[2] <= self._limit_ns:
            return []
        source, position, _ = self._news
        if position is not None and _content(self._last[source][0]) == _content(self._last[self.active][0]):
            self._news = None
            return []
        return self._change_to(source, now_ns, "behind")

    def postpone(self, by_ns: int) -> None:
        """Let the time of a noted value begin later: the consumer itself was late."""
        if self._news is not None:
            self._news = self._news[0], self._news[1], self._news[2] + by_ns

    @property
    def is_waiting(self) -> bool:
        """True while :meth:`judge` has something to decide."""
        return self._news is not None

    def _deliver(self, event: Event, position: Position) -> list[Event]:
        if position is not None:
            self._position = position
        if self._news is not None and (self._news[1] is None or (position or 0) >= self._news[1]):
            self._news = None
        return [event]

    def _change_to(self, source: int, now_ns: int, reason: Changeover) -> list[Event]:
        self._report(reason)
        event, _ = self._last[source]
        position = time_of(event)
        self.active, self._changed_ns, self._news = source, now_ns, None
        is_newer = position is None or self._position is None or position > self._position
        return self._deliver(event, position) if is_newer else []
