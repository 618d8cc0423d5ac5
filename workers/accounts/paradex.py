"""Paradex's private side: a JWT, told once to each connection, and channels of the account, as text or binary.

Where the JWT comes from is in :mod:`workers.accounts.paradex_auth`, the layout of binary frames in
:mod:`workers.accounts.paradex_sbe`.

Source of the rules: Paradex's API documentation (WebSocket authentication and private channels, private REST API), and
recorded frames where they differ.

A connection stays authorised when its JWT has expired; only REST needs a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar

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
    everything,
    nothing,
    pinging_often,
)
from workers.accounts.answers import Page, Pages, all_pages, events_of, oldest_first, page_of
from workers.accounts.fields import NumberText, WholeNumber, converted, json_decoder
from workers.accounts.paradex_auth import SECRETS, can_log_in, jwt_of, refusal
from workers.accounts.secrets import Secrets
from workers.accounts.words import OrderStatus, above_zero, fill_type, order_status, priced
from workers.rows import InvalidRow, split_rows
from workers.venues.fields import ns_of_ms
from workers.venues.paradex import Paradex
from workers.venues.venue import Keepalive, Listing, Markets, Refused, Request, parsed

__all__ = ["ParadexAccount"]

T = TypeVar("T")
Row = TypeVar("Row")
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
#: How long before the last look an order may have been placed that closed after it, as far as is asked for.
_CLOSED_AGE_MS: Final = 7 * _DAY_MS
_SETTLEMENT_ASSET: Final = "USDC"
_STATUS: Final[Mapping[str, OrderStatus]] = {"NEW": "open", "OPEN": "open", "UNTRIGGERED": "untriggered"}
#: How types of orders begin that wait for a trigger.
_TRIGGERED: Final = ("STOP", "TAKE_PROFIT")
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
    size: NumberText
    remaining_size: NumberText
    status: str
    type: str | None = None
    price: NumberText | None = None
    #: Of what was filled; empty when nothing was.
    average: NumberText | None = msgspec.field(name="avg_fill_price", default=None)
    client_id: str | None = None
    #: Empty while the order lives, and when it was filled.
    cancel_reason: str | None = None
    flags: list[str] | None = None
    last_updated_at: WholeNumber | None = None


class _Fill(msgspec.Struct):
    id: str
    market: str
    side: Literal["BUY", "SELL"]
    price: NumberText
    size: NumberText
    order_id: str | None = None
    fee: NumberText | None = None
    fee_currency: str | None = None
    liquidity: str | None = None
    fill_type: str = "FILL"
    created_at: WholeNumber | None = None


class _Position(msgspec.Struct):
    market: str
    #: Signed as text, not so in binary frames.
    size: NumberText
    side: str | None = None
    status: str | None = None
    average_entry_price: NumberText | None = None
    mark_price: NumberText | None = None
    unrealized_pnl: NumberText | None = None
    liquidation_price: NumberText | None = None
    last_updated_at: WholeNumber | None = None


class _Account(msgspec.Struct):
    account_value: NumberText | None = None
    free_collateral: NumberText | None = None
    initial_margin_requirement: NumberText | None = None
    maintenance_margin_requirement: NumberText | None = None
    updated_at: WholeNumber | None = None


class _BalanceEvent(msgspec.Struct):
    """What a fill or a payment made of the settlement asset."""

    settlement_asset_balance_after: NumberText | None = None
    created_at: WholeNumber | None = None


class _Balance(msgspec.Struct):
    token: str
    size: NumberText
    last_updated_at: WholeNumber | None = None


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
        fills = yield from _all_of(
            f"/fills?start_at={since_ms}&page_size={_FILLS_A_PAGE}", jwt, partial(_FILLS.items, naming)
        )
        opened = yield from _all_of("/orders", jwt, partial(_ORDERS.items, naming))
        placed_ms = max(0, since_ms - _CLOSED_AGE_MS)
        # One page is enough: it tells how orders ended, and what ended is known from the open ones.
        body = yield _request(f"/orders-history?start_at={placed_ms}&page_size={_CLOSED_ORDERS}", jwt)
        closed, unclear = split_rows(_ORDERS.items(naming, _answered(_pages, body, "orders-history").results))
        positions = yield from _all_of("/positions", jwt, partial(_POSITIONS.items, naming))
        body = yield _request("/account", jwt)
        margin, unread = split_rows(_ACCOUNT.items(naming, [_answered(_anything, body, "account")]))
        balances = yield from _all_of("/balance", jwt, partial(_BALANCES.items, naming))
        return Snapshot(
            (
                *oldest_first(fills),
                *opened.events,
                # The newest come first, and the last one told stands.
                *(order for order in reversed(closed) if order.status not in {"open", "untriggered"}),
                *positions.events,
                *margin,
                *balances.events,
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *positions.invalid, *unread, *balances.invalid),
            orders_of=everything if opened.is_whole else nothing,
            positions_of=everything if positions.is_whole else nothing,
            balances_of=everything if balances.is_whole else nothing,
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
        return [] if known is None else [*known.items(naming, [frame.params.data])]
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
    return [*_CHANNEL[told.channel].items(naming, [told.data])]


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


def _status(row: _Order, filled: str) -> OrderStatus:
    # Before it is accepted a trigger order is new, as any other; it waits all the same.
    waits = row.status == "NEW" and (row.type or "").startswith(_TRIGGERED)
    return order_status({**_STATUS, "CLOSED": _ended(row, filled)}, row.status, row.size, filled, waits=waits)


def _ended(row: _Order, filled: str) -> OrderStatus:
    """Return how an order ended that is closed; the venue says why only when it was not filled."""
    reason = row.cancel_reason or ""
    if not reason:
        return "filled" if is_zero(row.remaining_size) else "closed"
    if "EXPIRED" in reason:
        return "expired"
    return "rejected" if reason in _REJECTIONS and is_zero(filled) else "canceled"


def _filled(row: _Order) -> str:
    """Return what was filled: what is gone of the size, but for orders of which nothing remains and nothing was filled.

    Those are orders that are not accepted yet, and canceled ones that have no average price.
    """
    is_unfilled = bool(row.cancel_reason) and row.average is not None and not priced(row.average)
    if is_unfilled or row.status in {"NEW", "UNTRIGGERED"}:
        return "0"
    return difference(row.size, row.remaining_size)


def _order(row: _Order, naming: _Naming) -> Order:
    listing = naming.listing(row.market)
    filled = _filled(row)
    is_priced = not (row.type or "").endswith("MARKET")
    return Order(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.last_updated_at),
        naming.account,
        row.id,
        row.client_id or None,
        _SIDES[row.side],
        priced(row.price) if is_priced else None,
        row.size,
        filled,
        _status(row, filled),
        f"{row.status} {row.cancel_reason}" if row.cancel_reason else row.status,
        row.type or "",
        "REDUCE_ONLY" in (row.flags or ()),
        naming.snapshot,
    )


def _fill(row: _Fill, naming: _Naming) -> Fill:
    listing, liquidity = naming.listing(row.market), _LIQUIDITY.get(row.liquidity)
    return Fill(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(row.created_at),
        naming.account,
        row.id,
        row.order_id or None,
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee or None,
        row.fee_currency or _SETTLEMENT_ASSET,
        liquidity,
        fill_type(_FILL_TYPES, row.fill_type, liquidity),
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
        ns_of_ms(row.last_updated_at),
        naming.account,
        f"-{size}" if is_unsigned_short else size,
        priced(row.average_entry_price) if is_held else None,
        priced(row.mark_price),
        row.unrealized_pnl or None,
        above_zero(row.liquidation_price) if is_held else None,
        None,
        naming.snapshot,
    )


def _margin(row: _Account, naming: _Naming) -> Margin:
    return Margin(
        "paradex",
        None,
        None,
        ns_of_ms(row.updated_at),
        naming.account,
        row.account_value or None,
        row.free_collateral or None,
        row.initial_margin_requirement or None,
        row.maintenance_margin_requirement or None,
        naming.snapshot,
    )


def _balance(row: _Balance, naming: _Naming) -> Balance:
    at_ns = ns_of_ms(row.last_updated_at)
    return Balance("paradex", None, None, at_ns, naming.account, row.token, row.size, None, naming.snapshot)


def _balance_event(row: _BalanceEvent, naming: _Naming) -> Iterable[Balance]:
    if row.settlement_asset_balance_after:
        yield _balance(_Balance(_SETTLEMENT_ASSET, row.settlement_asset_balance_after, row.created_at), naming)


class _Kind(Generic[Row, Event]):
    """A kind of rows: their type, and how one becomes events.

    Args:
        what: What they are called in reports.
        row: Their type.
        build: Makes a row's events.
    """

    def __init__(self, what: str, row: type[Row], build: Callable[[Row, _Naming], Iterable[Event]]) -> None:
        self._what = what
        self._row = row
        self._decoder = json_decoder(row)
        self._build = build

    def items(self, naming: _Naming, rows: Sequence[msgspec.Raw | Mapping[str, object]]) -> list[Event | InvalidRow]:
        """Read rows one by one: of text, or as read from a binary frame."""
        return events_of(rows, self._parse, lambda row: self._build(row, naming), self._what)

    def _parse(self, row: msgspec.Raw | Mapping[str, object]) -> Row:
        return self._decoder.decode(row) if isinstance(row, msgspec.Raw) else converted(row, self._row)


_ORDERS: Final = _Kind("orders", _Order, lambda row, naming: [_order(row, naming)])
_FILLS: Final = _Kind("fills", _Fill, lambda row, naming: [_fill(row, naming)])
_POSITIONS: Final = _Kind("positions", _Position, lambda row, naming: [_position(row, naming)])
_ACCOUNT: Final = _Kind("account", _Account, lambda row, naming: [_margin(row, naming)])
_BALANCES: Final = _Kind("balance", _Balance, lambda row, naming: [_balance(row, naming)])
_BALANCE_EVENTS: Final = _Kind("balance_events", _BalanceEvent, _balance_event)

#: By the first word of a channel's name.
_CHANNEL: Final[Mapping[str, _Kind[Any, Any]]] = {
    "orders": _ORDERS,
    "fills": _FILLS,
    "positions": _POSITIONS,
    "account": _ACCOUNT,
    "balance_events": _BALANCE_EVENTS,
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


def _all_of(
    path: str, jwt: str, read_rows: Callable[[list[msgspec.Raw]], list[Event | InvalidRow]]
) -> Steps[Pages[Event]]:
    """Read all rows of a list, on all of its pages."""
    what = path[1:].partition("?")[0]
    mark = "&" if "?" in path else "?"

    def read(body: bytes) -> Page[Event]:
        page = _answered(_pages, body, what)
        return page_of(read_rows(page.results), page.next)

    return all_pages(what, lambda cursor: _request(f"{path}{mark}cursor={cursor}" if cursor else path, jwt), read)
