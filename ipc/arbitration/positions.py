"""Positions: what orders the states of one topic over all sources, and how far behind the delivered one may be.

Nothing else is compared: epochs and sequence numbers are a publisher's own, and clocks of hosts differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ipc.events import BookDelta, BookSnapshot, Event
from ipc.topics import BOOK_ORDERS, BookOrder

_MS: Final = 1_000_000
#: Position of a state; None is neither ahead nor behind.
Position: TypeAlias = int | None


_OTHER: Final = BookOrder(has_numbers=False, limit_ns=350 * _MS)
#: Limits of other channels than ``book``: three periods of the slowest venue, at least 3 s. The best bid and offer has
#: that of the venue's book.
_VALUE_LIMIT_NS: Final = {"book20": 5500 * _MS, "mark": 9000 * _MS, "funding": 30_000 * _MS, "instrument": 30_000 * _MS}


def book_order(venue: str) -> BookOrder:
    """Return the order of a venue's books."""
    return BOOK_ORDERS.get(venue, _OTHER)


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
