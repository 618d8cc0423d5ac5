from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

import msgspec
import pytest

KEY = {"x-mbx-apikey": "sim-key"}
USER = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


@pytest.fixture
def stage(new_stage):
    stage = new_stage("aster", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def accounts(stage):
    return stage.venue.accounts


def sign(query, secret=b"sim-secret"):
    return {**query, "signature": hmac.new(secret, urlencode(query).encode(), hashlib.sha256).hexdigest()}


def ask(stage, path="/fapi/v1/openOrders", method="GET", headers=KEY, late_ms=0, secret=b"sim-secret", **query):
    query["timestamp"] = str(stage.venue.schedule.wall_ms() - late_ms)
    return stage.ask(path, method, headers=headers, **sign(query, secret))


def get(stage, path, **query):
    response = ask(stage, path, **query)
    assert response.status == 200, response
    return msgspec.json.decode(response.body)


def code(response):
    return response.status, msgspec.json.decode(response.body)["code"]


def listen(stage):
    """Return a client of the user data stream."""
    key = msgspec.json.decode(ask(stage, "/fapi/v1/listenKey", "POST").body)["listenKey"]
    return stage.connect(f"/ws/{key}"), key


# authentication


def test_a_signed_request_is_answered(stage):
    assert ask(stage).status == 200


def test_wrong_keys_signatures_and_times(stage):
    assert code(ask(stage, headers={})) == (401, -2014)
    assert code(ask(stage, headers={"x-mbx-apikey": "other"})) == (401, -2015)
    assert code(ask(stage, secret=b"other")) == (400, -1022)
    assert code(ask(stage, late_ms=6000)) == (400, -1021)
    assert code(ask(stage, late_ms=-2000)) == (400, -1021)
    assert ask(stage, late_ms=6000, recvWindow="10000").status == 200
    assert code(stage.ask("/fapi/v1/openOrders", headers=KEY)) == (400, -1102)
    query = {"timestamp": str(stage.venue.schedule.wall_ms())}
    assert code(stage.ask("/fapi/v1/openOrders", headers=KEY, **query)) == (400, -1102)


def test_a_changed_parameter_breaks_the_signature(stage):
    query = sign({"symbol": "BTCUSDT", "timestamp": str(stage.venue.schedule.wall_ms())})
    assert stage.ask("/fapi/v1/openOrders", headers=KEY, **query).status == 200
    assert code(stage.ask("/fapi/v1/openOrders", headers=KEY, **{**query, "symbol": "ETHUSDT"})) == (400, -1022)


def test_a_venue_whose_clock_is_wrong_rejects_correct_times(stage):
    stage.fault("clock_skew", seconds=30)
    assert code(ask(stage)) == (400, -1021)


def test_parameters_are_accepted_in_the_body(stage):
    query = sign({"timestamp": str(stage.venue.schedule.wall_ms())})
    body = urlencode(query).encode()
    assert stage.ask("/fapi/v1/openOrders", headers=KEY, body=body).status == 200
    assert code(stage.ask("/fapi/v1/openOrders", headers=KEY, body=body[:-1] + b"!")) == (400, -1022)


def wallet(stage, path="/fapi/v3/openOrders", method="GET", **changes):
    nonce = stage.venue.schedule.wall_ns() // 1000
    query = {"nonce": str(nonce), "user": USER, "signer": USER, "signature": "0x" + 65 * "a7", **changes}
    return stage.ask(path, method, **query)


def test_a_wallet_signs_the_third_version(stage):
    assert wallet(stage).status == 200
    stage.run(0.001)
    assert wallet(stage, "/fapi/v3/listenKey", "POST").status == 200


def test_wrong_wallets_nonces_and_signatures(stage):
    assert code(wallet(stage, user="0x1")) == (400, -1000)
    assert code(wallet(stage, signature="0x12")) == (400, -1022)
    assert code(wallet(stage, nonce="17")) == (400, -4225)
    assert wallet(stage).status == 200
    assert code(wallet(stage)) == (400, -4225)


# the listen key


@pytest.fixture
def short_lived(new_stage):
    """Return a venue where a key is valid for a minute instead of an hour."""
    stage = new_stage("aster", rate=1, pace=60)
    stage.venue.accounts.set_activity({"run": False})
    return stage


def wait(stage, client, seconds):
    """Advance the time and answer pings."""
    for _ in range(int(seconds)):
        stage.run(1)
        client.session.on_pong()


def test_another_request_returns_the_same_key_and_extends_it(short_lived):
    client, key = listen(short_lived)
    assert len(key) == 64
    assert listen(short_lived)[1] == key
    wait(short_lived, client, 58)
    assert listen(short_lived)[1] == key
    wait(short_lived, client, 58)
    assert ask(short_lived, "/fapi/v1/listenKey", "PUT").body == b"{}"
    wait(short_lived, client, 58)
    assert listen(short_lived)[1] == key
    assert client.heard() == []


def test_without_a_key_there_is_nothing_to_extend(stage):
    assert code(ask(stage, "/fapi/v1/listenKey", "PUT")) == (400, -1125)


def test_a_key_is_valid_for_an_hour_scaled_by_pace_and_its_socket_stays_open(short_lived):
    accounts = short_lived.venue.accounts
    client, key = listen(short_lived)
    wait(short_lived, client, 59)
    accounts.do({"action": "place"})
    assert client.heard()
    wait(short_lived, client, 2)
    (event,) = client.heard()
    assert event["e"] == "listenKeyExpired"
    accounts.do({"action": "place"})
    wait(short_lived, client, 60)
    assert client.heard() == []
    assert client.wire.close_code is None
    assert code(ask(short_lived, "/fapi/v1/listenKey", "PUT")) == (400, -1125)
    fresh, other = listen(short_lived)
    assert other != key
    accounts.do({"action": "place"})
    assert fresh.heard()


def test_a_closed_key_publishes_nothing(short_lived):
    client, _ = listen(short_lived)
    assert ask(short_lived, "/fapi/v1/listenKey", "DELETE").status == 200
    short_lived.venue.accounts.do({"action": "place"})
    wait(short_lived, client, 61)
    assert client.heard() == []


def test_the_stream_can_be_combined_with_others(stage, accounts):
    _, key = listen(stage)
    client = stage.connect("/stream", streams=key)
    accounts.do({"action": "place"})
    (message,) = client.heard()
    assert message["stream"] == key
    assert message["data"]["e"] == "ORDER_TRADE_UPDATE"


# published messages


def orders(client):
    return [message["o"] for message in client.heard() if message["e"] == "ORDER_TRADE_UPDATE"]


def test_states_of_an_order(stage, accounts):
    client, _ = listen(stage)
    placed = accounts.do({"action": "place", "symbol": "ETH-PERP", "side": "buy", "size": "0.5"})["orders"][0]
    accounts.do({"action": "partial", "order_id": placed["order_id"], "size": "0.2"})
    accounts.do({"action": "fill", "order_id": placed["order_id"]})
    rows = orders(client)
    assert [(row["x"], row["X"]) for row in rows] == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("TRADE", "FILLED"),
    ]
    assert [(row["l"], row["z"]) for row in rows] == [("0", "0.000"), ("0.200", "0.200"), ("0.300", "0.500")]
    assert {row["i"] for row in rows} == {int(placed["order_id"])}
    assert rows[0]["t"] == 0
    assert "n" not in rows[0]
    assert rows[1]["N"] == "USDT"
    assert rows[1]["m"] is True


