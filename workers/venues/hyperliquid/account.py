"""Hyperliquid's private side: no login, all data by the address of the account.

Source of the rules: Hyperliquid's API documentation (WebSocket subscriptions, info endpoint), and recorded frames where
the two differ.
"""

# ruff: noqa: ARG002 - not every venue needs all arguments of PrivateVenue
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar, Final

import msgspec

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position
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
    unless_invalid,
)
from workers.venues.account_rows import WholeNumber, decoded, json_decoder
from workers.venues.fields import ns_of_ms
from workers.venues.hyperliquid import LOGIN_METHODS
from workers.venues.hyperliquid import account_rows as rows
from workers.venues.hyperliquid.account_rows import CORE, dex_of
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.hyperliquid.rest import info_request
from workers.venues.listing import Markets
from workers.venues.pagination import closed_orders
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Pong, Refused, RestRequest, parsed

_NS_PER_MS: Final = 1_000_000
((_ADDRESS,),) = LOGIN_METHODS
_ADDRESS_FORM: Final = re.compile(r"0x[0-9a-fA-F]{40}")
#: ``orderUpdates`` does not name the user, so one user per connection.
_SUBSCRIPTIONS: Final = ("orderUpdates", "userFills", "userFundings", "userEvents", "clearinghouseState", "spotState")
#: Most rows in an answer to ``userFillsByTime``.
_PAGE_ROWS: Final = 2000
_MAX_PAGES: Final = 50
_DEX_FORM: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
#: Most builders' exchanges queried per snapshot; the state of each costs 2 of the 1200 allowed per minute.
_MAX_DEXES: Final = 50
#: Exchanges without activity of the account whose open orders are queried per snapshot, in rotation.
_ROTATED_DEXES: Final = 2
_ZERO_EQUITY: Final = (
    "equity is not known: the funds are in the spot balance (a unified or portfolio-margin account), "
    "and the venue documents no rule for it"
)


class _State(msgspec.Struct):
    marginSummary: msgspec.Raw  # noqa: N815 - the venue's names
    assetPositions: list[msgspec.Raw]  # noqa: N815
    time: WholeNumber | None = None


class _SpotState(msgspec.Struct):
    balances: list[msgspec.Raw]


class _Fills(msgspec.Struct):
    fills: list[msgspec.Raw]
    user: str | None = None
    isSnapshot: bool = False  # noqa: N815


class _Fundings(msgspec.Struct):
    fundings: list[msgspec.Raw]
    isSnapshot: bool = False  # noqa: N815


class _UserEvent(msgspec.Struct):
    fills: list[msgspec.Raw] | None = None
    funding: msgspec.Raw = msgspec.Raw(b"null")


class _StateOf(msgspec.Struct):
    clearinghouseState: msgspec.Raw  # noqa: N815
    dex: str = CORE


class _SpotStateOf(msgspec.Struct):
    spotState: _SpotState  # noqa: N815


class _Dex(msgspec.Struct):
    name: str


class _Role(msgspec.Struct):
    role: str


class _Frame(msgspec.Struct):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_frames: Final = msgspec.json.Decoder(_Frame)
_raw_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_fills: Final = msgspec.json.Decoder(_Fills)
_fundings: Final = msgspec.json.Decoder(_Fundings)
_user_events: Final = msgspec.json.Decoder(_UserEvent)
_states_of: Final = msgspec.json.Decoder(_StateOf)
_spot_states: Final = msgspec.json.Decoder(_SpotStateOf)
_texts: Final = msgspec.json.Decoder(str)
_states: Final = json_decoder(_State)
_rest_spot: Final = msgspec.json.Decoder(_SpotState)
_dexes: Final = msgspec.json.Decoder(list[_Dex | None])
_roles: Final = msgspec.json.Decoder(_Role)


@dataclass(frozen=True, slots=True)
class _Dexes:
    """Coverage of the markets of some exchanges, except a few."""

    names: frozenset[str]
    without: frozenset[str | None] = frozenset()

    def __call__(self, coin: str | None) -> bool:
        """See :data:`workers.venues.account.Covers`."""
        return coin is not None and dex_of(coin) in self.names and coin not in self.without


