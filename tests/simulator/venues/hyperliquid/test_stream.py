from __future__ import annotations

import itertools

import msgspec
import pytest

GREETING = b"Websocket connection established."


@pytest.fixture
def stage(new_stage):
    return new_stage("hyperliquid")


@pytest.fixture
def client(stage):
    client = stage.connect("/ws")
    assert client.raw()[0].payload == GREETING
    return client


def subscribe(client, **subscription):
    client.say({"method": "subscribe", "subscription": subscription})
    return client.heard()


def info(stage, **body):
    return msgspec.json.decode(stage.ask("/info", "POST", body).body)


def test_the_greeting_can_be_switched_off(new_stage):
    assert new_stage("hyperliquid", greeting=False).connect("/ws").raw() == []


def test_other_paths_are_rejected(stage):
    assert stage.knock("/").status == 404


def test_an_acknowledgement_is_normalised_and_precedes_the_first_frame(client):
    ack, first = subscribe(client, type="l2Book", coin="BTC")
    echo = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False}
    assert ack == {"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": echo}}
    assert first["channel"] == "l2Book"
    assert subscribe(client, type="bbo", coin="BTC")[0]["data"]["subscription"] == {"type": "bbo", "coin": "BTC"}
    assert subscribe(client, type="allMids")[0]["data"]["subscription"] == {"type": "allMids", "dex": ""}


@pytest.mark.parametrize(("fast", "depth", "period"), [(True, 5, 0.5), (False, 20, 5.0)])
def test_complete_books_are_sent_at_their_cadence(stage, client, fast, depth, period):
    subscribe(client, type="l2Book", coin="BTC", fast=fast)
    stage.run(period * 4 + 0.01)
    frames = client.heard()
    assert len(frames) == 4
    for frame in frames:
        bids, asks = frame["data"]["levels"]
        assert len(bids) == len(asks) == depth
        assert float(bids[0]["px"]) < float(asks[0]["px"])
        assert [float(level["px"]) for level in bids] == sorted((float(level["px"]) for level in bids), reverse=True)
        assert all("." in level["px"] and "." in level["sz"] and level["n"] >= 1 for level in bids + asks)
    times = [frame["data"]["time"] for frame in frames]
    assert times == sorted(times)


def test_an_unchanged_market_repeats_its_book(stage, client):
    stage.venue.set_activity("BTC-PERP", 0)
    subscribe(client, type="l2Book", coin="BTC", fast=True)
    stage.run(2.01)
    assert len({msgspec.json.encode(frame["data"]["levels"]) for frame in client.heard()}) == 1


def test_the_normal_and_the_fast_book_of_a_coin_are_two_subscriptions(stage, client):
    subscribe(client, type="l2Book", coin="BTC")
    assert len(subscribe(client, type="l2Book", coin="BTC", fast=True)) == 2
    client.say({"method": "unsubscribe", "subscription": {"type": "l2Book", "coin": "BTC", "fast": True}})
    assert client.heard()[0]["data"]["method"] == "unsubscribe"
    stage.run(4.9)
    assert client.heard() == []
    stage.run(0.2)
    assert len(client.heard()) == 1


def test_an_aggregated_book_is_coarser(client):
    ack, frame = subscribe(client, type="l2Book", coin="BTC", nSigFigs=3)
    assert ack["data"]["subscription"]["nSigFigs"] == 3
    assert all(float(level["px"]) % 100 == 0 for side in frame["data"]["levels"] for level in side)


def test_the_touch_is_published_when_it_moved(stage, client):
    subscribe(client, type="bbo", coin="BTC")
    stage.run(5)
    touches = [frame["data"]["bbo"] for frame in client.heard()]
    assert len(touches) > 10
    assert all(before != after for before, after in itertools.pairwise(touches))
    bids, asks = stage.book("BTC-PERP")
    stage.venue.pause()
    assert float(touches[-1][0]["px"]) == max(bids)
    assert float(touches[-1][1]["px"]) == min(asks)


