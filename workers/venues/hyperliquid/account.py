"""Hyperliquid's private side: no login, everything by the address of the account.

Source of the rules: Hyperliquid's API documentation (WebSocket subscriptions, info endpoint), and recorded frames where
the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar, Final, TypeVar

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
from workers.venues.account_rows import WholeNumber, json_decoder
from workers.venues.fields import ns_of_ms
from workers.venues.hyperliquid import account_rows as rows
from workers.venues.hyperliquid.account_rows import CORE, dex_of
from workers.venues.hyperliquid.credentials import LOGIN_METHODS
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.pagination import closed_orders
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Markets, Pong, Refused, RestRequest, parsed

__all__ = ["PRIVATE_VENUE", "HyperliquidAccount"]

T = TypeVar("T")

_NS_PER_MS: Final = 1_000_000
((_ADDRESS,),) = LOGIN_METHODS
_ADDRESS_FORM: Final = re.compile(r"0x[0-9a-fA-F]{40}")
#: ``orderUpdates`` does not say whose they are, so one user a connection.
_SUBSCRIPTIONS: Final = ("orderUpdates", "userFills", "userFundings", "userEvents", "clearinghouseState", "spotState")
#: Rows that an answer to ``userFillsByTime`` holds at most.
_PAGE: Final = 2000
_PAGES: Final = 50
_DEX_FORM: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
#: Exchanges of builders that a look asks for at most; the state of each costs 2 of the 1200 that a minute allows.
_DEXES: Final = 50
#: Exchanges that the account was not seen on whose open orders are asked for in one look.
_IN_TURN: Final = 2
_ZERO_EQUITY: Final = (
    "equity is not known: the funds are in the spot balance (a unified or portfolio-margin account), "
    "and the venue documents no rule for it"
)
_VENUE: Final = Hyperliquid()


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
    """Covers the markets of some exchanges, but for a few."""

    names: frozenset[str]
    without: frozenset[str | None] = frozenset()

    def __call__(self, coin: str | None) -> bool:
        """See :data:`workers.venues.account.Covers`."""
        return coin is not None and dex_of(coin) in self.names and coin not in self.without


@dataclass(slots=True)
class _Look:
    """What the answers of one look hold so far; ``orders_of`` and ``positions_of`` are exchanges with whole lists."""

    address: str
    markets: Markets
    account: str
    events: list[AccountEvent] = field(default_factory=list)
    invalid: list[InvalidRow] = field(default_factory=list)
    open_orders: set[str] = field(default_factory=set)
    orders_of: set[str] = field(default_factory=set)
    positions_of: set[str] = field(default_factory=set)

    def note(self, items: Iterable[AccountEvent | InvalidRow]) -> bool:
        """Keep what rows became; return whether all of them were valid."""
        events, invalid = split_rows(items)
        self.events += events
        self.invalid += invalid
        return not invalid

    def has_funds(self) -> bool:
        """Tell whether there are funds in the spot balance alone, and the equity is none for that."""
        is_unknown = any(isinstance(event, Margin) and event.equity is None for event in self.events)
        return is_unknown and any(isinstance(event, Balance) and not is_zero(event.total) for event in self.events)

    def is_empty(self) -> bool:
        """Tell whether the venue shows nothing but zeros."""
        return not self.invalid and all(
            event.equity is None if isinstance(event, Margin) else isinstance(event, Balance) and is_zero(event.total)
            for event in self.events
        )


class HyperliquidAccount(PrivateVenue):
    """The account of an address: a user's, a sub-account's or a vault's."""

    venue: ClassVar[str] = "hyperliquid"
    secrets: ClassVar[tuple[str, ...]] = (_ADDRESS,)
    keepalive: ClassVar[Keepalive] = account_keepalive(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """An address is all it takes."""
        return secrets.has(_ADDRESS)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the address says all
        now_wall_ns: int,  # noqa: ARG002
    ) -> RestFlow[Login]:
        """Subscriptions that name the address; there is nothing to sign."""
        address = secrets.get(_ADDRESS).lower()
        if not _ADDRESS_FORM.fullmatch(address):
            raise LoginError(f"{_ADDRESS} is no address: 0x and 40 hexadecimal digits are needed")
        subscribe = tuple(
            msgspec.json.encode({"method": "subscribe", "subscription": {"type": kind, "user": address}})
            for kind in _SUBSCRIPTIONS
        )
        return no_requests(Login(ws_url, subscribe=subscribe, token=address))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`PrivateVenue.decode`."""
        if bytes(payload[:1]) != b"{":
            return []  # the greeting
        frame = _parsed(_frames, payload, "frame")
        match frame.channel:
            case "orderUpdates":
                updates = _parsed(_raw_rows, frame.data, "orderUpdates")
                return [*rows.updates(updates, "orderUpdates", markets, account)]
            case "userFills":
                told = _parsed(_fills, frame.data, "userFills")
                fills = rows.fills(told.fills, "userFills", markets, account, told.user, snapshot=told.isSnapshot)
                return [*fills]
            case "user":
                return _user_items(_parsed(_user_events, frame.data, "user"), markets, account)
            case "userFundings":
                paid = _parsed(_fundings, frame.data, "userFundings")
                return [*rows.payments(paid.fundings, "userFundings", markets, account, snapshot=paid.isSnapshot)]
            case "clearinghouseState":
                state = _parsed(_states_of, frame.data, "clearinghouseState")
                return _state_items(state.clearinghouseState, state.dex, markets, account)
            case "spotState":
                spot = _parsed(_spot_states, frame.data, "spotState").spotState
                return [*rows.balances(spot.balances, "spotState", account, snapshot=False)]
            case "pong":
                return [Pong()]
            case "error":
                return [_refused(_parsed(_texts, frame.data, "error"))]
            case _:
                return []

    def snapshot(
        self,
        login: Login,
        secrets: Secrets,  # noqa: ARG002 - the login holds the address
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,
    ) -> RestFlow[Snapshot]:
        """Fills before orders: one that they fill is then asked for after them. Each exchange has lists of its own."""
        look = _Look(login.token, markets, account)
        yield from _look_at_state(look, CORE)
        body = yield _info("spotClearinghouseState", look.address, 2)
        spot = parsed(_rest_spot, body, "spotClearinghouseState")
        balances = rows.balances(spot.balances, "spotClearinghouseState", account, snapshot=True)
        look.note(balances)
        if look.is_empty():
            yield from _check_role(look.address)  # before the budget is spent
        yield from _look_at_fills(look, since_ms)
        yield from _look_at_payments(look, since_ms)
        history = yield from _look_at_history(look)
        yield from _look_at_open_orders(look, CORE)
        yield from _look_at_builders(look, history, now_wall_ns)
        return Snapshot(
            tuple(look.events),
            frozenset(look.open_orders),
            tuple(look.invalid),
            orders_of=_Dexes(frozenset(look.orders_of), _doubtful(history, look.open_orders)),
            positions_of=_Dexes(frozenset(look.positions_of)),
            balances_of=unless_invalid(balances),
            note=_ZERO_EQUITY if look.has_funds() else None,
        )


def _info(kind: str, address: str, weight: int, **more: int | str) -> RestRequest:
    return RestRequest(
        "/info", method="POST", body=msgspec.json.encode({"type": kind, "user": address, **more}), weight=weight
    )


def _parsed(decoder: msgspec.json.Decoder[T], data: bytes | memoryview | msgspec.Raw, what: str) -> T:
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed {what}: {error}") from error


# --- looks --------------------------------------------------------------------------------------------------------


def _look_at_fills(look: _Look, since_ms: int) -> RestFlow[None]:
    """Pages begin at the time of the last row: rows of one block share it."""
    known: dict[tuple[str, str], Fill] = {}
    for _ in range(_PAGES):
        body = yield _info("userFillsByTime", look.address, 20, startTime=since_ms)
        page = parsed(_raw_rows, body, "userFillsByTime")
        items = rows.fills(page, "userFillsByTime", look.markets, look.account, look.address, snapshot=True)
        fills, invalid = split_rows(items)
        look.invalid += invalid
        known |= {(fill.fill_id, fill.side): fill for fill in fills}
        last_ms = max(((fill.exchange_ns or 0) // _NS_PER_MS for fill in fills), default=since_ms)
        if len(page) < _PAGE or last_ms <= since_ms:
            break
        since_ms = last_ms
    look.events += known.values()


def _look_at_payments(look: _Look, since_ms: int) -> RestFlow[None]:
    body = yield _info("userFunding", look.address, 20, startTime=since_ms)
    page = parsed(_raw_rows, body, "userFunding")
    look.note(rows.paid_by_rest(page, "userFunding", look.markets, look.account))


def _look_at_history(look: _Look) -> RestFlow[list[Order]]:
    """Note how orders ended; return all orders of the history, newest first.

    The last event of an order stands, so they are noted oldest first. What is open, the lists of open orders say.
    """
    body = yield _info("historicalOrders", look.address, 20)
    page = parsed(_raw_rows, body, "historicalOrders")
    items = rows.updates(page, "historicalOrders", look.markets, look.account, snapshot=True)
    history, invalid = split_rows(items)
    look.invalid += invalid
    look.events += closed_orders(history)
    return history


def _doubtful(history: Iterable[Order], listed: set[str]) -> frozenset[str | None]:
    """Return the markets of orders that history calls open and no list has: the answers are not of one moment."""
    newest: dict[str, Order] = {}
    for order in history:
        newest.setdefault(order.order_id, order)
    alive = (order for order in newest.values() if order.is_open and order.order_id not in listed)
    return frozenset(order.venue_symbol for order in alive)


def _dex_names(look: _Look) -> RestFlow[list[str]]:
    """Return the names of the builders' exchanges; none where they are not told, then their lists cover nothing."""
    body = yield RestRequest("/info", method="POST", body=msgspec.json.encode({"type": "perpDexs"}), weight=20)
    try:
        names = [dex.name for dex in parsed(_dexes, body, "perpDexs") if dex is not None]
    except DecodeError as error:
        look.invalid.append(InvalidRow("perpDexs", error.what))
        return []
    return [name for name in names if _DEX_FORM.fullmatch(name)][:_DEXES]


