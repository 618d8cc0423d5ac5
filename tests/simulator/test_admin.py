from __future__ import annotations

import msgspec
import pytest

from simulator.admin import Admin
from simulator.rest import HttpRequest


@pytest.fixture
def stage(new_stage):
    return new_stage("lighter")


@pytest.fixture
def ask(stage):
    admin = Admin({"lighter": stage.venue}, stage.controller)

    def send(method, path, body=None):
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        response = admin.answer(HttpRequest(method, path, body=data))
        return response.status, msgspec.json.decode(response.body)

    return send


def test_the_truth(stage, ask):
    status, truth = ask("GET", "/truth/lighter/BTC-PERP")
    assert status == 200
    assert truth == stage.venue.truth("BTC-PERP")


@pytest.mark.parametrize(("path", "advice"), [("/truth/nyse/BTC-PERP", "lighter"), ("/truth/lighter/XYZ", "BTC-PERP")])
def test_an_unknown_venue_or_market_is_refused_with_a_list(ask, path, advice):
    status, answer = ask("GET", path)
    assert status == 400
    assert advice in answer["advice"]


def test_pausing_and_resuming(stage, ask):
    assert ask("POST", "/pause") == (200, {"ok": True})
    book = stage.book("BTC-PERP")
    stage.run(5)
    assert stage.book("BTC-PERP") == book
    ask("POST", "/resume")
    stage.run(5)
    assert stage.book("BTC-PERP") != book


def test_activity(stage, ask):
    assert ask("POST", "/activity/lighter/BTC-PERP", {"factor": 0})[0] == 200
    book = stage.book("BTC-PERP")
    stage.run(5)
    assert stage.book("BTC-PERP") == book
    assert ask("POST", "/activity/lighter/BTC-PERP", {"factor": -1})[0] == 400
    assert ask("POST", "/activity/lighter/BTC-PERP", {})[0] == 400


def test_faults(ask):
    status, answer = ask("POST", "/fault/lighter", {"fault": "stall"})
    assert status == 200
    assert answer == {"ok": True, "id": 1}
    assert ask("GET", "/faults")[1]["active"][0]["fault"] == "stall"
    assert ask("POST", "/fault/lighter", {"fault": "clear"}) == (200, {"ok": True, "id": 0})
    assert ask("GET", "/faults")[1]["active"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", {"fault": "nope"}])
def test_an_invalid_request_is_status_400_with_advice(ask, body):
    status, answer = ask("POST", "/fault/lighter", body)
    assert status == 400
    assert answer["error"]
    assert isinstance(answer["advice"], list)


def test_the_truth_of_the_account(stage, ask):
    status, truth = ask("GET", "/truth/lighter/account")
    assert status == 200
    assert truth == stage.venue.accounts.truth()
    assert set(truth) == {"orders", "fills", "payments", "positions", "balances", "margin"}
    assert set(truth["orders"][0]) == {
        "order_id",
        "client_id",
        "symbol",
        "side",
        "price",
        "size",
        "filled",
        "status",
    }
    assert set(truth["fills"][0]) == {
        "fill_id",
        "order_id",
        "symbol",
        "side",
        "price",
        "size",
        "fee",
        "fee_asset",
        "liquidity",
    }
    assert set(truth["positions"][0]) == {"symbol", "size", "entry_price"}
    assert set(truth["balances"][0]) == {"asset", "total", "available"}
    assert set(truth["margin"]) == {"equity", "available", "initial_margin", "maintenance_margin"}
    assert ask("GET", "/truth/nyse/account")[0] == 400


def test_the_activity_of_the_account(stage, ask):
    assert ask("POST", "/account/lighter", {"run": False}) == (200, {"ok": True})
    truth = ask("GET", "/truth/lighter/account")[1]
    stage.run(20)
    assert ask("GET", "/truth/lighter/account")[1] == truth
    assert ask("POST", "/account/lighter", {"run": True, "rate": 5})[0] == 200
    stage.run(5)
    assert ask("GET", "/truth/lighter/account")[1] != truth
    assert ask("POST", "/account/lighter", {"rate": "fast"})[0] == 400
    assert ask("POST", "/account/nyse", {"run": False})[0] == 400


def test_actions_of_the_account(stage, ask):
    status, answer = ask("POST", "/account/lighter/do", {"action": "place", "symbol": "BTC-PERP"})
    assert status == 200
    assert answer["ok"] is True
    order = answer["orders"][0]
    status, answer = ask("POST", "/account/lighter/do", {"action": "fill", "order_id": order["order_id"]})
    assert answer["fills"][0]["order_id"] == order["order_id"]
    status, answer = ask("POST", "/account/lighter/do", {"action": "dance"})
    assert status == 400
    assert "place" in answer["advice"]


def test_tokens(stage, ask, new_stage):
    status, answer = ask("POST", "/account/lighter/token")
    assert status == 200
    assert answer["token"].split(":")[1] == "1234"
    assert ask("POST", "/account/lighter/token", {"lives_s": 60, "read_only": True})[1]["token"].startswith("ro:")
    assert ask("POST", "/account/lighter/token", {"lives_s": "x"})[0] == 400
    other = new_stage("extended")
    admin = Admin({"extended": other.venue}, other.controller)
    assert admin.answer(HttpRequest("POST", "/account/extended/token", {}, {}, b"")).status == 400


def test_statistics(stage, ask):
    client = stage.connect("/stream")
    client.say({"type": "subscribe", "channel": "order_book/1"})
    stage.get("/api/v1/orderBooks")
    stage.ask("/nothing/of/this")
    stats = ask("GET", "/stats")[1]["venues"]["lighter"]
    assert stats["connections"] == [{"id": 1, "path": "/stream", "frames": 2, "subscribed": ["order_book:1"]}]
    assert stats["connections_total"] == 1
    assert stats["subscriptions"] == 1
    assert stats["frames"] == 2
    assert stats["rest"] == {"/api/v1/orderBooks": 1, "(unknown)": 1}


def test_other_paths(ask):
    assert ask("GET", "/nope")[0] == 404
