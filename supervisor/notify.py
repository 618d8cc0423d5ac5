"""Notifications to systemd by sd_notify(3): ready, reloading, stopping, status and watchdog.

Without ``NOTIFY_SOCKET`` nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

#: Watchdog notifications within its time limit.
_BEATS: Final = 3


class Notifier:
    """Sender of the notifications of one service. Times are monotonic ns.

    Args:
        environ: ``NOTIFY_SOCKET`` names the socket; ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` configure the watchdog.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract name.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if path else None
        self._beat_ns = _beat_ns(environ)
        self._next_beat_ns = 0
        self._is_ready = False
        self._status = ""

    @property
    def is_wanted(self) -> bool:
        """True when systemd listens."""
        return self._socket is not None

    def ready(self) -> None:
        """Report the service as ready, once."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")

    def reloading(self, now_ns: int) -> None:
        """Report the begin of a reload."""
        if self._is_ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def reloaded(self) -> None:
        """Report the end of a reload, successful or not."""
        if self._is_ready:
            self._send("READY=1")

    def stopping(self) -> None:
        """Report the begin of a shutdown."""
        self._send("STOPPING=1")

    def checked(self, status: str, now_ns: int) -> None:
        """Report the status after a round of checks if it changed, and the watchdog's beat when it is due."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")
        if self._beat_ns and now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + self._beat_ns
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # supervision does not depend on systemd
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _beat_ns(environ: Mapping[str, str]) -> int:
    """Return the interval between two beats; 0 when systemd expects none of this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or pid not in {"", str(os.getpid())}:
        return 0
    return int(usec) * 1000 // _BEATS
