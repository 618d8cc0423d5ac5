"""A worker's own book: every continuity rule, and a book that equals the truth or says that it may not be used."""

from __future__ import annotations

import pytest
from fake_venue import BTC, delta, snapshot
from hypothesis import given
from hypothesis import strategies as st
from replicas import Replica, histories, levels_of

from ipc.events import BookDelta, BookSnapshot
from ipc.health import Reason
from workers.protocol.book_sync import BookInvalid, BookSync
from workers.venues.venue import Continuity, RelativeDelta, Resync, Rule


def keeper_of(rule):
    return BookSync("lighter", "BTC-PERP", Continuity(rule, Resync.RESUBSCRIBE))


@pytest.fixture
def snapshots():
    return keeper_of(Rule.SNAPSHOTS)


@pytest.fixture
def chain():
    return keeper_of(Rule.CHAIN)


@pytest.fixture
def bridge():
    return keeper_of(Rule.BRIDGE)


def held(keeper):
    """The book by value, as two dicts; None while it may not be used."""
    event = keeper.snapshot("refresh")
    return None if event is None else (levels_of(event.bids), levels_of(event.asks))


def book(bids, asks):
    return levels_of(bids), levels_of(asks)


# --- whole books --------------------------------------------------------------------------------------------------


def test_snapshot_is_published_and_makes_the_book_usable(chain):
    assert not chain.usable
    assert chain.snapshot("refresh") is None
    event = snapshot(5)
    assert chain.on_snapshot(event) is event
    assert event.cause == "subscribe"
    assert chain.usable
    assert chain.venue_seq == 5


def test_snapshot_replaces_the_whole_book(chain):
    chain.on_snapshot(snapshot(1, [("100", "1"), ("99", "2")], [("101", "1")]))
    chain.on_snapshot(snapshot(2, [("98", "3")], []))
    assert held(chain) == book([("98", "3")], [])


def test_unasked_snapshot_is_a_refresh(chain):
    chain.on_snapshot(snapshot(1))
    event = snapshot(2)
    chain.on_snapshot(event)
    assert event.cause == "refresh"


@pytest.mark.parametrize("cause", ["subscribe", "resync", "rotation"])
def test_snapshot_after_a_loss_tells_its_cause(chain, cause):
    chain.on_snapshot(snapshot(1))
    chain.invalidate(cause)
    event = snapshot(2)
    chain.on_snapshot(event)
    assert event.cause == cause


def test_whole_books_need_no_numbers(snapshots):
    for price in ("100", "99", "100"):
        event = snapshot(None, [(price, "1")])
        assert snapshots.on_snapshot(event) is event
    assert snapshots.usable


def test_whole_book_older_than_the_last_is_left_out(snapshots):
    snapshots.on_snapshot(snapshot(None, [("100", "1")], ns=2000))
    assert snapshots.on_snapshot(snapshot(None, [("99", "1")], ns=1999)) is None
    assert snapshots.ignored == 1
    assert held(snapshots) == book([("100", "1")], [("101", "1")])
    assert snapshots.on_snapshot(snapshot(None, [("98", "1")], ns=2000)) is not None


@pytest.mark.parametrize(("ns", "is_disproved"), [(8_999_999, False), (9_000_000, True), (9_999_999, True)])
def test_books_are_compared_by_milliseconds_of_exchange_time(snapshots, ns, is_disproved):
    """9.5 ms and 9.0 ms are the same millisecond: REST may cut what the stream does not."""
    snapshots.on_snapshot(snapshot(None, [("100", "1")], ns=9_500_000))
    assert snapshots.is_disproved_by(snapshot(None, [("99", "1")], ns=ns)) is is_disproved


def test_server_that_is_behind_is_noticed_after_a_reconnect(snapshots):
    snapshots.on_snapshot(snapshot(None, ns=2000))
    snapshots.invalidate()
    assert snapshots.on_snapshot(snapshot(None, ns=1000)) is None


def test_server_that_stays_behind_is_not_refused_indefinitely(snapshots):
    """Two servers may disagree on the time; the one that answers now must be believed in the end."""
    snapshots.on_snapshot(snapshot(None, ns=2000))
    snapshots.invalidate()
    snapshots.on_snapshot(snapshot(None, ns=1000))
    snapshots.invalidate()
    assert snapshots.on_snapshot(snapshot(None, ns=1001)) is not None


