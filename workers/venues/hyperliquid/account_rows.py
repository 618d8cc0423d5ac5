"""Rows of Hyperliquid's account frames and answers, and their conversion to events.

Source: Hyperliquid, API documentation (WebSocket subscriptions, info endpoint), and recorded frames where they differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from ipc.decimals import difference, is_zero
from ipc.events import Balance, Fill, Margin, Order, Payment, Position
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, rows_of
from workers.venues.account_values import OrderStatus, above_zero, common_fields, margin_mode, order_status, priced
from workers.venues.fields import ns_of_ms
from workers.venues.hyperliquid.rest import core_listing
from workers.venues.listing import Listing, Markets
from workers.venues.rows import InvalidRow

#: Name of the venue's own exchange; builders' exchanges have names.
CORE: Final = ""
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"B": "buy", "A": "sell"}
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "open": "open",
    "triggered": "open",
    "filled": "filled",
    "canceled": "canceled",
    "rejected": "rejected",
}
#: Fill types by ``dir``, for fills that are not trades.
_FILL_TYPES: Final[Mapping[str, str]] = {"Auto-Deleveraging": "adl", "Settlement": "settlement"}
_LIQUIDATED: Final = "Liquidated"
#: Values of ``dir`` for fills in the market, some liquidations included; it may be empty.
_MARKET_FILLS: Final = re.compile(r"(Open|Close) (Long|Short)|Long > Short|Short > Long|Buy|Sell|")


class _Order(msgspec.Struct):
    coin: str
    side: Literal["A", "B"]
    limitPx: Number  # noqa: N815 - the venue's names
    sz: Number
    oid: WholeNumber
    timestamp: WholeNumber
    origSz: NumberOrNone = None  # noqa: N815
    cloid: str | None = None
    orderType: str = ""  # noqa: N815
    isTrigger: bool | None = None  # noqa: N815
    triggerPx: NumberOrNone = None  # noqa: N815
    reduceOnly: bool = False  # noqa: N815


class _OrderUpdate(msgspec.Struct):
    order: _Order
    status: str
    statusTimestamp: WholeNumber | None = None  # noqa: N815


class _Liquidation(msgspec.Struct):
    liquidatedUser: str | None = None  # noqa: N815


class _Fill(msgspec.Struct):
    coin: str
    px: Number
    sz: Number
    side: Literal["A", "B"]
    time: WholeNumber
    oid: WholeNumber
    tid: WholeNumber
    dir: str = ""
    crossed: bool | None = None
    fee: NumberOrNone = None
    feeToken: str | None = None  # noqa: N815
    liquidation: _Liquidation | None = None


class _Leverage(msgspec.Struct):
    type: str = ""


class _Position(msgspec.Struct):
    coin: str
    szi: Number
    entryPx: NumberOrNone = None  # noqa: N815
    unrealizedPnl: NumberOrNone = None  # noqa: N815
    liquidationPx: NumberOrNone = None  # noqa: N815
    leverage: _Leverage = msgspec.field(default_factory=_Leverage)


class _AssetPosition(msgspec.Struct):
    position: _Position


class _Summary(msgspec.Struct):
    accountValue: Number  # noqa: N815
    totalMarginUsed: NumberOrNone = None  # noqa: N815


class _MarginState(msgspec.Struct):
    marginSummary: _Summary  # noqa: N815
    crossMaintenanceMarginUsed: NumberOrNone = None  # noqa: N815
    withdrawable: NumberOrNone = None
    time: WholeNumber | None = None


class _SpotBalance(msgspec.Struct):
    coin: str
    total: Number
    hold: Number = "0"


class _Delta(msgspec.Struct):
    coin: str
    usdc: Number
    fundingRate: NumberOrNone = None  # noqa: N815


class _Funding(_Delta, kw_only=True):
    """Payment in a frame."""

    time: WholeNumber


class _FundingRow(msgspec.Struct):
    """Payment in a REST answer."""

    time: WholeNumber
    delta: _Delta


def dex_of(coin: str) -> str:
    """Return the exchange of a market: ``xyz`` for ``xyz:TSLA``; spot and outcome markets are on the venue's own."""
    dex, colon, _ = coin.partition(":")
    return dex if colon else CORE


