"""Paradex's private side: a JWT, told once to each connection, and channels of the account, as text or binary.

Where the JWT comes from is in :mod:`workers.accounts.paradex_auth`, the layout of binary frames in
:mod:`workers.accounts.paradex_sbe`.

Source of the rules: Paradex's API documentation (WebSocket authentication and private channels, private REST API), and
recorded frames where they differ.

A connection stays authorised when its JWT has expired; only REST needs a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from ipc.decimals import difference, is_zero
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position, Side
from ipc.health import Reason
from workers.accounts import paradex_sbe as sbe
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    LoggedIn,
    Login,
    Renewal,
    Snapshot,
    Steps,
    pinging_often,
)
from workers.accounts.paradex_auth import SECRETS, can_log_in, jwt_of, refusal
from workers.accounts.secrets import Secrets
from workers.venues.paradex import Paradex
from workers.venues.venue import Keepalive, Listing, Markets, Refused, Request, parsed

__all__ = ["ParadexAccount"]

T = TypeVar("T")

_Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]

_NS_PER_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
#: A JWT lives for 5 minutes; it is renewed with two of them left.
_RENEW_NS: Final = 180 * 1_000_000_000
_AUTH_ID: Final = 1
_CHANNELS: Final = ("orders.ALL", "fills.ALL", "positions", "account", "balance_events")
#: What asks for binary frames; versions above the server's are refused, and recorded frames carry this one.
_SBE_QUERY: Final = "?sbeSchemaId=1&sbeSchemaVersion=1"
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
#: How long before the last look an order may have been placed that closed after it, as far as is asked for.
_CLOSED_AGE_MS: Final = 7 * _DAY_MS
_PAGES: Final = 50
_SETTLEMENT_ASSET: Final = "USDC"
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_LIQUIDITY: Final[Mapping[str | None, Literal["maker", "taker"]]] = {"MAKER": "maker", "TAKER": "taker"}
_FILL_TYPES: Final[Mapping[str, str]] = {"FILL": "trade", "SETTLE_MARKET": "settlement"}
#: Why the venue ends an order at once.
_REJECTIONS: Final = frozenset({"NOT_ENOUGH_MARGIN", "POST_ONLY_WOULD_CROSS"})
#: What error codes mean that have to do with the JWT, in our words: the venue's could repeat it.
_REFUSALS: Final[Mapping[int, str]] = {
    40110: "the JWT is malformed",
    40111: "the JWT is invalid or has expired",
}
_GEO_BLOCKED: Final = 40112
_VENUE: Final = Paradex()


class _Order(msgspec.Struct):
    id: str
    market: str
    side: Literal["BUY", "SELL"]
    size: str
    remaining_size: str
    status: str
    type: str = ""
    price: str | None = None
    client_id: str | None = None
    #: Empty while the order lives, and when it was filled.
    cancel_reason: str | None = None
    flags: list[str] | None = None
    last_updated_at: int | None = None


class _Fill(msgspec.Struct):
    id: str
    market: str
    side: Literal["BUY", "SELL"]
    price: str
    size: str
    order_id: str | None = None
    fee: str | None = None
    fee_currency: str | None = None
    liquidity: str | None = None
    fill_type: str = "FILL"
    created_at: int | None = None


class _Position(msgspec.Struct):
    market: str
    #: Signed as text, not so in binary frames.
    size: str
    side: str | None = None
    status: str | None = None
    average_entry_price: str | None = None
    mark_price: str | None = None
    unrealized_pnl: str | None = None
    liquidation_price: str | None = None
    last_updated_at: int | None = None


class _Account(msgspec.Struct):
    account_value: str | None = None
    free_collateral: str | None = None
    initial_margin_requirement: str | None = None
    maintenance_margin_requirement: str | None = None
    updated_at: int | None = None


class _BalanceEvent(msgspec.Struct):
    """What a fill or a payment made of the settlement asset."""

    settlement_asset_balance_after: str | None = None
    created_at: int | None = None


class _Balance(msgspec.Struct):
    token: str
    size: str
    last_updated_at: int | None = None


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


class _Page(msgspec.Struct, Generic[T]):
    results: list[T]
    #: Where the next page begins; empty on the last one.
    next: str | None = None


_frames: Final = msgspec.json.Decoder(_Frame)
_orders: Final = msgspec.json.Decoder(_Page[_Order])
_fills: Final = msgspec.json.Decoder(_Page[_Fill])
_positions: Final = msgspec.json.Decoder(_Page[_Position])
_balances: Final = msgspec.json.Decoder(_Page[_Balance])
_accounts: Final = msgspec.json.Decoder(_Account)


class ParadexAccount(AccountSide):
    """An account by its JWT, or by its address and Stark key.

    Args:
        encoding: ``sbe`` asks for binary frames, without which the venue refuses connections; ``json`` does not. Both
            are understood, whatever comes.
    """

    venue: ClassVar[str] = "paradex"
    secrets: ClassVar[tuple[str, ...]] = SECRETS
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

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
    ) -> Steps[Login]:
        """The JWT is the first thing said; the venue confirms it, and then channels may be subscribed."""
        jwt = yield from jwt_of(secrets, ws_url, now_wall_ns)
        return _login(ws_url + self._query, jwt, now_wall_ns)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> Steps[Renewal]:
        """Another JWT for REST; the connection needs none."""
        jwt = yield from jwt_of(secrets, login.url, now_wall_ns)
        return Renewal(_login(login.url, jwt, now_wall_ns))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """One frame in either encoding; see :meth:`AccountSide.decode`."""
        naming = _Naming(markets, account, snapshot=False)
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
    ) -> Steps[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        naming, jwt = _Naming(markets, account, snapshot=True), login.token
        events = yield from _fills_since(jwt, naming, since_ms)
        body = yield _request("/orders", jwt)
        open_orders = [_order(row, naming) for row in _answered(_orders, body, "orders").results]
        placed_ms = max(0, since_ms - _CLOSED_AGE_MS)
        body = yield _request(f"/orders-history?start_at={placed_ms}&page_size={_CLOSED_ORDERS}", jwt)
        history = [_order(row, naming) for row in _answered(_orders, body, "orders-history").results]
        events += open_orders
        # The newest come first, and the last one told stands.
        events += [order for order in reversed(history) if order.status not in {"open", "untriggered"}]
        body = yield _request("/positions", jwt)
        events += [_position(row, naming) for row in _answered(_positions, body, "positions").results]
        body = yield _request("/account", jwt)
        events.append(_margin(_answered(_accounts, body, "account"), naming))
        body = yield _request("/balance", jwt)
        events += [_balance(row, naming) for row in _answered(_balances, body, "balance").results]
        return Snapshot(tuple(events), frozenset(order.order_id for order in open_orders))


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


class _Naming(NamedTuple):
    """What events are named by: the markets that are known, and the account's alias."""

    markets: Markets
    account: str
    snapshot: bool

    def listing(self, market: str) -> Listing:
        return self.markets.get(market) or _VENUE.offline_listing(market)


