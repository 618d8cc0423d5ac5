"""Getting lost books and mute streams back: which rung of the ladder is taken, when, and that each has a way out."""

from __future__ import annotations

import itertools
from copy import copy
from dataclasses import replace

import pytest
from fake_venue import BTC, ETH, FakeVenue, delta, mark, snapshot, trade
from stage import NS, Stage

from ipc.events import BookDelta, BookSnapshot, Gap
from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import FetchBook
from workers.venues.venue import Continuity, Pong, Refused, Resync, Rule, SoftResync, Unsubscribed

BOOK_KEY = "book.BTC-PERP"
JOIN, LEAVE = b"+book.BTC-PERP", b"-book.BTC-PERP"
ETH_SYMBOL = "ETH-PERP"
BOOKS_ONLY = {Stream.BOOK: None}
SOFT = SoftResync(after_s=2.0, cooldown_s=7.0)
CROSSED = ([("101", "1")], [("100", "1")])


def staged(rule, resync, *, listings=(BTC, ETH), streams=BOOKS_ONLY, **options):
    continuity = {key: options.pop(key) for key in ("silence_s", "soft_resync") if key in options}
    stage = Stage(FakeVenue(continuity=Continuity(rule, resync, **continuity), streams=streams), listings, **options)
    stage.connect()
    return stage


@pytest.fixture
def chain():
    """A venue whose changes name their predecessor; both books are usable."""
    stage = staged(Rule.CHAIN, Resync.RESUBSCRIBE)
    stage.say(snapshot(1))
    stage.say(snapshot(1, symbol=ETH_SYMBOL))
    stage.actions.clear()
    return stage


@pytest.fixture
def bridge():
    """A venue whose stream is joined to fetched snapshots; nothing has come yet."""
    return staged(Rule.BRIDGE, Resync.REFETCH, listings=(BTC,), soft_resync=SOFT)


@pytest.fixture
def joined(bridge):
    """The same with a book that has been usable for some time; its number is 10."""
    bridge.say(delta(2, 1))
    bridge.answer(snapshot(1))
    for seq in range(3, 11):
        bridge.wait(1)
        bridge.say(delta(seq, seq - 1))
    bridge.actions.clear()
    return bridge


def fetches(stage):
    return [(fetch.stream.symbol, fetch.purpose) for fetch in stage.take(FetchBook)]


def messages(stage):
    """What was sent, but for pings."""
    return [message for message in stage.sent() if message != b"ping"]


def keep_eth_fresh(stage, seconds, meanwhile=None):
    """Time passes in which the book of ETH, and whatever keeps a connection, goes on."""
    events = []
    for _ in range(round(seconds * 2)):
        if stage.closing:
            break
        events += stage.wait(0.5)
        events += stage.say(snapshot(1, symbol=ETH_SYMBOL), Pong())
        if meanwhile is not None:
            meanwhile()
    return [event for event in events if event.symbol == "BTC-PERP"]


# --- a lost update ------------------------------------------------------------------------------------------------


def test_gap_is_reported_once_then_nothing_until_the_snapshot(chain):
    (gap,) = chain.say(delta(9, 8))
    assert isinstance(gap, Gap)
    assert (gap.scope, gap.reason, gap.expected, gap.got, gap.action) == ("book", Reason.SEQ_GAP, 1, 8, "resubscribe")
    assert chain.say(delta(10, 9)) == []
    assert chain.route().state is StreamState.RESYNC
    (event,) = chain.say(snapshot(12))
    assert (event.cause, event.venue_seq) == ("resync", 12)
    assert chain.route().state is StreamState.LIVE
    assert isinstance(chain.say(delta(13, 12))[0], BookDelta)


def test_lost_book_is_subscribed_again_at_once_and_alone(chain):
    chain.is_obliging = False
    chain.say(delta(9, 8))
    assert chain.sent() == [LEAVE]
    chain.say(Unsubscribed(BOOK_KEY))
    assert chain.sent() == [JOIN]
    assert chain.route(symbol=ETH_SYMBOL).state is StreamState.LIVE
    assert chain.closing is None


def test_resync_without_a_snapshot_is_tried_again_after_five_seconds(chain):
    chain.say(delta(9, 8))
    assert messages(chain) == [LEAVE, JOIN]
    keep_eth_fresh(chain, 4.5)
    assert messages(chain) == []
    keep_eth_fresh(chain, 1)
    assert messages(chain) == [LEAVE, JOIN]


def test_undecodable_level_and_crossing_are_gaps_too(chain):
    (gap,) = chain.say(delta(2, 1, [("x", "1")]))
    assert gap.reason is Reason.PARSE_ERRORS
    chain.say(snapshot(3))
    (gap,) = chain.say(delta(4, 3, [("102", "1")]))
    assert gap.reason is Reason.CROSSED_BOOK