def _look_at_builders(look: _Look, history: Iterable[Order], now_wall_ns: int) -> RestFlow[None]:
    """Positions on every builder's exchange; open orders on those that the account is seen on, and some others in turn.

    A list of open orders costs ten times as much as a state, and there are many exchanges.
    """
    seen = {dex_of(event.venue_symbol or "") for event in (*look.events, *history)} - {CORE}
    names = yield from _dex_names(look)
    for dex in sorted({*names, *seen}):
        if (yield from _look_at_state(look, dex)):
            seen.add(dex)
    for dex in sorted(seen | _some({*names} - seen, now_wall_ns)):
        yield from _look_at_open_orders(look, dex)


def _some(dexes: Iterable[str], now_wall_ns: int) -> set[str]:
    """Return a few of the exchanges, others at each time: after a while all of them had their turn."""
    return set(sorted(dexes, key=lambda dex: sha256(f"{dex}:{now_wall_ns}".encode()).digest())[:_IN_TURN])


def _look_at_state(look: _Look, dex: str) -> RestFlow[bool]:
    """Note positions and, of the venue's own exchange, margin; return whether there is a position.

    Raises:
        DecodeError: The answer of the venue's own exchange is not what it should be; that of a builder's is left out.
    """
    body = yield _info("clearinghouseState", look.address, 2, **_where(dex))
    with _tolerating(look, dex):
        state = parsed(_states, body, "clearinghouseState")
        if look.note(_positions(state, look.markets, look.account, snapshot=True)):
            look.positions_of.add(dex)
        if dex == CORE:
            look.note(rows.margins([msgspec.Raw(body)], "clearinghouseState", look.account, snapshot=True))
        return bool(state.assetPositions)
    return False


