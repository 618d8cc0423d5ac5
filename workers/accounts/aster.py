"""Aster's private side: a listenKey to connect with, signed REST calls.

How they are signed is in :mod:`workers.accounts.aster_signing`.

Source of the rules: Aster's futures API documentation (V1 and V3: signing, user data streams, account endpoints), and
recorded frames where they differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import field

from ipc.decimals import is_zero, plain, shortest
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Payment, Position, Side
from ipc.health import Reason
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    Expired,
    Login,
    LoginError,
    Renewal,
    Snapshot,
    Steps,
    pinging_often,
)
from workers.accounts.aster_signing import HMAC_SECRETS, WALLET_SECRETS, Signer, can_sign, signer_of
from workers.accounts.secrets import Secrets
from workers.venues.aster import Aster
from workers.venues.venue import Keepalive, Listing, Markets, Refused, parsed

__all__ = ["AsterAccount"]

T = TypeVar("T")

_Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]

_NS_PER_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
#: A listenKey lives for 60 minutes; half of that is left when it is renewed.
_RENEW_NS: Final = 30 * 60 * 1_000_000_000
#: Fills are told for spans of a week at most.
_SPAN_MS: Final = 7 * _DAY_MS - 60_000
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_PAGES: Final = 50
#: What a URL can hold as it is.
_LISTEN_KEY_FORM: Final = re.compile(r"[A-Za-z0-9_-]+")
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_STATUS: Final[Mapping[str, _Status]] = {
    "FILLED": "filled",
    "CANCELED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
}
#: Types of orders that wait for a price. Once it is reached, an order's type is what it became.
_CONDITIONAL: Final = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
_EXECUTIONS: Final = frozenset({"TRADE", "CALCULATED"})
#: What error codes mean that have to do with the credentials, in our words: the venue's could repeat them.
_REFUSALS: Final[Mapping[int | str | None, str]] = {
    -1021: "the time of the request is off: check this machine's clock",
    -1022: "the signature is wrong: check ASTER_API_SECRET, or ASTER_SIGNER_KEY",
    -2014: "ASTER_API_KEY has no valid form",
    -2015: "the key is unknown, or may not do this, or not from this address",
    -1125: "the listenKey is gone",
    -4225: "the nonce is off: check this machine's clock",
}
_VENUE: Final = Aster()


# --- frames -------------------------------------------------------------------------------------------------------


class _Execution(msgspec.Struct):
    symbol: str = field(name="s")
    client_id: str = field(name="c")
    side: Literal["BUY", "SELL"] = field(name="S")
    type: str = field(name="o")
    size: str = field(name="q")
    price: str = field(name="p")
    execution: str = field(name="x")
    status: str = field(name="X")
    id: int = field(name="i")
    filled: str = field(name="z")
    last_size: str = field(name="l")
    last_price: str = field(name="L")
    trade_id: int = field(name="t")
    time_ms: int = field(name="T")
    fee: str | None = field(name="n", default=None)
    fee_asset: str | None = field(name="N", default=None)
    is_maker: bool = field(name="m", default=False)
    reduce_only: bool = field(name="R", default=False)


class _OrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE"):
    order: _Execution = field(name="o")


class _PushedBalance(msgspec.Struct):
    asset: str = field(name="a")
    wallet: str = field(name="wb")
    #: Apart from profits and fees.
    change: str | None = field(name="bc", default=None)


class _PushedPosition(msgspec.Struct):
    symbol: str = field(name="s")
    amount: str = field(name="pa")
    entry_price: str | None = field(name="ep", default=None)
    unrealised_pnl: str | None = field(name="up", default=None)
    margin_mode: str | None = field(name="mt", default=None)


class _Changes(msgspec.Struct):
    reason: str = field(name="m", default="")
    balances: list[_PushedBalance] = field(name="B", default_factory=list)
    positions: list[_PushedPosition] = field(name="P", default_factory=list)


class _AccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE"):
    changes: _Changes = field(name="a")
    matched_ms: int | None = field(name="T", default=None)
    pushed_ms: int | None = field(name="E", default=None)


class _KeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired"):
    """No more events will come, but the socket stays open."""


_Payload: TypeAlias = _OrderUpdate | _AccountUpdate | _KeyExpired


class _Other(msgspec.Struct):
    """Enough of any frame to tell what it is."""

    e: str = ""
    code: int | str | None = None
    msg: str = ""
    result: Any = msgspec.UNSET


_payloads: Final = msgspec.json.Decoder(_Payload)
_other: Final = msgspec.json.Decoder(_Other)


# --- answers ------------------------------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    code: int | str
    msg: str = ""


class _ListenKey(msgspec.Struct):
    listenKey: str  # noqa: N815 - the venue's names


class _OrderRow(msgspec.Struct):
    symbol: str
    orderId: int  # noqa: N815
    side: Literal["BUY", "SELL"]
    status: str
    type: str
    price: str
    origQty: str  # noqa: N815
    executedQty: str  # noqa: N815
    clientOrderId: str = ""  # noqa: N815
    reduceOnly: bool = False  # noqa: N815
    updateTime: int | None = None  # noqa: N815


class _TradeRow(msgspec.Struct):
    symbol: str
    id: int
    orderId: int  # noqa: N815
    side: Literal["BUY", "SELL"]
    price: str
    qty: str
    commission: str | None = None
    commissionAsset: str | None = None  # noqa: N815
    maker: bool | None = None
    time: int | None = None


class _PositionRow(msgspec.Struct):
    symbol: str
    positionAmt: str  # noqa: N815
    entryPrice: str | None = None  # noqa: N815
    markPrice: str | None = None  # noqa: N815
    unRealizedProfit: str | None = None  # noqa: N815
    liquidationPrice: str | None = None  # noqa: N815
    marginType: str | None = None  # noqa: N815
    updateTime: int | None = None  # noqa: N815


class _BalanceRow(msgspec.Struct):
    asset: str
    balance: str
    availableBalance: str | None = None  # noqa: N815
    updateTime: int | None = None  # noqa: N815


class _Account(msgspec.Struct):
    totalMarginBalance: str | None = None  # noqa: N815
    availableBalance: str | None = None  # noqa: N815
    totalInitialMargin: str | None = None  # noqa: N815
    totalMaintMargin: str | None = None  # noqa: N815


_errors: Final = msgspec.json.Decoder(_Error)
_listen_keys: Final = msgspec.json.Decoder(_ListenKey)
_orders: Final = msgspec.json.Decoder(list[_OrderRow])
_trades: Final = msgspec.json.Decoder(list[_TradeRow])
_positions: Final = msgspec.json.Decoder(list[_PositionRow])
_balances: Final = msgspec.json.Decoder(list[_BalanceRow])
_accounts: Final = msgspec.json.Decoder(_Account)


class AsterAccount(AccountSide):
    """The futures account behind an API key or an API wallet."""

    venue: ClassVar[str] = "aster"
    secrets: ClassVar[tuple[str, ...]] = (*HMAC_SECRETS, *WALLET_SECRETS)
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Either way of signing will do."""
        return can_sign(secrets)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the stream tells of all of them
        now_wall_ns: int,
    ) -> Steps[Login]:
        """A listenKey is the address of the stream; nothing is subscribed."""
        key = yield from _listen_key(signer_of(secrets))
        return Login(f"{ws_url}/ws/{key}", renew_at_ns=now_wall_ns + _RENEW_NS, token=key)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> Steps[Renewal]:
        """Asking again keeps the key alive; if it was gone already, the answer is a new one."""
        key = yield from _listen_key(signer_of(secrets))
        url = login.url.removesuffix(login.token) + key
        renewed = Login(url, renew_at_ns=now_wall_ns + _RENEW_NS, token=key)
        return Renewal(renewed, must_reconnect=key != login.token)

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`AccountSide.decode`."""
        try:
            frame = _payloads.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_other(payload, error)
        if isinstance(frame, _OrderUpdate):
            return list(_execution_events(frame.order, markets, account))
        if isinstance(frame, _AccountUpdate):
            return list(_change_events(frame, markets, account))
        return [Expired("the listenKey has expired")]

    def snapshot(
        self,
        login: Login,  # noqa: ARG002 - calls are signed, the listenKey is for the stream alone
        secrets: Secrets,
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,
    ) -> Steps[Snapshot]:
        """Orders and fills are told by market: those followed, those with open orders and those traded since."""
        signer = signer_of(secrets)
        body = yield signer.request("openOrders", weight=40)
        open_rows = _answered(_orders, body, "openOrders")
        body = yield signer.request("positionRisk", weight=5)
        risks = _answered(_positions, body, "positionRisk")
        since_ms = max(since_ms, now_wall_ns // _NS_PER_MS - _SPAN_MS)
        events: list[AccountEvent] = []
        closed: list[AccountEvent] = []
        for symbol in _symbols(markets, open_rows, risks, since_ms):
            trades = yield from _trades_since(signer, symbol, since_ms)
            body = yield signer.request("allOrders", {"symbol": symbol, "limit": _CLOSED_ORDERS}, weight=5)
            rows = _answered(_orders, body, "allOrders")
            clients = {row.orderId: row.clientOrderId for row in rows}
            events += [_row_fill(row, clients.get(row.orderId, ""), markets, account) for row in trades]
            orders = [_row_order(row, markets, account) for row in rows]
            closed += [order for order in orders if order.status not in {"open", "untriggered"}]
        events += [_row_order(row, markets, account) for row in open_rows]
        events += closed
        events += _net(_row_position(row, markets, account) for row in risks if not is_zero(row.positionAmt))
        body = yield signer.request("balance", weight=5)
        events += [_row_balance(row, account) for row in _answered(_balances, body, "balance")]
        body = yield signer.request("account", weight=5)
        events.append(_margin(_answered(_accounts, body, "account"), account))
        return Snapshot(tuple(events), frozenset(str(row.orderId) for row in open_rows))


# --- frames to events ---------------------------------------------------------------------------------------------


def _decode_other(payload: bytes | memoryview, malformed: Exception) -> list[AccountItem]:
    """A frame that tells nothing of ours: of another kind, a reply, an error; or a malformed one."""
    try:
        frame = _other.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Aster frame: {error}") from error
    if frame.code is not None:
        return [Refused(f"{frame.code}: {_REFUSALS.get(frame.code, frame.msg)}", reason=_reason(frame.code))]
    if frame.e in {"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"}:
        raise DecodeError(f"malformed {frame.e} frame: {malformed}") from malformed
    if not frame.e and frame.result is msgspec.UNSET:
        raise DecodeError("a frame without an event type")
    return []


def _ns(time_ms: int | None) -> int | None:
    return time_ms * _NS_PER_MS if time_ms else None


def _listing(symbol: str, markets: Markets) -> Listing:
    return markets.get(symbol) or _VENUE.offline_listing(symbol)


def _priced(price: str | None) -> str | None:
    """A price, where zero stands for none."""
    return price if price and not is_zero(price) else None


def _status(word: str, order_type: str) -> _Status:
    """A word that is new to us does not close an order: closed is final, and REST lists what is open."""
    waits = word == "NEW" and order_type in _CONDITIONAL
    return "untriggered" if waits else _STATUS.get(word, "open")


def _fill_type(client_id: str) -> str:
    """The venue's own orders are known by their client ids."""
    if client_id.startswith("autoclose-"):
        return "liquidation"
    return "adl" if client_id == "adl_autoclose" else "trade"


