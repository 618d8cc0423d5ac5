"""Decoder of Paradex's private binary frames (Simple Binary Encoding, schema 1) into the data of its JSON channels.

The layout of public frames, with the rules common to both, is in :mod:`workers.venues.paradex.sbe`.

Source: Paradex, WebSocket documentation, binary encoding (templates 20 to 23).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception's name
from typing import Final, NamedTuple, TypeAlias

from ipc.errors import DecodeError
from workers.venues.paradex.sbe import HEADER, NULL, SCHEMA_ID, fixed_text, schema_error, string_at

_US_PER_MS: Final = 1000

# Fields of each block up to the last one that is read; "x" and [brackets] are skipped.
#: Status, side, type, [time in force], price, [trigger price], size, open size, average price, [created], updated,
#: [account, received, published, self-trade prevention], flags.
_ORDER: Final = Struct("<16x3Bxq8x3q8xq49xB")
#: Fill type, side, liquidity, price, size, fee, [realised profit], created, [account, underlying price, funding].
_FILL: Final = Struct("<16x3B3q8xq48x")
#: Side, size, entry price, unrealised profit, [realised profit], mark price, liquidation price, [leverage], updated,
#: [account, five values of the entry and of funding], status.
_POSITION: Final = Struct("<16xB3q8x2q8xq72xB")
#: [Collateral], free collateral, initial and maintenance margin, account value, [unrealised profit], updated,
#: [account, cushion, status].
_ACCOUNT: Final = Struct("<24x4q8xq41x")

_SIDES: Final[Mapping[int, str]] = {1: "BUY", 2: "SELL"}
_POSITION_SIDES: Final[Mapping[int, str]] = {1: "LONG", 2: "SHORT"}
_STATUS: Final[Mapping[int, str]] = {1: "NEW", 2: "UNTRIGGERED", 3: "OPEN", 4: "CLOSED"}
_ORDER_TYPES: Final[Mapping[int, str]] = {
    1: "LIMIT",
    2: "MARKET",
    3: "STOP_LIMIT",
    4: "STOP_MARKET",
    5: "TAKE_PROFIT_LIMIT",
    6: "TAKE_PROFIT_MARKET",
    7: "STOP_LOSS_LIMIT",
    8: "STOP_LOSS_MARKET",
}
_FILL_TYPES: Final[Mapping[int, str]] = {
    1: "FILL",
    2: "LIQUIDATION",
    3: "TRANSFER",
    4: "SETTLE_MARKET",
    5: "RPI",
    6: "BLOCK_TRADE",
}
_LIQUIDITY: Final[Mapping[int, str]] = {1: "MAKER", 2: "TAKER"}
_POSITION_STATUS: Final[Mapping[int, str]] = {1: "OPEN", 2: "CLOSED"}
_REDUCE_ONLY: Final = 1


class AccountMessage(NamedTuple):
    """Content of a frame: the equivalent JSON channel, and the data in its form."""

    channel: str
    data: dict[str, object]


#: Converts the fixed fields and the strings of a frame.
_Reader: TypeAlias = Callable[[tuple[int, ...], list[str]], AccountMessage]


def decode(payload: bytes | memoryview) -> AccountMessage | None:
    """Return the content of a private frame; None for templates without account data.

    Raises:
        DecodeError: The frame is shorter than it declares, of another schema, or lacks a required number.
    """
    try:
        block_bytes, template, schema, _ = HEADER.unpack_from(payload)
        if schema != SCHEMA_ID:
            raise schema_error(schema)
        known = _TEMPLATES.get(template)
        if known is None:
            return None
        layout, strings, reader = known
        if block_bytes < layout.size:
            raise DecodeError(f"an SBE block of {block_bytes} bytes instead of at least {layout.size}")
        return reader(layout.unpack_from(payload, HEADER.size), _strings(payload, HEADER.size + block_bytes, strings))
    except (StructError, UnicodeDecodeError) as error:
        raise DecodeError(f"malformed SBE frame of {len(payload)} bytes: {error}") from error


def _strings(payload: bytes | memoryview, start: int, least: int) -> list[str]:
    """Return all strings from ``start`` on; later versions append some."""
    found: list[str] = []
    while start < len(payload):
        text, start = string_at(payload, start)
        found.append(text)
    if len(found) < least:
        raise DecodeError(f"an SBE frame with {len(found)} texts instead of at least {least}")
    return found


def _optional_text(units: int) -> str | None:
    return None if units == NULL else fixed_text(units)


def _ms(time_us: int) -> int | None:
    """Return a time in ms, as in JSON and REST, so that states from all sources are comparable."""
    return time_us // _US_PER_MS if time_us > 0 else None


def _read_order(block: tuple[int, ...], texts: list[str]) -> AccountMessage:
    status, side, kind, price, size, size_open, average, updated_us, flags = block
    return AccountMessage(
        "orders",
        {
            "id": texts[0],
            "client_id": texts[1],
            "market": texts[2],
            "cancel_reason": texts[3],
            "status": _STATUS.get(status, str(status)),
            "side": _SIDES.get(side),
            "type": _ORDER_TYPES.get(kind, ""),
            "price": _optional_text(price),
            "size": _optional_text(size),
            "remaining_size": _optional_text(size_open),
            # As in JSON: empty, not absent, while nothing is filled.
            "avg_fill_price": _optional_text(average) or "",
            "last_updated_at": _ms(updated_us),
            "flags": ["REDUCE_ONLY"] if flags & _REDUCE_ONLY else [],
        },
    )


def _read_fill(block: tuple[int, ...], texts: list[str]) -> AccountMessage:
    kind, side, liquidity, price, size, fee, created_us = block
    return AccountMessage(
        "fills",
        {
            "id": texts[0],
            "order_id": texts[1],
            "client_id": texts[2],
            "market": texts[4],
            "fee_currency": texts[5] if len(texts) > 5 else None,
            "fill_type": _FILL_TYPES.get(kind, "UNKNOWN"),
            "side": _SIDES.get(side),
            "liquidity": _LIQUIDITY.get(liquidity),
            "price": _optional_text(price),
            "size": _optional_text(size),
            "fee": _optional_text(fee),
            "created_at": _ms(created_us),
        },
    )


def _read_position(block: tuple[int, ...], texts: list[str]) -> AccountMessage:
    side, size, entry, unrealised, mark, liquidation, updated_us, status = block
    return AccountMessage(
        "positions",
        {
            "market": texts[0],
            # A position of size zero has no side.
            "side": _POSITION_SIDES.get(side),
            "size": _optional_text(size),
            "average_entry_price": _optional_text(entry),
            "unrealized_pnl": _optional_text(unrealised),
            "mark_price": _optional_text(mark),
            "liquidation_price": _optional_text(liquidation),
            "last_updated_at": _ms(updated_us),
            "status": _POSITION_STATUS.get(status),
        },
    )


def _read_account(block: tuple[int, ...], texts: list[str]) -> AccountMessage:  # noqa: ARG001
    free, initial, maintenance, value, updated_us = block
    return AccountMessage(
        "account",
        {
            "account_value": _optional_text(value),
            "free_collateral": _optional_text(free),
            "initial_margin_requirement": _optional_text(initial),
            "maintenance_margin_requirement": _optional_text(maintenance),
            "updated_at": _ms(updated_us),
        },
    )


#: By template: block, number of strings in the first version, converter.
_TEMPLATES: Final[Mapping[int, tuple[Struct, int, _Reader]]] = {
    20: (_ORDER, 4, _read_order),
    21: (_FILL, 5, _read_fill),
    22: (_POSITION, 2, _read_position),
    23: (_ACCOUNT, 1, _read_account),
}
