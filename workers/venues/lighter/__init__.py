"""Lighter: perpetuals by market id with books chained by nonces, and accounts by index with tokens.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account``, ``account_rows``,
``token`` and ``credentials``; error codes of both are in ``errors``.
"""
