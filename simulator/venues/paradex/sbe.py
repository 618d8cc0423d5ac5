"""Paradex: binary encoding of market data.

Source: Paradex, WebSocket documentation, binary encoding (schema 1, versions 0 to 3). Little-endian; a header of block
length, template, schema and version; a fixed block; groups; strings. Decimals are integers in 10^-8, times are
microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

SCHEMA: Final = 1
#: Missing number.
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
    """Return a number, saturated at 64 bits."""
    return min(number, _MOST)


def fitting(number: int) -> int:
    """Return a number, or ``NULL`` if it does not fit into 64 bits."""
    return number if -_MOST <= number <= _MOST else NULL


def frame(template: int, version: int, block: bytes, *texts: str) -> bytes:
    """Return a frame without groups: its block, then the strings."""
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
    """Return template 1: a trade.

    Args:
        version: Version of the schema; from 2 on the whole trade id is appended.
        times_us: Times of publication and of the trade.
        seq: Sequence number of the market.
        trade_id: Up to 28 digits, which 64 bits cannot hold: the field for it takes the lowest ones.
        side: 1 buy, 2 sell.
        price: In 10^-8.
        size: In 10^-8.
        kind: 1 fill, 2 liquidation.
        market: Name of the market at the venue.
    """
    published, traded = times_us
    block = _TRADE.pack(published, seq, int(trade_id) & _MOST, side, price, size, traded, kind)
    tail = [_string(market)] + ([_string(trade_id)] if version >= 2 else [])
    return _frame(1, version, block, *tail)


def bbo(version: int, time_us: int, seq: int, touch: tuple[int, int, int, int], market: str) -> bytes:
    """Return template 2: bid price, bid size, ask price, ask size; ``NULL`` for an empty side."""
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
    """Return template 3: a book, or its changes.

    Args:
        version: Version of the schema.
        time_us: Time of the engine.
        seq: Sequence number of the market.
        sides: Bids and asks, each with price and size in 10^-8; size 0 in a delta removes the level.
        market: Name of the market at the venue.
        is_delta: Whether the frame changes the book of the previous one.
        best: Nine fields of the touch; null in deltas.
    """
    block = _BOOK.pack(time_us, seq, int(is_delta), *best)
    return _frame(3, version, block, _group(sides[0]), _group(sides[1]), _string(market))


def summary(version: int, time_us: int, seq: int, fields: Sequence[int], extras: Sequence[int], market: str) -> bytes:
    """Return template 4: a market summary.

    Args:
        version: Version of the schema; it decides how many of ``extras`` are appended.
        time_us: Time of publication.
        seq: Sequence number.
        fields: The 25 numbers from ``mark`` to ``askSize``; one that does not fit, as the open interest of a market
            that trades by the thousand may not, is missing.
        extras: ``forwardRate``, ``riskFreeRate``, ``fundingRatePrecise``, ``settlementTwapEstimate``.
        market: Name of the market at the venue.
    """
    numbers = (time_us, seq, *fields)
    if len(numbers) != _SUMMARY_FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {_SUMMARY_FIELDS - 2}")
    numbers = tuple(map(fitting, (*numbers, *extras[: _SUMMARY_EXTRAS[version]])))
    return _frame(4, version, struct.pack(f"<{len(numbers)}q", *numbers), _string(market))


def funding(version: int, time_us: int, seq: int, rates: Sequence[int], hours: int, impact: int, market: str) -> bytes:
    """Return template 5: a funding observation.

    Args:
        version: Version of the schema; from 1 on ``impact`` is appended.
        time_us: Time of publication.
        seq: Sequence number.
        rates: ``fundingRate``, ``fundingIndex``, ``createdAt``, ``fundingPremium``, ``fundingRate8h``.
        hours: Period of ``fundingRate``.
        impact: ``impactPremiumRate``.
        market: Name of the market at the venue.
    """
    block = _FUNDING.pack(time_us, seq, *rates, hours)
    return _frame(5, version, block + (struct.pack("<q", impact) if version else b""), _string(market))


def without_first_price(payload: bytes) -> bytes | None:
    """Return a book frame with null for the first price; None when it has no level."""
    start = _HEADER.size + _BOOK.size
    for _ in range(2):
        count = _GROUP.unpack_from(payload, start)[1]
        start += _GROUP.size
        if count:
            return payload[:start] + struct.pack("<q", NULL) + payload[start + 8 :]
    return None


def with_bid(payload: bytes, price: int, size: int) -> bytes:
    """Return a book frame with one more bid, before the others."""
    return with_bids(payload, [(price, size), *bids_of(payload)])


def bids_of(payload: bytes) -> list[tuple[int, int]]:
    """Return the bids of a book frame: price and size in 10^-8."""
    first, end = _bids_span(payload)
    return [(price, size) for price, size in _LEVEL.iter_unpack(payload[first + _GROUP.size : end])]


def with_bids(payload: bytes, bids: Sequence[Sequence[int]]) -> bytes:
    """Return a book frame with other bids."""
    first, end = _bids_span(payload)
    return payload[:first] + _group([(price, size) for price, size in bids]) + payload[end:]


def _bids_span(payload: bytes) -> tuple[int, int]:
    """Return start and end of the group of bids."""
    first = _HEADER.size + _BOOK.size
    _, count = _GROUP.unpack_from(payload, first)
    return first, first + _GROUP.size + count * _LEVEL.size
