"""One connection's brain: the dialogue with the venue, what is published of it, and what ends it.

Getting lost books back is tested with :mod:`workers.protocol.recovery`.
"""

from __future__ import annotations

import pytest
from fake_venue import BTC, ETH, FakeVenue, bbo, delta, mark, snapshot, trade
from hypothesis import given
from hypothesis import strategies as st
from replicas import Replica, histories, levels_of
from stage import NS, Stage

from ipc.events import Bbo, BookDelta, BookSnapshot, Funding, Gap, Liquidation, Mark
from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import CloseConnection, FetchBook, LogEvent, SendPing, StateChanged
from workers.venues.listing import Listing
from workers.venues.venue import (
    Ack,
    Continuity,
    FrameSeq,
    InvalidBook,
    Keepalive,
    Ping,
    Pong,
    Refused,
    RelativeDelta,
    Resync,
    Rule,
    ServerShutdown,
    Unsubscribed,
    VenueLimits,
)

BOOK_KEY, ETH_BOOK_KEY = "book.BTC-PERP", "book.ETH-PERP"
ETH_SYMBOL = "ETH-PERP"
NUMBERED = Continuity(Rule.CONNECTION, Resync.RECONNECT)
WHOLE = Continuity(Rule.SNAPSHOTS, Resync.RESUBSCRIBE)


@pytest.fixture
def stage():
    """A connection on which everything is subscribed."""
    stage = Stage()
    stage.connect()
    stage.actions.clear()
    return stage


@pytest.fixture
def live(stage):
    """Both books are usable."""
    stage.say(snapshot(1))
    stage.say(snapshot(1, symbol=ETH_SYMBOL))
    stage.actions.clear()
    stage.published.clear()
    return stage


def deaf():
    """A session whose venue answers no request by itself."""
    stage = Stage()
    stage.is_obliging = False
    return stage


# --- subscribing --------------------------------------------------------------------------------------------------


def test_stream_goes_from_connecting_over_subscribed_to_live():
    stage = deaf()
    stage.connect()
    stage.say(Ack(BOOK_KEY))
    stage.say(snapshot())
    expected = [StreamState.CONNECTING, StreamState.SUBSCRIBED, StreamState.LIVE]
    assert stage.states(stage.route()) == expected


def test_every_subscription_is_sent_when_the_connection_opens():
    stage = deaf()
    stage.connect()
    wanted = sorted(stage.plan.subscriptions, key=lambda subscription: Stream.BOOK not in subscription.streams)
    assert stage.sent() == [subscription.subscribe for subscription in wanted], "books first"


def test_data_before_ack_is_live_and_the_ack_changes_nothing():
    stage = deaf()
    stage.connect()
    assert len(stage.say(snapshot())) == 1
    stage.say(Ack(BOOK_KEY))
    assert stage.route().state is StreamState.LIVE


def test_late_ack_of_old_connection_is_ignored():
    stage = deaf()
    stage.connect()
    stage.sent()
    stage.end()
    stage.say(Ack(BOOK_KEY))
    stage.connect()
    assert b"+" + BOOK_KEY.encode() in stage.sent()


def test_ack_for_something_else_is_ignored(stage):
    stage.say(Ack("book.DOGE-PERP"))
    assert stage.actions == []


def test_streams_of_the_url_are_subscribed_when_it_is_open():
    venue = FakeVenue()
    plan = venue.connections((BTC,), "ws://venue.test", {})[0]
    by_url = type(plan)("main", plan.url, plan.subscriptions, in_url=True)
    venue.connections = lambda *_: (by_url,)
    stage = Stage(venue, (BTC,))
    stage.connect()
    assert stage.sent() == []
    assert stage.route().state is StreamState.SUBSCRIBED


def test_unanswered_subscription_is_noted_and_sent_again():
    stage = Stage(stale_s=60)
    connect_without_btc(stage)
    asking = b"+" + BOOK_KEY.encode()
    stage.sent()
    stage.wait(10)
    assert asking not in stage.sent()
    stage.wait(0.1)
    assert "ws.unanswered" in stage.notes()
    assert asking in stage.sent()


def test_wild_unsubscription_is_ignored(live):
    live.say(Unsubscribed(BOOK_KEY))
    assert live.sent() == []


# --- refusals -----------------------------------------------------------------------------------------------------