def updates(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, *, snapshot: bool = False
) -> list[Order | InvalidRow]:
    """Parse order rows with a status."""

    def order(row: _OrderUpdate) -> Order:
        return _order(
            row.order, markets, account, row.status, row.statusTimestamp or row.order.timestamp, snapshot=snapshot
        )

    return rows_of(rows, _OrderUpdate, order, what)


def open_orders(rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str) -> list[Order | InvalidRow]:
    """Parse rows of open orders; they have no time of the last change."""
    return rows_of(rows, _Order, lambda row: _order(row, markets, account, "open", None, snapshot=True), what)


def _order(row: _Order, markets: Markets, account: str, word: str, at_ms: int | None, *, snapshot: bool) -> Order:
    listing = _listing(row.coin, markets)
    size = row.origSz or row.sz
    filled = difference(size, row.sz)
    waits = word != "triggered" and _is_conditional(row)
    return Order(
        **common_fields("hyperliquid", listing, ns_of_ms(at_ms), account, snapshot=snapshot),
        order_id=str(row.oid),
        client_id=row.cloid,
        side=_SIDES[row.side],
        price=priced(row.limitPx),
        size=size,
        filled=filled,
        status=order_status(_STATUS, _family(word), size, filled, waits=waits),
        venue_status=word,
        order_type=row.orderType,
        reduce_only=row.reduceOnly,
    )


def _family(word: str) -> str:
    """Return the base of a status variant: ``marginCanceled``, ``scheduledCancel``, ``perpMarginRejected``."""
    lower = word.lower()
    if lower.endswith(("canceled", "cancel")):
        return "canceled"
    return "rejected" if lower.endswith("rejected") else word


def _is_conditional(row: _Order) -> bool:
    """Return whether an order waits for a price; pushes may omit the flag but have the type or the price."""
    if row.isTrigger is not None:
        return row.isTrigger
    return row.orderType.startswith(("Stop", "Take Profit")) or priced(row.triggerPx) is not None


def fills(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, user: str | None, *, snapshot: bool
) -> list[Fill | InvalidRow]:
    """Parse fills; ``user`` is the account's address, None where a frame does not name it."""
    return rows_of(rows, _Fill, lambda row: _fill(row, markets, account, user, snapshot=snapshot), what)


def _fill(row: _Fill, markets: Markets, account: str, user: str | None, *, snapshot: bool) -> Fill:
    listing = _listing(row.coin, markets)
    # Dust conversions have no trade id.
    fill_id = str(row.tid) if row.tid else f"{row.oid}:{row.time}"
    liquidity: Literal["maker", "taker"] | None = None
    if row.crossed is not None:
        liquidity = "taker" if row.crossed else "maker"
    return Fill(
        **common_fields("hyperliquid", listing, ns_of_ms(row.time), account, snapshot=snapshot),
        fill_id=fill_id,
        order_id=str(row.oid),
        side=_SIDES[row.side],
        price=row.px,
        size=row.sz,
        fee=row.fee,
        fee_asset=row.feeToken,
        liquidity=liquidity,
        fill_type=_fill_type(row, user),
    )


def _fill_type(row: _Fill, user: str | None) -> str:
    """Return the type of a fill: by ``dir``, and by ``liquidation`` only where ``dir`` says trade."""
    if row.dir.startswith(_LIQUIDATED):
        return "liquidation"
    if not _MARKET_FILLS.fullmatch(row.dir):
        return _FILL_TYPES.get(row.dir, row.dir)
    return "liquidation" if row.liquidation is not None and _is_liquidated(row, row.liquidation, user) else "trade"


