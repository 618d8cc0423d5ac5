from __future__ import annotations

import itertools
import struct

import msgspec
import pytest

from ipc.errors import UsageError

CHANNELS = ("orders.ALL", "fills.ALL", "positions", "account", "balance_events")
NULL = -(2**63)


@pytest.fixture
def stage(new_stage):
    stage = new_stage("paradex", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def accounts(stage):
    return stage.venue.accounts


def rpc(client, method, **params):
    client.say({"jsonrpc": "2.0", "method": method, "params": params, "id": 7})
    return client.heard()


def signed(stage, **changes):
    headers = {
        "paradex-starknet-account": "0x51e0",
        "paradex-starknet-signature": '["123","456"]',
        "paradex-timestamp": str(stage.venue.now_ms() // 1000),
        "paradex-signature-expiration": str(stage.venue.now_ms() // 1000 + 300),
        **changes,
    }
    return stage.ask("/v1/auth", "POST", headers=headers)


def jwt(stage):
    response = signed(stage)
    assert response.status == 200, response
    return msgspec.json.decode(response.body)["jwt_token"]


def follow(stage, *channels, **query):
    """Return an authorised client with subscriptions."""
    client = stage.connect("/v1", **query)
    rpc(client, "auth", bearer=jwt(stage))
    for channel in channels or CHANNELS:
        rpc(client, "subscribe", channel=channel)
    return client


def get(stage, path, token=None, **query):
    headers = {"authorization": f"Bearer {token or jwt(stage)}"}
    return stage.ask(f"/v1/{path}", headers=headers, **query)


def results(stage, path, **query):
    response = get(stage, path, **query)
    assert response.status == 200, response
    return msgspec.json.decode(response.body)["results"]


# authentication


def test_a_signature_of_two_integers_gets_a_token(stage):
    assert jwt(stage).count(".") == 2
    assert signed(stage, **{"paradex-starknet-signature": "[1, 2]"}).status == 200
    assert signed(stage, **{"paradex-starknet-signature": '["0xa7","0xB"]'}).status == 200
    assert signed(stage, **{"paradex-starknet-account": "0x000051E0"}).status == 200


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"paradex-starknet-account": "0x1"}, 400, "NOT_ONBOARDED"),
        ({"paradex-starknet-account": "me"}, 400, "NOT_ONBOARDED"),
        ({"paradex-starknet-signature": "[1]"}, 401, "INVALID_STARKNET_SIGNATURE"),
        ({"paradex-starknet-signature": "abc"}, 401, "INVALID_STARKNET_SIGNATURE"),
        ({"paradex-signature-expiration": "1"}, 401, "INVALID_SIGNATURE_EXPIRATION"),
        ({"paradex-timestamp": ""}, 400, "VALIDATION_ERROR"),
    ],
)
def test_wrong_signatures(stage, changes, status, word):
    response = signed(stage, **changes)
    assert response.status == status
    assert msgspec.json.decode(response.body)["error"] == word


def test_a_token_is_valid_for_five_minutes_scaled_by_pace(new_stage):
    for pace in (1, 30):
        stage = new_stage("paradex", rate=1, pace=pace)
        token = jwt(stage)
        stage.run(299 / pace)
        assert get(stage, "orders", token).status == 200
        stage.run(2 / pace)
        response = get(stage, "orders", token)
        assert response.status == 401
        assert msgspec.json.decode(response.body)["error"] == "INVALID_TOKEN"
        client = stage.connect("/v1")
        assert rpc(client, "auth", bearer=token)[0]["error"]["code"] == 40111


def test_a_session_stays_authorised_when_the_token_has_expired(stage, accounts):
    client = follow(stage)
    stage.run(50)
    client.session.on_pong()
    for _ in range(6):
        stage.run(54)
        client.session.on_pong()
    client.raw()
    accounts.do({"action": "place"})
    assert client.heard()
    assert rpc(client, "subscribe", channel="orders.BTC-USD-PERP")[0]["result"]


@pytest.mark.parametrize(("bearer", "code"), [(None, 40110), ("x", 40110), ("a.b.c", 40111), (7, 40110)])
def test_wrong_bearers_on_the_socket(stage, bearer, code):
    assert rpc(stage.connect("/v1"), "auth", bearer=bearer)[0]["error"]["code"] == code


def test_private_channels_require_an_authorised_session(stage):
    client = stage.connect("/v1")
    for channel in CHANNELS:
        assert rpc(client, "subscribe", channel=channel)[0]["error"]["code"] == 40111
    assert rpc(client, "auth", bearer=jwt(stage))[0]["result"].keys() == {"node_id"}
    for channel in CHANNELS:
        assert rpc(client, "subscribe", channel=channel)[0]["result"] == {"channel": channel}
    assert rpc(client, "subscribe", channel="orders.NOPE")[0]["error"]["code"] == -32600
    assert rpc(client, "subscribe", channel="positions.ALL")[0]["error"]["code"] == -32600


