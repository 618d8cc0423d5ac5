from __future__ import annotations

import msgspec
import pytest

from simulator.admin import Admin
from simulator.rest import Request


@pytest.fixture
def stage(new_stage):
    return new_stage("lighter")


@pytest.fixture
def ask(stage):
    admin = Admin({"lighter": stage.venue}, stage.desk)

    def send(method, path, body=None):
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        response = admin.answer(Request(method, path, body=data))
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
def test_a_bad_order_is_status_400_with_advice(ask, body):
    status, answer = ask("POST", "/fault/lighter", body)
    assert status == 400
    assert answer["error"]
    assert isinstance(answer["advice"], list)


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
