"""The brain of one connection: it is told what happened and when, and says what to do. No socket, clock or log here.

``received`` gives the events to publish, each with its route; whatever else must be done (send, close, fetch a book,
report a state) waits in ``todo``. The thread that owns the socket (:mod:`workers.connection`) obeys.

Recovery climbs a ladder: resync the book within the session, subscribe anew, end the session. The session ends itself
for what it sees in its frames; the watchdog ends it for what it does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ipc.events import Bbo, BookDelta, BookSnapshot, Cause, Event, Funding, Gap, GapAction, Liquidation, Mark, Trade
from ipc.health import Reason, Stream, StreamState
from workers.books import BookKeeper, Broken, Outcome
from workers.routes import Route
from workers.subscriptions import Subscriptions
from workers.venues.venue import (
    Ack,
    Connection,
    FrameSeq,
    Limits,
    Listing,
    Ping,
    Pong,
    Refused,
    RelativeDelta,
    Resync,
    Rule,
    Shutdown,
    Subscription,
    Unsubscribed,
    Venue,
)

__all__ = ["Changed", "Close", "Fetch", "Note", "Policy", "Publication", "Purpose", "Send", "SendPing", "Session"]

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Levels a side of the channel ``book20``.
_BOOK20_DEPTH: Final = 20
_BOOKS: Final = (Stream.BOOK, Stream.BOOK20)
_TICK_NS: Final = 50 * _MS
#: Malformed frames in a row after which the connection is given up.
_MAX_MALFORMED: Final = 10
#: A resync without a snapshot for this long is tried again.
_RESYNC_RETRY_NS: Final = 5 * _NS
#: Between two fetches of one book, when the first could not be joined to the stream.
_REFETCH_PAUSE_NS: Final = _NS
#: Aster: a book without an applied event for 2 s is fetched anew, at most every 7 s.
_SOFT_AFTER_NS: Final = 2 * _NS
_SOFT_COOLDOWN_NS: Final = 7 * _NS
#: A market that failed alone is tried again this often.
_FAILED_RETRY_NS: Final = 600 * _NS
_QUIET_CAP_NS: Final = 60 * _NS
#: Over so many of its limits a book may be silent while there is no budget to look what is the matter.
_INCONCLUSIVE: Final = 3
#: A stream with a cadence is mute after ten of them, and not before half a minute.
_MUTE_CADENCES: Final = 10
_MUTE_MIN_NS: Final = 30 * _NS
#: HyperLiquid's ordinary book comes every 5 s.
_BOOK20_MIN_NS: Final = 20 * _NS
#: Connections in a row that may end for want of one book; then that market waits alone.
_NO_BOOK_ENDS: Final = 3
#: A connection is renewed when it is this much of its venue's age limit old.
_ROTATE_AT: Final = 0.955


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of a session; durations in ns.

    ``stagger`` in [0, 1) spreads rotations; ``venue_flows(now)`` tells whether any book of the venue is fresh, also on
    other connections.
    """

    stale_ns: int
    ping_ns: int
    pong_ns: int
    venue_flows: Callable[[int], bool] = lambda _now: True
    stagger: float = 0.0


# --- what the session asks for ----------------------------------------------------------------------------------------