def test_venue_that_can_only_reconnect_is_reconnected_with_the_reason():
    stage = staged(Rule.CHAIN, Resync.RECONNECT, listings=(BTC,))
    stage.say(snapshot(1))
    (gap,) = stage.say(delta(9, 8))
    assert gap.action == "reconnect"
    assert stage.closing is Reason.SEQ_GAP


def test_silence_of_a_feed_with_a_cadence_is_a_lost_frame():
    stage = staged(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, silence_s={Stream.BOOK: 3.0})
    stage.say(snapshot(None))
    assert keep_eth_fresh(stage, 3) == []
    (gap,) = keep_eth_fresh(stage, 0.5)
    assert (type(gap), gap.reason, gap.action) == (Gap, Reason.SEQ_GAP, "resubscribe")
    assert "3 s" in gap.expected
    assert messages(stage)[-2:] == [LEAVE, JOIN]
    (event,) = stage.say(snapshot(None))
    assert event.cause == "resync"


def test_clock_that_is_set_back_costs_one_resync():
    stage = staged(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, listings=(BTC,), silence_s={Stream.BOOK: 3.0})
    stage.say(snapshot(None, ns=30 * NS))
    gaps = []
    for second in range(4):
        gaps += [event for event in stage.say(snapshot(None, ns=second * NS)) if isinstance(event, Gap)]
        gaps += [event for event in stage.wait(1) if isinstance(event, Gap)]
    assert [gap.action for gap in gaps] == ["resubscribe"]
    (event,) = stage.say(snapshot(None, ns=5 * NS))
    assert event.cause == "resync"
    assert stage.say(snapshot(None, ns=6 * NS))
    assert stage.closing is None


def test_silence_on_one_stream_of_a_market_is_not_that_of_another():
    silence = {Stream.BOOK: 3.0}
    streams = {Stream.BOOK: None, Stream.BOOK20: 5.0}
    stage = staged(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, listings=(BTC,), streams=streams, silence_s=silence)
    stage.say(snapshot(None, depth=5), snapshot(None, depth=20))
    gaps = stage.wait(4)
    assert [stream for stream, _, event in stage.published if isinstance(event, Gap)] == [Stream.BOOK]
    assert len(gaps) == 1


def test_book_whose_subscription_the_pace_holds_back_is_not_missed():
    venue = FakeVenue(streams=BOOKS_ONLY)
    venue.limits = replace(venue.limits, burst=1, messages_per_s=1 / 15)
    stage = Stage(venue, (BTC, ETH))
    stage.connect()
    for second in range(14):
        stage.say(snapshot(1 + second), Pong())
        stage.wait(1)
    assert stage.closing is None, "its limit is ten seconds"
    assert messages(stage) == [JOIN]
    assert stage.route(symbol=ETH_SYMBOL).recovery.is_throttled
    stage.wait(1.2)
    assert not stage.route(symbol=ETH_SYMBOL).recovery.is_throttled
    assert messages(stage) == [JOIN.replace(b"BTC", b"ETH")]
    for second in range(12):
        stage.say(snapshot(20 + second), Pong())
        stage.wait(1)
    assert stage.closing is Reason.NO_BOOK, "but once it was asked for, it is"


# --- joining a stream to a fetched snapshot -----------------------------------------------------------------------


def test_first_change_shows_that_the_stream_runs_and_the_snapshot_is_fetched(bridge):
    assert fetches(bridge) == []
    bridge.say(delta(10, 5))
    bridge.say(delta(15, 10))
    assert fetches(bridge) == [("BTC-PERP", "bridge")]


def test_snapshot_of_a_market_without_changes_is_fetched_all_the_same(bridge):
    bridge.wait(0.2)
    assert fetches(bridge) == []
    bridge.wait(0.2)
    assert fetches(bridge) == [("BTC-PERP", "bridge")]


def answer_for(stage, seconds, reason):
    """For so long every fetch fails."""
    end = stage.now + round(seconds * NS)
    while stage.now < end and stage.closing is None:
        stage.say(Pong())
        stage.wait(0.5)
        if any(isinstance(action, FetchBook) for action in stage.actions):
            stage.answer(None, reason)


def test_book_that_the_limit_of_rest_holds_back_is_not_missed(bridge):
    """A new connection would have to wait for it as well, and so would a new worker."""
    answer_for(bridge, 60, Reason.RATE_LIMITED)
    assert bridge.closing is None
    assert bridge.session.is_limited
    assert bridge.route().recovery.is_throttled
    answer_for(bridge, 9, Reason.READ_TIMEOUT)
    assert bridge.closing is None
    assert not bridge.session.is_limited
    answer_for(bridge, 3, Reason.READ_TIMEOUT)
    assert bridge.closing is Reason.NO_BOOK, "but one that REST does not answer for is"


