"""Last hour of every venue: spans, marks, rates and what happened; bounded, and rebuilt from lifecycle events.

Times that go in are wall-clock seconds (``wall_s``) or the stamps of events. Stamps that run backwards, after a change
of the clock, count as the time of the last entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from ipc.events import Lifecycle, Status
from supervisor.overview.condition import condition_of
from supervisor.overview.document import EventView, HourView, Kind, MarkKind, SpanKind, Timeline
from supervisor.overview.happenings import Happenings

HOUR_S: Final = 3_600.0
#: Seconds of rates that are kept.
_RATES: Final = 120
_RATE_S: Final = 1.0
#: Entries of a venue; the oldest go first.
_MAX_SPANS: Final = 400
_MAX_MARKS: Final = 200
#: Silence of the recorder after which the time since counts as unwatched.
_UNWATCHED_S: Final = 10.0
_NS: Final = 1_000_000_000

#: Kind of a venue after a lifecycle event.
_KINDS: Final[Mapping[str, Kind]] = {
    "started": "down",
    "starting": "down",
    "live": "live",
    "stale": "degraded",
    "exited": "down",
    "restarting": "down",
    "backoff": "down",
    "killing": "down",
    "unkillable": "person",
    "stopped": "stopped",
    "failed": "person",
}


class _VenueHistory:
    """Spans, marks and rates of one venue."""

    def __init__(self) -> None:
        self.spans: deque[tuple[float, SpanKind]] = deque(maxlen=_MAX_SPANS)
        self.marks: deque[tuple[float, MarkKind, str]] = deque(maxlen=_MAX_MARKS)
        self.rates: deque[float] = deque(maxlen=_RATES)
        self.counted: tuple[float, int] | None = None

    def change(self, at: float, kind: SpanKind) -> None:
        """Begin a span unless the current one is of the same kind."""
        if not self.spans:
            self.spans.append((at, kind))
            return
        since, current = self.spans[-1]
        if kind == current:
            return
        if at <= since:  # nothing in between: the later knowledge holds
            self.spans.pop()
            at = since
            if self.spans and self.spans[-1][1] == kind:
                return
        self.spans.append((at, kind))

    def mark(self, at: float, kind: MarkKind, text: str) -> None:
        """Add a mark."""
        self.marks.append((at, kind, text))

    def count(self, at: float, events: int) -> None:
        """Add a rate once a second from the events of this life; a smaller count is a new life's."""
        if self.counted is None:
            self.counted = at, events
            return
        since, before = self.counted
        if not 0 <= at - since < _RATE_S:
            self.counted = at, events
            new = events - before if events >= before else events
            self.rates.append(round(new / (at - since), 1) if at > since else 0.0)

    def prune(self, since: float) -> None:
        """Drop what ended before ``since``."""
        while len(self.spans) > 1 and self.spans[1][0] <= since:
            self.spans.popleft()
        while self.marks and self.marks[0][0] < since:
            self.marks.popleft()


