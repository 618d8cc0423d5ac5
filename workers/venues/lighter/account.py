"""Lighter's private side: account channels on the public stream, each subscribed with a token.

The token is made or read in :mod:`workers.venues.lighter.token`.

Source of the rules: Lighter's API documentation (WebSocket account channels, account data, data structures), its Python
SDK for the token in REST calls, and recorded frames where they differ.
"""

# ruff: noqa: ARG002 - not every venue needs all arguments of PrivateVenue
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import Fill, Order
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.account import (
    AccountItem,
    Login,
    LoginError,
    PrivateVenue,
    Renewal,
    RestFlow,
    Snapshot,
    account_keepalive,
    no_requests,
    unless_invalid,
)
from workers.venues.account_rows import WholeNumber, json_decoder
from workers.venues.fields import ns_of_ms
from workers.venues.lighter import account_rows as rows
from workers.venues.lighter.account_rows import LighterContext
from workers.venues.lighter.errors import ERROR_REASONS, TOKEN_ERRORS
from workers.venues.lighter.market_data import Lighter
from workers.venues.lighter.token import SECRETS, can_get_token, index_of, token_of
from workers.venues.listing import Markets
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of, raw_rows
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Keepalive, Ping, Pong, Refused, RestRequest, parsed

T = TypeVar("T")

_NS_PER_S: Final = 1_000_000_000
#: Time before the expiry of a token at which it is renewed.
_RENEW_BEFORE_NS: Final = 300 * _NS_PER_S
#: Time until the renewal of a token that is closer to its expiry already.
_RENEW_AGAIN_NS: Final = 60 * _NS_PER_S
#: Rows per page.
_ROWS: Final = 100

_CHANNELS: Final = (
    "account_all_orders",
    "account_all_trades",
    "account_all_positions",
    "account_all_assets",
    "user_stats",
)
#: Longest account index.
_MAX_DIGITS: Final = 18
_PONG: Final = b'{"type":"pong"}'
_NULL: Final = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: int
    message: str = ""


#: Rows by market or by asset, or a list of rows; an empty list stands for no markets.
_Section: TypeAlias = dict[str, msgspec.Raw] | list[msgspec.Raw] | None


class _Frame(msgspec.Struct):
    """Frame of any type; its rows are validated one by one."""

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


class _Accounts(msgspec.Struct):
    code: Literal[200]
    accounts: list[msgspec.Raw]


class _Orders(msgspec.Struct):
    code: Literal[200]
    orders: list[msgspec.Raw]
    next_cursor: str | None = None


class _Trades(msgspec.Struct):
    code: Literal[200]
    #: Null when there are none.
    trades: list[msgspec.Raw] | None
    next_cursor: str | None = None


_frames: Final = json_decoder(_Frame)
_any_frames: Final = json_decoder(_AnyFrame)
_errors: Final = json_decoder(_Error)
_accounts: Final = json_decoder(_Accounts)
_account_rows: Final = json_decoder(_Account)
_orders: Final = json_decoder(_Orders)
_trades: Final = json_decoder(_Trades)


