"""Aster: USDT-margined perpetuals with books joined to REST snapshots, and accounts by listenKey and signed calls.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account``, ``account_frames``,
``account_rows`` and ``signing``.
"""
