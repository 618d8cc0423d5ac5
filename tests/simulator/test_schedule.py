from __future__ import annotations

import pytest

from simulator.schedule import Schedule


@pytest.fixture
def loop(fakes):
    return fakes.FakeLoop()


def test_a_job_repeats_without_drift(loop):
    schedule, times = Schedule(loop), []
    schedule.every(0.5, lambda: times.append(loop.time()))
    loop.advance(2.2)
    assert times == [1000.5, 1001.0, 1001.5, 1002.0]


def test_missed_periods_are_skipped(loop):
    schedule, times = Schedule(loop), []

    def stand_still_once():
        times.append(loop.time())
        if len(times) == 1:
            loop._now += 3.25

    schedule.every(1.0, stand_still_once)
    loop.advance(5)
    assert times[0] == 1001.0
    assert len(times) == 3


def test_a_cancelled_job_never_runs(loop):
    schedule, done = Schedule(loop), []
    job = schedule.every(1.0, lambda: done.append(1))
    schedule.once(2.5, job.cancel)
    loop.advance(10)
    assert len(done) == 2


def test_a_job_can_cancel_itself(loop):
    schedule, done = Schedule(loop), []
    job = schedule.every(1.0, lambda: (done.append(1), job.cancel()))
    loop.advance(10)
    assert len(done) == 1


def test_clocks(loop):
    schedule = Schedule(loop, lambda: 1_234_567_891)
    assert schedule.wall_ms() == 1_234
    assert schedule.mono_s() == 1000.0
