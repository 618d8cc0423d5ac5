"""The order book of one market: levels by value, best prices at hand, checksums.

A level is identified by the numeric value of its price, never by its text (``82653`` and ``82653.0`` are one level);
what is stored and handed out is the venue's text. Floats serve as identity only. They tell decimals of up to 15
significant digits apart, which is checked where listings are read.

A dict of levels beside a sorted list of the prices was the fastest of what was tried (sorted containers cost twice as
much, Decimal keys thrice): the list is touched only when a level appears or goes, and the best price is its end. To
make a float of a text costs as much as all else that a change of a level needs, and levels come and go at the same few
prices, so the prices of texts are remembered. Feeds that send whole books never ask for the index, so it is built with
the first delta.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import inf
from zlib import crc32

from ipc.decimals import is_zero, shortest
from ipc.events import Level

__all__ = ["BadLevelError", "OrderBook"]

_CHECKSUM_DEPTH = 10
#: Whatever digits a size has, they come behind these in the order of text, unless all of them are zero.
_ZEROS = "0" * 128
#: Texts of prices that a side remembers beyond twice its levels.
_SPARE = 256


class BadLevelError(ValueError):
    """A level's price or size is not a decimal number that a level can have."""


def _price(text: str) -> float:
    """The identity of a level.

    Raises:
        BadLevelError: The price is no positive finite number.
    """
    try:
        price = float(text)
    except ValueError as error:
        raise BadLevelError(f"price {text!r}") from error
    if not 0.0 < price < inf:
        raise BadLevelError(f"price {text!r}")
    return price


class _BookSide:
    """One side: levels by price, the prices in ascending order, and the prices of texts that were read lately."""

    __slots__ = ("known", "levels", "prices")

    def __init__(self, levels: Sequence[Level]) -> None:
        self.known: dict[str, float] = {}
        self.levels: dict[float, Level] = {}
        self.prices: list[float] = []
        self.apply(levels)

    def apply(self, changes: Sequence[Level]) -> None:
        """Set and delete levels.

        All stands in the loop, nothing in functions of their own: calls cost a third of the time per level.
        """
        known, levels, prices = self.known, self.levels, self.prices
        for level in changes:
            text, size = level
            price = known.get(text)
            if price is None:
                price = known[text] = _price(text)
            digits = size.replace(".", "", 1)
            if not digits.isdecimal():
                raise BadLevelError(f"size {size!r}")
            if digits > _ZEROS:
                if price not in levels:
                    insort(prices, price)
                levels[price] = level
            elif levels.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
        if len(known) > 2 * len(levels) + _SPARE:
            known.clear()


class OrderBook:
    """Bids and asks of one market.

    Empty and one-sided books are legal. Whether a book may be used is its holder's business.
    """

    __slots__ = ("_asks", "_bids", "_index", "_was_crossed")

    def __init__(self) -> None:
        self._bids: Sequence[Level] = ()
        self._asks: Sequence[Level] = ()
        #: Whether the book was crossed when it was replaced.
        self._was_crossed = False
        #: Both sides by price, once a delta asked for it; ``_bids`` and ``_asks`` are then out of date.
        self._index: tuple[_BookSide, _BookSide] | None = None

    def replace(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Take a whole book, best first.

        Raises:
            BadLevelError: One of the two best levels is no level; the others are looked at when a delta comes.
        """
        bid = _price(bids[0][0]) if bids else 0.0
        ask = _price(asks[0][0]) if asks else inf
        self._bids, self._asks, self._index = bids, asks, None
        self._was_crossed = bid >= ask
        if (bids and is_zero(bids[0][1])) or (asks and is_zero(asks[0][1])):
            self._indexed()  # which leaves out levels without a size

    def apply(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Apply changes with absolute sizes; a size of value zero deletes, also a level that is not there.

        Raises:
            BadLevelError: A level is no level; the book is then half changed and of no more use.
        """
        bid_side, ask_side = self._indexed()
        bid_side.apply(bids)
        ask_side.apply(asks)

    def index(self) -> None:
        """Look at every level now, and not when the first delta comes.

        Raises:
            BadLevelError: One is no level.
        """
        self._indexed()

    def clear(self) -> None:
        """Forget everything."""
        self._bids, self._asks, self._index = (), (), None
        self._was_crossed = False

    def size_at(self, side: str, price: str) -> str | None:
        """The size of the level ``price`` on ``side`` (``bid`` or ``ask``); None when there is none."""
        level = self._indexed()[side == "ask"].levels.get(_price(price))
        return level[1] if level else None

    @property
    def best_bid(self) -> Level | None:
        """Highest bid; None when there are no bids."""
        if self._index is None:
            return self._bids[0] if self._bids else None
        side = self._index[0]
        return side.levels[side.prices[-1]] if side.prices else None

    @property
    def best_ask(self) -> Level | None:
        """Lowest ask; None when there are no asks."""
        if self._index is None:
            return self._asks[0] if self._asks else None
        side = self._index[1]
        return side.levels[side.prices[0]] if side.prices else None

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid reaches the best ask."""
        if self._index is None:
            return self._was_crossed
        bids, asks = self._index[0].prices, self._index[1].prices
        return bool(bids and asks and bids[-1] >= asks[0])

    def bids(self, depth: int | None = None) -> list[Level]:
        """The best ``depth`` bids (all when None), best first."""
        if self._index is None:
            return list(self._bids[:depth])
        side = self._index[0]
        start = 0 if depth is None else max(0, len(side.prices) - depth)
        return [side.levels[price] for price in reversed(side.prices[start:])]

    def asks(self, depth: int | None = None) -> list[Level]:
        """The best ``depth`` asks (all when None), best first."""
        if self._index is None:
            return list(self._asks[:depth])
        side = self._index[1]
        return [side.levels[price] for price in side.prices[:depth]]

    def crc32_top10(self) -> int:
        """CRC-32 of ``b:<p>:<q>,…;a:<p>:<q>,…``: the ten best levels a side in shortest plain decimals.

        Raises:
            BadLevelError: One of them is no level.
        """
        try:
            bids = ",".join(f"{shortest(p)}:{shortest(q)}" for p, q in self.bids(_CHECKSUM_DEPTH))
            asks = ",".join(f"{shortest(p)}:{shortest(q)}" for p, q in self.asks(_CHECKSUM_DEPTH))
        except ValueError as error:
            raise BadLevelError(str(error)) from error
        return crc32(f"b:{bids};a:{asks}".encode())

    def _indexed(self) -> tuple[_BookSide, _BookSide]:
        if self._index is None:
            self._index = (_BookSide(self._bids), _BookSide(self._asks))
            self._bids = self._asks = ()
        return self._index
