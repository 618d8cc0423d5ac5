"""Extended: frames, listings, connections and polls, on messages in the documented shapes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Mark, Trade
from ipc.health import Reason, Stream
from workers.venues.extended.market_data import Extended
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import (
    Continuity,
    FrameSeq,
    InvalidBook,
    Item,
    Keepalive,
    Poll,
    Refused,
    RelativeDelta,
    Resync,
    Rule,
    VenueLimits,
)

EXTENDED = Extended()
BTC = Listing("BTC", "BTC-USD", "BTC-USD", funding_interval_s=3600)
ETH = Listing("ETH", "ETH-USD", "ETH-USD", funding_interval_s=3600)
MARKETS = {"BTC-USD": BTC, "ETH-USD": ETH}
MS = 1_000_000
TS = 1_790_000_000_123

SNAPSHOT = {
    "type": "SNAPSHOT",
    "data": {
        "t": "SNAPSHOT",
        "m": "BTC-USD",
        "b": [{"q": "1.25", "p": "82001"}, {"q": "0.5", "p": "82000"}],
        "a": [{"q": "0.1", "p": "82002.0"}, {"q": "2", "p": "82003"}],
        "d": "f",
    },
    "ts": TS,
    "seq": 1,
}
DELTA = {
    "type": "DELTA",
    "data": {
        "t": "DELTA",
        "m": "BTC-USD",
        "b": [{"q": "-0.5", "p": "82000", "c": "0"}, {"q": "0.75", "p": "82001", "c": "2.00"}],
        "a": [{"q": "-1", "p": "82003", "c": "1"}],
        "d": "f",
    },
    "ts": TS,
    "seq": 2,
}
BEST = {
    "type": "SNAPSHOT",
    "data": {
        "t": "SNAPSHOT",
        "m": "BTC-USD",
        "b": [{"q": "4.5", "p": "82001"}],
        "a": [{"q": "0.00011", "p": "82002"}],
        "d": "1",
    },
    "ts": TS,
    "seq": 5,
}
ROW = {
    "i": 2_104_000_000_000_000_001,
    "m": "BTC-USD",
    "S": "BUY",
    "tT": "TRADE",
    "T": 1_790_000_000_100,
    "p": "82001",
    "q": "0.30270",
}
TRADES = {"data": [ROW], "ts": TS, "seq": 2}
MARK = {"type": "MP", "data": {"m": "BTC-USD", "p": "82001.605956624996", "ts": 0}, "ts": TS, "seq": 3}
INDEX = {"type": "IP", "data": {"m": "BTC-USD", "p": "82000.5", "ts": 1_790_000_000_000}, "ts": TS, "seq": 4}
FUNDING = {"ts": TS, "data": {"m": "BTC-USD", "T": 1_790_000_001_028, "f": "0.000013"}, "seq": 6}
CANDLES = {
    "ts": TS,
    "data": [{"T": TS, "o": "1.0", "l": "0.8", "h": "2.4", "c": "2.1", "v": "10"}],
    "seq": 7,
}
KNOWN = [SNAPSHOT, DELTA, BEST, TRADES, MARK, INDEX, FUNDING]


def decode(frame: Any, markets: Any = MARKETS) -> list[Item]:
    return EXTENDED.decode(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), False, markets)


def event_of(frame: Any) -> Any:
    """Return the only event after the frame's number."""
    number, event = decode(frame)
    assert isinstance(number, FrameSeq)
    return event