def test_book_that_rest_is_not_yet_asked_for_is_not_missed(bridge):
    """Where many books begin at once, REST is asked for one after the other."""
    bridge.wait(0.4)
    bridge.route().fetch.queue()
    for _ in range(30):
        bridge.say(Pong())
        bridge.wait(1)
    assert bridge.closing is None
    assert bridge.session.is_limited


def test_book_that_came_is_held_back_no_more(bridge):
    answer_for(bridge, 5, Reason.RATE_LIMITED)
    bridge.wait(3)
    bridge.answer(snapshot(1))
    assert not bridge.session.is_limited
    assert not bridge.route().recovery.is_throttled


def test_fetched_snapshot_and_waiting_changes_are_published_in_their_order(bridge):
    bridge.say(delta(10, 5))
    bridge.say(delta(15, 10))
    events = bridge.answer(snapshot(7))
    assert [(type(event), event.venue_seq) for event in events] == [
        (BookSnapshot, 7),
        (BookDelta, 10),
        (BookDelta, 15),
    ]
    assert events[0].cause == "subscribe"
    assert bridge.route().state is StreamState.LIVE


def test_snapshot_that_is_too_old_is_fetched_again_less_and_less_often(bridge):
    bridge.say(delta(10, 5))
    pauses, answered_at = [], bridge.now
    for _ in range(6):
        bridge.answer(snapshot(3))
        assert not bridge.route().is_published_valid
        answered_at = bridge.now
        while not bridge.is_fetching():
            bridge.wait(0.05, every_s=0.05)
        pauses.append((bridge.now - answered_at) / NS)
    assert pauses == [pytest.approx(pause, abs=0.11) for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 2)]
    assert "book.not_joined" in bridge.notes()
    assert len(bridge.answer(snapshot(7))) == 2


def pause(stage):
    """Time until REST is asked for a book, s."""
    began = stage.now
    while not stage.is_fetching() and stage.closing is None:
        stage.wait(0.05, every_s=0.05)
    return (stage.now - began) / NS


def test_failures_before_a_join_that_held_do_not_slow_the_next_down(joined):
    joined.say(delta(30, 25))
    for _ in range(6):
        joined.answer(snapshot(12))
        pause(joined)
    joined.answer(snapshot(27))
    for seq in range(31, 40):
        joined.wait(1)
        joined.say(delta(seq, seq - 1), Pong())
    joined.say(delta(60, 55))
    joined.answer(snapshot(41))
    assert pause(joined) == pytest.approx(0.1, abs=0.06)


def test_failed_fetch_is_repeated_less_and_less_often(bridge):
    bridge.say(delta(10, 5))
    count = 0
    end = bridge.now + 9 * NS
    while bridge.now < end:
        while bridge.is_fetching():
            count += 1
            bridge.answer(None, Reason.READ_TIMEOUT)
        bridge.wait(0.1)
    assert 5 <= count <= 8


def test_lost_change_is_fetched_around_on_the_same_connection(joined):
    (gap,) = joined.say(delta(30, 25))
    assert (gap.reason, gap.action) == (Reason.SEQ_GAP, "resync")
    assert fetches(joined) == [("BTC-PERP", "bridge")]
    joined.actions.append(FetchBook(joined.route(), "bridge"))
    events = joined.answer(snapshot(27))
    assert [(type(event), event.venue_seq) for event in events] == [(BookSnapshot, 27), (BookDelta, 30)]
    assert events[0].cause == "resync"
    assert joined.closing is None


def test_stream_that_breaks_after_every_join_is_not_fetched_without_a_pause(joined):
    """Each snapshot is a heavy request, and a venue bans those who ask too often."""
    seq, count, end = 100, 0, joined.now + 10 * NS
    while joined.now < end:
        joined.say(delta(seq, seq - 1))
        joined.wait(0.05, every_s=0.05)
        if joined.is_fetching():
            count += 1
            joined.answer(snapshot(seq))
        seq += 10
    assert count <= 20


def test_answer_that_nobody_waits_for_is_left_out(joined):
    route = joined.route()
    events = joined.session.fetched(route, "bridge", snapshot(500), None, joined.now)
    assert events == []
    assert route.book_sync.venue_seq == 10


def test_answer_to_the_last_connection_that_does_not_fit_the_stream_is_not_joined(bridge):
    bridge.say(delta(10, 5))
    old = bridge.take(FetchBook)[0]
    bridge.reconnect()
    bridge.say(delta(100, 95))
    events = bridge.session.fetched(old.stream, old.purpose, snapshot(7), None, bridge.now)
    assert events == []
    assert not bridge.route().is_published_valid


# --- soft resync --------------------------------------------------------------------------------------------------


