"""Supervised threads: every end that nobody expects is noticed, named, and followed by a new start with backoff."""

from __future__ import annotations

import threading

import pytest
from clocks import wait_until

from ipc.health import Reason
from workers import threads
from workers.backoff import BackoffPolicy
from workers.threads import ThreadSupervisor

EXACT = BackoffPolicy(jitter=0.0)


@pytest.fixture
def supervisor(clock, monkeypatch):
    monkeypatch.setattr(threads, "time", clock)
    return ThreadSupervisor("lighter", EXACT)


class Job:
    """A thread's work: runs until :meth:`end`, which makes it return or raise."""

    def __init__(self):
        self.runs = 0
        self.is_wanted = True
        self._over = threading.Event()
        self._error = None

    def __call__(self):
        self.runs += 1
        self._over.wait(20)
        self._over.clear()
        if self._error is not None:
            raise self._error

    def end(self, error=None):
        self._error = error
        self._over.set()
        wait_until(lambda: not any(thread.name == "job" for thread in threading.enumerate()))


@pytest.fixture
def job(supervisor):
    job = Job()
    supervisor.keep("job", job, lambda: not job.is_wanted)
    wait_until(lambda: job.runs == 1)
    yield job
    job.is_wanted = False
    job.end()


def test_thread_that_runs_is_left_alone(supervisor, job, clock):
    for _ in range(5):
        clock.advance(100)
        supervisor.restart_ended()
    assert job.runs == 1
    assert supervisor.restarts == 0


def test_thread_that_returns_is_noticed_named_and_restarted_after_its_delay(supervisor, job, clock, events):
    job.end()
    supervisor.restart_ended()
    (told,) = events("thread.ended")
    assert (told["thread"], told["reason"], told["restarts"], told["delay_s"]) == ("job", Reason.CLEAN_EXIT, 0, 1.0)
    clock.advance(0.99)
    supervisor.restart_ended()
    assert job.runs == 1
    clock.advance(0.02)
    supervisor.restart_ended()
    wait_until(lambda: job.runs == 2)
    assert supervisor.restarts == 1
    assert events("thread.restarted")[0] == {"venue": "lighter", "thread": "job", "restarts": 1}


def test_thread_that_crashes_is_noticed_with_its_traceback_and_restarted(supervisor, job, clock, events, caplog):
    job.end(ZeroDivisionError("one over none"))
    supervisor.restart_ended()
    assert events("thread.ended")[0]["reason"] is Reason.CRASH
    crashed = next(record for record in caplog.records if record.getMessage() == "thread.crashed")
    assert crashed.fields == {"thread": "job"}
    assert "one over none" in str(crashed.exc_info[1])
    clock.advance(1)
    supervisor.restart_ended()
    wait_until(lambda: job.runs == 2)
    job.end()
    supervisor.restart_ended()
    assert events("thread.ended")[1]["reason"] is Reason.CLEAN_EXIT


def test_backoff_grows_on_consecutive_failures_and_begins_again_after_a_long_run(supervisor, job, clock, events):
    for run in range(1, 5):
        job.end()
        supervisor.restart_ended()
        clock.advance(events("thread.ended")[-1]["delay_s"])
        supervisor.restart_ended()
        wait_until(lambda run=run: job.runs == run + 1)
    clock.advance(60)
    job.end()
    supervisor.restart_ended()
    assert [told["delay_s"] for told in events("thread.ended")] == [1, 2, 4, 8, 1]


def test_thread_that_is_not_wanted_any_more_is_not_restarted(supervisor, job, clock):
    job.is_wanted = False
    job.end()
    supervisor.restart_ended()
    clock.advance(100)
    supervisor.restart_ended()
    assert (job.runs, supervisor.restarts) == (1, 0)


def test_thread_that_is_unwanted_while_it_waits_is_not_restarted(supervisor, job, clock):
    job.end()
    supervisor.restart_ended()
    job.is_wanted = False
    clock.advance(100)
    supervisor.restart_ended()
    assert job.runs == 1


def test_one_thread_that_fails_does_not_touch_another(supervisor, job, clock):
    other, over = [], threading.Event()

    def run():
        other.append(1)
        over.wait(20)

    supervisor.keep("other", run, lambda: False)
    for _ in range(3):
        job.end()
        supervisor.restart_ended()
        clock.advance(30)
        supervisor.restart_ended()
        wait_until(lambda: any(thread.name == "job" for thread in threading.enumerate()))
    assert other == [1]
    over.set()
    assert supervisor.release("other", 10)


def test_released_thread_is_joined_and_not_restarted(supervisor, job, clock):
    job.is_wanted = False
    job._over.set()
    assert supervisor.release("job", 10)
    job.is_wanted = True
    clock.advance(100)
    supervisor.restart_ended()
    assert job.runs == 1


def test_thread_that_does_not_end_in_time_is_reported(supervisor, job):
    assert not supervisor.release("job", 0.01)
    assert job.runs == 1


def test_thread_that_waits_for_its_restart_is_released_at_once(supervisor, job):
    job.end()
    supervisor.restart_ended()
    assert supervisor.release("job", 0)


def test_threads_do_not_keep_the_process_alive(supervisor, job):
    assert supervisor.restarts == 0
    assert job.runs == 1
    assert next(thread for thread in threading.enumerate() if thread.name == "job").daemon
