"""Aster's private side: rows of frames and answers, and the events that they become.

Source of the rules: Aster's futures API documentation (user data streams, account endpoints), and recorded frames where
they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import field

from ipc.decimals import is_zero
from ipc.events import Balance, Fill, Margin, Order, Payment, Position, Side
from workers.venues.account import Leg, LegName
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, rows_of
from workers.venues.account_values import OrderStatus, above_zero, margin_mode, order_status, priced
from workers.venues.aster.market_data import Aster
from workers.venues.fields import ns_of_ms
from workers.venues.rows import InvalidRow, each_row
from workers.venues.venue import Listing, Markets

__all__ = [
    "Changes",
    "OrderRow",
    "PositionRow",
    "TradeRow",
    "balances",
    "changed_balances",
    "changed_positions",
    "executed",
    "fill_type",
    "fills",
    "margins",
    "orders",
    "payments",
    "positions",
]

R = TypeVar("R")

_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
#: What ends an order; any other word leaves it open: NEW, PARTIALLY_FILLED, NEW_INSURANCE, NEW_ADL.
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "FILLED": "filled",
    "CANCELED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
}
#: Types of orders that wait for a price. Once it is reached, an order's type is what it became.
_CONDITIONAL: Final = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
_EXECUTIONS: Final = frozenset({"TRADE", "CALCULATED"})
#: The venue's own orders, by the beginning of their client ids, by status and by type.
_OWN_IDS: Final = {"autoclose-": "liquidation", "adl_autoclose": "adl", "settlement_autoclose": "settlement"}
_OWN_WORDS: Final = {"NEW_INSURANCE": "liquidation", "NEW_ADL": "adl", "LIQUIDATION": "liquidation"}
_LEGS: Final[Mapping[str, LegName]] = {"BOTH": "both", "LONG": "long", "SHORT": "short"}
_VENUE: Final = Aster()


# --- rows of frames -----------------------------------------------------------------------------------------------


class _Execution(msgspec.Struct):
    symbol: str = field(name="s")
    client_id: str = field(name="c")
    side: Literal["BUY", "SELL"] = field(name="S")
    type: str = field(name="o")
    size: Number = field(name="q")
    price: Number = field(name="p")
    status: str = field(name="X")
    id: WholeNumber = field(name="i")
    filled: Number = field(name="z")
    time_ms: WholeNumber = field(name="T")
    reduce_only: bool = field(name="R", default=False)


class _Traded(msgspec.Struct):
    """The fill in an execution."""

    symbol: str = field(name="s")
    side: Literal["BUY", "SELL"] = field(name="S")
    execution: str = field(name="x")
    id: WholeNumber = field(name="i")
    last_size: Number = field(name="l")
    last_price: Number = field(name="L")
    trade_id: WholeNumber = field(name="t")
    time_ms: WholeNumber = field(name="T")
    client_id: str = field(name="c", default="")
    type: str = field(name="o", default="")
    status: str = field(name="X", default="")
    fee: NumberOrNone = field(name="n", default=None)
    fee_asset: str | None = field(name="N", default=None)
    is_maker: bool = field(name="m", default=False)


class _PushedBalance(msgspec.Struct):
    asset: str = field(name="a")
    wallet: Number = field(name="wb")
    #: Apart from profits and fees.
    change: NumberOrNone = field(name="bc", default=None)


class _PushedPosition(msgspec.Struct):
    symbol: str = field(name="s")
    amount: Number = field(name="pa")
    entry_price: NumberOrNone = field(name="ep", default=None)
    unrealised_pnl: NumberOrNone = field(name="up", default=None)
    margin_mode: str | None = field(name="mt", default=None)
    leg: Literal["BOTH", "LONG", "SHORT"] = field(name="ps", default="BOTH")


class Changes(msgspec.Struct):
    """What an account update holds; its rows are not decoded yet."""

    reason: str = field(name="m", default="")
    balances: list[msgspec.Raw] = field(name="B", default_factory=list)
    positions: list[msgspec.Raw] = field(name="P", default_factory=list)


#: A market's name in any script, as it may go into a request.
Symbol: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\w{1,64}$")]


# --- rows of answers ----------------------------------------------------------------------------------------------


class OrderRow(msgspec.Struct):
    """An order by REST."""

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
    """A fill by REST."""

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
    """A position, or a leg of one, by REST."""

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
        """Tell whether there is a position.

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


# --- frames to events ---------------------------------------------------------------------------------------------


def executed(row: msgspec.Raw, what: str, markets: Markets, account: str) -> Iterator[Fill | Order | InvalidRow]:
    """Yield the fill of an execution, and the order as it is now: each is read by itself."""

    def made(kind: type[R], parse: Callable[[R], Iterable[Fill | Order]]) -> Iterator[Fill | Order | InvalidRow]:
        for found in rows_of([row], kind, lambda one: list(parse(one)), what):
            yield from [found] if isinstance(found, InvalidRow) else found

    yield from made(_Traded, lambda traded: _pushed_fill(traded, markets, account))
    yield from made(_Execution, lambda execution: [_pushed_order(execution, markets, account)])


