"""Lifecycle of a connection, public or private: connect, converse until it ends, back off; until stopped."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ipc.board import Row, SessionWord
from ipc.health import Phase, Reason, code_of
from workers.backoff import Backoff
from workers.net.budget import MinuteBudget
from workers.net.dial import ConnectError
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DIRECT, DialOptions
from workers.net.transport import Transport, WebSocketTransport

_NS: Final = 1_000_000_000
#: Status by which a server refuses parameters that it does not know.
_BAD_REQUEST: Final = 400
_ZEROED: Final = (SessionWord.LAST_WS_RX, SessionWord.OPENED, SessionWord.FIRST_FRESH, SessionWord.LAST_FRESH)

#: Opens a connection: (url, headers, interrupter, deadline_ns) to a transport.
TransportFactory = Callable[[str, Sequence[str], SocketInterrupter, int], Transport]


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Reason for which a connection ends, as a code and as text, and how long the venue asks to wait, s."""

    reason: Reason
    text: str
    wait_s: float = 0.0

    @property
    def is_refused(self) -> bool:
        """True when the venue refuses the credentials, or there are none."""
        return self.reason is Reason.AUTH_FAILED


class ConnectionLifecycle(ABC):
    """Thread that keeps one connection open; :meth:`run` is its target.

    Subclasses open the connection, handle what it receives, and decide how long to wait after its end. ``row`` holds
    the session's words on the board; ``ends`` counts by reason how often it ended, failed attempts included.
    ``connect_ns`` limits DNS, TCP, proxy, TLS and upgrade together, ``tick_s`` a read, ``max_message`` is in bytes;
    ``open_transport`` opens the socket, None for a WebSocket that is dialled with ``dial_options``. ``connects`` is the
    budget of new connections; None where none is counted.
    """

    #: Errors that end a connection; any other one ends the thread.
    failures: ClassVar[tuple[type[Exception], ...]]

    def __init__(
        self,
        row: Row,
        ends: Row,
        interrupter: SocketInterrupter,
        stop: threading.Event,
        *,
        connect_ns: int,
        backoff: Backoff,
        tick_s: float,
        max_message: int,
        open_transport: TransportFactory | None = None,
        dial_options: DialOptions = DIRECT,
        connects: MinuteBudget | None = None,
    ) -> None:
        self.row = row
        self._ends = ends
        self.interrupter = interrupter
        self.stop = stop
        self._connect_ns = connect_ns
        self._backoff = backoff
        self._tick_s = tick_s
        self._max_message = max_message
        self._dial_options = dial_options
        self._connects = connects
        self._open_transport = open_transport or self._dial

    def run(self) -> None:
        """Connect, converse and back off until stopped."""
        while not self.stop.is_set():
            self._run_cycle()

    @abstractmethod
    def process_batch(self, transport: Transport) -> CloseReason | None:
        """Handle one read of the socket, and time; return why the connection must be closed, if it must."""

    @abstractmethod
    def _connect(self) -> Transport:
        """Open the connection by :meth:`_open`."""

    @abstractmethod
    def _start(self, transport: Transport) -> CloseReason | None:
        """Send what opens the conversation."""

    @abstractmethod
    def _reason_of(self, error: Exception) -> CloseReason:
        """Return the reason that one of :attr:`failures` stands for."""

    @abstractmethod
    def _delay_s(self, close: CloseReason) -> float:
        """Return how long to wait before the next attempt, and count the failure."""

    @abstractmethod
    def _on_connecting(self, now_ns: int) -> None:
        """Forget the last connection, and report that an attempt begins."""

    @abstractmethod
    def _on_opened(self, now_ns: int) -> None:
        """Handle that the connection is open."""

    @abstractmethod
    def _on_closed(self, close: CloseReason, *, was_open: bool) -> None:
        """Handle the end of a connection, or of an attempt to open it."""

    @abstractmethod
    def _on_backoff(self, close: CloseReason, delay_s: float | None) -> None:
        """Report the wait before the next attempt; None after a crash, when the thread's supervisor decides."""

    @property
    def _attempt(self) -> int:
        """Return the number of the next attempt since the last healthy connection."""
        return self._backoff.failures + 1

    def _sleep(self, delay_s: float) -> None:
        self.stop.wait(delay_s)

    def _run_cycle(self) -> None:
        close = self._run_once()
        if not self.stop.is_set():
            self._back_off(close)

    def _run_once(self) -> CloseReason:
        transport = None
        try:
            self._begin()
            transport = self._connect()
            self._mark_opened()
            close = self._converse(transport)
        except self.failures as error:
            close = self._reason_of(error)
        except Exception:
            # A fault of ours: report it to consumers before the thread ends and is restarted.
            close = CloseReason(Reason.CRASH, "the session crashed")
            self._finish(transport, close)
            self.row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
            self._on_backoff(close, None)
            raise
        self._finish(transport, close)
        return close

    def _begin(self) -> None:
        """Stamp the start of an attempt, without any freshness of the last connection."""
        now, row = time.monotonic_ns(), self.row
        for word in _ZEROED:
            row[word] = 0
        row[SessionWord.ATTEMPT] = self._attempt
        row[SessionWord.CONNECT_START] = now
        # The phase first: BACKOFF without a planned time counts as stuck.
        row[SessionWord.PHASE] = code_of(Phase.CONNECTING)
        row[SessionWord.NEXT_ACTION] = 0
        self._on_connecting(now)

    def _open(self, url: str, headers: Sequence[str], fallback_url: str | None) -> Transport:
        """Open the connection, at the second URL where the server knows no such first one."""
        if self._connects is not None and (wait_s := self._connects.acquire(1)):
            raise ConnectError(
                Reason.RATE_LIMITED, f"over the budget of connects for {wait_s:.1f} s", retry_after_s=wait_s
            )
        self.interrupter.begin()
        if self.stop.is_set():
            self.interrupter.interrupt(Reason.REQUESTED)  # begin() may have discarded the interrupt of the stop
        deadline_ns = time.monotonic_ns() + self._connect_ns
        self.row[SessionWord.DEADLINE] = deadline_ns
        try:
            return self._open_transport(url, headers, self.interrupter, deadline_ns)
        except ConnectError as error:
            if fallback_url is None or error.status != _BAD_REQUEST:
                raise
        return self._open_transport(fallback_url, headers, self.interrupter, deadline_ns)

    def _dial(self, url: str, headers: Sequence[str], interrupter: SocketInterrupter, deadline_ns: int) -> Transport:
        return WebSocketTransport(
            url,
            headers=headers,
            interrupter=interrupter,
            deadline_ns=deadline_ns,
            tick_s=self._tick_s,
            max_message=self._max_message,
            options=self._dial_options,
        )

    def _mark_opened(self) -> None:
        now, row = time.monotonic_ns(), self.row
        row[SessionWord.OPENED] = row[SessionWord.LAST_WS_RX] = now
        row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        self._on_opened(now)

    def _converse(self, transport: Transport) -> CloseReason:
        """Process batch after batch until the connection must be closed or the worker stops."""
        close = self._start(transport)
        while close is None and not self.stop.is_set():
            close = self.process_batch(transport)
        return close or CloseReason(Reason.REQUESTED, "the worker stops")

    def _finish(self, transport: Transport | None, close: CloseReason) -> None:
        row = self.row
        row[SessionWord.DEADLINE] = 0
        if transport is not None:
            transport.close()
        was_open = row[SessionWord.OPENED] != 0
        row.add(SessionWord.RECONNECTS, int(was_open))
        row[SessionWord.LAST_REASON] = code_of(close.reason)
        self._ends.add(code_of(close.reason))
        self._on_closed(close, was_open=was_open)

    def _back_off(self, close: CloseReason) -> None:
        delay_s = self._delay_s(close)
        self.row[SessionWord.NEXT_ACTION] = time.monotonic_ns() + int(delay_s * _NS)
        self.row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
        self._on_backoff(close, delay_s)
        if not self.stop.is_set():
            self._sleep(delay_s)
