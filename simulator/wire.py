"""WebSocket layer of a connection: bytes of one TCP socket to messages for a session, and back.

``websockets``' sans-I/O protocol object enforces RFC 6455. The session handles the messages; faults switch on frozen,
slow or pong-less behaviour here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast
from urllib.parse import parse_qs, urlsplit

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from simulator.schedule import Job, Schedule

#: Unread bytes at which a client is disconnected.
_MAX_UNREAD = 4 * 2**20
_CLOSE_TIMEOUT_S = 5.0
_TRICKLE_TICK_S = 0.05
_PONG_BYTE = b"\x8a"


@dataclass(frozen=True, slots=True)
class Frame:
    """Message to a client; ``payload`` of a text frame is UTF-8, unless a fault corrupts it."""

    payload: bytes
    is_binary: bool = False


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Upgrade request of a client; header names are in lower case, ``peer`` is its IP address."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    peer: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeRefusal:
    """Refusal of an upgrade with an HTTP status."""

    status: int
    text: str = ""


class Wire(Protocol):
    """Connection as sessions and faults control it.

    Attributes:
        mute_pongs: Whether ping frames stay unanswered.
    """

    mute_pongs: bool

    def send(self, frame: Frame) -> None:
        """Send a message."""

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping frame."""

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and end the connection."""

    def abort(self) -> None:
        """End the connection without a close frame."""

    def freeze(self) -> None:
        """Stop reading and writing but keep the TCP connection: a half-open socket."""

    def trickle(self, bytes_per_s: float | None) -> None:
        """Limit the write rate; None writes all held bytes and removes the limit."""


class WireHandler(Protocol):
    """Callbacks of a connection, implemented by sessions."""

    def on_open(self) -> None:
        """Handle the completed upgrade; the session may send from now on."""

    def on_text(self, text: bytes) -> None:
        """Handle a complete text message."""

    def on_ping(self) -> None:
        """Handle a ping frame, which is answered already."""

    def on_pong(self) -> None:
        """Handle a pong frame."""

    def on_gone(self) -> None:
        """Handle the end of the connection; nothing more can be sent."""


#: Returns a session for an upgrade, or a refusal.
Accept = Callable[[Upgrade, "Socket"], WireHandler | UpgradeRefusal]


class Socket(asyncio.Protocol):
    """Server side of a WebSocket connection.

    Attributes:
        mute_pongs: Whether ping frames stay unanswered.
    """

    def __init__(self, accept: Accept, schedule: Schedule) -> None:
        self._accept = accept
        self._schedule = schedule
        self._protocol = ServerProtocol()
        self._transport: asyncio.Transport | None = None
        self._handler: WireHandler | None = None
        #: Fragments of an incomplete message.
        self._partial: list[bytes] | None = None
        self._trickle: _Trickle | None = None
        #: Drops the TCP connection if the closing handshake stays unanswered.
        self._close_timeout: Job | None = None
        self._is_frozen = False
        self.mute_pongs = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new TCP connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        self._protocol.receive_data(data)
        self._write()
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, WireFrame):
                self._receive(event)

    def eof_received(self) -> bool:
        """Handle the end of the client's stream."""
        self._protocol.receive_eof()
        self._write()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Handle the loss of the TCP connection."""
        self._transport = None
        if self._trickle is not None:
            self._trickle.stop()
        if self._close_timeout is not None:
            self._close_timeout.cancel()
        if self._handler is not None:
            self._handler.on_gone()

    # Called by sessions.

    def send(self, frame: Frame) -> None:
        """Send a message; disconnect a client that reads too slowly."""
        if self._protocol.state is not State.OPEN or self._transport is None or self._is_frozen:
            return
        if self.unread > _MAX_UNREAD:
            self.abort()
            return
        if frame.is_binary:
            self._protocol.send_binary(frame.payload)
        else:
            self._protocol.send_text(frame.payload)
        self._write()

    @property
    def unread(self) -> int:
        """Return bytes that the client has not read yet, without those in kernel buffers."""
        held = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return held + (0 if self._trickle is None else self._trickle.held)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping frame."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(payload)
            self._write()

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; drop the TCP connection if the client does not answer."""
        if self._protocol.state is State.OPEN and not self._is_frozen:
            self._protocol.send_close(code, reason)
            self._write()
            self._close_timeout = self._schedule.once(_CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Drop the TCP connection at once, without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    # Called by faults.

    def freeze(self) -> None:
        """Stop reading and writing but keep the TCP connection: a half-open socket."""
        self._is_frozen = True
        if self._transport is not None:
            self._transport.pause_reading()

    def trickle(self, bytes_per_s: float | None) -> None:
        """Limit the write rate; None writes all held bytes and removes the limit."""
        if self._trickle is not None:
            self._trickle.stop()
            self._write_now(self._trickle.drain())
            self._trickle = None
        if bytes_per_s is not None:
            self._trickle = _Trickle(self._schedule, bytes_per_s, self._write_now)

    def _answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        address = None if self._transport is None else self._transport.get_extra_info("peername")
        peer = str(address[0]) if address else ""
        decision = self._accept(Upgrade(parts.path, parse_qs(parts.query), headers, peer), self)
        if isinstance(decision, UpgradeRefusal):
            status = HTTPStatus(decision.status)
            self._protocol.send_response(self._protocol.reject(status, decision.text or f"{status.phrase}\n"))
        else:
            self._protocol.send_response(self._protocol.accept(request))
        self._write()
        if isinstance(decision, UpgradeRefusal) or self._protocol.state is not State.OPEN:
            return
        self._handler = decision
        decision.on_open()

    def _receive(self, frame: WireFrame) -> None:
        if self._handler is None:
            return
        if frame.opcode is Opcode.PING:
            self._handler.on_ping()
        elif frame.opcode is Opcode.PONG:
            self._handler.on_pong()
        elif frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._receive_data(self._handler, frame)

    def _receive_data(self, handler: WireHandler, frame: WireFrame) -> None:
        parts = [*(self._partial or []), bytes(frame.data)]
        self._partial = None if frame.fin else parts
        if frame.fin:
            handler.on_text(b"".join(parts))

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport is None or self._is_frozen:
                continue
            if not data:
                self._transport.close()
            elif not (self.mute_pongs and data.startswith(_PONG_BYTE)):
                self._write_now(data) if self._trickle is None else self._trickle.add(data)

    def _write_now(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class _Trickle:
    """Write buffer that is emptied at a limited rate."""

    def __init__(self, schedule: Schedule, bytes_per_s: float, write: Callable[[bytes], None]) -> None:
        self._held = bytearray()
        self._portion = max(1, int(bytes_per_s * _TRICKLE_TICK_S))
        self._write = write
        self._job: Job = schedule.every(_TRICKLE_TICK_S, self._write_portion)

    @property
    def held(self) -> int:
        """Return the number of held bytes."""
        return len(self._held)

    def add(self, data: bytes) -> None:
        """Append bytes."""
        self._held += data

    def drain(self) -> bytes:
        """Return all held bytes and clear the buffer."""
        data = bytes(self._held)
        self._held.clear()
        return data

    def stop(self) -> None:
        """Stop writing."""
        self._job.cancel()

    def _write_portion(self) -> None:
        portion = bytes(self._held[: self._portion])
        del self._held[: self._portion]
        if portion:
            self._write(portion)
