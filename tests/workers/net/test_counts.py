"""Counts and durations of delivered events on the board."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ipc.board import BUCKETS, Board, CellWord, StreamWord
from ipc.health import Stream
from workers.net.counts import DeliveryCounts

WALL = 1_790_000_000_000_000_000


class Carried(SimpleNamespace):
    """A stream as far as counts look at it."""

    __hash__ = object.__hash__


@pytest.fixture
def board():
    return Board.in_memory()


@pytest.fixture
def stream(board):
    cell, shared = board.cell(1, 0, Stream.MARK), board.stream(1, Stream.MARK)
    return Carried(cell_offset=cell.at, histograms_offset=shared.at)


def events(board):
    return board.cell(1, 0, Stream.MARK)[CellWord.EVENTS]


def histogram(board, first):
    row = board.stream(1, Stream.MARK)
    return {bucket: row[first + bucket] for bucket in range(BUCKETS) if row[first + bucket]}


def test_two_sessions_that_carry_one_stream_add_their_events_up(board, stream):
    """As extended's marks and index prices, which come by two connections and stand in one cell."""
    sessions = [DeliveryCounts(board.words, is_live=True) for _ in range(2)]
    for count in (3, 1):
        for counts in sessions:
            for _ in range(count):
                counts.note((stream, 9_000, WALL, WALL - 1_000))
            counts.flush(0)
    assert events(board) == 8
    assert histogram(board, StreamWord.HANDLING) == {1: 8}
    assert histogram(board, StreamWord.LAG) == {0: 8}
    shared = board.stream(1, Stream.MARK)
    assert (shared[StreamWord.HANDLING_SUM], shared[StreamWord.LAG_SUM]) == (72_000, 8_000)


def test_nothing_is_added_twice_and_the_next_flush_is_due_later(board, stream):
    counts = DeliveryCounts(board.words, is_live=True)
    counts.note((stream, 1, WALL, None))
    assert events(board) == 0
    counts.flush(5_000)
    counts.flush(6_000)
    assert events(board) == 1
    assert counts.due_ns == 100_006_000


def test_more_events_of_a_read_count_like_its_first(board, stream):
    counts = DeliveryCounts(board.words, is_live=True)
    other = Carried(cell_offset=board.cell(1, 1, Stream.MARK).at, histograms_offset=stream.histograms_offset)
    counts.note((stream, 9_000, WALL, WALL - 1_000))
    counts.note((other, 9_000, WALL, None))
    counts.note(stream)
    counts.note((stream, 20_000, WALL, None))
    counts.note(stream)
    counts.note(stream)
    counts.flush(0)
    assert events(board) == 5
    assert histogram(board, StreamWord.HANDLING) == {1: 3, 2: 3}
    assert histogram(board, StreamWord.LAG) == {0: 2}
    assert board.stream(1, Stream.MARK)[StreamWord.HANDLING_SUM] == 3 * 9_000 + 3 * 20_000


def test_an_event_without_a_duration_is_counted_alone(board, stream):
    counts = DeliveryCounts(board.words, is_live=True)
    counts.note((stream, None, WALL, WALL - 5))
    counts.note((stream, 2**62, WALL, None))
    counts.flush(0)
    assert events(board) == 2
    assert histogram(board, StreamWord.HANDLING) == {BUCKETS - 1: 1}
    assert histogram(board, StreamWord.LAG) == {}


@pytest.mark.parametrize(("exchange_ns", "bucket"), [(WALL + 10**9, 0), (WALL - 10**9, 17), (-(2**70), BUCKETS - 1)])
def test_lag_of_clocks_that_differ_and_of_absurd_times(board, stream, exchange_ns, bucket):
    counts = DeliveryCounts(board.words, is_live=True)
    counts.note((stream, 0, WALL, exchange_ns))
    counts.flush(0)
    assert histogram(board, StreamWord.LAG) == {bucket: 1}


def test_the_times_of_recorded_frames_say_nothing_about_now(board, stream):
    counts = DeliveryCounts(board.words, is_live=False)
    counts.note((stream, 0, WALL, WALL - 5))
    counts.flush(0)
    assert events(board) == 1
    assert histogram(board, StreamWord.LAG) == {}