def _decode_text(frame: _Frame, naming: _Naming) -> list[AccountItem]:
    if frame.method == "subscription":
        if frame.params is None:
            raise DecodeError("a subscription frame without params")
        known = _CHANNEL.get(frame.params.channel.partition(".")[0])
        return [] if known is None else known.items(msgspec.json.decode(frame.params.data, type=known.data), naming)
    if frame.error is not None:
        return [_refused(frame.id, frame.error)]
    if frame.result is msgspec.UNSET and not frame.method:
        raise DecodeError("a frame that is neither data nor a reply")
    # Only the reply to the JWT names a node of the venue's.
    is_login = frame.id == _AUTH_ID or (isinstance(frame.result, dict) and "node_id" in frame.result)
    return [LoggedIn()] if is_login else []


def _decode_binary(payload: bytes | memoryview, naming: _Naming) -> list[AccountItem]:
    told = sbe.decode(payload)
    if told is None:
        return []
    known = _CHANNEL[told.channel]
    return known.items(msgspec.convert(told.data, type=known.data), naming)


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


# --- events -------------------------------------------------------------------------------------------------------


def _ns(time_ms: int | None) -> int | None:
    return time_ms * _NS_PER_MS if time_ms else None


def _priced(price: str | None) -> str | None:
    """A price, where zero and empty text stand for none."""
    return price if price and not is_zero(price) else None


