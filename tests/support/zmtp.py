"""Subscriber without libzmq, which would not survive its own long subscriptions: bytes of ZMTP 3.0."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_PATIENCE_S = 10.0
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 3) + b"SUB"
_LONG = 0x02


def zmtp_subscriber(path: Path) -> socket.socket:
    """Return a connection to a feed's Unix socket after the handshake."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(_PATIENCE_S)
    one.connect(str(path))
    one.sendall(_GREETING + bytes((0x04, len(_READY))) + _READY)
    one.recv(len(_GREETING))
    return one


def long_subscription(size: int) -> bytes:
    """Return the frame of a subscription of ``size`` bytes."""
    return struct.pack(">BQB", _LONG, size, 1) + bytes(size - 1)
