"""Backoff: how long to wait before the next attempt, for sessions and processes alike.

1, 2, 4, 8, 16, 30, 30 … seconds, counted from the last healthy run. Being alive earns nothing: a run is healthy when
fresh data came for as long as the threshold. From the second attempt the delay is shortened by up to a tenth at random,
so that five venues lost together do not come back in the same millisecond.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

__all__ = ["POLL_INIT", "Backoff", "BackoffPolicy"]

_NS: Final = 1_000_000_000
#: 2^40 times any base is over any cap; a larger exponent only makes larger integers.
_MAX_EXPONENT: Final = 40


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The numbers of a backoff.

    Attributes:
        base_s: First delay.
        cap_s: Longest delay.
        healthy_s: A run with fresh data this long starts the count anew; 0 means that any fresh data does.
        jitter: Largest part of a delay that chance takes off, from the second attempt on; 0 for none.
        first_immediate: Whether the first attempt after a healthy run comes at once.
    """

    base_s: float = 1.0
    cap_s: float = 30.0
    healthy_s: float = 60.0
    jitter: float = 0.1
    first_immediate: bool = False

    def delay_ns(self, failures: int, chance: float) -> int:
        """Delay after the given number of consecutive failures (at least 1); ``chance`` is uniform in [0, 1)."""
        if failures <= 1 and self.first_immediate:
            return 0
        doublings = min(failures - 1 - self.first_immediate, _MAX_EXPONENT)
        delay = min(int(self.cap_s * _NS), int(self.base_s * _NS) << max(0, doublings))
        return delay if failures <= 1 else int(delay * (1.0 - self.jitter * chance))


#: Retrying the first step of a poller: 5 s, doubling to 60 s, for ever.
POLL_INIT: Final = BackoffPolicy(base_s=5.0, cap_s=60.0, healthy_s=0.0, jitter=0.0)


@dataclass(slots=True)
class Backoff:
    """The count of one session's or process's consecutive failures.

    ``failures`` grows with each one and goes back to 1 when the run that just ended was healthy.
    """

    policy: BackoffPolicy
    failures: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    def failed(self, healthy_ns: int) -> int:
        """A run ended in which fresh data came over ``healthy_ns``; the delay before the next one, ns."""
        self.failures = 1 if self.is_healthy(healthy_ns) else self.failures + 1
        return self.policy.delay_ns(self.failures, self.chance.random())

    def is_healthy(self, healthy_ns: int) -> bool:
        """Whether a run with fresh data over ``healthy_ns`` starts the count anew."""
        return healthy_ns > 0 and healthy_ns >= self.policy.healthy_s * _NS

    def reset(self) -> None:
        """Start the count anew."""
        self.failures = 0
