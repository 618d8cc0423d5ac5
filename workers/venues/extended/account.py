"""Extended's private side: an API key in a header, and one stream that starts with a snapshot of everything.

Source of the rules: Extended's API documentation (account updates stream, private REST API), and recorded frames where
the two differ.

Frames are numbered as on the public streams, but a lost one cannot be requested again: snapshots by REST replace it.
"""

# ruff: noqa: ARG002 - not every venue needs all arguments of PrivateVenue
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import field

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.account import (
    AccountItem,
    AllPositions,
    Login,
    LoginError,
    PrivateVenue,
    RestFlow,
    Snapshot,
    account_keepalive,
    no_requests,
    nothing,
)
from workers.venues.account_rows import WholeNumber, json_decoder
from workers.venues.extended import LOGIN_METHODS
from workers.venues.extended.account_rows import ExtendedRowParser
from workers.venues.extended.market_data import Extended
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Markets
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of, raw_rows
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Refused, RestRequest, parsed

E = TypeVar("E", Order, Position)

((_KEY,),) = LOGIN_METHODS
#: The firewall rejects clients without a user agent.
_USER_AGENT: Final = "User-Agent: paraphina-supervisor"
#: Rows per page of fills, and rows of closed orders.
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_NULL: Final = msgspec.Raw(b"null")
#: Types of frames that must have a known section; the multiplexed stream prefixes them with ``ACCOUNT.``.
_SECTION_TYPES: Final = frozenset({"ORDER", "TRADE", "POSITION", "BALANCE", "SPOT_BALANCE"})


class _Sections(msgspec.Struct):
    """Content of a frame: sections may be absent or null; rows are validated one by one."""

    orders: msgspec.Raw = _NULL
    trades: msgspec.Raw = _NULL
    positions: msgspec.Raw = _NULL
    balance: msgspec.Raw = _NULL
    spot_balances: msgspec.Raw = field(name="spotBalances", default=_NULL)
    is_snapshot: bool | None = field(name="isSnapshot", default=None)


class _Frame(msgspec.Struct):
    type: str | None = None
    data: _Sections | None = None
    #: Text; on the multiplexed stream an object with code and message.
    error: Any = None
    pushed_ms: WholeNumber | None = field(name="ts", default=None)
    jsonrpc: str | None = None


class _AnyFrame(msgspec.Struct):
    """Fields that identify any frame."""

    type: str | None = None
    data: Any = None


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Pagination(msgspec.Struct):
    cursor: int | str | None = None


class _Answer(msgspec.Struct):
    status: str
    data: msgspec.Raw = _NULL
    error: _Error | None = None
    pagination: _Pagination | None = None


_frames: Final = json_decoder(_Frame)
_any_frames: Final = json_decoder(_AnyFrame)
_answers: Final = json_decoder(_Answer)
_lists: Final = json_decoder(list[msgspec.Raw])


