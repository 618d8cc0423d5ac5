from __future__ import annotations

import msgspec
import pytest

from ipc.errors import UsageError

CHANNELS = ("account_all_orders", "account_all_trades", "account_all_positions", "account_all_assets")


@pytest.fixture
def stage(new_stage):
    stage = new_stage("lighter", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def accounts(stage):
    return stage.venue.accounts


@pytest.fixture
def client(stage):
    client = stage.connect("/stream")
    client.raw()
    return client


@pytest.fixture
def token(accounts):
    return accounts.token({})["token"]


def subscribe(client, channel, token=None):
    client.say({"type": "subscribe", "channel": channel, **({} if token is None else {"auth": token})})
    return client.heard()


def error(client, channel, token=None):
    (message,) = subscribe(client, channel, token)
    return message["error"]["code"]


def ask(stage, path, token=None, **query):
    response = stage.ask(f"/api/v1/{path}", **({} if token is None else {"auth": token}), **query)
    return response.status, msgspec.json.decode(response.body)


# authentication


@pytest.mark.parametrize("channel", [*CHANNELS, "account_orders/1"])
def test_account_channels_require_a_token(client, token, channel):
    assert error(client, f"{channel}/1234") == 21109
    assert error(client, f"{channel}/1234", "nonsense") == 21110
    (frame,) = subscribe(client, f"{channel}/1234", token)
    assert frame["type"] == f"subscribed/{channel.partition('/')[0]}"
    assert frame["channel"] == f"{channel}/1234".replace("/", ":")


def test_statistics_require_no_token(client):
    (frame,) = subscribe(client, "user_stats/1234")
    assert frame["type"] == "subscribed/user_stats"


def test_unknown_accounts_and_markets_are_rejected(client, token):
    for channel in ("account_all_orders/1", "account_all_orders", "account_orders/1234", "account_orders/77/1234"):
        assert error(client, channel, token) == 30005


def test_an_expired_token_is_rejected(stage, client, accounts):
    token = accounts.token({"lives_s": 10})["token"]
    stage.run(11)
    assert error(client, "account_all_orders/1234", token) == 21120
    assert ask(stage, "accountActiveOrders", token, account_index="1234", market_id="255")[1]["code"] == 21120


def test_a_channel_ends_when_its_token_expires(stage, client, accounts, token):
    subscribe(client, "account_all_orders/1234", accounts.token({"lives_s": 10})["token"])
    subscribe(client, "account_all_trades/1234", token)
    stage.run(12)
    (message,) = [message for message in client.heard() if message != {"type": "ping"}]
    assert message["error"]["code"] == 21120
    accounts.do({"action": "market"})
    assert [message["type"] for message in client.heard()] == ["update/account_all_trades"]
    assert subscribe(client, "account_all_orders/1234", token)[0]["type"] == "subscribed/account_all_orders"


def test_a_read_only_token_is_accepted(client, accounts):
    token = accounts.token({"read_only": True})["token"]
    assert token.startswith("ro:1234:single:")
    assert subscribe(client, "account_all_orders/1234", token)[0]["type"] == "subscribed/account_all_orders"


def test_tokens_are_valid_for_eight_hours_scaled_by_pace(stage, new_stage):
    for one, hours in ((stage, 8), (new_stage("lighter", pace=480), 1 / 60)):
        expiry = one.venue.accounts.token({})["expires_at"]
        assert expiry == pytest.approx(one.venue.now_ms() / 1000 + hours * 3600, abs=1)


@pytest.mark.parametrize("order", [{"lives_s": "long"}, {"read_only": "yes"}])
def test_an_invalid_token_request_is_rejected(accounts, order):
    with pytest.raises(UsageError):
        accounts.token(order)


def test_rest_requires_a_token_in_the_query_or_in_a_header(stage, token):
    own = {"account_index": "1234", "market_id": "255"}
    status, answer = ask(stage, "accountActiveOrders", **own)
    assert (status, answer["code"]) == (400, 21109)
    assert ask(stage, "accountActiveOrders", "bad", **own)[1]["code"] == 21110
    assert ask(stage, "accountActiveOrders", token, **own)[0] == 200
    assert stage.ask("/api/v1/accountActiveOrders", headers={"authorization": token}, **own).status == 200
    assert ask(stage, "accountActiveOrders", token, account_index="1")[1]["code"] == 21100
    assert ask(stage, "account", by="index", value="1234")[0] == 200
    assert ask(stage, "account", by="index", value="1")[1]["code"] == 21100
    assert ask(stage, "account", by="l1_address", value="0x1")[1]["code"] == 20001


# published messages


def test_unsubscribing(client, token, accounts):
    subscribe(client, "account_all_orders/1234", token)
    client.say({"type": "unsubscribe", "channel": "account_all_orders/1234"})
    assert client.heard() == [{"type": "unsubscribed", "channel": "account_all_orders:1234"}]
    accounts.do({"action": "place"})
    assert client.heard() == []
    client.say({"type": "unsubscribe", "channel": "account_all_orders/1234"})
    assert client.heard()[0]["error"]["code"] == 30002
    subscribe(client, "account_all_orders/1234", token)
    assert error(client, "account_all_orders/1234", token) == 30003


def test_channels_start_with_the_current_state(client, token, accounts):
    accounts.do({"action": "place", "symbol": "BTC-PERP"})
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    live = {
        str(order["order_id"]) for order in accounts.truth()["orders"] if order["status"] in {"open", "untriggered"}
    }
    (frame,) = subscribe(client, "account_all_orders/1234", token)
    assert {row["order_id"] for rows in frame["orders"].values() for row in rows} == live
    (frame,) = subscribe(client, "account_all_trades/1234", token)
    assert frame["trades"] == []
    (frame,) = subscribe(client, "account_all_positions/1234", token)
    assert "BTC" in {row["symbol"] for row in frame["positions"].values()}
    (frame,) = subscribe(client, "account_all_assets/1234", token)
    totals = {row["symbol"]: float(row["balance"]) for row in frame["assets"].values()}
    assert totals == {row["asset"]: float(row["total"]) for row in accounts.truth()["balances"]}
    (frame,) = subscribe(client, "user_stats/1234")
    assert float(frame["stats"]["portfolio_value"]) == float(accounts.truth()["margin"]["equity"])


def test_orders_of_one_market(client, token, accounts):
    subscribe(client, "account_orders/1/1234", token)
    accounts.do({"action": "place", "symbol": "ETH-PERP"})
    assert client.heard() == []
    accounts.do({"action": "place", "symbol": "BTC-PERP"})
    (frame,) = client.heard()
    assert frame["channel"] == "account_orders:1:1234"
    assert frame["account"] == 1234
    assert list(frame["orders"]) == ["1"]


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"action": "cancel"}, "canceled"),
        ({"action": "cancel", "by": "venue"}, "canceled-self-trade"),
        ({"action": "expire"}, "canceled-expired"),
        ({"action": "reject"}, "canceled-margin-not-allowed"),
        ({"action": "stop"}, "pending"),
        ({"action": "market"}, "filled"),
    ],
)
def test_the_states_of_orders(client, token, accounts, order, word):
    accounts.do({"action": "place"})
    subscribe(client, "account_all_orders/1234", token)
    accounts.do(order)
    row = [row for rows in client.heard()[-1]["orders"].values() for row in rows][-1]
    assert row["status"] == word
    if word.startswith("canceled"):
        assert float(row["remaining_base_amount"]) == 0


