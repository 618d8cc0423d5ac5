from __future__ import annotations

import itertools

import pytest

from simulator.rest import HttpRequest

ROOT = "/stream.extended.exchange/v1/"


@pytest.fixture
def stage(new_stage):
    return new_stage("extended")


def test_data_starts_at_once_without_an_acknowledgement(stage):
    (first,) = stage.connect(ROOT + "orderbooks/BTC-USD").heard()
    assert first["type"] == first["data"]["t"] == "SNAPSHOT"
    assert first["data"]["d"] == "f"
    assert first["seq"] == 1


@pytest.mark.parametrize(
    ("market", "symbol"), [("BTC-USD", "BTC-PERP"), ("ETH-USD", "ETH-PERP"), ("1000PEPE-USD", "PEPE-PERP")]
)
def test_naive_books_follow_from_new_and_from_old_snapshots(stage, books, market, symbol):
    followers = []
    for _ in range(4):
        stage.run(7)
        followers.append((stage.connect(ROOT + f"orderbooks/{market}"), books.ExtendedBook()))
    stage.run(63)
    stage.venue.pause()
    for client, book in followers:
        for message in client.heard():
            book.feed(message)
        assert (book.bids, book.asks) == stage.book(symbol)
        assert book.frames > 50


def test_every_other_start_is_an_old_snapshot_with_the_deltas_since(stage):
    stage.run(30)
    starts = [stage.connect(ROOT + "orderbooks/BTC-USD").heard() for _ in range(4)]
    aged = [start for start in starts if len(start) > 1]
    assert len(aged) == 2
    now = stage.venue.now_ms()
    for start in aged:
        assert start[0]["type"] == "SNAPSHOT"
        assert now - start[0]["ts"] > 25_000
        assert {message["type"] for message in start[1:]} == {"DELTA"}
        assert [message["seq"] for message in start] == list(range(1, len(start) + 1))


def test_a_new_snapshot_follows_an_empty_delta_every_minute(stage):
    client = stage.connect(ROOT + "orderbooks/BTC-USD")
    stage.run(125)
    messages = client.heard()
    places = [n for n, message in enumerate(messages) if message["type"] == "SNAPSHOT"][1:]
    assert len(places) == 2
    for place in places:
        assert messages[place - 1]["data"]["b"] == messages[place - 1]["data"]["a"] == []
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


def test_a_quiet_book_sends_empty_deltas(stage):
    stage.venue.set_activity("BTC-PERP", 0)
    client = stage.connect(ROOT + "orderbooks/BTC-USD")
    stage.run(5)
    messages = client.heard()[1:]
    assert 3 <= len(messages) <= 6
    assert all(message["data"]["b"] == message["data"]["a"] == [] for message in messages)


def test_prices_are_not_canonical_text(stage):
    client = stage.connect(ROOT + "orderbooks/BTC-USD")
    stage.run(20)
    deltas = [level["p"] for m in client.heard() if m["type"] == "DELTA" for level in m["data"]["b"]]
    assert any(price.endswith(".0") for price in deltas)
    assert any("." not in price for price in deltas)


def test_the_touch_is_sent_as_snapshots(stage):
    client = stage.connect(ROOT + "orderbooks/BTC-USD", depth="1")
    stage.run(5)
    stage.venue.pause()
    messages = client.heard()
    assert len(messages) > 5
    assert {message["type"] for message in messages} == {"SNAPSHOT"}
    assert all(len(message["data"]["b"]) == 1 and message["data"]["d"] == "1" for message in messages)
    bids, _ = stage.book("BTC-PERP")
    assert float(messages[-1]["data"]["b"][0]["p"]) == max(bids)


def test_trades_start_with_recent_ones_and_have_no_type(stage):
    client = stage.connect(ROOT + "publicTrades/BTC-USD")
    (first,) = client.heard()
    assert len(first["data"]) == 5
    assert "type" not in first
    stage.run(20)
    rows = first["data"] + [row for message in client.heard() for row in message["data"]]
    ids = [row["i"] for row in rows]
    assert len(set(ids)) == len(ids) > 15
    assert all(number > 2**53 for number in ids)
    truth = {row["trade_id"]: row for row in stage.venue.truth("BTC-PERP")["trades"]}
    assert all(truth[str(row["i"])]["side"] == row["S"].lower() for row in rows[-10:])


def test_all_markets_share_one_sequence(stage):
    client = stage.connect(ROOT + "orderbooks")
    stage.run(5)
    messages = client.heard()
    assert {message["data"]["m"] for message in messages} == {
        "BTC-USD",
        "ETH-USD",
        "1000PEPE-USD",
        "MATIC-USD",
        "ETHSPOT-USD",
    }
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))


