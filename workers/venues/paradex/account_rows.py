"""Rows of Paradex's account channels and answers, from text or binary frames, and their events.

Source of the rules: Paradex's API documentation (private channels, private REST API), and recorded frames where they
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from ipc.decimals import difference, is_zero
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position, Side
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, converted, json_decoder
from workers.venues.account_values import OrderStatus, above_zero, common_fields, fill_type, order_status, priced
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Listing, Markets
from workers.venues.pagination import events_of
from workers.venues.paradex.rest import market_listing
from workers.venues.rows import InvalidRow

Row = TypeVar("Row")
Event = TypeVar("Event", bound=AccountEvent)

_SETTLEMENT_ASSET: Final = "USDC"
_STATUS: Final[Mapping[str, OrderStatus]] = {"NEW": "open", "OPEN": "open", "UNTRIGGERED": "untriggered"}
#: Prefixes of types of trigger orders.
_TRIGGER_TYPES: Final = ("STOP", "TAKE_PROFIT")
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_LIQUIDITY: Final[Mapping[str | None, Literal["maker", "taker"]]] = {"MAKER": "maker", "TAKER": "taker"}
_FILL_TYPES: Final[Mapping[str, str]] = {"FILL": "trade", "SETTLE_MARKET": "settlement"}
#: Cancel reasons that are rejections.
_REJECTIONS: Final = frozenset({"NOT_ENOUGH_MARGIN", "POST_ONLY_WOULD_CROSS"})


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    size: Number
    remaining_size: Number
    status: str
    type: str | None = None
    price: NumberOrNone = None
    #: Average price of fills; empty when there are none.
    average: Number | None = msgspec.field(name="avg_fill_price", default=None)
    client_id: int | str | None = None
    #: Empty while the order is open, and when it was filled.
    cancel_reason: str | None = None
    flags: list[str] | None = None
    last_updated_at: WholeNumber | None = None


class _Fill(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    price: Number
    size: Number
    order_id: int | str | None = None
    fee: NumberOrNone = None
    fee_currency: str | None = None
    liquidity: str | None = None
    fill_type: str = "FILL"
    created_at: WholeNumber | None = None


class _Position(msgspec.Struct):
    market: str
    #: Signed in text, unsigned in binary frames.
    size: Number
    side: str | None = None
    status: str | None = None
    average_entry_price: NumberOrNone = None
    mark_price: NumberOrNone = None
    unrealized_pnl: NumberOrNone = None
    liquidation_price: NumberOrNone = None
    last_updated_at: WholeNumber | None = None


class _Account(msgspec.Struct):
    account_value: NumberOrNone = None
    free_collateral: NumberOrNone = None
    initial_margin_requirement: NumberOrNone = None
    maintenance_margin_requirement: NumberOrNone = None
    updated_at: WholeNumber | None = None


class _BalanceEvent(msgspec.Struct):
    """Effect of a fill or a payment on the settlement asset."""

    settlement_asset_balance_after: NumberOrNone = None
    created_at: WholeNumber | None = None


class _Balance(msgspec.Struct):
    token: str
    size: Number
    last_updated_at: WholeNumber | None = None


class ParadexContext(NamedTuple):
    """Context of an account's rows: the known markets and the account's alias."""

    markets: Markets
    account: str
    snapshot: bool

    def listing(self, market: str) -> Listing:
        """Return the listing of a market, subscribed or not."""
        return self.markets.get(market) or market_listing(market)


def _status(row: _Order, filled: str) -> OrderStatus:
    # A trigger order is NEW until accepted, yet it waits for its trigger already.
    waits = row.status == "NEW" and (row.type or "").startswith(_TRIGGER_TYPES)
    return order_status({**_STATUS, "CLOSED": _closed_status(row, filled)}, row.status, row.size, filled, waits=waits)


def _closed_status(row: _Order, filled: str) -> OrderStatus:
    """Return the final status of a closed order; the venue gives a reason only when it was not filled."""
    reason = row.cancel_reason or ""
    if not reason:
        return "filled" if is_zero(row.remaining_size) else "closed"
    if "EXPIRED" in reason:
        return "expired"
    return "rejected" if reason in _REJECTIONS and is_zero(filled) else "canceled"


def _filled(row: _Order) -> str:
    """Return the filled size: the size less what remains, except for orders with no remainder and no fill.

    Those are orders that are not accepted yet, and canceled ones without an average price.
    """
    is_unfilled = bool(row.cancel_reason) and row.average is not None and not priced(row.average)
    if is_unfilled or row.status in {"NEW", "UNTRIGGERED"}:
        return "0"
    return difference(row.size, row.remaining_size)


def _order(row: _Order, context: ParadexContext) -> Order:
    listing = context.listing(row.market)
    filled = _filled(row)
    is_priced = not (row.type or "").endswith("MARKET")
    return Order(
        **common_fields("paradex", listing, ns_of_ms(row.last_updated_at), context.account, snapshot=context.snapshot),
        order_id=str(row.id),
        client_id=None if row.client_id in {None, ""} else str(row.client_id),
        side=_SIDES[row.side],
        price=priced(row.price) if is_priced else None,
        size=row.size,
        filled=filled,
        status=_status(row, filled),
        venue_status=f"{row.status} {row.cancel_reason}" if row.cancel_reason else row.status,
        order_type=row.type or "",
        reduce_only="REDUCE_ONLY" in (row.flags or ()),
    )


def _fill(row: _Fill, context: ParadexContext) -> Fill:
    listing, liquidity = context.listing(row.market), _LIQUIDITY.get(row.liquidity)
    return Fill(
        **common_fields("paradex", listing, ns_of_ms(row.created_at), context.account, snapshot=context.snapshot),
        fill_id=str(row.id),
        order_id=None if row.order_id in {None, ""} else str(row.order_id),
        side=_SIDES[row.side],
        price=row.price,
        size=row.size,
        fee=row.fee,
        fee_asset=row.fee_currency or _SETTLEMENT_ASSET,
        liquidity=liquidity,
        fill_type=fill_type(_FILL_TYPES, row.fill_type, liquidity),
    )


def _position(row: _Position, context: ParadexContext) -> Position:
    listing = context.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size
    is_held = not is_zero(size)
    is_unsigned_short = is_held and row.side == "SHORT" and not size.startswith("-")
    return Position(
        **common_fields("paradex", listing, ns_of_ms(row.last_updated_at), context.account, snapshot=context.snapshot),
        size=f"-{size}" if is_unsigned_short else size,
        entry_price=priced(row.average_entry_price) if is_held else None,
        mark_price=priced(row.mark_price),
        unrealised_pnl=row.unrealized_pnl,
        liquidation_price=above_zero(row.liquidation_price) if is_held else None,
        margin_mode=None,
    )


def _margin(row: _Account, context: ParadexContext) -> Margin:
    return Margin(
        **common_fields("paradex", None, ns_of_ms(row.updated_at), context.account, snapshot=context.snapshot),
        equity=row.account_value,
        available=row.free_collateral,
        initial_margin=row.initial_margin_requirement,
        maintenance_margin=row.maintenance_margin_requirement,
    )


def _balance(row: _Balance, context: ParadexContext) -> Balance:
    at_ns = ns_of_ms(row.last_updated_at)
    return Balance(
        **common_fields("paradex", None, at_ns, context.account, snapshot=context.snapshot),
        asset=row.token,
        total=row.size,
        available=None,
    )


def _balance_event(row: _BalanceEvent, context: ParadexContext) -> Iterable[Balance]:
    if row.settlement_asset_balance_after:
        yield _balance(_Balance(_SETTLEMENT_ASSET, row.settlement_asset_balance_after, row.created_at), context)


class RowType(Generic[Row, Event]):
    """Type of rows, and the conversion of one into events.

    Args:
        what: Name in reports.
        row: Struct of a row.
        build: Returns a row's events.
    """

    def __init__(self, what: str, row: type[Row], build: Callable[[Row, ParadexContext], Iterable[Event]]) -> None:
        self._what = what
        self._row = row
        self._decoder = json_decoder(row)
        self._build = build

    def items(
        self, context: ParadexContext, rows: Sequence[msgspec.Raw | Mapping[str, object]]
    ) -> list[Event | InvalidRow]:
        """Parse rows one by one, of text or from a binary frame."""
        return events_of(rows, self._parse, lambda row: self._build(row, context), self._what)

    def _parse(self, row: msgspec.Raw | Mapping[str, object]) -> Row:
        return self._decoder.decode(row) if isinstance(row, msgspec.Raw) else converted(row, self._row)


ORDERS: Final = RowType("orders", _Order, lambda row, context: [_order(row, context)])
FILLS: Final = RowType("fills", _Fill, lambda row, context: [_fill(row, context)])
POSITIONS: Final = RowType("positions", _Position, lambda row, context: [_position(row, context)])
ACCOUNT: Final = RowType("account", _Account, lambda row, context: [_margin(row, context)])
BALANCES: Final = RowType("balance", _Balance, lambda row, context: [_balance(row, context)])
_BALANCE_EVENTS: Final = RowType("balance_events", _BalanceEvent, _balance_event)

#: Row types by the first word of a channel's name.
CHANNELS: Final[Mapping[str, RowType[Any, Any]]] = {
    "orders": ORDERS,
    "fills": FILLS,
    "positions": POSITIONS,
    "account": ACCOUNT,
    "balance_events": _BALANCE_EVENTS,
}
