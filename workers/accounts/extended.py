"""Extended's private side: a key in a header, one stream that tells everything when it opens.

Source of the rules: Extended's API documentation (account updates stream, private REST API), and recorded frames where
the two differ.

Frames are numbered as on the public streams, but there is no way to ask for one again: what was lost is found when REST
is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import field

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position, Side
from ipc.health import Reason
from workers.accounts.account import (
    AccountItem,
    AccountSide,
    AllPositions,
    Login,
    LoginError,
    Snapshot,
    Steps,
    everything,
    nothing,
    pinging_often,
    without_calls,
)
from workers.accounts.answers import Page, Pages, all_pages, events_of, oldest_first, page_of, raw_rows, recent_page
from workers.accounts.fields import NumberText, WholeNumber, json_decoder
from workers.accounts.secrets import Secrets
from workers.accounts.words import OrderStatus, above_zero, fill_type, order_status, priced
from workers.rows import InvalidRow, split_rows
from workers.venues.extended import Extended
from workers.venues.fields import ns_of_ms
from workers.venues.venue import Keepalive, Listing, Markets, Refused, Request, parsed

__all__ = ["ExtendedAccount"]

E = TypeVar("E", Order, Position)

_MS_PER_S: Final = 1000
#: Times below this are seconds, as in examples of the documentation; in practice they are milliseconds.
_SECONDS_BELOW: Final = 10**11
_KEY: Final = "EXTENDED_API_KEY"
#: The firewall refuses clients that do not name themselves.
_USER_AGENT: Final = "User-Agent: paraphina-supervisor"
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_NULL: Final = msgspec.Raw(b"null")
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_STATUS: Final[Mapping[str, OrderStatus]] = {
    "NEW": "open",
    "PARTIALLY_FILLED": "open",
    "TRIGGERED": "open",
    "UNTRIGGERED": "untriggered",
    "FILLED": "filled",
    "CANCELLED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
}
_FILL_TYPES: Final[Mapping[str, str]] = {"TRADE": "trade", "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
#: Orders that are not in the book until their trigger makes orders of other types of them.
_WAITING: Final = frozenset({"TPSL"})
#: Types of frames that must hold a section of ours; the multiplexed stream writes ``ACCOUNT.`` before them.
_TYPES: Final = frozenset({"ORDER", "TRADE", "POSITION", "BALANCE", "SPOT_BALANCE"})
_VENUE: Final = Extended()


class _Order(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    status: str
    #: Zero or null for one that closes a whole position.
    size: NumberText | None = field(name="qty", default=None)
    type: str | None = None
    client_id: str | None = field(name="externalId", default=None)
    price: NumberText | None = None
    filled: NumberText | None = field(name="filledQty", default=None)
    reduce_only: bool | None = field(name="reduceOnly", default=None)
    updated: WholeNumber | None = field(name="updatedTime", default=None)


class _Trade(msgspec.Struct):
    id: int | str
    market: str
    side: Literal["BUY", "SELL"]
    price: NumberText
    size: NumberText = field(name="qty")
    order_id: int | str | None = field(name="orderId", default=None)
    fee: NumberText | None = None
    is_taker: bool | None = field(name="isTaker", default=None)
    type: str = field(name="tradeType", default="TRADE")
    created: WholeNumber | None = field(name="createdTime", default=None)


class _Position(msgspec.Struct):
    market: str
    side: Literal["LONG", "SHORT"]
    #: Without a sign.
    size: NumberText
    status: str | None = None
    entry_price: NumberText | None = field(name="openPrice", default=None)
    mark_price: NumberText | None = field(name="markPrice", default=None)
    liquidation_price: NumberText | None = field(name="liquidationPrice", default=None)
    unrealised_pnl: NumberText | None = field(name="unrealisedPnl", default=None)
    updated: WholeNumber | None = field(name="updatedAt", default=None)


class _Balance(msgspec.Struct):
    asset: str = field(name="collateralName")
    total: NumberText = field(name="balance")
    equity: NumberText | None = None
    for_trade: NumberText | None = field(name="availableForTrade", default=None)
    for_withdrawal: NumberText | None = field(name="availableForWithdrawal", default=None)
    initial_margin: NumberText | None = field(name="initialMargin", default=None)
    updated: WholeNumber | None = field(name="updatedTime", default=None)


class _SpotBalance(msgspec.Struct):
    asset: str
    balance: NumberText
    available: NumberText | None = field(name="availableToWithdraw", default=None)
    updated: WholeNumber | None = field(name="updatedAt", default=None)


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
_order_rows: Final = json_decoder(_Order)
_trade_rows: Final = json_decoder(_Trade)
_position_rows: Final = json_decoder(_Position)
_balance_rows: Final = json_decoder(_Balance)
_spot_rows: Final = json_decoder(_SpotBalance)
_answers: Final = json_decoder(_Answer)
_lists: Final = json_decoder(list[msgspec.Raw])


class ExtendedAccount(AccountSide):
    """The account behind an API key."""

    venue: ClassVar[str] = "extended"
    secrets: ClassVar[tuple[str, ...]] = (_KEY,)
    keepalive: ClassVar[Keepalive] = pinging_often(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """The key names its account."""
        return secrets.has(_KEY)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the key says all
        now_wall_ns: int,  # noqa: ARG002
    ) -> Steps[Login]:
        """The key goes with the upgrade; there is nothing to ask for, and it does not expire."""
        key = secrets.get(_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key or not key:
            raise LoginError(f"{_KEY} is no API key: it has characters that no header can carry")
        return without_calls(Login(f"{ws_url}/account", headers=(_USER_AGENT, f"X-Api-Key: {key}"), token=key))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame of either stream version; see :meth:`AccountSide.decode`."""
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
    ) -> Steps[Snapshot]:
        """Fills first: an order that they fill is then asked for after them."""
        key, naming = login.token, _Naming(markets, account, None, snapshot=True)
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
                # The newest come first, and the last one told stands.
                *(order for order in reversed(closed) if order.status not in {"open", "untriggered"}),
                *positions.events,
                *balance,
            ),
            frozenset(order.order_id for order in opened.events),
            invalid=(*fills.invalid, *opened.invalid, *unclear, *positions.invalid, *unread),
            orders_of=everything if opened.is_whole else nothing,
            positions_of=everything if positions.is_whole else nothing,
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