def test_server_whose_frames_were_refused_to_the_end_is_believed_on_the_next_connection(snapshots):
    """Its clock was set back, and something else ended the connection before the silence was noticed."""
    snapshots.on_snapshot(snapshot(None, ns=2000))
    assert snapshots.on_snapshot(snapshot(None, ns=1000)) is None
    snapshots.invalidate()
    assert snapshots.on_snapshot(snapshot(None, ns=1001)) is not None


def test_one_frame_out_of_order_does_not_end_the_order_of_time(snapshots):
    snapshots.on_snapshot(snapshot(None, ns=2000))
    assert snapshots.on_snapshot(snapshot(None, ns=1000)) is None
    snapshots.on_snapshot(snapshot(None, ns=2001))
    snapshots.invalidate()
    assert snapshots.on_snapshot(snapshot(None, ns=2000)) is None


def test_server_that_sets_its_clock_back_is_believed_after_a_silence(snapshots):
    snapshots.on_snapshot(snapshot(None, ns=2000))
    assert snapshots.on_snapshot(snapshot(None, ns=1000)) is None
    snapshots.invalidate_by_silence()
    event = snapshots.on_snapshot(snapshot(None, ns=1001))
    assert event is not None
    assert event.cause == "resync"
    assert snapshots.on_snapshot(snapshot(None, ns=1000)) is None, "and older ones are left out as before"


@pytest.mark.parametrize("rule", ["chain", "snapshots"])
@pytest.mark.parametrize(
    "levels",
    [
        [("100", "1"), ("99", "0"), ("98", "1")],
        [("100", "1"), ("99", "0.000"), ("98", "1")],
        [("100", "1"), ("100.0", "1"), ("98", "1")],
        [("98", "1"), ("100", "1")],
        [("100", "1"), ("9_8", "1")],
        [("100", "1"), (" 98", "1")],
        [("100", "1"), ("+98", "1")],
        [("100", "1"), ("٩٨", "1")],
        [("100", "1"), ("98", "-5")],
    ],
)
def test_snapshot_that_is_no_book_is_not_repaired_and_the_next_one_is_the_resync(request, rule, levels):
    keeper = request.getfixturevalue(rule)
    keeper.on_snapshot(snapshot(1))
    for bids, asks in ((levels, []), ([], [(price, size) for price, size in levels[:1]] + levels)):
        assert keeper.on_snapshot(snapshot(2, bids, asks)).reason is Reason.PARSE_ERRORS
        assert not keeper.usable
    event = keeper.on_snapshot(snapshot(3))
    assert keeper.usable
    assert event.cause == "resync"


def test_exponents_are_published_as_plain_decimals(chain):
    event = chain.on_snapshot(snapshot(1, [("1E2", "1E-7"), ("99", "1")], [("101", "2")]))
    assert event.bids == [("100", "0.0000001"), ("99", "1")]
    change = chain.on_delta(delta(2, 1, [("1e2", "0E-8"), ("99", "5e0")], [("101", "2")]))
    assert change.bids == [("100", "0"), ("99", "5")]
    assert chain.snapshot("refresh").bids == [("99", "5")]


@pytest.mark.parametrize("ns", [1 << 63, 1 << 70])
def test_time_beyond_64_bits_is_none(chain, snapshots, ns):
    assert chain.on_snapshot(snapshot(1, ns=ns)).exchange_ns is None
    assert snapshots.on_snapshot(snapshot(1, ns=ns)).exchange_ns is None
    change = delta(2, 1)
    change.exchange_ns = ns
    assert chain.on_delta(change).exchange_ns is None


def test_order_of_time_is_no_matter_where_frames_are_numbered(chain):
    chain.on_snapshot(snapshot(5, ns=2000))
    assert chain.on_snapshot(snapshot(6, ns=1000)) is not None


def test_empty_and_one_sided_books_are_legal(chain):
    for number, (bids, asks) in enumerate([([], []), ([("100", "1")], []), ([], [("101", "1")])]):
        assert isinstance(chain.on_snapshot(snapshot(number, bids, asks)), BookSnapshot)
        assert held(chain) == book(bids, asks)


def test_drift_is_counted_when_an_unasked_snapshot_differs(chain):
    chain.on_snapshot(snapshot(1))
    chain.on_snapshot(snapshot(2))
    assert chain.drifts == 0
    chain.on_snapshot(snapshot(3, [("99", "1")]))
    assert chain.drifts == 1


