"""Faults of books and of rows, as bytes on the wire."""

from __future__ import annotations

import itertools
import struct
from decimal import Decimal, InvalidOperation

import msgspec
import pytest

from ipc.errors import UsageError
from ipc.topics import VENUES

PATHS = {"hyperliquid": "/ws", "aster": "/ws/btcusdt@depth@100ms/ethusdt@depth@100ms", "lighter": "/stream"}
REQUESTS = {
    "hyperliquid": [
        {"method": "subscribe", "subscription": {"type": "l2Book", "coin": coin, "fast": is_fast}}
        for coin in ("BTC", "ETH")
        for is_fast in (True, False)
    ],
    "lighter": [{"type": "subscribe", "channel": f"order_book/{number}"} for number in (1, 0)],
    "paradex": [
        {"jsonrpc": "2.0", "method": "subscribe", "params": {"channel": f"order_book.{name}.deltas"}, "id": 1}
        for name in ("BTC-USD-PERP", "ETH-USD-PERP")
    ],
}
NULL = -(2**63)
FLAWS = ("unsorted", "doubled", "zero_size", "negative", "not_decimal")
ENCODINGS = [*((name, False) for name in VENUES), ("paradex", True)]


class Listener:
    """Client of the books of BTC and ETH: every book frame as (market, is snapshot, bids), bids as pairs of text."""

    def __init__(self, stage, *, is_binary=False, books=None):
        self.stage, self.name, self.is_binary, self.books = stage, stage.venue.name, is_binary, books
        self.join()

    def join(self):
        path = "/v1" if self.name == "paradex" else PATHS.get(self.name, "/stream.extended.exchange/v1/orderbooks")
        query = {"sbeSchemaId": "1", "sbeSchemaVersion": "1"} if self.is_binary else {}
        self.client = self.stage.connect(path, **query)
        for request in REQUESTS.get(self.name, []):
            self.client.say(request)

    def heard(self, seconds=0.0):
        self.stage.run(seconds)
        found = [self.read(frame) for frame in self.client.raw()]
        return [one for one in found if one is not None]

    def read(self, frame):
        if frame.is_binary:
            published = self.books.decode_sbe(frame.payload)
            return (
                (published["strings"][0], published["is_snapshot"], published["bids"])
                if published["template"] == 3
                else None
            )
        if frame.payload[:1] != b"{":
            return None  # a greeting
        value = msgspec.json.decode(frame.payload)
        return getattr(self, f"_{self.name}")(value)

    @staticmethod
    def _hyperliquid(value):
        if value["channel"] != "l2Book":
            return None
        data = value["data"]
        return data["coin"], True, [(level["px"], level["sz"]) for level in data["levels"][0]]

    @staticmethod
    def _aster(value):
        return value["s"], False, value["b"]

    @staticmethod
    def _extended(value):
        return (
            value["data"]["m"],
            value["type"] == "SNAPSHOT",
            [(level["p"], level["q"]) for level in value["data"]["b"]],
        )

    @staticmethod
    def _lighter(value):
        if "order_book" not in value:
            return None
        bids = [(level["price"], level["size"]) for level in value["order_book"]["bids"]]
        return value["channel"], value["type"].startswith("subscribed"), bids

    @staticmethod
    def _paradex(value):
        if "params" not in value:
            return None
        data = value["params"]["data"]
        bids = [(level["price"], level["size"]) for level in data["inserts"] if level["side"] == "BUY"]
        return data["market"], data["update_type"] == "s", bids


def is_number(text):
    if isinstance(text, int):
        return text != NULL
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def flaw_of(bids):
    """Return the flaw of a snapshot's bids, as the fault names it."""
    if not all(is_number(number) for level in bids for number in level):
        return "not_decimal"
    sizes = [Decimal(size) for _, size in bids]
    if min(sizes) <= 0:
        return "zero_size" if min(sizes) == 0 else "negative"
    prices = [Decimal(price) for price, _ in bids]
    if len(set(prices)) < len(prices):
        return "doubled"
    return None if prices == sorted(prices, reverse=True) else "unsorted"


