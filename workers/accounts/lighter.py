"""Lighter's private side: channels of an account on the public stream, opened with a token.

Where the token comes from is in :mod:`workers.accounts.lighter_token`.

Source of the rules: Lighter's API documentation (WebSocket account channels, account data, data structures), its Python
SDK for the token in REST calls, and recorded frames where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from ipc.decimals import difference, is_zero, plain, shortest
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position, Side
from ipc.health import Reason
from ipc.topics import base_of
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    Login,
    LoginError,
    Renewal,
    Snapshot,
    Steps,
    pinging_often,
    without_calls,
)
from workers.accounts.lighter_token import SECRETS, has_token, index_of, token_of
from workers.accounts.secrets import Secrets
from workers.venues.lighter import Lighter
from workers.venues.venue import Keepalive, Listing, Markets, Ping, Pong, Refused, Request, parsed, split_multiplier

__all__ = ["LighterAccount"]

T = TypeVar("T")

_Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]

_NS_PER_US: Final = 1000
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
#: Times of orders below this are seconds, as in older answers of REST.
_SECONDS_BELOW: Final = 10**11
#: A token is renewed this long before its end, or this long from now when it is nearer to it already.
_RENEW_BEFORE_NS: Final = 300 * _NS_PER_S
_RENEW_AGAIN_NS: Final = 60 * _NS_PER_S
#: Fees are given in units of this share of what was paid.
_FEE_UNIT: Final = Decimal("1e-6")
_FEE_ASSET: Final = "USDC"
_ROWS: Final = 100
_PAGES: Final = 50
#: In a query, the id that stands for all markets.
_ALL_MARKETS: Final = 255

_CHANNELS: Final = (
    "account_all_orders",
    "account_all_trades",
    "account_all_positions",
    "account_all_assets",
    "user_stats",
)
#: More digits than an account's number has.
_MAX_DIGITS: Final = 18
_PONG: Final = b'{"type":"pong"}'
_MARKET_ORDERS: Final = frozenset({"market", "stop-loss", "take-profit"})
_STATUS: Final[Mapping[str, _Status]] = {
    "pending": "untriggered",
    "filled": "filled",
    "canceled-expired": "expired",
    "canceled-margin-not-allowed": "rejected",
    "canceled-position-not-allowed": "rejected",
    "canceled-invalid-balance": "rejected",
}
_FILL_TYPES: Final[Mapping[str, str]] = {"deleverage": "adl", "market-settlement": "settlement"}
_MARGIN_MODES: Final[Mapping[int, Literal["cross", "isolated"]]] = {0: "cross", 1: "isolated"}
#: What error codes mean that have to do with the token, in our words: the venue's could repeat it.
_REFUSALS: Final[Mapping[int, str]] = {
    21109: "no token came with the request",
    21110: "the token is not valid",
    21120: "the token has expired",
}
_HARMLESS: Final = frozenset({30002, 30003})
_TOO_MANY: Final = frozenset({23000, 23001, 23002, 23003, 30009, 30010})
_VENUE: Final = Lighter()


class _Order(msgspec.Struct):
    order_index: int
    market_index: int
    initial_base_amount: str
    filled_base_amount: str
    price: str
    is_ask: bool
    status: str
    type: str = ""
    order_id: str | None = None
    client_order_id: str | None = None
    reduce_only: bool = False
    timestamp: int | None = None
    updated_at: int | None = None
    market_symbol: str | None = None


class _Trade(msgspec.Struct):
    trade_id: int
    market_id: int
    size: str
    price: str
    ask_id: int
    bid_id: int
    ask_account_id: int
    bid_account_id: int
    is_maker_ask: bool
    type: str = "trade"
    #: Left out when zero.
    taker_fee: int = 0
    maker_fee: int = 0
    timestamp: int | None = None
    transaction_time: int | None = None
    market_symbol: str | None = None


class _Position(msgspec.Struct):
    market_id: int
    #: 1 or -1; the amount has none.
    sign: int
    position: str
    symbol: str | None = None
    avg_entry_price: str | None = None
    unrealized_pnl: str | None = None
    liquidation_price: str | None = None
    margin_mode: int | None = None


class _Asset(msgspec.Struct):
    symbol: str
    balance: str
    locked_balance: str = "0"


class _Stats(msgspec.Struct):
    portfolio_value: str | None = None
    available_balance: str | None = None


class _Error(msgspec.Struct):
    code: int
    message: str = ""


class _Frame(msgspec.Struct):
    """Any frame. What belongs to markets is told by market; a list that is empty stands for no markets."""

    type: str = ""
    channel: str = ""
    orders: dict[str, list[_Order]] | list[_Order] | None = None
    trades: dict[str, list[_Trade]] | list[_Trade] | None = None
    positions: dict[str, _Position] | list[_Position] | None = None
    assets: dict[str, _Asset] | list[_Asset] | None = None
    stats: _Stats | None = None
    timestamp: int | None = None
    error: _Error | None = None


class _AnyFrame(msgspec.Struct):
    type: str = ""


class _Account(msgspec.Struct):
    index: int
    positions: list[_Position]
    assets: list[_Asset]
    available_balance: str | None = None
    total_asset_value: str | None = None
    cross_initial_margin_requirement: str | None = None
    cross_maintenance_margin_requirement: str | None = None


class _Accounts(msgspec.Struct):
    code: Literal[200]
    accounts: list[_Account]


class _Orders(msgspec.Struct):
    code: Literal[200]
    orders: list[_Order]


class _Trades(msgspec.Struct):
    code: Literal[200]
    trades: list[_Trade]
    next_cursor: str | None = None


_frames: Final = msgspec.json.Decoder(_Frame)
_any_frame: Final = msgspec.json.Decoder(_AnyFrame)
_errors: Final = msgspec.json.Decoder(_Error)
_accounts: Final = msgspec.json.Decoder(_Accounts)
_orders: Final = msgspec.json.Decoder(_Orders)
_trades: Final = msgspec.json.Decoder(_Trades)


class _Naming(NamedTuple):
    """What events are named by: the markets that are known, and the account's alias."""

    markets: Markets
    account: str
    #: The venue's number of the account.
    owner: int
    snapshot: bool

    def listing(self, market_id: int, symbol: str | None) -> Listing:
        """A market by its id, named by the venue's own text where nothing else names it."""
        wire = str(market_id)
        known = self.markets.get(wire) or _VENUE.offline_listing(wire)
        if known.base is not None or not symbol:
            return known
        base, multiplier = split_multiplier(symbol)
        return Listing(base_of(base), wire, symbol, market_id=wire, multiplier=multiplier, quote=known.quote)