def _is_liquidated(row: _Fill, liquidation: _Liquidation, user: str | None) -> bool:
    """Return whether this account is liquidated, not the other side; the liquidated side is the taker."""
    if user is not None and liquidation.liquidatedUser is not None:
        return user.lower() == liquidation.liquidatedUser.lower()
    return row.crossed is not False


def payments(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, *, snapshot: bool
) -> list[Payment | InvalidRow]:
    """Parse payments in a frame."""
    return rows_of(rows, _Funding, lambda row: _paid(row, row.time, markets, account, snapshot=snapshot), what)


def rest_payments(rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str) -> list[Payment | InvalidRow]:
    """Parse payments in a REST answer."""
    return rows_of(rows, _FundingRow, lambda row: _paid(row.delta, row.time, markets, account, snapshot=True), what)


def _paid(row: _Delta, time_ms: int, markets: Markets, account: str, *, snapshot: bool) -> Payment:
    listing = _listing(row.coin, markets)
    return Payment(
        **common_fields("hyperliquid", listing, ns_of_ms(time_ms), account, snapshot=snapshot),
        payment_id=f"{time_ms}:{row.coin}",
        # The member is called usdc for any asset; a builder's exchange chooses its collateral.
        asset="USDC" if dex_of(row.coin) == CORE else None,
        amount=row.usdc,
        payment_type="funding",
        rate=row.fundingRate,
    )


def positions(
    rows: Iterable[msgspec.Raw], what: str, at_ms: int | None, markets: Markets, account: str, *, snapshot: bool
) -> list[Position | InvalidRow]:
    """Parse the positions of a state."""

    def position(row: _AssetPosition) -> Position:
        return _position(row.position, ns_of_ms(at_ms), markets, account, snapshot=snapshot)

    return rows_of(rows, _AssetPosition, position, what)


def _position(row: _Position, at_ns: int | None, markets: Markets, account: str, *, snapshot: bool) -> Position:
    return Position(
        **common_fields("hyperliquid", _listing(row.coin, markets), at_ns, account, snapshot=snapshot),
        size=row.szi,
        entry_price=priced(row.entryPx),
        mark_price=None,
        unrealised_pnl=row.unrealizedPnl,
        liquidation_price=above_zero(row.liquidationPx),
        margin_mode=margin_mode(row.leverage.type),
    )


def margins(states: Iterable[msgspec.Raw], what: str, account: str, *, snapshot: bool) -> list[Margin | InvalidRow]:
    """Parse the margin of each state."""
    return rows_of(states, _MarginState, lambda row: _margin(row, account, snapshot=snapshot), what)


def _margin(row: _MarginState, account: str, *, snapshot: bool) -> Margin:
    """Return the margin of the venue's own exchange; 0 means unknown, as the funds may be in the spot balance."""
    is_known = not is_zero(row.marginSummary.accountValue)
    return Margin(
        **common_fields("hyperliquid", None, ns_of_ms(row.time), account, snapshot=snapshot),
        equity=row.marginSummary.accountValue if is_known else None,
        available=row.withdrawable if is_known else None,
        initial_margin=row.marginSummary.totalMarginUsed,
        maintenance_margin=row.crossMaintenanceMarginUsed,
    )


def balances(rows: Iterable[msgspec.Raw], what: str, account: str, *, snapshot: bool) -> list[Balance | InvalidRow]:
    """Parse spot balances; amounts on hold are not available."""

    def balance(row: _SpotBalance) -> Balance:
        available = difference(row.total, row.hold)
        return Balance(
            **common_fields("hyperliquid", None, None, account, snapshot=snapshot),
            asset=row.coin,
            total=row.total,
            available=available,
        )

    return rows_of(rows, _SpotBalance, balance, what)


def _listing(coin: str, markets: Markets) -> Listing:
    return markets.get(coin) or core_listing(coin)
