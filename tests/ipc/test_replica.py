from __future__ import annotations

import pytest

from ipc.errors import BookUnusableError
from ipc.events import Gap, HeartbeatBook, Level
from ipc.health import Reason
from ipc.orderbook import OrderBook
from ipc.replica import NO_SNAPSHOT, BookReplica

BIDS: list[Level] = [("99.0", "1"), ("98", "2.50")]
ASKS: list[Level] = [("100", "1"), ("101", "3")]


@pytest.fixture
def replica(snapshot_of) -> BookReplica:
    """A copy in step with its worker."""
    replica = BookReplica("lighter", "BTC-PERP")
    assert replica.apply_snapshot(snapshot_of(BIDS, ASKS))
    return replica


def worker_says(bids: list[Level], asks: list[Level], *, usable: bool = True) -> HeartbeatBook:
    book = OrderBook()
    book.replace(bids, asks)
    return HeartbeatBook(1, None, usable, 0, book.crc32_top10() if usable else None)


def lose(replica: BookReplica) -> None:
    replica.apply_gap(Gap("lighter", "BTC-PERP", "1", None, "session", Reason.STALE_WATCHDOG, None, None, "reconnect"))


# --- in step ------------------------------------------------------------------------------------------------------


def test_book_without_a_snapshot_is_unusable() -> None:
    replica = BookReplica("lighter", "BTC-PERP")
    assert (replica.usable, replica.reason, replica.fault) == (False, NO_SNAPSHOT, NO_SNAPSHOT)
    assert replica.age_ms(5) is None


def test_snapshot_makes_the_book_usable(replica: BookReplica) -> None:
    assert (replica.usable, replica.reason) == (True, None)
    assert (replica.best_bid, replica.best_ask) == (("99.0", "1"), ("100", "1"))
    assert (replica.bids(), replica.asks(1)) == (BIDS, ASKS[:1])


def test_delta_before_the_first_snapshot_is_dropped(delta_of, snapshot_of) -> None:
    replica = BookReplica("lighter", "BTC-PERP")
    replica.apply_delta(delta_of([("98", "7")], []))
    assert replica.fault == NO_SNAPSHOT
    replica.apply_snapshot(snapshot_of(BIDS, ASKS))
    assert replica.bids() == BIDS


def test_delta_changes_the_book(replica: BookReplica, delta_of) -> None:
    replica.apply_delta(delta_of([("99", "0"), ("98.0", "4")], [("99.5", "2")]))
    assert (replica.bids(), replica.best_ask) == ([("98.0", "4")], ("99.5", "2"))


def test_snapshot_replaces_everything(replica: BookReplica, snapshot_of) -> None:
    assert replica.apply_snapshot(snapshot_of([("5", "1")], []))
    assert (replica.bids(), replica.asks(), replica.best_ask) == ([("5", "1")], [], None)


def test_stamps_are_those_of_the_last_applied_event(replica: BookReplica, delta_of) -> None:
    event = delta_of([("98", "4")], [])
    event.venue_seq, event.recv_mono_ns, event.exchange_ns = 12, 5_000_000, 77
    replica.apply_delta(event)
    assert (replica.venue_seq, replica.exchange_ns) == (12, 77)
    assert replica.age_ms(6_500_000) == 1.5


def test_book_may_be_looked_at_whatever_is_wrong_with_it(replica: BookReplica) -> None:
    replica.invalidate("seq_gap")
    replica.silence = "heartbeat_lost"
    assert replica.indicative() == (BIDS, ASKS)
    assert replica.indicative(1) == (BIDS[:1], ASKS[:1])


def test_ignored_delta_leaves_the_stamps(replica: BookReplica, delta_of) -> None:
    replica.invalidate("seq_gap")
    event = delta_of([("98", "4")], [])
    event.venue_seq, event.recv_mono_ns = 12, 5_000_000
    replica.apply_delta(event)
    assert (replica.venue_seq, replica.age_ms(6_000_000)) == (None, None)


# --- every fault, and its way out ---------------------------------------------------------------------------------


def spoil_delta(replica, delta_of, snapshot_of) -> None:
    replica.apply_delta(delta_of([("98", "abc")], []))


def spoil_snapshot(replica, delta_of, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([("abc", "1")], []))


def cross_by_delta(replica, delta_of, snapshot_of) -> None:
    replica.apply_delta(delta_of([("100.0", "1")], []))


def cross_by_snapshot(replica, delta_of, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([("101", "1")], [("100", "1")]))


def cross_by_venue(replica, delta_of, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([("101", "1")], [("100", "1")], "crossed_by_venue"))


def stand_in_by_rest(replica, delta_of, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([("90", "1")], [("91", "1")], "rest"))


def drift(replica, delta_of, snapshot_of) -> None:
    assert not replica.agrees_with(worker_says(BIDS, []))


FAULTS = [
    ("bad_level", spoil_delta),
    ("bad_level", spoil_snapshot),
    ("crossed_book", cross_by_delta),
    ("crossed_book", cross_by_snapshot),
    ("crossed_by_venue", cross_by_venue),
    ("rest", stand_in_by_rest),
    ("drift", drift),
    ("stale_watchdog", lambda replica, *_: lose(replica)),
    ("seq_gap", lambda replica, *_: replica.invalidate("seq_gap")),
    (NO_SNAPSHOT, lambda replica, *_: replica.invalidate(NO_SNAPSHOT)),
]
faults = pytest.mark.parametrize(("fault", "strike"), FAULTS)


