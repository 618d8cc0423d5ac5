"""Error messages of venues in any shape: nested or flat, with a number, a text, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ipc.health import Reason

_TEXTS: Final = ("message", "msg", "error", "data")
_SHOWN: Final = 300


def code_and_text(error: Any) -> tuple[int | str | None, str]:
    """Return the code of an error and its text.

    Args:
        error: Decoded JSON: a text; an object with ``code`` and ``message`` (or ``msg``), which may be nested under
            ``error``; anything else. A code in any spelling (``429``, ``429.0``, ``"429"``) is a number.
    """
    if not isinstance(error, Mapping):
        return None, "" if error is None else str(error)[:_SHOWN]
    nested, code = error.get("error"), _code(error.get("code", error.get("status")))
    if isinstance(nested, Mapping):
        inner_code, text = code_and_text(nested)
        return (inner_code if code is None else code), text
    texts = [text for text in map(error.get, _TEXTS) if isinstance(text, str) and text]
    return code, (": ".join(texts) or str(dict(error)))[:_SHOWN]


def usual_reason(code: int | str | None, text: str) -> Reason:
    """Return the reason for an error without a venue-specific code: by HTTP status, else by its text."""
    words = text.lower()
    if code in (418, 429) or "too many" in words or "rate limit" in words:
        return Reason.RATE_LIMITED
    return Reason.UNKNOWN_MARKET if code == 404 else Reason.SUBSCRIBE_ERROR


def _code(value: Any) -> int | str | None:
    if isinstance(value, str):
        digits = value.removeprefix("-")
        return int(value) if digits.isdecimal() and digits.isascii() and len(digits) < 10 else value[:_SHOWN]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
