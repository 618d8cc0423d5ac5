"""Duty of a venue's lines: one of two polls by REST and follows the account; it moves when it cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ipc.lines import LINES, Line, other_line

_NS: Final = 1_000_000_000
#: How long the holder may be unable before the duty moves, and the least time between two moves.
_UNABLE_NS: Final = 10 * _NS
_PAUSE_NS: Final = 60 * _NS


class LineHealth(NamedTuple):
    """State of a line as far as its duty goes.

    ``is_live`` concerns its books, ``is_able`` its account as well. Refused credentials are no inability: the other
    line has the same.
    """

    is_live: bool
    is_able: bool


class Duty:
    """Duty of one venue; ``holder`` is the line that has it."""

    def __init__(self) -> None:
        self.holder: Line = LINES[0]
        #: Since when the holder is unable, None while it is not, and when the duty last moved.
        self._unable_ns: int | None = None
        self._moved_ns = -_PAUSE_NS

    def update(self, now_ns: int, lines: Mapping[Line, LineHealth]) -> bool:
        """Move the duty if it must; return whether it moved."""
        if lines[self.holder].is_able:
            self._unable_ns = None
            return False
        self._unable_ns = now_ns if self._unable_ns is None else self._unable_ns
        is_long = now_ns - self._unable_ns >= _UNABLE_NS and now_ns - self._moved_ns >= _PAUSE_NS
        if not is_long or not lines[other_line(self.holder)].is_live:
            return False
        self.holder = other_line(self.holder)
        self._moved_ns, self._unable_ns = now_ns, None
        return True