class History:
    """Recorder of the last hour; feed it with :meth:`record` about twice a second, and with every event."""

    def __init__(self) -> None:
        self._venues: dict[str, _VenueHistory] = {}
        self._happenings = Happenings()
        self._watched_since: float | None = None
        self._recorded_at: float | None = None
        #: Monotonic stamp of the last lifecycle event by process: events may come twice, by two ways.
        self._last_ns: dict[str, int] = {}

    def record(self, status: Mapping[str, Any], wall_s: float) -> None:
        """Record the state of every venue at a time.

        Args:
            status: Status document.
            wall_s: Time at which it was read.
        """
        self._watched_since = wall_s if self._watched_since is None else self._watched_since
        was_away = self._recorded_at is not None and wall_s - self._recorded_at > _UNWATCHED_S
        for name, venue in status["venues"].items():
            known = self._venues.setdefault(name, _VenueHistory())
            if was_away and known.spans:
                known.change(self._recorded_at or wall_s, "unwatched")
            kind = condition_of(name, venue).kind
            since_s = venue["since_s"]
            # The board knows since when a process is in its state, also from before anyone recorded it.
            at = wall_s - since_s if not known.spans and since_s is not None else wall_s
            known.change(min(max(at, wall_s - HOUR_S), wall_s), kind)
            known.count(wall_s, sum(stream["events"] for stream in venue["streams"].values()))
            known.prune(wall_s - HOUR_S)
        for name in [name for name in self._venues if name not in status["venues"]]:
            del self._venues[name]
        self._recorded_at = wall_s

    def event(self, event: Lifecycle | Status) -> None:
        """Add a lifecycle or status event; a lifecycle event that came before is ignored."""
        at = (event.recv_ns or event.publish_ns) / _NS
        if isinstance(event, Lifecycle):
            if event.recv_mono_ns <= self._last_ns.get(event.venue, 0):
                return
            self._last_ns[event.venue] = event.recv_mono_ns
            self._happenings.lifecycle(event, at)
            if event.event == "exited":
                self._mark(event.venue, at, "exit")
        elif "refresh" not in event.flags and self._happenings.status(event, at):
            self._mark(event.venue, at, "reconnect")

    def restore(self, events: Iterable[Lifecycle]) -> None:
        """Rebuild the past from lifecycle events, oldest first; for a new history, before its first :meth:`record`."""
        for event in events:
            at = event.recv_ns / _NS
            self._watched_since = at if self._watched_since is None else min(self._watched_since, at)
            kind = _KINDS.get(event.event)
            if kind is not None:
                self._venues.setdefault(event.venue, _VenueHistory()).change(at, kind)
            self.event(event)

    def events_per_s(self, venue: str) -> float | None:
        """Return the events of a venue in the last full second; None when unknown."""
        known = self._venues.get(venue)
        return known.rates[-1] if known is not None and known.rates else None

    def rates(self, venue: str) -> list[float]:
        """Return the events of a venue in each of the last seconds, oldest first."""
        known = self._venues.get(venue)
        return [] if known is None else list(known.rates)

    def hour(self, venues: Iterable[str], wall_s: float) -> HourView:
        """Return the last hour of these venues, up to ``wall_s``."""
        since = wall_s - HOUR_S
        watched = wall_s if self._watched_since is None else self._watched_since
        timelines = [self._timeline(name, since, wall_s) for name in venues]
        return HourView(since, wall_s, max(since, min(watched, wall_s)), timelines)

    def events(self, limit: int = 8) -> list[EventView]:
        """Return what happened, newest first, folded to at most ``limit`` lines."""
        return self._happenings.lines(limit)

    def _mark(self, venue: str, at: float, kind: MarkKind) -> None:
        known = self._venues.get(venue)
        if known is not None:
            known.mark(at, kind, self._happenings.latest_text(venue))

    def _timeline(self, name: str, since: float, until: float) -> Timeline:
        known = self._venues.get(name)
        if known is None:
            return Timeline(name, [], [], None)
        spans: list[tuple[float, SpanKind]] = [
            (round(max(at, since), 3), kind) for at, kind in _within(known.spans, since, until)
        ]
        marks = [(round(at, 3), kind, text) for at, kind, text in known.marks if since <= at <= until]
        return Timeline(name, spans, marks, _share_live(spans, until))


def _within(spans: Iterable[tuple[float, SpanKind]], since: float, until: float) -> list[tuple[float, SpanKind]]:
    """Return the spans that touch a time."""
    kept = [(at, kind) for at, kind in spans if at <= until]
    first = max((index for index, (at, _) in enumerate(kept) if at <= since), default=0)
    return kept[first:]


def _share_live(spans: list[tuple[float, SpanKind]], until: float) -> float | None:
    """Return the share of time live, of the time that was watched and in which it was meant to run; None for none."""
    live = wanted = 0.0
    for (at, kind), (ended, _) in pairwise([*spans, (until, "unwatched")]):
        if kind not in {"stopped", "unwatched"}:
            wanted += ended - at
            live += ended - at if kind == "live" else 0.0
    return round(live / wanted, 5) if wanted > 0 else None
