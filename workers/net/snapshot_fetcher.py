"""Snapshot fetcher: fetches books by REST for the connections of a worker, one after the other."""

from __future__ import annotations

import queue
import threading
from typing import Final

from ipc.board import Board, SessionWord
from ipc.errors import DecodeError
from ipc.health import Phase, Reason, code_of
from ipc.log import get_log
from workers.net.budget import MinuteBudget
from workers.net.connection import ConnectionThread, FetchedBook
from workers.net.rest import RestError
from workers.net.rest_thread import RestThread
from workers.protocol.actions import FetchBook
from workers.settings import WorkerSettings
from workers.venues.venue import Venue

log = get_log(__name__)

_FETCH_DEADLINE_S: Final = 5.0
_IDLE_S: Final = 0.2


class SnapshotFetcher(RestThread):
    """REST thread that fetches books for sessions; :meth:`run` is its target.

    ``optional`` is the part of the ``budget`` for fetches that no book depends on.
    """

    def __init__(
        self,
        venue: Venue,
        settings: WorkerSettings,
        number: int,
        board: Board,
        budget: MinuteBudget,
        optional: MinuteBudget,
        stop: threading.Event,
    ) -> None:
        super().__init__("fetch", venue, settings, number, board, budget)
        self._optional_budget = optional
        self._stop = stop
        self._jobs: queue.SimpleQueue[tuple[FetchBook, ConnectionThread]] = queue.SimpleQueue()
        #: Fetches in the queue; one that is requested again meanwhile is not queued twice.
        self._waiting: set[FetchBook] = set()

    def request(self, fetch: FetchBook, connection: ConnectionThread) -> None:
        """Queue a fetch, whose answer goes to the connection; any thread may call it."""
        if fetch.purpose != "rest":
            fetch.stream.fetch.queue()
        if fetch not in self._waiting:
            self._waiting.add(fetch)
            self._jobs.put((fetch, connection))

    def run(self) -> None:
        """Fetch until stopped."""
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        while not self._stop.is_set():
            try:
                fetch, connection = self._jobs.get(timeout=_IDLE_S)
            except queue.Empty:
                continue
            # In this order: a request that meanwhile relies on the queued one is started with it.
            self._waiting.discard(fetch)
            if fetch.purpose != "rest":
                fetch.stream.fetch.start()
            if _is_wanted(fetch, connection):
                self._handle(fetch, connection)

    def _handle(self, fetch: FetchBook, connection: ConnectionThread) -> None:
        try:
            fetched = self._fetched(fetch)
        except Exception:
            # A fault of ours: the session gets an answer before this thread ends and is restarted.
            connection.deliver(FetchedBook(fetch.stream, fetch.purpose, None, Reason.CRASH))
            raise
        if fetch.purpose != "rest":
            connection.deliver(fetched)
        elif fetched.book is not None:
            connection.publish_rest_book(fetch.stream, fetched.book)

    def _fetched(self, fetch: FetchBook) -> FetchedBook:
        listing = fetch.stream.listing
        request = self._venue.book_request(listing)
        if fetch.purpose != "bridge" and self._optional_budget.acquire(request.weight):
            return FetchedBook(fetch.stream, fetch.purpose, None, Reason.RATE_LIMITED)
        try:
            body = self._call(request, _FETCH_DEADLINE_S)
            book = self._parsed(self._venue.parse_book, body, listing)
        except (RestError, DecodeError) as error:
            reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
            log.warning(
                "fetch.failed", venue=self._settings.venue, symbol=listing.symbol, reason=reason, error=error.what
            )
            return FetchedBook(fetch.stream, fetch.purpose, None, reason)
        return FetchedBook(fetch.stream, fetch.purpose, book, None, body)


def _is_wanted(fetch: FetchBook, connection: ConnectionThread) -> bool:
    """Return True when the connection still needs the answer.

    A connection may end and request again while fetches wait; the first of them answers all. A book to show while the
    connection is away is not needed once it is open.
    """
    if fetch.purpose == "rest":
        return not connection.is_open()
    return fetch.stream.fetch.is_outstanding and connection.is_open()