def _fill_id(symbol: str, trade_id: int) -> str:
    """Trades are numbered market by market."""
    return f"{symbol}:{trade_id}"


def _margin_mode(text: str | None) -> Literal["cross", "isolated"] | None:
    match text:
        case "cross" | "isolated":
            return text
        case "crossed" | "CROSSED":
            return "cross"
        case "ISOLATED":
            return "isolated"
        case _:
            return None


def _execution_events(row: _Execution, markets: Markets, account: str) -> Iterable[AccountEvent]:
    """The order as it is now, and the fill that made it so."""
    listing, at_ns, side = _listing(row.symbol, markets), _ns(row.time_ms), _SIDES[row.side]
    if row.execution in _EXECUTIONS and not is_zero(row.last_size):
        yield Fill(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            at_ns,
            account,
            _fill_id(row.symbol, row.trade_id),
            str(row.id),
            side,
            row.last_price,
            row.last_size,
            row.fee,
            row.fee_asset,
            "maker" if row.is_maker else "taker",
            _fill_type(row.client_id),
        )
    yield Order(
        "aster",
        listing.symbol,
        listing.venue_symbol,
        at_ns,
        account,
        str(row.id),
        row.client_id or None,
        side,
        _priced(row.price),
        row.size,
        row.filled,
        _status(row.status, row.type),
        row.status,
        row.type,
        row.reduce_only,
    )


