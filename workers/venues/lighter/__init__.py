"""Lighter: perpetuals by market id with books chained by nonces, and accounts by index with tokens.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account``, ``account_rows`` and
``token``; error codes of both are in ``errors``.
"""

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (
    ("LIGHTER_ACCOUNT_INDEX", "LIGHTER_AUTH_TOKEN"),
    ("LIGHTER_ACCOUNT_INDEX", "LIGHTER_API_KEY_INDEX", "LIGHTER_API_PRIVATE_KEY_HEX"),
)
