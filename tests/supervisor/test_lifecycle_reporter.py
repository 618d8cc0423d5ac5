"""Reports of a process: on the board, in the log, to followers."""

from __future__ import annotations

import signal

import pytest

from ipc.board import Row, WorkerWord
from ipc.health import Reason, WorkerState, code_of
from supervisor import lifecycle_reporter as module
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
def row():
    return Row(memoryview(bytearray(WorkerWord.COUNT * 8)).cast("Q"), 0, WorkerWord.COUNT)


@pytest.fixture
def life():
    return ProcessLifecycle(Backoff(BackoffPolicy(jitter=0.0)))


@pytest.fixture
def published():
    return []


@pytest.fixture
def reports(clock, row, life, published):
    """Reporter of a process with pid 4711."""
    reports = LifecycleReporter("lighter", row, life, published.append)
    reports.record_fork(4711)
    published.clear()
    return reports


@pytest.fixture
def logged(caplog):
    caplog.set_level("INFO")
    return lambda event: [
        (record.levelname, record.fields) for record in caplog.records if record.getMessage() == event
    ]


def crash(life, now_ns):
    life.handle(ChildEvent.START, now_ns)
    life.record_fork(now_ns)
    death = life.record_exit(Reason.CRASH, 1, None, now_ns, 0)
    life.handle(ChildEvent.EXIT, now_ns)
    return death


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (None, None), (99, "signal 99")])
def test_a_signal_by_its_name(number, name):
    assert signal_name(number) == name


def test_a_fork_is_on_the_board_and_published(reports, row, life, published):
    life.handle(ChildEvent.START, 0)
    life.generation, life.backoff.failures = 5, 2
    reports.record_fork(4711)
    words = [row[word] for word in (WorkerWord.PID, WorkerWord.RESTARTS, WorkerWord.FAILURES)]
    assert words == [4711, 4, 2]
    assert (published[0]["event"], published[0]["pid"], published[0]["generation"], published[0]["delay_s"]) == (
        "started",
        4711,
        5,
        None,
    )


def test_a_change_is_on_the_board_with_its_time(reports, row, life, published):
    life.handle(ChildEvent.START, 0)
    step = life.handle(ChildEvent.FRESH, 7)
    reports.record_state(step, 7, None)
    assert row[WorkerWord.STATE] == code_of(WorkerState.LIVE)
    assert row[WorkerWord.STATE_SINCE] == row[WorkerWord.LIVE_AT] == 7
    assert published[0]["event"] == "live"


def test_live_is_logged_with_the_time_since_the_fork(reports, life, logged):
    life.handle(ChildEvent.START, 0)
    life.record_fork(2 * S)
    step = life.handle(ChildEvent.FRESH, 5 * S)
    reports.record_state(step, 5 * S, None)
    assert logged("worker.live") == [("INFO", {"venue": "lighter", "after_ms": 3000})]


def test_an_event_has_all_its_fields(reports, life, published):
    life.handle(ChildEvent.START, 990 * S)
    life.record_fork(990 * S)
    death = life.record_exit(Reason.CRASH, 7, None, 1000 * S, 0)
    life.handle(ChildEvent.EXIT, 1000 * S)
    reports.record_exit(death, is_expected=False)
    assert published == [
        {
            "process": "lighter",
            "event": "exited",
            "reason": Reason.CRASH,
            "pid": None,
            "generation": 1,
            "exit_code": 7,
            "signal": None,
            "delay_s": 1.0,
            "failures": 1,
            "restarts": 0,
            "uptime_s": 10.0,
            "mono_ns": 1000 * S,
            "wall_ns": 1000 * S + 5,
        }
    ]


def test_stale_time_adds_up(reports, row, life, logged):
    life.handle(ChildEvent.START, 0)
    moments = [
        (ChildEvent.FRESH, 0),
        (ChildEvent.STALE, 10 * S),
        (ChildEvent.FRESH, 13 * S),
        (ChildEvent.STALE, 20 * S),
        (ChildEvent.EXIT, 21 * S),
    ]
    for event, now in moments:
        reports.record_state(life.handle(event, now), now, None)
    assert row[WorkerWord.STALE_NS] == 4 * S
    assert [level for level, _ in logged("worker.stale")] == ["WARNING"] * 2


@pytest.mark.parametrize(
    ("reason", "level"),
    [(Reason.REQUESTED, "INFO"), (Reason.CONFIG_CHANGED, "INFO"), (Reason.DRILL, "INFO"), (Reason.WEDGED, "WARNING")],
)
def test_a_kill_is_a_warning_unless_it_was_wanted(reports, row, life, logged, reason, level):
    reports.log_kill(reason)
    ((how, fields),) = logged("worker.killing")
    assert (how, fields["reason"], fields["worker_pid"]) == (level, reason, 4711)