def test_snapshot_for_late_subscribers_is_marked_and_leaves_the_book_alone(chain):
    chain.on_snapshot(snapshot(1, [("99", "1"), ("98.50", "2")], [("101", "1")], ns=77))
    event = chain.snapshot("refresh")
    assert (event.flags, event.cause, event.venue_seq, event.exchange_ns) == (("refresh",), "refresh", 1, 77)
    assert event.bids == [("99", "1"), ("98.50", "2")]
    event.bids.clear()
    assert chain.snapshot("refresh").bids == [("99", "1"), ("98.50", "2")]


# --- chains -------------------------------------------------------------------------------------------------------


def test_delta_before_snapshot_is_dropped(chain):
    assert chain.on_delta(delta(2, 1)) is None
    assert chain.ignored == 1
    assert not chain.usable


def test_delta_that_follows_is_published_and_applied(chain):
    chain.on_snapshot(snapshot(1, [("100", "1")], [("101", "1")]))
    event = delta(2, 1, [("100.0", "0"), ("99", "4")], [("101", "2")])
    assert chain.on_delta(event) is event
    assert held(chain) == book([("99", "4")], [("101", "2")])
    assert chain.venue_seq == 2


@pytest.mark.parametrize(("seq", "prev"), [(4, 3), (2, 0), (1, 0), (9, 5)])
def test_delta_that_does_not_follow_breaks_the_book(chain, seq, prev):
    chain.on_snapshot(snapshot(1))
    assert chain.on_delta(delta(seq, prev)) == BookInvalid(Reason.SEQ_GAP, 1, prev)
    assert not chain.usable
    assert chain.on_delta(delta(seq + 1, seq)) is None
    event = snapshot(seq + 1)
    chain.on_snapshot(event)
    assert event.cause == "resync"
    assert chain.on_delta(delta(seq + 2, seq + 1)) is not None


def test_delta_that_comes_twice_breaks_a_chain(chain):
    chain.on_snapshot(snapshot(1))
    chain.on_delta(delta(2, 1))
    assert isinstance(chain.on_delta(delta(2, 1)), BookInvalid)


def test_delta_without_a_predecessor_must_not_go_back(chain):
    chain.on_snapshot(snapshot(5))
    assert chain.on_delta(delta(5, None)) is not None
    assert chain.on_delta(delta(8, None)) is not None
    assert chain.on_delta(delta(7, None)) == BookInvalid(Reason.SEQ_GAP, 8, 7)


def test_delta_without_any_number_breaks_a_chain(chain):
    chain.on_snapshot(snapshot(5))
    assert isinstance(chain.on_delta(delta(None, None)), BookInvalid)


def test_numbers_of_a_connection_are_not_the_keepers_business():
    keeper = keeper_of(Rule.CONNECTION)
    keeper.on_snapshot(snapshot(5))
    assert keeper.on_delta(delta(17, None)) is not None
    assert keeper.venue_seq == 17


def test_lost_book_tells_whether_it_was_usable(chain):
    assert not chain.invalidate()
    chain.on_snapshot(snapshot(1))
    assert chain.invalidate()
    assert not chain.invalidate()


# --- a stream joined to a fetched snapshot ------------------------------------------------------------------------
# Aster, futures API documentation, "How to manage a local order book correctly". A change has U, u and pu; its numbers
# are thinned, so that U is seldom pu + 1.


def test_changes_wait_for_the_snapshot_and_follow_it(bridge):
    first, second = delta(110, 100, [("99", "1")]), delta(125, 110, [("98", "1")])
    assert bridge.on_delta(first) is None
    assert bridge.on_delta(second) is None
    assert bridge.ignored == 0
    fetched = snapshot(105)
    assert bridge.on_fetched(fetched) == [fetched, first, second]
    assert fetched.cause == "subscribe"
    assert bridge.usable
    assert bridge.venue_seq == 125
    assert bridge.on_delta(delta(140, 125)) is not None


def test_waiting_changes_older_than_the_snapshot_are_left_out(bridge):
    old, joining = delta(100, 90, [("99", "1")]), delta(110, 100, [("98", "1")])
    bridge.on_delta(old)
    bridge.on_delta(joining)
    fetched = snapshot(107)
    assert bridge.on_fetched(fetched) == [fetched, joining]


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (100, "it is the predecessor's number"),
        (101, "it lies between the two changes, where numbers are missing"),
        (105, "the change covers it"),
        (110, "it is the change's last number"),
    ],
)
def test_snapshot_that_the_first_change_joins(bridge, number, what):
    change = delta(110, 100, [("99", "1")])
    bridge.on_delta(change)
    fetched = snapshot(number)
    joined = bridge.on_fetched(fetched)
    assert joined[0] is fetched, what
    assert bridge.usable
    assert isinstance(bridge.on_delta(delta(120, 110)), BookDelta)


