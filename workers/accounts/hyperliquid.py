"""Hyperliquid's private side: no login, everything by the address of the account.

Source of the rules: Hyperliquid's API documentation (WebSocket subscriptions, info endpoint), and recorded frames where
the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec

from ipc.decimals import difference
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Payment, Position
from ipc.health import Reason
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    AllPositions,
    Login,
    LoginError,
    Snapshot,
    Steps,
    pinging_often,
    without_calls,
)
from workers.accounts.secrets import NAMES, Secrets
from workers.venues.hyperliquid import Hyperliquid
from workers.venues.venue import Keepalive, Listing, Markets, Pong, Refused, Request, parsed

__all__ = ["HyperliquidAccount"]

T = TypeVar("T")

_NS_PER_MS: Final = 1_000_000
_ADDRESS: Final = "HL_VAULT_ADDRESS"
_ADDRESS_FORM: Final = re.compile(r"0x[0-9a-fA-F]{40}")
#: ``orderUpdates`` does not say whose they are, so one user a connection.
_SUBSCRIPTIONS: Final = ("orderUpdates", "userFills", "userFundings", "userEvents", "clearinghouseState", "spotState")
#: Rows that an answer to ``userFillsByTime`` holds at most.
_PAGE: Final = 2000
_PAGES: Final = 50
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"B": "buy", "A": "sell"}
_VENUE: Final = Hyperliquid()


class _Order(msgspec.Struct):
    coin: str
    side: Literal["A", "B"]
    limitPx: str  # noqa: N815 - the venue's names
    sz: str
    oid: int
    timestamp: int
    origSz: str | None = None  # noqa: N815
    cloid: str | None = None
    orderType: str = ""  # noqa: N815
    isTrigger: bool = False  # noqa: N815
    reduceOnly: bool = False  # noqa: N815


class _OrderUpdate(msgspec.Struct):
    order: _Order
    status: str
    statusTimestamp: int | None = None  # noqa: N815


class _Fill(msgspec.Struct):
    coin: str
    px: str
    sz: str
    side: Literal["A", "B"]
    time: int
    oid: int
    tid: int
    crossed: bool | None = None
    fee: str | None = None
    feeToken: str | None = None  # noqa: N815
    liquidation: Any = None


class _Leverage(msgspec.Struct):
    type: str = ""


class _Position(msgspec.Struct):
    coin: str
    szi: str
    entryPx: str | None = None  # noqa: N815
    unrealizedPnl: str | None = None  # noqa: N815
    liquidationPx: str | None = None  # noqa: N815
    leverage: _Leverage = msgspec.field(default_factory=_Leverage)


class _AssetPosition(msgspec.Struct):
    position: _Position


class _MarginSummary(msgspec.Struct):
    accountValue: str  # noqa: N815
    totalMarginUsed: str | None = None  # noqa: N815


class _State(msgspec.Struct):
    marginSummary: _MarginSummary  # noqa: N815
    assetPositions: list[_AssetPosition]  # noqa: N815
    crossMaintenanceMarginUsed: str | None = None  # noqa: N815
    withdrawable: str | None = None
    time: int | None = None


class _SpotBalance(msgspec.Struct):
    coin: str
    total: str
    hold: str = "0"


class _SpotState(msgspec.Struct):
    balances: list[_SpotBalance]


class _Fills(msgspec.Struct):
    fills: list[_Fill]
    isSnapshot: bool = False  # noqa: N815


class _Funding(msgspec.Struct):
    time: int
    coin: str
    usdc: str
    fundingRate: str | None = None  # noqa: N815


class _Fundings(msgspec.Struct):
    fundings: list[_Funding]
    isSnapshot: bool = False  # noqa: N815


class _UserEvent(msgspec.Struct):
    fills: list[_Fill] | None = None
    funding: _Funding | None = None


class _Delta(msgspec.Struct):
    coin: str
    usdc: str
    fundingRate: str | None = None  # noqa: N815


class _FundingRow(msgspec.Struct):
    """A payment as REST tells it."""

    time: int
    delta: _Delta


class _StateOf(msgspec.Struct):
    clearinghouseState: _State  # noqa: N815
    dex: str = ""


class _SpotStateOf(msgspec.Struct):
    spotState: _SpotState  # noqa: N815


class _Frame(msgspec.Struct):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_frames: Final = msgspec.json.Decoder(_Frame)
_updates: Final = msgspec.json.Decoder(list[_OrderUpdate])
_fills: Final = msgspec.json.Decoder(_Fills)
_fundings: Final = msgspec.json.Decoder(_Fundings)
_user_events: Final = msgspec.json.Decoder(_UserEvent)
_states: Final = msgspec.json.Decoder(_StateOf)
_spot_states: Final = msgspec.json.Decoder(_SpotStateOf)
_texts: Final = msgspec.json.Decoder(str)
_rest_state: Final = msgspec.json.Decoder(_State)
_rest_spot: Final = msgspec.json.Decoder(_SpotState)
_rest_orders: Final = msgspec.json.Decoder(list[_Order])
_rest_fills: Final = msgspec.json.Decoder(list[_Fill])
_rest_fundings: Final = msgspec.json.Decoder(list[_FundingRow])


class HyperliquidAccount(AccountSide):
    """The account of an address: a user's, a sub-account's or a vault's."""

    venue: ClassVar[str] = "hyperliquid"
    secrets: ClassVar[tuple[str, ...]] = NAMES["hyperliquid"]
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """An address is all it takes."""
        return secrets.has(_ADDRESS)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the address says all
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Login]:
        """Subscriptions that name the address; there is nothing to sign."""
        address = secrets.get(_ADDRESS).lower()
        if not _ADDRESS_FORM.fullmatch(address):
            raise LoginError(f"{_ADDRESS} is no address: 0x and 40 hexadecimal digits are needed")
        subscribe = tuple(
            msgspec.json.encode({"method": "subscribe", "subscription": {"type": kind, "user": address}})
            for kind in _SUBSCRIPTIONS
        )
        return without_calls(Login(ws_url, subscribe=subscribe, token=address))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`AccountSide.decode`."""
        if bytes(payload[:1]) != b"{":
            return []  # the greeting
        frame = _parsed(_frames, payload, "frame")
        match frame.channel:
            case "orderUpdates":
                return [_updated(row, markets, account) for row in _parsed(_updates, frame.data, "orderUpdates")]
            case "userFills":
                told = _parsed(_fills, frame.data, "userFills")
                return [_filled(row, markets, account, snapshot=told.isSnapshot) for row in told.fills]
            case "user":
                return _user_items(_parsed(_user_events, frame.data, "user"), markets, account)
            case "userFundings":
                paid = _parsed(_fundings, frame.data, "userFundings")
                return [_paid(row, markets, account, snapshot=paid.isSnapshot) for row in paid.fundings]
            case "clearinghouseState":
                told_state = _parsed(_states, frame.data, "clearinghouseState")
                return _state_items(told_state.clearinghouseState, markets, account) if not told_state.dex else []
            case "spotState":
                return list(_balances(_parsed(_spot_states, frame.data, "spotState").spotState, account))
            case "pong":
                return [Pong()]
            case "error":
                return [_refused(_parsed(_texts, frame.data, "error"))]
            case _:
                return []

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,  # noqa: ARG002 - the login holds the address
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        events: list[AccountEvent] = []
        events += yield from self._fills_since(login.token, markets, account, since_ms)
        body = yield _info("userFunding", login.token, 20, startTime=since_ms)
        for paid in parsed(_rest_fundings, body, "userFunding"):
            row = _Funding(paid.time, paid.delta.coin, paid.delta.usdc, paid.delta.fundingRate)
            events.append(_paid(row, markets, account, snapshot=True))
        body = yield _info("frontendOpenOrders", login.token, 20)
        open_rows = parsed(_rest_orders, body, "frontendOpenOrders")
        body = yield _info("historicalOrders", login.token, 20)
        # The newest state of an order comes first, and the last one told stands. What is open, the other list says: the
        # two are not of one moment.
        history = [_updated(row, markets, account, snapshot=True) for row in parsed(_updates, body, "historicalOrders")]
        events += [order for order in reversed(history) if order.status not in {"open", "untriggered"}]
        events += [_open(row, markets, account) for row in open_rows]
        body = yield _info("clearinghouseState", login.token, 2)
        events += _state_events(parsed(_rest_state, body, "clearinghouseState"), markets, account, snapshot=True)
        body = yield _info("spotClearinghouseState", login.token, 2)
        events += _balances(parsed(_rest_spot, body, "spotClearinghouseState"), account, snapshot=True)
        return Snapshot(tuple(events), frozenset(str(row.oid) for row in open_rows))

    def _fills_since(self, address: str, markets: Markets, account: str, since_ms: int) -> Steps[list[AccountEvent]]:
        """Pages begin at the time of the last row: rows of one block share it."""
        events: dict[str, AccountEvent] = {}
        for _ in range(_PAGES):
            body = yield _info("userFillsByTime", address, 20, startTime=since_ms)
            rows = parsed(_rest_fills, body, "userFillsByTime")
            fills = [_filled(row, markets, account, snapshot=True) for row in rows]
            events |= {fill.fill_id: fill for fill in fills}
            last_ms = max((row.time for row in rows), default=since_ms)
            if len(rows) < _PAGE or last_ms == since_ms:
                break
            since_ms = last_ms
        return list(events.values())


def _info(kind: str, address: str, weight: int, **more: int) -> Request:
    return Request(
        "/info", method="POST", body=msgspec.json.encode({"type": kind, "user": address, **more}), weight=weight
    )


def _parsed(decoder: msgspec.json.Decoder[T], data: bytes | memoryview | msgspec.Raw, what: str) -> T:
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed {what}: {error}") from error


def _listing(coin: str, markets: Markets) -> Listing:
    return markets.get(coin) or _VENUE.offline_listing(coin)


def _status(word: str) -> Literal["open", "filled", "canceled", "rejected", "closed"]:
    """The set of words is open: what ends like a known one means the like."""
    if word in {"open", "triggered"}:
        return "open"
    if word == "filled":
        return "filled"
    if word.lower().endswith(("canceled", "cancel")):
        return "canceled"
    return "rejected" if word.lower().endswith("rejected") else "closed"


def _updated(row: _OrderUpdate, markets: Markets, account: str, *, snapshot: bool = False) -> Order:
    at_ms = row.statusTimestamp or row.order.timestamp
    status = _status(row.status)
    if status == "open" and row.order.isTrigger and row.status != "triggered":
        return _order(row.order, markets, account, "untriggered", row.status, at_ms, snapshot=snapshot)
    return _order(row.order, markets, account, status, row.status, at_ms, snapshot=snapshot)


def _open(row: _Order, markets: Markets, account: str) -> Order:
    """A row of the list of open orders; it does not say when it came to be as it is."""
    return _order(row, markets, account, "untriggered" if row.isTrigger else "open", "open", None, snapshot=True)


def _order(
    row: _Order,
    markets: Markets,
    account: str,
    status: Literal["open", "untriggered", "filled", "canceled", "rejected", "closed"],
    venue_status: str,
    at_ms: int | None,
    *,
    snapshot: bool,
) -> Order:
    listing = _listing(row.coin, markets)
    size = row.origSz or row.sz
    try:
        filled = difference(size, row.sz)
    except ValueError as error:
        raise DecodeError(f"malformed order: {error}") from error
    return Order(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        at_ms * _NS_PER_MS if at_ms else None,
        account,
        str(row.oid),
        row.cloid,
        _SIDES[row.side],
        row.limitPx,
        size,
        filled,
        status,
        venue_status,
        row.orderType,
        row.reduceOnly,
        snapshot,
    )


def _filled(row: _Fill, markets: Markets, account: str, *, snapshot: bool) -> Fill:
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
        row.time * _NS_PER_MS,
        account,
        fill_id,
        str(row.oid),
        _SIDES[row.side],
        row.px,
        row.sz,
        row.fee,
        row.feeToken,
        liquidity,
        "trade" if row.liquidation is None else "liquidation",
        snapshot,
    )


def _user_items(event: _UserEvent, markets: Markets, account: str) -> list[AccountItem]:
    items: list[AccountItem] = [_filled(row, markets, account, snapshot=False) for row in event.fills or ()]
    if event.funding is not None:
        items.append(_paid(event.funding, markets, account, snapshot=False))
    return items


def _paid(row: _Funding, markets: Markets, account: str, *, snapshot: bool) -> Payment:
    listing = _listing(row.coin, markets)
    return Payment(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        row.time * _NS_PER_MS,
        account,
        f"{row.time}:{row.coin}",
        "USDC",
        row.usdc,
        "funding",
        row.fundingRate,
        snapshot,
    )


def _state_items(state: _State, markets: Markets, account: str) -> list[AccountItem]:
    everywhere = AllPositions(frozenset(row.position.coin for row in state.assetPositions))
    return [*_state_events(state, markets, account, snapshot=False), everywhere]


def _state_events(state: _State, markets: Markets, account: str, *, snapshot: bool) -> list[AccountEvent]:
    at_ns = state.time * _NS_PER_MS if state.time else None
    events: list[AccountEvent] = [
        _position(row.position, at_ns, markets, account, snapshot=snapshot) for row in state.assetPositions
    ]
    margin = Margin(
        "hyperliquid",
        None,
        None,
        at_ns,
        account,
        state.marginSummary.accountValue,
        state.withdrawable,
        state.marginSummary.totalMarginUsed,
        state.crossMaintenanceMarginUsed,
        snapshot,
    )
    return [*events, margin]


def _position(row: _Position, at_ns: int | None, markets: Markets, account: str, *, snapshot: bool) -> Position:
    listing = _listing(row.coin, markets)
    mode: dict[str, Literal["cross", "isolated"]] = {"cross": "cross", "isolated": "isolated"}
    return Position(
        "hyperliquid",
        listing.symbol,
        row.coin,
        at_ns,
        account,
        row.szi,
        row.entryPx,
        None,
        row.unrealizedPnl,
        row.liquidationPx,
        mode.get(row.leverage.type),
        snapshot,
    )


def _balances(state: _SpotState, account: str, *, snapshot: bool = False) -> Iterable[Balance]:
    for row in state.balances:
        try:
            available = difference(row.total, row.hold)
        except ValueError as error:
            raise DecodeError(f"malformed balance: {error}") from error
        yield Balance("hyperliquid", None, None, None, account, row.coin, row.total, available, snapshot)


def _refused(text: str) -> Refused:
    """A refusal; the venue's text repeats what was asked for, and so the address."""
    text = _ADDRESS_FORM.sub("(address)", text)
    if text.startswith(("Already subscribed", "Already unsubscribed")):
        return Refused(text, reason=None)
    return Refused(text, reason=Reason.RATE_LIMITED if text.startswith("Cannot") else Reason.SUBSCRIBE_ERROR)