def test_the_first_trades_are_an_unmarked_backlog_and_none_is_repeated_after_it(stage, client):
    backlog = subscribe(client, type="trades", coin="BTC")[1]["data"]
    assert len(backlog) == 10
    assert [row["time"] for row in backlog] == sorted(row["time"] for row in backlog)
    stage.run(20)
    rows = [row for frame in client.heard() for row in frame["data"]]
    ids = [row["tid"] for row in backlog + rows]
    assert len(set(ids)) == len(ids) > 20
    assert {row["side"] for row in rows} == {"A", "B"}
    assert [str(tid) for tid in ids[-5:]] == [row["trade_id"] for row in stage.venue.truth("BTC-PERP")["trades"][-5:]]
    assert all(tid < 2**50 for tid in ids)
    truth = {row["trade_id"]: row["side"] for row in stage.venue.truth("BTC-PERP")["trades"]}
    assert all((row["side"] == "B") == (truth[str(row["tid"])] == "buy") for row in rows)


def test_marks_are_sent_every_second_without_a_time(stage, client):
    frames = subscribe(client, type="activeAssetCtx", coin="BTC")[1:]
    stage.run(3.01)
    frames += client.heard()
    assert len(frames) == 4
    ctx = frames[-1]["data"]["ctx"]
    assert set(frames[-1]["data"]) == {"coin", "ctx"}
    assert 70_000 < float(ctx["markPx"]) < 90_000
    assert abs(float(ctx["funding"])) < 0.0001
    assert len(ctx["impactPxs"]) == 2


def test_a_delisted_coin_is_accepted_and_empty(client):
    assert subscribe(client, type="l2Book", coin="MATIC")[1]["data"]["levels"] == [[], []]
    assert subscribe(client, type="bbo", coin="MATIC")[1]["data"]["bbo"] == [None, None]
    ctx = subscribe(client, type="activeAssetCtx", coin="MATIC")[1]["data"]["ctx"]
    assert ctx["midPx"] is ctx["premium"] is ctx["impactPxs"] is None


@pytest.mark.parametrize("kind", ["l2Book", "bbo", "trades", "activeAssetCtx"])
def test_an_unknown_coin_drops_the_connection_without_a_close_frame(client, kind):
    assert subscribe(client, type=kind, coin="btc") == []
    assert client.wire.is_aborted
    assert client.wire.close_code is None


def test_error_texts(client):
    bad = {"method": "subscribe", "xsubscription": {}}
    client.say(bad)
    text = msgspec.json.encode(bad).decode()
    assert client.heard()[0]["data"] == f"Error parsing JSON into valid websocket request: {text}"
    client.say("nonsense")
    assert client.heard()[0]["data"] == "Error parsing JSON into valid websocket request: nonsense"
    subscribe(client, type="bbo", coin="BTC")
    assert subscribe(client, type="bbo", coin="BTC")[0]["data"] == 'Already subscribed: {"type":"bbo","coin":"BTC"}'
    client.say({"method": "unsubscribe", "subscription": {"type": "trades", "coin": "BTC"}})
    assert client.heard()[0]["data"] == 'Already unsubscribed: {"type":"trades","coin":"BTC"}'
    assert subscribe(client, type="xyz", coin="BTC")[0]["data"].startswith("Invalid subscription {")
    assert subscribe(client, type="l2Book", coin="BTC", mantissa=2)[0]["data"].startswith("Invalid subscription {")


def test_exceeded_limits_are_reported_and_the_connection_stays(stage, client):
    stage.venue.messages.limit = 2
    subscribe(client, type="bbo", coin="BTC")
    subscribe(client, type="bbo", coin="ETH")
    assert subscribe(client, type="bbo", coin="kPEPE")[0]["data"] == "Cannot send more than 2000 messages per minute."
    assert client.wire.close_code is None
    stage.venue.messages.limit = 10_000
    stage.venue.subscriptions.total = 1000
    assert subscribe(client, type="trades", coin="ETH")[0]["data"] == "Cannot subscribe to more than 1000 channels."


def test_a_json_ping_is_answered(client):
    client.say({"method": "ping"})
    assert client.heard() == [{"channel": "pong"}]


def test_a_connection_without_data_for_a_minute_is_closed(stage, client):
    stage.run(55)
    client.say({"method": "ping"})
    stage.run(55)
    assert client.wire.close_code is None
    stage.run(10)
    assert client.wire.close_code == 1000