# bad_book


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize(("name", "is_binary"), [one for one in ENCODINGS if one[0] != "hyperliquid"])
def test_the_next_snapshot_has_the_flaw_and_the_one_after_is_valid(new_stage, books, name, is_binary, flaw):
    stage = new_stage(name)
    listener = Listener(stage, is_binary=is_binary, books=books)
    listener.heard(1)
    stage.fault("bad_book", flaw=flaw, symbol="BTC-PERP")
    listener.heard(0.5)

    def first_book():
        if name == "aster":
            return stage.get("/fapi/v3/depth", symbol="BTCUSDT", limit="1000")["bids"]
        listener.join()
        wholes = [(market, bids) for market, is_whole, bids in listener.heard() if is_whole]
        return next(bids for market, bids in wholes if market in {"BTC-USD", "order_book:1", "BTC-USD-PERP"})

    assert flaw_of(first_book()) == flaw
    assert flaw_of(first_book()) is None


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize(("stream", "depth", "frames"), [("book", 5, 20), ("book20", 20, 2)])
def test_hyperliquids_next_frame_has_the_flaw_and_the_others_are_valid(new_stage, flaw, stream, depth, frames):
    stage = new_stage("hyperliquid")
    listener = Listener(stage)
    listener.heard(1)
    stage.fault("bad_book", flaw=flaw, stream=stream, symbol="BTC-PERP")
    wholes = [bids for market, _, bids in listener.heard(11) if market == "BTC"]
    flawed = [bids for bids in wholes if flaw_of(bids)]
    assert [flaw_of(bids) for bids in flawed] == [flaw]
    assert len(flawed[0]) in {depth, depth + 1}
    assert sum(len(bids) == depth and not flaw_of(bids) for bids in wholes) >= frames - 1


@pytest.mark.parametrize("name", ["aster", "extended", "lighter", "paradex"])
def test_a_delta_is_lost_so_that_a_snapshot_is_requested(new_stage, books, name):
    stage = new_stage(name)
    calm = Listener(new_stage(name))
    listener = Listener(stage)
    for one in (calm, listener):
        one.heard(1)
    stage.fault("bad_book", symbol="BTC-PERP")
    lost = len(calm.heard(2)) - len(listener.heard(2))
    assert lost == 1


def test_a_bad_book_ends_when_every_market_had_one(new_stage):
    stage = new_stage("hyperliquid")
    listener = Listener(stage)
    listener.heard(1)
    stage.fault("bad_book", stream="book", count=3)
    flaws = [(market, flaw_of(bids)) for market, _, bids in listener.heard(4)]
    assert flaws.count(("BTC", "unsorted")) == flaws.count(("ETH", "unsorted")) == 3
    assert not stage.controller.describe()["active"]


# exponents


@pytest.mark.parametrize("name", VENUES)
def test_exponents_mean_the_same_book(new_stage, name):
    stage, calm = new_stage(name), new_stage(name)
    stage.fault("exponents")
    published, usual = ([book for book in Listener(one).heard(3) if book[2]] for one in (stage, calm))
    assert any("E" in price for _, _, bids in published for price, _ in bids)
    for (market, _, bids), (other, _, others) in zip(published, usual, strict=True):
        assert market == other
        assert [tuple(map(Decimal, level)) for level in bids] == [tuple(map(Decimal, level)) for level in others]


# mute_book


@pytest.mark.parametrize("name", VENUES)
def test_only_a_mute_book_is_silent_and_its_market_moves_on(new_stage, name):
    stage = new_stage(name)
    listener = Listener(stage)
    listener.heard(1)
    before = stage.book("BTC-PERP")
    stage.fault("mute_book")
    published = {market.removesuffix("USDT").split("-")[0] for market, _, _ in listener.heard(4)}
    assert published >= {"order_book:0"} if name == "lighter" else published >= {"ETH"}
    fast = [
        frame
        for frame in listener.heard(3)
        if frame[0] in {"BTC", "BTCUSDT", "BTC-USD", "order_book:1", "BTC-USD-PERP"}
    ]
    assert all(len(bids) > 5 for _, _, bids in fast), "hyperliquid's other book goes on"
    assert stage.book("BTC-PERP") != before
    if name == "aster":
        bids = {float(price) for price, _ in stage.get("/fapi/v3/depth", symbol="BTCUSDT", limit="1000")["bids"]}
        assert bids != set(before[0])


