"""Counts of a connection's events and how long they took, added to the board a few times a second.

Freshness, on which much depends, is stamped with each event by :mod:`workers.net.connection`; nothing waits for counts.
Added up for many events at once they cost a third of what they cost one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from ipc.board import BUCKETS, FIRST_BITS, CellWord, StreamWord
from workers.protocol.streams import MarketStream

#: Words as plain numbers, for this is part of the hot path.
_EVENTS: Final = int(CellWord.EVENTS)
_HANDLING: Final = int(StreamWord.HANDLING)
_LAG: Final = int(StreamWord.LAG)
#: Time after which counts are added to the board.
_FLUSH_NS: Final = 100_000_000
#: Largest value of a word; sums go on from 0 behind it.
_WORD: Final = 2**64 - 1
#: Event: its stream; how long it took here, ns, or None for one that is only counted; when it was received, by the wall
#: clock; and the venue's time, if it says it.
Note: TypeAlias = tuple[MarketStream, int | None, int, int | None]


class DeliveryCounts:
    """Counts of one connection's events; every method requires the publisher's lock.

    ``note`` takes a :data:`Note`, and ``due_ns`` is when to flush. ``is_live`` is False for recorded frames, whose
    venue's times say nothing about now.
    """

    __slots__ = ("_is_live", "_notes", "_words", "due_ns", "note")

    def __init__(self, words: memoryview, *, is_live: bool) -> None:
        self._words = words
        self._is_live = is_live
        self._notes: list[Note] = []
        self.note: Callable[[Note], None] = self._notes.append
        self.due_ns = 0

    def flush(self, now_ns: int) -> None:
        """Add what was noted to the board."""
        words = self._words
        by_stream: dict[MarketStream, list[Note]] = {}
        for note in self._notes:
            by_stream.setdefault(note[0], []).append(note)
        self._notes.clear()
        self.due_ns = now_ns + _FLUSH_NS
        for stream, notes in by_stream.items():
            words[stream.cell_offset + _EVENTS] += len(notes)  # two sessions may write one cell, under the lock
            timed = [
                (handling_ns, wall_ns, at_ns) for _, handling_ns, wall_ns, at_ns in notes if handling_ns is not None
            ]
            self._add(stream.histograms_offset + _HANDLING, [handling_ns for handling_ns, _, _ in timed])
            if self._is_live:
                lags = [max(0, wall_ns - at_ns) for _, wall_ns, at_ns in timed if at_ns is not None]
                self._add(stream.histograms_offset + _LAG, lags)  # at least 0, for the clocks differ

    def _add(self, first: int, durations_ns: list[int]) -> None:
        """Add durations to the histogram that begins with a word, and to the sum behind it."""
        words = self._words
        for bits, count in Counter([(duration_ns >> FIRST_BITS).bit_length() for duration_ns in durations_ns]).items():
            words[first + min(bits, BUCKETS - 1)] += count
        at = first + BUCKETS
        words[at] = (words[at] + sum(durations_ns)) & _WORD  # a venue's time may be absurd
