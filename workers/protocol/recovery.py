"""Recovery of books and streams within a connection: what is lost, what is quiet, what is mute, and what to do.

A ladder: resync the book, subscribe it anew, ask for another connection. Pure, like the session whose part it is: it is
told what happened and when, and puts what must be done into the session's :class:`workers.protocol.actions.ActionQueue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ipc.events import BookDelta, BookSnapshot, Gap, GapAction
from ipc.health import Reason, Stream, StreamState
from ipc.orderbook import BadLevelError, OrderBook
from workers.protocol.actions import ActionQueue, Publication, Purpose
from workers.protocol.book_sync import BookInvalid, BookSync
from workers.protocol.streams import MarketStream
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.venue import Resync, Rule, Venue

__all__ = ["Policy", "Recovery"]

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: A resync without a snapshot for this long is tried again.
RESYNC_RETRY_NS: Final = 5 * _NS
#: Between two fetches of one book, when the first could not be joined to the stream: doubling up to a cap.
_REFETCH_PAUSE_NS: Final = 100 * _MS
_REFETCH_CAP_NS: Final = 2 * _NS
#: A stream to be joined is given so long to show its first change before its snapshot is fetched all the same.
FIRST_CHANGE_NS: Final = 300 * _MS
#: Between two looks at a silent book by REST.
_COMPARE_PAUSE_NS: Final = _NS
#: Aster: a book without an applied event for 2 s is fetched anew, at most every 7 s.
_SOFT_AFTER_NS: Final = 2 * _NS
_SOFT_COOLDOWN_NS: Final = 7 * _NS
#: A market that the venue refused is tried again this often.
_FAILED_RETRY_NS: Final = 600 * _NS
#: And one that was only without a book for too long: soon after its venue can tell it again, it must be live.
_GIVEN_UP_RETRY_NS: Final = 60 * _NS
#: A quiet market's limit doubles up to this.
_QUIET_CAP_NS: Final = 60 * _NS
#: Over so many of its limits a book may be silent while there is no budget to look what is the matter.
_INCONCLUSIVE: Final = 3
#: Connections in a row that may end for want of one book; then that market waits alone.
_NO_BOOK_ENDS: Final = 3
_ACTIONS: Final[dict[Resync, GapAction]] = {
    Resync.RESUBSCRIBE: "resubscribe",
    Resync.REFETCH: "resync",
    Resync.RECONNECT: "reconnect",
}


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


class Recovery:
    """Looks after the routes of one connection.

    Args:
        venue: Whose rules hold.
        policy: The session's settings.
        subscriptions: Through which a stream is subscribed anew.
        todo: Where wishes go.
        routes: All of the connection.
    """

    def __init__(
        self,
        venue: Venue,
        policy: Policy,
        subscriptions: SubscriptionManager,
        todo: ActionQueue,
        routes: Sequence[MarketStream],
    ) -> None:
        self._venue = venue
        self._continuity = venue.continuity
        self._policy = policy
        self._subscriptions = subscriptions
        self._todo = todo
        self._books = [route for route in routes if route.keeper is not None]
        self._now = 0
        self._opened_ns = 0

    # --- what happens -----------------------------------------------------------------------------------------------

    def opened(self, now_ns: int) -> None:
        """The connection is open."""
        self._now = self._opened_ns = now_ns

    def look(self, routes: Iterable[MarketStream], now_ns: int, out: list[Publication]) -> None:
        """Time passed: look after every route."""
        self._now = now_ns
        for route in routes:
            if route.state is StreamState.FAILED:
                self._look_at_failed(route)
            elif route.keeper is None:
                self._look_at_stream(route)
            elif route.is_published_valid:
                self._look_for_silence(route, route.keeper, out)
            elif not route.keeper.is_crossed_by_venue:
                self._look_for_book(route)
            elif self._now - route.applied_ns > route.quiet_limit_ns and self._now >= route.retry_ns:
                self._resync(route)

    def applied(
        self, route: MarketStream, event: BookSnapshot | BookDelta, now_ns: int, out: list[Publication]
    ) -> None:
        """A frame gave or changed a book."""
        route.applied_ns = now_ns
        route.quiet_limit_ns = route.limit_ns or 0
        route.fetch_failures = 0
        self._publish(route, event, out)

    def buffered(self, route: MarketStream, now_ns: int) -> None:
        """A change waits for a snapshot to join: the first one says that the stream runs, so now it can be fetched."""
        if route.fetched_ns < self._opened_ns:
            self._todo.fetch(route, "bridge", now_ns)

    def broke(self, route: MarketStream, broken: BookInvalid, now_ns: int, out: list[Publication]) -> None:
        """A book is lost: say so, and begin to get it back."""
        self._now = now_ns
        was_trusted = self._lost(route, broken, out)
        if not was_trusted:
            out.append((route, None))
        if broken.reason is not Reason.PARSE_ERRORS:
            self._resync(route, broken)
        elif was_trusted or now_ns >= route.retry_ns:
            self._resync_invalid(route, broken)

    def has_trusted_book(self) -> bool:
        """Tell whether any book of the connection is usable."""
        return any(route.is_published_valid for route in self._books)

    def fetched(
        self,
        route: MarketStream,
        purpose: Purpose,
        book: BookSnapshot | None,
        reason: Reason | None,
        now_ns: int,
        out: list[Publication],
    ) -> None:
        """REST answered, or ``book`` is None and ``reason`` says why not; an invalid book is no answer."""
        self._now = now_ns
        keeper = route.keeper
        if keeper is None or not route.is_fetching:
            return
        route.is_fetching = False
        if book is not None and not self.is_valid(book, may_be_crossed=not route.is_published_valid):
            book, reason = None, Reason.PARSE_ERRORS
        route.is_limited = book is None and reason is Reason.RATE_LIMITED
        if purpose == "compare":
            self._compared(route, keeper, book, reason, out)
        elif book is None:
            self._fetch_later(route)
        elif not route.is_published_valid or not _has_moved(route):
            self._join(route, keeper, book, out)

    def is_valid(self, book: BookSnapshot, *, may_be_crossed: bool = False) -> bool:
        """Check a book that REST gave, and report an invalid one; a valid one has plain decimals thereafter.

        A crossed book proves nothing against one that is held, and is not shown. Where none is held it may be taken:
        the venue's own crossing shows by two of them.
        """
        whole, error = OrderBook(), None
        try:
            book.bids, book.asks = whole.replace(book.bids, book.asks)  # type: ignore[assignment]
            if whole.is_crossed and not may_be_crossed:
                error = f"bid {book.bids[0][0]} reaches ask {book.asks[0][0]}"
        except BadLevelError as bad:
            error = str(bad)
        if error is not None:
            self._todo.note("book.invalid", symbol=book.symbol, source="rest", error=error)
        return error is None

    def fail(self, route: MarketStream, reason: Reason, now_ns: int) -> None:
        """A stream cannot be had; it is tried again now and then, alone."""
        route.retry_ns = now_ns + (_GIVEN_UP_RETRY_NS if reason is Reason.NO_BOOK else _FAILED_RETRY_NS)
        self._todo.change(route, StreamState.FAILED, reason)

    def gap(
        self,
        route: MarketStream,
        broken: BookInvalid,
        scope: Literal["book", "session"],
        action: GapAction,
        out: list[Publication],
    ) -> None:
        """Tell consumers that a book that they trusted is lost."""
        route.is_published_valid = False
        gap = Gap(
            self._venue.name,
            route.symbol,
            route.listing.venue_symbol,
            None,
            scope,
            broken.reason,
            broken.expected,
            broken.got,
            action,
        )
        out.append((route, gap))

    # --- looking ----------------------------------------------------------------------------------------------------

    def _look_for_silence(self, route: MarketStream, keeper: BookSync, out: list[Publication]) -> None:
        """A usable book without a new event: lost frames, a mute stream, or a quiet market."""
        silent_ns = self._now - max(route.applied_ns, self._opened_ns)
        cadence_s = self._continuity.silence_s.get(route.stream)
        if cadence_s is not None and silent_ns > cadence_s * _NS:
            keeper.lose_to_silence()
            broken = BookInvalid(
                Reason.SEQ_GAP, f"a frame within {cadence_s:g} s", f"silence for {silent_ns // _MS} ms"
            )
            self.broke(route, broken, self._now, out)
        elif silent_ns > route.quiet_limit_ns:
            if self._policy.venue_flows(self._now) and self._now - route.fetched_ns > _compare_pause_ns(route):
                self._todo.fetch(route, "compare", self._now)
        elif self._is_soft_resync_due(route, silent_ns):
            self._todo.note("book.soft_resync", symbol=route.symbol, silent_ms=silent_ns // _MS)
            self._todo.fetch(route, "soft", self._now)

    def _is_soft_resync_due(self, route: MarketStream, silent_ns: int) -> bool:
        return (
            self._continuity.soft_resync
            and route.state is not StreamState.QUIET
            and silent_ns > _SOFT_AFTER_NS
            and self._now - route.fetched_ns > _SOFT_COOLDOWN_NS
        )

    def _look_for_book(self, route: MarketStream) -> None:
        """A book that is not usable: try again, and give the connection up when it takes too long.

        A market that does not trade may have none, and then waits alone from the first.
        """
        is_asked = self._subscriptions.is_asked(route.subscription)
        route.is_throttled = not is_asked or route.is_limited or route.is_queued
        if route.is_throttled:
            route.unusable_since_ns = self._now
        if not is_asked:
            return
        missing_ns = self._now - (route.unusable_since_ns or self._now)
        if route.stream is Stream.BOOK and missing_ns > self._policy.stale_ns:
            route.book_timeouts += 1
            is_invalid = route.reason is Reason.PARSE_ERRORS
            is_hopeless = route.book_timeouts > _NO_BOOK_ENDS or not route.listing.is_trading
            if is_hopeless or (is_invalid and self.has_trusted_book()):
                self._todo.note("book.given_up", symbol=route.symbol, reason=route.reason or Reason.NO_BOOK)
                self.fail(route, Reason.NO_BOOK, self._now)
            else:
                reason = Reason.PARSE_ERRORS if is_invalid else Reason.NO_BOOK
                self._todo.close(reason, f"{route.symbol} has had no book for {missing_ns // _MS} ms")
        elif self._now >= route.retry_ns and not route.is_fetching:
            self._resync(route)

    def _look_at_failed(self, route: MarketStream) -> None:
        """A stream that the venue refuses, or that never had a book, is tried again now and then."""
        if self._now < route.retry_ns:
            return
        is_refused = route.reason is not Reason.NO_BOOK
        if is_refused:
            self._subscriptions.retry(route.subscription, self._now)
        if route.keeper is not None:
            self._resync(route)
        route.retry_ns = self._now + (_FAILED_RETRY_NS if is_refused else _GIVEN_UP_RETRY_NS)

    def _look_at_stream(self, route: MarketStream) -> None:
        """A stream that has a cadence: mute for ten of them, it is subscribed anew."""
        since_ns = max(route.applied_ns, self._opened_ns, route.retry_ns)
        if route.limit_ns is None or self._now - since_ns <= route.limit_ns:
            return
        route.retry_ns = self._now
        silent_ms = (self._now - since_ns) // _MS
        self._todo.note("stream.mute", stream=route.stream, symbol=route.symbol, silent_ms=silent_ms)
        self._todo.change(route, StreamState.STALE, Reason.STALE_WATCHDOG)
        if not self._subscriptions.resubscribe(route.subscription, self._now):
            self._todo.close(Reason.STALE_WATCHDOG, f"{route.stream} {route.symbol} is mute")

    # --- mending ----------------------------------------------------------------------------------------------------

    def _publish(self, route: MarketStream, event: BookSnapshot | BookDelta, out: list[Publication]) -> None:
        is_crossed = "crossed_by_venue" in event.flags
        route.is_throttled = route.is_limited = False
        route.is_published_valid = not is_crossed
        if not is_crossed:
            route.unusable_since_ns = 0
            route.book_timeouts = 0
        self._todo.change(route, StreamState.LIVE, Reason.CROSSED_BOOK if is_crossed else route.reason)
        out.append((route, event))

    def _lost(self, route: MarketStream, broken: BookInvalid, out: list[Publication]) -> bool:
        """Tell that a book is lost; return whether it was trusted."""
        route.unusable_since_ns = route.unusable_since_ns or self._now
        was_trusted = route.is_published_valid
        if was_trusted:
            self.gap(route, broken, "book", _ACTIONS[self._continuity.resync], out)
        self._todo.change(route, StreamState.RESYNC, broken.reason)
        return was_trusted

    def _resync_invalid(self, route: MarketStream, broken: BookInvalid) -> None:
        """Get a valid book instead of an invalid one, which may well be followed by others.

        The next frame of a feed of whole books is one, and no other book is given up for it.
        """
        if self._continuity.rule is Rule.SNAPSHOTS or (
            self._continuity.resync is Resync.RECONNECT and self.has_trusted_book()
        ):
            route.retry_ns = self._now + RESYNC_RETRY_NS
        else:
            self._resync(route, broken)

    def _resync(self, route: MarketStream, broken: BookInvalid | None = None) -> None:
        route.retry_ns = self._now + RESYNC_RETRY_NS
        match self._continuity.resync:
            case Resync.REFETCH if broken is not None and self._now - route.fetched_ns < _REFETCH_CAP_NS:
                self._fetch_later(route)  # the last join did not hold
            case Resync.REFETCH:
                if broken is not None:
                    route.fetch_failures = 0  # the last join held: what failed before it is past
                self._todo.fetch(route, "bridge", self._now)
            case Resync.RESUBSCRIBE:
                self._subscriptions.resubscribe(route.subscription, self._now)
                self._todo.send(*self._subscriptions.sends(self._now))
            case Resync.RECONNECT:
                if broken is not None:
                    text = f"{route.symbol}: {broken.expected} expected, {broken.got} came"
                    self._todo.close(broken.reason, text)

    def _join(self, route: MarketStream, keeper: BookSync, book: BookSnapshot, out: list[Publication]) -> None:
        """Join a fetched book to the stream.

        If the stream stood still meanwhile and the book differs, that is proof that the held one is wrong.
        """
        reason = Reason.VENUE_DISAGREES if keeper.is_disproved_by(book) else Reason.SOFT_RESYNC
        joined = keeper.on_fetched(book)
        if isinstance(joined, BookInvalid):
            self._fetch_later(route)
            self._todo.note("book.not_joined", symbol=route.symbol, expected=joined.expected, got=joined.got)
            if route.is_published_valid:
                route.unusable_since_ns = self._now
                self.gap(route, joined, "book", "resync", out)
                self._todo.change(route, StreamState.RESYNC, joined.reason)
            return
        if joined is None:
            return
        if route.is_published_valid:
            self.gap(route, BookInvalid(reason, None, book.venue_seq), "book", "resync", out)
            self._todo.change(route, StreamState.RESYNC, reason)
        for event in joined:
            self._publish(route, event, out)

    def _fetch_later(self, route: MarketStream) -> None:
        """A snapshot did not come, or could not be joined: again after a while, and less and less often."""
        route.retry_ns = self._now + min(_REFETCH_PAUSE_NS << min(route.fetch_failures, 8), _REFETCH_CAP_NS)
        route.fetch_failures += 1

    def _compared(
        self,
        route: MarketStream,
        keeper: BookSync,
        book: BookSnapshot | None,
        reason: Reason | None,
        out: list[Publication],
    ) -> None:
        """REST told whether a silent book is quiet, wrong, or mute."""
        if not route.is_published_valid:
            return  # lost meanwhile, and being got back
        silent_ns = self._now - max(route.applied_ns, self._opened_ns)
        limit_ns = route.quiet_limit_ns
        if silent_ns <= limit_ns or (reason is Reason.RATE_LIMITED and silent_ns < _INCONCLUSIVE * limit_ns):
            return  # data came meanwhile, or nothing was learnt and it is asked again
        if book is not None and keeper.equals(book):
            route.quiet_limit_ns = min(2 * limit_ns, max(_QUIET_CAP_NS, limit_ns))
            self._todo.change(route, StreamState.QUIET, route.reason)
            return
        if book is not None and not _has_moved(route) and keeper.is_disproved_by(book):
            reason = Reason.VENUE_DISAGREES
            keeper.lose("resync")
            self._lost(route, BookInvalid(reason, keeper.venue_seq, book.venue_seq), out)
            route.retry_ns = self._now + RESYNC_RETRY_NS if self._continuity.resync is Resync.RESUBSCRIBE else 0
        self._on_mute(route, silent_ns, reason)

    def _on_mute(self, route: MarketStream, silent_ns: int, reason: Reason | None) -> None:
        """Subscribe a mute book anew; reconnect when that was done already, or is not possible."""
        self._todo.note("book.mute", symbol=route.symbol, silent_ms=silent_ns // _MS, reason=reason)
        is_second = _is_resubscribed(route)
        route.resubscribed_ns = self._now
        self._todo.change(route, StreamState.STALE, Reason.STALE_WATCHDOG if route.is_published_valid else reason)
        if is_second or not self._subscriptions.resubscribe(route.subscription, self._now):
            text = f"{route.symbol} is silent for {silent_ns // _MS} ms and {reason or 'differs from REST'}"
            self._todo.close(Reason.STALE_WATCHDOG, text)


def _has_moved(route: MarketStream) -> bool:
    """Tell whether a frame was applied since the answer at hand was asked for, which then shows nothing."""
    return route.applied_ns >= route.fetched_ns


def _is_resubscribed(route: MarketStream) -> bool:
    """Tell whether a mute book was subscribed anew and has been mute since."""
    return route.resubscribed_ns > route.applied_ns


def _compare_pause_ns(route: MarketStream) -> int:
    """Between two looks at a silent book: a resubscription is given its time, and the longest quiet is asked rarely."""
    if _is_resubscribed(route):
        return RESYNC_RETRY_NS
    is_longest = route.state is StreamState.QUIET and route.quiet_limit_ns >= _QUIET_CAP_NS
    return route.quiet_limit_ns if is_longest else _COMPARE_PAUSE_NS
