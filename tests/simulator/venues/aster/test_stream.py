from __future__ import annotations

import itertools

import pytest


@pytest.fixture
def stage(new_stage):
    return new_stage("aster")


def ask(client, method, params=None, number=1):
    client.say(
        {"method": method, "params": params, "id": number} if params is not None else {"method": method, "id": number}
    )
    return client.heard()


def follow(stage, books, stream="btcusdt@depth@100ms", seconds=3.0):
    client, book = stage.connect(f"/ws/{stream}"), books.AsterBook()
    stage.run(seconds)
    for message in client.heard():
        book.feed(message)
    return client, book


def test_raw_streams_are_bare_and_combined_ones_are_wrapped(stage):
    raw, combined = stage.connect("/ws/btcusdt@aggTrade"), stage.connect("/stream", streams="btcusdt@aggTrade")
    stage.run(10)
    bare, wrapped = raw.heard(), combined.heard()
    assert bare[0]["e"] == "aggTrade"
    assert wrapped[0] == {"stream": "btcusdt@aggTrade", "data": bare[0]}
    assert len(bare) == len(wrapped)


def test_several_streams_in_one_path(stage):
    client = stage.connect("/ws/btcusdt@bookTicker/ethusdt@bookTicker")
    stage.run(5)
    assert {message["s"] for message in client.heard()} == {"BTCUSDT", "ETHUSDT"}


def test_subscribing_is_acknowledged_by_id(stage):
    client = stage.connect("/ws")
    assert ask(client, "SUBSCRIBE", ["btcusdt@depth@100ms"], 7) == [{"result": None, "id": 7}]
    assert ask(client, "LIST_SUBSCRIPTIONS", None, 8) == [{"result": ["btcusdt@depth@100ms"], "id": 8}]
    stage.run(2)
    assert client.heard()
    assert ask(client, "UNSUBSCRIBE", ["btcusdt@depth@100ms"], 9) == [{"result": None, "id": 9}]
    stage.run(2)
    assert client.heard() == []


def test_the_id_may_be_missing(stage):
    client = stage.connect("/stream")
    client.say({"method": "SUBSCRIBE", "params": ["btcusdt@depth20"]})
    assert client.heard() == [{"result": None, "id": None}]


@pytest.mark.parametrize("stream", ["BTCUSDT@depth", "xyzusdt@aggTrade", "btcusdt@nothing", "maticusdt@depth"])
def test_an_unknown_stream_is_acknowledged_and_silent(stage, stream):
    client = stage.connect("/ws")
    assert ask(client, "SUBSCRIBE", [stream]) == [{"result": None, "id": 1}]
    stage.run(10)
    assert client.heard() == []


def test_errors(stage):
    client = stage.connect("/ws")

    def code(message):
        client.say(message)
        stage.run(0.5)
        return client.heard()[0]["code"]

    assert code("{") == 3
    assert code({"params": []}) == 2
    assert code({"method": "SUBSCRIBE", "params": ["a"], "id": -1}) == 2
    assert code({"method": "SUBSCRIBE", "params": ["a"], "id": "x"}) == 2
    assert code({"method": "DANCE", "params": ["a"], "id": 1}) == 2
    assert code({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}) == 1
    assert code({"method": "SET_PROPERTY", "params": ["colour", True], "id": 1}) == 0
    assert code({"method": "GET_PROPERTY", "params": [5], "id": 1}) == 2
    assert code({"method": "SUBSCRIBE", "params": [f"s{n}" for n in range(201)], "id": 1}) == 2


def test_the_format_of_payloads_is_a_property(stage):
    client = stage.connect("/ws/btcusdt@depth@100ms")
    assert ask(client, "GET_PROPERTY", ["combined"])[-1]["result"] is False
    ask(client, "SET_PROPERTY", ["combined", True])
    stage.run(1)
    assert all("stream" in message for message in client.heard())


@pytest.mark.parametrize(
    "stream", ["btcusdt@depth@100ms", "btcusdt@depth", "ethusdt@depth@500ms", "1000pepeusdt@depth"]
)
def test_a_naive_book_bridges_a_snapshot_and_follows_the_chain(stage, books, stream):
    client, book = follow(stage, books, stream, seconds=5.0)
    name = stream.split("@")[0].upper()
    assert book.join(stage.get("/fapi/v3/depth", symbol=name, limit="1000")) in {"inside", "waiting"}
    stage.run(10)
    stage.venue.pause()
    for message in client.heard():
        book.feed(message)
    symbol = {"BTCUSDT": "BTC-PERP", "ETHUSDT": "ETH-PERP", "1000PEPEUSDT": "PEPE-PERP"}[name]
    assert (book.bids, book.asks) == stage.book(symbol)
    assert book.last == stage.venue.truth(symbol)["venue_seq"]
    assert book.frames > 10