def test_refused_subscription_fails_alone(live):
    live.say(Refused("unknown coin", BOOK_KEY, Reason.UNKNOWN_MARKET))
    assert (live.route().state, live.route().reason) == (StreamState.FAILED, Reason.UNKNOWN_MARKET)
    assert live.route(symbol=ETH_SYMBOL).state is StreamState.LIVE
    assert live.notes() == ["ws.refused"]
    assert live.closing is None


def test_refused_market_is_asked_for_again_after_ten_minutes(live):
    venue_eth = snapshot(1, symbol=ETH_SYMBOL)
    live.say(Refused("unknown coin", BOOK_KEY, Reason.UNKNOWN_MARKET))
    live.sent()
    for _ in range(601):
        live.wait(1, every_s=0.5)
        live.say(venue_eth, Pong())
    assert live.closing is None
    assert b"+" + BOOK_KEY.encode() in live.sent()
    live.say(snapshot(7))
    assert live.route().state is StreamState.LIVE


def test_refused_subscription_is_not_asked_for_before_that():
    stage = Stage()
    connect_without_btc(stage)
    stage.say(Refused("unknown coin", BOOK_KEY, Reason.UNKNOWN_MARKET))
    stage.sent()
    for _ in range(60):
        stage.wait(1)
        stage.say(snapshot(1, symbol=ETH_SYMBOL), mark(), mark(symbol=ETH_SYMBOL), Pong())
    assert b"+" + BOOK_KEY.encode() not in stage.sent()


def test_refusal_that_harms_nothing_is_an_answer():
    stage = deaf()
    stage.connect()
    stage.say(Refused("already subscribed", BOOK_KEY, None))
    stage.sent()
    stage.wait(0.1)
    assert stage.notes() == []
    assert stage.route().state is StreamState.CONNECTING


def test_refusal_without_a_name_is_noted(live):
    live.say(Refused("too many messages", None, Reason.RATE_LIMITED))
    assert live.notes() == ["ws.refused"]
    assert all(route.state is not StreamState.FAILED for route in live.session.streams)


def test_fatal_refusal_ends_the_connection(live):
    live.say(Refused("ip banned", None, Reason.RATE_LIMITED, fatal=True))
    assert live.closing is Reason.RATE_LIMITED


def test_failed_stream_whose_data_come_all_the_same_is_live(live):
    live.say(Refused("no", BOOK_KEY))
    live.say(snapshot(9))
    assert live.route().state is StreamState.LIVE


# --- what is published --------------------------------------------------------------------------------------------


def test_every_kind_goes_to_its_route(live):
    funding = Funding("v", "BTC-PERP", "BTC", None, "0.1", "0.1", "u", 3600, None, None, "predicted", "mark")
    liquidation = Liquidation("v", "BTC-PERP", "BTC", None, "1", "2", "buy", "9")
    venue = FakeVenue(streams=dict.fromkeys((Stream.FUNDING, Stream.LIQUIDATION)))
    other = Stage(venue, (BTC,))
    other.connect()
    other.say(funding, liquidation)
    live.say(bbo(), mark(), trade("1"), delta(2, 1))
    kinds = [(stream, type(event)) for stream, _, event in live.published[:2] + other.published]
    assert kinds == [
        (Stream.BBO, Bbo),
        (Stream.MARK, Mark),
        (Stream.FUNDING, Funding),
        (Stream.LIQUIDATION, Liquidation),
    ]
    assert [stream for stream, _, _ in live.published] == [Stream.BBO, Stream.MARK, Stream.TRADE, Stream.BOOK]
    assert all(symbol == "BTC-PERP" for _, symbol, _ in live.published)


def test_events_of_markets_that_are_not_followed_are_counted_and_left_out(live):
    doge = {"symbol": "DOGE-PERP"}
    listing = type(BTC)("DOGE", "3", "DOGE")
    relative = RelativeDelta(listing, None, [], [], 2, 1)
    assert live.say(snapshot(1, **doge), delta(2, 1, **doge), bbo(**doge), trade("1", **doge), relative) == []
    assert live.session.faults.unrouted == 5
    live.say(snapshot(1, **doge))
    assert [note for note in live.actions if isinstance(note, LogEvent)] == [
        LogEvent("ws.unrouted", {"what": "BookSnapshot", "symbol": "DOGE-PERP"})
    ]


