"""Arbitration of one book: one source is delivered, and another takes over when it is lost, behind or silent.

A delivered book never goes back without a gap: only a source that is at or past the delivered position, or whose whole
book is equal, takes over. While none is, the delivered book stays as it is, for a short time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from ipc.arbitration.positions import Position, book_order, book_position
from ipc.events import BookDelta, BookSnapshot, Event, Gap
from ipc.health import Reason
from ipc.replica import BAD_LEVEL, BookReplica

Changeover: TypeAlias = Literal["behind", "silent", "lost"]

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
#: Time for two books to become equal once the limit is over: the same change may be on its way.
_DIFFER_NS: Final = 50 * _MS
#: Time without judging after a change-over.
_PAUSE_NS: Final = _NS
#: Two change-overs for being behind within this time double the limit.
_SOON_NS: Final = 10 * _NS
_MAX_LIMIT_NS: Final = 5 * _NS
#: Without a change-over for this long the limit is the venue's again.
_CALM_NS: Final = 60 * _NS
#: Time after a gap from which an older book is better than none.
_ANY_NS: Final = 5 * _NS
#: Faults of a book that was wrong when it was delivered, and so must not stay.
_WRONG: Final = frozenset({"drift", "crossed_book", BAD_LEVEL, str(Reason.PARSE_ERRORS), "crossed_by_venue"})


class _News:
    """Change that another source delivered first."""

    __slots__ = ("at_ns", "position", "source")

    def __init__(self, source: int, position: int, at_ns: int) -> None:
        self.source = source
        self.position = position
        self.at_ns = at_ns


class BookArbiter:
    """Arbiter of one market's book.

    Args:
        delivered: Book for the consumer.
        report: Called with the reason of each change-over.
    """

    def __init__(self, delivered: BookReplica, report: Callable[[Changeover], None]) -> None:
        self.delivered = delivered
        #: Source that is delivered; None before the first book.
        self.active: int | None = None
        self._order = book_order(delivered.venue)
        self._position_of = book_position(delivered.venue)
        self._report = report
        self._books: dict[int, BookReplica] = {}
        #: Position of the delivered state; None before the first and where it has none.
        self._position: Position = None
        self._news: _News | None = None
        self._changed_ns = -_PAUSE_NS
        #: Time of the last change-over for being behind, and by how much the limit is greater since.
        self._behind_ns = -_CALM_NS
        self._factor = 1
        #: Since when a lost book is kept, and its gap; None while it is not.
        self._held: tuple[int, Gap] | None = None
        #: Time of the last gap; None while the book is usable.
        self._gap_ns: int | None = None

    def add(self, source: int, replica: BookReplica) -> None:
        """Add the book of a source."""
        self._books[source] = replica

    def knows(self, source: int) -> bool:
        """Return whether the book of a source was added."""
        return source in self._books

    def begin(self, source: int) -> None:
        """Deliver a source whose book the consumer has already, if it has one."""
        book = self._books[source]
        if book.last is not None:
            self.active = source
            self._gap_ns = None if book.usable else -_ANY_NS
            self._show(book)

    def handle(self, source: int, event: BookSnapshot | BookDelta | Gap, now_ns: int) -> list[Event]:
        """Return what to deliver after an event that a source's book has applied."""
        book = self._books[source]
        if self.active is None:
            return self._begin(source, event)
        if source != self.active:
            return self._on_other(source, book, event, now_ns)
        if book.usable and not isinstance(event, Gap):
            return self._on_active(book, event, now_ns)
        lost = self._on_loss(book, event if isinstance(event, Gap) else None, now_ns)
        return lost if lost or self._gap_ns is None else [event]

    def check(self, now_ns: int) -> list[Event]:
        """Return what to deliver after a change of the sources' books without an event: silence, an exit, a drift."""
        if self.active is None:
            return []
        book = self._books[self.active]
        if not book.usable:
            return self._on_loss(book, None, now_ns)
        if self._gap_ns is None and self._held is None:
            self.delivered.follow(book)
            return []
        if self._held is None:
            return self._resume(book, now_ns)
        return self._find(now_ns)

    def judge(self, now_ns: int, heartbeats: Sequence[int]) -> list[Event]:
        """Return what to deliver when the delivered source is behind or silent, or was kept for too long.

        ``heartbeats`` holds the time of each source's last heartbeat. To be called when everything was read that has
        arrived.
        """
        if self.active is None:
            return []
        if self._held is not None and now_ns - self._held[0] > self._limit_ns:
            return self._give_up(now_ns)
        if self._held is not None or self._gap_ns is not None:
            return self._find(now_ns)
        if now_ns - self._changed_ns < _PAUSE_NS:
            return []
        return self._judge_silence(now_ns, heartbeats) or self._judge_news(now_ns)

    def postpone(self, by_ns: int) -> None:
        """Let the time of noted changes begin later: the consumer itself was late."""
        if self._news is not None:
            self._news.at_ns += by_ns

    @property
    def is_waiting(self) -> bool:
        """True while :meth:`judge` has something to decide."""
        return self._news is not None or self._held is not None or self._gap_ns is not None

    @property
    def _limit_ns(self) -> int:
        return min(self._order.limit_ns * self._factor, max(_MAX_LIMIT_NS, self._order.limit_ns))

    def _begin(self, source: int, event: Event) -> list[Event]:
        """Deliver the first source with a book; one that cannot be used is replaced by the first that can."""
        if not isinstance(event, BookSnapshot):
            return []
        self.begin(source)
        return [event]

    def _on_active(self, book: BookReplica, event: BookSnapshot | BookDelta, now_ns: int) -> list[Event]:
        if self._held is not None:
            return self._find(now_ns)
        if self._gap_ns is not None and not isinstance(event, BookSnapshot):
            return self._resume(book, now_ns)
        self._gap_ns = None
        self._show(book)
        if self._news is not None and self._position is not None and self._position >= self._news.position:
            self._news = None
        return [event]

    def _on_other(self, source: int, book: BookReplica, event: Event, now_ns: int) -> list[Event]:
        """Note a change that the delivered source lacks; use one that may take over when that one is lost."""
        if self._held is not None or self._gap_ns is not None:
            return self._find(now_ns)
        if self._news is None and self._position is not None and book.usable:
            position = self._position_in(book)
            if position is not None and position > self._position and self._is_change(event):
                self._news = _News(source, position, now_ns)
        return []

    def _is_change(self, event: Event) -> bool:
        if isinstance(event, BookDelta):
            return bool(event.bids or event.asks)
        return self._order.is_whole and isinstance(event, BookSnapshot) and "refresh" not in event.flags

    def _on_loss(self, book: BookReplica, gap: Gap | None, now_ns: int) -> list[Event]:
        """Handle the loss of the delivered source's book: another takes over, or it is kept, or it is a gap."""
        if self._gap_ns is not None:
            self.delivered.follow(book)
            return self._find(now_ns)
        if self._held is None:
            self._news = None
            self.delivered.freeze()
            self._held = now_ns, gap or self._gap_of(book)
            reason = book.reason
            found = self._find(now_ns)
            if found:
                return found
            if reason in _WRONG or not any(one.usable for one in self._books.values()):
                return self._give_up(now_ns)
            return []
        found = self._find(now_ns)
        if not found and not any(one.usable for one in self._books.values()):
            return self._give_up(now_ns)
        return found

    def _find(self, now_ns: int) -> list[Event]:
        """Return the change-over to a source that may take over, if there is one."""
        may_be_any = self._gap_ns is not None and now_ns - self._gap_ns > _ANY_NS
        for source, book in self._books.items():
            if book.usable and (may_be_any or self._is_good(book)):
                return self._change_to(source, book, now_ns, "lost")
        return []

    def _give_up(self, now_ns: int) -> list[Event]:
        """Deliver the gap of a book that was kept; the source's own book, if it has one again, follows at once."""
        assert self._held is not None and self.active is not None  # noqa: S101, PT018 - callers keep a book
        gap, self._held, self._gap_ns = self._held[1], None, now_ns
        book = self._books[self.active]
        self.delivered.follow(book)
        if self.delivered.fault is None and self.delivered.silence is None:
            self.delivered.fault = str(gap.reason)
        return [gap, *(self._resume(book, now_ns) if book.usable else [])]

    def _resume(self, book: BookReplica, now_ns: int) -> list[Event]:
        """Deliver the active source's book again after a gap, whatever its position."""
        assert self.active is not None  # noqa: S101 - callers have one
        return self._change_to(self.active, book, now_ns, None)

    def _judge_silence(self, now_ns: int, heartbeats: Sequence[int]) -> list[Event]:
        assert self.active is not None  # noqa: S101 - callers have one
        heard = heartbeats[self.active]
        if now_ns - heard <= 1_500 * _MS:
            return []
        for source, book in self._books.items():
            if book.usable and heartbeats[source] - heard >= _NS and self._is_good(book):
                return self._change_to(source, book, now_ns, "silent")
        return []

    def _judge_news(self, now_ns: int) -> list[Event]:
        news = self._news
        if now_ns - self._behind_ns > _CALM_NS:
            self._factor = 1
        if news is None or now_ns - news.at_ns <= self._limit_ns:
            return []
        book = self._books[news.source]
        if not book.usable or self._is_equal(book):
            self._news = None
            return []
        if now_ns - news.at_ns <= self._limit_ns + _DIFFER_NS or not self._is_good(book):
            return []
        if now_ns - self._behind_ns < _SOON_NS:
            self._factor *= 2
        self._behind_ns = now_ns
        return self._change_to(news.source, book, now_ns, "behind")

    def _is_good(self, book: BookReplica) -> bool:
        """Return whether a source's book is not older than the delivered one."""
        position = self._position_in(book)
        if self._position is not None and position is not None and position >= self._position:
            return True
        return self._is_equal(book)

    def _position_in(self, book: BookReplica) -> Position:
        return None if book.last is None else self._position_of(book.last)

    def _is_equal(self, book: BookReplica) -> bool:
        return self.delivered.order_book.equals(*book.indicative())

    def _change_to(self, source: int, book: BookReplica, now_ns: int, reason: Changeover | None) -> list[Event]:
        """Deliver a source's book from here on."""
        if source != self.active and reason is not None:
            self._report(reason)
            self._changed_ns = now_ns
        self.active = source
        self._held = self._gap_ns = self._news = None
        snapshot = self._snapshot_of(book)
        self._show(book)
        return [snapshot]

    def _show(self, book: BookReplica) -> None:
        if book.usable:
            self._position = self._position_in(book)
        self.delivered.follow(book)
        if book.last is not None:
            line = book.last.line
            self.delivered.line = line if isinstance(line, str) else None

    def _snapshot_of(self, book: BookReplica) -> BookSnapshot:
        last = book.last
        assert last is not None  # noqa: S101 - usable ones have one
        bids, asks = book.indicative()
        return BookSnapshot(
            last.venue,
            last.symbol,
            last.venue_symbol,
            last.exchange_ns,
            bids,
            asks,
            book.depth,
            last.venue_seq,
            "takeover",
            epoch=last.epoch,
            seq=last.seq,
            recv_ns=last.recv_ns,
            recv_mono_ns=last.recv_mono_ns,
            publish_ns=last.publish_ns,
            line=last.line,
        )

    def _gap_of(self, book: BookReplica) -> Gap:
        """Return a gap for a loss that the source did not report."""
        last = book.last
        try:
            reason = Reason(book.reason or Reason.SEQ_GAP)
        except ValueError:  # a fault that only consumers know
            reason = Reason.SEQ_GAP
        gap = Gap(
            venue=book.venue,
            symbol=book.symbol,
            venue_symbol=None if last is None else last.venue_symbol,
            exchange_ns=None,
            scope="book",
            reason=reason,
            expected=None,
            got=book.reason,
            action="resync",
        )
        if last is not None:
            gap.line = last.line
        return gap
