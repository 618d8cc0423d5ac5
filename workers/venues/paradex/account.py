"""Paradex's private side: a JWT sent once per connection, and account channels as text or binary.

The JWT comes from :mod:`workers.venues.paradex.auth`; the layout of binary frames is in
:mod:`workers.venues.paradex.account_sbe`.

Source of the rules: Paradex's API documentation (WebSocket authentication and private channels, private REST API), and
recorded frames where they differ.

A connection stays authorised after its JWT expires; only REST needs a new one.
"""

# ruff: noqa: ARG002 - not every venue needs all arguments of PrivateVenue
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from ipc.errors import DecodeError
from ipc.events import AccountEvent
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.account import (
    AccountItem,
    LoggedIn,
    Login,
    PrivateVenue,
    Renewal,
    RestFlow,
    Snapshot,
    account_keepalive,
)
from workers.venues.account_rows import json_decoder
from workers.venues.listing import Markets
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of
from workers.venues.paradex import account_sbe
from workers.venues.paradex.account_rows import ACCOUNT, BALANCES, CHANNELS, FILLS, ORDERS, POSITIONS, ParadexContext
from workers.venues.paradex.auth import SECRETS, can_get_jwt, error_of, jwt_of, preload_signer
from workers.venues.paradex.errors import GEO_BLOCKED, JWT_ERRORS, account_reason
from workers.venues.paradex.market_data import Paradex
from workers.venues.paradex.sbe import urls
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Refused, RestRequest, parsed

T = TypeVar("T")
Event = TypeVar("Event", bound=AccountEvent)

_DAY_MS: Final = 86_400_000
#: A JWT is valid for 5 minutes; renew it 2 minutes before its expiry.
_RENEW_NS: Final = 180 * 1_000_000_000
_AUTH_ID: Final = 1
_CHANNELS: Final = ("orders.ALL", "fills.ALL", "positions", "account", "balance_events")
_FILLS_A_PAGE: Final = 1000
_CLOSED_ORDERS: Final = 100
#: Age up to which orders that closed since the last poll are requested, ms.
_CLOSED_AGE_MS: Final = 7 * _DAY_MS


class _Params(msgspec.Struct):
    channel: str
    data: msgspec.Raw


class _Error(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


class _Frame(msgspec.Struct):
    """Text frame: data with its ``method``, or the reply to a request with its ``id``."""

    id: int | str | None = None
    method: str = ""
    params: _Params | None = None
    result: Any = msgspec.UNSET
    error: _Error | None = None


class _Page(msgspec.Struct):
    results: list[msgspec.Raw]
    #: Cursor of the next page; empty on the last one.
    next: str | None = None


_frames: Final = json_decoder(_Frame)
_pages: Final = json_decoder(_Page)
_anything: Final = json_decoder(msgspec.Raw)


class ParadexAccount(PrivateVenue):
    """Private side of a Paradex account, identified by a JWT, or by its address and Stark key.

    Args:
        encoding: ``sbe`` requests binary frames, without which the venue refuses connections; ``json`` does not. Either
            encoding is decoded in both cases.
    """

    venue: ClassVar[str] = "paradex"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = account_keepalive(Paradex.keepalive)

    def __init__(self, encoding: str = "sbe") -> None:
        self._encoding = encoding

    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether there is a JWT, or the keys to get one."""
        return can_get_jwt(secrets)

    def preload(self, secrets: Secrets) -> None:
        """Load the library that signs with a Stark key."""
        preload_signer(secrets)

    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Return the login: the JWT is the first message, and channels may be subscribed once it is confirmed."""
        jwt = yield from jwt_of(secrets, ws_url, now_wall_ns)
        return _login(*urls(ws_url, self._encoding), jwt, now_wall_ns)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Return a login with a new JWT for REST; the connection needs none."""
        jwt = yield from jwt_of(secrets, login.url, now_wall_ns)
        return Renewal(_login(login.url, login.fallback_url, jwt, now_wall_ns))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Decode a frame in either encoding; see :meth:`PrivateVenue.decode`."""
        context = ParadexContext(markets, account, snapshot=False)
        try:
            return _decode_binary(payload, context) if binary else _decode_text(_frames.decode(payload), context)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"malformed Paradex frame: {error}") from error

    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Request fills before orders, so that an order's state includes every fill read."""
        context, jwt = ParadexContext(markets, account, snapshot=True), login.token
        fills = yield from _fetch_all(
            f"/fills?start_at={since_ms}&page_size={_FILLS_A_PAGE}", jwt, partial(FILLS.items, context)
        )
        opened = yield from _fetch_all("/orders", jwt, partial(ORDERS.items, context))
        placed_ms = max(0, since_ms - _CLOSED_AGE_MS)
        # One page suffices: it gives final states, while the open orders show which orders ended.
        body = yield _request(f"/orders-history?start_at={placed_ms}&page_size={_CLOSED_ORDERS}", jwt)
        closed, unclear = split_rows(ORDERS.items(context, _parse_answer(_pages, body, "orders-history").results))
        positions = yield from _fetch_all("/positions", jwt, partial(POSITIONS.items, context))
        body = yield _request("/account", jwt)
        margin, unread = split_rows(ACCOUNT.items(context, [_parse_answer(_anything, body, "account")]))
        balances = yield from _fetch_all("/balance", jwt, partial(BALANCES.items, context))
        return Snapshot(
            (
                *oldest_first(fills),
                *opened.events,
                *closed_orders(closed),
                *positions.events,
                *margin,
                *balances.events,
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *positions.invalid, *unread, *balances.invalid),
            has_all_fills=not fills.is_cut,
            orders_of=opened.covers,
            positions_of=positions.covers,
            balances_of=balances.covers,
        )


