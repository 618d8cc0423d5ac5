"""Thread of a public connection: owns the socket, reads it, and executes the actions of its session.

The hot path, from socket bytes to ZeroMQ, is :meth:`ConnectionThread.process_batch`: read what the socket holds, decode
and apply each message (:meth:`workers.protocol.session.MarketSession.received`), send the events, stamp the board.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from ipc.board import Board, CellWord, SessionWord
from ipc.events import BookSnapshot, Cause, Event, Gap
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.topics import Topic
from workers.backoff import Backoff
from workers.net.budget import MinuteBudget
from workers.net.counts import DeliveryCounts
from workers.net.dial import ConnectError
from workers.net.frames import BINARY, PING, PONG
from workers.net.interrupter import SocketInterrupter
from workers.net.lifecycle import CloseReason, ConnectionLifecycle, TransportFactory
from workers.net.transport import ClosedError, Transport
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

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Longest time that a read blocks, and that a late subscriber of a silent feed, a fetched book or a timer waits.
_TICK_S: Final = 0.1
#: A batch that takes longer than this is overdue.
_BATCH_DEADLINE_NS: Final = _NS
#: After a planned close the next connection follows at once, spread over this time.
_PLANNED_SPREAD_S: Final = 0.25
#: Back off at least this long when rate-limited without Retry-After.
_RATE_LIMIT_S: Final = 15.0
_PLANNED: Final = frozenset({Reason.ROTATION, Reason.SERVER_SHUTDOWN})
#: Words that every batch or event writes, as plain numbers.
_DEADLINE: Final = int(SessionWord.DEADLINE)
_LAST_WS_RX: Final = int(SessionWord.LAST_WS_RX)
_FRAMES: Final = int(SessionWord.FRAMES)
_LAST_DATA_RX: Final = int(CellWord.LAST_DATA_RX)
_LAST_PARSED: Final = int(CellWord.LAST_PARSED)
_LAST_PUBLISHED: Final = int(CellWord.LAST_PUBLISHED)
_LAST_GOOD: Final = int(CellWord.LAST_GOOD)


@dataclass(frozen=True, slots=True)
class FetchedBook:
    """REST answer to a fetch of a stream's book; ``reason`` when there is no book."""

    stream: MarketStream
    purpose: Purpose
    book: BookSnapshot | None
    reason: Reason | None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Standstill:
    """Book that has published nothing since ``published_ns`` (monotonic), while the venue's other line has."""

    stream: MarketStream
    published_ns: int