def test_rest_requires_a_bearer(stage):
    for path in ("orders", "orders-history", "fills", "positions", "account", "balances"):
        assert stage.ask(f"/v1/{path}").status == 401
        assert get(stage, path, "x").status == 401
        assert get(stage, path).status == 200


def test_the_admin_api_issues_tokens(stage, accounts):
    assert get(stage, "orders", accounts.token({"lives_s": 1})["token"]).status == 200
    with pytest.raises(UsageError):
        accounts.token({"lives_s": None})


# published messages


def published(client, channel):
    return [m["params"]["data"] for m in client.heard() if m.get("params", {}).get("channel") == channel]


def test_private_channels_start_without_a_state(stage):
    client = follow(stage)
    stage.run(5)
    assert client.heard() == []


def test_states_of_an_order(stage, accounts):
    client = follow(stage, "orders.ALL")
    placed = accounts.do({"action": "place", "symbol": "ETH-PERP", "size": "0.5"})["orders"][0]
    accounts.do({"action": "partial", "order_id": placed["order_id"], "size": "0.2"})
    accounts.do({"action": "fill", "order_id": placed["order_id"]})
    rows = published(client, "orders.ALL")
    assert [(row["status"], row["remaining_size"]) for row in rows] == [
        ("NEW", "0.5"),
        ("OPEN", "0.5"),
        ("OPEN", "0.3"),
        ("CLOSED", "0"),
    ]
    assert {row["cancel_reason"] for row in rows} == {""}
    assert {row["id"] for row in rows} == {placed["order_id"]}
    assert len(placed["order_id"]) == 28


@pytest.mark.parametrize(
    ("order", "status", "reason"),
    [
        ({"action": "cancel"}, "CLOSED", "USER_CANCELED"),
        ({"action": "reject"}, "CLOSED", "NOT_ENOUGH_MARGIN"),
        ({"action": "stop"}, "UNTRIGGERED", ""),
    ],
)
def test_the_states_of_orders(stage, accounts, order, status, reason):
    accounts.do({"action": "place"})
    client = follow(stage, "orders.ALL")
    accounts.do(order)
    (row,) = published(client, "orders.ALL")
    assert (row["status"], row["cancel_reason"]) == (status, reason)


def test_channels_of_one_market(stage, accounts):
    client = follow(stage, "orders.BTC-USD-PERP", "fills.BTC-USD-PERP")
    accounts.do({"action": "market", "symbol": "ETH-PERP"})
    assert client.heard() == []
    accounts.do({"action": "market", "symbol": "BTC-PERP", "size": "0.001"})
    channels = {m["params"]["channel"] for m in client.heard()}
    assert channels == {"orders.BTC-USD-PERP", "fills.BTC-USD-PERP"}


def test_makers_get_a_rebate(stage, accounts):
    client = follow(stage, "fills.ALL")
    order = accounts.do({"action": "place", "symbol": "ETH-PERP"})["orders"][0]["order_id"]
    accounts.do({"action": "fill", "order_id": order})
    (row,) = published(client, "fills.ALL")
    assert row["liquidity"] == "MAKER"
    assert float(row["fee"]) < 0


