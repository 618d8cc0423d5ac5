"""Stop and start of a venue on request, in a parent over simulated time."""

from __future__ import annotations

import os
import signal

import pytest

from ipc.board import WorkerWord
from ipc.health import Reason, WorkerState, word_of
from simulator.settings import SimSettings, VenuePorts
from supervisor.lifecycle import ChildState
from supervisor.system import SimulatorPlan

TERM, KILL = signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def world(new_world):
    """World of two venues and the gateway."""
    return new_world(supervisor__venues="lighter,paradex")


@pytest.fixture
def logged(caplog):
    """Return a function that returns the fields of an event's log records."""
    caplog.set_level("INFO")
    return lambda event: [record.fields for record in caplog.records if record.getMessage() == event]


def state(world, name="lighter"):
    return word_of(WorkerState, world.row(name)[WorkerWord.STATE])


def record(world, name="lighter"):
    """Return when a venue was stopped, s, and by whom."""
    row = world.row(name)
    at = row[WorkerWord.STOPPED_AT]
    return (round(at / 1e9 - 10_000, 1) if at else None), row[WorkerWord.STOPPED_BY] - 1


def reasons(world, event, name="lighter"):
    return [one["reason"] for one in world.published if (one["process"], one["event"]) == (name, event)]


def test_a_stopped_venue_ends_and_is_not_started_again(world, logged):
    world.ask_at(10, "stop_venue", "lighter")
    world.run(600)
    assert [child.signals for child in world.lives("lighter")] == [[(10, TERM)]]
    assert len(world.lives("paradex")) == 1
    assert world.replies[0].data["states"] == {"lighter": "stopping"}
    assert (state(world), record(world)) == (WorkerState.STOPPED, (10, os.getuid()))
    assert (world.events("lighter")[-1], reasons(world, "stopped")) == ("stopped", [Reason.REQUESTED])
    assert logged("venue.stop_requested")[0]["by"]
    assert logged("worker.exited")[0]["reason"] is Reason.REQUESTED


def test_a_stopped_venue_starts_on_request_without_a_delay(world, logged):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(300, "start_venue", "lighter")
    world.run(600)
    _, second = world.lives("lighter")
    assert second.born_s == pytest.approx(300, abs=0.1)
    assert second.generation == 2
    assert world.replies[1].data["states"] == {"lighter": "starting"}
    assert (record(world), second.signals) == ((None, -1), [(300, TERM)])
    assert logged("venue.start_requested")[0]["uid"] == os.getuid()


@pytest.mark.parametrize("target", ["gateway", "binance", None])
@pytest.mark.parametrize("verb", ["stop_venue", "start_venue"])
def test_what_is_no_venue_is_refused(world, verb, target):
    world.ask_at(10, verb, target)
    world.run(20)
    reply = world.replies[0]
    assert (reply.ok, reply.exit_code, reply.advice) == (False, 2, "there are lighter, paradex")
    assert reply.error == ("gateway is no venue" if target == "gateway" else f"no venue {target!r} here")
    assert [child.signals for child in world.children] == [[(20, TERM)]] * 3


@pytest.mark.parametrize("fresh", [True, False])
def test_a_venue_that_runs_cannot_be_started(world, fresh):
    world.born = lambda child: setattr(child, "is_fresh", fresh)
    world.ask_at(10, "start_venue", "lighter")
    world.run(20)
    reply = world.replies[0]
    assert (reply.ok, reply.exit_code) == (False, 2)
    assert reply.error == f"lighter is not stopped: it is {'live' if fresh else 'starting'}"
    assert reply.advice == "restart it with: paraphina-supervisor restart lighter"


