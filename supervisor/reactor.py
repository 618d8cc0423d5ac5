"""Event loop of the parent: descriptors, timers and signals in one poll set and one thread.

Signal handlers are empty: the kernel writes the number of a signal into a socket of the same poll set.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000


class Reactor:
    """Single-threaded event loop.

    Attributes:
        gap_ns: Longest time between two returns of the poll beyond its timeout, since the reader reset it. It is
            large after the process was stopped or starved, wherever that happened.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._is_running = False
        self.gap_ns = 0
        self._wakeup, self._wakeup_write = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_write.setblocking(False)
        self.watch(self._wakeup.fileno(), self._read_signals)

    def watch(self, descriptor: int, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` whenever ``descriptor`` is readable; None removes it."""
        if callback is None:
            if self._readers.pop(descriptor, None) is not None:
                self._poll.unregister(descriptor)
            return
        self._readers[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def watch_hangup(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when the other end of a terminal is closed; input is left to others."""

        def hung_up() -> None:
            self.watch(descriptor, None)  # it stays so: the loop would never sleep again
            callback()

        self._readers[descriptor] = hung_up
        self._poll.register(descriptor, 0)  # POLLHUP is always reported

    def at(self, when_ns: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, at a monotonic time."""
        heapq.heappush(self._timers, (when_ns, next(self._order), callback))

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the loop after a signal arrived."""
        self._signals[number] = callback
        signal.signal(number, _nothing)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Run callbacks until :meth:`stop`."""
        self._is_running = True
        returned = time.monotonic_ns()
        while self._is_running:
            wait_ns = max(0, self._timers[0][0] - time.monotonic_ns()) if self._timers else _NS
            ready = self._poll.poll(-(-wait_ns // _MS))
            before, returned = returned, time.monotonic_ns()
            self.gap_ns = max(self.gap_ns, returned - before - wait_ns)
            for descriptor, _ in ready:
                reader = self._readers.get(descriptor)
                if reader is not None and self._is_running:
                    reader()
            self._run_timers()

    def stop(self) -> None:
        """End the loop after the current callback."""
        self._is_running = False

    def close(self) -> None:
        """Close the descriptors."""
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self._wakeup_write.close()

    def _run_timers(self) -> None:
        now = time.monotonic_ns()
        while self._is_running and self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in dict.fromkeys(self._wakeup.recv(4096)):
                callback = self._signals.get(number)
                if callback is not None:
                    callback()


def _nothing(_number: int, _frame: object) -> None:
    """Leave the signal to the loop."""
