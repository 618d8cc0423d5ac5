"""Errors of all venues in every shape: each is one refusal with its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipc.health import Reason
from workers.venues import VENUES
from workers.venues.venue import FrameSeq, Refused

LIMIT, UNKNOWN, OTHER = Reason.RATE_LIMITED, Reason.UNKNOWN_MARKET, Reason.SUBSCRIBE_ERROR


@pytest.mark.parametrize(
    ("venue", "frame", "reason"),
    [
        ("lighter", {"type": "error", "code": 30009, "message": "Too Many Websocket Messages!"}, LIMIT),
        ("lighter", {"type": "error", "code": "30009", "message": "slow down"}, LIMIT),
        ("lighter", {"code": 30009, "message": "slow down"}, LIMIT),
        ("lighter", {"type": "error", "code": 30005, "message": "Invalid Channel: order_book:7"}, UNKNOWN),
        ("lighter", {"error": {"code": "30005", "message": "Invalid Channel: order_book:7"}}, UNKNOWN),
        ("lighter", {"type": "error", "error": {"code": 30005, "message": "Invalid Channel"}}, UNKNOWN),
        ("lighter", {"type": "error", "error": "Too Many Websocket Messages!"}, LIMIT),
        ("lighter", {"error": "text"}, OTHER),
        ("lighter", {"type": "error"}, OTHER),
        ("lighter", {"type": "error", "code": 30003, "message": "Already Subscribed to : trade:7"}, None),
        ("lighter", {"type": "error", "code": 30009, "message": "slow down", "timestamp": []}, LIMIT),
        ("lighter", {"error": {"code": 30005, "message": "Invalid Channel"}, "trades": "none"}, UNKNOWN),
        ("aster", {"code": -1003, "msg": "Too many requests", "id": 1}, LIMIT),
        ("aster", {"error": {"code": -1121, "msg": "Invalid symbol."}, "data": None, "id": 1}, UNKNOWN),
        ("aster", {"code": "-1003", "msg": "slow down"}, LIMIT),
        ("aster", {"error": {"code": "-1121", "msg": "Invalid symbol."}, "id": 1}, UNKNOWN),
        ("aster", {"error": "Too many requests", "id": 1}, LIMIT),
        ("aster", {"code": 2, "msg": "Invalid request"}, OTHER),
        ("extended", {"id": 1, "error": {"code": 1001, "message": "Market not found."}, "jsonrpc": "2.0"}, UNKNOWN),
        ("extended", {"error": {"code": "1001", "message": "Market not found."}, "seq": 3}, UNKNOWN),
        ("extended", {"type": "error", "code": 404, "message": "Market not found."}, UNKNOWN),
        ("extended", {"type": "error", "code": 429, "message": ""}, LIMIT),
        ("extended", {"error": "too many subscriptions"}, LIMIT),
        ("extended", {"type": "error"}, OTHER),
        ("extended", {"code": 1001, "message": "Market not found."}, UNKNOWN),
        ("extended", {"code": 1001, "message": "Market not found.", "seq": 1, "data": {}}, UNKNOWN),
        ("extended", {"error": {"code": 1001, "message": "Market not found."}, "data": "text"}, UNKNOWN),
        ("extended", {"type": "error", "data": "Market not found."}, OTHER),
        ("paradex", {"id": 1, "error": {"code": -32600, "message": "invalid", "data": "no such market"}}, UNKNOWN),
        ("paradex", {"id": 1, "error": {"code": "40111", "message": "invalid bearer"}}, Reason.AUTH_FAILED),
        ("paradex", {"id": 1, "error": "too many requests"}, LIMIT),
        ("paradex", {"id": 1, "code": 100, "message": "rate limit exceeded"}, LIMIT),
        ("paradex", {"id": 1, "error": {"code": 40112, "message": "geo"}}, Reason.REFUSED),
        ("hyperliquid", {"channel": "error", "data": "Cannot send more than 2000 messages per minute."}, LIMIT),
        ("hyperliquid", {"channel": "error", "data": {"message": "Cannot track more than 15 total users."}}, LIMIT),
        ("hyperliquid", {"channel": "error", "data": {"code": 429, "error": "slow"}}, LIMIT),
        ("hyperliquid", {"channel": "error", "data": 'Already subscribed: {"type":"bbo","coin":"BTC"}'}, None),
        ("hyperliquid", {"channel": "error", "data": "Invalid subscription"}, OTHER),
        ("hyperliquid", {"channel": "error"}, OTHER),
    ],
)
def test_error_is_one_refusal_with_its_reason(venue: str, frame: dict[str, Any], reason: Reason | None) -> None:
    items = VENUES[venue].decode(json.dumps(frame).encode(), False, {})
    (refused,) = [item for item in items if not isinstance(item, FrameSeq)]
    assert isinstance(refused, Refused)
    assert refused.reason is reason


def test_channel_is_found_in_a_flat_error_as_in_a_nested_one() -> None:
    error = {"code": 30005, "message": "Invalid Channel: order_book:7"}
    for frame in ({"error": error}, {"type": "error", **error}):
        (refused,) = VENUES["lighter"].decode(json.dumps(frame).encode(), False, {})
        assert isinstance(refused, Refused)
        assert refused.key == "order_book:7"


@pytest.mark.parametrize("channel", ["order_book:7", "order_book/7"])
def test_channel_of_an_error_may_stand_beside_its_text(channel: str) -> None:
    error = {"channel": channel, "code": 30005, "message": "Invalid Channel"}
    for frame in ({"type": "error", **error}, {"error": error}):
        (refused,) = VENUES["lighter"].decode(json.dumps(frame).encode(), False, {})
        assert isinstance(refused, Refused)
        assert (refused.key, refused.reason) == ("order_book:7", UNKNOWN)
