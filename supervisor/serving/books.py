"""Books that viewers of the page look at: opened on demand, a few at a time, closed soon after the last look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import zmq

from ipc.events import Level
from ipc.replica import NO_SNAPSHOT, SUSPENDED, WORKER_EXITED, BookReplica
from ipc.rundir import RunDir
from supervisor.overview.words import reason_words
from supervisor.serving.drained_feed import DrainedFeed

#: Open books of all viewers together, and how long one stays open that nobody asks for.
_MOST: Final = 4
_KEEP_S: Final = 10.0
_LEVELS: Final = 10
_MS: Final = 1_000
_FULL: Final = (
    f"{_MOST} books are open already, the most at a time; one closes {_KEEP_S:.0f} s after its last viewer has left"
)
_OPENING: Final = "the book is being opened"
#: Faults that only consumers know, in words; those of the worker are reasons.
_FAULTS: Final = {
    NO_SNAPSHOT: "waits for a snapshot",
    WORKER_EXITED: "its process has ended",
    SUSPENDED: "the machine was suspended",
    "rest": "from REST, some seconds old",
}


class BookKey(NamedTuple):
    """Market whose book is wanted."""

    venue: str
    symbol: str


class BookView(msgspec.Struct, frozen=True):
    """Best levels of one book, best first; none while it must not be shown, and ``why`` in words."""

    venue: str
    symbol: str
    bids: list[Level]
    asks: list[Level]
    age_s: float | None
    why: str | None


class OpenBooks:
    """Books that are open; :meth:`ask` is for any thread, the rest for the one that owns the feeds.

    Args:
        context: ZeroMQ context.
        run_dir: Run directory of the system.
        wanted: Called when a book is to be opened.
        clock: Monotonic, s.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        run_dir: RunDir,
        wanted: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._run_dir = run_dir
        self._on_wanted = wanted
        self._clock = clock
        self._feeds: dict[BookKey, DrainedFeed] = {}
        self._lock = threading.Lock()
        #: When each open book was asked for last.
        self._asked: dict[BookKey, float] = {}
        self._views: dict[BookKey, BookView] = {}

    @property
    def is_open(self) -> bool:
        """True while a book is open."""
        return bool(self._feeds)

    def ask(self, market: BookKey) -> BookView:
        """Return a book as it was last read, and keep it open; say so while it is being opened, or too many are."""
        with self._lock:
            if market not in self._asked:
                if len(self._asked) >= _MOST:
                    return without_levels(market, _FULL)
                self._on_wanted()
            self._asked[market] = self._clock()
            return self._views.get(market) or without_levels(market, _OPENING)

    def read(self) -> None:
        """Open, read and close feeds as viewers want it."""
        wanted = self._wanted()
        for market in [market for market in self._feeds if market not in wanted]:
            self._feeds.pop(market).close()
        for market in wanted:
            view = self._read(market)
            with self._lock:
                if market in self._asked:
                    self._views[market] = view

    def close(self) -> None:
        """Close all feeds; those that are still wanted are opened by the next read."""
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()

    def _wanted(self) -> list[BookKey]:
        since = self._clock() - _KEEP_S
        with self._lock:
            for market in [market for market, at in self._asked.items() if at < since]:
                del self._asked[market]
                self._views.pop(market, None)
            return list(self._asked)

    def _read(self, market: BookKey) -> BookView:
        feed = self._feeds.get(market)
        if feed is None:
            feed = self._feeds[market] = DrainedFeed(self._context, self._run_dir, ["book"], [market.symbol])
        for _ in feed.read((market.venue,)):
            pass  # the feed applies them to its book
        book = feed.book(*market)
        return without_levels(market, _OPENING) if book is None else book_view(market, book)


def without_levels(market: BookKey, why: str) -> BookView:
    """Return a book of which no levels can be shown."""
    return BookView(market.venue, market.symbol, [], [], None, why)


def book_view(market: BookKey, book: BookReplica, now_ns: int | None = None) -> BookView:
    """Return the best levels of a book; only its age and the reason while it is not usable."""
    age_ms = book.age_ms(time.monotonic_ns() if now_ns is None else now_ns)
    age_s = None if age_ms is None else age_ms / _MS
    if book.usable:
        return BookView(*market, book.bids(_LEVELS), book.asks(_LEVELS), age_s, None)
    return BookView(*market, [], [], age_s, _words(book.reason or NO_SNAPSHOT))


def _words(fault: str) -> str:
    return _FAULTS.get(fault) or (reason_words(fault) or fault).replace("_", " ")
