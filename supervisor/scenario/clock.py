"""Simulated clock of a scenario, advanced by the player."""

from __future__ import annotations

from typing import Final

NS: Final = 1_000_000_000
#: Monotonic time of the start; not 0, which means "never" in stamps.
_START: Final = 1_000 * NS


class Clock:
    """Monotonic and wall-clock time, ns.

    Args:
        wall_ns: Wall clock at the start.
    """

    def __init__(self, wall_ns: int) -> None:
        self._mono_ns = _START
        self._ahead_ns = wall_ns - _START

    def mono(self) -> int:
        """Return the monotonic time, ns."""
        return self._mono_ns

    def wall(self) -> int:
        """Return the wall-clock time, ns since 1970."""
        return self._mono_ns + self._ahead_ns

    @property
    def t(self) -> float:
        """Seconds since the start."""
        return (self._mono_ns - _START) / NS

    def mono_at(self, t: float) -> int:
        """Return the monotonic time, ns, of ``t`` seconds after the start."""
        return _START + round(t * NS)

    def move_to(self, mono_ns: int) -> None:
        """Advance to a monotonic time; never go back."""
        self._mono_ns = max(self._mono_ns, mono_ns)

    def set_wall(self, wall_ns: int) -> None:
        """Set the wall clock; the monotonic clock is unaffected."""
        self._ahead_ns = wall_ns - self._mono_ns
