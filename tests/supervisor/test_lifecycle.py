"""State machine of a process: its table, and what it counts over many generations."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.health import Reason, WorkerState
from supervisor.lifecycle import (
    ALIVE,
    TABLE,
    Action,
    ChildEvent,
    ChildState,
    Death,
    ProcessLifecycle,
    Transition,
)
from supervisor.pages import transitions
from workers.backoff import Backoff, BackoffPolicy

S = 1_000_000_000
#: States in which a process exists.
PROCESS = {
    ChildState.STARTING,
    ChildState.LIVE,
    ChildState.STALE,
    ChildState.KILLING,
    ChildState.RESTARTING,
    ChildState.STOPPING,
    ChildState.UNKILLABLE,
    ChildState.UNKILLABLE_STOPPING,
}

#: All transitions: state, event, next state, actions. A pair that is not here is ignored.
DECIDED = """
stopped             start        starting            fork
stopped             restart      starting            fork
starting            fresh        live                -
starting            unhealthy    killing             kill
starting            restart      restarting          kill
starting            stop         stopping            kill
starting            exit         backoff             back_off
starting            exit_config  failed              alert
starting            fork_failed  backoff             back_off
live                stale        stale               -
live                unhealthy    killing             kill
live                restart      restarting          kill
live                stop         stopping            kill
live                exit         backoff             back_off
live                exit_config  failed              alert
stale               fresh        live                -
stale               unhealthy    killing             kill
stale               restart      restarting          kill
stale               stop         stopping            kill
stale               exit         backoff             back_off
stale               exit_config  failed              alert
backoff             start        starting            fork
backoff             restart      starting            fork
backoff             stop         stopped             -
killing             stop         stopping            -
killing             exit         backoff             back_off
killing             exit_config  backoff             back_off
killing             kill_timeout unkillable          alert
restarting          stop         stopping            -
restarting          exit         backoff             start_at_once
restarting          exit_config  backoff             start_at_once
restarting          kill_timeout unkillable          alert
stopping            start        restarting          -
stopping            restart      restarting          -
stopping            exit         stopped             -
stopping            exit_config  stopped             -
stopping            kill_timeout unkillable_stopping alert
unkillable          stop         unkillable_stopping -
unkillable          exit         backoff             back_off
unkillable          exit_config  backoff             back_off
unkillable_stopping start        unkillable          -
unkillable_stopping restart      unkillable          -
unkillable_stopping exit         stopped             -
unkillable_stopping exit_config  stopped             -
failed              restart      starting            fork
failed              stop         stopped             -
"""


def decided():
    rows = {}
    for line in DECIDED.strip().splitlines():
        state, event, after, *actions = line.split()
        rows[state, event] = (after, [] if actions == ["-"] else actions)
    return rows


def new_life(**policy):
    return ProcessLifecycle(Backoff(BackoffPolicy(**{"jitter": 0.0, **policy}), chance=random.Random(1)))


def begin(life, now):
    """Start it with a successful fork."""
    assert Action.FORK in life.handle(ChildEvent.START, now).actions
    life.record_fork(now)


def live_at(now, **policy):
    life = new_life(**policy)
    begin(life, now)
    life.handle(ChildEvent.FRESH, now)
    return life


def die(life, now, *, reason=Reason.CRASH, healthy_ns=0, event=ChildEvent.EXIT):
    """Record an exit as the child process does."""
    reason = life.kill_reason or (Reason.DRILL if life.is_drill else reason)
    death = life.record_exit(reason, 1, None, now, healthy_ns)
    life.handle(event, now, reason)
    return death


# --- the table --------------------------------------------------------------------------------------------------------


def name_of(member):
    return member.name.lower()


def test_every_state_is_in_the_table():
    assert set(TABLE) == set(ChildState)


@pytest.mark.parametrize("event", ChildEvent, ids=name_of)
@pytest.mark.parametrize("state", ChildState, ids=name_of)
def test_pair_is_decided_as_agreed(state, event):
    outcome = TABLE[state].get(event)
    agreed = decided().get((name_of(state), name_of(event)))
    if agreed is None:
        assert outcome is None
    else:
        assert outcome is not None
        assert (name_of(outcome[0]), [name_of(action) for action in outcome[1]]) == agreed


@pytest.mark.parametrize("event", ChildEvent, ids=name_of)
@pytest.mark.parametrize("state", ChildState, ids=name_of)
def test_lifecycle_follows_the_table(state, event):
    life = new_life()
    life.state, life.retry_delay_ns, life.next_start_ns = state, 5, 3
    step = life.handle(event, 7, Reason.REQUESTED)
    after, actions = decided().get((name_of(state), name_of(event)), (None, []))
    assert (step.previous, [name_of(action) for action in step.actions]) == (state, actions)
    assert life.state is step.state
    assert name_of(step.state) == (after or name_of(state))
    planned = {"back_off": 12, "start_at_once": 7}.get(actions[0], 0) if actions else 0
    assert life.next_start_ns == (planned if after else 3)


def test_only_a_start_forks_and_never_beside_a_living_process():
    for state, outcomes in TABLE.items():
        for after, actions in outcomes.values():
            if Action.FORK in actions:
                assert state in {ChildState.STOPPED, ChildState.BACKOFF, ChildState.FAILED}
                assert after is ChildState.STARTING


def test_every_running_process_can_be_killed_and_every_exit_is_handled():
    kills = {
        ChildEvent.UNHEALTHY: ChildState.KILLING,
        ChildEvent.RESTART: ChildState.RESTARTING,
        ChildEvent.STOP: ChildState.STOPPING,
    }
    assert {ChildState.STARTING, ChildState.LIVE, ChildState.STALE} == ALIVE
    for state in ALIVE:
        for event, after in kills.items():
            assert TABLE[state][event] == (after, (Action.KILL,))
    for state in PROCESS:
        for event in (ChildEvent.EXIT, ChildEvent.EXIT_CONFIG):
            assert TABLE[state][event][0] not in PROCESS


def test_every_state_can_be_left():
    """Some event leads out of each state: a start, or the exit that the kernel reports."""
    for state in ChildState:
        assert any(after is not state for after, _ in TABLE[state].values())


def test_public_states_hide_what_follows_a_kill():
    public = {state.name: state.public.name for state in ChildState if state.name != state.public.name}
    assert public == {"RESTARTING": "KILLING", "STOPPING": "KILLING", "UNKILLABLE_STOPPING": "UNKILLABLE"}
    assert {state.public for state in ChildState} == set(WorkerState)


@pytest.mark.parametrize(
    ("previous", "state", "is_public"),
    [
        (ChildState.LIVE, ChildState.STALE, True),
        (ChildState.LIVE, ChildState.LIVE, False),
        (ChildState.KILLING, ChildState.STOPPING, False),
        (ChildState.STOPPING, ChildState.RESTARTING, False),
        (ChildState.STOPPING, ChildState.UNKILLABLE_STOPPING, True),
        (ChildState.UNKILLABLE, ChildState.UNKILLABLE_STOPPING, False),
    ],
)
def test_a_change_is_public_when_the_published_state_changes(previous, state, is_public):
    assert Transition(previous, state, ()).is_public is is_public


def test_printed_table_has_all_transitions():
    names = {(state.value, event.value): (state, event) for state in ChildState for event in ChildEvent}
    printed = {
        tuple(map(name_of, names[state, event])): (after, [a.replace(" ", "_") for a in actions.split(", ") if a])
        for state, event, after, actions in transitions()
    }
    assert printed == decided()


# --- one process ------------------------------------------------------------------------------------------------------


def test_first_start_is_generation_one_and_no_restart():
    life = new_life()
    begin(life, 5)
    assert (life.generation, life.restarts, life.forked_ns) == (1, 0, 5)


def test_each_start_is_a_generation_and_each_but_the_first_a_restart():
    life = new_life()
    for count in range(1, 4):
        begin(life, count * 100 * S)
        die(life, count * 100 * S + 1)
        assert (life.generation, life.restarts) == (count, count - 1)


def test_a_start_clears_the_kill_before():
    life = live_at(0)
    life.is_drill = True
    life.handle(ChildEvent.RESTART, 1, Reason.REQUESTED)
    die(life, 2)
    begin(life, 3 * S)
    assert (life.kill_reason, life.is_planned, life.is_drill, life.next_start_ns) == (None, False, False, 0)


def test_death_keeps_the_reason_that_started_the_kill():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.STALE_WORKER)
    life.handle(ChildEvent.UNHEALTHY, 2 * S, Reason.WEDGED)
    assert die(life, 3 * S).reason is Reason.STALE_WORKER


def test_an_exit_has_its_uptime():
    life = live_at(10 * S)
    death = die(life, 25 * S)
    assert death == Death(Reason.CRASH, 1, None, 25 * S, 15 * S, 1)


@pytest.mark.parametrize("reason", [Reason.WEDGED, Reason.STALE_WORKER, Reason.START_TIMEOUT, Reason.MEMORY])
def test_a_kill_by_a_rule_counts_as_failure(reason):
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, reason)
    die(life, S)
    assert life.backoff.failures == 1


def test_an_operators_restart_comes_at_once_and_is_not_counted():
    life = live_at(0)
    die(life, S)
    begin(life, 2 * S)
    life.handle(ChildEvent.RESTART, 3 * S, Reason.REQUESTED)
    die(life, 4 * S)
    assert life.state is ChildState.BACKOFF
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


def test_a_kill_because_of_a_drill_is_not_counted_either():
    """The drill made it hang, and a kill rule applied."""
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
    begin(life, 2 * S)
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
    assert life.state is ChildState.BACKOFF
    assert life.backoff.failures == 0


def test_a_stopped_process_stays_down():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S, Reason.REQUESTED)
    step_at_exit = life.record_exit(Reason.REQUESTED, 0, None, 2 * S, 0), life.handle(ChildEvent.EXIT, 2 * S)
    assert life.state is ChildState.STOPPED
    assert step_at_exit[1].actions == ()
    assert life.next_start_ns == 0


def test_stop_during_a_kill_for_cause_keeps_it_down():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.STOP, 2 * S, Reason.REQUESTED)
    die(life, 3 * S)
    assert life.state is ChildState.STOPPED
    assert life.deaths[-1].reason is Reason.WEDGED


def test_restart_during_a_stop_brings_it_up_again():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S, Reason.REQUESTED)
    life.handle(ChildEvent.RESTART, 2 * S, Reason.REQUESTED)
    die(life, 3 * S)
    assert life.state is ChildState.BACKOFF
    assert life.next_start_ns == 3 * S


def test_a_start_after_a_stop_lets_it_restart_again():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S)
    die(life, S)
    begin(life, 2 * S)
    die(life, 3 * S)
    assert life.state is ChildState.BACKOFF


def test_an_unkillable_one_is_scheduled_once_it_is_gone_at_last():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.KILL_TIMEOUT, 9 * S)
    for event in (ChildEvent.START, ChildEvent.RESTART):
        assert life.handle(event, 10 * S).actions == ()
    die(life, 20 * S)
    assert life.state is ChildState.BACKOFF
    assert life.next_start_ns == 21 * S


def test_a_configuration_error_holds_it_until_an_operator_restarts_it():
    life = live_at(0)
    die(life, S, reason=Reason.CONFIG_ERROR, event=ChildEvent.EXIT_CONFIG)
    assert life.state is ChildState.FAILED
    assert life.handle(ChildEvent.START, 100 * S).actions == ()
    assert life.handle(ChildEvent.RESTART, 101 * S).actions == (Action.FORK,)


def test_a_failed_fork_waits_as_a_death_does_and_longer_each_time():
    life = new_life()
    waits, now = [], 0
    for _ in range(7):
        life.handle(ChildEvent.START, now)
        life.record_failed_fork()
        life.handle(ChildEvent.FORK_FAILED, now)
        assert life.state is ChildState.BACKOFF
        waits.append((life.next_start_ns - now) // S)
        now = life.next_start_ns
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert (life.generation, life.restarts, len(life.deaths)) == (0, 0, 0)


def test_a_restart_during_a_kill_for_cause_does_not_shorten_the_delay():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    assert life.handle(ChildEvent.RESTART, 2 * S, Reason.REQUESTED).actions == ()
    die(life, 3 * S)
    assert (life.state, life.next_start_ns, life.backoff.failures) == (ChildState.BACKOFF, 4 * S, 1)


def test_stop_and_restart_during_a_kill_for_cause_bring_it_up_at_once_and_count_the_failure():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.STOP, 2 * S, Reason.REQUESTED)
    life.handle(ChildEvent.RESTART, 3 * S, Reason.REQUESTED)
    assert die(life, 4 * S).reason is Reason.WEDGED
    assert (life.next_start_ns, life.backoff.failures) == (4 * S, 1)


@pytest.mark.parametrize("reason", [Reason.REQUESTED, Reason.CONFIG_CHANGED])
@pytest.mark.parametrize("event", [ChildEvent.RESTART, ChildEvent.STOP])
def test_a_planned_kill_is_not_counted(event, reason):
    life = live_at(0)
    life.backoff.failures = 3
    life.handle(event, S, reason)
    death = die(life, 2 * S)
    assert (death.reason, death.is_counted, death.failures) == (reason, False, 3)
    assert life.backoff.failures == (3 if event is ChildEvent.RESTART else 0), "after a stop it begins again"


def test_a_stop_ends_the_crash_loop():
    life = live_at(0)
    life.in_crash_loop, life.backoff.failures = True, 7
    life.handle(ChildEvent.STOP, S, Reason.REQUESTED)
    assert life.in_crash_loop
    die(life, 2 * S)
    assert (life.state, life.in_crash_loop, life.stop_reason) == (ChildState.STOPPED, False, Reason.REQUESTED)


def test_a_counted_exit_says_so():
    death = die(live_at(0), S)
    assert (death.is_counted, death.failures) == (True, 1)


def test_an_unkillable_one_that_was_to_be_restarted_is_started_without_a_delay():
    life = live_at(0)
    life.handle(ChildEvent.RESTART, S, Reason.REQUESTED)
    life.handle(ChildEvent.KILL_TIMEOUT, 8 * S)
    die(life, 20 * S)
    assert (life.state, life.next_start_ns, life.backoff.failures) == (ChildState.BACKOFF, 20 * S, 0)


def test_an_unkillable_one_that_was_stopped_stays_down():
    life = live_at(0)
    life.handle(ChildEvent.UNHEALTHY, S, Reason.WEDGED)
    life.handle(ChildEvent.KILL_TIMEOUT, 9 * S)
    life.handle(ChildEvent.STOP, 10 * S, Reason.REQUESTED)
    die(life, 20 * S)
    assert (life.state, life.next_start_ns) == (ChildState.STOPPED, 0)


def test_the_first_reason_of_a_kill_is_kept():
    life = live_at(0)
    life.handle(ChildEvent.STOP, S, Reason.CONFIG_CHANGED)
    life.handle(ChildEvent.RESTART, S, Reason.REQUESTED)
    assert (life.kill_reason, life.is_planned) == (Reason.CONFIG_CHANGED, True)


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
    """Run a generation that starts at ``start`` and crashes; return the time of the next start."""
    begin(life, start)
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


def test_five_deaths_in_more_than_ten_minutes_are_no_crash_loop():
    life, now = new_life(), 0
    for _ in range(8):
        now = crash(life, now, uptime_ns=151 * S)
    assert not life.in_crash_loop


@pytest.mark.parametrize(("last_s", "is_loop"), [(600, True), (601, False)])
def test_the_window_of_a_crash_loop_is_ten_minutes(last_s, is_loop):
    life = new_life()
    for at_s in (0, 1, 2, 3, last_s):
        begin(life, at_s * S)
        die(life, at_s * S)
    assert life.in_crash_loop is is_loop


def test_a_crash_loop_needs_five_failures_in_a_row():
    life = new_life()
    for count in range(9):
        begin(life, count * S)
        die(life, count * S, healthy_ns=60 * S if count == 4 else 0)
        assert life.in_crash_loop is (count == 8)


def test_a_planned_restart_neither_makes_nor_ends_a_crash_loop():
    life, now = new_life(), 0
    for _ in range(5):
        now = crash(life, now)
    begin(life, now)
    life.handle(ChildEvent.RESTART, now, Reason.REQUESTED)
    die(life, now)
    assert life.in_crash_loop
    assert life.backoff.failures == 5


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
    begin(life, now)
    life.handle(ChildEvent.RESTART, now + 70 * S, Reason.REQUESTED)
    die(life, now + 70 * S, healthy_ns=60 * S)
    assert not life.in_crash_loop


def test_drills_make_no_crash_loop():
    life, now = new_life(), 0
    for _ in range(20):
        begin(life, now)
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
        begin(life, now)
        life.is_drill = True
        die(life, now)
        now = life.next_start_ns
    crash(life, now)
    assert life.backoff.failures == 5
    assert not life.in_crash_loop, "two crashes in ten minutes"


# --- the formula ------------------------------------------------------------------------------------------------------


def expected_delay_ns(failures, *, base_ns=S, cap_ns=30 * S):
    """Return the delay, 1, 2, 4, 8, 16, 30, 30 …, by doubling one step at a time."""
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
def test_a_start_is_never_before_the_exit_and_never_after_the_cap(lives, jitter, immediate):
    life = new_life(jitter=jitter, first_immediate=immediate)
    now = 0
    for uptime_ns, fresh_percent, how in lives:
        begin(life, now)
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
def test_no_order_of_events_makes_two_processes(events):
    """Play the part of the child process, which records exits; an exit comes only from a process."""
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
        assert running == (life.state in PROCESS)