def _pushed_fill(row: _Traded, markets: Markets, account: str) -> Iterator[Fill]:
    if row.execution not in _EXECUTIONS or is_zero(row.last_size):
        return
    listing = _listing(row.symbol, markets)
    yield Fill(
        venue="aster",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=ns_of_ms(row.time_ms),
        account=account,
        fill_id=_fill_id(row.symbol, row.trade_id),
        order_id=str(row.id),
        side=_SIDES[row.side],
        price=row.last_price,
        size=row.last_size,
        fee=row.fee,
        fee_asset=row.fee_asset,
        liquidity="maker" if row.is_maker else "taker",
        fill_type=fill_type(row.client_id, row.type, row.status),
    )


def _pushed_order(row: _Execution, markets: Markets, account: str) -> Order:
    listing = _listing(row.symbol, markets)
    return Order(
        venue="aster",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=ns_of_ms(row.time_ms),
        account=account,
        order_id=str(row.id),
        client_id=row.client_id or None,
        side=_SIDES[row.side],
        price=priced(row.price),
        size=row.size,
        filled=row.filled,
        status=_status(row.status, row.type, row.size, row.filled),
        venue_status=row.status,
        order_type=row.type,
        reduce_only=row.reduce_only,
    )


def changed_balances(changes: Changes, at_ns: int | None, what: str, account: str) -> list[Balance | InvalidRow]:
    """Return the balances that changed."""

    def balance(row: _PushedBalance) -> Balance:
        return Balance(
            venue="aster",
            symbol=None,
            venue_symbol=None,
            exchange_ns=at_ns,
            account=account,
            asset=row.asset,
            total=row.wallet,
            available=None,
        )

    return rows_of(changes.balances, _PushedBalance, balance, what)


def changed_positions(
    changes: Changes, at_ns: int | None, what: str, markets: Markets, account: str
) -> list[Position | Leg | InvalidRow]:
    """Return the positions, or legs of positions, that changed; the others are as they were."""

    def leg(row: _PushedPosition) -> Leg:
        listing = _listing(row.symbol, markets)
        position = Position(
            venue="aster",
            symbol=listing.symbol,
            venue_symbol=listing.venue_symbol,
            exchange_ns=at_ns,
            account=account,
            size=row.amount,
            entry_price=priced(row.entry_price),
            mark_price=None,
            unrealised_pnl=row.unrealised_pnl,
            liquidation_price=None,
            margin_mode=margin_mode(row.margin_mode),
        )
        return Leg(_LEGS[row.leg], position)

    return _whole_where_alone(rows_of(changes.positions, _PushedPosition, leg, what))


def payments(
    rows: Iterable[msgspec.Raw], changes: Changes, at_ns: int | None, what: str, markets: Markets, account: str
) -> list[Payment | InvalidRow]:
    """Return the funding that was paid; only that of an isolated position says which market it is for.

    Args:
        rows: Those of the balances that could be read; the others were reported as such.
        changes: The frame's.
        at_ns: When.
        what: What the rows are called in a report.
        markets: The markets that are known.
        account: The account's name.
    """
    symbols = rows_of(changes.positions[:1], _PushedPosition, lambda row: row.symbol, what)
    named = [symbol for symbol in symbols if not isinstance(symbol, InvalidRow)]
    listing = _listing(named[0], markets) if named else None
    found: list[Payment | InvalidRow] = []
    for paid in rows_of(rows, _PushedBalance, lambda row: list(_paid(row, listing, at_ns, account)), what):
        found += [paid] if isinstance(paid, InvalidRow) else paid
    return found


def _paid(row: _PushedBalance, listing: Listing | None, at_ns: int | None, account: str) -> Iterator[Payment]:
    if not row.change or is_zero(row.change):
        return
    symbol, venue_symbol = (listing.symbol, listing.venue_symbol) if listing else (None, None)
    # The venue gives no id. What is paid for several cross positions comes at one moment, and no frame says for which.
    payment_id = f"{(at_ns or 0) // 1_000_000}:{venue_symbol or ''}:{row.asset}:{row.change}:{row.wallet}"
    yield Payment(
        venue="aster",
        symbol=symbol,
        venue_symbol=venue_symbol,
        exchange_ns=at_ns,
        account=account,
        payment_id=payment_id,
        asset=row.asset,
        amount=row.change,
        payment_type="funding",
    )


# --- answers to events --------------------------------------------------------------------------------------------


