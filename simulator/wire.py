"""The WebSocket side of a connection: bytes of one TCP socket to messages for a session, and back.

The rules of RFC 6455 are kept by ``websockets``' protocol object, which does no I/O. What is said on the connection is
the session's business, and what goes wrong on purpose is switched on here by faults.
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

__all__ = ["Accept", "Frame", "Socket", "Upgrade", "UpgradeRefusal", "Wire", "WireHandler"]

#: A client that leaves this much unread is disconnected.
_MOST_UNREAD = 4 * 2**20
_CLOSE_TIMEOUT_S = 5.0
_TRICKLE_TICK_S = 0.05
_PONG_BYTE = b"\x8a"


@dataclass(frozen=True, slots=True)
class Frame:
    """A message to a client; ``payload`` of a text frame is UTF-8, unless a fault wants otherwise."""

    payload: bytes
    is_binary: bool = False


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a client asks for when it connects; header names are in lower case."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpgradeRefusal:
    """An upgrade that is answered with an HTTP status instead."""

    status: int
    text: str = ""


class Wire(Protocol):
    """What a session, or a fault, can do to a connection.

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
        """Neither read nor write any more, but keep the TCP connection: a half-open socket."""

    def trickle(self, bytes_per_s: float | None) -> None:
        """Let bytes trickle at this speed; None lets what was held back go, and flow freely again."""


class WireHandler(Protocol):
    """What a connection tells its session."""

    def on_open(self) -> None:
        """The upgrade was answered; the session may speak."""

    def on_text(self, text: bytes) -> None:
        """A text message arrived, complete."""

    def on_ping(self) -> None:
        """A ping frame arrived; it is being answered."""

    def on_pong(self) -> None:
        """A pong frame arrived."""

    def on_gone(self) -> None:
        """The connection is over; nothing more can be sent."""


#: Decides about an upgrade: a session for the connection, or a refusal.
Accept = Callable[[Upgrade, "Socket"], WireHandler | UpgradeRefusal]


class Socket(asyncio.Protocol):
    """One WebSocket connection of the server's side.

    Attributes:
        mute_pongs: Whether ping frames stay unanswered.
    """

    def __init__(self, accept: Accept, schedule: Schedule) -> None:
        self._accept = accept
        self._schedule = schedule
        self._protocol = ServerProtocol()
        self._transport: asyncio.Transport | None = None
        self._talker: WireHandler | None = None
        self._partial: list[bytes] | None = None
        self._trickle: _Trickle | None = None
        self._ending: Job | None = None
        self._is_frozen = False
        self.mute_pongs = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._protocol.receive_data(data)
        self._write()
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, WireFrame):
                self._hear(event)

    def eof_received(self) -> bool:
        """The client will send no more."""
        self._protocol.receive_eof()
        self._write()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        del exc
        self._transport = None
        if self._trickle is not None:
            self._trickle.stop()
        if self._ending is not None:
            self._ending.cancel()
        if self._talker is not None:
            self._talker.on_gone()

    # What sessions call.

    def send(self, frame: Frame) -> None:
        """Send a message; a client that reads too slowly is cut off instead."""
        if self._protocol.state is not State.OPEN or self._transport is None or self._is_frozen:
            return
        if self.unread > _MOST_UNREAD:
            self.abort()
            return
        if frame.is_binary:
            self._protocol.send_binary(frame.payload)
        else:
            self._protocol.send_text(frame.payload)
        self._write()

    @property
    def unread(self) -> int:
        """Bytes that the client has not taken yet, beyond what the kernel holds."""
        held = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return held + (0 if self._trickle is None else self._trickle.held)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping frame."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(payload)
            self._write()

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; the TCP connection ends soon, whatever the client does."""
        if self._protocol.state is State.OPEN and not self._is_frozen:
            self._protocol.send_close(code, reason)
            self._write()
            self._ending = self._schedule.once(_CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Drop the TCP connection at once: the client sees no close frame."""
        if self._transport is not None:
            self._transport.abort()

    # What faults call.

    def freeze(self) -> None:
        """Neither read nor write any more, but keep the TCP connection: a half-open socket."""
        self._is_frozen = True
        if self._transport is not None:
            self._transport.pause_reading()

    def trickle(self, bytes_per_s: float | None) -> None:
        """Let bytes trickle at this speed; None lets what was held back go, and flow freely again."""
        if self._trickle is not None:
            self._trickle.stop()
            self._write_now(self._trickle.take_all())
            self._trickle = None
        if bytes_per_s is not None:
            self._trickle = _Trickle(self._schedule, bytes_per_s, self._write_now)

    def _answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        decided = self._accept(Upgrade(parts.path, parse_qs(parts.query), headers), self)
        if isinstance(decided, UpgradeRefusal):
            status = HTTPStatus(decided.status)
            self._protocol.send_response(self._protocol.reject(status, decided.text or f"{status.phrase}\n"))
        else:
            self._protocol.send_response(self._protocol.accept(request))
        self._write()
        if isinstance(decided, UpgradeRefusal) or self._protocol.state is not State.OPEN:
            return
        self._talker = decided
        decided.on_open()

    def _hear(self, frame: WireFrame) -> None:
        if self._talker is None:
            return
        if frame.opcode is Opcode.PING:
            self._talker.on_ping()
        elif frame.opcode is Opcode.PONG:
            self._talker.on_pong()
        elif frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._hear_part(self._talker, frame)

    def _hear_part(self, talker: WireHandler, frame: WireFrame) -> None:
        parts = [*(self._partial or []), bytes(frame.data)]
        self._partial = None if frame.fin else parts
        if frame.fin:
            talker.on_text(b"".join(parts))

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
    """Bytes that trickle out, a few every tick."""

    def __init__(self, schedule: Schedule, bytes_per_s: float, write: Callable[[bytes], None]) -> None:
        self._held = bytearray()
        self._portion = max(1, int(bytes_per_s * _TRICKLE_TICK_S))
        self._write = write
        self._job: Job = schedule.every(_TRICKLE_TICK_S, self._let_go)

    @property
    def held(self) -> int:
        """Bytes held back."""
        return len(self._held)

    def add(self, data: bytes) -> None:
        """Queue bytes."""
        self._held += data

    def take_all(self) -> bytes:
        """Everything that is held, which is forgotten."""
        data = bytes(self._held)
        self._held.clear()
        return data

    def stop(self) -> None:
        """Let nothing go any more."""
        self._job.cancel()

    def _let_go(self) -> None:
        portion = bytes(self._held[: self._portion])
        del self._held[: self._portion]
        if portion:
            self._write(portion)
