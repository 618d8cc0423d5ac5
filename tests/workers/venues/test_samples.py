"""Recorded messages of all five venues decode to exactly the events that they hold, and to nothing else.

The recordings are no part of the project: ``PARAPHINA_SAMPLES_DIR`` says where they are, as ``<venue>/<file>.json``.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from invalid import error_of

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Liquidation, Mark, Trade
from ipc.orderbook import OrderBook
from workers.venues.aster.market_data import Aster
from workers.venues.extended.market_data import Extended
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.lighter.market_data import Lighter
from workers.venues.listing import Listing
from workers.venues.paradex.market_data import Paradex
from workers.venues.venue import FrameSeq, Item, Venue

SAMPLES = Path(os.environ.get("PARAPHINA_SAMPLES_DIR", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("PARAPHINA_SAMPLES_DIR"), reason="PARAPHINA_SAMPLES_DIR is not set: no recordings"
)


def sampled(names: str | tuple[str, ...], cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrise over samples; without the directory a test function is skipped once, not once per sample."""
    chosen = list(cases)
    return pytest.mark.parametrize(names, chosen if os.environ.get("PARAPHINA_SAMPLES_DIR") else chosen[:1])


VENUES: dict[str, Venue] = {venue.name: venue for venue in (Aster(), Extended(), Hyperliquid(), Lighter(), Paradex())}

#: What each frame of a file holds: items of one frame apart by blanks, frames by bars, ``-`` for nothing.
FRAMES: dict[str, dict[str, str]] = {
    "hyperliquid": {
        "ws_activeAssetCtx": "Mark Funding | Mark Funding | Mark Funding",
        "ws_allDexsAssetCtxs": "-",
        "ws_allMids": "-",
        "ws_bbo": "Bbo | Bbo | Bbo",
        "ws_candle": "-",
        "ws_connection_text": "-",
        "ws_error": "Refused | Refused | Refused | Refused",
        "ws_l2Book": "BookSnapshot | BookSnapshot | BookSnapshot",
        "ws_l2Book_fast": "BookSnapshot",
        "ws_notification": "-",
        "ws_orderUpdates": "- | - | -",
        "ws_pong": "Pong",
        "ws_post": "- | -",
        "ws_subscription_response": " | ".join(["Ack"] * 9 + ["Unsubscribed"]),
        "ws_trades": "Trade Trade | Trade | Trade Trade Trade Trade Trade Trade Trade Trade",
        "ws_userFills": "- | -",
        "ws_userFundings": "-",
        "ws_user_events": "- | - | -",
    },
    "aster": {
        "ws_ack": "Ack | Ack | -",
        "ws_aggTrade": "Trade | Trade",
        "ws_bookTicker": "Bbo | Bbo",
        "ws_depthUpdate": "BookDelta | BookDelta",
        # Only the stream's name tells a raw frame of the top levels from one of changes.
        "ws_depth_partial": "BookDelta | BookSnapshot",
        "ws_error": "Refused | Refused | Refused",
        "ws_forceOrder": "Liquidation | Liquidation",
        "ws_kline": "-",
        "ws_markPriceUpdate": "Mark Funding | Mark Funding | Mark Funding",
        "ws_ticker": "- | -",
        "ws_tradepro": "-",
        "ws_user_ACCOUNT_UPDATE": "-",
        "ws_user_ORDER_TRADE_UPDATE": "-",
        "ws_user_other": "- | - | - | -",
    },
    "extended": {
        "ws_account": "FrameSeq | FrameSeq | FrameSeq",
        "ws_candles": "FrameSeq | FrameSeq",
        "ws_funding": "FrameSeq Funding",
        "ws_orderbook_depth1": "FrameSeq Bbo",
        "ws_orderbook_docs": "FrameSeq BookSnapshot",
        "ws_orderbook_full": (
            "FrameSeq BookSnapshot | FrameSeq BookDelta | FrameSeq BookDelta | FrameSeq BookSnapshot"
        ),
        "ws_orderbook_full_btc": "FrameSeq BookSnapshot | FrameSeq BookDelta",
        # The third frame has a level that says only by how much it changed.
        "ws_orderbook_sequence": (
            "FrameSeq BookSnapshot | FrameSeq BookDelta | FrameSeq RelativeDelta | FrameSeq BookDelta"
            " | FrameSeq BookDelta"
        ),
        "ws_prices": "FrameSeq Mark | FrameSeq Mark | FrameSeq Mark",
        "ws_trades": "FrameSeq Trade | FrameSeq Trade",
        "ws_v2_frames": "- | - | Refused | FrameSeq BookSnapshot | FrameSeq Trade | FrameSeq",
    },
    "lighter": {
        "ws_account": "- | - | - | - | -",
        "ws_candle": "-",
        "ws_errors": "Refused | Refused | Refused",
        "ws_height": "-",
        "ws_market_stats": "Mark Funding | Ack Mark Funding | Mark Funding",
        "ws_market_stats_all": "Mark Funding",
        "ws_order_book_sequence": "Ack BookSnapshot | BookDelta | BookDelta | BookDelta | BookDelta",
        "ws_order_book_subscribed": "Ack BookSnapshot | Ack BookSnapshot | Ack BookSnapshot",
        "ws_order_book_update": "BookDelta | BookDelta | BookDelta",
        "ws_session": "- | Unsubscribed | Ping | ServerShutdown",
        "ws_spot_market_stats": "-",
        "ws_ticker": "Ack Bbo | Bbo | Bbo",
        "ws_trade": "Ack Trade | Trade",
    },
    "paradex": {
        "sbe_bbo_BTC": " | ".join(["Ack"] + ["Bbo"] * 6),
        "sbe_control": "- | - | -",
        "sbe_funding_data": "Funding | Funding",
        "sbe_markets_summary": "Mark | Mark",
        "sbe_null_sides": "Bbo | Bbo | BookSnapshot",
        "sbe_order_book_deltas_BTC_run": "Ack | BookDelta | BookDelta | BookDelta",
        "sbe_order_book_deltas_ETH": " | ".join(["Ack", "BookSnapshot"] + ["BookDelta"] * 16),
        "sbe_trades": "Trade | Trade | Trade",
        "ws_auth_ack": "- | -",
        "ws_bbo": "Bbo",
        "ws_errors": "Refused | Refused",
        "ws_funding_data": "Funding",
        "ws_markets_summary": "Mark | Mark",
        "ws_order_book_delta_json": "BookSnapshot | BookDelta",
        "ws_order_book_snapshot": "BookSnapshot | BookSnapshot",
        "ws_private": "- | - | - | -",
        "ws_subscribe_ack": "Ack | Ack | Ack",
        "ws_subscribe_ack_usin_string": "Ack | Ack",
        "ws_trades": "Trade | Trade",
    },
}

