from __future__ import annotations

import itertools

import pytest


@pytest.fixture
def stage(new_stage):
    return new_stage("lighter")


@pytest.fixture
def client(stage):
    client = stage.connect("/stream")
    hello = client.heard()[0]
    assert hello["type"] == "connected"
    assert len(hello["session_id"]) == 36
    return client


def subscribe(client, channel):
    client.say({"type": "subscribe", "channel": channel})
    return client.heard()


def error(client, message):
    client.say(message)
    return client.heard()[0]["error"]


def test_a_subscription_is_acknowledged_by_its_first_frame_with_a_colon(client):
    (frame,) = subscribe(client, "order_book/1")
    assert frame["type"] == "subscribed/order_book"
    assert frame["channel"] == "order_book:1"
    assert frame["order_book"]["begin_nonce"] == 0
    assert frame["offset"] == frame["order_book"]["offset"]
    assert all(len(level["price"].split(".")[1]) == 1 for level in frame["order_book"]["bids"])
    assert all(len(level["size"].split(".")[1]) == 5 for level in frame["order_book"]["bids"])


@pytest.mark.parametrize("channel", ["order_book/0", "order_book/1", "order_book/2"])
def test_a_naive_book_follows_the_chain_of_nonces(stage, client, books, channel):
    book = books.LighterBook()
    frames = subscribe(client, channel)
    stage.run(20)
    stage.venue.pause()
    frames += client.heard()
    for frame in frames:
        book.feed(frame)
    symbol = ["ETH-PERP", "BTC-PERP", "PEPE-PERP"][int(channel[-1])]
    assert book.frames > 10
    assert (book.bids, book.asks) == stage.book(symbol)
    assert book.nonce == stage.venue.truth(symbol)["venue_seq"]


def test_batches_are_sent_at_most_every_50_ms_and_may_be_empty(new_stage):
    stage = new_stage("lighter", rate=300)
    client = stage.connect("/stream")
    client.raw()
    subscribe(client, "order_book/1")
    stage.run(10)
    frames = client.heard()
    assert 150 < len(frames) <= 200
    slow = new_stage("lighter", rate=20)
    client = slow.connect("/stream")
    client.raw()
    subscribe(client, "order_book/1")
    slow.run(20)
    assert any(not f["order_book"]["bids"] and not f["order_book"]["asks"] for f in client.heard())


def test_nonces_jump_and_offsets_skip_and_depend_on_the_connection(stage, client):
    other = stage.connect("/stream")
    other.raw()
    subscribe(client, "order_book/1")
    subscribe(other, "order_book/1")
    stage.run(10)
    mine, others = client.heard(), other.heard()
    nonces = [frame["order_book"]["nonce"] for frame in mine]
    offsets = [frame["offset"] for frame in mine]
    assert any(after - before > 20 for before, after in itertools.pairwise(nonces))
    assert any(after - before > 1 for before, after in itertools.pairwise(offsets))
    assert nonces == [frame["order_book"]["nonce"] for frame in others]
    assert offsets[0] != others[0]["offset"]


def test_a_later_subscriber_gets_the_same_chain(stage, client, books):
    subscribe(client, "order_book/1")
    stage.run(3.333)
    other, book = stage.connect("/stream"), books.LighterBook()
    other.raw()
    for frame in subscribe(other, "order_book/1"):
        book.feed(frame)
    stage.run(3)
    for frame in other.heard():
        book.feed(frame)
    first = books.LighterBook()
    first.nonce = client.heard()[0]["order_book"]["nonce"]
    assert book.frames > 10


def test_unsubscribing_is_confirmed_and_a_new_subscription_starts_with_a_snapshot(stage, client):
    subscribe(client, "order_book/1")
    client.say({"type": "unsubscribe", "channel": "order_book/1"})
    assert client.heard() == [{"type": "unsubscribed", "channel": "order_book:1"}]
    stage.run(1)
    assert client.heard() == []
    assert subscribe(client, "order_book/1")[0]["type"] == "subscribed/order_book"


