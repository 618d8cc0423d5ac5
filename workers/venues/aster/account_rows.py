"""Rows of Aster's account answers by REST, and their conversion to events.

Source of the rules: Aster's futures API documentation (account endpoints), and recorded answers where they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from ipc.decimals import is_zero
from ipc.events import Balance, Fill, Margin, Order, Position, Side
from workers.venues.account import Leg, LegName
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, rows_of
from workers.venues.account_values import OrderStatus, above_zero, common_fields, margin_mode, order_status, priced
from workers.venues.aster.rest import listing_of
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Listing, Markets
from workers.venues.rows import InvalidRow, each_row

SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
#: Statuses of closed orders; others are open: NEW, PARTIALLY_FILLED, NEW_INSURANCE, NEW_ADL.
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "FILLED": "filled",
    "CANCELED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
}
#: Types of orders that wait for a price. Once it is reached, the venue changes the order's type.
_CONDITIONAL: Final = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
#: Fill types of the venue's own orders, by prefix of the client id, by status and by type.
_OWN_IDS: Final = {"autoclose-": "liquidation", "adl_autoclose": "adl", "settlement_autoclose": "settlement"}
_OWN_WORDS: Final = {"NEW_INSURANCE": "liquidation", "NEW_ADL": "adl", "LIQUIDATION": "liquidation"}
LEGS: Final[Mapping[str, LegName]] = {"BOTH": "both", "LONG": "long", "SHORT": "short"}


#: Market name in any script that is safe in a request.
Symbol: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\w{1,64}$")]


class OrderRow(msgspec.Struct):
    """Order by REST."""

    symbol: Symbol
    orderId: WholeNumber  # noqa: N815 - the venue's names
    side: Literal["BUY", "SELL"]
    status: str
    type: str
    price: Number
    origQty: Number  # noqa: N815
    executedQty: Number  # noqa: N815
    clientOrderId: str = ""  # noqa: N815
    reduceOnly: bool = False  # noqa: N815
    updateTime: WholeNumber | None = None  # noqa: N815


class TradeRow(msgspec.Struct):
    """Fill by REST."""

    symbol: Symbol
    id: WholeNumber
    orderId: WholeNumber  # noqa: N815
    side: Literal["BUY", "SELL"]
    price: Number
    qty: Number
    commission: NumberOrNone = None
    commissionAsset: str | None = None  # noqa: N815
    maker: bool | None = None
    time: WholeNumber | None = None


class PositionRow(msgspec.Struct):
    """Position, or a leg of one, by REST."""

    symbol: Symbol
    positionAmt: Number  # noqa: N815
    entryPrice: NumberOrNone = None  # noqa: N815
    markPrice: NumberOrNone = None  # noqa: N815
    unRealizedProfit: NumberOrNone = None  # noqa: N815
    liquidationPrice: NumberOrNone = None  # noqa: N815
    marginType: str | None = None  # noqa: N815
    positionSide: Literal["BOTH", "LONG", "SHORT"] = "BOTH"  # noqa: N815
    updateTime: WholeNumber | None = None  # noqa: N815

    @property
    def is_held(self) -> bool:
        """Return whether there is a position.

        Raises:
            ValueError: The amount is not a decimal.
        """
        return not is_zero(self.positionAmt)


class _BalanceRow(msgspec.Struct):
    asset: str
    balance: Number
    availableBalance: NumberOrNone = None  # noqa: N815
    updateTime: WholeNumber | None = None  # noqa: N815


class _Account(msgspec.Struct):
    totalMarginBalance: NumberOrNone = None  # noqa: N815
    availableBalance: NumberOrNone = None  # noqa: N815
    totalInitialMargin: NumberOrNone = None  # noqa: N815
    totalMaintMargin: NumberOrNone = None  # noqa: N815


def orders(found: Iterable[OrderRow], what: str, markets: Markets, account: str) -> list[Order | InvalidRow]:
    """Return the events of order rows."""

    def order(row: OrderRow) -> Order:
        listing = listing_for(row.symbol, markets)
        return Order(
            **common_fields("aster", listing, ns_of_ms(row.updateTime), account, snapshot=True),
            order_id=str(row.orderId),
            client_id=row.clientOrderId or None,
            side=SIDES[row.side],
            price=priced(row.price),
            size=row.origQty,
            filled=row.executedQty,
            status=order_state(row.status, row.type, row.origQty, row.executedQty),
            venue_status=row.status,
            order_type=row.type,
            reduce_only=row.reduceOnly,
        )

    return each_row(found, order, what)


def fills(found: Iterable[TradeRow], kinds: Mapping[int, str], markets: Markets, account: str) -> list[Fill]:
    """Return the events of fill rows; ``kinds`` maps an order id to its fill type where it is not a trade."""
    return [_fill(row, kinds.get(row.orderId, "trade"), markets, account) for row in found]


def _fill(row: TradeRow, kind: str, markets: Markets, account: str) -> Fill:
    listing = listing_for(row.symbol, markets)
    liquidity: Literal["maker", "taker"] | None = None
    if row.maker is not None:
        liquidity = "maker" if row.maker else "taker"
    return Fill(
        **common_fields("aster", listing, ns_of_ms(row.time), account, snapshot=True),
        fill_id=fill_id_of(row.symbol, row.id),
        order_id=str(row.orderId),
        side=SIDES[row.side],
        price=row.price,
        size=row.qty,
        fee=row.commission,
        fee_asset=row.commissionAsset,
        liquidity=liquidity,
        fill_type=kind,
    )


def positions(
    found: Iterable[PositionRow], what: str, markets: Markets, account: str
) -> list[Position | Leg | InvalidRow]:
    """Return the events of open positions and legs; the answer also has rows for all other markets."""

    def leg(row: PositionRow) -> Leg:
        listing = listing_for(row.symbol, markets)
        position = Position(
            **common_fields("aster", listing, ns_of_ms(row.updateTime), account, snapshot=True),
            size=row.positionAmt,
            entry_price=priced(row.entryPrice),
            mark_price=priced(row.markPrice),
            unrealised_pnl=row.unRealizedProfit,
            liquidation_price=above_zero(row.liquidationPrice),
            margin_mode=margin_mode(row.marginType),
        )
        return Leg(LEGS[row.positionSide], position)

    return without_lone_legs(each_row((row for row in found if row.is_held), leg, what))


def balances(rows: Iterable[msgspec.Raw], what: str, account: str) -> list[Balance | InvalidRow]:
    """Parse the balances of an answer."""

    def balance(row: _BalanceRow) -> Balance:
        at_ns = ns_of_ms(row.updateTime)
        return Balance(
            **common_fields("aster", None, at_ns, account, snapshot=True),
            asset=row.asset,
            total=row.balance,
            available=row.availableBalance,
        )

    return rows_of(rows, _BalanceRow, balance, what)


def margins(rows: Iterable[msgspec.Raw], what: str, account: str) -> list[Margin | InvalidRow]:
    """Parse the margin of the account; in multi-asset mode the venue values all assets in USD."""

    def margin(row: _Account) -> Margin:
        return Margin(
            **common_fields("aster", None, None, account, snapshot=True),
            equity=row.totalMarginBalance,
            available=row.availableBalance,
            initial_margin=row.totalInitialMargin,
            maintenance_margin=row.totalMaintMargin,
        )

    return rows_of(rows, _Account, margin, what)


def fill_type(client_id: str, order_type: str, status: str) -> str:
    """Return the fill type of an order: the venue's own orders are marked by client id, status or type."""
    by_id = next((kind for prefix, kind in _OWN_IDS.items() if client_id.startswith(prefix)), None)
    return by_id or _OWN_WORDS.get(status) or _OWN_WORDS.get(order_type) or "trade"


def order_state(word: str, order_type: str, size: str, filled: str) -> OrderStatus:
    """Return the state of an order; a new conditional order waits for its price."""
    return order_status(_STATUS, word, size, filled, waits=word == "NEW" and order_type in _CONDITIONAL)


def without_lone_legs(legs: list[Leg | InvalidRow]) -> list[Position | Leg | InvalidRow]:
    """Replace the only leg of a market, ``both``, by its position; keep the legs of hedged markets."""
    hedged = {leg.position.venue_symbol for leg in legs if isinstance(leg, Leg) and leg.name != "both"}
    return [leg.position if isinstance(leg, Leg) and leg.position.venue_symbol not in hedged else leg for leg in legs]


def fill_id_of(symbol: str, trade_id: int) -> str:
    """Return a fill id that is unique across markets; trades are numbered per market."""
    return f"{symbol}:{trade_id}"


def listing_for(symbol: str, markets: Markets) -> Listing:
    """Return the listing of a followed market, else what its name says."""
    return markets.get(symbol) or listing_of(symbol)
