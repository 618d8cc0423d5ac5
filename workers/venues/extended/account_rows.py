"""Rows of Extended's account stream and answers, and their events.

Source of the rules: Extended's API documentation (account updates stream, private REST API), and recorded frames where
the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import field

from ipc.decimals import is_zero
from ipc.events import Balance, Fill, Margin, Order, Position, Side
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, json_decoder, ms_of
from workers.venues.account_values import OrderStatus, above_zero, common_fields, fill_type, order_status, priced
from workers.venues.extended.rest import listing_of_name
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Listing, Markets
from workers.venues.pagination import Page, events_of, recent_page
from workers.venues.rows import InvalidRow

_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "NEW": "open",
    "PARTIALLY_FILLED": "open",
    "TRIGGERED": "open",
    "UNTRIGGERED": "untriggered",
    "FILLED": "filled",
    "CANCELLED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
}
_FILL_TYPES: Final[Mapping[str, str]] = {"TRADE": "trade", "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
#: Types of orders that stay out of the book until triggered.
_TRIGGER_TYPES: Final = frozenset({"TPSL"})


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    status: str
    #: Zero or null for an order that closes a whole position.
    size: NumberOrNone = field(name="qty", default=None)
    type: str | None = None
    client_id: int | str | None = field(name="externalId", default=None)
    price: NumberOrNone = None
    filled: NumberOrNone = field(name="filledQty", default=None)
    reduce_only: bool | None = field(name="reduceOnly", default=None)
    updated: WholeNumber | None = field(name="updatedTime", default=None)


class _Trade(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    price: Number
    size: Number = field(name="qty")
    order_id: int | str | None = field(name="orderId", default=None)
    fee: NumberOrNone = None
    is_taker: bool | None = field(name="isTaker", default=None)
    type: str = field(name="tradeType", default="TRADE")
    created: WholeNumber | None = field(name="createdTime", default=None)


class _Position(msgspec.Struct):
    market: str
    side: Literal["LONG", "SHORT"]
    #: Unsigned.
    size: Number
    status: str | None = None
    entry_price: NumberOrNone = field(name="openPrice", default=None)
    mark_price: NumberOrNone = field(name="markPrice", default=None)
    liquidation_price: NumberOrNone = field(name="liquidationPrice", default=None)
    unrealised_pnl: NumberOrNone = field(name="unrealisedPnl", default=None)
    updated: WholeNumber | None = field(name="updatedAt", default=None)


class _Balance(msgspec.Struct):
    asset: str = field(name="collateralName")
    total: Number = field(name="balance")
    equity: NumberOrNone = None
    for_trade: NumberOrNone = field(name="availableForTrade", default=None)
    for_withdrawal: NumberOrNone = field(name="availableForWithdrawal", default=None)
    initial_margin: NumberOrNone = field(name="initialMargin", default=None)
    updated: WholeNumber | None = field(name="updatedTime", default=None)


class _SpotBalance(msgspec.Struct):
    asset: str
    balance: Number
    available: NumberOrNone = field(name="availableToWithdraw", default=None)
    updated: WholeNumber | None = field(name="updatedAt", default=None)


_order_rows: Final = json_decoder(_Order)
_trade_rows: Final = json_decoder(_Trade)
_position_rows: Final = json_decoder(_Position)
_balance_rows: Final = json_decoder(_Balance)
_spot_rows: Final = json_decoder(_SpotBalance)


class ExtendedRowParser(NamedTuple):
    """Parser of rows, one by one; names events by the known markets and the account's alias."""

    markets: Markets
    account: str
    #: Time of the frame, ms, for rows without a time.
    pushed_ms: int | None
    snapshot: bool

    def listing(self, market: str) -> Listing:
        """Return the listing of a market, subscribed or not."""
        return self.markets.get(market) or listing_of_name(market)

    def orders(self, rows: list[msgspec.Raw]) -> list[Order | InvalidRow]:
        """Return orders."""
        return events_of(rows, _order_rows.decode, lambda row: [_order(row, self)], "orders")

    def fills(self, rows: list[msgspec.Raw]) -> list[Fill | InvalidRow]:
        """Return fills."""
        return events_of(rows, _trade_rows.decode, lambda row: [_fill(row, self)], "trades")

    def positions(self, rows: list[msgspec.Raw]) -> list[Position | InvalidRow]:
        """Return positions; one of size zero is flat."""
        return events_of(rows, _position_rows.decode, lambda row: [_position(row, self)], "positions")

    def balance(self, rows: list[msgspec.Raw]) -> list[Balance | Margin | InvalidRow]:
        """Return the balance of the collateral, and the margin."""
        return events_of(rows, _balance_rows.decode, lambda row: _balance_events(row, self), "balance")

    def spot_balances(self, rows: list[msgspec.Raw]) -> list[Balance | InvalidRow]:
        """Return the balances of other assets."""
        return events_of(rows, _spot_rows.decode, lambda row: [_spot_balance(row, self)], "spotBalances")

    def recent_fills(self, rows: list[msgspec.Raw], cursor: str | None, since_ms: int) -> Page[Fill]:
        """Return a page of fills, newest first, without those older than ``since_ms``."""
        return recent_page(
            rows,
            _trade_rows.decode,
            lambda row: [_fill(row, self)],
            "trades",
            cursor=cursor,
            time_of=lambda row: ms_of(row.created),
            since_ms=since_ms,
        )