def test_relative_changes_are_published_as_absolute_ones(live):
    (event,) = live.say(RelativeDelta(BTC, None, [("100", None, "0.5")], [], 2, 1))
    assert isinstance(event, BookDelta)
    assert event.bids == [("100", "1.5")]


def test_frames_of_twenty_levels_are_a_stream_of_their_own():
    venue = FakeVenue(streams={Stream.BOOK: None, Stream.BOOK20: None}, continuity=WHOLE)
    stage = Stage(venue, (BTC,))
    stage.connect()
    stage.say(snapshot(1, [("100", "1")], depth=5), snapshot(2, [("99", "1")], depth=20))
    assert [stream for stream, _, _ in stage.published] == [Stream.BOOK, Stream.BOOK20]
    assert stage.route().book_sync.snapshot("refresh").bids == [("100", "1")]
    assert stage.route(Stream.BOOK20).book_sync.snapshot("refresh").bids == [("99", "1")]


def test_late_subscribers_get_the_book_while_it_is_usable(live):
    assert live.session.refresh(live.route()).flags == ("refresh",)
    assert live.session.refresh(live.route(Stream.TRADE)) is None
    live.say(delta(9, 8))
    assert live.session.refresh(live.route()) is None


def test_trade_is_published_once_also_across_reconnects(live):
    assert len(live.say(trade("1"), trade("2"), trade("1"))) == 2
    live.reconnect()
    assert [event.trade_id for event in live.say(trade("2"), trade("3"))] == ["3"]


def test_known_trade_still_shows_that_data_came(live):
    live.say(trade("1"))
    publications = live.session.received(False, live.venue.frame(trade("1")), live.now)
    assert publications == [(live.route(Stream.TRADE), None)]


def test_first_frame_of_trades_after_a_subscription_is_flagged_as_history():
    stage = Stage(FakeVenue(replays_trades=True))
    stage.connect()
    assert [event.flags for event in stage.say(trade("1"), trade("2"))] == [("backlog",)] * 2
    assert [event.flags for event in stage.say(trade("3"))] == [()]
    assert [event.flags for event in stage.say(trade("1", symbol=ETH_SYMBOL))] == [("backlog",)]
    stage.reconnect()
    assert [event.flags for event in stage.say(trade("3"), trade("4"))] == [("backlog",)]
    assert [event.flags for event in stage.say(trade("5"))] == [()]


def test_first_trade_of_a_quiet_market_is_not_taken_for_history():
    """A history without trades is an empty frame that names no market, or none at all."""
    stage = Stage(FakeVenue(replays_trades=True))
    stage.connect()
    stage.say()
    stage.wait(9)
    assert [event.flags for event in stage.say(trade("1"))] == [("backlog",)]
    stage.wait(2)
    assert [event.flags for event in stage.say(trade("1", symbol=ETH_SYMBOL))] == [()]


def test_history_of_a_late_subscription_is_history():
    stage = Stage(FakeVenue(replays_trades=True))
    stage.is_obliging = False
    stage.connect()
    stage.wait(9)
    for subscription in stage.plan.subscriptions:
        stage.say(Ack(subscription.key))
    stage.wait(5)
    assert [event.flags for event in stage.say(trade("1"))] == [("backlog",)]


def test_live_trade_after_a_history_of_known_trades_is_not_flagged():
    stage = Stage(FakeVenue(replays_trades=True))
    stage.connect()
    stage.say(trade("1"))
    stage.reconnect()
    stage.say(trade("1"))
    assert [event.flags for event in stage.say(trade("2"))] == [()]


def test_venue_without_a_history_flags_nothing(live):
    assert [event.flags for event in live.say(trade("1"))] == [()]


def test_rest_book_is_marked_and_never_joined_to_the_stream(live):
    live.end()
    book = snapshot(500, [("90", "1")])
    assert live.session.rest_book(live.route(), book) == [(live.route(), book)]
    assert (book.flags, book.cause) == (("rest",), "rest")
    assert live.route().book_sync.venue_seq == 1
    assert not live.route().book_sync.usable
    assert not live.route().is_published_valid


# --- freshness ----------------------------------------------------------------------------------------------------


def test_only_data_that_were_applied_make_a_book_fresh(live):
    route, before = live.route(), live.now
    live.now += NS
    live.say(delta(9, 8))
    live.say(Pong(), Ack(BOOK_KEY))
    live.say_rubbish()
    assert route.applied_ns == before
    live.say(snapshot(10))
    assert route.applied_ns == live.now


