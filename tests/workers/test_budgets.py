"""Budgets of a worker: which of a venue's limits count by address, who shares them, and a system's part of them."""

from __future__ import annotations

import time

import pytest

from ipc.board import Board, WorkerWord
from workers.budgets import Budgets
from workers.settings import WorkerSettings
from workers.venues import VENUES

NS = 1_000_000_000


@pytest.fixture
def board():
    return Board.in_memory()


def budgets(board, venue, line=None, **more):
    """The budgets of a venue's only line, or of one of two, in slots 1 and 2."""
    slot = 2 if line == "b" else 1
    board.worker(slot)[WorkerWord.EPOCH] = 1
    more = {"line": line, "peer_slot": None if line is None else 3 - slot, **more}
    settings = WorkerSettings(venue, slot, "/", "", ("BTC",), "ws://x", "http://x", **more)
    return Budgets(VENUES[venue].limits, settings, board)


def burst(bucket):
    """Messages at once."""
    now = time.monotonic_ns()
    return next(count for count in range(1000) if not bucket.acquire(1, now))


def at_once(budget):
    return next(count for count in range(10_000) if budget.acquire(1))


@pytest.mark.parametrize("venue", ["hyperliquid", "extended", "lighter", "paradex"])
def test_lines_share_the_messages_of_an_address(board, venue):
    lines = [budgets(board, venue, line) for line in ("a", "b")]
    assert burst(lines[0].messages) == VENUES[venue].limits.burst
    assert burst(lines[1].messages) == 0


def test_what_a_venue_counts_per_connection_is_not_shared(board):
    lines = [budgets(board, "aster", line, limit_share=0.5) for line in ("a", "b")]
    assert [burst(line.messages) for line in lines] == [5, 5]


@pytest.mark.parametrize("venue", VENUES)
def test_lines_share_rest_weight_by_purpose(board, venue):
    first, second = (budgets(board, venue, line) for line in ("a", "b"))
    weight = VENUES[venue].limits.rest_weight_per_min
    shares = {"rest": 0.6, "optional": 0.25, "account": 0.35}
    for name, share in shares.items():
        assert at_once(getattr(first, name)) == int(weight * share / 3 + 1e-6)
        assert getattr(second, name).acquire(1) > 0, name


def test_pause_of_the_account_is_not_one_of_the_books(board):
    """A venue may limit an account, and nothing else."""
    first, second = (budgets(board, "paradex", line) for line in ("a", "b"))
    first.account.penalise(30)
    assert second.account.acquire(1) == pytest.approx(30, abs=1)
    assert second.rest.acquire(1) == 0


@pytest.mark.parametrize(("venue", "at_most"), [("hyperliquid", 10), ("lighter", 20), ("paradex", 200)])
def test_lines_share_the_connects_that_a_venue_allows(board, venue, at_most):
    first, second = (budgets(board, venue, line) for line in ("a", "b"))
    assert at_once(first.connects) == at_most
    assert second.connects.acquire(1) > 0


@pytest.mark.parametrize("venue", VENUES)
def test_connects_of_a_single_line_are_not_counted(board, venue):
    assert budgets(board, venue).connects is None


@pytest.mark.parametrize("venue", ["aster", "extended"])
def test_where_no_limit_of_connects_is_known_none_is_counted(board, venue):
    assert budgets(board, venue, "a").connects is None


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_system_uses_its_part_of_every_limit_of_the_address(board, share):
    own = budgets(board, "hyperliquid", limit_share=share)
    assert burst(own.messages) == 100 * share
    assert own.messages.per_s == pytest.approx(20 * share)
    assert at_once(own.rest) == int(1200 * 0.6 / 3 * share)
    assert at_once(own.optional) == int(1200 * 0.25 / 3 * share)
    assert at_once(own.account) == int(1200 * 0.35 / 3 * share)
    assert at_once(own.connects) == int(10 * share)


def test_a_share_changes_nothing_by_default(board):
    own = budgets(board, "lighter")
    assert (own.messages.capacity, own.messages.per_s) == (40, 2.4)
    assert at_once(own.rest) == 12


def test_single_line_writes_nothing_on_the_board(board):
    own = budgets(board, "hyperliquid", limit_share=0.5)
    burst(own.messages)
    own.rest.acquire(5)
    own.rest.penalise(5)
    own.connects.acquire(1)
    assert not any(board.worker(1)[word] for word in range(WorkerWord.SPENT_MESSAGES, WorkerWord.COUNT))


def test_update_counts_what_the_other_line_spent_of_everything(board):
    lines = [budgets(board, "lighter", line) for line in ("a", "b")]
    for line in lines:
        line.update()
    burst(lines[0].messages)
    for name in ("rest", "optional", "account", "connects"):
        at_once(getattr(lines[0], name))
    lines[1].update()
    board.clear_worker(1, 1)  # line a ended; what it had spent is counted
    assert burst(lines[1].messages) == 0
    for name in ("rest", "optional", "account", "connects"):
        assert getattr(lines[1], name).acquire(1) > 0, name