def test_an_inactive_market_has_an_empty_book_with_nonce_zero(client):
    (frame,) = subscribe(client, "order_book/3")
    assert frame["order_book"]["bids"] == frame["order_book"]["asks"] == []
    assert frame["order_book"]["nonce"] == frame["last_updated_at"] == 0
    (ticker,) = subscribe(client, "ticker/3")
    assert ticker["ticker"]["a"] == {"price": "", "size": ""}


def test_the_touch_is_published_on_change(stage, client):
    frames = subscribe(client, "ticker/1")
    assert frames[0]["type"] == "subscribed/ticker"
    stage.run(5)
    frames += client.heard()
    assert len(frames) > 5
    bids, asks = stage.book("BTC-PERP")
    assert float(frames[-1]["ticker"]["b"]["price"]) == max(bids)
    assert float(frames[-1]["ticker"]["a"]["price"]) == min(asks)


def test_recent_trades_are_replayed_newest_first_and_then_each_is_published_once(stage, client):
    (replay,) = subscribe(client, "trade/1")
    assert replay["type"] == "subscribed/trade"
    replayed = [row["trade_id"] for row in (replay["trades"] or []) + (replay["liquidation_trades"] or [])]
    assert len(replayed) == min(50, len(stage.venue.markets["BTC-PERP"].trades)) > 20
    stage.run(29)
    frames = client.heard()
    rows = [row for f in frames for row in (f["trades"] or []) + (f["liquidation_trades"] or [])]
    ids = [row["trade_id"] for row in rows]
    assert not set(ids) & set(replayed)
    assert len(set(ids)) == len(ids) > 20
    assert any(f["liquidation_trades"] is None for f in frames)
    assert "timestamp" not in frames[0]
    assert {row["is_maker_ask"] for row in rows} == {True, False}
    assert any("taker_fee" not in row for row in rows)
    truth = {row["trade_id"]: row["side"] for row in stage.venue.truth("BTC-PERP")["trades"]}
    known = [row for row in rows if row["trade_id_str"] in truth]
    assert len(known) > 20
    assert all(row["is_maker_ask"] == (truth[row["trade_id_str"]] == "buy") for row in known)


def test_funding_is_in_percent_per_hour_and_interest_in_quote(stage, client):
    (frame,) = subscribe(client, "market_stats/1")
    stats, market = frame["market_stats"], stage.venue.markets["BTC-PERP"]
    assert float(stats["current_funding_rate"]) == pytest.approx(market.funding_e12 / 1e10, abs=1e-4)
    interest = market.open_interest / 1e5
    assert float(stats["open_interest"]) == pytest.approx(interest * float(stats["mark_price"]), rel=1e-4)
    (row,) = stage.get("/api/v1/orderBookDetails", market_id="1")["order_book_details"]
    assert row["open_interest"] == pytest.approx(interest, rel=1e-3)
    stage.run(3.01)
    assert len(client.heard()) == 3


def test_all_statistics_are_sent_as_a_map(stage, client):
    (frame,) = subscribe(client, "market_stats/all")
    assert frame["channel"] == "market_stats:all"
    assert set(frame["market_stats"]) == {"0", "1", "2", "3"}
    stage.run(1.01)
    assert set(client.heard()[0]["market_stats"]) == {"0", "1", "2"}


def test_errors(client):
    subscribe(client, "order_book/0")
    again = {"type": "subscribe", "channel": "order_book/0"}
    assert error(client, again) == {"code": 30003, "message": "Already Subscribed to : order_book:0"}
    gone = {"type": "unsubscribe", "channel": "order_book/1"}
    assert error(client, gone) == {"code": 30002, "message": "Not Subscribed to : order_book:1"}
    for channel in ("order_book/77", "order_book:0", "order_book/x", "nope/0", "ticker/all"):
        assert error(client, {"type": "subscribe", "channel": channel})["code"] == 30005
    assert error(client, "no json")["code"] == 30000
    assert error(client, {"type": "dance"})["code"] == 30001
    assert error(client, {"type": "subscribe"})["code"] == 30007