def test_a_trade_has_two_sides_and_the_account_id_identifies_ours(client, token, accounts):
    subscribe(client, "account_all_trades/1234", token)
    for side in ("buy", "sell"):
        fill = accounts.do({"action": "market", "symbol": "ETH-PERP", "side": side, "size": "0.01"})["fills"][0]
        (frame,) = client.heard()
        (row,) = frame["trades"]["0"]
        ours, theirs = ("bid", "ask") if side == "buy" else ("ask", "bid")
        assert row[f"{ours}_account_id"] == 1234
        assert row[f"{theirs}_account_id"] != 1234
        assert row[f"{ours}_id_str"] == fill["order_id"]
        assert row["is_maker_ask"] == (side == "buy")
        rate = row["taker_fee"] / 1e6
        assert float(row["price"]) * float(row["size"]) * rate == pytest.approx(float(fill["fee"]), rel=1e-12)


def test_positions_have_a_separate_sign(client, token, accounts):
    subscribe(client, "account_all_positions/1234", token)
    accounts.do({"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "3"})
    row = client.heard()[-1]["positions"]["0"]
    assert row["sign"] == -1
    assert not row["position"].startswith("-")
    accounts.do({"action": "liquidate", "symbol": "ETH-PERP"})
    assert float(client.heard()[-1]["positions"]["0"]["position"]) == 0


def test_rest_pages_are_bounded_and_newest_first(stage, accounts, token):
    accounts.set_activity({"run": True, "rate": 20})
    stage.run(30)
    own = {"account_index": "1234"}
    orders = ask(stage, "accountInactiveOrders", token, **own, limit="100")[1]["orders"]
    trades = ask(stage, "trades", token, **own, sort_by="timestamp", limit="100")[1]["trades"]
    for rows, name in ((orders, "updated_at"), (trades, "timestamp")):
        assert len(rows) == 100
        assert [row[name] for row in rows] == sorted((row[name] for row in rows), reverse=True)
    assert ask(stage, "trades", token, **own, sort_by="price", limit="100")[0] == 400
    assert ask(stage, "trades", token, **own, sort_by="timestamp", limit="101")[0] == 400
    here = ask(stage, "trades", token, **own, sort_by="timestamp", limit="10", market_id="1")[1]["trades"]
    assert {row["market_id"] for row in here} == {1}


def test_a_deposit_is_published_on_the_assets_and_everything_else_on_the_statistics(client, token, accounts):
    subscribe(client, "account_all_assets/1234", token)
    subscribe(client, "user_stats/1234")
    accounts.do({"action": "deposit"})
    assert [message["type"] for message in client.heard()] == ["update/account_all_assets"]
    accounts.do({"action": "market"})
    assert [message["type"] for message in client.heard()] == ["update/user_stats"]
