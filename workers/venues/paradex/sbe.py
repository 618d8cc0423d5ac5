"""Decoder of Paradex's binary market data (Simple Binary Encoding, schema 1): bytes in, plain records out.

It handles layout and scale, not markets or events. Frames are little-endian: a header, a fixed block, groups, strings.
Later versions of the schema append fields to blocks and group entries, so both are skipped by the length in the frame,
not by the known one.

Source: Paradex, WebSocket documentation, binary encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception's name
from typing import Final, TypeAlias

import msgspec

from ipc.errors import DecodeError
from ipc.events import Level

SCHEMA_ID: Final = 1
#: Versions of the schema to request: that with the ids of trades, and the one for a server that refuses the first with
#: status 400. A server may also answer in a lower version than the requested one.
VERSIONS: Final = (2, 1)
#: Units per one of prices, sizes and rates, which are integers.
_SCALE: Final = 100_000_000
#: Null value of prices, sizes and rates.
NULL: Final = -(2**63)
_NULL_HOURS: Final = -(2**15)
#: Value of a number that exceeds its field, such as the open interest of kPEPE.
_SATURATED: Final = 2**63 - 1
#: First version in which a trade ends with its full id.
_TRADE_ID_VERSION: Final = 2

HEADER: Final = Struct("<4H")  # block length, template, schema, version
_GROUP: Final = Struct("<2H")  # length of an entry, number of entries
_ENTRY: Final = Struct("<2q")  # price, size
# First fields of each block, up to the last one that is read, and the minimum size of a block.
_TRADE: Final = Struct("<3qB3qB")
_BBO: Final = Struct("<6q")
_BOOK: Final = Struct("<2qB")
_BOOK_BYTES: Final = 89
_SUMMARY: Final = Struct("<7q")
_SUMMARY_BYTES: Final = 216
_FUNDING: Final = Struct("<7qh")


class SbeTrade(msgspec.Struct, gc=False):
    """Template 1. ``side``: 1 buy, 2 sell; ``trade_type``: see the documentation's enumeration."""

    market: str
    ts_us: int
    created_us: int
    seq: int
    side: int
    price: str
    size: str
    trade_type: int
    #: Empty before version 2, and where the venue omits it.
    trade_id: str


class SbeBbo(msgspec.Struct, gc=False):
    """Template 2; None for an empty side."""

    market: str
    ts_us: int
    bid_price: str | None
    bid_size: str | None
    ask_price: str | None
    ask_size: str | None


class SbeBook(msgspec.Struct, gc=False):
    """Template 3. ``package``: 0 whole book, 1 changes."""

    market: str
    ts_us: int
    seq: int
    package: int
    bids: list[Level]
    asks: list[Level]


class MarketSummary(msgspec.Struct, gc=False):
    """Template 4, without the fields that derive from others."""

    market: str
    ts_us: int
    mark_price: str | None
    index_price: str | None
    open_interest: str | None


class FundingData(msgspec.Struct, gc=False):
    """Template 5. ``period_hours`` is 0 where the venue gives none."""

    market: str
    ts_us: int
    created_us: int
    rate: str | None
    period_hours: int


class InvalidBookError(DecodeError):
    """Level of a book without a price or a size; ``market`` is the book's."""

    def __init__(self, market: str, what: str) -> None:
        super().__init__(what)
        self.market = market


Message: TypeAlias = SbeTrade | SbeBbo | SbeBook | MarketSummary | FundingData


def decode(payload: bytes | memoryview) -> Message | None:
    """Return the message in a frame; None for templates without public market data.

    Raises:
        InvalidBookError: A level of a book cannot be read.
        DecodeError: The frame is shorter than it declares, or of another schema.
    """
    try:
        block_bytes, template, schema, version = HEADER.unpack_from(payload)
        if schema != SCHEMA_ID:
            raise schema_error(schema)
        reader = _READERS.get(template)
        return reader(payload, HEADER.size + block_bytes, version) if reader else None
    except (StructError, UnicodeDecodeError) as error:
        raise DecodeError(f"malformed SBE frame of {len(payload)} bytes: {error}") from error


def urls(ws_url: str, encoding: str | None) -> tuple[str, str | None]:
    """Return the URLs that request binary frames, in the order of :data:`VERSIONS`; only a plain one for JSON."""
    if encoding == "json":
        return ws_url, None
    first, second = (f"{ws_url}?sbeSchemaId={SCHEMA_ID}&sbeSchemaVersion={version}" for version in VERSIONS)
    return first, second


def schema_error(schema: int) -> DecodeError:
    """Return the error for a frame of another schema."""
    return DecodeError(f"a frame of SBE schema {schema} instead of {SCHEMA_ID}")


@lru_cache(maxsize=16_384)
def fixed_text(units: int) -> str:
    """Return an integer of 1e-8 units as the shortest plain decimal; cached, because prices and sizes repeat.

    Raises:
        DecodeError: The value is null, where a number is required.
    """
    if units == NULL:
        raise DecodeError("an SBE level without a price or a size")
    whole, fraction = divmod(abs(units), _SCALE)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{fraction:08d}".rstrip("0").rstrip(".")


