"""Faults of accounts at every supported venue, seen by a naive client and compared with the truth."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from ipc.errors import UsageError
from ipc.topics import VENUES
from simulator.faults import FAULTS


@pytest.fixture(params=VENUES)
def stage(request, new_stage):
    stage = new_stage(request.param, rate=1)
    stage.venue.accounts.set_activity({"run": False})
    return stage


@pytest.fixture
def accounts(stage):
    return stage.venue.accounts


@pytest.fixture
def reader(stage, readers):
    reader = readers.READERS[stage.venue.name](stage).log_in()
    reader.take()
    return reader


def payloads(client):
    return [frame.payload for frame in client.raw()]


def test_lost_messages_are_missing_and_rest_recovers_them(accounts, stage, reader, readers):
    stage.fault("lose_private", count=30)
    done = accounts.do({"action": "market", "symbol": "BTC-PERP"})
    assert reader.take() == 0
    missed = {fill["fill_id"] for fill in done["fills"]}
    assert missed.isdisjoint(reader.fills)
    stage.controller.clear(stage.venue)
    accounts.do({"action": "market", "symbol": "ETH-PERP"})
    assert reader.take() > 0
    reader.read()
    assert reader.fills == readers.trades(accounts.truth())
    assert reader.positions == readers.held(stage, accounts.truth())


def test_each_subscriber_loses_the_requested_number_of_messages(accounts, stage, readers):
    both = [readers.READERS[stage.venue.name](stage).log_in() for _ in range(2)]
    for one in both:
        one.take()
    accounts.do({"action": "place", "symbol": "BTC-PERP"})
    counts = [len(payloads(one.client)) for one in both]
    assert counts[0] == counts[1] > 0
    stage.fault("lose_private", count=counts[0])
    accounts.do({"action": "place", "symbol": "BTC-PERP"})
    assert [len(payloads(one.client)) for one in both] == [0, 0]
    accounts.do({"action": "place", "symbol": "BTC-PERP"})
    assert [len(payloads(one.client)) for one in both] == counts
    stage.run(1.5)
    assert not stage.controller.describe()["active"]


def test_repeated_messages_arrive_twice(accounts, stage, reader):
    stage.fault("repeat_private", count=100)
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    received = payloads(reader.client)
    assert received[::2] == received[1::2]
    assert len(received) >= 4


def test_reordered_messages_arrive_in_swapped_pairs(accounts, stage, reader, new_stage, readers):
    calm = new_stage(stage.venue.name, rate=1)
    calm.venue.accounts.set_activity({"run": False})
    other = readers.READERS[stage.venue.name](calm).log_in()
    other.take()
    stage.fault("reorder_private", count=1)
    order = {"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.01"}
    accounts.do(order)
    calm.venue.accounts.do(order)
    swapped, straight = payloads(reader.client), payloads(other.client)
    assert swapped[:2] == straight[1::-1]
    assert swapped[2:] == straight[2:]


def test_the_snapshot_of_a_channel_is_not_affected(stage, readers):
    stage.fault("lose_private", count=100)
    reader = readers.READERS[stage.venue.name](stage).log_in()
    if stage.venue.name in {"hyperliquid", "lighter", "extended"}:
        assert reader.take() >= 3
    assert reader.errors == []


def test_public_data_is_not_affected(stage):
    paths = {
        "hyperliquid": "/ws",
        "aster": "/ws/btcusdt@markPrice@1s",
        "extended": "/stream.extended.exchange/v1/prices/mark/BTC-USD",
        "lighter": "/stream",
        "paradex": "/v1",
    }
    client = stage.connect(paths[stage.venue.name])
    requests = {
        "hyperliquid": {"method": "subscribe", "subscription": {"type": "activeAssetCtx", "coin": "BTC"}},
        "lighter": {"type": "subscribe", "channel": "market_stats/1"},
        "paradex": {
            "jsonrpc": "2.0",
            "method": "subscribe",
            "params": {"channel": "markets_summary.BTC-USD-PERP"},
            "id": 1,
        },
    }
    if stage.venue.name in requests:
        client.say(requests[stage.venue.name])
    client.raw()
    stage.fault("lose_private", count=1000)
    stage.run(3.5)
    assert len(client.raw()) >= 3


def test_a_stall_of_the_account_does_not_affect_markets(accounts, stage, reader):
    stage.fault("stall", stream="account", duration_s=5)
    accounts.do({"action": "market"})
    assert reader.take() == 0
    stage.run(6)
    accounts.do({"action": "market"})
    assert reader.take() > 0


def test_a_stall_of_a_market_does_not_affect_the_account(accounts, stage, reader):
    stage.fault("stall", symbol="BTC-PERP")
    accounts.do({"action": "market", "symbol": "BTC-PERP"})
    assert reader.take() > 0


# credentials


def log_in(stage, readers):
    """Try to log in and to read; return the venue's error."""
    reader = readers.READERS[stage.venue.name](stage)
    name = stage.venue.name
    if name == "aster":
        return msgspec.json.decode(reader.ask("/fapi/v1/listenKey", "POST").body).get("code")
    if name == "extended":
        client = stage.knock("/stream.extended.exchange/v1/account", headers={"x-api-key": "sim-api-key", **AGENT})
        return getattr(client, "status", None)
    reader.log_in()
    reader.take()
    return reader.errors[0] if reader.errors else None