@pytest.mark.parametrize(("order", "word"), [({"action": "cancel"}, "CANCELED"), ({"action": "expire"}, "EXPIRED")])
def test_final_states_of_orders(stage, accounts, order, word):
    accounts.do({"action": "place"})
    client, _ = listen(stage)
    accounts.do(order)
    assert [(row["x"], row["X"]) for row in orders(client)] == [(word, word)]


def test_a_liquidation_is_announced_and_has_its_own_client_id(stage, accounts):
    accounts.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.5"})
    client, _ = listen(stage)
    accounts.do({"action": "liquidate", "symbol": "BTC-PERP"})
    messages = client.heard()
    assert messages[0]["e"] == "MARGIN_CALL"
    last = [m["o"] for m in messages if m["e"] == "ORDER_TRADE_UPDATE"][-1]
    assert (last["x"], last["X"], last["S"]) == ("CALCULATED", "FILLED", "SELL")
    assert last["c"].startswith("autoclose-")
    assert messages[-1]["a"]["P"][0]["pa"] == "0.000"


def test_funding_changes_the_balance_and_names_no_symbol(stage, accounts):
    for symbol in ("BTC-PERP", "ETH-PERP"):
        accounts.do({"action": "market", "symbol": symbol, "side": "buy"})
    client, _ = listen(stage)
    accounts.do({"action": "funding"})
    events = [m["a"] for m in client.heard()]
    payments = accounts.truth()["payments"]
    assert len(events) == len(payments) >= 2
    assert {event["m"] for event in events} == {"FUNDING_FEE"}
    assert all("P" not in event for event in events)
    assert [float(event["B"][0]["bc"]) for event in events] == [float(row["amount"]) for row in payments]
    rows = get(stage, "/fapi/v1/income", incomeType="FUNDING_FEE")
    assert [row["symbol"] for row in rows][:2] == ["BTCUSDT", "ETHUSDT"]
    assert get(stage, "/fapi/v1/income", incomeType="COMMISSION") == []


