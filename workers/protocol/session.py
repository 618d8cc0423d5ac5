"""Session of one connection: handles frames and time, and returns events to publish and actions to execute.

:meth:`MarketSession.received` returns the events to publish, each with its stream; all else that must be done (send,
close, fetch a book, report a state) waits in :attr:`MarketSession.actions`. The thread that owns the socket
(:mod:`workers.net.connection`) executes them. :mod:`workers.protocol.recovery` recovers lost books.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

from ipc.checks import checked, valid_ns
from ipc.events import Bbo, BookDelta, BookSnapshot, Cause, Funding, Liquidation, Mark, Trade
from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import ActionQueue, Publication, Purpose
from workers.protocol.book_sync import BookInvalid, Outcome
from workers.protocol.control import ControlHandler, ControlMessage
from workers.protocol.funding_intervals import FundingIntervals
from workers.protocol.malformed import FrameFaults
from workers.protocol.pacing import TokenBucket
from workers.protocol.policy import Policy
from workers.protocol.recovery import Recovery
from workers.protocol.streams import MarketStream, market_streams
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import (
    Ack,
    ConnectionSpec,
    FrameSeq,
    InvalidBook,
    Ping,
    Pong,
    Refused,
    RelativeDelta,
    Rule,
    ServerShutdown,
    Unsubscribed,
    Venue,
    VenueLimits,
)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_TICK_NS: Final = 50 * _MS
#: Streams that one tick checks; checking a thousand takes most of a millisecond.
_MAX_CHECKED: Final = 100
#: With more streams, each tick checks one of this many parts.
_PARTS: Final = 4
#: A venue's history of trades arrives within this time after a subscription.
_BACKLOG_NS: Final = 10 * _NS
#: Reasons after which the next snapshot is a resync.
_RESYNCS: Final = frozenset({Reason.SEQ_GAP, Reason.CROSSED_BOOK, Reason.PARSE_ERRORS, Reason.VENUE_DISAGREES})


def cause_after(reason: Reason) -> Cause:
    """Return the cause of a connection's first snapshots, by the reason for which the previous one ended."""
    return "rotation" if reason is Reason.ROTATION else "resync" if reason in _RESYNCS else "subscribe"


