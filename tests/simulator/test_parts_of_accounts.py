"""Accounts in parts: builders' markets with separate margin, and both legs of a hedged position."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

import msgspec
import pytest

from ipc.errors import UsageError

ADDRESS = "0x00000000000000000000000000000000000051e0"
AGENT = "0x00000000000000000000000000000000000a9e17"
BUILT = "xyz:TSLA"


@pytest.fixture
def hyperliquid(new_stage):
    stage = new_stage("hyperliquid", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def aster(new_stage):
    stage = new_stage("aster", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


def info(stage, kind, **query):
    answer = stage.ask("/info", "POST", {"type": kind, **query})
    assert answer.status == 200
    return msgspec.json.decode(answer.body)


def follow(stage, kind, **more):
    client = stage.connect("/ws")
    client.say({"method": "subscribe", "subscription": {"type": kind, "user": ADDRESS, **more}})
    return client


def messages_of(client, channel):
    return [message["data"] for message in client.heard() if message["channel"] == channel]


# builders


def test_a_builders_dex_is_listed_beside_the_core_one(hyperliquid):
    core, builder = info(hyperliquid, "perpDexs")
    assert core is None
    assert builder["name"] == "xyz"
    names = [row["name"] for row in info(hyperliquid, "meta")["universe"]]
    assert "BTC" in names
    assert BUILT not in names
    assert [row["name"] for row in info(hyperliquid, "meta", dex="xyz")["universe"]] == [BUILT]
    assert [len(meta["universe"]) for meta in info(hyperliquid, "allPerpMetas")] == [len(names), 1]
    assert BUILT not in info(hyperliquid, "allMids")
    assert list(info(hyperliquid, "allMids", dex="xyz")) == [BUILT]


def test_a_builders_market_has_a_book(hyperliquid):
    client = hyperliquid.connect("/ws")
    client.say({"method": "subscribe", "subscription": {"type": "l2Book", "coin": BUILT}})
    (book,) = messages_of(client, "l2Book")
    assert book["coin"] == BUILT
    assert len(book["levels"][0]) == 20


@pytest.mark.parametrize("kind", ["openOrders", "frontendOpenOrders"])
def test_open_orders_of_a_builders_market_are_listed_only_if_its_dex_is_named(hyperliquid, kind):
    updates, fills = follow(hyperliquid, "orderUpdates"), follow(hyperliquid, "userFills")
    order = hyperliquid.venue.accounts.do({"action": "place", "symbol": BUILT, "price": "401", "size": "2"})["orders"][
        0
    ]
    number = int(order["order_id"])
    assert number not in [row["oid"] for row in info(hyperliquid, kind, user=ADDRESS)]
    assert [row["oid"] for row in info(hyperliquid, kind, user=ADDRESS, dex="xyz")] == [number]
    history = info(hyperliquid, "historicalOrders", user=ADDRESS)
    assert number in [row["order"]["oid"] for row in history]
    assert [row["order"]["coin"] for data in messages_of(updates, "orderUpdates") for row in data] == [BUILT]
    hyperliquid.venue.accounts.do({"action": "fill", "order_id": order["order_id"]})
    assert [row["coin"] for row in messages_of(fills, "userFills")[-1]["fills"]] == [BUILT]


def test_positions_and_margin_are_those_of_one_dex(hyperliquid):
    before = info(hyperliquid, "clearinghouseState", user=ADDRESS)
    hyperliquid.venue.accounts.do({"action": "market", "symbol": BUILT, "side": "buy", "size": "2"})
    core = info(hyperliquid, "clearinghouseState", user=ADDRESS)
    built = info(hyperliquid, "clearinghouseState", user=ADDRESS, dex="xyz")
    coins = [row["position"]["coin"] for row in core["assetPositions"]]
    assert coins == [row["position"]["coin"] for row in before["assetPositions"]]
    (position,) = [row["position"] for row in built["assetPositions"]]
    assert (position["coin"], position["szi"]) == (BUILT, "2.0")
    assert float(built["marginSummary"]["totalNtlPos"]) == pytest.approx(800, rel=0.1)
    truth = hyperliquid.venue.accounts.truth()
    assert float(truth["margin"]["equity"]) == float(core["marginSummary"]["accountValue"])
    assert [row for row in truth["positions"] if row["symbol"] == BUILT] == [
        {"symbol": BUILT, "size": "2", "entry_price": truth["positions"][-1]["entry_price"]}
    ]


def test_snapshots_on_the_stream_are_those_of_one_dex(hyperliquid):
    core, built = (follow(hyperliquid, "openOrders", **more) for more in ({}, {"dex": "xyz"}))
    acknowledged = [
        message["data"]["subscription"]["dex"] for client in (core, built) for message in client.heard()[:1]
    ]
    assert acknowledged == ["", "xyz"]
    hyperliquid.venue.accounts.do({"action": "place", "symbol": BUILT})
    (data,) = messages_of(built, "openOrders")
    assert data["dex"] == "xyz"
    assert [row["coin"] for row in data["orders"]] == [BUILT]
    assert all(row["coin"] != BUILT for data in messages_of(core, "openOrders") for row in data["orders"])


def test_the_account_trades_there_while_the_fault_is_active(hyperliquid):
    accounts = hyperliquid.venue.accounts
    assert all(
        order.market.listing.name != BUILT for order in [*accounts.account.closed, *accounts.account.orders.values()]
    )
    hyperliquid.fault("builder_orders", duration_s=30)
    accounts.set_activity({"run": True, "rate": 5})
    hyperliquid.run(29)
    assert sum(order.market.listing.name == BUILT for order in accounts.account.closed) > 3
    hyperliquid.run(2)
    last = max(accounts.account.orders, default=0)
    hyperliquid.run(20)
    later = [order for number, order in accounts.account.orders.items() if number > last]
    assert all(order.market.listing.name != BUILT for order in later)


def test_an_api_wallet_has_an_empty_account_and_a_role(hyperliquid):
    assert info(hyperliquid, "userRole", user=AGENT) == {"role": "agent", "data": {"user": ADDRESS}}
    assert info(hyperliquid, "userRole", user=ADDRESS) == {"role": "user"}
    assert info(hyperliquid, "clearinghouseState", user=AGENT)["assetPositions"] == []


# hedged positions


def get(stage, path):
    query = {"timestamp": str(stage.venue.schedule.wall_ms())}
    query["signature"] = hmac.new(b"sim-secret", urlencode(query).encode(), hashlib.sha256).hexdigest()
    return msgspec.json.decode(stage.ask(path, headers={"x-mbx-apikey": "sim-key"}, **query).body)


def legs(rows, symbol="BTCUSDT", names=("s", "ps", "pa")):
    market, side, size = names
    return {row[side]: float(row[size]) for row in rows if row[market] == symbol}


def listen(stage):
    return stage.connect(f"/ws/{stage.venue.accounts.open_key()}")


def test_both_legs_are_published_first_and_then_only_the_changed_one(aster):
    accounts, client = aster.venue.accounts, listen(aster)
    net = float(next(row["size"] for row in accounts.truth()["positions"] if row["symbol"] == "BTC-PERP"))
    aster.fault("hedge_legs")
    (event,) = client.heard()
    first = legs(event["a"]["P"])
    assert set(first) == {"BOTH", "LONG", "SHORT"}
    assert first["BOTH"] == 0
    assert first["SHORT"] < 0 < first["LONG"]
    assert sum(first.values()) == pytest.approx(net)
    side = "buy" if net >= 0 else "sell"
    accounts.do({"action": "market", "symbol": "BTC-PERP", "side": side, "size": "0.002"})
    account = [event for event in client.heard() if event["e"] == "ACCOUNT_UPDATE"]
    moved = legs(account[-1]["a"]["P"])
    assert list(moved) == ["LONG" if side == "buy" else "SHORT"]
    rows = legs(get(aster, "/fapi/v2/positionRisk"), names=("symbol", "positionSide", "positionAmt"))
    assert rows == {**first, **moved}
    total = next(float(row["size"]) for row in accounts.truth()["positions"] if row["symbol"] == "BTC-PERP")
    assert sum(rows.values()) == pytest.approx(total)


def test_a_payment_of_a_hedged_account_names_one_leg(aster):
    client = listen(aster)
    aster.venue.accounts.do({"action": "funding"})
    assert all("P" not in event["a"] for event in client.heard())
    aster.fault("hedge_legs")
    client.heard()
    payments = aster.venue.accounts.do({"action": "funding"})["payments"]
    events = client.heard()
    assert [event["a"]["m"] for event in events] == ["FUNDING_FEE"] * len(payments)
    assert all([row["ps"] for row in event["a"]["P"]] == ["LONG"] for event in events)


def test_after_hedge_mode_the_net_position_remains(aster):
    client = listen(aster)
    aster.fault("hedge_legs", duration_s=5)
    client.heard()
    aster.run(6)
    (event,) = client.heard()
    found = legs(event["a"]["P"])
    assert (found["LONG"], found["SHORT"]) == (0, 0)
    assert set(legs(get(aster, "/fapi/v2/positionRisk"), names=("symbol", "positionSide", "positionAmt"))) == {"BOTH"}


@pytest.mark.parametrize("name", ["hedge_legs", "builder_orders"])
def test_only_some_venues_support_these_faults(new_stage, name):
    with pytest.raises(UsageError, match=name):
        new_stage("lighter").fault(name)


# rows and states of accounts


def test_fills_have_an_invalid_row_among_valid_ones(hyperliquid):
    fills = follow(hyperliquid, "userFills")
    fills.heard()
    hyperliquid.fault("invalid_row", stream="account")
    hyperliquid.venue.accounts.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.01"})
    (data,) = messages_of(fills, "userFills")
    assert {"rubbish", "BTC"} == {row["coin"] for row in data["fills"]}
    hyperliquid.controller.clear(hyperliquid.venue)
    hyperliquid.fault("invalid_row")
    rows = info(hyperliquid, "userFillsByTime", user=ADDRESS, startTime=0)
    assert sum(row["coin"] == "rubbish" for row in rows) == 1


def test_open_orders_are_in_an_unknown_state_and_filled_ones_are_filled(aster):
    client = listen(aster)
    aster.fault("unknown_status", of="orders")
    order = aster.venue.accounts.do({"action": "place", "symbol": "BTC-PERP"})["orders"][0]
    aster.venue.accounts.do({"action": "fill", "order_id": order["order_id"]})
    states = [event["o"]["X"] for event in client.heard() if event["e"] == "ORDER_TRADE_UPDATE"]
    assert states == ["IN_REVIEW", "FILLED"]
    assert {row["status"] for row in get(aster, "/fapi/v1/openOrders")} == {"IN_REVIEW"}