def test_every_case_of_bridging_occurs(stage, books):
    stage.run(3.03)
    cases = []
    for _ in range(20):
        client, book = follow(stage, books, seconds=0.02)
        snapshot = stage.get("/fapi/v3/depth", symbol="BTCUSDT", limit="1000")
        stage.run(1.01)
        for message in client.heard():
            book.feed(message)
        cases.append(book.join(snapshot))
        client.leave()
    assert {"inside", "exact", "behind"} <= set(cases)
    assert cases[0] != "behind"


def test_a_snapshot_of_an_unchanged_market_is_always_the_current_one(stage):
    stage.venue.pause()
    stage.run(2)
    ids = {stage.get("/fapi/v3/depth", symbol="BTCUSDT")["lastUpdateId"] for _ in range(10)}
    assert ids == {stage.venue.truth("BTC-PERP")["venue_seq"]}


def test_ids_have_gaps_and_form_a_chain_for_each_speed(stage):
    client = stage.connect("/stream", streams="btcusdt@depth@100ms/btcusdt@depth@500ms")
    stage.run(10)
    messages = client.heard()
    for stream in ("btcusdt@depth@100ms", "btcusdt@depth@500ms"):
        events = [message["data"] for message in messages if message["stream"] == stream]
        assert len(events) > 10
        assert all(after["pu"] == before["u"] for before, after in itertools.pairwise(events))
        assert all(event["U"] <= event["u"] for event in events)
        assert any(event["U"] > event["pu"] + 1 for event in events)
        assert any(size in {"0", "0.000"} for event in events for _, size in event["b"] + event["a"])


@pytest.mark.parametrize("depth", [5, 10, 20])
def test_partial_depth_is_the_top_of_the_book(stage, depth):
    client = stage.connect(f"/ws/btcusdt@depth{depth}@100ms")
    stage.run(2)
    stage.venue.pause()
    event = client.heard()[-1]
    assert event["e"] == "depthUpdate"
    bids, asks = stage.book("BTC-PERP")
    assert [float(price) for price, _ in event["b"]] == sorted(bids, reverse=True)[:depth]
    assert [float(price) for price, _ in event["a"]] == sorted(asks)[:depth]


def test_the_touch_has_the_update_id(stage):
    client = stage.connect("/ws/btcusdt@bookTicker")
    stage.run(5)
    last = client.heard()[-1]
    bids, asks = stage.book("BTC-PERP")
    assert float(last["b"]) == max(bids)
    assert float(last["a"]) == min(asks)
    assert last["u"] <= stage.venue.truth("BTC-PERP")["venue_seq"]


