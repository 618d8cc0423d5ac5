"""Scales of charts, and figures with their units as text. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_STEPS_S: Final = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_MINUTE, _HOUR = 60, 3600
_MS: Final = 1000.0
#: Rounded to three digits, it is a thousand.
_NEARLY_THOUSAND: Final = 999.5


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale from ``low`` to ``high``; logarithmic ones begin above 0, and draw what is below at their beginning."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return the position of a value, from 0 to 1."""
        if self.is_log:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Return round values, at most seven: powers of ten, or multiples of 1, 2 or 5 of one."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 7)]
        step = _round_up((self.high - self.low) / 4)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * number for number in range(first, last + 1)]


def log_scale(values: Iterable[float]) -> Scale:
    """Return a logarithmic scale in whole powers of ten around all positive values."""
    there = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(there)) + 1e-9), math.ceil(math.log10(max(there)) - 1e-9)
    return Scale(10.0**low, 10.0 ** max(high, low + 1), is_log=True)


def linear_scale(values: Iterable[float]) -> Scale:
    """Return a scale from 0 to a little above the greatest value."""
    most = max((value for value in values if value > 0), default=1.0)
    step = _round_up(most / 4)
    return Scale(0.0, step * math.ceil(most / step - 1e-9))


def around_scale(values: Iterable[float]) -> Scale:
    """Return a linear scale that contains 0 and all values, also negative ones."""
    there = [0.0, *values]
    low, high = min(there), max(there)
    step = _round_up(max(high - low, 1e-9) / 4)
    return Scale(step * math.floor(low / step + 1e-9), step * max(math.ceil(high / step - 1e-9), 1))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def time_step(total_s: float, most: int) -> int:
    """Return the distance, s, of at most ``most`` marks over a time."""
    return next((step for step in _STEPS_S if total_s / step <= most), _STEPS_S[-1])


def clock(seconds: float) -> str:
    """Return a time since the beginning: ``0:05``, ``1:00:00``."""
    hours, rest = divmod(int(seconds), _HOUR)
    minutes, left = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def time_mark(seconds: int, step_s: int) -> str:
    """Return the label of a mark on an axis of time: in hours where the marks are hours apart."""
    return f"{seconds // _HOUR} h" if step_s >= _HOUR and seconds else clock(seconds)


def short(value: float | None) -> str:
    """Return a number in three digits or, from a thousand on, without decimals; ``-`` for None."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= _NEARLY_THOUSAND:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(value: float | None) -> str:
    """Return a duration, given in ms, with its unit: ``0.25 ms``, ``84 ms``, ``3.2 s``, ``18 min``."""
    if value is None or not math.isfinite(value):
        return "-"
    seconds = value / _MS
    if value < _NEARLY_THOUSAND:
        return f"{short(value)} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.3g} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.3g} h"


def megabytes(value: float | None) -> str:
    """Return an amount of memory, given in MB, with its unit."""
    return "-" if value is None else f"{short(value)} MB"