class MarketSession:
    """Session of one connection, over its reconnects.

    ``pace`` limits messages to the venue and is shared by a worker's sessions under the publisher's lock, as are the
    disproved funding ``intervals``; None for one of this session alone.
    """

    def __init__(
        self,
        venue: Venue,
        connection: ConnectionSpec,
        listings: Sequence[Listing],
        policy: Policy,
        pace: TokenBucket | None = None,
        intervals: FundingIntervals | None = None,
    ) -> None:
        self.connection = connection
        self.actions = ActionQueue()
        self.faults = FrameFaults(self.actions)
        self._venue = venue
        self._policy = policy
        self._intervals = intervals or FundingIntervals()
        self._markets = {listing.wire: listing for listing in listings}
        pace = pace or TokenBucket(venue.limits.burst, venue.limits.messages_per_s)
        self._subscriptions = SubscriptionManager(connection, pace)
        self._is_bridged = venue.continuity.rule is Rule.BRIDGE
        self.streams = market_streams(venue, connection, listings, policy.stale_ns)
        self._recovery = Recovery(venue, policy, self._subscriptions, self.actions, self.streams)
        self._control = ControlHandler(venue, policy, self._subscriptions, self._recovery, self.actions, self.streams)
        #: Parts of the streams, checked tick after tick, so that no tick delays the feed.
        parts = 1 if len(self.streams) <= _MAX_CHECKED else _PARTS
        self._checked_next = cycle([self.streams[part::parts] for part in range(parts)])
        self._books = self._by_symbol(Stream.BOOK)
        self._books20 = self._by_symbol(Stream.BOOK20)
        self._plain = {
            Bbo: self._by_symbol(Stream.BBO),
            Mark: self._by_symbol(Stream.MARK),
            Funding: self._by_symbol(Stream.FUNDING),
            Trade: self._by_symbol(Stream.TRADE),
            Liquidation: self._by_symbol(Stream.LIQUIDATION),
        }
        self._on: Mapping[type, Callable[[Any, list[Publication]], None]] = {
            BookSnapshot: self._on_snapshot,
            BookDelta: self._on_delta,
            RelativeDelta: self._on_relative,
            Bbo: self._on_plain,
            Mark: self._on_plain,
            Funding: self._on_plain,
            Trade: self._on_trade,
            Liquidation: self._on_trade,
            FrameSeq: self._on_frame_seq,
            **dict.fromkeys((Ack, Unsubscribed, Ping, Pong, Refused, ServerShutdown), self._on_control),
            InvalidRow: self._on_invalid_row,
            InvalidBook: self._on_invalid_book,
        }
        #: Time of the call at hand.
        self._now = 0
        self._next_tick_ns = 0
        #: Number of the connection's last frame, where frames are numbered.
        self._last_seq: int | None = None
        #: Streams whose history of trades is in the frame at hand.
        self._backlogs: list[MarketStream] = []

    @property
    def book_streams(self) -> list[MarketStream]:
        """Return the streams of books."""
        return [stream for stream in self.streams if stream.book_sync is not None]

    @property
    def limits(self) -> VenueLimits:
        """Return the venue's limits."""
        return self._venue.limits

    @property
    def carries_books(self) -> bool:
        """True when the freshness of books decides whether this connection is healthy."""
        return bool(self._books)

    @property
    def is_limited(self) -> bool:
        """True while request limits hold the fetch of a book back."""
        return any(stream.fetch.is_delayed for stream in self.book_streams)

    def update_listings(self, listings: Sequence[Listing]) -> None:
        """Replace the listings of the same markets; retry one that trades again at once.

        Any thread may call it under the publisher's lock.
        """
        self._markets = {listing.wire: listing for listing in listings}
        listed = {listing.symbol: listing for listing in listings}
        for stream in self.streams:
            before, stream.listing = stream.listing, listed[stream.symbol]
            if stream.state is StreamState.FAILED and not before.is_trading and stream.listing.is_trading:
                self._recovery.retry_now(stream)

    def connecting(self, now_ns: int) -> None:
        """Record that an attempt to connect begins: no data of the last connection is fresh."""
        self._now = now_ns
        for stream in self.streams:
            stream.applied_ns = 0
            if not stream.is_refused:
                self.actions.change(stream, StreamState.CONNECTING, stream.reason)

    def opened(self, now_ns: int, cause: Cause = "subscribe") -> None:
        """Start over on a new connection; ``cause`` is that of its first snapshots."""
        self._now = now_ns
        self._next_tick_ns = 0
        self._last_seq = None
        self.faults.opened()
        self._control.opened(now_ns)
        self._recovery.opened(now_ns)
        for stream in self.streams:
            stream.is_backlog_due = self._venue.replays_trades
            if stream.book_sync is not None:
                stream.book_sync.cause = cause
            if self.connection.in_url and not stream.is_refused:
                self.actions.change(stream, StreamState.SUBSCRIBED, stream.reason)

    def skip_backlogs(self) -> None:
        """Handle the next trades as live: the connection has been open for a while."""
        for stream in self.streams:
            stream.is_backlog_due = False

    def received(self, binary: bool, payload: memoryview | bytes, now_ns: int) -> list[Publication]:  # noqa: FBT001
        """Handle a message; return what to publish."""
        self._now = now_ns
        out: list[Publication] = []
        try:
            items = self._venue.decode(payload, binary, self._markets)
        except Exception as error:
            self.faults.on_malformed(f"{type(error).__name__}: {error}", payload)
            return out
        on = self._on
        for item in items:
            on[type(item)](item, out)
        faults = self.faults
        if faults.has_failed:
            faults.on_failed(has_valid_book=self._recovery.has_valid_book())
        elif faults.in_row:
            faults.in_row = 0
        if self._backlogs:
            self._end_backlogs()
        return out

    def tick(self, now_ns: int) -> list[Publication]:
        """Handle the passing of time; return what to publish. Call it often: most calls do nothing."""
        out: list[Publication] = []
        if now_ns < self._next_tick_ns:
            return out
        self._now = now_ns
        self._next_tick_ns = now_ns + _TICK_NS
        self._control.keep_alive(now_ns)
        self._recovery.check(next(self._checked_next), now_ns, out)
        self._control.check_age(now_ns)
        self._control.send_due(now_ns)
        return out

    def fetched(
        self, stream: MarketStream, purpose: Purpose, book: BookSnapshot | None, reason: Reason | None, now_ns: int
    ) -> list[Publication]:
        """Handle a REST answer (``reason`` is given when there is no book); return what to publish."""
        self._now = now_ns
        out: list[Publication] = []
        self._recovery.fetched(stream, purpose, book, reason, now_ns, out)
        return out

    def witnessed(self, stream: MarketStream, now_ns: int) -> list[Publication]:
        """Handle that a book stands still here and not on the venue's other line; return what to publish."""
        self._now = now_ns
        out: list[Publication] = []
        self._recovery.witnessed(stream, now_ns, out)
        return out

    def closed(self, reason: Reason, now_ns: int) -> list[Publication]:
        """Handle the end of the connection; return the gaps of its valid books."""
        self._now = now_ns
        out: list[Publication] = []
        self._recovery.closed(reason, out)
        for stream in self.streams:
            if not stream.is_refused:
                self.actions.change(stream, StreamState.BACKOFF, reason)
        self._control.closed(now_ns, by_server=reason is Reason.SERVER_CLOSE)
        return out

    def rest_book(self, stream: MarketStream, book: BookSnapshot) -> list[Publication]:
        """Return a REST book, flagged so, for publication while the connection is away; nothing for an invalid one.

        It never bridges to the stream. Any thread may call it under the publisher's lock.
        """
        if not self._recovery.is_valid(book):
            return []
        book.exchange_ns = valid_ns(book.exchange_ns)
        book.cause = "rest"
        book.flags = ("rest",)
        return [(stream, book)]

    def refresh(self, stream: MarketStream) -> BookSnapshot | None:
        """Return the book for late subscribers; None while it is unusable (they wait for its first snapshot)."""
        book_sync = stream.book_sync
        return book_sync.snapshot("refresh") if book_sync is not None and stream.is_published_valid else None

    def holds(self, book: BookSnapshot) -> bool | None:
        """Return whether a recorded book equals the current one; None when there is no valid book."""
        stream = self._book_stream(book)
        if stream is None or stream.book_sync is None or not stream.is_published_valid:
            return None
        return stream.book_sync.venue_seq == book.venue_seq and stream.book_sync.equals(book)

    def adopt_book(self, book: BookSnapshot, now_ns: int) -> list[Publication]:
        """Start from the book that a recording begins with; return what to publish."""
        self._now = now_ns
        book.flags = ()
        out: list[Publication] = []
        self._on_snapshot(book, out)
        self.faults.has_failed = False
        return out

    def ponged(self) -> None:
        """Record the answer to a ping of ours."""
        self._control.ponged()

    def _on_delta(self, event: BookDelta, out: list[Publication]) -> None:
        stream = self._books.get(event.symbol)  # type: ignore[arg-type]
        if stream is None or stream.book_sync is None:
            self.faults.on_unrouted(event)
            return
        outcome = stream.book_sync.on_delta(event)
        if outcome is event and stream.state is StreamState.LIVE:  # nearly every delta
            stream.applied_ns = self._now
            out.append((stream, event))
            return
        self._on_outcome(stream, outcome, out)

    def _on_snapshot(self, event: BookSnapshot, out: list[Publication]) -> None:
        streams = self._books20 if event.channel == "book20" else self._books
        stream = streams.get(event.symbol)  # type: ignore[arg-type]
        if stream is None or stream.book_sync is None:
            self.faults.on_unrouted(event)
            return
        book_sync = stream.book_sync
        outcome = book_sync.on_snapshot(event)
        if outcome is event and stream.is_published_valid and book_sync.usable and stream.state is StreamState.LIVE:
            stream.applied_ns = self._now
            out.append((stream, event))
            return
        self._on_outcome(stream, outcome, out)

    def _on_relative(self, event: RelativeDelta, out: list[Publication]) -> None:
        stream = self._books.get(str(event.listing.symbol))
        if stream is None or stream.book_sync is None:
            self.faults.on_unrouted(event)
            return
        self._on_outcome(stream, stream.book_sync.on_relative(event), out)

    def _on_plain(self, event: Bbo | Mark | Funding, out: list[Publication]) -> None:
        stream = self._plain[type(event)].get(event.symbol)  # type: ignore[arg-type]
        if stream is None:
            self.faults.on_unrouted(event)
            return
        if not self._is_valid(event):
            return
        stream.applied_ns = self._now
        if stream.state is not StreamState.LIVE:
            self.actions.change(stream, StreamState.LIVE, stream.reason)
        out.append((stream, event))

    def _on_trade(self, event: Trade | Liquidation, out: list[Publication]) -> None:
        stream = self._plain[type(event)].get(event.symbol)  # type: ignore[arg-type]
        if stream is None:
            self.faults.on_unrouted(event)
            return
        if not self._is_valid(event):
            return
        if stream.state is not StreamState.LIVE:
            self.actions.change(stream, StreamState.LIVE, stream.reason)
        stream.applied_ns = self._now
        if stream.is_backlog_due and self._is_backlog_over(stream):
            stream.is_backlog_due = False
        if stream.is_backlog_due:
            event.flags = ("backlog",)
            self._backlogs.append(stream)
        out.append((stream, event if stream.seen.is_new(event.trade_id) else None))

    def _is_valid(self, event: Bbo | Mark | Funding | Trade | Liquidation) -> bool:
        """Check an event's numbers; leave out and report an event with an invalid one, but not its neighbours."""
        try:
            checked(event)
        except ValueError as error:
            self.faults.on_invalid_row(InvalidRow(f"{type(event).__name__.lower()} {event.symbol}", str(error)))
            return False
        if type(event) is Funding:
            self._intervals.check(event)
        return True

    def _is_backlog_over(self, stream: MarketStream) -> bool:
        """Return True when history would have arrived by now; a market without any shows that by nothing else."""
        return self._now - self._subscriptions.since_ns(stream.subscription) > _BACKLOG_NS

    def _end_backlogs(self) -> None:
        """End the history of trades, which is one frame."""
        for stream in self._backlogs:
            stream.is_backlog_due = False
        self._backlogs.clear()

    def _on_outcome(self, stream: MarketStream, outcome: Outcome, out: list[Publication]) -> None:
        """Handle what a book frame did to its book."""
        if outcome is None:
            out.append((stream, None))
            if self._is_bridged and not stream.is_published_valid:
                self._recovery.buffered(stream, self._now)
        elif isinstance(outcome, BookInvalid):
            if outcome.reason is Reason.PARSE_ERRORS:
                self.faults.has_failed = True
                self.actions.log_event("book.invalid", symbol=stream.symbol, source="ws", error=str(outcome.got))
            self._recovery.invalidated(stream, outcome, self._now, out)
        else:
            stream.applied_ns = self._now
            self._recovery.applied(stream, outcome, self._now, out)

    def _on_frame_seq(self, item: FrameSeq, out: list[Publication]) -> None:
        last, self._last_seq = self._last_seq, item.seq
        if last is not None and item.seq != last + 1:
            self._recovery.frames_lost(BookInvalid(Reason.SEQ_GAP, last + 1, item.seq), out)
            self.actions.close(Reason.SEQ_GAP, f"frame {item.seq} came after {last}")

    def _on_invalid_row(self, item: InvalidRow, out: list[Publication]) -> None:  # noqa: ARG002
        self.faults.on_invalid_row(item)

    def _on_invalid_book(self, item: InvalidBook, out: list[Publication]) -> None:
        """Invalidate the book: a level that cannot be read is missing from it."""
        self.faults.malformed += 1
        self.faults.has_failed = True
        streams = self._books20 if item.stream is Stream.BOOK20 else self._books
        stream = streams.get(str(item.listing.symbol))
        if stream is None or stream.book_sync is None:
            self.faults.on_unrouted(item)
            return
        stream.book_sync.invalidate("resync")
        self._on_outcome(stream, BookInvalid(Reason.PARSE_ERRORS, "valid levels", item.error[:200]), out)

    def _on_control(self, item: ControlMessage, out: list[Publication]) -> None:  # noqa: ARG002
        self._control.handle(item, self._now)

    def _book_stream(self, book: BookSnapshot) -> MarketStream | None:
        streams = self._books20 if book.channel == "book20" else self._books
        return streams.get(str(book.symbol))

    def _by_symbol(self, kind: Stream) -> dict[str, MarketStream]:
        return {stream.symbol: stream for stream in self.streams if stream.kind is kind}
