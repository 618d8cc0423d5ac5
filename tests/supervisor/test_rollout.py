"""Restarts after a change of the configuration, and their order."""

from __future__ import annotations

import pytest

from ipc.health import Reason, WorkerState
from supervisor.config import load
from supervisor.rollout import Difference, Rollout, compare

S = 1_000_000_000


def configured(environ=None, **flags):
    return load(None, environ or {}, {key.replace("__", "."): value for key, value in flags.items()})


# --- what changed -----------------------------------------------------------------------------------------------------


def test_the_same_configuration_is_no_difference():
    assert compare(configured(), configured()) == Difference((), (), (), ())


def test_venues_that_come_and_go():
    old, new = configured(supervisor__venues="aster,lighter"), configured(supervisor__venues="lighter,paradex")
    assert compare(old, new) == Difference(
        added=("paradex",), removed=("aster",), changed=(), settings=("supervisor.venues",)
    )


@pytest.mark.parametrize(
    "environ",
    [{"PARAPHINA_ASTER_STALE_MS": "5000"}, {"PARAPHINA_ASTER_FUNDING_POLL_MS": "700"}],
    ids=["stale_ms", "funding_poll_ms"],
)
def test_a_venues_setting_changes_that_venue_alone(environ):
    assert compare(configured(), configured(environ)).changed == ("aster",)


def test_a_venues_markets_and_address_change_it():
    assert compare(configured(), configured(venues__lighter__markets="SOL")).changed == ("lighter",)
    assert compare(configured(), configured(venues__lighter__ws_url="ws://127.0.0.1")).changed == ("lighter",)


@pytest.mark.parametrize(
    "flags",
    [
        {"health__watchdog_tick_ms": "100"},
        {"supervisor__jitter": "0"},
        {"health__healthy_threshold_ms": "1"},
        {"supervisor__blackbox_kb": "2"},
        {"supervisor__blackbox_keep": "3"},
        {"supervisor__fixture_speed": "max"},
        {"feeds__tcp": "127.0.0.1"},
    ],
)
def test_a_setting_that_workers_share_changes_all_of_them(flags):
    assert compare(configured(), configured(**flags)).changed == tuple(configured().venues)


def test_the_parents_own_settings_restart_nobody():
    difference = compare(configured(), configured(supervisor__tick_ms="100"))
    assert difference == Difference((), (), (), ("supervisor.tick_ms",))
    assert difference.unapplied == ()


@pytest.mark.parametrize(("key", "value"), [("supervisor.log_level", "debug"), ("supervisor.run_dir", "/run/other")])
def test_settings_that_only_a_start_reads_are_not_applied(key, value):
    difference = compare(configured(), configured(**{key.replace(".", "__"): value}))
    assert (difference.changed, difference.unapplied) == ((), (key,))


# --- one after the other ----------------------------------------------------------------------------------------------


def rollout(*names):
    rollout = Rollout()
    rollout.add(names, Reason.CONFIG_CHANGED)
    return rollout


def test_nothing_waits_and_nothing_is_done():
    assert Rollout().next(None, 0) is None


def test_the_first_is_restarted_at_once_and_the_next_when_it_is_live():
    of = rollout("aster", "lighter", "paradex")
    assert of.next(None, 0) == "aster"
    for state in (WorkerState.KILLING, WorkerState.BACKOFF, WorkerState.STARTING, WorkerState.STALE):
        assert of.next(state, S) is None
    assert of.next(WorkerState.LIVE, 2 * S) == "lighter"
    assert of.next(WorkerState.LIVE, 3 * S) == "paradex"
    assert of.next(WorkerState.LIVE, 4 * S) is None
    assert of.current is None


def test_one_that_does_not_come_up_holds_up_the_rest_for_a_bounded_time():
    of = rollout("aster", "lighter")
    of.next(None, 0)
    assert of.next(WorkerState.STARTING, 30 * S - 1) is None
    assert of.next(WorkerState.STARTING, 30 * S) == "lighter"


def test_the_wait_counts_from_each_restart():
    of = rollout("aster", "lighter", "paradex")
    of.next(None, 0)
    of.next(WorkerState.STARTING, 30 * S)
    assert of.next(WorkerState.STARTING, 59 * S) is None
    assert of.next(WorkerState.STARTING, 60 * S) == "paradex"


def test_one_that_failed_for_good_is_not_waited_for():
    of = rollout("aster", "lighter")
    of.next(None, 0)
    assert of.next(WorkerState.FAILED, S) == "lighter"


def test_what_waits_already_waits_once():
    of = rollout("aster", "lighter")
    of.add(["lighter", "paradex"], Reason.REQUESTED)
    assert list(of.waiting) == ["aster", "lighter", "paradex"]


def test_one_that_changed_again_while_it_comes_up_has_another_turn():
    of = rollout("aster")
    of.next(None, 0)
    of.add(["aster"], Reason.REQUESTED)
    assert of.reason is Reason.CONFIG_CHANGED
    assert of.next(WorkerState.LIVE, S) == "aster"
    assert of.reason is Reason.REQUESTED


def test_what_is_gone_is_not_restarted():
    of = rollout("aster", "lighter")
    of.forget("aster")
    of.forget("never there")
    assert of.next(None, 0) == "lighter"
    assert of.next(WorkerState.LIVE, S) is None


def test_one_that_is_taken_away_while_it_comes_up_is_not_waited_for():
    of = rollout("aster", "lighter")
    of.next(None, 0)
    of.forget("aster")
    assert of.next(WorkerState.STOPPED, S) == "lighter"


# --- lines of a venue -------------------------------------------------------------------------------------------------


def test_the_second_line_is_restarted_once_the_first_is_live_again():
    of = rollout("aster.b", "aster", "lighter")
    assert of.next(None, 0) == "aster.b"
    assert of.next(WorkerState.STARTING, S) is None
    assert of.next(WorkerState.LIVE, 2 * S) is None
    assert of.next(WorkerState.LIVE, 4 * S - 1) is None
    assert of.next(WorkerState.LIVE, 4 * S) == "aster"
    assert of.next(WorkerState.LIVE, 5 * S) == "lighter"
    assert of.abandoned == []


@pytest.mark.parametrize(("state", "at_ns"), [(WorkerState.STARTING, 30 * S), (WorkerState.FAILED, S)])
def test_the_second_line_is_left_alone_when_the_first_does_not_come_back(state, at_ns):
    of = rollout("aster", "aster.b", "lighter", "lighter.b")
    of.next(None, 0)
    assert of.next(state, at_ns) == "lighter"
    assert of.abandoned == ["aster.b"]
    assert list(of.waiting) == ["lighter.b"]


def test_one_that_is_queued_again_while_it_comes_up_is_restarted_again_even_if_it_fails():
    of = rollout("aster")
    of.next(None, 0)
    of.add(["aster"], Reason.REQUESTED)
    assert of.next(WorkerState.FAILED, S) == "aster"
    assert of.abandoned == []


def test_a_line_that_may_not_end_waits_and_is_abandoned_after_half_a_minute():
    of = rollout("aster", "lighter")
    assert of.next(None, 0, lambda name: name != "aster") is None
    assert of.next(None, 30 * S - 1, lambda name: name != "aster") is None
    assert of.next(None, 31 * S, lambda name: name != "aster") is None
    assert of.abandoned == ["aster"]
    assert of.next(None, 32 * S, lambda name: name != "aster") == "lighter"