#: Why a book is fetched by REST: to join the stream, because it stands still, or to compare with.
Purpose: TypeAlias = Literal["bridge", "soft", "compare"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message."""

    message: bytes


@dataclass(frozen=True, slots=True)
class SendPing:
    """Send a ping frame."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask REST for the book of a route; the answer comes through :meth:`Session.fetched`."""

    route: Route
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Changed:
    """A route has another state."""

    route: Route
    previous: StreamState


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the log: an event name and its fields."""

    event: str
    fields: dict[str, object]


Action: TypeAlias = Send | SendPing | Close | Fetch | Changed | Note
#: An event and its route; None instead of an event: data came that was left out.
Publication: TypeAlias = tuple[Route, Event | None]


class Session:
    """The brain of one connection, over its reconnects.

    Args:
        venue: Whose rules hold.
        connection: What the connection carries.
        listings: The markets it is about.
        policy: The settings.
    """

    def __init__(self, venue: Venue, connection: Connection, listings: Sequence[Listing], policy: Policy) -> None:
        self.connection = connection
        self.todo: list[Action] = []
        self.malformed = 0
        self.unrouted = 0
        self._venue = venue
        self._policy = policy
        self._markets = {listing.wire: listing for listing in listings}
        self._subscriptions = Subscriptions(connection, venue.limits)
        self.routes = _routes(venue, connection, listings, policy)
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
            Shutdown: self._on_shutdown,
        }
        self._now = 0
        self._next_tick_ns = 0
        self._opened_ns = 0
        self._last_seq: int | None = None
        self._malformed_in_row = 0
        self._next_ping_ns = 0
        self._pong_due_ns = 0
        #: Routes whose history of trades is in the frame at hand.
        self._backlogs: list[Route] = []

    @property
    def book_routes(self) -> list[Route]:
        """The routes of books."""
        return [route for route in self.routes if route.keeper is not None]

    @property
    def limits(self) -> Limits:
        """What the venue allows."""
        return self._venue.limits

    @property
    def carries_books(self) -> bool:
        """Whether freshness of books judges this connection."""
        return bool(self._books)

    # --- what happens -----------------------------------------------------------------------------------------------

    def connecting(self, now_ns: int) -> None:
        """An attempt to connect begins: nothing of the last connection is fresh any more."""
        self._now = now_ns
        for route in self.routes:
            route.applied_ns = 0
            if route.state is not StreamState.FAILED or route.reason is not Reason.UNKNOWN_MARKET:
                self._set(route, StreamState.CONNECTING, route.reason)

    def opened(self, now_ns: int, cause: Cause = "subscribe") -> None:
        """The connection is open."""
        self._now = self._opened_ns = now_ns
        self._next_tick_ns = 0
        self._last_seq = None
        self._malformed_in_row = 0
        self._next_ping_ns = now_ns + self._policy.ping_ns
        self._pong_due_ns = 0
        self._subscriptions.opened(now_ns)
        for route in self.routes:
            route.unusable_since_ns = now_ns
            route.retry_ns = 0 if route.keeper is None else now_ns + _RESYNC_RETRY_NS
            route.is_fetching = False
            route.is_backlog_due = self._venue.replays_trades
            route.quiet_limit_ns = route.limit_ns or 0
            if route.keeper is not None:
                route.keeper.lose(cause)
            if self.connection.in_url:
                self._set(route, StreamState.SUBSCRIBED, route.reason)
        if self._venue.continuity.rule is Rule.BRIDGE:
            for route in self.book_routes:
                self._fetch(route, "bridge")

    def received(self, binary: bool, payload: memoryview | bytes, now_ns: int) -> list[Publication]:  # noqa: FBT001
        """A message came; what to publish because of it."""
        self._now = now_ns
        out: list[Publication] = []
        try:
            items = self._venue.decode(payload, binary, self._markets)
        except (ValueError, RecursionError) as error:
            self._on_malformed(error, payload)
            return out
        self._malformed_in_row = 0
        on = self._on
        for item in items:
            on[type(item)](item, out)
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
            self._note("ws.unanswered", subscription=subscription.key)
        for route in self.routes:
            if route.state is StreamState.FAILED:
                self._look_at_failed(route)
            elif route.keeper is not None:
                self._look_at_book(route, route.keeper, out)
            elif route.limit_ns is not None:
                self._look_at_stream(route)
        self._look_at_age()
        self.todo += [Send(message) for message in self._subscriptions.sends(now_ns)]
        return out

    def fetched(
        self, route: Route, purpose: Purpose, book: BookSnapshot | None, reason: Reason | None, now_ns: int
    ) -> list[Publication]:
        """REST answered (or ``book`` is None and ``reason`` says why not); what to publish because of it."""
        self._now = now_ns
        out: list[Publication] = []
        keeper = route.keeper
        if keeper is None or not route.is_fetching:
            return out
        route.is_fetching = False
        if purpose == "compare":
            self._compared(route, keeper, book, reason)
        elif book is None:
            route.retry_ns = now_ns + _REFETCH_PAUSE_NS
            self._note("book.fetch_failed", symbol=route.symbol, reason=reason)
        else:
            self._join(route, keeper, book, purpose, out)
        return out

    def closed(self, reason: Reason, now_ns: int) -> list[Publication]:
        """The connection is gone: consumers lose every book that they trusted."""
        self._now = now_ns
        out: list[Publication] = []
        for route in self.book_routes:
            if route.is_trusted:
                self._gap(route, Broken(reason), "session", "reconnect", out)
            if route.keeper is not None:
                route.keeper.lose()
        for route in self.routes:
            self._set(route, StreamState.BACKOFF, reason)
        for subscription in self._subscriptions.closed(now_ns):
            self._poisoned(subscription)
        return out

    def refresh(self, route: Route) -> BookSnapshot | None:
        """The book of a route for joiners; None while it is unusable (its first snapshot is then the answer)."""
        return route.keeper.snapshot("refresh") if route.keeper is not None and route.is_trusted else None

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
        routes = self._books20 if event.depth == _BOOK20_DEPTH else self._books
        route = routes.get(event.symbol)  # type: ignore[arg-type]
        if route is None or route.keeper is None:
            self.unrouted += 1
            return
        self._took(route, route.keeper.on_snapshot(event), out)

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
        route.applied_ns = self._now
        if route.state is not StreamState.LIVE:
            self._set(route, StreamState.LIVE, route.reason)
        out.append((route, event))

    def _on_trade(self, event: Trade | Liquidation, out: list[Publication]) -> None:
        route = self._plain[type(event)].get(event.symbol)  # type: ignore[arg-type]
        if route is None:
            self.unrouted += 1
            return
        if route.state is not StreamState.LIVE:
            self._set(route, StreamState.LIVE, route.reason)
        route.applied_ns = self._now
        if not route.seen.is_new(event.trade_id):
            out.append((route, None))
            return
        if route.is_backlog_due:
            event.flags = ("backlog",)
            self._backlogs.append(route)
        out.append((route, event))

    def _end_backlogs(self) -> None:
        """A venue's history of trades is one frame."""
        for route in self._backlogs:
            route.is_backlog_due = False
        self._backlogs.clear()

    def _took(self, route: Route, outcome: Outcome, out: list[Publication]) -> None:
        """What a keeper made of a book frame."""
        if outcome is None:
            out.append((route, None))
        elif isinstance(outcome, Broken):
            self._broke(route, outcome, out)
        else:
            self._applied(route, outcome, out)

    def _applied(self, route: Route, event: BookSnapshot | BookDelta, out: list[Publication]) -> None:
        route.applied_ns = self._now
        route.quiet_limit_ns = route.limit_ns or 0
        self._publish_book(route, event, out)

    def _publish_book(self, route: Route, event: BookSnapshot | BookDelta, out: list[Publication]) -> None:
        is_crossed = "crossed_by_venue" in event.flags
        route.is_trusted = not is_crossed
        if not is_crossed:
            route.unusable_since_ns = 0
            route.no_book_ends = 0
        self._set(route, StreamState.LIVE, Reason.CROSSED_BOOK if is_crossed else route.reason)
        out.append((route, event))

    def _on_frame_seq(self, item: FrameSeq, out: list[Publication]) -> None:
        last, self._last_seq = self._last_seq, item.seq
        if last is None or item.seq == last + 1:
            return
        broken = Broken(Reason.SEQ_GAP, last + 1, item.seq)
        for route in self.book_routes:
            if route.keeper is not None:
                route.keeper.lose("resync")
            if route.is_trusted:
                self._gap(route, broken, "session", "reconnect", out)
        self._close(Reason.SEQ_GAP, f"frame {item.seq} came after {last}")

    def _on_malformed(self, error: Exception, payload: memoryview | bytes) -> None:
        self.malformed += 1
        self._malformed_in_row += 1
        self._note("ws.malformed", error=str(error)[:200], head=bytes(payload[:80]).decode("utf-8", "replace"))
        if self._malformed_in_row >= _MAX_MALFORMED:
            self._close(Reason.PARSE_ERRORS, f"{self._malformed_in_row} malformed frames in a row")

    # --- control ----------------------------------------------------------------------------------------------------

    def _on_ack(self, item: Ack, out: list[Publication]) -> None:  # noqa: ARG002
        subscription = self._subscriptions.answered(item.key, self._now)
        if subscription is None:
            self.todo += [Send(message) for message in self._subscriptions.sends(self._now)]
            return
        for route in self.routes:
            if route.subscription is subscription and route.state is StreamState.CONNECTING:
                self._set(route, StreamState.SUBSCRIBED, route.reason)

    def _on_unsubscribed(self, item: Unsubscribed, out: list[Publication]) -> None:  # noqa: ARG002
        self._subscriptions.left(item.key, self._now)
        self.todo += [Send(message) for message in self._subscriptions.sends(self._now)]

    def _on_pong(self, item: Pong, out: list[Publication]) -> None:  # noqa: ARG002
        self.ponged()

    def ponged(self) -> None:
        """A ping of ours was answered."""
        self._pong_due_ns = 0

    def _on_ping(self, item: Ping, out: list[Publication]) -> None:  # noqa: ARG002
        self.todo.append(Send(item.reply))

    def _on_refused(self, item: Refused, out: list[Publication]) -> None:  # noqa: ARG002
        subscription = self._subscriptions.find(item.key)
        if item.reason is None:
            if subscription is not None:
                self._subscriptions.answered(subscription.key, self._now)
            return
        self._note("ws.refused", subscription=item.key, reason=item.reason, text=item.text)
        if subscription is not None:
            for route in self.routes:
                if route.subscription is subscription:
                    self._fail(route, item.reason)
        if item.fatal:
            self._close(item.reason, item.text)

    def _on_shutdown(self, item: Shutdown, out: list[Publication]) -> None:  # noqa: ARG002
        self._close(Reason.SERVER_SHUTDOWN, f"the venue closes in {item.close_in_ms} ms")

    def _poisoned(self, subscription: Subscription) -> None:
        self._note("ws.poisoned", subscription=subscription.key, reason=Reason.UNKNOWN_MARKET)
        for route in self.routes:
            if route.subscription is subscription:
                self._fail(route, Reason.UNKNOWN_MARKET)

    def _keep_alive(self) -> None:
        if self._pong_due_ns and self._now > self._pong_due_ns:
            self._close(Reason.PONG_TIMEOUT, f"no pong within {self._policy.pong_ns / _NS:g} s")
        if self._now >= self._next_ping_ns:
            self._next_ping_ns = self._now + self._policy.ping_ns
            self._pong_due_ns = self._pong_due_ns or self._now + self._policy.pong_ns
            ping = self._venue.keepalive.ping
            if ping is None:
                self.todo.append(SendPing())
            else:
                self._subscriptions.post(ping)

    # --- looking after books and streams ----------------------------------------------------------------------------

    def _look_at_book(self, route: Route, keeper: BookKeeper, out: list[Publication]) -> None:
        if route.is_trusted:
            self._look_for_silence(route, keeper, out)
        elif not keeper.is_crossed_by_venue:
            self._look_for_book(route)

    def _look_for_silence(self, route: Route, keeper: BookKeeper, out: list[Publication]) -> None:
        """A usable book without a new event: lost frames, a mute stream, or a quiet market."""
        silent_ns = self._now - max(route.applied_ns, self._opened_ns)
        continuity = self._venue.continuity
        cadence_s = continuity.silence_s.get(route.stream)
        if cadence_s is not None and silent_ns > cadence_s * _NS:
            keeper.lose("resync")
            broken = Broken(Reason.SEQ_GAP, f"a frame within {cadence_s:g} s", f"silence for {silent_ns // _MS} ms")
            self._broke(route, broken, out)
        elif route.quiet_limit_ns and silent_ns > route.quiet_limit_ns:
            if self._policy.venue_flows(self._now) and self._now - route.fetched_ns > _REFETCH_PAUSE_NS:
                self._fetch(route, "compare")
        elif (
            continuity.soft_resync
            and route.state is not StreamState.QUIET
            and silent_ns > _SOFT_AFTER_NS
            and self._now - route.fetched_ns > _SOFT_COOLDOWN_NS
        ):
            self._note("book.soft_resync", symbol=route.symbol, silent_ms=silent_ns // _MS)
            self._fetch(route, "soft")

    def _look_for_book(self, route: Route) -> None:
        """A book that is not usable: try again, and give the connection up when it takes too long."""
        missing_ns = self._now - (route.unusable_since_ns or self._now)
        if route.stream is Stream.BOOK and missing_ns > self._policy.stale_ns:
            route.no_book_ends += 1
            if route.no_book_ends <= _NO_BOOK_ENDS:
                self._close(Reason.NO_BOOK, f"{route.symbol} has had no book for {missing_ns // _MS} ms")
            else:
                self._note("book.given_up", symbol=route.symbol, reason=Reason.NO_BOOK)
                self._fail(route, Reason.NO_BOOK)
        elif self._now >= route.retry_ns and not route.is_fetching:
            self._resync(route)

    def _look_at_failed(self, route: Route) -> None:
        """A stream that the venue refuses, or that never had a book, is tried again now and then."""
        if self._now >= route.retry_ns:
            route.retry_ns = self._now + _FAILED_RETRY_NS
            self._subscriptions.retry(route.subscription, self._now)
            if route.keeper is not None:
                self._resync(route)

    def _fail(self, route: Route, reason: Reason) -> None:
        route.retry_ns = self._now + _FAILED_RETRY_NS
        self._set(route, StreamState.FAILED, reason)

    def _look_at_stream(self, route: Route) -> None:
        """A stream that has a cadence: mute for ten of them, it is subscribed anew."""
        since_ns = max(route.applied_ns, self._opened_ns, route.retry_ns)
        if route.limit_ns is None or self._now - since_ns <= route.limit_ns:
            return
        route.retry_ns = self._now
        self._note("stream.mute", stream=route.stream, symbol=route.symbol, silent_ms=(self._now - since_ns) // _MS)
        self._set(route, StreamState.STALE, Reason.STALE_WATCHDOG)
        if not self._subscriptions.resubscribe(route.subscription, self._now):
            self._close(Reason.STALE_WATCHDOG, f"{route.stream} {route.symbol} is mute")

    def _look_at_age(self) -> None:
        limit_s = self._venue.limits.max_age_s
        if limit_s is None:
            return
        at = limit_s * (_ROTATE_AT - 0.01 * self._policy.stagger)
        if self._now - self._opened_ns > at * _NS:
            self._close(Reason.ROTATION, f"the connection is {at / 3600:.1f} h old")

    # --- recovery ---------------------------------------------------------------------------------------------------

    def _broke(self, route: Route, broken: Broken, out: list[Publication]) -> None:
        """A book is lost: say so, and begin to get it back."""
        route.unusable_since_ns = route.unusable_since_ns or self._now
        action: GapAction = _ACTIONS[self._venue.continuity.resync]
        if route.is_trusted:
            self._gap(route, broken, "book", action, out)
        else:
            out.append((route, None))
        self._set(route, StreamState.RESYNC, broken.reason)
        self._resync(route, broken)

    def _resync(self, route: Route, broken: Broken | None = None) -> None:
        route.retry_ns = self._now + _RESYNC_RETRY_NS
        match self._venue.continuity.resync:
            case Resync.REFETCH:
                if self._now - route.fetched_ns < _REFETCH_PAUSE_NS:
                    route.retry_ns = route.fetched_ns + _REFETCH_PAUSE_NS
                else:
                    self._fetch(route, "bridge")
            case Resync.RESUBSCRIBE:
                self._subscriptions.resubscribe(route.subscription, self._now)
                self.todo += [Send(message) for message in self._subscriptions.sends(self._now)]
            case Resync.RECONNECT:
                if broken is not None:
                    self._close(broken.reason, f"{route.symbol}: {broken.expected} expected, {broken.got} came")

    def _gap(
        self,
        route: Route,
        broken: Broken,
        scope: Literal["book", "session"],
        action: GapAction,
        out: list[Publication],
    ) -> None:
        route.is_trusted = False
        listing = route.listing
        gap = Gap(
            self._venue.name,
            route.symbol,
            listing.venue_symbol,
            None,
            scope,
            broken.reason,
            broken.expected,
            broken.got,
            action,
        )
        out.append((route, gap))

    def _join(
        self, route: Route, keeper: BookKeeper, book: BookSnapshot, purpose: Purpose, out: list[Publication]
    ) -> None:
        """A fetched book is to join the stream."""
        joined = keeper.on_fetched(book)
        if isinstance(joined, Broken):
            route.retry_ns = self._now + _REFETCH_PAUSE_NS
            self._note("book.not_joined", symbol=route.symbol, expected=joined.expected, got=joined.got)
            return
        if joined is None:
            return
        if route.is_trusted:
            reason = Reason.SOFT_RESYNC if purpose == "soft" else Reason.SEQ_GAP
            self._gap(route, Broken(reason, None, book.venue_seq), "book", "resync", out)
        for event in joined:
            self._publish_book(route, event, out)

    def _compared(self, route: Route, keeper: BookKeeper, book: BookSnapshot | None, reason: Reason | None) -> None:
        """REST told whether a silent book is quiet or mute."""
        silent_ns = self._now - max(route.applied_ns, self._opened_ns)
        if silent_ns <= route.quiet_limit_ns:
            return
        if reason is Reason.RATE_LIMITED and silent_ns < _INCONCLUSIVE * route.quiet_limit_ns:
            return  # nothing was learnt; it is asked again
        if book is not None and keeper.equals(book):
            route.quiet_limit_ns = min(2 * route.quiet_limit_ns, max(_QUIET_CAP_NS, route.quiet_limit_ns))
            self._set(route, StreamState.QUIET, route.reason)
            return
        text = f"{route.symbol} is silent for {silent_ns // _MS} ms and {reason or 'differs from REST'}"
        self._note("book.mute", symbol=route.symbol, silent_ms=silent_ns // _MS, reason=reason)
        is_second = route.state is StreamState.STALE
        self._set(route, StreamState.STALE, Reason.STALE_WATCHDOG)
        if is_second or not self._subscriptions.resubscribe(route.subscription, self._now):
            self._close(Reason.STALE_WATCHDOG, text)

    def _fetch(self, route: Route, purpose: Purpose) -> None:
        if not route.is_fetching:
            route.is_fetching = True
            route.fetched_ns = self._now
            self.todo.append(Fetch(route, purpose))

    def _close(self, reason: Reason, text: str) -> None:
        self.todo.append(Close(reason, text))

    def _set(self, route: Route, state: StreamState, reason: Reason | None) -> None:
        if route.state is not state or route.reason is not reason:
            previous, route.state, route.reason = route.state, state, reason
            self.todo.append(Changed(route, previous))

    def _note(self, event: str, **fields: object) -> None:
        self.todo.append(Note(event, fields))

    def _by_symbol(self, stream: Stream) -> dict[str, Route]:
        return {route.symbol: route for route in self.routes if route.stream is stream}


_ACTIONS: Final[dict[Resync, GapAction]] = {
    Resync.RESUBSCRIBE: "resubscribe",
    Resync.REFETCH: "resync",
    Resync.RECONNECT: "reconnect",
}


def _routes(venue: Venue, connection: Connection, listings: Sequence[Listing], policy: Policy) -> list[Route]:
    """One route for each stream of each market that the connection carries."""
    routes = []
    for subscription in connection.subscriptions:
        for listing in listings:
            if subscription.symbol not in {None, listing.symbol}:
                continue
            for stream in subscription.streams:
                keeper = BookKeeper(venue.name, str(listing.symbol), venue.continuity) if stream in _BOOKS else None
                routes.append(Route(stream, listing, subscription, _limit_ns(venue, stream, policy), keeper))
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
