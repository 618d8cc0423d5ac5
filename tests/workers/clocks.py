"""Clocks for tests: time passes when it is asked to, also for threads that wait on an event."""

from __future__ import annotations

import threading
import time

__all__ = ["FakeClock", "FakeStop", "wait_until"]

NS = 1_000_000_000


class FakeClock:
    """Stands in for the module ``time``: both clocks stand still until :meth:`advance`."""

    def __init__(self, start_ns=10_000 * NS):
        self.now_ns = start_ns
        #: Wall clock minus monotonic clock.
        self.wall_offset_ns = 1_700_000_000 * NS

    def advance(self, seconds):
        self.now_ns += int(seconds * NS)

    def monotonic_ns(self):
        return self.now_ns

    def monotonic(self):
        return self.now_ns / NS

    def time_ns(self):
        return self.now_ns + self.wall_offset_ns

    def time(self):
        return self.time_ns() / NS


class FakeStop(threading.Event):
    """A stop event whose waits move the clock instead of taking time; set once ``for_s`` seconds have passed.

    ``waits`` holds how long was waited each time.
    """

    def __init__(self, clock, for_s=None):
        super().__init__()
        self.waits = []
        self._clock = clock
        self._end_ns = None if for_s is None else clock.now_ns + int(for_s * NS)

    def is_set(self):
        return super().is_set() or (self._end_ns is not None and self._clock.now_ns >= self._end_ns)

    def wait(self, timeout=None):
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.advance(timeout)
        return self.is_set()


def wait_until(condition, timeout_s=20.0):
    """Wait until ``condition()`` gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        time.sleep(0.001)
    return found