def test_indexes_have_a_time_and_marks_have_none(stage):
    mark, index = stage.connect(ROOT + "prices/mark/BTC-USD"), stage.connect(ROOT + "prices/index/BTC-USD")
    stage.run(3.01)
    marks, indexes = mark.heard(), index.heard()
    assert len(marks) == len(indexes) == 4
    assert marks[0]["type"] == "MP"
    assert marks[0]["data"]["ts"] == 0
    assert indexes[0]["type"] == "IP"
    assert indexes[0]["data"]["ts"] > 0
    assert indexes[0]["sourceEventId"] is None


def test_applied_funding_is_repeated_every_minute(stage):
    client = stage.connect(ROOT + "funding/BTC-USD")
    stage.run(125)
    messages = client.heard()
    assert len(messages) == 3
    assert messages[0]["data"]["T"] % 3_600_000 == 1_028
    assert client.session.subscribed() == ["funding/BTC-PERP"]


@pytest.mark.parametrize("path", ["orderbooks/NOPE-USD", "orderbooks/rfq/BTC-USD", "nothing/BTC-USD", "", "accounts"])
def test_unknown_paths_are_not_found(stage, path):
    assert stage.knock(ROOT + path).status == 404


def test_a_client_without_a_user_agent_is_rejected(stage):
    assert stage.knock(ROOT + "orderbooks/BTC-USD", headers={}).status == 403


def test_a_pong_is_due_within_ten_seconds(stage):
    client = stage.connect(ROOT + "orderbooks/BTC-USD")
    stage.run(15.5)
    assert client.wire.pings == 1
    client.session.on_pong()
    stage.run(24)
    assert client.wire.close_code is None
    stage.run(1)
    assert client.wire.close_code == 1008


def test_a_market_delisted_long_ago_has_an_empty_book(stage):
    (first,) = stage.connect(ROOT + "orderbooks/MATIC-USD").heard()
    assert first["data"]["b"] == first["data"]["a"] == []


def test_the_catalogue(stage):
    answer = stage.get("/api/v1/info/markets")
    assert answer["status"] == "OK"
    rows = {row["name"]: row for row in answer["data"]}
    assert rows["BTC-USD"]["status"] == "ACTIVE"
    assert rows["BTC-USD"]["tradingConfig"]["minPriceChange"] == "1"
    assert rows["MATIC-USD"]["status"] == "DELISTED"
    assert rows["ETHSPOT-USD"]["type"] == "SPOT"
    assert len(stage.get("/api/v1/info/markets", market="BTC-USD")["data"]) == 1


def test_statistics_have_both_units_of_interest_and_a_misnamed_time(stage):
    stats = stage.get("/api/v1/info/markets/BTC-USD/stats")["data"]
    assert float(stats["openInterest"]) == pytest.approx(
        float(stats["openInterestBase"]) * float(stats["markPrice"]), rel=1e-3
    )
    assert stats["nextFundingRate"] % 3_600_000 == 0
    assert abs(float(stats["fundingRate"])) < 0.001


def test_rest_book_is_the_complete_book(stage):
    data = stage.get("/api/v1/info/markets/BTC-USD/orderbook")["data"]
    assert {float(level["price"]): float(level["qty"]) for level in data["bid"]} == stage.book("BTC-PERP")[0]


def test_funding_history_pages_backwards(stage):
    now = stage.venue.now_ms()
    begin = str(now - 50 * 3_600_000)
    page = stage.get("/api/v1/info/BTC-USD/funding", startTime=begin, endTime=str(now), limit="30")
    assert len(page["data"]) == 30
    cursor = str(page["pagination"]["cursor"])
    rest = stage.get("/api/v1/info/BTC-USD/funding", startTime=begin, endTime=str(now), limit="30", cursor=cursor)
    times = [row["T"] for row in page["data"] + rest["data"]]
    assert len(times) == 50
    assert all(before - after == 3_600_000 for before, after in itertools.pairwise(times))


def test_other_rest_paths_and_errors(stage):
    assert len(stage.get("/api/v1/info/BTC-USD/open-interests", interval="P1D")["data"]) == 24
    assert stage.get("/api/v1/info/markets/BTC-USD/trades")["data"]
    assert stage.get("/api/v1/info/assets")["data"][0]["name"] == "USD"
    missing = stage.ask("/api/v1/info/markets/NOPE-USD/stats")
    assert missing.status == 404
    assert b'"code":1001' in missing.body
    assert stage.ask("/api/v1/info/BTC-USD/funding", limit="many").status == 400
    assert stage.ask("/api/v1/nope").status == 404


def test_rest_requires_a_user_agent(stage):
    assert stage.venue.answer(HttpRequest("GET", "/api/v1/info/markets")).status == 403
