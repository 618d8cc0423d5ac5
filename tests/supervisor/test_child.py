"""The ladder of signals, rung by rung."""

from __future__ import annotations

import signal

import pytest

from ipc.health import Reason
from supervisor.child import KillSequence

S = 1_000_000_000
MS = 1_000_000
T0 = 500 * S
USR1, TERM, KILL = signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL


def begin(reason, **arguments):
    return KillSequence.begin(reason, T0, **{"is_stopped": False, **arguments})


def climbed(ladder, step_ns=10 * MS, until_ns=20 * S):
    """What is sent when, for one who looks every ``step_ns``: (ns after the start, signal)."""
    return [(at, number) for at in range(0, until_ns, step_ns) for number in ladder.due(T0 + at)]


@pytest.mark.parametrize("reason", [Reason.STALE_WORKER, Reason.START_TIMEOUT, Reason.MEMORY])
def test_dump_then_term_then_kill_then_a_person(reason):
    expected = [(0, USR1), (200 * MS, TERM), (2200 * MS, KILL), (7200 * MS, None)]
    assert climbed(begin(reason)) == expected


def test_one_without_a_beat_has_a_short_grace():
    assert climbed(begin(Reason.WEDGED)) == [(0, USR1), (200 * MS, TERM), (700 * MS, KILL), (5700 * MS, None)]


@pytest.mark.parametrize("reason", [Reason.REQUESTED, Reason.CONFIG_CHANGED])
def test_a_planned_end_has_no_dump(reason):
    assert climbed(begin(reason)) == [(0, TERM), (2 * S, KILL), (7 * S, None)]


@pytest.mark.parametrize("reason", [Reason.WEDGED, Reason.REQUESTED, Reason.STALE_WORKER])
def test_a_stopped_process_is_killed_at_once(reason):
    assert climbed(begin(reason, is_stopped=True)) == [(0, KILL), (5 * S, None)]


def test_each_rung_is_climbed_once():
    ladder = begin(Reason.STALE_WORKER)
    assert ladder.due(T0) == [USR1]
    assert ladder.due(T0) == []
    assert ladder.due(T0 + 200 * MS - 1) == []
    assert ladder.due(T0 + 200 * MS) == [TERM]


def test_rungs_are_gone_once_climbed():
    ladder = begin(Reason.REQUESTED)
    assert ladder.due(T0) == [TERM]
    assert [number for _, number in ladder.steps] == [KILL, None]
    assert ladder.due(T0 + 60 * S) == [KILL]
    assert ladder.due(T0 + 120 * S) == [None]
    assert ladder.steps == []
    assert ladder.due(T0 + 180 * S) == []


def test_a_late_parent_gives_the_kill_its_time_before_it_calls_a_person():
    ladder = begin(Reason.WEDGED)
    assert None not in ladder.due(T0 + 60 * S)


def test_hurry_kills_at_once_and_then_waits_five_seconds():
    ladder = begin(Reason.REQUESTED)
    ladder.due(T0)
    ladder.hurry(T0 + 100 * MS)
    assert climbed(ladder) == [(100 * MS, KILL), (5100 * MS, None)]


def test_the_reason_is_kept():
    assert begin(Reason.MEMORY).reason is Reason.MEMORY
