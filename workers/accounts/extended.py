"""Extended's private side: a key in a header, one stream that tells everything when it opens.

Source of the rules: Extended's API documentation (account updates stream, private REST API), and recorded frames where
the two differ.

Frames are numbered as on the public streams, but there is no way to ask for one again: what was lost is found when REST
is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import field

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position, Side
from ipc.health import Reason
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    AllPositions,
    Login,
    LoginError,
    Snapshot,
    Steps,
    nothing,
    pinging_often,
    without_calls,
)
from workers.accounts.secrets import Secrets
from workers.venues.extended import Extended
from workers.venues.venue import Keepalive, Listing, Markets, Refused, Request, parsed

__all__ = ["ExtendedAccount"]

T = TypeVar("T")

_Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]

_NS_PER_MS: Final = 1_000_000
#: Times below this are seconds, as in examples of the documentation; in practice they are milliseconds.
_SECONDS_BELOW: Final = 10**11
_KEY: Final = "EXTENDED_API_KEY"
#: The firewall refuses clients that do not name themselves.
_USER_AGENT: Final = "User-Agent: paraphina-supervisor"
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_PAGES: Final = 50
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_STATUS: Final[Mapping[str, _Status]] = {
    "UNTRIGGERED": "untriggered",
    "FILLED": "filled",
    "CANCELLED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
}
_FILL_TYPES: Final[Mapping[str, str]] = {"TRADE": "trade", "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
#: Types of frames that must hold a section of ours; the multiplexed stream writes ``ACCOUNT.`` before them.
_TYPES: Final = frozenset({"ORDER", "TRADE", "POSITION", "BALANCE", "SPOT_BALANCE"})
_VENUE: Final = Extended()


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    status: str
    size: str = field(name="qty")
    type: str = ""
    client_id: str | None = field(name="externalId", default=None)
    price: str | None = None
    filled: str | None = field(name="filledQty", default=None)
    reduce_only: bool = field(name="reduceOnly", default=False)
    updated: int | None = field(name="updatedTime", default=None)


class _Trade(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    price: str
    size: str = field(name="qty")
    order_id: int | str | None = field(name="orderId", default=None)
    fee: str | None = None
    is_taker: bool | None = field(name="isTaker", default=None)
    type: str = field(name="tradeType", default="TRADE")
    created: int | None = field(name="createdTime", default=None)


class _Position(msgspec.Struct):
    market: str
    side: Literal["LONG", "SHORT"]
    #: Without a sign.
    size: str
    status: str | None = None
    entry_price: str | None = field(name="openPrice", default=None)
    mark_price: str | None = field(name="markPrice", default=None)
    liquidation_price: str | None = field(name="liquidationPrice", default=None)
    unrealised_pnl: str | None = field(name="unrealisedPnl", default=None)
    updated: int | None = field(name="updatedAt", default=None)


class _Balance(msgspec.Struct):
    asset: str = field(name="collateralName")
    total: str = field(name="balance")
    equity: str | None = None
    for_trade: str | None = field(name="availableForTrade", default=None)
    for_withdrawal: str | None = field(name="availableForWithdrawal", default=None)
    initial_margin: str | None = field(name="initialMargin", default=None)
    updated: int | None = field(name="updatedTime", default=None)


class _SpotBalance(msgspec.Struct):
    asset: str
    balance: str
    available: str | None = field(name="availableToWithdraw", default=None)
    updated: int | None = field(name="updatedAt", default=None)


class _Sections(msgspec.Struct):
    """What a frame tells: any of these, the others being absent or null."""

    orders: list[_Order] | None = None
    trades: list[_Trade] | None = None
    positions: list[_Position] | None = None
    balance: _Balance | None = None
    spot_balances: list[_SpotBalance] | None = field(name="spotBalances", default=None)
    is_snapshot: bool = field(name="isSnapshot", default=False)


class _Frame(msgspec.Struct):
    type: str | None = None
    data: _Sections | None = None
    #: A text; on the multiplexed stream an object with code and message.
    error: Any = None
    pushed_ms: int | None = field(name="ts", default=None)
    jsonrpc: str | None = None


class _Other(msgspec.Struct):
    """Enough of any frame to tell what it is."""

    type: str | None = None
    data: Any = None


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Pagination(msgspec.Struct):
    cursor: int | str | None = None


class _Answer(msgspec.Struct, Generic[T]):
    status: str
    data: T | None = None
    error: _Error | None = None
    pagination: _Pagination | None = None


_frames: Final = msgspec.json.Decoder(_Frame)
_other: Final = msgspec.json.Decoder(_Other)
_orders: Final = msgspec.json.Decoder(_Answer[list[_Order]])
_trades: Final = msgspec.json.Decoder(_Answer[list[_Trade]])
_positions: Final = msgspec.json.Decoder(_Answer[list[_Position]])
_balances: Final = msgspec.json.Decoder(_Answer[_Balance])


class ExtendedAccount(AccountSide):
    """The account behind an API key."""

    venue: ClassVar[str] = "extended"
    secrets: ClassVar[tuple[str, ...]] = (_KEY,)
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """The key names its account."""
        return secrets.has(_KEY)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the key says all
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Login]:
        """The key goes with the upgrade; there is nothing to ask for, and it does not expire."""
        key = secrets.get(_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key or not key:
            raise LoginError(f"{_KEY} is no API key: it has characters that no header can carry")
        return without_calls(Login(f"{ws_url}/account", headers=(_USER_AGENT, f"X-Api-Key: {key}"), token=key))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame of either stream version; see :meth:`AccountSide.decode`."""
        try:
            frame = _frames.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_other(payload, error)
        if frame.error is not None:
            return [_refused(frame.error)]
        if frame.data is not None:
            return _items(frame.data, frame.pushed_ms, markets, account)
        if frame.type is None and frame.jsonrpc is None:
            raise DecodeError("a nameless frame without data")
        return []

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,  # noqa: ARG002 - the login holds the key
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        events: list[AccountEvent] = []
        events += yield from _fills_since(login.token, markets, account, since_ms)
        body = yield _request("/user/orders", login.token)
        open_orders = [_order(row, markets, account, snapshot=True) for row in _told(_orders, body, "orders")]
        body = yield _request(f"/user/orders/history?limit={_CLOSED_ORDERS}", login.token)
        history = [_order(row, markets, account, snapshot=True) for row in _told(_orders, body, "orders/history")]
        events += open_orders
        # The newest come first, and the last one told stands.
        events += [order for order in reversed(history) if order.status not in {"open", "untriggered"}]
        body = yield _request("/user/positions", login.token)
        events += [
            _position(row, None, markets, account, snapshot=True) for row in _told(_positions, body, "positions")
        ]
        body = yield _request("/user/balance", login.token)
        events += _balance_told(body, account)
        # The balance is that of the collateral; what else is held, the stream alone tells.
        open_ids = frozenset(order.order_id for order in open_orders)
        return Snapshot(tuple(events), open_ids, balances_of=nothing)


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_other(payload: bytes | memoryview, malformed: Exception) -> list[AccountItem]:
    """A frame that tells nothing of ours, such as one of deposits; or a malformed one."""
    try:
        frame = _other.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Extended frame: {error}") from error
    sections = {
        name for name in _Sections.__struct_encode_fields__ if isinstance(frame.data, dict) and name in frame.data
    }
    if sections or frame.type is None or frame.type.removeprefix("ACCOUNT.") in _TYPES:
        raise DecodeError(f"malformed {frame.type or 'nameless'} frame: {malformed}") from malformed
    return []