def _status(row: _Order, filled: str) -> _Status:
    """How an order stands; closed ones say why only when they were not filled."""
    if row.status != "CLOSED":
        # A word that is new to us does not close an order: closed is final, and REST lists what is open.
        return "untriggered" if row.status == "UNTRIGGERED" else "open"
    reason = row.cancel_reason or ""
    if not reason:
        return "filled" if is_zero(row.remaining_size) else "closed"
    if "EXPIRED" in reason:
        return "expired"
    return "rejected" if reason in _REJECTIONS and is_zero(filled) else "canceled"


def _order(row: _Order, naming: _Naming) -> Order:
    listing = naming.listing(row.market)
    try:
        filled = "0" if row.status in {"NEW", "UNTRIGGERED"} else difference(row.size, row.remaining_size)
    except ValueError as error:
        raise DecodeError(f"malformed order: {error}") from error
    return Order(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.last_updated_at),
        naming.account,
        row.id,
        row.client_id or None,
        _SIDES[row.side],
        _priced(row.price),
        row.size,
        filled,
        _status(row, filled),
        f"{row.status} {row.cancel_reason}" if row.cancel_reason else row.status,
        row.type,
        "REDUCE_ONLY" in (row.flags or ()),
        naming.snapshot,
    )


def _fill(row: _Fill, naming: _Naming) -> Fill:
    listing = naming.listing(row.market)
    return Fill(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.created_at),
        naming.account,
        row.id,
        row.order_id or None,
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee or None,
        row.fee_currency or _SETTLEMENT_ASSET,
        _LIQUIDITY.get(row.liquidity),
        _FILL_TYPES.get(row.fill_type) or row.fill_type.lower(),
        naming.snapshot,
    )


def _position(row: _Position, naming: _Naming) -> Position:
    listing = naming.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size
    is_held = not is_zero(size)
    is_unsigned_short = is_held and row.side == "SHORT" and not size.startswith("-")
    return Position(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.last_updated_at),
        naming.account,
        f"-{size}" if is_unsigned_short else size,
        _priced(row.average_entry_price) if is_held else None,
        _priced(row.mark_price),
        row.unrealized_pnl or None,
        _priced(row.liquidation_price) if is_held else None,
        None,
        naming.snapshot,
    )


def _margin(row: _Account, naming: _Naming) -> Margin:
    return Margin(
        "paradex",
        None,
        None,
        _ns(row.updated_at),
        naming.account,
        row.account_value or None,
        row.free_collateral or None,
        row.initial_margin_requirement or None,
        row.maintenance_margin_requirement or None,
        naming.snapshot,
    )


def _balance(row: _Balance, naming: _Naming) -> Balance:
    at_ns = _ns(row.last_updated_at)
    return Balance("paradex", None, None, at_ns, naming.account, row.token, row.size, None, naming.snapshot)


def _balance_event(row: _BalanceEvent, naming: _Naming) -> Iterable[AccountItem]:
    if row.settlement_asset_balance_after:
        yield _balance(_Balance(_SETTLEMENT_ASSET, row.settlement_asset_balance_after, row.created_at), naming)


class _Channel(NamedTuple):
    """What the data of a channel are, and what to make of them."""

    data: Any
    items: Callable[[Any, _Naming], list[AccountItem]]


#: By the first word of a channel's name.
_CHANNEL: Final[Mapping[str, _Channel]] = {
    "orders": _Channel(_Order, lambda row, naming: [_order(row, naming)]),
    "fills": _Channel(_Fill, lambda row, naming: [_fill(row, naming)]),
    "positions": _Channel(_Position, lambda row, naming: [_position(row, naming)]),
    "account": _Channel(_Account, lambda row, naming: [_margin(row, naming)]),
    "balance_events": _Channel(_BalanceEvent, lambda row, naming: list(_balance_event(row, naming))),
}


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, jwt: str) -> Request:
    return Request(path, headers=(("Authorization", f"Bearer {jwt}"),))


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


def _fills_since(jwt: str, naming: _Naming, since_ms: int) -> Steps[list[AccountEvent]]:
    """All pages from ``since_ms`` on, newest first."""
    events: dict[str, AccountEvent] = {}
    cursor = ""
    for _ in range(_PAGES):
        body = yield _request(f"/fills?start_at={since_ms}&page_size={_FILLS}{cursor}", jwt)
        page = _answered(_fills, body, "fills")
        events |= {row.id: _fill(row, naming) for row in page.results}
        if not page.results or not page.next:
            break
        cursor = f"&cursor={quote(page.next)}"
    return list(events.values())[::-1]