def _order(row: _Order, parser: ExtendedRowParser) -> Order:
    listing = parser.listing(row.market)
    size, filled = row.size or "0", row.filled or "0"
    # A partly filled order was triggered and is in the book.
    waits = row.type in _TRIGGER_TYPES and row.status == "NEW" and is_zero(filled)
    return Order(
        **common_fields("extended", listing, ns_of_ms(ms_of(row.updated)), parser.account, snapshot=parser.snapshot),
        order_id=str(row.id),
        client_id=None if row.client_id in {None, ""} else str(row.client_id),
        side=_SIDES[row.side],
        # The price of a market order is its worst acceptable one.
        price=None if row.type == "MARKET" else priced(row.price),
        size=size,
        filled=filled,
        status=order_status(_STATUS, row.status, size, filled, waits=waits),
        venue_status=row.status,
        order_type=row.type or "",
        reduce_only=bool(row.reduce_only),
    )


def _fill(row: _Trade, parser: ExtendedRowParser) -> Fill:
    listing = parser.listing(row.market)
    liquidity: Literal["maker", "taker"] | None = None
    if row.is_taker is not None:
        liquidity = "taker" if row.is_taker else "maker"
    return Fill(
        **common_fields("extended", listing, ns_of_ms(ms_of(row.created)), parser.account, snapshot=parser.snapshot),
        fill_id=str(row.id),
        order_id=None if row.order_id is None else str(row.order_id),
        side=_SIDES[row.side],
        price=row.price,
        size=row.size,
        fee=row.fee,
        fee_asset=listing.quote,
        liquidity=liquidity,
        fill_type=fill_type(_FILL_TYPES, row.type, liquidity),
    )


def _position(row: _Position, parser: ExtendedRowParser) -> Position:
    listing = parser.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size.removeprefix("-")
    is_held = not is_zero(size)
    at_ns = ns_of_ms(ms_of(row.updated or parser.pushed_ms))
    return Position(
        **common_fields("extended", listing, at_ns, parser.account, snapshot=parser.snapshot),
        size=f"-{size}" if is_held and row.side == "SHORT" else size,
        entry_price=priced(row.entry_price) if is_held else None,
        mark_price=priced(row.mark_price),
        unrealised_pnl=row.unrealised_pnl,
        liquidation_price=above_zero(row.liquidation_price) if is_held else None,
        margin_mode=None,
    )


def _balance_events(row: _Balance, parser: ExtendedRowParser) -> list[Balance | Margin]:
    at_ns = ns_of_ms(ms_of(row.updated or parser.pushed_ms))
    return [
        Balance(
            **common_fields("extended", None, at_ns, parser.account, snapshot=parser.snapshot),
            asset=row.asset,
            total=row.total,
            available=row.for_withdrawal,
        ),
        Margin(
            **common_fields("extended", None, at_ns, parser.account, snapshot=parser.snapshot),
            equity=row.equity,
            available=row.for_trade,
            initial_margin=row.initial_margin,
            maintenance_margin=None,
        ),
    ]


def _spot_balance(row: _SpotBalance, parser: ExtendedRowParser) -> Balance:
    at_ns = ns_of_ms(ms_of(row.updated or parser.pushed_ms))
    return Balance(
        **common_fields("extended", None, at_ns, parser.account, snapshot=parser.snapshot),
        asset=row.asset,
        total=row.balance,
        available=row.available,
    )