class _Naming(NamedTuple):
    """Names events by the markets that are known and the account's alias, and makes them of rows."""

    markets: Markets
    account: str
    #: When a frame was sent: for rows without a time of their own.
    pushed_ms: int | None
    snapshot: bool

    def listing(self, market: str) -> Listing:
        return self.markets.get(market) or _VENUE.offline_listing(market)

    def orders(self, rows: list[msgspec.Raw]) -> list[Order | InvalidRow]:
        return events_of(rows, _order_rows.decode, lambda row: [_order(row, self)], "orders")

    def fills(self, rows: list[msgspec.Raw]) -> list[Fill | InvalidRow]:
        return events_of(rows, _trade_rows.decode, lambda row: [_fill(row, self)], "trades")

    def positions(self, rows: list[msgspec.Raw]) -> list[Position | InvalidRow]:
        return events_of(rows, _position_rows.decode, lambda row: [_position(row, self)], "positions")

    def balance(self, rows: list[msgspec.Raw]) -> list[Balance | Margin | InvalidRow]:
        return events_of(rows, _balance_rows.decode, lambda row: _balance_events(row, self), "balance")

    def spot_balances(self, rows: list[msgspec.Raw]) -> list[Balance | InvalidRow]:
        return events_of(rows, _spot_rows.decode, lambda row: [_spot_balance(row, self)], "spotBalances")


def _items(data: _Sections, pushed_ms: int | None, markets: Markets, account: str) -> list[AccountItem]:
    naming = _Naming(markets, account, pushed_ms, bool(data.is_snapshot))
    positions = naming.positions(raw_rows(data.positions))
    items: list[AccountItem] = [
        *naming.orders(raw_rows(data.orders)),
        *naming.fills(raw_rows(data.trades)),
        *positions,
    ]
    if data.is_snapshot and not _is_null(data.positions):
        items += _all_positions(positions)
    balance = () if _is_null(data.balance) else (data.balance,)
    return [*items, *naming.balance([*balance]), *naming.spot_balances(raw_rows(data.spot_balances))]


def _is_null(section: msgspec.Raw) -> bool:
    return bytes(section) == b"null"


def _all_positions(items: list[Position | InvalidRow]) -> list[AllPositions]:
    """Return the end of a list of all positions; none of a list that is not whole."""
    positions, invalid = split_rows(items)
    return [] if invalid else [AllPositions(frozenset(position.venue_symbol for position in positions))]


# --- events -------------------------------------------------------------------------------------------------------