def test_stalled_depth_stream_is_fetched_again_after_two_seconds_without_a_reconnect(joined):
    joined.wait(2)
    assert fetches(joined) == []
    joined.wait(0.1)
    assert fetches(joined) == [("BTC-PERP", "soft")]
    assert "book.soft_resync" in joined.notes()
    assert joined.closing is None


def test_stalled_depth_stream_resyncs_at_most_once_per_cool_down():
    stage = staged(Rule.BRIDGE, Resync.REFETCH, listings=(BTC,), soft_resync=SOFT, stale_s=60)
    stage.say(delta(10, 5))
    stage.answer(snapshot(7))
    asked = [stage.route().fetch.requested_ns]
    for _ in range(60):
        stage.wait(0.5)
        stage.say(Pong())
        if stage.is_fetching():
            asked.append(stage.route().fetch.requested_ns)
            stage.answer(snapshot(10))
    assert len(asked) == 1 + 30 // 7
    assert all(later - earlier > 7 * NS for earlier, later in itertools.pairwise(asked))


def test_rest_never_stamps_freshness(joined):
    fresh = joined.route().applied_ns
    joined.wait(2.5)
    joined.answer(snapshot(50, [("99", "1")]))
    assert joined.route().applied_ns == fresh


def test_soft_resync_that_confirms_the_book_says_nothing(joined):
    joined.wait(2.5)
    assert joined.answer(snapshot(10)) == []
    assert joined.route().is_published_valid


def test_soft_resync_that_finds_another_book_tells_the_gap_first(joined):
    joined.wait(2.5)
    gap, event = joined.answer(snapshot(50, [("99", "1")]))
    assert (gap.reason, gap.action) == (Reason.VENUE_DISAGREES, "resync")
    assert (event.cause, event.venue_seq) == ("resync", 50)
    assert joined.route().state is StreamState.LIVE
    assert isinstance(joined.say(delta(60, 40))[0], BookDelta)


def test_changes_that_come_meanwhile_spare_the_soft_resync(joined):
    joined.wait(2.5)
    joined.say(delta(20, 10))
    assert joined.answer(snapshot(15)) == []
    assert joined.route().book_sync.venue_seq == 20


def test_soft_resync_that_brings_a_crossed_book_is_no_answer(joined):
    joined.wait(2.5)
    assert joined.answer(snapshot(50, *CROSSED)) == []
    assert joined.route().is_published_valid


def test_venue_without_soft_resync_waits_for_its_limit(chain):
    keep_eth_fresh(chain, 9)
    assert fetches(chain) == []


# --- quiet or mute ------------------------------------------------------------------------------------------------


def test_book_silent_for_its_limit_while_others_flow_is_compared_with_rest(chain):
    keep_eth_fresh(chain, 10)
    assert fetches(chain) == []
    keep_eth_fresh(chain, 0.5)
    assert fetches(chain) == [("BTC-PERP", "compare")]


def test_silent_book_of_a_silent_venue_is_the_watchdogs_business(chain):
    chain.flows = False
    chain.wait(30)
    assert fetches(chain) == []


def quiet_after(chain, seconds):
    """Time passes; whenever REST is asked, it confirms the book. When it was asked, s."""
    began, asked = chain.now, []

    def confirm():
        if chain.is_fetching():
            asked.append((chain.now - began) / NS)
            chain.answer(snapshot(1))

    keep_eth_fresh(chain, seconds, confirm)
    return asked


def test_quiet_market_is_called_quiet_and_left_alone(chain):
    quiet_after(chain, 12)
    assert chain.route().state is StreamState.QUIET
    assert chain.route().is_published_valid
    assert chain.closing is None
    assert messages(chain) == []


def test_limit_of_a_quiet_market_doubles_up_to_a_minute(chain):
    asked = quiet_after(chain, 55)
    assert asked == [pytest.approx(at, abs=0.6) for at in (10, 20, 40)]
    assert chain.route().recovery.quiet_limit_ns == 60 * NS
    quiet_after(chain, 10)
    assert chain.route().recovery.quiet_limit_ns == 60 * NS


def test_market_that_stays_quiet_is_asked_for_about_once_a_minute(chain):
    assert len(quiet_after(chain, 600)) <= 15


def test_data_end_the_quiet_and_the_longer_limit(chain):
    quiet_after(chain, 25)
    chain.say(delta(2, 1))
    assert chain.route().state is StreamState.LIVE
    assert chain.route().recovery.quiet_limit_ns == 10 * NS


