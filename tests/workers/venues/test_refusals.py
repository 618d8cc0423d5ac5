"""Errors in every shape: their code, if they have one, and their text."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.health import Reason
from workers.venues.refusals import code_and_text, usual_reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 30009, "message": "Too Many"}, (30009, "Too Many")),
        ({"code": "30009", "message": "Too Many"}, (30009, "Too Many")),
        ({"code": -1121, "msg": "Invalid symbol."}, (-1121, "Invalid symbol.")),
        ({"code": "-1121", "msg": "Invalid symbol."}, (-1121, "Invalid symbol.")),
        ({"error": {"code": 30005, "message": "Invalid Channel"}}, (30005, "Invalid Channel")),
        ({"code": 400, "error": {"message": "Invalid Channel"}}, (400, "Invalid Channel")),
        ({"code": None, "msg": None, "error": "busy"}, (None, "busy")),
        ({"error": "NOT_FOUND", "message": "no such market"}, (None, "no such market: NOT_FOUND")),
        ({"code": "NOT_FOUND", "message": "x"}, ("NOT_FOUND", "x")),
        ({"code": -32600, "message": "invalid", "data": "no such channel"}, (-32600, "invalid: no such channel")),
        ("too many requests", (None, "too many requests")),
        ({"status": 429, "error": "slow down"}, (429, "slow down")),
        (["odd"], (None, "['odd']")),
        (None, (None, "")),
        ({"code": 429.0, "message": "x"}, (429, "x")),
        ({"code": float("inf"), "message": "x"}, (None, "x")),
        ({"code": True, "message": "x"}, (None, "x")),
        ({"code": "9" * 5000, "message": "x" * 5000}, ("9" * 300, "x" * 300)),
    ],
)
def test_code_and_text(error: Any, expected: tuple[int | str | None, str]) -> None:
    assert code_and_text(error) == expected


def test_error_without_a_known_text_is_shown_whole() -> None:
    assert code_and_text({"why": 7}) == (None, "{'why': 7}")


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (None, "Too Many Websocket Messages!", Reason.RATE_LIMITED),
        (7, "over the rate limit", Reason.RATE_LIMITED),
        (429, "", Reason.RATE_LIMITED),
        (404, "", Reason.UNKNOWN_MARKET),
        (None, "Invalid Channel", Reason.SUBSCRIBE_ERROR),
    ],
)
def test_reason_of_an_error_by_its_status_or_its_words(code: Any, text: str, reason: Reason) -> None:
    assert usual_reason(code, text) is reason