#: Symbols that a file's events have, where they are not all named by the venue's symbol.
UNNAMED = {("paradex", "ws_markets_summary"): {"ORDI-PERP", None}}


class Offline:
    """Any market at all, by what its wire name says."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def get(self, wire: str, /) -> Listing:
        return self._venue.offline_listing(wire)


def sample(venue: str, file: str) -> dict[str, Any]:
    return json.loads((SAMPLES / venue / f"{file}.json").read_text())


def payload_of(message: Any) -> tuple[bytes, bool]:
    """A message as it stood on the wire, and whether its frame was binary."""
    if isinstance(message, dict) and "opcode" in message:
        binary = message["opcode"] == "binary"
        return (base64.b64decode(message["b64"]) if binary else message["text"].encode()), binary
    return (message if isinstance(message, str) else json.dumps(message)).encode(), False


def decoded(venue: str, file: str) -> list[tuple[bytes, list[Item]]]:
    """Every frame of a file with its items."""
    payloads = map(payload_of, sample(venue, file)["messages"])
    offline = Offline(VENUES[venue])
    return [(payload, VENUES[venue].decode(memoryview(payload), binary, offline)) for payload, binary in payloads]


def events(venue: str, file: str) -> list[Event]:
    return [item for _, items in decoded(venue, file) for item in items if isinstance(item, Event)]


def written(event: Event) -> Iterator[str | None]:
    """The decimal texts of an event that should be the venue's own."""
    match event:
        case BookSnapshot() | BookDelta():
            yield from (text for level in event.bids + event.asks for text in level)
        case Bbo():
            yield from (event.bid_price, event.bid_size, event.ask_price, event.ask_size)
        case Trade() | Liquidation():
            yield from (event.price, event.size)
        case Mark():
            yield from (event.mark_price, event.index_price, event.open_interest, event.open_interest_notional)
        case Funding():
            yield event.rate_native


def leaves(message: Any) -> Iterator[Any]:
    if isinstance(message, dict | list):
        for member in message.values() if isinstance(message, dict) else message:
            yield from leaves(member)
    else:
        yield message


FILES = [(venue, file) for venue, files in FRAMES.items() for file in files]


# --- WebSocket ----------------------------------------------------------------------------------------------------


