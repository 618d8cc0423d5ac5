"""Cutting a blocked socket from another thread.

The watchdog cuts; the thread that owns the socket wakes, learns why from :attr:`SocketInterrupter.reason`, and closes. Closing
from another thread would not wake it, and the number could be reused under its hands. ``socket.socket.shutdown`` is
called on the base class on purpose: ``SSLSocket.shutdown`` drops its TLS layer first, and the blocked reader would then
be given ciphertext as if it were data.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from ipc.health import Reason

__all__ = ["SocketInterrupter"]


class SocketInterrupter:
    """The one place through which a blocked operation is ended.

    ``reason`` is None until the first cut. A cut can come before there is a socket or before it is connected; it is
    repeated at every look of the watchdog and checked when the owner publishes a socket, so none is lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.reason: Reason | None = None

    def begin(self) -> None:
        """A new operation of the owner: no socket yet, no reason."""
        with self._lock:
            self._socket = None
            self.reason = None

    def publish(self, sock: socket.socket) -> None:
        """The owner is about to block on ``sock``.

        Raises:
            ConnectionAbortedError: It was cut already.
        """
        with self._lock:
            self._socket = sock
            if self.reason is not None:
                raise ConnectionAbortedError(f"cut: {self.reason}")

    def close(self) -> None:
        """The owner is done with the socket: close it. Nobody else ever does."""
        with self._lock:
            sock, self._socket = self._socket, None
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def interrupt(self, reason: Reason) -> None:
        """End whatever the owner blocks in; the first reason stays."""
        with self._lock:
            self.reason = self.reason or reason
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
