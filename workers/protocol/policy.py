"""Settings of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of a session; durations in ns.

    ``stagger`` in [0, 1) spreads rotations; ``venue_flows(now)`` returns True while any book of the venue is fresh, on
    other connections too. ``is_covered`` returns True while the venue's other line is live, which covers the gap of a
    rotation; None without one.
    """

    stale_ns: int
    ping_ns: int
    pong_ns: int
    venue_flows: Callable[[int], bool] = lambda _now: True
    stagger: float = 0.0
    is_covered: Callable[[], bool] | None = None
