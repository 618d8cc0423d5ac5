"""Clocks of a consumer, and detection of a suspended machine by them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: Differences up to this come from an interruption of the thread between reading the two clocks.
_JUMP_NS: Final = 250_000_000


def boottime_ns() -> int:
    """Return the time since boot in ns, time in suspension included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Suspension:
    """Detector of suspensions, during which CLOCK_BOOTTIME advances and CLOCK_MONOTONIC does not; both are in ns.

    Without ``boot_clock`` it uses the machine's, and detects nothing when ``clock`` is not the machine's.
    """

    def __init__(self, clock: Callable[[], int], boot_clock: Callable[[], int] | None = None) -> None:
        self._boot_clock = boot_clock or (boottime_ns if clock is time.monotonic_ns else clock)
        now_ns = clock()
        self._offset_ns = self._boot_clock() - now_ns

    def is_over(self, now_ns: int) -> bool:
        """Return whether the machine was suspended since the last call; ``now_ns`` is monotonic, read just before."""
        before_ns, self._offset_ns = self._offset_ns, self._boot_clock() - now_ns
        return self._offset_ns - before_ns > _JUMP_NS