def test_freshness_does_not_survive_a_new_connection(live):
    live.say(mark(), trade("1"))
    live.end()
    live.session.connecting(live.now)
    assert [route.applied_ns for route in live.session.streams] == [0] * len(live.session.streams)


@pytest.mark.parametrize(
    ("stream", "limit_s"),
    [
        (Stream.BOOK, 10),
        (Stream.BOOK20, 20),
        (Stream.MARK, 30),
        (Stream.FUNDING, 600),
        (Stream.BBO, None),
        (Stream.TRADE, None),
    ],
)
def test_limits_follow_the_cadence_of_each_stream(stream, limit_s):
    streams = {
        Stream.BOOK: None,
        Stream.BOOK20: 5.0,
        Stream.MARK: 1.0,
        Stream.FUNDING: 60.0,
        Stream.BBO: 1.0,
        Stream.TRADE: None,
    }
    continuity = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE, min_stale_s={Stream.BOOK20: 20.0})
    stage = Stage(FakeVenue(streams=streams, continuity=continuity), (BTC,))
    limit_ns = stage.route(stream).limit_ns
    assert limit_ns == (None if limit_s is None else limit_s * NS)


def test_stale_limit_of_a_venue_is_the_limit_of_its_books():
    stage = Stage(FakeVenue(streams={Stream.BOOK: None, Stream.BOOK20: 5.0}), (BTC,), stale_s=45)
    assert stage.route().limit_ns == stage.route(Stream.BOOK20).limit_ns == 45 * NS


# --- keeping alive ------------------------------------------------------------------------------------------------


def test_venues_own_ping_is_sent_every_interval(live):
    for number in range(1, 4):
        live.wait(20)
        assert live.sent().count(b"ping") == 1, number
        live.say(Pong(), snapshot(number), snapshot(number, symbol=ETH_SYMBOL))


def test_venue_without_a_ping_of_its_own_gets_ping_frames():
    stage = Stage(FakeVenue(keepalive=Keepalive(20.0)))
    stage.connect()
    stage.wait(20)
    assert len(stage.take(SendPing)) == (stage.closing is None)


def test_missing_pong_ends_the_connection():
    stage = Stage(ping_s=1.0, pong_s=3.0)
    stage.connect()
    stage.wait(3.9)
    assert stage.closing is None
    stage.wait(0.3)
    assert stage.closing is Reason.PONG_TIMEOUT


def test_later_pings_do_not_put_off_the_pong():
    """Pings that go out while an answer is due would otherwise keep a half-open connection indefinitely."""
    stage = Stage(ping_s=0.5, pong_s=3.0)
    stage.connect()
    stage.wait(4)
    assert stage.closing is Reason.PONG_TIMEOUT


@pytest.mark.parametrize("is_frame", [True, False])
def test_pong_in_time_keeps_the_connection(is_frame):
    stage = Stage(ping_s=1.0, pong_s=0.5)
    stage.connect()
    for _ in range(5):
        stage.wait(1.1)
        if is_frame:
            stage.session.ponged()
        else:
            stage.say(Pong())
    assert stage.closing is None


def test_pong_of_the_last_connection_is_not_waited_for_on_the_next():
    stage = Stage(ping_s=1.0, pong_s=3.0)
    stage.connect()
    stage.wait(2)
    stage.reconnect()
    stage.wait(2.5)
    assert stage.closing is None


def test_ping_of_the_venue_is_answered_at_once(live):
    live.say(Ping(b'{"type":"pong"}'))
    assert live.sent() == [b'{"type":"pong"}']


# --- what ends it -------------------------------------------------------------------------------------------------


def test_ten_malformed_frames_in_a_row_end_the_connection(live):
    live.say_rubbish(9)
    assert live.closing is None
    live.say_rubbish()
    assert live.closing is Reason.PARSE_ERRORS
    assert live.session.faults.malformed == 10


def test_good_frame_between_malformed_ones_restarts_the_count(live):
    live.say_rubbish(9)
    live.say(mark())
    live.say_rubbish(9)
    assert live.closing is None
    assert live.session.faults.malformed == 18


def test_malformed_frames_of_the_last_connection_do_not_count(live):
    live.say_rubbish(9)
    live.reconnect()
    live.say_rubbish(9)
    assert live.closing is None


