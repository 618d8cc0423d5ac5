"""Positions: what orders the states of one topic over all sources, and how far behind the delivered one may be.

Nothing else is compared: epochs and sequence numbers are a publisher's own, and clocks of hosts differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from ipc.events import BookDelta, BookSnapshot, Event

_MS: Final = 1_000_000
#: Position of a state; None is neither ahead nor behind.
Position: TypeAlias = int | None


class BookOrder(NamedTuple):
    """Order of a venue's books.

    Attributes:
        has_numbers: True where the venue's own number of a state is the same on every connection; else its time orders.
        limit_ns: How long a delivered book may lack a change that another source has.
        is_whole: True where every frame is a whole book, of which any is news.
    """

    has_numbers: bool
    limit_ns: int
    is_whole: bool = False


#: By venue. Hyperliquid's frames come every 0.5 s, up to that apart on two connections; Lighter's every 50 ms, the
#: others' every 100 ms. Extended numbers one connection's frames, Paradex' ``seq`` is not known to be the market's.
_ORDERS: Final = {
    "hyperliquid": BookOrder(has_numbers=False, limit_ns=750 * _MS, is_whole=True),
    "aster": BookOrder(has_numbers=True, limit_ns=350 * _MS),
    "extended": BookOrder(has_numbers=False, limit_ns=350 * _MS),
    "lighter": BookOrder(has_numbers=True, limit_ns=300 * _MS),
    "paradex": BookOrder(has_numbers=False, limit_ns=350 * _MS),
}
_OTHER: Final = BookOrder(has_numbers=False, limit_ns=350 * _MS)
#: Limits of other channels than ``book``: three periods of the slowest venue, at least 3 s. The best bid and offer has
#: that of the venue's book.
_VALUE_LIMIT_NS: Final = {"book20": 5500 * _MS, "mark": 9000 * _MS, "funding": 30_000 * _MS, "instrument": 30_000 * _MS}


def book_order(venue: str) -> BookOrder:
    """Return the order of a venue's books."""
    return _ORDERS.get(venue, _OTHER)


def value_limit_ns(channel: str, venue: str) -> int:
    """Return how long a delivered value of a channel may be older than another source's, ns."""
    return _VALUE_LIMIT_NS.get(channel) or book_order(venue).limit_ns


def book_position(venue: str) -> Callable[[BookSnapshot | BookDelta], Position]:
    """Return the function that gives the position of a venue's book events."""
    return _number_of if book_order(venue).has_numbers else time_of


def _number_of(event: BookSnapshot | BookDelta) -> Position:
    return event.venue_seq


def time_of(event: Event) -> Position:
    """Return the position of an event by the venue's time."""
    return event.exchange_ns
