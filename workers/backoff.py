"""Backoff: delay before the next attempt, of connections and processes alike.

1, 2, 4, 8, 16, 30, 30 … seconds, counted from the last healthy run. A run is not healthy by being alive, but when
fresh data came for as long as the threshold. From the second attempt the delay is shortened by up to a tenth at random,
so that venues lost together do not reconnect in the same millisecond.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

_NS: Final = 1_000_000_000
#: 2^40 times any base is over any cap; a larger exponent only makes larger integers.
_MAX_EXPONENT: Final = 40


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Parameters of a backoff.

    Attributes:
        base_s: First delay.
        cap_s: Longest delay.
        healthy_s: A run with fresh data this long resets the count; 0 means that any fresh data does.
        jitter: Largest fraction of a delay that is taken off at random, from the second attempt on; 0 for none.
        first_immediate: Whether the first attempt after a healthy run comes at once.
    """

    base_s: float = 1.0
    cap_s: float = 30.0
    healthy_s: float = 60.0
    jitter: float = 0.1
    first_immediate: bool = False

    def delay_ns(self, failures: int, chance: float) -> int:
        """Return the delay after this many consecutive failures (at least 1); ``chance`` is uniform in [0, 1)."""
        if failures <= 1 and self.first_immediate:
            return 0
        doublings = min(failures - 1 - self.first_immediate, _MAX_EXPONENT)
        delay = min(int(self.cap_s * _NS), int(self.base_s * _NS) << max(0, doublings))
        return delay if failures <= 1 else int(delay * (1.0 - self.jitter * chance))


#: Retries of a poller's first step: 5 s, doubling to 60 s, until it succeeds.
POLL_INIT: Final = BackoffPolicy(base_s=5.0, cap_s=60.0, healthy_s=0.0, jitter=0.0)


@dataclass(slots=True)
class Backoff:
    """Count of consecutive failures of one connection or process.

    ``failures`` grows with each one and goes back to 1 when the run that just ended was healthy.
    """

    policy: BackoffPolicy
    failures: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    def failed(self, healthy_ns: int) -> int:
        """Count the end of a run with fresh data over ``healthy_ns``; return the delay before the next one, ns."""
        self.failures = 1 if self.is_healthy(healthy_ns) else self.failures + 1
        return self.policy.delay_ns(self.failures, self.chance.random())

    def is_healthy(self, healthy_ns: int) -> bool:
        """Return True when a run with fresh data over ``healthy_ns`` resets the count."""
        return healthy_ns > 0 and healthy_ns >= self.policy.healthy_s * _NS

    def reset(self) -> None:
        """Reset the count."""
        self.failures = 0
