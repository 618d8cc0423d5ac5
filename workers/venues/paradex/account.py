"""Paradex's private side: a JWT, told once to each connection, and channels of the account, as text or binary.

Where the JWT comes from is in :mod:`workers.venues.paradex.auth`, the layout of binary frames in
:mod:`workers.venues.paradex.account_sbe`.

Source of the rules: Paradex's API documentation (WebSocket authentication and private channels, private REST API), and
recorded frames where they differ.

A connection stays authorised when its JWT has expired; only REST needs a fresh one.
"""

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
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of
from workers.venues.paradex import account_sbe as sbe
from workers.venues.paradex.account_rows import ACCOUNT, BALANCES, CHANNELS, FILLS, ORDERS, POSITIONS, ParadexNames
from workers.venues.paradex.auth import SECRETS, can_log_in, jwt_of, refusal
from workers.venues.paradex.market_data import Paradex
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Markets, Refused, RestRequest, parsed

__all__ = ["PRIVATE_VENUE", "ParadexAccount"]

T = TypeVar("T")
Event = TypeVar("Event", bound=AccountEvent)

_DAY_MS: Final = 86_400_000
#: A JWT lives for 5 minutes; it is renewed with two of them left.
_RENEW_NS: Final = 180 * 1_000_000_000
_AUTH_ID: Final = 1
_CHANNELS: Final = ("orders.ALL", "fills.ALL", "positions", "account", "balance_events")
#: What asks for binary frames; versions above the server's are refused, and recorded frames carry this one.
_SBE_QUERY: Final = "?sbeSchemaId=1&sbeSchemaVersion=1"
_FILLS_A_PAGE: Final = 1000
_CLOSED_ORDERS: Final = 100
#: How long before the last poll an order may have been placed that closed after it, as far as is asked for.
_CLOSED_AGE_MS: Final = 7 * _DAY_MS
#: What error codes mean that have to do with the JWT, in our words: the venue's could repeat it.
_REFUSALS: Final[Mapping[int, str]] = {
    40110: "the JWT is malformed",
    40111: "the JWT is invalid or has expired",
}
_GEO_BLOCKED: Final = 40112
_VENUE: Final = Paradex()


class _Params(msgspec.Struct):
    channel: str
    data: msgspec.Raw


