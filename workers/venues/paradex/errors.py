"""Error codes of Paradex's WebSocket, on market data and account connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ipc.health import Reason
from workers.venues.refusals import usual_reason

#: Texts for errors about the JWT; the venue's own text could repeat it.
JWT_ERRORS: Final[Mapping[int, str]] = {40110: "the JWT is malformed", 40111: "the JWT is invalid or has expired"}
GEO_BLOCKED: Final = 40112


def market_data_reason(code: int | str | None, text: str) -> Reason | None:
    """Return the reason for an error with a text in lower case; codes are coarse, so the text decides."""
    if code in JWT_ERRORS:
        return Reason.AUTH_FAILED
    if code == GEO_BLOCKED:
        return Reason.REFUSED
    if _is_harmless(text):
        return None
    reason = usual_reason(code, text)
    return Reason.UNKNOWN_MARKET if reason is Reason.SUBSCRIBE_ERROR and "market" in text else reason


def account_reason(code: int, text: str) -> Reason | None:
    """Return the reason for an error that is not about the JWT, with a text in lower case."""
    if code == GEO_BLOCKED:
        return Reason.REFUSED
    if _is_harmless(text):
        return None
    return Reason.RATE_LIMITED if "too many" in text or "rate limit" in text else Reason.SUBSCRIBE_ERROR


def _is_harmless(text: str) -> bool:
    return "already subscribed" in text or "not subscribed" in text
