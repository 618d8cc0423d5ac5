"""One rule on all venues: an invalid row costs itself alone, a level that cannot be read costs the book."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ipc.errors import DecodeError
from ipc.events import Bbo, Event, Funding, Mark, Trade
from ipc.health import Stream
from workers.venues import VENUES
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import InvalidBook, Item, Venue

MS = 1_790_000_123_456
WIRES = {"hyperliquid": "BTC", "aster": "BTCUSDT", "extended": "BTC-USD", "lighter": "7", "paradex": "BTC-USD-PERP"}
ETHS = {"hyperliquid": "ETH", "aster": "ETHUSDT", "extended": "ETH-USD", "lighter": "8", "paradex": "ETH-USD-PERP"}


def markets_of(venue: str) -> dict[str, Listing]:
    named = ((WIRES[venue], "BTC"), (ETHS[venue], "ETH"))
    return {wire: Listing(base, wire, wire, funding_interval_s=28_800) for wire, base in named}


def decode(venue: str, frame: Any) -> list[Item]:
    return VENUES[venue].decode(memoryview(json.dumps(frame).encode()), False, markets_of(venue))


def shown(items: Sequence[Any], attribute: str) -> list[Any]:
    """An attribute of each event, and None for an invalid row; other items are left out."""
    return [
        None if isinstance(item, InvalidRow) else getattr(item, attribute)
        for item in items
        if isinstance(item, Event | InvalidRow)
    ]


# --- frames -------------------------------------------------------------------------------------------------------


def hyperliquid_trade(tid: Any, **changes: Any) -> dict[str, Any]:
    return {"coin": "BTC", "side": "B", "px": "81000.0", "sz": "1", "time": MS, "tid": tid, **changes}


def lighter_trade(trade_id: Any, **changes: Any) -> dict[str, Any]:
    return {"trade_id": trade_id, "price": "81000", "size": "1", "is_maker_ask": True, "timestamp": MS, **changes}


def aster_trade(number: Any, **changes: Any) -> dict[str, Any]:
    return {"e": "aggTrade", "s": "BTCUSDT", "a": number, "p": "81000", "q": "1", "m": True, "T": MS, **changes}


def extended_trade(number: Any, **changes: Any) -> dict[str, Any]:
    return {"i": number, "m": "BTC-USD", "S": "BUY", "p": "81000", "q": "1", "T": MS, **changes}


TRADE_FRAMES = {
    "hyperliquid": lambda *rows: {"channel": "trades", "data": list(rows)},
    "lighter": lambda *rows: {"type": "update/trade", "channel": "trade:7", "trades": list(rows)},
    "aster": lambda *rows: {"stream": "!all@arr", "data": list(rows)},
    "extended": lambda *rows: {"data": list(rows), "ts": MS, "seq": 4},
}
TRADES = {
    "hyperliquid": hyperliquid_trade,
    "lighter": lighter_trade,
    "aster": aster_trade,
    "extended": extended_trade,
}
WRONG = {
    "hyperliquid": [{"side": "X"}, {"px": None}, {"sz": 5}, {"tid": ""}, {"coin": 7}, {"time": "soon"}],
    "lighter": [{"price": None}, {"size": 5}, {"is_maker_ask": "yes"}, {"trade_id": 1.5}, {"timestamp": "soon"}],
    "aster": [{"p": None}, {"q": 5}, {"m": "yes"}, {"a": 1.5}, {"T": []}],
    "extended": [{"S": "X"}, {"p": 5}, {"q": None}, {"i": 1.5}, {"T": "soon"}],
}


@pytest.mark.parametrize(("venue", "change"), [(venue, one) for venue, rows in WRONG.items() for one in rows])
def test_invalid_trade_leaves_its_neighbours(venue: str, change: dict[str, Any]) -> None:
    trade = TRADES[venue]
    items = decode(venue, TRADE_FRAMES[venue](trade(1), trade(2) | change, trade("3")))
    assert shown(items, "trade_id") == ["1", None, "3"]


@pytest.mark.parametrize("venue", TRADES)
@pytest.mark.parametrize("row", [None, 5, "text", [], {}])
def test_row_that_is_no_trade_at_all_leaves_its_neighbours(venue: str, row: Any) -> None:
    items = decode(venue, TRADE_FRAMES[venue](TRADES[venue](1), row, TRADES[venue](3)))
    valid, _ = split_rows([item for item in items if isinstance(item, Trade | InvalidRow)])
    assert [trade.trade_id for trade in valid] == ["1", "3"]


def test_liquidations_of_lighter_are_rows_as_well() -> None:
    frame = {"type": "update/trade", "channel": "trade:7", "trades": None}
    rows = [lighter_trade(1, type="liquidation"), lighter_trade(2, price=None), lighter_trade(3, type="wash")]
    items = decode("lighter", {**frame, "liquidation_trades": rows})
    assert shown(items, "trade_type") == ["liquidation", None, "wash"]


def test_invalid_statistics_of_one_market_leave_those_of_the_others() -> None:
    good = {"mark_price": "81000", "index_price": "81001", "current_funding_rate": "0.0012"}
    for bad in ({**good, "mark_price": 5}, {**good, "current_funding_rate": "abc"}, None, []):
        body = {"7": bad, "8": good, "999": {"mark_price": 5}}
        frame = {"type": "update/market_stats", "channel": "market_stats:all", "timestamp": MS, "market_stats": body}
        items = decode("lighter", frame)
        assert shown(items, "symbol") == [None, "ETH-PERP", "ETH-PERP"]


def test_payloads_of_other_kinds_are_no_invalid_rows() -> None:
    kline = {"e": "kline", "s": "BTCUSDT", "k": {}}
    assert shown(decode("aster", [aster_trade(1), kline, aster_trade(2)]), "trade_id") == ["1", "2"]


def best_frame(venue: str, price: Any, size: Any) -> dict[str, Any]:
    """The best bid as given, and a good best ask."""
    match venue:
        case "hyperliquid":
            sides = [{"px": price, "sz": size, "n": 1}, {"px": "81001", "sz": "1", "n": 1}]
            return {"channel": "bbo", "data": {"coin": "BTC", "time": MS, "bbo": sides}}
        case "aster":
            return {"e": "bookTicker", "s": "BTCUSDT", "b": price, "B": size, "a": "81001", "A": "1", "T": MS}
        case "extended":
            sides = {"b": [{"p": price, "q": size}], "a": [{"p": "81001", "q": "1"}]}
            return {"type": "SNAPSHOT", "data": {"m": "BTC-USD", "d": "1", **sides}, "ts": MS, "seq": 1}
        case "lighter":
            ticker = {"s": "BTC", "b": {"price": price, "size": size}, "a": {"price": "81001", "size": "1"}}
            return {"type": "update/ticker", "channel": "ticker:7", "ticker": ticker, "timestamp": MS}
        case _:
            best = {"market": "BTC-USD-PERP", "bid": price, "bid_size": size, "ask": "81001", "ask_size": "1"}
            return {"method": "subscription", "params": {"channel": "bbo.BTC-USD-PERP", "data": best}}


@pytest.mark.parametrize("venue", WIRES)
@pytest.mark.parametrize(("price", "size"), [("", ""), ("0", "0"), ("81000", "0.000"), ("81000", "0E-8"), ("0", "-0")])
def test_empty_side_of_the_best_prices_leaves_the_other(venue: str, price: str, size: str) -> None:
    (best,) = [item for item in decode(venue, best_frame(venue, price, size)) if isinstance(item, Event)]
    assert isinstance(best, Bbo)
    assert (best.bid_price, best.bid_size, best.ask_price, best.ask_size) == (None, None, "81001", "1")


# --- books --------------------------------------------------------------------------------------------------------


def hyperliquid_book(level: Any, fast: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
    good = {"px": "81000.0", "sz": "1", "n": 1}
    mark = {"fast": True} if fast else {}
    return {"channel": "l2Book", "data": {"coin": "BTC", "time": MS, "levels": [[good, level], []], **mark}}


def lighter_book(level: Any, kind: str = "update") -> dict[str, Any]:
    book = {"nonce": 9, "begin_nonce": 8, "bids": [{"price": "81000", "size": "1"}, level], "asks": []}
    return {"type": f"{kind}/order_book", "channel": "order_book:7", "order_book": book}


def paradex_book(level: Any, kind: str = "d") -> dict[str, Any]:
    book = {"market": "BTC-USD-PERP", "seq_no": 9, "update_type": kind, "inserts": [level]}
    return {"method": "subscription", "params": {"channel": "order_book.BTC-USD-PERP.deltas", "data": book}}


BOOKS = [
    ("hyperliquid", hyperliquid_book({"px": "80999.0", "sz": 5}), Stream.BOOK),
    ("hyperliquid", hyperliquid_book({"px": "80999.0"}), Stream.BOOK),
    ("hyperliquid", hyperliquid_book(None, fast=False), Stream.BOOK20),
    ("hyperliquid", hyperliquid_book(["80999.0", "1"], fast=False), Stream.BOOK20),
    ("lighter", lighter_book({"price": "80999"}), Stream.BOOK),
    ("lighter", lighter_book({"price": 80999, "size": "1"}), Stream.BOOK),
    ("lighter", lighter_book(None, "subscribed"), Stream.BOOK),
    ("lighter", lighter_book({"price": "cheap", "size": "1"}, "subscribed"), Stream.BOOK),
    ("paradex", paradex_book({"side": "BUY", "price": "81000"}), Stream.BOOK),
    ("paradex", paradex_book({"side": "HOLD", "price": "81000", "size": "1"}), Stream.BOOK),
    ("paradex", paradex_book({"side": "BUY", "price": "81000", "size": "1"}, "x"), Stream.BOOK),
    ("paradex", paradex_book({"side": "BUY", "price": 81000, "size": "1"}, "s"), Stream.BOOK),
]


@pytest.mark.parametrize(("venue", "frame", "stream"), BOOKS)
def test_book_with_a_level_that_cannot_be_read_is_an_invalid_book(venue: str, frame: Any, stream: Stream) -> None:
    (book,) = [item for item in decode(venue, frame) if isinstance(item, InvalidBook)]
    assert (book.listing.symbol, book.stream) == ("BTC-PERP", stream)
    assert book.error
    assert not any(isinstance(item, Event) for item in decode(venue, frame))


@pytest.mark.parametrize(("venue", "frame", "stream"), BOOKS)
def test_invalid_book_of_another_market_is_passed_over(venue: str, frame: Any, stream: Stream) -> None:
    items = VENUES[venue].decode(json.dumps(frame).encode(), False, {})
    assert not any(isinstance(item, Event | InvalidBook) for item in items)


# --- answers ------------------------------------------------------------------------------------------------------


def poll(venue: str, name: str) -> Any:
    polls = VENUES[venue].polls(list(markets_of(venue).values()))
    return next(one for one in polls if one.name.startswith(name))


def answer(venue: str, name: str, body: Any) -> list[Event | InvalidRow]:
    return list(poll(venue, name).parse(json.dumps(body).encode()))


def hyperliquid_rate(coin: str, **own: Any) -> list[Any]:
    rate = {"fundingRate": "0.0000125", "nextFundingTime": MS, "fundingIntervalHours": 1, **own}
    return [coin, [["BinPerp", {"fundingRate": 7}], ["HlPerp", rate]]]


ANSWERS = [
    (
        "hyperliquid",
        "predicted",
        [["odd"], hyperliquid_rate("BTC", fundingRate="abc"), hyperliquid_rate("ETH"), ["SOL", [["HlPerp", 7]]]],
        2,
    ),
    (
        "aster",
        "predicted",
        [
            {"symbol": "BTCUSDT", "lastFundingRate": 5},
            {"symbol": "ETHUSDT", "lastFundingRate": "0.0001", "nextFundingTime": str(MS)},
            {"symbol": None},
        ],
        2,
    ),
    (
        "lighter",
        "predicted",
        {
            "code": 200,
            "funding_rates": [
                {"market_id": 7, "exchange": "lighter", "rate": "NaN"},
                {"market_id": "8", "exchange": "lighter", "rate": "0.0001"},
                {"market_id": 8, "exchange": "binance", "rate": 1},
                5,
            ],
        },
        2,
    ),
    (
        "extended",
        "stats",
        {
            "status": "OK",
            "data": [
                {"name": "BTC-USD", "marketStats": {"fundingRate": "abc"}},
                {"name": "ETH-USD", "marketStats": {"fundingRate": "0.00001", "nextFundingRate": float(MS)}},
                {"marketStats": None},
            ],
        },
        2,
    ),
]


@pytest.mark.parametrize(("venue", "name", "body", "invalid"), ANSWERS)
def test_invalid_row_of_an_answer_leaves_the_others(venue: str, name: str, body: Any, invalid: int) -> None:
    events, rows = split_rows(answer(venue, name, body))
    (rate,) = [event for event in events if isinstance(event, Funding)]
    assert (rate.symbol, len(rows)) == ("ETH-PERP", invalid)
    assert {event.symbol for event in events} == {"ETH-PERP"}


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        ("hyperliquid", [{"coin": "BTC", "fundingRate": "0.1", "time": MS - 9}, {"coin": "BTC", "fundingRate": 5}]),
        ("aster", [{"symbol": "BTCUSDT", "fundingRate": "0.1", "fundingTime": MS - 9}, {"symbol": "BTCUSDT"}]),
        ("extended", {"status": "OK", "data": [{"m": "BTC-USD", "T": MS - 9, "f": "0.1"}, {"m": "BTC-USD", "T": "x"}]}),
        (
            "lighter",
            {
                "code": 200,
                "fundings": [
                    {"timestamp": str(MS // 1000), "rate": "10", "direction": "long"},
                    {"timestamp": "soon", "rate": "10", "direction": "long"},
                ],
            },
        ),
    ],
)
def test_invalid_payment_leaves_the_others(venue: str, body: Any) -> None:
    (rate,), (row,) = split_rows(answer(venue, "settled", body))
    assert isinstance(rate, Funding)
    assert (rate.rate, rate.phase) == ("0.1", "settled")
    assert rate.exchange_ns is not None
    assert row.error


def test_answers_with_mark_prices_keep_them_beside_an_invalid_row() -> None:
    rows = [{"name": "ETH-USD", "marketStats": {"markPrice": "5"}}, {"name": 7}]
    (mark,), (_,) = split_rows(answer("extended", "stats", {"status": "OK", "data": rows}))
    assert isinstance(mark, Mark)


# --- market lists -------------------------------------------------------------------------------------------------


def hyperliquid_list(*rows: Any) -> list[Any]:
    return [{"universe": list(rows)}]


def hyperliquid_market(name: Any = "BTC", **changes: Any) -> dict[str, Any]:
    return {"name": name, "szDecimals": 5, **changes}


def aster_list(*rows: Any) -> list[Any]:
    return [{"symbols": list(rows)}, [{"symbol": "BTCUSDT", "fundingIntervalHours": "4"}, {"fundingIntervalHours": 8}]]


def aster_market(name: Any = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.10"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}]
    market = {"symbol": name, "status": "TRADING", "contractType": "PERPETUAL", "marginAsset": "USDT"}
    return {**market, "filters": filters, **changes}


def extended_list(*rows: Any) -> list[Any]:
    return [{"status": "OK", "data": list(rows)}]


def extended_market(name: Any = "BTC-USD", **changes: Any) -> dict[str, Any]:
    trading = {"minPriceChange": "1", "minOrderSizeChange": "0.001"}
    return {"name": name, "status": "ACTIVE", "type": "PERPETUAL", "tradingConfig": trading, **changes}


def lighter_list(*rows: Any) -> list[Any]:
    return [{"code": 200, "order_books": list(rows)}]


def lighter_market(name: Any = "BTC", number: Any = 1, **changes: Any) -> dict[str, Any]:
    decimals = {"supported_size_decimals": 5, "supported_price_decimals": "1"}
    return {"symbol": name, "market_id": number, "market_type": "perp", "status": "active", **decimals, **changes}


def paradex_list(*rows: Any) -> list[Any]:
    return [{"results": list(rows)}]


def paradex_market(name: Any = "BTC-USD-PERP", **changes: Any) -> dict[str, Any]:
    steps = {"price_tick_size": "0.1", "order_size_increment": "0.001"}
    return {"symbol": name, "asset_kind": "PERP", "funding_period_hours": 8, **steps, **changes}


LISTS = {
    "hyperliquid": (hyperliquid_list, hyperliquid_market),
    "aster": (aster_list, aster_market),
    "extended": (extended_list, extended_market),
    "lighter": (lighter_list, lighter_market),
    "paradex": (paradex_list, paradex_market),
}
OUT_OF_RANGE = {
    "hyperliquid": [
        *({"szDecimals": decimals} for decimals in (-1, 19, 10**9, 0.5, "x", None)),
        *({"name": name} for name in ("", 7, None)),
    ],
    "aster": [
        *(
            {"filters": [{"filterType": "PRICE_FILTER", "tickSize": size}]}
            for size in ("0", "-1", "x", "1e400", "1" * 200)
        ),
        {"filters": [{"filterType": "LOT_SIZE", "stepSize": "NaN"}]},
        *({"status": status} for status in ("", 7)),
    ],
    "extended": [
        *({"tradingConfig": {"minPriceChange": change}} for change in ("0", "-1", "x", "1e400")),
        *({"tradingConfig": {"minOrderSizeChange": change}} for change in ("0", "Infinity")),
        *({"name": name} for name in ("", None, 7)),
    ],
    "lighter": [
        *({"supported_price_decimals": decimals} for decimals in (-1, 19, 10**9, "x", 0.5)),
        *({"supported_size_decimals": decimals} for decimals in ("-1", "1" * 200)),
        *({"market_id": number} for number in (-1, "1/../x", "1&y", 10**9, None)),
    ],
    "paradex": [
        *({"funding_period_hours": hours} for hours in (-8, 10**9, "x", 1e300)),
        *({"price_tick_size": size} for size in ("0", "-0.1", "x")),
        *({"order_size_increment": size} for size in ("0", "1e400")),
    ],
}
OTHER = {
    "hyperliquid": "ETH",
    "aster": "ETHUSDT",
    "extended": "ETH-USD",
    "lighter": "ETH",
    "paradex": "ETH-USD-PERP",
}


def listed(venue: str, *rows: Any) -> tuple[list[Listing], list[InvalidRow]]:
    bodies = [json.dumps(body).encode() for body in LISTS[venue][0](*rows)]
    return split_rows(VENUES[venue].parse_listings(bodies))


def other(venue: str) -> dict[str, Any]:
    return LISTS[venue][1](OTHER[venue], 2) if venue == "lighter" else LISTS[venue][1](OTHER[venue])


@pytest.mark.parametrize(
    ("venue", "change"), [(venue, change) for venue, changes in OUT_OF_RANGE.items() for change in changes]
)
def test_market_with_a_value_out_of_range_leaves_the_others(venue: str, change: dict[str, Any]) -> None:
    found, invalid = listed(venue, {**LISTS[venue][1](), **change}, other(venue))
    assert [one.symbol for one in found] == ["ETH-PERP"]
    assert len(invalid) == (2 if venue == "aster" else 1)  # one of its intervals is invalid as well


@pytest.mark.parametrize("venue", LISTS)
@pytest.mark.parametrize("row", [None, 5, "BTC", [], {}])
def test_row_that_is_no_market_at_all_leaves_the_others(venue: str, row: Any) -> None:
    found, invalid = listed(venue, row, other(venue))
    assert [one.symbol for one in found] == ["ETH-PERP"]
    assert invalid


@pytest.mark.parametrize("venue", LISTS)
@pytest.mark.parametrize("base", ["币安", "b.t.c", "X" * 40, "X" * 200, "A B", "A/B", "a\x1b[2J"])
def test_market_whose_name_cannot_be_carried_is_listed_without_one(venue: str, base: str) -> None:
    name = OTHER[venue].replace("ETH", base)
    found, invalid = listed(venue, LISTS[venue][1](), {**other(venue), "symbol": name, "name": name})
    assert [(one.symbol, one.venue_symbol) for one in found] == [("BTC-PERP", found[0].venue_symbol), (None, name[:64])]
    assert len(invalid) == (venue == "aster")


def test_market_whose_wire_name_fits_no_url_is_listed_without_a_name() -> None:
    found, _ = listed("paradex", paradex_market("BTC-U/../D-PERP"), paradex_market("ETH-USD-PERP"))
    assert [(one.symbol, one.wire) for one in found] == [("ETH-PERP", "ETH-USD-PERP"), (None, "BTC-U/../D-PERP")]


@pytest.mark.parametrize(
    ("venue", "word", "status", "is_trading"),
    [
        ("aster", "TRADING", "active", True),
        ("aster", "PRE_SETTLE", "halted", False),
        ("aster", "SETTLING", "delisted", False),
        ("aster", "AUCTION", "AUCTION", True),
        ("extended", "REDUCE_ONLY", "active", True),
        ("extended", "DISABLED", "halted", False),
        ("extended", "POST_ONLY", "POST_ONLY", True),
        ("lighter", "inactive", "halted", False),
        ("lighter", "post-only", "post-only", True),
    ],
)
def test_status_that_is_not_known_is_the_venues_word(venue: str, word: str, status: str, is_trading: bool) -> None:  # noqa: FBT001
    (found,), _ = listed(venue, {**LISTS[venue][1](), "status": word})
    assert (found.status, found.is_trading) == (status, is_trading)
    assert found.instrument(venue).status == status


def test_funding_periods_in_every_spelling() -> None:
    hours = {"BTC": 8, "ETH": 8.0, "NEW": 0.5, "ODD": "8", "OLD": 0}
    rows = [paradex_market(f"{base}-USD-PERP", funding_period_hours=period) for base, period in hours.items()]
    found, invalid = listed("paradex", *rows)
    assert {one.base: one.funding_interval_s for one in found} == {
        "BTC": 28_800,
        "ETH": 28_800,
        "NEW": 1800,
        "ODD": 28_800,
        "OLD": None,
    }
    assert invalid == []
    assert {one.funding_interval_s for one in listed("aster", aster_market())[0]} == {14_400}


def test_fraction_of_an_hour_between_payments() -> None:
    (rate,) = answer("hyperliquid", "predicted", [hyperliquid_rate("BTC", fundingIntervalHours=0.5)])
    assert isinstance(rate, Funding)
    assert (rate.interval_s, rate.rate_8h) == (1800, "0.000200000000")


@pytest.mark.parametrize("other", [None, 5, ["BinPerp"], ["BinPerp", None, 1], [None, {}], {}])
def test_rate_of_another_venue_that_cannot_be_read_leaves_ours(other: Any) -> None:
    coin, rates = hyperliquid_rate("BTC")
    assert [
        one.rate for one in answer("hyperliquid", "predicted", [[coin, [other, *rates]]]) if isinstance(one, Funding)
    ] == ["0.0000125"]


def test_newest_observation_that_cannot_be_read_leaves_the_one_before() -> None:
    rows = [{"market": "BTC-USD-PERP", "funding_rate": rate, "funding_period_hours": 8} for rate in ("x", "0.1", "0.2")]
    items = answer("paradex", "predicted.BTC-PERP", {"results": rows})
    assert sorted(shown(items, "rate_native"), key=str) == ["0.1", None]


@pytest.mark.parametrize("rate", ["1_0", " 1", "+1", "\u0661", "NaN", True, [1], {}, "0.1e999"])
def test_rate_of_lighter_is_a_decimal_however_it_is_written(rate: Any) -> None:
    rows = [{"market_id": 7, "exchange": "lighter", "rate": one} for one in (rate, 1.2e-05, "1.2E-5")]
    items = answer("lighter", "predicted", {"code": 200, "funding_rates": rows})
    assert shown(items, "rate_native") == [None, "0.000012", "0.000012"]


@pytest.mark.parametrize("venue", LISTS)
def test_answer_that_is_no_list_is_an_error(venue: str) -> None:
    for body in (b"", b"null", b"5", b'{"code":1}', b"<html>", b"[" * 5000):
        with pytest.raises(DecodeError):
            VENUES[venue].parse_listings([body, b"[]"])


def test_every_venue_is_tested_here() -> None:
    assert set(LISTS) == set(WIRES) == set(VENUES)
    assert all(isinstance(venue, Venue) for venue in VENUES.values())