def _refused(error: Any) -> Refused:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
    reason = _reason(code, str(message))
    return Refused(_named(reason, f"{code}: {message}" if code else str(message)), reason=reason, fatal=True)


def _named(reason: Reason, text: str) -> str:
    """The venue's text, but not where it could repeat the key."""
    return f"{_KEY} is not accepted" if reason is Reason.AUTH_FAILED else text


def _reason(code: Any, message: str) -> Reason:
    """What an error means for us; of those for bad keys the documentation gives no code of the venue's own."""
    text = message.lower()
    if code in (401, 403, "401", "403") or "unauthori" in text or "api key" in text or "api-key" in text:
        return Reason.AUTH_FAILED
    if code in (429, "429") or "too many" in text or "rate limit" in text:
        return Reason.RATE_LIMITED
    return Reason.REFUSED


def _items(data: _Sections, pushed_ms: int | None, markets: Markets, account: str) -> list[AccountItem]:
    snapshot = data.is_snapshot
    items: list[AccountItem] = [_order(row, markets, account, snapshot=snapshot) for row in data.orders or ()]
    items += [_fill(row, markets, account, snapshot=snapshot) for row in data.trades or ()]
    positions = [_position(row, pushed_ms, markets, account, snapshot=snapshot) for row in data.positions or ()]
    items += positions
    if snapshot and data.positions is not None:
        items.append(AllPositions(frozenset(position.venue_symbol for position in positions)))
    if data.balance is not None:
        items += _balance_events(data.balance, pushed_ms, account, snapshot=snapshot)
    items += [_spot_balance(row, pushed_ms, account, snapshot=snapshot) for row in data.spot_balances or ()]
    return items


# --- events -------------------------------------------------------------------------------------------------------


