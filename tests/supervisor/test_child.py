"""A child process: its forks, checks, kills and exits, with a clock, timers and processes of the test's own."""

from __future__ import annotations

import heapq
import itertools
import signal
import time

import pytest

from ipc.board import Board, HeaderWord, SessionWord, WorkerWord
from ipc.errors import UsageError
from ipc.health import Phase, Reason, SelfFault, WorkerState, code_of, word_of
from supervisor import child as module
from supervisor.child import ChildProcess, ChildSpec, Handover, KillSequence, Supervision
from supervisor.kill_rules import KillLimits
from supervisor.lifecycle import ChildEvent, ChildState
from supervisor.spawn import ForkError
from workers.backoff import BackoffPolicy

S = 1_000_000_000
MS = 1_000_000
T0 = 500 * S
SLOT = 3
USR1, TERM, KILL = signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL
LIMITS = KillLimits(start_ns=30 * S)
HOUR = 3600 * S


class Process:
    """A forked process; it keeps what it is sent with the time, ns after :data:`T0`."""

    def __init__(self, rig, pid, target):
        self.rig = rig
        self.pid = self.pidfd = pid
        self.target = target
        self.signals = []
        self.stopped = False
        self.traced = False
        self.end = (0, None)
        self.reaped = False

    def signal(self, number):
        self.signals.append((self.rig.now_ns - T0, number))

    def kill_group(self):
        self.signals.append((self.rig.now_ns - T0, "group"))

    def is_stopped(self):
        return self.stopped

    def is_traced(self):
        return self.traced

    def reap(self):
        assert not self.reaped
        self.reaped = True
        return self.end


class Rig:
    """One child with all that it needs; also its reactor and its clock."""

    def __init__(self, monkeypatch, run_dir):
        self.now_ns = T0
        self.timers = []
        self.order = itertools.count()
        self.readers = {}
        self.processes = []
        self.published = []
        self.exits = []
        self.markets = 2
        self.refuses = False
        self.runs = []
        self.board = Board.create(run_dir.board, 1)
        for name in ("monotonic_ns", "time_ns"):
            monkeypatch.setattr(time, name, lambda: self.now_ns)
        monkeypatch.setattr(module, "spawn", self.spawn)
        self.supervision = Supervision(self.board, self, self.published.append, self.on_exit)
        self.child = self.make()
        self.row = self.child.row

    def make(self, *, is_judged=True):
        spec = ChildSpec("lighter", SLOT, lambda *given: self.runs.append(given), lambda: self.markets, is_judged)
        return ChildProcess(spec, BackoffPolicy(jitter=0.0), self.supervision)

    # --- as the reactor -----------------------------------------------------------------------------------------------

    def at(self, when_ns, callback):
        heapq.heappush(self.timers, (when_ns, next(self.order), callback))

    def watch(self, descriptor, callback):
        if callback is None:
            del self.readers[descriptor]
        else:
            self.readers[descriptor] = callback

    def run(self, for_ns):
        """Let time pass; every timer runs at its time."""
        until = self.now_ns + for_ns
        while self.timers and self.timers[0][0] <= until:
            self.now_ns, _, callback = heapq.heappop(self.timers)
            callback()
        self.now_ns = until

    # --- as the kernel ------------------------------------------------------------------------------------------------

    def spawn(self, name, target):
        assert name == "lighter"
        if self.refuses:
            raise ForkError("cannot fork lighter: no room")
        self.processes.append(Process(self, 1000 + len(self.processes), target))
        return self.processes[-1]

    def on_exit(self, child):
        self.exits.append((child.state, self.events()[-1]))

    @property
    def process(self):
        return self.processes[-1]

    def exit(self, code=1, number=None):
        """The process ends now."""
        self.process.end = (code, number)
        self.readers[self.process.pidfd]()

    # --- what is seen -------------------------------------------------------------------------------------------------

    def events(self):
        return [event["event"] for event in self.published]

    def start(self):
        self.child.handle(ChildEvent.START)

    def live(self):
        """It is started and live."""
        self.start()
        self.stamp()
        self.child.check(self.now_ns, None)
        assert self.child.state is ChildState.LIVE

    def stamp(self):
        """The worker writes on the board that all is well."""
        self.row[WorkerWord.FIRST_FRESH] = self.row[WorkerWord.FIRST_FRESH] or self.now_ns
        self.row[WorkerWord.LAST_FRESH] = self.row[WorkerWord.BEAT] = self.now_ns

    def state(self):
        return word_of(WorkerState, self.row[WorkerWord.STATE])


