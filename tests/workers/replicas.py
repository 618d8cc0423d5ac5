"""What a consumer makes of a book's events, in the plainest way; and a market whose book is known at every number."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from ipc.events import BookDelta, BookSnapshot, Gap

__all__ = ["Replica", "histories", "levels_of"]


def levels_of(levels):
    """Levels by value: price to size."""
    return {Decimal(price): Decimal(size) for price, size in levels}


class Replica:
    """A consumer's book of one market: a dict a side. ``book`` is None while it may not be used."""

    def __init__(self):
        self.book = None
        self.venue_seq = None

    def take(self, event):
        if isinstance(event, BookSnapshot):
            self.book = None if "crossed_by_venue" in event.flags else (levels_of(event.bids), levels_of(event.asks))
        elif isinstance(event, BookDelta) and self.book is not None:
            for side, changes in zip(self.book, (event.bids, event.asks), strict=True):
                side.update(levels_of(changes))
                for price in [price for price, size in side.items() if not size]:
                    del side[price]
        elif isinstance(event, Gap):
            self.lose()
            return
        self.venue_seq = event.venue_seq

    def lose(self):
        self.book = None


class History:
    """A market's life: ``books[n]`` is the book after the venue's change number n, as two dicts of text.

    A feed shows it in *steps*, each covering some numbers; ``steps`` holds the number after each.
    """

    def __init__(self, changes, steps):
        self.books = [({"99": "1"}, {"101": "1"})]
        for side, price, size in changes:
            book = tuple(dict(one) for one in self.books[-1])
            if size == "0":
                book[side].pop(price, None)
            else:
                book[side][price] = size
            self.books.append(book)
        self.steps = steps
        self._changes = changes

    def truth(self, number):
        return tuple(levels_of(side.items()) for side in self.books[number])

    def levels(self, number):
        """The book as a snapshot carries it, best first."""
        bids, asks = self.books[number]
        return (
            sorted(bids.items(), key=lambda level: float(level[0]), reverse=True),
            sorted(asks.items(), key=lambda level: float(level[0])),
        )

    def changes(self, after, to):
        """Bids and asks that changed in (after, to], each with its last size; a price may be spelt in another way."""
        sides = ({}, {})
        for side, price, size in self._changes[after:to]:
            sides[side][price] = size
        ending = ".0" if to % 2 else ""
        return tuple([(price + ("" if "." in price else ending), size) for price, size in one.items()] for one in sides)


@st.composite
def histories(draw):
    """Histories of up to 40 changes, whose bids stay below their asks."""
    prices = (("97", "98", "99", "99.5"), ("100.5", "101", "102", "103"))
    change = st.integers(0, 1).flatmap(
        lambda side: st.tuples(st.just(side), st.sampled_from(prices[side]), st.sampled_from(["0", "1", "2.5", "7"]))
    )
    changes = draw(st.lists(change, min_size=1, max_size=40))
    return History(changes, sorted(draw(st.sets(st.integers(1, len(changes)), min_size=1))))
