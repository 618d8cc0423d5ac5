from __future__ import annotations

import msgspec
import pytest

ROOT = "/stream.extended.exchange/v1/"
KEY = {"user-agent": "test", "x-api-key": "sim-api-key"}


@pytest.fixture
def stage(new_stage):
    stage = new_stage("extended", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def accounts(stage):
    return stage.venue.accounts


@pytest.fixture
def client(stage):
    client = stage.knock(ROOT + "account", headers=KEY)
    client.first = client.heard()
    return client


def get(stage, path, **query):
    response = stage.ask(f"/api/v1/user/{path}", headers=KEY, **query)
    assert response.status == 200, response
    answer = msgspec.json.decode(response.body)
    assert answer["status"] == "OK"
    return answer


def test_the_stream_requires_the_api_key(stage):
    assert stage.knock(ROOT + "account").status == 401
    assert stage.knock(ROOT + "account", headers={**KEY, "x-api-key": "other"}).status == 401
    assert stage.knock(ROOT + "account", headers={"x-api-key": "sim-api-key"}).status == 403


def test_rest_requires_the_api_key(stage):
    for path in ("orders", "orders/history", "trades", "positions", "balance"):
        response = stage.ask(f"/api/v1/user/{path}")
        assert response.status == 401
        assert msgspec.json.decode(response.body)["status"] == "ERROR"
        get(stage, path)


def test_the_stream_starts_with_the_complete_state(client, accounts):
    assert [message["type"] for message in client.first] == ["ORDER", "POSITION", "BALANCE"]
    assert [message["seq"] for message in client.first] == [1, 2, 3]
    live = {row["order_id"] for row in accounts.truth()["orders"] if row["status"] in {"open", "untriggered"}}
    assert {str(row["id"]) for row in client.first[0]["data"]["orders"]} == live
    balance = client.first[2]["data"]["balance"]
    assert float(balance["equity"]) == float(accounts.truth()["margin"]["equity"])


def test_changes_follow_with_the_next_sequence_numbers(client, accounts):
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    messages = client.heard()
    assert [message["type"] for message in messages][-3:] == ["TRADE", "POSITION", "BALANCE"]
    assert {message["type"] for message in messages[:-3]} == {"ORDER"}
    assert [message["seq"] for message in messages] == list(range(4, 4 + len(messages)))
    assert client.session.subscribed() == ["account/all"]


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"action": "place"}, "NEW"),
        ({"action": "partial"}, "PARTIALLY_FILLED"),
        ({"action": "fill"}, "FILLED"),
        ({"action": "cancel"}, "CANCELLED"),
        ({"action": "reject"}, "REJECTED"),
        ({"action": "expire"}, "EXPIRED"),
        ({"action": "stop"}, "UNTRIGGERED"),
    ],
)
def test_the_states_of_orders(client, accounts, order, word):
    accounts.do({"action": "place", "symbol": "ETH-PERP"})
    client.heard()
    accounts.do(order)
    assert client.heard()[0]["data"]["orders"][0]["status"] == word


def test_an_order_whose_trigger_was_reached_has_that_state(client, accounts):
    accounts.do({"action": "stop"})
    accounts.do({"action": "trigger"})
    row = client.heard()[-1]["data"]["orders"][0]
    assert row["status"] == "TRIGGERED"
    assert row["type"] == "CONDITIONAL"
    assert row["trigger"]["triggerPrice"]


def test_positions_have_a_side_and_an_unsigned_size(client, accounts):
    accounts.do({"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "9"})
    (row,) = next(m["data"]["positions"] for m in client.heard() if m["type"] == "POSITION")
    assert row["side"] == "SHORT"
    assert not row["size"].startswith("-")
    accounts.do({"action": "liquidate", "symbol": "ETH-PERP"})
    messages = client.heard()
    (row,) = next(m["data"]["positions"] for m in messages if m["type"] == "POSITION")
    assert float(row["size"]) == 0
    (trade,) = next(m["data"]["trades"] for m in messages if m["type"] == "TRADE")
    assert trade["tradeType"] == "LIQUIDATION"


def test_ids_are_larger_than_doubles_can_hold(client, accounts):
    accounts.do({"action": "market"})
    rows = [row for m in client.heard() for row in m["data"].get("orders", []) + m["data"].get("trades", [])]
    assert rows
    assert all(row["id"] > 2**53 for row in rows)


def test_balances_over_rest(stage, accounts):
    data = get(stage, "balance")["data"]
    truth = accounts.truth()
    assert float(data["balance"]) == float(truth["balances"][0]["total"])
    assert float(data["availableForTrade"]) == float(truth["margin"]["available"])
    assert get(stage, "spot/balances")["data"][0]["asset"] == "BTC"


def test_rest_can_be_limited_to_a_market(stage, accounts):
    for symbol in ("BTC-PERP", "ETH-PERP"):
        accounts.do({"action": "market", "symbol": symbol})
        accounts.do({"action": "place", "symbol": symbol})
    for path in ("orders", "orders/history", "trades", "positions"):
        assert {row["market"] for row in get(stage, path, market="ETH-USD")["data"]} == {"ETH-USD"}


def test_history_pages_by_cursor(stage, accounts):
    accounts.set_activity({"run": True, "rate": 20})
    stage.run(20)
    rows, query = [], {}
    while True:
        page = get(stage, "trades", limit="40", **query)
        rows += page["data"]
        if page["pagination"]["count"] < 40:
            break
        query = {"cursor": str(page["pagination"]["cursor"])}
    assert [str(row["id"]) for row in rows] == [row["fill_id"] for row in accounts.truth()["fills"]][::-1]
    assert stage.ask("/api/v1/user/trades", headers=KEY, limit="many").status == 400
