"""Aster: USDT-margined perpetuals with books joined to REST snapshots, and accounts by listenKey and signed calls.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account``, ``account_frames``,
``account_rows`` and ``signing``.
"""

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("ASTER_API_KEY", "ASTER_API_SECRET"), ("ASTER_USER", "ASTER_SIGNER", "ASTER_SIGNER_KEY"))
