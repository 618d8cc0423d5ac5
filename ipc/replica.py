"""Consumer's copy of one book, which shows prices only while it is known to be right."""

from __future__ import annotations

from ipc.errors import BookUnusableError
from ipc.events import BookDelta, BookSnapshot, Gap, HeartbeatBook, Level
from ipc.lines import Line
from ipc.orderbook import BadLevelError, OrderBook

#: Fault of a book that has had no snapshot.
NO_SNAPSHOT = "no_snapshot"
#: Fault of the books of a worker that has exited.
WORKER_EXITED = "worker_exited"
#: Fault of the books of a worker that is stopped, and not to be started.
STOPPED = "stopped"
#: Fault of a book whose last event was invalid.
BAD_LEVEL = "bad_level"
#: Fault of the books of a worker to which the connection ended.
DISCONNECTED = "disconnected"
#: Fault of every book after the consumer's machine was suspended.
SUSPENDED = "suspended"

_MS = 1_000_000


class BookReplica:
    """Received book of one market.

    ``fault`` is None while the book matches its worker's, else the rule that failed: ``no_snapshot``,
    ``worker_exited``, ``disconnected``, ``suspended``, ``seq_gap``, ``bad_level``, ``crossed_book``,
    ``crossed_by_venue``, ``drift``, ``rest`` (some seconds old, for display only: see :meth:`indicative`), or the
    reason of the worker's gap.
    ``silence`` is a fault of the feed as a whole (``heartbeat_lost``, ``stopped``), which hides the book without
    invalidating it.
    ``drifts`` counts proven differences from the worker's book. ``line`` is the line whose state it shows, None where
    only one is received.
    """

    def __init__(self, venue: str, symbol: str) -> None:
        self.venue = venue
        self.symbol = symbol
        self.fault: str | None = NO_SNAPSHOT
        self.silence: str | None = None
        self.drifts = 0
        self.line: Line | None = None
        #: Last applied event, and the depth of the last snapshot; None before the first.
        self.last: BookSnapshot | BookDelta | None = None
        self.depth: int | None = None
        self._book = OrderBook()

    @property
    def venue_seq(self) -> int | None:
        """Venue's sequence number of the last applied event."""
        return None if self.last is None else self.last.venue_seq

    @property
    def recv_mono_ns(self) -> int:
        """Monotonic time at which the worker read the frame of the last applied event, ns; 0 before the first."""
        return 0 if self.last is None else self.last.recv_mono_ns

    @property
    def exchange_ns(self) -> int | None:
        """Venue's time of the last applied event, ns."""
        return None if self.last is None else self.last.exchange_ns

    @property
    def order_book(self) -> OrderBook:
        """Levels as last received, usable or not; for what compares whole books."""
        return self._book

    @property
    def usable(self) -> bool:
        """True when the book may be traded on."""
        return self.fault is None and self.silence is None

    @property
    def reason(self) -> str | None:
        """Reason why the book is unusable; None while it is usable."""
        return self.silence or self.fault

    @property
    def best_bid(self) -> Level | None:
        """Highest bid, None when there are no bids; raises BookUnusableError."""
        return self._checked().best_bid

    @property
    def best_ask(self) -> Level | None:
        """Lowest ask, None when there are no asks; raises BookUnusableError."""
        return self._checked().best_ask

    def bids(self, depth: int | None = None) -> list[Level]:
        """Return the best ``depth`` bids (all when None), best first; raise BookUnusableError if unusable."""
        return self._checked().bids(depth)

    def asks(self, depth: int | None = None) -> list[Level]:
        """Return the best ``depth`` asks (all when None), best first; raise BookUnusableError if unusable."""
        return self._checked().asks(depth)

    def indicative(self, depth: int | None = None) -> tuple[list[Level], list[Level]]:
        """Return bids and asks as last received, usable or not: for display, never for trading."""
        return self._book.bids(depth), self._book.asks(depth)

    def age_ms(self, now_mono_ns: int) -> float | None:
        """Return the time since the frame of the last applied event was read; None before the first."""
        return (now_mono_ns - self.recv_mono_ns) / _MS if self.recv_mono_ns else None

    def follow(self, other: BookReplica) -> None:
        """Be as another book is, and share its levels."""
        self._book = other._book
        self.fault = other.fault
        self.silence = other.silence
        self.drifts = other.drifts
        self.last = other.last
        self.depth = other.depth

    def freeze(self) -> None:
        """Keep the levels as they are now, apart from the book that shares them."""
        frozen = OrderBook()
        frozen.replace(self._book.bids(), self._book.asks())
        self._book = frozen

    def invalidate(self, fault: str) -> None:
        """Make the book unusable until its next snapshot."""
        self.fault = fault

    def apply_snapshot(self, event: BookSnapshot) -> bool:
        """Replace the book; return False when the snapshot proves that ours had drifted from the worker's."""
        drifted = False
        try:
            drifted = self.fault is None and "refresh" in event.flags and not self._book.equals(event.bids, event.asks)
            self.drifts += drifted
            self._book.replace(event.bids, event.asks)
        except ValueError:
            self.fault = BAD_LEVEL
            return not drifted
        self.last = event
        self.depth = event.depth
        flagged = next((flag for flag in ("rest", "crossed_by_venue") if flag in event.flags), None)
        self.fault = flagged or ("crossed_book" if self._book.is_crossed else None)
        return not drifted

    def apply_delta(self, event: BookDelta) -> None:
        """Apply a change; ignored while the book is unusable."""
        if self.fault is not None:
            return
        try:
            self._book.apply(event.bids, event.asks)
        except BadLevelError:
            self.fault = BAD_LEVEL
            return
        self.last = event
        if self._book.is_crossed:
            self.fault = "crossed_book"

    def apply_gap(self, event: Gap) -> None:
        """Apply the loss of the book by the worker."""
        self.fault = str(event.reason)

    def agrees_with(self, beat: HeartbeatBook) -> bool:
        """Return False when the worker's book at the same seq differs; ours is then invalid."""
        if self.fault is not None or (beat.usable and beat.crc32_top10 in {None, self._book.crc32_top10()}):
            return True
        self.fault = "drift"
        self.drifts += 1
        return False

    def _checked(self) -> OrderBook:
        reason = self.reason
        if reason is not None:
            raise BookUnusableError(self.venue, self.symbol, reason)
        return self._book
