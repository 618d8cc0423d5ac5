"""Duties of a venue, which one of its two lines has: polls, reading the list of markets again, and the account.

Done on both lines they would use up the address's limits. The parent names the line in a word on the board.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from ipc.board import Row, WorkerWord

_TICK_S: Final = 0.2


class LineDuty:
    """Duties of one line, read before each call of REST and each event of the account.

    ``words`` are those of its process; None for a venue's only line, which always has them.
    """

    __slots__ = ("_words",)

    def __init__(self, words: Row | None = None) -> None:
        self._words = words

    @property
    def is_ours(self) -> bool:
        """True while this line has the duties."""
        return self._words is None or self._words[WorkerWord.DUTY] != 0

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait ``seconds``, or until ``stop`` is set or this line loses the duties."""
        if self._words is None:
            stop.wait(seconds)
            return
        end = time.monotonic() + seconds
        while self.is_ours and (left_s := end - time.monotonic()) > 0 and not stop.wait(min(left_s, _TICK_S)):
            pass

    def wait_until_ours(self, stop: threading.Event) -> None:
        """Wait until this line has the duties, or ``stop`` is set."""
        while not self.is_ours and not stop.wait(_TICK_S):
            pass