class _Error(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


class _Frame(msgspec.Struct):
    """A text frame: data with its ``method``, or the reply to a request with its ``id``."""

    id: int | str | None = None
    method: str = ""
    params: _Params | None = None
    result: Any = msgspec.UNSET
    error: _Error | None = None


class _Page(msgspec.Struct):
    results: list[msgspec.Raw]
    #: Where the next page begins; empty on the last one.
    next: str | None = None


_frames: Final = json_decoder(_Frame)
_pages: Final = json_decoder(_Page)
_anything: Final = json_decoder(msgspec.Raw)


class ParadexAccount(PrivateVenue):
    """An account by its JWT, or by its address and Stark key.

    Args:
        encoding: ``sbe`` asks for binary frames, without which the venue refuses connections; ``json`` does not. Both
            are understood, whatever comes.
    """

    venue: ClassVar[str] = "paradex"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = account_keepalive(_VENUE.keepalive)

    def __init__(self, encoding: str = "sbe") -> None:
        self._query = "" if encoding == "json" else _SBE_QUERY

    def is_configured(self, secrets: Secrets) -> bool:
        """A JWT, or what gets one."""
        return can_log_in(secrets)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the channels are of all of them
        now_wall_ns: int,
    ) -> RestFlow[Login]:
        """The JWT is the first thing said; the venue confirms it, and then channels may be subscribed."""
        jwt = yield from jwt_of(secrets, ws_url, now_wall_ns)
        return _login(ws_url + self._query, jwt, now_wall_ns)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Another JWT for REST; the connection needs none."""
        jwt = yield from jwt_of(secrets, login.url, now_wall_ns)
        return Renewal(_login(login.url, jwt, now_wall_ns))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """One frame in either encoding; see :meth:`PrivateVenue.decode`."""
        naming = ParadexNames(markets, account, snapshot=False)
        try:
            return _decode_binary(payload, naming) if binary else _decode_text(_frames.decode(payload), naming)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"malformed Paradex frame: {error}") from error

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,  # noqa: ARG002 - the login holds the JWT
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,  # noqa: ARG002
    ) -> RestFlow[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        naming, jwt = ParadexNames(markets, account, snapshot=True), login.token
        fills = yield from _all_of(
            f"/fills?start_at={since_ms}&page_size={_FILLS_A_PAGE}", jwt, partial(FILLS.items, naming)
        )
        opened = yield from _all_of("/orders", jwt, partial(ORDERS.items, naming))
        placed_ms = max(0, since_ms - _CLOSED_AGE_MS)
        # One page is enough: it tells how orders ended, and what ended is known from the open ones.
        body = yield _request(f"/orders-history?start_at={placed_ms}&page_size={_CLOSED_ORDERS}", jwt)
        closed, unclear = split_rows(ORDERS.items(naming, _answered(_pages, body, "orders-history").results))
        positions = yield from _all_of("/positions", jwt, partial(POSITIONS.items, naming))
        body = yield _request("/account", jwt)
        margin, unread = split_rows(ACCOUNT.items(naming, [_answered(_anything, body, "account")]))
        balances = yield from _all_of("/balance", jwt, partial(BALANCES.items, naming))
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


def _login(url: str, jwt: str, now_wall_ns: int) -> Login:
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
    )


def _message(method: str, params: Mapping[str, str], request_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": request_id})


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_text(frame: _Frame, naming: ParadexNames) -> list[AccountItem]:
    if frame.method == "subscription":
        if frame.params is None:
            raise DecodeError("a subscription frame without params")
        known = CHANNELS.get(frame.params.channel.partition(".")[0])
        return [] if known is None else [*known.items(naming, [frame.params.data])]
    if frame.error is not None:
        return [_refused(frame.id, frame.error)]
    if frame.result is msgspec.UNSET and not frame.method:
        raise DecodeError("a frame that is neither data nor a reply")
    # Only the reply to the JWT names a node of the venue's.
    is_login = frame.id == _AUTH_ID or (isinstance(frame.result, dict) and "node_id" in frame.result)
    return [LoggedIn()] if is_login else []


def _decode_binary(payload: bytes | memoryview, naming: ParadexNames) -> list[AccountItem]:
    told = sbe.decode(payload)
    if told is None:
        return []
    return [*CHANNELS[told.channel].items(naming, [told.data])]


def _refused(request_id: int | str | None, error: _Error) -> Refused:
    if error.code in _REFUSALS or request_id == _AUTH_ID:
        text = _REFUSALS.get(error.code, "the venue does not take the JWT")
        return Refused(f"{error.code} {text}", reason=Reason.AUTH_FAILED, fatal=True)
    detail = f": {error.data}" if error.data else ""
    text = f"{error.code} {error.message}{detail}"
    return Refused(text, reason=_reason(error.code, text.lower()), fatal=error.code == _GEO_BLOCKED)


def _reason(code: int, text: str) -> Reason | None:
    """What an error means for us. Codes are coarse, so the text has to tell."""
    if code == _GEO_BLOCKED:
        return Reason.REFUSED
    if "already subscribed" in text or "not subscribed" in text:
        return None
    return Reason.RATE_LIMITED if "too many" in text or "rate limit" in text else Reason.SUBSCRIBE_ERROR


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, jwt: str) -> RestRequest:
    return RestRequest(path, headers=(("Authorization", f"Bearer {jwt}"),))


def _answered(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The answer in ``body``.

    Raises:
        LoginError: It is an error of the venue's.
        DecodeError: It is neither that nor what it should be.
    """
    refused = refusal(body, what)
    if refused is not None:
        raise refused
    return parsed(decoder, body, what)


def _all_of(
    path: str, jwt: str, read_rows: Callable[[list[msgspec.Raw]], list[Event | InvalidRow]]
) -> RestFlow[Pages[Event]]:
    """Read all rows of a list, on all of its pages."""
    what = path[1:].partition("?")[0]
    mark = "&" if "?" in path else "?"

    def read(body: bytes) -> Page[Event]:
        page = _answered(_pages, body, what)
        return page_of(read_rows(page.results), page.next)

    return all_pages(what, lambda cursor: _request(f"{path}{mark}cursor={cursor}" if cursor else path, jwt), read)


#: For the registry of venues.
PRIVATE_VENUE: Final = ParadexAccount
