"""Rows of Lighter's account channels and answers, and the events that they become.

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
from workers.venues.account_values import MarginMode, OrderStatus, above_zero, fill_type, order_status, priced
from workers.venues.fields import ns_of_ms, ns_of_us
from workers.venues.lighter.market_data import Lighter
from workers.venues.pagination import Page, events_of, recent_page
from workers.venues.rows import InvalidRow
from workers.venues.venue import Listing, Markets, split_multiplier

__all__ = ["LighterNames", "balances", "fills", "margin", "orders", "positions", "recent_fills", "stats"]

#: Fees are given in units of this share of what was paid.
_FEE_UNIT: Final = Decimal("1e-6")
_FEE_ASSET: Final = "USDC"
#: Spot markets are numbered from here on.
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
#: What an order can wait for: it is not in the book then.
_WAITING: Final = frozenset({"mark-price", "parent-order", "twap"})
_FILL_TYPES: Final[Mapping[str, str]] = {"deleverage": "adl", "market-settlement": "settlement"}
_MARGIN_MODES: Final[Mapping[int, MarginMode]] = {0: "cross", 1: "isolated"}
_VENUE: Final = Lighter()


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
    #: What a trigger order waits for.
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
    #: Left out when zero.
    taker_fee: WholeNumber | None = None
    maker_fee: WholeNumber | None = None
    timestamp: WholeNumber | None = None
    transaction_time: WholeNumber | None = None
    market_symbol: str | None = None


class _Position(msgspec.Struct):
    market_id: WholeNumber
    #: 1 or -1; the amount has none.
    sign: WholeNumber
    position: Number
    symbol: str | None = None
    avg_entry_price: NumberOrNone = None
    unrealized_pnl: NumberOrNone = None
    liquidation_price: NumberOrNone = None
    margin_mode: WholeNumber | None = None


class _Asset(msgspec.Struct):
    symbol: str
    #: What the spot side holds; :attr:`margin_balance` is apart from it.
    balance: Number
    locked_balance: NumberOrNone = None
    #: The collateral of the perpetual side.
    margin_balance: NumberOrNone = None


class _Stats(msgspec.Struct):
    portfolio_value: NumberOrNone = None
    available_balance: NumberOrNone = None


class _Summary(msgspec.Struct):
    """What REST says of the account's margin."""

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


class LighterNames(NamedTuple):
    """What events are named by: the markets that are known, and the account's alias."""

    markets: Markets
    account: str
    #: The venue's number of the account.
    owner: int
    snapshot: bool

    def listing(self, market_id: int, symbol: str | None) -> Listing:
        """Return a market by its id, named by the venue's own text where nothing else names it."""
        wire = str(market_id)
        known = self.markets.get(wire) or _VENUE.offline_listing(wire)
        if known.base is not None or not symbol:
            return known
        base, multiplier = split_multiplier(symbol)
        return Listing(base_of(base), wire, symbol, market_id=wire, multiplier=multiplier, quote=known.quote)


def orders(rows: list[msgspec.Raw], naming: LighterNames, what: str) -> list[Order | InvalidRow]:
    """Return the account's orders."""
    return events_of(rows, _order_rows.decode, lambda row: [_order(row, naming)], what)


def fills(rows: list[msgspec.Raw], naming: LighterNames, what: str) -> list[Fill | InvalidRow]:
    """Return the account's sides of trades."""
    return events_of(rows, _trade_rows.decode, lambda row: _fills(row, naming), what)


def recent_fills(rows: list[msgspec.Raw], naming: LighterNames, cursor: str | None, since_ms: int) -> Page[Fill]:
    """Return a page of fills, newest first, of those that are not older than ``since_ms``."""
    return recent_page(
        rows,
        _trade_rows.decode,
        lambda row: _fills(row, naming),
        "trades",
        cursor=cursor,
        time_of=lambda row: ms_of(row.timestamp),
        since_ms=since_ms,
    )


def positions(
    rows: list[msgspec.Raw], at_ns: int | None, naming: LighterNames, what: str
) -> list[Position | InvalidRow]:
    """Return the account's positions; those of no size are flat."""
    return events_of(rows, _position_rows.decode, lambda row: [_position(row, at_ns, naming)], what)


def balances(rows: list[msgspec.Raw], at_ns: int | None, naming: LighterNames, what: str) -> list[Balance | InvalidRow]:
    """Return what is held of assets."""
    return events_of(rows, _asset_rows.decode, lambda row: [_balance(row, at_ns, naming)], what)


def stats(row: msgspec.Raw, at_ns: int | None, naming: LighterNames) -> list[Margin | InvalidRow]:
    """Return the margin as the stream describes it."""
    return events_of([row], _stats_rows.decode, lambda row: [_stats(row, at_ns, naming)], "user_stats")


