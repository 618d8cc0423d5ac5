"""Blocking WebSocket connection: websocket-client does the handshake and sends, the bulk reader reads.

Every failure is a :class:`workers.net.dial.ConnectError` (not opened) or a :class:`ClosedError` (ended), each with its
reason. Only the thread that opened it may use it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import websocket

from ipc.errors import DecodeError, ParaphinaError
from ipc.health import Reason
from workers.net.dial import ConnectError, Resolver, dial, resolve
from workers.net.frames import CLOSE, Frame, FrameReader
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DIRECT, DialOptions
from workers.net.retry_after import retry_after_s

_USER_AGENT: Final = "User-Agent: paraphina-supervisor"
_REFUSALS: Final = {401: Reason.AUTH_FAILED, 418: Reason.RATE_LIMITED, 429: Reason.RATE_LIMITED}


class ClosedError(ParaphinaError):
    """End of a connection, with its reason."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason


class Transport(Protocol):
    """Connection as a session uses it."""

    def receive(self) -> list[Frame]:
        """Wait at most one tick; return the frames that came. Their views are valid until the next call."""

    def send(self, message: bytes) -> None:
        """Send a text message."""

    def ping(self) -> None:
        """Send a ping frame."""

    def pong(self, payload: bytes) -> None:
        """Send a pong frame."""

    def close(self) -> None:
        """Close the connection."""


class WebSocketTransport:
    """Open WebSocket connection; raise ConnectError if it cannot be opened until ``deadline_ns`` (monotonic).

    ``headers`` are ``Name: value``, ``tick_s`` limits how long :meth:`receive` waits, ``max_message`` is in bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Sequence[str] = (),
        interrupter: SocketInterrupter,
        deadline_ns: int,
        tick_s: float,
        max_message: int,
        resolver: Resolver = resolve,
        options: DialOptions = DIRECT,
    ) -> None:
        self._interrupter = interrupter
        self._reader = FrameReader(max_message)
        sock = dial(url, interrupter, deadline_ns, resolver, options)
        try:
            # With a socket of our own the library reads no proxy variables and takes no timeout; both are meant.
            self._websocket = websocket.create_connection(
                url, socket=sock, suppress_origin=True, redirect_limit=0, header=list(headers) or [_USER_AGENT]
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            interrupter.close()
            raise _upgrade_error(error, interrupter) from error
        self._socket: socket.socket = self._websocket.sock  # type: ignore[assignment]
        self._socket.settimeout(tick_s)
        self._close_error: ClosedError | None = None

    def receive(self) -> list[Frame]:
        """Wait at most one tick; return the frames that came.

        A close frame is left out and ends the connection: then, as after any other end, raise ClosedError.
        """
        if self._close_error is not None:
            raise self._close_error
        try:
            received = self._socket.recv_into(self._reader.space())
        except TimeoutError:
            return []
        except OSError as error:
            raise self._ended(f"the connection broke: {error}") from error
        if not received:
            within = " within a frame" if self._reader.is_within_frame else ""
            raise self._ended(f"the server closed the connection{within}")
        try:
            frames = self._reader.frames(received)
        except DecodeError as error:
            raise ClosedError(Reason.PARSE_ERRORS, str(error)) from error
        if frames and frames[-1][0] == CLOSE:
            self._close_error = self._ended(f"the server closed the connection: {_close_text(bytes(frames.pop()[1]))}")
        return frames

    def send(self, message: bytes) -> None:
        """Send a text message; raise ClosedError if it fails: half of it may be out, so the connection is unusable."""
        self._send(lambda: self._websocket.send(message, websocket.ABNF.OPCODE_TEXT))

    def ping(self) -> None:
        """Send a ping frame; raise ClosedError as :meth:`send`."""
        self._send(self._websocket.ping)

    def pong(self, payload: bytes) -> None:
        """Answer a ping frame; raise ClosedError as :meth:`send`."""
        self._send(lambda: self._websocket.pong(payload))

    def close(self) -> None:
        """Send a close frame and close; never blocks."""
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._socket.settimeout(0)
            self._websocket.send_close()
        self._interrupter.close()

    def _send(self, send: Callable[[], object]) -> None:
        try:
            send()
        except (websocket.WebSocketException, OSError) as error:
            raise self._ended(f"sending failed: {error}") from error

    def _ended(self, what: str) -> ClosedError:
        """Return the error for an ended connection: by the watchdog's reason if interrupted, else by the server."""
        return ClosedError(self._interrupter.reason or Reason.SERVER_CLOSE, what)


def _upgrade_error(error: Exception, interrupter: SocketInterrupter) -> ConnectError:
    if interrupter.reason is not None:
        return ConnectError(interrupter.reason, f"the upgrade was interrupted: {interrupter.reason}")
    if isinstance(error, websocket.WebSocketBadStatusException):
        headers = error.resp_headers or {}
        reason = _REFUSALS.get(error.status_code, Reason.REFUSED)
        wait_s = retry_after_s(headers.get("retry-after"))
        what = f"the upgrade was refused with status {error.status_code}"
        return ConnectError(reason, what, retry_after_s=wait_s, status=error.status_code)
    if isinstance(error, TimeoutError | websocket.WebSocketTimeoutException):
        return ConnectError(Reason.CONNECT_TIMEOUT, "no answer to the upgrade in time")
    return ConnectError(Reason.CONNECT_FAILED, f"the upgrade failed: {error}")


def _close_text(payload: bytes) -> str:
    if len(payload) < 2:
        return "no status"
    text = payload[2:].decode("utf-8", "replace")
    return f"{int.from_bytes(payload[:2], 'big')} {text}".rstrip()
