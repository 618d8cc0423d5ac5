"""REST lanes: threads that ask the venue's REST interface, so that no socket ever waits for it.

The poll lane resolves the markets and then repeats the venue's polls for ever; the fetch lane gets books for sessions.
Each is one thread with one client, announces its deadline on the board and is cut by the watchdog like a socket.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ipc.board import Board, CellWord, Row, SessionWord, WorkerWord
from ipc.checks import checked
from ipc.errors import DecodeError
from ipc.events import Event, Funding, Mark
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.topics import Topic
from workers.backoff import POLL_INIT, Backoff
from workers.markets import nameless
from workers.net.connection import ConnectionThread, FetchedBook
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestBudget, RestClient, RestError
from workers.protocol.actions import FetchBook
from workers.protocol.funding_intervals import FundingIntervals
from workers.settings import WorkerSettings
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Listing, Poll, RestRequest, Venue, parse_answer

__all__ = ["RestPoller", "SnapshotFetcher"]

log = get_log(__name__)

T = TypeVar("T")

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_LIST_DEADLINE_S: Final = 20.0
_POLL_DEADLINE_S: Final = 10.0
_FETCH_DEADLINE_S: Final = 5.0
_MIN_POLL_S: Final = 0.5
#: A poll is stale after three of its periods, and not before half a minute.
_STALE_PERIODS: Final = 3
_STALE_MIN_S: Final = 30.0
#: Markets that the venue does not list are looked for again this often; known ones are refreshed hourly.
_UNKNOWN_AGAIN_S: Final = 600.0
_KNOWN_AGAIN_S: Final = 3600.0
#: A poll that is refused so may ask for a market that is gone; Extended's one request for all markets is.
_GONE: Final = frozenset({400, 404})
#: Of the venue's limit, for all that is not needed to get a book: looking whether one is quiet or mute.
_LOOKING_SHARE: Final = 0.25
_IDLE_S: Final = 0.2
#: Names that one line of the log shows.
_SHOWN_NAMES: Final = 20
#: Without an answer for these the venue may be well: our budget is spent, or nobody resolves names for us.
_NOT_THE_VENUE: Final = frozenset({Reason.RATE_LIMITED, Reason.DNS_FAILED})
#: From this HTTP status on it is the server that failed (RFC 9110 section 15.6).
_SERVER_ERROR: Final = 500


class _RestThread:
    """What both lanes have: a client, a cutter, a row on the board."""

    def __init__(
        self, name: str, venue: Venue, settings: WorkerSettings, number: int, board: Board, budget: RestBudget
    ) -> None:
        self.name = name
        self.cutter = SocketInterrupter()
        self.row = board.session(settings.slot, number)
        self._venue = venue
        self._settings = settings
        self._client = RestClient(venue, settings.rest_url, budget, self.cutter, self._announce)
        #: Since when the venue's REST interface does not answer this lane; 0 while it does.
        self.unanswered_since_ns = 0
        #: When it last did.
        self.answered_ns = 0

    def _announce(self, deadline_ns: int) -> None:
        self.row[SessionWord.DEADLINE] = deadline_ns

    def _call(self, request: RestRequest, deadline_s: float) -> bytes:
        """The body of an answer, noting whether the venue answers at all.

        Raises:
            RestError: It did not answer, or with an error.
        """
        try:
            body = self._client.call(request, deadline_s)
        except RestError as error:
            if error.status is not None and error.status < _SERVER_ERROR:
                self._answered()
            elif error.status is not None or error.reason not in _NOT_THE_VENUE:
                self.unanswered_since_ns = self.unanswered_since_ns or time.monotonic_ns()
            raise
        self._answered()
        return body

    def _parsed(self, parse: Callable[..., T], *arguments: object) -> T:
        """What a parser makes of an answer.

        Raises:
            DecodeError: The answer is not what it should be; a parser's own fault is logged with its traceback.
        """
        try:
            return parse_answer(parse, *arguments)
        except DecodeError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ValueError | RecursionError):
                log.exception("rest.parser_failed", venue=self._settings.venue, lane=self.name, error=error.what)
            raise

    def _report_invalid(self, what: str, rows: Sequence[InvalidRow]) -> None:
        """Count and log the rows that were left out of an answer; of many the first says what is wrong."""
        if rows:
            self.row.add(SessionWord.INVALID_ROWS, len(rows))
            fields = {"venue": self._settings.venue, "answer": what, "rows": len(rows)}
            log.warning("rest.invalid_row", **fields, what=rows[0].what, error=rows[0].error)

    def _answered(self) -> None:
        self.unanswered_since_ns = 0
        self.answered_ns = time.monotonic_ns()


@dataclass(slots=True)
class _Schedule:
    """When a poll is due, and how it has been going."""

    poll: Poll
    period_s: float
    due_ns: int
    #: When each of its markets was last told of; at first, when it began to be asked for.
    told_ns: dict[str, int]
    backoff: Backoff = field(default_factory=lambda: Backoff(POLL_INIT))


class RestPoller(_RestThread):
    """Resolves the markets, then polls; :meth:`run` is a thread's target.

    Args:
        found: Called with the venue's list each time it was read.
        stop: Set when the worker ends.
        intervals: The worker's disproved funding intervals; None for some of its own.
    """

    def __init__(
        self,
        venue: Venue,
        settings: WorkerSettings,
        number: int,
        board: Board,
        budget: RestBudget,
        publisher: Publisher,
        found: Callable[[list[Listing]], None],
        stop: threading.Event,
        intervals: FundingIntervals | None = None,
    ) -> None:
        super().__init__("poll", venue, settings, number, board, budget)
        self._intervals = intervals or FundingIntervals()
        #: Symbols of requests that the venue refused since the list was last read, as one for a market that is gone.
        self.refused: set[str] = set()
        #: Names of the listed markets that cannot be carried; each is reported once.
        self._nameless: set[str] = set()
        self._board = board
        self._worker = board.worker(settings.slot)
        self._publisher = publisher
        self._found = found
        self._stop = stop
        self._init = Backoff(POLL_INIT)
        self._schedules: list[_Schedule] = []
        self._listings: tuple[Listing, ...] = ()
        self._list_due_ns = 0
        #: When the list was last read.
        self._listed_ns = 0
        self._is_initialised = False

    def poll_for(self, listings: Sequence[Listing], missing: int) -> None:
        """These are the markets from now on; ``missing`` of the configured ones are looked for again."""
        now = time.monotonic_ns()
        again_s = _UNKNOWN_AGAIN_S if missing or self._intervals.are_doubtful else _KNOWN_AGAIN_S
        self._list_due_ns = now + int(again_s * _NS)
        if tuple(listings) == self._listings and self._schedules:
            return
        self._listings = tuple(listings)
        period_s = max(_MIN_POLL_S, self._settings.funding_poll_ms / 1000)
        self._schedules = [
            _Schedule(poll, poll.period_s or period_s, now, dict.fromkeys(poll.symbols, now))
            for poll in self._venue.polls(self._listings)
        ]
        for poll in self._schedules:
            for symbol in poll.poll.symbols:
                limit_ms = int(max(_STALE_MIN_S, _STALE_PERIODS * poll.period_s) * 1000)
                if poll.poll.period_s is None:
                    self._cell(symbol)[CellWord.LIMIT_MS] = limit_ms
        if not self._is_initialised:
            self._is_initialised = True
            names = [f"{listing.symbol}={listing.market_id or listing.venue_symbol}" for listing in self._listings]
            log.info("funding.initialised", venue=self._settings.venue, markets=",".join(names))

    def read_list(self) -> None:
        """Read the venue's list as soon as may be."""
        self._list_due_ns = 0

    def run(self) -> None:
        """Resolve and poll, for ever."""
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED if self._listings else Phase.RESOLVING)
        while not self._stop.is_set():
            now = time.monotonic_ns()
            if now >= self._list_due_ns or self._intervals.take_lookup():
                self._read_list()
            for schedule in self._schedules:
                if time.monotonic_ns() >= schedule.due_ns and not self._stop.is_set():
                    self._poll(schedule)
            self._stop.wait(self._pause_s())

    # --- the market list --------------------------------------------------------------------------------------------

    def _read_list(self) -> None:
        self._worker[WorkerWord.RESOLVING] = time.monotonic_ns()
        try:
            bodies = [self._call(request, _LIST_DEADLINE_S) for request in self._venue.listing_requests()]
            listings, invalid = split_rows(self._parsed(self._venue.parse_listings, bodies))
            if not any(listing.base for listing in listings):
                # Every market would be given up for it.
                raise DecodeError("the venue's list of markets is empty")
        except (RestError, DecodeError) as error:
            self._list_failed(error)
            return
        self._init.reset()
        self._worker[WorkerWord.RESOLVE_FAILED] = 0
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        self.row[SessionWord.NEXT_ACTION] = 0
        self._listed_ns = time.monotonic_ns()
        self._list_due_ns = self._listed_ns + int(_KNOWN_AGAIN_S * _NS)
        self._report_invalid("markets", invalid)
        self._report_nameless(nameless(listings))
        self._found(listings)
        self.refused.clear()

    def _report_nameless(self, names: Sequence[str]) -> None:
        """Log once the markets that are listed under names of which no symbol can be made."""
        new = [name for name in names if name not in self._nameless]
        if new:
            self._nameless.update(new)
            shown = ", ".join(map(repr, new[:_SHOWN_NAMES]))
            log.warning("markets.nameless", venue=self._settings.venue, markets=len(new), names=shown)

    def _list_failed(self, error: RestError | DecodeError) -> None:
        asked_s = error.retry_after_s if isinstance(error, RestError) else None
        delay_s = max(self._init.failed(0) / _NS, asked_s or 0.0)
        self._list_due_ns = time.monotonic_ns() + int(delay_s * _NS)
        self._worker.add(WorkerWord.RESOLVE_FAILED)
        self.row[SessionWord.NEXT_ACTION] = self._list_due_ns
        reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
        self.row[SessionWord.LAST_REASON] = code_of(reason)
        if not self._listings:
            for base in self._settings.bases:
                cell = self._board.cell(self._settings.slot, self._settings.bases.index(base), Stream.BOOK)
                cell[CellWord.STATE], cell[CellWord.REASON] = code_of(StreamState.BACKOFF), code_of(reason)
        log.warning(
            "markets.unresolved",
            venue=self._settings.venue,
            reason=reason,
            error=error.what,
            attempt=self._init.failures,
            retry_in_s=round(delay_s, 1),
        )

    # --- polls ------------------------------------------------------------------------------------------------------

    def _poll(self, schedule: _Schedule) -> None:
        poll = schedule.poll
        try:
            body = self._call(poll.request(time.time_ns() // _MS), _POLL_DEADLINE_S)
            recv_ns = time.time_ns()
            events, invalid = self._checked(self._parsed(poll.parse, body))
        except (RestError, DecodeError) as error:
            self._poll_failed(schedule, error)
            return
        now = time.monotonic_ns()
        schedule.backoff.reset()
        schedule.due_ns = max(schedule.due_ns + int(schedule.period_s * _NS), now)
        self._report_invalid(poll.name, invalid)
        self._publish(events, recv_ns, now)
        told = {str(event.symbol) for event in events if isinstance(event, Funding)}
        self._judge(schedule, now, told, Reason.PARSE_ERRORS if invalid else Reason.UNKNOWN_MARKET)

    def _checked(self, items: Sequence[Event | InvalidRow]) -> tuple[list[Event], list[InvalidRow]]:
        """The events of an answer, and its invalid rows, events with a value that no event can have among them.

        Raises:
            DecodeError: All of the answer is invalid.
        """
        found, invalid = split_rows(items)
        events, wrong = split_rows(each_row(found, checked, "events"))
        invalid += wrong
        if invalid and not events:
            raise DecodeError(f"no row could be read: {invalid[0].what}: {invalid[0].error}")
        for event in events:
            if isinstance(event, Funding):
                self._intervals.check(event)
        return events, invalid

    def _publish(self, events: list[Event], recv_ns: int, now: int) -> None:
        venue = self._settings.venue
        feeds = [
            self._publisher.topic(Topic("mark" if isinstance(event, Mark) else "funding", venue, str(event.symbol)))
            for event in events
        ]
        with self._publisher.exclusive():
            for feed, event in zip(feeds, events, strict=True):
                event.recv_ns, event.recv_mono_ns = recv_ns, now
                event.flags = ("rest",)
                key = "rest"
                if isinstance(event, Funding):
                    event.polled_ns = recv_ns
                    key = event.phase
                self._publisher.send_latest(feed, key, event)

    def _poll_failed(self, schedule: _Schedule, error: RestError | DecodeError) -> None:
        now = time.monotonic_ns()
        asked_s = error.retry_after_s if isinstance(error, RestError) else None
        delay_s = max(schedule.backoff.failed(0) / _NS, asked_s or 0.0)
        schedule.due_ns = now + int(delay_s * _NS)
        if isinstance(error, RestError) and error.status in _GONE:
            self.refused.update(schedule.poll.symbols)
            self._list_due_ns = min(self._list_due_ns, self._listed_ns + int(_UNKNOWN_AGAIN_S * _NS))
        reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
        poll = schedule.poll
        log.warning(
            "poll.failed",
            venue=self._settings.venue,
            stream=poll.stream,
            poll=poll.name,
            reason=reason,
            error=error.what,
            retry_in_s=round(delay_s, 1),
        )
        self._judge(schedule, now, frozenset(), reason)

    def _judge(self, schedule: _Schedule, now: int, told: Collection[str], reason: Reason) -> None:
        """The markets that were ``told`` of are live; the others are stale after a while, for ``reason``.

        An answer need not tell of every market that it was asked for.
        """
        poll = schedule.poll
        if poll.stream is not Stream.FUNDING_POLL or poll.period_s is not None:
            return
        limit_ns = int(max(_STALE_MIN_S, _STALE_PERIODS * schedule.period_s) * _NS)
        for symbol in poll.symbols:
            if symbol in told:
                schedule.told_ns[symbol] = now
                self._stamp(symbol, now, StreamState.LIVE, None)
            else:
                is_stale = now - schedule.told_ns[symbol] > limit_ns
                self._stamp(symbol, 0, StreamState.STALE if is_stale else None, reason)

    def _stamp(self, symbol: str, now: int, state: StreamState | None, reason: Reason | None) -> None:
        cell = self._cell(symbol)
        if now:
            cell[CellWord.LAST_DATA_RX] = cell[CellWord.LAST_PARSED] = cell[CellWord.LAST_PUBLISHED] = now
        if state is not None:
            cell[CellWord.STATE] = code_of(state)
        if reason is not None:
            cell[CellWord.REASON] = code_of(reason)

    def _cell(self, symbol: str) -> Row:
        bases = self._settings.bases
        index = bases.index(symbol.removesuffix("-PERP"))
        return self._board.cell(self._settings.slot, index, Stream.FUNDING_POLL)

    def _pause_s(self) -> float:
        due = min([schedule.due_ns for schedule in self._schedules] + [self._list_due_ns])
        return min(_IDLE_S, max(0.01, (due - time.monotonic_ns()) / _NS))


class SnapshotFetcher(_RestThread):
    """Gets books for sessions; :meth:`run` is a thread's target."""

    def __init__(
        self,
        venue: Venue,
        settings: WorkerSettings,
        number: int,
        board: Board,
        budget: RestBudget,
        stop: threading.Event,
    ) -> None:
        super().__init__("fetch", venue, settings, number, board, budget)
        self._looking = RestBudget(venue.limits.rest_weight_per_min * _LOOKING_SHARE)
        self._stop = stop
        self._jobs: queue.SimpleQueue[tuple[FetchBook, ConnectionThread]] = queue.SimpleQueue()
        #: What waits in the queue: asked for again meanwhile, it waits once.
        self._waiting: set[FetchBook] = set()

    def ask(self, fetch: FetchBook, connection: ConnectionThread) -> None:
        """Queue a fetch; the answer goes to the connection. Any thread may."""
        if fetch in self._waiting:
            return
        self._waiting.add(fetch)
        if fetch.purpose != "rest":
            fetch.route.is_queued = True
        self._jobs.put((fetch, connection))

    def run(self) -> None:
        """Fetch, for ever."""
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        while not self._stop.is_set():
            try:
                fetch, connection = self._jobs.get(timeout=_IDLE_S)
            except queue.Empty:
                continue
            self._waiting.discard(fetch)
            if fetch.purpose != "rest":
                fetch.route.is_queued = False
            if not _is_wanted(fetch, connection):
                continue
            try:
                fetched = self._fetched(fetch)
            except Exception:
                # A fault of ours: the session hears of it before this thread dies of it and is started again.
                connection.deliver(FetchedBook(fetch.route, fetch.purpose, None, Reason.CRASH))
                raise
            if fetch.purpose != "rest":
                connection.deliver(fetched)
            elif fetched.book is not None:
                connection.show_rest_book(fetch.route, fetched.book)

    def _fetched(self, fetch: FetchBook) -> FetchedBook:
        listing = fetch.route.listing
        request = self._venue.book_request(listing)
        if fetch.purpose != "bridge" and self._looking.take(request.weight):
            return FetchedBook(fetch.route, fetch.purpose, None, Reason.RATE_LIMITED)
        try:
            body = self._call(request, _FETCH_DEADLINE_S)
            book = self._parsed(self._venue.parse_book, body, listing)
        except (RestError, DecodeError) as error:
            reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
            log.warning(
                "fetch.failed", venue=self._settings.venue, symbol=listing.symbol, reason=reason, error=error.what
            )
            return FetchedBook(fetch.route, fetch.purpose, None, reason)
        return FetchedBook(fetch.route, fetch.purpose, book, None, body)


def _is_wanted(fetch: FetchBook, connection: ConnectionThread) -> bool:
    """Whether an answer would be taken: not by a connection that is gone, and no second one.

    Where many books wait, connections end and ask again meanwhile; the first of their questions serves them. A book to
    show while the connection is away is not wanted once it is back.
    """
    if fetch.purpose == "rest":
        return not connection.is_open()
    return fetch.route.is_fetching and connection.is_open()