def test_book_that_cannot_be_read_is_lost_at_once_and_alone(live):
    first, event, second = live.say(trade("1"), InvalidBook(BTC, Stream.BOOK, "Expected `str`"), trade("2"))
    assert isinstance(event, Gap)
    assert (event.reason, event.symbol, event.scope) == (Reason.PARSE_ERRORS, "BTC-PERP", "book")
    assert (first.trade_id, second.trade_id, live.session.faults.malformed) == ("1", "2", 1)
    assert (live.route().is_published_valid, live.route(symbol=ETH_SYMBOL).is_published_valid) == (False, True)
    assert live.say(delta(2, 1)) == []
    (again,) = live.say(snapshot(5))
    assert (again.cause, live.route().is_published_valid) == ("resync", True)


def test_book_that_cannot_be_read_while_it_is_waited_for_asks_for_nothing_more(live):
    live.say(InvalidBook(BTC, Stream.BOOK, "x"))
    live.actions.clear()
    assert live.say(InvalidBook(BTC, Stream.BOOK, "x")) == []
    assert live.sent() == []


def test_connection_whose_books_all_fail_ends_for_parse_errors(live):
    live.say(InvalidBook(ETH, Stream.BOOK, "x"))
    live.say(InvalidBook(BTC, Stream.BOOK, "x"))  # for which it is subscribed again, and answered
    for _ in range(10):
        assert live.closing is None
        live.say(InvalidBook(BTC, Stream.BOOK, "x"))
    assert live.closing is Reason.PARSE_ERRORS


def test_books_that_fail_now_and_then_end_no_connection(live):
    for _ in range(20):
        live.say(InvalidBook(BTC, Stream.BOOK, "x"))
        live.say(snapshot(1, symbol=ETH_SYMBOL))
    assert live.closing is None


def test_book_on_a_numbered_connection_that_cannot_be_read_ends_it():
    stage = Stage(FakeVenue(continuity=NUMBERED))
    stage.connect()
    stage.say(FrameSeq(1), snapshot(1))
    (event,) = stage.say(FrameSeq(2), InvalidBook(BTC, Stream.BOOK, "x"))
    assert isinstance(event, Gap)
    assert (event.reason, stage.closing) == (Reason.PARSE_ERRORS, Reason.PARSE_ERRORS)


def test_invalid_book_of_a_market_that_is_not_followed_is_counted(live):
    live.say(InvalidBook(Listing("SOL", "9", "SOL"), Stream.BOOK, "x"))
    assert live.session.faults.unrouted == 1


@pytest.mark.parametrize("error", [TypeError, KeyError, OverflowError, AttributeError, MemoryError])
def test_fault_of_a_parser_costs_its_frame_and_not_the_thread(live, monkeypatch, error):
    def decode(*_):
        raise error("why")

    monkeypatch.setattr(live.venue, "decode", decode)
    live.say_rubbish()
    (note,) = live.take(LogEvent)
    assert (note.event, note.fields["error"][: len(error.__name__)]) == ("ws.malformed", error.__name__)


def test_disproved_funding_interval_is_not_published(live):
    def rate(next_ns):
        unit, eight_hours = "fraction_per_interval", 28_800
        return Funding(
            "lighter", "BTC-PERP", "BTC", None, "0.1", "0.1", unit, eight_hours, "0.1", next_ns, "predicted", "mark"
        )

    stage = Stage(FakeVenue(streams={Stream.BOOK: None, Stream.FUNDING: 1.0}))
    stage.connect()
    stage.say(rate(100 * 3600 * NS))
    (event,) = stage.say(rate(104 * 3600 * NS))
    assert (event.interval_s, event.rate_8h, event.rate) == (None, None, "0.1")


def test_malformed_frame_is_noted_with_its_head(live):
    live.say_rubbish()
    (note,) = [action for action in live.actions if not isinstance(action, StateChanged)]
    assert note.event == "ws.malformed"
    assert note.fields["head"] == "rubbish"


WRONG = [("99", "1"), ("100", "1")]


def whole_books(*listings):
    stage = Stage(FakeVenue(continuity=WHOLE, streams={Stream.BOOK: None}), listings, ping_s=3600.0)
    stage.connect()
    for listing in listings:
        stage.say(snapshot(None, symbol=listing.symbol))
    stage.actions.clear()
    return stage