def test_a_second_stop_keeps_the_record_of_the_first(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(60, "stop_venue", "lighter")
    world.run(100)
    assert record(world)[0] == 10
    assert [reply.ok for reply in world.replies] == [True, True]
    assert world.replies[1].data["states"] == {"lighter": "stopped"}
    assert len(reasons(world, "stopped")) == 1


# --- what leaves a stopped venue alone --------------------------------------------------------------------------------


def test_a_restart_of_all_leaves_it(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(20, "restart")
    world.run(60)
    assert [len(world.lives(name)) for name in ("lighter", "paradex")] == [1, 2]
    assert list(world.replies[1].data["states"]) == ["paradex"]


@pytest.mark.parametrize(("verb", "what"), [("restart", "restarted"), ("drill", "drilled")])
@pytest.mark.parametrize("while_stopping", [True, False])
def test_a_restart_and_a_drill_of_it_are_refused(world, verb, what, while_stopping):
    world.born = lambda child: child.dies_of.pop(TERM)
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(10.5 if while_stopping else 20, verb, "lighter")
    world.at(50, lambda: [child.die(0) for child in world.living()])
    world.run(40)
    reply = world.replies[1]
    assert (reply.ok, reply.error) == (False, f"lighter is stopped, and cannot be {what}")
    assert (reply.exit_code, reply.advice) == (2, "start it with: paraphina-supervisor start lighter")
    assert len(world.lives("lighter")) == 1


def test_a_drill_of_all_leaves_it(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(20, "drill", None, "kill")
    world.run(60)
    assert world.replies[1].ok
    assert [len(world.lives(name)) for name in ("lighter", "paradex")] == [1, 2]


def test_a_changed_configuration_takes_effect_at_its_start(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.at(20, lambda: world.flags.update({"supervisor.backoff_base_ms": 7000}))
    world.ask_at(20.1, "reload")
    world.ask_at(60, "start_venue", "lighter")
    world.at(70, lambda: world.the("lighter").die())
    world.run(100)
    assert world.replies[1].data["restarting"] == ["paradex"]
    assert [round(child.born_s) for child in world.lives("lighter")] == [0, 60, 77]
    assert len(world.lives("paradex")) == 2


def changes(world):
    """Change what concerns every venue, after which none is live; the rollout begins with aster."""
    world.born = lambda child: setattr(child, "is_fresh", child.generation == 1)
    world.at(10, lambda: world.flags.update({"supervisor.backoff_base_ms": 7000}))
    world.ask_at(10.1, "reload")


def test_a_rollout_goes_on_past_a_venue_that_is_stopped_meanwhile(new_world):
    world = new_world(supervisor__venues="aster,lighter,paradex")
    changes(world)
    world.ask_at(11, "stop_venue", "aster")
    world.run(25)
    assert [len(world.lives(name)) for name in ("aster", "lighter", "paradex")] == [2, 2, 1]
    assert world.lives("lighter")[1].born_s < 12.5


def test_a_venue_that_is_stopped_before_its_turn_is_not_rolled_out(new_world):
    world = new_world(supervisor__venues="aster,lighter,paradex")
    changes(world)
    world.ask_at(11, "stop_venue", "lighter")
    world.run(45)
    assert [len(world.lives(name)) for name in ("aster", "lighter", "paradex")] == [2, 1, 2]
    assert 40 < world.lives("paradex")[1].born_s < 42, "aster alone was waited for"


def test_a_venue_that_a_reload_removes_and_adds_again_stays_stopped(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.at(20, lambda: world.flags.update({"supervisor.venues": "paradex"}))
    world.ask_at(20.1, "reload")
    world.ask_at(25, "start_venue", "lighter")
    world.at(30, lambda: world.flags.update({"supervisor.venues": "paradex,lighter"}))
    world.ask_at(30.1, "reload")
    world.run(60)
    assert world.replies[2].error == "no venue 'lighter' here"
    assert len(world.lives("lighter")) == 1
    assert record(world)[0] == 10


# --- races ------------------------------------------------------------------------------------------------------------


def test_a_stop_during_backoff_ends_the_wait_and_the_crash_loop(world, logged):
    world.born = lambda child: child.die() if child.name == "lighter" else None
    samples = []
    world.at(99, lambda: samples.append(world.row("lighter")[WorkerWord.CRASH_LOOP]))
    world.ask_at(100, "stop_venue", "lighter")
    world.at(200, lambda: samples.append(world.row("lighter")[WorkerWord.CRASH_LOOP]))
    world.run(300)
    assert samples == [1, 0]
    assert all(child.born_s < 100 for child in world.lives("lighter"))
    assert (state(world), reasons(world, "stopped")) == (WorkerState.STOPPED, [Reason.REQUESTED])
    assert world.row("lighter")[WorkerWord.NEXT_START] == 0


def test_failures_before_a_stop_do_not_count_after_the_start(world):
    world.born = lambda child: child.die() if child.name == "lighter" else None
    world.ask_at(100, "stop_venue", "lighter")
    world.ask_at(200, "start_venue", "lighter")
    world.run(210)
    later = [child.born_s for child in world.lives("lighter") if child.born_s > 150]
    assert [round(born) for born in later[:3]] == [200, 201, 203]


def test_a_stop_during_a_kill_is_no_restart_and_the_event_says_requested(world, logged):
    world.at(10, lambda: setattr(world.the("lighter"), "beats", False))
    world.born = lambda child: child.dies_of.pop(TERM)
    world.ask_at(12.5, "stop_venue", "lighter")
    world.at(50, lambda: [child.die(0) for child in world.living()])
    world.run(40)
    assert world.replies[0].data["states"] == {"lighter": "stopping"}
    assert logged("worker.exited")[0]["reason"] is Reason.WEDGED
    assert reasons(world, "stopped")[0] is Reason.REQUESTED
    assert len(world.lives("lighter")) == 1
    assert world.row("lighter")[WorkerWord.CRASH_LOOP] == 0


def test_a_start_while_it_is_being_stopped_starts_it_once_it_is_gone(world):
    world.born = lambda child: child.dies_of.pop(TERM)
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(11, "start_venue", "lighter")
    world.at(50, lambda: [child.die(0) for child in world.living()])
    world.run(40)
    first, second = world.lives("lighter")
    assert world.replies[1].data["states"] == {"lighter": "restarting"}
    assert first.died_s == pytest.approx(12, abs=0.3)
    assert second.born_s == pytest.approx(first.died_s, abs=0.3)


def test_what_cannot_be_killed_is_not_started_when_it_ends(world, logged):
    world.born = lambda child: child.dies_of.clear() if child.name == "lighter" else None
    states = []
    world.ask_at(10, "stop_venue", "lighter")
    world.at(30, lambda: states.append(state(world)))
    world.at(40, lambda: world.the("lighter").die(None, KILL))
    world.at(50, lambda: states.append(state(world)))
    world.run(60)
    assert states == [WorkerState.UNKILLABLE, WorkerState.STOPPED]
    assert len(world.lives("lighter")) == 1
    assert logged("worker.needs_attention")[0]["state"] is WorkerState.UNKILLABLE


def test_a_start_of_what_cannot_be_killed_waits_for_its_end(world):
    world.born = lambda child: child.dies_of.clear() if child.name == "lighter" and child.generation == 1 else None
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(30, "start_venue", "lighter")
    world.at(40, lambda: world.the("lighter").die(None, KILL))
    world.run(60)
    assert world.replies[1].data["states"] == {"lighter": "unkillable"}
    assert [round(child.born_s) for child in world.lives("lighter")] == [0, 40]


def test_a_failed_venue_can_be_stopped_and_started(world):
    world.born = lambda child: child.die(78) if child.name == "lighter" and child.generation == 1 else None
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(20, "start_venue", "lighter")
    world.run(60)
    assert world.replies[0].data["states"] == {"lighter": "stopped"}
    assert [round(child.born_s) for child in world.lives("lighter")] == [0, 20]


@pytest.mark.parametrize("verb", ["stop_venue", "start_venue"])
def test_nothing_is_stopped_or_started_while_the_system_ends(world, verb):
    world.born = lambda child: child.dies_of.pop(TERM)
    world.signal_at(10, TERM)
    world.ask_at(10.5, verb, "lighter")
    world.run(60)
    assert (world.replies[0].ok, world.replies[0].error) == (False, "it is stopping")


def test_the_system_stops_with_a_stopped_venue(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(20, "stop")
    assert world.run(60) == 0
    assert world.now_s < 21


# --- announcements ----------------------------------------------------------------------------------------------------


def test_the_announcement_does_not_wait_for_it(world):
    world.born = lambda child: setattr(child, "is_fresh", child.name != "lighter")
    world.ask_at(10, "stop_venue", "lighter")
    world.run(60)
    assert "all 1 venues are live after 10." in "\n".join(world.announced)


def test_nothing_is_announced_when_every_venue_is_stopped(world):
    world.born = lambda child: setattr(child, "is_fresh", False)
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(11, "stop_venue", "paradex")
    assert world.run(60) == 0
    assert [line for line in world.announced if "live" in line] == []


def test_systemd_is_ready_without_it_and_hears_of_it(world, monkeypatch):
    heard = []
    notifier = world.parent._notifier
    monkeypatch.setattr(type(notifier), "is_wanted", True)
    monkeypatch.setattr(notifier, "ready", lambda: heard.append(("ready", round(world.now_s))))
    monkeypatch.setattr(notifier, "checked", lambda text, _: heard.append(text))
    world.born = lambda child: setattr(child, "is_fresh", child.name != "lighter")
    world.ask_at(10, "stop_venue", "lighter")
    world.run(20)
    assert next(one for one in heard if isinstance(one, tuple)) == ("ready", 10)
    texts = list(dict.fromkeys(one for one in heard if isinstance(one, str)))
    assert texts[:2] == ["1/2 live, lighter starting", "1/1 live, lighter stopped"]


def test_a_venue_that_is_stopped_while_the_simulator_comes_up_is_not_started(new_world):
    ports = {name: VenuePorts(20_000 + 2 * n, 20_001 + 2 * n) for n, name in enumerate(("lighter", "paradex"))}
    settings = SimSettings(ports, 30_000, tuple(ports))
    plan = SimulatorPlan(settings, "http://127.0.0.1:30000", dict.fromkeys(ports, ("", "")))
    world = new_world(plan, supervisor__venues="lighter,paradex")
    world.born = lambda child: setattr(child, "is_fresh", child.name != "simulator")
    world.ask_at(1, "stop_venue", "lighter")
    world.at(2, lambda: setattr(world.the("simulator"), "is_fresh", True))
    world.run(20)
    assert [child.name for child in world.children] == ["simulator", "paradex", "gateway"]
    assert world.parent._children["lighter"].state is ChildState.STOPPED
