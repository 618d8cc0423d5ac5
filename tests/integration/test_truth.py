"""No consumer ever trusts a wrong book: every book that is usable is compared with the truth, while all sorts of faults
strike. What judges is itself judged first, on books that are made wrong on purpose."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest
from storm import SETTINGS, Storm, drills_on, joining
from systems import MARKETS, VENUES, System, wait_for
from truth import Examiner, TruthChecker, Violation, compare_while_paused, explain

from ipc.events import BookDelta, BookSnapshot, Event, Gap, Lifecycle
from ipc.feed import PUBLIC_CHANNELS
from ipc.health import Reason
from ipc.replica import BookReplica

LIGHTER = ("lighter", "BTC-PERP", "BTC", None)
NUMBERED = [market for market in MARKETS if market[0] in {"aster", "lighter", "paradex"}]
SEED = 7
#: Those that take longest; the soak has them all.
SLOWEST = ("memory", "hang", "tls_hang", "no_pong", "slow_drip")
ROUNDS = 3


# --- the judge --------------------------------------------------------------------------------------------------------


class Reported:
    """A consumer's book of lighter, and the examiner that watches it."""

    def __init__(self) -> None:
        self.examiner = Examiner()
        self.book = BookReplica("lighter", "BTC-PERP")

    def hears(self, event: Event, epoch: int = 1, *, applied: bool = True) -> None:
        event.epoch = epoch
        if applied and isinstance(event, BookSnapshot):
            self.book.apply_snapshot(event)
        elif applied and isinstance(event, BookDelta):
            self.book.apply_delta(event)
        elif applied and isinstance(event, Gap):
            self.book.apply_gap(event)
        self.examiner.saw_event(event)
        self.examiner.saw_book(self.book)

    def truth(self, number: int | None, bids: list[list[str]], asks: list[list[str]]) -> None:
        self.examiner.saw_truth("lighter", "BTC-PERP", {"venue_seq": number, "bids": bids, "asks": asks})

    @property
    def kinds(self) -> list[str]:
        return [violation.kind for violation in self.examiner.violations]


def snapshot(number: int, bid: str = "100", ask: str = "101", **more: Any) -> BookSnapshot:
    event = BookSnapshot(*LIGHTER, [(bid, "1"), ("99", "2")], [(ask, "1")], None, number)
    for name, value in more.items():
        setattr(event, name, value)
    return event


def delta(number: int, *bids: tuple[str, str]) -> BookDelta:
    return BookDelta(*LIGHTER, list(bids), [], number, number - 1)


def gap() -> Gap:
    return Gap(*LIGHTER, "book", Reason.SEQ_GAP, 1, 3, "resync")


@pytest.fixture
def reported() -> Reported:
    return Reported()


