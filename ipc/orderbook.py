"""The order book of one market: valid levels by value, best prices at hand, checksums.

The one place that says what a book may hold. Every price and size is a decimal (:mod:`ipc.decimals`) above zero, and a
whole book is strictly best first, so that no price stands twice; a book that breaks this is refused, never repaired. In
a change a size of value zero deletes. Exponents are written out, so that what is stored is plain.

A level is identified by the numeric value of its price, never by its text (``82653`` and ``82653.0`` are one level);
what is stored and handed out is the venue's text. Floats serve as identity only. They tell decimals of up to 15
significant digits apart, which is checked where listings are read.

A dict of levels beside a sorted list of the prices was the fastest of what was tried (sorted containers cost twice as
much, Decimal keys thrice): the list is touched only when a level appears or goes, and the best price is its end. To
make a float of a text costs as much as all else that a change of a level needs, and levels come and go at the same few
prices, so the prices of texts are remembered. Whole books are checked level by level: batch checks in C (of JSON, with
``translate`` and sorting) took longer for 5 levels a side and as long for 20. Feeds that send whole books never ask for
the index, so it is built with the first delta.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from zlib import crc32

from ipc.decimals import USUAL_DIGITS, ZEROS, is_zero, plain_text, shortest
from ipc.events import Level

__all__ = ["BadLevelError", "OrderBook"]

_CHECKSUM_DEPTH = 10
#: Texts of prices that a book remembers beyond twice its levels.
_SPARE = 512


class BadLevelError(ValueError):
    """A level that no book can hold: its price or size is no decimal above zero, or its price is out of order."""


class _OtherwiseWrittenError(Exception):
    """A valid number that is not plain, as ``1E-7``."""


def _plain_levels(levels: Iterable[Level]) -> list[Level]:
    """Return levels with their numbers as plain decimals.

    Raises:
        BadLevelError: A price or a size is not a decimal.
    """
    return [(_plain("price", price), _plain("size", size)) for price, size in levels]


def _price(text: str) -> float:
    """Return the identity of a level.

    Raises:
        BadLevelError: The price is not a decimal above zero.
        _OtherwiseWrittenError: It is one, but not written plainly.
    """
    _check_plain("price", text)
    price = float(text)
    if price <= 0.0:
        raise BadLevelError(f"price {text[:40]!r}")
    return price


def _has_size(text: str) -> bool:
    """Tell whether a size is above zero.

    Raises:
        BadLevelError: The size is not a decimal, or negative.
        _OtherwiseWrittenError: It is one, but not written plainly.
    """
    _check_plain("size", text)
    if text[0] == "-":
        raise BadLevelError(f"size {text[:40]!r}")
    return not is_zero(text)


def _check_plain(what: str, text: str) -> None:
    if _plain(what, text) != text:
        raise _OtherwiseWrittenError


def _plain(what: str, text: str) -> str:
    try:
        return plain_text(text)
    except ValueError as error:
        raise BadLevelError(f"{what} {text[:40]!r}: {error}") from error


def _check_side(levels: Iterable[Level], known: dict[str, float]) -> float:
    """Check a side of a whole book, its lowest price first; return its highest price, 0 when it is empty.

    All stands in the loop, nothing in functions of their own: calls cost a third of the time per level.

    Raises:
        BadLevelError: It is not strictly in order, or a level is none.
        _OtherwiseWrittenError: A number is not written plainly.
    """
    last, zeros, most = 0.0, ZEROS, USUAL_DIGITS
    for text, size in levels:
        price = known.get(text)
        if price is None:
            price = known[text] = _price(text)
        if price <= last:
            raise BadLevelError(f"price {text!r} is out of order or stands twice")
        last = price
        digits = size.replace(".", "", 1)
        is_usual = digits > zeros and digits.isdecimal() and digits.isascii() and len(digits) <= most
        if not is_usual and not _has_size(size):
            raise BadLevelError(f"size {size!r} in a whole book")
    return last


class _BookSide:
    """One side: levels by price, and the prices in ascending order."""

    __slots__ = ("known", "levels", "prices")

    def __init__(self, levels: Sequence[Level], known: dict[str, float]) -> None:
        self.known = known
        self.levels: dict[float, Level] = {}
        self.prices: list[float] = []
        self.apply(levels)

    def apply(self, changes: Sequence[Level]) -> None:
        """Set and delete levels; all stands in the loop, as in :func:`_check_side`.

        Raises:
            BadLevelError: A level is none.
            _OtherwiseWrittenError: A number is not written plainly.
        """
        known, levels, prices = self.known, self.levels, self.prices
        for level in changes:
            text, size = level
            price = known.get(text)
            if price is None:
                price = known[text] = _price(text)
            digits = size.replace(".", "", 1)
            if digits.isdecimal() and digits.isascii() and len(digits) <= USUAL_DIGITS:
                has_size = digits > ZEROS
            else:
                has_size = _has_size(size)
            if has_size:
                if price not in levels:
                    insort(prices, price)
                levels[price] = level
            elif levels.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]


class OrderBook:
    """Bids and asks of one market.

    Empty and one-sided books are legal. Whether a book may be used is its holder's business.
    """

    __slots__ = ("_asks", "_bids", "_index", "_known", "_was_crossed")

    def __init__(self) -> None:
        self._bids: Sequence[Level] = ()
        self._asks: Sequence[Level] = ()
        #: Whether the book was crossed when it was replaced.
        self._was_crossed = False
        #: Both sides by price, once a delta asked for it; ``_bids`` and ``_asks`` are then out of date.
        self._index: tuple[_BookSide, _BookSide] | None = None
        #: The prices of texts that were read lately.
        self._known: dict[str, float] = {}

    def replace(self, bids: Sequence[Level], asks: Sequence[Level]) -> tuple[Sequence[Level], Sequence[Level]]:
        """Take a whole book and return it as it is held: with plain decimals, otherwise as it came.

        Raises:
            BadLevelError: A level is none, has no size, or is not behind a better one; the book stays as it was.
        """
        known = self._known
        try:
            best_bid = _check_side(reversed(bids), known)
            _check_side(asks, known)
        except _OtherwiseWrittenError:
            return self.replace(_plain_levels(bids), _plain_levels(asks))
        self._was_crossed = bool(asks) and best_bid >= known[asks[0][0]]
        if len(known) > 2 * (len(bids) + len(asks)) + _SPARE:
            known.clear()
        self._bids, self._asks, self._index = bids, asks, None
        return bids, asks

    def apply(self, bids: Sequence[Level], asks: Sequence[Level]) -> tuple[Sequence[Level], Sequence[Level]]:
        """Apply changes with absolute sizes; return them with plain decimals, otherwise as they came.

        A size of value zero deletes, also a level that is not there.

        Raises:
            BadLevelError: A level is no level; the book is then half changed and of no more use.
        """
        bid_side, ask_side = self._indexed()
        try:
            bid_side.apply(bids)
            ask_side.apply(asks)
        except _OtherwiseWrittenError:
            return self.apply(_plain_levels(bids), _plain_levels(asks))  # sizes are absolute: twice does no harm
        if len(self._known) > 2 * (len(bid_side.prices) + len(ask_side.prices)) + _SPARE:
            self._known.clear()
        return bids, asks

    def clear(self) -> None:
        """Forget everything."""
        self._bids, self._asks, self._index = (), (), None
        self._was_crossed = False

    def size_at(self, side: str, price: str) -> str | None:
        """Return the size of the level ``price`` on ``side`` (``bid`` or ``ask``); None when there is none.

        Raises:
            BadLevelError: The price is not a decimal above zero.
        """
        level = self._indexed()[side == "ask"].levels.get(_price(_plain("price", price)))
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

    def equals(self, bids: Sequence[Level], asks: Sequence[Level], depth: int | None = None) -> bool:
        """Tell whether another book has the same levels by value; with ``depth`` only so many of each side count.

        Raises:
            ValueError: The other book holds something that is not a decimal.
        """
        return _values(self.bids(depth)) == _values(bids[:depth]) and _values(self.asks(depth)) == _values(asks[:depth])

    def crc32_top10(self) -> int:
        """CRC-32 of ``b:<p>:<q>,…;a:<p>:<q>,…``: the ten best levels a side in shortest plain decimals."""
        bids, asks = (
            ",".join(f"{price}:{size}" for price, size in _values(side))
            for side in (self.bids(_CHECKSUM_DEPTH), self.asks(_CHECKSUM_DEPTH))
        )
        return crc32(f"b:{bids};a:{asks}".encode())

    def _indexed(self) -> tuple[_BookSide, _BookSide]:
        if self._index is None:
            self._index = (_BookSide(self._bids[::-1], self._known), _BookSide(self._asks, self._known))
            self._bids = self._asks = ()
        return self._index


def _values(levels: Sequence[Level]) -> list[tuple[str, str]]:
    return [(shortest(price), shortest(size)) for price, size in levels]