def test_invalid_book_is_a_gap_in_its_turn_and_the_next_valid_frame_the_resync():
    stage = whole_books(BTC)
    (gap,) = stage.say(snapshot(None, WRONG))
    assert (gap.reason, gap.scope) == (Reason.PARSE_ERRORS, "book")
    assert not stage.route().is_published_valid
    assert stage.say(snapshot(None, WRONG)) == [], "which is said once"
    (event,) = stage.say(snapshot(None))
    assert (event.cause, stage.route().state) == ("resync", StreamState.LIVE)
    assert stage.sent() == [], "the next frame is a whole book anyway"
    assert stage.closing is None


def test_invalid_books_and_malformed_frames_in_a_row_end_the_connection():
    stage = whole_books(BTC, ETH)
    for symbol in ("BTC-PERP", ETH_SYMBOL) * 4:
        stage.say(snapshot(None, WRONG, symbol=symbol))
    stage.say_rubbish()
    assert stage.closing is None
    stage.say(snapshot(None, WRONG))
    assert stage.closing is Reason.PARSE_ERRORS


def test_valid_book_between_invalid_ones_restarts_the_count():
    stage = whole_books(BTC)
    for number in range(30):
        stage.say(snapshot(None, *((WRONG,) if number % 9 else ())))
    assert stage.closing is None


def test_invalid_book_among_usable_ones_does_not_end_the_connection():
    stage = whole_books(BTC, ETH)
    for number in range(400):
        stage.say(snapshot(None, WRONG))
        if number % 20 == 0:
            stage.say(snapshot(None, symbol=ETH_SYMBOL))
        stage.wait(0.1)
    assert stage.closing is None
    assert stage.route(symbol=ETH_SYMBOL).is_published_valid
    assert (stage.route().state, stage.route().reason) == (StreamState.FAILED, Reason.NO_BOOK)
    stage.say(snapshot(None))
    assert stage.route().state is StreamState.LIVE


def test_connection_without_one_valid_book_ends_with_the_reason():
    """Other events are no sign of a book."""
    stage = Stage(listings=(BTC,))
    stage.connect()
    stage.say(snapshot(1, WRONG))
    while not stage.closing:
        stage.wait(0.5)
        stage.say(mark())
    assert stage.closing is Reason.PARSE_ERRORS


def test_invalid_snapshots_are_not_answered_by_a_storm_of_subscriptions():
    stage = Stage(listings=(BTC,))
    stage.connect()
    stage.say(snapshot(1))
    stage.actions.clear()
    for _ in range(9):
        stage.wait(0.1)
        stage.say(snapshot(1, WRONG))
    assert stage.sent() == [b"-book.BTC-PERP", b"+book.BTC-PERP"]


@pytest.mark.parametrize("others", [0, 1])
def test_venue_that_must_be_reconnected_is_so_for_an_invalid_book_when_there_is_no_other(others):
    stage = Stage(FakeVenue(continuity=NUMBERED, streams={Stream.BOOK: None}), (BTC, ETH)[: 1 + others])
    stage.connect()
    stage.say(snapshot(1))
    if others:
        stage.say(snapshot(1, symbol=ETH_SYMBOL))
    (gap,) = stage.say(snapshot(2, WRONG))
    assert gap.reason is Reason.PARSE_ERRORS
    assert stage.closing is (None if others else Reason.PARSE_ERRORS)


def test_invalid_book_by_rest_is_not_shown(live):
    live.end()
    assert live.session.rest_book(live.route(), snapshot(1, WRONG)) == []
    assert live.session.rest_book(live.route(), snapshot(1, [("1E2", "1")]))[0][1].bids == [("100", "1")]


def test_announced_shutdown_ends_the_connection(live):
    live.say(ServerShutdown(5000))
    assert live.closing is Reason.SERVER_SHUTDOWN


def age_at_rotation(**options):
    """Age in s at which a connection that its venue ends after 1000 s is renewed."""
    venue = FakeVenue(limits=VenueLimits(100, 100, 1200, max_age_s=1000.0))
    stage = Stage(venue, **options)
    stage.connect()
    opened = stage.now
    while stage.closing is None:
        stage.now += NS
        stage.say(snapshot(1), snapshot(1, symbol=ETH_SYMBOL), mark(), mark(symbol=ETH_SYMBOL), Pong())
        stage.tick()
        assert stage.now - opened < 1000 * NS
    assert stage.closing is Reason.ROTATION
    return (stage.now - opened) / NS - 1