@pytest.mark.parametrize("book", [None, snapshot(1, [("100", "x")])], ids=["refused", "invalid"])
def test_mute_market_is_resubscribed_then_reconnected(chain, book):
    keep_eth_fresh(chain, 10.5)
    assert chain.answer(copy(book), None if book else Reason.REFUSED) == [], "which proves nothing"
    assert chain.route().is_published_valid
    chain.wait(0.1)
    assert messages(chain) == [LEAVE, JOIN]
    assert "book.mute" in chain.notes()
    assert chain.route().state is StreamState.STALE
    assert chain.closing is None
    while not chain.is_fetching():
        keep_eth_fresh(chain, 0.5)
    chain.answer(copy(book), None if book else Reason.REFUSED)
    assert chain.closing is Reason.STALE_WATCHDOG


def test_book_that_rest_disproves_is_lost_at_once_resubscribed_then_reconnected(chain):
    keep_eth_fresh(chain, 10.5)
    (gap,) = chain.answer(snapshot(1, [("90", "1")]))
    assert (gap.reason, gap.action, gap.symbol) == (Reason.VENUE_DISAGREES, "resubscribe", "BTC-PERP")
    assert not chain.route().is_published_valid
    assert not chain.route().book_sync.usable
    assert chain.route().reason is Reason.VENUE_DISAGREES
    assert chain.route(symbol=ETH_SYMBOL).is_published_valid
    chain.wait(0.1)
    assert messages(chain) == [LEAVE, JOIN]
    assert chain.say(delta(2, 1)) == []
    keep_eth_fresh(chain, 10.5)
    assert chain.closing is Reason.NO_BOOK


def test_book_that_was_disproved_is_usable_with_its_next_snapshot(chain):
    keep_eth_fresh(chain, 10.5)
    chain.answer(snapshot(1, [("90", "1")]))
    (event,) = chain.say(snapshot(2, [("90", "1")]))
    assert event.cause == "resync"
    assert chain.route().is_published_valid


def test_answer_older_than_what_is_held_proves_nothing():
    stage = staged(Rule.SNAPSHOTS, Resync.RESUBSCRIBE)
    for symbol in ("BTC-PERP", ETH_SYMBOL):
        stage.say(snapshot(None, ns=30 * NS, symbol=symbol))
    keep_eth_fresh(stage, 10.5)
    assert stage.answer(snapshot(None, [("90", "1")], ns=29 * NS)) == []
    assert stage.route().is_published_valid


def test_answer_about_a_book_that_was_lost_meanwhile_is_left_out(chain):
    keep_eth_fresh(chain, 10.5)
    chain.say(delta(9, 8))
    assert chain.answer(snapshot(1, [("90", "1")])) == []
    assert "book.mute" not in chain.notes()


def test_frame_since_the_question_makes_the_answer_prove_nothing(joined):
    joined.wait(2.5)
    joined.say(delta(20, 10))
    assert joined.answer(snapshot(50, [("99", "1")])) == []
    assert joined.route().is_published_valid
    assert joined.route().book_sync.venue_seq == 20


def test_invalid_answer_neither_joins_nor_breaks_a_stream(joined):
    joined.wait(2.5)
    assert joined.answer(snapshot(50, [("90", "1"), ("91", "1")])) == []
    assert joined.route().is_published_valid


def test_disproved_bridged_book_is_fetched_again_and_its_mute_stream_ends(joined):
    joined.wait(2.5)
    joined.answer(None, Reason.READ_TIMEOUT)
    joined.say(mark(symbol="BTC-PERP"))
    while not any(purpose == "compare" for _, purpose in fetches(joined)):
        joined.wait(0.5)
        if (
            fetch := next((one for one in joined.actions if isinstance(one, FetchBook)), None)
        ) and fetch.purpose == "soft":
            joined.answer(None, Reason.READ_TIMEOUT)
    route = joined.route()
    (gap,) = joined._collect(joined.session.fetched(route, "compare", snapshot(50, [("99", "1")]), None, joined.now))
    assert gap.reason is Reason.VENUE_DISAGREES
    joined.wait(0.2)
    (event,) = joined.answer(snapshot(51, [("99", "1")]))
    assert isinstance(event, BookSnapshot)
    assert route.is_published_valid
    for number in range(60):
        if joined.closing:
            break
        joined.wait(1)
        if joined.is_fetching():
            joined.answer(snapshot(60 + number, [(str(80 - number), "1")]))
    assert joined.closing is Reason.STALE_WATCHDOG


def test_resubscription_of_a_mute_market_is_given_its_time(chain):
    """Some venues do not confirm that one has left."""
    chain.is_obliging = False

    def differ():
        if chain.is_fetching():
            chain.answer(snapshot(1, [("90", "1")]))

    keep_eth_fresh(chain, 14, differ)
    assert messages(chain) == [LEAVE, JOIN]