def _change_events(frame: _AccountUpdate, markets: Markets, account: str) -> Iterable[AccountEvent]:
    """What changed of balances and positions, and the funding that was paid."""
    at_ns, changes = _ns(frame.matched_ms or frame.pushed_ms), frame.changes
    for balance in changes.balances:
        yield Balance("aster", None, None, at_ns, account, balance.asset, balance.wallet, None)
    yield from _net(_pushed_position(row, at_ns, markets, account) for row in changes.positions)
    if changes.reason == "FUNDING_FEE":
        # Only that of an isolated position says which market it is for.
        listing = _listing(changes.positions[0].symbol, markets) if changes.positions else None
        for balance in changes.balances:
            if balance.change and not is_zero(balance.change):
                yield _payment(balance, listing, at_ns, account)


def _payment(row: _PushedBalance, listing: Listing | None, at_ns: int | None, account: str) -> Payment:
    symbol, venue_symbol = (listing.symbol, listing.venue_symbol) if listing else (None, None)
    # The venue gives no id. What is paid for several cross positions comes at one moment, and no frame says for which.
    payment_id = f"{(at_ns or 0) // _NS_PER_MS}:{venue_symbol or ''}:{row.asset}:{row.change}:{row.wallet}"
    return Payment("aster", symbol, venue_symbol, at_ns, account, payment_id, row.asset, row.change or "0", "funding")


