"""Extended: perpetuals on Starknet, with a stream per connection chosen by its URL, and accounts by API key.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account``, ``account_rows`` and
``credentials``.
"""
