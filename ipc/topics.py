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


class BookOrder(NamedTuple):
    """Order of a venue's books, by which consumers of several sources compare them.

    Attributes:
        has_numbers: True where the venue's own number of a state is the same on every connection; else its time orders.
        limit_ns: How long a delivered book may lack a change that another source has.
        is_whole: True where every frame is a whole book, of which any is news.
    """

    has_numbers: bool
    limit_ns: int
    is_whole: bool = False


#: Order of each venue's books. Hyperliquid's frames come every 0.5 s, up to that apart on two connections, Lighter's
#: every 50 ms, the others' every 100 ms. Extended numbers one connection's frames, and Paradex' number is not known to
#: be the market's.
BOOK_ORDERS = {
    "hyperliquid": BookOrder(has_numbers=False, limit_ns=750_000_000, is_whole=True),
    "aster": BookOrder(has_numbers=True, limit_ns=350_000_000),
    "extended": BookOrder(has_numbers=False, limit_ns=350_000_000),
    "lighter": BookOrder(has_numbers=True, limit_ns=300_000_000),
    "paradex": BookOrder(has_numbers=False, limit_ns=350_000_000),
}

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
