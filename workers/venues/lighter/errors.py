"""Error codes of Lighter, on market data and account channels and in REST answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ipc.health import Reason

#: Texts for errors about the token; the venue's own text could repeat it.
TOKEN_ERRORS: Final[Mapping[int, str]] = {
    21109: "no token came with the request",
    21110: "the token is not valid",
    21120: "the token has expired",
}
#: Reasons by code; None for errors without effect.
ERROR_REASONS: Final[Mapping[int | str | None, Reason | None]] = {
    30002: None,  # not subscribed
    30003: None,  # already subscribed: data goes on
    **dict.fromkeys((23000, 23001, 23002, 23003, 30009, 30010), Reason.RATE_LIMITED),
    **dict.fromkeys(TOKEN_ERRORS, Reason.AUTH_FAILED),
}
_CHANNEL: Final = re.compile(r"\b([a-z_]+)[:/](\d+|all)\b")


def channel_in(text: str) -> str | None:
    """Return the channel that the text of an error names, as in requests or in replies, with a colon."""
    found = _CHANNEL.search(text)
    return f"{found[1]}:{found[2]}" if found else None
