"""Venue in its own process that sends prepared frames, so that preparing them is not measured.

It upgrades connections, answers subscriptions (:mod:`bench.dialogue`) and REST requests (:mod:`bench.rest`), and sends
the frames of a stream to each connection that has subscribed to it: the first, and after a pause, in which the measured
program can start its clock, the others.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from bench.dialogue import Answer, answer, greeting
from bench.frames import websocket_frame
from bench.rest import rest_answer
from simulator.settings import PATHS

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
#: Interval of repeated messages.
_REPEAT_S = 1.0
#: Pause after the first frame.
_PAUSE_S = 0.2
_PR_SET_PDEATHSIG = 1


class Feeder:
    """Context manager of a process that replaces a venue.

    Args:
        venue: Venue whose protocol it implements.
        streams: Frames, ready for the wire, by stream (``book``, ``trade``).
        burst: Frames written at once.
        per_s: Frames a second and connection; None writes as fast as they are read.
        markets: Number of listed markets.
        after: Subscriptions of a stream on a connection before its frames begin.
        at_once: Number of first frames that are not paced.
    """

    def __init__(
        self,
        venue: str,
        streams: Mapping[str, Sequence[bytes]],
        *,
        burst: int = 1,
        per_s: float | None = None,
        markets: int = 1,
        after: int = 1,
        at_once: int = 1,
    ) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(2)]
        ws, rest = (listener.getsockname()[1] for listener in self._listeners)
        ws_path, rest_path = PATHS[venue]
        self.ws_url = f"ws://127.0.0.1:{ws}{ws_path}"
        self.rest_url = f"http://127.0.0.1:{rest}{rest_path}"
        self._sent = multiprocessing.RawValue(ctypes.c_uint64, 0)
        chunks = {name: [b"".join(part) for part in _parts(frames, burst)] for name, frames in streams.items()}
        script = _Script(venue, chunks, burst, burst / per_s if per_s else 0.0, markets, after, at_once, self._sent)
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(*self._listeners, script, os.getpid()), daemon=True
        )

    @property
    def sent(self) -> int:
        """Frames that were handed to the kernel."""
        return int(self._sent.value)

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid or 0)

    def __enter__(self) -> Self:
        self._process.start()
        for listener in self._listeners:
            listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


@dataclass(frozen=True)
class _Script:
    """Chunks of frames and their pace."""

    venue: str
    chunks: Mapping[str, Sequence[bytes]]
    burst: int
    pause_s: float
    markets: int
    after: int
    at_once: int
    sent: ctypes.c_uint64


def _parts(frames: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Yield the first frame alone, the others in parts of ``size``."""
    yield frames[:1]
    yield from (frames[start : start + size] for start in range(1, len(frames), size))


def _serve(ws: socket.socket, rest: socket.socket, script: _Script, parent: int) -> None:
    """Serve each connection in its own thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_serve_rest, args=(rest, script), daemon=True).start()
    while True:
        client, _ = ws.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_Client(client, script).run, daemon=True).start()


@dataclass
class _Client:
    """Connection: its thread reads, others write the frames."""

    socket: socket.socket
    script: _Script
    lock: threading.Lock = field(default_factory=threading.Lock)
    subscribed: dict[str, int] = field(default_factory=dict)
    repeated: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        """Serve the connection until it is closed."""
        with suppress(OSError), self.socket:
            self._apply(greeting(self.script.venue, self._upgrade()))
            self.socket.settimeout(_REPEAT_S)
            for opcode, payload in self._messages():
                if opcode == _CLOSE:
                    return
                if opcode == _PING:
                    self._send(websocket_frame(payload, _PONG))
                elif opcode == _TEXT:
                    self._apply(answer(self.script.venue, payload))

    def _upgrade(self) -> str:
        """Perform the handshake; return the requested path."""
        request = b""
        while b"\r\n\r\n" not in request:
            received = self.socket.recv(65_536)
            if not received:
                raise ConnectionError
            request += received
        lines = request.split(b"\r\n")
        key = next(line for line in lines if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + _GUID).digest())
        self._send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        return lines[0].split(b" ")[1].decode()

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each message of the client, which is masked and not fragmented."""
        buffer = b""
        while True:
            while (message := _first_message(buffer)) is not None:
                opcode, payload, buffer = message
                yield opcode, payload
            try:
                received = self.socket.recv(65_536)
            except TimeoutError:
                self._send(b"".join(self.repeated))
                continue
            if not received:
                return
            buffer += received

    def _apply(self, done: Answer) -> None:
        self.repeated += [websocket_frame(text.encode()) for text in done.repeated]
        self._send(b"".join(websocket_frame(text.encode()) for text in done.replies))
        for stream in done.streams:
            count = self.subscribed[stream] = self.subscribed.get(stream, 0) + 1
            if count == self.script.after and stream in self.script.chunks:
                threading.Thread(target=self._feed, args=(self.script.chunks[stream],), daemon=True).start()

    def _feed(self, chunks: Sequence[bytes]) -> None:
        """Send the chunks on schedule; send late ones at once."""
        pause_s, burst, sent, at_once = self.script.pause_s, self.script.burst, self.script.sent, self.script.at_once
        with suppress(OSError):
            self._send(chunks[0])
            sent.value += 1
            time.sleep(_PAUSE_S)
            due = time.monotonic()
            for chunk in chunks[1:]:
                self._send(chunk)
                sent.value += burst
                if sent.value <= at_once:
                    due = time.monotonic()
                elif pause_s:
                    due += pause_s
                    early_s = due - time.monotonic()
                    if early_s > 0:
                        time.sleep(early_s)

    def _send(self, data: bytes) -> None:
        with self.lock:
            self.socket.sendall(data)


def _first_message(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Return opcode, payload and the remaining bytes; None while no message is complete."""
    if len(buffer) < 6:
        return None
    length, head = buffer[1] & 0x7F, 2
    if length >= 126:
        head += 2 if length == 126 else 8
        length = int.from_bytes(buffer[2:head], "big")
    end = head + 4 + length
    if len(buffer) < end:
        return None
    mask = int.from_bytes((buffer[head : head + 4] * (length // 4 + 1))[:length], "big")
    payload = int.from_bytes(buffer[head + 4 : end], "big") ^ mask
    return buffer[0] & 0x0F, payload.to_bytes(length, "big"), buffer[end:]


def _serve_rest(listener: socket.socket, script: _Script) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            found = rest_answer(script.venue, self.path, body, script.markets)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    server.daemon_threads = True
    server.serve_forever()