def test_mute_market_that_answers_the_resubscription_is_live_again(chain):
    keep_eth_fresh(chain, 10.5)
    chain.answer(snapshot(1, [("90", "1")]))
    chain.wait(0.1)
    chain.say(snapshot(9, [("90", "1")]))
    assert chain.route().state is StreamState.LIVE


def test_mute_market_that_cannot_be_resubscribed_is_reconnected():
    stage = Stage(FakeVenue(streams=BOOKS_ONLY, can_leave=False))
    stage.connect()
    stage.say(snapshot(1), snapshot(1, symbol=ETH_SYMBOL))
    keep_eth_fresh(stage, 10.5)
    stage.answer(snapshot(1, [("90", "1")]))
    assert stage.closing is Reason.STALE_WATCHDOG


def test_market_that_rest_does_not_answer_for_counts_as_mute(chain):
    keep_eth_fresh(chain, 10.5)
    chain.answer(None, Reason.READ_TIMEOUT)
    chain.wait(0.1)
    assert messages(chain) == [LEAVE, JOIN]


def test_answer_with_a_level_that_is_none_is_another_book_and_no_error(chain):
    keep_eth_fresh(chain, 10.5)
    assert chain.answer(snapshot(1, [("100", "x")])) == []
    assert chain.route().state is StreamState.STALE


def test_without_budget_to_look_a_silent_market_is_left_for_three_limits(chain):
    asked = 0
    while chain.route().state is StreamState.LIVE:
        keep_eth_fresh(chain, 0.5)
        if chain.is_fetching():
            asked += 1
            chain.answer(None, Reason.RATE_LIMITED)
        silent_s = (chain.now - chain.route().applied_ns) / NS
        assert silent_s < 35
    assert silent_s >= 30
    assert asked > 3


def test_answer_that_comes_after_the_data_is_not_compared(chain):
    keep_eth_fresh(chain, 10.5)
    chain.say(delta(2, 1))
    chain.answer(snapshot(1, [("90", "1")]))
    assert chain.route().state is StreamState.LIVE
    chain.wait(0.1)
    assert messages(chain) == []


def test_look_whose_answer_never_comes_is_repeated(chain):
    """The thread that asks may have died of it."""
    keep_eth_fresh(chain, 10.5)
    assert len(fetches(chain)) == 1
    keep_eth_fresh(chain, 120)
    assert len(fetches(chain)) >= 1


# --- no book ------------------------------------------------------------------------------------------------------


def test_book_that_never_comes_ends_the_session_after_the_limit(chain):
    chain.reconnect()
    keep_eth_fresh(chain, 9.5)
    assert chain.closing is None
    keep_eth_fresh(chain, 1)
    assert chain.closing is Reason.NO_BOOK


def test_book_that_stays_lost_ends_the_session_after_the_limit(chain):
    keep_eth_fresh(chain, 5)
    chain.say(delta(9, 8))
    keep_eth_fresh(chain, 9.5)
    assert chain.closing is None
    keep_eth_fresh(chain, 1)
    assert chain.closing is Reason.NO_BOOK


def end_for_want_of_a_book(stage, times):
    for _ in range(times):
        stage.reconnect()
        keep_eth_fresh(stage, 11)
        assert stage.closing is Reason.NO_BOOK


def test_after_three_ends_a_market_without_a_book_fails_alone(chain):
    end_for_want_of_a_book(chain, 3)
    for _ in range(3):
        chain.reconnect()
        keep_eth_fresh(chain, 15)
        assert chain.closing is None
        assert (chain.route().state, chain.route().reason) == (StreamState.FAILED, Reason.NO_BOOK)
        assert chain.route(symbol=ETH_SYMBOL).state is StreamState.LIVE
    assert "book.given_up" in chain.notes()


def test_halted_market_without_a_book_fails_alone_at_once():
    """It may have none while it does not trade; the others on its connection lose nothing for it."""
    halted = replace(BTC, status="halted")
    stage = staged(Rule.CHAIN, Resync.RESUBSCRIBE, listings=(halted, ETH))
    keep_eth_fresh(stage, 15)
    assert stage.closing is None
    assert (stage.route().state, stage.route().reason) == (StreamState.FAILED, Reason.NO_BOOK)
    assert stage.route(symbol=ETH_SYMBOL).state is StreamState.LIVE


def test_market_that_failed_alone_is_tried_again_every_minute(chain):
    end_for_want_of_a_book(chain, 3)
    chain.reconnect()
    keep_eth_fresh(chain, 15)
    chain.sent()
    for _ in range(3):
        keep_eth_fresh(chain, 52)
        assert JOIN not in chain.sent()
        keep_eth_fresh(chain, 8)
        assert chain.sent().count(JOIN) == 1


