"""Synchronisation of the system's clock, as the kernel reports it: only events' wall-clock times depend on it."""

from __future__ import annotations

import ctypes
from typing import Any, Final

#: ``struct timex`` of 64-bit Linux in words of 8 bytes (adjtimex(2)); the kernel writes 208 bytes.
_WORDS: Final = 26
_ESTIMATED_ERROR: Final = 4
_STATUS: Final = 5
#: The clock is not synchronised.
_STA_UNSYNC: Final = 0x40
_US_PER_MS: Final = 1_000
_LONG_BYTES: Final = 8
_UNKNOWN: Final[dict[str, Any]] = {"synchronised": None, "estimated_error_ms": None}
_libc: Final = ctypes.CDLL(None)


def clock_status() -> dict[str, Any]:
    """Return whether the clock is synchronised, and its estimated error in ms; None where the kernel does not say.

    Reads only, which needs no privilege; some sandboxes refuse the call.
    """
    if ctypes.sizeof(ctypes.c_long) != _LONG_BYTES:
        return _UNKNOWN
    timex = (ctypes.c_long * _WORDS)()  # modes 0: change nothing
    if _libc.adjtimex(ctypes.byref(timex)) < 0:
        return _UNKNOWN
    status = timex[_STATUS] & 0xFFFFFFFF  # an int, beside padding
    return {
        "synchronised": not status & _STA_UNSYNC,
        "estimated_error_ms": timex[_ESTIMATED_ERROR] / _US_PER_MS,
    }
