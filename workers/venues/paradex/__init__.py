"""Paradex: perpetuals with books chained by sequence numbers, in binary or JSON, and accounts by JWT.

The public side is in ``market_data`` (WebSocket), ``rest`` and ``sbe`` (binary layout), the private side in
``account``, ``account_rows``, ``account_sbe`` and ``auth``; error codes of both are in ``errors``.
"""

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("PARADEX_JWT",), ("PARADEX_ACCOUNT", "PARADEX_PRIVATE_KEY"))
