"""What a worker does wrong when a drill tells it to: the faults that only a process itself can have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from ipc.health import SelfFault

__all__ = ["SELF_FAULTS"]

_HOARD_BYTES: Final = 64 * 1024 * 1024
_hoard: list[bytearray] = []


def _hang() -> None:
    """Hold the interpreter lock for ever: no thread of this process runs any more, the watchdog included."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _exit() -> None:
    """Leave as if all were well."""
    os._exit(0)


def _hoard_memory() -> None:
    """Take more memory, a piece at each call; every page is touched."""
    _hoard.append(bytearray(b"x") * _HOARD_BYTES)


#: By name; each is done again at every round of the main thread while the parent wants it.
SELF_FAULTS: Final[dict[SelfFault, Callable[[], None]]] = {
    SelfFault.HANG: _hang,
    SelfFault.EXIT: _exit,
    SelfFault.MEMORY: _hoard_memory,
}
