"""Rows of Lighter's account channels and answers, and their events.

Source of the rules: Lighter's API documentation (account data, data structures), and recorded frames where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from ipc.decimals import difference, is_zero, number, plain
from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position, Side
from ipc.topics import base_of
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, json_decoder, ms_of
from workers.venues.account_values import (
    MarginMode,
    OrderStatus,
    above_zero,
    common_fields,
    fill_type,
    order_status,
    priced,
)
from workers.venues.fields import ns_of_ms, ns_of_us
from workers.venues.lighter.rest import market_listing
from workers.venues.listing import Listing, Markets, split_multiplier
from workers.venues.pagination import Page, events_of, recent_page
from workers.venues.rows import InvalidRow

#: Unit of fee rates, as a share of the traded value.
_FEE_UNIT: Final = Decimal("1e-6")
_FEE_ASSET: Final = "USDC"
#: Lowest id of a spot market.
_FIRST_SPOT: Final = 2048
_MARKET_ORDERS: Final = frozenset({"market", "stop-loss", "take-profit"})
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "in-progress": "open",
    "open": "open",
    "pending": "untriggered",
    "filled": "filled",
    "canceled": "canceled",
    "canceled-expired": "expired",
    "canceled-margin-not-allowed": "rejected",
    "canceled-position-not-allowed": "rejected",
    "canceled-invalid-balance": "rejected",
}
#: Trigger statuses of orders that are not in the book.
_TRIGGERS: Final = frozenset({"mark-price", "parent-order", "twap"})
_FILL_TYPES: Final[Mapping[str, str]] = {"deleverage": "adl", "market-settlement": "settlement"}
_MARGIN_MODES: Final[Mapping[int, MarginMode]] = {0: "cross", 1: "isolated"}


class _Order(msgspec.Struct):
    order_index: WholeNumber
    market_index: WholeNumber
    initial_base_amount: Number
    filled_base_amount: Number
    price: Number
    is_ask: bool
    status: str
    type: str = ""
    order_id: int | str | None = None
    client_order_id: int | str | None = None
    owner_account_index: WholeNumber | None = None
    reduce_only: bool | None = None
    #: Condition that a trigger order waits for.
    trigger_status: str | None = None
    timestamp: WholeNumber | None = None
    updated_at: WholeNumber | None = None
    market_symbol: str | None = None


class _Trade(msgspec.Struct):
    trade_id: WholeNumber
    market_id: WholeNumber
    size: Number
    price: Number
    ask_id: WholeNumber
    bid_id: WholeNumber
    ask_account_id: WholeNumber
    bid_account_id: WholeNumber
    is_maker_ask: bool
    type: str = "trade"
    #: Absent when zero.
    taker_fee: WholeNumber | None = None
    maker_fee: WholeNumber | None = None
    timestamp: WholeNumber | None = None
    transaction_time: WholeNumber | None = None
    market_symbol: str | None = None


class _Position(msgspec.Struct):
    market_id: WholeNumber
    #: 1 or -1; the amount is unsigned.
    sign: WholeNumber
    position: Number
    symbol: str | None = None
    avg_entry_price: NumberOrNone = None
    unrealized_pnl: NumberOrNone = None
    liquidation_price: NumberOrNone = None
    margin_mode: WholeNumber | None = None


class _Asset(msgspec.Struct):
    symbol: str
    #: Spot balance, without :attr:`margin_balance`.
    balance: Number
    locked_balance: NumberOrNone = None
    #: Collateral of the perpetual side.
    margin_balance: NumberOrNone = None


class _Stats(msgspec.Struct):
    portfolio_value: NumberOrNone = None
    available_balance: NumberOrNone = None


class _Summary(msgspec.Struct):
    """Margin of an account in REST answers."""

    available_balance: NumberOrNone = None
    total_asset_value: NumberOrNone = None
    cross_initial_margin_requirement: NumberOrNone = None
    cross_maintenance_margin_requirement: NumberOrNone = None


_order_rows: Final = json_decoder(_Order)
_trade_rows: Final = json_decoder(_Trade)
_position_rows: Final = json_decoder(_Position)
_asset_rows: Final = json_decoder(_Asset)
_stats_rows: Final = json_decoder(_Stats)
_summary_rows: Final = json_decoder(_Summary)


class LighterContext(NamedTuple):
    """Context of an account's rows: the known markets, and the account's alias and index."""

    markets: Markets
    account: str
    #: Index of the account.
    owner: int
    snapshot: bool

    def listing(self, market_id: int, symbol: str | None) -> Listing:
        """Return a market by its id, named by the row's symbol where it has no name."""
        wire = str(market_id)
        known = self.markets.get(wire) or market_listing(None, wire, wire)
        if known.base is not None or not symbol:
            return known
        base, multiplier = split_multiplier(symbol)
        return Listing(base_of(base), wire, symbol, market_id=wire, multiplier=multiplier, quote=known.quote)