def test_book_that_comes_at_last_is_live_and_forgives_the_ends(chain):
    end_for_want_of_a_book(chain, 3)
    chain.reconnect()
    keep_eth_fresh(chain, 15)
    chain.say(snapshot(5))
    assert chain.route().state is StreamState.LIVE
    end_for_want_of_a_book(chain, 3)


def test_bridged_market_that_failed_alone_is_fetched_again_after_a_minute(bridge):
    def fail_fetches():
        if bridge.is_fetching():
            bridge.answer(None, Reason.REFUSED)

    for _ in range(4):
        bridge.reconnect()
        for _ in range(22):
            bridge.wait(0.5)
            fail_fetches()
    assert bridge.route().state is StreamState.FAILED
    for _ in range(65):
        bridge.wait(1)
        bridge.say(Pong())
    assert ("BTC-PERP", "bridge") in fetches(bridge)


def test_want_of_a_slow_book_never_ends_a_session():
    streams = {Stream.BOOK: None, Stream.BOOK20: 5.0}
    stage = staged(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, listings=(BTC,), streams=streams)
    for _ in range(60):
        stage.say(snapshot(None, depth=5), Pong())
        stage.wait(1)
    assert stage.closing is None


# --- crossed by the venue -----------------------------------------------------------------------------------------


@pytest.fixture
def crossed(chain):
    """The book of BTC crossed, and the fresh snapshots were crossed as well."""
    chain.say(delta(2, 1, [("102", "1")]))
    chain.say(snapshot(3, *CROSSED))
    chain.say(snapshot(4, *CROSSED))
    return chain


def test_book_crossed_by_its_venue_is_published_flagged_and_unusable(crossed):
    stream, symbol, event = crossed.published[-1]
    assert (stream, symbol, event.flags) == (Stream.BOOK, "BTC-PERP", ("crossed_by_venue",))
    assert not crossed.route().is_published_valid
    assert (crossed.route().state, crossed.route().reason) == (StreamState.LIVE, Reason.CROSSED_BOOK)


def test_book_crossed_by_its_venue_does_not_end_the_session_while_it_moves(crossed):
    seq = 4

    def move():
        nonlocal seq
        crossed.say(delta(seq + 1, seq, [("99", "1")]))
        seq += 1

    keep_eth_fresh(crossed, 30, move)
    assert crossed.closing is None


def test_end_of_the_venues_crossing_is_reported_by_a_snapshot(crossed):
    (event,) = crossed.say(delta(5, 4, [("101", "0")]))
    assert isinstance(event, BookSnapshot)
    assert crossed.route().is_published_valid


def test_crossed_book_that_falls_silent_is_looked_at_again(crossed):
    crossed.actions.clear()
    keep_eth_fresh(crossed, 60)
    assert crossed.closing or messages(crossed) or fetches(crossed)


# --- streams without a book ---------------------------------------------------------------------------------------


@pytest.fixture
def marks():
    stage = staged(Rule.CHAIN, Resync.RESUBSCRIBE, listings=(BTC,), streams={Stream.MARK: 1.0, Stream.TRADE: None})
    stage.say(mark(), trade("1"))
    stage.actions.clear()
    return stage


def test_mute_stream_with_a_cadence_is_subscribed_again(marks):
    for _ in range(30):
        marks.wait(1)
        marks.say(Pong())
    assert marks.sent().count(b"-mark.BTC-PERP") == 0
    marks.wait(0.2)
    assert b"-mark.BTC-PERP" in marks.sent()
    assert marks.notes() == ["stream.mute"]
    assert (marks.route(Stream.MARK).state, marks.closing) == (StreamState.STALE, None)
    marks.say(mark())
    assert marks.route(Stream.MARK).state is StreamState.LIVE


def test_stream_that_stays_mute_is_subscribed_again_every_limit(marks):
    for _ in range(95):
        marks.wait(1)
        marks.say(Pong())
    assert marks.notes().count("stream.mute") == 3


def test_mute_stream_that_cannot_be_resubscribed_is_reconnected():
    stage = Stage(FakeVenue(streams={Stream.MARK: 1.0}, can_leave=False), (BTC,), pong_s=100)
    stage.connect()
    stage.wait(31)
    assert stage.closing is Reason.STALE_WATCHDOG


def test_silence_of_trades_means_nothing(marks):
    for _ in range(300):
        marks.wait(1)
        marks.say(mark(), Pong())
    assert marks.route(Stream.TRADE).state is StreamState.LIVE
    assert marks.sent().count(b"-trade.BTC-PERP") == 0
    assert marks.closing is None


def test_refused_stream_without_a_book_is_asked_for_again_after_ten_minutes(marks):
    marks.say(Refused("no", "mark.BTC-PERP"))
    marks.sent()
    for _ in range(601):
        marks.wait(1)
        marks.say(Pong())
    assert b"+mark.BTC-PERP" in marks.sent()


