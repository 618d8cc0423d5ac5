"""Rows of Paradex's account channels and answers, in text or as read from binary frames, and the events they become.

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
from workers.venues.account_values import OrderStatus, above_zero, fill_type, order_status, priced
from workers.venues.fields import ns_of_ms
from workers.venues.pagination import events_of
from workers.venues.paradex.market_data import Paradex
from workers.venues.rows import InvalidRow
from workers.venues.venue import Listing, Markets

__all__ = ["ACCOUNT", "BALANCES", "CHANNELS", "FILLS", "ORDERS", "POSITIONS", "Kind", "ParadexNames"]

Row = TypeVar("Row")
Event = TypeVar("Event", bound=AccountEvent)

_SETTLEMENT_ASSET: Final = "USDC"
_STATUS: Final[Mapping[str, OrderStatus]] = {"NEW": "open", "OPEN": "open", "UNTRIGGERED": "untriggered"}
#: How types of orders begin that wait for a trigger.
_TRIGGERED: Final = ("STOP", "TAKE_PROFIT")
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_LIQUIDITY: Final[Mapping[str | None, Literal["maker", "taker"]]] = {"MAKER": "maker", "TAKER": "taker"}
_FILL_TYPES: Final[Mapping[str, str]] = {"FILL": "trade", "SETTLE_MARKET": "settlement"}
#: Why the venue ends an order at once.
_REJECTIONS: Final = frozenset({"NOT_ENOUGH_MARGIN", "POST_ONLY_WOULD_CROSS"})
_VENUE: Final = Paradex()


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    size: Number
    remaining_size: Number
    status: str
    type: str | None = None
    price: NumberOrNone = None
    #: Of what was filled; empty when nothing was.
    average: Number | None = msgspec.field(name="avg_fill_price", default=None)
    client_id: int | str | None = None
    #: Empty while the order lives, and when it was filled.
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
    #: Signed as text, not so in binary frames.
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
    """What a fill or a payment made of the settlement asset."""

    settlement_asset_balance_after: NumberOrNone = None
    created_at: WholeNumber | None = None


class _Balance(msgspec.Struct):
    token: str
    size: Number
    last_updated_at: WholeNumber | None = None


class ParadexNames(NamedTuple):
    """What events are named by: the markets that are known, and the account's alias."""

    markets: Markets
    account: str
    snapshot: bool

    def listing(self, market: str) -> Listing:
        """Return a market, also one that is not followed."""
        return self.markets.get(market) or _VENUE.offline_listing(market)


def _status(row: _Order, filled: str) -> OrderStatus:
    # Before it is accepted a trigger order is new, as any other; it waits all the same.
    waits = row.status == "NEW" and (row.type or "").startswith(_TRIGGERED)
    return order_status({**_STATUS, "CLOSED": _ended(row, filled)}, row.status, row.size, filled, waits=waits)


def _ended(row: _Order, filled: str) -> OrderStatus:
    """Return how an order ended that is closed; the venue says why only when it was not filled."""
    reason = row.cancel_reason or ""
    if not reason:
        return "filled" if is_zero(row.remaining_size) else "closed"
    if "EXPIRED" in reason:
        return "expired"
    return "rejected" if reason in _REJECTIONS and is_zero(filled) else "canceled"


def _filled(row: _Order) -> str:
    """Return what was filled: what is gone of the size, but for orders of which nothing remains and nothing was filled.

    Those are orders that are not accepted yet, and canceled ones that have no average price.
    """
    is_unfilled = bool(row.cancel_reason) and row.average is not None and not priced(row.average)
    if is_unfilled or row.status in {"NEW", "UNTRIGGERED"}:
        return "0"
    return difference(row.size, row.remaining_size)


def _order(row: _Order, naming: ParadexNames) -> Order:
    listing = naming.listing(row.market)
    filled = _filled(row)
    is_priced = not (row.type or "").endswith("MARKET")
    return Order(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.last_updated_at),
        naming.account,
        str(row.id),
        None if row.client_id in {None, ""} else str(row.client_id),
        _SIDES[row.side],
        priced(row.price) if is_priced else None,
        row.size,
        filled,
        _status(row, filled),
        f"{row.status} {row.cancel_reason}" if row.cancel_reason else row.status,
        row.type or "",
        "REDUCE_ONLY" in (row.flags or ()),
        naming.snapshot,
    )


