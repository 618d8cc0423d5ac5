"""REST poller: resolves the markets, then repeats the venue's polls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from ipc.board import Board, CellWord, Row, SessionWord, WorkerWord
from ipc.checks import checked
from ipc.errors import DecodeError
from ipc.events import Event, Funding, Mark
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.topics import Topic, symbol_of
from workers.backoff import POLL_INIT, Backoff
from workers.duty import LineDuty
from workers.markets import nameless
from workers.net.budget import MinuteBudget
from workers.net.rest import RestError
from workers.net.rest_thread import RestThread
from workers.protocol.funding_intervals import FundingIntervals
from workers.settings import WorkerSettings
from workers.status import stamp_data, write_state
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Poll, Venue

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_LIST_DEADLINE_S: Final = 20.0
_POLL_DEADLINE_S: Final = 10.0
_MIN_POLL_S: Final = 0.5
#: A poll is stale after three of its periods, and not before half a minute.
_STALE_PERIODS: Final = 3
_STALE_MIN_S: Final = 30.0
#: The list is read this often while the venue does not list some configured markets, and else hourly.
_UNKNOWN_AGAIN_S: Final = 600.0
_KNOWN_AGAIN_S: Final = 3600.0
#: A poll refused with one of these may request a market that is gone: one request can cover all markets.
_GONE: Final = frozenset({400, 404})
_IDLE_S: Final = 0.2
_MIN_PAUSE_S: Final = 0.01
#: Names that one line of the log shows.
_SHOWN_NAMES: Final = 20


@dataclass(slots=True)
class _Schedule:
    """Schedule of a poll."""

    poll: Poll
    period_s: float
    due_ns: int
    #: When each market was last in an answer; at first, when it was first polled.
    seen_ns: dict[str, int]
    backoff: Backoff = field(default_factory=lambda: Backoff(POLL_INIT))

    @property
    def has_cells(self) -> bool:
        """True when it writes the state of its markets; else their streams have another source beside it."""
        return self.poll.stream is Stream.FUNDING_POLL and self.poll.period_s is None

    @property
    def limit_ns(self) -> int:
        """Age at which its data is stale."""
        return int(max(_STALE_MIN_S, _STALE_PERIODS * self.period_s) * _NS)


class RestPoller(RestThread):
    """REST thread that resolves the markets, then polls; :meth:`run` is its target.

    ``found`` receives the venue's list each time it was read; ``intervals`` are the worker's disproved funding
    intervals. Without the venue's duties it polls nothing, and reads the list only while it knows of no market.
    """

    def __init__(
        self,
        venue: Venue,
        settings: WorkerSettings,
        number: int,
        board: Board,
        budget: MinuteBudget,
        publisher: Publisher,
        found: Callable[[list[Listing]], None],
        stop: threading.Event,
        intervals: FundingIntervals | None = None,
        duty: LineDuty | None = None,
    ) -> None:
        super().__init__("poll", venue, settings, number, board, budget)
        self._duty = duty or LineDuty()
        #: True while the polls are on, as their cells say.
        self._is_polling = self._duty.is_ours
        self._intervals = intervals or FundingIntervals()
        #: Symbols of polls that the venue refused as for a missing market, since the list was last read.
        self.refused: set[str] = set()
        #: Names of listed markets that cannot be carried; each is logged once.
        self._nameless: set[str] = set()
        #: Streams of every market, as ``status`` shows them.
        self._streams = (*venue.streams, Stream.FUNDING_POLL)
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
        """Poll for these markets; read the list again soon while ``missing`` configured ones are not in it."""
        now = time.monotonic_ns()
        again_s = _UNKNOWN_AGAIN_S if missing or self._intervals.are_doubtful else _KNOWN_AGAIN_S
        self._list_due_ns = now + int(again_s * _NS)
        if tuple(listings) == self._listings and self._schedules:
            return
        self._listings = tuple(listings)
        period_s = max(_MIN_POLL_S, self._settings.funding_poll_ms / 1000)
        schedules = [
            _Schedule(poll, poll.period_s or period_s, now, dict.fromkeys(poll.symbols, now))
            for poll in self._venue.polls(self._listings)
        ]
        self._prepare_cells(schedules)
        self._schedules = schedules
        if not self._is_initialised:
            self._is_initialised = True
            names = [f"{listing.symbol}={listing.market_id or listing.venue_symbol}" for listing in self._listings]
            log.info("funding.initialised", venue=self._settings.venue, markets=",".join(names))

    def _prepare_cells(self, schedules: Sequence[_Schedule]) -> None:
        """Write the limits of the polled markets, and that no stream of the others is on."""
        for schedule in schedules:
            for symbol in schedule.poll.symbols if schedule.has_cells else ():
                cell = self._cell(symbol)
                cell[CellWord.LIMIT_MS] = schedule.limit_ns // _MS
                if not self._is_polling:
                    _set_state(cell, StreamState.OFF, None)
                elif not cell[CellWord.LAST_PARSED]:
                    _set_state(cell, StreamState.CONNECTING, None)
        followed = {listing.base for listing in self._listings}
        for base in self._settings.bases:
            for stream in self._streams if base not in followed else ():
                if stream is not Stream.BOOK:  # its owner writes why there is none
                    _set_state(self._cell(symbol_of(base), stream), StreamState.OFF, None)

    def read_list(self) -> None:
        """Read the venue's list at the next opportunity."""
        self._list_due_ns = 0

    def run(self) -> None:
        """Resolve and poll until stopped."""
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED if self._listings else Phase.RESOLVING)
        while not self._stop.is_set():
            if self._duty.is_ours != self._is_polling:
                self._switch_polls()
            now = time.monotonic_ns()
            if now >= self._list_due_ns or self._intervals.consume_lookup():
                self._refresh_list(now)
            for schedule in self._schedules:
                if time.monotonic_ns() >= schedule.due_ns and not self._stop.is_set() and self._duty.is_ours:
                    self._poll(schedule)
            self._stop.wait(self._pause_s())

    def _switch_polls(self) -> None:
        """Begin to poll at once, or stop, because this line has the duties now, or no longer."""
        self._is_polling, now = not self._is_polling, time.monotonic_ns()
        log.info("polls.switched", venue=self._settings.venue, on=self._is_polling)
        for schedule in self._schedules:
            schedule.due_ns = now
            schedule.backoff.reset()
            schedule.seen_ns = dict.fromkeys(schedule.seen_ns, now)
            for symbol in schedule.poll.symbols if schedule.has_cells else ():
                _set_state(self._cell(symbol), StreamState.CONNECTING if self._is_polling else StreamState.OFF, None)

    def _refresh_list(self, now: int) -> None:
        """Read the list, or leave that to the line with the duties, which writes it into the cache of both."""
        if self._duty.is_ours or not self._listings:
            self._read_list()
        else:
            self._list_due_ns = now + int(_UNKNOWN_AGAIN_S * _NS)

    def _read_list(self) -> None:
        self._worker[WorkerWord.RESOLVING] = time.monotonic_ns()
        try:
            bodies = [self._call(request, _LIST_DEADLINE_S) for request in self._venue.listing_requests()]
            listings, invalid = split_rows(self._parsed(self._venue.parse_listings, bodies))
            if not any(listing.base for listing in listings):
                # An empty list would give every market up.
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
        """Log new markets whose names make no symbol."""
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
                for stream in self._streams:
                    _set_state(self._cell(symbol_of(base), stream), StreamState.BACKOFF, reason)
        log.warning(
            "markets.unresolved",
            venue=self._settings.venue,
            reason=reason,
            error=error.what,
            attempt=self._init.failures,
            retry_in_s=round(delay_s, 1),
        )

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
        found = {str(event.symbol) for event in events if isinstance(event, Funding)}
        self._mark(schedule, now, found, Reason.PARSE_ERRORS if invalid else Reason.UNKNOWN_MARKET)

    def _checked(self, items: Sequence[Event | InvalidRow]) -> tuple[list[Event], list[InvalidRow]]:
        """Return an answer's events and invalid rows (impossible values too); DecodeError if all is invalid."""
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
        self.row[SessionWord.LAST_REASON] = code_of(reason)
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
        self._mark(schedule, now, frozenset(), reason)

    def _mark(self, schedule: _Schedule, now: int, found: Collection[str], reason: Reason) -> None:
        """Mark the markets ``found`` in an answer as live, and note for the others the ``reason`` why they were not.

        They are stale after a while, and before that keep what they have, or wait for the next attempt without it. An
        answer need not contain every market that was requested.
        """
        if not schedule.has_cells:
            return
        for symbol in schedule.poll.symbols:
            cell = self._cell(symbol)
            if symbol in found:
                schedule.seen_ns[symbol] = now
                stamp_data(cell, now)
                cell.add(CellWord.EVENTS)
                _set_state(cell, StreamState.LIVE, None)
            elif now - schedule.seen_ns[symbol] > schedule.limit_ns:
                _set_state(cell, StreamState.STALE, reason)
            else:
                _set_state(cell, None if cell[CellWord.LAST_PARSED] else StreamState.BACKOFF, reason)

    def _cell(self, symbol: str, stream: Stream = Stream.FUNDING_POLL) -> Row:
        index = self._settings.bases.index(symbol.removesuffix("-PERP"))
        return self._board.cell(self._settings.slot, index, stream)

    def _pause_s(self) -> float:
        polled = self._schedules if self._is_polling else ()
        due = min([schedule.due_ns for schedule in polled] + [self._list_due_ns])
        return min(_IDLE_S, max(_MIN_PAUSE_S, (due - time.monotonic_ns()) / _NS))


def _set_state(cell: Row, state: StreamState | None, reason: Reason | None) -> None:
    """Write the state of a market's stream if it is another one, and the reason; None keeps what is there."""
    is_new = state is not None and cell[CellWord.STATE] != code_of(state)
    write_state(cell, state if is_new else None, reason, time.monotonic_ns())
