"""Detection of outages: a venue is down when neither its sockets deliver nor its REST interface answers. Pure.

Restarts do not help then, so none is made; the worker goes on retrying and reports the outage once.
"""

from __future__ import annotations

from typing import Final

_NS: Final = 1_000_000_000
#: Time for which both sockets and REST must have failed.
_DOWN_AFTER_NS: Final = 5 * _NS


def unanswered_since_ns(*threads: tuple[int, int]) -> int:
    """Return since when no call to a venue's REST interface is answered; 0 while it answers.

    Each of ``threads`` gives since when its calls fail (0 after a success) and when one was last answered. If one
    thread is answered after another began to fail, one path is broken, not the venue.
    """
    answered_ns = max(answered for _, answered in threads)
    return max((since for since, _ in threads if since > answered_ns), default=0)


class OutageDetector:
    """State of a venue: up or down.

    Attributes:
        since_ns: Start of the outage, monotonic; 0 while the venue is up.
    """

    def __init__(self) -> None:
        self.since_ns = 0
        self._bookless_since_ns = 0

    def update(self, now_ns: int, *, has_book: bool, unanswered_since_ns: int) -> bool:
        """Apply the current observations (times are monotonic ns); return whether the state changed."""
        if has_book:
            self._bookless_since_ns = 0
        elif not self._bookless_since_ns:
            self._bookless_since_ns = now_ns
        is_down = (
            self._bookless_since_ns != 0
            and unanswered_since_ns != 0
            and now_ns - max(self._bookless_since_ns, unanswered_since_ns) > _DOWN_AFTER_NS
        )
        if is_down == bool(self.since_ns):
            return False
        self.since_ns = self._bookless_since_ns if is_down else 0
        return True
