"""The hands of a session: the thread that owns a socket, reads it, and does what the session says.

The hot path, from socket bytes to ZeroMQ, is :meth:`ConnectionThread.turn`: read what the socket holds, decode and apply
each message (:meth:`workers.protocol.session.MarketSession.received`), send the events, stamp the board.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ipc.board import Board, CellWord, SessionWord
from ipc.events import BookSnapshot, Cause, Event, Gap
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.topics import Topic
from workers.backoff import Backoff
from workers.net.dial import ConnectError
from workers.net.frames import BINARY, PING, PONG
from workers.net.interrupter import SocketInterrupter
from workers.net.transport import ClosedError, Transport, WebSocketTransport
from workers.protocol.actions import (
    CloseConnection,
    FetchBook,
    LogEvent,
    Publication,
    Purpose,
    Send,
    SendPing,
    StateChanged,
)
from workers.protocol.session import MarketSession, cause_after
from workers.protocol.streams import MarketStream
from workers.recorder import FrameRecorder
from workers.settings import WorkerSettings
from workers.status import StatusPublisher

__all__ = ["ConnectionThread", "FetchedBook", "TransportFactory"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: How long a read waits: as long as a joiner of a silent feed, a fetched book or a timer may have to.
_TICK_S: Final = 0.1
#: A turn that is not back by then is overdue.
_TURN_DEADLINE_NS: Final = _NS
#: A planned end is followed by the next connection at once, spread over this long.
_PLANNED_SPREAD_S: Final = 0.25
#: A venue that has had enough messages is left in peace for so long, unless it names a time.
_PENALTY_S: Final = 15.0
_PLANNED: Final = frozenset({Reason.ROTATION, Reason.SERVER_SHUTDOWN})

#: Opens a connection: (url, headers, cutter, deadline_ns) to a transport.
TransportFactory = Callable[[str, Sequence[str], SocketInterrupter, int], Transport]


@dataclass(frozen=True, slots=True)
class FetchedBook:
    """What REST answered to a fetch of a route's book; ``reason`` when there is no book."""

    route: MarketStream
    purpose: Purpose
    book: BookSnapshot | None
    reason: Reason | None
    body: bytes = b""


