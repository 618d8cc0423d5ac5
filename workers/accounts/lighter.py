"""Lighter's private side: channels of an account on the public stream, opened with a token.

Where the token comes from is in :mod:`workers.accounts.lighter_token`.

Source of the rules: Lighter's API documentation (WebSocket account channels, account data, data structures), its Python
SDK for the token in REST calls, and recorded frames where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from ipc.decimals import difference, is_zero, number, plain
from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position, Side
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
    everything,
    nothing,
    pinging_often,
    without_calls,
)
from workers.accounts.answers import Page, Pages, all_pages, events_of, oldest_first, page_of, raw_rows, recent_page
from workers.accounts.fields import NumberText, WholeNumber, json_decoder
from workers.accounts.lighter_token import SECRETS, has_token, index_of, token_of
from workers.accounts.secrets import Secrets
from workers.accounts.words import MarginMode, OrderStatus, above_zero, fill_type, order_status, priced
from workers.rows import InvalidRow, split_rows
from workers.venues.fields import ns_of_ms, ns_of_us
from workers.venues.lighter import Lighter
from workers.venues.venue import Keepalive, Listing, Markets, Ping, Pong, Refused, Request, parsed, split_multiplier

__all__ = ["LighterAccount"]

T = TypeVar("T")

_MS_PER_S: Final = 1000
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
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "in-progress": "open",
    "open": "open",
    "pending": "untriggered",
    "filled": "filled",
    "canceled": "canceled",
    "canceled-expired": "expired",
    "canceled-margin-not-allowed": "rejected",
    "canceled-position-not-allowed": "rejected",
    "canceled-invalid-balance": "rejected",
}
#: What an order can wait for: it is not in the book then.
_WAITING: Final = frozenset({"mark-price", "parent-order", "twap"})
_FILL_TYPES: Final[Mapping[str, str]] = {"deleverage": "adl", "market-settlement": "settlement"}
_MARGIN_MODES: Final[Mapping[int, MarginMode]] = {0: "cross", 1: "isolated"}
#: What error codes mean that have to do with the token, in our words: the venue's could repeat it.
_REFUSALS: Final[Mapping[int, str]] = {
    21109: "no token came with the request",
    21110: "the token is not valid",
    21120: "the token has expired",
}
_HARMLESS: Final = frozenset({30002, 30003})
_TOO_MANY: Final = frozenset({23000, 23001, 23002, 23003, 30009, 30010})
#: Spot markets are numbered from here on.
_FIRST_SPOT: Final = 2048
_NULL: Final = msgspec.Raw(b"null")
_VENUE: Final = Lighter()


class _Order(msgspec.Struct):
    order_index: WholeNumber
    market_index: WholeNumber
    initial_base_amount: NumberText
    filled_base_amount: NumberText
    price: NumberText
    is_ask: bool
    status: str
    type: str = ""
    order_id: str | None = None
    client_order_id: str | None = None
    owner_account_index: WholeNumber | None = None
    reduce_only: bool | None = None
    #: What a trigger order waits for.
    trigger_status: str | None = None
    timestamp: WholeNumber | None = None
    updated_at: WholeNumber | None = None
    market_symbol: str | None = None


class _Trade(msgspec.Struct):
    trade_id: WholeNumber
    market_id: WholeNumber
    size: NumberText
    price: NumberText
    ask_id: WholeNumber
    bid_id: WholeNumber
    ask_account_id: WholeNumber
    bid_account_id: WholeNumber
    is_maker_ask: bool
    type: str = "trade"
    #: Left out when zero.
    taker_fee: WholeNumber | None = None
    maker_fee: WholeNumber | None = None
    timestamp: WholeNumber | None = None
    transaction_time: WholeNumber | None = None
    market_symbol: str | None = None


class _Position(msgspec.Struct):
    market_id: WholeNumber
    #: 1 or -1; the amount has none.
    sign: WholeNumber
    position: NumberText
    symbol: str | None = None
    avg_entry_price: NumberText | None = None
    unrealized_pnl: NumberText | None = None
    liquidation_price: NumberText | None = None
    margin_mode: WholeNumber | None = None


class _Asset(msgspec.Struct):
    symbol: str
    #: What the spot side holds; :attr:`margin_balance` is apart from it.
    balance: NumberText
    locked_balance: NumberText | None = None
    #: The collateral of the perpetual side.
    margin_balance: NumberText | None = None


class _Stats(msgspec.Struct):
    portfolio_value: NumberText | None = None
    available_balance: NumberText | None = None


class _Error(msgspec.Struct):
    code: int
    message: str = ""


#: Rows by market or by asset, or a list of them; a list that is empty stands for no markets.
_Section: TypeAlias = dict[str, msgspec.Raw] | list[msgspec.Raw] | None


class _Frame(msgspec.Struct):
    """Any frame; its rows are validated one by one."""

    type: str = ""
    channel: str = ""
    orders: _Section = None
    trades: _Section = None
    positions: _Section = None
    assets: _Section = None
    stats: msgspec.Raw = _NULL
    timestamp: WholeNumber | None = None
    error: _Error | None = None


class _AnyFrame(msgspec.Struct):
    type: str = ""


class _Account(msgspec.Struct):
    index: WholeNumber
    positions: list[msgspec.Raw]
    assets: list[msgspec.Raw]
    available_balance: NumberText | None = None
    total_asset_value: NumberText | None = None
    cross_initial_margin_requirement: NumberText | None = None
    cross_maintenance_margin_requirement: NumberText | None = None


class _Accounts(msgspec.Struct):
    code: Literal[200]
    accounts: list[_Account]


class _Orders(msgspec.Struct):
    code: Literal[200]
    orders: list[msgspec.Raw]
    next_cursor: str | None = None


class _Trades(msgspec.Struct):
    code: Literal[200]
    trades: list[msgspec.Raw]
    next_cursor: str | None = None


_frames: Final = json_decoder(_Frame)
_any_frame: Final = json_decoder(_AnyFrame)
_errors: Final = json_decoder(_Error)
_order_rows: Final = json_decoder(_Order)
_trade_rows: Final = json_decoder(_Trade)
_position_rows: Final = json_decoder(_Position)
_asset_rows: Final = json_decoder(_Asset)
_stats_rows: Final = json_decoder(_Stats)
_accounts: Final = json_decoder(_Accounts)
_orders: Final = json_decoder(_Orders)
_trades: Final = json_decoder(_Trades)


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
        if frame.type == "error" or frame.error is not None:
            return [_refused(frame.error or parsed(_errors, bytes(payload), "error"))]
        kind, _, channel = frame.type.rpartition("/")
        decoder = _DECODERS.get(channel)
        if decoder is None:
            return _unknown(frame.type)
        return decoder(frame, _Naming(markets, account, _account_of(frame), kind == "subscribed"))

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
        index, token = index_of(secrets), login.token
        naming = _Naming(markets, account, index, snapshot=True)
        fills = yield from _fills_since(token, naming, since_ms)
        opened = yield from _active(token, naming)
        # One page is enough: it tells how orders ended, and what ended is known from the open ones.
        body = yield _request(f"/accountInactiveOrders?account_index={index}&limit={_ROWS}", token)
        closed, unclear = split_rows(_inactive(body, naming))
        body = yield _request(f"/account?by=index&value={index}", token)
        found = _account_of_ours(body, naming)
        positions, invalid = split_rows(_position_items(found.positions, None, naming, "positions"))
        balances, unread = split_rows(_balance_items(found.assets, None, naming, "assets"))
        return Snapshot(
            (
                *oldest_first(fills),
                *opened.events,
                # The newest come first, and the last one told stands.
                *(order for order in reversed(closed) if order.status not in {"open", "untriggered"}),
                *(position for position in positions if not is_zero(position.size)),
                *balances,
                _margin(found, naming),
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *invalid, *unread),
            orders_of=everything if opened.is_whole else nothing,
            positions_of=nothing if invalid else everything,
            balances_of=nothing if unread else everything,
        )


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


def _by_market(section: _Section) -> list[msgspec.Raw]:
    """Return what is listed by market, of all markets."""
    if isinstance(section, Mapping):
        return [row for rows in section.values() for row in raw_rows(rows)]
    return section or []


def _each(section: _Section) -> list[msgspec.Raw]:
    return list(section.values()) if isinstance(section, Mapping) else section or []


def _decode_orders(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    return [*_order_items(_by_market(frame.orders), naming, "account_all_orders")]


def _decode_trades(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    return [*_fill_items(_by_market(frame.trades), naming, "account_all_trades")]


def _decode_positions(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    return [*_position_items(_each(frame.positions), ns_of_ms(frame.timestamp), naming, "account_all_positions")]


def _decode_assets(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    return [*_balance_items(_each(frame.assets), ns_of_ms(frame.timestamp), naming, "account_all_assets")]


def _decode_stats(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    if bytes(frame.stats) == b"null":
        raise DecodeError("no stats")
    at_ns = ns_of_ms(frame.timestamp)
    return [*events_of([frame.stats], _stats_rows.decode, lambda row: [_stats(row, at_ns, naming)], "user_stats")]


_DECODERS: Final[dict[str, Callable[[_Frame, _Naming], list[AccountItem]]]] = {
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


def _order_items(rows: list[msgspec.Raw], naming: _Naming, what: str) -> list[Order | InvalidRow]:
    return events_of(rows, _order_rows.decode, lambda row: [_order(row, naming)], what)


def _fill_items(rows: list[msgspec.Raw], naming: _Naming, what: str) -> list[Fill | InvalidRow]:
    return events_of(rows, _trade_rows.decode, lambda row: _fills(row, naming), what)


def _position_items(
    rows: list[msgspec.Raw], at_ns: int | None, naming: _Naming, what: str
) -> list[Position | InvalidRow]:
    return events_of(rows, _position_rows.decode, lambda row: [_position(row, at_ns, naming)], what)


def _balance_items(
    rows: list[msgspec.Raw], at_ns: int | None, naming: _Naming, what: str
) -> list[Balance | InvalidRow]:
    return events_of(rows, _asset_rows.decode, lambda row: [_balance(row, at_ns, naming)], what)


def _order_ns(time: int | None) -> int | None:
    """Return when an order was changed, ns; it is told in s or in ms."""
    return ns_of_ms(time * _MS_PER_S if time and time < _SECONDS_BELOW else time)


def _status(row: _Order) -> OrderStatus:
    """Return an order's status: an order is canceled for whatever reason comes after that word."""
    word = row.status if row.status in _STATUS else row.status.partition("-")[0]
    waits = row.trigger_status in _WAITING
    return order_status(_STATUS, word, row.initial_base_amount, row.filled_base_amount, waits=waits)