@sampled("venue", VENUES)
def test_no_recorded_frame_is_passed_over(venue: str) -> None:
    found = {path.stem for path in (SAMPLES / venue).glob("*.json") if not path.stem.startswith("rest_")}
    assert {file for file in found if sample(venue, file)["direction"] == "in"} == set(FRAMES[venue])


@sampled(("venue", "file"), FILES)
def test_frames_hold_what_their_venue_says(venue: str, file: str) -> None:
    kinds = [" ".join(type(item).__name__ for item in items) or "-" for _, items in decoded(venue, file)]
    assert " | ".join(kinds) == FRAMES[venue][file]


@sampled(("venue", "file"), FILES)
def test_numbers_are_the_venues_own(venue: str, file: str) -> None:
    for payload, items in decoded(venue, file):
        texts = {text for item in items if isinstance(item, Event) for text in written(item) if text is not None}
        if file.startswith("sbe_"):
            assert all(struct.pack("<q", int(Decimal(text).scaleb(8))) in payload for text in texts)
        elif texts:
            assert texts <= {leaf for leaf in leaves(json.loads(payload)) if isinstance(leaf, str)}


@sampled(("venue", "file"), FILES)
def test_no_recorded_book_is_refused(venue: str, file: str) -> None:
    for event in events(venue, file):
        if isinstance(event, BookSnapshot):
            assert OrderBook().replace(event.bids, event.asks) == (event.bids, event.asks)
        elif isinstance(event, BookDelta):
            assert OrderBook().apply(event.bids, event.asks) == (event.bids, event.asks)


