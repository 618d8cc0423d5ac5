"""Lighter: frames to events, units of funding, listings and REST answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Funding, Mark, Trade
from ipc.health import Reason, Stream
from workers.protocol.actions import Send
from workers.protocol.pacing import TokenBucket
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.lighter.market_data import Lighter
from workers.venues.listing import Listing, Markets
from workers.venues.venue import (
    Ack,
    Continuity,
    Item,
    Keepalive,
    Ping,
    Pong,
    Refused,
    RestRequest,
    Resync,
    Rule,
    ServerShutdown,
    Unsubscribed,
    VenueLimits,
)

NS = 1_000_000_000
VENUE = Lighter()
BTC = Listing("BTC", "7", "BTC", market_id="7", funding_interval_s=3600)
ETH = Listing("ETH", "9", "ETH", market_id="9", funding_interval_s=3600)
MARKETS = {listing.wire: listing for listing in (BTC, ETH)}
MS = 1_790_000_123_456
US = 1_790_000_123_400_111
HEAD = ("lighter", "BTC-PERP", "BTC")


class Offline:
    def get(self, wire: str, /) -> Listing:
        return VENUE.offline_listing(wire)


def decode(frame: Any, markets: Markets = MARKETS) -> list[Item]:
    return VENUE.decode(memoryview(json.dumps(frame).encode()), False, markets)


def book_frame(kind: str, **book: Any) -> dict[str, Any]:
    # The type comes last, as on the wire.
    body = {"code": 0, "asks": [], "bids": [], "offset": 12, "nonce": 500, "last_updated_at": US} | book
    return {"channel": "order_book:7", "offset": 12, "order_book": body, "timestamp": MS, "type": f"{kind}/order_book"}


def level(price: str, size: str) -> dict[str, str]:
    return {"price": price, "size": size}


def stats(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTC",
        "market_id": 7,
        "index_price": "81000.5",
        "mark_price": "81002.0",
        "open_interest": "5000000.250000",
        "current_funding_rate": "0.0012",
        "funding_rate": "0.0099",
        "funding_timestamp": 1_789_999_200_001,
        "daily_price_low": 80000,
        "daily_price_change": -0.25,
    } | changes


def stats_frame(body: Any, channel: str = "market_stats:7", **outer: Any) -> dict[str, Any]:
    return {"channel": channel, "market_stats": body} | outer | {"type": "update/market_stats"}


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "trade_id": 19_211_490_282,
        "trade_id_str": "19211490282",
        "type": "trade",
        "market_id": 7,
        "size": "0.00050",
        "price": "81000.1",
        "usd_amount": "40.500050",
        "ask_id": 281_476_929_689_557,
        "is_maker_ask": True,
        "timestamp": MS,
        "transaction_time": US,
    } | changes


# --- books --------------------------------------------------------------------------------------------------------


def test_first_frame_is_acknowledgement_and_whole_book() -> None:
    bids = [level("80999.5", "1.00000"), level("81000.0", "0.50000")]
    asks = [level("81002.0", "2.00000"), level("81001.0", "0.10000")]
    ack, snapshot = decode(book_frame("subscribed", bids=bids, asks=asks, begin_nonce=0))
    assert ack == Ack("order_book:7")
    assert snapshot == BookSnapshot(
        *HEAD,
        US * 1000,
        [("81000.0", "0.50000"), ("80999.5", "1.00000")],
        [("81001.0", "0.10000"), ("81002.0", "2.00000")],
        None,
        500,
    )


def test_levels_are_sorted_by_value_not_by_text() -> None:
    frame = book_frame("subscribed", asks=[level("1000.0", "1"), level("999.9", "1"), level("10000", "1")])
    snapshot = decode(frame)[1]
    assert isinstance(snapshot, BookSnapshot)
    assert [price for price, _ in snapshot.asks] == ["999.9", "1000.0", "10000"]


def test_update_names_the_nonce_that_it_follows_and_keeps_the_venues_order() -> None:
    bids = [level("80999.5", "0.00000"), level("81000.0", "0.50000")]
    assert decode(book_frame("update", bids=bids, nonce=731, begin_nonce=500)) == [
        BookDelta(*HEAD, US * 1000, [("80999.5", "0.00000"), ("81000.0", "0.50000")], [], 731, 500)
    ]


def test_update_without_levels_still_advances_the_chain() -> None:
    assert decode(book_frame("update", nonce=731, begin_nonce=500)) == [BookDelta(*HEAD, US * 1000, [], [], 731, 500)]


@pytest.mark.parametrize("empty", [{"asks": None, "bids": None}, {}])
def test_null_and_missing_sides_are_empty(empty: dict[str, None]) -> None:
    frame = book_frame("update", begin_nonce=500)
    del frame["order_book"]["asks"], frame["order_book"]["bids"]
    frame["order_book"] |= empty
    assert decode(frame) == [BookDelta(*HEAD, US * 1000, [], [], 500, 500)]


def test_old_update_without_begin_nonce_names_no_predecessor() -> None:
    frame = book_frame("update")
    del frame["order_book"]["last_updated_at"]
    assert decode(frame) == [BookDelta(*HEAD, MS * 1_000_000, [], [], 500, None)]


def test_book_of_an_empty_market_has_no_time() -> None:
    frame = book_frame("subscribed", nonce=0, last_updated_at=0, begin_nonce=0)
    del frame["timestamp"]
    assert decode(frame)[1] == BookSnapshot(*HEAD, None, [], [], None, 0)


def test_market_id_has_no_name_offline() -> None:
    (event,) = decode(book_frame("update"), Offline())
    assert isinstance(event, BookDelta)
    assert (event.symbol, event.venue_symbol) == (None, "7")


def test_nothing_of_the_buffer_is_kept() -> None:
    buffer = bytearray(json.dumps(book_frame("update", bids=[level("80999.5", "1.5")])).encode())
    (event,) = VENUE.decode(memoryview(buffer), False, MARKETS)
    buffer[:] = b" " * len(buffer)
    assert isinstance(event, BookDelta)
    assert event.bids == [("80999.5", "1.5")]


# --- bbo ----------------------------------------------------------------------------------------------------------


def ticker_frame(**ticker: Any) -> dict[str, Any]:
    body = {"s": "BTC", "a": level("81001.0", "0.1"), "b": level("81000.0", "0.5"), "last_updated_at": US} | ticker
    return {"channel": "ticker:7", "nonce": 500, "ticker": body, "timestamp": MS, "type": "update/ticker"}


def test_ticker_is_best_bid_and_offer() -> None:
    assert decode(ticker_frame()) == [Bbo(*HEAD, US * 1000, "81000.0", "0.5", "81001.0", "0.1")]


@pytest.mark.parametrize("missing", [level("", ""), None])
def test_missing_side_of_the_ticker_is_none(missing: Any) -> None:
    assert decode(ticker_frame(a=missing)) == [Bbo(*HEAD, US * 1000, "81000.0", "0.5", None, None)]


def test_outer_time_replaces_the_tickers_own() -> None:
    frame = ticker_frame(last_updated_at=None) | {"last_updated_at": US + 1}
    assert decode(frame) == [Bbo(*HEAD, (US + 1) * 1000, "81000.0", "0.5", "81001.0", "0.1")]


def test_ticker_names_its_market_offline() -> None:
    (event,) = decode(ticker_frame(s="1000PEPE"), Offline())
    assert isinstance(event, Bbo)
    assert (event.symbol, event.venue_symbol) == ("PEPE-PERP", "1000PEPE")


# --- trades -------------------------------------------------------------------------------------------------------


def trade_frame(kind: str, trades: Any, liquidations: Any = ()) -> dict[str, Any]:
    return {
        "channel": "trade:7",
        "liquidation_trades": liquidations,
        "nonce": 5,
        "trades": trades,
        "type": f"{kind}/trade",
    }


def test_trade_where_the_maker_asked_was_bought() -> None:
    assert decode(trade_frame("update", [trade()])) == [
        Trade(*HEAD, US * 1000, "81000.1", "0.00050", "buy", "19211490282", "trade")
    ]


def test_trade_where_the_maker_bid_was_sold() -> None:
    (event,) = decode(trade_frame("update", [trade(is_maker_ask=False)]))
    assert isinstance(event, Trade)
    assert event.side == "sell"


def test_old_trade_has_its_time_in_milliseconds() -> None:
    row = trade()
    del row["transaction_time"]
    (event,) = decode(trade_frame("update", [row]))
    assert isinstance(event, Trade)
    assert event.exchange_ns == MS * 1_000_000


def test_first_trade_frame_is_a_backlog() -> None:
    ack, event = decode(trade_frame("subscribed", [trade()]))
    assert ack == Ack("trade:7")
    assert isinstance(event, Trade)
    assert event.flags == ("backlog",)


@pytest.mark.parametrize(
    ("word", "trade_type"),
    [
        ("trade", "trade"),
        ("liquidation", "liquidation"),
        ("deleverage", "adl"),
        ("market-settlement", "settlement"),
        ("Something-New", "something-new"),
    ],
)
def test_kinds_of_trades(word: str, trade_type: str) -> None:
    (event,) = decode(trade_frame("update", None, [trade(type=word)]))
    assert isinstance(event, Trade)
    assert event.trade_type == trade_type


@pytest.mark.parametrize("nothing", [None, []])
def test_trade_frame_without_trades_is_empty(nothing: Any) -> None:
    assert decode(trade_frame("update", nothing, nothing)) == []


# --- mark and funding ---------------------------------------------------------------------------------------------


def test_statistics_are_mark_and_funding() -> None:
    hour = 3_600_000
    next_hour = (MS // hour + 1) * hour
    assert decode(stats_frame(stats(), timestamp=MS)) == [
        Mark(*HEAD, MS * 1_000_000, "81002.0", "81000.5", "index", None, "5000000.250000"),
        Funding(
            *HEAD,
            MS * 1_000_000,
            "0.000012",
            "0.0012",
            "percent_per_hour",
            3600,
            "0.000096000000",
            next_hour * 1_000_000,
            "predicted",
            "unknown",
        ),
    ]


def funding_of(items: list[Item]) -> Funding:
    (event,) = [item for item in items if isinstance(item, Funding)]
    return event


def test_funding_rate_is_a_percentage_per_hour() -> None:
    event = funding_of(decode(stats_frame(stats(current_funding_rate="-0.0028"), timestamp=MS)))
    assert (event.rate, event.rate_native, event.rate_unit) == ("-0.000028", "-0.0028", "percent_per_hour")
    assert (event.interval_s, event.rate_8h) == (3600, "-0.000224000000")


def test_next_payment_is_unknown_without_a_time() -> None:
    event = funding_of(decode(stats_frame(stats())))
    assert (event.exchange_ns, event.next_funding_ns) == (None, None)


def test_payment_on_the_hour_is_followed_by_the_next_hour() -> None:
    event = funding_of(decode(stats_frame(stats(), timestamp=1_790_002_800_000)))
    assert event.next_funding_ns == 1_790_006_400_000 * 1_000_000


@pytest.mark.parametrize("nothing", ["", None])
def test_rate_that_is_missing_is_none_and_not_zero(nothing: str | None) -> None:
    event = funding_of(decode(stats_frame(stats(current_funding_rate=nothing), timestamp=MS)))
    assert (event.rate, event.rate_native, event.rate_8h) == (None, None, None)


def test_statistics_without_a_rate_are_no_funding() -> None:
    body = stats()
    del body["current_funding_rate"]
    assert [type(item) for item in decode(stats_frame(body, timestamp=MS))] == [Mark]


def test_empty_texts_of_the_mark_are_none() -> None:
    body = stats(index_price="", mark_price="", open_interest="")
    assert decode(stats_frame(body))[0] == Mark(*HEAD, None, None, None, None, None, None)


def test_statistics_of_all_markets_come_as_a_map() -> None:
    body = {"7": stats(), "8": stats(), "9": stats(mark_price="2400.10", symbol="ETH")}
    items = decode(stats_frame(body, "market_stats:all", timestamp=MS))
    marks = [(item.symbol, item.mark_price) for item in items if isinstance(item, Mark)]
    assert marks == [("BTC-PERP", "81002.0"), ("ETH-PERP", "2400.10")]
    assert len(items) == 4


def test_statistics_name_their_market_offline() -> None:
    symbols = {item.symbol for item in decode(stats_frame(stats()), Offline()) if isinstance(item, Mark | Funding)}
    assert symbols == {"BTC-PERP"}


@pytest.mark.parametrize("rubbish", ["abc", "NaN", "1e40"])
def test_rate_that_is_not_a_number_is_malformed(rubbish: str) -> None:
    with pytest.raises(DecodeError, match="funding rate"):
        decode(stats_frame(stats(current_funding_rate=rubbish)))


def test_market_that_is_not_ours_is_left_out() -> None:
    frames = (book_frame("update"), ticker_frame(), trade_frame("update", [trade()]), stats_frame(stats()))
    for frame in frames:
        assert decode(frame | {"channel": frame["channel"].replace("7", "8")}) == []
    assert decode(book_frame("subscribed") | {"channel": "order_book:8"}) == [Ack("order_book:8")]


# --- control ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "items"),
    [
        ({"type": "connected", "session_id": "x"}, []),
        ({"type": "ping"}, [Ping(b'{"type":"pong"}')]),
        ({"type": "pong"}, [Pong()]),
        ({"type": "unsubscribed", "channel": "order_book:7"}, [Unsubscribed("order_book:7")]),
        ({"type": "shutdown", "close_in_ms": 1000}, [ServerShutdown(1000)]),
    ],
)
def test_control_frames(frame: dict[str, Any], items: list[Item]) -> None:
    assert decode(frame) == items


@pytest.mark.parametrize(
    ("code", "message", "key", "reason"),
    [
        (30002, "Not Subscribed to : order_book:7", "order_book:7", None),
        (30003, "Already Subscribed to : market_stats:all", "market_stats:all", None),
        (30005, "Invalid Channel:  (marketId)", None, Reason.UNKNOWN_MARKET),
        (30012, "Failed to subscribe : trade/7", "trade:7", Reason.SUBSCRIBE_ERROR),
        (30009, "Too Many Websocket Messages!", None, Reason.RATE_LIMITED),
        (30010, "Too Many Inflight Messages!", None, Reason.RATE_LIMITED),
        (23003, "Too Many Connections!", None, Reason.RATE_LIMITED),
        (21120, "auth token expired", None, Reason.AUTH_FAILED),
        (30000, "Invalid JSON", None, Reason.SUBSCRIBE_ERROR),
    ],
)
def test_errors_name_what_the_text_names(code: int, message: str, key: str | None, reason: Reason | None) -> None:
    (item,) = decode({"error": {"code": code, "message": message}})
    assert item == Refused(f"{code} {message}", key, reason, fatal=reason is Reason.RATE_LIMITED)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "subscribed/candle", "channel": "candle:7:1m", "candles": [{"t": 1}]},
        {"type": "update/height", "channel": "height", "height": 5, "timestamp": MS},
        {"type": "update/spot_market_stats", "channel": "spot_market_stats:2048", "spot_market_stats": {}},
        # The same key as ours with another shape.
        {"type": "update/account_all_trades", "channel": "account_all_trades:5", "trades": {"7": [trade()]}},
        {"type": "subscribed/account_all_trades", "channel": "account_all_trades:5", "trades": []},
        {"type": "update/something_new"},
    ],
)
def test_frames_of_other_types_are_ignored(frame: dict[str, Any]) -> None:
    assert decode(frame) == []


@pytest.mark.parametrize(
    "frame",
    [
        {},
        [],
        "text",
        {"channel": "order_book:7", "order_book": {"nonce": 1}},
        {"type": "update/order_book", "channel": "order_book:7"},
        {"type": "update/order_book", "channel": "order_book:7", "order_book": {"asks": []}},
        {"type": "update/order_book", "channel": "order_book", "order_book": {"nonce": 1}},
        book_frame("update", bids=[["81000.0", "0.5"]]),
        book_frame("update", bids=[{"price": 81000.0, "size": "0.5"}]),
        book_frame("subscribed", bids=[level("rubbish", "0.5")]),
        {"type": "update/ticker", "channel": "ticker:7"},
        {"type": "update/market_stats", "channel": "market_stats:7"},
        stats_frame([1]),
        stats_frame([], "market_stats:all"),
        trade_frame("update", [{"price": "1", "size": "1"}]),
        {"type": 7},
    ],
)
def test_frames_of_the_wrong_shape_are_errors(frame: Any) -> None:
    assert error_of(decode, frame)


@pytest.mark.parametrize("noise", [b"", b"\x00", b"not json", b'{"type":"ping"', b'{"type":"\xff"}', b"[" * 5000])
def test_noise_is_malformed(noise: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.decode(noise, False, MARKETS)


FRAMES = [
    json.dumps(frame).encode()
    for frame in (
        book_frame("subscribed", bids=[level("81000.0", "0.5")], asks=[level("81001.0", "0.5")], begin_nonce=0),
        book_frame("update", bids=[level("81000.0", "0.5")], begin_nonce=499),
        ticker_frame(),
        trade_frame("subscribed", [trade()], [trade(type="liquidation")]),
        stats_frame(stats(), timestamp=MS),
        stats_frame({"7": stats()}, "market_stats:all", timestamp=MS),
        {"error": {"code": 30003, "message": "Already Subscribed to : market_stats:all"}},
        {"type": "shutdown", "close_in_ms": 1000},
    )
]


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 400), st.integers(0, 30), st.binary(max_size=8))
def test_damaged_frames_raise_only_decode_errors(frame: bytes, start: int, cut: int, put: bytes) -> None:
    damaged = frame[:start] + put + frame[start + cut :]
    for markets in (MARKETS, Offline()):
        try:
            VENUE.decode(damaged, False, markets)
        except DecodeError:
            continue


# --- listings -----------------------------------------------------------------------------------------------------


def market(symbol: str, market_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "market_id": market_id,
        "market_type": "perp",
        "status": "active",
        "supported_size_decimals": 5,
        "supported_price_decimals": 1,
    } | changes


def listings(*rows: dict[str, Any]) -> dict[str | None, Listing]:
    body = json.dumps({"code": 200, "order_books": rows}).encode()
    return {listing.symbol: listing for listing in VENUE.parse_listings([body]) if isinstance(listing, Listing)}


def test_listing_has_id_steps_and_interval() -> None:
    assert listings(market("BTC", 1)) == {
        "BTC-PERP": Listing(
            "BTC", "1", "BTC", market_id="1", tick="0.1", lot="0.00001", quote="USDC", funding_interval_s=3600
        )
    }


def test_spot_markets_are_no_listings_with_and_without_a_type() -> None:
    old = market("SOL/USDC", 2049)
    del old["market_type"]
    assert listings(market("ETH/USDC", 2048, market_type="spot"), old) == {}


def test_perpetual_that_cannot_be_a_topic_is_listed_without_a_symbol() -> None:
    assert [one.venue_symbol for one in listings(market("BTC/USDC", 300), market("b.t.c", 301)).values()] == ["b.t.c"]


def test_old_rows_with_texts_for_numbers_are_listed() -> None:
    old = market("BTC", 1, supported_size_decimals="5", supported_price_decimals="0")
    del old["market_type"]
    (listing,) = listings(old).values()
    assert (listing.tick, listing.lot) == ("1", "0.00001")


@pytest.mark.parametrize("market_id", [1, "1"])
def test_numbers_may_be_written_as_text(market_id: int | str) -> None:
    """Examples of the documentation have text."""
    row = market("BTC", 1, supported_size_decimals="5", supported_price_decimals="1") | {"market_id": market_id}
    (listing,) = listings(row).values()
    assert (listing.wire, listing.market_id, listing.tick) == ("1", "1", "0.1")
    rates = {"code": 200, "funding_rates": [{"market_id": market_id, "exchange": "lighter", "rate": "0.000096"}]}
    predicted, _ = VENUE.polls([listing])
    (event,) = predicted.parse(json.dumps(rates).encode())
    assert isinstance(event, Funding)
    assert event.rate_8h == "0.000096000000"


def test_lighter_one_of_the_two_lists_is_requested() -> None:
    assert VENUE.listing_requests() == (RestRequest("/orderBooks"),)


def test_row_without_decimals_has_no_steps() -> None:
    (listing,) = listings(market("BTC", 1, supported_price_decimals=None)).values()
    assert (listing.tick, listing.lot) == (None, "0.00001")


def test_inactive_market_is_halted() -> None:
    assert listings(market("BTC", 1, status="inactive"))["BTC-PERP"].status == "halted"


def test_contract_of_many_units_is_listed_once_a_base() -> None:
    found = listings(market("1000PEPE", 4), market("1000BONK", 5), market("BONK", 6), market("1000BONK", 7))
    assert {symbol: (listing.wire, listing.multiplier) for symbol, listing in found.items()} == {
        "PEPE-PERP": ("4", 1000),
        "BONK-PERP": ("6", 1),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html>",
        b'{"code":200}',
        b'{"code":23000,"message":"Too Many Requests!"}',
        b'{"code":500,"order_books":[]}',
        json.dumps({"code": 200, "order_books": [market("BTC", 1, supported_price_decimals="x")]}).encode(),
    ],
)
def test_wrong_market_list_is_an_error(body: bytes) -> None:
    assert error_of(VENUE.parse_listings, [body])


def test_list_of_nothing_is_empty() -> None:
    assert VENUE.parse_listings([b'{"code":200,"order_books":null}']) == []


# --- connections --------------------------------------------------------------------------------------------------


def test_requests_have_slashes_and_keys_have_colons() -> None:
    (connection,) = VENUE.connections([BTC], "ws://venue/stream", {})
    assert (connection.name, connection.url, connection.in_url) == ("main", "ws://venue/stream", False)
    assert [(one.key, one.streams) for one in connection.subscriptions] == [
        ("order_book:7", (Stream.BOOK,)),
        ("ticker:7", (Stream.BBO,)),
        ("trade:7", (Stream.TRADE,)),
        ("market_stats:7", (Stream.MARK, Stream.FUNDING)),
    ]
    book = connection.subscriptions[0]
    assert json.loads(book.subscribe or b"") == {"type": "subscribe", "channel": "order_book/7"}
    assert json.loads(book.unsubscribe or b"") == {"type": "unsubscribe", "channel": "order_book/7"}
    assert {one.symbol for one in connection.subscriptions} == {"BTC-PERP"}


def test_many_markets_are_spread_below_the_limit_of_a_connection() -> None:
    many = [Listing(f"B{number}", str(number), f"B{number}") for number in range(130)]
    first, second = VENUE.connections(many, "ws://venue/stream", {})
    assert (first.name, second.name) == ("main", "main.2")
    assert (len(first.subscriptions), len(second.subscriptions)) == (500, 20)


def test_every_stream_is_carried() -> None:
    (connection,) = VENUE.connections([BTC], VENUE.ws_url, {})
    assert {stream for one in connection.subscriptions for stream in one.streams} == set(VENUE.streams)


def test_lost_update_shows_in_the_chain() -> None:
    assert VENUE.continuity == Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)


def test_connection_is_pinged_every_30_seconds_because_the_venue_closes_it_after_120() -> None:
    assert VENUE.keepalive == Keepalive(interval_s=30.0, ping=b'{"type":"ping"}', pong_within_s=10.0)


def test_limits_of_messages_requests_and_frames() -> None:
    assert VENUE.limits == VenueLimits(
        burst=40,
        messages_per_s=2.4,
        rest_weight_per_min=60,
        connects_per_min=60,
        max_age_s=None,
        max_frame_bytes=16 * 1024 * 1024,
    )
    requests = [*VENUE.listing_requests(), VENUE.book_request(BTC)]
    requests += [poll.request(MS) for poll in VENUE.polls([BTC, ETH])]
    assert [request.weight for request in requests] == [1] * 5


def test_usual_time_between_frames() -> None:
    assert VENUE.streams == {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
    }


def test_orders_by_rest_are_no_book_to_publish() -> None:
    assert VENUE.has_rest_book is False


def test_subscribing_to_everything_leaves_room_below_200_messages_a_minute() -> None:
    """The limit covers all connections of an IP address, replies to pings, and an account's connection."""
    listings = [Listing(f"C{number}", str(number), f"C{number}") for number in range(250)]
    pace = TokenBucket(VENUE.limits.burst, VENUE.limits.messages_per_s)
    policy = Policy(60 * NS, 30 * NS, 10 * NS)
    plans = VENUE.connections(listings, VENUE.ws_url, {})
    sessions = [MarketSession(VENUE, plan, listings, policy, pace) for plan in plans]
    sent: list[int] = []
    for now in range(NS, 61 * NS, NS // 20):
        for session in sessions:
            if now == NS:
                session.connecting(now)
                session.opened(now)
            if now % (20 * NS) == 0:
                session.received(False, b'{"type":"ping"}', now)
            session.tick(now)
            sent += [now for action in session.actions.drain() if isinstance(action, Send)]
    assert sent.count(NS) <= 40
    assert 150 < len(sent) <= 190


def test_without_markets_there_are_no_connections_and_polls() -> None:
    assert VENUE.connections([], "ws://venue/stream", {}) == ()
    assert VENUE.polls([]) == ()


# --- REST ---------------------------------------------------------------------------------------------------------


def test_one_request_polls_the_rates_of_all_markets() -> None:
    predicted, *settled = VENUE.polls([BTC, ETH])
    assert (predicted.stream, predicted.symbols, predicted.period_s) == (
        Stream.FUNDING_POLL,
        ("BTC-PERP", "ETH-PERP"),
        None,
    )
    assert predicted.request(MS) == RestRequest("/funding-rates")
    assert [(poll.symbols, poll.period_s) for poll in settled] == [(("BTC-PERP",), 600.0), (("ETH-PERP",), 600.0)]


def rates(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"code": 200, "funding_rates": rows}).encode()


