"""Two lines of a venue in a parent over simulated time: never both at once, unless both fail."""

from __future__ import annotations

import signal

import pytest

from ipc.board import WorkerWord
from ipc.health import WorkerState
from ipc.lines import LINES, process_of
from supervisor.overview.condition import missing_lines
from supervisor.status.lines import merged

FIRST, SECOND = (process_of("lighter", line) for line in LINES)


@pytest.fixture
def world(new_world):
    """World of two venues with two lines each, and the gateway."""
    return new_world(supervisor__venues="lighter,paradex", supervisor__lines=2)


def births(world, name):
    return [child.born_s for child in world.lives(name)]


def absences(world, name, until_s):
    """Return the times without a process, as (from, to) in seconds since the beginning."""
    lives = world.lives(name)
    ends = [child.died_s if child.died_s is not None else until_s for child in lives]
    return list(zip(ends, [*births(world, name)[1:], until_s], strict=True))


def overlap(world, until_s):
    """Return whether both lines of a venue were away at one moment before the end."""
    first, second = (absences(world, name, until_s) for name in (FIRST, SECOND))
    return any(max(a[0], b[0]) < min(a[1], b[1]) for a in first for b in second if min(a[1], b[1]) < until_s)


def test_the_second_line_starts_once_the_first_is_live(world):
    world.born = lambda child: setattr(child, "is_fresh", child.name != FIRST)
    world.at(7, lambda: setattr(world.the(FIRST), "is_fresh", True))
    world.run(60)
    assert births(world, "paradex.b")[0] < 1
    assert 7 <= births(world, SECOND)[0] < 8


def test_the_second_line_waits_for_half_a_minute(world):
    world.born = lambda child: setattr(child, "is_fresh", child.name != FIRST)
    world.run(40)
    assert 30 <= births(world, SECOND)[0] < 31


def test_a_venue_is_announced_once(world):
    world.run(10)
    assert [text.split()[:3] for text in world.announced[:3]] == [
        ["lighter", "is", "live"],
        ["paradex", "is", "live"],
        ["all", "2", "venues"],
    ]


def test_a_restart_takes_one_line_after_the_other(world):
    def born(child):
        child.is_fresh = child.generation == 1
        world.at(world.now_s + 3, lambda: setattr(child, "is_fresh", True))

    world.born = born
    world.ask_at(10, "restart", "lighter")
    world.run(60)
    assert births(world, FIRST)[1:] == [pytest.approx(10.25, abs=0.3)]
    assert births(world, SECOND)[1:] == [pytest.approx(births(world, FIRST)[1] + 5.25, abs=0.5)]
    assert not overlap(world, 60)
    assert len(world.lives("paradex")) == 1


def test_a_restart_of_everything_has_no_venue_without_a_line(world):
    world.ask_at(10, "restart")
    world.run(60)
    assert [len(world.lives(process_of(venue, line))) for venue in ("lighter", "paradex") for line in LINES] == [2] * 4
    assert not overlap(world, 60)


def test_a_restart_begins_with_the_line_that_is_not_live(world):
    world.at(9, lambda: setattr(world.the(FIRST), "is_fresh", False))
    world.ask_at(20, "restart", "lighter")
    world.run(60)
    assert births(world, FIRST)[-1] < births(world, SECOND)[-1]


def test_the_other_line_is_left_alone_when_the_first_does_not_come_back(world, caplog):
    world.born = lambda child: setattr(child, "is_fresh", (child.name, child.generation) != (FIRST, 2))
    world.ask_at(10, "restart", "lighter")
    world.run(60)
    assert len(world.lives(SECOND)) == 1
    assert [record.fields["venue"] for record in caplog.records if record.getMessage() == "rollout.abandoned"] == [
        SECOND
    ]


@pytest.mark.parametrize(("target", "name"), [("lighter.a", FIRST), ("lighter.b", SECOND)])
def test_one_line_can_be_restarted(world, target, name):
    world.ask_at(10, "restart", target)
    world.run(60)
    assert [len(world.lives(one)) for one in (FIRST, SECOND)] == [1 + (name == FIRST), 1 + (name == SECOND)]
    assert list(world.replies[0].data["states"]) == [name]


def test_without_a_second_line_there_are_no_names_for_lines(new_world):
    world = new_world(supervisor__venues="lighter")
    world.ask_at(10, "restart", "lighter.a")
    world.run(20)
    assert "no process 'lighter.a' here" in str(world.replies[0].error)


def test_a_stopped_venue_stops_both_lines_and_starts_them_in_turn(world):
    world.ask_at(10, "stop_venue", "lighter")
    world.ask_at(20, "start_venue", "lighter")
    world.run(60)
    assert [list(reply.data["states"]) for reply in world.replies] == [[FIRST, SECOND]] * 2
    assert [child.died_s for child in world.children if child.name in {FIRST, SECOND} and child.generation == 1] == [
        pytest.approx(10, abs=0.3)
    ] * 2
    assert 20 <= births(world, FIRST)[1] <= births(world, SECOND)[1] < 21


def test_lines_that_are_killed_come_back_by_themselves(world):
    world.at(10, lambda: world.the(SECOND).die(None, signal.SIGKILL))
    world.run(60)
    assert births(world, SECOND)[1:] == [pytest.approx(11, abs=0.3)]
    assert len(world.lives(FIRST)) == 1


def test_a_reload_adds_a_line_before_it_restarts_the_other(new_world):
    world = new_world(supervisor__venues="lighter")
    world.at(10, lambda: world.flags.update({"supervisor.lines": 2}))
    world.ask_at(11, "reload")
    world.run(60)
    assert births(world, SECOND)[0] == pytest.approx(11, abs=0.3)
    assert len(world.lives(FIRST)) == 2
    assert births(world, FIRST)[1] > births(world, SECOND)[0]


