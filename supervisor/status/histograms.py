"""Histograms of durations on the board, and estimates of their quantiles."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from ipc.board import BUCKETS, FIRST_BITS, Row

_SHOWN: Final = {"p50": 0.5, "p99": 0.99}


def upper_bound_ns(bucket: int) -> int:
    """Return the duration that those counted in a bucket are below; the last bucket counts all that are longer too."""
    return 1 << (bucket + FIRST_BITS)


def counts_in(row: Row, first: int) -> list[int]:
    """Return the buckets of the histogram whose first word is ``first``."""
    at = row.at + first
    return row.words[at : at + BUCKETS].tolist()


def quantiles(row: Row, first: int, unit_ns: int) -> dict[str, float] | None:
    """Return the estimated median and 99th percentile of a histogram in a unit; None while it is empty."""
    totals = [*accumulate(counts_in(row, first))]
    if not totals[-1]:
        return None
    return {name: _rounded(_quantile_ns(totals, share) / unit_ns) for name, share in _SHOWN.items()}


def _quantile_ns(totals: Sequence[int], share: float) -> float:
    """Return a quantile of running totals of buckets, taking the durations in a bucket to be spread evenly."""
    wanted = share * totals[-1]
    bucket = bisect_left(totals, wanted)
    before = totals[bucket - 1] if bucket else 0
    upper = upper_bound_ns(bucket)
    lower = upper // 2 if bucket else 0
    return lower + (upper - lower) * (wanted - before) / (totals[bucket] - before)


def _rounded(value: float) -> float:
    """Return a value with three significant digits at most: the buckets give no more."""
    return float(f"{value:.3g}")