@dataclass(slots=True)
class _AccountQuery:
    """Content of the answers so far; ``orders_of`` and ``positions_of`` are the exchanges with complete lists."""

    address: str
    markets: Markets
    account: str
    events: list[AccountEvent] = field(default_factory=list)
    invalid: list[InvalidRow] = field(default_factory=list)
    open_orders: set[str] = field(default_factory=set)
    orders_of: set[str] = field(default_factory=set)
    positions_of: set[str] = field(default_factory=set)

    def add(self, items: Iterable[AccountEvent | InvalidRow]) -> bool:
        """Add parsed rows; return whether all of them were valid."""
        events, invalid = split_rows(items)
        self.events += events
        self.invalid += invalid
        return not invalid

    def has_spot_funds_only(self) -> bool:
        """Return whether the equity is unknown because the funds are in the spot balance."""
        is_unknown = any(isinstance(event, Margin) and event.equity is None for event in self.events)
        return is_unknown and any(isinstance(event, Balance) and not is_zero(event.total) for event in self.events)

    def is_empty(self) -> bool:
        """Return whether the venue reports only zeros."""
        return not self.invalid and all(
            event.equity is None if isinstance(event, Margin) else isinstance(event, Balance) and is_zero(event.total)
            for event in self.events
        )


class HyperliquidAccount(PrivateVenue):
    """Account of an address: a user, a sub-account or a vault."""

    venue: ClassVar[str] = "hyperliquid"
    secrets: ClassVar[tuple[str, ...]] = (_ADDRESS,)
    keepalive: ClassVar[Keepalive] = account_keepalive(Hyperliquid.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether there is an address; nothing else is needed."""
        return secrets.has(_ADDRESS)

    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Return subscriptions for the address; nothing needs a signature."""
        address = secrets.get(_ADDRESS).lower()
        if not _ADDRESS_FORM.fullmatch(address):
            raise LoginError(f"{_ADDRESS} is no address: 0x and 40 hexadecimal digits are needed")
        subscribe = tuple(
            msgspec.json.encode({"method": "subscribe", "subscription": {"type": kind, "user": address}})
            for kind in _SUBSCRIPTIONS
        )
        return no_requests(Login(ws_url, subscribe=subscribe, token=address))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Decode a frame; see :meth:`PrivateVenue.decode`."""
        if bytes(payload[:1]) != b"{":
            return []  # the greeting
        frame = decoded(_frames, payload, "frame")
        match frame.channel:
            case "orderUpdates":
                updates = decoded(_raw_rows, frame.data, "orderUpdates")
                return [*rows.updates(updates, "orderUpdates", markets, account)]
            case "userFills":
                pushed = decoded(_fills, frame.data, "userFills")
                fills = rows.fills(pushed.fills, "userFills", markets, account, pushed.user, snapshot=pushed.isSnapshot)
                return [*fills]
            case "user":
                return _user_items(decoded(_user_events, frame.data, "user"), markets, account)
            case "userFundings":
                paid = decoded(_fundings, frame.data, "userFundings")
                return [*rows.payments(paid.fundings, "userFundings", markets, account, snapshot=paid.isSnapshot)]
            case "clearinghouseState":
                state = decoded(_states_of, frame.data, "clearinghouseState")
                return _state_items(state.clearinghouseState, state.dex, markets, account)
            case "spotState":
                spot = decoded(_spot_states, frame.data, "spotState").spotState
                return [*rows.balances(spot.balances, "spotState", account, snapshot=False)]
            case "pong":
                return [Pong()]
            case "error":
                return [_refused(decoded(_texts, frame.data, "error"))]
            case _:
                return []

    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Fetch fills before orders, so that the orders include their effect; lists are separate for each exchange."""
        query = _AccountQuery(login.token, markets, account)
        yield from _fetch_state(query, CORE)
        body = yield _info("spotClearinghouseState", query.address, 2)
        spot = parsed(_rest_spot, body, "spotClearinghouseState")
        balances = rows.balances(spot.balances, "spotClearinghouseState", account, snapshot=True)
        query.add(balances)
        if query.is_empty():
            yield from _check_role(query.address)  # before the budget is spent
        yield from _fetch_fills(query, since_ms)
        yield from _fetch_payments(query, since_ms)
        history = yield from _fetch_history(query)
        yield from _fetch_open_orders(query, CORE)
        yield from _fetch_builder_dexes(query, history, now_wall_ns)
        return Snapshot(
            tuple(query.events),
            frozenset(query.open_orders),
            tuple(query.invalid),
            orders_of=_Dexes(frozenset(query.orders_of), _inconsistent_markets(history, query.open_orders)),
            positions_of=_Dexes(frozenset(query.positions_of)),
            balances_of=unless_invalid(balances),
            note=_ZERO_EQUITY if query.has_spot_funds_only() else None,
        )


def _info(kind: str, address: str, weight: int, **more: int | str) -> RestRequest:
    return info_request(msgspec.json.encode({"type": kind, "user": address, **more}), weight)


def _fetch_fills(query: _AccountQuery, since_ms: int) -> RestFlow[None]:
    """Fetch fills; each page starts at the time of the previous last row, which rows of one block share."""
    known: dict[tuple[str, str], Fill] = {}
    for _ in range(_MAX_PAGES):
        body = yield _info("userFillsByTime", query.address, 20, startTime=since_ms)
        page = parsed(_raw_rows, body, "userFillsByTime")
        items = rows.fills(page, "userFillsByTime", query.markets, query.account, query.address, snapshot=True)
        fills, invalid = split_rows(items)
        query.invalid += invalid
        known |= {(fill.fill_id, fill.side): fill for fill in fills}
        last_ms = max(((fill.exchange_ns or 0) // _NS_PER_MS for fill in fills), default=since_ms)
        if len(page) < _PAGE_ROWS or last_ms <= since_ms:
            break
        since_ms = last_ms
    query.events += known.values()


def _fetch_payments(query: _AccountQuery, since_ms: int) -> RestFlow[None]:
    body = yield _info("userFunding", query.address, 20, startTime=since_ms)
    page = parsed(_raw_rows, body, "userFunding")
    query.add(rows.rest_payments(page, "userFunding", query.markets, query.account))


def _fetch_history(query: _AccountQuery) -> RestFlow[list[Order]]:
    """Add the closed orders of the history; return the whole history, newest first.

    They are added oldest first, because the last event of an order counts. Open orders come from their own lists.
    """
    body = yield _info("historicalOrders", query.address, 20)
    page = parsed(_raw_rows, body, "historicalOrders")
    items = rows.updates(page, "historicalOrders", query.markets, query.account, snapshot=True)
    history, invalid = split_rows(items)
    query.invalid += invalid
    query.events += closed_orders(history)
    return history


def _inconsistent_markets(history: Iterable[Order], listed: set[str]) -> frozenset[str | None]:
    """Return the markets of orders that are open in the history but in no list: the answers differ in time."""
    newest: dict[str, Order] = {}
    for order in history:
        newest.setdefault(order.order_id, order)
    alive = (order for order in newest.values() if order.is_open and order.order_id not in listed)
    return frozenset(order.venue_symbol for order in alive)


def _dex_names(query: _AccountQuery) -> RestFlow[list[str]]:
    """Return the names of the builders' exchanges; none, and no coverage of them, when the answer is malformed."""
    body = yield info_request(b'{"type":"perpDexs"}', 20)
    try:
        names = [dex.name for dex in parsed(_dexes, body, "perpDexs") if dex is not None]
    except DecodeError as error:
        query.invalid.append(InvalidRow("perpDexs", error.what))
        return []
    return [name for name in names if _DEX_FORM.fullmatch(name)][:_MAX_DEXES]


def _fetch_builder_dexes(query: _AccountQuery, history: Iterable[Order], now_wall_ns: int) -> RestFlow[None]:
    """Fetch positions on all builders' exchanges, and open orders where the account is active and on a few others.

    A list of open orders costs ten times as much as a state, and there are many exchanges.
    """
    active = {dex_of(event.venue_symbol or "") for event in (*query.events, *history)} - {CORE}
    names = yield from _dex_names(query)
    for dex in sorted({*names, *active}):
        if (yield from _fetch_state(query, dex)):
            active.add(dex)
    for dex in sorted(active | _rotated({*names} - active, now_wall_ns)):
        yield from _fetch_open_orders(query, dex)


def _rotated(dexes: Iterable[str], now_wall_ns: int) -> set[str]:
    """Return a few of the exchanges, different ones at each time, so that all are covered after a while."""
    return set(sorted(dexes, key=lambda dex: sha256(f"{dex}:{now_wall_ns}".encode()).digest())[:_ROTATED_DEXES])


def _fetch_state(query: _AccountQuery, dex: str) -> RestFlow[bool]:
    """Fetch positions and, for the venue's own exchange, margin; return whether there is a position.

    Raises:
        DecodeError: The answer of the venue's own exchange is malformed; that of a builder's exchange is left out.
    """
    body = yield _info("clearinghouseState", query.address, 2, **_dex_member(dex))
    with _skip_malformed(query, dex):
        state = parsed(_states, body, "clearinghouseState")
        if query.add(_positions(state, query.markets, query.account, snapshot=True)):
            query.positions_of.add(dex)
        if dex == CORE:
            query.add(rows.margins([msgspec.Raw(body)], "clearinghouseState", query.account, snapshot=True))
        return bool(state.assetPositions)
    return False


def _fetch_open_orders(query: _AccountQuery, dex: str) -> RestFlow[None]:
    """Fetch open orders.

    Raises:
        DecodeError: As :func:`_fetch_state`.
    """
    body = yield _info("frontendOpenOrders", query.address, 20, **_dex_member(dex))
    with _skip_malformed(query, dex):
        page = parsed(_raw_rows, body, "frontendOpenOrders")
        items = rows.open_orders(page, "frontendOpenOrders", query.markets, query.account)
        query.open_orders |= {order.order_id for order in split_rows(items)[0]}
        if query.add(items):
            query.orders_of.add(dex)


def _dex_member(dex: str) -> dict[str, str]:
    """Return the request member that names an exchange; the venue's own has no name."""
    return {"dex": dex} if dex else {}


@contextmanager
def _skip_malformed(query: _AccountQuery, dex: str) -> Iterator[None]:
    """Leave out a malformed answer of a builder's exchange; re-raise for the venue's own exchange."""
    try:
        yield
    except DecodeError as error:
        if dex == CORE:
            raise
        query.invalid.append(InvalidRow(f"answer of {dex}", error.what))


def _check_role(address: str) -> RestFlow[None]:
    """Check why the venue shows an empty account.

    Raises:
        LoginError: The address is that of an API wallet.
    """
    body = yield _info("userRole", address, 60)
    try:
        role = parsed(_roles, body, "userRole").role
    except DecodeError:
        return
    if role == "agent":
        raise LoginError(
            f"{_ADDRESS} is the address of an API wallet (agent), of which the venue shows an empty account: "
            "give the address of the account that it acts for"
        )


def _user_items(event: _UserEvent, markets: Markets, account: str) -> list[AccountItem]:
    paid = [event.funding] if bytes(event.funding) != b"null" else []
    return [
        *rows.fills(event.fills or (), "user", markets, account, None, snapshot=False),
        *rows.payments(paid, "user", markets, account, snapshot=False),
    ]


def _state_items(raw: msgspec.Raw, dex: str, markets: Markets, account: str) -> list[AccountItem]:
    """Return the content of a state; the margin of a builder's exchange is left out, as it is not the account's."""
    state = decoded(_states, raw, "clearinghouseState")
    positions = _positions(state, markets, account, snapshot=False)
    items: list[AccountItem] = [*positions]
    if dex == CORE:
        items += rows.margins([raw], "clearinghouseState", account, snapshot=False)
    valid, invalid = split_rows(positions)
    if not invalid:
        symbols = frozenset(one.venue_symbol for one in valid)
        items.append(AllPositions(symbols, _Dexes(frozenset({dex})), ns_of_ms(state.time)))
    return items


def _positions(state: _State, markets: Markets, account: str, *, snapshot: bool) -> list[Position | InvalidRow]:
    return rows.positions(state.assetPositions, "clearinghouseState", state.time, markets, account, snapshot=snapshot)


def _refused(text: str) -> Refused:
    """Return an error message without the address, which the venue's text repeats."""
    text = _ADDRESS_FORM.sub("(address)", text)
    if text.startswith(("Already subscribed", "Already unsubscribed")):
        return Refused(text, reason=None)
    return Refused(text, reason=Reason.RATE_LIMITED if text.startswith("Cannot") else Reason.SUBSCRIBE_ERROR)


#: For the registry of venues.
PRIVATE_VENUE: Final = HyperliquidAccount