class LighterAccount(AccountSide):
    """An account or sub-account, by its index."""

    venue: ClassVar[str] = "lighter"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """An index, and a token or what makes one."""
        return has_token(secrets)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the channels are of all of them
        now_wall_ns: int,
    ) -> Steps[Login]:
        """Subscriptions that carry the token; the venue does not confirm it apart from them."""
        return without_calls(_login(secrets, ws_url, now_wall_ns))

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> Steps[Renewal]:
        """Another token, if there is one by now: a subscription keeps the token that it was made with."""
        renewed = _login(secrets, login.url, now_wall_ns)
        return without_calls(Renewal(renewed, must_reconnect=renewed.token != login.token))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`AccountSide.decode`."""
        try:
            frame = _frames.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_other(payload, error)
        if frame.error is not None:
            return [_refused(frame.error)]
        kind, _, channel = frame.type.rpartition("/")
        decoder = _DECODERS.get(channel)
        if decoder is None:
            return _unknown(frame.type)
        return list(decoder(frame, _Naming(markets, account, _account_of(frame), kind == "subscribed")))

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        index = index_of(secrets)
        naming = _Naming(markets, account, index, snapshot=True)
        events = yield from _fills_since(login.token, naming, since_ms)
        own = f"account_index={index}"
        body = yield _request(f"/accountActiveOrders?{own}&market_id={_ALL_MARKETS}", login.token)
        open_orders = [_order(row, naming) for row in _answered(_orders, body, "accountActiveOrders").orders]
        body = yield _request(f"/accountInactiveOrders?{own}&limit={_ROWS}", login.token)
        closed = [_order(row, naming) for row in _answered(_orders, body, "accountInactiveOrders").orders]
        events += open_orders
        # The newest come first, and the last one told stands.
        events += [order for order in reversed(closed) if order.status not in {"open", "untriggered"}]
        body = yield _request(f"/account?by=index&value={index}", login.token)
        events += _account_events(_answered(_accounts, body, "account").accounts, naming)
        return Snapshot(tuple(events), frozenset(order.order_id for order in open_orders))


# --- the login ----------------------------------------------------------------------------------------------------


def _login(secrets: Secrets, url: str, now_wall_ns: int) -> Login:
    index = index_of(secrets)
    token = token_of(secrets, index, url, now_wall_ns)
    subscribe = tuple(
        msgspec.json.encode({"type": "subscribe", "channel": f"{channel}/{index}", "auth": token.text})
        for channel in _CHANNELS
    )
    renew_at_ns = max(token.expiry_ns - _RENEW_BEFORE_NS, min(now_wall_ns + _RENEW_AGAIN_NS, token.expiry_ns))
    return Login(url, subscribe=subscribe, renew_at_ns=renew_at_ns, token=token.text)


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_other(payload: bytes | memoryview, error: Exception) -> list[AccountItem]:
    """A frame that is not shaped as ours: of another type, or malformed."""
    try:
        kind = _any_frame.decode(payload).type
    except (ValueError, RecursionError) as noise:
        raise DecodeError(f"not a Lighter frame: {noise}") from noise
    if kind.rpartition("/")[2] in _DECODERS:
        raise DecodeError(f"malformed {kind} frame: {error}") from error
    return _unknown(kind)


def _unknown(kind: str) -> list[AccountItem]:
    """Frames of other types carry nothing for us; one without a type is no frame of Lighter's."""
    if not kind:
        raise DecodeError("a frame without a type")
    return []


