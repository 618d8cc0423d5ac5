"""The brain of one connection: it is told what happened and when, and says what to do. No socket, clock or log here.

``received`` gives the events to publish, each with its route; whatever else must be done (send, close, fetch a book,
report a state) waits in ``todo``. The thread that owns the socket (:mod:`workers.net.connection`) obeys. Getting lost books
back is the business of :mod:`workers.protocol.recovery`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

from ipc.checks import checked, valid_ns
from ipc.events import Bbo, BookDelta, BookSnapshot, Cause, Funding, Liquidation, Mark, Trade
from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import ActionQueue, Publication, Purpose
from workers.protocol.book_sync import BookInvalid, BookSync, Outcome
from workers.protocol.funding_intervals import FundingIntervals
from workers.protocol.pacing import TokenBucket
from workers.protocol.recovery import FIRST_CHANGE_NS, RESYNC_RETRY_NS, Policy, Recovery
from workers.protocol.streams import MarketStream
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.rows import InvalidRow
from workers.venues.venue import (
    Ack,
    ChannelSubscription,
    ConnectionSpec,
    FrameSeq,
    InvalidBook,
    Listing,
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

__all__ = ["MarketSession", "cause_after", "is_refused"]

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_BOOKS: Final = (Stream.BOOK, Stream.BOOK20)
_TICK_NS: Final = 50 * _MS
#: Routes that one tick looks at; looking at a thousand takes most of a millisecond.
_LOOK_AT_ONCE: Final = 100
#: Malformed frames and invalid books in a row after which the connection is given up.
_MAX_FAILED: Final = 10
#: A stream with a cadence is mute after ten of them, and not before half a minute.
_MUTE_CADENCES: Final = 10
_MUTE_MIN_NS: Final = 30 * _NS
#: A venue's history of trades comes so soon after a subscription.
_BACKLOG_NS: Final = 10 * _NS
#: Hyperliquid's ordinary book comes every 5 s.
_BOOK20_MIN_NS: Final = 20 * _NS
#: A connection is renewed when it is this much of its venue's age limit old.
_ROTATE_AT: Final = 0.955
#: Ends after which the next snapshot is a resync.
_RESYNCS: Final = frozenset({Reason.SEQ_GAP, Reason.CROSSED_BOOK, Reason.PARSE_ERRORS, Reason.VENUE_DISAGREES})


def cause_after(reason: Reason) -> Cause:
    """What the first snapshots of a connection are for, by the reason for which the one before it ended."""
    return "rotation" if reason is Reason.ROTATION else "resync" if reason in _RESYNCS else "subscribe"


class MarketSession:
    """The brain of one connection, over its reconnects.

    Args:
        venue: Whose rules hold.
        connection: What the connection carries.
        listings: The markets it is about.
        policy: The settings.
        pace: Of the messages to the venue, shared by the sessions of a worker and used within a turn; None for one of
            its own.
        intervals: The worker's disproved funding intervals; None for some of its own.

    ``malformed`` counts frames that could not be decoded, ``invalid_rows`` rows that were left out of frames,
    ``unrouted`` events of markets that are not followed.
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
        self.todo = ActionQueue()
        self.malformed = 0
        self.invalid_rows = 0
        self.unrouted = 0
        self._venue = venue
        self._policy = policy
        self._intervals = intervals or FundingIntervals()
        self._markets = {listing.wire: listing for listing in listings}
        pace = pace or TokenBucket(venue.limits.burst, venue.limits.messages_per_s)
        self._subscriptions = SubscriptionManager(connection, pace)
        self._is_bridged = venue.continuity.rule is Rule.BRIDGE
        self._first_look_ns = FIRST_CHANGE_NS if self._is_bridged else RESYNC_RETRY_NS
        self.routes = _routes(venue, connection, listings, policy)
        self._recovery = Recovery(venue, policy, self._subscriptions, self.todo, self.routes)
        #: The routes to look at, tick after tick: of many, a quarter at a time, so that no tick holds the feed up.
        shares = 1 if len(self.routes) <= _LOOK_AT_ONCE else 4
        self._looks = cycle([self.routes[share::shares] for share in range(shares)])
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
            Ack: self._on_ack,
            Unsubscribed: self._on_unsubscribed,
            Pong: self._on_pong,
            Ping: self._on_ping,
            Refused: self._on_refused,
            ServerShutdown: self._on_shutdown,
            InvalidRow: self._on_invalid_row,
            InvalidBook: self._on_invalid_book,
        }
        self._now = 0
        self._next_tick_ns = 0
        self._opened_ns = 0
        self._last_seq: int | None = None
        #: Frames in a row that could not be decoded or made a book invalid, and whether the frame at hand did.
        self._failed_in_row = 0
        self._has_failed = False
        self._next_ping_ns = 0
        self._pong_due_ns = 0
        #: Routes whose history of trades is in the frame at hand.
        self._backlogs: list[MarketStream] = []

    @property
    def book_routes(self) -> list[MarketStream]:
        """The routes of books."""
        return [route for route in self.routes if route.keeper is not None]

    @property
    def limits(self) -> VenueLimits:
        """What the venue allows."""
        return self._venue.limits

    @property
    def carries_books(self) -> bool:
        """Whether freshness of books judges this connection."""
        return bool(self._books)

    @property
    def is_limited(self) -> bool:
        """Whether REST gave no book because that was over the venue's limit, or is not yet asked for it."""
        return any(route.is_limited or route.is_queued for route in self.book_routes)

    # --- what happens -----------------------------------------------------------------------------------------------

    def update_listings(self, listings: Sequence[Listing]) -> None:
        """The venue's list says something new of the same markets; one that trades again is tried at once.

        Any thread may call it within a turn.
        """
        self._markets = {listing.wire: listing for listing in listings}
        listed = {listing.symbol: listing for listing in listings}
        for route in self.routes:
            before, route.listing = route.listing, listed[route.symbol]
            if route.state is StreamState.FAILED and not before.is_trading and route.listing.is_trading:
                route.retry_ns = 0

    def connecting(self, now_ns: int) -> None:
        """An attempt to connect begins: nothing of the last connection is fresh any more."""
        self._now = now_ns
        for route in self.routes:
            route.applied_ns = 0
            if not is_refused(route):
                self.todo.change(route, StreamState.CONNECTING, route.reason)

    def opened(self, now_ns: int, cause: Cause = "subscribe") -> None:
        """The connection is open; ``cause`` is what its first snapshots are for."""
        self._now = self._opened_ns = now_ns
        self._next_tick_ns = 0
        self._last_seq = None
        self._failed_in_row = 0
        self._next_ping_ns = now_ns + self._policy.ping_ns
        self._pong_due_ns = 0
        self._subscriptions.opened(now_ns)
        self._recovery.opened(now_ns)
        for route in self.routes:
            route.unusable_since_ns = now_ns
            if not is_refused(route):
                route.retry_ns = 0 if route.keeper is None else now_ns + self._first_look_ns
            route.is_fetching = False
            route.fetch_failures = 0
            route.is_backlog_due = self._venue.replays_trades
            route.quiet_limit_ns = route.limit_ns or 0
            if route.keeper is not None:
                route.keeper.cause = cause
            if self.connection.in_url and not is_refused(route):
                self.todo.change(route, StreamState.SUBSCRIBED, route.reason)

    def received(self, binary: bool, payload: memoryview | bytes, now_ns: int) -> list[Publication]:  # noqa: FBT001
        """A message came; what to publish because of it."""
        self._now = now_ns
        out: list[Publication] = []
        try:
            items = self._venue.decode(payload, binary, self._markets)
        except Exception as error:
            self._on_malformed(f"{type(error).__name__}: {error}", payload)
            return out
        self._has_failed = False
        on = self._on
        for item in items:
            on[type(item)](item, out)
        if self._has_failed:
            self._on_failed()
        else:
            self._failed_in_row = 0
        if self._backlogs:
            self._end_backlogs()
        return out

    def tick(self, now_ns: int) -> list[Publication]:
        """Time passed; call it often, it looks itself whether there is anything to do."""
        out: list[Publication] = []
        if now_ns < self._next_tick_ns:
            return out
        self._now = now_ns
        self._next_tick_ns = now_ns + _TICK_NS
        self._keep_alive()
        for subscription in self._subscriptions.overdue(now_ns):
            self.todo.note("ws.unanswered", subscription=subscription.key)
        self._recovery.look(next(self._looks), now_ns, out)
        self._look_at_age()
        self.todo.send(*self._subscriptions.sends(now_ns))
        return out

    def fetched(
        self, route: MarketStream, purpose: Purpose, book: BookSnapshot | None, reason: Reason | None, now_ns: int
    ) -> list[Publication]:
        """REST answered (or ``book`` is None and ``reason`` says why not); what to publish because of it."""
        self._now = now_ns
        out: list[Publication] = []
        self._recovery.fetched(route, purpose, book, reason, now_ns, out)
        return out

    def closed(self, reason: Reason, now_ns: int) -> list[Publication]:
        """The connection is gone: consumers lose every book that they trusted."""
        self._now = now_ns
        out: list[Publication] = []
        for route in self.book_routes:
            route.is_throttled = route.is_limited = False
            if route.is_published_valid:
                self._recovery.gap(route, BookInvalid(reason), "session", "reconnect", out)
            if route.keeper is not None and self._opened_ns:
                route.keeper.lose()
        self._opened_ns = 0
        for route in self.routes:
            if not is_refused(route):
                self.todo.change(route, StreamState.BACKOFF, reason)
        for subscription in self._subscriptions.closed(now_ns, by_server=reason is Reason.SERVER_CLOSE):
            self._poisoned(subscription)
        return out

    def rest_book(self, route: MarketStream, book: BookSnapshot) -> list[Publication]:
        """A book by REST while the connection is away: marked so, and never joined to the stream.

        An invalid one is left out. Any thread may call it within a turn; a connection that is open by then keeps it
        out.
        """
        if not self._recovery.is_valid(book):
            return []
        book.exchange_ns = valid_ns(book.exchange_ns)
        book.cause = "rest"
        book.flags = ("rest",)
        return [(route, book)]

    def refresh(self, route: MarketStream) -> BookSnapshot | None:
        """The book of a route for joiners; None while it is unusable (its first snapshot is then the answer)."""
        return route.keeper.snapshot("refresh") if route.keeper is not None and route.is_published_valid else None

    def holds(self, book: BookSnapshot) -> bool | None:
        """Whether a recorded book is the one at hand; None when there is none at hand."""
        routes = self._books20 if book.channel == "book20" else self._books
        route = routes.get(str(book.symbol))
        if route is None or route.keeper is None or not route.is_published_valid:
            return None
        return route.keeper.venue_seq == book.venue_seq and route.keeper.equals(book)

    def take_over(self, book: BookSnapshot, now_ns: int) -> list[Publication]:
        """A recording tells what the book was before it began; what to publish because of it."""
        self._now = now_ns
        book.flags = ()
        out: list[Publication] = []
        self._on_snapshot(book, out)
        return out

    # --- frames -----------------------------------------------------------------------------------------------------

    def _on_delta(self, event: BookDelta, out: list[Publication]) -> None:
        route = self._books.get(event.symbol)  # type: ignore[arg-type]
        if route is None or route.keeper is None:
            self.unrouted += 1
            return
        outcome = route.keeper.on_delta(event)
        if outcome is event and route.state is StreamState.LIVE:  # what nearly every delta is
            route.applied_ns = self._now
            out.append((route, event))
            return
        self._took(route, outcome, out)

    def _on_snapshot(self, event: BookSnapshot, out: list[Publication]) -> None:
        routes = self._books20 if event.channel == "book20" else self._books
        route = routes.get(event.symbol)  # type: ignore[arg-type]
        if route is None or route.keeper is None:
            self.unrouted += 1
            return
        outcome = route.keeper.on_snapshot(event)
        if outcome is event and route.is_published_valid and route.keeper.usable and route.state is StreamState.LIVE:
            route.applied_ns = self._now
            out.append((route, event))
            return
        self._took(route, outcome, out)

    def _on_relative(self, event: RelativeDelta, out: list[Publication]) -> None:
        route = self._books.get(str(event.listing.symbol))
        if route is None or route.keeper is None:
            self.unrouted += 1
            return
        self._took(route, route.keeper.on_relative(event), out)

    def _on_plain(self, event: Bbo | Mark | Funding, out: list[Publication]) -> None:
        route = self._plain[type(event)].get(event.symbol)  # type: ignore[arg-type]
        if route is None:
            self.unrouted += 1
            return
        if not self._is_valid(event):
            return
        route.applied_ns = self._now
        if route.state is not StreamState.LIVE:
            self.todo.change(route, StreamState.LIVE, route.reason)
        out.append((route, event))

    def _on_trade(self, event: Trade | Liquidation, out: list[Publication]) -> None:
        route = self._plain[type(event)].get(event.symbol)  # type: ignore[arg-type]
        if route is None:
            self.unrouted += 1
            return
        if not self._is_valid(event):
            return
        if route.state is not StreamState.LIVE:
            self.todo.change(route, StreamState.LIVE, route.reason)
        route.applied_ns = self._now
        if route.is_backlog_due and self._is_backlog_over(route):
            route.is_backlog_due = False
        if route.is_backlog_due:
            event.flags = ("backlog",)
            self._backlogs.append(route)
        if not route.seen.is_new(event.trade_id):
            out.append((route, None))
            return
        out.append((route, event))

    def _is_valid(self, event: Bbo | Mark | Funding | Trade | Liquidation) -> bool:
        """Check an event's numbers; an event with an invalid one is left out and reported, its neighbours are not."""
        try:
            checked(event)
        except ValueError as error:
            self._report_invalid(InvalidRow(f"{type(event).__name__.lower()} {event.symbol}", str(error)))
            return False
        if type(event) is Funding:
            self._intervals.check(event)
        return True

    def _is_backlog_over(self, route: MarketStream) -> bool:
        """Whether history would have come by now; a market without any shows that by nothing else."""
        return self._now - self._subscriptions.since_ns(route.subscription) > _BACKLOG_NS

    def _end_backlogs(self) -> None:
        """A venue's history of trades is one frame."""
        for route in self._backlogs:
            route.is_backlog_due = False
        self._backlogs.clear()

    def _took(self, route: MarketStream, outcome: Outcome, out: list[Publication]) -> None:
        """What a keeper made of a book frame."""
        if outcome is None:
            out.append((route, None))
            if self._is_bridged and not route.is_published_valid:
                self._recovery.buffered(route, self._now)
        elif isinstance(outcome, BookInvalid):
            if outcome.reason is Reason.PARSE_ERRORS:
                self._has_failed = True
                self.todo.note("book.invalid", symbol=route.symbol, source="ws", error=str(outcome.got))
            self._recovery.broke(route, outcome, self._now, out)
        else:
            self._recovery.applied(route, outcome, self._now, out)

    def _on_frame_seq(self, item: FrameSeq, out: list[Publication]) -> None:
        last, self._last_seq = self._last_seq, item.seq
        if last is None or item.seq == last + 1:
            return
        broken = BookInvalid(Reason.SEQ_GAP, last + 1, item.seq)
        for route in self.book_routes:
            if route.keeper is not None:
                route.keeper.lose("resync")
            if route.is_published_valid:
                self._recovery.gap(route, broken, "session", "reconnect", out)
        self.todo.close(Reason.SEQ_GAP, f"frame {item.seq} came after {last}")

    def _on_invalid_row(self, item: InvalidRow, out: list[Publication]) -> None:  # noqa: ARG002
        self._report_invalid(item)

    def _report_invalid(self, row: InvalidRow) -> None:
        self.invalid_rows += 1
        self.todo.note("ws.invalid_row", what=row.what, error=row.error)

    def _on_invalid_book(self, item: InvalidBook, out: list[Publication]) -> None:
        """Lose the book: a level that cannot be read is a hole in it."""
        self.malformed += 1
        self._has_failed = True
        routes = self._books20 if item.stream is Stream.BOOK20 else self._books
        route = routes.get(str(item.listing.symbol))
        if route is None or route.keeper is None:
            self.unrouted += 1
            return
        route.keeper.lose("resync")
        self._took(route, BookInvalid(Reason.PARSE_ERRORS, "valid levels", item.error[:200]), out)

    def _on_malformed(self, error: str, payload: memoryview | bytes) -> None:
        self.malformed += 1
        self._failed_in_row += 1
        self.todo.note("ws.malformed", error=error[:200], head=bytes(payload[:80]).decode("utf-8", "replace"))
        if self._failed_in_row >= _MAX_FAILED:
            self.todo.close(Reason.PARSE_ERRORS, f"{self._failed_in_row} malformed or invalid frames in a row")

    def _on_failed(self) -> None:
        """A frame made a book invalid; it takes another book that is usable to go on when that is all that comes."""
        self._failed_in_row += 1
        if self._failed_in_row >= _MAX_FAILED and not self._recovery.has_trusted_book():
            self.todo.close(Reason.PARSE_ERRORS, f"{self._failed_in_row} malformed or invalid frames in a row")

    # --- control ----------------------------------------------------------------------------------------------------

    def _on_ack(self, item: Ack, out: list[Publication]) -> None:  # noqa: ARG002
        subscription = self._subscriptions.answered(item.key, self._now)
        if subscription is None:
            self.todo.send(*self._subscriptions.sends(self._now))
            return
        for route in self.routes:
            if route.subscription is subscription and route.state is StreamState.CONNECTING:
                self.todo.change(route, StreamState.SUBSCRIBED, route.reason)

    def _on_unsubscribed(self, item: Unsubscribed, out: list[Publication]) -> None:  # noqa: ARG002
        self._subscriptions.left(item.key, self._now)
        self.todo.send(*self._subscriptions.sends(self._now))

    def _on_pong(self, item: Pong, out: list[Publication]) -> None:  # noqa: ARG002
        self.ponged()

    def ponged(self) -> None:
        """A ping of ours was answered."""
        self._pong_due_ns = 0

    def _on_ping(self, item: Ping, out: list[Publication]) -> None:  # noqa: ARG002
        # Answers count for the venue as all messages do.
        self._subscriptions.post(item.reply)
        self.todo.send(*self._subscriptions.sends(self._now))

    def _on_refused(self, item: Refused, out: list[Publication]) -> None:  # noqa: ARG002
        subscription = self._subscriptions.find(item.key)
        if item.reason is None:
            if subscription is not None:
                self._subscriptions.answered(subscription.key, self._now)
            return
        self.todo.note("ws.refused", subscription=item.key, reason=item.reason, text=item.text)
        if subscription is not None:
            self._subscriptions.refused(subscription.key, self._now)
            for route in self.routes:
                if route.subscription is subscription:
                    self._recovery.fail(route, item.reason, self._now)
        if item.fatal:
            self.todo.close(item.reason, item.text)

    def _on_shutdown(self, item: ServerShutdown, out: list[Publication]) -> None:  # noqa: ARG002
        self.todo.close(Reason.SERVER_SHUTDOWN, f"the venue closes in {item.close_in_ms} ms")

    def _poisoned(self, subscription: ChannelSubscription) -> None:
        self.todo.note("ws.poisoned", subscription=subscription.key, reason=Reason.UNKNOWN_MARKET)
        for route in self.routes:
            if route.subscription is subscription:
                self._recovery.fail(route, Reason.UNKNOWN_MARKET, self._now)

    def _keep_alive(self) -> None:
        if self._pong_due_ns and self._now > self._pong_due_ns:
            self.todo.close(Reason.PONG_TIMEOUT, f"no pong within {self._policy.pong_ns / _NS:g} s")
        if self._now >= self._next_ping_ns:
            self._next_ping_ns = self._now + self._policy.ping_ns
            self._pong_due_ns = self._pong_due_ns or self._now + self._policy.pong_ns
            ping = self._venue.keepalive.ping
            if ping is None:
                self.todo.ping()
            else:
                self._subscriptions.post(ping)

    def _look_at_age(self) -> None:
        limit_s = self._venue.limits.max_age_s
        if limit_s is None:
            return
        at = limit_s * (_ROTATE_AT - 0.01 * self._policy.stagger)
        if self._now - self._opened_ns > at * _NS:
            self.todo.close(Reason.ROTATION, f"the connection is {at / 3600:.1f} h old")

    def _by_symbol(self, stream: Stream) -> dict[str, MarketStream]:
        return {route.symbol: route for route in self.routes if route.stream is stream}