@pytest.fixture
def rig(monkeypatch, run_dir):
    rig = Rig(monkeypatch, run_dir)
    yield rig
    rig.board.close()


@pytest.fixture
def logged(caplog):
    """The records of an event: level and fields."""
    caplog.set_level("INFO")
    return lambda event: [(r.levelname, r.fields) for r in caplog.records if r.getMessage() == event]


def test_exits_are_counted_by_reason_over_all_generations(rig):
    exits = rig.board.exits(SLOT)
    rig.live()
    for code, number in ((None, signal.SIGKILL), (1, None), (None, signal.SIGKILL)):
        rig.exit(code, number)
        rig.run(HOUR)
    rig.child.handle(ChildEvent.UNHEALTHY, Reason.MEMORY)
    rig.exit(None, signal.SIGTERM)
    counts = {reason: exits[code_of(reason)] for reason in Reason if exits[code_of(reason)]}
    assert counts == {Reason.KILLED: 2, Reason.CRASH: 1, Reason.MEMORY: 1}


# --- the kill sequence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Reason.STALE_WORKER, Reason.START_TIMEOUT, Reason.MEMORY])
def test_dump_then_term_then_kill_then_an_operator(rig, logged, reason):
    rig.live()
    rig.child.handle(ChildEvent.UNHEALTHY, reason)
    rig.run(7199 * MS)
    assert rig.process.signals == [(0, USR1), (200 * MS, TERM), (2200 * MS, "group")]
    assert rig.child.state is ChildState.KILLING
    rig.run(MS)
    assert rig.child.state is ChildState.UNKILLABLE
    ((level, fields),) = logged("worker.needs_attention")
    assert (level, fields["state"]) == ("ERROR", WorkerState.UNKILLABLE)


def test_a_wedged_process_has_a_short_grace(rig):
    rig.live()
    rig.child.handle(ChildEvent.UNHEALTHY, Reason.WEDGED)
    rig.run(5699 * MS)
    assert rig.process.signals == [(0, USR1), (200 * MS, TERM), (700 * MS, "group")]
    assert rig.child.state is ChildState.KILLING
    rig.run(MS)
    assert rig.child.state is ChildState.UNKILLABLE


@pytest.mark.parametrize("reason", [Reason.REQUESTED, Reason.CONFIG_CHANGED])
@pytest.mark.parametrize(
    ("event", "after"),
    [(ChildEvent.STOP, ChildState.UNKILLABLE_STOPPING), (ChildEvent.RESTART, ChildState.UNKILLABLE)],
)
def test_a_planned_kill_has_no_dump(rig, event, after, reason):
    rig.live()
    rig.child.handle(event, reason)
    rig.run(6999 * MS)
    assert rig.process.signals == [(0, TERM), (2 * S, "group")]
    assert rig.child.state.public is WorkerState.KILLING
    rig.run(MS)
    assert rig.child.state is after


@pytest.mark.parametrize("reason", [Reason.WEDGED, Reason.REQUESTED, Reason.STALE_WORKER])
def test_a_stopped_process_is_killed_at_once(rig, reason):
    rig.live()
    rig.process.stopped = True
    rig.child.handle(ChildEvent.UNHEALTHY, reason)
    rig.run(4999 * MS)
    assert rig.process.signals == [(0, "group")]
    assert rig.child.state is ChildState.KILLING
    rig.run(MS)
    assert rig.child.state is ChildState.UNKILLABLE


def test_each_signal_is_sent_once_and_none_after_the_last(rig):
    process = Process(rig, 1, None)
    sequence = KillSequence.begin(process, Reason.MEMORY)
    assert [sequence.send_next() for _ in range(5)] == [200 * MS, 2 * S, 5 * S, None, None]
    assert [number for _, number in process.signals] == [USR1, TERM, "group"]


