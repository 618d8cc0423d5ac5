"""Local book of one market, kept in sync with its stream by the venue's continuity rule.

A :class:`BookSync` decides for every book frame: publish it, leave it out, or declare the book invalid. Recovery of an
invalid book is the business of :mod:`workers.protocol.recovery`.
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

#: Deltas buffered while a snapshot is fetched; the oldest are dropped first.
_MAX_BUFFERED: Final = 5000
#: Crossed snapshots in a row after which the venue itself is considered crossed.
_VENUE_CROSSES: Final = 2
#: Levels a side that are compared between two copies of a book.
_COMPARED_DEPTH: Final = 10
#: Exchange times that differ by more than this are in a known order.
_TIME_SLACK_NS: Final = 1_000_000_000
#: Old deltas in a row, with none applied, by which a fetched snapshot can be ahead of its stream.
_MAX_OLD: Final = 50
_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class BookInvalid:
    """Invalid book: the rule that failed, what it expected and what came."""

    reason: Reason
    expected: int | str | None = None
    got: int | str | None = None


#: An event to publish, an invalid book, or None: nothing to publish.
Outcome: TypeAlias = BookSnapshot | BookDelta | BookInvalid | None


class BookSync:
    """Book of one market on one stream.

    ``usable`` is True while consumers may use it. ``ignored`` counts frames that were left out (before a snapshot, old,
    or out of time order), ``drifts`` unrequested snapshots that differed from the local book.
    """

    def __init__(self, venue: str, symbol: str, continuity: Continuity) -> None:
        self.venue = venue
        self.symbol = symbol
        self.usable = False
        self.ignored = 0
        self.drifts = 0
        self.venue_seq: int | None = None
        self.exchange_ns: int | None = None
        #: Cause of the next snapshot.
        self.cause: Cause = "subscribe"
        self._rule = continuity.rule
        self._book = OrderBook()
        self._depth: int | None = None
        self._venue_symbol: str | None = None
        self._has_book = False
        #: True after a fetched snapshot until a delta follows it.
        self._is_unbridged = False
        self._buffer: deque[BookDelta] = deque(maxlen=_MAX_BUFFERED)
        #: After a fetched snapshot: its number, and that of the first delta that the stream sent before reaching it.
        self._fetched_seq = 0
        self._first_seq: int | None = None
        #: Old deltas left out since the book last changed, and the book's number at that time.
        self._old_in_row = 0
        self._old_since: int | None = None
        self._crossings = 0
        #: True when this connection brought a book that was applied.
        self._has_applied = False
        #: True when the last frame was left out as old.
        self._is_refusing = False

    def on_snapshot(self, event: BookSnapshot) -> Outcome:
        """Handle a whole book from the stream."""
        if self._rule is Rule.SNAPSHOTS and self._is_regression(event):
            self.ignored += 1
            self._is_refusing = True
            return None
        event.cause = self.cause
        return self._replace(event)

    def on_delta(self, event: BookDelta) -> Outcome:
        """Handle a delta from the stream."""
        if not self._has_book:
            self._buffer_delta(event)
            return None
        if self._rule is Rule.BRIDGE and event.venue_seq is not None and event.venue_seq <= (self.venue_seq or 0):
            return self._on_old_delta(event, event.venue_seq)
        if not self._follows(event):
            self._drop("resync")
            self._buffer_delta(event)
            return BookInvalid(Reason.SEQ_GAP, self.venue_seq, _number(event))
        return self._apply(event)

    def on_relative(self, event: RelativeDelta) -> Outcome:
        """Handle a delta with sizes relative to those of the local book."""
        listing = event.listing
        if not self._has_book:
            self.ignored += 1
            return None
        try:
            bids = [self._absolute("bid", *level) for level in event.bids]
            asks = [self._absolute("ask", *level) for level in event.asks]
        except (ArithmeticError, ValueError) as error:
            return self._invalid(Reason.PARSE_ERRORS, "valid levels", str(error))
        delta = BookDelta(
            venue=self.venue,
            symbol=self.symbol,
            venue_symbol=listing.venue_symbol,
            exchange_ns=event.exchange_ns,
            bids=bids,
            asks=asks,
            venue_seq=event.venue_seq,
            prev_venue_seq=event.prev_venue_seq,
        )
        return self.on_delta(delta)

    def on_fetched(self, event: BookSnapshot) -> list[BookSnapshot | BookDelta] | BookInvalid | None:
        """Bridge a fetched snapshot to the stream; return it and the buffered deltas that follow it.

        Return None when the stream has moved past it, or when it confirms the local book. Return
        :class:`BookInvalid` for a snapshot too old to bridge; another one must then be fetched.
        """
        newest = self._buffer[-1] if self._buffer else None
        if self._has_book:
            is_older = (event.venue_seq or 0) < (self.venue_seq or 0) and not _is_later(event, self.exchange_ns)
            if is_older or self._is_confirmed_by(event):
                return None
            # The stream is silent although the book changed: the local book is wrong.
            self._drop("resync")
        waiting = [delta for delta in self._buffer if (delta.venue_seq or 0) >= (event.venue_seq or 0)]
        if waiting and not _bridges(waiting[0], event.venue_seq):
            self._buffer = deque(waiting, maxlen=_MAX_BUFFERED)
            return BookInvalid(Reason.SEQ_GAP, waiting[0].prev_venue_seq, event.venue_seq)
        if newest is not None and not waiting and _is_later(newest, event.exchange_ns):
            # The stream's numbers restarted after the snapshot was made.
            return BookInvalid(Reason.SEQ_GAP, newest.venue_seq, event.venue_seq)
        self._fetched_seq = event.venue_seq or 0
        self._first_seq = _number(self._buffer[0]) if self._buffer else None
        self._buffer.clear()
        event.cause = self.cause
        replaced = self._replace(event)
        if not isinstance(replaced, BookSnapshot):
            return replaced if isinstance(replaced, BookInvalid) else None
        self._is_unbridged = True
        return self._replay(replaced, waiting)

    def invalidate(self, cause: Cause = "subscribe") -> bool:
        """Wait for a snapshot, for the connection ended or a resync begins; return True when the book was usable."""
        usable = self.usable
        if self._is_refusing or not self._has_applied:
            # A clock was set back, or two servers disagree: accept the times of the server that answers now.
            self.exchange_ns = None
        self._has_applied = self._is_refusing = False
        self._drop(cause)
        self._buffer.clear()
        return usable

    def invalidate_by_silence(self) -> None:
        """Invalidate a book to which nothing could be applied although the connection is alive.

        If its frames were left out as old, the server's clock was set back, for one connection is one server: the next
        snapshot is accepted whatever its time.
        """
        self.invalidate("resync")
        self.exchange_ns = None

    def snapshot(self, cause: Cause) -> BookSnapshot | None:
        """Return the current book for a late subscriber; None while it is unusable."""
        if not self.usable:
            return None
        event = BookSnapshot(
            venue=self.venue,
            symbol=self.symbol,
            venue_symbol=self._venue_symbol,
            exchange_ns=self.exchange_ns,
            bids=self._book.bids(),
            asks=self._book.asks(),
            depth=self._depth,
            venue_seq=self.venue_seq,
            cause=cause,
        )
        event.flags = ("refresh",)
        return event

    def equals(self, other: BookSnapshot) -> bool:
        """Return True when the best levels of another copy of this book are the same, by value.

        Levels beyond the depth of either copy are not compared. An empty depth or an invalid level equals nothing.
        """
        depths = [depth for depth in (_COMPARED_DEPTH, self._depth, other.depth) if depth is not None]
        try:
            return min(depths) > 0 and self._book.equals(other.bids, other.asks, min(depths))
        except ValueError:
            return False

    def is_disproved_by(self, other: BookSnapshot) -> bool:
        """Return True when a valid book that was requested after the last change shows that this one is wrong.

        A book older than this one proves nothing, for REST can lag behind the stream; nor does one of unknown levels.
        """
        return other.depth != 0 and not self._is_older(other) and not self.equals(other)

    def crc32_top10(self) -> int:
        """Return the checksum of the ten best levels a side."""
        return self._book.crc32_top10()

    @property
    def is_crossed_by_venue(self) -> bool:
        """True while there is a book that the venue itself has crossed."""
        return self._has_book and not self.usable

    def _on_old_delta(self, event: BookDelta, seq: int) -> Outcome:
        """Leave out a delta that the book already contains, unless it proves that the venue's numbers restarted.

        A fetched snapshot may be ahead of its stream, and a frame may come twice. Neither is later than the book, nor
        lies before the stream's first delta, nor continues without reaching the book.
        """
        if self._old_since != self.venue_seq:
            self._old_since, self._old_in_row = self.venue_seq, 0
        self._old_in_row += 1
        if self._first_seq is None:
            self._first_seq = _number(event) if self._is_unbridged else self._fetched_seq
        is_later = seq != self.venue_seq and _is_later(event, self.exchange_ns)
        if seq < (self._first_seq or 0) or is_later or self._old_in_row > _MAX_OLD:
            self._drop("resync")
            self._buffer_delta(event)
            return BookInvalid(Reason.SEQ_GAP, self.venue_seq, seq)
        self.ignored += 1
        return None

    def _is_confirmed_by(self, event: BookSnapshot) -> bool:
        """Return True when a fetched snapshot has the number and the levels of this book."""
        if event.venue_seq != self.venue_seq:
            return False
        confirmed = self.equals(event)
        self.drifts += not confirmed
        return confirmed

    def _is_older(self, other: BookSnapshot) -> bool:
        """Return True when another copy is older: by number where REST and stream share them, else by time in ms."""
        if self._rule is Rule.BRIDGE:
            return (other.venue_seq or 0) < (self.venue_seq or 0)
        if other.exchange_ns is None or self.exchange_ns is None:
            return False
        return other.exchange_ns // _MS < self.exchange_ns // _MS

    def _replace(self, event: BookSnapshot) -> Outcome:
        is_drift = self._has_book and self._rule is not Rule.SNAPSHOTS and not self.equals(event)
        try:
            event.bids, event.asks = self._book.replace(event.bids, event.asks)  # type: ignore[assignment]
        except BadLevelError as error:
            return self._invalid(Reason.PARSE_ERRORS, "valid levels", str(error))
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
        """Invalidate the book for the first crossed snapshot; after a second one the venue's own book is crossed."""
        self._crossings += 1
        if self._crossings < _VENUE_CROSSES:
            return self._invalid(Reason.CROSSED_BOOK, "bid below ask", self._best_prices())
        self.usable = False
        event.flags = (*event.flags, "crossed_by_venue")
        return event

    def _apply(self, event: BookDelta) -> Outcome:
        try:
            event.bids, event.asks = self._book.apply(event.bids, event.asks)  # type: ignore[assignment]
        except BadLevelError as error:
            return self._invalid(Reason.PARSE_ERRORS, "valid levels", str(error))
        self.venue_seq = event.venue_seq
        self.exchange_ns = event.exchange_ns = valid_ns(event.exchange_ns)
        self._is_unbridged = False
        if self._book.is_crossed:
            if self.is_crossed_by_venue:
                event.flags = ("crossed_by_venue",)
                return event
            return self._invalid(Reason.CROSSED_BOOK, "bid below ask", self._best_prices())
        if self.is_crossed_by_venue:
            # The venue's crossing is over: consumers, which ignored deltas meanwhile, need the whole book.
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
        """Return True when a delta that is not old satisfies the continuity rule."""
        if self._rule is Rule.CONNECTION:
            return True
        if self._is_unbridged:
            return _bridges(event, self.venue_seq)
        if event.prev_venue_seq is None:
            # A frame without a predecessor can only be checked for not going back.
            return event.venue_seq is not None and event.venue_seq >= (self.venue_seq or 0)
        return event.prev_venue_seq == self.venue_seq

    def _is_regression(self, event: BookSnapshot) -> bool:
        """Return True for a frame older than the last one: a reconnect can reach a server that is behind."""
        return event.exchange_ns is not None and self.exchange_ns is not None and event.exchange_ns < self.exchange_ns

    def _invalid(self, reason: Reason, expected: str, got: str) -> BookInvalid:
        self._drop("resync")
        return BookInvalid(reason, expected, got)

    def _drop(self, cause: Cause) -> None:
        self.usable = False
        self._has_book = False
        self._is_unbridged = False
        self.cause = cause

    def _buffer_delta(self, event: BookDelta) -> None:
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

    def _best_prices(self) -> str:
        bid, ask = self._book.best_bid, self._book.best_ask
        return f"{bid[0] if bid else None} >= {ask[0] if ask else None}"