def is_refused(route: MarketStream) -> bool:
    """Whether a market was found to kill its connections, or is not known to the venue."""
    return route.state is StreamState.FAILED and route.reason is Reason.UNKNOWN_MARKET


def _routes(
    venue: Venue, connection: ConnectionSpec, listings: Sequence[Listing], policy: Policy
) -> list[MarketStream]:
    """One route for each stream of each market that the connection carries."""
    routes = []
    for subscription in connection.subscriptions:
        for listing in listings:
            if subscription.symbol not in {None, listing.symbol}:
                continue
            for stream in subscription.streams:
                keeper = BookSync(venue.name, str(listing.symbol), venue.continuity) if stream in _BOOKS else None
                routes.append(MarketStream(stream, listing, subscription, _limit_ns(venue, stream, policy), keeper))
    return routes


def _limit_ns(venue: Venue, stream: Stream, policy: Policy) -> int | None:
    """How old a stream's data may become; None where silence means nothing."""
    if stream is Stream.BOOK:
        return policy.stale_ns
    if stream is Stream.BOOK20:
        return max(policy.stale_ns, _BOOK20_MIN_NS)
    cadence_s = venue.streams.get(stream)
    if cadence_s is None or stream not in {Stream.MARK, Stream.FUNDING}:
        return None
    return max(_MUTE_MIN_NS, int(_MUTE_CADENCES * cadence_s * _NS))
