"""Kill rules on board words: thresholds, reasons, order and exemptions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipc.board import Row, SessionWord, WorkerWord
from ipc.health import Phase, Reason, code_of
from supervisor import kill_rules
from supervisor.kill_rules import RULES, KillLimits, is_fresh, is_stale, kill_reason_of

S = 1_000_000_000
MS = 1_000_000
NOW = 1_000 * S
LIMITS = KillLimits(start_ns=30 * S)


def row_of(kind, words):
    row = Row(memoryview(bytearray(kind.COUNT * 8)).cast("Q"), 0, kind.COUNT)
    for word, value in words.items():
        row[getattr(kind, word)] = value
    return row


def worker(**words):
    """Return a healthy worker that was forked a minute ago, with ``words`` changed."""
    healthy = {
        "FORKED": NOW - 60 * S,
        "BEAT": NOW - 100 * MS,
        "FIRST_FRESH": NOW - 50 * S,
        "LAST_FRESH": NOW - 100 * MS,
    }
    return row_of(WorkerWord, {**healthy, **words})


def starting_worker(age_ns, **words):
    """Return a worker that was never fresh."""
    return worker(**{"FORKED": NOW - age_ns, "FIRST_FRESH": 0, "LAST_FRESH": 0, **words})


def session(phase=Phase.SUBSCRIBED, **words):
    return row_of(SessionWord, {"PHASE": code_of(phase), **words})


def reason_for(of, *sessions, limits=LIMITS, is_held=lambda: False):
    return kill_reason_of(of, sessions, NOW, limits, is_held)


# --- fresh and stale --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_ns", "fresh"), [(0, True), (S, True), (S + 1, False), (10 * S, False)])
def test_fresh_for_a_second_and_stale_from_then_on(age_ns, fresh):
    of = worker(LAST_FRESH=NOW - age_ns)
    assert is_fresh(of, NOW) is fresh
    assert is_stale(of, NOW) is not fresh


def test_never_fresh_is_not_fresh():
    assert not is_fresh(starting_worker(0), NOW)
    assert not is_fresh(worker(LAST_FRESH=0), S // 2), "also right after the machine's boot, when the clock is near 0"


# --- no reason to kill ------------------------------------------------------------------------------------------------


def test_a_healthy_worker_is_not_killed():
    assert reason_for(worker(), session(), session(Phase.BACKOFF, NEXT_ACTION=NOW + S)) is None


def test_a_stale_worker_first_has_its_own_watchdog():
    assert reason_for(worker(LAST_FRESH=NOW - 30 * S), session(FAILED_CYCLES=1)) is None


def test_a_gateway_without_sessions_is_checked_by_its_beat_alone():
    assert reason_for(worker()) is None
    assert reason_for(worker(BEAT=NOW - 3 * S)) is Reason.WEDGED


# --- wedged -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_ns", "reason"), [(2 * S, None), (2 * S + 1, Reason.WEDGED)])
def test_wedged_without_a_beat_for_two_seconds(age_ns, reason):
    assert reason_for(worker(BEAT=NOW - age_ns), session()) is reason


@pytest.mark.parametrize(("late_ns", "reason"), [(-S, None), (3 * S, None), (3 * S + 1, Reason.WEDGED)])
def test_wedged_when_a_thread_is_three_seconds_over_its_deadline(late_ns, reason):
    assert reason_for(worker(), session(), session(DEADLINE=NOW - late_ns)) is reason


def test_a_thread_that_does_not_block_has_no_deadline():
    assert reason_for(worker(), session(DEADLINE=0)) is None


@pytest.mark.parametrize(("age_ns", "reason"), [(30 * S, None), (30 * S + 1, Reason.WEDGED)])
def test_a_worker_without_a_first_beat_has_its_start_timeout(age_ns, reason):
    assert reason_for(starting_worker(age_ns, BEAT=0), session(Phase.CONNECTING)) is reason


def test_the_limits_are_those_that_were_set():
    limits = KillLimits(beat_ns=5 * S, deadline_ns=7 * S, start_ns=11 * S)
    assert reason_for(worker(BEAT=NOW - 5 * S), session(DEADLINE=NOW - 7 * S), limits=limits) is None
    assert reason_for(worker(BEAT=NOW - 5 * S - 1), limits=limits) is Reason.WEDGED
    assert reason_for(worker(), session(DEADLINE=NOW - 7 * S - 1), limits=limits) is Reason.WEDGED
    assert reason_for(starting_worker(11 * S, BEAT=0), limits=limits) is None
    assert reason_for(starting_worker(11 * S + 1, BEAT=0), limits=limits) is Reason.WEDGED


def test_limits_of_main_thread_overdue_plans_and_failed_cycles_are_those_that_were_set():
    limits = KillLimits(start_ns=11 * S, main_ns=4 * S, overdue_ns=6 * S, failed_cycles=3)
    assert reason_for(worker(BEAT=NOW, MAIN_SEEN=NOW - 4 * S), limits=limits) is None
    assert reason_for(worker(BEAT=NOW, MAIN_SEEN=NOW - 4 * S - 1), limits=limits) is Reason.WEDGED
    backing_off = [session(Phase.BACKOFF, NEXT_ACTION=NOW - 6 * S - late_ns) for late_ns in (0, 1)]
    assert [reason_for(worker(), of, limits=limits) for of in backing_off] == [None, Reason.STALE_WORKER]
    subscribed = [session(FAILED_CYCLES=count) for count in (2, 3)]
    assert [reason_for(worker(), of, limits=limits) for of in subscribed] == [None, Reason.STALE_WORKER]


def test_default_limits():
    defaults = KillLimits(start_ns=1)
    assert (defaults.beat_ns, defaults.deadline_ns, defaults.main_ns) == (2 * S, 3 * S, 10 * S)
    assert (defaults.overdue_ns, defaults.failed_cycles, defaults.memory_bytes) == (20 * S, 2, 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_process_that_a_debugger_holds_is_spared_from_every_rule(rule, monkeypatch):
    monkeypatch.setattr(kill_rules, "RULES", (replace(rule, applies=lambda _: True, exemptions=()),))
    assert reason_for(worker()) is rule.reason
    assert reason_for(worker(), is_held=lambda: True) is None


def test_nobody_asks_for_a_debugger_of_a_healthy_process():
    assert reason_for(worker(), is_held=lambda: pytest.fail("it was asked for")) is None


def test_rules_are_checked_in_this_order():
    assert [(rule.threshold, rule.reason.value) for rule in RULES] == [
        ("beat_ns", "wedged"),
        ("start_ns", "wedged"),
        ("main_ns", "wedged"),
        ("deadline_ns", "wedged"),
        ("memory_bytes", "memory"),
        ("failed_cycles", "stale_worker"),
        ("overdue_ns", "stale_worker"),
        ("start_ns", "start_timeout"),
    ]


@pytest.mark.parametrize(("lag_ns", "reason"), [(10 * S, None), (10 * S + 1, Reason.WEDGED)])
def test_wedged_when_the_main_thread_is_ten_seconds_behind_the_watchdog(lag_ns, reason):
    assert reason_for(worker(BEAT=NOW - S, MAIN_SEEN=NOW - S - lag_ns)) is reason


def test_a_main_thread_that_has_no_record_yet_is_not_stuck():
    assert reason_for(worker(BEAT=NOW, MAIN_SEEN=0)) is None


def test_wedged_in_an_outage_is_still_wedged():
    assert reason_for(worker(BEAT=NOW - 3 * S, OUTAGE_SINCE=NOW - 60 * S)) is Reason.WEDGED


def test_wedged_comes_before_memory():
    limits = KillLimits(start_ns=30 * S, memory_bytes=1)
    assert reason_for(worker(BEAT=NOW - 3 * S, RSS_BYTES=2), limits=limits) is Reason.WEDGED


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rss", "reason"), [(999, None), (1000, None), (1001, Reason.MEMORY)])
def test_memory_over_its_limit(rss, reason):
    assert reason_for(worker(RSS_BYTES=rss), session(), limits=KillLimits(start_ns=30 * S, memory_bytes=1000)) is reason


def test_no_memory_limit_means_none():
    assert reason_for(worker(RSS_BYTES=1 << 50), session(), limits=KillLimits(start_ns=30 * S, memory_bytes=0)) is None


def test_memory_in_an_outage_is_still_too_much():
    limits = KillLimits(start_ns=30 * S, memory_bytes=1000)
    assert reason_for(worker(RSS_BYTES=1001, OUTAGE_SINCE=NOW - S), limits=limits) is Reason.MEMORY


# --- stale worker -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed_cycles", "reason"), [(0, None), (1, None), (2, Reason.STALE_WORKER), (9, Reason.STALE_WORKER)]
)
def test_subscribed_without_fresh_data_through_two_reconnects(failed_cycles, reason):
    assert reason_for(worker(LAST_FRESH=NOW - 30 * S), session(), session(FAILED_CYCLES=failed_cycles)) is reason


def test_failed_cycles_beside_a_session_that_delivers_are_no_reason():
    """A restart would interrupt the markets that work, again and again while the venue withholds the other."""
    of = worker(LAST_FRESH=NOW - 90 * S, BOOKS_WANTED=2, BOOKS_USABLE=1)
    assert reason_for(of, session(), session(FAILED_CYCLES=9)) is None


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.BACKOFF, Phase.RESOLVING, Phase.REPLAYING])
def test_failed_cycles_are_no_reason_while_busy_as_planned(phase):
    assert reason_for(worker(LAST_FRESH=NOW - 30 * S), session(phase, FAILED_CYCLES=5, NEXT_ACTION=NOW + S)) is None


@pytest.mark.parametrize(("late_ns", "reason"), [(-S, None), (20 * S, None), (20 * S + 1, Reason.STALE_WORKER)])
def test_a_planned_action_that_is_twenty_seconds_overdue(late_ns, reason):
    assert reason_for(worker(), session(Phase.BACKOFF, NEXT_ACTION=NOW - late_ns)) is reason


def test_no_plan_is_not_overdue():
    assert reason_for(worker(), session(Phase.BACKOFF, NEXT_ACTION=0)) is None


@pytest.mark.parametrize(
    "session_words",
    [{"FAILED_CYCLES": 5}, {"phase": Phase.BACKOFF, "NEXT_ACTION": NOW - 60 * S}],
    ids=["failed_cycles", "overdue"],
)
def test_an_outage_spares_what_no_restart_fixes(session_words):
    assert reason_for(worker(LAST_FRESH=NOW - 90 * S), session(**session_words)) is Reason.STALE_WORKER
    assert reason_for(worker(LAST_FRESH=NOW - 90 * S, OUTAGE_SINCE=NOW - 60 * S), session(**session_words)) is None


# --- the start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_ns", "reason"), [(S, None), (30 * S, None), (30 * S + 1, Reason.START_TIMEOUT)])
def test_the_start_timeout_begins_again_with_a_late_answer_of_the_venue(age_ns, reason):
    of = starting_worker(300 * S)
    assert reason_for(of, session(), session(OPENED=NOW - 200 * S), session(OPENED=NOW - age_ns)) is reason
    assert reason_for(starting_worker(300 * S, RESOLVING=NOW - age_ns), session()) is reason
    assert reason_for(starting_worker(300 * S, HELD_BACK=NOW - age_ns), session()) is reason


@pytest.mark.parametrize(("age_ns", "reason"), [(30 * S, None), (30 * S + 1, Reason.START_TIMEOUT)])
@pytest.mark.parametrize("sessions", [(), (session(),)], ids=["without sessions", "subscribed"])
def test_the_grace_of_a_start_is_bounded(age_ns, reason, sessions):
    assert reason_for(starting_worker(age_ns), *sessions) is reason


@pytest.mark.parametrize(
    "busy",
    [
        session(Phase.CONNECTING),
        session(Phase.RESOLVING),
        session(Phase.BACKOFF, NEXT_ACTION=NOW + 30 * S),
        session(Phase.REPLAYING),
    ],
    ids=["connecting", "resolving", "backing off", "playing"],
)
def test_a_late_start_is_spared_while_it_is_busy_as_planned(busy):
    assert reason_for(starting_worker(600 * S), session(), busy) is None


def test_a_late_start_without_a_plan_is_not_busy():
    assert reason_for(starting_worker(31 * S), session(Phase.BACKOFF, NEXT_ACTION=0)) is Reason.START_TIMEOUT


def test_a_late_start_in_an_outage_is_spared():
    assert reason_for(starting_worker(600 * S, OUTAGE_SINCE=NOW - S)) is None


@pytest.mark.parametrize(("wanted", "reason"), [(0, None), (1, Reason.START_TIMEOUT)])
def test_a_worker_whose_markets_can_have_no_book_is_not_restarted(wanted, reason):
    """All are misspelt, delisted or halted: a restart would find the same list."""
    assert reason_for(starting_worker(600 * S, RESOLVED=NOW - 599 * S, BOOKS_WANTED=wanted), session()) is reason


@pytest.mark.parametrize(("wanted", "reason"), [(0, None), (1, Reason.STALE_WORKER)])
def test_no_fresh_data_is_expected_of_halted_markets(wanted, reason):
    of = worker(LAST_FRESH=NOW - 600 * S, RESOLVED=NOW - 9 * S, BOOKS_WANTED=wanted)
    assert reason_for(of, session(FAILED_CYCLES=5)) is reason


def test_a_worker_that_was_fresh_once_has_started():
    assert reason_for(worker(FORKED=NOW - 600 * S, LAST_FRESH=NOW - 500 * S), session()) is None


def test_connecting_longer_than_its_deadline_is_wedged_and_not_spared():
    assert reason_for(starting_worker(31 * S), session(Phase.CONNECTING, DEADLINE=NOW - 4 * S)) is Reason.WEDGED
