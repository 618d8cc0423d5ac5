"""Histograms of the board: their bounds and the quantiles that are read from them."""

from __future__ import annotations

import random

import pytest

from ipc.board import BUCKETS, Board, StreamWord
from ipc.health import Stream
from supervisor.status.histograms import counts_in, quantiles, upper_bound_ns

MS = 1_000_000


@pytest.fixture
def row():
    return Board.in_memory().stream(1, Stream.BOOK)


def test_bounds_are_those_that_durations_are_counted_by():
    for duration_ns in (0, 8191, 8192, 16_383, 16_384, 1_000_000, 30 * 10**9):
        bucket = (duration_ns >> 13).bit_length()
        assert duration_ns < upper_bound_ns(bucket)
        assert bucket == 0 or duration_ns >= upper_bound_ns(bucket - 1)
    assert (upper_bound_ns(0), upper_bound_ns(BUCKETS - 1)) == (8192, 2**36)


def test_empty_histogram_has_no_quantiles(row):
    assert quantiles(row, StreamWord.LAG, MS) is None


@pytest.mark.parametrize("first", [StreamWord.HANDLING, StreamWord.LAG])
def test_counts_are_those_of_the_histogram_alone(row, first):
    for word in range(StreamWord.COUNT):
        row[word] = word
    assert counts_in(row, first) == list(range(first, first + BUCKETS))


def test_quantiles_are_within_a_bucket_of_the_truth(row):
    rng = random.Random(7)
    durations = sorted(int(rng.lognormvariate(13, 1.2)) for _ in range(20_000))
    for duration_ns in durations:
        row[StreamWord.HANDLING + min((duration_ns >> 13).bit_length(), BUCKETS - 1)] += 1
    found = quantiles(row, StreamWord.HANDLING, 1)
    assert found["p50"] == pytest.approx(durations[10_000], rel=0.25)
    assert found["p99"] == pytest.approx(durations[19_800], rel=0.25)


def test_last_bucket_has_an_end_for_the_estimate(row):
    row[StreamWord.LAG + BUCKETS - 1] = 5
    assert quantiles(row, StreamWord.LAG, 10**9) == {"p50": 51.5, "p99": 68.4}