def test_a_reload_that_removes_a_line_ends_it_once_the_other_is_live_again(world):
    world.born = lambda child: (
        world.at(world.now_s + 3, lambda: setattr(child, "is_fresh", True))
        or setattr(child, "is_fresh", child.generation == 1)
    )
    world.at(10, lambda: world.flags.update({"supervisor.lines": 1}))
    world.ask_at(11, "reload")
    world.run(60)
    assert len(world.lives(FIRST)) == 2
    assert births(world, FIRST)[1] == pytest.approx(11.25, abs=0.3)
    assert [child.died_s for child in world.lives(SECOND)] == [pytest.approx(14.5, abs=0.6)]
    assert world.row(SECOND)[WorkerWord.DUTY] == 0


def test_a_line_is_not_restarted_while_the_other_is_away(world):
    world.born = lambda child: setattr(child, "is_fresh", child.name != SECOND or child.generation == 1)
    world.at(9, lambda: world.the(SECOND).die(None, signal.SIGKILL))
    world.at(20, lambda: world.flags.update({"health.watchdog_tick_ms": 100}))
    world.ask_at(20, "reload")
    world.run(90)
    assert len(world.lives(FIRST)) == 1


def test_a_reload_begins_with_the_line_that_failed(world):
    def born(child):
        if child.name == SECOND and child.generation == 1:
            world.at(world.now_s + 0.1, lambda: child.die(78, None))

    world.born = born
    world.at(20, lambda: world.flags.update({"health.watchdog_tick_ms": 100}))
    world.ask_at(20, "reload")
    world.run(60)
    assert births(world, SECOND)[1] < births(world, FIRST)[1]


def test_a_line_that_is_added_to_a_stopped_venue_is_stopped(new_world):
    world = new_world(supervisor__venues="lighter")
    world.ask_at(5, "stop_venue", "lighter")
    world.at(10, lambda: world.flags.update({"supervisor.lines": 2}))
    world.ask_at(11, "reload")
    world.ask_at(20, "start_venue", "lighter")
    world.run(60)
    assert births(world, SECOND) == [pytest.approx(20.3, abs=0.5)]


def test_another_venue_on_tcp_restarts_nobody(new_world):
    world = new_world(supervisor__venues="lighter", feeds__tcp="127.0.0.1")
    world.at(10, lambda: world.flags.update({"supervisor.venues": "lighter,paradex"}))
    world.ask_at(11, "reload")
    world.run(40)
    assert [len(world.lives(name)) for name in ("lighter", "paradex", "gateway")] == [1, 1, 1]


# --- what status makes of them ----------------------------------------------------------------------------------------


def market(state="live", age_ms=5, **more):
    return {
        "state": state,
        "reason": None,
        "reason_ago_s": None,
        "age_ms": age_ms,
        "limit_ms": 10_000,
        "since_ms": 1,
        "reconnects": 0,
        "gaps": 0,
        "events": 7,
        **more,
    }


def line(state="live", usable=2, books=("live", "live"), **more):
    """Return the document of one line."""
    markets = {symbol: market(of) for symbol, of in zip(("BTC-PERP", "ETH-PERP"), books, strict=True)}
    return {
        "state": state,
        "pid": 1,
        "crash_loop": False,
        "outage": False,
        "books": {"wanted": 2, "usable": usable},
        "consumers": [],
        "streams": {"book": {**market(books[0]), "handling_us": {}, "lag_ms": {}, "markets": markets}},
        **more,
    }


def test_a_venue_is_live_while_one_line_is():
    found = merged({"a": line("backoff", 0, ("off", "off")), "b": line()})
    assert (found["state"], found["books"]) == ("live", {"wanted": 2, "usable": 2})
    assert {name: of["state"] for name, of in found["streams"]["book"]["markets"].items()} == {
        "BTC-PERP": "live",
        "ETH-PERP": "live",
    }
    assert [of["state"] for of in found["lines"].values()] == ["backoff", "live"]


def test_a_venue_is_live_while_every_book_is_usable_on_one_line():
    found = merged({"a": line("stale", 1, ("live", "stale")), "b": line("stale", 1, ("resync", "quiet"))})
    assert (found["state"], found["books"]["usable"]) == ("live", 2)
    assert found["streams"]["book"]["state"] == "quiet"


def test_a_book_that_both_lines_miss_is_missing():
    found = merged({"a": line("stale", 1, ("live", "stale")), "b": line("backoff", 0, ("off", "off"))})
    assert (found["state"], found["books"]["usable"], found["streams"]["book"]["state"]) == ("stale", 1, "stale")


@pytest.mark.parametrize("state", WorkerState)
def test_every_state_has_its_place(state):
    without = {"usable": 0, "books": ("off", "off")}
    assert merged({"a": line(state, **without), "b": line("failed", **without)})["state"] == state


def test_an_outage_is_one_on_both_lines_and_consumers_are_those_of_both():
    outage = merged({"a": line(outage=True), "b": line(outage=False, consumers=["b", "a"])})
    assert (outage["outage"], outage["consumers"]) == (False, ["a", "b"])
    assert merged({"a": line(outage=True), "b": line(outage=True)})["outage"]


# --- in words, and in metrics -----------------------------------------------------------------------------------------


def test_a_line_that_is_away_is_named_in_words():
    away = {"last_exit": {"reason": "killed"}}
    venue = merged({"a": line(last_exit=None), "b": line("backoff", 0, ("off", "off"), **away)})
    assert missing_lines(venue) == "lines 1/2 (b: waits for its next start, killed from outside)"
    assert missing_lines(merged({"a": line(), "b": line()})) is None
    assert missing_lines(line()) is None
