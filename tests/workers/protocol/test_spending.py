"""Buckets that two lines share through the board: together never more than one, alone all of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.board import Board, WorkerWord
from workers.protocol.pacing import TokenBucket
from workers.protocol.spending import MESSAGES, WEIGHT, SharedSpending, SharedTokenBucket

NS = 1_000_000_000
START = 1_000 * NS
SLOTS = (2, 7)


class Lines:
    """Two lines with a bucket each; ``spent`` holds when either acquired a token, in s."""

    def __init__(self, capacity=10, per_s=2):
        self.board = Board.in_memory()
        self.capacity, self.per_s = capacity, per_s
        self.now, self.spent, self.generation = START, [], 0
        self.buckets = [None, None]
        for line in (0, 1):
            self.start(line)

    def start(self, line):
        """Begin a generation of a line, as the parent and the worker do."""
        self.generation += 1
        own, peer = (self.board.worker(slot) for slot in (SLOTS[line], SLOTS[1 - line]))
        self.board.clear_worker(SLOTS[line], 1)
        own[WorkerWord.EPOCH] = self.generation
        self.buckets[line] = SharedTokenBucket(self.capacity, self.per_s, SharedSpending(own, peer, MESSAGES))

    def burst(self, line, most=1000):
        """Acquire single tokens until the bucket refuses; return how many."""
        count = 0
        while count < most and self.buckets[line].acquire(1, self.now):
            self.spent.append((self.now - START) / NS)
            count += 1
        return count

    def wait(self, seconds, *lines):
        """Let time pass in which these lines count ten times a second, as their main threads do."""
        end = self.now + round(seconds * NS)
        while self.now < end:
            self.now = min(end, self.now + NS // 10)
            for line in lines or (0, 1):
                self.buckets[line].update(self.now)

    def words(self, line):
        return self.board.worker(SLOTS[line])


@pytest.fixture
def lines():
    return Lines()


def test_what_one_line_acquires_the_other_cannot(lines):
    assert lines.burst(0, most=7) == 7
    assert lines.burst(1) == 3
    assert lines.burst(0) == 0
    lines.wait(2)
    assert lines.burst(1) == 4
    assert lines.burst(0) == 0


def test_nothing_is_halved(lines):
    """A line whose other spends nothing, for whatever reason, has as much as a line without another."""
    alone = TokenBucket(10, 2)
    for _ in range(4):
        acquired = sum(alone.acquire(1, lines.now) for _ in range(100))
        assert lines.burst(0) == acquired
        lines.wait(3.5)


def test_what_was_spent_long_ago_does_not_count(lines):
    """Counted only at the next acquisition, it would cost an idle line all that has been refilled since."""
    lines.burst(0)
    lines.wait(60)
    assert lines.burst(1) == 10


def test_a_line_spends_in_thousandths(lines):
    lines.buckets[0].acquire(2.5, lines.now)
    lines.buckets[0].acquire(1, lines.now)
    assert lines.words(0)[WorkerWord.SPENT_MESSAGES] == 3500
    assert lines.buckets[1].wait_s(10, lines.now) == pytest.approx(3.5 / 2)


def test_a_refused_request_is_not_counted(lines):
    lines.burst(0)
    lines.burst(1)
    assert lines.words(0)[WorkerWord.SPENT_MESSAGES] == 10_000
    assert lines.words(1)[WorkerWord.SPENT_MESSAGES] == 0


def test_restart_of_a_line_frees_nothing(lines):
    lines.burst(0)
    lines.wait(0.1)
    lines.start(0)
    assert lines.burst(0) == 0
    lines.wait(2)
    assert lines.burst(0) == 4


def test_line_that_restarts_after_a_quiet_while_has_all_of_it(lines):
    lines.burst(0)
    lines.burst(1)
    lines.wait(5)
    lines.start(1)
    assert lines.burst(1) == 10


def test_line_that_begins_adopts_what_the_other_had_spent_before(lines):
    """The counter says nothing of when: a line that counted it as spent now would begin late, a line that did not, too
    much."""
    lines.burst(0)
    lines.wait(1)
    lines.start(1)
    assert lines.burst(1) == 2


@pytest.mark.parametrize("spends", [3, 8])
def test_new_generation_counts_from_zero_even_if_it_spends_more_than_the_last(lines, spends):
    lines.burst(1, most=5)
    lines.buckets[0].update(lines.now)
    lines.wait(60)
    lines.start(1)
    assert lines.burst(1, most=spends) == spends
    assert lines.burst(0) == 10 - spends


def test_words_that_are_being_cleared_are_not_counted_again(lines):
    """The epoch is cleared first: for a moment the counter of the last generation stands beside none."""
    lines.burst(1, most=9)
    lines.wait(60)
    lines.words(1)[WorkerWord.EPOCH] = 0
    assert lines.burst(0) == 10


def test_line_that_died_keeps_what_it_had_spent(lines):
    lines.burst(1)
    assert lines.burst(0) == 0
    lines.wait(2, 0)
    assert lines.burst(0) == 4


def test_stalled_line_is_not_punished_for_what_the_other_spent_meanwhile(lines):
    """It counts minutes of spending at once: more than a bucket holds, of which all but the last is refilled."""
    for _ in range(30):
        lines.burst(1)
        lines.wait(5, 1)
    assert lines.buckets[0].wait_s(1, lines.now) <= 0.5


def test_own_debt_remains(lines):
    assert lines.buckets[0].acquire(14, lines.now)
    lines.burst(1)
    assert lines.buckets[0].wait_s(1, lines.now) == pytest.approx(2.5)


def test_drained_bucket_is_empty(lines):
    lines.buckets[0].update(lines.now)
    lines.buckets[0].drain()
    assert lines.burst(0) == 0


def test_budgets_have_their_own_words(lines):
    other = SharedTokenBucket(10, 2, SharedSpending(lines.words(1), lines.words(0), WEIGHT))
    lines.burst(0)
    assert other.acquire(10, lines.now)
    assert lines.words(1)[WorkerWord.SPENT_WEIGHT] == 10_000
    assert lines.burst(1) == 0


@settings(deadline=None)
@given(
    capacity=st.integers(1, 20),
    per_s=st.integers(1, 20),
    steps=st.lists(
        st.tuples(st.sampled_from(("burst", "some", "restart")), st.integers(0, 1), st.floats(0, 3)), max_size=25
    ),
)
def test_together_they_never_exceed_capacity_plus_rate(capacity, per_s, steps):
    lines = Lines(capacity, per_s)
    for what, line, pause_s in steps:
        match what:
            case "burst":
                lines.burst(line)
            case "some":
                lines.burst(line, most=3)
            case "restart":
                lines.wait(0.1)  # a process that ends and begins within less than a tenth of a second does not exist
                lines.start(line)
        lines.wait(pause_s)
    for begin in range(len(lines.spent)):
        for end in range(begin, len(lines.spent)):
            window_s = lines.spent[end] - lines.spent[begin]
            # What is refilled while a line counts: a tenth of a second.
            assert end - begin + 1 <= capacity + per_s * (window_s + 0.1) + 1e-6


@settings(deadline=None)
@given(pauses=st.lists(st.floats(0.1, 5), min_size=1, max_size=10), capacity=st.integers(1, 20))
def test_greedy_lines_together_acquire_all_of_it(pauses, capacity):
    lines, alone = Lines(capacity), TokenBucket(capacity, 2)
    acquired = expected = 0
    for pause_s in pauses:
        acquired += lines.burst(0) + lines.burst(1)
        expected += sum(alone.acquire(1, lines.now) for _ in range(capacity))
        lines.wait(pause_s)
    assert expected - 1 <= acquired <= expected + 1