class LighterAccount(PrivateVenue):
    """Private side of a Lighter account or sub-account, identified by its index."""

    venue: ClassVar[str] = "lighter"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = account_keepalive(Lighter.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether there is an index, and a token or the keys to make one."""
        return can_get_token(secrets)

    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Return the login: subscriptions carry the token, which the venue does not confirm separately."""
        return no_requests(_login(secrets, ws_url, now_wall_ns))

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Return a login with a new token where there is one; subscriptions keep the token that they were made with."""
        renewed = _login(secrets, login.url, now_wall_ns)
        return no_requests(Renewal(renewed, must_reconnect=renewed.token != login.token))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Decode a frame; see :meth:`PrivateVenue.decode`."""
        try:
            frame = _frames.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_irregular(payload, error)
        if frame.type == "error" or frame.error is not None:
            return [_error_item(frame.error or parsed(_errors, bytes(payload), "error"))]
        kind, _, channel = frame.type.rpartition("/")
        decoder = _DECODERS.get(channel)
        if decoder is None:
            return _ignore_type(frame.type)
        return decoder(frame, LighterContext(markets, account, _account_index(frame), kind == "subscribed"))

    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Request fills before orders, so that an order's state includes every fill read."""
        index, token = index_of(secrets), login.token
        context = LighterContext(markets, account, index, snapshot=True)
        fills = yield from _fetch_fills(token, context, since_ms)
        opened = yield from _fetch_open_orders(token, context)
        # One page suffices: it gives final states, while the open orders show which orders ended.
        body = yield _request(f"/accountInactiveOrders?account_index={index}&limit={_ROWS}", token)
        closed, unclear = split_rows(_parse_closed_orders(body, context))
        body = yield _request(f"/account?by=index&value={index}", token)
        found, row = _find_account(body, context)
        margin, unseen = split_rows(rows.margin(row, context))
        positions, invalid = split_rows(rows.positions(found.positions, None, context, "positions"))
        balances, unread = split_rows(rows.balances(found.assets, None, context, "assets"))
        return Snapshot(
            (
                *oldest_first(fills),
                *opened.events,
                *closed_orders(closed),
                *(position for position in positions if not is_zero(position.size)),
                *balances,
                *margin,
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *invalid, *unread, *unseen),
            has_all_fills=not fills.is_cut,
            orders_of=opened.covers,
            positions_of=unless_invalid(invalid),
            balances_of=unless_invalid(unread),
        )


def _login(secrets: Secrets, url: str, now_wall_ns: int) -> Login:
    index = index_of(secrets)
    token = token_of(secrets, index, url, now_wall_ns)
    subscribe = tuple(
        msgspec.json.encode({"type": "subscribe", "channel": f"{channel}/{index}", "auth": token.text})
        for channel in _CHANNELS
    )
    renew_at_ns = max(token.expiry_ns - _RENEW_BEFORE_NS, min(now_wall_ns + _RENEW_AGAIN_NS, token.expiry_ns))
    return Login(url, subscribe=subscribe, renew_at_ns=renew_at_ns, token=token.text)


def _decode_irregular(payload: bytes | memoryview, error: Exception) -> list[AccountItem]:
    """Decode a frame of another shape: of another type, or malformed."""
    try:
        kind = _any_frames.decode(payload).type
    except (ValueError, RecursionError) as noise:
        raise DecodeError(f"not a Lighter frame: {noise}") from noise
    if kind.rpartition("/")[2] in _DECODERS:
        raise DecodeError(f"malformed {kind} frame: {error}") from error
    return _ignore_type(kind)


def _ignore_type(kind: str) -> list[AccountItem]:
    """Ignore frames of other types; reject one without a type."""
    if not kind:
        raise DecodeError("a frame without a type")
    return []


def _account_index(frame: _Frame) -> int:
    """Return the account of a channel such as ``account_all_trades:1234``; 0 where there is none."""
    number = frame.channel.rpartition(":")[2][:_MAX_DIGITS]
    return int(number) if number.isascii() and number.isdecimal() else 0


def _error_item(error: _Error) -> Refused:
    reason = ERROR_REASONS.get(error.code, Reason.SUBSCRIBE_ERROR)
    text = f"{error.code} {TOKEN_ERRORS.get(error.code, error.message)}"
    return Refused(text, reason=reason, fatal=reason is Reason.AUTH_FAILED)


def _rows_by_market(section: _Section) -> list[msgspec.Raw]:
    """Return the rows of all markets."""
    if isinstance(section, Mapping):
        return [row for listed in section.values() for row in raw_rows(listed)]
    return section or []


def _section_rows(section: _Section) -> list[msgspec.Raw]:
    return list(section.values()) if isinstance(section, Mapping) else section or []


def _decode_stats(frame: _Frame, context: LighterContext) -> list[AccountItem]:
    if bytes(frame.stats) == b"null":
        raise DecodeError("no stats")
    return [*rows.stats(frame.stats, ns_of_ms(frame.timestamp), context)]


_DECODERS: Final[dict[str, Callable[[_Frame, LighterContext], list[AccountItem]]]] = {
    "account_all_orders": lambda frame, context: [
        *rows.orders(_rows_by_market(frame.orders), context, "account_all_orders")
    ],
    "account_all_trades": lambda frame, context: [
        *rows.fills(_rows_by_market(frame.trades), context, "account_all_trades")
    ],
    "account_all_positions": lambda frame, context: [
        *rows.positions(_section_rows(frame.positions), ns_of_ms(frame.timestamp), context, "account_all_positions")
    ],
    "account_all_assets": lambda frame, context: [
        *rows.balances(_section_rows(frame.assets), ns_of_ms(frame.timestamp), context, "account_all_assets")
    ],
    "user_stats": _decode_stats,
    "ping": lambda _frame, _naming: [Ping(_PONG)],
    "pong": lambda _frame, _naming: [Pong()],
    "shutdown": lambda _frame, _naming: [Refused("the server shuts down", reason=Reason.SERVER_SHUTDOWN, fatal=True)],
}


def _request(path: str, token: str) -> RestRequest:
    return RestRequest(path, headers=(("Authorization", token),))


def _parse_answer(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Return the answer in ``body``.

    Raises:
        LoginError: The answer is an error of the venue.
        DecodeError: The answer is malformed.
    """
    error = parsed(_errors, body, what)
    if error.code == 200:
        return parsed(decoder, body, what)
    text = TOKEN_ERRORS.get(error.code) or f"{what}: {error.message}"
    raise LoginError(f"{error.code} {text}", ERROR_REASONS.get(error.code) or Reason.REFUSED)


def _fetch_fills(token: str, context: LighterContext, since_ms: int) -> RestFlow[Pages[Fill]]:
    """Read pages of fills, newest first, down to the first one that ends before ``since_ms``."""
    query = f"/trades?account_index={context.owner}&sort_by=timestamp&limit={_ROWS}"

    def read(body: bytes) -> Page[Fill]:
        page = _parse_answer(_trades, body, "trades")
        return rows.recent_fills(page.trades or [], context, page.next_cursor, since_ms)

    return all_pages("trades", lambda cursor: _request(_with_cursor(query, cursor), token), read)


def _fetch_open_orders(token: str, context: LighterContext) -> RestFlow[Pages[Order]]:
    """Read the open orders of all markets, spot included: a query without a market covers all."""
    query = f"/accountActiveOrders?account_index={context.owner}"

    def read(body: bytes) -> Page[Order]:
        page = _parse_answer(_orders, body, "accountActiveOrders")
        return page_of(rows.orders(page.orders, context, "accountActiveOrders"), page.next_cursor)

    return all_pages("accountActiveOrders", lambda cursor: _request(_with_cursor(query, cursor), token), read)


def _parse_closed_orders(body: bytes, context: LighterContext) -> list[Order | InvalidRow]:
    page = _parse_answer(_orders, body, "accountInactiveOrders")
    return rows.orders(page.orders, context, "accountInactiveOrders")


def _with_cursor(query: str, cursor: str) -> str:
    return f"{query}&cursor={cursor}" if cursor else query


def _find_account(body: bytes, context: LighterContext) -> tuple[_Account, msgspec.Raw]:
    """Return the account among those of an answer, and its row.

    Raises:
        DecodeError: The account is absent or malformed.
    """
    found = _parse_answer(_accounts, body, "account").accounts
    read, _ = split_rows(each_row(found, lambda row: (_account_rows.decode(row), row), "account"))
    ours = next((pair for pair in read if pair[0].index == context.owner), None)
    if ours is None:
        raise DecodeError(f"an answer to account without account {context.owner}")
    return ours


#: For the registry of venues.
PRIVATE_VENUE: Final = LighterAccount
