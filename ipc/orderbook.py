"""Order book of one market: validation, best prices, checksums.

Every price and size is a decimal (:mod:`ipc.decimals`) above zero, and a whole book is strictly best first without
duplicate prices; a book that violates this is rejected, never repaired. In a change a size of value zero deletes.
Exponents are written out, so stored text is plain.

A level is identified by the numeric value of its price, never by its text (``82653`` and ``82653.0`` are one level);
the venue's text is stored and returned. Floats serve as identity only: they distinguish decimals of up to 15
significant digits, which is checked when listings are read.

A dict of levels with a sorted list of prices was the fastest structure measured (sorted containers cost twice as much,
Decimal keys three times): the list changes only when a level appears or disappears, and the best price is its end.
Conversion of a text to float costs as much as the rest of a level's change, and levels recur at the same few prices, so
the prices of texts are cached. Whole books are checked level by level: batch checks in C (of JSON, with ``translate``
and sorting) took longer for 5 levels a side and as long for 20. Feeds of whole books never need the index, so the first
delta builds it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from zlib import crc32

from ipc.decimals import USUAL_DIGITS, ZEROS, is_zero, plain_text, shortest
from ipc.events import Level

_CHECKSUM_DEPTH = 10
#: Cached texts of prices beyond twice the number of levels.
_SPARE = 512


class BadLevelError(ValueError):
    """Invalid level: its price or size is not a decimal above zero, or its price is out of order."""


class _NotPlainError(Exception):
    """Valid number that is not plain, such as ``1E-7``."""


def _plain_levels(levels: Iterable[Level]) -> list[Level]:
    """Return levels with plain decimals; raise BadLevelError for a price or size that is not a decimal."""
    return [(_plain("price", price), _plain("size", size)) for price, size in levels]


def _price(text: str) -> float:
    """Return a level's price as its identity; raise BadLevelError unless above zero, _NotPlainError if not plain."""
    _check_plain("price", text)
    price = float(text)
    if price <= 0.0:
        raise BadLevelError(f"price {text[:40]!r}")
    return price


def _has_size(text: str) -> bool:
    """Return whether a size is above zero; raise BadLevelError if it cannot be one, _NotPlainError if not plain."""
    _check_plain("size", text)
    if text[0] == "-":
        raise BadLevelError(f"size {text[:40]!r}")
    return not is_zero(text)


def _check_plain(what: str, text: str) -> None:
    if _plain(what, text) != text:
        raise _NotPlainError


def _plain(what: str, text: str) -> str:
    try:
        return plain_text(text)
    except ValueError as error:
        raise BadLevelError(f"{what} {text[:40]!r}: {error}") from error


def _check_side(levels: Iterable[Level], known: dict[str, float]) -> float:
    """Check a side of a whole book, its lowest price first; return its highest price, 0 when it is empty.

    Everything is inline: calls would cost a third of the time per level.

    Raises:
        BadLevelError: It is not strictly in order, or a level is invalid.
        _NotPlainError: A number is valid but not plain.
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
    """Side of a book: levels by price, and the prices in ascending order."""

    __slots__ = ("known", "levels", "prices")

    def __init__(self, levels: Sequence[Level], known: dict[str, float]) -> None:
        self.known = known
        self.levels: dict[float, Level] = {}
        self.prices: list[float] = []
        self.apply(levels)

    def apply(self, changes: Sequence[Level]) -> None:
        """Set and delete levels; inline, as in :func:`_check_side`.

        Raises:
            BadLevelError: A level is invalid.
            _NotPlainError: A number is valid but not plain.
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

    Empty and one-sided books are legal. The caller decides whether a book is usable.
    """

    __slots__ = ("_asks", "_bids", "_index", "_known", "_was_crossed")

    def __init__(self) -> None:
        self._bids: Sequence[Level] = ()
        self._asks: Sequence[Level] = ()
        #: True when the book was crossed at its replacement.
        self._was_crossed = False
        #: Both sides by price, built by the first delta; ``_bids`` and ``_asks`` are then unused.
        self._index: tuple[_BookSide, _BookSide] | None = None
        #: Cached prices by text.
        self._known: dict[str, float] = {}

    def replace(self, bids: Sequence[Level], asks: Sequence[Level]) -> tuple[Sequence[Level], Sequence[Level]]:
        """Replace the book; return it as stored: with plain decimals, otherwise unchanged.

        Raises:
            BadLevelError: A level is invalid, has no size, or is out of order; the book is unchanged.
        """
        known = self._known
        try:
            best_bid = _check_side(reversed(bids), known)
            _check_side(asks, known)
        except _NotPlainError:
            return self.replace(_plain_levels(bids), _plain_levels(asks))
        self._was_crossed = bool(asks) and best_bid >= known[asks[0][0]]
        if len(known) > 2 * (len(bids) + len(asks)) + _SPARE:
            known.clear()
        self._bids, self._asks, self._index = bids, asks, None
        return bids, asks

    def apply(self, bids: Sequence[Level], asks: Sequence[Level]) -> tuple[Sequence[Level], Sequence[Level]]:
        """Apply changes with absolute sizes; return them with plain decimals, otherwise unchanged.

        A size of value zero deletes a level, which may be absent.

        Raises:
            BadLevelError: A level is invalid; the book is then partly changed and must be replaced.
        """
        bid_side, ask_side = self._indexed()
        try:
            bid_side.apply(bids)
            ask_side.apply(asks)
        except _NotPlainError:
            return self.apply(
                _plain_levels(bids), _plain_levels(asks)
            )  # sizes are absolute: applying them twice is harmless
        if len(self._known) > 2 * (len(bid_side.prices) + len(ask_side.prices)) + _SPARE:
            self._known.clear()
        return bids, asks

    def clear(self) -> None:
        """Remove all levels."""
        self._bids, self._asks, self._index = (), (), None
        self._was_crossed = False

    def size_at(self, side: str, price: str) -> str | None:
        """Return the size at ``price`` on ``side`` (``bid``, ``ask``), or None; BadLevelError for an invalid price."""
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
        """True when the best bid reaches the best ask."""
        if self._index is None:
            return self._was_crossed
        bids, asks = self._index[0].prices, self._index[1].prices
        return bool(bids and asks and bids[-1] >= asks[0])

    def bids(self, depth: int | None = None) -> list[Level]:
        """Return the best ``depth`` bids (all when None), best first."""
        if self._index is None:
            return list(self._bids[:depth])
        side = self._index[0]
        start = 0 if depth is None else max(0, len(side.prices) - depth)
        return [side.levels[price] for price in reversed(side.prices[start:])]

    def asks(self, depth: int | None = None) -> list[Level]:
        """Return the best ``depth`` asks (all when None), best first."""
        if self._index is None:
            return list(self._asks[:depth])
        side = self._index[1]
        return [side.levels[price] for price in side.prices[:depth]]

    def equals(self, bids: Sequence[Level], asks: Sequence[Level], depth: int | None = None) -> bool:
        """Return whether another book has the same levels by value, compared to ``depth`` levels a side if given.

        Raises:
            ValueError: The other book has a value that is not a decimal.
        """
        return _values(self.bids(depth)) == _values(bids[:depth]) and _values(self.asks(depth)) == _values(asks[:depth])

    def crc32_top10(self) -> int:
        """Return the CRC-32 of ``b:<p>:<q>,…;a:<p>:<q>,…``: the ten best levels a side in shortest plain decimals."""
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