def _account_of(frame: _Frame) -> int:
    """The account that a channel is of: ``account_all_trades:1234``; 0 for frames that are of none."""
    number = frame.channel.rpartition(":")[2][:_MAX_DIGITS]
    return int(number) if number.isascii() and number.isdecimal() else 0


def _refused(error: _Error) -> Refused:
    reason = _reason(error.code, Reason.SUBSCRIBE_ERROR)
    text = f"{error.code} {_REFUSALS.get(error.code, error.message)}"
    return Refused(text, reason=reason, fatal=reason is Reason.AUTH_FAILED)


def _reason(code: int, otherwise: Reason) -> Reason | None:
    if code in _REFUSALS:
        return Reason.AUTH_FAILED
    if code in _HARMLESS:
        return None
    return Reason.RATE_LIMITED if code in _TOO_MANY else otherwise


def _rows(told: Mapping[str, list[T]] | list[T] | None) -> Iterable[T]:
    """What is told by market, of all markets."""
    if isinstance(told, Mapping):
        return [row for rows in told.values() for row in rows]
    return told or ()


def _each(told: Mapping[str, T] | list[T] | None) -> Iterable[T]:
    return told.values() if isinstance(told, Mapping) else told or ()


def _decode_orders(frame: _Frame, naming: _Naming) -> Iterable[AccountItem]:
    return (_order(row, naming) for row in _rows(frame.orders))


def _decode_trades(frame: _Frame, naming: _Naming) -> Iterable[AccountItem]:
    return (_fill(row, naming) for row in _rows(frame.trades))


def _decode_positions(frame: _Frame, naming: _Naming) -> Iterable[AccountItem]:
    at_ns = _at_ns(frame)
    return (_position(row, at_ns, naming) for row in _each(frame.positions))


def _decode_assets(frame: _Frame, naming: _Naming) -> Iterable[AccountItem]:
    at_ns = _at_ns(frame)
    return (_balance(row, at_ns, naming) for row in _each(frame.assets))


def _decode_stats(frame: _Frame, naming: _Naming) -> Iterable[AccountItem]:
    if frame.stats is None:
        raise DecodeError("no stats")
    told, at_ns = frame.stats, _at_ns(frame)
    margin = (told.portfolio_value or None, told.available_balance or None, None, None)
    yield Margin("lighter", None, None, at_ns, naming.account, *margin, naming.snapshot)


_DECODERS: Final[dict[str, Callable[[_Frame, _Naming], Iterable[AccountItem]]]] = {
    "account_all_orders": _decode_orders,
    "account_all_trades": _decode_trades,
    "account_all_positions": _decode_positions,
    "account_all_assets": _decode_assets,
    "user_stats": _decode_stats,
    "ping": lambda _frame, _naming: [Ping(_PONG)],
    "pong": lambda _frame, _naming: [Pong()],
    "shutdown": lambda _frame, _naming: [
        Refused("the server shuts down", reason=Reason.SERVER_SHUTDOWN, fatal=True),
    ],
}


# --- events -------------------------------------------------------------------------------------------------------


def _at_ns(frame: _Frame) -> int | None:
    return frame.timestamp * _NS_PER_MS if frame.timestamp else None


def _order_ns(time: int | None) -> int | None:
    """When an order was changed; told in s or in ms."""
    if not time:
        return None
    return time * (_NS_PER_S if time < _SECONDS_BELOW else _NS_PER_MS)


def _priced(price: str | None) -> str | None:
    """A price, where zero stands for none."""
    return price if price and not is_zero(price) else None


def _status(word: str) -> _Status:
    """A word that is new to us does not close an order: closed is final, and REST lists what is open."""
    return _STATUS.get(word) or ("canceled" if word.startswith("canceled") else "open")


