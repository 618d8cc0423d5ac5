"""Interruption of a blocked socket from another thread.

The watchdog interrupts; the thread that owns the socket wakes, finds the cause in :attr:`SocketInterrupter.reason`, and
closes the socket. A close from another thread would not wake it, and the descriptor could be reused meanwhile. The base
class's ``shutdown`` is called on purpose: ``SSLSocket.shutdown`` first drops its TLS layer, and the blocked reader
would receive ciphertext as data.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from ipc.health import Reason


class SocketInterrupter:
    """Interrupter of one thread's blocking operations.

    ``reason`` is None until the first interrupt. One can come before there is a socket or before it is connected; it is
    repeated at every check of the watchdog and checked when the owner publishes a socket, so none is lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.reason: Reason | None = None

    def begin(self) -> None:
        """Start a new operation, without a socket or a reason."""
        with self._lock:
            self._socket = None
            self.reason = None

    def publish(self, sock: socket.socket) -> None:
        """Set the socket on which the owner is about to block; raise ConnectionAbortedError if already interrupted."""
        with self._lock:
            self._socket = sock
            if self.reason is not None:
                raise ConnectionAbortedError(f"interrupted: {self.reason}")

    def close(self) -> None:
        """Close the socket; only its owner may call it."""
        with self._lock:
            sock, self._socket = self._socket, None
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def interrupt(self, reason: Reason) -> None:
        """End whatever blocks the owner; the first reason stays."""
        with self._lock:
            self.reason = self.reason or reason
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