def _ns(time: int | None) -> int | None:
    if not time:
        return None
    return (time * 1000 if time < _SECONDS_BELOW else time) * _NS_PER_MS


def _listing(market: str, markets: Markets) -> Listing:
    return markets.get(market) or _VENUE.offline_listing(market)


def _order(row: _Order, markets: Markets, account: str, *, snapshot: bool) -> Order:
    listing = _listing(row.market, markets)
    return Order(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated),
        account,
        str(row.id),
        row.client_id or None,
        _SIDES[row.side],
        # A market order is sent as one at the worst price that it may have.
        None if row.type == "MARKET" else row.price or None,
        row.size,
        row.filled or "0",
        # A word that is new to us does not close an order: closed is final, and REST lists what is open.
        _STATUS.get(row.status, "open"),
        row.status,
        row.type,
        row.reduce_only,
        snapshot,
    )


def _fill(row: _Trade, markets: Markets, account: str, *, snapshot: bool) -> Fill:
    listing = _listing(row.market, markets)
    liquidity: Literal["maker", "taker"] | None = None
    if row.is_taker is not None:
        liquidity = "taker" if row.is_taker else "maker"
    return Fill(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.created),
        account,
        str(row.id),
        None if row.order_id is None else str(row.order_id),
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee,
        listing.quote,
        liquidity,
        _FILL_TYPES.get(row.type) or row.type.lower(),
        snapshot,
    )


def _position(row: _Position, pushed_ms: int | None, markets: Markets, account: str, *, snapshot: bool) -> Position:
    listing = _listing(row.market, markets)
    size = "0" if row.status == "CLOSED" else row.size.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated or pushed_ms),
        account,
        f"-{size}" if is_held and row.side == "SHORT" else size,
        row.entry_price or None if is_held else None,
        row.mark_price or None,
        row.unrealised_pnl or None,
        row.liquidation_price or None if is_held else None,
        None,
        snapshot,
    )


def _balance_events(row: _Balance, pushed_ms: int | None, account: str, *, snapshot: bool) -> list[AccountEvent]:
    at_ns = _ns(row.updated or pushed_ms)
    return [
        Balance("extended", None, None, at_ns, account, row.asset, row.total, row.for_withdrawal, snapshot),
        Margin("extended", None, None, at_ns, account, row.equity, row.for_trade, row.initial_margin, None, snapshot),
    ]


def _spot_balance(row: _SpotBalance, pushed_ms: int | None, account: str, *, snapshot: bool) -> Balance:
    at_ns = _ns(row.updated or pushed_ms)
    return Balance("extended", None, None, at_ns, account, row.asset, row.balance, row.available, snapshot)


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, key: str) -> Request:
    return Request(path, headers=(("X-Api-Key", key),))


def _answered(decoder: msgspec.json.Decoder[_Answer[T]], body: bytes, what: str) -> tuple[T, _Pagination]:
    """What an answer holds, and where the next page begins.

    An answer that is well but empty is malformed: an empty list of open orders must be told as such.
    """
    answer = parsed(decoder, body, what)
    if answer.status != "OK":
        error = answer.error or _Error()
        reason = _reason(error.code, error.message)
        raise LoginError(_named(reason, f"{what}: {error.code}: {error.message}"), reason)
    if answer.data is None:
        raise DecodeError(f"an answer to {what} without data")
    return answer.data, answer.pagination or _Pagination()


def _told(decoder: msgspec.json.Decoder[_Answer[T]], body: bytes, what: str) -> T:
    data, _ = _answered(decoder, body, what)
    return data


def _balance_told(body: bytes, account: str) -> list[AccountEvent]:
    """What the answer to balance tells; an account without money has none that could be found."""
    try:
        return _balance_events(_told(_balances, body, "balance"), None, account, snapshot=True)
    except LoginError as error:
        if error.reason is Reason.REFUSED and "not found" in error.what.lower():
            return []
        raise


def _fills_since(key: str, markets: Markets, account: str, since_ms: int) -> Steps[list[AccountEvent]]:
    """Pages, newest first, down to the first one that begins before ``since_ms``."""
    events: list[AccountEvent] = []
    cursor = ""
    for _ in range(_PAGES):
        body = yield _request(f"/user/trades?limit={_FILLS}{cursor}", key)
        rows, page = _answered(_trades, body, "trades")
        recent = [row for row in rows if (row.created or since_ms) >= since_ms]
        events += [_fill(row, markets, account, snapshot=True) for row in recent]
        if not rows or len(recent) < len(rows) or not page.cursor:
            break
        cursor = f"&cursor={quote(str(page.cursor))}"
    return events[::-1]