def test_polled_rate_is_a_fraction_per_eight_hours() -> None:
    row = {"market_id": 7, "exchange": "lighter", "symbol": "BTC", "rate": 9.599999999999999e-05}
    (event,) = VENUE.polls([BTC])[0].parse(rates(row))
    assert event == Funding(
        *HEAD,
        None,
        "0.00001199999999999999875",
        "0.00009599999999999999",
        "fraction_per_8h",
        3600,
        "0.000096000000",
        None,
        "predicted",
        "unknown",
        "rest",
    )


def test_polled_rates_of_other_exchanges_are_left_out() -> None:
    rows = [
        {"market_id": 7, "exchange": "binance", "symbol": "BTC", "rate": 0.5},
        {"market_id": 7, "exchange": "lighter", "symbol": "BTC", "rate": 0},
        {"market_id": 8, "exchange": "lighter", "symbol": "SOL", "rate": 0.25},
        {"market_id": 9, "exchange": "lighter", "symbol": "ETH", "rate": None},
    ]
    events = VENUE.polls([BTC, ETH])[0].parse(rates(*rows))
    found = [(event.symbol, event.rate) for event in events if isinstance(event, Funding)]
    assert found == [("BTC-PERP", "0"), ("ETH-PERP", None)]


def test_last_payment_has_the_sign_of_its_direction() -> None:
    rows = [
        {"timestamp": 1_789_996_400, "value": "0.1", "rate": "0.0012", "direction": "long"},
        {"timestamp": 1_790_000_000, "value": "0.1", "rate": "0.0002", "direction": "short"},
        {"timestamp": 1_789_992_800, "value": "0.1", "rate": "0.0013", "direction": "long"},
    ]
    body = json.dumps({"code": 200, "resolution": "1h", "fundings": rows}).encode()
    (event,) = VENUE.polls([BTC])[1].parse(body)
    assert event == Funding(
        *HEAD,
        1_790_000_000_000_000_000,
        "-0.000002",
        "-0.0002",
        "percent_per_hour",
        3600,
        "-0.000016000000",
        None,
        "settled",
        "unknown",
        "rest",
    )


