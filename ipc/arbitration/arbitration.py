"""State of a feed of several sources: what is delivered of each topic, and by which source.

Each source has a :class:`ipc.feed_state.FeedState` of its own, with its books and losses; the arbiters of the topics
decide which of its events are delivered. The methods are those of ``FeedState``, with the source where it matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from ipc.arbitration.books import BookArbiter, Changeover
from ipc.arbitration.trades import TradeUnion
from ipc.arbitration.values import ValueArbiter
from ipc.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Funding,
    Gap,
    Heartbeat,
    Lifecycle,
    Liquidation,
    Status,
    Trade,
)
from ipc.feed_state import LIFECYCLE, FeedState, Top, tops_of
from ipc.lines import Line, line_of, venue_of
from ipc.log import get_log
from ipc.replica import BookReplica
from ipc.sources import Source

log = get_log(__name__)

_NS: Final = 1_000_000_000
#: Between two judgements while nothing is noted, and the least time between any two.
_JUDGE_NS: Final = 100_000_000
_JUDGE_AGAIN_NS: Final = 5_000_000
#: A consumer that did not judge for so long was late itself.
_LATE_NS: Final = 500_000_000
#: Age of a heartbeat from which a source counts as away.
_AWAY_NS: Final = 1_500_000_000


def channel_of(event: Event) -> str:
    """Return the channel of an event other than a gap."""
    return event.channel if isinstance(event, BookSnapshot) else type(event).__name__.lower()


class Arbitration:
    """Arbiter of all topics of several sources.

    Args:
        venues: Venues of the feed.
        sources: The sources; others are named by their number in this order.
        now_ns: Monotonic time.
        is_remote: For each source, whether it is another machine's.
        consumer: Name of the consumer, for the log.
        first: State of the first source, when it was the only one so far; its books stay those of the consumer.

    ``changeovers`` counts changes from one source to another by reason, ``single_line_s`` is the time in seconds during
    which a venue was received from one source only, over all venues.
    """

    def __init__(
        self,
        venues: Sequence[str],
        sources: Sequence[Source],
        now_ns: int,
        *,
        is_remote: Sequence[bool],
        consumer: str = "",
        first: FeedState | None = None,
    ) -> None:
        self.sources: list[Source] = []
        self.changeovers: Counter[Changeover] = Counter()
        self.single_line_s = 0.0
        self._venues = tuple(venues)
        self._consumer = consumer
        self._states: list[FeedState] = []
        self._books: dict[tuple[str, str], BookArbiter] = {}
        self._values: dict[tuple[Any, ...], ValueArbiter] = {}
        self._trades: dict[tuple[str, str, str], TradeUnion] = {}
        #: Last events that were delivered, by channel, venue, symbol and, where they are about one, line.
        self._latest: dict[tuple[str, str, str, Line | None], Event] = {}
        #: True while an arbiter has something to decide soon.
        self._is_waiting = False
        #: True when the last judgement was left out.
        self._was_late = False
        self._judged_ns = self._counted_ns = self._checked_ns = now_ns
        for source, remote in zip(sources, is_remote, strict=True):
            self.add_source(source, now_ns, is_remote=remote)
        if first is not None:
            self._adopt(first, now_ns)

    def add_source(self, source: Source, now_ns: int, *, is_remote: bool) -> int:
        """Add a source; return its number."""
        self.sources.append(source)
        state = FeedState(self._venues, now_ns, is_remote=is_remote, consumer=self._consumer, line=source.line)
        self._states.append(state)
        return len(self._states) - 1

    @property
    def lost(self) -> int:
        """Number of messages that never arrived, over all sources."""
        return sum(state.lost for state in self._states)

    @property
    def malformed(self) -> int:
        """Number of messages that could not be decoded."""
        return sum(state.malformed for state in self._states)

    @property
    def repeated(self) -> int:
        """Number of trades that were received again and suppressed, from whichever source."""
        return sum(state.repeated for state in self._states) + sum(union.repeated for union in self._trades.values())

    @property
    def trades_of_one_line(self) -> int:
        """Number of recent trades that one source alone has brought."""
        return sum(union.alone for union in self._trades.values())

    def handle(self, source: int, parts: Sequence[bytes], now_ns: int) -> list[Event]:
        """Apply a message of a source; return the events for the user."""
        return [
            delivered
            for event in self._states[source].handle(parts, now_ns)
            for delivered in self._arbitrate(source, event, now_ns)
        ]

    def _arbitrate(self, source: int, event: Event, now_ns: int) -> list[Event]:
        """Return what to deliver after an event that a source's state has applied."""
        if isinstance(event, BookDelta | Gap) or (isinstance(event, BookSnapshot) and event.channel == "book"):
            book = self._book_of(source, event, now_ns)
            delivered = book.handle(source, event, now_ns)
            self._is_waiting = self._is_waiting or book.is_waiting
            return delivered
        if isinstance(event, Trade | Liquidation):
            return [event] if self._admits(source, event, now_ns) else []
        if isinstance(event, Heartbeat | Status | Lifecycle):
            return self._pass(source, event, now_ns)
        value = self._value_of(event)
        values = value.handle(source, event, now_ns)
        self._is_waiting = self._is_waiting or value.is_waiting
        return self._remember(values)

    def judge(self, now_ns: int) -> list[Event]:
        """Return what to deliver of sources that are behind or silent, or were lost for too long.

        To be called when every socket was read empty: a consumer that was late itself judges nobody. One that always
        is, as it reads once a second, judges every other time.
        """
        since = now_ns - self._judged_ns
        if since < (_JUDGE_AGAIN_NS if self._is_waiting else _JUDGE_NS):
            return []
        self._judged_ns = now_ns
        self._was_late = since > _LATE_NS and not self._was_late
        if self._was_late:
            self._postpone(since)
            return []
        self._count(now_ns)
        heartbeats = {venue: [state.heartbeat_ns(venue) for state in self._states] for venue in self._venues}
        delivered: list[Event] = []
        self._is_waiting = False
        for (venue, _), book in self._books.items():
            delivered += book.judge(now_ns, heartbeats[venue])
            self._is_waiting = self._is_waiting or book.is_waiting
        for (venue, *_), value in self._values.items():
            delivered += self._remember(value.judge(now_ns, heartbeats[venue]))
            self._is_waiting = self._is_waiting or value.is_waiting
        return delivered

    def _postpone(self, by_ns: int) -> None:
        for book in self._books.values():
            book.postpone(by_ns)
        for value in self._values.values():
            value.postpone(by_ns)

    def disconnected(self, source: int, venue: str, now_ns: int) -> list[Event]:
        """Handle the end of the connection to a source's publisher; return the events for the user."""
        self._states[source].disconnect(venue)
        return self._leave(source, venue, now_ns)

    def check_silence(self, now_ns: int) -> list[Event]:
        """Hide the books of silent venues; return the events for the user; cheap to call often."""
        if now_ns - self._checked_ns < _JUDGE_NS:
            return []
        self._checked_ns = now_ns
        for state in self._states:
            state.check_silence(now_ns)
        return [event for of in self._books.values() for event in of.check(now_ns)]

    def set_silence_reason(self, source: int, venue: str, reason: str | None) -> None:
        """Set the reason of a source's books while its heartbeat is lost; None when nothing more is known."""
        self._states[source].set_silence_reason(venue, reason)

    def handle_resume(self, now_ns: int, now_wall_ns: int) -> list[Event]:
        """Invalidate every book after a suspension of the machine; return the events for the user."""
        for state in self._states:
            state.handle_resume(now_ns, now_wall_ns)
        return [event for of in self._books.values() for event in of.check(now_ns)]

    def snapshot_requests(self, source: int) -> list[str]:
        """Return the topics whose snapshot a source's state needs, each once."""
        return self._states[source].snapshot_requests()

    def book(self, venue: str, symbol: str, now_ns: int) -> BookReplica:
        """Return the delivered book of a market; raise FeedError if not subscribed."""
        if (venue, symbol) not in self._books:
            self._states[0].book(venue, symbol, now_ns)  # raises for a venue that is none of this feed
        return self._arbiter(venue, symbol, now_ns).delivered

    def books(self, _now_ns: int) -> list[BookReplica]:
        """Return every book that has been received so far."""
        return [of.delivered for of in self._books.values()]

    def latest(self, channel: str, venue: str, symbol: str, line: Line | None = None) -> Event | None:
        """Return the last event of a channel other than ``book`` that was delivered; None before the first.

        ``line`` selects one of ``status``, ``heartbeat`` and ``lifecycle``, else the last of any line counts.
        """
        if channel == LIFECYCLE:
            return self._latest.get((channel, venue, "", None))
        return self._latest.get((channel, venue, symbol, line))

    def top(self, symbol: str, now_ns: int) -> list[Top]:
        """Return the best bid and offer of a symbol on every venue that has it, with their ages."""
        return tops_of((of.delivered for of in self._books.values() if of.delivered.symbol == symbol), now_ns)

    def _arbiter(self, venue: str, symbol: str, now_ns: int) -> BookArbiter:
        arbiter = self._books.get((venue, symbol))
        if arbiter is None:
            report = self._report(venue, symbol)
            arbiter = self._books[venue, symbol] = BookArbiter(BookReplica(venue, symbol), report)
        for number, state in enumerate(self._states):
            if not arbiter.knows(number):
                arbiter.add(number, state.book(venue, symbol, now_ns))
        return arbiter

    def _book_of(self, source: int, event: Event, now_ns: int) -> BookArbiter:
        arbiter = self._books.get((event.venue, event.symbol or ""))
        if arbiter is None or not arbiter.knows(source):
            return self._arbiter(event.venue, event.symbol or "", now_ns)
        return arbiter

    def _value_of(self, event: Event) -> ValueArbiter:
        channel = channel_of(event)
        series = (event.phase, event.source) if isinstance(event, Funding) else ()
        key = event.venue, channel, event.symbol or "", *series
        arbiter = self._values.get(key)
        if arbiter is None:
            arbiter = self._values[key] = ValueArbiter(channel, event.venue, self._report(event.venue, channel))
        return arbiter

    def _remember(self, values: list[Event]) -> list[Event]:
        for event in values:
            self._latest[channel_of(event), event.venue, event.symbol or "", None] = event
        return values

    def _adopt(self, first: FeedState, now_ns: int) -> None:
        """Replace the first source's state by one that is known already, and keep the books that it gave out."""
        self._states[0] = first
        for book in first.books(now_ns):
            first.replace_book(own := BookReplica(book.venue, book.symbol))
            own.follow(book)
            self._books[book.venue, book.symbol] = BookArbiter(book, self._report(book.venue, book.symbol))
            self._arbiter(book.venue, book.symbol, now_ns).begin(0)

    def _report(self, venue: str, what: str) -> Any:
        def report(reason: Changeover) -> None:
            self.changeovers[reason] += 1
            log.info("feed.changeover", consumer=self._consumer, venue=venue, of=what, reason=reason)

        return report

    def _admits(self, source: int, event: Trade | Liquidation, now_ns: int) -> bool:
        channel, symbol = channel_of(event), event.symbol or ""
        union = self._trades.get((event.venue, channel, symbol))
        if union is None:
            union = self._trades[event.venue, channel, symbol] = TradeUnion()
        book = self._books.get((event.venue, symbol))
        is_active = source == (0 if book is None or book.active is None else book.active)
        is_new = union.admit(source, event, now_ns, is_active=is_active)
        if is_new:
            self._latest[channel, event.venue, symbol, None] = event
        return is_new

    def _pass(self, source: int, event: Heartbeat | Status | Lifecycle, now_ns: int) -> list[Event]:
        """Deliver what is about a line, after what its books make of it."""
        if isinstance(event, Lifecycle):
            self._latest[LIFECYCLE, event.venue, "", None] = event
            return [*self._on_lifecycle(source, event, now_ns), event]
        channel = channel_of(event)
        for line in (None, self.sources[source].line):
            self._latest[channel, event.venue, event.symbol or "", line] = event
        return [*(self._check(event.venue, now_ns) if isinstance(event, Heartbeat) else []), event]

    def _on_lifecycle(self, source: int, event: Lifecycle, now_ns: int) -> list[Event]:
        """Apply an event of a process to the other lines of its host, one of which may be it."""
        host = self.sources[source].host
        for number, other in enumerate(self.sources):
            if other.host == host and number != source:
                self._states[number].on_lifecycle(event)
        venue, concerned = venue_of(event.venue), Source(host, line_of(event.venue))
        if event.event not in {"exited", "stopped"} or venue not in self._venues or concerned not in self.sources:
            return []
        return self._leave(self.sources.index(concerned), venue, now_ns)

    def _leave(self, source: int, venue: str, now_ns: int) -> list[Event]:
        values = [of for (name, *_), of in self._values.items() if name == venue]
        left = [event for of in values for event in self._remember(of.leave(source, now_ns))]
        return [*self._check(venue, now_ns), *left]

    def _check(self, venue: str, now_ns: int) -> list[Event]:
        return [event for (name, _), of in self._books.items() if name == venue for event in of.check(now_ns)]

    def _count(self, now_ns: int) -> None:
        """Add up the time with one source."""
        passed, self._counted_ns = now_ns - self._counted_ns, now_ns
        for venue in self._venues:
            there = sum(now_ns - state.heartbeat_ns(venue) < _AWAY_NS for state in self._states)
            self.single_line_s += passed / _NS * (there == 1)