def test_stream_whose_subscription_the_pace_holds_back_is_not_mute():
    """With many markets it takes minutes until each is subscribed."""
    venue = FakeVenue(streams={Stream.BOOK: None, Stream.MARK: 1.0})
    venue.limits = replace(venue.limits, burst=1, messages_per_s=1 / 60)
    stage = Stage(venue, (BTC,), stale_s=1000, ping_s=1000)
    stage.connect()
    for _ in range(59):
        stage.wait(1)
        stage.say(snapshot(1), Pong())
    assert stage.notes() == []
    for _ in range(30):
        stage.wait(1)
        stage.say(snapshot(1), Pong())
    assert messages(stage) == [JOIN, b"+mark.BTC-PERP"]
    assert stage.notes() == []
    for _ in range(3):
        stage.wait(1)
        stage.say(snapshot(1), Pong())
    assert stage.notes() == ["stream.mute"]


# --- a book that stands still here and not on the other line ------------------------------------------------------


def witness(stage, symbol="BTC-PERP"):
    """The watchdog reports that a book stands still; the events that are published because of it."""
    return stage._collect(stage.session.witnessed(stage.route(symbol=symbol), stage.now))


def test_book_that_stands_still_is_subscribed_again_without_asking_rest(chain):
    keep_eth_fresh(chain, 2.5)
    chain.is_obliging = False
    (gap,) = witness(chain)
    assert (gap.symbol, gap.reason, gap.action) == ("BTC-PERP", Reason.SOFT_RESYNC, "resubscribe")
    assert (gap.expected, gap.got) == ("a change, as on the other line", "silence for 2500 ms")
    assert messages(chain) == [LEAVE]
    assert not chain.is_fetching()
    assert chain.closing is None
    assert chain.route().state is StreamState.RESYNC
    assert chain.route(symbol=ETH_SYMBOL).state is StreamState.LIVE


def test_book_that_stands_still_after_that_is_connected_again(chain):
    keep_eth_fresh(chain, 2.4)
    witness(chain)
    keep_eth_fresh(chain, 2.4)
    assert witness(chain) == []
    assert chain.closing is Reason.STALE_WATCHDOG


def test_book_that_came_back_begins_with_a_new_subscription_again(chain):
    for seq in (5, 9):
        keep_eth_fresh(chain, 2.4)
        witness(chain)
        (event,) = chain.say(snapshot(seq))
        assert event.cause == "resync"
    assert chain.closing is None


def test_new_connection_begins_with_a_new_subscription_again(chain):
    keep_eth_fresh(chain, 2.4)
    witness(chain)
    chain.reconnect()
    chain.say(snapshot(1))
    chain.sent()
    witness(chain)
    assert chain.closing is None
    assert messages(chain) == [LEAVE, JOIN]


def test_book_that_waits_for_the_pace_is_not_connected_again():
    """All its subscriptions would wait then."""
    venue = FakeVenue(streams=BOOKS_ONLY)
    venue.limits = replace(venue.limits, burst=2, messages_per_s=1 / 10)
    stage = Stage(venue, (BTC, ETH))
    stage.connect()
    stage.say(snapshot(1))
    stage.say(snapshot(1, symbol=ETH_SYMBOL))
    keep_eth_fresh(stage, 2)
    for _ in range(3):
        witness(stage)
        keep_eth_fresh(stage, 2)
    assert stage.closing is None
    keep_eth_fresh(stage, 20)
    assert LEAVE in messages(stage)


def test_bridged_book_that_stands_still_is_fetched_as_after_a_lost_change(joined):
    joined.wait(1)
    (gap,) = witness(joined)
    assert (gap.reason, gap.action) == (Reason.SOFT_RESYNC, "resync")
    assert [fetch.purpose for fetch in joined.take(FetchBook)] == ["bridge"]


def test_mute_bridged_stream_is_connected_again_though_rest_answers(joined):
    joined.wait(1)
    witness(joined)
    joined.answer(snapshot(99))
    assert joined.route().state is StreamState.LIVE
    joined.wait(1.9)
    assert joined.closing is None
    witness(joined)
    assert joined.closing is Reason.STALE_WATCHDOG


def test_venue_that_can_only_reconnect_does_so_the_second_time():
    stage = staged(Rule.CONNECTION, Resync.RECONNECT, listings=(BTC,))
    stage.say(snapshot(1))
    stage.wait(2)
    assert witness(stage) == []
    assert stage.closing is None
    assert stage.route().state is StreamState.LIVE
    stage.wait(2)
    witness(stage)
    assert stage.closing is Reason.STALE_WATCHDOG


def test_book_that_stands_still_is_logged(chain):
    keep_eth_fresh(chain, 2.4)
    witness(chain)
    assert "book.stands_still" in chain.notes()