def orders(rows: list[msgspec.Raw], context: LighterContext, what: str) -> list[Order | InvalidRow]:
    """Return the account's orders."""
    return events_of(rows, _order_rows.decode, lambda row: [_order(row, context)], what)


def fills(rows: list[msgspec.Raw], context: LighterContext, what: str) -> list[Fill | InvalidRow]:
    """Return the account's sides of trades."""
    return events_of(rows, _trade_rows.decode, lambda row: _fills(row, context), what)


def recent_fills(rows: list[msgspec.Raw], context: LighterContext, cursor: str | None, since_ms: int) -> Page[Fill]:
    """Return a page of fills, newest first, without those older than ``since_ms``."""
    return recent_page(
        rows,
        _trade_rows.decode,
        lambda row: _fills(row, context),
        "trades",
        cursor=cursor,
        time_of=lambda row: ms_of(row.timestamp),
        since_ms=since_ms,
    )


def positions(
    rows: list[msgspec.Raw], at_ns: int | None, context: LighterContext, what: str
) -> list[Position | InvalidRow]:
    """Return the account's positions; those of size zero are flat."""
    return events_of(rows, _position_rows.decode, lambda row: [_position(row, at_ns, context)], what)


def balances(
    rows: list[msgspec.Raw], at_ns: int | None, context: LighterContext, what: str
) -> list[Balance | InvalidRow]:
    """Return the account's balances."""
    return events_of(rows, _asset_rows.decode, lambda row: [_balance(row, at_ns, context)], what)


def stats(row: msgspec.Raw, at_ns: int | None, context: LighterContext) -> list[Margin | InvalidRow]:
    """Return the margin in a frame of ``user_stats``."""
    return events_of([row], _stats_rows.decode, lambda row: [_stats(row, at_ns, context)], "user_stats")


def margin(row: msgspec.Raw, context: LighterContext) -> list[Margin | InvalidRow]:
    """Return the margin in an answer to ``account``."""
    return events_of([row], _summary_rows.decode, lambda row: [_margin(row, context)], "account")


def _status(row: _Order) -> OrderStatus:
    """Return an order's status; a word after ``canceled-`` gives the cause and may be unknown."""
    word = row.status if row.status in _STATUS else row.status.partition("-")[0]
    waits = row.trigger_status in _TRIGGERS
    return order_status(_STATUS, word, row.initial_base_amount, row.filled_base_amount, waits=waits)


def _order(row: _Order, context: LighterContext) -> Order:
    if row.owner_account_index not in {None, context.owner}:
        raise DecodeError("an order of another account")
    listing = context.listing(row.market_index, row.market_symbol)
    client_id = str(row.client_order_id or 0)
    at_ns = ns_of_ms(ms_of(row.updated_at or row.timestamp))
    return Order(
        **common_fields("lighter", listing, at_ns, context.account, snapshot=context.snapshot),
        order_id=str(row.order_id or row.order_index),
        client_id=None if client_id == "0" else client_id,
        side="sell" if row.is_ask else "buy",
        # The price of a market order is its worst acceptable one.
        price=None if row.type in _MARKET_ORDERS else priced(row.price),
        size=row.initial_base_amount,
        filled=row.filled_base_amount,
        status=_status(row),
        venue_status=row.status,
        order_type=row.type,
        reduce_only=bool(row.reduce_only),
    )


