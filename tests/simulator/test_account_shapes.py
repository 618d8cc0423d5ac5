"""Account messages have the members and types of those in venue documents, samples and clients.

Those messages are no part of the project: ``PARAPHINA_SAMPLES_DIR`` says where they are, as ``<venue>/<file>.json``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(os.environ.get("PARAPHINA_SAMPLES_DIR", ""))
pytestmark = pytest.mark.skipif("PARAPHINA_SAMPLES_DIR" not in os.environ, reason="no recorded messages here")

#: Optional members.
OPTIONAL = {"cloid", "liquidation", "builderFee", "AP", "cr"}


def samples(path: str) -> list[Any]:
    return json.loads((SAMPLES / path).read_text())["messages"]


def unlike(sample: Any, ours: Any, where: str = "") -> list[str]:
    """Return the differences in form between our message and the sample."""
    if sample is None or ours is None:
        return []
    kinds = [bool, str, (int, float), dict, list]
    if not any(isinstance(sample, kind) and isinstance(ours, kind) for kind in kinds):
        return [f"{where}: {sample!r} and {ours!r}"]
    if isinstance(sample, list):
        return unlike(sample[0], ours[0], where + "[]") if sample and ours else []
    if not isinstance(sample, dict):
        return []
    if all(key.isdecimal() for key in [*sample, *ours]):
        return unlike(next(iter(sample.values())), next(iter(ours.values())), where + "{}") if sample and ours else []
    missing = [f"{where}.{key} is missing" for key in sample if key not in ours and key not in OPTIONAL]
    return missing + [
        line for key in sample if key in ours for line in unlike(sample[key], ours[key], f"{where}.{key}")
    ]


def lived(new_stage: Any, readers: Any, name: str, **settings: Any) -> tuple[Any, list[Any]]:
    """Return a client of an active account, and the messages that it received."""
    stage = new_stage(name, rate=1, **settings)
    reader = readers.READERS[name](stage).log_in()
    messages = reader.client.heard()
    stage.venue.accounts.set_activity({"rate": 10})
    for _ in range(10):
        stage.run(3)
        messages += reader.client.heard()
    stage.venue.accounts.set_activity({"run": False})
    stage.venue.accounts.do({"action": "market", "symbol": "BTC-PERP"})
    stage.venue.accounts.do({"action": "funding"})
    stage.venue.accounts.do({"action": "place"})
    return reader, messages + reader.client.heard()


@pytest.fixture(scope="module")
def hyperliquid(new_stage, readers):
    reader, messages = lived(new_stage, readers, "hyperliquid")
    for kind in ("openOrders",):
        reader.client.say({"method": "subscribe", "subscription": {"type": kind, "user": readers.ADDRESS}})
    return reader, messages + reader.client.heard()


@pytest.mark.parametrize("name", ["ws_orderUpdates", "ws_userFills", "ws_userFundings", "ws_user_events"])
def test_hyperliquid_messages(hyperliquid, name):
    _, messages = hyperliquid
    for sample in samples(f"hyperliquid/{name}.json"):
        same = [
            message
            for message in messages
            if message["channel"] == sample["channel"]
            and (sample["channel"] != "user" or message["data"].keys() == sample["data"].keys())
        ]
        assert same
        assert any(not unlike(sample, message) for message in same), unlike(sample, same[-1])


@pytest.mark.parametrize(
    "kind", ["clearinghouseState", "frontendOpenOrders", "openOrders", "spotClearinghouseState", "userFills"]
)
def test_hyperliquid_answers(hyperliquid, kind):
    reader, _ = hyperliquid
    for sample in samples(f"hyperliquid/rest_{kind}.json"):
        if isinstance(sample, dict) and sample.get("assetPositions", [{}])[0].get("position", {}).get("coin") == "HYPE":
            continue  # an isolated position
        assert not unlike(sample, reader.get(kind))


def test_hyperliquid_funding_history(hyperliquid):
    (sample,) = samples("hyperliquid/rest_userFunding.json")
    assert not unlike(sample, hyperliquid[0].get("userFunding", startTime=0))


@pytest.fixture(scope="module")
def aster(new_stage, readers):
    return lived(new_stage, readers, "aster")


@pytest.mark.parametrize("name", ["ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "other"])
def test_aster_events(aster, new_stage, readers, name):
    _, messages = aster
    for sample in samples(f"aster/ws_user_{name}.json"):
        same = [message for message in messages if message["e"] == sample["e"]]
        if sample["e"] in {"listenKeyExpired", "ACCOUNT_CONFIG_UPDATE"}:
            continue
        assert any(not unlike(sample, message) for message in same), unlike(sample, same[-1])


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [
        ("balance", "/fapi/v2/balance", {}),
        ("positionRisk", "/fapi/v2/positionRisk", {}),
        ("income", "/fapi/v1/income", {"incomeType": "FUNDING_FEE"}),
    ],
)
def test_aster_answers(aster, name, path, query):
    reader, _ = aster
    for sample in samples(f"aster/rest_{name}.json"):
        assert not unlike(sample, reader.get(path, **query))


def test_lighter_messages(new_stage, readers):
    reader, messages = lived(new_stage, readers, "lighter")
    for channel, token in (
        ("account_all_assets", reader.token),
        ("user_stats", ""),
        ("account_orders/1", reader.token),
    ):
        reader.client.say({"type": "subscribe", "channel": f"{channel}/1234", "auth": token})
    reader.accounts.do({"action": "place", "symbol": "BTC-PERP"})
    reader.accounts.do({"action": "deposit"})
    messages += reader.client.heard()
    for sample in samples("lighter/ws_account.json"):
        same = [message for message in messages if message["type"] == sample["type"]]
        assert same, sample["type"]
        assert any(not unlike(sample, message) for message in same), unlike(sample, same[-1])


def test_paradex_messages(new_stage, readers):
    _, messages = lived(new_stage, readers, "paradex")
    for sample in samples("paradex/ws_private.json"):
        same = [m for m in messages if m.get("params", {}).get("channel") == sample["params"]["channel"]]
        assert any(not unlike(sample, message) for message in same), unlike(sample, same[-1])


def test_paradex_acknowledgement(new_stage, readers):
    stage = new_stage("paradex", rate=1)
    reader = readers.READERS["paradex"](stage).log_in()
    first = reader.client.heard()[0]
    assert all(not unlike(sample, first) for sample in samples("paradex/ws_auth_ack.json"))


def test_extended_messages(new_stage, readers):
    _, messages = lived(new_stage, readers, "extended")
    for sample in samples("extended/ws_account.json"):
        same = [message for message in messages if message["type"] == sample["type"]]
        assert any(not unlike(sample, message) for message in same), unlike(sample, same[-1])
