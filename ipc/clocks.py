"""The clocks of a consumer, and what they show of a machine that was suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Suspension", "boottime_ns"]

#: What the two clocks differ by when the thread is interrupted between the readings counts for nothing up to this.
_JUMP_NS: Final = 250_000_000


def boottime_ns() -> int:
    """Return the time since boot in ns, time in suspension included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Suspension:
    """Notices that the machine was suspended: meanwhile CLOCK_BOOTTIME goes on, and CLOCK_MONOTONIC does not.

    Args:
        clock: The monotonic clock, ns.
        boot_clock: The clock of the time since boot, ns; None takes the machine's, and none at all beside a monotonic
            clock that is not the machine's.
    """

    def __init__(self, clock: Callable[[], int], boot_clock: Callable[[], int] | None = None) -> None:
        self._boot_clock = boot_clock or (boottime_ns if clock is time.monotonic_ns else clock)
        now_ns = clock()
        self._offset_ns = self._boot_clock() - now_ns

    def is_over(self, now_ns: int) -> bool:
        """Tell whether the machine was suspended since the last call, once.

        Args:
            now_ns: The monotonic clock, read just before: an interruption then looks like a suspension, and not the
                next call after it.
        """
        before_ns, self._offset_ns = self._offset_ns, self._boot_clock() - now_ns
        return self._offset_ns - before_ns > _JUMP_NS
