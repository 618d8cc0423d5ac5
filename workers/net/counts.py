"""Counts of a connection's events and how long they took, added to the board a few times a second.

Freshness, on which much depends, is stamped with each read by :mod:`workers.net.connection`; nothing waits for counts,
which cost less when those of many events are added at once.
"""

from __future__ import annotations

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
#: clock; and the venue's time, if it says it. Further events that a read brought to the stream count like the first,
#: and are noted by the stream alone.
Note: TypeAlias = tuple[MarketStream, int | None, int, int | None]


class DeliveryCounts:
    """Counts of one connection's events; every method requires the publisher's lock.

    ``note`` takes a :data:`Note` or, for one more event like the last of its stream, the stream; ``due_ns`` is when to
    flush. ``is_live`` is False for recorded frames, whose venue's times say nothing about now.
    """

    __slots__ = ("_is_live", "_notes", "_words", "due_ns", "note")

    def __init__(self, words: memoryview, *, is_live: bool) -> None:
        self._words = words
        self._is_live = is_live
        self._notes: list[Note | MarketStream] = []
        self.note: Callable[[Note | MarketStream], None] = self._notes.append
        self.due_ns = 0

    def flush(self, now_ns: int) -> None:
        """Add what was noted to the board."""
        words = self._words
        by_stream: dict[MarketStream, tuple[list[Note], list[int]]] = {}
        for note in self._notes:
            if isinstance(note, tuple):
                notes, counts = by_stream.get(note[0]) or by_stream.setdefault(note[0], ([], []))
                notes.append(note)
                counts.append(1)
            else:
                by_stream[note][1][-1] += 1
        self._notes.clear()
        self.due_ns = now_ns + _FLUSH_NS
        for stream, (notes, counts) in by_stream.items():
            stream.stamped_ns = 0  # the next event is noted in full
            words[stream.cell_offset + _EVENTS] += sum(counts)  # two sessions may write one cell, under the lock
            self._add(stream.histograms_offset + _HANDLING, [took_ns for _, took_ns, _, _ in notes], counts)
            if self._is_live:
                self._add(stream.histograms_offset + _LAG, [_lag_ns(note) for note in notes], counts)

    def _add(self, first: int, durations_ns: list[int | None], counts: list[int]) -> None:
        """Add durations, each of a number of events, to the histogram that begins with a word, and to its sum."""
        buckets: dict[int, int] = {}
        total_ns = 0
        for duration_ns, count in zip(durations_ns, counts, strict=True):
            if duration_ns is not None:
                bits = (duration_ns >> FIRST_BITS).bit_length()
                buckets[bits] = buckets.get(bits, 0) + count
                total_ns += duration_ns * count
        words = self._words
        for bits, count in buckets.items():
            words[first + min(bits, BUCKETS - 1)] += count
        words[first + BUCKETS] = (words[first + BUCKETS] + total_ns) & _WORD  # a venue's time may be absurd


def _lag_ns(note: Note) -> int | None:
    """Return the age of an event at its receipt; at least 0, for the clocks differ. None where there is none."""
    _, took_ns, wall_ns, venue_ns = note
    return None if took_ns is None or venue_ns is None else max(0, wall_ns - venue_ns)