@faults
def test_fault_makes_the_book_refuse_prices_by_name(replica, delta_of, snapshot_of, fault: str, strike) -> None:
    strike(replica, delta_of, snapshot_of)
    assert (replica.usable, replica.fault, replica.reason) == (False, fault, fault)
    for look in (lambda: replica.best_bid, lambda: replica.best_ask, replica.bids, lambda: replica.asks(1)):
        with pytest.raises(BookUnusableError) as caught:
            look()
        assert caught.value.reason == fault
        assert caught.value.where == "lighter.BTC-PERP"


@faults
def test_delta_does_not_mend_a_fault(replica, delta_of, snapshot_of, fault: str, strike) -> None:
    strike(replica, delta_of, snapshot_of)
    replica.apply_delta(delta_of([("99", "0"), ("101", "0"), ("50", "1")], [("100", "0"), ("60", "1")]))
    assert replica.fault == fault


@faults
def test_next_snapshot_mends_every_fault(replica, delta_of, snapshot_of, fault: str, strike) -> None:
    strike(replica, delta_of, snapshot_of)
    assert replica.apply_snapshot(snapshot_of(BIDS, ASKS, "refresh"))
    assert replica.usable
    assert (replica.bids(), replica.asks()) == (BIDS, ASKS)


@faults
def test_heartbeat_neither_mends_nor_counts_a_known_fault(replica, delta_of, snapshot_of, fault: str, strike) -> None:
    strike(replica, delta_of, snapshot_of)
    drifts = replica.drifts
    assert replica.agrees_with(worker_says([], []))
    assert (replica.fault, replica.drifts) == (fault, drifts)


def test_later_loss_names_its_own_reason(replica: BookReplica) -> None:
    replica.invalidate("seq_gap")
    lose(replica)
    assert replica.reason == "stale_watchdog"


# --- silence ------------------------------------------------------------------------------------------------------


def test_silence_hides_the_book_and_its_end_shows_it_again(replica: BookReplica) -> None:
    replica.silence = "heartbeat_lost"
    assert (replica.usable, replica.reason, replica.fault) == (False, "heartbeat_lost", None)
    with pytest.raises(BookUnusableError):
        _ = replica.best_bid
    replica.silence = None
    assert replica.best_bid == ("99.0", "1")


def test_book_goes_on_behind_the_silence(replica: BookReplica, delta_of) -> None:
    replica.silence = "heartbeat_lost"
    replica.apply_delta(delta_of([("99", "7")], []))
    replica.silence = None
    assert replica.best_bid == ("99", "7")


def test_fault_outlasts_the_silence(replica: BookReplica) -> None:
    replica.silence = "heartbeat_lost"
    replica.invalidate("seq_gap")
    assert replica.reason == "heartbeat_lost"
    replica.silence = None
    assert replica.reason == "seq_gap"


# --- drift --------------------------------------------------------------------------------------------------------


def test_refresh_that_is_equal_by_value_is_no_drift(replica: BookReplica, snapshot_of) -> None:
    assert replica.apply_snapshot(snapshot_of([("99", "1.0"), ("98.00", "2.5")], ASKS, "refresh"))
    assert (replica.drifts, replica.usable) == (0, True)


@pytest.mark.parametrize(
    ("bids", "asks"),
    [(BIDS[:1], ASKS), ([*BIDS, ("97", "1")], ASKS), (BIDS, [("100", "2"), ("101", "3")]), ([], [])],
)
def test_refresh_that_differs_proves_drift_and_mends_it(replica, snapshot_of, bids, asks) -> None:
    assert not replica.apply_snapshot(snapshot_of(bids, asks, "refresh"))
    assert (replica.drifts, replica.usable) == (1, True)
    assert (replica.bids(), replica.asks()) == (bids, asks)


def test_snapshot_of_the_venue_may_differ_without_drift(replica: BookReplica, snapshot_of) -> None:
    assert replica.apply_snapshot(snapshot_of([], []))
    assert replica.drifts == 0


def test_heartbeat_with_the_same_checksum_agrees(replica: BookReplica) -> None:
    assert replica.agrees_with(worker_says([("99", "1"), ("98.0", "2.5")], ASKS))
    assert replica.usable


def test_heartbeat_without_a_checksum_agrees(replica: BookReplica) -> None:
    assert replica.agrees_with(HeartbeatBook(1, None, True, 0, None))
    assert replica.usable


def test_heartbeat_with_another_checksum_proves_drift(replica: BookReplica) -> None:
    assert not replica.agrees_with(worker_says(BIDS[:1], ASKS))
    assert (replica.drifts, replica.fault) == (1, "drift")


def test_heartbeat_of_a_worker_whose_book_is_unusable_voids_ours(replica: BookReplica) -> None:
    assert not replica.agrees_with(worker_says(BIDS, ASKS, usable=False))
    assert not replica.usable


def test_drift_that_a_bad_snapshot_shows_is_counted(replica: BookReplica, snapshot_of) -> None:
    assert not replica.apply_snapshot(snapshot_of([("0", "1")], [], "refresh"))
    assert (replica.drifts, replica.fault) == (1, "bad_level")


# --- levels that are none, further down ---------------------------------------------------------------------------


def test_refresh_with_a_level_that_is_none_is_a_fault_and_no_error(replica: BookReplica, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([*BIDS, ("abc", "1")], ASKS, "refresh"))
    assert replica.fault == "bad_level"


def test_snapshot_with_a_level_that_is_none_is_a_fault_and_no_error(replica: BookReplica, snapshot_of) -> None:
    replica.apply_snapshot(snapshot_of([*BIDS, ("abc", "1")], ASKS))
    replica.agrees_with(worker_says(BIDS, ASKS))
    assert replica.fault == "bad_level"