class ConnectionThread:
    """One connection of a worker, over its whole life; :meth:`run` is a thread's target.

    Args:
        session: Its brain.
        settings: The worker's settings.
        number: Its session number on the board.
        board: The board.
        publisher: The worker's feed.
        fetch: Hands a fetch to the thread that asks REST; the answer comes to :meth:`deliver`.
        stop: Set when the worker ends.
        tape: Takes every frame, for the black box; None for sessions whose frames are secret.
        open_transport: Opens the socket.
    """

    def __init__(
        self,
        session: MarketSession,
        settings: WorkerSettings,
        number: int,
        board: Board,
        publisher: Publisher,
        fetch: Callable[[FetchBook, ConnectionThread], None],
        stop: threading.Event,
        tape: FrameRecorder | None = None,
        open_transport: TransportFactory | None = None,
    ) -> None:
        self.session = session
        self.name = session.connection.name
        self._carries_books = session.carries_books
        self.cutter = SocketInterrupter()
        self.row = board.session(settings.slot, number)
        self._settings = settings
        self._publisher = publisher
        self._words = board.words
        self._fetch = fetch
        self.stop = stop
        self._tape = tape
        self._number = number
        #: Ends a wait between two connections early.
        self._wake = threading.Event()
        self._may_hurry = True
        #: Whether the last connection was made at once, after a planned end.
        self._is_after_planned = False
        self._open_transport = open_transport or self._dial
        self._inbox: deque[FetchedBook] = deque()
        self._backoff = Backoff(settings.backoff)
        self._reports = StatusPublisher(settings.venue, board, publisher)
        self._cause: Cause = "subscribe"
        #: Since when there is no connection; 0 while there is one.
        self.away_since_ns = time.monotonic_ns()
        self._attach(board, number)

    def _attach(self, board: Board, number: int) -> None:
        """Give every route its topic and its cell."""
        settings = self._settings
        for route in self.session.routes:
            index = settings.bases.index(str(route.listing.base))
            cell = board.cell(settings.slot, index, route.stream)
            route.at = cell.at
            cell[CellWord.SESSION] = number + 1
            cell[CellWord.LIMIT_MS] = (route.limit_ns or 0) // _MS
            route.feed = self._publisher.topic(Topic(route.stream, settings.venue, route.symbol))
            if route.keeper is not None:
                route.feed.snapshot = partial(self._refresh, route)

    def _refresh(self, route: MarketStream) -> BookSnapshot | None:
        """The book for joiners; its stamps say when its last frame was read, so that its age is true."""
        book = self.session.refresh(route)
        if book is not None:
            book.recv_mono_ns = route.applied_ns or route.fetched_ns
            book.recv_ns = time.time_ns() - (time.monotonic_ns() - book.recv_mono_ns)
        return book

    def tell_books(self, tape: FrameRecorder) -> None:
        """Tell the tape the books as they stand; within a turn."""
        mono_ns = self.row[SessionWord.LAST_WS_RX]
        wall_ns = time.time_ns() - (time.monotonic_ns() - mono_ns)
        for route in self.session.book_routes:
            book = self.session.refresh(route) if self.is_open() else None
            if book is not None:
                tape.book(self._number, book, mono_ns, wall_ns)

    def report(self) -> None:
        """Tell which streams changed, and do nothing else that the session asks for: a recording says what was done."""
        changes = [action for action in self.session.todo.take() if isinstance(action, StateChanged)]
        if changes:
            self._reports.changed(changes, attempt=1, backoff_s=None)

    def deliver(self, fetched: FetchedBook) -> None:
        """Hand over what REST answered; any thread may."""
        self._inbox.append(fetched)

    def end(self, reason: Reason) -> None:
        """End for good: whatever it blocks in is cut."""
        self.stop.set()
        self._wake.set()
        self.cutter.cut(reason)

    def hurry(self) -> None:
        """Try again now instead of at the planned time: the venue has been heard of again.

        One that has had too many requests is left in peace all the same.
        """
        if self._may_hurry:
            self._wake.set()

    def is_open(self) -> bool:
        """Whether the socket is there and subscribed."""
        return self.row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)

    def show_rest_book(self, route: MarketStream, book: BookSnapshot) -> None:
        """Publish a book that REST gave, unless the socket is back; called by the thread that asked REST."""
        wall = time.time_ns()
        with self._publisher.turn:
            if self.is_open() or self.stop.is_set():
                return
            shown = self.session.rest_book(route, book)
            if not shown:
                return
            self.publish(shown, 0, wall)
            previous, route.state = route.state, StreamState.REST
        if previous is not StreamState.REST:
            self._reports.changed([StateChanged(route, previous)], attempt=self._backoff.failures, backoff_s=None)

    def run(self) -> None:
        """Connect, converse, wait, for ever."""
        while not self.stop.is_set():
            reason, wait_s = self._live_once()
            if self.stop.is_set():
                return
            self._wait(reason, wait_s)

    # --- one connection ---------------------------------------------------------------------------------------------

    def _live_once(self) -> tuple[Reason, float | None]:
        """One connection from dialling to its end; why it ended, and how long the venue asks to wait."""
        transport = None
        wait_s = None
        try:
            self._begin()
            url, headers = self.session.connection.url, self.session.connection.headers
            deadline_ns = self.row[SessionWord.DEADLINE]
            transport = self._open_transport(url, headers, self.cutter, deadline_ns)
            self._opened()
            reason, text = self._converse(transport)
        except (ConnectError, ClosedError) as error:
            reason, text = error.reason, error.what
            wait_s = error.retry_after_s if isinstance(error, ConnectError) else None
        except Exception:
            # A fault of ours: consumers are told before this thread dies of it and is started again.
            self._over(transport, Reason.CRASH, "the session crashed")
            self.row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
            self._tell_wait(None)
            raise
        self._over(transport, reason, text)
        return reason, wait_s

    def _over(self, transport: Transport | None, reason: Reason, text: str) -> None:
        self.row[SessionWord.DEADLINE] = 0
        if transport is not None:
            transport.close()
        self._ended(reason, text)

    def _begin(self) -> None:
        """Zero the stamps, stamp the start, then connect: freshness never survives a connection."""
        now = time.monotonic_ns()
        words, row = self._words, self.row
        for word in (SessionWord.LAST_WS_RX, SessionWord.OPENED, SessionWord.FIRST_FRESH, SessionWord.LAST_FRESH):
            row[word] = 0
        for route in self.session.routes:
            for word in (CellWord.LAST_DATA_RX, CellWord.LAST_PARSED, CellWord.LAST_PUBLISHED):
                words[route.at + word] = 0
        self.cutter.begin()
        if self.stop.is_set():
            self.cutter.cut(Reason.REQUESTED)  # the cut that came with it may be the one just forgotten
        row[SessionWord.ATTEMPT] = self._backoff.failures + 1
        row[SessionWord.CONNECT_START] = now
        row[SessionWord.DEADLINE] = now + self._settings.connect_timeout_ms * _MS
        # The phase first: one that backs off with nothing planned would be taken for one that forgot.
        row[SessionWord.PHASE] = code_of(Phase.CONNECTING)
        row[SessionWord.NEXT_ACTION] = 0
        self.session.connecting(now)
        self._obey(None)

    def _dial(self, url: str, headers: Sequence[str], cutter: SocketInterrupter, deadline_ns: int) -> Transport:
        return WebSocketTransport(
            url,
            headers=headers,
            cutter=cutter,
            deadline_ns=deadline_ns,
            tick_s=_TICK_S,
            max_message=self.session.limits.max_frame_bytes,
        )

    def _opened(self) -> None:
        now = time.monotonic_ns()
        self.away_since_ns = 0
        self.row[SessionWord.OPENED] = self.row[SessionWord.LAST_WS_RX] = now
        self.row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        self._inbox.clear()
        with self._publisher.turn:
            if self._tape is not None:
                self._tape.opened(self._number, self.session.connection.url)
            self.session.opened(now, self._cause)
        log.info("ws.connected", venue=self._settings.venue, session=self.name, attempt=self._backoff.failures + 1)

    def _converse(self, transport: Transport) -> tuple[Reason, str]:
        """Turn after turn, until the session or the worker has enough of it."""
        close = self._speak_first(transport)
        while close is None and not self.stop.is_set():
            close = self.turn(transport)
        return (close.reason, close.text) if close is not None else (Reason.REQUESTED, "the worker stops")

    def _speak_first(self, transport: Transport) -> CloseConnection | None:
        """Subscribe at once: many a venue says nothing before, and a turn begins with listening."""
        now, wall = time.monotonic_ns(), time.time_ns()
        with self._publisher.turn:
            self.publish(self.session.tick(now), 0, wall)
        return self._obey(transport)

    def turn(self, transport: Transport) -> CloseConnection | None:
        """The hot path: what the socket holds, through decoding and continuity, to the subscribers.

        Returns:
            The session's wish to end the connection, if it has one.

        Raises:
            ClosedError: The connection ended.
        """
        words, at, session, tape = self._words, self.row.at, self.session, self._tape
        words[at + SessionWord.DEADLINE] = time.monotonic_ns() + _TURN_DEADLINE_NS
        frames = transport.receive()
        now, wall = time.monotonic_ns(), time.time_ns()
        with self._publisher.turn:
            if frames:
                words[at + SessionWord.LAST_WS_RX] = now
                words[at + SessionWord.FRAMES] += len(frames)
                for opcode, payload in frames:
                    if opcode <= BINARY:
                        if tape is not None:
                            tape.frame(self._number, opcode, payload, now, wall)
                        self.publish(session.received(opcode == BINARY, payload, now), now, wall)
                    elif opcode == PING:
                        transport.pong(bytes(payload))
                    elif opcode == PONG:
                        session.ponged()
            while self._inbox:
                done = self._inbox.popleft()
                if tape is not None:
                    tape.answered(self._number, done.route.symbol, done.purpose, done.reason, done.body)
                self.publish(session.fetched(done.route, done.purpose, done.book, done.reason, now), 0, wall)
            due = session.tick(now)
            if due:
                self.publish(due, 0, wall)
        return self._obey(transport) if session.todo else None

    def publish(self, publications: list[Publication], now: int, wall: int) -> None:
        """Send events and stamp their cells; ``now`` is 0 for what no frame caused, which stamps nothing.

        Within a turn.
        """
        words, send, is_fresh = self._words, self._publisher.send, False
        for route, event in publications:
            at = route.at
            if now:
                words[at] = now  # LAST_DATA_RX
            if event is None:
                continue
            event.recv_ns = wall
            event.recv_mono_ns = now or time.monotonic_ns()
            sent = send(route.feed, event) if route.keeper is not None else self._send_plain(route, event)
            if type(event) is Gap:
                words[at + CellWord.GAPS] += 1
                if self._tape is not None:
                    self._tape.schedule_dump(event.reason)
            elif now:
                words[at + 1] = now  # LAST_PARSED
                if sent:
                    words[at + 2] = time.monotonic_ns()  # LAST_PUBLISHED
                is_fresh = is_fresh or route.is_published_valid or not self._carries_books
        if is_fresh:
            self._note_fresh(now)

    def _send_plain(self, route: MarketStream, event: Event) -> bool:
        """Single values are kept for joiners; trades are not."""
        stream = route.stream
        if stream is Stream.MARK:
            return self._publisher.send_latest(route.feed, "ws", event)
        if stream is Stream.FUNDING:
            return self._publisher.send_latest(route.feed, event.phase, event)  # type: ignore[attr-defined]
        return self._publisher.send(route.feed, event)

    def _note_fresh(self, now: int) -> None:
        """A run is healthy by its books; by anything at all where there are none."""
        words, at = self._words, self.row.at
        if not words[at + SessionWord.FIRST_FRESH]:
            words[at + SessionWord.FIRST_FRESH] = now
            words[at + SessionWord.FAILED_CYCLES] = 0
        words[at + SessionWord.LAST_FRESH] = now

    # --- what the session asks for ------------------------------------------------------------------------------------

    def _obey(self, transport: Transport | None) -> CloseConnection | None:
        """Do what waits in the session's ``todo``; its first wish to close is returned, and what follows it is void."""
        todo = self.session.todo.take()
        changes = [action for action in todo if isinstance(action, StateChanged)]
        if changes:
            self._reports.changed(changes, attempt=self._backoff.failures + 1, backoff_s=None)
        for action in todo:
            match action:
                case CloseConnection():
                    return action
                case LogEvent():
                    if action.event == "ws.malformed" and self._tape is not None:
                        self._tape.schedule_dump(Reason.PARSE_ERRORS)
                    self.row[SessionWord.INVALID_ROWS] = self.session.invalid_rows
                    log.warning(action.event, venue=self._settings.venue, session=self.name, **action.fields)
                case FetchBook():
                    self._fetch(action, self)
                case Send() if transport is not None:
                    self._send(transport, action.message)
                case SendPing() if transport is not None:
                    transport.ping()
                case _:
                    pass
        return None

    def _send(self, transport: Transport, message: bytes) -> None:
        transport.send(message)
        if self._tape is not None:
            with self._publisher.turn:
                self._tape.sent(self._number, message)

    # --- its end ------------------------------------------------------------------------------------------------------

    def _ended(self, reason: Reason, text: str) -> None:
        row = self.row
        self.away_since_ns = self.away_since_ns or time.monotonic_ns()
        was_open = row[SessionWord.OPENED] != 0
        row.add(SessionWord.RECONNECTS, was_open)
        row[SessionWord.LAST_REASON] = code_of(reason)
        is_limited = reason is Reason.RATE_LIMITED or self.session.is_limited
        if was_open and not is_limited:
            row[SessionWord.FAILED_CYCLES] = 0 if self._has_delivered(reason) else row[SessionWord.FAILED_CYCLES] + 1
        for route in self.session.routes:
            self._words[route.at + CellWord.RECONNECTS] += was_open
        self._cause = cause_after(reason)
        wall = time.time_ns()
        with self._publisher.turn:
            if self._tape is not None and was_open:
                self._tape.closed(self._number, reason)
            self.publish(self.session.closed(reason, time.monotonic_ns()), 0, wall)
        tell = log.info if reason in _PLANNED or reason is Reason.REQUESTED else log.warning
        tell(
            "ws.closed" if was_open else "ws.connect_failed",
            venue=self._settings.venue,
            session=self.name,
            reason=reason,
            text=text,
        )

    def _has_delivered(self, reason: Reason) -> bool:
        """Whether the run that ends was of use: a usable book; where there are none, a venue that is heard.

        For streams without a cadence nothing is wrong when nothing comes; one that has a cadence and is mute ends its
        session as stale.
        """
        row = self.row
        if self._carries_books or reason is Reason.STALE_WATCHDOG:
            return row[SessionWord.FIRST_FRESH] != 0
        return row[SessionWord.LAST_WS_RX] > row[SessionWord.OPENED]

    def _healthy_ns(self) -> int:
        """How long the run that ends was healthy: while its books were fresh.

        Trades may be rare and rates come once an hour: without books a connection is healthy while the venue is heard.
        """
        row = self.row
        if self._carries_books:
            return row[SessionWord.LAST_FRESH] - row[SessionWord.FIRST_FRESH]
        return row[SessionWord.LAST_WS_RX] - row[SessionWord.OPENED]

    def _wait(self, reason: Reason, asked_s: float | None) -> None:
        row = self.row
        delay_s = self._delay_s(reason, asked_s)
        row[SessionWord.NEXT_ACTION] = time.monotonic_ns() + int(delay_s * _NS)
        row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
        self._tell_wait(delay_s)
        log.info("ws.backoff", venue=self._settings.venue, session=self.name, delay_s=round(delay_s, 3))
        self._may_hurry = reason is not Reason.RATE_LIMITED
        self._wake.clear()
        if not self.stop.is_set():
            self._wake.wait(delay_s)

    def _delay_s(self, reason: Reason, asked_s: float | None) -> float:
        """How long to wait after an end; what the run earned is taken into account."""
        backoff, healthy_ns = self._backoff, self._healthy_ns()
        is_healthy = backoff.is_healthy(healthy_ns)
        if is_healthy and backoff.failures:
            log.info("ws.backoff_reset", venue=self._settings.venue, session=self.name, healthy_s=healthy_ns // _NS)
        is_planned = reason in _PLANNED and self.row[SessionWord.FIRST_FRESH] != 0
        is_repeated, self._is_after_planned = self._is_after_planned and not is_healthy, is_planned
        if is_planned and not is_repeated:
            if is_healthy:
                backoff.reset()
            return random.uniform(0.0, _PLANNED_SPREAD_S)
        least_s = _PENALTY_S if reason is Reason.RATE_LIMITED else 0.0
        return max(backoff.failed(healthy_ns) / _NS, asked_s or least_s)

    def _tell_wait(self, delay_s: float | None) -> None:
        changes = [action for action in self.session.todo.take() if isinstance(action, StateChanged)]
        self._reports.changed(changes, attempt=self._backoff.failures, backoff_s=delay_s)
