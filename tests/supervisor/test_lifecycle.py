"""The table of a process's life, and the life over many generations."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.health import Reason, WorkerState
from supervisor.lifecycle import TABLE, Action, ChildEvent, Death, ProcessLifecycle, transitions
from workers.backoff import Backoff, BackoffPolicy

S = 1_000_000_000
RUNNING = {WorkerState.STARTING, WorkerState.LIVE, WorkerState.STALE}

#: What is decided, in words: state, event, next state, actions. Every pair that is not here means nothing.
DECIDED = """
stopped    start       starting   fork
stopped    restart     starting   fork
starting   fresh       live       -
starting   condemn     killing    kill
starting   restart     killing    kill
starting   stop        killing    kill
starting   exit        backoff    bury schedule
starting   exit_config failed     bury alert
starting   fork_failed backoff    schedule
live       stale       stale      -
live       condemn     killing    kill
live       restart     killing    kill
live       stop        killing    kill
live       exit        backoff    bury schedule
live       exit_config failed     bury alert
stale      fresh       live       -
stale      condemn     killing    kill
stale      restart     killing    kill
stale      stop        killing    kill
stale      exit        backoff    bury schedule
stale      exit_config failed     bury alert
backoff    start       starting   fork
backoff    restart     starting   fork
backoff    stop        stopped    -
killing    exit        backoff    bury schedule
killing    exit_config backoff    bury schedule
killing    survived    unkillable alert
unkillable exit        backoff    bury schedule
unkillable exit_config backoff    bury schedule
failed     restart     starting   fork
failed     stop        stopped    -
"""


def decided():
    rows = {}
    for line in DECIDED.strip().splitlines():
        state, event, after, *actions = line.split()
        rows[state, event] = (after, [] if actions == ["-"] else actions)
    return rows


def new_life(**policy):
    return ProcessLifecycle(Backoff(BackoffPolicy(**{"jitter": 0.0, **policy}), chance=random.Random(1)))


def live_at(now, **policy):
    life = new_life(**policy)
    life.handle(ChildEvent.START, now)
    life.handle(ChildEvent.FRESH, now)
    return life


def die(life, now, *, reason=Reason.CRASH, healthy_ns=0, event=ChildEvent.EXIT):
    """It ends at ``now``, as the parent notes it."""
    reason = life.kill_reason or (Reason.DRILL if life.is_drill else reason)
    death = life.record_exit(reason, 1, None, now, healthy_ns)
    life.handle(event, now, reason)
    return death


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_pair_of_state_and_event_is_in_the_table():
    assert set(TABLE) == {(state, event) for state in WorkerState for event in ChildEvent}


@pytest.mark.parametrize("event", ChildEvent, ids=lambda event: event.value)
@pytest.mark.parametrize("state", WorkerState, ids=lambda state: state.value)
def test_pair_is_decided_as_agreed(state, event):
    row = TABLE[state, event]
    agreed = decided().get((state.value, event.value))
    if agreed is None:
        assert row is None
    else:
        assert row is not None
        assert (row[0].value, [action.value for action in row[1]]) == agreed


@pytest.mark.parametrize("event", ChildEvent, ids=lambda event: event.value)
@pytest.mark.parametrize("state", WorkerState, ids=lambda state: state.value)
def test_life_follows_the_table(state, event):
    life = new_life()
    life.state, life.since_ns = state, 1
    step = life.handle(event, 7, Reason.REQUESTED)
    after, actions = decided().get((state.value, event.value), (state.value, []))
    assert (step.previous, step.state.value, [action.value for action in step.actions]) == (state, after, actions)
    assert life.state is step.state
    assert life.since_ns == (7 if step.state is not state else 1)


def test_only_a_start_forks_and_never_beside_a_living_process():
    for (state, _), row in TABLE.items():
        if row is not None and Action.FORK in row[1]:
            assert state in {WorkerState.STOPPED, WorkerState.BACKOFF, WorkerState.FAILED}
            assert row[0] is WorkerState.STARTING


def test_whatever_runs_can_be_killed_and_every_death_is_buried():
    for state in RUNNING:
        for event in (ChildEvent.UNHEALTHY, ChildEvent.RESTART, ChildEvent.STOP):
            assert TABLE[state, event] == (WorkerState.KILLING, (Action.KILL,))
    for state in (*RUNNING, WorkerState.KILLING, WorkerState.UNKILLABLE):
        for event in (ChildEvent.EXIT, ChildEvent.EXIT_CONFIG):
            row = TABLE[state, event]
            assert row is not None
            assert Action.BURY in row[1]


def test_no_state_is_a_trap():
    """Whatever happened, some event leads on: to a start, or to the end that the kernel will tell."""
    for state in WorkerState:
        assert any(row is not None and row[0] is not state for (of, _), row in TABLE.items() if of is state)


def test_printed_table_has_the_rows_that_mean_something():
    printed = transitions()
    rows = {(state, event): (after, [a for a in actions.split(", ") if a]) for state, event, after, actions in printed}
    assert rows == decided()


# --- one life ---------------------------------------------------------------------------------------------------------


def test_first_start_is_generation_one_and_no_restart():
    life = new_life()
    life.handle(ChildEvent.START, 5)
    assert (life.generation, life.restarts, life.forked_ns) == (1, 0, 5)


def test_each_start_is_a_generation_and_each_but_the_first_a_restart():
    life = new_life()
    for count in range(1, 4):
        life.handle(ChildEvent.START, count * 100 * S)
        die(life, count * 100 * S + 1)
        assert (life.generation, life.restarts) == (count, count - 1)


def test_a_start_clears_what_was_left_of_the_kill_before():
    life = live_at(0)
    life.is_drill = True
    life.handle(ChildEvent.RESTART, 1, Reason.REQUESTED)
    die(life, 2)
    life.handle(ChildEvent.START, 3 * S)
    assert (life.kill_reason, life.is_planned, life.is_drill, life.next_start_ns) == (None, False, False, 0)


def test_death_keeps_the_reason_that_started_the_kill():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.STALE_WORKER)
    life.handle(ChildEvent.UNHEALTHY, 2 * S, Reason.WEDGED)
    assert die(life, 3 * S).reason is Reason.STALE_WORKER


def test_death_tells_how_long_it_lived():
    life = live_at(10 * S)
    death = die(life, 25 * S)
    assert death == Death(Reason.CRASH, 1, None, 25 * S, 15 * S, 1)


@pytest.mark.parametrize("reason", [Reason.WEDGED, Reason.STALE_WORKER, Reason.START_TIMEOUT, Reason.MEMORY])
def test_a_verdict_counts_as_failure(reason):
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, reason)
    die(life, S)
    assert life.backoff.failures == 1


def test_an_operators_restart_comes_at_once_and_is_not_counted():
    life = live_at(0)
    die(life, S)
    life.handle(ChildEvent.START, 2 * S)
    life.handle(ChildEvent.RESTART, 3 * S, Reason.REQUESTED)
    die(life, 4 * S)
    assert life.state is WorkerState.BACKOFF
    assert life.next_start_ns == 4 * S
    assert life.backoff.failures == 1


@pytest.mark.parametrize("failures", [0, 4])
def test_a_drill_waits_the_first_delay_and_is_not_counted(failures):
    life = live_at(0)
    life.backoff.failures = failures
    life.is_drill = True
    assert die(life, 2 * S).reason is Reason.DRILL
    assert life.next_start_ns == 3 * S
    assert life.backoff.failures == failures


def test_a_verdict_on_what_a_drill_did_is_not_counted_either():
    """It was told to hang, and the parent found out."""
    life = live_at(0)
    life.is_drill = True
    life.handle(ChildEvent.UNHEALTHY, 5 * S, Reason.WEDGED)
    assert die(life, 6 * S).reason is Reason.WEDGED
    assert life.next_start_ns == 7 * S
    assert life.backoff.failures == 0


def test_a_drill_is_over_with_the_death_that_it_brought():
    life = live_at(0)
    life.is_drill = True
    die(life, S)
    life.handle(ChildEvent.START, 2 * S)
    die(life, 3 * S)
    assert life.backoff.failures == 1


def test_a_healthy_run_that_a_drill_ended_still_earns_the_reset():
    life = live_at(0)
    life.backoff.failures = 4
    life.is_drill = True
    die(life, 100 * S, healthy_ns=60 * S)
    assert life.backoff.failures == 0


def test_a_death_after_a_restart_was_asked_but_before_the_signal_is_still_planned():
    life = live_at(0)
    life.handle(ChildEvent.RESTART, S, Reason.REQUESTED)
    die(life, S, event=ChildEvent.EXIT_CONFIG)
    assert life.state is WorkerState.BACKOFF
    assert life.backoff.failures == 0


def test_a_stopped_one_stays_down():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S, Reason.REQUESTED)
    step_at_exit = life.record_exit(Reason.REQUESTED, 0, None, 2 * S, 0), life.handle(ChildEvent.EXIT, 2 * S)
    assert life.state is WorkerState.STOPPED
    assert step_at_exit[1].actions == (Action.BURY,)
    assert life.next_start_ns == 0


def test_stop_during_a_kill_for_cause_keeps_it_down():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.STOP, 2 * S, Reason.REQUESTED)
    die(life, 3 * S)
    assert life.state is WorkerState.STOPPED
    assert life.deaths[-1].reason is Reason.WEDGED


def test_restart_during_a_stop_brings_it_up_again():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S, Reason.REQUESTED)
    life.handle(ChildEvent.RESTART, 2 * S, Reason.REQUESTED)
    die(life, 3 * S)
    assert life.state is WorkerState.BACKOFF
    assert life.next_start_ns == 3 * S


def test_a_start_after_a_stop_lets_it_restart_again():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S)
    die(life, S)
    life.handle(ChildEvent.START, 2 * S)
    die(life, 3 * S)
    assert life.state is WorkerState.BACKOFF


def test_an_unkillable_one_is_scheduled_once_it_is_gone_at_last():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.KILL_TIMEOUT, 9 * S)
    for event in (ChildEvent.START, ChildEvent.RESTART):
        assert life.handle(event, 10 * S).actions == ()
    die(life, 20 * S)
    assert life.state is WorkerState.BACKOFF
    assert life.next_start_ns == 21 * S


def test_a_wrong_configuration_ends_it_until_an_operator_wants_it():
    life = live_at(0)
    die(life, S, reason=Reason.CONFIG_ERROR, event=ChildEvent.EXIT_CONFIG)
    assert life.state is WorkerState.FAILED
    assert life.handle(ChildEvent.START, 100 * S).actions == ()
    assert life.handle(ChildEvent.RESTART, 101 * S).actions == (Action.FORK,)


def test_a_failed_fork_waits_as_a_death_does_and_longer_each_time():
    life = new_life()
    waits, now = [], 0
    for _ in range(7):
        life.handle(ChildEvent.START, now)
        life.handle(ChildEvent.FORK_FAILED, now)
        life.schedule_after_failed_fork(now)
        assert life.state is WorkerState.BACKOFF
        waits.append((life.next_start_ns - now) // S)
        now = life.next_start_ns
    assert waits == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("end", ["stopped in backoff", "failed"])
def test_no_next_start_where_none_is_planned(end):
    life = live_at(0)
    if end == "failed":
        die(life, S, reason=Reason.CONFIG_ERROR, event=ChildEvent.EXIT_CONFIG)
    else:
        die(life, S)
        life.handle(ChildEvent.STOP, S)
    assert life.next_start_ns == 0


# --- deaths and the crash loop ----------------------------------------------------------------------------------------


def crash(life, start, *, healthy_ns=0, uptime_ns=0):
    """One generation that starts at ``start`` and crashes; when the next one starts."""
    life.handle(ChildEvent.START, start)
    die(life, start + uptime_ns, healthy_ns=healthy_ns)
    return life.next_start_ns


def test_the_last_hundred_deaths_are_remembered():
    life, now = new_life(), 0
    for _ in range(130):
        now = crash(life, now)
    assert len(life.deaths) == 100
    assert [death.failures for death in life.deaths] == list(range(31, 131))


def test_five_deaths_in_ten_minutes_are_a_crash_loop():
    life, now, seen = new_life(), 0, []
    for _ in range(6):
        now = crash(life, now)
        seen.append(life.in_crash_loop)
    assert seen == [False, False, False, False, True, True]


def test_five_deaths_spread_over_more_than_ten_minutes_are_none():
    life, now = new_life(), 0
    for _ in range(8):
        now = crash(life, now, uptime_ns=151 * S)
    assert not life.in_crash_loop


def test_a_crash_loop_goes_on_at_the_cap_and_never_gives_up():
    life, now = new_life(), 0
    for _ in range(50):
        before, now = now, crash(life, now)
    assert life.in_crash_loop
    assert now - before == 30 * S


@pytest.mark.parametrize(("healthy_ns", "stays"), [(60 * S - 1, True), (60 * S, False)])
def test_one_healthy_run_ends_a_crash_loop(healthy_ns, stays):
    life, now = new_life(), 0
    for _ in range(5):
        now = crash(life, now)
    crash(life, now, healthy_ns=healthy_ns, uptime_ns=70 * S)
    assert life.in_crash_loop is stays
    assert life.backoff.failures == (6 if stays else 1)


def test_a_healthy_run_that_a_restart_ended_ends_a_crash_loop():
    life, now = new_life(), 0
    for _ in range(5):
        now = crash(life, now)
    life.handle(ChildEvent.START, now)
    life.handle(ChildEvent.RESTART, now + 70 * S, Reason.REQUESTED)
    die(life, now + 70 * S, healthy_ns=60 * S)
    assert not life.in_crash_loop


def test_drills_make_no_crash_loop():
    life, now = new_life(), 0
    for _ in range(20):
        life.handle(ChildEvent.START, now)
        life.is_drill = True
        die(life, now)
        now = life.next_start_ns
    assert not life.in_crash_loop
    assert life.backoff.failures == 0


def test_drills_between_rare_crashes_make_no_crash_loop():
    life, now = new_life(), 0
    for _ in range(4):
        now = crash(life, now, uptime_ns=300 * S)
    for _ in range(4):
        life.handle(ChildEvent.START, now)
        life.is_drill = True
        die(life, now)
        now = life.next_start_ns
    crash(life, now)
    assert life.backoff.failures == 5
    assert not life.in_crash_loop, "two crashes in ten minutes"


# --- the formula ------------------------------------------------------------------------------------------------------


def expected_delay_ns(failures, *, base_ns=S, cap_ns=30 * S):
    """1, 2, 4, 8, 16, 30, 30 … by doubling one step at a time."""
    delay = base_ns
    for _ in range(failures - 1):
        delay = min(cap_ns, 2 * delay)
    return delay


def test_the_delays_by_name():
    assert [expected_delay_ns(n) // S for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_ten_thousand_crashes_equal_the_formula_exactly():
    chance = random.Random(42)
    life, now, failures = new_life(), 0, 0
    for _ in range(10_000):
        uptime_ns = chance.choice([0, S, 59 * S, 61 * S, 3600 * S])
        healthy_ns = max(0, uptime_ns - chance.randrange(3) * S)
        failures = 1 if healthy_ns >= 60 * S else failures + 1
        start, now = now, crash(life, now, healthy_ns=healthy_ns, uptime_ns=uptime_ns)
        assert now == start + uptime_ns + expected_delay_ns(failures)
        assert life.backoff.failures == failures
    assert (life.generation, life.restarts) == (10_000, 9_999)


def test_a_hundred_thousand_failures_do_not_overflow_the_delay():
    life = new_life()
    life.backoff.failures = 100_000
    crash(life, 0)
    assert life.next_start_ns == 30 * S


runs = st.lists(
    st.tuples(st.integers(0, 7200 * S), st.integers(0, 100), st.sampled_from(["crash", "drill", "restart"])),
    max_size=40,
)


@given(runs, st.floats(0.0, 1.0), st.booleans())
def test_a_start_never_comes_before_the_death_and_never_after_the_cap(lives, jitter, immediate):
    life = new_life(jitter=jitter, first_immediate=immediate)
    now = 0
    for uptime_ns, fresh_percent, how in lives:
        life.handle(ChildEvent.START, now)
        died = now + uptime_ns
        if how == "drill":
            life.is_drill = True
        elif how == "restart":
            life.handle(ChildEvent.RESTART, died, Reason.REQUESTED)
        before = life.backoff.failures
        death = die(life, died, healthy_ns=uptime_ns * fresh_percent // 100)
        assert died <= life.next_start_ns <= died + 30 * S
        assert death.uptime_ns == uptime_ns
        if how == "crash":
            full_ns = life.backoff.policy.delay_ns(life.backoff.failures, 0.0)
            least_ns = full_ns if life.backoff.failures == 1 else int(full_ns * (1 - jitter)) - 1
            assert least_ns <= life.next_start_ns - died <= full_ns
        else:
            assert life.backoff.failures in {before, 0}
        now = life.next_start_ns


@given(st.lists(st.sampled_from(list(ChildEvent)), max_size=60))
def test_whatever_happens_there_is_at_most_one_process(events):
    """The parent's part is played: it buries on an exit, and an exit comes only from a process."""
    life, running, now = new_life(), False, 0
    for event in events:
        now += S
        if event in {ChildEvent.EXIT, ChildEvent.EXIT_CONFIG}:
            if not running:
                continue
            life.record_exit(life.kill_reason or Reason.CRASH, 0, None, now, 0)
            running = False
        if event is ChildEvent.FORK_FAILED:
            continue
        step = life.handle(event, now, Reason.REQUESTED)
        if Action.FORK in step.actions:
            assert not running
            running = True
        assert running == (life.state in {*RUNNING, WorkerState.KILLING, WorkerState.UNKILLABLE})
