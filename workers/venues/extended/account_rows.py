"""Rows of Extended's account stream and answers, and the events that they become.

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
from workers.venues.account_values import OrderStatus, above_zero, fill_type, order_status, priced
from workers.venues.extended.market_data import Extended
from workers.venues.fields import ns_of_ms
from workers.venues.pagination import Page, events_of, recent_page
from workers.venues.rows import InvalidRow
from workers.venues.venue import Listing, Markets

__all__ = ["Rows"]

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
#: Orders that are not in the book until their trigger makes orders of other types of them.
_WAITING: Final = frozenset({"TPSL"})
_VENUE: Final = Extended()


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    status: str
    #: Zero or null for one that closes a whole position.
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
    #: Without a sign.
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


class Rows(NamedTuple):
    """Makes events of rows, one by one; names them by the markets that are known and the account's alias."""

    markets: Markets
    account: str
    #: When a frame was sent: for rows without a time of their own.
    pushed_ms: int | None
    snapshot: bool

    def listing(self, market: str) -> Listing:
        """Return a market, also one that is not followed."""
        return self.markets.get(market) or _VENUE.offline_listing(market)

    def orders(self, rows: list[msgspec.Raw]) -> list[Order | InvalidRow]:
        """Return orders."""
        return events_of(rows, _order_rows.decode, lambda row: [_order(row, self)], "orders")

    def fills(self, rows: list[msgspec.Raw]) -> list[Fill | InvalidRow]:
        """Return fills."""
        return events_of(rows, _trade_rows.decode, lambda row: [_fill(row, self)], "trades")

    def positions(self, rows: list[msgspec.Raw]) -> list[Position | InvalidRow]:
        """Return positions; one of no size is flat."""
        return events_of(rows, _position_rows.decode, lambda row: [_position(row, self)], "positions")

    def balance(self, rows: list[msgspec.Raw]) -> list[Balance | Margin | InvalidRow]:
        """Return the balance of the collateral and the margin."""
        return events_of(rows, _balance_rows.decode, lambda row: _balance_events(row, self), "balance")

    def spot_balances(self, rows: list[msgspec.Raw]) -> list[Balance | InvalidRow]:
        """Return what is held of other assets."""
        return events_of(rows, _spot_rows.decode, lambda row: [_spot_balance(row, self)], "spotBalances")

    def recent_fills(self, rows: list[msgspec.Raw], cursor: str | None, since_ms: int) -> Page[Fill]:
        """Return a page of fills, newest first, of those that are not older than ``since_ms``."""
        return recent_page(
            rows,
            _trade_rows.decode,
            lambda row: [_fill(row, self)],
            "trades",
            cursor=cursor,
            time_of=lambda row: ms_of(row.created),
            since_ms=since_ms,
        )


def _ns(time: int | None) -> int | None:
    """Return a time in ns; it is told in ms, in some examples of the documentation in s."""
    return ns_of_ms(ms_of(time))


def _order(row: _Order, naming: Rows) -> Order:
    listing = naming.listing(row.market)
    size, filled = row.size or "0", row.filled or "0"
    # Once triggered, and filled in part, it is in the book.
    waits = row.type in _WAITING and row.status == "NEW" and is_zero(filled)
    return Order(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated),
        naming.account,
        str(row.id),
        None if row.client_id in {None, ""} else str(row.client_id),
        _SIDES[row.side],
        # A market order is sent as one at the worst price that it may have.
        None if row.type == "MARKET" else priced(row.price),
        size,
        filled,
        order_status(_STATUS, row.status, size, filled, waits=waits),
        row.status,
        row.type or "",
        bool(row.reduce_only),
        naming.snapshot,
    )


def _fill(row: _Trade, naming: Rows) -> Fill:
    listing = naming.listing(row.market)
    liquidity: Literal["maker", "taker"] | None = None
    if row.is_taker is not None:
        liquidity = "taker" if row.is_taker else "maker"
    return Fill(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.created),
        naming.account,
        str(row.id),
        None if row.order_id is None else str(row.order_id),
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee,
        listing.quote,
        liquidity,
        fill_type(_FILL_TYPES, row.type, liquidity),
        naming.snapshot,
    )


def _position(row: _Position, naming: Rows) -> Position:
    listing = naming.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated or naming.pushed_ms),
        naming.account,
        f"-{size}" if is_held and row.side == "SHORT" else size,
        priced(row.entry_price) if is_held else None,
        priced(row.mark_price),
        row.unrealised_pnl,
        above_zero(row.liquidation_price) if is_held else None,
        None,
        naming.snapshot,
    )


def _balance_events(row: _Balance, naming: Rows) -> list[Balance | Margin]:
    head = ("extended", None, None, _ns(row.updated or naming.pushed_ms), naming.account)
    margin = (row.equity, row.for_trade, row.initial_margin, None)
    return [
        Balance(*head, row.asset, row.total, row.for_withdrawal, naming.snapshot),
        Margin(*head, *margin, naming.snapshot),
    ]


def _spot_balance(row: _SpotBalance, naming: Rows) -> Balance:
    head = ("extended", None, None, _ns(row.updated or naming.pushed_ms), naming.account)
    return Balance(*head, row.asset, row.balance, row.available, naming.snapshot)