@sampled(("venue", "file"), FILES)
def test_times_are_the_venues_own(venue: str, file: str) -> None:
    for payload, items in decoded(venue, file):
        times = {item.exchange_ns for item in items if isinstance(item, Event) and item.exchange_ns is not None}
        if file.startswith("sbe_"):
            assert all(struct.pack("<q", time // 1000) in payload for time in times)
        elif times:
            given = [leaf for leaf in leaves(json.loads(payload)) if isinstance(leaf, int)]
            assert times <= {time * unit for time in given for unit in (1000, 1_000_000)}
        # A unit mistaken for another puts a time outside of this century; Aster's examples have made-up times.
        assert venue == "aster" or all(10**18 < time < 4 * 10**18 for time in times)


@sampled(("venue", "file"), FILES)
def test_markets_are_named_where_they_can_be(venue: str, file: str) -> None:
    symbols = {event.symbol for event in events(venue, file)}
    if (venue, file) in UNNAMED:
        assert symbols == UNNAMED[venue, file]
    elif venue == "lighter":
        # Ids name nothing; some frames carry the symbol beside.
        assert symbols <= {None, "BTC-PERP", "ETH-PERP", "NVDA-PERP"}
    else:
        assert all(symbol is not None and symbol.endswith("-PERP") for symbol in symbols)


@sampled(("venue", "file"), FILES)
def test_every_side_and_level_of_a_book_arrives(venue: str, file: str) -> None:
    for payload, items in decoded(venue, file):
        for book in items:
            if isinstance(book, BookSnapshot | BookDelta) and not file.startswith("sbe_"):
                assert len(book.bids) + len(book.asks) == count_levels(json.loads(payload))
            if isinstance(book, BookSnapshot):
                prices = [[Decimal(price) for price, _ in side] for side in (book.bids, book.asks)]
                assert prices == [sorted(prices[0], reverse=True), sorted(prices[1])]


def count_levels(message: Any) -> int:
    """Members that look like a price level, however the venue writes it."""
    if isinstance(message, list):
        pair = len(message) == 2 and all(isinstance(text, str) for text in message)
        return 1 if pair else sum(map(count_levels, message))
    if isinstance(message, dict):
        sizes = {"price", "px", "p"} & set(message) and {"size", "sz", "q"} & set(message)
        # Beside its lists, a Paradex frame may name the best interactive price.
        return 1 if sizes else sum(count_levels(value) for key, value in message.items() if not key.startswith("best"))
    return 0


def test_chains_of_recorded_runs_have_no_gap() -> None:
    run = [event for event in events("paradex", "sbe_order_book_deltas_ETH") if not isinstance(event, BookSnapshot)]
    (snapshot,) = [event for event in events("paradex", "sbe_order_book_deltas_ETH") if isinstance(event, BookSnapshot)]
    assert (len(snapshot.bids), len(snapshot.asks), snapshot.depth) == (124, 30, None)
    last = snapshot.venue_seq
    for event in run:
        assert isinstance(event, BookDelta)
        assert event.prev_venue_seq == last
        last = event.venue_seq


def test_gap_of_the_lighter_run_is_its_last_frame() -> None:
    books = [e for e in events("lighter", "ws_order_book_sequence") if isinstance(e, BookSnapshot | BookDelta)]
    joined = [
        isinstance(after, BookDelta) and after.prev_venue_seq == before.venue_seq for before, after in pairwise(books)
    ]
    assert joined == [True, True, True, False]


def test_gap_of_the_extended_run_is_its_last_frame() -> None:
    items = [item for _, frame in decoded("extended", "ws_orderbook_sequence") for item in frame]
    assert [item.seq for item in items if isinstance(item, FrameSeq)] == [1, 2, 3, 4, 6]


@sampled(
    ("venue", "file", "expected"),
    [
        ("hyperliquid", "ws_activeAssetCtx", {(3600, "fraction_per_interval", "predicted", "oracle")}),
        ("aster", "ws_markPriceUpdate", {(None, "fraction_per_interval", "predicted", "mark")}),
        ("extended", "ws_funding", {(3600, "fraction_per_interval", "settled", "unknown")}),
        ("lighter", "ws_market_stats", {(3600, "percent_per_hour", "predicted", "unknown")}),
        ("lighter", "ws_market_stats_all", {(3600, "percent_per_hour", "predicted", "unknown")}),
        ("paradex", "ws_funding_data", {(28_800, "fraction_per_interval", "predicted", "usdc_oracle_adjusted")}),
        ("paradex", "sbe_funding_data", {(28_800, "fraction_per_interval", "predicted", "usdc_oracle_adjusted")}),
    ],
)
def test_unit_and_interval_of_every_recorded_rate(venue: str, file: str, expected: set[tuple[Any, ...]]) -> None:
    rates = [event for event in events(venue, file) if isinstance(event, Funding)]
    assert {(one.interval_s, one.rate_unit, one.phase, one.settlement_price_kind) for one in rates} == expected
    for one in rates:
        divisor = 100 if one.rate_unit == "percent_per_hour" else 1
        assert Decimal(one.rate or "") == Decimal(one.rate_native or "") / divisor
        if one.interval_s is None:
            assert one.rate_8h is None
        else:
            eight_hours = Decimal(one.rate or "") * 28_800 / one.interval_s
            assert abs(Decimal(one.rate_8h or "") - eight_hours) <= Decimal("5e-13")


@sampled(("venue", "file"), [("hyperliquid", "ws_l2Book"), ("hyperliquid", "ws_l2Book_fast")])
def test_frames_that_are_not_marked_fast_are_the_ordinary_book(venue: str, file: str) -> None:
    depths = [event.depth for event in events(venue, file) if isinstance(event, BookSnapshot)]
    assert depths == ([20] if file == "ws_l2Book_fast" else [20, 20, 20])


def test_first_lighter_trades_are_a_backlog() -> None:
    assert [event.flags for event in events("lighter", "ws_trade")] == [("backlog",), ()]


@sampled(
    ("venue", "file", "wire"),
    [("lighter", "ws_requests", "0"), ("paradex", "ws_subscribe_request", "BTC-USD-PERP")],
)
def test_requests_look_like_those_of_other_clients(venue: str, file: str, wire: str) -> None:
    listing = Listing("BTC", wire, wire)
    (connection,) = VENUES[venue].connections([listing], "ws://venue", {})
    ours = [
        json.loads(message or b"null") | {"id": 0}
        for one in connection.subscriptions
        for message in (one.subscribe, one.unsubscribe)
    ]
    theirs = [message | {"id": 0} for message in sample(venue, file)["messages"]]
    assert sum(message in ours for message in theirs) >= 3


# --- REST ---------------------------------------------------------------------------------------------------------


def bodies(venue: str, file: str) -> list[bytes]:
    return [json.dumps(message).encode() for message in sample(venue, file)["messages"]]


def polled(venue: str, file: str, wire: str, poll_name: str, body: int = 0) -> list[Event]:
    """What a venue's poll for one market makes of a recorded answer."""
    listing = VENUES[venue].offline_listing(wire)
    (poll,) = [poll for poll in VENUES[venue].polls([listing]) if poll.name.partition(".")[0] == poll_name]
    return poll.parse(bodies(venue, file)[body])


def listed(venue: str, *files: str) -> dict[str | None, Listing]:
    listings = VENUES[venue].parse_listings([bodies(venue, file)[0] for file in files])
    return {listing.symbol: listing for listing in listings}


def test_hyperliquid_lists_its_whole_universe() -> None:
    universe = sample("hyperliquid", "rest_meta")["messages"][0]["universe"]
    found = listed("hyperliquid", "rest_meta")
    assert len(found) == len(universe)
    assert found["BTC-PERP"].market_id == str([asset["name"] for asset in universe].index("BTC"))
    assert found["PEPE-PERP"].multiplier == 1000
    assert sum(one.status == "delisted" for one in found.values()) == sum("isDelisted" in one for one in universe)


@sampled(
    ("venue", "files", "symbol", "steps"),
    [
        ("aster", ("rest_exchangeInfo", "rest_fundingInfo"), "BTC-PERP", ("0.1", "0.001")),
        ("extended", ("rest_markets",), "BTC-PERP", ("1", "0.00001")),
        ("lighter", ("rest_orderBooks",), "ETH-PERP", ("0.01", "0.0001")),
        ("paradex", ("rest_markets",), "BODEN-PERP", ("0.00001", "1")),
    ],
)
def test_listed_markets_have_their_steps(
    venue: str, files: tuple[str, ...], symbol: str, steps: tuple[str, str]
) -> None:
    listing = listed(venue, *files)[symbol]
    assert (listing.tick, listing.lot, listing.status, listing.multiplier) == (*steps, "active", 1)


@sampled(
    ("venue", "file", "wire", "levels"),
    [
        ("hyperliquid", "rest_l2Book", "@107", None),
        ("aster", "rest_depth", "BNBUSDT", (3, 3)),
        ("extended", "rest_orderbook", "BTC-USD", (1, 1)),
        ("lighter", "rest_orderBookOrders", "0", (1, 1)),
        ("paradex", "rest_orderbook", "BTC-USD-PERP", (1, 1)),
    ],
)
def test_recorded_books_are_books(venue: str, file: str, wire: str, levels: tuple[int, int] | None) -> None:
    book = VENUES[venue].parse_book(bodies(venue, file)[0], VENUES[venue].offline_listing(wire))
    assert levels is None or (len(book.bids), len(book.asks)) == levels
    assert Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])
    assert OrderBook().replace(book.bids, book.asks) == (book.bids, book.asks)


