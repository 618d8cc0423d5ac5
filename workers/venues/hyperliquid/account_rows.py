"""Hyperliquid's private side: rows of frames and answers, and the events that they become.

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
from workers.venues.account_values import OrderStatus, above_zero, margin_mode, order_status, priced
from workers.venues.fields import ns_of_ms
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.rows import InvalidRow
from workers.venues.venue import Listing, Markets

__all__ = [
    "CORE",
    "balances",
    "dex_of",
    "fills",
    "margins",
    "open_orders",
    "paid_by_rest",
    "payments",
    "positions",
    "updates",
]

#: The venue's own exchange; those of builders have names.
CORE: Final = ""
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"B": "buy", "A": "sell"}
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "open": "open",
    "triggered": "open",
    "filled": "filled",
    "canceled": "canceled",
    "rejected": "rejected",
}
#: What ``dir`` says of fills that are no trades.
_FILL_TYPES: Final[Mapping[str, str]] = {"Auto-Deleveraging": "adl", "Settlement": "settlement"}
_LIQUIDATED: Final = "Liquidated"
#: What it says of those that change a position or a balance in the market, liquidations among them; or it says nothing.
_TRADES: Final = re.compile(r"(Open|Close) (Long|Short)|Long > Short|Short > Long|Buy|Sell|")
_VENUE: Final = Hyperliquid()


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
    """A payment as the stream has it."""

    time: WholeNumber


class _FundingRow(msgspec.Struct):
    """A payment as REST has it."""

    time: WholeNumber
    delta: _Delta


def dex_of(coin: str) -> str:
    """Return the exchange of a market: ``xyz:TSLA`` is of ``xyz``; spot and outcome markets are the venue's own."""
    dex, colon, _ = coin.partition(":")
    return dex if colon else CORE


# --- orders -------------------------------------------------------------------------------------------------------


def updates(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, *, snapshot: bool = False
) -> list[Order | InvalidRow]:
    """Return the orders of rows with a status."""

    def order(row: _OrderUpdate) -> Order:
        return _order(
            row.order, markets, account, row.status, row.statusTimestamp or row.order.timestamp, snapshot=snapshot
        )

    return rows_of(rows, _OrderUpdate, order, what)


def open_orders(rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str) -> list[Order | InvalidRow]:
    """Return the orders of the list of open ones; a row does not say when it came to be as it is."""
    return rows_of(rows, _Order, lambda row: _order(row, markets, account, "open", None, snapshot=True), what)


def _order(row: _Order, markets: Markets, account: str, word: str, at_ms: int | None, *, snapshot: bool) -> Order:
    listing = _listing(row.coin, markets)
    size = row.origSz or row.sz
    filled = difference(size, row.sz)
    waits = word != "triggered" and _is_conditional(row)
    return Order(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(at_ms),
        account,
        str(row.oid),
        row.cloid,
        _SIDES[row.side],
        priced(row.limitPx),
        size,
        filled,
        order_status(_STATUS, _family(word), size, filled, waits=waits),
        word,
        row.orderType,
        row.reduceOnly,
        snapshot,
    )


def _family(word: str) -> str:
    """Return the word that a status varies: ``marginCanceled``, ``scheduledCancel``, ``perpMarginRejected``."""
    lower = word.lower()
    if lower.endswith(("canceled", "cancel")):
        return "canceled"
    return "rejected" if lower.endswith("rejected") else word


def _is_conditional(row: _Order) -> bool:
    """Tell whether an order waits for a price; pushes may leave the mark out, and have the type or the price."""
    if row.isTrigger is not None:
        return row.isTrigger
    return row.orderType.startswith(("Stop", "Take Profit")) or priced(row.triggerPx) is not None


# --- fills and payments -------------------------------------------------------------------------------------------


def fills(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, user: str | None, *, snapshot: bool
) -> list[Fill | InvalidRow]:
    """Return the fills of rows; ``user`` is the account's address, None where a frame does not say whose they are."""
    return rows_of(rows, _Fill, lambda row: _fill(row, markets, account, user, snapshot=snapshot), what)


def _fill(row: _Fill, markets: Markets, account: str, user: str | None, *, snapshot: bool) -> Fill:
    listing = _listing(row.coin, markets)
    # Conversions of dust have no id of their own.
    fill_id = str(row.tid) if row.tid else f"{row.oid}:{row.time}"
    liquidity: Literal["maker", "taker"] | None = None
    if row.crossed is not None:
        liquidity = "taker" if row.crossed else "maker"
    return Fill(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.time),
        account,
        fill_id,
        str(row.oid),
        _SIDES[row.side],
        row.px,
        row.sz,
        row.fee,
        row.feeToken,
        liquidity,
        _fill_type(row, user),
        snapshot,
    )