def test_a_late_parent_gives_each_step_its_time(rig):
    """Timers that are overdue run at once, but the wait begins when the signal is sent."""
    rig.live()
    rig.child.handle(ChildEvent.UNHEALTHY, Reason.WEDGED)
    rig.now_ns += 60 * S
    rig.timers[0][2]()
    assert rig.process.signals == [(0, USR1), (60 * S, TERM)]
    heapq.heappop(rig.timers)
    assert min(rig.timers)[0] == T0 + 60 * S + 500 * MS


def test_a_kill_ends_with_the_process(rig):
    rig.live()
    rig.child.handle(ChildEvent.STOP, Reason.REQUESTED)
    rig.run(100 * MS)
    rig.exit(0)
    rig.run(HOUR)
    assert rig.process.signals == [(0, TERM)]
    assert rig.child.state is ChildState.STOPPED


def test_a_kill_does_not_reach_the_next_generation(rig):
    rig.live()
    rig.child.handle(ChildEvent.RESTART, Reason.REQUESTED)
    rig.exit(0)
    rig.run(60 * S)
    assert [process.signals for process in rig.processes] == [[(0, TERM)], []]


def test_kill_now_skips_to_the_last_signal(rig):
    rig.live()
    rig.child.handle(ChildEvent.STOP, Reason.REQUESTED)
    rig.run(500 * MS)
    rig.child.kill_now()
    rig.run(4999 * MS)
    assert rig.process.signals == [(0, TERM), (500 * MS, "group")], "the step that was planned before is void"
    assert rig.child.state is ChildState.STOPPING
    rig.run(MS)
    assert rig.child.state is ChildState.UNKILLABLE_STOPPING


def test_kill_now_is_only_for_a_process_that_is_being_killed(rig):
    rig.child.kill_now()
    rig.live()
    rig.child.kill_now()
    assert rig.process.signals == []
    rig.exit()
    rig.child.kill_now()
    assert rig.process.signals == []


def test_a_kill_is_logged_with_its_reason_before_it_is_published(rig, logged):
    rig.live()
    rig.child.handle(ChildEvent.UNHEALTHY, Reason.MEMORY)
    ((level, fields),) = logged("worker.killing")
    assert (level, fields["venue"], fields["worker_pid"], fields["reason"]) == ("WARNING", "lighter", 1000, "memory")
    assert (rig.events()[-1], rig.published[-1]["reason"], rig.state()) == ("killing", "memory", WorkerState.KILLING)


def test_a_stop_during_a_kill_changes_nothing_that_is_published(rig):
    rig.live()
    rig.child.handle(ChildEvent.UNHEALTHY, Reason.WEDGED)
    published = list(rig.published)
    rig.run(S)
    rig.child.handle(ChildEvent.STOP, Reason.REQUESTED)
    assert rig.child.state is ChildState.STOPPING
    assert rig.published == published
    assert rig.row[WorkerWord.STATE_SINCE] == T0
    assert [number for _, number in rig.process.signals] == [USR1, TERM, "group"]


# --- the fork ---------------------------------------------------------------------------------------------------------


def test_a_start_forks_and_is_reported(rig):
    rig.start()
    words = [rig.row[word] for word in (WorkerWord.PID, WorkerWord.GENERATION, WorkerWord.FORKED, WorkerWord.RESTARTS)]
    assert words == [1000, 1, T0, 0]
    assert rig.board.header[HeaderWord.FORKS] == 1
    assert rig.events() == ["started", "starting"]
    assert (rig.state(), rig.row[WorkerWord.STATE_SINCE]) == (WorkerState.STARTING, T0)
    assert rig.child.process is rig.process
    assert rig.child.lifecycle.forked_ns == T0


def test_the_target_is_called_with_generation_and_handover(rig):
    rig.start()
    rig.row[WorkerWord.EPOCH], rig.row[WorkerWord.PUBLISHED] = 70, 17
    rig.exit(None, KILL)
    rig.run(S)
    rig.row[WorkerWord.EPOCH], rig.row[WorkerWord.PUBLISHED] = 60, 20
    rig.exit(0)
    rig.run(2 * S)
    for process in rig.processes:
        process.target()
    first, second, third = rig.runs
    assert first == (1, Handover(epoch=0, reason=None, published=0))
    assert second == (2, Handover(epoch=70, reason=Reason.KILLED, published=17))
    assert third == (3, Handover(epoch=70, reason=Reason.CLEAN_EXIT, published=20))


