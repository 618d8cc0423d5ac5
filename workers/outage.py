"""Outage or fault of ours: a venue is taken to be down when neither its sockets deliver nor its REST interface answers.

Then no restart helps, and none is made; the worker goes on trying and says so, once. Pure.
"""

from __future__ import annotations

from typing import Final

__all__ = ["OutageDetector", "unanswered_since_ns"]

_NS: Final = 1_000_000_000
#: Both sides must have been dead for this long.
_DEAD_NS: Final = 5 * _NS


def unanswered_since_ns(*lanes: tuple[int, int]) -> int:
    """Since when a venue's REST interface answers nobody; 0 while it answers.

    Args:
        lanes: Of each, since when its calls fail (0 when the last one did not), and when one was last answered. Where
            one lane is answered after another began to fail, a path of the interface is broken and not the venue.
    """
    answered_ns = max(answered for _, answered in lanes)
    return max((since for since, _ in lanes if since > answered_ns), default=0)


class OutageDetector:
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