def _fills(row: _Trade, context: LighterContext) -> list[Fill]:
    """Return the account's sides of a trade: one, or both for a trade with itself.

    Raises:
        DecodeError: The trade is between other accounts.
    """
    asks = [
        is_ask for is_ask, owner in ((True, row.ask_account_id), (False, row.bid_account_id)) if owner == context.owner
    ]
    if not asks:
        raise DecodeError("a trade of other accounts")
    return [_fill(row, context, is_ask=is_ask) for is_ask in asks]


def _fill(row: _Trade, context: LighterContext, *, is_ask: bool) -> Fill:
    liquidity: Literal["maker", "taker"] = "maker" if is_ask == row.is_maker_ask else "taker"
    side: Side = "sell" if is_ask else "buy"
    listing = context.listing(row.market_id, row.market_symbol)
    at_ns = ns_of_us(row.transaction_time) or ns_of_ms(ms_of(row.timestamp))
    return Fill(
        **common_fields("lighter", listing, at_ns, context.account, snapshot=context.snapshot),
        fill_id=str(row.trade_id),
        order_id=str(row.ask_id if is_ask else row.bid_id),
        side=side,
        price=row.price,
        size=row.size,
        fee=_fee(row, (row.maker_fee if liquidity == "maker" else row.taker_fee) or 0),
        # The fee asset of spot markets is undocumented.
        fee_asset=_FEE_ASSET if row.market_id < _FIRST_SPOT else None,
        liquidity=liquidity,
        fill_type=fill_type(_FILL_TYPES, row.type, liquidity),
    )


def _fee(row: _Trade, rate: int) -> str:
    """Return the fee, computed from its rate: the amount in the row is rounded."""
    return plain(number(row.price) * number(row.size) * rate * _FEE_UNIT)


def _position(row: _Position, at_ns: int | None, context: LighterContext) -> Position:
    listing = context.listing(row.market_id, row.symbol)
    size = row.position.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        **common_fields("lighter", listing, at_ns, context.account, snapshot=context.snapshot),
        size=f"-{size}" if is_held and row.sign < 0 else size,
        entry_price=priced(row.avg_entry_price) if is_held else None,
        mark_price=None,
        unrealised_pnl=row.unrealized_pnl,
        liquidation_price=above_zero(row.liquidation_price) if is_held else None,
        margin_mode=None if row.margin_mode is None else _MARGIN_MODES.get(row.margin_mode),
    )


def _balance(row: _Asset, at_ns: int | None, context: LighterContext) -> Balance:
    """Return the balance of an asset: spot balance plus collateral."""
    collateral = row.margin_balance or "0"
    total = row.balance if is_zero(collateral) else plain(number(row.balance) + number(collateral))
    available = difference(total, row.locked_balance or "0")
    return Balance(
        **common_fields("lighter", None, at_ns, context.account, snapshot=context.snapshot),
        asset=row.symbol,
        total=total,
        available=available,
    )


def _stats(row: _Stats, at_ns: int | None, context: LighterContext) -> Margin:
    return Margin(
        **common_fields("lighter", None, at_ns, context.account, snapshot=context.snapshot),
        equity=row.portfolio_value,
        available=row.available_balance,
        initial_margin=None,
        maintenance_margin=None,
    )


def _margin(row: _Summary, context: LighterContext) -> Margin:
    return Margin(
        **common_fields("lighter", None, None, context.account, snapshot=context.snapshot),
        equity=row.total_asset_value,
        available=row.available_balance,
        initial_margin=row.cross_initial_margin_requirement,
        maintenance_margin=row.cross_maintenance_margin_requirement,
    )
