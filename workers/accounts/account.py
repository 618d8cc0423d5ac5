"""What a venue's private side is: data and pure functions, like its public side.

Login, renewal and reconciliation take REST calls. They are written as generators that yield requests and are sent the
bodies of the answers, so that they stay free of sockets; whoever drives them does the calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, TypeAlias, TypeVar

from ipc.events import AccountEvent
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.venue import Keepalive, Markets, Ping, Pong, Refused, Request

__all__ = [
    "AccountItem",
    "AccountSide",
    "AllPositions",
    "Expired",
    "LoggedIn",
    "Login",
    "LoginError",
    "Renewal",
    "Snapshot",
    "Steps",
    "pinging_often",
    "without_calls",
]

T = TypeVar("T")

#: A course of REST calls: yields requests, is sent bodies, returns its result.
Steps: TypeAlias = Generator[Request, bytes, T]


_PING_S: Final = 15.0


def pinging_often(keepalive: Keepalive) -> Keepalive:
    """A venue's keepalive for an account: it may be quiet for hours, so pings alone tell that a connection lives."""
    return replace(keepalive, interval_s=min(keepalive.interval_s, _PING_S))


def without_calls(result: T) -> Steps[T]:
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
        renew_at_ns: When :meth:`AccountSide.renew` is due, wall clock; None when nothing expires.
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The account as the venue tells it on request.

    ``events`` hold all open orders, what the venue tells of orders that closed of late, all positions, balances, margin
    and the fills that were asked for. ``open_orders`` lists all orders that are open, by id: what is not among them is
    open no more. Where ``has_all_balances``, the same holds for assets.
    """

    events: tuple[AccountEvent, ...]
    open_orders: frozenset[str]
    has_all_balances: bool = True


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The venue accepted the login."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What the login rests on has expired: log in anew."""

    text: str


@dataclass(frozen=True, slots=True)
class AllPositions:
    """The positions before this in the frame are all there are; by the venue's names."""

    venue_symbols: frozenset[str | None]


#: What a private frame decodes to.
AccountItem: TypeAlias = AccountEvent | AllPositions | LoggedIn | Expired | Refused | Ping | Pong


class AccountSide(ABC):
    """A venue's private side. Instances are stateless; one exists per venue."""

    venue: ClassVar[str]
    #: Every secret that it may use.
    secrets: ClassVar[tuple[str, ...]]
    keepalive: ClassVar[Keepalive]

    @abstractmethod
    def is_configured(self, secrets: Secrets) -> bool:
        """Whether there is enough to log in with."""

    @abstractmethod
    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> Steps[Login]:
        """Get what a connection takes.

        Raises:
            LoginError: The venue refuses the credentials.
            DecodeError: An answer is not what it should be.
        """

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> Steps[Renewal]:
        """Keep a login alive; called when ``login.renew_at_ns`` has come.

        Raises:
            LoginError: It cannot be kept alive.
        """
        raise NotImplementedError

    @abstractmethod
    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """What a private frame holds; stateless.

        Raises:
            DecodeError: The frame does not have the documented shape.
        """

    @abstractmethod
    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> Steps[Snapshot]:
        """The account's orders, positions, balances and margin as they are, and its fills since ``since_ms``.

        Raises:
            LoginError: The venue refuses the credentials.
            DecodeError: An answer is not what it should be.
        """