class ExtendedAccount(PrivateVenue):
    """Private side of an Extended account, identified by an API key."""

    venue: ClassVar[str] = "extended"
    secrets: ClassVar[tuple[str, ...]] = (_KEY,)
    keepalive: ClassVar[Keepalive] = account_keepalive(Extended.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether there is an API key, which identifies its account."""
        return secrets.has(_KEY)

    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Return the login without a request: the key goes with the WebSocket upgrade and does not expire."""
        key = secrets.get(_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key or not key:
            raise LoginError(f"{_KEY} is not an API key: it has characters that a header cannot carry")
        return no_requests(Login(f"{ws_url}/account", headers=(_USER_AGENT, f"X-Api-Key: {key}"), token=key))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Decode a frame of either stream version; see :meth:`PrivateVenue.decode`."""
        try:
            frame = _frames.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_irregular(payload, error)
        if frame.error is not None:
            return [_error_item(frame.error)]
        if frame.data is not None:
            return _section_items(frame.data, frame.pushed_ms, markets, account)
        if frame.type is None and frame.jsonrpc is None:
            raise DecodeError("a nameless frame without data")
        return []

    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Request fills before orders, so that an order's state includes every fill read."""
        key, parser = login.token, ExtendedRowParser(markets, account, None, snapshot=True)
        fills = yield from _fetch_fills(key, parser, since_ms)
        opened = yield from _fetch_all("/user/orders", key, parser.orders)
        # One page suffices: it gives final states, while the open orders show which orders ended.
        body = yield _request(f"/user/orders/history?limit={_CLOSED_ORDERS}", key)
        closed, unclear = split_rows(parser.orders(_rows_and_cursor(body, "orders/history")[0]))
        positions = yield from _fetch_all("/user/positions", key, parser.positions)
        body = yield _request("/user/balance", key)
        balance, unread = split_rows(_parse_balance(body, parser))
        return Snapshot(
            (*oldest_first(fills), *opened.events, *closed_orders(closed), *positions.events, *balance),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *positions.invalid, *unread),
            has_all_fills=not fills.is_cut,
            orders_of=opened.covers,
            positions_of=positions.covers,
            # REST gives the collateral only; other assets come by stream alone.
            balances_of=nothing,
        )


def _decode_irregular(payload: bytes | memoryview, malformed: Exception) -> list[AccountItem]:
    """Decode a frame of another shape: unrelated, such as one of deposits, or malformed."""
    try:
        frame = _any_frames.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Extended frame: {error}") from error
    sections = {
        name for name in _Sections.__struct_encode_fields__ if isinstance(frame.data, dict) and name in frame.data
    }
    if sections or frame.type is None or frame.type.removeprefix("ACCOUNT.") in _SECTION_TYPES:
        raise DecodeError(f"malformed {frame.type or 'nameless'} frame: {malformed}") from malformed
    return []


def _error_item(error: Any) -> Refused:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
    reason = _reason(code, str(message))
    return Refused(_safe_text(reason, f"{code}: {message}" if code else str(message)), reason=reason, fatal=True)


def _safe_text(reason: Reason, text: str) -> str:
    """Return the venue's text, or a fixed one where it could repeat the key."""
    return f"{_KEY} is not accepted" if reason is Reason.AUTH_FAILED else text


def _reason(code: Any, message: str) -> Reason:
    """Return the reason for an error; the documentation has no codes of the venue's own for invalid keys."""
    text = message.lower()
    if code in (401, 403, "401", "403") or "unauthori" in text or "api key" in text or "api-key" in text:
        return Reason.AUTH_FAILED
    if code in (429, "429") or "too many" in text or "rate limit" in text:
        return Reason.RATE_LIMITED
    return Reason.REFUSED


def _section_items(data: _Sections, pushed_ms: int | None, markets: Markets, account: str) -> list[AccountItem]:
    parser = ExtendedRowParser(markets, account, pushed_ms, bool(data.is_snapshot))
    positions = parser.positions(raw_rows(data.positions))
    items: list[AccountItem] = [*parser.orders(raw_rows(data.orders)), *parser.fills(raw_rows(data.trades)), *positions]
    if data.is_snapshot and not _is_null(data.positions):
        items += _end_of_positions(positions, ns_of_ms(pushed_ms))
    balance = () if _is_null(data.balance) else (data.balance,)
    return [*items, *parser.balance([*balance]), *parser.spot_balances(raw_rows(data.spot_balances))]


def _is_null(section: msgspec.Raw) -> bool:
    return bytes(section) == b"null"


def _end_of_positions(items: list[Position | InvalidRow], at_ns: int | None) -> list[AllPositions]:
    """Return the end of a list of all positions; nothing when a row is invalid."""
    positions, invalid = split_rows(items)
    symbols = frozenset(position.venue_symbol for position in positions)
    return [] if invalid else [AllPositions(symbols, at_ns=at_ns)]


def _request(path: str, key: str) -> RestRequest:
    return RestRequest(path, headers=(("X-Api-Key", key),))


def _data_and_cursor(body: bytes, what: str) -> tuple[msgspec.Raw, str | None]:
    """Return the data of an answer, and the cursor of the next page.

    An answer without data is malformed: an empty list of open orders must be explicit.

    Raises:
        LoginError: The answer is an error of the venue.
        DecodeError: The answer is malformed.
    """
    answer = parsed(_answers, body, what)
    if answer.status != "OK":
        error = answer.error or _Error()
        reason = _reason(error.code, error.message)
        raise LoginError(_safe_text(reason, f"{what}: {error.code}: {error.message}"), reason)
    if _is_null(answer.data):
        raise DecodeError(f"an answer to {what} without data")
    cursor = None if answer.pagination is None else answer.pagination.cursor
    return answer.data, None if cursor is None else str(cursor)


def _rows_and_cursor(body: bytes, what: str) -> tuple[list[msgspec.Raw], str | None]:
    data, cursor = _data_and_cursor(body, what)
    return parsed(_lists, bytes(data), what), cursor


def _fetch_all(
    path: str, key: str, read_rows: Callable[[list[msgspec.Raw]], list[E | InvalidRow]]
) -> RestFlow[Pages[E]]:
    """Read all rows of a list; pages are undocumented for these lists, yet an answer may name a further one."""
    what = path.removeprefix("/user/")

    def read(body: bytes) -> Page[E]:
        rows, cursor = _rows_and_cursor(body, what)
        return page_of(read_rows(rows), cursor)

    return all_pages(what, lambda cursor: _request(f"{path}?cursor={cursor}" if cursor else path, key), read)


def _fetch_fills(key: str, parser: ExtendedRowParser, since_ms: int) -> RestFlow[Pages[Fill]]:
    """Read pages of fills, newest first, down to the first one that ends before ``since_ms``."""
    path = f"/user/trades?limit={_FILLS}"

    def read(body: bytes) -> Page[Fill]:
        rows, cursor = _rows_and_cursor(body, "trades")
        return parser.recent_fills(rows, cursor, since_ms)

    return all_pages("trades", lambda cursor: _request(f"{path}&cursor={cursor}" if cursor else path, key), read)


def _parse_balance(body: bytes, parser: ExtendedRowParser) -> list[Balance | Margin | InvalidRow]:
    """Return the events in an answer to balance; an account without money has no balance."""
    try:
        return parser.balance([_data_and_cursor(body, "balance")[0]])
    except LoginError as error:
        if error.reason is Reason.REFUSED and "not found" in error.what.lower():
            return []
        raise


#: For the registry of venues.
PRIVATE_VENUE: Final = ExtendedAccount