def test_change_that_ends_at_the_snapshots_number_adds_nothing(bridge):
    bridge.on_delta(delta(110, 100, [("99", "1")]))
    fetched = snapshot(110)
    assert bridge.on_fetched(fetched) == [fetched]
    assert bridge.ignored == 1


def test_snapshot_that_is_too_old_is_fetched_again_and_the_changes_go_on_waiting(bridge):
    first, second = delta(110, 100), delta(120, 110)
    bridge.on_delta(first)
    bridge.on_delta(second)
    assert bridge.on_fetched(snapshot(99)) == BookInvalid(Reason.SEQ_GAP, 100, 99)
    assert not bridge.usable
    fetched = snapshot(104)
    assert bridge.on_fetched(fetched) == [fetched, first, second]


def test_quiet_market_is_usable_at_once_and_its_first_change_must_join(bridge):
    fetched = snapshot(105)
    assert bridge.on_fetched(fetched) == [fetched]
    assert bridge.usable
    assert isinstance(bridge.on_delta(delta(110, 100)), BookDelta)
    assert isinstance(bridge.on_delta(delta(130, 120)), BookInvalid)


def test_first_change_after_the_snapshot_that_does_not_join_breaks_the_book(bridge):
    bridge.on_fetched(snapshot(105))
    assert bridge.on_delta(delta(130, 120)) == BookInvalid(Reason.SEQ_GAP, 105, 120)


def test_change_older_than_the_book_is_left_out(bridge):
    bridge.on_fetched(snapshot(105))
    assert bridge.on_delta(delta(105, 100)) is None
    assert bridge.on_delta(delta(104, 99)) is None
    assert bridge.usable
    bridge.on_delta(delta(110, 105))
    assert bridge.on_delta(delta(110, 105)) is None
    assert bridge.usable


def test_after_the_first_change_each_names_its_predecessor(bridge):
    bridge.on_fetched(snapshot(105))
    bridge.on_delta(delta(110, 100))
    assert bridge.on_delta(delta(125, 109)) == BookInvalid(Reason.SEQ_GAP, 110, 109)


def test_change_that_broke_the_book_waits_for_the_next_snapshot(bridge):
    bridge.on_fetched(snapshot(105))
    breaking, following = delta(130, 120), delta(140, 130)
    assert isinstance(bridge.on_delta(breaking), BookInvalid)
    assert bridge.on_delta(following) is None
    fetched = snapshot(125)
    assert bridge.on_fetched(fetched) == [fetched, breaking, following]
    assert fetched.cause == "resync"


SECOND = 1_000_000_000


@pytest.mark.parametrize("has_times", [True, False])
def test_numbers_that_restart_from_a_low_one_lose_the_book(bridge, has_times):
    ns = iter(range(100 * SECOND, 10**13, 60 * SECOND)) if has_times else iter(lambda: None, 0)
    bridge.on_delta(delta(995, 990, ns=next(ns)))
    bridge.on_fetched(snapshot(1000, ns=next(ns)))
    bridge.on_delta(delta(1005, 1000, ns=next(ns)))
    assert bridge.usable
    assert bridge.on_delta(delta(6, 4, ns=next(ns))) == BookInvalid(Reason.SEQ_GAP, 1005, 6)
    assert held(bridge) is None
    assert bridge.on_delta(delta(9, 6, ns=next(ns))) is None
    joined = bridge.on_fetched(snapshot(7, ns=next(ns)))
    assert [event.venue_seq for event in joined] == [7, 9]
    assert bridge.usable


def test_numbers_that_restart_before_the_stream_reached_the_snapshot_lose_the_book(bridge):
    bridge.on_fetched(snapshot(1000))
    assert bridge.on_delta(delta(990, 985)) is None
    assert bridge.on_delta(delta(6, 4)) == BookInvalid(Reason.SEQ_GAP, 1000, 6)


def test_stream_that_was_restarted_since_its_snapshot_never_reaches_it(bridge):
    """Without times only that it goes on and on tells so."""
    bridge.on_fetched(snapshot(1000))
    outcomes = [bridge.on_delta(delta(seq, seq - 1)) for seq in range(5, 60)]
    assert [one for one in outcomes if one is not None] == [BookInvalid(Reason.SEQ_GAP, 1000, 55)]


