"""Answers to probes, from the board alone."""

from __future__ import annotations

import pytest

from ipc.board import Board, HeaderWord, WorkerWord
from supervisor.serving.health import is_alive, is_ready

S = 1_000_000_000
START = 1_000 * S


@pytest.fixture
def board():
    board = Board.in_memory()
    board.header[HeaderWord.PARENT_STARTED] = START
    yield board
    board.close()


@pytest.mark.parametrize(("beat_s", "expected"), [(0.1, True), (9.9, True), (10.0, False), (3600, False)])
def test_a_parent_is_alive_while_it_checks_its_processes(board, beat_s, expected):
    now = START + 4000 * S
    board.header[HeaderWord.PARENT_BEAT] = now - round(beat_s * S)
    assert is_alive(board.header, now) is expected


def test_a_parent_that_just_started_is_alive(board):
    assert is_alive(board.header, START + S)
    assert not is_alive(board.header, START + 11 * S)


def test_ready_once_every_worker_was_live(board):
    workers = [board.worker(0), board.worker(1)]
    assert not is_ready(board.header, workers, START + S)
    workers[0][WorkerWord.LIVE_AT] = START + S
    assert not is_ready(board.header, workers, START + 2 * S)
    workers[1][WorkerWord.LIVE_AT] = START + 3 * S
    assert is_ready(board.header, workers, START + 4 * S)


def test_ready_after_a_minute_whatever_the_venues_do(board):
    workers = [board.worker(0)]
    assert not is_ready(board.header, workers, START + 59 * S)
    assert is_ready(board.header, workers, START + 60 * S)


def test_a_worker_that_starts_again_stays_ready(board):
    worker = board.worker(0)
    worker[WorkerWord.LIVE_AT] = START + S
    board.clear_worker(0, 2)
    assert is_ready(board.header, [worker], START + 2 * S)
