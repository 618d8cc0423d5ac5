"""Outage or fault of ours: a venue is taken to be down when neither its sockets deliver nor its REST interface answers.

Then no restart helps, and none is made; the worker goes on trying and says so, once. Pure.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OutageJudge"]

_NS: Final = 1_000_000_000
#: Both sides must have been dead for this long.
_DEAD_NS: Final = 5 * _NS


class OutageJudge:
    """Remembers since when nothing is heard of a venue.

    ``since_ns`` is 0 while the venue is up.
    """

    def __init__(self) -> None:
        self.since_ns = 0
        self._bookless_since_ns = 0

    def judge(self, now_ns: int, *, has_book: bool, unanswered_since_ns: int) -> bool:
        """Take what is known; whether the verdict changed.

        Args:
            now_ns: Monotonic.
            has_book: Whether any book of the venue is usable.
            unanswered_since_ns: Since when REST does not answer; 0 when it does.
        """
        if has_book:
            self._bookless_since_ns = 0
        elif not self._bookless_since_ns:
            self._bookless_since_ns = now_ns
        is_down = (
            self._bookless_since_ns != 0
            and unanswered_since_ns != 0
            and now_ns - max(self._bookless_since_ns, unanswered_since_ns) > _DEAD_NS
        )
        if is_down == bool(self.since_ns):
            return False
        self.since_ns = self._bookless_since_ns if is_down else 0
        return True
