from __future__ import annotations

import itertools

import msgspec
import pytest

ADDRESS = "0x00000000000000000000000000000000000051e0"
STRANGER = "0x" + 39 * "0" + "9"


@pytest.fixture
def stage(new_stage):
    stage = new_stage("hyperliquid", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def client(stage):
    client = stage.connect("/ws")
    client.raw()
    return client


def subscribe(client, kind, user=ADDRESS, method="subscribe", **more):
    client.say({"method": method, "subscription": {"type": kind, "user": user, **more}})
    return client.heard()


def info(stage, kind, **more):
    response = stage.ask("/info", "POST", {"type": kind, "user": ADDRESS, **more})
    assert response.status == 200, response
    return msgspec.json.decode(response.body)


@pytest.mark.parametrize(
    ("kind", "filled_in"),
    [
        ("orderUpdates", {}),
        ("userEvents", {}),
        ("userFills", {"aggregateByTime": False}),
        ("userFundings", {}),
        ("openOrders", {"dex": ""}),
        ("clearinghouseState", {"dex": ""}),
        ("spotState", {"ignorePortfolioMargin": False}),
    ],
)
def test_a_subscription_is_repeated_with_the_address_in_lower_case_and_defaults(client, kind, filled_in):
    ack, *_ = subscribe(client, kind, ADDRESS.upper().replace("0X", "0x"))
    assert ack["data"]["subscription"] == {"type": kind, "user": ADDRESS, **filled_in}
    assert subscribe(client, kind)[0]["data"].startswith("Already subscribed")
    assert subscribe(client, kind, method="unsubscribe")[0]["data"]["method"] == "unsubscribe"


@pytest.mark.parametrize("user", [None, "", "0x12", 7, ADDRESS + "0"])
def test_an_invalid_address_is_rejected(client, user):
    assert subscribe(client, "userFills", user)[0]["channel"] == "error"


def test_some_channels_start_with_a_state_and_only_that_is_marked(stage, client):
    starts = {kind: subscribe(client, kind)[1:] for kind in ("userFills", "userFundings", "orderUpdates", "userEvents")}
    assert starts["userFills"][0]["data"]["isSnapshot"] is True
    assert starts["userFundings"][0]["data"]["isSnapshot"] is True
    assert starts["orderUpdates"] == starts["userEvents"] == []
    times = [row["time"] for row in starts["userFills"][0]["data"]["fills"]]
    assert times == sorted(times)
    assert len(times) > 3
    stage.venue.accounts.do({"action": "market"})
    stage.venue.accounts.do({"action": "funding"})
    later = [message for message in client.heard() if message["channel"] in {"userFills", "userFundings"}]
    assert len(later) == 2
    assert all("isSnapshot" not in message["data"] for message in later)
    assert all(message["data"]["user"] == ADDRESS for message in later)


def test_an_immediate_fill_is_published_as_open_and_filled_in_one_array(stage, client):
    subscribe(client, "orderUpdates")
    stage.venue.accounts.do({"action": "market", "symbol": "ETH-PERP", "size": "0.01"})
    (message,) = client.heard()
    first, *_, last = message["data"]
    assert (first["status"], first["order"]["sz"], first["order"]["origSz"]) == ("open", "0.01", "0.01")
    assert (last["status"], last["order"]["sz"], last["order"]["origSz"]) == ("filled", "0.0", "0.01")
    assert "user" not in message


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"action": "cancel"}, "canceled"),
        ({"action": "cancel", "by": "venue"}, "marginCanceled"),
        ({"action": "reject"}, "perpMarginRejected"),
    ],
)
def test_final_states_of_orders(stage, client, order, word):
    stage.venue.accounts.do({"action": "place"})
    subscribe(client, "orderUpdates")
    subscribe(client, "userEvents")
    stage.venue.accounts.do(order)
    messages = client.heard()
    assert messages[0]["data"][-1]["status"] == word
    forced = [m["data"]["nonUserCancel"] for m in messages if m["channel"] == "user"]
    assert bool(forced) == (order.get("by") == "venue")


def test_a_liquidation_is_an_event_and_marks_its_fill(stage, client):
    stage.venue.accounts.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.5"})
    subscribe(client, "userEvents")
    stage.venue.accounts.do({"action": "liquidate", "symbol": "BTC-PERP"})
    events = [m["data"] for m in client.heard() if m["channel"] == "user" and "nonUserCancel" not in m["data"]]
    assert [next(iter(event)) for event in events] == ["liquidation", "fills"]
    assert set(events[0]["liquidation"]) == {
        "lid",
        "liquidator",
        "liquidated_user",
        "liquidated_ntl_pos",
        "liquidated_account_value",
    }
    (fill,) = events[1]["fills"]
    assert fill["liquidation"]["liquidatedUser"] == ADDRESS
    assert fill["dir"] == "Close Long"


def test_funding_is_published_singly_and_as_a_list(stage, client):
    subscribe(client, "userEvents")
    subscribe(client, "userFundings")
    stage.venue.accounts.do({"action": "market", "symbol": "BTC-PERP"})
    stage.venue.accounts.do({"action": "market", "symbol": "ETH-PERP"})
    client.heard()
    stage.venue.accounts.do({"action": "funding"})
    messages = client.heard()
    singles = [m["data"]["funding"] for m in messages if m["channel"] == "user"]
    (listed,) = [m["data"]["fundings"] for m in messages if m["channel"] == "userFundings"]
    assert singles == listed
    assert len(listed) >= 2
    truth = stage.venue.accounts.truth()["payments"]
    assert [float(row["usdc"]) for row in listed] == [float(row["amount"]) for row in truth]


