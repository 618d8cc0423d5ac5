"""Numbers as venues send them, each with its range, checked before anything is computed with them."""

from __future__ import annotations

from typing import Final

__all__ = ["ns_of_ms", "ns_of_us"]

_NS_PER_MS: Final = 1_000_000
_NS_PER_US: Final = 1000
_MAX_NS: Final = (1 << 63) - 1


def ns_of_ms(time_ms: int | None) -> int | None:
    """Return milliseconds since 1970 as ns; None for None, 0, negative times and times beyond int64."""
    return _ns(time_ms, _NS_PER_MS)


def ns_of_us(time_us: int | None) -> int | None:
    """Return microseconds since 1970 as ns; None for None, 0, negative times and times beyond int64."""
    return _ns(time_us, _NS_PER_US)


def _ns(time: int | None, unit_ns: int) -> int | None:
    if not time:
        return None
    time_ns = time * unit_ns
    return time_ns if 0 < time_ns <= _MAX_NS else None
