"""Parent over simulated hours: exits and hangs of children, requests, reloads and shutdown."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from ipc import log
from ipc.board import HeaderWord, SessionWord, WorkerWord
from ipc.errors import ConfigError
from ipc.health import Phase, Reason, SelfFault, WorkerState, code_of, word_of
from simulator.settings import SimSettings, VenuePorts
from supervisor import parent as parent_module
from supervisor.system import SimulatorPlan

S = 1_000_000_000
USR1, TERM, KILL = signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL
LATER = {"PARAPHINA_LIGHTER_STALE_MS": "5000"}
VENUES = ["hyperliquid", "aster", "extended", "lighter", "paradex"]


@pytest.fixture
def world(new_world):
    """World of lighter alone and the gateway."""
    return new_world(supervisor__venues="lighter")


@pytest.fixture
def logged(caplog):
    """Return a function that returns the fields of an event's log records."""
    caplog.set_level("INFO")
    return lambda event: [record.fields for record in caplog.records if record.getMessage() == event]


def simulated(*venues):
    ports = {name: VenuePorts(20_000 + 2 * n, 20_001 + 2 * n) for n, name in enumerate(venues)}
    return SimulatorPlan(SimSettings(ports, 30_000, venues), "http://127.0.0.1:30000", dict.fromkeys(venues, ("", "")))


def starts(world, name="lighter"):
    return [child.born_s for child in world.lives(name)]


def waits(world, name="lighter"):
    """Return the times between an exit and the next start, s."""
    lives = world.lives(name)
    return [round(after.born_s - before.died_s, 3) for before, after in pairwise(lives)]


def state(world, name="lighter"):
    return word_of(WorkerState, world.row(name)[WorkerWord.STATE])


def reason(world, name="lighter"):
    return word_of(Reason, world.row(name)[WorkerWord.EXIT_REASON])


def seen(found):
    """Return a list of samples, and a function that appends the value of ``found``."""
    samples = []
    return samples, lambda: samples.append(found())


# --- the terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch):
    """Master and slave of a terminal that is the parent's."""
    master, slave = os.openpty()
    monkeypatch.setattr(parent_module, "controlling_terminal", lambda: slave)
    ends = [master, slave]
    yield ends
    for descriptor in ends:
        os.close(descriptor)


def test_a_closed_terminal_stops_the_system(terminal, world, logged):
    world.at(10, lambda: os.close(terminal.pop(0)))
    assert world.run(60) == 0
    assert world.now_s < 12
    assert [child.signals for child in world.children] == [[(10, TERM)]] * 2
    assert len(logged("supervisor.terminal_closed")) == 1


def test_a_terminal_that_is_closed_during_the_shutdown_does_not_hurry_it(terminal, world):
    world.born = lambda child: child.dies_of.pop(TERM)
    world.signal_at(10, TERM)
    world.at(10.3, lambda: os.close(terminal.pop(0)))
    world.at(11, lambda: [child.die(0) for child in world.living()])
    assert world.run(60) == 0
    assert [child.signals for child in world.children] == [[(10, TERM)]] * 2


def test_under_nohup_a_closed_terminal_changes_nothing(terminal, world, logged):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    world.at(10, lambda: os.close(terminal.pop(0)))
    world.signal_at(20, signal.SIGHUP)
    world.run(60)
    assert world.now_s >= 60
    assert len(logged("supervisor.reloaded")) == 1, "and the signal still reloads"


# --- without faults ---------------------------------------------------------------------------------------------------


def test_every_venue_and_the_gateway_run_until_the_time_is_over(new_world):
    world = new_world()
    assert world.run(600) == 0
    assert [child.name for child in world.children] == [*VENUES, "gateway"]
    assert all(child.signals == [(600, TERM)] for child in world.children)
    assert world.now_s < 601


