"""Budgets of a minute: a third at once, no minute with more, and the pauses that a venue demands, on both lines."""

from __future__ import annotations

import threading

import pytest
from clocks import FakeClock

from ipc.board import Board, WorkerWord
from workers.net.budget import MinuteBudget
from workers.protocol.spending import WEIGHT, SharedSpending

NS = 1_000_000_000
SLOTS = (2, 7)


def test_budget_is_empty_after_a_penalty(clock):
    budget = MinuteBudget(90, clock.monotonic_ns)
    assert budget.acquire(1) == 0
    budget.penalise(5)
    assert budget.acquire(1) == pytest.approx(5)
    clock.advance(5)
    # Five seconds have refilled five.
    assert budget.acquire(5) == 0
    assert budget.acquire(1) == pytest.approx(1)


def test_no_minute_has_more_than_the_budget(clock):
    budget = MinuteBudget(60, clock.monotonic_ns)
    granted = []
    for second in range(180):
        granted += [second] * sum(budget.acquire(1) == 0 for _ in range(60))
        clock.advance(1)
    assert granted.count(0) == 20, "a third at once"
    assert max(sum(first <= second < first + 60 for second in granted) for first in range(120)) <= 60
    assert 38 <= sum(second >= 120 for second in granted) <= 41


def test_longer_of_two_penalties_holds(clock):
    budget = MinuteBudget(90, clock.monotonic_ns)
    budget.penalise(30)
    budget.penalise(5)
    assert budget.acquire(1) == pytest.approx(30)


def test_refused_request_is_never_given_a_wait_for_nothing(clock):
    budget = MinuteBudget(90, clock.monotonic_ns)
    assert budget.acquire(30) == 0
    clock.advance(0.9999999)
    assert budget.acquire(1) >= 0.001


def test_budget_is_shared_by_threads():
    budget = MinuteBudget(3000, FakeClock().monotonic_ns)
    granted = []

    def ask():
        granted.extend(1 for _ in range(300) if budget.acquire(1) == 0)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1000


# --- two lines ----------------------------------------------------------------------------------------------------


class Lines:
    """Two lines that share a budget of 90 a minute: 30 at once, one a second."""

    def __init__(self, clock):
        self.clock = clock
        self.board = Board.in_memory()
        self.budgets = [None, None]
        self.generation = 0
        for line in (0, 1):
            self.start(line)

    def start(self, line):
        self.generation += 1
        own, peer = (self.board.worker(slot) for slot in (SLOTS[line], SLOTS[1 - line]))
        self.board.clear_worker(SLOTS[line], 1)
        own[WorkerWord.EPOCH] = self.generation
        spending = SharedSpending(own, peer, WEIGHT)
        self.budgets[line] = MinuteBudget(90, self.clock.monotonic_ns, spending)

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            for budget in self.budgets:
                budget.update()


@pytest.fixture
def lines(clock):
    return Lines(clock)


def test_no_minute_of_an_address_has_more_than_the_budget(lines):
    granted = []
    for second in range(150):
        for budget in lines.budgets:
            granted += [second] * sum(budget.acquire(1) == 0 for _ in range(60))
        if second == 70:
            lines.start(1)
        lines.wait(1)
    assert max(sum(first <= second < first + 60 for second in granted) for first in range(90)) <= 90
    assert len(granted) >= 150, "all of it is used"


def test_pause_that_the_venue_demands_of_one_line_holds_for_the_other(lines):
    lines.budgets[0].penalise(20)
    assert lines.budgets[1].acquire(1) == pytest.approx(20)
    lines.wait(20)
    assert lines.budgets[1].acquire(20) == 0
    assert lines.budgets[0].acquire(1) == pytest.approx(1), "both begin again with an empty bucket"


def test_pause_survives_the_restart_of_the_line_that_was_refused(lines):
    lines.budgets[0].penalise(20)
    lines.wait(1)
    lines.start(0)
    assert lines.budgets[0].acquire(1) == pytest.approx(19)


def test_pause_that_is_over_costs_a_line_nothing(lines):
    lines.budgets[0].penalise(5)
    lines.clock.advance(60)
    assert lines.budgets[1].acquire(30) == 0


def test_longer_pause_holds_on_both_lines(lines):
    lines.budgets[0].penalise(20)
    lines.budgets[1].penalise(5)
    assert [budget.acquire(1) for budget in lines.budgets] == [pytest.approx(20), pytest.approx(20)]


def test_lines_share_it_also_when_threads_spend(lines):
    granted = []

    def spend(budget):
        granted.extend(1 for _ in range(200) if budget.acquire(0.1) == 0)

    threads = [threading.Thread(target=spend, args=(budget,)) for budget in lines.budgets * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 300 <= len(granted) <= 304, "two threads may see the last tokens at once"
