"""Order of a publisher's messages: (epoch, seq) per topic, and the meaning of a break.

A consumer applies ``last + 1``, ignores what is not newer, and treats anything else as a gap. A new epoch means that
the publisher restarted: its earlier state is invalid. A lower epoch comes from a publisher that should have exited.
"""

from __future__ import annotations

import time
from enum import Enum

#: Accept a lower epoch only after the current publisher has been silent this long.
_STALE_EPOCH_NS = 5_000_000_000


class Epochs:
    """Epochs of one publisher: wall-clock ns, strictly increasing even when the clock is set back."""

    @staticmethod
    def following(last: int, now_wall_ns: int | None = None) -> int:
        """Return the epoch after ``last`` (0 for the first one)."""
        return max(last + 1, time.time_ns() if now_wall_ns is None else now_wall_ns)


class Verdict(Enum):
    """Treatment of a message."""

    #: Next in order.
    APPLY = "apply"
    #: Not newer than the last applied one.
    IGNORE = "ignore"
    #: A message before it was lost.
    GAP = "gap"
    #: The publisher restarted: drop all state of the venue, then apply.
    NEW_EPOCH = "new_epoch"
    #: From a publisher that was replaced.
    STALE_EPOCH = "stale_epoch"


class PublisherSequence:
    """Order of one publisher's messages, checked on receipt.

    ``epoch`` is 0 until the first message. ``stale`` counts messages of earlier epochs.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.stale = 0
        self._last: dict[str, int] = {}
        self._received_mono_ns = 0

    def judge(self, topic: str, epoch: int, seq: int, now_mono_ns: int) -> Verdict:
        """Return the treatment of a message; record it unless it is old or of an earlier epoch.

        After a gap the sequence continues from the message that revealed it. The first message of a topic in an epoch
        is never a gap: earlier ones were sent before this consumer subscribed.
        """
        if epoch != self.epoch:
            if epoch < self.epoch and now_mono_ns - self._received_mono_ns < _STALE_EPOCH_NS:
                self.stale += 1
                return Verdict.STALE_EPOCH
            self._last.clear()
            self.epoch = epoch
            self._received_mono_ns = now_mono_ns
            self._last[topic] = seq
            return Verdict.NEW_EPOCH
        self._received_mono_ns = now_mono_ns
        last = self._last.get(topic)
        if last is None or seq == last + 1:
            self._last[topic] = seq
            return Verdict.APPLY
        if seq <= last:
            return Verdict.IGNORE
        self._last[topic] = seq
        return Verdict.GAP

    def last(self, topic: str) -> int | None:
        """Return the last seq of a topic in this epoch; None before its first message."""
        return self._last.get(topic)

    def missed_tail(self, seqs: dict[str, int]) -> dict[str, int]:
        """Return the number of messages per topic that a heartbeat counts beyond those received; advance to its counts.

        A heartbeat follows every message that it counts, so those missing by then are lost. Topics without a message
        are left out: they may not be subscribed.
        """
        lost = {topic: seqs[topic] - last for topic, last in self._last.items() if seqs.get(topic, 0) > last}
        for topic in lost:
            self._last[topic] = seqs[topic]
        return lost