def test_a_fork_clears_what_the_generation_before_wrote(rig):
    rig.live()
    rig.row[WorkerWord.SELF_FAULT] = 5
    session = rig.board.session(SLOT, 0)
    session[SessionWord.FRAMES] = 9
    rig.exit()
    assert session[SessionWord.FRAMES] == 9
    rig.run(S)
    assert (session[SessionWord.FRAMES], rig.row[WorkerWord.FIRST_FRESH], rig.row[WorkerWord.SELF_FAULT]) == (0, 0, 0)


def test_a_fork_clears_the_cells_of_the_larger_of_two_generations(rig, monkeypatch):
    cleared = []
    monkeypatch.setattr(rig.board, "clear_worker", lambda *given: cleared.append(given))
    for rig.markets in (0, 5, 3, 1):
        rig.child.handle(ChildEvent.START)
        rig.exit()
        rig.run(0)
        rig.child.handle(ChildEvent.STOP)
    assert cleared == [(SLOT, 0), (SLOT, 5), (SLOT, 5), (SLOT, 3)]


def test_a_fork_that_fails_is_tried_again_after_growing_delays(rig, logged):
    rig.refuses = True
    rig.start()
    assert (rig.state(), rig.row[WorkerWord.NEXT_START], rig.events()) == (WorkerState.BACKOFF, T0 + S, ["backoff"])
    assert (rig.child.process, rig.child.lifecycle.generation, rig.readers) == (None, 0, {})
    assert rig.row[WorkerWord.GENERATION] == 1
    rig.run(10 * S)
    delays = [(level, fields["retry_in_s"]) for level, fields in logged("worker.fork_failed")]
    assert delays == [("ERROR", 1), ("ERROR", 2), ("ERROR", 4), ("ERROR", 8)]
    assert logged("worker.fork_failed")[0][1]["error"] == "cannot fork lighter: no room"
    assert rig.board.header[HeaderWord.FORKS] == 0
    rig.refuses = False
    rig.run(5 * S)
    assert (rig.child.state, rig.child.lifecycle.generation, rig.now_ns - T0) == (ChildState.STARTING, 1, 15 * S)
    assert "restarting" not in rig.events()


# --- the exit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ((0, None), Reason.CLEAN_EXIT),
        ((1, None), Reason.CRASH),
        ((2, None), Reason.CRASH),
        ((78, None), Reason.CONFIG_ERROR),
        ((None, signal.SIGKILL), Reason.KILLED),
        ((None, signal.SIGTERM), Reason.KILLED),
        ((None, signal.SIGINT), Reason.KILLED),
        ((None, signal.SIGHUP), Reason.KILLED),
        ((None, signal.SIGQUIT), Reason.KILLED),
        ((None, signal.SIGSEGV), Reason.CRASH),
        ((None, signal.SIGUSR1), Reason.CRASH),
    ],
)
def test_an_exit_that_the_parent_did_not_cause_has_a_reason(rig, logged, end, reason):
    rig.start()
    rig.run(3 * S)
    rig.exit(*end)
    ((level, fields),) = logged("worker.exited")
    assert (level, fields["reason"], fields["uptime_s"], fields["worker_pid"]) == ("ERROR", reason, 3.0, 1000)
    assert rig.child.state is (ChildState.FAILED if reason is Reason.CONFIG_ERROR else ChildState.BACKOFF)
    assert word_of(Reason, rig.row[WorkerWord.EXIT_REASON]) is reason


def test_an_exit_is_reaped_recorded_and_restarted_in_this_order(rig):
    rig.live()
    rig.run(10 * S)
    rig.exit()
    assert (rig.process.reaped, rig.readers, rig.child.process) == (True, {}, None)
    assert rig.events() == ["started", "starting", "live", "exited", "backoff", "restarting"]
    assert rig.exits == [(ChildState.BACKOFF, "backoff")]
    assert [event["delay_s"] for event in rig.published[-3:]] == [1.0] * 3
    assert rig.row[WorkerWord.NEXT_START] == T0 + 11 * S
    rig.run(S - 1)
    assert len(rig.processes) == 1
    rig.run(1)
    assert len(rig.processes) == 2
    assert rig.row[WorkerWord.NEXT_START] == 0
    assert rig.child.lifecycle.restarts == rig.row[WorkerWord.RESTARTS] == 1