@pytest.mark.parametrize(("stagger", "age_s"), [(0.0, 955), (0.5, 950)])
def test_connection_is_renewed_before_its_venue_ends_it(stagger, age_s):
    assert age_at_rotation(stagger=stagger) == age_s


def test_line_renews_while_the_other_is_live():
    assert age_at_rotation(is_covered=lambda: True) == 955


def test_line_whose_other_is_not_live_renews_only_in_the_last_hundredth():
    assert age_at_rotation(is_covered=lambda: False) == 990


def test_line_renews_as_soon_as_the_other_is_live():
    answers = iter([False] * 20 + [True] * 1000)
    assert age_at_rotation(is_covered=lambda: next(answers)) == 975


def test_snapshots_after_a_rotation_say_so(live):
    live.end(Reason.ROTATION)
    live.connect("rotation")
    assert [event.cause for event in live.say(snapshot(5))] == ["rotation"]


def test_first_wish_to_end_counts(live):
    live.say(ServerShutdown(0))
    live.say(Refused("banned", None, Reason.RATE_LIMITED, fatal=True))
    assert next(wish.reason for wish in live.take(CloseConnection)) is Reason.SERVER_SHUTDOWN


# --- the end ------------------------------------------------------------------------------------------------------


def test_consumers_receive_gaps_for_every_book_they_lose_first_thing_when_a_session_ends(live):
    gaps = live.end(Reason.READ_TIMEOUT)
    assert [(type(gap), gap.symbol, gap.scope, gap.reason, gap.action) for gap in gaps] == [
        (Gap, "BTC-PERP", "session", Reason.READ_TIMEOUT, "reconnect"),
        (Gap, "ETH-PERP", "session", Reason.READ_TIMEOUT, "reconnect"),
    ]


def test_no_gap_is_published_twice(live):
    (gap,) = live.say(delta(9, 8))
    assert isinstance(gap, Gap)
    assert [gap.symbol for gap in live.end()] == ["ETH-PERP"]
    assert live.end() == []


def test_attempt_that_does_not_connect_tells_no_gap():
    stage = Stage()
    stage.session.connecting(stage.now)
    assert stage.end(Reason.REFUSED) == []
    assert {route.state for route in stage.session.streams} == {StreamState.BACKOFF}
    assert {route.reason for route in stage.session.streams} == {Reason.REFUSED}


def test_deltas_of_the_new_connection_before_its_snapshot_are_dropped(live):
    live.reconnect()
    assert live.say(delta(2, 1)) == []
    assert live.say(snapshot(7))[0].venue_seq == 7


def test_server_that_is_behind_the_last_connection_is_not_believed():
    stage = Stage(FakeVenue(continuity=WHOLE), (BTC,))
    stage.connect()
    stage.say(snapshot(None, ns=2000))
    stage.reconnect()
    assert stage.say(snapshot(None, ns=1000)) == []


# --- quarantine ---------------------------------------------------------------------------------------------------


def connect_without_btc(stage):
    """A connection on which everything but the book of BTC is confirmed."""
    stage.is_obliging = False
    stage.connect()
    for subscription in stage.plan.subscriptions[1:]:
        stage.say(Ack(subscription.key))


def quarantine_one(stage):
    """Connections die with the book of BTC unanswered until it is found guilty."""
    for _ in range(3):
        connect_without_btc(stage)
        stage.end()


def test_subscription_that_kills_its_connection_fails_alone():
    stage = Stage()
    quarantine_one(stage)
    assert (stage.route().state, stage.route().reason) == (StreamState.FAILED, Reason.UNKNOWN_MARKET)
    assert "ws.quarantined" in stage.notes()
    stage.connect()
    assert stage.route().state is StreamState.FAILED
    assert stage.route(symbol=ETH_SYMBOL).state is StreamState.CONNECTING


@pytest.mark.parametrize("reason", [Reason.NO_BOOK, Reason.STALE_WATCHDOG, Reason.PONG_TIMEOUT, Reason.ROTATION])
def test_connections_that_we_end_ourselves_quarantines_nothing(reason):
    stage = Stage()
    for _ in range(4):
        connect_without_btc(stage)
        stage.end(reason)
    assert (stage.route().state, stage.route().reason) == (StreamState.BACKOFF, reason)
    assert "ws.quarantined" not in stage.notes()


