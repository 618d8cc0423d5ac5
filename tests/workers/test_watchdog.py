"""The watchdog: freshness as it judges it from the board, whom it cuts and why, and how its own life is seen."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
from clocks import FakeStop

from ipc.board import CellWord, Row, SessionWord, WorkerWord
from ipc.health import Phase, Reason, code_of
from workers import watchdog as module
from workers.net.interrupter import SocketInterrupter
from workers.watchdog import Watchdog, WatchdogLimits, Watched, anchor_ns, overdue_reason

NS = 1_000_000_000
MS = 1_000_000
NOW = 10_000 * NS
LIMITS = WatchdogLimits(stale_ns=10 * NS, read_ns=30 * NS)


def row(count):
    return Row(memoryview(bytearray(8 * count)).cast("Q"), 0, count)


def cell(age_s=None, *, parsed_s=None):
    """A book's words: published ``age_s`` ago, and parsed ``parsed_s`` ago."""
    words = row(CellWord.COUNT)
    if age_s is not None:
        words[CellWord.LAST_PUBLISHED] = NOW - int(age_s * NS)
    if parsed_s is not None:
        words[CellWord.LAST_PARSED] = NOW - int(parsed_s * NS)
    return words


def session(phase=Phase.SUBSCRIBED, *, connect_s=100.0, opened_s=99.0, heard_s=0.0, deadline_s=None):
    """A session's words; times are ages, but for the deadline, which lies ahead."""
    words = row(SessionWord.COUNT)
    words[SessionWord.PHASE] = code_of(phase)
    words[SessionWord.CONNECT_START] = NOW - int(connect_s * NS)
    words[SessionWord.OPENED] = 0 if opened_s is None else NOW - int(opened_s * NS)
    words[SessionWord.LAST_WS_RX] = 0 if heard_s is None else NOW - int(heard_s * NS)
    words[SessionWord.DEADLINE] = 0 if deadline_s is None else NOW + int(deadline_s * NS)
    return words


def watched(words, *books, is_rest=False, name="main"):
    return Watched(name, words, books, SocketInterrupter(), is_rest)


def verdict(words, *books, flows=True, is_rest=False):
    return overdue_reason(watched(words, *books, is_rest=is_rest), NOW, LIMITS, venue_flows=flows)


# --- freshness ----------------------------------------------------------------------------------------------------


def test_anchor_is_the_newer_of_published_and_parsed_of_the_freshest_book():
    words = session()
    assert anchor_ns(words, [cell(5, parsed_s=7), cell(9)]) == NOW - 5 * NS
    assert anchor_ns(words, [cell(7, parsed_s=5)]) == NOW - 5 * NS


def test_anchor_before_any_data_is_the_start_of_the_connect():
    assert anchor_ns(session(connect_s=3), [cell(), cell()]) == NOW - 3 * NS
    assert anchor_ns(session(connect_s=3), []) == NOW - 3 * NS


def test_data_of_the_last_connection_are_no_anchor_for_the_next():
    """Words are zeroed for each connection; what a slow reader still sees is older than the connect."""
    assert anchor_ns(session(connect_s=3), [cell(8)]) == NOW - 3 * NS


@pytest.mark.parametrize(("age_s", "expected"), [(9.9, None), (10.0, None), (10.1, Reason.STALE_WATCHDOG)])
def test_session_is_stale_when_no_book_on_it_is_fresher_than_the_limit(age_s, expected):
    assert verdict(session(), cell(age_s), cell(99)) is expected


@pytest.mark.parametrize(("connect_s", "expected"), [(9.9, None), (10.1, Reason.STALE_WATCHDOG)])
def test_session_that_never_had_a_book_is_stale_by_its_connect(connect_s, expected):
    words = session(connect_s=connect_s, opened_s=connect_s)
    assert verdict(words, cell(), cell()) is expected


def test_one_fresh_book_keeps_the_session():
    assert verdict(session(), cell(60), cell(1)) is None


def test_frames_that_carry_no_book_keep_no_session():
    """A socket on which only pongs, acknowledgements or trades come is mute."""
    assert verdict(session(heard_s=0), cell(11), cell(11)) is Reason.STALE_WATCHDOG