def _order(row: _Order, naming: _Naming) -> Order:
    if row.owner_account_index not in {None, naming.owner}:
        raise DecodeError("an order of another account")
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
        None if row.type in _MARKET_ORDERS else priced(row.price),
        row.initial_base_amount,
        row.filled_base_amount,
        _status(row),
        row.status,
        row.type,
        bool(row.reduce_only),
        naming.snapshot,
    )


def _fills(row: _Trade, naming: _Naming) -> list[Fill]:
    """Return the account's sides of a trade: one, or both where it traded with itself.

    Raises:
        DecodeError: It is a trade of other accounts.
    """
    asks = [
        is_ask for is_ask, owner in ((True, row.ask_account_id), (False, row.bid_account_id)) if owner == naming.owner
    ]
    if not asks:
        raise DecodeError("a trade of other accounts")
    return [_fill(row, naming, is_ask=is_ask) for is_ask in asks]


def _fill(row: _Trade, naming: _Naming, *, is_ask: bool) -> Fill:
    liquidity: Literal["maker", "taker"] = "maker" if is_ask == row.is_maker_ask else "taker"
    side: Side = "sell" if is_ask else "buy"
    listing = naming.listing(row.market_id, row.market_symbol)
    return Fill(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        ns_of_us(row.transaction_time) or _order_ns(row.timestamp),
        naming.account,
        str(row.trade_id),
        str(row.ask_id if is_ask else row.bid_id),
        side,
        row.price,
        row.size,
        _fee(row, (row.maker_fee if liquidity == "maker" else row.taker_fee) or 0),
        # Which asset a fee on a spot market is paid in is not documented.
        _FEE_ASSET if row.market_id < _FIRST_SPOT else None,
        liquidity,
        fill_type(_FILL_TYPES, row.type, liquidity),
        naming.snapshot,
    )


