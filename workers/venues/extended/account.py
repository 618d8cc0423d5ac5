"""Extended's private side: a key in a header, one stream that tells everything when it opens.

Source of the rules: Extended's API documentation (account updates stream, private REST API), and recorded frames where
the two differ.

Frames are numbered as on the public streams, but there is no way to ask for one again: what was lost is found when REST
is asked.
"""

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
from workers.venues.extended.account_rows import Rows
from workers.venues.extended.credentials import LOGIN_METHODS
from workers.venues.extended.market_data import Extended
from workers.venues.fields import ns_of_ms
from workers.venues.pagination import Page, Pages, all_pages, closed_orders, oldest_first, page_of, raw_rows
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Markets, Refused, RestRequest, parsed

__all__ = ["PRIVATE_VENUE", "ExtendedAccount"]

E = TypeVar("E", Order, Position)

((_KEY,),) = LOGIN_METHODS
#: The firewall refuses clients that do not name themselves.
_USER_AGENT: Final = "User-Agent: paraphina-supervisor"
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_NULL: Final = msgspec.Raw(b"null")
#: Types of frames that must hold a section of ours; the multiplexed stream writes ``ACCOUNT.`` before them.
_TYPES: Final = frozenset({"ORDER", "TRADE", "POSITION", "BALANCE", "SPOT_BALANCE"})
_VENUE: Final = Extended()


class _Sections(msgspec.Struct):
    """A frame's content: any of these, the others being absent or null; rows are validated one by one."""

    orders: msgspec.Raw = _NULL
    trades: msgspec.Raw = _NULL
    positions: msgspec.Raw = _NULL
    balance: msgspec.Raw = _NULL
    spot_balances: msgspec.Raw = field(name="spotBalances", default=_NULL)
    is_snapshot: bool | None = field(name="isSnapshot", default=None)


class _Frame(msgspec.Struct):
    type: str | None = None
    data: _Sections | None = None
    #: A text; on the multiplexed stream an object with code and message.
    error: Any = None
    pushed_ms: WholeNumber | None = field(name="ts", default=None)
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


class _Answer(msgspec.Struct):
    status: str
    data: msgspec.Raw = _NULL
    error: _Error | None = None
    pagination: _Pagination | None = None


_frames: Final = json_decoder(_Frame)
_other: Final = json_decoder(_Other)
_answers: Final = json_decoder(_Answer)
_lists: Final = json_decoder(list[msgspec.Raw])


