"""Time in the simulation: what the clocks say, and what is to be done when.

All waiting goes through a :class:`Schedule`, so that a test can put a loop of its own below it and let hours pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Job", "Loop", "Schedule"]


class Handle(Protocol):
    """Something that is going to happen."""

    def cancel(self) -> None:
        """Keep it from happening."""


class Loop(Protocol):
    """What a schedule needs of an event loop; asyncio's loops have it."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle:
        """Call ``callback`` at the monotonic time ``when``."""


class Job:
    """An action that is due later, or again and again, until it is cancelled."""

    def __init__(self, loop: Loop, period_s: float | None, action: Callable[[], None]) -> None:
        self._loop = loop
        self._period_s = period_s
        self._action = action
        self._due = 0.0
        self._handle: Handle | None = None

    def arm(self, delay_s: float) -> Job:
        """Run in ``delay_s`` seconds instead of when it was due before."""
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
            # Beats that were missed are left out: a machine that stood still does not answer with a burst.
            self._due = max(self._due + self._period_s, self._loop.time())
            self._handle = self._loop.call_at(self._due, self._run)
        self._action()


class Schedule:
    """The clocks of a simulation and its jobs."""

    def __init__(self, loop: Loop, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._loop = loop
        self.wall_ns = wall_ns

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.wall_ns() // 1_000_000

    def mono_s(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def every(self, period_s: float, action: Callable[[], None]) -> Job:
        """Do ``action`` every ``period_s`` seconds, first in ``period_s`` seconds."""
        return Job(self._loop, period_s, action).arm(period_s)

    def once(self, delay_s: float, action: Callable[[], None]) -> Job:
        """Do ``action`` in ``delay_s`` seconds."""
        return Job(self._loop, None, action).arm(delay_s)
