"""Hyperliquid: core perpetuals with whole books at a fixed cadence, and accounts by address without a login.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account`` and ``account_rows``.
"""

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("HL_VAULT_ADDRESS",),)