@pytest.mark.parametrize("name", ["extended", "lighter", "paradex"])
def test_a_mute_book_resumes_for_clients_that_request_a_snapshot(new_stage, name):
    stage = new_stage(name)
    listener = Listener(stage)
    stage.fault("mute_book", symbol="BTC-PERP")
    listener.heard(2)
    listener.join()
    mine = [frame for frame in listener.heard(2) if frame[0] in {"BTC-USD", "order_book:1", "BTC-USD-PERP"}]
    assert mine[0][1], "a whole book"
    assert len(mine) > 3


# restart_ids


def test_asters_ids_restart_and_chain_again(new_stage):
    stage = new_stage("aster")
    client = stage.connect("/ws/btcusdt@depth@100ms")
    stage.run(2)
    last = client.heard()[-1]["u"]
    stage.fault("restart_ids")
    stage.run(3)
    events = client.heard()
    assert events[0]["pu"] < events[0]["u"] < last
    assert all(after["pu"] == before["u"] for before, after in itertools.pairwise(events))
    ids = {stage.get("/fapi/v3/depth", symbol="BTCUSDT", limit="5")["lastUpdateId"] for _ in range(5)}
    assert max(ids) < last


def test_lighters_nonces_restart_and_chain_again(new_stage):
    stage = new_stage("lighter")
    client = stage.connect("/stream")
    client.say({"type": "subscribe", "channel": "order_book/1"})
    stage.run(2)
    last = client.heard()[-1]["order_book"]["nonce"]
    stage.fault("restart_ids")
    stage.run(3)
    chain = [message["order_book"] for message in client.heard()]
    assert chain[0]["begin_nonce"] < chain[0]["nonce"] < last
    assert all(after["begin_nonce"] == before["nonce"] for before, after in itertools.pairwise(chain))


@pytest.mark.parametrize("is_binary", [False, True])
def test_paradexs_numbers_restart_and_count_on(new_stage, books, is_binary):
    stage = new_stage("paradex")
    client = Listener(stage, is_binary=is_binary, books=books).client
    stage.run(2)
    client.raw()
    stage.fault("restart_ids")
    stage.run(2)
    if is_binary:
        published = [books.decode_sbe(frame.payload) for frame in client.raw()]
        numbers = [one["seq"] for one in published if one["strings"] == ["BTC-USD-PERP"]]
    else:
        published = [message["params"]["data"] for message in client.heard()]
        numbers = [data["seq_no"] for data in published if data["market"] == "BTC-USD-PERP"]
    assert numbers
    assert numbers == list(range(10**7 + 1, 10**7 + 1 + len(numbers)))
    stage.fault("restart_ids")
    assert stage.venue.truth("BTC-PERP")["venue_seq"] == 9 * 10**6, "never a number that came before"


def test_extendeds_numbers_restart_on_every_connection(new_stage):
    stage = new_stage("extended")
    client = stage.connect("/stream.extended.exchange/v1/orderbooks/BTC-USD")
    stage.run(2)
    assert client.heard()[-1]["seq"] > 5
    stage.fault("restart_ids")
    stage.run(1)
    numbers = [message["seq"] for message in client.heard()]
    assert numbers == list(range(1, 1 + len(numbers)))


def test_venues_without_ids_reject_restart_ids(new_stage):
    with pytest.raises(UsageError, match="restart_ids"):
        new_stage("hyperliquid").fault("restart_ids")


# thin markets


@pytest.mark.parametrize("name", VENUES)
def test_a_thin_market_has_a_handful_of_levels_until_the_fault_is_over(new_stage, books, name):
    stage = new_stage(name)
    stage.fault("thin_market", symbol="BTC-PERP", duration_s=10)
    stage.run(3)
    for _ in range(20):
        stage.run(0.2)
        assert all(1 <= len(side) <= 5 for side in stage.book("BTC-PERP"))
        assert all(len(side) >= 60 for side in stage.book("ETH-PERP"))
    stage.run(10)
    assert all(len(side) >= 60 for side in stage.book("BTC-PERP"))


def test_the_longer_of_two_faults_determines_the_end(new_stage):
    stage = new_stage("lighter")
    for name in ("thin_market", "flat_errors"):
        stage.fault(name, duration_s=5)
        stage.fault(name, duration_s=10)
    stage.fault("thin_market", symbol="ETH-PERP", duration_s=5)
    stage.run(7)
    assert all(len(side) <= 5 for side in stage.book("BTC-PERP"))
    assert all(len(side) >= 60 for side in stage.book("ETH-PERP"))
    assert stage.venue.has_flat_errors
    stage.run(5)
    assert all(len(side) >= 60 for side in stage.book("BTC-PERP"))
    assert not stage.venue.has_flat_errors