class ExtendedAccount(PrivateVenue):
    """The account behind an API key."""

    venue: ClassVar[str] = "extended"
    secrets: ClassVar[tuple[str, ...]] = (_KEY,)
    keepalive: ClassVar[Keepalive] = account_keepalive(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """The key names its account."""
        return secrets.has(_KEY)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the key says all
        now_wall_ns: int,  # noqa: ARG002
    ) -> RestFlow[Login]:
        """The key goes with the upgrade; there is nothing to ask for, and it does not expire."""
        key = secrets.get(_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key or not key:
            raise LoginError(f"{_KEY} is no API key: it has characters that no header can carry")
        return no_requests(Login(f"{ws_url}/account", headers=(_USER_AGENT, f"X-Api-Key: {key}"), token=key))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame of either stream version; see :meth:`PrivateVenue.decode`."""
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
    ) -> RestFlow[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        key, naming = login.token, Rows(markets, account, None, snapshot=True)
        fills = yield from _fills_since(key, naming, since_ms)
        opened = yield from _all_of("/user/orders", key, naming.orders)
        # One page is enough: it tells how orders ended, and what ended is known from the open ones.
        body = yield _request(f"/user/orders/history?limit={_CLOSED_ORDERS}", key)
        closed, unclear = split_rows(naming.orders(_listed(body, "orders/history")[0]))
        positions = yield from _all_of("/user/positions", key, naming.positions)
        body = yield _request("/user/balance", key)
        balance, unread = split_rows(_balance_told(body, naming))
        return Snapshot(
            (
                *oldest_first(fills),
                *opened.events,
                *closed_orders(closed),
                *positions.events,
                *balance,
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *positions.invalid, *unread),
            has_all_fills=not fills.is_cut,
            orders_of=opened.covers,
            positions_of=positions.covers,
            # The balance is that of the collateral; what else is held, the stream alone tells.
            balances_of=nothing,
        )


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
    naming = Rows(markets, account, pushed_ms, bool(data.is_snapshot))
    positions = naming.positions(raw_rows(data.positions))
    items: list[AccountItem] = [
        *naming.orders(raw_rows(data.orders)),
        *naming.fills(raw_rows(data.trades)),
        *positions,
    ]
    if data.is_snapshot and not _is_null(data.positions):
        items += _all_positions(positions, ns_of_ms(pushed_ms))
    balance = () if _is_null(data.balance) else (data.balance,)
    return [*items, *naming.balance([*balance]), *naming.spot_balances(raw_rows(data.spot_balances))]


def _is_null(section: msgspec.Raw) -> bool:
    return bytes(section) == b"null"


def _all_positions(items: list[Position | InvalidRow], at_ns: int | None) -> list[AllPositions]:
    """Return the end of a list of all positions; none of a list that is not whole."""
    positions, invalid = split_rows(items)
    symbols = frozenset(position.venue_symbol for position in positions)
    return [] if invalid else [AllPositions(symbols, at_ns=at_ns)]


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, key: str) -> RestRequest:
    return RestRequest(path, headers=(("X-Api-Key", key),))


def _answered(body: bytes, what: str) -> tuple[msgspec.Raw, str | None]:
    """Return what an answer holds, and where the next page begins.

    An answer that is well but empty is malformed: an empty list of open orders must be told as such.

    Raises:
        LoginError: It is an error of the venue's.
        DecodeError: It is neither that nor an answer.
    """
    answer = parsed(_answers, body, what)
    if answer.status != "OK":
        error = answer.error or _Error()
        reason = _reason(error.code, error.message)
        raise LoginError(_named(reason, f"{what}: {error.code}: {error.message}"), reason)
    if _is_null(answer.data):
        raise DecodeError(f"an answer to {what} without data")
    cursor = None if answer.pagination is None else answer.pagination.cursor
    return answer.data, None if cursor is None else str(cursor)


def _listed(body: bytes, what: str) -> tuple[list[msgspec.Raw], str | None]:
    data, cursor = _answered(body, what)
    return parsed(_lists, bytes(data), what), cursor


def _all_of(path: str, key: str, read_rows: Callable[[list[msgspec.Raw]], list[E | InvalidRow]]) -> RestFlow[Pages[E]]:
    """Read all rows of a list; the documentation does not page these lists, yet an answer may name a further page."""
    what = path.removeprefix("/user/")

    def read(body: bytes) -> Page[E]:
        rows, cursor = _listed(body, what)
        return page_of(read_rows(rows), cursor)

    return all_pages(what, lambda cursor: _request(f"{path}?cursor={cursor}" if cursor else path, key), read)


def _fills_since(key: str, naming: Rows, since_ms: int) -> RestFlow[Pages[Fill]]:
    """Read pages, newest first, down to the first one that ends before ``since_ms``."""
    path = f"/user/trades?limit={_FILLS}"

    def read(body: bytes) -> Page[Fill]:
        rows, cursor = _listed(body, "trades")
        return naming.recent_fills(rows, cursor, since_ms)

    return all_pages("trades", lambda cursor: _request(f"{path}&cursor={cursor}" if cursor else path, key), read)


def _balance_told(body: bytes, naming: Rows) -> list[Balance | Margin | InvalidRow]:
    """Return what the answer to balance holds; an account without money has none that could be found."""
    try:
        return naming.balance([_answered(body, "balance")[0]])
    except LoginError as error:
        if error.reason is Reason.REFUSED and "not found" in error.what.lower():
            return []
        raise


#: For the registry of venues.
PRIVATE_VENUE: Final = ExtendedAccount