def test_a_book_that_is_right_passes_whatever_the_texts_of_its_levels(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.hears(delta(2, ("100.5", "3.0")))
    reported.truth(1, [["100.0", "1.0"], ["99", "2"]], [["101", "1"]])
    reported.truth(2, [["100.50", "3"], ["100", "1"], ["99", "2"]], [["101", "1"]])
    assert reported.kinds == []
    assert reported.examiner.compared == {("lighter", "BTC-PERP"): 2}


def test_a_wrong_size_is_found_when_the_truth_comes_later(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.truth(1, [["100", "1"], ["99", "2.5"]], [["101", "1"]])
    assert reported.kinds == ["differs_from_truth"]
    (found,) = reported.examiner.violations
    assert "('99', '2')" in found.detail
    assert "('99', '2.5')" in found.detail
    assert "BookSnapshot BTC-PERP" in str(found), "what led to it is reported as well"


def test_a_missing_level_is_found_when_the_truth_came_before(reported: Reported) -> None:
    reported.truth(2, [["100.5", "3"], ["100", "1"], ["99", "2"]], [["101", "1"]])
    reported.hears(snapshot(1))
    reported.hears(delta(2))
    assert reported.kinds == ["differs_from_truth"]


def test_a_truth_of_a_number_that_was_never_held_is_not_compared(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.truth(7, [], [])
    reported.truth(None, [], [])
    assert reported.kinds == []
    assert not reported.examiner.compared


def test_an_unusable_book_is_not_compared(reported: Reported) -> None:
    reported.hears(snapshot(1, flags=("rest",)))
    reported.truth(1, [], [])
    assert reported.kinds == []


def test_two_states_of_one_number_are_found(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.hears(snapshot(1, bid="100.5"))
    assert reported.kinds == ["two_states"]
    reported.examiner.forget()
    reported.hears(snapshot(1, bid="100.6"))
    assert reported.kinds == ["two_states"], "another life of the market may count again"


def test_a_book_that_is_usable_in_a_gap_is_found(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.hears(gap(), applied=False)
    assert reported.kinds == ["usable_in_gap"]


def test_a_snapshot_ends_a_gap_and_one_by_rest_does_not(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.hears(gap())
    reported.hears(snapshot(4))
    assert reported.kinds == []
    reported.hears(gap())
    reported.hears(snapshot(6, flags=("rest",)))
    assert reported.kinds == [], "it is not usable"
    reported.book.fault = None
    reported.examiner.saw_book(reported.book)
    assert reported.kinds == ["usable_in_gap"]


def test_a_book_of_a_former_life_of_the_worker_is_found(reported: Reported) -> None:
    reported.hears(snapshot(1), epoch=1)
    reported.hears(delta(2), epoch=2)
    assert reported.kinds == ["usable_in_gap"]


def test_an_epoch_that_goes_back_is_found_and_the_gateways_is_its_own(reported: Reported) -> None:
    reported.hears(snapshot(1), epoch=5)
    reported.hears(Lifecycle("lighter", None, None, None, "started", None, 1, 1, None, None, None, 0, 0, None), epoch=3)
    assert reported.kinds == []
    reported.hears(snapshot(2), epoch=4)
    assert reported.kinds == ["epoch_went_back"]


def test_a_crossed_book_is_found(reported: Reported) -> None:
    reported.hears(snapshot(1, bid="101.0"))
    assert reported.kinds == [], "a crossed snapshot is not usable"
    reported.book.fault = None
    reported.examiner.saw_event(snapshot(1))
    reported.examiner.saw_book(reported.book)
    assert reported.kinds == ["crossed"]


def test_drift_is_found_once(reported: Reported) -> None:
    reported.hears(snapshot(1))
    reported.book.drifts = 1
    reported.hears(delta(2))
    reported.hears(delta(3))
    assert reported.kinds == ["drift"]


# --- the system -------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_no_consumer_trusts_a_wrong_book_while_everything_goes_wrong() -> None:
    chance = random.Random(SEED)
    with (
        System(config=SETTINGS) as system,
        TruthChecker(system) as steady,
        TruthChecker(system, nap_s=(3.0, 5.0), poll_s=0.05) as slow,
    ):
        system.wait_live()
        wait_for(lambda: all(steady.is_well(venue) for venue in VENUES))
        found: list[Violation] = []
        compared: Counter[tuple[str, str]] = Counter()

        def join() -> None:
            with TruthChecker(system, poll_s=0.05) as late:
                time.sleep(chance.uniform(0.5, 3.0))
            found.extend(late.violations)
            compared.update(late.compared)

        storm = Storm(system, steady)
        plans = {}
        for venue in VENUES:
            drills = drills_on(venue, without=SLOWEST)
            plans[venue] = [[drill] for drill in chance.sample(drills, len(drills))]
        with joining(join):
            for number in range(ROUNDS):
                storm.run({venue: plan[number::ROUNDS] for venue, plan in plans.items()})
                with TruthChecker(system) as late:
                    compare_while_paused(system, [steady, late])
                found += late.violations
        compare_while_paused(system, [steady, slow])
        found += steady.violations + slow.violations
        assert not found, explain(system, found)
        assert steady.lost == 0
        assert min(steady.compared[market] for market in NUMBERED) > 30, "and it was really compared"
        assert min(slow.compared[market] for market in NUMBERED) > 10
        assert min(compared[market] for market in NUMBERED) > 5


@pytest.mark.integration
def test_a_consumer_that_loses_messages_knows_it_and_comes_back_to_the_truth() -> None:
    with (
        System("--venues", "paradex", "--sim-rate", "1000") as system,
        TruthChecker(system, venues=["paradex"]) as steady,
        TruthChecker(system, venues=["paradex"], nap_s=(1.0, 3600.0), channels=PUBLIC_CHANNELS) as slow,
    ):
        system.wait_live(["paradex"])
        wait_for(lambda: steady.is_well("paradex"))
        wait_for(lambda: system.venue("paradex")["drops"], 60, 0.2, "its pipe is full")
        slow.wake()
        wait_for(lambda: slow.lost, what="it knows what it has missed")
        compare_while_paused(system, [steady, slow])
        assert not steady.violations + slow.violations
        assert steady.lost == 0, "the slow one costs the others nothing"


@pytest.mark.integration
def test_a_crossed_fast_book_of_hyperliquid_is_noticed() -> None:
    with System("--venues", "hyperliquid") as system, TruthChecker(system, venues=["hyperliquid"]) as consumer:
        system.wait_live(["hyperliquid"])
        wait_for(lambda: consumer.is_well("hyperliquid"))
        system.fault("hyperliquid", "crossed_book")
        wait_for(lambda: consumer.upsets("hyperliquid"), 5)


@pytest.mark.integration
def test_a_venue_clock_that_is_set_back_costs_one_resync_of_the_book() -> None:
    with System("--venues", "hyperliquid") as system, TruthChecker(system, venues=["hyperliquid"]) as consumer:
        system.wait_live(["hyperliquid"])
        wait_for(lambda: consumer.is_well("hyperliquid"))
        system.fault("hyperliquid", "clock_skew", seconds=25)
        time.sleep(1.5)
        system.fault("hyperliquid", "clear")
        wait_for(lambda: consumer.upsets("hyperliquid"), 5, what="silence is noticed")
        wait_for(lambda: consumer.is_well("hyperliquid"), 5, what="and the subscription rebuilt")
