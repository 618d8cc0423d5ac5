"""Order as a consumer sees it: (epoch, seq) per publisher and topic, and what a break in it means.

A consumer applies ``last + 1``, ignores what is not newer, and takes anything else for a gap. A new epoch is a new life
of the publisher: all that was known of it is void. A lower epoch is a publisher that should be dead.
"""

from __future__ import annotations

import time
from enum import Enum

__all__ = ["Epochs", "PublisherSequence", "Verdict"]

#: How long the adopted publisher must be silent before one of a lower epoch is believed.
_ZOMBIE_NS = 5_000_000_000


class Epochs:
    """Makes the epochs of one publisher: wall-clock ns, yet strictly increasing whatever the clock does."""

    @staticmethod
    def following(last: int, now_wall_ns: int | None = None) -> int:
        """The epoch after ``last`` (0 when there was none)."""
        return max(last + 1, time.time_ns() if now_wall_ns is None else now_wall_ns)


class Verdict(Enum):
    """What to do with a message."""

    #: The next one.
    APPLY = "apply"
    #: Not newer than what was applied.
    IGNORE = "ignore"
    #: Something before it was lost.
    GAP = "gap"
    #: The publisher started anew: drop all state of the venue, then apply.
    NEW_EPOCH = "new_epoch"
    #: From a publisher of an older life.
    STALE_EPOCH = "zombie"


class PublisherSequence:
    """The order of one publisher's messages, judged on receipt.

    ``epoch`` is 0 until the first message. ``zombies`` counts what came from older lives.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.zombies = 0
        self._last: dict[str, int] = {}
        self._heard_mono_ns = 0

    def judge(self, topic: str, epoch: int, seq: int, now_mono_ns: int) -> Verdict:
        """Place a message, and remember it unless it is a zombie's or old.

        After a gap the sequence goes on from the message that showed it. The first message of a topic in an epoch is
        never a gap: what came before it was not promised to this consumer.
        """
        if epoch != self.epoch:
            if epoch < self.epoch and now_mono_ns - self._heard_mono_ns < _ZOMBIE_NS:
                self.zombies += 1
                return Verdict.STALE_EPOCH
            self._last.clear()
            self.epoch = epoch
            self._heard_mono_ns = now_mono_ns
            self._last[topic] = seq
            return Verdict.NEW_EPOCH
        self._heard_mono_ns = now_mono_ns
        last = self._last.get(topic)
        if last is None or seq == last + 1:
            self._last[topic] = seq
            return Verdict.APPLY
        if seq <= last:
            return Verdict.IGNORE
        self._last[topic] = seq
        return Verdict.GAP

    def last(self, topic: str) -> int | None:
        """The last seq of a topic in this epoch; None when it was not heard of."""
        return self._last.get(topic)

    def missed_tail(self, seqs: dict[str, int]) -> dict[str, int]:
        """The topics of which a heartbeat knows more than was received, and how much; they are moved up to it.

        A heartbeat comes behind all that it counts, so what is missing then is lost. Topics never heard of are left
        out: they may not be subscribed.
        """
        lost = {topic: seqs[topic] - last for topic, last in self._last.items() if seqs.get(topic, 0) > last}
        for topic in lost:
            self._last[topic] = seqs[topic]
        return lost
