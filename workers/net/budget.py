"""Budgets of a minute: requests and connects that a venue allows an address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from workers.protocol.pacing import TokenBucket
from workers.protocol.spending import SharedSpending, SharedTokenBucket

_NS: Final = 1_000_000_000
#: Of a budget, what may be spent at once.
_AT_ONCE: Final = 1 / 3


class MinuteBudget:
    """Budget of ``per_min``, and nothing while the venue demands a pause; threads of a worker may share it.

    A third is available at once, the rest as the minute passes, so that no minute has more. With ``spending`` the
    venue's two lines share it.
    """

    def __init__(
        self,
        per_min: float,
        clock: Callable[[], int] = time.monotonic_ns,
        spending: SharedSpending | None = None,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._spending = spending
        at_once = per_min * _AT_ONCE
        per_s = (per_min - at_once) / 60
        self._bucket = TokenBucket(at_once, per_s) if spending is None else SharedTokenBucket(at_once, per_s, spending)
        self._closed_until_ns = 0

    def acquire(self, amount: float) -> float:
        """Acquire ``amount`` and return 0, or return the seconds to wait before the next attempt."""
        with self._lock:
            now = self._clock()
            self._adopt_pause(now)
            if now < self._closed_until_ns:
                return (self._closed_until_ns - now) / _NS
            return 0.0 if self._bucket.acquire(amount, now) else max(0.001, self._bucket.wait_s(amount, now))

    def penalise(self, seconds: float) -> None:
        """Grant nothing for ``seconds``."""
        with self._lock:
            now = self._clock()
            self._close(now, now + int(seconds * _NS))

    def update(self) -> None:
        """Count what the venue's other line has spent; a few times a second, and only where they share it."""
        with self._lock:
            now = self._clock()
            self._adopt_pause(now)
            self._count_peer(now)

    def _adopt_pause(self, now: int) -> None:
        """Pause also while the venue demands it of the other line, and so after its restart."""
        if self._spending is None:
            return
        until_ns = self._spending.peer_closed_until_ns()
        if until_ns > max(now, self._closed_until_ns):
            self._close(now, until_ns)

    def _close(self, now: int, until_ns: int) -> None:
        self._closed_until_ns = max(self._closed_until_ns, until_ns)
        if self._spending is not None:
            self._spending.close(self._closed_until_ns)
        self._count_peer(now)
        self._bucket.drain()

    def _count_peer(self, now: int) -> None:
        if isinstance(self._bucket, SharedTokenBucket):
            self._bucket.update(now)
