"""Hyperliquid: frames to events, normalised echoes, listings and REST answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookSnapshot, Event, Funding, Mark, Trade
from ipc.health import Reason, Stream
from workers.protocol.actions import Send
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.listing import Listing, Markets
from workers.venues.rows import split_rows
from workers.venues.venue import (
    Ack,
    Item,
    Keepalive,
    Pong,
    Refused,
    RestRequest,
    Resync,
    Rule,
    Unsubscribed,
    VenueLimits,
)

VENUE = Hyperliquid()
BTC = Listing("BTC", "BTC", "BTC", market_id="3", quote="USDC", funding_interval_s=3600)
PEPE = Listing("PEPE", "kPEPE", "kPEPE", market_id="15", multiplier=1000, quote="USDC", funding_interval_s=3600)
MARKETS = {listing.wire: listing for listing in (BTC, PEPE)}
HEAD = ("hyperliquid", "BTC-PERP", "BTC")
MS = 1_790_000_123_456
NS = MS * 1_000_000
SECOND = 1_000_000_000


class Offline:
    def get(self, wire: str, /) -> Listing:
        return VENUE.offline_listing(wire)


def decode(frame: Any, markets: Markets = MARKETS) -> list[Item]:
    payload = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return VENUE.decode(memoryview(payload), False, markets)


def level(price: str, size: str) -> dict[str, Any]:
    return {"px": price, "sz": size, "n": 3}


def book_frame(bids: list[Any], asks: list[Any], coin: str = "BTC", **more: Any) -> dict[str, Any]:
    return {"channel": "l2Book", "data": {"coin": coin, "time": MS, "levels": [bids, asks]} | more}


def trade(**changes: Any) -> dict[str, Any]:
    row = {"coin": "BTC", "side": "B", "px": "81000.0", "sz": "0.0002", "time": MS, "tid": 1_095_884_267_920_331}
    return row | {"hash": "0x0", "users": ["0x1", "0x2"]} | changes


def context_frame(coin: str = "BTC", **changes: Any) -> dict[str, Any]:
    context = {
        "funding": "0.0000125",
        "openInterest": "36295.80812",
        "oraclePx": "80684.7",
        "markPx": "80640.0",
        "midPx": None,
        "impactPxs": None,
    }
    return {"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": context | changes}}


# --- books ----------------------------------------------------------------------------------------------------------


def test_every_book_frame_is_a_whole_book() -> None:
    bids = [level("81000.0", "0.5"), level("80999.0", "1.0")]
    assert decode(book_frame(bids, [level("81001.0", "0.1")], fast=False)) == [
        BookSnapshot(*HEAD, NS, [("81000.0", "0.5"), ("80999.0", "1.0")], [("81001.0", "0.1")], 20, None)
    ]


@pytest.mark.parametrize(
    ("levels", "fast", "depth"),
    [(5, None, 20), (6, None, 20), (20, None, 20), (0, None, 20), (5, True, 5), (5, False, 20)],
)
def test_frame_that_is_not_marked_fast_is_the_ordinary_book(levels: int, fast: Any, depth: int) -> None:
    bids = [level(f"{81000 - index}.0", "1.0") for index in range(levels)]
    frame = book_frame(bids, [level("81001.0", "1.0")]) if fast is None else book_frame(bids, [], fast=fast)
    (event,) = decode(frame)
    assert isinstance(event, BookSnapshot)
    assert event.depth == depth


def test_depth_is_that_of_the_deeper_side() -> None:
    asks = [level(f"{81001 + index}.0", "1.0") for index in range(6)]
    (event,) = decode(book_frame([level("81000.0", "1.0")], asks))
    assert isinstance(event, BookSnapshot)
    assert event.depth == 20


def test_book20_of_a_thin_market_arrives_and_is_not_subscribed_again() -> None:
    policy = Policy(stale_ns=10 * SECOND, ping_ns=30 * SECOND, pong_ns=10 * SECOND)
    session = MarketSession(VENUE, VENUE.connections([BTC], "ws://venue", {})[0], [BTC], policy)
    session.connecting(NS)
    session.opened(NS)
    thin = ([level("81000.0", "1")], [level("81001.0", "1"), level("81002.0", "1")])
    ordinary, fast = (json.dumps(book_frame(*thin, **more)).encode() for more in ({}, {"fast": True}))
    depths: list[int | None] = []
    sent: list[bytes] = []
    for number in range(120):  # a minute, in halves of a second
        now = NS + number * SECOND // 2
        published = [] if number % 10 else session.received(False, ordinary, now)
        published += session.received(False, fast, now) + session.tick(now)
        session.ponged()
        depths += [event.depth for _, event in published if isinstance(event, BookSnapshot)]
        sent += [action.message for action in session.actions.drain() if isinstance(action, Send)]
    assert (depths.count(20), depths.count(5)) == (12, 120)
    assert not [message for message in sent if b"unsubscribe" in message]


def test_empty_book_of_a_delisted_coin_is_a_book() -> None:
    assert decode(book_frame([], [])) == [BookSnapshot(*HEAD, NS, [], [], 20, None)]


def test_nothing_of_the_buffer_is_kept() -> None:
    buffer = bytearray(json.dumps(book_frame([level("81000.0", "0.5")], [])).encode())
    (event,) = VENUE.decode(memoryview(buffer), False, MARKETS)
    buffer[:] = b" " * len(buffer)
    assert isinstance(event, BookSnapshot)
    assert event.bids == [("81000.0", "0.5")]


# --- bbo and trades -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([level("81000.0", "0.5"), level("81001.0", "0.1")], ("81000.0", "0.5", "81001.0", "0.1")),
        ([None, level("81001.0", "0.1")], (None, None, "81001.0", "0.1")),
        ([None, None], (None, None, None, None)),
    ],
)
def test_missing_side_of_the_bbo_is_none(sides: list[Any], expected: tuple[str | None, ...]) -> None:
    frame = {"channel": "bbo", "data": {"coin": "BTC", "time": MS, "bbo": sides}}
    assert decode(frame) == [Bbo(*HEAD, NS, *expected)]


def test_trades_keep_their_order_and_the_aggressors_side() -> None:
    rows = [trade(), trade(side="A", px="80999.0", tid=7), trade(coin="SOL"), trade(coin="kPEPE", tid=8)]
    assert decode({"channel": "trades", "data": rows}) == [
        Trade(*HEAD, NS, "81000.0", "0.0002", "buy", "1095884267920331"),
        Trade(*HEAD, NS, "80999.0", "0.0002", "sell", "7"),
        Trade("hyperliquid", "PEPE-PERP", "kPEPE", NS, "81000.0", "0.0002", "buy", "8"),
    ]


def test_frame_without_trades_is_empty() -> None:
    assert decode({"channel": "trades", "data": []}) == []


# --- mark and funding -----------------------------------------------------------------------------------------------


def test_context_is_mark_and_hourly_funding() -> None:
    assert decode(context_frame()) == [
        Mark(*HEAD, None, "80640.0", "80684.7", "oracle", "36295.80812", None),
        Funding(
            *HEAD,
            None,
            "0.0000125",
            "0.0000125",
            "fraction_per_interval",
            3600,
            "0.000100000000",
            None,
            "predicted",
            "oracle",
        ),
    ]


def test_null_members_of_the_context_are_none() -> None:
    mark, funding = decode(context_frame(funding=None, openInterest=None, oraclePx=None, markPx=None))
    assert mark == Mark(*HEAD, None, None, None, None, None, None)
    assert isinstance(funding, Funding)
    assert (funding.rate, funding.rate_native, funding.rate_8h) == (None, None, None)


def test_rate_that_is_empty_is_none_and_not_zero() -> None:
    funding = decode(context_frame(funding=""))[1]
    assert isinstance(funding, Funding)
    assert (funding.rate, funding.rate_native, funding.rate_8h) == (None, None, None)


@pytest.mark.parametrize("rubbish", ["abc", "NaN", "1e40"])
def test_rate_that_is_no_rate_is_malformed(rubbish: str) -> None:
    with pytest.raises(DecodeError):
        decode(context_frame(funding=rubbish))


def test_context_without_a_rate_is_no_funding() -> None:
    frame = context_frame()
    del frame["data"]["ctx"]["funding"]
    assert [type(item) for item in decode(frame)] == [Mark]


# --- markets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        book_frame([], [], coin="SOL"),
        {"channel": "bbo", "data": {"coin": "SOL", "time": MS, "bbo": [None, None]}},
        {"channel": "trades", "data": [trade(coin="SOL")]},
        context_frame("SOL"),
    ],
)
def test_market_that_is_not_ours_is_left_out(frame: dict[str, Any]) -> None:
    assert decode(frame) == []
    assert {item.symbol for item in decode(frame, Offline()) if isinstance(item, Event)} == {"SOL-PERP"}


@pytest.mark.parametrize(
    ("wire", "symbol", "multiplier"),
    [("BTC", "BTC-PERP", 1), ("kPEPE", "PEPE-PERP", 1000), ("@107", None, 1), ("xyz:XYZ100", None, 1), ("#3", None, 1)],
)
def test_names_say_what_they_can_offline(wire: str, symbol: str | None, multiplier: int) -> None:
    listing = VENUE.offline_listing(wire)
    assert (listing.symbol, listing.multiplier, listing.venue_symbol) == (symbol, multiplier, wire)


# --- control --------------------------------------------------------------------------------------------------------


def response(method: str, **subscription: Any) -> dict[str, Any]:
    return {"channel": "subscriptionResponse", "data": {"method": method, "subscription": subscription}}


@pytest.mark.parametrize("stream", [Stream.BOOK, Stream.BOOK20, Stream.BBO, Stream.TRADE, Stream.MARK])
def test_normalised_echo_acknowledges_what_was_sent(stream: Stream) -> None:
    (connection,) = VENUE.connections([BTC], "ws://venue/ws", {})
    (wanted,) = [one for one in connection.subscriptions if stream in one.streams]
    sent = json.loads(wanted.subscribe or b"")["subscription"]
    filled = {"nSigFigs": None, "mantissa": None, "fast": False} if sent["type"] == "l2Book" else {}
    echo = dict(reversed((filled | sent).items()))
    assert decode(response("subscribe", **echo)) == [Ack(wanted.key)]
    assert decode(response("unsubscribe", **echo)) == [Unsubscribed(wanted.key)]


def test_echo_of_before_the_fast_mode_acknowledges_the_full_book() -> None:
    assert decode(response("subscribe", type="l2Book", coin="BTC", nSigFigs=None, mantissa=None)) == [Ack("l2Book:BTC")]


def test_pong_has_no_data() -> None:
    assert decode({"channel": "pong"}) == [Pong()]


def test_greeting_that_is_no_json_carries_nothing() -> None:
    assert decode(b"Websocket connection established.") == []


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ('Already subscribed: {"type":"bbo","coin":"BTC"}', "bbo:BTC", None),
        ('Already unsubscribed: {"type":"l2Book","coin":"BTC","fast":true}', "l2Book:BTC:fast", None),
        ("Cannot subscribe to more than 1000 channels.", None, Reason.RATE_LIMITED),
        ("Cannot send more than 2000 messages per minute.", None, Reason.RATE_LIMITED),
        ('Invalid subscription {"type":"bbo","coin":"BTC"}', "bbo:BTC", Reason.SUBSCRIBE_ERROR),
        ("Error parsing JSON into valid websocket request: {rubbish", None, Reason.SUBSCRIBE_ERROR),
        ("too many pending post requests id=1234", None, Reason.RATE_LIMITED),
    ],
)
def test_errors_quote_their_subscription(text: str, key: str | None, reason: Reason | None) -> None:
    assert decode({"channel": "error", "data": text}) == [Refused(text, key, reason, fatal="per minute" in text)]


@pytest.mark.parametrize(
    "frame",
    [
        {"channel": "allMids", "data": {"mids": {"BTC": "81000.5"}}},
        {"channel": "candle", "data": {"s": "BTC", "n": 1}},
        {"channel": "activeSpotAssetCtx", "data": {"coin": "@107", "ctx": {"markPx": "1"}}},
        {"channel": "user", "data": {"fills": []}},
        {"channel": "orderUpdates", "data": []},
        {"channel": "post", "data": {"id": 1, "response": {"type": "error", "payload": "x"}}},
        {"channel": "somethingNew"},
    ],
)
def test_other_channels_carry_nothing(frame: dict[str, Any]) -> None:
    assert decode(frame) == []


@pytest.mark.parametrize(
    "frame",
    [
        {},
        [],
        "text",
        {"channel": "l2Book"},
        {"channel": "l2Book", "data": {"coin": "BTC", "time": MS}},
        book_frame([["81000.0", "1"]], []),
        book_frame([{"px": 81000.0, "sz": "1"}], []),
        {"channel": "l2Book", "data": {"coin": "BTC", "time": MS, "levels": [[]]}},
        {"channel": "bbo", "data": {"coin": "BTC", "time": MS, "bbo": [None]}},
        {"channel": "trades", "data": [trade(tid="")]},
        {"channel": 7},
    ],
)
def test_frames_of_the_wrong_shape_are_errors(frame: Any) -> None:
    assert error_of(decode, frame)


@pytest.mark.parametrize("noise", [b"", b"\x00", b"not json", b'{"channel":"pong"', b'{"channel":"\xff"}', b"[" * 5000])
def test_noise_is_malformed(noise: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(noise)


FRAMES = [
    json.dumps(frame).encode()
    for frame in (
        book_frame([level("81000.0", "1")], [level("81001.0", "1")], fast=True),
        {"channel": "bbo", "data": {"coin": "BTC", "time": MS, "bbo": [None, level("81001.0", "0.1")]}},
        {"channel": "trades", "data": [trade(), trade(side="A")]},
        context_frame(),
        response("subscribe", type="l2Book", coin="BTC", fast=True),
        {"channel": "error", "data": 'Already subscribed: {"type":"bbo","coin":"BTC"}'},
    )
]


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 300), st.integers(0, 30), st.binary(max_size=8))
def test_damaged_frames_raise_nothing_but_decode_errors(frame, start, cut, put) -> None:
    for markets in (MARKETS, Offline()):
        try:
            VENUE.decode(frame[:start] + put + frame[start + cut :], False, markets)
        except DecodeError:
            continue


# --- listings and connections ---------------------------------------------------------------------------------------


def meta(*assets: dict[str, Any]) -> bytes:
    return json.dumps({"universe": assets, "marginTables": []}).encode()


def test_position_in_the_universe_is_the_id() -> None:
    body = meta(
        {"name": "SOL", "szDecimals": "2", "maxLeverage": 10},
        {"name": "kPEPE", "szDecimals": 0},
        {"name": "MATIC", "szDecimals": 1, "isDelisted": True},
        {"name": "OLD", "szDecimals": 1.0, "isDelisted": None},
    )
    found, invalid = split_rows(VENUE.parse_listings([body]))
    assert invalid == []
    assert [(one.symbol, one.market_id, one.lot, one.multiplier, one.status) for one in found] == [
        ("SOL-PERP", "0", "0.01", 1, "active"),
        ("OLD-PERP", "3", "0.1", 1, "active"),
        ("PEPE-PERP", "1", "1", 1000, "active"),
        ("MATIC-PERP", "2", "0.1", 1, "delisted"),
    ]
    assert {(one.tick, one.quote, one.funding_interval_s) for one in found} == {(None, "USDC", 3600)}


def test_universe_is_asked_for_by_post() -> None:
    assert VENUE.listing_requests() == (RestRequest("/info", "POST", b'{"type":"meta"}', 20),)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"<html>", b'{"universe":[{"szDecimals":1}]}'])
def test_wrong_universe_is_an_error(body: bytes) -> None:
    assert error_of(VENUE.parse_listings, [body])


def test_one_connection_carries_every_stream() -> None:
    (connection,) = VENUE.connections([BTC, PEPE], "ws://venue/ws", {})
    assert (connection.name, connection.url, connection.in_url) == ("main", "ws://venue/ws", False)
    assert {stream for one in connection.subscriptions for stream in one.streams} == set(VENUE.streams)
    assert len({one.key for one in connection.subscriptions}) == 10
    assert {one.symbol for one in connection.subscriptions} == {"BTC-PERP", "PEPE-PERP"}
    assert json.loads(connection.subscriptions[0].subscribe or b"") == {
        "method": "subscribe",
        "subscription": {"type": "l2Book", "coin": "BTC", "fast": True},
    }


def test_rules_of_the_venue() -> None:
    assert (VENUE.continuity.rule, VENUE.continuity.resync) == (Rule.SNAPSHOTS, Resync.RESUBSCRIBE)
    assert VENUE.continuity.silence_s == {Stream.BOOK: 2.0, Stream.BOOK20: 20.0}
    assert not VENUE.continuity.soft_resync
    assert VENUE.keepalive == Keepalive(interval_s=30.0, ping=b'{"method":"ping"}', pong_within_s=10.0)
    assert (VENUE.has_rest_book, VENUE.replays_trades, VENUE.options) == (True, True, {})


def test_limits_and_cadences_of_the_venue() -> None:
    assert VENUE.limits == VenueLimits(
        burst=100,
        messages_per_s=20.0,
        rest_weight_per_min=1200,
        connects_per_min=30,
        markets_on_two_lines=100,
        max_age_s=None,
        max_frame_bytes=16 * 1024 * 1024,
    )
    assert VENUE.streams == {
        Stream.BOOK: 0.5,
        Stream.BOOK20: 5.0,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
    }


def test_weights_of_the_requests() -> None:
    predicted, settled = VENUE.polls([BTC])
    requests = (*VENUE.listing_requests(), VENUE.book_request(BTC), predicted.request(MS), settled.request(MS))
    assert [request.weight for request in requests] == [20, 2, 20, 21]


# --- REST -----------------------------------------------------------------------------------------------------------


def test_one_request_polls_the_rates_of_all_coins() -> None:
    predicted, *settled = VENUE.polls([BTC, PEPE])
    assert (predicted.stream, predicted.symbols, predicted.period_s) == (
        Stream.FUNDING_POLL,
        ("BTC-PERP", "PEPE-PERP"),
        None,
    )
    assert predicted.request(MS) == RestRequest("/info", "POST", b'{"type":"predictedFundings"}', 20)
    assert [(poll.symbols, poll.period_s) for poll in settled] == [(("BTC-PERP",), 600.0), (("PEPE-PERP",), 600.0)]


def test_rate_of_the_venue_is_found_among_those_of_others() -> None:
    own = {"fundingRate": "0.0000125", "nextFundingTime": 1_790_002_800_000, "fundingIntervalHours": 1}
    other = {"fundingRate": "0.5", "nextFundingTime": 1, "fundingIntervalHours": 8}
    rows = [
        ["SOL", [["HlPerp", own]]],
        ["BTC", [["BinPerp", other], ["HlPerp", own], ["BybitPerp", None]]],
        ["kPEPE", [["BinPerp", other], ["HlPerp", None]]],
    ]
    (event,) = VENUE.polls([BTC, PEPE])[0].parse(json.dumps(rows).encode())
    assert event == Funding(
        *HEAD,
        None,
        "0.0000125",
        "0.0000125",
        "fraction_per_interval",
        3600,
        "0.000100000000",
        1_790_002_800_000_000_000,
        "predicted",
        "oracle",
        "rest",
    )


def test_interval_of_the_prediction_is_the_venues() -> None:
    own = {"fundingRate": "0.0001", "nextFundingTime": None, "fundingIntervalHours": 8}
    (event,) = VENUE.polls([BTC])[0].parse(json.dumps([["BTC", [["HlPerp", own]]]]).encode())
    assert isinstance(event, Funding)
    assert (event.interval_s, event.rate_8h, event.next_funding_ns) == (28_800, "0.000100000000", None)


def test_last_settlement_is_the_newest_row() -> None:
    rows = [
        {"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.1", "time": MS - 3_600_000},
        {"coin": "BTC", "fundingRate": "-0.0000153", "premium": "0.1", "time": MS},
    ]
    poll = VENUE.polls([BTC])[1]
    (event,) = poll.parse(json.dumps(rows).encode())
    assert event == Funding(
        *HEAD,
        NS,
        "-0.0000153",
        "-0.0000153",
        "fraction_per_interval",
        3600,
        "-0.000122400000",
        None,
        "settled",
        "oracle",
        "rest",
    )
    assert poll.parse(b"[]") == []
    asked = json.loads(poll.request(MS).body or b"")
    assert (asked["type"], asked["coin"], asked["startTime"]) == ("fundingHistory", "BTC", MS - 7_200_000)


def test_settled_rate_of_another_coin_is_an_invalid_row() -> None:
    row = {"coin": "ETH", "fundingRate": "0.0000125", "time": MS}
    _, (invalid,) = split_rows(VENUE.polls([BTC])[1].parse(json.dumps([row]).encode()))
    assert (invalid.what, invalid.error) == ("fundingHistory", "a row about ETH in an answer about BTC")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"<html>502</html>", b'[{"coin":"BTC"}]', b'[["BTC",[["HlPerp",7]]]]']
)
def test_wrong_answers_to_polls_are_errors(body: bytes) -> None:
    for poll in VENUE.polls([BTC]):
        assert error_of(poll.parse, body)


def test_book_by_rest_has_twenty_levels() -> None:
    body = json.dumps(book_frame([level("81000.0", "1")], [level("81001.0", "2")])["data"]).encode()
    assert VENUE.parse_book(body, BTC) == BookSnapshot(*HEAD, NS, [("81000.0", "1")], [("81001.0", "2")], 20, None)
    assert VENUE.book_request(BTC) == RestRequest("/info", "POST", b'{"type":"l2Book","coin":"BTC"}', 2)


def test_book_of_another_coin_is_no_answer() -> None:
    body = json.dumps(book_frame([], [], coin="ETH")["data"]).encode()
    with pytest.raises(DecodeError, match="ETH"):
        VENUE.parse_book(body, BTC)


@pytest.mark.parametrize("body", [b"null", b"{}", b"<html>", b'"Failed to deserialize the JSON body"'])
def test_wrong_book_is_malformed(body: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.parse_book(body, BTC)