def test_a_planned_restart_comes_at_once(rig, logged):
    rig.live()
    rig.child.handle(ChildEvent.RESTART, Reason.REQUESTED)
    rig.exit(0)
    ((_, exited),) = logged("worker.exited")
    ((_, restarting),) = logged("worker.restarting")
    assert (exited["reason"], restarting["delay_s"], restarting["failures"]) == (Reason.REQUESTED, 0.0, 0)
    assert len(rig.processes) == 1
    rig.run(0)
    assert len(rig.processes) == 2


def test_an_operator_does_not_wait_for_the_backoff_and_its_plan_is_void(rig):
    rig.start()
    rig.exit()
    rig.run(300 * MS)
    rig.child.handle(ChildEvent.RESTART, Reason.REQUESTED)
    assert (len(rig.processes), rig.child.state) == (2, ChildState.STARTING)
    rig.exit()
    rig.run(700 * MS)
    assert len(rig.processes) == 2, "the first plan was for now, the second is for two seconds after the second exit"
    rig.run(1299 * MS)
    assert len(rig.processes) == 2
    rig.run(MS)
    assert len(rig.processes) == 3


def test_a_stop_during_the_backoff_voids_the_plan(rig):
    rig.start()
    rig.exit()
    rig.child.handle(ChildEvent.STOP, Reason.REQUESTED)
    rig.run(HOUR)
    assert (len(rig.processes), rig.child.state, rig.row[WorkerWord.NEXT_START]) == (1, ChildState.STOPPED, 0)


@pytest.mark.parametrize(
    ("prepare", "level"),
    [
        (lambda child: child.handle(ChildEvent.STOP, Reason.REQUESTED), "INFO"),
        (lambda child: child.handle(ChildEvent.RESTART, Reason.CONFIG_CHANGED), "INFO"),
        (lambda child: child.drill("kill"), "INFO"),
        (lambda child: child.handle(ChildEvent.UNHEALTHY, Reason.WEDGED), "ERROR"),
        (
            lambda child: (
                child.handle(ChildEvent.UNHEALTHY, Reason.WEDGED),
                child.handle(ChildEvent.STOP, Reason.REQUESTED),
            ),
            "INFO",
        ),
    ],
    ids=["stop", "restart", "drill", "kill", "stop during a kill"],
)
def test_an_exit_is_an_error_unless_it_was_expected(rig, logged, prepare, level):
    rig.live()
    prepare(rig.child)
    rig.exit(None, KILL)
    assert [how for how, _ in logged("worker.exited")] == [level]


def test_a_stopped_child_is_not_reported_as_restarting(rig):
    rig.live()
    rig.child.handle(ChildEvent.STOP, Reason.REQUESTED)
    rig.exit(0)
    assert rig.events()[-2:] == ["exited", "stopped"]
    assert rig.exits == [(ChildState.STOPPED, "stopped")]


def test_a_configuration_error_calls_an_operator_and_plans_nothing(rig, logged):
    rig.start()
    rig.exit(78)
    ((level, fields),) = logged("worker.needs_attention")
    assert (level, fields["state"], fields["reason"]) == ("ERROR", WorkerState.FAILED, Reason.CONFIG_ERROR)
    assert rig.timers == []
    assert rig.events()[-2:] == ["exited", "failed"]


@pytest.mark.parametrize(("fresh_s", "failures"), [(59, 2), (60, 1)])
def test_a_minute_of_fresh_data_resets_the_failures(rig, fresh_s, failures):
    rig.start()
    rig.exit()
    rig.run(S)
    rig.stamp()
    rig.run(fresh_s * S)
    rig.stamp()
    rig.run(100 * S)
    rig.exit()
    assert rig.child.lifecycle.backoff.failures == rig.row[WorkerWord.FAILURES] == failures


def test_a_run_that_was_never_fresh_resets_nothing(rig):
    rig.start()
    rig.exit()
    rig.run(S)
    rig.row[WorkerWord.LAST_FRESH] = rig.now_ns + HOUR
    rig.run(100 * S)
    rig.exit()
    assert rig.child.lifecycle.backoff.failures == 2