def test_connection_of_one_book_is_left_alone_while_the_venues_other_books_flow():
    assert verdict(session(), cell(60), flows=True) is None
    assert verdict(session(), cell(60), flows=False) is Reason.STALE_WATCHDOG


def test_connection_without_books_is_judged_by_its_silence_alone():
    assert verdict(session(heard_s=29)) is None
    assert verdict(session(heard_s=31)) is Reason.READ_TIMEOUT


def test_silence_of_any_kind_ends_a_session_at_the_read_timeout():
    assert verdict(session(heard_s=29), cell(60)) is None
    assert verdict(session(heard_s=31), cell(60)) is Reason.READ_TIMEOUT


def test_silence_counts_from_the_opening():
    assert verdict(session(heard_s=None, opened_s=29)) is None
    assert verdict(session(heard_s=None, opened_s=31)) is Reason.READ_TIMEOUT
    assert verdict(session(heard_s=None, opened_s=None)) is None


# --- connecting, waiting, asking ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadline_s", "expected"), [(1, None), (0, None), (-0.1, Reason.CONNECT_TIMEOUT), (None, None)]
)
def test_connect_is_overdue_after_its_deadline(deadline_s, expected):
    words = session(Phase.CONNECTING, deadline_s=deadline_s)
    assert verdict(words, cell(99), cell(99)) is expected


@pytest.mark.parametrize("phase", [Phase.BACKOFF, Phase.RESOLVING, Phase.REPLAYING])
def test_anyone_is_not_subscribed_is_not_stale(phase):
    words = session(phase, heard_s=99, deadline_s=-5)
    assert verdict(words, cell(99), cell(99), flows=False) is None


@pytest.mark.parametrize("phase", [Phase.RESOLVING, Phase.SUBSCRIBED])
@pytest.mark.parametrize(("deadline_s", "expected"), [(1, None), (-0.1, Reason.READ_TIMEOUT), (None, None)])
def test_lane_is_judged_by_its_deadline_alone(phase, deadline_s, expected):
    words = session(phase, heard_s=99, deadline_s=deadline_s)
    assert verdict(words, is_rest=True) is expected


# --- looking ------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker():
    return row(WorkerWord.COUNT)


@pytest.fixture
def clock_at_now(clock):
    clock.now_ns = NOW
    return clock


@pytest.fixture
def dog(worker, clock_at_now):
    return Watchdog("lighter", worker, LIMITS, 0.2, None, threading.Event(), clock_at_now.monotonic_ns)


def test_look_beats(dog, worker, clock):
    for _ in range(3):
        clock.advance(0.2)
        dog.check()
        assert worker[WorkerWord.BEAT] == clock.now_ns


def test_look_shows_whether_the_main_thread_moves(dog, worker, clock):
    worker[WorkerWord.MAIN_LOOPS] = 41
    dog.check()
    seen = worker[WorkerWord.MAIN_SEEN]
    clock.advance(0.2)
    dog.check()
    assert worker[WorkerWord.MAIN_SEEN] == seen != 0
    worker[WorkerWord.MAIN_LOOPS] = 42
    dog.check()
    assert worker[WorkerWord.MAIN_SEEN] > seen


def test_stale_session_is_cut_and_named(dog, worker, events):
    stale, fresh = watched(session(), cell(11), cell(12)), watched(session(), cell(1), cell(99), name="other")
    dog.watch([stale, fresh])
    dog.check()
    assert stale.interrupter.reason is Reason.STALE_WATCHDOG
    assert fresh.interrupter.reason is None
    (told,) = events("ws.cut")
    assert told["text"] == "lighter book stale: freshness exceeded 10000 ms"
    assert (told["session"], told["reason"]) == ("main", Reason.STALE_WATCHDOG)
    assert worker[WorkerWord.CUTS] == 1


def test_cut_is_repeated_at_each_look_and_reported_once(dog, worker, events):
    class CountingCutter(SocketInterrupter):
        cuts = 0

        def interrupt(self, reason):
            self.cuts += 1
            super().interrupt(reason)

    stale = Watched("main", session(), (cell(11), cell(11)), CountingCutter())
    dog.watch([stale])
    for _ in range(3):
        dog.check()
    assert stale.interrupter.cuts == 3
    assert worker[WorkerWord.CUTS] == 1
    assert len(events("ws.cut")) == 1


