"""Paradex: perpetuals with books chained by sequence numbers, in binary or JSON, and accounts by JWT.

The public side is in ``market_data`` (WebSocket), ``rest`` and ``sbe`` (binary layout), the private side in
``account``, ``account_rows``, ``account_sbe``, ``auth`` and ``credentials``; error codes of both are in ``errors``.
"""