def _ns(time: int | None) -> int | None:
    """Return a time in ns; it is told in ms, in some examples of the documentation in s."""
    return ns_of_ms(time * _MS_PER_S if time and time < _SECONDS_BELOW else time)


def _order(row: _Order, naming: _Naming) -> Order:
    listing = naming.listing(row.market)
    size, filled = row.size or "0", row.filled or "0"
    # Once triggered, and filled in part, it is in the book.
    waits = row.type in _WAITING and row.status == "NEW" and is_zero(filled)
    return Order(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated),
        naming.account,
        str(row.id),
        row.client_id or None,
        _SIDES[row.side],
        # A market order is sent as one at the worst price that it may have.
        None if row.type == "MARKET" else priced(row.price),
        size,
        filled,
        order_status(_STATUS, row.status, size, filled, waits=waits),
        row.status,
        row.type or "",
        bool(row.reduce_only),
        naming.snapshot,
    )


def _fill(row: _Trade, naming: _Naming) -> Fill:
    listing = naming.listing(row.market)
    liquidity: Literal["maker", "taker"] | None = None
    if row.is_taker is not None:
        liquidity = "taker" if row.is_taker else "maker"
    return Fill(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.created),
        naming.account,
        str(row.id),
        None if row.order_id is None else str(row.order_id),
        _SIDES[row.side],
        row.price,
        row.size,
        row.fee or None,
        listing.quote,
        liquidity,
        fill_type(_FILL_TYPES, row.type, liquidity),
        naming.snapshot,
    )


def _position(row: _Position, naming: _Naming) -> Position:
    listing = naming.listing(row.market)
    size = "0" if row.status == "CLOSED" else row.size.removeprefix("-")
    is_held = not is_zero(size)
    return Position(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.updated or naming.pushed_ms),
        naming.account,
        f"-{size}" if is_held and row.side == "SHORT" else size,
        priced(row.entry_price) if is_held else None,
        priced(row.mark_price),
        row.unrealised_pnl or None,
        above_zero(row.liquidation_price) if is_held else None,
        None,
        naming.snapshot,
    )


def _balance_events(row: _Balance, naming: _Naming) -> list[Balance | Margin]:
    head = ("extended", None, None, _ns(row.updated or naming.pushed_ms), naming.account)
    margin = (row.equity or None, row.for_trade or None, row.initial_margin or None, None)
    return [
        Balance(*head, row.asset, row.total, row.for_withdrawal or None, naming.snapshot),
        Margin(*head, *margin, naming.snapshot),
    ]


def _spot_balance(row: _SpotBalance, naming: _Naming) -> Balance:
    head = ("extended", None, None, _ns(row.updated or naming.pushed_ms), naming.account)
    return Balance(*head, row.asset, row.balance, row.available or None, naming.snapshot)


# --- REST ---------------------------------------------------------------------------------------------------------


def _request(path: str, key: str) -> Request:
    return Request(path, headers=(("X-Api-Key", key),))


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


def _all_of(path: str, key: str, read_rows: Callable[[list[msgspec.Raw]], list[E | InvalidRow]]) -> Steps[Pages[E]]:
    """Read all rows of a list; the documentation does not page these lists, yet an answer may name a further page."""
    what = path.removeprefix("/user/")

    def read(body: bytes) -> Page[E]:
        rows, cursor = _listed(body, what)
        return page_of(read_rows(rows), cursor)

    return all_pages(what, lambda cursor: _request(f"{path}?cursor={cursor}" if cursor else path, key), read)


def _fills_since(key: str, naming: _Naming, since_ms: int) -> Steps[Pages[Fill]]:
    """Read pages, newest first, down to the first one that ends before ``since_ms``."""
    path = f"/user/trades?limit={_FILLS}"

    def read(body: bytes) -> Page[Fill]:
        rows, cursor = _listed(body, "trades")
        return recent_page(
            rows,
            _trade_rows.decode,
            lambda row: [_fill(row, naming)],
            "trades",
            cursor=cursor,
            time_of=lambda row: row.created,
            since_ms=since_ms,
        )

    return all_pages("trades", lambda cursor: _request(f"{path}&cursor={cursor}" if cursor else path, key), read)


def _balance_told(body: bytes, naming: _Naming) -> list[Balance | Margin | InvalidRow]:
    """Return what the answer to balance holds; an account without money has none that could be found."""
    try:
        return naming.balance([_answered(body, "balance")[0]])
    except LoginError as error:
        if error.reason is Reason.REFUSED and "not found" in error.what.lower():
            return []
        raise