@pytest.mark.parametrize("time", [0, -1, 10**10, "9" * 20])
def test_payment_at_no_time_of_int64_has_no_time(time: Any) -> None:
    row = {"timestamp": time, "value": "0.1", "rate": "0.0012", "direction": "long"}
    (event,) = VENUE.polls([BTC])[1].parse(json.dumps({"code": 200, "fundings": [row]}).encode())
    assert isinstance(event, Funding)
    assert (event.exchange_ns, event.rate) == (None, "0.000012")


def test_payments_are_requested_in_seconds() -> None:
    path = VENUE.polls([BTC])[1].request(1_790_000_000_999).path
    assert path.startswith("/fundings?market_id=7&resolution=1h&")
    assert "end_timestamp=1790000000&" in path


def test_no_payment_yet_is_no_event() -> None:
    assert VENUE.polls([BTC])[1].parse(b'{"code":200,"resolution":"1h","fundings":[]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":200}',
        b'{"code":23000,"message":"Too Many Requests!"}',
        b"{}",
        b"<html>502</html>",
        b'{"code":200,"fundings":[{"timestamp":1,"rate":"0.1","direction":"up"}],"funding_rates":[{"market_id":7}]}',
        b'{"code":200,"fundings":[{"timestamp":1,"rate":"x","direction":"long"}],"funding_rates":[1]}',
    ],
)
def test_wrong_answers_to_polls_are_errors(body: bytes) -> None:
    for poll in VENUE.polls([BTC]):
        assert error_of(poll.parse, body)


