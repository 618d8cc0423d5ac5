"""Observer of the system in the gateway: a thread that records the last hour, and follows prices while somebody looks.

It is a consumer like any other: it reads the board, the feeds and the parent's lifecycle events. Feeds of prices and
books, which cost most, are open only while they are wanted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import zmq

from ipc.errors import ParaphinaError, UnknownStateError
from ipc.events import Lifecycle, Status
from ipc.health import Stream
from ipc.log import get_log
from ipc.printable import printable_json
from ipc.rundir import RunDir
from supervisor.followed import LifecycleFollower
from supervisor.overview.document import Overview, PriceRow, VerdictText
from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices
from supervisor.overview.words import LEVEL_SIGNS, duration
from supervisor.serving.books import BookKey, BookView, OpenBooks, without_levels
from supervisor.serving.drained_feed import DrainedFeed
from supervisor.serving.metrics import Ratios
from supervisor.serving.privacy import without_private
from supervisor.status.document import read_status
from workers.backoff import Backoff, BackoffPolicy

log = get_log(__name__)

#: Between two reads, while somebody looks and otherwise.
_READ_S: Final = 0.25
_IDLE_READ_S: Final = 0.5
_STATUS_S: Final = 0.5
#: An overview is built again after this time although no newer status was read: its age is shown.
_BUILD_S: Final = 1.0
#: A state that is older is not shown as the present one.
_OLD_S: Final = 5.0
#: Prices are followed this long after they were last asked for: longer than the usual time between two scrapes.
_PRICES_KEEP_S: Final = 180.0
#: Publishers send a new consumer their last values within a second.
_PRICES_READY_S: Final = 1.2
_PRICES_WAIT_S: Final = 2.5
#: Longest wait for the first state, and for the lifecycle events that the parent remembers.
_FIRST_S: Final = 3.0
_RESTORE_POLL_S: Final = 0.02
_END_S: Final = 1.0
_BACKOFF: Final = BackoffPolicy(healthy_s=10.0, jitter=0.0)
_BP: Final = 10_000
_NS: Final = 1_000_000_000


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
        self._quotes = DrainedFeed(context, run_dir, ("bbo", "mark", "funding"))
        self._books = OpenBooks(context, run_dir, self._wake.set)
        #: Protects everything below; notified after each read.
        self._changed = threading.Condition()
        self._history = History()
        self._is_restored = False
        self._prices = Prices()
        self._prices_asked_s: float | None = None
        self._has_prices = False
        #: Last status, and its time by both clocks.
        self._status: dict[str, Any] | None = None
        self._status_wall_s = 0.0
        self._status_s = 0.0
        #: Last error, until a read succeeds.
        self._error: str | None = None
        self._overview: Overview | None = None
        self._json = b""
        self._built_s = 0.0

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
        """Return the overview of the last status read, as JSON; with a book (``VENUE:SYMBOL``) if one is wanted.

        Raises:
            UnknownStateError: The system could not be read yet.
        """
        with self._changed:
            overview = self._current_overview()
            if book is None:
                return self._json
            view = self._book(book)
        return encoded(msgspec.structs.replace(overview, book=view))

    def ratios(self) -> tuple[Ratios, Ratios]:
        """Return funding rates for eight hours, and spreads of usable books as fractions of the middle price."""
        rows = self._price_rows().items()
        funding = {market: row.funding_8h for market, row in rows if row.funding_8h is not None}
        spreads = {market: row.spread_bp / _BP for market, row in rows if row.spread_bp is not None}
        return funding, spreads

    # --- answers, with the lock held --------------------------------------------------------------------------------

    def _current_overview(self) -> Overview:
        now = self._prices_asked_s = time.monotonic()
        if self._overview is None or self._status_s > self._built_s or now - self._built_s >= _BUILD_S:
            self._changed.wait_for(lambda: self._status is not None, _FIRST_S)
            if self._status is None:
                raise UnknownStateError(f"the state cannot be read yet: {self._error or 'starting'}", where="observer")
            overview = build(self._status, self._history, self._prices, self._status_wall_s)
            verdict = verdict_without_state(self._error, now - self._status_s)
            if verdict is not None:
                overview = msgspec.structs.replace(overview, verdict=verdict)
            self._overview, self._built_s, self._json = overview, now, encoded(overview)
        return self._overview

    def _book(self, name: str) -> BookView:
        venue, _, symbol = name.partition(":")
        market = BookKey(venue, symbol)
        if self._status is None or not is_configured(market, self._status):
            return without_levels(market, "no such market here")
        return self._books.ask(market)

    def _price_rows(self) -> dict[tuple[str, str], PriceRow]:
        with self._changed:
            self._prices_asked_s = time.monotonic()
            self._wake.set()
            self._changed.wait_for(lambda: self._has_prices or self._error is not None, _PRICES_WAIT_S)
            tables = [] if self._status is None else self._prices.rows(self._status, self._status_wall_s)
        return {(row.venue, table.symbol): row for table in tables for row in table.rows}

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
                with self._changed:
                    self._error = repr(error)
                    self._changed.notify_all()
                self._stop.wait(backoff.failed(healthy_ns) / _NS)

    def _observe(self) -> None:
        with LifecycleFollower(self._run_dir.control) as follower:
            try:
                self._restore(follower)
                while not self._stop.is_set():
                    with self._changed:
                        is_wanted = self._read(follower)
                        self._error = None
                        self._changed.notify_all()
                    self._wake.wait(_READ_S if is_wanted else _IDLE_READ_S)
                    self._wake.clear()
            finally:
                for feed in (self._states, self._quotes, self._books):
                    feed.close()

    def _restore(self, follower: LifecycleFollower) -> None:
        """Rebuild the last hour from the events that the parent remembers: the start of this process is the last."""
        if self._is_restored:
            return
        events: list[Lifecycle] = []
        deadline = time.monotonic() + _FIRST_S
        while not any(event.pid == os.getpid() for event in events) and time.monotonic() < deadline:
            events += follower.read()
            if self._stop.wait(_RESTORE_POLL_S):
                return
        with self._changed:
            self._history.restore(events)
            self._is_restored = True

    def _read(self, follower: LifecycleFollower) -> bool:
        """Read everything that is due; return whether somebody looks."""
        now = time.monotonic()
        if self._status is None or now - self._status_s >= _STATUS_S or self._error is not None:
            self._status = without_private(read_status(self._run_dir))
            self._status_s, self._status_wall_s = now, time.time()
            self._history.record(self._status, self._status_wall_s)
        venues = tuple(self._status["venues"])
        for event in (*follower.read(), *self._states.read(venues)):
            if isinstance(event, Lifecycle | Status):
                self._history.event(event)
        is_wanted = self._prices_asked_s is not None and now - self._prices_asked_s < _PRICES_KEEP_S
        self._read_prices(venues, is_wanted=is_wanted)
        self._books.read()
        return is_wanted

    def _read_prices(self, venues: tuple[str, ...], *, is_wanted: bool) -> None:
        if is_wanted:
            for event in self._quotes.read(venues):
                self._prices.update(event)
        elif self._quotes.open_s:
            self._quotes.close()
            self._prices = Prices()
        self._has_prices = self._quotes.open_s >= _PRICES_READY_S


def encoded(overview: Overview) -> bytes:
    """Return an overview as JSON of which a terminal shows every character."""
    return printable_json(msgspec.json.encode(overview).decode()).encode()


def verdict_without_state(error: str | None, age_s: float) -> VerdictText | None:
    """Return the verdict when the present state is not known, because of an error or for its age; None if it is."""
    if error is None and age_s < _OLD_S:
        return None
    why = "the gateway is too slow to read it" if error is None else f"the gateway cannot read it ({error})"
    detail = f"{why} and tries again; below is the state of {duration(age_s)} ago; feeds go on"
    return VerdictText("none", LEVEL_SIGNS["none"], "State unknown", detail)


def is_configured(market: BookKey, status: Mapping[str, Any]) -> bool:
    """Return whether a system has the book of a market."""
    venue = status["venues"].get(market.venue)
    return venue is not None and market.symbol in venue["streams"].get(Stream.BOOK, {}).get("markets", {})
