"""A worker's own book of one market, kept by its venue's continuity rule.

The keeper decides for every book frame: publish it, leave it out, or declare the book broken. It reads no clock and
knows no socket; what to do about a broken book is the session's business.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from ipc.checks import valid_ns
from ipc.decimals import number, plain
from ipc.events import BookDelta, BookSnapshot, Cause, Level
from ipc.health import Reason
from ipc.orderbook import BadLevelError, OrderBook
from workers.venues.venue import Continuity, RelativeDelta, Rule

__all__ = ["BookInvalid", "BookSync", "Outcome"]

#: Deltas kept while a snapshot is being fetched; the oldest go first.
_MAX_BUFFERED: Final = 5000
#: Crossed snapshots in a row after which the crossing is taken for the venue's own.
_VENUE_CROSSES: Final = 2
_COMPARED_DEPTH: Final = 10
#: Two times of a venue's that are further apart than this are in order.
_TIME_SLACK_NS: Final = 1_000_000_000
#: Old changes in a row, without one that could be applied, that a fetched snapshot can be ahead of its stream.
_MAX_OLD: Final = 50
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class BookInvalid:
    """The book is lost: which rule failed, what it asked for and what came."""

    reason: Reason
    expected: int | str | None = None
    got: int | str | None = None


#: An event to publish, a broken book, or None: nothing to say.
Outcome: TypeAlias = BookSnapshot | BookDelta | BookInvalid | None


class BookSync:
    """One market's book on one stream.

    ``usable`` tells whether consumers may use it. ``ignored`` counts frames that were left out (before a snapshot, old,
    or out of time order), ``drifts`` the unasked snapshots that differed from what was held.
    """

    def __init__(self, venue: str, symbol: str, continuity: Continuity) -> None:
        self.venue = venue
        self.symbol = symbol
        self.usable = False
        self.ignored = 0
        self.drifts = 0
        self.venue_seq: int | None = None
        self.exchange_ns: int | None = None
        #: What the next snapshot is for.
        self.cause: Cause = "subscribe"
        self._rule = continuity.rule
        self._book = OrderBook()
        self._depth: int | None = None
        self._venue_symbol: str | None = None
        self._has_book = False
        #: With a fetched snapshot: no delta has joined it yet.
        self._is_unbridged = False
        self._buffer: deque[BookDelta] = deque(maxlen=_MAX_BUFFERED)
        #: With a fetched snapshot: its number, and that of the first change that the stream sent before reaching it.
        self._fetched_seq = 0
        self._first_seq: int | None = None
        #: Changes left out for being old since the book was last changed, and the book's number then.
        self._old_in_row = 0
        self._old_since: int | None = None
        self._crossings = 0
        #: Whether this connection gave a book that could be applied.
        self._has_applied = False
        #: Whether the last frame was left out for being old.
        self._is_refusing = False

    # --- frames ---------------------------------------------------------------------------------------------------

    def on_snapshot(self, event: BookSnapshot) -> Outcome:
        """A whole book from the stream."""
        if self._rule is Rule.SNAPSHOTS and self._is_regression(event):
            self.ignored += 1
            self._is_refusing = True
            return None
        event.cause = self.cause
        return self._take(event)

    def on_delta(self, event: BookDelta) -> Outcome:
        """A change from the stream."""
        if not self._has_book:
            self._keep_for_later(event)
            return None
        if self._rule is Rule.BRIDGE and event.venue_seq is not None and event.venue_seq <= (self.venue_seq or 0):
            return self._on_old_delta(event, event.venue_seq)
        if not self._follows(event):
            self._lose("resync")
            self._keep_for_later(event)
            return BookInvalid(Reason.SEQ_GAP, self.venue_seq, _number(event))
        return self._apply(event)

    def on_relative(self, event: RelativeDelta) -> Outcome:
        """A change of which some new sizes must be worked out from the held ones."""
        listing = event.listing
        if not self._has_book:
            self.ignored += 1
            return None
        try:
            bids = [self._absolute("bid", *level) for level in event.bids]
            asks = [self._absolute("ask", *level) for level in event.asks]
        except (ArithmeticError, ValueError) as error:
            return self._break(Reason.PARSE_ERRORS, "valid levels", str(error))
        delta = BookDelta(
            self.venue,
            self.symbol,
            listing.venue_symbol,
            event.exchange_ns,
            bids,
            asks,
            event.venue_seq,
            event.prev_venue_seq,
        )
        return self.on_delta(delta)

    def on_fetched(self, event: BookSnapshot) -> list[BookSnapshot | BookDelta] | BookInvalid | None:
        """A snapshot fetched to join the stream: it and the buffered deltas that follow it, if they do.

        None means that the stream has moved past it, or that it confirms what is held. A snapshot too old to join gives
        Broken, after which another must be fetched.
        """
        newest = self._buffer[-1] if self._buffer else None
        if self._has_book:
            is_older = (event.venue_seq or 0) < (self.venue_seq or 0) and not _is_later(event, self.exchange_ns)
            if is_older or self._is_confirmed_by(event):
                return None
            # The stream stands still while the book has moved on: what is held is wrong.
            self._lose("resync")
        waiting = [delta for delta in self._buffer if (delta.venue_seq or 0) >= (event.venue_seq or 0)]
        if waiting and not _joins(waiting[0], event.venue_seq):
            self._buffer = deque(waiting, maxlen=_MAX_BUFFERED)
            return BookInvalid(Reason.SEQ_GAP, waiting[0].prev_venue_seq, event.venue_seq)
        if newest is not None and not waiting and _is_later(newest, event.exchange_ns):
            # The stream's numbers restarted since the snapshot was made.
            return BookInvalid(Reason.SEQ_GAP, newest.venue_seq, event.venue_seq)
        self._fetched_seq = event.venue_seq or 0
        self._first_seq = _number(self._buffer[0]) if self._buffer else None
        self._buffer.clear()
        event.cause = self.cause
        taken = self._take(event)
        if not isinstance(taken, BookSnapshot):
            return taken if isinstance(taken, BookInvalid) else None
        self._is_unbridged = True
        return self._replay(taken, waiting)

    # --- what the session asks and tells --------------------------------------------------------------------------

    def lose(self, cause: Cause = "subscribe") -> bool:
        """The connection is gone, or a resync begins: wait for a snapshot. Whether the book had been usable."""
        usable = self.usable
        if self._is_refusing or not self._has_applied:
            # A clock was set back, or two servers disagree; the one that answers now is not refused for ever.
            self.exchange_ns = None
        self._has_applied = self._is_refusing = False
        self._lose(cause)
        self._buffer.clear()
        return usable

    def lose_to_silence(self) -> None:
        """Nothing that could be applied came on a connection that lives.

        When its frames were left out for being old, its clock was set back: one connection is one server. So time
        begins anew with the next snapshot.
        """
        self.lose("resync")
        self.exchange_ns = None

    def snapshot(self, cause: Cause) -> BookSnapshot | None:
        """The book as it stands, for a joiner; None while it is not usable."""
        if not self.usable:
            return None
        event = BookSnapshot(
            self.venue,
            self.symbol,
            self._venue_symbol,
            self.exchange_ns,
            self._book.bids(),
            self._book.asks(),
            self._depth,
            self.venue_seq,
            cause,
        )
        event.flags = ("refresh",)
        return event

    def equals(self, other: BookSnapshot) -> bool:
        """Tell whether the best levels of another copy of this book are the same, by value.

        What either copy does not show is not compared. One that shows nothing, and what is no level, equals none.
        """
        depths = [depth for depth in (_COMPARED_DEPTH, self._depth, other.depth) if depth is not None]
        try:
            return min(depths) > 0 and self._book.equals(other.bids, other.asks, min(depths))
        except ValueError:
            return False

    def is_disproved_by(self, other: BookSnapshot) -> bool:
        """Tell whether a valid book that was asked for after the last change shows that this one is wrong.

        One that is older than what is held proves nothing, for REST can lag behind the stream; nor does one without a
        level that is known for sure.
        """
        return other.depth != 0 and not self._is_older(other) and not self.equals(other)

    def crc32_top10(self) -> int:
        """Checksum of the ten best levels a side."""
        return self._book.crc32_top10()

    @property
    def is_crossed_by_venue(self) -> bool:
        """Whether the book is held, yet crossed by the venue itself."""
        return self._has_book and not self.usable

    # --- inside ---------------------------------------------------------------------------------------------------

    def _on_old_delta(self, event: BookDelta, seq: int) -> Outcome:
        """A change that the book should hold already: left out, unless it proves that the venue's numbers restarted.

        A fetched snapshot may be ahead of its stream, and a frame may come twice. Neither is later than the book, lies
        before the stream's first change, or goes on and on without reaching the book.
        """
        if self._old_since != self.venue_seq:
            self._old_since, self._old_in_row = self.venue_seq, 0
        self._old_in_row += 1
        if self._first_seq is None:
            self._first_seq = _number(event) if self._is_unbridged else self._fetched_seq
        is_later = seq != self.venue_seq and _is_later(event, self.exchange_ns)
        if seq < (self._first_seq or 0) or is_later or self._old_in_row > _MAX_OLD:
            self._lose("resync")
            self._keep_for_later(event)
            return BookInvalid(Reason.SEQ_GAP, self.venue_seq, seq)
        self.ignored += 1
        return None

    def _is_confirmed_by(self, event: BookSnapshot) -> bool:
        """Whether a fetched snapshot has our number and our levels."""
        if event.venue_seq != self.venue_seq:
            return False
        confirmed = self.equals(event)
        self.drifts += not confirmed
        return confirmed

    def _is_older(self, other: BookSnapshot) -> bool:
        """Numbers of REST are those of the stream only where the two are joined; times are compared in ms."""
        if self._rule is Rule.BRIDGE:
            return (other.venue_seq or 0) < (self.venue_seq or 0)
        if other.exchange_ns is None or self.exchange_ns is None:
            return False
        return other.exchange_ns // _MS < self.exchange_ns // _MS

    def _take(self, event: BookSnapshot) -> Outcome:
        is_drift = self._has_book and self._rule is not Rule.SNAPSHOTS and not self.equals(event)
        try:
            event.bids, event.asks = self._book.replace(event.bids, event.asks)  # type: ignore[assignment]
        except BadLevelError as error:
            return self._break(Reason.PARSE_ERRORS, "valid levels", str(error))
        self.drifts += is_drift
        self._has_book = self._has_applied = True
        self._is_refusing = False
        self._depth = event.depth
        self._venue_symbol = event.venue_symbol
        self.venue_seq = event.venue_seq
        self.exchange_ns = event.exchange_ns = valid_ns(event.exchange_ns)
        if self._book.is_crossed:
            return self._on_crossed_snapshot(event)
        self._crossings = 0
        self.usable = True
        self.cause = "refresh"
        return event

    def _on_crossed_snapshot(self, event: BookSnapshot) -> Outcome:
        """The first may be bad luck; when a fresh one is crossed as well, the venue's book is."""
        self._crossings += 1
        if self._crossings < _VENUE_CROSSES:
            return self._break(Reason.CROSSED_BOOK, "bid below ask", self._touch())
        self.usable = False
        event.flags = (*event.flags, "crossed_by_venue")
        return event

    def _apply(self, event: BookDelta) -> Outcome:
        try:
            event.bids, event.asks = self._book.apply(event.bids, event.asks)  # type: ignore[assignment]
        except BadLevelError as error:
            return self._break(Reason.PARSE_ERRORS, "valid levels", str(error))
        self.venue_seq = event.venue_seq
        self.exchange_ns = event.exchange_ns = valid_ns(event.exchange_ns)
        self._is_unbridged = False
        if self._book.is_crossed:
            if self.is_crossed_by_venue:
                event.flags = ("crossed_by_venue",)
                return event
            return self._break(Reason.CROSSED_BOOK, "bid below ask", self._touch())
        if self.is_crossed_by_venue:
            # The venue's crossing is over: consumers, who have been ignoring deltas, need the whole book.
            self.usable = True
            self._crossings = 0
            whole = self.snapshot("resync")
            if whole is not None:
                whole.flags = ()
            return whole
        return event

    def _replay(self, snapshot: BookSnapshot, waiting: list[BookDelta]) -> list[BookSnapshot | BookDelta] | BookInvalid:
        events: list[BookSnapshot | BookDelta] = [snapshot]
        for delta in waiting:
            outcome = self.on_delta(delta)
            if isinstance(outcome, BookInvalid):
                return outcome
            if outcome is not None:
                events.append(outcome)
        return events

    def _follows(self, event: BookDelta) -> bool:
        """The continuity rule, for a delta that is not known to be old."""
        if self._rule is Rule.CONNECTION:
            return True
        if self._is_unbridged:
            return _joins(event, self.venue_seq)
        if event.prev_venue_seq is None:
            # Lighter's frames of 2025 name no predecessor; then all that can be asked is that they do not go back.
            return event.venue_seq is not None and event.venue_seq >= (self.venue_seq or 0)
        return event.prev_venue_seq == self.venue_seq

    def _is_regression(self, event: BookSnapshot) -> bool:
        """A frame older than the last one: a reconnect can land on a server that is behind."""
        return event.exchange_ns is not None and self.exchange_ns is not None and event.exchange_ns < self.exchange_ns

    def _break(self, reason: Reason, expected: str, got: str) -> BookInvalid:
        self._lose("resync")
        return BookInvalid(reason, expected, got)

    def _lose(self, cause: Cause) -> None:
        self.usable = False
        self._has_book = False
        self._is_unbridged = False
        self.cause = cause

    def _keep_for_later(self, event: BookDelta) -> None:
        if self._rule is Rule.BRIDGE:
            if self._buffer and (event.venue_seq or 0) < (self._buffer[-1].venue_seq or 0):
                self._buffer.clear()  # the venue's numbers restarted
            self._buffer.append(event)
        else:
            self.ignored += 1

    def _absolute(self, side: str, price: str, size: str | None, change: str) -> Level:
        if size is not None:
            return (price, size)
        held = Decimal(self._book.size_at(side, price) or 0) + number(change)
        return (price, plain(max(held, Decimal(0))))

    def _touch(self) -> str:
        bid, ask = self._book.best_bid, self._book.best_ask
        return f"{bid[0] if bid else None} >= {ask[0] if ask else None}"


def _is_later(event: BookSnapshot | BookDelta, exchange_ns: int | None) -> bool:
    """Whether an event's time lies clearly behind another one; False when one of the two is not known."""
    return (
        None not in {event.exchange_ns, exchange_ns} and (event.exchange_ns or 0) > (exchange_ns or 0) + _TIME_SLACK_NS
    )


def _joins(delta: BookDelta, snapshot_seq: int | None) -> bool:
    """Whether nothing lies between a fetched snapshot and a delta.

    Aster's documentation asks that the delta cover the snapshot's number (first <= number <= last). Its numbers are
    thinned, so a snapshot's may also fall between two deltas; what matters is that the delta's predecessor is not newer
    than the snapshot, and the delta itself not older. Sizes are absolute, so an overlap does no harm.
    """
    if snapshot_seq is None or delta.venue_seq is None or delta.prev_venue_seq is None:
        return False
    return delta.prev_venue_seq <= snapshot_seq <= delta.venue_seq


def _number(event: BookDelta) -> int | None:
    return event.venue_seq if event.prev_venue_seq is None else event.prev_venue_seq