def _pushed_position(row: _PushedPosition, at_ns: int | None, markets: Markets, account: str) -> Position:
    listing = _listing(row.symbol, markets)
    return Position(
        "aster",
        listing.symbol,
        listing.venue_symbol,
        at_ns,
        account,
        row.amount,
        _priced(row.entry_price),
        None,
        row.unrealised_pnl,
        None,
        _margin_mode(row.margin_mode),
    )


def _net(legs: Iterable[Position]) -> list[Position]:
    """One position a market: in hedge mode there is a long and a short one, of which only the sum is told."""
    by_market: dict[str | None, list[Position]] = {}
    for leg in legs:
        by_market.setdefault(leg.venue_symbol, []).append(leg)
    return [_sum(legs_of) for legs_of in by_market.values()]


def _sum(legs: list[Position]) -> Position:
    held = [leg for leg in legs if not is_zero(leg.size)]
    if len(held) < 2:
        return held[0] if held else legs[0]
    pnls = [leg.unrealised_pnl for leg in held if leg.unrealised_pnl]
    return msgspec.structs.replace(
        held[0],
        exchange_ns=max(leg.exchange_ns or 0 for leg in held) or None,
        size=_total(leg.size for leg in held),
        entry_price=None,
        unrealised_pnl=_total(pnls) if len(pnls) == len(held) else None,
        liquidation_price=None,
    )


def _total(texts: Iterable[str]) -> str:
    try:
        return plain(sum((Decimal(shortest(text)) for text in texts), Decimal(0)))
    except ValueError as error:
        raise DecodeError(f"malformed position: {error}") from error


# --- answers to events --------------------------------------------------------------------------------------------


def _reason(code: int | str | None) -> Reason:
    if code in _REFUSALS:
        return Reason.AUTH_FAILED
    return Reason.RATE_LIMITED if code == -1003 else Reason.REFUSED