def _fill_type(row: _Fill, user: str | None) -> str:
    """Return what kind of fill it is: ``dir`` decides, and ``liquidation`` only for what ``dir`` calls a trade."""
    if row.dir.startswith(_LIQUIDATED):
        return "liquidation"
    if not _TRADES.fullmatch(row.dir):
        return _FILL_TYPES.get(row.dir, row.dir)
    return "liquidation" if row.liquidation is not None and _is_ours(row, row.liquidation, user) else "trade"


def _is_ours(row: _Fill, liquidation: _Liquidation, user: str | None) -> bool:
    """Tell whether it is we who are liquidated, not the other side; who is liquidated takes from the book."""
    if user is not None and liquidation.liquidatedUser is not None:
        return user.lower() == liquidation.liquidatedUser.lower()
    return row.crossed is not False


def payments(
    rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str, *, snapshot: bool
) -> list[Payment | InvalidRow]:
    """Return the payments of rows as the stream has them."""
    return rows_of(rows, _Funding, lambda row: _paid(row, row.time, markets, account, snapshot=snapshot), what)


def paid_by_rest(rows: Iterable[msgspec.Raw], what: str, markets: Markets, account: str) -> list[Payment | InvalidRow]:
    """Return the payments of rows as REST has them."""
    return rows_of(rows, _FundingRow, lambda row: _paid(row.delta, row.time, markets, account, snapshot=True), what)


def _paid(row: _Delta, time_ms: int, markets: Markets, account: str, *, snapshot: bool) -> Payment:
    listing = _listing(row.coin, markets)
    return Payment(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(time_ms),
        account,
        f"{time_ms}:{row.coin}",
        # The member is called usdc whatever is paid in; a builder's exchange has a collateral of its choice.
        "USDC" if dex_of(row.coin) == CORE else None,
        row.usdc,
        "funding",
        row.fundingRate,
        snapshot,
    )


# --- what is held -------------------------------------------------------------------------------------------------


def positions(
    rows: Iterable[msgspec.Raw], what: str, at_ms: int | None, markets: Markets, account: str, *, snapshot: bool
) -> list[Position | InvalidRow]:
    """Return the positions of a state."""

    def position(row: _AssetPosition) -> Position:
        return _position(row.position, ns_of_ms(at_ms), markets, account, snapshot=snapshot)

    return rows_of(rows, _AssetPosition, position, what)


def _position(row: _Position, at_ns: int | None, markets: Markets, account: str, *, snapshot: bool) -> Position:
    return Position(
        "hyperliquid",
        _listing(row.coin, markets).symbol,
        row.coin,
        at_ns,
        account,
        row.szi,
        priced(row.entryPx),
        None,
        row.unrealizedPnl,
        above_zero(row.liquidationPx),
        margin_mode(row.leverage.type),
        snapshot,
    )


def margins(states: Iterable[msgspec.Raw], what: str, account: str, *, snapshot: bool) -> list[Margin | InvalidRow]:
    """Return the margin of each state."""
    return rows_of(states, _MarginState, lambda row: _margin(row, account, snapshot=snapshot), what)


def _margin(row: _MarginState, account: str, *, snapshot: bool) -> Margin:
    """Return the margin of the venue's own exchange; where it writes 0, there may be funds in the spot balance."""
    is_known = not is_zero(row.marginSummary.accountValue)
    return Margin(
        "hyperliquid",
        None,
        None,
        ns_of_ms(row.time),
        account,
        row.marginSummary.accountValue if is_known else None,
        row.withdrawable if is_known else None,
        row.marginSummary.totalMarginUsed,
        row.crossMaintenanceMarginUsed,
        snapshot,
    )


def balances(rows: Iterable[msgspec.Raw], what: str, account: str, *, snapshot: bool) -> list[Balance | InvalidRow]:
    """Return the balances of the spot side; what is on hold is not available."""

    def balance(row: _SpotBalance) -> Balance:
        available = difference(row.total, row.hold)
        return Balance("hyperliquid", None, None, None, account, row.coin, row.total, available, snapshot)

    return rows_of(rows, _SpotBalance, balance, what)


def _listing(coin: str, markets: Markets) -> Listing:
    return markets.get(coin) or _VENUE.offline_listing(coin)