def _look_at_open_orders(look: _Look, dex: str) -> RestFlow[None]:
    """Note open orders.

    Raises:
        DecodeError: As :func:`_look_at_state`.
    """
    body = yield _info("frontendOpenOrders", look.address, 20, **_where(dex))
    with _tolerating(look, dex):
        page = parsed(_raw_rows, body, "frontendOpenOrders")
        items = rows.open_orders(page, "frontendOpenOrders", look.markets, look.account)
        look.open_orders |= {order.order_id for order in split_rows(items)[0]}
        if look.note(items):
            look.orders_of.add(dex)


def _where(dex: str) -> dict[str, str]:
    """Return the member that names an exchange; the venue's own has no name."""
    return {"dex": dex} if dex else {}


@contextmanager
def _tolerating(look: _Look, dex: str) -> Iterator[None]:
    """Leave an answer of a builder's exchange out when it cannot be read; the venue's own exchange must be readable."""
    try:
        yield
    except DecodeError as error:
        if dex == CORE:
            raise
        look.invalid.append(InvalidRow(f"answer of {dex}", error.what))


def _check_role(address: str) -> RestFlow[None]:
    """Find out why the venue shows nothing of an address.

    Raises:
        LoginError: It is that of an API wallet.
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


# --- frames to items ----------------------------------------------------------------------------------------------


def _user_items(event: _UserEvent, markets: Markets, account: str) -> list[AccountItem]:
    paid = [event.funding] if bytes(event.funding) != b"null" else []
    return [
        *rows.fills(event.fills or (), "user", markets, account, None, snapshot=False),
        *rows.payments(paid, "user", markets, account, snapshot=False),
    ]


def _state_items(raw: msgspec.Raw, dex: str, markets: Markets, account: str) -> list[AccountItem]:
    """Return what a state holds; that of a builder's exchange has a margin of its own, which is not the account's."""
    state = _parsed(_states, raw, "clearinghouseState")
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
    """A refusal; the venue's text repeats what was asked for, and so the address."""
    text = _ADDRESS_FORM.sub("(address)", text)
    if text.startswith(("Already subscribed", "Already unsubscribed")):
        return Refused(text, reason=None)
    return Refused(text, reason=Reason.RATE_LIMITED if text.startswith("Cannot") else Reason.SUBSCRIBE_ERROR)


#: For the registry of venues.
PRIVATE_VENUE: Final = HyperliquidAccount