def margin(row: msgspec.Raw, naming: LighterNames) -> list[Margin | InvalidRow]:
    """Return the margin as REST describes it."""
    return events_of([row], _summary_rows.decode, lambda row: [_margin(row, naming)], "account")


def _ns(time: int | None) -> int | None:
    """Return a time in ns; it is told in ms, in older answers of REST in s."""
    return ns_of_ms(ms_of(time))


def _status(row: _Order) -> OrderStatus:
    """Return an order's status: an order is canceled for whatever reason comes after that word."""
    word = row.status if row.status in _STATUS else row.status.partition("-")[0]
    waits = row.trigger_status in _WAITING
    return order_status(_STATUS, word, row.initial_base_amount, row.filled_base_amount, waits=waits)


def _order(row: _Order, naming: LighterNames) -> Order:
    if row.owner_account_index not in {None, naming.owner}:
        raise DecodeError("an order of another account")
    listing = naming.listing(row.market_index, row.market_symbol)
    client_id = str(row.client_order_id or 0)
    return Order(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated_at or row.timestamp),
        naming.account,
        str(row.order_id or row.order_index),
        None if client_id == "0" else client_id,
        "sell" if row.is_ask else "buy",
        # What a market order has is the worst price that it may have.
        None if row.type in _MARKET_ORDERS else priced(row.price),
        row.initial_base_amount,
        row.filled_base_amount,
        _status(row),
        row.status,
        row.type,
        bool(row.reduce_only),
        naming.snapshot,
    )


def _fills(row: _Trade, naming: LighterNames) -> list[Fill]:
    """Return the account's sides of a trade: one, or both where it traded with itself.

    Raises:
        DecodeError: It is a trade of other accounts.
    """
    asks = [
        is_ask for is_ask, owner in ((True, row.ask_account_id), (False, row.bid_account_id)) if owner == naming.owner
    ]
    if not asks:
        raise DecodeError("a trade of other accounts")
    return [_fill(row, naming, is_ask=is_ask) for is_ask in asks]


def _fill(row: _Trade, naming: LighterNames, *, is_ask: bool) -> Fill:
    liquidity: Literal["maker", "taker"] = "maker" if is_ask == row.is_maker_ask else "taker"
    side: Side = "sell" if is_ask else "buy"
    listing = naming.listing(row.market_id, row.market_symbol)
    return Fill(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        ns_of_us(row.transaction_time) or _ns(row.timestamp),
        naming.account,
        str(row.trade_id),
        str(row.ask_id if is_ask else row.bid_id),
        side,
        row.price,
        row.size,
        _fee(row, (row.maker_fee if liquidity == "maker" else row.taker_fee) or 0),
        # Which asset a fee on a spot market is paid in is not documented.
        _FEE_ASSET if row.market_id < _FIRST_SPOT else None,
        liquidity,
        fill_type(_FILL_TYPES, row.type, liquidity),
        naming.snapshot,
    )


def _fee(row: _Trade, rate: int) -> str:
    """Return what a trade cost; the amount that is told with it is rounded, so it does not do for this."""
    return plain(number(row.price) * number(row.size) * rate * _FEE_UNIT)


def _position(row: _Position, at_ns: int | None, naming: LighterNames) -> Position:
    listing = naming.listing(row.market_id, row.symbol)
    size = row.position.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        at_ns,
        naming.account,
        f"-{size}" if is_held and row.sign < 0 else size,
        priced(row.avg_entry_price) if is_held else None,
        None,
        row.unrealized_pnl,
        above_zero(row.liquidation_price) if is_held else None,
        None if row.margin_mode is None else _MARGIN_MODES.get(row.margin_mode),
        naming.snapshot,
    )


def _balance(row: _Asset, at_ns: int | None, naming: LighterNames) -> Balance:
    """Return what is held of an asset: on the spot side and, apart from that, as collateral."""
    collateral = row.margin_balance or "0"
    total = row.balance if is_zero(collateral) else plain(number(row.balance) + number(collateral))
    available = difference(total, row.locked_balance or "0")
    return Balance("lighter", None, None, at_ns, naming.account, row.symbol, total, available, naming.snapshot)


def _stats(row: _Stats, at_ns: int | None, naming: LighterNames) -> Margin:
    margin = (row.portfolio_value, row.available_balance, None, None)
    return Margin("lighter", None, None, at_ns, naming.account, *margin, naming.snapshot)


def _margin(row: _Summary, naming: LighterNames) -> Margin:
    return Margin(
        "lighter",
        None,
        None,
        None,
        naming.account,
        row.total_asset_value,
        row.available_balance,
        row.cross_initial_margin_requirement,
        row.cross_maintenance_margin_requirement,
        naming.snapshot,
    )
