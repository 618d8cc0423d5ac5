"""Extended: perpetuals on Starknet, with a stream per connection chosen by its URL, and accounts by API key.

The public side is in ``market_data`` (WebSocket) and ``rest``, the private side in ``account`` and ``account_rows``.
"""

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("EXTENDED_API_KEY",),)
