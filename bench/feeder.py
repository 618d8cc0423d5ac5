"""A process that serves ready-made frames over one WebSocket connection, so that making them is not measured."""

from __future__ import annotations

import base64
import hashlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Self

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Feeder:
    """Serves ``frames`` to the first client, ``batch`` frames a send; a context manager.

    Args:
        frames: Complete WebSocket frames.
        batch: Frames written at once.
        per_s: Frames a second; None writes as fast as they are taken.
    """

    def __init__(self, frames: Sequence[bytes], batch: int = 1, per_s: float | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        chunks = [b"".join(frames[i : i + batch]) for i in range(0, len(frames), batch)]
        pause = batch / per_s if per_s else 0.0
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(self._listener, chunks, pause), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


def _serve(listener: socket.socket, chunks: Sequence[bytes], pause: float) -> None:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65536)
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + _GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    due = time.monotonic()
    for chunk in chunks:
        client.sendall(chunk)
        if pause:
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(5)
