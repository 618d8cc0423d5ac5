"""Stamps of delivery on the board, where they are shared."""

from __future__ import annotations

from types import SimpleNamespace

from ipc.board import Board, CellWord, StreamWord
from ipc.health import Stream
from workers.net.stamps import DeliveryStamps


class Carried(SimpleNamespace):
    """A stream as far as stamps look at it."""

    unstamped_events = 0
    __hash__ = object.__hash__


def test_two_sessions_that_carry_one_stream_add_their_events_up():
    """As extended's marks and index prices, which come by two connections and stand in one cell."""
    board = Board.in_memory()
    cell, shared = board.cell(1, 0, Stream.MARK), board.stream(1, Stream.MARK)
    places = {"cell_offset": cell.at, "histograms_offset": shared.at, "is_published_valid": False}
    sessions = []
    for _ in range(2):
        stamps = DeliveryStamps(board.words, carries_books=False, is_live=True)
        sessions.append((stamps, Carried(**places)))
    for count in (3, 1):
        for stamps, stream in sessions:
            stream.unstamped_events += count
            stamps.touched[stream] = SimpleNamespace(flags=(), exchange_ns=1_000)
            assert stamps.write(now_ns=10_000, wall_ns=2_000)
    assert cell[CellWord.EVENTS] == 8
    assert sum(shared[StreamWord.HANDLING + bucket] for bucket in range(24)) == 8
    assert shared[StreamWord.LAG] == 8
