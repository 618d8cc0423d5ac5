"""Rate limits of venues: units in a sliding window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class RateLimit:
    """Limit of ``limit`` units within any ``window_s`` seconds.

    Args:
        limit: Units.
        window_s: Length of the window.
        clock: Monotonic seconds.
    """

    def __init__(self, limit: int, window_s: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.window_s = window_s
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        #: Units within the current window.
        self.used = 0

    def acquire(self, units: int = 1) -> bool:
        """Use ``units``; return False, and use none, if that would exceed the limit."""
        self._expire()
        if self.used + units > self.limit:
            return False
        self._spent.append((self._clock(), units))
        self.used += units
        return True

    def _expire(self) -> None:
        horizon = self._clock() - self.window_s
        while self._spent and self._spent[0][0] <= horizon:
            self.used -= self._spent.popleft()[1]