@sampled(
    ("venue", "file", "wire", "poll_name", "kinds"),
    [
        ("hyperliquid", "rest_predictedFundings", "0G", "predicted", {"Funding"}),
        ("hyperliquid", "rest_fundingHistory", "ETH", "settled", {"Funding"}),
        ("aster", "rest_premiumIndex", "BTCUSDT", "predicted", {"Funding"}),
        ("aster", "rest_openInterest", "ASTERUSDT", "open_interest", {"Mark"}),
        ("aster", "rest_fundingRate", "BTCUSDT", "settled", {"Funding"}),
        ("extended", "rest_markets", "BTC-USD", "stats", {"Funding", "Mark"}),
        ("extended", "rest_funding", "BTC-USD", "settled", {"Funding"}),
        ("lighter", "rest_funding_rates", "0", "predicted", {"Funding"}),
        ("lighter", "rest_fundings", "0", "settled", {"Funding"}),
        ("paradex", "rest_funding_data", "BTC-USD-PERP", "predicted", {"Funding"}),
    ],
)
def test_recorded_answers_to_polls_are_events(
    venue: str, file: str, wire: str, poll_name: str, kinds: set[str]
) -> None:
    found = polled(venue, file, wire, poll_name)
    assert {type(event).__name__ for event in found} == kinds
    assert len(found) == len(kinds)
    for event in found:
        if isinstance(event, Funding):
            assert event.phase == ("settled" if poll_name == "settled" else "predicted")
            assert event.rate is not None


def test_same_lighter_rate_in_both_units_is_the_same_rate_per_eight_hours() -> None:
    (by_stream,) = [e for e in events("lighter", "ws_market_stats")[:2] if isinstance(e, Funding)]
    (by_poll,) = polled("lighter", "rest_funding_rates", "0", "predicted")
    assert isinstance(by_poll, Funding)
    assert by_stream.rate_unit != by_poll.rate_unit
    assert by_stream.rate_8h == by_poll.rate_8h


@sampled(
    ("venue", "file"),
    [
        ("hyperliquid", "rest_error"),
        ("aster", "rest_error"),
        ("extended", "rest_errors"),
        ("lighter", "rest_errors"),
        ("paradex", "rest_error"),
    ],
)
def test_recorded_errors_are_no_answers(venue: str, file: str) -> None:
    owner = VENUES[venue]
    listing = owner.offline_listing("BTC")
    for body in bodies(venue, file):
        assert error_of(owner.parse_listings, [body] * len(owner.listing_requests()))
        with pytest.raises(DecodeError):
            owner.parse_book(body, listing)
        for poll in owner.polls([listing]):
            assert error_of(poll.parse, body)