def test_too_many_messages(stage, client):
    for _ in range(50):
        client.say({"type": "ping"})
    assert client.heard() == [{"type": "pong"}] * 50
    assert error(client, {"type": "ping"})["code"] == 30010
    for _ in range(5):
        stage.run(0.2)
        for _ in range(30):
            client.say({"type": "pong"})
    stage.run(0.2)
    assert error(client, {"type": "ping"})["code"] == 30009
    stage.run(61)
    client.raw()
    client.say({"type": "ping"})
    assert client.heard() == [{"type": "pong"}]


def test_a_client_idle_for_two_minutes_is_disconnected(stage, client):
    quiet = stage.connect("/stream")
    for _ in range(4):
        stage.run(29.9)
        client.say({"type": "pong"})
        quiet.session.on_ping()
    assert client.heard().count({"type": "ping"}) == 3
    stage.run(5)
    assert quiet.wire.close_code is not None
    assert client.wire.close_code is None


def test_the_catalogue_has_the_market_ids(stage):
    rows = {row["symbol"]: row for row in stage.get("/api/v1/orderBooks")["order_books"]}
    assert rows["ETH"]["market_id"] == 0
    assert rows["BTC"]["market_id"] == 1
    assert rows["ETH/USDC"]["market_id"] == 2048
    assert rows["ETH/USDC"]["market_type"] == "spot"
    assert rows["1000PEPE"]["status"] == "active"
    assert rows["MATIC"]["status"] == "inactive"
    assert len(stage.get("/api/v1/orderBooks", filter="spot")["order_books"]) == 1


def test_orders_add_up_to_the_book(stage):
    answer = stage.get("/api/v1/orderBookOrders", market_id="1", limit="250")
    sums = {}
    for order in answer["bids"]:
        price = float(order["price"])
        sums[price] = round(sums.get(price, 0) + float(order["remaining_base_amount"]), 8)
    assert sums == stage.book("BTC-PERP")[0]
    assert len({order["order_index"] for order in answer["bids"]}) == len(answer["bids"])


def test_settled_funding_is_unsigned_with_times_in_seconds(stage):
    now = stage.venue.now_ms() // 1000
    answer = stage.get("/api/v1/fundings", market_id="1", resolution="1h", start_timestamp=str(now - 172_800))
    assert len(answer["fundings"]) == 48
    assert all(row["timestamp"] % 3600 == 0 and float(row["rate"]) >= 0 for row in answer["fundings"])
    assert {row["direction"] for row in answer["fundings"]} == {"long", "short"}


def test_current_rates_are_fractions_per_8_hours_beside_those_of_other_exchanges(stage):
    rows = [row for row in stage.get("/api/v1/funding-rates")["funding_rates"] if row["symbol"] == "BTC"]
    assert len(rows) == 3
    (own,) = [row for row in rows if row["exchange"] == "lighter"]
    assert own["rate"] == pytest.approx(stage.venue.markets["BTC-PERP"].funding_e12 * 8 / 1e12)


def test_rest_errors_and_limit(stage):
    assert stage.ask("/api/v1/orderBookOrders", market_id="77", limit="5").status == 400
    assert stage.ask("/api/v1/recentTrades", market_id="1").status == 400
    assert stage.ask("/api/v1/nope").status == 404
    statuses = [stage.ask("/api/v1/orderBooks").status for _ in range(59)]
    assert statuses == [200] * 58 + [429]


def test_other_rest_paths(stage):
    assert stage.get("/api/v1/exchangeStats")["total"] == 5
    assert [asset["symbol"] for asset in stage.get("/api/v1/assetDetails")["asset_details"]] == ["ETH", "USDC"]
    assert stage.get("/")["status"] == 200


def test_trades_over_rest_are_newest_first(stage):
    rows = stage.get("/api/v1/recentTrades", market_id="1", limit="20")["trades"]
    ids = [row["trade_id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 20


def test_other_paths_are_rejected(stage):
    assert stage.knock("/").status == 404