def plain_book(book: BookSnapshot, *, may_be_crossed: bool) -> str | None:
    """Make the decimals of a book that REST gave plain; return what is invalid about it, or None."""
    whole = OrderBook()
    try:
        book.bids, book.asks = whole.replace(book.bids, book.asks)  # type: ignore[assignment]
    except BadLevelError as error:
        return str(error)
    is_valid = may_be_crossed or not whole.is_crossed
    return None if is_valid else f"bid {book.bids[0][0]} reaches ask {book.asks[0][0]}"


def _is_later(event: BookSnapshot | BookDelta, exchange_ns: int | None) -> bool:
    """Return True when an event is clearly later than a time; False when either is unknown."""
    return (
        None not in {event.exchange_ns, exchange_ns} and (event.exchange_ns or 0) > (exchange_ns or 0) + _TIME_SLACK_NS
    )


def _bridges(delta: BookDelta, snapshot_seq: int | None) -> bool:
    """Return True when no change is missing between a fetched snapshot and a delta.

    Venues document that the delta must cover the snapshot's number (first <= number <= last). Numbers can be thinned,
    so a snapshot's may also fall between two deltas: it suffices that the delta's predecessor is not newer than the
    snapshot, and the delta itself not older. Sizes are absolute, so an overlap does no harm.
    """
    if snapshot_seq is None or delta.venue_seq is None or delta.prev_venue_seq is None:
        return False
    return delta.prev_venue_seq <= snapshot_seq <= delta.venue_seq


def _number(event: BookDelta) -> int | None:
    return event.venue_seq if event.prev_venue_seq is None else event.prev_venue_seq
