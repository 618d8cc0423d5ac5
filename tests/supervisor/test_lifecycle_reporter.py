"""What is told of a process: on the board, in the log, to followers."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from ipc.board import Row, WorkerWord
from ipc.health import Reason, WorkerState, code_of
from supervisor import lifecycle_reporter as module
from supervisor.child import Supervised
from supervisor.lifecycle import ChildEvent, ProcessLifecycle
from supervisor.lifecycle_reporter import LifecycleReporter, signal_name
from workers.backoff import Backoff, BackoffPolicy

S = 1_000_000_000


class Clock:
    now_ns = 1000 * S

    def monotonic_ns(self):
        return self.now_ns

    def time_ns(self):
        return self.now_ns + 5


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def child():
    row = Row(memoryview(bytearray(WorkerWord.COUNT * 8)).cast("Q"), 0, WorkerWord.COUNT)
    life = ProcessLifecycle(Backoff(BackoffPolicy(jitter=0.0)))
    return Supervised("lighter", 3, row, life, lambda *_: None, child=SimpleNamespace(pid=4711))


@pytest.fixture
def told():
    return []


@pytest.fixture
def reports(clock, told):
    return LifecycleReporter(told.append)


@pytest.fixture
def logged(caplog):
    caplog.set_level("INFO")
    return lambda event: [
        (record.levelname, record.fields) for record in caplog.records if record.getMessage() == event
    ]


def crash(child, now_ns):
    child.life.handle(ChildEvent.START, now_ns)
    death = child.life.record_exit(Reason.CRASH, 1, None, now_ns, 0)
    child.life.handle(ChildEvent.EXIT, now_ns)
    return death


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (None, None), (99, "signal 99")])
def test_a_signal_by_its_name(number, name):
    assert signal_name(number) == name


def test_a_start_is_on_the_board_and_told(reports, child, told):
    child.life.handle(ChildEvent.START, 0)
    child.life.restarts, child.life.backoff.failures = 4, 2
    reports.forked(child)
    words = [child.row[word] for word in (WorkerWord.PID, WorkerWord.RESTARTS, WorkerWord.FAILURES)]
    assert words == [4711, 4, 2]
    assert (told[0]["event"], told[0]["pid"], told[0]["generation"], told[0]["delay_s"]) == ("started", 4711, 1, None)


def test_a_change_is_on_the_board_with_its_time(reports, child, told):
    child.life.handle(ChildEvent.START, 0)
    step = child.life.handle(ChildEvent.FRESH, 7)
    reports.changed(child, step, 7, None)
    assert child.row[WorkerWord.STATE] == code_of(WorkerState.LIVE)
    assert child.row[WorkerWord.STATE_SINCE] == child.row[WorkerWord.LIVE_AT] == 7
    assert told[0]["event"] == "live"


def test_stale_time_adds_up(reports, child, logged):
    child.life.handle(ChildEvent.START, 0)
    moments = [
        (ChildEvent.FRESH, 0),
        (ChildEvent.STALE, 10 * S),
        (ChildEvent.FRESH, 13 * S),
        (ChildEvent.STALE, 20 * S),
        (ChildEvent.EXIT, 21 * S),
    ]
    for event, now in moments:
        reports.changed(child, child.life.handle(event, now), now, None)
    assert child.row[WorkerWord.STALE_NS] == 4 * S
    assert [level for level, _ in logged("worker.stale")] == ["WARNING"] * 2


@pytest.mark.parametrize(
    ("reason", "level"),
    [(Reason.REQUESTED, "INFO"), (Reason.CONFIG_CHANGED, "INFO"), (Reason.DRILL, "INFO"), (Reason.WEDGED, "WARNING")],
)
def test_a_kill_is_a_warning_unless_it_was_wanted(reports, child, logged, reason, level):
    reports.killing(child, reason)
    ((how, fields),) = logged("worker.killing")
    assert (how, fields["reason"], fields["worker_pid"]) == (level, reason, 4711)


@pytest.mark.parametrize(("expected", "level"), [(True, "INFO"), (False, "ERROR")])
def test_an_exit_is_told_with_all_that_is_known(reports, child, told, logged, expected, level):
    child.life.handle(ChildEvent.START, 990 * S)
    death = child.life.record_exit(Reason.CRASH, None, signal.SIGSEGV, 1000 * S, 0)
    child.child = None
    reports.exited(child, death, 4711, expected=expected)
    row = child.row
    assert [row[w] for w in (WorkerWord.PID, WorkerWord.EXIT_CODE, WorkerWord.EXIT_SIGNAL)] == [0, 0, signal.SIGSEGV]
    assert (row[WorkerWord.EXIT_AT], row[WorkerWord.EXIT_UPTIME_NS]) == (1000 * S, 10 * S)
    assert (row[WorkerWord.EXIT_REASON], row[WorkerWord.FAILURES]) == (code_of(Reason.CRASH), 1)
    ((how, fields),) = logged("worker.exited")
    assert (how, fields["worker_pid"], fields["signal"], fields["uptime_s"]) == (level, 4711, "SIGSEGV", 10.0)
    (event,) = told
    assert (event["event"], event["reason"], event["signal"], event["uptime_s"]) == ("exited", "crash", "SIGSEGV", 10.0)
    assert (event["failures"], event["delay_s"]) == (1, 1.0)
    assert (event["mono_ns"], event["wall_ns"]) == (1000 * S, 1000 * S + 5)


def test_exit_code_zero_is_not_none(reports, child):
    child.life.handle(ChildEvent.START, 0)
    reports.exited(child, child.life.record_exit(Reason.CLEAN_EXIT, 0, None, 1, 0), 1, expected=True)
    assert child.row[WorkerWord.EXIT_CODE] == 1


def test_the_next_start_is_told_with_its_delay(reports, child, told, logged):
    crash(child, 1000 * S)
    reports.restarting(child, Reason.CRASH)
    ((_, fields),) = logged("worker.restarting")
    assert (fields["delay_s"], fields["failures"], fields["restarts"]) == (1.0, 1, 1)
    assert (told[0]["event"], told[0]["delay_s"]) == ("restarting", 1.0)


def test_a_delay_that_is_over_is_none_left(reports, child, told, clock):
    crash(child, 1000 * S)
    clock.now_ns = 1005 * S
    reports.restarting(child, Reason.CRASH)
    assert told[0]["delay_s"] == 0.0


def test_a_failed_fork_is_an_error_with_its_delay(reports, child, logged):
    child.life.schedule_after_failed_fork(1000 * S)
    reports.fork_failed(child, "no room")
    ((level, fields),) = logged("worker.fork_failed")
    assert (level, fields["error"], fields["retry_in_s"]) == ("ERROR", "no room", 1.0)
    assert child.row[WorkerWord.NEXT_START] == 1001 * S


def test_a_person_is_called_with_an_error(reports, child, logged):
    reports.attention(child, WorkerState.UNKILLABLE, Reason.WEDGED)
    ((level, fields),) = logged("worker.needs_attention")
    assert (level, fields["state"], fields["reason"]) == ("ERROR", "unkillable", "wedged")


def test_a_crash_loop_is_one_line_per_longest_delay(reports, child, logged):
    for second in range(100):
        crash(child, (1000 + second) * S)
        reports.crash_loop(child, (1000 + second) * S)
    lines = logged("worker.crash_loop")
    assert len(lines) == 4, "at 0, 30, 60 and 90 s"
    level, fields = lines[-1]
    assert (level, fields["failures"]) == ("ERROR", 91)
    assert fields["reasons"] == ",".join(["crash"] * 5)
    assert fields["uptimes_s"] == ",".join(["0.0"] * 5)
    assert fields["within_s"] == 4.0
    assert child.row[WorkerWord.CRASH_LOOP] == 1


def test_the_end_of_a_crash_loop_is_told_and_the_next_one_again_at_once(reports, child, logged):
    reports.crash_loop(child, 1000 * S)
    reports.crash_loop_over(child)
    assert child.row[WorkerWord.CRASH_LOOP] == 0
    reports.crash_loop(child, 1001 * S)
    assert (len(logged("worker.crash_loop")), len(logged("worker.crash_loop_over"))) == (2, 1)