def test_a_deposit_is_a_change_without_a_profit(stage, accounts):
    client, _ = listen(stage)
    accounts.do({"action": "deposit", "size": "12.5"})
    (event,) = client.heard()
    assert event["a"]["m"] == "DEPOSIT"
    assert event["a"]["B"][0]["bc"] == "12.50000000"


# REST


def test_balances_positions_and_margin_match_the_truth(stage, accounts):
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    truth = accounts.truth()
    (balance,) = get(stage, "/fapi/v1/balance")
    assert float(balance["balance"]) == float(truth["balances"][0]["total"])
    assert float(balance["availableBalance"]) == float(truth["balances"][0]["available"])
    account = get(stage, "/fapi/v4/account")
    assert float(account["totalMarginBalance"]) == float(truth["margin"]["equity"])
    assert float(account["totalInitialMargin"]) == float(truth["margin"]["initial_margin"])
    assert float(account["totalMaintMargin"]) == float(truth["margin"]["maintenance_margin"])
    rows = get(stage, "/fapi/v1/positionRisk")
    assert len(rows) == 3
    assert len(get(stage, "/fapi/v1/positionRisk", symbol="BTCUSDT")) == 1


def test_trades_and_orders_are_selected_by_symbol_and_range(stage, accounts):
    accounts.set_activity({"run": True, "rate": 10})
    stage.run(30)
    accounts.set_activity({"run": False})
    for path, time, number in (("userTrades", "time", "id"), ("allOrders", "time", "orderId")):
        rows = get(stage, f"/fapi/v1/{path}", symbol="BTCUSDT", startTime="0", limit="1000")
        assert len(rows) > 20
        assert {row["symbol"] for row in rows} == {"BTCUSDT"}
        assert [row[number] for row in rows] == sorted(row[number] for row in rows)
        middle = rows[10][time]
        later = get(stage, f"/fapi/v1/{path}", symbol="BTCUSDT", startTime=str(middle))
        assert all(row[time] >= middle for row in later)
        assert get(stage, f"/fapi/v1/{path}", symbol="BTCUSDT", limit="3") == rows[-3:]
    page = get(stage, "/fapi/v1/userTrades", symbol="BTCUSDT", startTime="0", limit="5")
    following = get(stage, "/fapi/v1/userTrades", symbol="BTCUSDT", fromId=str(page[-1]["id"] + 1), limit="5")
    assert following[0]["id"] > page[-1]["id"]
    assert code(ask(stage, "/fapi/v1/userTrades")) == (400, -1102)
    assert code(ask(stage, "/fapi/v1/allOrders", symbol="NOPE")) == (400, -1121)


def test_requests_have_their_documented_weight(stage):
    before = int(ask(stage, "/fapi/v1/time").headers["X-MBX-USED-WEIGHT-1M"])
    assert int(ask(stage).headers["X-MBX-USED-WEIGHT-1M"]) == before + 40