def test_later_change_with_a_lower_number_loses_the_book(bridge):
    bridge.on_fetched(snapshot(1000, ns=100 * SECOND))
    assert bridge.on_delta(delta(900, 899, ns=99 * SECOND)) is None
    assert bridge.on_delta(delta(901, 900, ns=160 * SECOND)) == BookInvalid(Reason.SEQ_GAP, 1000, 901)


def test_restart_among_the_waiting_changes_drops_those_before_it(bridge):
    for one in (delta(995, 990), delta(6, 4), delta(9, 6)):
        bridge.on_delta(one)
    assert [event.venue_seq for event in bridge.on_fetched(snapshot(5))] == [5, 6, 9]


def test_snapshot_from_before_the_restart_is_fetched_again(bridge):
    bridge.on_delta(delta(6, 4, ns=160 * SECOND))
    assert bridge.on_fetched(snapshot(1000, ns=100 * SECOND)) == BookInvalid(Reason.SEQ_GAP, 6, 1000)
    assert not bridge.usable


def test_snapshot_with_a_lower_number_and_a_later_time_replaces_the_book(bridge):
    bridge.on_fetched(snapshot(1000, ns=100 * SECOND))
    (event,) = bridge.on_fetched(snapshot(7, bids=[("50", "1")], ns=160 * SECOND))
    assert event.venue_seq == 7
    assert held(bridge) == book([("50", "1")], [("101", "1")])


def test_change_that_comes_twice_is_left_out(bridge):
    bridge.on_fetched(snapshot(100, ns=10 * SECOND))
    bridge.on_delta(delta(105, 100, ns=11 * SECOND))
    bridge.on_delta(delta(109, 105, ns=20 * SECOND))
    for one in (delta(109, 105, ns=20 * SECOND), delta(105, 100, ns=11 * SECOND)):
        assert bridge.on_delta(one) is None
    assert bridge.usable


def test_snapshot_older_than_the_book_changes_nothing(bridge):
    bridge.on_fetched(snapshot(105))
    bridge.on_delta(delta(110, 100, [("99", "7")]))
    assert bridge.on_fetched(snapshot(109, [("98", "1")])) is None
    assert bridge.usable
    assert bridge.venue_seq == 110


def test_snapshot_that_confirms_the_book_changes_nothing(bridge):
    bridge.on_fetched(snapshot(105, [("99.0", "1")]))
    assert bridge.on_fetched(snapshot(105, [("99", "1.00")])) is None
    assert (bridge.usable, bridge.drifts) == (True, 0)


def test_snapshot_with_our_number_and_other_levels_is_a_drift_and_replaces_the_book(bridge):
    bridge.on_fetched(snapshot(105))
    other = snapshot(105, [("98", "1")])
    assert bridge.on_fetched(other) == [other]
    assert (bridge.usable, bridge.drifts) == (True, 1)
    assert other.cause == "resync"


def test_snapshot_ahead_of_a_silent_stream_replaces_the_book(bridge):
    bridge.on_fetched(snapshot(105))
    ahead = snapshot(150, [("98", "1")])
    assert bridge.on_fetched(ahead) == [ahead]
    assert bridge.on_delta(delta(140, 105)) is None
    assert isinstance(bridge.on_delta(delta(160, 140)), BookDelta)


def test_waiting_changes_with_a_hole_break_the_join(bridge):
    for change in (delta(110, 100), delta(130, 120)):
        bridge.on_delta(change)
    assert isinstance(bridge.on_fetched(snapshot(105)), BookInvalid)
    assert not bridge.usable


def test_oldest_of_too_many_waiting_changes_go_and_are_missed(bridge):
    for number in range(5001):
        bridge.on_delta(delta(10 * number + 10, 10 * number))
    assert isinstance(bridge.on_fetched(snapshot(5)), BookInvalid)
    assert isinstance(bridge.on_fetched(snapshot(15)), list)


def test_changes_of_a_lost_connection_are_not_joined_to_the_next(bridge):
    bridge.on_delta(delta(110, 100, [("97", "1")]))
    bridge.invalidate()
    fetched = snapshot(105)
    assert bridge.on_fetched(fetched) == [fetched]


# --- relative levels ----------------------------------------------------------------------------------------------