class ConnectionThread(ConnectionLifecycle):
    """Public connection of a worker, over its whole life; :meth:`run` is a thread's target.

    ``fetch`` hands a fetch to the REST thread, whose answer :meth:`deliver` receives. ``recorder`` records every frame
    for the black box. ``open_transport`` opens the socket; None for a WebSocket.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = (ConnectError, ClosedError)

    def __init__(
        self,
        session: MarketSession,
        settings: WorkerSettings,
        number: int,
        board: Board,
        publisher: Publisher,
        fetch: Callable[[FetchBook, ConnectionThread], None],
        stop: threading.Event,
        recorder: FrameRecorder | None = None,
        open_transport: TransportFactory | None = None,
        connects: MinuteBudget | None = None,
    ) -> None:
        super().__init__(
            board.session(settings.slot, number),
            board.ends(settings.slot, number),
            SocketInterrupter(),
            stop,
            connect_ns=settings.connect_timeout_ms * _MS,
            backoff=Backoff(settings.backoff),
            tick_s=_TICK_S,
            max_message=session.limits.max_frame_bytes,
            open_transport=open_transport,
            dial_options=settings.dial,
            connects=connects,
        )
        self.session = session
        self.name = session.connection.name
        #: When the last connection ended; 0 while there is one.
        self.away_since_ns = time.monotonic_ns()
        self._carries_books = session.carries_books
        self._settings = settings
        self._publisher = publisher
        self._words = board.words
        self._fetch = fetch
        self._recorder = recorder
        self._number = number
        #: Ends a wait between two connections early.
        self._wake = threading.Event()
        self._may_retry_now = True
        #: True when the last connection was made at once, after a planned close.
        self._is_after_planned = False
        self._counts = DeliveryCounts(board.words, is_live=settings.fixture_dir is None)
        #: REST answers and observations of the watchdog that the session has not handled.
        self._inbox: deque[FetchedBook | Standstill] = deque()
        self._status = StatusPublisher(settings.venue, board, publisher)
        #: Cause of the next connection's first snapshots.
        self._cause: Cause = "subscribe"
        self._attach(board)

    def _attach(self, board: Board) -> None:
        """Give every stream its topic and its board cell."""
        settings = self._settings
        for stream in self.session.streams:
            index = settings.bases.index(str(stream.listing.base))
            cell = board.cell(settings.slot, index, stream.kind)
            stream.cell_offset = cell.at
            stream.histograms_offset = board.stream(settings.slot, stream.kind).at
            cell[CellWord.LIMIT_MS] = (stream.limit_ns or 0) // _MS
            stream.feed = self._publisher.topic(Topic(stream.kind, settings.venue, stream.symbol))
            if stream.book_sync is not None:
                stream.feed.snapshot = partial(self._refresh, stream)

    def _refresh(self, stream: MarketStream) -> BookSnapshot | None:
        """Return the book for late subscribers, stamped with the time of its last frame, so that its age is right."""
        book = self.session.refresh(stream)
        if book is not None:
            book.recv_mono_ns = stream.applied_ns or stream.fetch.requested_ns
            book.recv_ns = time.time_ns() - (time.monotonic_ns() - book.recv_mono_ns)
        return book

    def record_books(self, recorder: FrameRecorder) -> None:
        """Record the current books; under the publisher's lock."""
        mono_ns = self.row[SessionWord.LAST_WS_RX]
        wall_ns = time.time_ns() - (time.monotonic_ns() - mono_ns)
        for stream in self.session.book_streams:
            book = self.session.refresh(stream) if self.is_open() else None
            if book is not None:
                recorder.book(self._number, book, mono_ns, wall_ns)

    def publish_changes(self) -> None:
        """Publish state changes and drop all other actions, for a recording contains their results."""
        changes = [action for action in self.session.actions.drain() if isinstance(action, StateChanged)]
        if changes:
            self._status.changed(changes, attempt=1, backoff_s=None)

    def deliver(self, message: FetchedBook | Standstill) -> None:
        """Hand over a REST answer, or that a book stands still; any thread may call it."""
        self._inbox.append(message)

    def end(self, reason: Reason) -> None:
        """End the thread; interrupt whatever blocks it."""
        self.stop.set()
        self._wake.set()
        self.interrupter.interrupt(reason)

    def retry_now(self) -> None:
        """Connect now instead of at the planned time, for the venue is reachable again; not when rate-limited."""
        if self._may_retry_now:
            self._wake.set()

    def is_open(self) -> bool:
        """Return True while the socket is open."""
        return self.row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)

    def publish_rest_book(self, stream: MarketStream, book: BookSnapshot) -> None:
        """Publish a REST book unless the socket is open again; the REST thread calls it."""
        wall = time.time_ns()
        with self._publisher.exclusive():
            if self.is_open() or self.stop.is_set():
                return
            publications = self.session.rest_book(stream, book)
            if not publications:
                return
            self.publish(publications, 0, wall)
            previous = stream.change_state(StreamState.REST, stream.reason)
        if previous is not None:
            self._status.changed([StateChanged(stream, previous)], attempt=self._backoff.failures, backoff_s=None)

    def _connect(self) -> Transport:
        connection = self.session.connection
        return self._open(connection.url, connection.headers, connection.fallback_url)

    def _on_connecting(self, now_ns: int) -> None:
        for stream in self.session.streams:
            for word in (CellWord.LAST_DATA_RX, CellWord.LAST_PARSED, CellWord.LAST_PUBLISHED):
                self._words[stream.cell_offset + word] = 0
        self.session.connecting(now_ns)
        self._execute(None)

    def _on_opened(self, now_ns: int) -> None:
        self.away_since_ns = 0
        self._inbox.clear()
        with self._publisher.exclusive():
            if self._recorder is not None:
                self._recorder.opened(self._number, self.session.connection.url)
            self.session.opened(now_ns, self._cause)
        log.info("ws.connected", venue=self._settings.venue, session=self.name, attempt=self._attempt)

    def _start(self, transport: Transport) -> CloseReason | None:
        """Subscribe at once: many venues send nothing before, and a batch begins with a read."""
        now, wall = time.monotonic_ns(), time.time_ns()
        with self._publisher.exclusive():
            self.publish(self.session.tick(now), 0, wall)
        return self._execute(transport)

    def process_batch(self, transport: Transport) -> CloseReason | None:
        """Process what the socket holds: decode, apply, publish. This is the hot path.

        Return the reason to close the connection, if there is one; raise ClosedError when it has ended.
        """
        words, at, session, recorder = self._words, self.row.at, self.session, self._recorder
        words[at + _DEADLINE] = time.monotonic_ns() + _BATCH_DEADLINE_NS
        frames = transport.receive()
        now, wall = time.monotonic_ns(), time.time_ns()
        pings: tuple[bytes, ...] = ()
        with self._publisher.exclusive():
            if frames:
                words[at + _LAST_WS_RX] = now
                words[at + _FRAMES] += len(frames)
                for opcode, payload in frames:
                    if opcode <= BINARY:
                        if recorder is not None:
                            recorder.frame(self._number, opcode, payload, now, wall)
                        self.publish(session.received(opcode == BINARY, payload, now), now, wall)
                    elif opcode == PING:
                        pings += (bytes(payload),)
                    elif opcode == PONG:
                        session.ponged()
            while self._inbox:
                self._handle(self._inbox.popleft(), now, wall)
            due = session.tick(now)
            if due:
                self.publish(due, 0, wall)
            if now >= self._counts.due_ns:
                self._counts.flush(now)
        for ping in pings:
            transport.pong(ping)  # a blocking write, therefore without the lock
        return self._execute(transport) if session.actions else None

    def _handle(self, message: FetchedBook | Standstill, now: int, wall: int) -> None:
        stream = message.stream
        if isinstance(message, FetchedBook):
            if self._recorder is not None:
                self._recorder.answered(self._number, stream.symbol, message.purpose, message.reason, message.body)
            self.publish(self.session.fetched(stream, message.purpose, message.book, message.reason, now), 0, wall)
        elif self._words[stream.cell_offset + _LAST_PUBLISHED] == message.published_ns:  # nothing came meanwhile
            self.publish(self.session.witnessed(stream, now), 0, wall)

    def publish(self, publications: list[Publication], now: int, wall: int) -> None:
        """Send events and stamp their cells; ``now`` is 0 for events that no frame caused, which stamp nothing.

        Requires the publisher's lock.
        """
        words, send, note, is_fresh = self._words, self._publisher.send, self._counts.note, False
        for stream, event in publications:
            at = stream.cell_offset
            if now:
                words[at + _LAST_DATA_RX] = now
            if event is None:
                continue
            event.recv_ns = wall
            event.recv_mono_ns = now or time.monotonic_ns()
            sent = send(stream.feed, event) if stream.book_sync is not None else self._send_plain(stream, event)
            if not sent or not now or type(event) is Gap:
                note((stream, None, wall, None))
                if type(event) is Gap:
                    words[at + CellWord.GAPS] += 1
                    if self._recorder is not None:
                        self._recorder.schedule_dump(event.reason)
                elif now:
                    words[at + _LAST_PARSED] = now
                continue
            is_fresh = is_fresh or stream.is_published_valid or not self._carries_books
            if stream.stamped_ns == now:  # another event of one read
                note(stream)
                continue
            stream.stamped_ns = now
            sent_ns = time.monotonic_ns()
            words[at + _LAST_PARSED] = now
            words[at + _LAST_PUBLISHED] = words[at + _LAST_GOOD] = sent_ns
            # Of the past: history, and a first snapshot, which is as old as its last change.
            is_old = event.flags or (type(event) is BookSnapshot and event.cause != "refresh")
            note((stream, None if is_old else sent_ns - now, wall, event.exchange_ns))
        if is_fresh:
            self._mark_fresh(now)
        if not now:
            self._counts.flush(time.monotonic_ns())

    def _send_plain(self, stream: MarketStream, event: Event) -> bool:
        """Send an event that is not of a book; single values are kept for late subscribers, trades are not."""
        kind = stream.kind
        if kind is Stream.MARK:
            return self._publisher.send_latest(stream.feed, "ws", event)
        if kind is Stream.FUNDING:
            return self._publisher.send_latest(stream.feed, event.phase, event)  # type: ignore[attr-defined]
        return self._publisher.send(stream.feed, event)

    def _mark_fresh(self, now: int) -> None:
        """Stamp fresh data: a valid book, or any data where there are no books."""
        words, at = self._words, self.row.at
        if not words[at + SessionWord.FIRST_FRESH]:
            words[at + SessionWord.FIRST_FRESH] = now
            words[at + SessionWord.FAILED_CYCLES] = 0
        words[at + SessionWord.LAST_FRESH] = now

    def _execute(self, transport: Transport | None) -> CloseReason | None:
        """Execute the session's actions up to the first that closes the connection; return its reason."""
        actions = self.session.actions.drain()
        changes = [action for action in actions if isinstance(action, StateChanged)]
        if changes:
            self._status.changed(changes, attempt=self._attempt, backoff_s=None)
        for action in actions:
            match action:
                case CloseConnection(reason, text):
                    return CloseReason(reason, text)
                case LogEvent():
                    self._log(action)
                case FetchBook():
                    self._fetch(action, self)
                case Send() if transport is not None:
                    self._send(transport, action.message)
                case SendPing() if transport is not None:
                    transport.ping()
                case _:
                    pass
        return None

    def _log(self, action: LogEvent) -> None:
        if action.event == "ws.malformed" and self._recorder is not None:
            self._recorder.schedule_dump(Reason.PARSE_ERRORS)
        self.row[SessionWord.INVALID_ROWS] = self.session.faults.invalid_rows
        log.warning(action.event, venue=self._settings.venue, session=self.name, **action.fields)

    def _send(self, transport: Transport, message: bytes) -> None:
        transport.send(message)
        if self._recorder is not None:
            with self._publisher.exclusive():
                self._recorder.sent(self._number, message)

    def _reason_of(self, error: Exception) -> CloseReason:
        assert isinstance(error, ConnectError | ClosedError)  # noqa: S101 - one of :attr:`failures`
        wait_s = error.retry_after_s if isinstance(error, ConnectError) else None
        return CloseReason(error.reason, error.what, wait_s or 0.0)

    def _on_closed(self, close: CloseReason, *, was_open: bool) -> None:
        row, reason = self.row, close.reason
        self.away_since_ns = self.away_since_ns or time.monotonic_ns()
        is_limited = reason is Reason.RATE_LIMITED or self.session.is_limited
        if was_open and not is_limited:
            row[SessionWord.FAILED_CYCLES] = 0 if self._has_delivered(reason) else row[SessionWord.FAILED_CYCLES] + 1
        for stream in self.session.streams:
            self._words[stream.cell_offset + CellWord.RECONNECTS] += was_open
        self._cause = cause_after(reason)
        wall = time.time_ns()
        with self._publisher.exclusive():
            if self._recorder is not None and was_open:
                self._recorder.closed(self._number, reason)
            self.publish(self.session.closed(reason, time.monotonic_ns()), 0, wall)
        write = log.info if reason in _PLANNED or reason is Reason.REQUESTED else log.warning
        write(
            "ws.closed" if was_open else "ws.connect_failed",
            venue=self._settings.venue,
            session=self.name,
            reason=reason,
            text=close.text,
        )

    def _has_delivered(self, reason: Reason) -> bool:
        """Return True when the connection was of use: it had a valid book or, without books, received anything.

        Streams without a cadence may be silent; a mute stream with a cadence ends its connection as stale.
        """
        row = self.row
        if self._carries_books or reason is Reason.STALE_WATCHDOG:
            return row[SessionWord.FIRST_FRESH] != 0
        return row[SessionWord.LAST_WS_RX] > row[SessionWord.OPENED]

    def _healthy_ns(self) -> int:
        """Return how long the connection was healthy: its books were fresh or, without books, it received anything.

        Trades may be rare, and funding rates come once an hour.
        """
        row = self.row
        if self._carries_books:
            return row[SessionWord.LAST_FRESH] - row[SessionWord.FIRST_FRESH]
        return row[SessionWord.LAST_WS_RX] - row[SessionWord.OPENED]

    def _delay_s(self, close: CloseReason) -> float:
        backoff, healthy_ns = self._backoff, self._healthy_ns()
        is_healthy = backoff.is_healthy(healthy_ns)
        if is_healthy and backoff.failures:
            log.info("ws.backoff_reset", venue=self._settings.venue, session=self.name, healthy_s=healthy_ns // _NS)
        is_planned = close.reason in _PLANNED and self.row[SessionWord.FIRST_FRESH] != 0
        is_repeated, self._is_after_planned = self._is_after_planned and not is_healthy, is_planned
        if is_planned and not is_repeated:
            if is_healthy:
                backoff.reset()
            return random.uniform(0.0, _PLANNED_SPREAD_S)
        least_s = _RATE_LIMIT_S if close.reason is Reason.RATE_LIMITED else 0.0
        return max(backoff.failed(healthy_ns) / _NS, close.wait_s or least_s)

    def _on_backoff(self, close: CloseReason, delay_s: float | None) -> None:
        changes = [action for action in self.session.actions.drain() if isinstance(action, StateChanged)]
        self._status.changed(changes, attempt=self._backoff.failures, backoff_s=delay_s)
        if delay_s is not None:
            log.info("ws.backoff", venue=self._settings.venue, session=self.name, delay_s=round(delay_s, 3))
        self._may_retry_now = close.reason is not Reason.RATE_LIMITED
        self._wake.clear()

    def _sleep(self, delay_s: float) -> None:
        self._wake.wait(delay_s)