def test_overdue_lane_is_cut(dog, events):
    lane = watched(session(deadline_s=-1), is_rest=True, name="poll")
    dog.watch([lane])
    dog.check()
    assert lane.interrupter.reason is Reason.READ_TIMEOUT
    assert events("ws.cut")[0]["text"] is None


@pytest.mark.parametrize(("age_s", "flows"), [(9.9, True), (10.1, False)])
def test_venue_flows_while_any_book_of_any_connection_is_fresh(dog, age_s, flows):
    dog.watch([watched(session(), cell(60)), watched(session(), cell(age_s)), watched(session(), is_rest=True)])
    assert dog.venue_flows(NOW) is flows


def test_venue_without_books_does_not_flow(dog):
    assert not dog.venue_flows(NOW)


def test_connections_of_one_market_each_are_cut_together_when_the_venue_is_mute(dog):
    both = [watched(session(), cell(11)), watched(session(), cell(12))]
    dog.watch(both)
    dog.check()
    assert [one.interrupter.reason for one in both] == [Reason.STALE_WATCHDOG] * 2


def test_witness_is_asked_of_every_session_and_ends_one_whose_books_stand_still(worker, clock, events):
    class FakeWitness:
        def __init__(self):
            self.asked = []

        def check(self, books, now_ns):
            self.asked.append((books, now_ns))
            return books == ("still",)

    witness = FakeWitness()
    rows = [session(heard_s=0) for _ in range(3)]
    sessions = [
        Watched("moving", rows[0], (), SocketInterrupter(), witnessed=("moving",)),
        Watched("still", rows[1], (), SocketInterrupter(), witnessed=("still",)),
        Watched("poll", rows[2], (), SocketInterrupter(), is_rest=True),
    ]
    dog = Watchdog("lighter", worker, LIMITS, 0.2, None, threading.Event(), lambda: NOW, witness)
    dog.watch(sessions)
    dog.check()
    assert witness.asked == [(("moving",), NOW), (("still",), NOW)]
    assert [one.interrupter.reason for one in sessions] == [None, Reason.STALE_WATCHDOG, None]
    assert worker[WorkerWord.CUTS] == 1
    assert "the other line's move" in events("ws.cut")[0]["text"]


def test_orphan_ends_itself(worker, clock, monkeypatch, events):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    for parent_pid in (None, os.getppid()):
        Watchdog("lighter", worker, LIMITS, 0.2, parent_pid, threading.Event(), clock.monotonic_ns).check()
    assert codes == []
    Watchdog("lighter", worker, LIMITS, 0.2, os.getppid() + 1, threading.Event(), clock.monotonic_ns).check()
    assert codes == [1]
    assert events("worker.orphaned")[0]["reason"] is Reason.PARENT_LOST


def test_looks_every_two_hundred_milliseconds_until_it_is_stopped(worker, clock, monkeypatch):
    monkeypatch.setattr(module, "time", clock)
    looks = []
    dog = Watchdog("lighter", worker, LIMITS, 0.2, None, FakeStop(clock, for_s=1.9), clock.monotonic_ns)
    monkeypatch.setattr(dog, "check", lambda: looks.append(clock.now_ns))
    dog.run()
    assert [round((at - looks[0]) / MS) for at in looks] == [200 * number for number in range(10)]


def test_missed_looks_are_skipped_and_not_made_up_for(worker, clock, monkeypatch):
    monkeypatch.setattr(module, "time", clock)
    looks = []

    def look():
        looks.append(clock.now_ns)
        if len(looks) == 2:
            clock.advance(5)  # the process stood still

    dog = Watchdog("lighter", worker, LIMITS, 0.2, None, FakeStop(clock, for_s=6), clock.monotonic_ns)
    monkeypatch.setattr(dog, "check", look)
    dog.run()
    pauses = [(later - earlier) / NS for earlier, later in itertools.pairwise(looks)]
    assert pauses[0] == pytest.approx(0.2)
    assert pauses[1] == pytest.approx(5.0, abs=0.01)
    assert min(pauses[3:]) >= 0.19
