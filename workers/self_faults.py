"""Faults that a worker injects into itself for drills, because only a process itself can have them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from ipc.health import SelfFault

_HOARD_BYTES: Final = 64 * 1024 * 1024
_hoard: list[bytearray] = []


def _hang() -> None:
    """Hold the interpreter lock until killed: no other thread of this process runs, not even the watchdog."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _exit() -> None:
    """Exit with code 0."""
    os._exit(0)


def _hoard_memory() -> None:
    """Allocate another piece of memory and touch every page of it."""
    _hoard.append(bytearray(b"x") * _HOARD_BYTES)


#: By name; the main loop calls one in every round while its name is on the board.
SELF_FAULTS: Final[dict[SelfFault, Callable[[], None]]] = {
    SelfFault.HANG: _hang,
    SelfFault.EXIT: _exit,
    SelfFault.MEMORY: _hoard_memory,
}
