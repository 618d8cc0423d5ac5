"""Observer of the system in the gateway: a thread that records the last hour, and follows prices while somebody looks.

It is a consumer like any other: it reads the board, the feeds and the parent's lifecycle events. Feeds of prices and
books, which cost most, are open only while they are wanted. The state itself is read again when somebody asks for it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import zmq

from ipc.errors import ParaphinaError, UnknownStateError
from ipc.events import Lifecycle, Status
from ipc.health import Stream
from ipc.log import get_log
from ipc.printable import printable_json
from ipc.rundir import RunDir
from supervisor.followed import LifecycleFollower
from supervisor.overview.document import Overview, VerdictText
from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices
from supervisor.overview.words import LEVEL_SIGNS, duration
from supervisor.serving.books import BookKey, BookView, OpenBooks, without_levels
from supervisor.serving.drained_feed import DrainedFeed
from supervisor.serving.metrics import Ratios
from supervisor.serving.privacy import without_private
from supervisor.serving.quotes import Quotes
from supervisor.status.document import read_status
from workers.backoff import Backoff, BackoffPolicy

log = get_log(__name__)

#: Between two reads of the feeds, while somebody looks at a book and otherwise.
_BOOK_READ_S: Final = 0.25
_READ_S: Final = 0.5
#: Age from which a status is read again: for the record of the last hour, and for somebody who looks.
_RECORD_S: Final = 1.0
_STATUS_S: Final = 0.9
#: Prices are followed this long after they were last asked for: longer than the usual time between two scrapes.
_PRICES_KEEP_S: Final = 180.0
#: Publishers send a new consumer their last values within a second.
_PRICES_READY_S: Final = 1.2
#: Longest wait for the lifecycle events that the parent remembers.
_RESTORE_S: Final = 3.0
_RESTORE_POLL_S: Final = 0.02
_END_S: Final = 1.0
_BACKOFF: Final = BackoffPolicy(healthy_s=10.0, jitter=0.0)
_BP: Final = 10_000
_NS: Final = 1_000_000_000


class ObservedSystem(NamedTuple):
    """State of a system, as it is exported.

    Attributes:
        status: Status document, without what is private.
        wall_s: Time at which it was read, Unix seconds.
        funding: Funding rates for eight hours.
        spreads: Spreads of usable books as fractions of the middle price.
    """

    status: Mapping[str, Any]
    wall_s: float
    funding: Ratios
    spreads: Ratios


class Observer:
    """Thread that observes a system; public methods are for any thread.

    Args:
        run_dir: Run directory of the system.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._stop = threading.Event()
        #: Ends the pause between two reads.
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._context = context = zmq.Context[Any]()
        self._states = DrainedFeed(context, run_dir)
        self._quotes = Quotes(context, run_dir)
        self._books = OpenBooks(context, run_dir, self._wake.set)
        #: Protects everything below, and the feeds.
        self._lock = threading.Lock()
        self._history = History()
        self._is_restored = False
        self._prices = Prices()
        #: When prices were last asked for, and with their marks.
        self._prices_asked_s = self._marks_asked_s = -math.inf
        #: Last status, and its time by both clocks.
        self._status: dict[str, Any] | None = None
        self._status_wall_s = 0.0
        self._status_s = 0.0
        #: Last error, until a read succeeds.
        self._error: str | None = None
        self._overview: Overview | None = None
        self._json = b""
        #: Time of the status that it shows.
        self._shown_s = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; it ends with the process if it does not do so soon."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)
        if not self._thread.is_alive():
            self._context.destroy(linger=0)

    def state_json(self, book: str | None = None) -> bytes:
        """Return the overview of the present state as JSON; with a book (``VENUE:SYMBOL``) if one is wanted.

        Raises:
            UnknownStateError: The system could not be read yet.
        """
        with self._lock:
            overview = self._current_overview()
            if book is None:
                return self._json
            view = self._book(book)
        return encoded(msgspec.structs.replace(overview, book=view))

    def observe(self, *, with_prices: bool) -> ObservedSystem:
        """Return what is to be exported now, of prices only what was followed for a moment already.

        Raises:
            UnknownStateError: The system cannot be read.
        """
        with self._lock:
            status = self._refresh(_STATUS_S)
            if with_prices:
                self._prices_asked_s = time.monotonic()
                self._read_prices(status)
            has_prices = with_prices and self._quotes.open_s >= _PRICES_READY_S
            tables = self._prices.rows(status, self._status_wall_s) if has_prices else []
            wall_s = self._status_wall_s
        rows = {(row.venue, table.symbol): row for table in tables for row in table.rows}
        funding = {market: row.funding_8h for market, row in rows.items() if row.funding_8h is not None}
        spreads = {market: row.spread_bp / _BP for market, row in rows.items() if row.spread_bp is not None}
        return ObservedSystem(status, wall_s, funding, spreads)

    # --- with the lock held -----------------------------------------------------------------------------------------

    def _refresh(self, max_age_s: float) -> dict[str, Any]:
        """Return a status that is at most so old; record one that is read."""
        now = time.monotonic()
        if self._status is None or self._error is not None or now - self._status_s >= max_age_s:
            self._status = without_private(read_status(self._run_dir))
            self._status_s, self._status_wall_s, self._error = now, time.time(), None
            if self._is_restored:
                self._history.record(self._status, self._status_wall_s)
        return self._status

    def _current_overview(self) -> Overview:
        self._prices_asked_s = self._marks_asked_s = time.monotonic()
        try:
            status = self._refresh(_STATUS_S)
            if self._status_s != self._shown_s:
                self._read_prices(status)
        except Exception as error:  # the thread logs it
            self._error = repr(error)
        if self._status is None or not (self._is_restored or self._error):
            raise UnknownStateError(f"the state cannot be read yet: {self._error or 'starting'}", where="observer")
        if self._overview is None or self._status_s != self._shown_s or self._error is not None:
            overview = build(self._status, self._history, self._prices, self._status_wall_s)
            if self._error is not None:
                verdict = verdict_without_state(self._error, time.monotonic() - self._status_s)
                overview = msgspec.structs.replace(overview, verdict=verdict)
            self._overview, self._shown_s, self._json = overview, self._status_s, encoded(overview)
        return self._overview

    def _book(self, name: str) -> BookView:
        venue, _, symbol = name.partition(":")
        market = BookKey(venue, symbol)
        if self._status is None or not is_configured(market, self._status):
            return without_levels(market, "no such market here")
        return self._books.ask(market)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Observe until closed; after an error, which is logged once, again."""
        backoff = Backoff(_BACKOFF)
        while not self._stop.is_set():
            began_ns = time.monotonic_ns()
            try:
                self._observe()
            except Exception as error:
                healthy_ns = time.monotonic_ns() - began_ns
                if backoff.failures == 0 or backoff.is_healthy(healthy_ns):
                    if isinstance(error, ParaphinaError):  # the run directory is lost, or about to be restored
                        log.warning("observer.state_unknown", error=str(error))
                    else:
                        log.exception("observer.failed")
                with self._lock:
                    self._error = repr(error)
                self._stop.wait(backoff.failed(healthy_ns) / _NS)

    def _observe(self) -> None:
        with LifecycleFollower(self._run_dir.control) as follower:
            try:
                self._restore(follower)
                while not self._stop.is_set():
                    with self._lock:
                        self._read(follower)
                    self._wake.wait(_BOOK_READ_S if self._books.is_open else _READ_S)
                    self._wake.clear()
            finally:
                with self._lock:
                    for feed in (self._states, self._quotes, self._books):
                        feed.close()

    def _restore(self, follower: LifecycleFollower) -> None:
        """Rebuild the last hour from the events that the parent remembers: the start of this process is the last."""
        if self._is_restored:
            return
        events: list[Lifecycle] = []
        deadline = time.monotonic() + _RESTORE_S
        while not any(event.pid == os.getpid() for event in events) and time.monotonic() < deadline:
            events += follower.read()
            if self._stop.wait(_RESTORE_POLL_S):
                return
        with self._lock:
            self._history.restore(events)
            self._is_restored = True

    def _read(self, follower: LifecycleFollower) -> None:
        """Read everything that is due."""
        status = self._refresh(_RECORD_S)
        for event in (*follower.read(), *self._states.read(tuple(status["venues"]))):
            if isinstance(event, Lifecycle | Status):
                self._history.event(event)
        self._read_prices(status)
        self._books.read()

    def _read_prices(self, status: Mapping[str, Any]) -> None:
        since = time.monotonic() - _PRICES_KEEP_S
        if self._prices_asked_s > since:
            for event in self._quotes.read(tuple(status["venues"]), with_marks=self._marks_asked_s > since):
                self._prices.update(event)
        elif self._quotes.open_s:
            self._quotes.close()
            self._prices = Prices()


def encoded(overview: Overview) -> bytes:
    """Return an overview as JSON of which a terminal shows every character."""
    return printable_json(msgspec.json.encode(overview).decode()).encode()


def verdict_without_state(error: str, age_s: float) -> VerdictText:
    """Return the verdict when the present state cannot be read."""
    why = f"the gateway cannot read it ({error}) and tries again"
    detail = f"{why}; below is the state of {duration(age_s)} ago; feeds go on"
    return VerdictText("none", LEVEL_SIGNS["none"], "State unknown", detail)


def is_configured(market: BookKey, status: Mapping[str, Any]) -> bool:
    """Return whether a system has the book of a market."""
    venue = status["venues"].get(market.venue)
    return venue is not None and market.symbol in venue["streams"].get(Stream.BOOK, {}).get("markets", {})
