"""What a venue's private side is: data and pure functions, like its public side.

Login, renewal and reconciliation take REST calls. They are written as generators that yield requests and are sent the
bodies of the answers, so that they stay free of sockets; whoever drives them does the calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, TypeAlias, TypeVar

from ipc.events import AccountEvent, Position
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.rows import InvalidRow
from workers.venues.venue import Keepalive, Markets, Ping, Pong, Refused, RestRequest

__all__ = [
    "AccountItem",
    "AllPositions",
    "Covers",
    "Expired",
    "Leg",
    "LegName",
    "LoggedIn",
    "Login",
    "LoginError",
    "PrivateVenue",
    "Renewal",
    "RestFlow",
    "Snapshot",
    "StatementItem",
    "everything",
    "nothing",
    "pinging_often",
    "unless_invalid",
    "without_calls",
]

T = TypeVar("T")

#: A course of REST calls: yields requests, is sent bodies, returns its result.
RestFlow: TypeAlias = Generator[RestRequest, bytes, T]


_PING_S: Final = 15.0


def pinging_often(keepalive: Keepalive) -> Keepalive:
    """A venue's keepalive for an account: it may be quiet for hours, so pings alone tell that a connection lives."""
    return replace(keepalive, interval_s=min(keepalive.interval_s, _PING_S))


def without_calls(result: T) -> RestFlow[T]:
    """A course that needs no call."""
    yield from ()
    return result


class LoginError(Exception):
    """The venue does not accept the credentials; ``reason`` is ``auth_failed`` unless it is something that passes."""

    def __init__(self, what: str, reason: Reason = Reason.AUTH_FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection to an account takes; nothing of it is ever shown.

    Attributes:
        url: Where to connect.
        headers: HTTP headers of the upgrade.
        hello: Sent first; the venue answers with :class:`LoggedIn` where ``must_confirm``.
        subscribe: Sent when logged in.
        must_confirm: Whether the venue confirms the login.
        renew_at_ns: When :meth:`PrivateVenue.renew` is due, wall clock; None when nothing expires.
        token: What REST calls need; the venue's own business.
    """

    url: str = field(repr=False)
    headers: tuple[str, ...] = field(default=(), repr=False)
    hello: tuple[bytes, ...] = field(default=(), repr=False)
    subscribe: tuple[bytes, ...] = field(default=(), repr=False)
    must_confirm: bool = False
    renew_at_ns: int | None = None
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal led to: another login to go on with; whether the connection must be made anew for it."""

    login: Login
    must_reconnect: bool = False
    messages: tuple[bytes, ...] = field(default=(), repr=False)


#: Tells whether a list is complete for a market (by the venue's name) or for an asset. Only then does it mean anything
#: that something is not listed.
Covers: TypeAlias = Callable[[str | None], bool]


def everything(name: str | None) -> bool:  # noqa: ARG001
    """Cover all markets or assets."""
    return True


def nothing(name: str | None) -> bool:  # noqa: ARG001
    """Cover no market or asset: the list is a part, and nobody knows of what."""
    return False


def unless_invalid(rows: Iterable[object]) -> Covers:
    """Return what a list covers: everything, or nothing when a row of it was left out as invalid."""
    return nothing if any(isinstance(row, InvalidRow) for row in rows) else everything


#: ``both`` is the position of an account that has one a market.
LegName: TypeAlias = Literal["both", "long", "short"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a market's position, where an account may be long and short at once; its size has a sign."""

    name: LegName
    position: Position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Return value of :meth:`PrivateVenue.snapshot`: the account as the venue describes it on request.

    Attributes:
        events: Open orders, orders that closed of late, positions or their legs, balances, margin, and the fills and
            payments that were asked for.
        open_orders: Ids of all orders that are open in the markets that ``orders_of`` covers.
        invalid: Rows of the answers that were left out.
        has_all_fills: Every fill since the requested time was read; otherwise the next look asks from the same time.
        orders_of: Where an order that is not in ``open_orders`` is open no more.
        positions_of: Where a position, or a leg, that is not in ``events`` is flat.
        balances_of: Which assets are held no more when they are not in ``events``.
        note: What an operator should know of it, in words: why something is not known.
    """

    events: tuple[AccountEvent | Leg, ...]
    open_orders: frozenset[str]
    invalid: tuple[InvalidRow, ...] = ()
    has_all_fills: bool = True
    orders_of: Covers = everything
    positions_of: Covers = everything
    balances_of: Covers = everything
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The venue accepted the login."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What the login rests on has expired: log in anew."""

    text: str


@dataclass(frozen=True, slots=True)
class AllPositions:
    """The positions before this in the frame are all that there are in the markets that ``of`` covers.

    Attributes:
        venue_symbols: Their markets.
        of: Where the list is complete.
        at_ns: The venue's time of the list, ns; None where it has none.
    """

    venue_symbols: frozenset[str | None]
    of: Covers = field(default=everything, compare=False)
    at_ns: int | None = None


#: What a private frame says of the account.
StatementItem: TypeAlias = AccountEvent | Leg | AllPositions | InvalidRow
#: What a private frame decodes to.
AccountItem: TypeAlias = StatementItem | LoggedIn | Expired | Refused | Ping | Pong


class PrivateVenue(ABC):
    """A venue's private side. Instances are stateless; one exists per venue."""

    venue: ClassVar[str]
    #: Every secret that it may use.
    secrets: ClassVar[tuple[str, ...]]
    keepalive: ClassVar[Keepalive]

    @abstractmethod
    def is_configured(self, secrets: Secrets) -> bool:
        """Whether there is enough to log in with."""

    @abstractmethod
    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Get what a connection takes.

        Raises:
            LoginError: The venue refuses the credentials.
            DecodeError: An answer is not what it should be.
        """

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Keep a login alive; called when ``login.renew_at_ns`` has come.

        Raises:
            LoginError: It cannot be kept alive.
        """
        raise NotImplementedError

    @abstractmethod
    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Return what a private frame holds; stateless.

        A row that is invalid, or another account's, is an ``InvalidRow`` in its place and costs its neighbours nothing.
        Decimals need no check here: that of all events is made in one place, before the ledger.

        Raises:
            DecodeError: The frame does not have the documented shape.
        """

    @abstractmethod
    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Return the account's orders, positions, balances and margin as they are, and its fills since ``since_ms``.

        Rows are validated one by one, as in :meth:`decode`. A list with an invalid row covers nothing.

        Raises:
            LoginError: The venue refuses the credentials.
            DecodeError: An answer is not what it should be.
        """