def test_one_without_a_health_record_was_healthy_for_as_long_as_it_listened(rig):
    rig.child = rig.make(is_judged=False)
    rig.start()
    rig.exit()
    rig.run(S)
    rig.row[WorkerWord.FIRST_FRESH] = rig.now_ns
    rig.run(60 * S)
    rig.exit()
    assert rig.child.lifecycle.backoff.failures == 1


# --- checks -----------------------------------------------------------------------------------------------------------


def test_a_check_follows_fresh_and_stale(rig):
    rig.live()
    rig.run(S)
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.child.state is ChildState.LIVE
    rig.run(1)
    rig.child.check(rig.now_ns, None)
    assert rig.child.state is ChildState.STALE
    rig.stamp()
    rig.child.check(rig.now_ns, LIMITS)
    assert (rig.child.state, rig.row[WorkerWord.STATE_SINCE]) == (ChildState.LIVE, rig.now_ns)


def test_a_check_kills_by_the_rules_unless_they_are_suspended(rig):
    rig.live()
    rig.run(2 * S + 1)
    rig.child.check(rig.now_ns, None)
    assert rig.child.state is ChildState.STALE
    rig.child.check(rig.now_ns, LIMITS)
    assert (rig.child.state, rig.child.lifecycle.kill_reason) == (ChildState.KILLING, Reason.WEDGED)


def checked_each_second(rig, seconds):
    """Check for as long, and return the second at which it is killed."""
    for second in range(seconds):
        rig.child.check(rig.now_ns, LIMITS)
        if rig.child.state is ChildState.KILLING:
            return second
        rig.run(S)
    return None


def test_a_debugger_holds_off_the_rules_and_is_logged_once(rig, logged):
    rig.live()
    rig.process.traced = True
    rig.run(2 * S + 1)
    assert checked_each_second(rig, 60) is None
    assert logged("worker.traced") == [("WARNING", {"venue": "lighter", "worker_pid": rig.process.pid})]
    assert rig.child.state is ChildState.STALE


def test_after_a_debugger_the_process_has_ten_seconds(rig):
    rig.live()
    rig.process.traced = True
    rig.run(2 * S + 1)
    assert checked_each_second(rig, 60) is None
    rig.process.traced = False
    assert checked_each_second(rig, 60) == 10
    assert rig.child.lifecycle.kill_reason is Reason.WEDGED


def test_a_new_generation_has_no_grace_of_the_last(rig):
    rig.live()
    rig.process.traced = True
    rig.run(2 * S + 1)
    assert checked_each_second(rig, 3) is None
    rig.exit()
    rig.run(2 * S)
    rig.live()
    rig.run(2 * S + 1)
    assert checked_each_second(rig, 3) == 0


def test_a_check_reads_the_sessions_of_its_own_row(rig):
    rig.live()
    rig.board.session(SLOT + 1, 0)[SessionWord.DEADLINE] = 1
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.child.state is ChildState.LIVE
    session = rig.board.session(SLOT, 1)
    session[SessionWord.PHASE], session[SessionWord.DEADLINE] = code_of(Phase.CONNECTING), 1
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.child.state is ChildState.KILLING


@pytest.mark.parametrize("event", [ChildEvent.STOP, ChildEvent.RESTART])
def test_only_what_runs_is_checked(rig, event):
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.published == []
    rig.live()
    rig.child.handle(event, Reason.REQUESTED)
    rig.run(1900 * MS)
    published = list(rig.published)
    rig.row[WorkerWord.BEAT] = 1
    rig.child.check(rig.now_ns, LIMITS)
    assert (rig.published, rig.child.lifecycle.kill_reason) == (published, Reason.REQUESTED)


def test_one_without_a_health_record_is_live_once_it_listens_and_never_killed(rig):
    rig.child = rig.make(is_judged=False)
    rig.start()
    rig.run(HOUR)
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.child.state is ChildState.STARTING
    rig.row[WorkerWord.FIRST_FRESH] = rig.row[WorkerWord.BEAT] = rig.now_ns
    rig.child.check(rig.now_ns, LIMITS)
    rig.run(HOUR)
    rig.child.check(rig.now_ns, LIMITS)
    assert rig.child.state is ChildState.LIVE