def _optional_text(units: int) -> str | None:
    return None if units in {NULL, _SATURATED} else fixed_text(units)


def _read_trade(payload: bytes | memoryview, end: int, version: int) -> SbeTrade:
    ts_us, seq, _, side, price, size, created_us, trade_type = _block(_TRADE, _TRADE.size, payload, end)
    market, end = string_at(payload, end)
    trade_id = ""
    if version >= _TRADE_ID_VERSION and end < len(payload):
        trade_id, _ = string_at(payload, end)
    return SbeTrade(market, ts_us, created_us, seq, side, fixed_text(price), fixed_text(size), trade_type, trade_id)


def _read_bbo(payload: bytes | memoryview, end: int, version: int) -> SbeBbo:  # noqa: ARG001
    ts_us, _, bid_price, bid_size, ask_price, ask_size = _block(_BBO, _BBO.size, payload, end)
    market, _ = string_at(payload, end)
    return SbeBbo(
        market,
        ts_us,
        _optional_text(bid_price),
        _optional_text(bid_size),
        _optional_text(ask_price),
        _optional_text(ask_size),
    )


def _read_book(payload: bytes | memoryview, end: int, version: int) -> SbeBook:  # noqa: ARG001
    ts_us, seq, package = _block(_BOOK, _BOOK_BYTES, payload, end)
    try:
        bids, asks_at = _levels(payload, end)
        asks, market_at = _levels(payload, asks_at)
    except DecodeError as error:
        raise _with_market(error, payload, end) from error
    market, _ = string_at(payload, market_at)
    return SbeBook(market, ts_us, seq, package, bids, asks)


def _with_market(error: DecodeError, payload: bytes | memoryview, groups_at: int) -> DecodeError:
    """Return the error with the market, which follows the levels, where the frame is long enough."""
    try:
        market, _ = string_at(payload, _group_end(payload, _group_end(payload, groups_at)))
    except (DecodeError, StructError):
        return error
    return InvalidBookError(market, error.what)


def _read_summary(payload: bytes | memoryview, end: int, version: int) -> MarketSummary:  # noqa: ARG001
    ts_us, _, mark, index, _, _, open_interest = _block(_SUMMARY, _SUMMARY_BYTES, payload, end)
    market, _ = string_at(payload, end)
    return MarketSummary(market, ts_us, _optional_text(mark), _optional_text(index), _optional_text(open_interest))


def _read_funding(payload: bytes | memoryview, end: int, version: int) -> FundingData:  # noqa: ARG001
    ts_us, _, rate, _, created_us, _, _, period_hours = _block(_FUNDING, _FUNDING.size, payload, end)
    market, _ = string_at(payload, end)
    return FundingData(
        market, ts_us, created_us, _optional_text(rate), 0 if period_hours == _NULL_HOURS else period_hours
    )


_READERS: Final[dict[int, Callable[[bytes | memoryview, int, int], Message]]] = {
    1: _read_trade,
    2: _read_bbo,
    3: _read_book,
    4: _read_summary,
    5: _read_funding,
}


def _block(layout: Struct, least_bytes: int, payload: bytes | memoryview, end: int) -> tuple[int, ...]:
    """Return the first fields of the block that ends at ``end``."""
    if end - HEADER.size < least_bytes:
        raise DecodeError(f"an SBE block of {end - HEADER.size} bytes instead of at least {least_bytes}")
    return layout.unpack_from(payload, HEADER.size)


def _levels(payload: bytes | memoryview, start: int) -> tuple[list[Level], int]:
    """Return the levels of the group at ``start``, and the offset of its end."""
    entry_bytes, count = _GROUP.unpack_from(payload, start)
    first = start + _GROUP.size
    if not count:  # as in most frames
        return [], first
    end = first + entry_bytes * count
    if entry_bytes < _ENTRY.size:
        raise DecodeError(f"an SBE level of {entry_bytes} bytes instead of at least {_ENTRY.size}")
    if end > len(payload):
        raise DecodeError(f"an SBE frame of {len(payload)} bytes that declares at least {end}")
    if entry_bytes == _ENTRY.size:
        entries = _ENTRY.iter_unpack(payload[first:end])
    else:
        entries = (_ENTRY.unpack_from(payload, offset) for offset in range(first, end, entry_bytes))
    return [(fixed_text(price), fixed_text(size)) for price, size in entries], end


def _group_end(payload: bytes | memoryview, start: int) -> int:
    """Return the offset of the end of the group at ``start``, whatever its content."""
    entry_bytes, count = _GROUP.unpack_from(payload, start)
    return int(start + _GROUP.size + entry_bytes * count)


def string_at(payload: bytes | memoryview, start: int) -> tuple[str, int]:
    """Return the string at ``start``, and the offset of its end."""
    if start >= len(payload):
        raise DecodeError(f"an SBE frame that ends after {len(payload)} bytes, before its text")
    first = start + 1
    end = first + payload[start]
    if end > len(payload):
        raise DecodeError(f"an SBE frame of {len(payload)} bytes that declares at least {end}")
    return str(payload[first:end], "utf-8"), end
