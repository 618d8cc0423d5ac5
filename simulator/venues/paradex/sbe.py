"""Paradex: its binary encoding of market data.

Source: Paradex, WebSocket documentation, binary encoding (schema 1, versions 0 to 3). Little-endian; a header of block
length, template, schema and version; a fixed block; groups; strings. Decimals are integers in 10^-8, times are
microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

__all__ = [
    "NULL",
    "SCHEMA",
    "bbo",
    "bids_of",
    "book",
    "clamp",
    "fitting",
    "frame",
    "funding",
    "summary",
    "trade",
    "with_bid",
    "with_bids",
    "without_first_price",
]

SCHEMA: Final = 1
#: Stands for a number that is missing.
NULL: Final = -(2**63)

_HEADER = struct.Struct("<HHHH")
_TRADE = struct.Struct("<qqqBqqqB")
_BBO = struct.Struct("<qqqqqq")
_BOOK = struct.Struct("<qqB9q")
_GROUP = struct.Struct("<HH")
_LEVEL = struct.Struct("<qq")
_FUNDING = struct.Struct("<qqqqqqqh")
_SUMMARY_FIELDS = 27
_SUMMARY_EXTRAS = {0: 0, 1: 3, 2: 3, 3: 4}
_MOST = 2**63 - 1


def clamp(number: int) -> int:
    """A number as it fits into 64 bits; too large ones saturate."""
    return min(number, _MOST)


def fitting(number: int) -> int:
    """A number as it fits into 64 bits; one that does not is missing."""
    return number if -_MOST <= number <= _MOST else NULL


def frame(template: int, version: int, block: bytes, *texts: str) -> bytes:
    """A frame without groups: its block, and the strings behind it."""
    return _frame(template, version, block, *map(_string, texts))


def _frame(template: int, version: int, block: bytes, *tail: bytes) -> bytes:
    return _HEADER.pack(len(block), template, SCHEMA, version) + block + b"".join(tail)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


def _group(levels: Sequence[tuple[int, int]]) -> bytes:
    return _GROUP.pack(_LEVEL.size, len(levels)) + b"".join(_LEVEL.pack(*level) for level in levels)


def trade(
    version: int,
    times_us: tuple[int, int],
    seq: int,
    trade_id: str,
    side: int,
    price: int,
    size: int,
    kind: int,
    market: str,
) -> bytes:
    """Template 1: a trade.

    Args:
        version: Of the schema; from 2 on the whole trade id is appended.
        times_us: When it is told, when it happened.
        seq: The market's counter.
        trade_id: Up to 28 digits, which 64 bits cannot hold: the field for it takes the lowest ones.
        side: 1 buy, 2 sell.
        price: In 10^-8.
        size: In 10^-8.
        kind: 1 fill, 2 liquidation.
        market: The venue's name.
    """
    told, happened = times_us
    block = _TRADE.pack(told, seq, int(trade_id) & _MOST, side, price, size, happened, kind)
    tail = [_string(market)] + ([_string(trade_id)] if version >= 2 else [])
    return _frame(1, version, block, *tail)


def bbo(version: int, time_us: int, seq: int, touch: tuple[int, int, int, int], market: str) -> bytes:
    """Template 2: bid price, bid size, ask price, ask size; ``NULL`` for a side that is empty."""
    return _frame(2, version, _BBO.pack(time_us, seq, *touch), _string(market))


def book(
    version: int,
    time_us: int,
    seq: int,
    sides: tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]],
    market: str,
    *,
    is_delta: bool,
    best: Sequence[int] = (NULL,) * 9,
) -> bytes:
    """Template 3: a book, or what changed in it.

    Args:
        version: Of the schema.
        time_us: The engine's time.
        seq: The market's counter.
        sides: Bids and asks, each with price and size in 10^-8; size 0 in a delta removes the level.
        market: The venue's name.
        is_delta: Whether the book builds on the frame before.
        best: The nine fields for the touch: null in deltas.
    """
    block = _BOOK.pack(time_us, seq, int(is_delta), *best)
    return _frame(3, version, block, _group(sides[0]), _group(sides[1]), _string(market))


def summary(version: int, time_us: int, seq: int, fields: Sequence[int], extras: Sequence[int], market: str) -> bytes:
    """Template 4: a market summary.

    Args:
        version: Of the schema; it decides how many of ``extras`` are appended.
        time_us: When it was made.
        seq: A counter.
        fields: The 25 numbers from ``mark`` to ``askSize``; one that does not fit, as the open interest of a market
            that trades by the thousand may not, is missing.
        extras: ``forwardRate``, ``riskFreeRate``, ``fundingRatePrecise``, ``settlementTwapEstimate``.
        market: The venue's name.
    """
    numbers = (time_us, seq, *fields)
    if len(numbers) != _SUMMARY_FIELDS:
        raise ValueError(f"{len(fields)} fields, {_SUMMARY_FIELDS - 2} wanted")
    numbers = tuple(map(fitting, (*numbers, *extras[: _SUMMARY_EXTRAS[version]])))
    return _frame(4, version, struct.pack(f"<{len(numbers)}q", *numbers), _string(market))


def funding(version: int, time_us: int, seq: int, rates: Sequence[int], hours: int, impact: int, market: str) -> bytes:
    """Template 5: a funding observation.

    Args:
        version: Of the schema; from 1 on ``impact`` is appended.
        time_us: When it was made.
        seq: A counter.
        rates: ``fundingRate``, ``fundingIndex``, ``createdAt``, ``fundingPremium``, ``fundingRate8h``.
        hours: The period that ``fundingRate`` is for.
        impact: ``impactPremiumRate``.
        market: The venue's name.
    """
    block = _FUNDING.pack(time_us, seq, *rates, hours)
    return _frame(5, version, block + (struct.pack("<q", impact) if version else b""), _string(market))


def without_first_price(payload: bytes) -> bytes | None:
    """A book frame whose first level has null for a price; None when it has no level."""
    start = _HEADER.size + _BOOK.size
    for _ in range(2):
        count = _GROUP.unpack_from(payload, start)[1]
        start += _GROUP.size
        if count:
            return payload[:start] + struct.pack("<q", NULL) + payload[start + 8 :]
    return None


def with_bid(payload: bytes, price: int, size: int) -> bytes:
    """A book frame with one more bid, before the others."""
    return with_bids(payload, [(price, size), *bids_of(payload)])


def bids_of(payload: bytes) -> list[tuple[int, int]]:
    """The bids of a book frame: price and size in 10^-8."""
    first, end = _bids_span(payload)
    return [(price, size) for price, size in _LEVEL.iter_unpack(payload[first + _GROUP.size : end])]


def with_bids(payload: bytes, bids: Sequence[Sequence[int]]) -> bytes:
    """A book frame with other bids."""
    first, end = _bids_span(payload)
    return payload[:first] + _group([(price, size) for price, size in bids]) + payload[end:]


def _bids_span(payload: bytes) -> tuple[int, int]:
    """Where the group of bids begins and ends."""
    first = _HEADER.size + _BOOK.size
    _, count = _GROUP.unpack_from(payload, first)
    return first, first + _GROUP.size + count * _LEVEL.size
