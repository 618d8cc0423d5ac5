"""Paradex: both encodings to the same events, requests and their replies, listings and REST answers."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Mark, Trade
from ipc.health import Reason, Stream
from workers.venues.listing import Listing, Markets
from workers.venues.paradex.market_data import Paradex
from workers.venues.rows import split_rows
from workers.venues.venue import (
    Ack,
    Continuity,
    InvalidBook,
    Item,
    Keepalive,
    Refused,
    RestRequest,
    Resync,
    Rule,
    Unsubscribed,
    VenueLimits,
)

VENUE = Paradex()
BTC = Listing("BTC", "BTC-USD-PERP", "BTC-USD-PERP")
BONK = Listing("BONK", "kBONK-USD-PERP", "kBONK-USD-PERP", multiplier=1000, funding_interval_s=3600)
MARKETS = {listing.wire: listing for listing in (BTC, BONK)}
HEAD = ("paradex", "BTC-PERP", "BTC-USD-PERP")
MS = 1_790_000_123_456
TS = 1_790_000_123_456_789
NULL = -(2**63)


class Offline:
    def get(self, wire: str, /) -> Listing:
        return VENUE.offline_listing(wire)


def decode(frame: Any, markets: Markets = MARKETS) -> list[Item]:
    # Text frames of this venue end with a newline.
    return VENUE.decode(memoryview(json.dumps(frame).encode() + b"\n"), False, markets)


def decode_binary(payload: bytes, markets: Markets = MARKETS) -> list[Item]:
    return VENUE.decode(memoryview(payload), True, markets)


def data(channel: str, **fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": fields}}


def reply(request_id: Any, **fields: Any) -> dict[str, Any]:
    # The time is a text in some frames.
    return {"jsonrpc": "2.0", "id": request_id, "usIn": "1790000123456789", "usDiff": 113, "usOut": TS} | fields


def binary(template: int, layout: str, values: tuple[int, ...], tail: bytes, version: int = 1) -> bytes:
    block = struct.pack("<" + layout, *values)
    return struct.pack("<HHHH", len(block), template, 1, version) + block + tail


def string(value: str) -> bytes:
    return struct.pack("<B", len(value)) + value.encode()


def fixed(value: float) -> int:
    return round(value * 100_000_000)


def group(*levels: tuple[float, float]) -> bytes:
    entries = b"".join(struct.pack("<qq", fixed(price), fixed(size)) for price, size in levels)
    return struct.pack("<HH", 16, len(levels)) + entries


def sbe_book(
    package: int, bids: bytes, asks: bytes, market: str = "BTC-USD-PERP", ts: int = TS, seq: int = 41
) -> bytes:
    return binary(3, "qqB9q", (ts, seq, package, *[NULL] * 9), bids + asks + string(market))


def sbe_trade(side: int, kind: int, tail: bytes = b"", version: int = 1, created: int = TS - 5) -> bytes:
    values = (TS, 41, 12345, side, fixed(81000.5), fixed(0.25), created, kind)
    return binary(1, "qqqBqqqB", values, string("BTC-USD-PERP") + tail, version)


def sbe_funding(rate: int, hours: int, market: str = "BTC-USD-PERP", created: int = TS - 5) -> bytes:
    return binary(5, "7qh", (TS, 41, rate, 1, created, 2, 3, hours), string(market))


def sbe_summary(mark: int, index: int, open_interest: int, market: str = "BTC-USD-PERP") -> bytes:
    return binary(4, "27q", (TS, 41, mark, index, 3, 4, open_interest, *range(20)), string(market))


def sbe_bbo(bid_price: int, bid_size: int, ask_price: int, ask_size: int) -> bytes:
    return binary(2, "6q", (TS, 41, bid_price, bid_size, ask_price, ask_size), string("BTC-USD-PERP"))


# --- books --------------------------------------------------------------------------------------------------------


def test_binary_snapshot_is_the_whole_book() -> None:
    payload = sbe_book(0, group((81000, 0.5), (80999.5, 1)), group((81001, 2), (81001.5, 0.00001)))
    assert decode_binary(payload) == [
        BookSnapshot(
            *HEAD,
            TS * 1000,
            [("81000", "0.5"), ("80999.5", "1")],
            [("81001", "2"), ("81001.5", "0.00001")],
            None,
            41,
        )
    ]


def test_binary_delta_follows_the_number_before_its_own() -> None:
    payload = sbe_book(1, group((81000, 0)), group((81002, 1.5)))
    assert decode_binary(payload) == [BookDelta(*HEAD, TS * 1000, [("81000", "0")], [("81002", "1.5")], 41, 40)]


def test_binary_delta_without_levels_still_advances_the_chain() -> None:
    assert decode_binary(sbe_book(1, group(), group())) == [BookDelta(*HEAD, TS * 1000, [], [], 41, 40)]


def test_binary_book_with_a_level_that_is_null_is_invalid() -> None:
    null = struct.pack("<HHqq", 16, 1, NULL, 1)
    for package in (0, 1):
        (item,) = decode_binary(sbe_book(package, group((81000, 1)), null))
        assert isinstance(item, InvalidBook)
        assert (item.listing.symbol, item.stream) == ("BTC-PERP", Stream.BOOK)


@pytest.mark.parametrize("package", [0, 1])
def test_binary_book_without_a_number_is_invalid(package: int) -> None:
    (item,) = decode_binary(sbe_book(package, group((81000, 1)), group(), seq=NULL))
    assert isinstance(item, InvalidBook)


def test_book_of_unknown_package_type_is_invalid() -> None:
    (item,) = decode_binary(sbe_book(2, group(), group()))
    assert isinstance(item, InvalidBook)
    assert "package type 2" in item.error


@pytest.mark.parametrize("absent", [0, NULL])
def test_absent_time_is_none(absent: int) -> None:
    (event,) = decode_binary(sbe_book(1, group(), group(), ts=absent))
    assert isinstance(event, Event)
    assert event.exchange_ns is None


def json_book(kind: str, channel: str = "order_book.BTC-USD-PERP.deltas", **lists: Any) -> dict[str, Any]:
    fields = {"seq_no": 41, "market": "BTC-USD-PERP", "last_updated_at": MS, "update_type": kind}
    return data(channel, **fields, **lists)


def level(side: str, price: str, size: str) -> dict[str, str]:
    return {"side": side, "price": price, "size": size}


def test_text_snapshot_is_made_of_its_inserts() -> None:
    inserts = [level("BUY", "81000", "0.5"), level("SELL", "81001", "2"), level("BUY", "80999.5", "1")]
    assert decode(json_book("s", inserts=inserts, updates=[], deletes=[])) == [
        BookSnapshot(*HEAD, MS * 1_000_000, [("81000", "0.5"), ("80999.5", "1")], [("81001", "2")], None, 41)
    ]


def test_text_delta_joins_its_three_lists() -> None:
    frame = json_book(
        "d",
        inserts=[level("BUY", "80998", "3")],
        updates=[level("SELL", "81001", "0.2")],
        deletes=[level("BUY", "81000", "0.7")],
    )
    assert decode(frame) == [
        BookDelta(*HEAD, MS * 1_000_000, [("80998", "3"), ("81000", "0")], [("81001", "0.2")], 41, 40)
    ]


@pytest.mark.parametrize("lists", [{}, {"inserts": None, "updates": None, "deletes": None}])
def test_text_delta_without_lists_still_advances_the_chain(lists: dict[str, None]) -> None:
    assert decode(json_book("d", **lists)) == [BookDelta(*HEAD, MS * 1_000_000, [], [], 41, 40)]


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [("deltas", None), ("interactive_deltas", None), ("snapshot@15@50ms", 15), ("interactive@15@100ms@0_1", 15)],
)
def test_channel_names_the_depth_of_its_books(suffix: str, depth: int | None) -> None:
    (event,) = decode(json_book("s", f"order_book.BTC-USD-PERP.{suffix}"))
    assert isinstance(event, BookSnapshot)
    assert event.depth == depth


# --- bbo ----------------------------------------------------------------------------------------------------------


def test_binary_bbo_with_a_missing_side() -> None:
    assert decode_binary(sbe_bbo(NULL, NULL, fixed(81001), fixed(0.1))) == [
        Bbo(*HEAD, TS * 1000, None, None, "81001", "0.1")
    ]


def test_text_bbo() -> None:
    row = {"bid": "81000", "bid_size": "0.5", "ask": "81001", "ask_size": "0.1", "seq_no": 5, "last_updated_at": MS}
    assert decode(data("bbo.BTC-USD-PERP", market="BTC-USD-PERP", **row)) == [
        Bbo(*HEAD, MS * 1_000_000, "81000", "0.5", "81001", "0.1")
    ]


@pytest.mark.parametrize("side", [{"ask": "", "ask_size": ""}, {"ask": None}, {}])
def test_missing_side_of_a_text_bbo_is_none(side: dict[str, Any]) -> None:
    frame = data("bbo.BTC-USD-PERP", market="BTC-USD-PERP", bid="81000", bid_size="0.5", **side)
    assert decode(frame) == [Bbo(*HEAD, None, "81000", "0.5", None, None)]


# --- trades -------------------------------------------------------------------------------------------------------

LONG_ID = "1718179273230201709233240002"


def test_binary_trade_before_full_ids_is_named_by_sequence_price_and_size() -> None:
    assert decode_binary(sbe_trade(1, 1)) == [
        Trade(*HEAD, (TS - 5) * 1000, "81000.5", "0.25", "buy", "41:81000.5:0.25", "trade")
    ]


def test_binary_trade_with_its_full_id() -> None:
    (event,) = decode_binary(sbe_trade(2, 1, string(LONG_ID), 2))
    assert isinstance(event, Trade)
    assert (event.trade_id, event.side) == (LONG_ID, "sell")


def test_binary_trade_without_creation_time_has_the_time_of_its_frame() -> None:
    (event,) = decode_binary(sbe_trade(1, 1, created=NULL))
    assert isinstance(event, Trade)
    assert event.exchange_ns == TS * 1000


@pytest.mark.parametrize(
    ("code", "trade_type"),
    [
        (1, "trade"),
        (2, "liquidation"),
        (3, "unwind_transfer"),
        (4, "settlement"),
        (5, "rpi"),
        (6, "block_trade"),
        (254, "unknown"),
    ],
)
def test_kinds_of_binary_trades(code: int, trade_type: str) -> None:
    (event,) = decode_binary(sbe_trade(1, code))
    assert isinstance(event, Trade)
    assert event.trade_type == trade_type


def test_binary_trade_without_a_side_is_malformed() -> None:
    with pytest.raises(DecodeError, match="side 254"):
        decode_binary(sbe_trade(254, 1))


@pytest.mark.parametrize(
    ("word", "trade_type"),
    [("FILL", "trade"), ("LIQUIDATION", "liquidation"), ("SETTLE_MARKET", "settlement"), ("RPI", "rpi")],
)
def test_text_trade_keeps_its_long_id(word: str, trade_type: str) -> None:
    row = {"id": LONG_ID, "side": "SELL", "size": "34028", "price": "0.028776", "created_at": MS, "trade_type": word}
    assert decode(data("trades.ALL", market="kBONK-USD-PERP", **row)) == [
        Trade(
            "paradex",
            "BONK-PERP",
            "kBONK-USD-PERP",
            MS * 1_000_000,
            "0.028776",
            "34028",
            "sell",
            LONG_ID,
            trade_type,
        )
    ]


# --- mark and funding ---------------------------------------------------------------------------------------------


def test_binary_summary_is_a_mark_and_no_funding() -> None:
    payload = sbe_summary(fixed(81002.25), fixed(81000.5), fixed(162.272))
    assert decode_binary(payload) == [Mark(*HEAD, TS * 1000, "81002.25", "81000.5", "index", "162.272", None)]


def test_text_summary_is_a_mark_and_no_funding() -> None:
    row = {"mark_price": "81002.25", "underlying_price": "81000.5", "open_interest": "162.272", "funding_rate": "0.1"}
    assert decode(data("markets_summary", symbol="BTC-USD-PERP", created_at=MS, **row)) == [
        Mark(*HEAD, MS * 1_000_000, "81002.25", "81000.5", "index", "162.272", None)
    ]


def test_empty_texts_of_the_summary_are_none() -> None:
    row = {"mark_price": "", "underlying_price": "", "open_interest": ""}
    assert decode(data("markets_summary.BTC-USD-PERP", symbol="BTC-USD-PERP", **row)) == [
        Mark(*HEAD, None, None, None, None, None, None)
    ]
    assert decode_binary(sbe_summary(NULL, NULL, NULL)) == [Mark(*HEAD, TS * 1000, None, None, None, None, None)]


def test_row_of_an_option_has_no_symbol_offline_and_is_left_out_live() -> None:
    option = "BTC-USD-30OCT26-62000-C"
    frame = data("markets_summary", symbol=option, mark_price="4.1", underlying_price="81000.5")
    (mark,) = decode(frame, Offline())
    assert isinstance(mark, Mark)
    assert (mark.symbol, mark.venue_symbol, mark.mark_price) == (None, option, "4.1")
    assert decode(frame) == []
    assert decode_binary(sbe_summary(1, 2, 3, option)) == []


def test_binary_funding_is_the_rate_of_one_period() -> None:
    assert decode_binary(sbe_funding(7114, 8)) == [
        Funding(
            *HEAD,
            (TS - 5) * 1000,
            "0.00007114",
            "0.00007114",
            "fraction_per_interval",
            28800,
            "0.000071140000",
            None,
            "predicted",
            "usdc_oracle_adjusted",
        )
    ]


def test_rate_of_four_hours_doubles_to_eight() -> None:
    (event,) = decode_binary(sbe_funding(-10_000, 4))
    assert isinstance(event, Funding)
    assert (event.rate, event.interval_s, event.rate_8h) == ("-0.0001", 14_400, "-0.000200000000")


@pytest.mark.parametrize("hours", [0, -32768])
def test_period_that_is_missing_is_the_listings_else_eight_hours(hours: int) -> None:
    (usual,) = decode_binary(sbe_funding(7114, hours))
    (listed,) = decode_binary(sbe_funding(7114, hours, "kBONK-USD-PERP"))
    assert isinstance(usual, Funding)
    assert isinstance(listed, Funding)
    assert (usual.interval_s, listed.interval_s) == (28_800, 3600)


def test_text_funding_keeps_the_venues_text() -> None:
    row = {"funding_rate": "-0.00014969570580", "funding_period_hours": "1", "funding_rate_8h": "", "created_at": MS}
    assert decode(data("funding_data", market="BTC-USD-PERP", **row)) == [
        Funding(
            *HEAD,
            MS * 1_000_000,
            "-0.0001496957058",
            "-0.00014969570580",
            "fraction_per_interval",
            3600,
            "-0.001197565646",
            None,
            "predicted",
            "usdc_oracle_adjusted",
        )
    ]


def test_rate_that_is_missing_is_none_and_not_zero() -> None:
    items = decode_binary(sbe_funding(NULL, 8))
    for nothing in ("", None):
        items += decode(data("funding_data", market="BTC-USD-PERP", funding_rate=nothing, funding_period_hours=8))
    assert len(items) == 3
    for item in items:
        assert isinstance(item, Funding)
        assert (item.rate, item.rate_native, item.rate_8h) == (None, None, None)


def test_text_funding_without_a_rate_is_no_event() -> None:
    assert decode(data("funding_data", market="BTC-USD-PERP", funding_index="1")) == []


# --- replies ------------------------------------------------------------------------------------------------------


def test_accepted_subscription_is_named_by_its_channel() -> None:
    assert decode(reply(3, result={"channel": "bbo.BTC-USD-PERP"})) == [Ack("bbo.BTC-USD-PERP")]


def test_reply_on_a_binary_connection_is_still_text() -> None:
    payload = json.dumps(reply(3, result={"channel": "bbo.BTC-USD-PERP"})).encode()
    assert VENUE.decode(payload, False, MARKETS) == [Ack("bbo.BTC-USD-PERP")]


def test_end_of_a_subscription_is_known_by_its_request() -> None:
    subscription = VENUE.connections([BTC], "ws://venue/v1", {})[0].subscriptions[1]
    request_id = json.loads(subscription.unsubscribe or b"")["id"]
    assert decode(reply(request_id, result={"channel": subscription.key})) == [Unsubscribed(subscription.key)]
    assert decode(reply(request_id, result={})) == [Unsubscribed(subscription.alias or "")]


@pytest.mark.parametrize("result", [{"node_id": "73cf456f"}, None, "ok", []])
def test_replies_that_name_no_channel_are_ignored(result: Any) -> None:
    assert decode(reply(1, result=result)) == []


@pytest.mark.parametrize(
    ("code", "message", "detail", "reason"),
    [
        (-32600, "invalid subscribe request", "invalid channel", Reason.SUBSCRIBE_ERROR),
        (-32600, "invalid subscribe request", "unknown market", Reason.UNKNOWN_MARKET),
        (-32600, "invalid subscribe request", "Already subscribed to channel", None),
        (-32600, "not subscribed", None, None),
        (-32601, "method not found", None, Reason.SUBSCRIBE_ERROR),
        (100, "too many requests", None, Reason.RATE_LIMITED),
        (40110, "malformed bearer", None, Reason.AUTH_FAILED),
        (40111, "expired bearer", None, Reason.AUTH_FAILED),
    ],
)
def test_errors_name_their_request(code: int, message: str, detail: str | None, reason: Reason | None) -> None:
    error = {"code": code, "message": message} | ({"data": detail} if detail else {})
    text = f"{code} {message}: {detail}" if detail else f"{code} {message}"
    assert decode(reply(4, error=error)) == [Refused(text, "id:4", reason)]


def test_errors_of_both_requests_of_a_subscription_have_its_alias() -> None:
    subscription = VENUE.connections([BTC], "ws://venue/v1", {})[0].subscriptions[2]
    for message in (subscription.subscribe, subscription.unsubscribe):
        request_id = json.loads(message or b"")["id"]
        (item,) = decode(reply(request_id, error={"code": -32600, "message": "x"}))
        assert isinstance(item, Refused)
        assert item.key == subscription.alias


def test_error_without_a_request_names_none() -> None:
    error = {"code": -32700, "message": "parse error"}
    assert decode(reply(None, error=error)) == [Refused("-32700 parse error", None)]


def test_blocked_address_closes_the_connection() -> None:
    (item,) = decode(reply(1, error={"code": 40112, "message": "geo blocked"}))
    assert item == Refused("40112 geo blocked", "id:1", Reason.REFUSED, fatal=True)


# --- frames that are nothing to us, and malformed ones ------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        data("orders.ALL", market="BTC-USD-PERP", id="1"),
        data("fills.ALL", market="BTC-USD-PERP", price=1),
        data("account", account="0x1"),
        data("funding_rate_comparison.ALL@500ms", rows=[]),
        data("markets.BTC-USD-PERP", event_type="UPDATED"),
        {"jsonrpc": "2.0", "method": "notice", "params": {"channel": "x", "data": None}},
        data("bbo.SOL-USD-PERP", market="SOL-USD-PERP", bid="1"),
        data("trades.SOL-USD-PERP", market="SOL-USD-PERP", id="1", side="BUY", size="1", price="1"),
        data("funding_data.SOL-USD-PERP", market="SOL-USD-PERP", funding_rate="1"),
        data("order_book.SOL-USD-PERP.deltas", market="SOL-USD-PERP", seq_no=1, update_type="d"),
    ],
)
def test_other_channels_and_markets_are_ignored(frame: dict[str, Any]) -> None:
    assert decode(frame) == []


def test_other_templates_are_ignored() -> None:
    for template in (20, 40, 41, 99):
        assert decode_binary(binary(template, "qq", (TS, 5), b"")) == []


@pytest.mark.parametrize(
    "frame",
    [
        {},
        [],
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "method": "subscription"},
        {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "bbo.BTC-USD-PERP"}},
        data("bbo.BTC-USD-PERP", bid="1"),
        data("bbo.BTC-USD-PERP", market="BTC-USD-PERP", bid=81000.5),
        data("trades.BTC-USD-PERP", market="BTC-USD-PERP", id="1", side="HOLD", size="1", price="1"),
        data("funding_data", market="BTC-USD-PERP", funding_rate="abc"),
        data("funding_data", market="BTC-USD-PERP", funding_rate="1e40"),
        data("funding_data", market="BTC-USD-PERP", funding_rate="1", funding_period_hours="x"),
        json_book("x"),
        json_book("s", inserts=[{"side": "BUY", "price": 1, "size": "1"}]),
        json_book("d", inserts=[["BUY", "1", "1"]]),
    ],
)
def test_frames_of_the_wrong_shape_are_errors(frame: Any) -> None:
    assert error_of(decode, frame)


@pytest.mark.parametrize("noise", [b"", b"not json", b'{"id":1', b'{"method":"\xff"}', b"[" * 5000])
def test_noise_is_malformed(noise: bytes) -> None:
    for is_binary in (False, True):
        with pytest.raises(DecodeError):
            VENUE.decode(noise, is_binary, MARKETS)


FRAMES = [
    *(
        (json.dumps(frame).encode(), False)
        for frame in (
            json_book("s", inserts=[level("BUY", "81000", "1"), level("SELL", "81001", "1")]),
            json_book("d", updates=[level("BUY", "81000", "1")], deletes=[level("SELL", "81001", "1")]),
            data("funding_data", market="BTC-USD-PERP", funding_rate="0.0001", funding_period_hours="8"),
            reply(1, error={"code": -32600, "message": "x", "data": "y"}),
        )
    ),
    (sbe_book(0, group((1, 2)), group((3, 4))), True),
    (sbe_trade(1, 1, string(LONG_ID), 2), True),
    (sbe_funding(7114, 8), True),
]


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 300), st.integers(0, 30), st.binary(max_size=8))
def test_damaged_frames_raise_only_decode_errors(frame, start, cut, put) -> None:
    payload, is_binary = frame
    for markets in (MARKETS, Offline()):
        try:
            VENUE.decode(payload[:start] + put + payload[start + cut :], is_binary, markets)
        except DecodeError:
            continue


# --- listings and connections -------------------------------------------------------------------------------------


def market(symbol: str, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "asset_kind": "PERP",
        "price_tick_size": "0.1",
        "order_size_increment": "0.00001",
        "expiry_at": "0",
        "funding_period_hours": 8,
    } | changes


def listings(*rows: dict[str, Any]) -> list[Listing]:
    listed, invalid = split_rows(VENUE.parse_listings([json.dumps({"results": rows}).encode()]))
    assert invalid == []
    return listed


def test_perpetuals_are_listed_with_their_steps_and_period() -> None:
    assert listings(market("BTC-USD-PERP"), market("kBONK-USD-PERP", funding_period_hours="4")) == [
        Listing(
            "BTC", "BTC-USD-PERP", "BTC-USD-PERP", tick="0.1", lot="0.00001", quote="USD", funding_interval_s=28_800
        ),
        Listing(
            "BONK",
            "kBONK-USD-PERP",
            "kBONK-USD-PERP",
            tick="0.1",
            lot="0.00001",
            multiplier=1000,
            quote="USD",
            funding_interval_s=14_400,
        ),
    ]


def test_all_markets_are_requested_at_once() -> None:
    assert VENUE.listing_requests() == (RestRequest("/markets"),)


def test_options_and_spot_markets_are_no_listings() -> None:
    rows = [
        market("BTC-USD-96000-C", asset_kind="PERP_OPTION"),
        market("BTC-USD-30OCT26-62000-C", asset_kind="OPTION"),
        market("ETH-USDC", asset_kind="SPOT"),
        market("BTC-USD-96000-C", asset_kind=None),
        market("BTC-USD-PERP", asset_kind="PERP_OPTION"),
    ]
    assert listings(*rows) == []


def test_contract_of_one_unit_is_chosen_for_its_base() -> None:
    assert [one.wire for one in listings(market("kBONK-USD-PERP"), market("BONK-USD-PERP"))] == ["BONK-USD-PERP"]


@pytest.mark.parametrize("hours", [0, "0", "", None])
def test_period_that_is_not_listed_is_none(hours: Any) -> None:
    (listing,) = listings(market("BTC-USD-PERP", funding_period_hours=hours))
    assert listing.funding_interval_s is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<html>", b'{"error":"NOT_FOUND","message":"x","data":null}', b'{"results":[{"asset_kind":"PERP"}]}'],
)
def test_wrong_market_list_is_an_error(body: bytes) -> None:
    assert error_of(VENUE.parse_listings, [body])


@pytest.mark.parametrize(
    ("wire", "symbol", "multiplier"),
    [
        ("BTC-USD-PERP", "BTC-PERP", 1),
        ("kBONK-USD-PERP", "BONK-PERP", 1000),
        ("BTC-USD-96000-C", None, 1),
        ("BTC-USD-30OCT26-62000-C", None, 1),
        ("PERP", None, 1),
        ("", None, 1),
    ],
)
def test_names_are_parsed_offline(wire: str, symbol: str | None, multiplier: int) -> None:
    listing = VENUE.offline_listing(wire)
    assert (listing.symbol, listing.multiplier, listing.venue_symbol) == (symbol, multiplier, wire)


def test_one_connection_carries_every_stream() -> None:
    (connection,) = VENUE.connections([BTC, BONK], "ws://venue/v1", {"encoding": "sbe"})
    assert connection.name == "main"
    assert [(one.key, one.streams) for one in connection.subscriptions[:5]] == [
        ("order_book.BTC-USD-PERP.deltas", (Stream.BOOK,)),
        ("bbo.BTC-USD-PERP", (Stream.BBO,)),
        ("trades.BTC-USD-PERP", (Stream.TRADE,)),
        ("markets_summary.BTC-USD-PERP", (Stream.MARK,)),
        ("funding_data.BTC-USD-PERP", (Stream.FUNDING,)),
    ]
    assert {stream for one in connection.subscriptions for stream in one.streams} == set(VENUE.streams)
    assert [one.symbol for one in connection.subscriptions] == ["BTC-PERP"] * 5 + ["BONK-PERP"] * 5


def test_requests_of_a_connection_have_ids_of_their_own() -> None:
    (connection,) = VENUE.connections([BTC, BONK], "ws://venue/v1", {})
    requests = [
        json.loads(message or b"") for one in connection.subscriptions for message in (one.subscribe, one.unsubscribe)
    ]
    assert len({request["id"] for request in requests}) == 20
    assert requests[0] == {
        "jsonrpc": "2.0",
        "method": "subscribe",
        "params": {"channel": "order_book.BTC-USD-PERP.deltas"},
        "id": 1,
    }
    assert (requests[1]["method"], requests[1]["params"]) == ("unsubscribe", requests[0]["params"])
    assert [one.alias for one in connection.subscriptions] == [f"id:{number}" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("options", "urls"),
    [
        ({}, [f"ws://venue/v1?sbeSchemaId=1&sbeSchemaVersion={version}" for version in (2, 1)]),
        ({"encoding": "sbe"}, [f"ws://venue/v1?sbeSchemaId=1&sbeSchemaVersion={version}" for version in (2, 1)]),
        ({"encoding": "json"}, ["ws://venue/v1", None]),
    ],
)
def test_encoding_is_requested_in_the_url(options: dict[str, str], urls: list[str | None]) -> None:
    connection = VENUE.connections([BTC], "ws://venue/v1", options)[0]
    assert [connection.url, connection.fallback_url] == urls


def test_rules_of_the_venue() -> None:
    assert VENUE.options == {"encoding": ("sbe", "json")}
    assert VENUE.continuity == Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)
    assert VENUE.keepalive == Keepalive(interval_s=30.0, ping=None, pong_within_s=10.0)
    assert VENUE.limits == VenueLimits(
        burst=50,
        messages_per_s=20.0,
        rest_weight_per_min=1500,
        connects_per_min=600,
        max_age_s=None,
        max_frame_bytes=16 * 1024 * 1024,
    )
    requests = [*VENUE.listing_requests(), VENUE.book_request(BTC)]
    requests += [poll.request(0) for poll in VENUE.polls([BTC])]
    assert [request.weight for request in requests] == [1] * 3
    assert VENUE.streams == {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 5.0,
    }


def test_without_markets_there_are_no_connections_and_polls() -> None:
    assert VENUE.connections([], "ws://venue/v1", {}) == ()
    assert VENUE.polls([]) == ()


# --- REST ---------------------------------------------------------------------------------------------------------


def funding_page(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"next": "x", "prev": None, "results": rows}).encode()


def test_poll_requests_the_newest_observation_of_each_market() -> None:
    first, second = VENUE.polls([BTC, BONK])
    assert (first.stream, first.symbols, first.period_s) == (Stream.FUNDING_POLL, ("BTC-PERP",), None)
    assert first.request(MS) == RestRequest("/funding/data?market=BTC-USD-PERP&page_size=1")
    assert second.symbols == ("BONK-PERP",)


def test_polled_observation_is_the_running_rate() -> None:
    row = {"market": "BTC-USD-PERP", "funding_rate": "-0.00006992598926", "funding_rate_8h": "", "created_at": MS}
    older = row | {"funding_rate": "0.5"}
    (event,) = VENUE.polls([BTC])[0].parse(funding_page(row | {"funding_period_hours": 0}, older))
    assert event == Funding(
        *HEAD,
        MS * 1_000_000,
        "-0.00006992598926",
        "-0.00006992598926",
        "fraction_per_interval",
        28_800,
        "-0.000069925989",
        None,
        "predicted",
        "usdc_oracle_adjusted",
        "rest",
    )


@pytest.mark.parametrize("body", [funding_page(), b'{"results":null}', funding_page({"market": "BTC-USD-PERP"})])
def test_no_observation_is_no_event(body: bytes) -> None:
    assert VENUE.polls([BTC])[0].parse(body) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"<html>502</html>",
        b'{"error":"INTERNAL","message":"x","data":null}',
        funding_page({"market": "ETH-USD-PERP", "funding_rate": "0.1"}),
        funding_page({"market": "BTC-USD-PERP", "funding_rate": "x"}),
    ],
)
def test_wrong_answers_to_polls_are_errors(body: bytes) -> None:
    assert error_of(VENUE.polls([BTC])[0].parse, body)


def rest_book(**changes: Any) -> bytes:
    book = {
        "market": "BTC-USD-PERP",
        "seq_no": 41,
        "last_updated_at": MS,
        "asks": [["81001", "2"], ["81001.5", "0.1"]],
        "bids": [["81000", "0.5"]],
    }
    return json.dumps(book | changes).encode()


def test_book_by_rest_is_unchanged() -> None:
    assert VENUE.book_request(BTC) == RestRequest("/orderbook/BTC-USD-PERP?depth=20")
    assert VENUE.parse_book(rest_book(), BTC) == BookSnapshot(
        *HEAD, MS * 1_000_000, [("81000", "0.5")], [("81001", "2"), ("81001.5", "0.1")], 20, 41
    )
    assert VENUE.parse_book(rest_book(asks=None), BTC).asks == []


@pytest.mark.parametrize(
    "body",
    [b"{}", b"null", rest_book(market="ETH-USD-PERP"), rest_book(bids=[["81000"]]), rest_book(bids=[[1, 2]])],
)
def test_wrong_book_is_malformed(body: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.parse_book(body, BTC)
