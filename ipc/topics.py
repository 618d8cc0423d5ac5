"""Topics: ``<channel>.<venue>.<symbol>``, and ``status.<venue>``, ``heartbeat.<venue>``.

The channel comes first, so that one prefix selects a channel on all venues. Symbols end in ``-PERP``, so that no topic
is a prefix of another.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Registry of venues, in the order in which tools show them; their folders are found by these names.
VENUES = ("hyperliquid", "aster", "extended", "lighter", "paradex")

#: Offset of each feed's TCP port from the first one. Consumers depend on these numbers: only add unused ones, above 11.
FEED_PORTS = {"hyperliquid": 0, "aster": 1, "extended": 2, "lighter": 3, "paradex": 4, "lifecycle": 5}

#: Every public channel, in the order in which tools show them.
CHANNELS = (
    "book",
    "book20",
    "bbo",
    "trade",
    "mark",
    "funding",
    "liquidation",
    "instrument",
    "status",
    "heartbeat",
    "lifecycle",
)

#: Channels of accounts; their topics end in the account's alias.
ACCOUNT_CHANNELS = ("order", "fill", "position", "balance", "margin", "payment")

#: Channels that carry an order book.
BOOK_CHANNELS = ("book", "book20")

_SUFFIX = "-PERP"
_BASE = re.compile(r"[A-Z0-9][A-Z0-9_]{0,31}")


class Topic(NamedTuple):
    """Topic in its parts; ``symbol`` is empty for the topics of a whole venue."""

    channel: str
    venue: str
    symbol: str

    def __str__(self) -> str:
        """Return the topic as in the first frame of a message."""
        return f"{self.channel}.{self.venue}.{self.symbol}" if self.symbol else f"{self.channel}.{self.venue}"

    @classmethod
    def parse(cls, text: str) -> Topic:
        """Split a topic.

        Raises:
            ValueError: Fewer than two parts.
        """
        channel, venue, *rest = text.split(".", 2)
        return cls(channel, venue, rest[0] if rest else "")


def topic_of(channel: str, venue: str, symbol: str | None = None) -> str:
    """Return the text of a topic."""
    return str(Topic(channel, venue, symbol or ""))


def symbol_of(base: str) -> str:
    """Return our symbol for the perpetual on ``base``: ``BTC`` gives ``BTC-PERP``."""
    return base + _SUFFIX


def base_of(text: str) -> str | None:
    """Return the base of a symbol of ours, or the base itself; None for any other text."""
    base = text.removesuffix(_SUFFIX)
    return base if _BASE.fullmatch(base) else None