def _fill(row: _Fill, naming: ParadexNames) -> Fill:
    listing, liquidity = naming.listing(row.market), _LIQUIDITY.get(row.liquidity)
    return Fill(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.created_at),
        naming.account,
        str(row.id),
        None if row.order_id in {None, ""} else str(row.order_id),
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee,
        row.fee_currency or _SETTLEMENT_ASSET,
        liquidity,
        fill_type(_FILL_TYPES, row.fill_type, liquidity),
        naming.snapshot,
    )


def _position(row: _Position, naming: ParadexNames) -> Position:
    listing = naming.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size
    is_held = not is_zero(size)
    is_unsigned_short = is_held and row.side == "SHORT" and not size.startswith("-")
    return Position(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.last_updated_at),
        naming.account,
        f"-{size}" if is_unsigned_short else size,
        priced(row.average_entry_price) if is_held else None,
        priced(row.mark_price),
        row.unrealized_pnl,
        above_zero(row.liquidation_price) if is_held else None,
        None,
        naming.snapshot,
    )


def _margin(row: _Account, naming: ParadexNames) -> Margin:
    return Margin(
        "paradex",
        None,
        None,
        ns_of_ms(row.updated_at),
        naming.account,
        row.account_value,
        row.free_collateral,
        row.initial_margin_requirement,
        row.maintenance_margin_requirement,
        naming.snapshot,
    )


def _balance(row: _Balance, naming: ParadexNames) -> Balance:
    at_ns = ns_of_ms(row.last_updated_at)
    return Balance("paradex", None, None, at_ns, naming.account, row.token, row.size, None, naming.snapshot)


def _balance_event(row: _BalanceEvent, naming: ParadexNames) -> Iterable[Balance]:
    if row.settlement_asset_balance_after:
        yield _balance(_Balance(_SETTLEMENT_ASSET, row.settlement_asset_balance_after, row.created_at), naming)


class Kind(Generic[Row, Event]):
    """A kind of rows: their type, and how one becomes events.

    Args:
        what: What they are called in reports.
        row: Their type.
        build: Makes a row's events.
    """

    def __init__(self, what: str, row: type[Row], build: Callable[[Row, ParadexNames], Iterable[Event]]) -> None:
        self._what = what
        self._row = row
        self._decoder = json_decoder(row)
        self._build = build

    def items(
        self, naming: ParadexNames, rows: Sequence[msgspec.Raw | Mapping[str, object]]
    ) -> list[Event | InvalidRow]:
        """Read rows one by one: of text, or as read from a binary frame."""
        return events_of(rows, self._parse, lambda row: self._build(row, naming), self._what)

    def _parse(self, row: msgspec.Raw | Mapping[str, object]) -> Row:
        return self._decoder.decode(row) if isinstance(row, msgspec.Raw) else converted(row, self._row)


ORDERS: Final = Kind("orders", _Order, lambda row, naming: [_order(row, naming)])
FILLS: Final = Kind("fills", _Fill, lambda row, naming: [_fill(row, naming)])
POSITIONS: Final = Kind("positions", _Position, lambda row, naming: [_position(row, naming)])
ACCOUNT: Final = Kind("account", _Account, lambda row, naming: [_margin(row, naming)])
BALANCES: Final = Kind("balance", _Balance, lambda row, naming: [_balance(row, naming)])
_BALANCE_EVENTS: Final = Kind("balance_events", _BalanceEvent, _balance_event)

#: By the first word of a channel's name.
CHANNELS: Final[Mapping[str, Kind[Any, Any]]] = {
    "orders": ORDERS,
    "fills": FILLS,
    "positions": POSITIONS,
    "account": ACCOUNT,
    "balance_events": _BALANCE_EVENTS,
}