def test_milestones_are_announced_once_each(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.at(10, lambda: world.the("paradex").die())
    world.run(60)
    announced = "\n".join(world.announced)
    assert announced.count("lighter is live after ") == announced.count("paradex is live after ") == 1
    assert announced.count("all 2 venues are live after ") == 1
    assert world.announced[-1].startswith("each with --run-dir")


def test_nothing_is_announced_of_a_venue_that_is_not_live(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.born = lambda child: setattr(child, "is_fresh", child.name != "paradex")
    world.run(20)
    assert [line for line in world.announced if "live" in line.split(" after ")[0]] == ["lighter is live after 0.0 s"]


def test_ready_is_called_when_everything_was_forked(new_world):
    world = new_world()
    names = []
    world.at(1, lambda: world.signal_at(1, TERM))
    world.parent.run(None, lambda: names.extend(child.name for child in world.living()))
    assert names == [*VENUES, "gateway"]


def test_board_and_description_show_the_system(world):
    samples, sample = seen(
        lambda: (state(world), world.row("lighter")[WorkerWord.PID], world.board.header[HeaderWord.FORKS])
    )
    world.at(5, sample)
    world.run(10)
    assert samples == [(WorkerState.LIVE, 1001, 2)]
    assert list(world.run_dir.describe()["venues"]) == ["lighter"]
    assert not world.run_dir.control.exists()


def test_the_beat_goes_on_every_tick(world):
    samples, sample = seen(lambda: world.now_ns - world.board.header[HeaderWord.PARENT_BEAT])
    for n in range(100):
        world.at(5.1 + n * 0.37, sample)
    world.run(60)
    assert max(samples) <= 250_000_000
    assert world.board.header[HeaderWord.SELF_STALLS] == 0


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_crash_is_restarted_after_a_second_and_never_early(world, logged):
    world.at(100.123, lambda: world.the("lighter").die(1))
    world.run(200)
    assert waits(world) == [1.0]
    assert [child.name for child in world.children] == ["lighter", "gateway", "lighter"], "its sibling was not touched"
    exited = logged("worker.exited")[0]
    assert (exited["reason"], exited["exit_code"], exited["uptime_s"]) == (Reason.CRASH, 1, 100.123)
    (restarting,) = logged("worker.restarting")
    assert (restarting["delay_s"], restarting["failures"], restarting["restarts"]) == (1.0, 1, 1)


def test_followers_receive_every_event(world):
    world.at(10, lambda: world.the("lighter").die(None, KILL))
    world.run(20)
    restarted = "started starting live exited backoff restarting started starting live"
    assert world.events("lighter") == [*restarted.split(), "killing", "exited", "stopped"]
    exited = next(event for event in world.published if event["event"] == "exited")
    assert (exited["reason"], exited["signal"], exited["exit_code"], exited["uptime_s"]) == (
        "killed",
        "SIGKILL",
        None,
        10,
    )
    assert (exited["pid"], exited["generation"], exited["delay_s"]) == (None, 1, 1.0)


def test_delays_double_up_to_the_cap(world):
    world.born = lambda child: child.name == "lighter" and world.at(world.now_s + 0.5, child.die)
    world.run(200)
    assert waits(world)[:8] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_slow_venue_does_not_delay_another(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.born = lambda child: child.name == "lighter" and world.at(world.now_s + 0.5, child.die)
    world.at(70, lambda: world.the("paradex").die())
    world.run(80)
    assert waits(world, "paradex") == [1.0]


@pytest.mark.parametrize(("fresh_s", "second_wait"), [(59, 2.0), (61, 1.0)])
def test_a_minute_of_fresh_data_earns_the_first_delay_again(world, fresh_s, second_wait):
    world.at(5, lambda: world.the("lighter").die())
    world.at(6 + fresh_s, lambda: world.the("lighter").die())
    world.run(200)
    assert waits(world) == [1.0, second_wait]


def test_being_alive_without_fresh_data_earns_nothing(world):
    """Its venue is in outage, so it runs for ten minutes without fresh data."""

    def born(child):
        child.is_fresh = False
        world.row(child.name)[WorkerWord.OUTAGE_SINCE] = world.now_ns

    world.born = born
    world.at(5, lambda: world.the("lighter").die())
    world.at(605, lambda: world.the("lighter").die())
    world.run(700)
    assert waits(world) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("code", "number", "word"),
    [
        (0, None, Reason.CLEAN_EXIT),
        (1, None, Reason.CRASH),
        (3, None, Reason.CRASH),
        (78, None, Reason.CONFIG_ERROR),
        (None, signal.SIGKILL, Reason.KILLED),
        (None, signal.SIGTERM, Reason.KILLED),
        (None, signal.SIGHUP, Reason.KILLED),
        (None, signal.SIGSEGV, Reason.CRASH),
        (None, signal.SIGABRT, Reason.CRASH),
        (None, 40, Reason.CRASH),
    ],
)
def test_an_exit_that_nobody_asked_for_has_a_reason(world, code, number, word):
    samples, sample = seen(lambda: (reason(world), world.row("lighter")[WorkerWord.EXIT_CODE]))
    world.at(10, lambda: world.the("lighter").die(code, number))
    world.at(10.5, sample)
    world.run(20)
    assert samples == [(word, 0 if code is None else code + 1)]


def test_a_clean_exit_is_restarted_as_a_crash_is(world):
    world.at(10, lambda: world.the("lighter").die(0))
    world.run(20)
    assert waits(world) == [1.0]


def test_a_wrong_configuration_holds_one_worker_and_no_other(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.at(10, lambda: world.the("lighter").die(78))
    samples, sample = seen(lambda: (state(world), state(world, "paradex")))
    world.at(500, sample)
    world.run(600)
    assert samples == [(WorkerState.FAILED, WorkerState.LIVE)]
    assert len(world.lives("lighter")) == 1


def test_start_ends_with_every_error_when_no_worker_accepts_its_configuration(new_world):
    world = new_world(supervisor__venues="lighter,paradex,aster")

    def refuse(child):
        if child.name != "gateway":
            child.is_fresh = False
            text = "feeds: the same" if child.name != "aster" else "aster: its own"
            world.run_dir.error_file(child.name).write_text(text)
            world.at(world.now_s + 0.3, partial(child.die, 78))

    world.born = refuse
    ready = []
    with pytest.raises(ConfigError) as caught:
        world.parent.run(60, partial(ready.append, 1))
    assert sorted(caught.value.problems) == ["aster: its own", "feeds: the same"]
    assert caught.value.exit_code == 2
    assert world.now_s < 5
    assert ready == []
    assert world.living() == []


@pytest.mark.parametrize("other", ["lives", "crashes"])
def test_start_goes_on_with_the_worker_whose_configuration_is_accepted(new_world, other):
    world = new_world(supervisor__venues="lighter,paradex")

    def born(child):
        if child.name == "lighter":
            child.is_fresh = False
            world.at(world.now_s + 0.1, partial(child.die, 78))
        elif child.name == "paradex" and other == "crashes" and child.generation == 1:
            world.at(world.now_s + 0.1, child.die)

    world.born = born
    ready = []
    world.at(50, lambda: world.signal_at(50, TERM))
    assert world.parent.run(None, lambda: ready.append(world.now_s)) == 0
    assert len(ready) == 1
    assert ready[0] < 5


def test_a_wrong_configuration_after_a_restart_does_not_end_the_system(world):
    world.at(10, lambda: world.the("lighter").die())
    world.born = lambda child: child.generation == 2 and world.at(world.now_s + 0.1, partial(child.die, 78))
    samples, sample = seen(lambda: state(world))
    world.at(50, sample)
    assert world.run(60) == 0
    assert samples == [WorkerState.FAILED]


def test_a_wrong_configuration_calls_an_operator(world, logged):
    world.at(10, lambda: world.the("lighter").die(78))
    world.run(20)
    assert logged("worker.needs_attention")[0]["state"] is WorkerState.FAILED


def test_an_operator_brings_a_failed_one_back(world):
    world.at(10, lambda: world.the("lighter").die(78))
    world.ask_at(20, "restart", "lighter")
    world.run(60)
    assert starts(world) == [0, 20]


def test_a_failed_worker_shows_no_next_start(world):
    samples, sample = seen(lambda: world.row("lighter")[WorkerWord.NEXT_START])
    world.at(10, lambda: world.the("lighter").die(78))
    world.at(20, sample)
    world.run(30)
    assert samples == [0]


def test_a_worker_takes_over_the_epoch_and_the_gateway_its_place_in_the_events(world):
    world.at(5, lambda: world.row("gateway").__setitem__(WorkerWord.PUBLISHED, 17))
    world.at(10, lambda: [child.die() for child in world.living()])
    world.run(20)
    assert world.the("lighter").before.epoch == 1000
    assert world.the("gateway").before.published == 17
    assert (world.the("lighter").generation, world.the("lighter").before.reason) == (2, Reason.CRASH)
    assert world.lives("lighter")[0].before.reason is None


def test_a_new_generation_finds_cleared_words(world):
    row = world.row("lighter")
    words = WorkerWord.FIRST_FRESH, WorkerWord.RSS_BYTES, WorkerWord.OUTAGE_SINCE
    found = []

    def born(child):
        if child.name == "lighter":
            found.append([row[word] for word in words])
            for word in words:
                row[word] = 5

    world.born = born
    world.at(10, lambda: world.the("lighter").die())
    world.run(20)
    assert found == [[0, 0, 0]] * 2


def test_a_thousand_deaths_leave_no_descriptor(new_world, forking):
    world = new_world(supervisor__venues="lighter", supervisor__backoff_cap_ms=1000)
    world.born = lambda child: child.name == "lighter" and world.at(world.now_s + 0.1, child.die)
    samples, sample = seen(lambda: len(forking.descriptors()))
    world.at(100, sample)
    world.at(1190, sample)
    world.run(1200)
    assert len(world.lives("lighter")) > 1000
    assert samples[1] <= samples[0] + 1


# --- crash loops ------------------------------------------------------------------------------------------------------


def test_a_crash_loop_is_logged_once_and_then_once_per_longest_delay(world, logged):
    world.born = lambda child: child.name == "lighter" and world.at(world.now_s + 0.1, child.die)
    samples, sample = seen(lambda: world.row("lighter")[WorkerWord.CRASH_LOOP])
    world.at(14, sample)
    world.at(16, sample)
    world.run(400)
    deaths = len([child for child in world.lives("lighter") if child.died_s < 400])
    logged_lines = logged("worker.crash_loop")
    assert len(logged_lines) <= deaths - 4
    assert logged_lines[0]["failures"] == 5
    assert logged_lines[0]["reasons"] == "crash,crash,crash,crash,crash"
    assert samples == [0, 1]


def test_a_worker_that_recovers_leaves_the_crash_loop_while_it_runs(world, logged):
    def born(child):
        if child.name == "lighter" and child.generation <= 5:
            world.at(world.now_s + 0.1, child.die)

    world.born = born
    samples, sample = seen(lambda: world.row("lighter")[WorkerWord.CRASH_LOOP])
    world.at(30, sample)
    world.at(200, sample)
    world.run(300)
    assert samples == [1, 0]
    assert len(logged("worker.crash_loop_over")) == 1


# --- kill rules -------------------------------------------------------------------------------------------------------


def test_a_process_without_a_beat_is_dumped_terminated_and_killed(world):
    world.born = lambda of: of.name == "lighter" and of.dies_of.pop(TERM)
    world.at(10, lambda: setattr(world.the("lighter"), "beats", False))
    world.run(60)
    (dump, first), (term, second), (kill, third) = world.lives("lighter")[0].signals
    assert (first, second, third) == (USR1, TERM, KILL)
    assert 12.0 <= dump <= 12.5, "two seconds and a tick"
    assert 0.199 <= term - dump <= 0.202
    assert 0.699 <= kill - dump <= 0.702
    assert waits(world)[0] == 1.0


def test_an_exit_during_a_kill_keeps_the_reason_of_the_kill(world, logged):
    world.at(10, lambda: setattr(world.the("lighter"), "beats", False))
    world.run(60)
    exited = logged("worker.exited")[0]
    assert (exited["reason"], exited["exit_code"]) == (Reason.WEDGED, 0)


def test_a_stopped_one_is_killed_at_once(world):
    world.at(10, lambda: world.the("lighter").signal(signal.SIGSTOP))
    world.run(60)
    when, number = world.lives("lighter")[0].signals[1]
    assert number == KILL
    assert when <= 12.5


def test_one_that_is_never_fresh_has_thirty_seconds(world, logged):
    world.born = lambda of: of.name == "lighter" and setattr(of, "is_fresh", False)
    world.run(40)
    first = world.lives("lighter")[0]
    assert [number for _, number in first.signals] == [USR1, TERM]
    assert 30 <= first.signals[0][0] <= 30.5
    assert logged("worker.exited")[0]["reason"] is Reason.START_TIMEOUT


def test_a_subscribed_one_without_data_through_two_reconnects_is_replaced(world, logged):
    def go_mute():
        world.the("lighter").is_fresh = False
        session = world.board.session(world.system.slots["lighter"], 0)
        session[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        session[SessionWord.FAILED_CYCLES] = 2

    world.at(100, go_mute)
    world.run(150)
    assert logged("worker.exited")[0]["reason"] is Reason.STALE_WORKER
    assert waits(world) == [1.0]


def test_too_much_memory_ends_it(new_world, logged):
    world = new_world(supervisor__venues="lighter", health__memory_limit_mb="100")
    world.at(10, lambda: world.row("lighter").__setitem__(WorkerWord.RSS_BYTES, 101 * 1024 * 1024))
    world.run(60)
    assert logged("worker.exited")[0]["reason"] is Reason.MEMORY
    assert len(world.lives("lighter")) == 2


def test_a_worker_that_goes_stale_is_only_reported_and_may_come_back(world, logged):
    world.at(10, lambda: setattr(world.the("lighter"), "is_fresh", False))
    world.at(20, lambda: setattr(world.the("lighter"), "is_fresh", True))
    samples, sample = seen(lambda: state(world))
    for moment in (9, 15, 25):
        world.at(moment, sample)
    world.run(60)
    assert samples == [WorkerState.LIVE, WorkerState.STALE, WorkerState.LIVE]
    assert len(world.lives("lighter")) == 1
    assert len(logged("worker.stale")) == 1
    assert 8.5 * S <= world.row("lighter")[WorkerWord.STALE_NS] <= 10 * S


def test_a_wedged_gateway_is_replaced_and_the_feeds_go_on(world):
    world.at(10, lambda: setattr(world.the("gateway"), "beats", False))
    world.run(60)
    assert len(world.lives("gateway")) == 2
    assert len(world.lives("lighter")) == 1


# --- unkillable -------------------------------------------------------------------------------------------------------


def immortal(child):
    child.dies_of.clear()


def test_what_survives_the_kill_is_reported_and_not_forked_again(world, logged):
    world.born = lambda of: of.name == "lighter" and of.generation == 1 and immortal(of)
    world.at(10, lambda: setattr(world.the("lighter"), "beats", False))
    samples, sample = seen(lambda: (state(world), len(world.lives("lighter"))))
    world.at(30, sample)
    world.at(100, lambda: world.the("lighter").die(None, KILL))
    world.at(110, sample)
    world.run(120)
    assert samples == [(WorkerState.UNKILLABLE, 1), (WorkerState.LIVE, 2)]
    assert logged("worker.needs_attention")[0]["state"] is WorkerState.UNKILLABLE


# --- a stalled parent -------------------------------------------------------------------------------------------------


def test_a_stalled_parent_kills_nobody(new_world):
    world = new_world()
    world.born = lambda of: setattr(of, "beats", True)

    def freeze():
        """Stop the children as well: the words on the board are as old as the stall."""
        for child in world.living():
            child.beats = child.is_fresh = False
        world.stalls(15)
        world.at(world.now_s + 16, thaw)

    def thaw():
        for child in world.living():
            child.beats = child.is_fresh = True

    world.at(100, freeze)
    world.run(200)
    assert len(world.children) == 6
    assert world.board.header[HeaderWord.SELF_STALLS] == 1
    assert world.board.header[HeaderWord.LOOP_GAP_MAX_NS] >= 14 * S


def test_after_a_stall_the_wedged_are_killed_in_the_end(world):
    def freeze():
        world.the("lighter").beats = False
        world.stalls(15)

    world.at(100, freeze)
    world.run(200)
    first = world.lives("lighter")[0]
    assert 124 <= first.signals[0][0] <= 126.5, "the stall, and one full limit"


# --- control requests -------------------------------------------------------------------------------------------------


def test_ping_names_the_parent(world):
    world.ask_at(5, "ping")
    world.run(10)
    assert world.replies[0].ok
    assert world.replies[0].data == {"pid": world.system.pid}


def test_restart_of_one_comes_at_once_and_is_no_failure(new_world, logged):
    world = new_world(supervisor__venues="lighter,paradex")
    world.ask_at(10, "restart", "lighter")
    world.run(60)
    assert waits(world) == [0.0]
    assert len(world.lives("paradex")) == 1
    assert world.lives("lighter")[0].signals == [(10, TERM)]
    assert logged("worker.restarting")[0]["failures"] == 0


def test_restart_without_a_name_is_for_the_workers(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.ask_at(10, "restart")
    world.run(60)
    assert [len(world.lives(name)) for name in ("lighter", "paradex", "gateway")] == [2, 2, 1]


@pytest.mark.parametrize("verb", ["restart", "drill"])
def test_an_unknown_name_is_refused_with_the_known_ones(world, verb):
    world.ask_at(10, verb, "binance")
    world.run(20)
    assert not world.replies[0].ok
    assert world.replies[0].error == "no process 'binance' here"
    assert "lighter, gateway" in world.replies[0].advice


@pytest.mark.parametrize(("fault", "number"), [("kill", KILL), ("segv", signal.SIGSEGV), (None, KILL)])
def test_a_drill_kills_and_counts_as_no_failure(world, logged, fault, number):
    world.ask_at(10, "drill", "lighter", fault)
    world.ask_at(20, "drill", "lighter", fault)
    world.run(60)
    assert waits(world) == [1.0, 1.0]
    assert [exited["reason"] for exited in logged("worker.exited")][:2] == [Reason.DRILL] * 2
    assert world.lives("lighter")[0].signals == [(10, number)]
    assert logged("worker.restarting")[-1]["failures"] == 0


def test_a_drill_that_stops_it_is_found_by_the_kill_rules(world, logged):
    world.ask_at(10, "drill", "lighter", "stop")
    world.run(60)
    sent = world.lives("lighter")[0].signals
    assert [number for _, number in sent] == [signal.SIGSTOP, KILL]
    assert sent[1][0] - sent[0][0] <= 2.5
    assert logged("worker.exited")[0]["reason"] is Reason.WEDGED
    assert waits(world) == [1.0]
    assert logged("worker.restarting")[0]["failures"] == 0


@pytest.mark.parametrize("fault", ["exit", "hang", "memory"])
def test_a_drill_of_a_fault_of_the_process_itself_is_on_the_board(world, fault):
    samples, sample = seen(lambda: word_of(SelfFault, world.row("lighter")[WorkerWord.SELF_FAULT]))
    world.ask_at(10, "drill", "lighter", fault)
    world.at(11, sample)
    world.at(12, lambda: world.the("lighter").die(1))
    world.at(14, sample)
    world.run(60)
    assert samples == [SelfFault(fault), None], "and the next generation has none"
    assert waits(world) == [1.0]


def test_a_drill_without_a_name_is_for_the_workers(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.ask_at(10, "drill", None, "kill")
    world.run(60)
    assert [len(world.lives(name)) for name in ("lighter", "paradex", "gateway")] == [2, 2, 1]


def test_a_drill_of_a_process_that_does_not_run_is_refused(world):
    world.at(10, lambda: world.the("lighter").die())
    world.ask_at(10.5, "drill", "lighter", "kill")
    world.run(20)
    assert (world.replies[0].ok, world.replies[0].error) == (False, "lighter is not running")
    assert waits(world) == [1.0]


def test_a_drill_without_effect_does_not_excuse_a_later_crash(world, logged):
    world.ask_at(10, "drill", "gateway", "hang")
    world.at(5000, lambda: world.the("gateway").die(1))
    world.run(5010)
    assert logged("worker.exited")[0]["reason"] is Reason.CRASH


# --- failed forks -----------------------------------------------------------------------------------------------------


def test_a_fork_that_fails_is_tried_again_as_after_a_death(world, logged):
    world.at(9, lambda: setattr(world, "refuses_forks", True))
    world.at(10.123, lambda: world.the("lighter").die())
    world.at(30, lambda: setattr(world, "refuses_forks", False))
    world.run(60)
    assert [failed["retry_in_s"] for failed in logged("worker.fork_failed")] == [2, 4, 8, 16]
    assert starts(world) == [0, 41.123]


def test_a_failed_fork_loses_nothing_of_the_handover(world):
    world.at(5, lambda: world.row("gateway").__setitem__(WorkerWord.PUBLISHED, 17))
    world.at(9, lambda: setattr(world, "refuses_forks", True))
    world.at(10, lambda: [child.die() for child in world.living()])
    world.at(12, lambda: setattr(world, "refuses_forks", False))
    world.run(60)
    assert (world.the("lighter").before.epoch, world.the("gateway").before.published) == (1000, 17)


def test_a_generation_that_dies_at_once_loses_nothing_of_the_handover(world):
    """Its words were cleared at the fork. If the wall clock was set back, the next epoch would not exceed the last."""
    world.at(5, lambda: world.row("gateway").__setitem__(WorkerWord.PUBLISHED, 17))

    def stillborn(child):
        if child.generation in {2, 3}:
            child.die(None, KILL)

    world.born = stillborn
    world.at(10, lambda: [child.die() for child in world.living()])
    world.run(60)
    assert [child.before.epoch for child in world.lives("lighter")] == [0, 1000, 1000, 1000]
    assert [child.before.published for child in world.lives("gateway")] == [0, 17, 17, 17]


# --- a new configuration ----------------------------------------------------------------------------------------------


def test_a_hang_up_without_a_change_restarts_nothing(new_world, logged):
    world = new_world()
    world.signal_at(10, signal.SIGHUP)
    world.run(60)
    assert len(world.children) == 6
    assert len(logged("supervisor.reloaded")) == 1


def test_changed_workers_are_restarted_one_after_the_other(new_world):
    world = new_world(supervisor__venues="lighter,paradex,aster")
    world.born = lambda of: (
        of.generation == 2
        and (
            setattr(of, "is_fresh", False),
            world.at(world.now_s + 3, lambda: setattr(of, "is_fresh", True)),
        )
    )
    world.at(
        9, lambda: world.environ.update({f"PARAPHINA_{w}_STALE_MS": "5000" for w in ("ASTER", "LIGHTER", "PARADEX")})
    )
    world.signal_at(10, signal.SIGHUP)
    world.run(60)
    second = [world.lives(name)[1].born_s for name in ("aster", "lighter", "paradex")]
    assert second == sorted(second)
    assert all(3 <= after - before <= 4 for before, after in pairwise(second))
    assert len(world.lives("gateway")) == 1


def test_only_what_changed_is_restarted(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.at(9, lambda: world.environ.update({"PARAPHINA_LIGHTER_STALE_MS": "5000"}))
    world.ask_at(10, "reload")
    world.run(60)
    assert [len(world.lives(name)) for name in ("lighter", "paradex", "gateway")] == [2, 1, 1]


def test_a_venue_is_added_and_another_removed(new_world):
    world = new_world(supervisor__venues="lighter")
    world.at(9, lambda: world.flags.update({"supervisor.venues": "paradex"}))
    world.signal_at(10, signal.SIGHUP)
    samples, sample = seen(lambda: [child.name for child in world.living()])
    world.at(20, sample)
    world.run(30)
    assert [sorted(names) for names in samples] == [["gateway", "paradex"]]
    assert list(world.run_dir.describe()["venues"]) == ["paradex"]


def test_a_removed_venue_can_come_back(world):
    world.at(9, lambda: world.flags.update({"supervisor.venues": "paradex"}))
    world.signal_at(10, signal.SIGHUP)
    world.at(19, lambda: world.flags.update({"supervisor.venues": "paradex,lighter"}))
    world.signal_at(20, signal.SIGHUP)
    world.run(60)
    assert starts(world) == [0, 20]


def test_a_configuration_with_a_mistake_changes_nothing(world, logged):
    world.at(9, lambda: world.environ.update({"PARAPHINA_LIGHTER_STALE_MS": "soon"}))
    world.signal_at(10, signal.SIGHUP)
    assert world.run(60) == 0
    assert len(world.children) == 2
    assert "PARAPHINA_LIGHTER_STALE_MS" in logged("supervisor.reload_refused")[0]["error"]


def test_a_removed_venue_cannot_be_restarted(new_world):
    """Its worker would find no settings."""
    world = new_world(supervisor__venues="lighter,paradex")
    world.at(9, lambda: world.flags.update({"supervisor.venues": "paradex"}))
    world.signal_at(10, signal.SIGHUP)
    world.ask_at(20, "restart")
    world.ask_at(21, "restart", "lighter")
    world.ask_at(22, "drill", "lighter")
    world.run(60)
    assert starts(world) == [0]
    assert [reply.ok for reply in world.replies] == [True, False, False]
    assert "there are paradex, gateway" in world.replies[1].advice


def test_a_hang_up_gives_a_failed_worker_another_try(world):
    """The cause may be outside of the file: keys, a recording, a secret."""
    world.at(10, lambda: world.the("lighter").die(78))
    world.signal_at(20, signal.SIGHUP)
    world.run(60)
    assert starts(world) == [0, 20]


@pytest.mark.parametrize("key", ["feeds.tcp", "feeds.tcp_port"])
def test_a_gateway_with_another_address_is_restarted_too(new_world, key):
    world = new_world(supervisor__venues="lighter", feeds__tcp="127.0.0.1")
    value = {"feeds.tcp": "127.0.0.2", "feeds.tcp_port": 5700}[key]
    world.at(9, lambda: world.flags.update({key: value}))
    world.signal_at(10, signal.SIGHUP)
    world.run(60)
    assert [len(world.lives(name)) for name in ("lighter", "gateway")] == [2, 2]
    assert world.parent._children["gateway"].lifecycle.backoff.policy.healthy_s == 0


def test_a_reload_says_what_it_changes(new_world):
    world = new_world(supervisor__venues="lighter,paradex")
    world.ask_at(9, "reload")
    world.at(10, lambda: world.flags.update({"supervisor.venues": "lighter,aster", "supervisor.log_level": "debug"}))
    world.at(10, lambda: world.environ.update(LATER))
    world.ask_at(11, "reload")
    world.run(60)
    same, changed = world.replies
    keys = ("settings", "added", "removed", "restarting", "needs_start")
    assert [same.data[key] for key in keys] == [[]] * 5
    assert [changed.data[key] for key in keys[1:]] == [["aster"], ["paradex"], ["lighter"], ["supervisor.log_level"]]
    assert set(changed.data["settings"]) == {"supervisor.venues", "supervisor.log_level", "venues.lighter.stale_ms"}


def test_a_reload_says_that_it_restarts_a_failed_worker(world):
    world.at(10, lambda: world.the("lighter").die(78))
    world.ask_at(20, "reload")
    world.run(60)
    assert world.replies[0].data["restarting"] == ["lighter"]


def test_a_restart_says_what_becomes_of_each_process(new_world):
    world = new_world(supervisor__venues="lighter,paradex,aster")
    world.born = lambda of: of.name == "paradex" and immortal(of)
    world.at(10, lambda: world.the("lighter").die(78))
    world.ask_at(11, "restart", "paradex")
    world.ask_at(20, "restart")
    world.run(60)
    assert world.replies[0].data["states"] == {"paradex": "restarting"}
    assert world.replies[1].data["states"] == {"lighter": "starting", "paradex": "unkillable", "aster": "restarting"}


def test_a_refused_reload_is_reported_to_the_client(world):
    world.at(9, lambda: world.environ.update({"PARAPHINA_LIGHTER_STALE_MS": "soon"}))
    world.ask_at(10, "reload")
    world.run(20)
    (reply,) = world.replies
    assert not reply.ok
    assert reply.exit_code == 2
    assert ["PARAPHINA_LIGHTER_STALE_MS" in problem for problem in reply.problems] == [True]


def test_a_reload_on_a_full_disk_changes_nothing_and_ends_nothing(world, logged, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.at(9, lambda: (monkeypatch.setattr("ipc.rundir.replace_file", full), world.environ.update(LATER)))
    world.signal_at(10, signal.SIGHUP)
    assert world.run(60) == 0
    assert starts(world) == [0]
    assert "No space left on device" in logged("supervisor.reload_refused")[0]["error"]


def test_a_new_memory_limit_takes_effect(world):
    world.at(5, lambda: world.row("lighter").__setitem__(WorkerWord.RSS_BYTES, 200 * 1024 * 1024))
    world.at(9, lambda: world.flags.update({"health.memory_limit_mb": 100}))
    world.signal_at(10, signal.SIGHUP)
    world.run(60)
    assert len(world.lives("lighter")) == 2


# --- log rotation -----------------------------------------------------------------------------------------------------


def test_all_processes_reopen_a_log_that_was_moved_away(world, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("supervisor.parent.reopen", opened.append)
    world.parent._system = replace(world.system, log_file=tmp_path / "log")
    world.signal_at(10, signal.SIGUSR2)
    assert world.run(20) == 0
    assert opened == [tmp_path / "log"]
    assert all((10, signal.SIGUSR2) in child.signals for child in world.children)


def test_a_log_that_is_not_ours_is_not_reopened(world):
    world.signal_at(10, signal.SIGUSR2)
    assert world.run(20) == 0
    assert not any(number == signal.SIGUSR2 for child in world.children for _, number in child.signals)


# --- shutdown ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(new_world, number):
    world = new_world()
    world.signal_at(10, number)
    assert world.run(1000) == 0
    assert world.now_s < 11
    assert all(child.signals == [(10, TERM)] for child in world.children)


def test_stop_over_the_control_socket_is_answered(world):
    world.born = lambda of: of.dies_of.pop(TERM)
    world.ask_at(10, "stop")
    assert world.run(1000) == 0
    assert world.replies[0].ok
    assert world.board.header[HeaderWord.PARENT_DRAINING] == 1


def test_what_ignores_the_signal_is_killed_after_two_seconds(world):
    world.born = lambda of: of.dies_of.pop(TERM)
    world.signal_at(10, TERM)
    assert world.run(1000) == 0
    assert all(child.signals == [(10, TERM), (12, KILL)] for child in world.children)


def test_a_second_signal_does_not_wait(world):
    world.born = lambda of: of.dies_of.pop(TERM)
    world.signal_at(10, TERM)
    world.signal_at(10.5, TERM)
    assert world.run(1000) == 0
    assert all(child.signals == [(10, TERM), (10.5, KILL)] for child in world.children)


def test_what_cannot_be_killed_is_left_behind_and_logged(world, logged):
    world.born = lambda of: of.name == "lighter" and immortal(of)
    world.signal_at(10, TERM)
    assert world.run(1000) == 1
    assert 15 <= world.now_s < 16
    (left,) = logged("supervisor.left_behind")
    assert (left["processes"], left["pids"]) == ("lighter", str(world.the("lighter").pid))


def test_stop_during_backoff_starts_nothing_more(world):
    world.at(10, lambda: world.the("lighter").die())
    world.signal_at(10.5, TERM)
    world.run(1000)
    assert len(world.lives("lighter")) == 1


def test_stop_when_nothing_lives_is_quick(world):
    world.at(10, lambda: [child.die() for child in world.living()])
    world.signal_at(10.5, TERM)
    assert world.run(1000) == 0
    assert world.now_s < 10.6


def test_a_failed_worker_does_not_hold_up_the_end(world):
    world.at(10, lambda: world.the("lighter").die(78))
    world.signal_at(20, TERM)
    assert world.run(1000) == 0
    assert world.now_s < 21


def test_a_restart_during_the_end_starts_nothing(world):
    world.born = lambda of: of.name == "gateway" and of.dies_of.pop(TERM)
    world.signal_at(10, TERM)
    world.ask_at(10.5, "restart", "lighter")
    assert world.run(1000) == 0
    assert len(world.lives("lighter")) == 1


def test_a_reload_during_the_end_starts_nothing(world):
    world.born = lambda of: of.name == "gateway" and of.dies_of.pop(TERM)
    world.at(9, lambda: world.flags.update({"supervisor.venues": "lighter,paradex"}))
    world.signal_at(10, TERM)
    world.signal_at(10.5, signal.SIGHUP)
    assert world.run(1000) == 0
    assert world.lives("paradex") == []


def test_the_dump_signal_logs_and_ends_nothing(world, logged):
    world.signal_at(10, USR1)
    assert world.run(20) == 0
    (dumped,) = logged("supervisor.dump")
    assert dumped["lighter"] == "live"
    assert "in _dump" in dumped["stack"]


def test_the_dump_signal_does_not_wait_for_a_reader_that_stands_still(world, forking):
    def scenario():
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"x" * 4096):
                pass
        os.set_blocking(writer, True)
        os.dup2(writer, 2)
        sys.stderr = sys.__stderr__
        log.setup("info", pretty=False)
        world.signal_at(10, USR1)
        return world.run(20), reader

    code, _ = forking.in_fork(scenario, 15)
    assert code == 0


# --- with the simulator -----------------------------------------------------------------------------------------------


@pytest.fixture
def simulated_world(new_world):
    return new_world(simulated("lighter"), supervisor__venues="lighter")


def late_listener(world, after_s):
    """Delay the moment at which the simulator listens."""

    def born(child):
        if child.name == "simulator":
            child.is_fresh = False
            world.at(world.now_s + after_s, lambda: setattr(child, "is_fresh", True))

    world.born = born


def test_workers_wait_until_the_simulator_listens(simulated_world):
    late_listener(simulated_world, 0.5)
    simulated_world.run(20)
    assert starts(simulated_world, "simulator") == [0]
    assert 0.5 <= starts(simulated_world)[0] <= 0.52


def test_workers_wait_for_a_bounded_time(simulated_world):
    late_listener(simulated_world, 100)
    simulated_world.run(20)
    assert 5 <= starts(simulated_world)[0] <= 5.02


def test_the_simulator_is_judged_by_its_life_alone(simulated_world):
    simulated_world.at(5, lambda: setattr(simulated_world.the("simulator"), "beats", False))
    simulated_world.run(100)
    assert len(simulated_world.lives("simulator")) == 1


def test_a_dead_simulator_is_restarted(simulated_world):
    simulated_world.at(10, lambda: simulated_world.the("simulator").die())
    simulated_world.run(20)
    assert waits(simulated_world, "simulator") == [1.0]
    assert len(simulated_world.lives("lighter")) == 1


def test_the_simulator_leaves_last(simulated_world):
    simulated_world.born = lambda of: of.name == "lighter" and of.dies_of.pop(TERM)
    simulated_world.signal_at(10, TERM)
    assert simulated_world.run(1000) == 0
    assert simulated_world.the("simulator").signals == [(12, TERM)]


def test_stop_while_waiting_for_the_simulator_starts_nothing(simulated_world):
    late_listener(simulated_world, 2)
    simulated_world.signal_at(1, TERM)
    assert simulated_world.run(1000) == 0
    assert simulated_world.lives("lighter") == []


def test_a_venue_that_is_taken_out_while_the_simulator_comes_up_is_not_started(new_world):
    world = new_world(simulated("lighter", "paradex"), supervisor__venues="lighter,paradex")
    late_listener(world, 2)
    world.at(0.9, lambda: world.flags.update({"supervisor.venues": "paradex"}))
    world.signal_at(1, signal.SIGHUP)
    world.run(20)
    assert [len(world.lives(name)) for name in ("lighter", "paradex")] == [0, 1]


def test_a_simulator_that_dies_at_once_backs_off_too(simulated_world):
    simulated_world.born = lambda of: of.name == "simulator" and of.die()
    simulated_world.run(6)
    assert len(simulated_world.lives("simulator")) <= 4


def test_orphans_are_reaped_on_every_tick_and_the_own_children_are_named(new_world):
    world = new_world(supervisor__venues="lighter")
    world.run(2)
    assert len(world.reaped) >= 8
    assert {child.pid for child in world.children} == set(world.reaped[3])