def test_ordinary_frames_of_a_thin_market_are_not_marked_and_fast_ones_are(new_stage):
    stage = new_stage("hyperliquid", bases=("BTC", "BLAST"))
    assert all(1 <= len(side) <= 5 for side in stage.book("BLAST-PERP"))
    for is_fast in (True, False):
        client = stage.connect("/ws")
        client.say({"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BLAST", "fast": is_fast}})
        stage.run(6)
        published = [message["data"] for message in client.heard() if message["channel"] == "l2Book"]
        assert all(max(map(len, data["levels"])) <= 5 for data in published)
        assert {data.get("fast") for data in published} == ({True} if is_fast else {None})


@pytest.mark.parametrize("name", VENUES)
def test_a_thin_market_runs_for_long(new_stage, name):
    stage = new_stage(name, bases=("BTC", "BLAST"), rate=200)
    stage.run(60)
    assert stage.venue.markets["BLAST-PERP"].trades


# rows


ROWS = {
    "hyperliquid": ("/info", {"type": "metaAndAssetCtxs"}),
    "aster": ("/fapi/v3/exchangeInfo", None),
    "extended": ("/api/v1/info/markets", None),
    "lighter": ("/api/v1/orderBooks", None),
    "paradex": ("/v1/markets", None),
}
BOOKS = {
    "hyperliquid": ("/info", {"type": "l2Book", "coin": "BTC"}, {}),
    "aster": ("/fapi/v3/depth", None, {"symbol": "BTCUSDT"}),
    "extended": ("/api/v1/info/markets/BTC-USD/orderbook", None, {}),
    "lighter": ("/api/v1/orderBookOrders", None, {"market_id": "1", "limit": "10"}),
    "paradex": ("/v1/orderbook/BTC-USD-PERP", None, {}),
}


def ask(stage, path, body, **query):
    return msgspec.json.decode(stage.ask(path, "POST" if body else "GET", body, **query).body)


def lists_of(name, answer):
    match name:
        case "hyperliquid":
            return [answer[0]["universe"], answer[1]]
        case "aster":
            return [answer["symbols"]]
        case "extended":
            return [answer["data"]]
        case "lighter":
            return [answer["order_books"]]
    return [answer["results"]]


@pytest.mark.parametrize("name", VENUES)
def test_a_market_list_has_an_invalid_row_among_valid_ones(new_stage, name):
    stage = new_stage(name)
    path, body = ROWS[name]
    before = lists_of(name, ask(stage, path, body))
    stage.fault("invalid_row")
    after = lists_of(name, ask(stage, path, body))
    for usual, spoilt in zip(before, after, strict=True):
        middle = len(usual) // 2
        assert len(spoilt) == len(usual) + 1
        assert set(spoilt[middle]) == set(usual[0])
        assert "rubbish" in spoilt[middle].values()
        if name != "extended":  # whose rows have prices
            rest = spoilt[:middle] + spoilt[middle + 1 :]
            assert name == "hyperliquid" or rest == usual


@pytest.mark.parametrize("name", VENUES)
def test_levels_are_not_rows(new_stage, name):
    stage = new_stage(name)
    stage.fault("invalid_row")
    path, body, query = BOOKS[name]
    assert b"rubbish" not in stage.ask(path, "POST" if body else "GET", body, **query).body
    listener = Listener(stage)
    stage.run(3)
    assert not [frame for frame in listener.client.raw() if b"rubbish" in frame.payload]


TRADES = {
    "hyperliquid": ("/ws", {"method": "subscribe", "subscription": {"type": "trades", "coin": "BTC"}}),
    "aster": ("/ws/btcusdt@aggTrade", None),
    "extended": ("/stream.extended.exchange/v1/publicTrades/BTC-USD", None),
    "lighter": ("/stream", {"type": "subscribe", "channel": "trade/1"}),
    "paradex": (
        "/v1",
        {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"channel": "trades.BTC-USD-PERP"}},
    ),
}