def relative(bids=(), asks=(), seq=2, prev=1):
    return RelativeDelta(BTC, 5, list(bids), list(asks), seq, prev)


def test_change_of_a_size_is_added_to_the_held_one(chain):
    chain.on_snapshot(snapshot(1, [("100", "1.5")], [("101", "2")]))
    event = chain.on_relative(relative([("100.0", None, "0.25")], [("101", None, "-0.5"), ("102", None, "3")]))
    assert (event.bids, event.asks) == ([("100.0", "1.75")], [("101", "1.5"), ("102", "3")])
    assert (event.symbol, event.venue_seq, event.prev_venue_seq, event.exchange_ns) == ("BTC-PERP", 2, 1, 5)
    assert held(chain) == book([("100", "1.75")], [("101", "1.5"), ("102", "3")])


def test_absolute_size_beside_a_change_counts(chain):
    chain.on_snapshot(snapshot(1, [("100", "1")], []))
    assert chain.on_relative(relative([("100", "9", "-100")])).bids == [("100", "9")]


@pytest.mark.parametrize("change", ["-1", "-1.5"])
def test_size_that_falls_to_nothing_or_below_deletes_the_level(chain, change):
    chain.on_snapshot(snapshot(1, [("100", "1"), ("99", "1")], []))
    chain.on_relative(relative([("100", None, change)]))
    assert held(chain) == book([("99", "1")], [])


def test_relative_change_without_a_book_is_left_out(chain):
    assert chain.on_relative(relative([("100", None, "1")])) is None
    assert chain.ignored == 1


def test_relative_change_that_does_not_follow_breaks_the_book(chain):
    chain.on_snapshot(snapshot(1))
    assert chain.on_relative(relative([("100", None, "1")], prev=7)) == BookInvalid(Reason.SEQ_GAP, 1, 7)


@pytest.mark.parametrize("change", ["", "x", "NaN", "Infinity", "1e99"])
def test_change_that_is_no_number_breaks_the_book(chain, change):
    chain.on_snapshot(snapshot(1))
    assert chain.on_relative(relative([("100", None, change)])).reason is Reason.PARSE_ERRORS
    assert not chain.usable


def test_price_of_a_relative_change_that_is_no_number_breaks_the_book(chain):
    chain.on_snapshot(snapshot(1))
    assert chain.on_relative(relative([("x", None, "1")])).reason is Reason.PARSE_ERRORS


# --- crossed books ------------------------------------------------------------------------------------------------

CROSSED = ([("101", "1")], [("100", "1")])
LOCKED = ([("100", "1")], [("100.0", "1")])


@pytest.mark.parametrize("levels", [CROSSED, LOCKED])
def test_crossed_snapshot_is_not_believed_the_first_time(chain, levels):
    outcome = chain.on_snapshot(snapshot(1, *levels))
    assert outcome.reason is Reason.CROSSED_BOOK
    assert not chain.usable


def test_delta_that_crosses_breaks_the_book(chain):
    chain.on_snapshot(snapshot(1, [("100", "1")], [("101", "1")]))
    outcome = chain.on_delta(delta(2, 1, [("101", "1")]))
    assert outcome == BookInvalid(Reason.CROSSED_BOOK, "bid below ask", "101 >= 101")
    assert not chain.usable


def crossed_by_venue(keeper):
    keeper.on_snapshot(snapshot(1, *CROSSED))
    event = snapshot(2, *CROSSED)
    assert keeper.on_snapshot(event) is event
    return event


def test_second_crossed_snapshot_in_a_row_is_the_venues_own_flagged_and_unusable(chain):
    event = crossed_by_venue(chain)
    assert event.flags == ("crossed_by_venue",)
    assert not chain.usable
    assert chain.is_crossed_by_venue
    assert chain.snapshot("refresh") is None


def test_deltas_of_a_book_crossed_by_its_venue_are_flagged(chain):
    crossed_by_venue(chain)
    event = delta(3, 2, [("99", "1")])
    assert chain.on_delta(event) is event
    assert event.flags == ("crossed_by_venue",)
    assert not chain.usable


def test_end_of_the_venues_crossing_gives_the_whole_book(chain):
    crossed_by_venue(chain)
    event = chain.on_delta(delta(3, 2, [("101", "0"), ("99", "5")]))
    assert isinstance(event, BookSnapshot)
    assert (event.cause, event.flags, event.venue_seq) == ("resync", (), 3)
    assert (event.bids, event.asks) == ([("99", "5")], [("100", "1")])
    assert chain.usable
    assert isinstance(chain.on_delta(delta(4, 3)), BookDelta)


