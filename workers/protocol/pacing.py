"""Token buckets: limits of requests and messages to a venue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_NS: Final = 1_000_000_000


@dataclass(slots=True)
class TokenBucket:
    """Token bucket that holds at most ``capacity`` tokens and gains ``per_s`` of them a second; starts full.

    Times are monotonic ns. Not thread-safe.
    """

    capacity: float
    per_s: float
    _tokens: float = field(init=False)
    _at_ns: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._tokens = self.capacity

    def acquire(self, tokens: float, now_ns: int) -> bool:
        """Remove ``tokens`` and return True, or return False when there are too few."""
        self._fill(now_ns)
        if self._tokens < min(tokens, self.capacity):
            return False
        self._tokens -= tokens
        return True

    def wait_s(self, tokens: float, now_ns: int) -> float:
        """Return how long until ``tokens`` are available, s; more than the capacity waits for a full bucket."""
        self._fill(now_ns)
        missing = min(tokens, self.capacity) - self._tokens
        return max(0.0, missing / self.per_s)

    def drain(self) -> None:
        """Empty the bucket, for the venue reported that its limit is reached."""
        self._tokens = min(self._tokens, 0.0)

    def _fill(self, now_ns: int) -> None:
        if self._at_ns:
            gained = (now_ns - self._at_ns) / _NS * self.per_s
            self._tokens = min(self.capacity, self._tokens + max(0.0, gained))
        self._at_ns = now_ns
