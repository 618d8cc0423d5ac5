"""Duty of two lines: it moves after ten seconds of inability, at most once a minute, and not back by itself."""

from __future__ import annotations

import pytest

from ipc.board import CellWord, WorkerWord
from ipc.health import Reason, Stream, StreamState, code_of
from supervisor.duties import Duty, LineHealth

S = 1_000_000_000
ABLE, LIVE, AWAY = LineHealth(True, True), LineHealth(True, False), LineHealth(False, False)


def moves(duty, states, until_s=200):
    """Update a duty once a second; return when it moved and to which line. States: (from s, a, b)."""
    found = []
    for second in range(until_s):
        _, first, other = next(state for state in reversed(states) if state[0] <= second)
        if duty.update(second * S, {"a": first, "b": other}):
            found.append((second, duty.holder))
    return found


def test_line_a_has_it_while_it_is_able():
    assert moves(duty := Duty(), [(0, ABLE, ABLE)]) == []
    assert duty.holder == "a"


@pytest.mark.parametrize("unable", [LIVE, AWAY])
def test_it_moves_after_ten_seconds_to_a_line_that_is_live(unable):
    assert moves(Duty(), [(0, ABLE, ABLE), (20, unable, ABLE)]) == [(30, "b")]


def test_a_shorter_absence_moves_nothing():
    assert (
        moves(Duty(), [(0, ABLE, ABLE), (20, AWAY, ABLE), (29, ABLE, ABLE), (40, AWAY, ABLE), (49, ABLE, ABLE)]) == []
    )


def test_it_waits_for_a_line_that_is_live():
    assert moves(Duty(), [(0, AWAY, AWAY), (50, AWAY, LIVE)]) == [(50, "b")]


def test_it_does_not_come_back_by_itself_and_moves_once_a_minute():
    assert moves(Duty(), [(0, AWAY, ABLE), (20, ABLE, ABLE)]) == [(10, "b")]
    assert moves(Duty(), [(0, AWAY, ABLE), (20, ABLE, AWAY)]) == [(10, "b"), (70, "a")]


# --- in a parent ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(new_world):
    return new_world(supervisor__venues="lighter", supervisor__lines=2, venues__lighter__account="desk")


def duties(world):
    return [world.row(name)[WorkerWord.DUTY] for name in ("lighter", "lighter.b")]


def test_the_parent_writes_it_on_the_board(world):
    seen = []
    world.born = lambda child: seen.append((child.name, duties(world)))
    world.run(10)
    assert seen[0] == ("lighter", [1, 0])
    assert duties(world) == [1, 0]


def test_a_single_line_has_it(new_world):
    world = new_world(supervisor__venues="lighter")
    world.run(5)
    assert world.row("lighter")[WorkerWord.DUTY] == 1


def account(world, state, reason=None):
    cell = world.board.cell(world.system.slot_table["lighter"], 0, Stream.ACCOUNT)
    cell[CellWord.STATE], cell[CellWord.REASON] = code_of(state), 0 if reason is None else code_of(reason)


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (StreamState.BACKOFF, Reason.REFUSED, [0, 1]),
        (StreamState.FAILED, Reason.AUTH_FAILED, [1, 0]),
        (StreamState.LIVE, None, [1, 0]),
        (StreamState.OFF, None, [1, 0]),
    ],
)
def test_an_account_that_is_away_moves_it_and_refused_credentials_do_not(world, state, reason, expected):
    world.at(5, lambda: account(world, state, reason))
    world.run(30)
    assert duties(world) == expected


def test_a_line_that_is_away_loses_it(world):
    world.at(5, lambda: setattr(world.the("lighter"), "is_fresh", False))
    world.run(60)
    assert duties(world) == [0, 1]