def test_snapshot_ends_the_venues_crossing_too(chain):
    crossed_by_venue(chain)
    event = snapshot(3)
    assert chain.on_snapshot(event) is event
    assert event.flags == ()
    assert chain.usable


def test_broken_rule_while_the_venue_is_crossed_breaks_the_book(chain):
    crossed_by_venue(chain)
    assert isinstance(chain.on_delta(delta(9, 8)), BookInvalid)
    assert not chain.is_crossed_by_venue


def test_good_snapshot_between_two_crossed_ones_restarts_the_count(chain):
    chain.on_snapshot(snapshot(1, *CROSSED))
    chain.on_snapshot(snapshot(2))
    assert isinstance(chain.on_snapshot(snapshot(3, *CROSSED)), BookInvalid)


def test_fetched_snapshots_that_are_crossed_twice_are_the_venues_own(bridge):
    assert isinstance(bridge.on_fetched(snapshot(105, *CROSSED)), BookInvalid)
    second = snapshot(106, *CROSSED)
    assert bridge.on_fetched(second) == [second]
    assert second.flags == ("crossed_by_venue",)
    whole = bridge.on_delta(delta(110, 106, [("101", "0")]))
    assert isinstance(whole, BookSnapshot)
    assert bridge.usable


# --- bad levels ---------------------------------------------------------------------------------------------------

BAD_LEVELS = [("x", "1"), ("", "1"), ("-100", "1"), ("0", "1"), ("inf", "1"), ("nan", "1")]


@pytest.mark.parametrize("level", BAD_LEVELS)
def test_snapshot_whose_best_level_is_bad_breaks_the_book(snapshots, level):
    snapshots.on_snapshot(snapshot(1))
    assert snapshots.on_snapshot(snapshot(2, [level])).reason is Reason.PARSE_ERRORS
    assert not snapshots.usable


@pytest.mark.parametrize("level", [("x", "1"), ("inf", "1"), ("100", "x")])
def test_unasked_snapshot_with_a_bad_level_breaks_the_book(chain, level):
    chain.on_snapshot(snapshot(1))
    assert chain.on_snapshot(snapshot(2, [level])).reason is Reason.PARSE_ERRORS


@pytest.mark.parametrize("level", [*BAD_LEVELS, ("99", ""), ("99", "x"), ("99", "-1"), ("99", "1e"), ("99", "nan")])
def test_delta_with_a_bad_level_breaks_the_book(chain, level):
    chain.on_snapshot(snapshot(1))
    assert chain.on_delta(delta(2, 1, [], [level])).reason is Reason.PARSE_ERRORS
    assert not chain.usable


@pytest.mark.parametrize("level", [("x", "1"), ("50", "x")])
def test_bad_level_deep_in_a_snapshot_breaks_the_book_before_anybody_trusts_it(chain, level):
    bids = [(str(100 - number), "1") for number in range(12)]
    assert chain.on_snapshot(snapshot(1, [*bids, level])).reason is Reason.PARSE_ERRORS
    assert not chain.usable


@pytest.mark.parametrize("level", [("x", "1"), ("99", "x"), ("99", "0"), ("100", "1")])
def test_feed_of_whole_books_is_looked_at_to_its_end(snapshots, level):
    snapshots.on_snapshot(snapshot(None, [("100", "1"), ("99", "1")]))
    assert snapshots.on_snapshot(snapshot(None, [("100", "1"), level])).reason is Reason.PARSE_ERRORS
    assert not snapshots.usable


@pytest.mark.parametrize("level", [("x", "1"), ("100", "x")])
def test_fetched_book_with_a_bad_level_equals_nothing_and_is_no_error(chain, bridge, level):
    chain.on_snapshot(snapshot(1))
    assert not chain.equals(snapshot(1, [level]))
    bridge.on_fetched(snapshot(1))
    bridge.on_delta(delta(2, 1))
    assert bridge.on_fetched(snapshot(2, [level])).reason is Reason.PARSE_ERRORS
    assert not bridge.usable


# --- comparing ----------------------------------------------------------------------------------------------------


def test_books_are_equal_by_the_value_of_their_ten_best_levels(chain):
    bids = [(str(100 - number), "1") for number in range(12)]
    chain.on_snapshot(snapshot(1, bids, [("101.0", "2.50")]))
    assert chain.equals(snapshot(9, bids[:10], [("101", "2.5")]))
    assert not chain.equals(snapshot(9, bids[:9], [("101", "2.5")]))
    assert not chain.equals(snapshot(9, bids, [("101", "2")]))


