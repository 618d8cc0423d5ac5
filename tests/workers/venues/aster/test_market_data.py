"""Aster: its frames, its listings, its connections and its polls, on messages in the documented shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Liquidation, Mark, Trade
from ipc.health import Reason, Stream
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.aster.market_data import Aster
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import (
    Ack,
    InvalidBook,
    Item,
    Keepalive,
    Poll,
    Refused,
    Resync,
    Rule,
    SoftResync,
    Unsubscribed,
    VenueLimits,
)

ASTER = Aster()
BTC = Listing("BTC", "BTCUSDT", "BTCUSDT", funding_interval_s=28_800, quote="USDT")
ETH = Listing("ETH", "ETHUSDT", "ETHUSDT", funding_interval_s=14_400, quote="USDT")
MARKETS = {"BTCUSDT": BTC, "ETHUSDT": ETH}
MS = 1_000_000

DEPTH = {
    "e": "depthUpdate",
    "E": 1_760_000_000_120,
    "T": 1_760_000_000_100,
    "s": "BTCUSDT",
    "U": 9_000_000_210,
    "u": 9_000_000_260,
    "pu": 9_000_000_150,
    "b": [["64000.1", "0.250"], ["64000.0", "0.000"]],
    "a": [["64000.2", "1.5"]],
}
TICKER = {
    "e": "bookTicker",
    "u": 9_000_000_260,
    "s": "BTCUSDT",
    "b": "64000.1",
    "B": "0.250",
    "a": "64000.2",
    "A": "1.5",
    "T": 1_760_000_000_100,
    "E": 1_760_000_000_120,
}
TRADE = {
    "e": "aggTrade",
    "E": 1_760_000_000_120,
    "a": 345,
    "s": "BTCUSDT",
    "p": "64000.1",
    "q": "0.010",
    "f": 700,
    "l": 702,
    "T": 1_760_000_000_101,
    "m": True,
}
MARK = {
    "e": "markPriceUpdate",
    "E": 1_760_000_001_000,
    "s": "BTCUSDT",
    "p": "64001.12345678",
    "P": "64003.00000000",
    "i": "64002.5",
    "r": "0.00010000",
    "T": 1_760_011_200_000,
}
FORCE_ORDER = {
    "e": "forceOrder",
    "E": 1_760_000_000_500,
    "o": {
        "s": "BTCUSDT",
        "S": "SELL",
        "o": "LIMIT",
        "f": "IOC",
        "q": "0.020",
        "p": "63000",
        "ap": "63990.5",
        "X": "FILLED",
        "l": "0.005",
        "z": "0.020",
        "T": 1_760_000_000_490,
    },
}
KNOWN = [DEPTH, TICKER, TRADE, MARK, FORCE_ORDER]


class Offline:
    """Every market, by its wire name alone."""

    def get(self, wire: str, /) -> Listing:
        return ASTER.offline_listing(wire)


def decode(frame: Any, markets: Any = MARKETS) -> list[Item]:
    return ASTER.decode(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), False, markets)


def combined(stream: str, data: Any) -> dict[str, Any]:
    return {"stream": stream, "data": data}


def without(frame: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in frame.items() if name != key}


def poll_named(name: str, *listings: Listing) -> Poll:
    return next(poll for poll in ASTER.polls(listings) if poll.name == name)


def body(answer: Any) -> bytes:
    return json.dumps(answer).encode()


# --- books --------------------------------------------------------------------------------------------------------


def test_depth_update_is_a_delta_in_the_venues_order_and_text():
    assert decode(combined("btcusdt@depth@100ms", DEPTH)) == [
        BookDelta(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_000_100 * MS,
            [("64000.1", "0.250"), ("64000.0", "0.000")],
            [("64000.2", "1.5")],
            9_000_000_260,
            9_000_000_150,
            9_000_000_210,
        )
    ]


def test_raw_depth_update_is_a_delta_too():
    assert decode(DEPTH) == decode(combined("btcusdt@depth@100ms", DEPTH))


@pytest.mark.parametrize("stream", ["btcusdt@depth", "btcusdt@depth@500ms", "btcusdt@depth@100ms"])
def test_streams_of_changes_give_deltas(stream: str):
    assert isinstance(decode(combined(stream, DEPTH))[0], BookDelta)


@pytest.mark.parametrize(
    ("stream", "depth"), [("btcusdt@depth5", 5), ("btcusdt@depth10@500ms", 10), ("btcusdt@depth20@100ms", 20)]
)
def test_partial_depth_is_a_snapshot_best_first(stream: str, depth: int):
    upwards = {**DEPTH, "b": [["9", "1"], ["10.5", "2"]], "a": [["12", "3"], ["11", "4"]]}
    assert decode(combined(stream, upwards)) == [
        BookSnapshot(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_000_100 * MS,
            [("10.5", "2"), ("9", "1")],
            [("11", "4"), ("12", "3")],
            depth,
            9_000_000_260,
        )
    ]


@pytest.mark.parametrize("side", [{"b": [], "a": []}, {"b": None, "a": None}, {}])
def test_delta_without_levels_still_advances_the_sequence(side: dict[str, Any]):
    (delta,) = decode({**without(without(DEPTH, "b"), "a"), **side})
    assert isinstance(delta, BookDelta)
    assert (delta.bids, delta.asks, delta.venue_seq, delta.prev_venue_seq) == ([], [], 9_000_000_260, 9_000_000_150)


@pytest.mark.parametrize("key", ["s", "U", "u", "pu"])
def test_depth_update_without_its_numbers_is_malformed(key: str):
    assert f"`{key}`" in error_of(decode, without(DEPTH, key))


@pytest.mark.parametrize("level", [["64000.1"], ["64000.1", 0.25], ["64000.1", None], "64000.1", ["1", "2", "3"]])
def test_book_with_a_level_that_is_no_pair_of_texts_is_invalid(level: Any):
    for frame in ({**DEPTH, "a": [level]}, combined("btcusdt@depth@100ms", {**DEPTH, "a": [level]})):
        (item,) = decode(frame)
        assert isinstance(item, InvalidBook)
        assert (item.listing, item.stream) == (BTC, Stream.BOOK)
        assert "a[0]" in item.error


def test_partial_depth_with_a_price_that_is_no_number_is_invalid():
    assert "cheap" in error_of(decode, combined("btcusdt@depth5", {**DEPTH, "b": [["cheap", "1"]]}))


# --- best bid and offer, trades, liquidations ---------------------------------------------------------------------


def test_book_ticker():
    assert decode(combined("btcusdt@bookTicker", TICKER)) == [
        Bbo("aster", "BTC-PERP", "BTCUSDT", 1_760_000_000_100 * MS, "64000.1", "0.250", "64000.2", "1.5")
    ]


@pytest.mark.parametrize(("price", "size"), [("", ""), (None, None), ("", "1.5"), ("0.0", "0.000"), ("0", "0")])
def test_missing_side_of_book_ticker_is_none_for_price_and_size(price: str | None, size: str | None):
    """An empty side is none, and never a bid of zero."""
    (bbo,) = decode({**TICKER, "b": price, "B": size})
    assert isinstance(bbo, Bbo)
    assert (bbo.bid_price, bbo.bid_size, bbo.ask_price, bbo.ask_size) == (None, None, "64000.2", "1.5")


@pytest.mark.parametrize(("is_buyer_maker", "side"), [(True, "sell"), (False, "buy")])
def test_aggressor_is_the_one_who_was_not_the_maker(is_buyer_maker, side: str):
    (trade,) = decode(combined("btcusdt@aggTrade", {**TRADE, "m": is_buyer_maker}))
    assert trade == Trade(
        "aster", "BTC-PERP", "BTCUSDT", 1_760_000_000_101 * MS, "64000.1", "0.010", side, "345", "trade"
    )


def test_liquidation_takes_the_filled_size_at_the_average_price():
    assert decode(combined("btcusdt@forceOrder", FORCE_ORDER)) == [
        Liquidation(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_000_490 * MS,
            "63990.5",
            "0.020",
            "sell",
            "1760000000490:BTCUSDT:0.020",
        )
    ]


def test_liquidation_of_a_short_buys():
    (liquidation,) = decode({**FORCE_ORDER, "o": {**FORCE_ORDER["o"], "S": "BUY"}})
    assert isinstance(liquidation, Liquidation)
    assert liquidation.side == "buy"


def test_liquidation_order_that_filled_nothing_is_no_event():
    assert decode({**FORCE_ORDER, "o": {**FORCE_ORDER["o"], "z": "0.000", "ap": "0"}}) == []


def test_side_that_is_neither_is_malformed():
    with pytest.raises(DecodeError, match="malformed forceOrder"):
        decode({**FORCE_ORDER, "o": {**FORCE_ORDER["o"], "S": "BOTH"}})


# --- mark and funding ---------------------------------------------------------------------------------------------


def test_mark_price_carries_mark_index_and_the_running_rate():
    assert decode(combined("btcusdt@markPrice@1s", MARK)) == [
        Mark(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_001_000 * MS,
            "64001.12345678",
            "64002.5",
            "index",
            None,
            None,
        ),
        Funding(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_001_000 * MS,
            "0.0001",
            "0.00010000",
            "fraction_per_interval",
            28_800,
            "0.000100000000",
            1_760_011_200_000 * MS,
            "predicted",
            "mark",
        ),
    ]


def funding_of(frame: dict[str, Any], markets: Any = MARKETS) -> Funding:
    funding = decode(frame, markets)[1]
    assert isinstance(funding, Funding)
    return funding


def test_rate_of_a_four_hour_market_doubles_over_eight_hours():
    funding = funding_of({**MARK, "s": "ETHUSDT", "r": "-0.00012500"})
    assert (funding.rate, funding.interval_s, funding.rate_8h) == ("-0.000125", 14_400, "-0.000250000000")


def test_interval_is_not_guessed_offline():
    funding = funding_of(MARK, Offline())
    assert (funding.symbol, funding.rate) == ("BTC-PERP", "0.0001")
    assert (funding.interval_s, funding.rate_8h) == (None, None)


@pytest.mark.parametrize("missing", ["", None])
def test_empty_rate_is_none_and_never_zero(missing: str | None):
    funding = funding_of({**MARK, "r": missing})
    assert (funding.rate, funding.rate_native, funding.rate_8h) == (None, None, None)


def test_rate_of_zero_stays_zero():
    funding = funding_of({**MARK, "r": "0"})
    assert (funding.rate, funding.rate_native, funding.rate_8h) == ("0", "0", "0.000000000000")


def test_mark_price_without_a_rate_field_gives_no_funding():
    assert [type(event) for event in decode(without(MARK, "r"))] == [Mark]


def test_next_funding_time_of_zero_is_unknown():
    assert funding_of({**MARK, "T": 0}).next_funding_ns is None


@pytest.mark.parametrize("rate", ["soon", "NaN", "Infinity", "1" * 40])
def test_rate_that_is_no_finite_number_is_malformed(rate: str):
    with pytest.raises(DecodeError, match="not a funding rate"):
        decode({**MARK, "r": rate})


@pytest.mark.parametrize(("prices", "expected"), [({"p": "", "i": ""}, (None, None, None)), ({"i": None}, None)])
def test_empty_prices_are_none(prices: dict[str, Any], expected: tuple[None, None, None] | None):
    mark = decode({**MARK, **prices})[0]
    assert isinstance(mark, Mark)
    assert (mark.mark_price, mark.index_price, mark.index_kind) == (expected or ("64001.12345678", None, None))


# --- times and markets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [DEPTH, TICKER, TRADE], ids=lambda frame: str(frame["e"]))
@pytest.mark.parametrize("unknown", [{"T": 0}, {"T": None}])
def test_matching_time_gives_way_to_push_time(frame: dict[str, Any], unknown: dict[str, Any]):
    (event,) = decode({**frame, **unknown})
    assert isinstance(event, Event)
    assert event.exchange_ns == 1_760_000_000_120 * MS


@pytest.mark.parametrize("frame", [DEPTH, TICKER, TRADE], ids=lambda frame: str(frame["e"]))
def test_frame_without_times_has_none(frame: dict[str, Any]):
    (event,) = decode(without(without(frame, "T"), "E"))
    assert isinstance(event, Event)
    assert event.exchange_ns is None


@pytest.mark.parametrize("frame", KNOWN, ids=lambda frame: str(frame["e"]))
def test_market_that_is_not_ours_is_left_out(frame: dict[str, Any]):
    assert decode(frame, {}) == []


@pytest.mark.parametrize(
    ("wire", "symbol", "multiplier"),
    [
        ("BTCUSDT", "BTC-PERP", 1),
        ("1000PEPEUSDT", "PEPE-PERP", 1000),
        ("1000000MOGUSDT", "MOG-PERP", 1_000_000),
        ("1INCHUSDT", "1INCH-PERP", 1),
        ("BTCUSD1", None, 1),
        ("SHIELDBTCUSD", None, 1),
        ("BTCUSDT_260327", None, 1),
        ("TESTUSDT", None, 1),
        ("", None, 1),
    ],
)
def test_offline_name_of_a_market(wire: str, symbol: str | None, multiplier: int):
    listing = ASTER.offline_listing(wire)
    assert (listing.symbol, listing.multiplier, listing.venue_symbol) == (symbol, multiplier, wire)
    assert listing.funding_interval_s is None


# --- arrays, replies and noise ------------------------------------------------------------------------------------


def test_array_of_all_markets_gives_the_events_of_ours():
    rows = [MARK, {**MARK, "s": "DOGEUSDT"}, {**MARK, "s": "ETHUSDT"}]
    for frame in (rows, combined("!markPrice@arr@1s", rows)):
        events = [event for event in decode(frame) if isinstance(event, Event)]
        assert [(type(event), event.symbol) for event in events] == [
            (Mark, "BTC-PERP"),
            (Funding, "BTC-PERP"),
            (Mark, "ETH-PERP"),
            (Funding, "ETH-PERP"),
        ]


def test_book_tickers_of_all_markets_come_one_by_one():
    assert decode(combined("!bookTicker", TICKER)) == decode(TICKER)


@pytest.mark.parametrize(
    "frame",
    [
        combined("btcusdt@tradepro", {"e": "tradepro", "s": "BTCUSDT", "p": "1", "q": "1", "m": ["hidden", "0x1"]}),
        {"e": "kline", "E": 1, "s": "BTCUSDT", "k": {"t": 1, "x": False}},
        combined("!ticker@arr", [{"e": "24hrTicker", "s": "BTCUSDT", "c": "1"}]),
        [{"e": "24hrMiniTicker", "s": "BTCUSDT", "c": "1"}],
        {"e": "ORDER_TRADE_UPDATE", "E": 1, "o": {"s": "BTCUSDT"}},
        {"e": "listenKeyExpired", "E": 1},
        {"result": ["btcusdt@aggTrade"], "id": 3},
        {"result": True, "id": 5},
        [],
    ],
    ids=lambda frame: str(frame)[:40],
)
def test_frames_of_no_interest_decode_to_nothing(frame: Any):
    assert decode(frame) == []


@pytest.mark.parametrize("frame", [{"result": None, "id": 7}, {"id": 7, "result": None}])
def test_acknowledgement_names_the_request(frame: dict[str, Any]):
    assert decode(frame) == [Ack("id:7")]


def test_acknowledgements_tell_subscribing_from_unsubscribing():
    (connection,) = ASTER.connections([BTC], "ws://host", {})
    for subscription in connection.subscriptions:
        for message, expected in ((subscription.subscribe, Ack), (subscription.unsubscribe, Unsubscribed)):
            assert message is not None
            (reply,) = decode({"result": None, "id": json.loads(message)["id"]})
            assert reply == expected(str(subscription.alias))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"code": 2, "msg": "Invalid request"}, Refused("2: Invalid request")),
        ({"code": 0, "msg": "Unknown property", "id": 4}, Refused("0: Unknown property", "id:4")),
        ({"code": -1121, "msg": "Invalid symbol."}, Refused("-1121: Invalid symbol.", None, Reason.UNKNOWN_MARKET)),
        ({"code": -1003, "msg": "Too many"}, Refused("-1003: Too many", None, Reason.RATE_LIMITED)),
        ({"error": {"code": 2, "msg": "Invalid"}, "id": 1004}, Refused("2: Invalid", "id:4")),
    ],
)
def test_error_frames_are_refusals(frame: dict[str, Any], expected: Refused):
    assert decode(frame) == [expected]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"hello",
        b"{",
        b"5",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"stream":"a","data":' * 100_000,
        b"{}",
        b"[5]",
        b'{"stream":"btcusdt@depth","data":null}',
        b'{"stream":"btcusdt@depth","data":{"s":"BTCUSDT"}}',
        b'[{"e":"markPriceUpdate"}]',
        b'{"stream":"!markPrice@arr","data":[{"e":"markPriceUpdate","s":"BTCUSDT","p":5}]}',
    ],
    ids=lambda frame: repr(frame[:40]),
)
def test_noise_is_an_error(frame: bytes):
    assert error_of(decode, frame)


def test_events_do_not_change_with_the_buffer_they_came_in():
    for frame in KNOWN:
        buffer = bytearray(json.dumps(combined("btcusdt@depth5", frame)).encode())
        items = ASTER.decode(memoryview(buffer), False, MARKETS)
        before = msgspec.json.encode(items)
        buffer[:] = b"x" * len(buffer)
        assert msgspec.json.encode(items) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("0.1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("esbapqrTEUu"), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), frame=st.sampled_from(KNOWN), is_combined=st.booleans())
@settings(deadline=None)
def test_no_changed_field_raises_anything_but_a_value_error(data: st.DataObject, frame: dict[str, Any], is_combined):
    changed = {**frame, data.draw(st.sampled_from(sorted(frame))): data.draw(JSON)}
    try:
        items = decode(combined("btcusdt@depth20", changed) if is_combined else changed)
    except ValueError:
        return
    assert all(isinstance(item, Event | Ack | Unsubscribed | Refused | InvalidBook | InvalidRow) for item in items)


@given(frame=st.sampled_from(KNOWN), at=st.floats(0, 1), byte=st.integers(0, 255), is_cut=st.booleans())
@settings(deadline=None)
def test_no_changed_byte_raises_anything_but_a_value_error(frame: dict[str, Any], at: float, byte: int, is_cut):
    payload = bytearray(json.dumps(combined("btcusdt@depth20", frame)).encode())
    position = int(at * (len(payload) - 1))
    payload[position] = byte
    try:
        decode(bytes(payload[:position] if is_cut else payload))
    except ValueError:
        return


# --- listings -----------------------------------------------------------------------------------------------------


def symbol(name: str, status: str = "TRADING", **more: Any) -> dict[str, Any]:
    return {
        "symbol": name,
        "contractType": "PERPETUAL",
        "status": status,
        "baseAsset": name.removesuffix("USDT"),
        "marginAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "1"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"},
            {"filterType": "MARKET_LOT_SIZE", "stepSize": "1"},
            {"filterType": "PERCENT_PRICE", "multiplierDecimal": 4},
        ],
        **more,
    }


def listings(*symbols: dict[str, Any], funding: Any = ()) -> dict[str, Listing]:
    parsed = ASTER.parse_listings([body({"symbols": list(symbols)}), body(list(funding))])
    return {str(listing.symbol): listing for listing in parsed}


def test_listing_takes_its_steps_from_the_filters_and_its_interval_from_funding_info():
    hours = [{"symbol": "BTCUSDT", "fundingIntervalHours": 8, "fundingFeeCap": None}]
    assert listings(symbol("BTCUSDT"), funding=hours)["BTC-PERP"] == Listing(
        "BTC",
        "BTCUSDT",
        "BTCUSDT",
        tick="0.10",
        lot="0.001",
        quote="USDT",
        funding_interval_s=28_800,
        status="active",
    )


@pytest.mark.parametrize("funding", [(), [{"symbol": "BTCUSDT", "fundingIntervalHours": None}]])
def test_interval_that_the_venue_does_not_say_is_unknown(funding: Any):
    assert listings(symbol("BTCUSDT"), funding=funding)["BTC-PERP"].funding_interval_s is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("TRADING", "active"),
        ("SETTLING", "delisted"),
        ("CLOSE", "delisted"),
        ("PENDING_TRADING", "halted"),
        ("PRE_SETTLE", "halted"),
    ],
)
def test_status_of_a_listing(status: str, expected: str):
    assert listings(symbol("BTCUSDT", status))["BTC-PERP"].status == expected


def test_only_perpetuals_in_usdt_are_listed():
    listed = listings(
        symbol("BTCUSDT"),
        symbol("ETHUSDT", contractType=""),
        symbol("BTCUSD1", marginAsset="USD1"),
        symbol("SOLUSDT", marginAsset="USD1"),
        symbol("BNBUSDT_260327", contractType="CURRENT_QUARTER"),
        symbol("LTCUSDT", contractType="CURRENT_QUARTER"),
        symbol("TESTABCUSDT"),
    )
    assert sorted(listed) == ["BTC-PERP", "ETH-PERP"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([symbol("1000PEPEUSDT"), symbol("PEPEUSDT")], "PEPEUSDT"),
        ([symbol("1000PEPEUSDT"), symbol("PEPEUSDT", "CLOSE")], "1000PEPEUSDT"),
        ([symbol("PEPEUSDT", "PRE_SETTLE"), symbol("1000PEPEUSDT")], "PEPEUSDT"),
        ([symbol("1000PEPEUSDT", "CLOSE")], "1000PEPEUSDT"),
    ],
)
def test_one_listing_a_base(rows: list[dict[str, Any]], expected: str):
    assert [listing.wire for listing in listings(*rows).values()] == [expected]


@pytest.mark.parametrize(
    "bodies",
    [
        [{"code": -1003, "msg": "Too many requests"}, []],
        [{"symbols": []}, {"code": -1003, "msg": "Too many requests"}],
    ],
)
def test_wrong_answer_is_no_market_list(bodies: list[Any]):
    with pytest.raises(DecodeError, match="malformed answer to"):
        ASTER.parse_listings([body(answer) for answer in bodies])


def test_web_page_is_no_market_list():
    with pytest.raises(DecodeError, match="malformed answer to exchangeInfo"):
        ASTER.parse_listings([b"<html>busy</html>", b"[]"])


def test_listing_requests_and_their_answers_go_together():
    assert [request.path for request in ASTER.listing_requests()] == ["/fapi/v3/exchangeInfo", "/fapi/v3/fundingInfo"]


# --- connections --------------------------------------------------------------------------------------------------


def test_one_connection_subscribes_everything_through_its_url():
    (connection,) = ASTER.connections([BTC, ETH], "wss://host", {})
    streams = [f"{name}@{kind}" for name in ("btcusdt", "ethusdt") for kind in (
        "depth@100ms", "bookTicker", "aggTrade", "markPrice@1s", "forceOrder")]  # fmt: skip
    assert (connection.name, connection.in_url) == ("main", True)
    assert connection.url == "wss://host/stream?streams=" + "/".join(streams)
    assert [subscription.key for subscription in connection.subscriptions] == streams


def test_single_channel_can_be_subscribed_by_message():
    (connection,) = ASTER.connections([BTC, ETH], "wss://host", {})
    mark = connection.subscriptions[8]
    assert (mark.key, mark.symbol, mark.alias) == ("ethusdt@markPrice@1s", "ETH-PERP", "id:9")
    assert mark.streams == (Stream.MARK, Stream.FUNDING)
    assert json.loads(mark.subscribe or b"") == {"method": "SUBSCRIBE", "params": ["ethusdt@markPrice@1s"], "id": 9}
    assert json.loads(mark.unsubscribe or b"")["method"] == "UNSUBSCRIBE"


def test_connection_carries_forty_markets_at_most():
    many = [Listing(f"C{number}", f"C{number}USDT", f"C{number}USDT") for number in range(81)]
    connections = ASTER.connections(many, "wss://host", {})
    assert [connection.name for connection in connections] == ["main", "main.2", "main.3"]
    assert [len(connection.subscriptions) for connection in connections] == [200, 200, 5]
    for connection in connections:
        assert len({subscription.alias for subscription in connection.subscriptions}) == len(connection.subscriptions)


def test_without_markets_there_is_nothing_to_connect_or_poll():
    assert ASTER.connections([], "wss://host", {}) == ()
    assert ASTER.polls([]) == ()


def test_declared_streams_are_those_that_connections_carry():
    (connection,) = ASTER.connections([BTC], "wss://host", {})
    assert {stream for one in connection.subscriptions for stream in one.streams} == set(ASTER.streams)


def test_lost_update_fetches_a_new_snapshot():
    assert (ASTER.continuity.rule, ASTER.continuity.resync) == (Rule.BRIDGE, Resync.REFETCH)
    assert ASTER.continuity.soft_resync == SoftResync(after_s=2.0, cooldown_s=7.0)
    assert ASTER.continuity.silence_s == {}


def test_limits_and_cadences_of_the_venue():
    assert ASTER.keepalive == Keepalive(interval_s=30.0, ping=None, pong_within_s=10.0)
    assert ASTER.limits == VenueLimits(
        burst=5,
        messages_per_s=5.0,
        rest_weight_per_min=2400,
        max_age_s=86_400.0,
        messages_per_address=False,
        max_frame_bytes=16 * 1024 * 1024,
    )
    assert ASTER.streams == {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
        Stream.LIQUIDATION: None,
    }
    assert (ASTER.has_rest_book, ASTER.replays_trades, ASTER.options) == (True, False, {})


def test_weights_of_the_requests():
    polls = [poll.request(0).weight for poll in ASTER.polls([BTC])]
    assert [request.weight for request in ASTER.listing_requests()] == [1, 1]
    assert (ASTER.book_request(BTC).weight, polls) == (20, [1, 1, 1])


def test_unsubscribe_has_an_id_of_its_own_and_the_alias_of_its_subscribe():
    (connection,) = ASTER.connections([BTC], "wss://host", {})
    first = connection.subscriptions[0]
    assert json.loads(first.unsubscribe or b"")["id"] == 1001
    assert decode({"result": None, "id": 1001}) == [Unsubscribed("id:1")]
    assert decode({"result": None, "id": 1000}) == [Ack("id:0")]


# --- REST ---------------------------------------------------------------------------------------------------------


def premium(name: str, rate: Any, **more: Any) -> dict[str, Any]:
    return {
        "symbol": name,
        "markPrice": "64001.1",
        "indexPrice": "64002.2",
        "lastFundingRate": rate,
        "nextFundingTime": 1_760_011_200_000,
        "time": 1_760_000_001_000,
        **more,
    }


def test_running_rates_of_all_markets_come_in_one_request():
    poll = poll_named("predicted", BTC, ETH)
    assert (poll.stream, poll.period_s, poll.symbols) == (Stream.FUNDING_POLL, None, ("BTC-PERP", "ETH-PERP"))
    request = poll.request(0)
    assert (request.path, request.weight) == ("/fapi/v3/premiumIndex", 1)
    events = poll.parse(body([premium("ETHUSDT", "0.0002"), premium("AAPLUSD", "0"), premium("BTCUSDT", "")]))
    assert events == [
        Funding(
            "aster",
            "ETH-PERP",
            "ETHUSDT",
            1_760_000_001_000 * MS,
            "0.0002",
            "0.0002",
            "fraction_per_interval",
            14_400,
            "0.000400000000",
            1_760_011_200_000 * MS,
            "predicted",
            "mark",
            "rest",
        ),
        Funding(
            "aster",
            "BTC-PERP",
            "BTCUSDT",
            1_760_000_001_000 * MS,
            None,
            None,
            "fraction_per_interval",
            28_800,
            None,
            1_760_011_200_000 * MS,
            "predicted",
            "mark",
            "rest",
        ),
    ]


def test_single_market_asks_for_itself_alone():
    poll = poll_named("predicted", BTC)
    assert poll.request(0).path == "/fapi/v3/premiumIndex?symbol=BTCUSDT"
    (funding,) = poll.parse(body(premium("BTCUSDT", "0.0001")))
    assert isinstance(funding, Funding)
    assert funding.rate == "0.0001"


def test_row_without_a_rate_gives_no_funding():
    row = without(premium("BTCUSDT", ""), "lastFundingRate")
    assert poll_named("predicted", BTC, ETH).parse(body([row])) == []


def test_open_interest_is_a_mark_that_carries_nothing_else():
    poll = poll_named("open_interest.BTC-PERP", BTC, ETH)
    assert (poll.stream, poll.period_s, poll.symbols) == (Stream.MARK, 30.0, ("BTC-PERP",))
    assert poll.request(0).path == "/fapi/v1/openInterest?symbol=BTCUSDT"
    answer = {"symbol": "BTCUSDT", "openInterest": "1234.567", "time": 1_760_000_000_000}
    assert poll.parse(body(answer)) == [
        Mark("aster", "BTC-PERP", "BTCUSDT", 1_760_000_000_000 * MS, None, None, None, "1234.567", None)
    ]


def test_settled_rate_is_the_newest_of_the_history():
    poll = poll_named("settled.BTC-PERP", BTC, ETH)
    assert (poll.stream, poll.period_s) == (Stream.FUNDING_POLL, 600.0)
    assert poll.request(0).path == "/fapi/v3/fundingRate?symbol=BTCUSDT&limit=1"
    rows = [
        {"symbol": "BTCUSDT", "fundingRate": "-0.00010000", "fundingTime": 1_760_025_600_000},
        {"symbol": "BTCUSDT", "fundingRate": "0.00030000", "fundingTime": 1_759_996_800_000},
    ]
    (funding,) = poll.parse(body(rows))
    assert isinstance(funding, Funding)
    assert (funding.rate, funding.rate_8h) == ("-0.0001", "-0.000100000000")
    assert (funding.exchange_ns, funding.next_funding_ns) == (1_760_025_600_000 * MS, None)
    assert (funding.phase, funding.source) == ("settled", "rest")


def test_settled_rate_of_another_market_is_an_invalid_row():
    row = {"symbol": "ETHUSDT", "fundingRate": "0.0001", "fundingTime": 1}
    (invalid,) = poll_named("settled.BTC-PERP", BTC).parse(body([row]))
    assert isinstance(invalid, InvalidRow)
    assert (invalid.what, invalid.error) == ("fundingRate", "a row about ETHUSDT in an answer about BTCUSDT")


def test_market_without_a_payment_yet_has_no_settled_rate():
    assert poll_named("settled.BTC-PERP", BTC).parse(b"[]") == []


ERROR_BODY = body({"code": -1121, "msg": "Invalid symbol."})


@pytest.mark.parametrize("poll", ASTER.polls([BTC, ETH]), ids=lambda poll: poll.name)
@pytest.mark.parametrize("answer", [ERROR_BODY, b"<html></html>", b"", b"null"])
def test_wrong_answer_to_a_poll_is_an_error(poll: Poll, answer: bytes):
    assert error_of(poll.parse, answer)


def test_open_interest_of_another_market_is_a_decode_error():
    with pytest.raises(DecodeError, match="ETHUSDT"):
        poll_named("open_interest.BTC-PERP", BTC).parse(body({"symbol": "ETHUSDT", "openInterest": "1", "time": 1}))


def test_rest_book_joins_the_stream_by_its_last_update_id():
    request = ASTER.book_request(BTC)
    assert (request.path, request.weight) == ("/fapi/v3/depth?symbol=BTCUSDT&limit=1000", 20)
    answer = {
        "lastUpdateId": 9_000_000_200,
        "E": 1_760_000_000_020,
        "T": 1_760_000_000_010,
        "bids": [["64000.1", "0.250"], ["63999.9", "1"]],
        "asks": [],
    }
    assert ASTER.parse_book(body(answer), BTC) == BookSnapshot(
        "aster",
        "BTC-PERP",
        "BTCUSDT",
        1_760_000_000_010 * MS,
        [("64000.1", "0.250"), ("63999.9", "1")],
        [],
        1000,
        9_000_000_200,
    )


@pytest.mark.parametrize(
    "answer",
    [ERROR_BODY, b"<html></html>", b'{"bids":[],"asks":[]}', b'{"lastUpdateId":1,"bids":[["x",1]],"asks":[]}'],
)
def test_wrong_answer_is_no_book(answer: bytes):
    with pytest.raises(DecodeError, match="malformed answer to depth"):
        ASTER.parse_book(answer, BTC)


def test_interval_that_changes_while_connected_is_that_of_the_next_frame():
    (plan,) = ASTER.connections([BTC], ASTER.ws_url, {})
    session = MarketSession(ASTER, plan, [BTC], Policy(10**10, 10**10, 10**10))
    session.opened(MS)
    frame = body(combined("btcusdt@markPrice@1s", MARK))
    intervals = []
    for listing in (BTC, replace(BTC, funding_interval_s=14_400)):
        session.update_listings([listing])
        told = [event for _, event in session.received(False, frame, 2 * MS)]
        intervals += [event.interval_s for event in told if isinstance(event, Funding)]
    assert intervals == [28_800, 14_400]


# --- being asked to wait ------------------------------------------------------------------------------------------

#: Twenty seconds into a minute.
NOW_MS = 1_760_000_000_000
MINUTE_LEFT_S = 40.0


@pytest.mark.parametrize(
    ("status", "text", "wait_s"),
    [
        (429, "Too many requests; current limit is 2400 requests per minute.", MINUTE_LEFT_S),
        (418, f"Way too many requests; IP banned until {NOW_MS + 600_000}.", 600.0),
        (429, f"Way too many requests; IP banned until {NOW_MS + 600_000}.", 600.0),
        (418, "I'm a teapot", 120.0),
        (418, f"IP banned until {NOW_MS - 5}", 1.0),
        (503, "Service unavailable", None),
        (400, "Invalid symbol.", None),
    ],
)
def test_over_the_limit_it_waits_for_the_next_minute_and_banned_until_the_ban_ends(status, text, wait_s):
    """Asking on over the limit is what leads to the ban, and asking on during a ban what makes it longer."""
    assert ASTER.retry_after_s(status, body({"code": -1003, "msg": text}), NOW_MS) == wait_s


def test_wait_for_a_ban_is_an_hour_at_most():
    text = "IP banned until 9999999999999"
    assert ASTER.retry_after_s(418, body({"code": -1003, "msg": text}), NOW_MS) == 3600.0


@pytest.mark.parametrize("page", [b"", b"<html>418</html>"])
def test_ban_by_a_page_without_an_error_is_a_ban_as_well(page):
    assert ASTER.retry_after_s(418, page, NOW_MS) == 120.0
