"""Privacy of pages and metrics: they need no login, so names and texts of accounts stay in the terminal."""

from __future__ import annotations

from typing import Any, Final

#: Parts of an account's stream that stay in the terminal: its name, and the venue's own text.
_PRIVATE: Final = frozenset({"account", "detail"})


def without_private(status: dict[str, Any]) -> dict[str, Any]:
    """Return the object that ``status --json`` prints without the names of accounts and what venues say of them."""
    venues = {name: {**venue, "streams": _public_streams(venue["streams"])} for name, venue in status["venues"].items()}
    return {**status, "venues": venues}


def _public_streams(streams: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in stream.items() if key not in _PRIVATE} for name, stream in streams.items()
    }