def test_feed_of_few_levels_is_compared_over_those(snapshots):
    five = [(str(100 - number), "1") for number in range(5)]
    snapshots.on_snapshot(snapshot(None, five, [], depth=5))
    assert snapshots.equals(snapshot(None, [*five, ("50", "1")], []))
    assert not snapshots.equals(snapshot(None, [("100", "2"), *five[1:]], []))


def test_checksum_follows_the_book(chain):
    chain.on_snapshot(snapshot(1))
    before = chain.crc32_top10()
    chain.on_delta(delta(2, 1, [("100", "2")]))
    changed = chain.crc32_top10()
    chain.on_delta(delta(3, 2, [("100.0", "1.00")]))
    assert before != changed
    assert chain.crc32_top10() == before


# --- never silently wrong -----------------------------------------------------------------------------------------


class Consumer:
    """Applies what a keeper gives, and holds both to the truth after every frame."""

    def __init__(self, keeper, history):
        self.book_sync, self.history, self.replica = keeper, history, Replica()

    def take(self, outcome):
        for event in outcome if isinstance(outcome, list) else [outcome]:
            if isinstance(event, BookInvalid):
                self.replica.lose()
            elif event is not None:
                self.replica.take(event)
        if self.book_sync.usable:
            truth = self.history.truth(self.book_sync.venue_seq)
            assert held(self.book_sync) == truth
            assert self.replica.book == truth
        else:
            assert held(self.book_sync) is None


def disturbed(data, frames):
    """The frames with some lost, doubled and out of order, and snapshots of any moment thrown in (by number)."""
    numbers = list(range(len(frames)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, max(0, len(numbers) - 1)))
        match data.draw(st.sampled_from(["lose", "double", "swap", "late"])):
            case "lose":
                del numbers[at : at + 1]
            case "double":
                numbers[at:at] = numbers[at : at + 1]
            case "swap":
                numbers[at : at + 2] = reversed(numbers[at : at + 2])
            case "late":
                numbers += numbers[at : at + 1]
    return [frames[number] for number in numbers]


@given(history=histories(), data=st.data())
def test_book_of_a_disturbed_chain_equals_the_truth_or_is_not_usable(history, data):
    deltas = [
        delta(step, before, *history.changes(before, step))
        for before, step in zip([0, *history.steps], history.steps, strict=False)
    ]
    consumer = Consumer(keeper_of(Rule.CHAIN), history)
    for event in disturbed(data, deltas):
        if data.draw(st.integers(0, 3)) == 0:
            number = data.draw(st.sampled_from([0, *history.steps]))
            consumer.take(consumer.book_sync.on_snapshot(snapshot(number, *history.levels(number))))
        copy = delta(event.venue_seq, event.prev_venue_seq, event.bids, event.asks)
        consumer.take(consumer.book_sync.on_delta(copy))


@given(history=histories(), data=st.data())
def test_book_of_a_disturbed_stream_joined_to_fetched_snapshots_equals_the_truth_or_is_not_usable(history, data):
    """Snapshots carry any of the venue's numbers, also ones that the stream passes over."""
    deltas = [
        delta(step, before, *history.changes(before, step))
        for before, step in zip([0, *history.steps], history.steps, strict=False)
    ]
    consumer = Consumer(keeper_of(Rule.BRIDGE), history)
    for event in disturbed(data, deltas):
        if data.draw(st.integers(0, 2)) == 0:
            number = data.draw(st.integers(0, len(history.books) - 1))
            consumer.take(consumer.book_sync.on_fetched(snapshot(number, *history.levels(number))))
        copy = delta(event.venue_seq, event.prev_venue_seq, event.bids, event.asks)
        consumer.take(consumer.book_sync.on_delta(copy))


@given(history=histories())
def test_undisturbed_stream_is_usable_to_its_end(history):
    keeper = keeper_of(Rule.CHAIN)
    consumer = Consumer(keeper, history)
    consumer.take(keeper.on_snapshot(snapshot(0, *history.levels(0))))
    for before, step in zip([0, *history.steps], history.steps, strict=False):
        consumer.take(keeper.on_delta(delta(step, before, *history.changes(before, step))))
        assert keeper.usable
    assert keeper.venue_seq == history.steps[-1]
