"""Free TCP ports in a row, as the feeds of a system take them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable


def first_free_port(count: int, candidates: Iterable[int]) -> int:
    """Return the first candidate from which on so many ports are free."""
    for first in candidates:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError(f"no {count} ports in a row are free")