def _login(url: str, fallback_url: str | None, jwt: str, now_wall_ns: int) -> Login:
    subscribe = tuple(
        _message("subscribe", {"channel": channel}, number) for number, channel in enumerate(_CHANNELS, _AUTH_ID + 1)
    )
    return Login(
        url,
        hello=(_message("auth", {"bearer": jwt}, _AUTH_ID),),
        subscribe=subscribe,
        must_confirm=True,
        renew_at_ns=now_wall_ns + _RENEW_NS,
        token=jwt,
        fallback_url=fallback_url,
    )


def _message(method: str, params: Mapping[str, str], request_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": request_id})


def _decode_text(frame: _Frame, context: ParadexContext) -> list[AccountItem]:
    if frame.method == "subscription":
        if frame.params is None:
            raise DecodeError("a subscription frame without params")
        known = CHANNELS.get(frame.params.channel.partition(".")[0])
        return [] if known is None else [*known.items(context, [frame.params.data])]
    if frame.error is not None:
        return [_error_item(frame.id, frame.error)]
    if frame.result is msgspec.UNSET and not frame.method:
        raise DecodeError("a frame that is neither data nor a reply")
    # Only the reply to the login names a node of the venue.
    is_login = frame.id == _AUTH_ID or (isinstance(frame.result, dict) and "node_id" in frame.result)
    return [LoggedIn()] if is_login else []


def _decode_binary(payload: bytes | memoryview, context: ParadexContext) -> list[AccountItem]:
    message = account_sbe.decode(payload)
    if message is None:
        return []
    return [*CHANNELS[message.channel].items(context, [message.data])]


def _error_item(request_id: int | str | None, error: _Error) -> Refused:
    if error.code in JWT_ERRORS or request_id == _AUTH_ID:
        text = JWT_ERRORS.get(error.code, "the venue rejects the JWT")
        return Refused(f"{error.code} {text}", reason=Reason.AUTH_FAILED, fatal=True)
    detail = f": {error.data}" if error.data else ""
    text = f"{error.code} {error.message}{detail}"
    return Refused(text, reason=account_reason(error.code, text.lower()), fatal=error.code == GEO_BLOCKED)


def _request(path: str, jwt: str) -> RestRequest:
    return RestRequest(path, headers=(("Authorization", f"Bearer {jwt}"),))


def _parse_answer(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Return the answer in ``body``.

    Raises:
        LoginError: The answer is an error of the venue.
        DecodeError: The answer is malformed.
    """
    error = error_of(body, what)
    if error is not None:
        raise error
    return parsed(decoder, body, what)


def _fetch_all(
    path: str, jwt: str, read_rows: Callable[[list[msgspec.Raw]], list[Event | InvalidRow]]
) -> RestFlow[Pages[Event]]:
    """Read all rows of a list, on all of its pages."""
    what = path[1:].partition("?")[0]
    separator = "&" if "?" in path else "?"

    def read(body: bytes) -> Page[Event]:
        page = _parse_answer(_pages, body, what)
        return page_of(read_rows(page.results), page.next)

    return all_pages(what, lambda cursor: _request(f"{path}{separator}cursor={cursor}" if cursor else path, jwt), read)


#: For the registry of venues.
PRIVATE_VENUE: Final = ParadexAccount