def _order(row: _Order, naming: _Naming) -> Order:
    listing = naming.listing(row.market_index, row.market_symbol)
    client_id = row.client_order_id or "0"
    return Order(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        _order_ns(row.updated_at or row.timestamp),
        naming.account,
        row.order_id or str(row.order_index),
        None if client_id == "0" else client_id,
        "sell" if row.is_ask else "buy",
        # What a market order has is the worst price that it may have.
        None if row.type in _MARKET_ORDERS else _priced(row.price),
        row.initial_base_amount,
        row.filled_base_amount,
        _status(row.status),
        row.status,
        row.type,
        row.reduce_only,
        naming.snapshot,
    )


def _fill(row: _Trade, naming: _Naming) -> Fill:
    """The account's side of a trade."""
    if naming.owner not in {row.ask_account_id, row.bid_account_id}:
        raise DecodeError(f"trade {row.trade_id} of other accounts")
    is_ask = row.ask_account_id == naming.owner
    is_maker = is_ask == row.is_maker_ask
    side: Side = "sell" if is_ask else "buy"
    listing = naming.listing(row.market_id, row.market_symbol)
    return Fill(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        row.transaction_time * _NS_PER_US if row.transaction_time else _order_ns(row.timestamp),
        naming.account,
        str(row.trade_id),
        str(row.ask_id if is_ask else row.bid_id),
        side,
        row.price,
        row.size,
        _fee(row, row.maker_fee if is_maker else row.taker_fee),
        _FEE_ASSET,
        "maker" if is_maker else "taker",
        _FILL_TYPES.get(row.type) or row.type,
        naming.snapshot,
    )


def _fee(row: _Trade, rate: int) -> str:
    """What a trade cost; the amount that is told with it is rounded, so it does not do for this."""
    try:
        return plain(Decimal(shortest(row.price)) * Decimal(shortest(row.size)) * rate * _FEE_UNIT)
    except ValueError as error:
        raise DecodeError(f"malformed trade: {error}") from error


def _position(row: _Position, at_ns: int | None, naming: _Naming) -> Position:
    listing = naming.listing(row.market_id, row.symbol)
    is_held = not is_zero(row.position)
    return Position(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        at_ns,
        naming.account,
        f"-{row.position}" if is_held and row.sign < 0 else row.position,
        _priced(row.avg_entry_price) if is_held else None,
        None,
        row.unrealized_pnl or None,
        _priced(row.liquidation_price),
        None if row.margin_mode is None else _MARGIN_MODES.get(row.margin_mode),
        naming.snapshot,
    )


def _balance(row: _Asset, at_ns: int | None, naming: _Naming) -> Balance:
    try:
        available = difference(row.balance, row.locked_balance)
    except ValueError as error:
        raise DecodeError(f"malformed balance: {error}") from error
    return Balance("lighter", None, None, at_ns, naming.account, row.symbol, row.balance, available, naming.snapshot)


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, token: str) -> Request:
    return Request(path, headers=(("Authorization", token),))


def _answered(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The answer in ``body``.

    Raises:
        LoginError: It is an error of the venue's.
        DecodeError: It is neither that nor what it should be.
    """
    error = parsed(_errors, body, what)
    if error.code == 200:
        return parsed(decoder, body, what)
    text = _REFUSALS.get(error.code) or f"{what}: {error.message}"
    raise LoginError(f"{error.code} {text}", _reason(error.code, Reason.REFUSED) or Reason.REFUSED)


def _fills_since(token: str, naming: _Naming, since_ms: int) -> Steps[list[AccountEvent]]:
    """Pages, newest first, down to the first one that begins before ``since_ms``."""
    events: dict[str, AccountEvent] = {}
    query = f"/trades?account_index={naming.owner}&sort_by=timestamp&limit={_ROWS}"
    cursor = ""
    for _ in range(_PAGES):
        body = yield _request(query + cursor, token)
        page = _answered(_trades, body, "trades")
        recent = [row for row in page.trades if (row.timestamp or since_ms) >= since_ms]
        events |= {str(row.trade_id): _fill(row, naming) for row in recent}
        if not page.trades or len(recent) < len(page.trades) or not page.next_cursor:
            break
        cursor = f"&cursor={quote(page.next_cursor)}"
    return list(events.values())[::-1]


def _account_events(accounts: list[_Account], naming: _Naming) -> Iterable[AccountEvent]:
    found = next((one for one in accounts if one.index == naming.owner), None)
    if found is None:
        raise DecodeError(f"an answer to account without account {naming.owner}")
    yield from (_position(row, None, naming) for row in found.positions if not is_zero(row.position))
    yield from (_balance(row, None, naming) for row in found.assets)
    yield Margin(
        "lighter",
        None,
        None,
        None,
        naming.account,
        found.total_asset_value,
        found.available_balance,
        found.cross_initial_margin_requirement,
        found.cross_maintenance_margin_requirement,
        naming.snapshot,
    )