def test_changes_publish_the_affected_states(stage, client):
    for kind in ("clearinghouseState", "openOrders", "spotState"):
        subscribe(client, kind)
    stage.venue.accounts.do({"action": "deposit"})
    assert [m["channel"] for m in client.heard()] == ["spotState"]
    stage.venue.accounts.do({"action": "place"})
    states = {m["channel"]: m["data"] for m in client.heard()}
    assert set(states) == {"openOrders", "clearinghouseState"}
    assert len(states["openOrders"]["orders"]) == len(stage.venue.accounts.account.orders)
    margin = stage.venue.accounts.truth()["margin"]
    state = states["clearinghouseState"]["clearinghouseState"]
    assert float(state["marginSummary"]["accountValue"]) == float(margin["equity"])
    assert float(state["withdrawable"]) == float(margin["available"])
    assert float(state["crossMaintenanceMarginUsed"]) == float(margin["maintenance_margin"])


def test_any_other_address_has_an_empty_account(stage, client):
    _, fills = subscribe(client, "userFills", STRANGER)
    assert fills["data"] == {"isSnapshot": True, "user": STRANGER, "fills": []}
    _, state = subscribe(client, "clearinghouseState", STRANGER)
    assert state["data"]["clearinghouseState"]["assetPositions"] == []
    stage.venue.accounts.do({"action": "market"})
    assert client.heard() == []
    assert info(stage, "frontendOpenOrders", user=STRANGER) == []


def test_at_most_fifteen_users_can_be_subscribed(client):
    users = [f"0x{number:040x}" for number in range(16)]
    answers = [subscribe(client, "orderUpdates", user)[0] for user in users]
    assert answers[-1]["data"] == "Cannot track more than 15 total users."
    assert all(answer["channel"] == "subscriptionResponse" for answer in answers[:15])
    assert subscribe(client, "userFills", users[0])[0]["channel"] == "subscriptionResponse"


def test_fills_over_rest_by_range_and_newest_first(stage):
    for _ in range(4):
        stage.run(1)
        stage.venue.accounts.do({"action": "market"})
    rows = info(stage, "userFills")
    assert [row["tid"] for row in rows] == [row["tid"] for row in info(stage, "userFillsByTime", startTime=0)[::-1]]
    middle = rows[1]["time"]
    assert all(row["time"] >= middle for row in info(stage, "userFillsByTime", startTime=middle))
    assert all(row["time"] <= middle for row in info(stage, "userFillsByTime", startTime=0, endTime=middle))


def test_history_over_rest_is_newest_first(stage):
    for _ in range(5):
        stage.run(1)
        stage.venue.accounts.do({"action": "place"})
        stage.venue.accounts.do({"action": "cancel"})
    rows = info(stage, "historicalOrders")
    times = [row["statusTimestamp"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert {"open", "filled", "canceled"} <= {row["status"] for row in rows}
    assert len({row["order"]["oid"] for row in rows}) == len(rows)


def test_other_queries(stage):
    stage.venue.accounts.do({"action": "market", "symbol": "BTC-PERP"})
    stage.venue.accounts.do({"action": "funding"})
    (row, *_) = info(stage, "userFunding", startTime=0)
    assert row["delta"]["type"] == "funding"
    assert row["hash"] == "0x" + 64 * "0"
    assert info(stage, "userRateLimit")["nRequestsCap"] > 0
    balances = info(stage, "spotClearinghouseState")["balances"]
    assert [float(row["total"]) for row in balances] == [
        pytest.approx(float(row["total"]), abs=1e-6) for row in stage.venue.accounts.truth()["balances"]
    ]


@pytest.mark.parametrize("query", [{"type": "userFills"}, {"type": "userFillsByTime", "user": ADDRESS}])
def test_an_incomplete_query_is_answered_with_null(stage, query):
    assert stage.ask("/info", "POST", query).body == b"null"


def test_trade_ids_are_unique_and_about_50_bits(stage):
    accounts = stage.venue.accounts
    for _ in range(50):
        accounts.do({"action": "market"})
    ids = [int(accounts.fill_id(fill)) for fill in accounts.account.fills]
    assert len(set(ids)) == len(ids)
    assert max(ids) < 2**50
    assert any(after < before for before, after in itertools.pairwise(ids))


def test_the_direction_of_a_fill_describes_its_effect_on_the_position(stage, client):
    accounts = stage.venue.accounts
    if accounts.account.positions["ETH-PERP"].size:
        accounts.do({"action": "liquidate", "symbol": "ETH-PERP"})
    subscribe(client, "userFills")
    for side, size in (("buy", "0.2"), ("sell", "0.1"), ("sell", "0.3"), ("buy", "0.1"), ("buy", "0.4")):
        placed = accounts.do({"action": "place", "symbol": "ETH-PERP", "side": side, "size": size})
        accounts.do({"action": "fill", "order_id": placed["orders"][0]["order_id"]})
    names = [row["dir"] for message in client.heard() for row in message["data"]["fills"]]
    assert names == ["Open Long", "Close Long", "Long > Short", "Close Short", "Short > Long"]
