"""Contract of a venue's private side: data and pure functions, like its public side.

Login, renewal and snapshots need REST calls. They are generators that yield requests and receive the bodies of the
answers, so they stay free of sockets; the caller performs the requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import ClassVar, Final, Literal, TypeAlias, TypeVar

from ipc.events import AccountEvent, Position
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.listing import Markets
from workers.venues.rows import InvalidRow
from workers.venues.venue import Keepalive, Ping, Pong, Refused, RestRequest

T = TypeVar("T")

#: Sequence of REST calls: yields requests, receives bodies, returns its result.
RestFlow: TypeAlias = Generator[RestRequest, bytes, T]

#: Longest time between pings on an account's connection, s.
_PING_S: Final = 15.0


def account_keepalive(keepalive: Keepalive) -> Keepalive:
    """Return a venue's keepalive for accounts: they may be quiet for hours, so only pings show that a connection works.

    Pings go out every 15 s, or as often as on market data.
    """
    return replace(keepalive, interval_s=min(keepalive.interval_s, _PING_S))


def no_requests(result: T) -> RestFlow[T]:
    """Return a flow without requests."""
    yield from ()
    return result


class LoginError(Exception):
    """Rejection of the credentials by the venue; ``reason`` is ``auth_failed`` unless the cause is temporary."""

    def __init__(self, what: str, reason: Reason = Reason.AUTH_FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Login:
    """Parameters of a connection to an account; all of them may be secret, so ``repr`` omits them.

    Attributes:
        url: WebSocket URL.
        headers: HTTP headers of the upgrade.
        hello: Messages to send first; the venue answers with :class:`LoggedIn` where ``must_confirm``.
        subscribe: Messages to send once logged in.
        must_confirm: True when the venue confirms the login.
        renew_at_ns: Time at which :meth:`PrivateVenue.renew` is due, wall clock; None when nothing expires.
        token: Credential for REST calls; its meaning is the venue's.
        fallback_url: URL for a server that refuses the first one with status 400; None where it has no second.
    """

    url: str = field(repr=False)
    headers: tuple[str, ...] = field(default=(), repr=False)
    hello: tuple[bytes, ...] = field(default=(), repr=False)
    subscribe: tuple[bytes, ...] = field(default=(), repr=False)
    must_confirm: bool = False
    renew_at_ns: int | None = None
    token: str = field(default="", repr=False)
    fallback_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Renewal:
    """Result of a renewal: the login from now on.

    Attributes:
        login: Replaces the previous one.
        must_reconnect: The new login needs a new connection.
        messages: To send on the present connection.
    """

    login: Login
    must_reconnect: bool = False
    messages: tuple[bytes, ...] = field(default=(), repr=False)


#: Returns whether a list is complete for a market (by the venue's name) or for an asset. Only then does absence from
#: the list mean anything.
Covers: TypeAlias = Callable[[str | None], bool]


def everything(name: str | None) -> bool:  # noqa: ARG001
    """Cover all markets or assets."""
    return True


def nothing(name: str | None) -> bool:  # noqa: ARG001
    """Cover no market or asset: the list is incomplete in an unknown way."""
    return False


def unless_invalid(rows: Iterable[object]) -> Covers:
    """Return the coverage of a list: everything, or nothing when a row was left out as invalid."""
    return nothing if any(isinstance(row, InvalidRow) for row in rows) else everything


#: ``both`` is the position of an account with one position per market.
LegName: TypeAlias = Literal["both", "long", "short"]


@dataclass(frozen=True, slots=True)
class Leg:
    """Leg of a market's position, where an account may be long and short at once; its size is signed."""

    name: LegName
    position: Position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of an account by REST, as :meth:`PrivateVenue.snapshot` returns it.

    Attributes:
        events: Open orders, recently closed orders, positions or their legs, balances, margin, and the requested fills
            and payments.
        open_orders: Ids of all open orders in the markets that ``orders_of`` covers.
        invalid: Rows of the answers that were left out.
        has_all_fills: Every fill since the requested time was read; otherwise the next snapshot requests the same time.
        orders_of: Markets in which an order that is not in ``open_orders`` is closed.
        positions_of: Markets in which a position, or a leg, that is not in ``events`` is flat.
        balances_of: Assets whose balance is zero when it is not in ``events``.
        note: Text for the operator: why something is unknown.
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
    """Confirmation of the login."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Expiry of the login; a new login is needed."""

    text: str


@dataclass(frozen=True, slots=True)
class AllPositions:
    """End of a complete list: the preceding positions of the frame are all in the markets that ``of`` covers.

    Attributes:
        venue_symbols: Markets of the listed positions.
        of: Markets for which the list is complete.
        at_ns: Time of the list at the venue, ns; None where it has none.
    """

    venue_symbols: frozenset[str | None]
    of: Covers = field(default=everything, compare=False)
    at_ns: int | None = None


#: Account data in a private frame.
AccountData: TypeAlias = AccountEvent | Leg | AllPositions | InvalidRow
#: Content of a private frame.
AccountItem: TypeAlias = AccountData | LoggedIn | Expired | Refused | Ping | Pong


class PrivateVenue(ABC):
    """Private side of a venue. Instances are stateless; one exists per venue."""

    venue: ClassVar[str]
    #: Names of all secrets that it may use.
    secrets: ClassVar[tuple[str, ...]]
    keepalive: ClassVar[Keepalive]

    @abstractmethod
    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether the secrets suffice to log in."""

    def preload(self, secrets: Secrets) -> None:  # noqa: B027 - most venues need nothing
        """Load the libraries that a login with these secrets needs; called in the parent, before it forks.

        The secrets are not read. A library that starts threads must not be loaded here.
        """

    @abstractmethod
    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Obtain the parameters of a connection.

        Raises:
            LoginError: The venue rejects the credentials.
            DecodeError: An answer is malformed.
        """

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Extend a login; called at ``login.renew_at_ns``.

        Raises:
            LoginError: The login cannot be extended.
        """
        raise NotImplementedError

    @abstractmethod
    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Return the content of a private frame; stateless.

        A row that is invalid, or of another account, becomes an ``InvalidRow`` in its place; the other rows are kept.
        Decimals are not checked here but once for all events, before the ledger.

        Raises:
            DecodeError: The frame does not have the documented shape.
        """

    @abstractmethod
    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Return the account's orders, positions, balances and margin, and its fills since ``since_ms`` (wall clock).

        Rows are validated one by one, as in :meth:`decode`. A list with an invalid row covers nothing.

        Raises:
            LoginError: The venue rejects the credentials.
            DecodeError: An answer is malformed.
        """


def private_venue(name: str, options: Mapping[str, str]) -> PrivateVenue:
    """Import and create a venue's private side; its signing libraries are slow to load and optional."""
    side: PrivateVenue = import_module(f"workers.venues.{name}.account").PRIVATE_VENUE(**options)
    return side
