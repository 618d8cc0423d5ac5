"""Time in the simulation: clocks and timed jobs.

All waiting goes through a :class:`Schedule`, so that tests can run it on a fake loop and skip hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """Scheduled callback."""

    def cancel(self) -> None:
        """Cancel the callback."""


class Loop(Protocol):
    """Part of an asyncio event loop that a schedule needs."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle:
        """Call ``callback`` at the monotonic time ``when``."""


class Job:
    """Action that runs once later, or periodically, until cancelled."""

    def __init__(self, loop: Loop, period_s: float | None, action: Callable[[], None]) -> None:
        self._loop = loop
        self._period_s = period_s
        self._action = action
        self._due = 0.0
        self._handle: Handle | None = None

    def arm(self, delay_s: float) -> Job:
        """Run in ``delay_s`` seconds, replacing the current due time."""
        self.cancel()
        self._due = self._loop.time() + delay_s
        self._handle = self._loop.call_at(self._due, self._run)
        return self

    def cancel(self) -> None:
        """Never run again, unless armed again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        self._handle = None
        if self._period_s is not None:
            # Missed periods are skipped: a machine that was suspended does not catch up in a burst.
            self._due = max(self._due + self._period_s, self._loop.time())
            self._handle = self._loop.call_at(self._due, self._run)
        self._action()


class Schedule:
    """Clocks and jobs of a simulation."""

    def __init__(self, loop: Loop, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._loop = loop
        self.wall_ns = wall_ns

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self.wall_ns() // 1_000_000

    def mono_s(self) -> float:
        """Return monotonic seconds."""
        return self._loop.time()

    def every(self, period_s: float, action: Callable[[], None]) -> Job:
        """Run ``action`` every ``period_s`` seconds, first in ``period_s`` seconds."""
        return Job(self._loop, period_s, action).arm(period_s)

    def once(self, delay_s: float, action: Callable[[], None]) -> Job:
        """Run ``action`` once in ``delay_s`` seconds."""
        return Job(self._loop, None, action).arm(delay_s)