def _fee(row: _Trade, rate: int) -> str:
    """Return what a trade cost; the amount that is told with it is rounded, so it does not do for this."""
    return plain(number(row.price) * number(row.size) * rate * _FEE_UNIT)


def _position(row: _Position, at_ns: int | None, naming: _Naming) -> Position:
    listing = naming.listing(row.market_id, row.symbol)
    size = row.position.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        at_ns,
        naming.account,
        f"-{size}" if is_held and row.sign < 0 else size,
        priced(row.avg_entry_price) if is_held else None,
        None,
        row.unrealized_pnl or None,
        above_zero(row.liquidation_price) if is_held else None,
        None if row.margin_mode is None else _MARGIN_MODES.get(row.margin_mode),
        naming.snapshot,
    )


def _balance(row: _Asset, at_ns: int | None, naming: _Naming) -> Balance:
    """Return what is held of an asset: on the spot side and, apart from that, as collateral."""
    collateral = row.margin_balance or "0"
    total = row.balance if is_zero(collateral) else plain(number(row.balance) + number(collateral))
    available = difference(total, row.locked_balance or "0")
    return Balance("lighter", None, None, at_ns, naming.account, row.symbol, total, available, naming.snapshot)


def _stats(row: _Stats, at_ns: int | None, naming: _Naming) -> Margin:
    margin = (row.portfolio_value or None, row.available_balance or None, None, None)
    return Margin("lighter", None, None, at_ns, naming.account, *margin, naming.snapshot)


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