def crash(rig, count):
    for _ in range(count):
        rig.start()
        rig.exit()


def test_a_crash_loop_is_flagged_with_its_fifth_exit_and_logged_once(rig, logged):
    crash(rig, 4)
    assert (rig.row[WorkerWord.CRASH_LOOP], logged("worker.crash_loop")) == (0, [])
    crash(rig, 2)
    assert rig.row[WorkerWord.CRASH_LOOP] == 1
    ((level, fields),) = logged("worker.crash_loop")
    assert (level, fields["failures"], fields["next_try_in_s"]) == ("ERROR", 5, 16.0)


@pytest.mark.parametrize(("fresh_s", "is_over"), [(59, False), (60, True)])
def test_a_crash_loop_ends_while_the_process_runs(rig, logged, fresh_s, is_over):
    crash(rig, 5)
    rig.start()
    rig.stamp()
    rig.child.check(rig.now_ns, LIMITS)
    rig.run(fresh_s * S)
    rig.stamp()
    rig.child.check(rig.now_ns, LIMITS)
    rig.child.check(rig.now_ns, LIMITS)
    assert len(logged("worker.crash_loop_over")) == is_over
    assert rig.row[WorkerWord.CRASH_LOOP] == (not is_over)
    assert rig.child.lifecycle.in_crash_loop is not is_over


def test_a_crash_loop_ends_with_a_healthy_run_that_no_check_saw(rig, logged):
    crash(rig, 5)
    rig.start()
    rig.stamp()
    rig.run(60 * S)
    rig.stamp()
    rig.exit()
    assert (rig.row[WorkerWord.CRASH_LOOP], len(logged("worker.crash_loop_over"))) == (0, 1)


# --- drills -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "number"), [("kill", signal.SIGKILL), ("segv", signal.SIGSEGV), ("stop", signal.SIGSTOP)]
)
def test_a_drill_sends_its_signal_and_is_logged(rig, logged, fault, number):
    rig.live()
    rig.child.drill(fault)
    assert rig.process.signals == [(0, number)]
    ((level, fields),) = logged("worker.drill")
    assert (level, fields) == ("INFO", {"venue": "lighter", "worker_pid": 1000, "fault": fault})
    assert rig.row[WorkerWord.SELF_FAULT] == 0


@pytest.mark.parametrize("fault", ["exit", "hang", "memory"])
def test_a_drill_of_a_fault_of_the_process_itself_is_on_the_board(rig, fault):
    rig.live()
    rig.child.drill(fault)
    assert rig.process.signals == []
    assert word_of(SelfFault, rig.row[WorkerWord.SELF_FAULT]) is SelfFault(fault)


def test_an_exit_by_a_drill_is_not_counted_and_waits_the_first_delay(rig):
    rig.start()
    rig.exit()
    rig.run(S)
    rig.child.drill("kill")
    rig.exit(None, KILL)
    assert (rig.published[-1]["reason"], rig.published[-1]["delay_s"]) == ("drill", 1.0)
    assert rig.child.lifecycle.backoff.failures == 1
    rig.run(S)
    assert not rig.child.lifecycle.is_drill


@pytest.mark.parametrize(("after_ns", "reason"), [(60 * S - 1, Reason.DRILL), (60 * S, Reason.CRASH)])
def test_an_exit_a_minute_after_a_drill_is_not_the_drills(rig, after_ns, reason):
    rig.live()
    rig.child.drill("hang")
    rig.run(after_ns)
    rig.exit()
    assert rig.published[-1]["reason"] == reason


def test_a_drill_of_one_generation_ends_no_drill_of_the_next(rig):
    rig.live()
    rig.child.drill("kill")
    rig.exit(None, KILL)
    rig.run(58 * S)
    rig.child.drill("hang")
    rig.run(3 * S)
    assert rig.child.lifecycle.is_drill


def test_a_drill_needs_a_process(rig):
    with pytest.raises(UsageError, match="lighter is not running") as refused:
        rig.child.drill("kill")
    assert refused.value.advice == "wait until it is"
    assert (rig.child.lifecycle.is_drill, rig.timers) == (False, [])