def orders(found: Iterable[OrderRow], what: str, markets: Markets, account: str) -> list[Order | InvalidRow]:
    """Return orders by REST."""

    def order(row: OrderRow) -> Order:
        listing = _listing(row.symbol, markets)
        return Order(
            venue="aster",
            symbol=listing.symbol,
            venue_symbol=listing.venue_symbol,
            exchange_ns=ns_of_ms(row.updateTime),
            account=account,
            order_id=str(row.orderId),
            client_id=row.clientOrderId or None,
            side=_SIDES[row.side],
            price=priced(row.price),
            size=row.origQty,
            filled=row.executedQty,
            status=_status(row.status, row.type, row.origQty, row.executedQty),
            venue_status=row.status,
            order_type=row.type,
            reduce_only=row.reduceOnly,
            snapshot=True,
        )

    return each_row(found, order, what)


def fills(found: Iterable[TradeRow], kinds: Mapping[int, str], markets: Markets, account: str) -> list[Fill]:
    """Return fills by REST; ``kinds`` has, by order, those that are no trades."""
    return [_fill(row, kinds.get(row.orderId, "trade"), markets, account) for row in found]


def _fill(row: TradeRow, kind: str, markets: Markets, account: str) -> Fill:
    listing = _listing(row.symbol, markets)
    liquidity: Literal["maker", "taker"] | None = None
    if row.maker is not None:
        liquidity = "maker" if row.maker else "taker"
    return Fill(
        venue="aster",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=ns_of_ms(row.time),
        account=account,
        fill_id=_fill_id(row.symbol, row.id),
        order_id=str(row.orderId),
        side=_SIDES[row.side],
        price=row.price,
        size=row.qty,
        fee=row.commission,
        fee_asset=row.commissionAsset,
        liquidity=liquidity,
        fill_type=kind,
        snapshot=True,
    )


def positions(
    found: Iterable[PositionRow], what: str, markets: Markets, account: str
) -> list[Position | Leg | InvalidRow]:
    """Return the positions and legs that are held; the answer has rows for all others too."""

    def leg(row: PositionRow) -> Leg:
        listing = _listing(row.symbol, markets)
        position = Position(
            venue="aster",
            symbol=listing.symbol,
            venue_symbol=listing.venue_symbol,
            exchange_ns=ns_of_ms(row.updateTime),
            account=account,
            size=row.positionAmt,
            entry_price=priced(row.entryPrice),
            mark_price=priced(row.markPrice),
            unrealised_pnl=row.unRealizedProfit,
            liquidation_price=above_zero(row.liquidationPrice),
            margin_mode=margin_mode(row.marginType),
            snapshot=True,
        )
        return Leg(_LEGS[row.positionSide], position)

    return _whole_where_alone(each_row((row for row in found if row.is_held), leg, what))


def balances(rows: Iterable[msgspec.Raw], what: str, account: str) -> list[Balance | InvalidRow]:
    """Return balances by REST."""

    def balance(row: _BalanceRow) -> Balance:
        at_ns = ns_of_ms(row.updateTime)
        return Balance(
            venue="aster",
            symbol=None,
            venue_symbol=None,
            exchange_ns=at_ns,
            account=account,
            asset=row.asset,
            total=row.balance,
            available=row.availableBalance,
            snapshot=True,
        )

    return rows_of(rows, _BalanceRow, balance, what)


def margins(rows: Iterable[msgspec.Raw], what: str, account: str) -> list[Margin | InvalidRow]:
    """Return the margin of the account; the venue values all assets in USD where they back positions together."""

    def margin(row: _Account) -> Margin:
        return Margin(
            venue="aster",
            symbol=None,
            venue_symbol=None,
            exchange_ns=None,
            account=account,
            equity=row.totalMarginBalance,
            available=row.availableBalance,
            initial_margin=row.totalInitialMargin,
            maintenance_margin=row.totalMaintMargin,
            snapshot=True,
        )

    return rows_of(rows, _Account, margin, what)


def fill_type(client_id: str, order_type: str, status: str) -> str:
    """Return what kind of fill an order leads to: the venue's own orders show by client id, status or type."""
    by_id = next((kind for prefix, kind in _OWN_IDS.items() if client_id.startswith(prefix)), None)
    return by_id or _OWN_WORDS.get(status) or _OWN_WORDS.get(order_type) or "trade"


def _status(word: str, order_type: str, size: str, filled: str) -> OrderStatus:
    return order_status(_STATUS, word, size, filled, waits=word == "NEW" and order_type in _CONDITIONAL)


def _whole_where_alone(legs: list[Leg | InvalidRow]) -> list[Position | Leg | InvalidRow]:
    """Return the position of a market of which no other leg is listed as what it is, a whole one."""
    parted = {leg.position.venue_symbol for leg in legs if isinstance(leg, Leg) and leg.name != "both"}
    return [leg.position if isinstance(leg, Leg) and leg.position.venue_symbol not in parted else leg for leg in legs]


def _fill_id(symbol: str, trade_id: int) -> str:
    """Trades are numbered market by market."""
    return f"{symbol}:{trade_id}"


def _listing(symbol: str, markets: Markets) -> Listing:
    return markets.get(symbol) or _VENUE.offline_listing(symbol)