AGENT = {"user-agent": "test"}
CODES = {"aster": -2015, "extended": 401, "lighter": 21110, "paradex": 40111}


@pytest.mark.parametrize("name", CODES)
def test_refused_credentials_block_new_logins_for_a_while(new_stage, readers, name):
    stage = new_stage(name, rate=1)
    stage.venue.accounts.set_activity({"run": False})
    insider = readers.READERS[name](stage).log_in()
    insider.take()
    stage.fault("refuse_credentials", duration_s=5)
    stage.fault("refuse_credentials", duration_s=2)
    stage.run(3)
    assert log_in(stage, readers) == CODES[name]
    path, query = {
        "aster": ("/fapi/v1/openOrders", {}),
        "extended": ("orders", {}),
        "lighter": ("accountActiveOrders", {"account_index": "1234", "market_id": "255"}),
        "paradex": ("orders", {}),
    }[name]
    assert insider.ask(path, **query).status in {400, 401}
    stage.venue.accounts.do({"action": "place"})
    assert insider.take() > 0
    stage.run(3)
    assert log_in(stage, readers) is None
    assert insider.ask(path, **query).status == 200


def test_expired_listen_keys_are_announced_and_the_socket_stays(new_stage, readers):
    stage = new_stage("aster", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    reader = readers.READERS["aster"](stage).log_in()
    stage.fault("lose_private")
    stage.fault("expire_credentials")
    reader.take()
    assert reader.errors == ["listenKeyExpired"]
    stage.venue.accounts.do({"action": "place"})
    assert reader.take() == 0
    assert reader.client.wire.close_code is None
    assert log_in(stage, readers) is None


def test_expired_tokens_close_lighters_channels_with_an_error(new_stage, readers):
    stage = new_stage("lighter", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    reader = readers.READERS["lighter"](stage).log_in()
    reader.take()
    stage.fault("expire_credentials")
    reader.take()
    assert reader.errors == [21120]
    stage.venue.accounts.do({"action": "place"})
    assert reader.take() == 0
    response = reader.ask("accountActiveOrders", account_index="1234", market_id="255")
    assert msgspec.json.decode(response.body)["code"] == 21120
    assert log_in(stage, readers) is None


def test_expired_jwts_do_not_close_paradex_sessions(new_stage, readers):
    stage = new_stage("paradex", rate=1)
    stage.venue.accounts.set_activity({"run": False})
    reader = readers.READERS["paradex"](stage).log_in()
    reader.take()
    stage.fault("expire_credentials")
    stage.venue.accounts.do({"action": "place"})
    assert reader.take() > 0
    assert reader.ask("orders").status == 401
    reader.rpc("auth", bearer=reader.jwt)
    reader.take()
    assert reader.errors == [40111]
    assert log_in(stage, readers) is None


@pytest.mark.parametrize(("fault", "name"), [("expire_credentials", "extended"), ("refuse_credentials", "hyperliquid")])
def test_venues_without_credentials_reject_the_fault(new_stage, fault, name):
    with pytest.raises(UsageError):
        new_stage(name).fault(fault)


def test_parameters_are_checked(stage):
    with pytest.raises(UsageError):
        stage.fault("lose_private", count=0)
    with pytest.raises(UsageError):
        stage.fault("lose_private", symbol="BTC-PERP")


def test_all_of_them_are_registered(stage):
    names = ("lose_private", "repeat_private", "reorder_private", "expire_credentials", "refuse_credentials")
    assert set(names) <= set(FAULTS)
    described = stage.controller.describe()["faults"]
    assert all(described[name]["description"].endswith(".") for name in names)
    assert len({described[one]["description"] for one in names}) == len(names)
    assert all(FAULTS[a] is not FAULTS[b] for a, b in itertools.combinations(names, 2))