def test_aggregate_trades_have_no_gaps_and_name_the_maker(stage):
    client = stage.connect("/ws/btcusdt@aggTrade")
    stage.run(30)
    trades = client.heard()
    ids = [trade["a"] for trade in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert all(after["f"] == before["l"] + 1 for before, after in itertools.pairwise(trades))
    truth = {row["trade_id"]: row for row in stage.venue.truth("BTC-PERP")["trades"]}
    sides = {(truth[str(trade["a"])]["side"], trade["m"]) for trade in trades if str(trade["a"]) in truth}
    assert sides == {("buy", False), ("sell", True)}


def test_single_trades_name_no_side(stage):
    client = stage.connect("/ws/btcusdt@tradepro")
    stage.run(10)
    trade = client.heard()[0]
    assert trade["e"] == "tradepro"
    assert trade["m"] == ["hidden", "hidden"]


def test_marks_are_sent_at_their_speed_with_the_current_rate(stage):
    fast, slow = stage.connect("/ws/btcusdt@markPrice@1s"), stage.connect("/ws/btcusdt@markPrice")
    stage.run(9.01)
    marks = fast.heard()
    assert len(marks) == 9
    assert len(slow.heard()) == 3
    assert marks[0]["e"] == "markPriceUpdate"
    assert marks[0]["E"] % 1000 == 0
    assert marks[0]["T"] % (8 * 3_600_000) == 0
    assert marks[0]["T"] > marks[0]["E"]


def test_the_funding_time_rolls_over(new_stage):
    stage = new_stage("aster", rate=1)
    client = stage.connect("/ws/1000pepeusdt@markPrice@1s")
    stage.run(4 * 3600)
    assert len({mark["T"] for mark in client.heard()}) == 2


def test_array_streams_have_all_live_markets(stage):
    client = stage.connect("/stream", streams="!markPrice@arr@1s/!ticker@arr/!miniTicker@arr")
    stage.run(1.01)
    frames = {message["stream"]: message["data"] for message in client.heard()}
    assert {row["s"] for row in frames["!markPrice@arr@1s"]} == {"BTCUSDT", "ETHUSDT", "1000PEPEUSDT"}
    assert frames["!ticker@arr"][0]["e"] == "24hrTicker"
    assert frames["!miniTicker@arr"][0]["e"] == "24hrMiniTicker"


def test_liquidations_are_published_at_most_once_a_second(new_stage):
    stage = new_stage("aster", rate=300)
    client = stage.connect("/stream", streams="btcusdt@forceOrder/!forceOrder@arr")
    stage.run(30)
    orders = [message["data"] for message in client.heard() if message["stream"].startswith("btc")]
    assert orders
    assert orders[0]["o"]["S"] in {"BUY", "SELL"}
    seconds = [order["E"] // 1000 for order in orders]
    assert len(set(seconds)) == len(seconds)


def test_keep_alive(new_stage):
    stage = new_stage("aster", is_started=False)
    client = stage.connect("/ws/btcusdt@depth")
    stage.run(301)
    assert client.wire.pings == 1
    client.session.on_pong()
    stage.run(1198)
    assert client.wire.close_code is None
    stage.run(3)
    assert client.wire.close_code == 1008


def test_a_connection_is_closed_after_a_day(new_stage):
    stage = new_stage("aster", is_started=False)
    client = stage.connect("/ws/btcusdt@depth")
    for _ in range(24 * 12 - 1):
        stage.run(300)
        client.session.on_pong()
    assert client.wire.close_code is None
    stage.run(301)
    assert client.wire.close_code == 1001


def test_more_than_ten_messages_a_second_close_the_connection(stage):
    client = stage.connect("/ws")
    for number in range(8):
        ask(client, "LIST_SUBSCRIPTIONS", None, number)
    client.session.on_ping()
    client.session.on_ping()
    assert client.wire.close_code is None
    ask(client, "LIST_SUBSCRIPTIONS")
    assert client.wire.close_code == 1008


def test_rejected_upgrades(stage):
    assert stage.knock("/nope").status == 404
    assert stage.knock("/stream", streams="/".join(f"s{n}" for n in range(201))).status == 400


def test_the_catalogue(stage):
    for version in ("v1", "v3"):
        symbols = {row["symbol"]: row for row in stage.get(f"/fapi/{version}/exchangeInfo")["symbols"]}
        assert symbols["BTCUSDT"]["status"] == "TRADING"
        assert symbols["MATICUSDT"]["status"] == "SETTLING"
        assert symbols["1000PEPEUSDT"]["baseAsset"] == "1000PEPE"
    filters = {row["filterType"]: row for row in symbols["BTCUSDT"]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.1"
    assert filters["LOT_SIZE"]["stepSize"] == "0.001"


def test_funding_has_its_interval_in_one_place_only(stage):
    rows = {row["symbol"]: row for row in stage.get("/fapi/v3/fundingInfo")}
    assert rows["BTCUSDT"]["fundingIntervalHours"] == 8
    assert rows["1000PEPEUSDT"]["fundingIntervalHours"] == 4
    assert rows["MATICUSDT"]["fundingFeeCap"] is None
    history = stage.get("/fapi/v3/fundingRate", symbol="BTCUSDT", limit="5")
    times = [row["fundingTime"] for row in history]
    assert all(after - before == 8 * 3_600_000 for before, after in itertools.pairwise(times))
    assert stage.get("/fapi/v3/premiumIndex", symbol="BTCUSDT")["nextFundingTime"] == times[-1] + 8 * 3_600_000
    assert "BTCUSD" in {row["symbol"] for row in stage.get("/fapi/v3/premiumIndex")}


@pytest.mark.parametrize(
    "path",
    [
        "ping",
        "time",
        "trades",
        "aggTrades",
        "ticker/bookTicker",
        "ticker/24hr",
        "ticker/price",
        "openInterest",
        "indexreferences",
    ],
)
def test_paths_of_one_symbol(stage, path):
    assert stage.ask(f"/fapi/v3/{path}", symbol="BTCUSDT").status == 200
    assert stage.ask(f"/fapi/v1/{path}", symbol="BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"].isdigit()


def test_rest_errors(stage):
    assert b"-1121" in stage.ask("/fapi/v3/depth", symbol="NOPE").body
    assert b"-1102" in stage.ask("/fapi/v3/depth").body
    assert b"-4021" in stage.ask("/fapi/v3/depth", symbol="BTCUSDT", limit="7").body
    assert b"-1000" in stage.ask("/fapi/v3/indexreferences", symbol="NOPE").body
    assert stage.ask("/fapi/v3/nope").body.startswith(b"<html>")


def test_excess_weight_is_rejected_and_then_banned(stage):
    depth = {"symbol": "BTCUSDT", "limit": "1000"}
    statuses = [stage.ask("/fapi/v3/depth", **depth).status for _ in range(120)]
    assert statuses == [200] * 120
    statuses = [stage.ask("/fapi/v3/depth", **depth).status for _ in range(30)]
    assert statuses[:20] == [429] * 20
    assert set(statuses[20:]) == {418}
    stage.run(61)
    banned = stage.ask("/fapi/v3/ping")
    assert banned.status == 418
    assert b"banned until" in banned.body
    stage.run(60)
    assert stage.ask("/fapi/v3/ping").status == 200
