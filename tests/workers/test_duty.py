"""Duty of a line: the parent's word on the board, and waits that end when it changes."""

from __future__ import annotations

import pytest
from clocks import FakeStop

from ipc.board import Board, WorkerWord
from workers import duty as module
from workers.duty import LineDuty


@pytest.fixture
def words():
    return Board.in_memory().worker(1)


@pytest.fixture
def duty(words, clock, monkeypatch):
    monkeypatch.setattr(module, "time", clock)
    return LineDuty(words)


def test_only_line_of_a_venue_has_the_duty_whatever_stands_on_the_board():
    assert LineDuty().is_ours


def test_one_of_two_lines_has_it_when_its_word_says_so(duty, words):
    assert not duty.is_ours
    words[WorkerWord.DUTY] = 1
    assert duty.is_ours
    words[WorkerWord.DUTY] = 0
    assert not duty.is_ours


def test_only_line_waits_in_one_piece(clock):
    stop = FakeStop(clock)
    LineDuty().wait(stop, 30)
    assert stop.waits == [30]


def test_wait_of_a_line_ends_after_its_time(duty, words, clock):
    words[WorkerWord.DUTY] = 1
    stop = FakeStop(clock)
    duty.wait(stop, 30)
    assert sum(stop.waits) == pytest.approx(30)


def test_wait_of_a_line_ends_when_it_loses_the_duty(duty, words, clock):
    class Losing(FakeStop):
        def wait(self, timeout=None):
            words[WorkerWord.DUTY] = len(self.waits) < 10
            return super().wait(timeout)

    words[WorkerWord.DUTY] = 1
    stop = Losing(clock)
    duty.wait(stop, 300)
    assert 1 < sum(stop.waits) < 5


def test_wait_ends_with_the_worker(duty, words, clock):
    words[WorkerWord.DUTY] = 1
    duty.wait(FakeStop(clock, for_s=3), 300)
    words[WorkerWord.DUTY] = 0
    duty.wait_until_ours(FakeStop(clock, for_s=3))


def test_duty_is_noticed_at_once(duty, words, clock):
    class Gaining(FakeStop):
        def wait(self, timeout=None):
            words[WorkerWord.DUTY] = len(self.waits) >= 10
            return super().wait(timeout)

    stop = Gaining(clock)
    duty.wait_until_ours(stop)
    assert len(stop.waits) == 11
    assert max(stop.waits) <= 0.2