def order(price: str, size: str) -> dict[str, Any]:
    return {"order_index": 1, "price": price, "initial_base_amount": "9.9", "remaining_base_amount": size}


def orders(bids: Any, asks: Any) -> bytes:
    return json.dumps({"code": 200, "total_asks": 1, "asks": asks, "total_bids": 1, "bids": bids}).encode()


def test_resting_orders_add_up_by_price() -> None:
    bids = [order("80999.5", "1.0"), order("81000.0", "0.1000"), order("81000", "0.2000")]
    book = VENUE.parse_book(orders(bids, [order("81001.0", "0.5000")]), BTC)
    assert book == BookSnapshot(*HEAD, None, [("81000.0", "0.3"), ("80999.5", "1")], [("81001.0", "0.5")], 250, None)


def test_last_level_of_a_list_that_was_cut_is_left_out() -> None:
    cut = [order(f"{81000 + index}.0", "1") for index in range(250)]
    book = VENUE.parse_book(orders([], cut), BTC)
    assert (len(book.asks), book.asks[-1], book.depth) == (249, ("81248.0", "1"), 249)
    one_price = VENUE.parse_book(orders([order("81000.0", "1")] * 250, None), BTC)
    assert (one_price.bids, one_price.depth) == ([("81000.0", "250")], 0)


def test_book_is_requested_by_id() -> None:
    assert VENUE.book_request(BTC) == RestRequest("/orderBookOrders?market_id=7&limit=250")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"code":400,"asks":[],"bids":[]}',
        orders([order("NaN", "1")], []),
        orders([], [order("1", "x")]),
        orders([order("1", "3"), order("1.0", "-1")], []),
        orders([], [order("1", "3"), order("1", "0E-8")]),
    ],
)
def test_wrong_book_is_malformed(body: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.parse_book(body, BTC)
