"""Histograms of the board, merged into the few buckets that are exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from ipc.board import Board, Row, StreamWord
from ipc.health import Stream
from supervisor.status.histograms import counts_in, upper_bound_ns

_NS: Final = 1_000_000_000
#: Streams with a histogram; those of others are in ``status`` alone.
STREAMS: Final = (Stream.BOOK, Stream.TRADE)
#: Buckets of the board that are upper bounds of exported ones: 131 µs to 8.6 s, each four times the one before.
_BOUNDS: Final = range(4, 21, 2)
#: The same in seconds, and as text.
BOUNDS_S: Final = tuple(upper_bound_ns(bucket) / _NS for bucket in _BOUNDS)
_BOUND_TEXTS: Final = tuple(map(repr, BOUNDS_S))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Histogram as Prometheus wants it.

    Attributes:
        buckets: Upper bound in seconds as text, ``+Inf`` the last, and the number of durations up to it.
        sum_s: Sum of all durations, s.
    """

    buckets: list[tuple[str, float]]
    sum_s: float


@dataclass(frozen=True, slots=True)
class StreamHistograms:
    """Histograms of one stream of a process."""

    handling: Histogram
    lag: Histogram


def merge(counts: Sequence[int], sum_ns: int) -> Histogram:
    """Return the exported form of a board's histogram."""
    cumulative = list(accumulate(counts))
    buckets = [(bound, float(cumulative[bucket])) for bound, bucket in zip(_BOUND_TEXTS, _BOUNDS, strict=True)]
    return Histogram([*buckets, ("+Inf", float(cumulative[-1]))], sum_ns / _NS)


def read(board: Board, slot: int, streams: Iterable[Stream] = STREAMS) -> dict[Stream, StreamHistograms]:
    """Return the histograms of a process."""
    return {stream: _read(board.stream(slot, stream)) for stream in streams}


def _read(row: Row) -> StreamHistograms:
    return StreamHistograms(
        handling=merge(counts_in(row, StreamWord.HANDLING), row[StreamWord.HANDLING_SUM]),
        lag=merge(counts_in(row, StreamWord.LAG), row[StreamWord.LAG_SUM]),
    )