@pytest.mark.parametrize(("expected", "level"), [(True, "INFO"), (False, "ERROR")])
def test_an_exit_is_reported_with_all_that_is_known(reports, row, life, published, logged, expected, level):
    life.handle(ChildEvent.START, 990 * S)
    life.record_fork(990 * S)
    death = life.record_exit(Reason.CRASH, None, signal.SIGSEGV, 1000 * S, 0)
    life.handle(ChildEvent.EXIT, 1000 * S)
    reports.record_exit(death, is_expected=expected)
    assert [row[w] for w in (WorkerWord.PID, WorkerWord.EXIT_CODE, WorkerWord.EXIT_SIGNAL)] == [0, 0, signal.SIGSEGV]
    assert (row[WorkerWord.EXIT_AT], row[WorkerWord.EXIT_UPTIME_NS]) == (1000 * S, 10 * S)
    assert (row[WorkerWord.EXIT_REASON], row[WorkerWord.FAILURES]) == (code_of(Reason.CRASH), 1)
    ((how, fields),) = logged("worker.exited")
    assert (how, fields["worker_pid"], fields["signal"], fields["uptime_s"]) == (level, 4711, "SIGSEGV", 10.0)
    (event,) = published
    assert (event["event"], event["reason"], event["signal"], event["uptime_s"]) == ("exited", "crash", "SIGSEGV", 10.0)
    assert (event["failures"], event["delay_s"]) == (1, 1.0)
    assert (event["mono_ns"], event["wall_ns"]) == (1000 * S, 1000 * S + 5)


def test_exit_code_zero_is_not_none(reports, row, life):
    life.handle(ChildEvent.START, 0)
    reports.record_exit(life.record_exit(Reason.CLEAN_EXIT, 0, None, 1, 0), is_expected=True)
    assert row[WorkerWord.EXIT_CODE] == 1


def test_the_next_start_is_reported_with_its_delay(reports, row, life, published, logged):
    crash(life, 1000 * S)
    reports.record_restart(Reason.CRASH)
    ((_, fields),) = logged("worker.restarting")
    assert (fields["delay_s"], fields["failures"], fields["restarts"]) == (1.0, 1, 1)
    assert (published[0]["event"], published[0]["delay_s"]) == ("restarting", 1.0)


def test_a_delay_that_is_over_is_none_left(reports, row, life, published, clock):
    crash(life, 1000 * S)
    clock.now_ns = 1005 * S
    reports.record_restart(Reason.CRASH)
    assert published[0]["delay_s"] == 0.0


def test_a_failed_fork_is_an_error_with_its_delay(reports, row, life, logged):
    life.handle(ChildEvent.START, 1000 * S)
    life.record_failed_fork()
    step = life.handle(ChildEvent.FORK_FAILED, 1000 * S)
    reports.record_state(step, 1000 * S, None)
    reports.record_failed_fork("no room")
    ((level, fields),) = logged("worker.fork_failed")
    assert (level, fields["error"], fields["retry_in_s"]) == ("ERROR", "no room", 1.0)
    assert row[WorkerWord.NEXT_START] == 1001 * S


def test_an_operator_is_called_with_an_error(reports, row, life, logged):
    reports.log_attention(WorkerState.UNKILLABLE, Reason.WEDGED)
    ((level, fields),) = logged("worker.needs_attention")
    assert (level, fields["state"], fields["reason"]) == ("ERROR", "unkillable", "wedged")


def test_a_crash_loop_is_one_line_per_longest_delay(reports, row, life, logged):
    for second in range(100):
        crash(life, (1000 + second) * S)
        reports.record_crash_loop((1000 + second) * S)
    lines = logged("worker.crash_loop")
    assert len(lines) == 4, "at 0, 30, 60 and 90 s"
    level, fields = lines[-1]
    assert (level, fields["failures"]) == ("ERROR", 91)
    assert fields["reasons"] == ",".join(["crash"] * 5)
    assert fields["uptimes_s"] == ",".join(["0.0"] * 5)
    assert fields["within_s"] == 4.0
    assert row[WorkerWord.CRASH_LOOP] == 1


def test_the_end_of_a_crash_loop_is_logged_and_so_is_the_next_one_at_once(reports, row, life, logged):
    reports.record_crash_loop(1000 * S)
    reports.record_recovery()
    assert row[WorkerWord.CRASH_LOOP] == 0
    reports.record_crash_loop(1001 * S)
    assert (len(logged("worker.crash_loop")), len(logged("worker.crash_loop_over"))) == (2, 1)