def test_acknowledgements_do_not_keep_a_connection_open(stage, client):
    stage.run(50)
    subscribe(client, type="allMids")
    stage.venue.subscriptions.drop(client.session)
    stage.run(50)
    client.say({"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}})
    stage.run(12)
    assert client.wire.close_code == 1000


def test_pace_shortens_keep_alive_but_not_the_cadence_of_data(new_stage):
    stage = new_stage("hyperliquid", pace=60.0)
    client = stage.connect("/ws")
    idle = stage.connect("/ws")
    subscribe(client, type="l2Book", coin="BTC", fast=True)
    stage.run(1.6)
    assert idle.wire.close_code == 1000
    assert len(client.heard()) == 3


def test_a_pause_sends_pending_books_and_holds_the_market(stage, client, books):
    book = books.HyperliquidBook()
    subscribe(client, type="l2Book", coin="BTC")
    stage.run(3)
    stage.venue.pause()
    for message in client.heard():
        book.feed(message)
    bids, asks = stage.book("BTC-PERP")
    assert book.bids == {price: bids[price] for price in sorted(bids, reverse=True)[:20]}
    stage.run(30)
    for message in client.heard():
        book.feed(message)
    assert stage.book("BTC-PERP") == (bids, asks)
    stage.venue.resume()
    stage.run(5)
    assert stage.book("BTC-PERP") != (bids, asks)


def test_the_catalogue_has_the_delisted_coin_and_thousands(stage):
    universe = {row["name"]: row for row in info(stage, type="meta")["universe"]}
    assert universe["BTC"]["szDecimals"] == 5
    assert "isDelisted" not in universe["BTC"]
    assert universe["MATIC"]["isDelisted"] is True
    assert "kPEPE" in universe
    meta, contexts = info(stage, type="metaAndAssetCtxs")
    assert len(meta["universe"]) == len(contexts)
    spot = info(stage, type="spotMeta")
    assert [pair["name"] for pair in spot["universe"]] == ["PURR/USDC", "@1"]
    assert info(stage, type="perpDexs")[0] is None
    assert info(stage, type="allPerpMetas")[0] == meta
    contexts = info(stage, type="spotMetaAndAssetCtxs")[1]
    assert [ctx["coin"] for ctx in contexts] == ["PURR/USDC", "@1"]


def test_rest_answers(stage):
    assert len(info(stage, type="l2Book", coin="BTC")["levels"][0]) == 20
    assert info(stage, type="l2Book", coin="NOPE") is None
    assert set(info(stage, type="allMids")) >= {"BTC", "ETH", "kPEPE"}
    trades = info(stage, type="recentTrades", coin="BTC")
    assert [row["time"] for row in trades] == sorted((row["time"] for row in trades), reverse=True)
    now = stage.venue.now_ms()
    history = info(stage, type="fundingHistory", coin="BTC", startTime=now - 10 * 3_600_000)
    assert len(history) == 10
    assert all(16 <= row["time"] % 3_600_000 < 100 for row in history)
    venues = dict(info(stage, type="predictedFundings")[0][1])
    assert venues["HlPerp"]["fundingIntervalHours"] == 1
    assert venues["HlPerp"]["nextFundingTime"] > now


def test_rest_errors(stage):
    assert stage.ask("/info", "POST", {"type": "nope"}).status == 422
    assert stage.ask("/info", "POST", ["x"]).body.startswith(b"Failed to deserialize")
    assert stage.ask("/info", "POST", {"type": "fundingHistory", "coin": "NOPE"}).status == 500
    assert stage.ask("/info").status == 405
    assert stage.ask("/other").status == 404


def test_weight_is_limited(stage):
    statuses = [stage.ask("/info", "POST", {"type": "meta"}).status for _ in range(61)]
    assert statuses == [200] * 60 + [429]
    stage.run(61)
    assert stage.ask("/info", "POST", {"type": "meta"}).status == 200


def test_the_socket_answers_rest_queries(client):
    client.say({"method": "post", "id": 7, "request": {"type": "info", "payload": {"type": "l2Book", "coin": "BTC"}}})
    data = client.heard()[0]["data"]
    assert data["id"] == 7
    assert data["response"]["payload"]["data"]["coin"] == "BTC"


def test_a_spot_coin_has_another_context(client):
    frame = subscribe(client, type="activeAssetCtx", coin="PURR/USDC")[1]
    assert frame["channel"] == "activeSpotAssetCtx"
