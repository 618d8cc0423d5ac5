"""Lighter's private side: channels of an account on the public stream, opened with a token.

Where the token comes from is in :mod:`workers.venues.lighter.token`.

Source of the rules: Lighter's API documentation (WebSocket account channels, account data, data structures), its Python
SDK for the token in REST calls, and recorded frames where they differ.
"""

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
from workers.venues.lighter.account_rows import LighterNames
from workers.venues.lighter.market_data import Lighter
from workers.venues.lighter.token import SECRETS, has_token, index_of, token_of
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of, raw_rows
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Keepalive, Markets, Ping, Pong, Refused, RestRequest, parsed

__all__ = ["PRIVATE_VENUE", "LighterAccount"]

T = TypeVar("T")

_NS_PER_S: Final = 1_000_000_000
#: A token is renewed this long before its end, or this long from now when it is nearer to it already.
_RENEW_BEFORE_NS: Final = 300 * _NS_PER_S
_RENEW_AGAIN_NS: Final = 60 * _NS_PER_S
_ROWS: Final = 100

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
#: What error codes mean that have to do with the token, in our words: the venue's could repeat it.
_REFUSALS: Final[Mapping[int, str]] = {
    21109: "no token came with the request",
    21110: "the token is not valid",
    21120: "the token has expired",
}
_HARMLESS: Final = frozenset({30002, 30003})
_TOO_MANY: Final = frozenset({23000, 23001, 23002, 23003, 30009, 30010})
_NULL: Final = msgspec.Raw(b"null")
_VENUE: Final = Lighter()


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


class _Accounts(msgspec.Struct):
    code: Literal[200]
    accounts: list[msgspec.Raw]


class _Orders(msgspec.Struct):
    code: Literal[200]
    orders: list[msgspec.Raw]
    next_cursor: str | None = None


class _Trades(msgspec.Struct):
    code: Literal[200]
    #: Null where there are none.
    trades: list[msgspec.Raw] | None
    next_cursor: str | None = None


_frames: Final = json_decoder(_Frame)
_any_frame: Final = json_decoder(_AnyFrame)
_errors: Final = json_decoder(_Error)
_accounts: Final = json_decoder(_Accounts)
_account_rows: Final = json_decoder(_Account)
_orders: Final = json_decoder(_Orders)
_trades: Final = json_decoder(_Trades)


class LighterAccount(PrivateVenue):
    """An account or sub-account, by its index."""

    venue: ClassVar[str] = "lighter"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = account_keepalive(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """An index, and a token or what makes one."""
        return has_token(secrets)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the channels are of all of them
        now_wall_ns: int,
    ) -> RestFlow[Login]:
        """Subscriptions that carry the token; the venue does not confirm it apart from them."""
        return no_requests(_login(secrets, ws_url, now_wall_ns))

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Another token, if there is one by now: a subscription keeps the token that it was made with."""
        renewed = _login(secrets, login.url, now_wall_ns)
        return no_requests(Renewal(renewed, must_reconnect=renewed.token != login.token))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`PrivateVenue.decode`."""
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
        return decoder(frame, LighterNames(markets, account, _account_of(frame), kind == "subscribed"))

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,  # noqa: ARG002
    ) -> RestFlow[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        index, token = index_of(secrets), login.token
        naming = LighterNames(markets, account, index, snapshot=True)
        fills = yield from _fills_since(token, naming, since_ms)
        opened = yield from _active(token, naming)
        # One page is enough: it tells how orders ended, and what ended is known from the open ones.
        body = yield _request(f"/accountInactiveOrders?account_index={index}&limit={_ROWS}", token)
        closed, unclear = split_rows(_inactive(body, naming))
        body = yield _request(f"/account?by=index&value={index}", token)
        found, row = _account_of_ours(body, naming)
        margin, unseen = split_rows(rows.margin(row, naming))
        positions, invalid = split_rows(rows.positions(found.positions, None, naming, "positions"))
        balances, unread = split_rows(rows.balances(found.assets, None, naming, "assets"))
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
        return [row for listed in section.values() for row in raw_rows(listed)]
    return section or []


def _each(section: _Section) -> list[msgspec.Raw]:
    return list(section.values()) if isinstance(section, Mapping) else section or []


def _decode_orders(frame: _Frame, naming: LighterNames) -> list[AccountItem]:
    return [*rows.orders(_by_market(frame.orders), naming, "account_all_orders")]


def _decode_trades(frame: _Frame, naming: LighterNames) -> list[AccountItem]:
    return [*rows.fills(_by_market(frame.trades), naming, "account_all_trades")]


def _decode_positions(frame: _Frame, naming: LighterNames) -> list[AccountItem]:
    return [*rows.positions(_each(frame.positions), ns_of_ms(frame.timestamp), naming, "account_all_positions")]


def _decode_assets(frame: _Frame, naming: LighterNames) -> list[AccountItem]:
    return [*rows.balances(_each(frame.assets), ns_of_ms(frame.timestamp), naming, "account_all_assets")]


def _decode_stats(frame: _Frame, naming: LighterNames) -> list[AccountItem]:
    if bytes(frame.stats) == b"null":
        raise DecodeError("no stats")
    return [*rows.stats(frame.stats, ns_of_ms(frame.timestamp), naming)]


_DECODERS: Final[dict[str, Callable[[_Frame, LighterNames], list[AccountItem]]]] = {
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


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, token: str) -> RestRequest:
    return RestRequest(path, headers=(("Authorization", token),))


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


def _fills_since(token: str, naming: LighterNames, since_ms: int) -> RestFlow[Pages[Fill]]:
    """Read pages, newest first, down to the first one that ends before ``since_ms``."""
    query = f"/trades?account_index={naming.owner}&sort_by=timestamp&limit={_ROWS}"

    def read(body: bytes) -> Page[Fill]:
        page = _answered(_trades, body, "trades")
        return rows.recent_fills(page.trades or [], naming, page.next_cursor, since_ms)

    return all_pages("trades", lambda cursor: _request(_at(query, cursor), token), read)


def _active(token: str, naming: LighterNames) -> RestFlow[Pages[Order]]:
    """Read the open orders of all markets: a query that names none is for all of them, spot included."""
    query = f"/accountActiveOrders?account_index={naming.owner}"

    def read(body: bytes) -> Page[Order]:
        page = _answered(_orders, body, "accountActiveOrders")
        return page_of(rows.orders(page.orders, naming, "accountActiveOrders"), page.next_cursor)

    return all_pages("accountActiveOrders", lambda cursor: _request(_at(query, cursor), token), read)


def _inactive(body: bytes, naming: LighterNames) -> list[Order | InvalidRow]:
    page = _answered(_orders, body, "accountInactiveOrders")
    return rows.orders(page.orders, naming, "accountInactiveOrders")


def _at(query: str, cursor: str) -> str:
    return f"{query}&cursor={cursor}" if cursor else query


def _account_of_ours(body: bytes, naming: LighterNames) -> tuple[_Account, msgspec.Raw]:
    """Return the account among those of an answer, and the row that it was.

    Raises:
        DecodeError: It is not there, or malformed.
    """
    found = _answered(_accounts, body, "account").accounts
    read, _ = split_rows(each_row(found, lambda row: (_account_rows.decode(row), row), "account"))
    ours = next((one for one in read if one[0].index == naming.owner), None)
    if ours is None:
        raise DecodeError(f"an answer to account without account {naming.owner}")
    return ours


#: For the registry of venues.
PRIVATE_VENUE: Final = LighterAccount