def test_a_short_position_is_negative_and_a_closed_one_is_published(stage, accounts):
    client = follow(stage, "positions")
    accounts.do({"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "9"})
    accounts.do({"action": "liquidate", "symbol": "ETH-PERP"})
    first, last = published(client, "positions")
    assert first["side"] == "SHORT"
    assert first["size"].startswith("-")
    assert (last["status"], last["size"]) == ("CLOSED", "0")


def test_balance_events_chain_up_to_the_wallet(stage, accounts):
    client = follow(stage, "balance_events")
    accounts.do({"action": "market", "symbol": "BTC-PERP", "size": "0.5"})
    accounts.do({"action": "funding"})
    accounts.do({"action": "deposit", "size": "10"})
    rows = published(client, "balance_events")
    assert {row["type"] for row in rows} == {"trade", "funding", "deposit"}
    for before, after in itertools.pairwise(rows):
        assert before["settlement_asset_balance_after"] == after["settlement_asset_balance_before"]
    assert rows[-1]["settlement_asset_balance_after"] == accounts.truth()["balances"][0]["total"]
    assert rows[-1]["type"] == "deposit"


def test_payments_for_positions_have_their_own_channel(stage, accounts):
    client = follow(stage, "funding_payments.ALL")
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    payments = accounts.do({"action": "funding"})["payments"]
    rows = published(client, "funding_payments.ALL")
    assert [float(row["payment"]) for row in rows] == [float(row["amount"]) for row in payments]


def test_the_summary_is_the_margin(stage, accounts):
    client = follow(stage, "account")
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    (row,) = published(client, "account")
    margin = accounts.truth()["margin"]
    assert row["account_value"] == margin["equity"]
    assert row["free_collateral"] == margin["available"]
    assert row["initial_margin_requirement"] == margin["initial_margin"]
    assert row["maintenance_margin_requirement"] == margin["maintenance_margin"]
    assert msgspec.json.decode(get(stage, "account").body)["account_value"] == margin["equity"]


def test_history_pages_backwards_by_cursor(stage, accounts):
    accounts.set_activity({"run": True, "rate": 20})
    stage.run(20)
    rows, cursor = [], {}
    while True:
        page = msgspec.json.decode(get(stage, "fills", page_size="40", start_at="0", **cursor).body)
        rows += page["results"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert {row["id"] for row in rows} == {row["fill_id"] for row in accounts.truth()["fills"]}
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    middle = rows[20]["created_at"]
    assert all(row["created_at"] >= middle for row in results(stage, "fills", start_at=str(middle)))
    assert get(stage, "fills", page_size="many").status == 400


def test_balances_by_token(stage, accounts):
    (row,) = results(stage, "balances")
    assert row["token"] == "USDC"
    assert row["size"] == accounts.truth()["balances"][0]["total"]


# binary


def frames(client):
    """Return template, version, block and strings of each binary frame."""
    found = []
    for frame in client.raw():
        if frame.is_binary:
            length, template, schema, version = struct.unpack_from("<HHHH", frame.payload)
            assert schema == 1
            found.append((template, version, frame.payload[8 : 8 + length], strings(frame.payload[8 + length :])))
    return found


def strings(tail):
    found = []
    while tail:
        found.append(tail[1 : 1 + tail[0]].decode())
        tail = tail[1 + tail[0] :]
    return found


def number(block, offset):
    return struct.unpack_from("<q", block, offset - 8)[0]


def test_binary_connections_get_binary_frames(stage, accounts):
    client = follow(stage, sbeSchemaId="1", sbeSchemaVersion="1")
    client.raw()
    done = accounts.do({"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "7"})
    kinds = frames(client)
    assert {(template, len(block)) for template, _, block, _ in kinds} == {(20, 126), (21, 107), (22, 154), (23, 113)}
    order = next(one for one in kinds if one[0] == 20)
    assert order[3][0] == done["orders"][0]["order_id"]
    assert order[3][2:] == ["ETH-USD-PERP", ""]
    assert list(order[2][16:20]) == [1, 2, 2, 2]
    assert number(order[2], 28) == NULL
    assert number(order[2], 44) == number(order[2], 52) == 7 * 10**8
    assert order[2][76:108] == bytes(30) + b"\x51\xe0"
    fill = next(one for one in kinds if one[0] == 21)
    assert fill[3] == [
        done["fills"][0]["fill_id"],
        done["orders"][0]["order_id"],
        done["orders"][0]["client_id"] or "",
        done["fills"][0]["fill_id"],
        "ETH-USD-PERP",
    ]
    assert list(fill[2][16:19]) == [1, 2, 2]
    assert number(fill[2], 27) == round(float(done["fills"][0]["price"]) * 1e8)
    assert number(fill[2], 43) == round(float(done["fills"][0]["fee"]) * 1e8)


def test_binary_positions_and_summary(stage, accounts):
    client = follow(stage, sbeSchemaId="1", sbeSchemaVersion="1")
    accounts.do({"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "70"})
    truth = accounts.truth()
    kinds = {template: (block, texts) for template, _, block, texts in frames(client)}
    (held,) = [row for row in truth["positions"] if row["symbol"] == "ETH-PERP"]
    block, texts = kinds[22]
    assert block[16] == 2
    assert number(block, 25) == round(-float(held["size"]) * 1e8)
    assert number(block, 33) == round(float(held["entry_price"]) * 1e8)
    assert number(block, 57) == NULL
    assert block[153] == 1
    assert texts[0] == "ETH-USD-PERP"
    block, texts = kinds[23]
    assert number(block, 56) == round(float(truth["margin"]["equity"]) * 1e8)
    assert number(block, 40) == round(float(truth["margin"]["initial_margin"]) * 1e8)
    assert texts == ["USDC"]


def test_later_versions_append_fields(new_stage):
    stage = new_stage("paradex", rate=1, sbe_version=2)
    stage.venue.accounts.set_activity({"run": False})
    client = follow(stage, sbeSchemaId="1", sbeSchemaVersion="2")
    stage.venue.accounts.do({"action": "market", "symbol": "ETH-PERP"})
    kinds = frames(client)
    assert {(template, len(block)) for template, _, block, _ in kinds} == {(20, 128), (21, 116), (22, 154), (23, 121)}
    assert next(texts for template, _, _, texts in kinds if template == 21)[-1] == "USDC"


def test_balance_events_are_json_on_binary_connections_too(stage, accounts):
    client = follow(stage, "balance_events", sbeSchemaId="1", sbeSchemaVersion="1")
    accounts.do({"action": "deposit"})
    assert published(client, "balance_events")
