from __future__ import annotations

import msgspec
import pytest

from ipc.topics import VENUES
from simulator.venue import Traffic

ROOT = "/stream.extended.exchange/v1/"


def subscribe_to_everything(stage):
    """Return clients with all usual subscriptions of BTC and ETH."""
    name = stage.venue.name
    if name == "aster":
        kinds = ("depth@100ms", "bookTicker", "aggTrade", "markPrice@1s", "forceOrder")
        streams = [f"{stem}@{kind}" for stem in ("btcusdt", "ethusdt") for kind in kinds]
        return [stage.connect("/stream", streams="/".join(streams))]
    if name == "extended":
        paths = ("orderbooks", "publicTrades", "prices/mark", "prices/index", "funding")
        markets = ("BTC-USD", "ETH-USD")
        touches = [stage.connect(f"{ROOT}orderbooks/{market}", depth="1") for market in markets]
        return touches + [stage.connect(f"{ROOT}{path}/{market}") for path in paths for market in markets]
    client = stage.connect({"hyperliquid": "/ws", "lighter": "/stream", "paradex": "/v1"}[name])
    for request in {"hyperliquid": _hyperliquid, "lighter": _lighter, "paradex": _paradex}[name]():
        client.say(request)
    return [client]


def _hyperliquid():
    for coin in ("BTC", "ETH"):
        for kind in ({"type": "l2Book", "fast": True}, {"type": "l2Book"}, {"type": "bbo"}, {"type": "trades"}):
            yield {"method": "subscribe", "subscription": {**kind, "coin": coin}}
        yield {"method": "subscribe", "subscription": {"type": "activeAssetCtx", "coin": coin}}


def _lighter():
    for name in ("order_book", "ticker", "trade", "market_stats"):
        for number in (0, 1):
            yield {"type": "subscribe", "channel": f"{name}/{number}"}


def _paradex():
    for name in ("BTC-USD-PERP", "ETH-USD-PERP"):
        for channel in ("order_book.{}.deltas", "bbo.{}", "trades.{}", "markets_summary.{}", "funding_data.{}"):
            params = {"channel": channel.format(name)}
            yield {"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 1}


@pytest.mark.parametrize("rate", [20, 50, 200])
@pytest.mark.parametrize("name", VENUES)
def test_the_frame_rate_is_about_the_configured_one(new_stage, name, rate):
    stage = new_stage(name, rate=rate)
    clients = subscribe_to_everything(stage)
    for client in clients:
        client.raw()
    stage.run(20)
    frames = sum(len(client.raw()) for client in clients)
    assert rate * 0.7 < frames / 20 < rate * 1.3


@pytest.mark.parametrize("rate", [1, 1000])
@pytest.mark.parametrize("name", VENUES)
def test_extreme_rates_work(new_stage, name, rate):
    stage = new_stage(name, rate=rate)
    clients = subscribe_to_everything(stage)
    stage.run(2)
    assert all(client.raw() for client in clients)


@pytest.mark.parametrize("name", VENUES)
def test_the_same_seed_gives_the_same_market(new_stage, name):
    stages = [new_stage(name, seed=seed) for seed in (7, 7, 8)]
    for stage in stages:
        stage.run(5)
    books = [stage.book("BTC-PERP") for stage in stages]
    assert books[0] == books[1] != books[2]


@pytest.mark.parametrize("name", VENUES)
def test_a_still_market_beside_a_busy_one(new_stage, name):
    stage = new_stage(name)
    stage.venue.set_activity("ETH-PERP", 0)
    still, busy = stage.book("ETH-PERP"), stage.book("BTC-PERP")
    stage.run(5)
    assert stage.book("ETH-PERP") == still
    assert stage.book("BTC-PERP") != busy
    stage.venue.set_activity("ETH-PERP", 1)
    stage.run(5)
    assert stage.book("ETH-PERP") != still


@pytest.mark.parametrize("name", VENUES)
def test_while_paused_books_do_not_change_and_marks_continue(new_stage, name):
    stage = new_stage(name)
    clients = subscribe_to_everything(stage)
    stage.run(3)
    stage.venue.pause()
    for client in clients:
        client.raw()
    before, mark = stage.book("BTC-PERP"), stage.venue.markets["BTC-PERP"].mark_e8
    stage.run(3)
    assert stage.book("BTC-PERP") == before
    assert stage.venue.markets["BTC-PERP"].mark_e8 != mark
    assert any(client.raw() for client in clients)


@pytest.mark.parametrize("name", VENUES)
def test_the_truth_is_plain_text_with_the_time_of_the_last_book(new_stage, name):
    stage = new_stage(name)
    assert stage.venue.truth("BTC-PERP")["sent_ns"] is None
    subscribe_to_everything(stage)
    stage.run(2)
    truth = stage.venue.truth("BTC-PERP")
    assert stage.schedule.wall_ns() - truth["sent_ns"] < 10**9
    assert (truth["venue_seq"] is None) == (name in {"hyperliquid", "extended"})
    prices = [price for price, _ in truth["bids"]]
    assert prices == sorted(prices, key=float, reverse=True)
    assert all("e" not in text and not text.endswith((".", ".0")) for level in truth["asks"] for text in level)
    assert set(truth["trades"][-1]) == {"trade_id", "price", "size", "side"}


@pytest.mark.parametrize("name", VENUES)
def test_a_client_that_disconnects_leaves_no_state(new_stage, name):
    stage = new_stage(name)
    clients = subscribe_to_everything(stage)
    for client in clients:
        client.raw()
        client.leave()
    stage.run(10)
    assert not stage.venue.sessions
    assert stage.venue.subscriptions.total == 0
    assert stage.venue.subscriptions.active() == []
    assert not any(client.raw() for client in clients)


@pytest.mark.parametrize("name", VENUES)
def test_frames_are_valid_text_or_binary(new_stage, name):
    stage = new_stage(name)
    for client in subscribe_to_everything(stage):
        stage.run(2)
        for frame in client.raw():
            assert not frame.is_binary
            assert frame.payload == b"Websocket connection established." or msgspec.json.decode(frame.payload)


def test_steps_are_spread_over_batches_and_single_frames():
    traffic = Traffic(steady=1.0, batches=10.0, per_step=0.5)
    assert traffic.steps_for(32, 2) == pytest.approx(10.0)
    assert traffic.steps_for(52, 2) == pytest.approx(30.0)
    assert traffic.steps_for(8, 2) == pytest.approx(2.0)
    assert traffic.steps_for(1, 2) == 0.5