def _answered(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The answer in ``body``.

    Raises:
        LoginError: It is an error of the venue's.
        DecodeError: It is neither that nor what it should be.
    """
    try:
        refused = _errors.decode(body)
    except (ValueError, RecursionError):
        return parsed(decoder, body, what)
    text = _REFUSALS.get(refused.code) or f"{what}: {refused.msg}"
    raise LoginError(f"{refused.code}: {text}", _reason(refused.code))


def _listen_key(signer: Signer) -> Steps[str]:
    body = yield signer.request("listenKey", method="POST")
    key = _answered(_listen_keys, body, "listenKey").listenKey
    if not _LISTEN_KEY_FORM.fullmatch(key):
        raise DecodeError("an answer to listenKey without one that a URL can hold")
    return key


def _symbols(
    markets: Markets, open_rows: Iterable[_OrderRow], risks: Iterable[_PositionRow], since_ms: int
) -> list[str]:
    """The markets in which there can be fills to ask for, sorted."""
    followed: Iterable[str] = markets if isinstance(markets, Iterable) else ()
    traded = (row.symbol for row in risks if not is_zero(row.positionAmt) or (row.updateTime or 0) >= since_ms)
    return sorted({*followed, *traded, *(row.symbol for row in open_rows)})


def _trades_since(signer: Signer, symbol: str, since_ms: int) -> Steps[list[_TradeRow]]:
    """Pages, oldest first: the first one from a time on, the others from a trade on."""
    trades: dict[int, _TradeRow] = {}
    start = {"startTime": since_ms}
    for _ in range(_PAGES):
        body = yield signer.request("userTrades", {"symbol": symbol, "limit": _FILLS, **start}, weight=5)
        rows = _answered(_trades, body, "userTrades")
        known = len(trades)
        trades |= {row.id: row for row in rows}
        if len(rows) < _FILLS or len(trades) == known:
            break
        start = {"fromId": max(row.id for row in rows) + 1}
    return list(trades.values())


def _row_order(row: _OrderRow, markets: Markets, account: str) -> Order:
    listing = _listing(row.symbol, markets)
    return Order(
        "aster",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updateTime),
        account,
        str(row.orderId),
        row.clientOrderId or None,
        _SIDES[row.side],
        _priced(row.price),
        row.origQty,
        row.executedQty,
        _status(row.status, row.type),
        row.status,
        row.type,
        row.reduceOnly,
        snapshot=True,
    )


def _row_fill(row: _TradeRow, client_id: str, markets: Markets, account: str) -> Fill:
    """A fill; what kind it is, the client id of its order tells."""
    listing = _listing(row.symbol, markets)
    liquidity: Literal["maker", "taker"] | None = None
    if row.maker is not None:
        liquidity = "maker" if row.maker else "taker"
    return Fill(
        "aster",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.time),
        account,
        _fill_id(row.symbol, row.id),
        str(row.orderId),
        _SIDES[row.side],
        row.price,
        row.qty,
        row.commission,
        row.commissionAsset,
        liquidity,
        _fill_type(client_id),
        snapshot=True,
    )


def _row_position(row: _PositionRow, markets: Markets, account: str) -> Position:
    listing = _listing(row.symbol, markets)
    return Position(
        "aster",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updateTime),
        account,
        row.positionAmt,
        _priced(row.entryPrice),
        _priced(row.markPrice),
        row.unRealizedProfit,
        _priced(row.liquidationPrice),
        _margin_mode(row.marginType),
        snapshot=True,
    )


def _row_balance(row: _BalanceRow, account: str) -> Balance:
    at_ns = _ns(row.updateTime)
    return Balance("aster", None, None, at_ns, account, row.asset, row.balance, row.availableBalance, snapshot=True)


def _margin(row: _Account, account: str) -> Margin:
    return Margin(
        "aster",
        None,
        None,
        None,
        account,
        row.totalMarginBalance,
        row.availableBalance,
        row.totalInitialMargin,
        row.totalMaintMargin,
        snapshot=True,
    )