def test_quarantined_subscription_is_left_out_of_the_next_connection():
    stage = Stage()
    quarantine_one(stage)
    connect_without_btc(stage)
    stage.sent()
    for _ in range(60):
        stage.say(snapshot(1, symbol=ETH_SYMBOL), mark(), mark(symbol=ETH_SYMBOL), Pong())
        stage.wait(1)
    assert b"+" + BOOK_KEY.encode() not in stage.sent()


def test_poisonous_market_does_not_end_later_connections_for_want_of_its_book():
    stage = Stage()
    quarantine_one(stage)
    for _ in range(2):
        connect_without_btc(stage)
        stage.end()
    connect_without_btc(stage)
    for _ in range(30):
        stage.say(snapshot(1, symbol=ETH_SYMBOL), Pong())
        stage.wait(1)
    assert stage.closing is None


# --- numbered frames ----------------------------------------------------------------------------------------------


@pytest.fixture
def numbered():
    stage = Stage(FakeVenue(continuity=NUMBERED))
    stage.connect()
    stage.say(FrameSeq(1), snapshot(1))
    stage.say(FrameSeq(2), snapshot(2, symbol=ETH_SYMBOL))
    return stage


def test_lost_frame_loses_every_book_of_the_connection(numbered):
    gaps = numbered.say(FrameSeq(4), delta(4, None))
    assert [(gap.symbol, gap.scope, gap.expected, gap.got) for gap in gaps] == [
        ("BTC-PERP", "session", 3, 4),
        ("ETH-PERP", "session", 3, 4),
    ]
    assert numbered.closing is Reason.SEQ_GAP


@pytest.mark.parametrize("seq", [2, 1, 4])
def test_frame_that_comes_twice_or_out_of_order_is_a_lost_one(numbered, seq):
    numbered.say(FrameSeq(seq))
    assert numbered.closing is Reason.SEQ_GAP


def test_frames_are_numbered_again_on_each_connection(numbered):
    numbered.reconnect()
    numbered.say(FrameSeq(1), snapshot(1))
    assert numbered.closing is None


@given(history=histories(), data=st.data())
def test_book_of_a_disturbed_numbered_connection_equals_the_truth_or_is_not_usable(history, data):
    stage, replica = Stage(FakeVenue(continuity=NUMBERED), (BTC,)), Replica()
    route = stage.route()

    def frame_at(number, steps):
        start = snapshot(0, *history.levels(0)) if number == 0 else None
        return start or delta(steps[number], None, *history.changes(steps[number - 1], steps[number]))

    steps = [0, *history.steps]
    order = list(range(len(steps)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(order)))
        match data.draw(st.sampled_from(["lose", "double", "swap"])):
            case "lose":
                del order[at : at + 1]
            case "double":
                order[at:at] = order[at : at + 1]
            case "swap":
                order[at : at + 2] = reversed(order[at : at + 2])
    stage.connect()
    for number in order:
        events = stage.say(FrameSeq(number + 1), frame_at(number, steps))
        if stage.closing:
            events += stage.reconnect(stage.closing)
            truth = history.levels(steps[number])
            events += stage.say(FrameSeq(number + 1), snapshot(steps[number], *truth))
        for event in events:
            replica.take(event)
        assert (replica.book is not None) == route.is_published_valid == route.book_sync.usable
        if route.is_published_valid:
            held = route.book_sync.snapshot("refresh")
            assert replica.book == history.truth(held.venue_seq)
            assert (levels_of(held.bids), levels_of(held.asks)) == replica.book


# --- time ---------------------------------------------------------------------------------------------------------


def test_ticks_are_looked_at_every_fifty_milliseconds():
    stage = Stage(ping_s=0.01)
    stage.connect()
    for _ in range(100):
        stage.now += NS // 1000
        stage.tick()
    assert stage.sent().count(b"ping") in {1, 2}


def test_what_the_connection_needs_to_know(stage):
    assert stage.session.carries_books
    assert stage.session.limits is stage.venue.limits
    assert [route.symbol for route in stage.session.book_streams] == [BTC.symbol, ETH.symbol]
    bookless = Stage(FakeVenue(streams={Stream.MARK: 1.0}))
    assert not bookless.session.carries_books
    assert bookless.session.book_streams == []
    assert not bookless.take(FetchBook)


def test_snapshot_that_repeats_is_published_each_time(live):
    assert isinstance(live.say(snapshot(2))[0], BookSnapshot)
    assert live.say(snapshot(2))[0].cause == "refresh"
