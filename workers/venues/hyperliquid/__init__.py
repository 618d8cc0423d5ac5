"""Hyperliquid: core perpetuals with whole books at a fixed cadence, and accounts by address without a login.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account`` and ``account_rows``.
"""