def _fills_since(token: str, naming: _Naming, since_ms: int) -> Steps[Pages[Fill]]:
    """Read pages, newest first, down to the first one that ends before ``since_ms``."""
    query = f"/trades?account_index={naming.owner}&sort_by=timestamp&limit={_ROWS}"

    def read(body: bytes) -> Page[Fill]:
        page = _answered(_trades, body, "trades")
        return recent_page(
            page.trades,
            _trade_rows.decode,
            lambda row: _fills(row, naming),
            "trades",
            cursor=page.next_cursor,
            time_of=lambda row: row.timestamp,
            since_ms=since_ms,
        )

    return all_pages("trades", lambda cursor: _request(_at(query, cursor), token), read)


def _active(token: str, naming: _Naming) -> Steps[Pages[Order]]:
    query = f"/accountActiveOrders?account_index={naming.owner}&market_id={_ALL_MARKETS}"

    def read(body: bytes) -> Page[Order]:
        page = _answered(_orders, body, "accountActiveOrders")
        return page_of(_order_items(page.orders, naming, "accountActiveOrders"), page.next_cursor)

    return all_pages("accountActiveOrders", lambda cursor: _request(_at(query, cursor), token), read)


def _inactive(body: bytes, naming: _Naming) -> list[Order | InvalidRow]:
    rows = _answered(_orders, body, "accountInactiveOrders").orders
    return _order_items(rows, naming, "accountInactiveOrders")


def _at(query: str, cursor: str) -> str:
    return f"{query}&cursor={cursor}" if cursor else query


def _account_of_ours(body: bytes, naming: _Naming) -> _Account:
    accounts = _answered(_accounts, body, "account").accounts
    found = next((one for one in accounts if one.index == naming.owner), None)
    if found is None:
        raise DecodeError(f"an answer to account without account {naming.owner}")
    return found


def _margin(row: _Account, naming: _Naming) -> Margin:
    return Margin(
        "lighter",
        None,
        None,
        None,
        naming.account,
        row.total_asset_value or None,
        row.available_balance or None,
        row.cross_initial_margin_requirement or None,
        row.cross_maintenance_margin_requirement or None,
        naming.snapshot,
    )