def trades_of(stage, seconds):
    path, request = TRADES[stage.venue.name]
    client = stage.connect(path)
    if request:
        client.say(request)
    stage.run(seconds)
    return [frame.payload for frame in client.raw()]


@pytest.mark.parametrize("name", VENUES)
def test_each_batch_of_trades_has_an_invalid_one(new_stage, name):
    stage, calm = new_stage(name), new_stage(name)
    stage.fault("invalid_row", stream="trade")
    published, usual = trades_of(stage, 20), trades_of(calm, 20)
    spoilt = [payload for payload in published if b"rubbish" in payload]
    assert len(spoilt) > 3
    if name in {"aster", "paradex"}:
        assert [payload for payload in published if b"rubbish" not in payload] == usual
    else:
        assert len(published) == len(usual)


# notations and shapes


@pytest.mark.parametrize("name", ["aster", "extended", "lighter"])
def test_markets_are_in_an_unknown_state(new_stage, name):
    stage = new_stage(name)
    path, body = ROWS[name]
    stage.fault("unknown_status", of="markets")
    (rows,) = lists_of(name, ask(stage, path, body))
    states = {row["status"] for row in rows}
    assert states == {"IN_REVIEW", {"aster": "SETTLING", "extended": "DELISTED", "lighter": "inactive"}[name]}


def test_funding_intervals_have_every_notation(new_stage):
    stage = new_stage("paradex")
    stage.fault("fractional_interval")
    published = [row["funding_period_hours"] for row in stage.get("/v1/markets")["results"]]
    assert {float(hours) for hours in published} == {8.0}
    assert {type(hours) for hours in published} == {str, float}
    stage.controller.clear(stage.venue)
    stage.fault("fractional_interval", hours=0.5)
    assert {row["funding_period_hours"] for row in stage.get("/v1/markets")["results"]} == {0.5}


def test_intervals_of_other_venues_too(new_stage):
    aster, hyperliquid = new_stage("aster"), new_stage("hyperliquid")
    for stage in (aster, hyperliquid):
        stage.fault("fractional_interval", hours=0.5)
    assert {row["fundingIntervalHours"] for row in aster.get("/fapi/v3/fundingInfo")} == {0.5}
    answer = hyperliquid.ask("/info", "POST", {"type": "predictedFundings"})
    assert b'"fundingIntervalHours":0.5' in answer.body


def test_lighters_errors_have_their_code_at_the_top(new_stage):
    stage = new_stage("lighter")
    client = stage.connect("/stream")
    client.raw()
    number = stage.fault("flat_errors", duration_s=5)
    assert number
    client.say({"type": "subscribe", "channel": "order_book/4711"})
    assert client.heard() == [{"type": "error", "code": 30005, "message": "Invalid Channel:  (marketId)"}]
    stage.run(6)
    client.raw()
    client.say({"type": "subscribe", "channel": "order_book/4711"})
    assert client.heard() == [{"error": {"code": 30005, "message": "Invalid Channel:  (marketId)"}}]


def test_an_error_without_a_body(new_stage):
    stage = new_stage("extended")
    stage.fault("rest_error", status=404, empty=True)
    answer = stage.ask("/api/v1/info/markets")
    assert (answer.status, answer.body) == (404, b"")


def test_responses_that_are_cut_or_slow(new_stage):
    stage = new_stage("paradex")
    stage.fault("rest_cut")
    assert stage.ask("/v1/markets").is_cut
    stage.controller.clear(stage.venue)
    stage.fault("rest_slow", part="headers", seconds=3)
    answer = stage.ask("/v1/markets")
    assert (answer.trickle_s, answer.trickles_headers) == (3, True)


def test_binary_bids_are_edited_and_nothing_else(new_stage, books):
    stage = new_stage("paradex")
    listener = Listener(stage, is_binary=True, books=books)
    (frame, *_) = [frame for frame in listener.client.raw() if frame.is_binary]
    edited = stage.venue.edit_bids(frame, lambda levels: levels.rows.pop())
    before, after = (books.decode_sbe(one.payload) for one in (frame, edited))
    assert after["bids"] == before["bids"][:-1]
    assert {name: after[name] for name in after if name != "bids"} == {
        name: before[name] for name in before if name != "bids"
    }
    assert len(edited.payload) == len(frame.payload) - struct.calcsize("<qq")