def about(frame: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the frame with changed data; a field that is ``...`` is omitted."""
    data = {**frame["data"], **changes}
    return {**frame, "data": {name: value for name, value in data.items() if value is not ...}}


def without(frame: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in frame.items() if name != key}


def poll_named(name: str, *listings: Listing) -> Poll:
    return next(poll for poll in EXTENDED.polls(listings) if poll.name == name)


def body(answer: Any) -> bytes:
    return json.dumps(answer).encode()


# --- books --------------------------------------------------------------------------------------------------------


def test_snapshot_is_the_whole_book_best_first_behind_its_number():
    assert decode(SNAPSHOT) == [
        FrameSeq(1),
        BookSnapshot(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            TS * MS,
            [("82001", "1.25"), ("82000", "0.5")],
            [("82002.0", "0.1"), ("82003", "2")],
            None,
            1,
        ),
    ]


def test_delta_carries_the_resulting_sizes_and_not_the_changes():
    assert decode(DELTA) == [
        FrameSeq(2),
        BookDelta(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            TS * MS,
            [("82000", "0"), ("82001", "2.00")],
            [("82003", "1")],
            2,
            1,
        ),
    ]


@pytest.mark.parametrize("side", [{"b": [], "a": []}, {"b": None, "a": None}, {"b": ..., "a": ...}])
def test_delta_without_levels_is_an_event(side: dict[str, Any]):
    delta = event_of(about({**DELTA, "seq": 9}, **side))
    assert isinstance(delta, BookDelta)
    assert (delta.bids, delta.asks, delta.venue_seq, delta.prev_venue_seq) == ([], [], 9, 8)


@pytest.mark.parametrize("missing", [{}, {"c": None}, {"c": ""}])
def test_level_without_its_new_size_makes_the_delta_relative(missing: dict[str, Any]):
    levels = [{"q": "-0.5", "p": "82000", "c": "0"}, {"q": "1", "p": "81999", **missing}]
    assert decode(about(DELTA, b=levels)) == [
        FrameSeq(2),
        RelativeDelta(
            BTC,
            TS * MS,
            [("82000", "0", "-0.5"), ("81999", None, "1")],
            [("82003", "1", "-1")],
            2,
            1,
        ),
    ]


def test_relative_level_among_the_asks_is_not_guessed():
    delta = event_of(about(DELTA, a=[{"q": "1", "p": "82003"}]))
    assert isinstance(delta, RelativeDelta)
    assert delta.asks == [("82003", None, "1")]


@pytest.mark.parametrize("side", [{"b": [], "a": []}, {"b": None, "a": ...}])
def test_empty_book_is_legal(side: dict[str, Any]):
    snapshot = event_of(about(SNAPSHOT, **side))
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.bids, snapshot.asks) == ([], [])


def test_snapshot_of_one_level_a_side_is_a_book_unless_it_says_so():
    one = {"b": [{"q": "1", "p": "5"}], "a": [{"q": "1", "p": "6"}]}
    assert isinstance(event_of(about(SNAPSHOT, **one)), BookSnapshot)
    assert isinstance(event_of(about(SNAPSHOT, **one, d=...)), BookSnapshot)


def test_minutely_snapshot_continues_the_numbering():
    snapshot = event_of({**SNAPSHOT, "seq": 175})
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.venue_seq == 175


def test_type_inside_the_data_replaces_a_missing_outer_type():
    assert decode(without(SNAPSHOT, "type")) == decode(SNAPSHOT)


@pytest.mark.parametrize("level", [{"q": 1, "p": "82000"}, {"p": "82000"}, "82000", None])
@pytest.mark.parametrize("frame", ["SNAPSHOT", "DELTA"])
def test_book_with_a_level_that_cannot_be_read_is_invalid_and_its_number_counts(frame: str, level: Any):
    seq, item = decode(about(SNAPSHOT if frame == "SNAPSHOT" else DELTA, b=[level]))
    assert isinstance(seq, FrameSeq)
    assert isinstance(item, InvalidBook)
    assert (item.listing, item.stream) == (BTC, Stream.BOOK)


def test_price_frame_that_cannot_be_read_counts_as_a_frame():
    seq, item = decode(about(MARK, p=5))
    assert isinstance(seq, FrameSeq)
    assert isinstance(item, InvalidRow)


# --- best bid and offer -------------------------------------------------------------------------------------------


def test_best_levels_are_a_bbo():
    assert decode(BEST) == [
        FrameSeq(5),
        Bbo("extended", "BTC-PERP", "BTC-USD", TS * MS, "82001", "4.5", "82002", "0.00011"),
    ]


@pytest.mark.parametrize("empty", [[], None, ...])
def test_empty_side_is_none(empty: Any):
    bbo = event_of(about(BEST, b=empty))
    assert (bbo.bid_price, bbo.bid_size, bbo.ask_price, bbo.ask_size) == (None, None, "82002", "0.00011")


def test_multiplexed_stream_marks_best_levels_by_its_name_too():
    frame = {**about(BEST, d=...), "subscription": "orderbooks.1.BTC-USD"}
    assert isinstance(event_of(frame), Bbo)


# --- trades -------------------------------------------------------------------------------------------------------


def test_trade():
    assert decode(TRADES) == [
        FrameSeq(2),
        Trade(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            1_790_000_000_100 * MS,
            "82001",
            "0.30270",
            "buy",
            "2104000000000000001",
            "trade",
        ),
    ]


def test_trades_of_one_frame_go_to_their_own_markets():
    rows = [ROW, {**ROW, "m": "DOGE-USD"}, {**ROW, "m": "ETH-USD", "S": "SELL", "i": 8}]
    number, *trades = decode({**TRADES, "data": rows})
    assert number == FrameSeq(2)
    assert [(trade.symbol, trade.side, trade.trade_id) for trade in trades if isinstance(trade, Trade)] == [
        ("BTC-PERP", "buy", "2104000000000000001"),
        ("ETH-PERP", "sell", "8"),
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("TRADE", "trade"), ("LIQUIDATION", "liquidation"), ("DELEVERAGE", "adl"), ("BLOCK_TRADE", "block_trade")],
)
def test_trade_types(word: str, expected: str):
    assert event_of({**TRADES, "data": [{**ROW, "tT": word}]}).trade_type == expected


def test_trade_without_a_time_takes_the_frames():
    assert event_of({**TRADES, "data": [{**ROW, "T": 0}]}).exchange_ns == TS * MS


def test_typed_trade_frame_decodes_alike():
    assert decode({"type": "TRADE", **TRADES, "error": None, "subscription": "trades.BTC-USD"}) == decode(TRADES)


@pytest.mark.parametrize("change", [{"S": "NEITHER"}, {"p": 82001}, {"m": None}, {"i": 1.5}])
def test_invalid_trade_is_left_out_alone(change: dict[str, Any]):
    seq, first, invalid, last = decode({**TRADES, "data": [ROW, {**ROW, **change}, {**ROW, "i": 3}]})
    assert isinstance(seq, FrameSeq)
    assert isinstance(invalid, InvalidRow)
    assert [isinstance(item, Trade) and item.trade_id for item in (first, last)] == [str(ROW["i"]), "3"]


# --- mark, index, funding -----------------------------------------------------------------------------------------


def test_mark_price_takes_the_frames_time_when_it_has_none():
    assert decode(MARK) == [
        FrameSeq(3),
        Mark("extended", "BTC-PERP", "BTC-USD", TS * MS, "82001.605956624996", None, None, None, None),
    ]


def test_index_price():
    assert decode(INDEX) == [
        FrameSeq(4),
        Mark("extended", "BTC-PERP", "BTC-USD", 1_790_000_000_000 * MS, None, "82000.5", "index", None, None),
    ]


@pytest.mark.parametrize("empty", ["", None])
def test_empty_price_is_none(empty: str | None):
    mark, index = event_of(about(MARK, p=empty)), event_of(about(INDEX, p=empty))
    assert (mark.mark_price, index.index_price, index.index_kind) == (None, None, None)


def test_applied_rate_is_settled_and_hourly():
    assert decode(FUNDING) == [
        FrameSeq(6),
        Funding(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            1_790_000_001_028 * MS,
            "0.000013",
            "0.000013",
            "fraction_per_interval",
            3600,
            "0.000104000000",
            None,
            "settled",
            "unknown",
        ),
    ]


def test_funding_time_in_seconds_is_known_by_its_size():
    assert event_of(about(FUNDING, T=1_790_000_001)).exchange_ns == 1_790_000_001_000 * MS
    assert event_of(about(FUNDING, T=9_223_372_036)).exchange_ns == 9_223_372_036_000 * MS
    assert event_of(about(FUNDING, T=99_999_999_999)).exchange_ns == TS * MS
    assert event_of(about(FUNDING, T=100_000_000_000)).exchange_ns == 100_000_000_000 * MS


@pytest.mark.parametrize("time", [0, None, ...])
def test_funding_without_a_time_takes_the_frames(time: Any):
    assert event_of(about(FUNDING, T=time)).exchange_ns == TS * MS


@pytest.mark.parametrize("empty", ["", None])
def test_empty_rate_is_none_and_never_zero(empty: str | None):
    funding = event_of(about(FUNDING, f=empty))
    assert (funding.rate, funding.rate_native, funding.rate_8h) == (None, None, None)


def test_exponent_of_a_rate_is_written_out():
    funding = event_of(about(FUNDING, f="-1.3E-5"))
    assert (funding.rate, funding.rate_native, funding.rate_8h) == ("-0.000013", "-1.3E-5", "-0.000104000000")


@pytest.mark.parametrize("rate", ["soon", "NaN", "Infinity", "1" * 40])
def test_rate_that_is_not_finite_is_invalid(rate: str):
    assert "not a funding rate" in error_of(decode, about(FUNDING, f=rate))


# --- numbering, markets, times ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", KNOWN, ids=lambda frame: str(frame["seq"]))
def test_frame_of_another_market_still_counts(frame: dict[str, Any]):
    assert decode(frame, {}) == [FrameSeq(frame["seq"])]


def test_frame_without_a_number_has_no_sequence():
    (snapshot,) = decode(without(SNAPSHOT, "seq"))
    (delta,) = decode(without(DELTA, "seq"))
    assert isinstance(snapshot, BookSnapshot)
    assert isinstance(delta, BookDelta)
    assert (snapshot.venue_seq, delta.venue_seq, delta.prev_venue_seq) == (None, None, None)


@pytest.mark.parametrize("frame", [SNAPSHOT, DELTA, BEST, MARK], ids=lambda frame: str(frame["seq"]))
def test_time_of_zero_is_none(frame: dict[str, Any]):
    assert event_of({**frame, "ts": 0}).exchange_ns is None


@pytest.mark.parametrize("frame", KNOWN, ids=lambda frame: str(frame["seq"]))
def test_multiplexed_stream_decodes_alike(frame: dict[str, Any]):
    assert decode({**frame, "error": None, "subscription": "any.BTC-USD"}) == decode(frame)


@pytest.mark.parametrize(
    ("wire", "symbol", "multiplier"),
    [
        ("BTC-USD", "BTC-PERP", 1),
        ("1000PEPE-USD", "PEPE-PERP", 1000),
        ("kBONK-USD", "BONK-PERP", 1000),
        ("NVDA_24_5-USD", "NVDA_24_5-PERP", 1),
        ("BTC-EUR", None, 1),
        ("BTC", None, 1),
        ("", None, 1),
    ],
)
def test_offline_name_of_a_market(wire: str, symbol: str | None, multiplier: int):
    listing = EXTENDED.offline_listing(wire)
    assert (listing.symbol, listing.multiplier, listing.venue_symbol) == (symbol, multiplier, wire)


# --- frames of no interest, refusals, noise -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        CANDLES,
        {"type": "ORDER", "data": {"orders": [{"id": 1, "market": "BTC-USD", "price": "5"}]}, "ts": TS, "seq": 7},
        {"type": "ACCOUNT.TRADE", "data": {"isSnapshot": True, "trades": []}, "ts": TS, "seq": 7},
        {"type": "BALANCE", "data": {"balance": {"equity": "20"}}, "ts": TS, "seq": 7},
        {"type": "NEWS", "data": None, "ts": TS, "seq": 7},
        {"type": "NEWS", "data": "soon", "ts": TS, "seq": 7},
        {"type": "NEWS", "data": {"m": "BTC-USD", "p": 5}, "ts": TS, "seq": 7},
        {"data": None, "ts": TS, "seq": 7},
        {"data": [], "ts": TS, "seq": 7},
    ],
    ids=lambda frame: str(frame)[:48],
)
def test_irrelevant_frames_only_count(frame: dict[str, Any]):
    assert decode(frame) == [FrameSeq(7)]


@pytest.mark.parametrize("result", [{"subscription": "orderbooks.BTC-USD"}, {"subscriptions": []}, "pong", None])
def test_replies_of_the_multiplexed_stream_decode_to_nothing(result: Any):
    assert decode({"jsonrpc": "2.0", "id": "1", "result": result}) == []


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"error": "Internal error", "ts": TS}, Refused("Internal error")),
        ({"error": 1010, "ts": TS}, Refused("1010")),
        (
            {"jsonrpc": "2.0", "id": "11", "error": {"code": -32602, "message": "Invalid params", "data": None}},
            Refused("-32602: Invalid params", "id:11"),
        ),
        (
            {"error": {"code": 1001, "message": "Market not found."}},
            Refused("1001: Market not found.", None, Reason.UNKNOWN_MARKET),
        ),
    ],
)
def test_error_frames_are_refusals(frame: dict[str, Any], expected: Refused):
    assert decode(frame) == [expected]


def test_numbered_error_frame_counts():
    assert decode({"type": None, "data": None, "error": "Internal error", "ts": TS, "seq": 3}) == [
        FrameSeq(3),
        Refused("Internal error"),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"hello",
        b"{",
        b"5",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"data":' * 100_000,
        b"[" * 100_000,
        {"type": "SNAPSHOT", "data": None, "ts": TS, "seq": 1},
        {"type": "DELTA", "ts": TS, "seq": 1},
        {**SNAPSHOT, "seq": "1"},
        about(SNAPSHOT, m=...),
        about(SNAPSHOT, b=[{"p": "1"}]),
        about(SNAPSHOT, b=[["1", "2"]]),
        about(DELTA, a=[{"q": "1", "p": 82003, "c": "1"}]),
        about(DELTA, a={"q": "1"}),
        about(MARK, p=...),
        about(MARK, p=5),
        about(INDEX, m=None),
        about(FUNDING, m=...),
        about(FUNDING, f=0.001),
    ],
    ids=lambda frame: repr(frame)[:60],
)
def test_noise_is_an_error(frame: Any):
    assert error_of(decode, frame)


def test_events_do_not_change_with_the_buffer_they_came_in():
    for frame in KNOWN:
        buffer = bytearray(json.dumps(frame).encode())
        events = [item for item in EXTENDED.decode(memoryview(buffer), False, MARKETS) if isinstance(item, Event)]
        before = msgspec.json.encode(events)
        buffer[:] = b"x" * len(buffer)
        assert msgspec.json.encode(events) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("0.1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("mbapqctdTSif"), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), frame=st.sampled_from(KNOWN))
@settings(deadline=None)
def test_no_changed_field_raises_another_error(data: st.DataObject, frame: dict[str, Any]):
    changed = json.loads(json.dumps(frame))
    inner = changed["data"][0] if isinstance(changed["data"], list) else changed["data"]
    target = data.draw(st.sampled_from([changed, inner]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    try:
        items = decode(changed)
    except ValueError:
        return
    kinds = Event | FrameSeq | RelativeDelta | Refused | InvalidRow | InvalidBook
    assert all(isinstance(item, kinds) for item in items)


@given(frame=st.sampled_from(KNOWN), at=st.floats(0, 1), byte=st.integers(0, 255), is_cut=st.booleans())
@settings(deadline=None)
def test_no_changed_byte_raises_another_error(frame: dict[str, Any], at: float, byte: int, is_cut):
    payload = bytearray(json.dumps(frame).encode())
    position = int(at * (len(payload) - 1))
    payload[position] = byte
    try:
        decode(bytes(payload[:position] if is_cut else payload))
    except ValueError:
        return


# --- listings -----------------------------------------------------------------------------------------------------


def market(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "assetName": name.removesuffix("-USD"),
        "collateralAssetName": "USD",
        "active": True,
        "status": "ACTIVE",
        "type": "PERPETUAL",
        "tradingConfig": {"minOrderSize": "0.01", "minOrderSizeChange": "0.00001", "minPriceChange": "1"},
        **more,
    }


def listings(*rows: dict[str, Any]) -> dict[str, Listing]:
    parsed = EXTENDED.parse_listings([body({"status": "OK", "data": list(rows)})])
    return {str(listing.symbol): listing for listing in parsed if isinstance(listing, Listing)}


def test_listing_takes_its_steps_from_the_trading_configuration():
    assert listings(market("BTC-USD"))["BTC-PERP"] == Listing(
        "BTC", "BTC-USD", "BTC-USD", tick="1", lot="0.00001", quote="USD", funding_interval_s=3600
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"status": "ACTIVE"}, "active"),
        ({"status": "REDUCE_ONLY"}, "active"),
        ({"status": "DELISTED"}, "delisted"),
        ({"status": "PRELISTED"}, "halted"),
        ({"status": "DISABLED", "active": False}, "halted"),
        ({"status": None, "active": True}, "active"),
        ({"status": None, "active": False}, "halted"),
    ],
)
def test_status_of_a_listing(row: dict[str, Any], expected: str):
    assert listings(market("BTC-USD", **row))["BTC-PERP"].status == expected


def test_only_perpetuals_are_listed():
    rows = [market("BTC-USD"), market("ETH-USD", type=None), market("SOL-USD", type="SPOT"), market("odd name-USD")]
    assert sorted(listings(*rows)) == ["BTC-PERP", "ETH-PERP", "None"]
    assert listings(*rows)["None"].venue_symbol == "odd name-USD"


def test_row_without_a_trading_configuration_has_no_steps():
    listing = listings(without(market("BTC-USD"), "tradingConfig"))["BTC-PERP"]
    assert (listing.tick, listing.lot) == (None, None)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([market("1000PEPE-USD"), market("PEPE-USD")], "PEPE-USD"),
        ([market("1000PEPE-USD"), market("PEPE-USD", status="DELISTED")], "1000PEPE-USD"),
    ],
)
def test_one_listing_a_base(rows: list[dict[str, Any]], expected: str):
    assert [listing.wire for listing in listings(*rows).values()] == [expected]


def test_listing_request_requests_all_markets():
    assert [request.path for request in EXTENDED.listing_requests()] == ["/info/markets"]


# --- connections --------------------------------------------------------------------------------------------------


def test_a_market_alone_has_its_own_sockets():
    connections = EXTENDED.connections([BTC], "wss://host/v1", {})
    assert {connection.name: connection.url for connection in connections} == {
        "book.BTC-PERP": "wss://host/v1/orderbooks/BTC-USD",
        "bbo.BTC-PERP": "wss://host/v1/orderbooks/BTC-USD?depth=1",
        "trade.BTC-PERP": "wss://host/v1/publicTrades/BTC-USD",
        "mark": "wss://host/v1/prices/mark/BTC-USD",
        "index": "wss://host/v1/prices/index/BTC-USD",
        "funding": "wss://host/v1/funding/BTC-USD",
    }


def test_a_few_markets_share_only_infrequent_streams():
    five = [Listing(f"C{number}", f"C{number}-USD", f"C{number}-USD") for number in range(5)]
    connections = EXTENDED.connections(five, "wss://host/v1", {})
    own = [f"{name}.C{number}-PERP" for name in ("book", "bbo", "trade") for number in range(5)]
    assert [connection.name for connection in connections] == [*own, "mark", "index", "funding"]
    shared = connections[-3:]
    assert [connection.url.removeprefix("wss://host/v1") for connection in shared] == [
        "/prices/mark",
        "/prices/index",
        "/funding",
    ]
    assert [one.subscriptions[0].symbol for one in shared] == [None, None, None]


def test_many_markets_share_all_sockets():
    many = [Listing(f"C{number}", f"C{number}-USD", f"C{number}-USD") for number in range(6)]
    connections = EXTENDED.connections(many, "wss://host/v1", {})
    assert [(connection.name, connection.subscriptions[0].key) for connection in connections] == [
        ("book", "/orderbooks"),
        ("bbo", "/orderbooks?depth=1"),
        ("trade", "/publicTrades"),
        ("mark", "/prices/mark"),
        ("index", "/prices/index"),
        ("funding", "/funding"),
    ]


@pytest.mark.parametrize("count", [1, 5, 6])
def test_url_alone_subscribes_and_the_client_sends_its_user_agent(count: int):
    some = [Listing(f"C{number}", f"C{number}-USD", f"C{number}-USD") for number in range(count)]
    connections = EXTENDED.connections(some, "wss://host/v1", {})
    assert {stream for one in connections for stream in one.subscriptions[0].streams} == set(EXTENDED.streams)
    for connection in connections:
        (subscription,) = connection.subscriptions
        assert connection.url == f"wss://host/v1{subscription.key}"
        assert (connection.in_url, subscription.subscribe, subscription.unsubscribe) == (True, None, None)
        assert connection.headers == ("User-Agent: paraphina-supervisor",)


def test_without_markets_there_are_no_connections_and_polls():
    assert EXTENDED.connections([], "wss://host", {}) == ()
    assert EXTENDED.polls([]) == ()


def test_lost_frame_requires_a_new_connection():
    assert Continuity(Rule.CONNECTION, Resync.RECONNECT) == EXTENDED.continuity


def test_connection_is_pinged_every_15_seconds():
    assert Keepalive(interval_s=15.0, ping=None, pong_within_s=10.0) == EXTENDED.keepalive


def test_limits_of_messages_requests_and_frames():
    assert (
        VenueLimits(
            burst=10,
            messages_per_s=10.0,
            rest_weight_per_min=1000,
            max_age_s=None,
            max_frame_bytes=16 * 1024 * 1024,
        )
        == EXTENDED.limits
    )
    requests = [*EXTENDED.listing_requests(), EXTENDED.book_request(BTC)]
    requests += [poll.request(TS) for poll in EXTENDED.polls([BTC, ETH])]
    assert [request.weight for request in requests] == [1] * 5


def test_usual_time_between_frames():
    assert EXTENDED.streams == {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 3600.0,
    }


# --- REST ---------------------------------------------------------------------------------------------------------


STATS = {
    "markPrice": "82001.680250000004",
    "indexPrice": "82002.5",
    "fundingRate": "0.000013",
    "nextFundingRate": 1_790_002_800_000,
    "openInterest": "115861923.311902",
    "openInterestBase": "1500.40958",
}


def test_one_request_answers_for_rates_prices_and_open_interest_of_all_markets():
    poll = poll_named("stats", BTC, ETH)
    assert (poll.stream, poll.period_s, poll.symbols) == (Stream.FUNDING_POLL, None, ("BTC-PERP", "ETH-PERP"))
    assert poll.request(0).path == "/info/markets?market=BTC-USD&market=ETH-USD"
    rows = [market("BTC-USD", marketStats=STATS), market("DOGE-USD", marketStats=STATS), market("ETH-USD")]
    assert poll.parse(body({"status": "OK", "data": rows})) == [
        Funding(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            None,
            "0.000013",
            "0.000013",
            "fraction_per_interval",
            3600,
            "0.000104000000",
            1_790_002_800_000 * MS,
            "predicted",
            "unknown",
            "rest",
        ),
        Mark(
            "extended",
            "BTC-PERP",
            "BTC-USD",
            None,
            "82001.680250000004",
            "82002.5",
            "index",
            "1500.40958",
            "115861923.311902",
        ),
    ]


def stats_events(stats: dict[str, Any]) -> list[Event]:
    answer = {"status": "OK", "data": [market("BTC-USD", marketStats=stats)]}
    return poll_named("stats", BTC).parse(body(answer))


@pytest.mark.parametrize("empty", ["", None])
def test_empty_statistics_are_none(empty: str | None):
    funding, mark = stats_events(dict.fromkeys(STATS, empty) | {"nextFundingRate": 0})
    assert isinstance(funding, Funding)
    assert isinstance(mark, Mark)
    assert (funding.rate, funding.rate_native, funding.rate_8h, funding.next_funding_ns) == (None,) * 4
    assert (mark.mark_price, mark.index_price, mark.index_kind) == (None, None, None)
    assert (mark.open_interest, mark.open_interest_notional) == (None, None)


def test_statistics_without_a_rate_give_no_funding():
    assert [type(event) for event in stats_events(without(STATS, "fundingRate"))] == [Mark]


def test_settled_rate_is_the_newest_of_the_last_hours():
    poll = poll_named("settled.BTC-PERP", BTC, ETH)
    assert (poll.stream, poll.period_s, poll.symbols) == (Stream.FUNDING_POLL, 600.0, ("BTC-PERP",))
    assert poll.request(1_790_000_000_000).path == (
        "/info/BTC-USD/funding?startTime=1789992800000&endTime=1790000000000&limit=1"
    )
    rows = [
        {"m": "BTC-USD", "f": "0.000008", "T": 1_789_999_201_028},
        {"m": "BTC-USD", "f": "0.000009", "T": 1_789_995_601_028},
    ]
    (funding,) = poll.parse(body({"status": "OK", "data": rows, "pagination": {"cursor": 1, "count": 2}}))
    assert isinstance(funding, Funding)
    assert (funding.rate, funding.exchange_ns, funding.next_funding_ns) == ("0.000008", 1_789_999_201_028 * MS, None)
    assert (funding.phase, funding.source) == ("settled", "rest")


def test_market_without_a_payment_yet_has_no_settled_rate():
    assert poll_named("settled.BTC-PERP", BTC).parse(body({"status": "OK", "data": []})) == []


ERROR_BODY = body({"status": "ERROR", "error": {"code": 1001, "message": "Market not found."}})
WRONG = [ERROR_BODY, b"<html></html>", b"", b"null", b"{}", b'{"status":"OK"}', b'{"status":"ERROR","data":[]}']


@pytest.mark.parametrize("poll", EXTENDED.polls([BTC, ETH]), ids=lambda poll: poll.name)
@pytest.mark.parametrize("answer", WRONG)
def test_wrong_answer_to_a_poll_is_a_decode_error(poll: Poll, answer: bytes):
    with pytest.raises(DecodeError):
        poll.parse(answer)


@pytest.mark.parametrize("answer", WRONG)
def test_wrong_answer_is_no_market_list_and_no_book(answer: bytes):
    with pytest.raises(DecodeError, match="malformed answer to markets"):
        EXTENDED.parse_listings([answer])
    with pytest.raises(DecodeError, match="malformed answer to orderbook"):
        EXTENDED.parse_book(answer, BTC)


def book_answer(**changes: Any) -> bytes:
    bids = [{"qty": "14.46084", "price": "82000"}, {"qty": "1", "price": "81999"}]
    book = {"market": "BTC-USD", "bid": bids, "ask": [{"qty": "0.1", "price": "82001"}], **changes}
    return body({"status": "OK", "data": book})


def test_rest_book_has_no_sequence_number():
    assert EXTENDED.book_request(BTC).path == "/info/markets/BTC-USD/orderbook"
    assert EXTENDED.parse_book(book_answer(ask=None), BTC) == BookSnapshot(
        "extended",
        "BTC-PERP",
        "BTC-USD",
        None,
        [("82000", "14.46084"), ("81999", "1")],
        [],
        None,
        None,
    )


@pytest.mark.parametrize("change", [{"market": "ETH-USD"}, {"bid": [{"price": 82000, "qty": "1"}]}])
def test_rest_book_of_another_market_or_without_prices_is_a_decode_error(change: dict[str, Any]):
    with pytest.raises(DecodeError, match="orderbook"):
        EXTENDED.parse_book(book_answer(**change), BTC)
