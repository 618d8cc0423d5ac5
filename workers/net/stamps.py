"""Stamps of delivery: what the reads of a socket brought, on the board's cells and in their streams' histograms.

Everything is written once for each read, not for each event: in bursts a read brings dozens.
"""

from __future__ import annotations

import time
from typing import Final

from ipc.board import BUCKETS, CellWord, StreamWord
from ipc.events import BookSnapshot, Event
from workers.protocol.streams import MarketStream

#: Words as plain numbers, for this is part of the hot path.
_LAST_DATA_RX: Final = int(CellWord.LAST_DATA_RX)
_LAST_PARSED: Final = int(CellWord.LAST_PARSED)
_LAST_PUBLISHED: Final = int(CellWord.LAST_PUBLISHED)
_LAST_GOOD: Final = int(CellWord.LAST_GOOD)
_EVENTS: Final = int(CellWord.EVENTS)
_HANDLING: Final = int(StreamWord.HANDLING)
_HANDLING_SUM: Final = int(StreamWord.HANDLING_SUM)
_LAG: Final = int(StreamWord.LAG)
_LAG_SUM: Final = int(StreamWord.LAG_SUM)
_LAST_BUCKET: Final = BUCKETS - 1
#: Largest value of a word; sums go on from 0 behind it.
_WORD: Final = 2**64 - 1


class DeliveryStamps:
    """Writer of the stamps of a connection's streams; every method requires the publisher's lock.

    ``carries_books`` says whether only valid books count as fresh. ``is_live`` is False for recorded frames, whose
    venue's times say nothing about now. ``touched`` holds the streams that data came for since the last stamp, each
    with the first of its events that was sent.
    """

    __slots__ = ("_carries_books", "_is_live", "_words", "touched")

    def __init__(self, words: memoryview, *, carries_books: bool, is_live: bool) -> None:
        self.touched: dict[MarketStream, Event | None] = {}
        self._words = words
        self._carries_books = carries_books
        self._is_live = is_live

    def write(self, now_ns: int, wall_ns: int) -> bool:
        """Stamp the touched streams' cells and count their events; return whether fresh data came.

        The events of one read count alike: as handled when the last one was sent, and as old as the first one is.
        ``now_ns`` is when it was read, 0 for events that no frame caused, which are counted and stamp nothing.
        """
        words, touched, is_fresh = self._words, self.touched, False
        sent_ns = time.monotonic_ns()
        handling_ns = sent_ns - now_ns
        bits = (handling_ns >> 13).bit_length()
        bucket = _HANDLING + (bits if bits < _LAST_BUCKET else _LAST_BUCKET)  # noqa: FURB136 - min() takes twice as long
        for stream, event in touched.items():
            at = stream.cell_offset
            count, stream.unstamped_events = stream.unstamped_events, 0
            words[at + _EVENTS] += count  # two sessions may write one cell, under the lock
            if not now_ns:
                continue
            words[at + _LAST_DATA_RX] = now_ns
            if event is None:
                continue
            words[at + _LAST_PARSED] = now_ns
            words[at + _LAST_PUBLISHED] = words[at + _LAST_GOOD] = sent_ns
            is_fresh = is_fresh or stream.is_published_valid or not self._carries_books
            # Of the past: history, and a first snapshot, which is as old as its last change.
            if event.flags or (type(event) is BookSnapshot and event.cause != "refresh"):
                continue
            at = stream.histograms_offset
            words[at + bucket] += count
            words[at + _HANDLING_SUM] += count * handling_ns
            exchange_ns = event.exchange_ns
            if exchange_ns is not None and self._is_live:
                lag_ns = wall_ns - exchange_ns
                if lag_ns < 0:  # noqa: PLR1730 - the clocks differ; max() takes twice as long
                    lag_ns = 0
                bits = (lag_ns >> 13).bit_length()
                words[at + _LAG + (bits if bits < _LAST_BUCKET else _LAST_BUCKET)] += count  # noqa: FURB136 - as above
                words[at + _LAG_SUM] = (words[at + _LAG_SUM] + count * lag_ns) & _WORD  # a venue's time may be absurd
        touched.clear()
        return is_fresh
