"""Telling systemd how the parent is, in the words of sd_notify(3): ready, reloading, stopping, alive, in one line.

Nothing is told where nobody asked by ``NOTIFY_SOCKET``. When to say what is :mod:`supervisor.parent`'s to decide.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier"]

#: A watchdog is told three times in the time that it allows.
_BEATS: Final = 3


class Notifier:
    """One service as systemd sees it. Times are monotonic ns.

    Args:
        environ: ``NOTIFY_SOCKET`` names the socket; ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are its watchdog's.
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
        """Whether anybody listens."""
        return self._socket is not None

    def ready(self) -> None:
        """The service does its work, or as much of it as can be had."""
        if not self._is_ready:
            self._is_ready = True
            self._tell("READY=1")

    def reloading(self, now_ns: int) -> None:
        """The configuration is read again."""
        if self._is_ready:
            self._tell("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def reloaded(self) -> None:
        """It was, whatever came of it."""
        if self._is_ready:
            self._tell("READY=1")

    def stopping(self) -> None:
        """The service is on its way down."""
        self._tell("STOPPING=1")

    def looked(self, status: str, now_ns: int) -> None:
        """Everything was looked at once more, and ``status`` is how it is."""
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")
        if self._beat_ns and now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + self._beat_ns
            self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.close()

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody reads it, and supervision goes on
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _beat_ns(environ: Mapping[str, str]) -> int:
    """Between two signs of life; 0 when this process owes none."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or pid not in {"", str(os.getpid())}:
        return 0
    return int(usec) * 1000 // _BEATS
