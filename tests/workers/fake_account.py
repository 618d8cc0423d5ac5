"""An account that exists only here: frames, logins and answers are what a test says; what is reported is kept."""

# ruff: noqa: ARG002 - the interfaces of a private side and of a REST client

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

from fake_publisher import FakePublisher

from ipc.board import Board
from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Payment, Position
from ipc.health import Reason, Stream
from ipc.rundir import AccountWords
from workers.accounts.checkpoint import PublishedFills
from workers.accounts.publisher import AccountPublisher
from workers.accounts.secrets import Secrets
from workers.duty import LineDuty
from workers.net.frames import TEXT
from workers.net.transport import ClosedError
from workers.venues.account import Login, PrivateVenue, Renewal, Snapshot
from workers.venues.venue import Keepalive, RestRequest

__all__ = [
    "LOGIN",
    "NS",
    "FakeClient",
    "FakeReconciler",
    "FakeSide",
    "FakeTransport",
    "PublishedAccount",
    "balance",
    "fill",
    "margin",
    "order",
    "payment",
    "position",
    "secrets",
]

NS = 1_000_000_000
VENUE, ALIAS = "lighter", "desk"  # topics and board know only the real venues
SLOT = 3
LOGIN = Login("ws://venue.test/account", subscribe=(b"+orders", b"+fills"), token="planted-token")
BTC = ("BTC-PERP", "BTC-USD")


def order(order_id: str = "1", status: Any = "open", *, filled: str = "0", ns: int | None = None, **more: Any) -> Order:
    words = (order_id, None, "buy", "100", "2", filled, status, status.upper(), "limit", False)
    return Order(VENUE, *BTC, ns, ALIAS, *words, **more)


def fill(fill_id: str = "1", **more: Any) -> Fill:
    return Fill(VENUE, *BTC, None, ALIAS, fill_id, "1", "buy", "100", "1", "0.1", "USDC", "maker", **more)


def payment(payment_id: str = "1") -> Payment:
    return Payment(VENUE, *BTC, None, ALIAS, payment_id, "USDC", "-0.5", "funding")


def position(size: str = "1", *, market: str = "BTC", ns: int | None = None, **more: Any) -> Position:
    names = (f"{market}-PERP", f"{market}-USD")
    return Position(VENUE, *names, ns, ALIAS, size, "100", "101", "1", "50", "cross", **more)


def balance(total: str = "10", *, asset: str = "USDC", ns: int | None = None, **more: Any) -> Balance:
    return Balance(VENUE, None, None, ns, ALIAS, asset, total, None, **more)


def margin(equity: str = "10", *, ns: int | None = None, **more: Any) -> Margin:
    return Margin(VENUE, None, None, ns, ALIAS, equity, None, None, None, **more)


def secrets(**values: str) -> Secrets:
    """The credentials of :class:`FakeSide`; those that it takes unless others are given."""
    return Secrets(FakeSide.secrets, values or {"TEST_KEY": "planted-key"})


class FakeSide(PrivateVenue):
    """A private side whose courses lead to the next of ``logins``, ``renewals`` and ``snapshots``.

    The last of each stays, errors are raised. A snapshot takes ``calls`` requests of ``weight`` each, a login
    ``login_calls``.
    ``asked`` holds the times from which fills were asked for, ``logged_in`` the logins that snapshots were made with.
    """

    venue = VENUE
    secrets = ("TEST_KEY",)
    keepalive = Keepalive(20.0, b"ping", 10.0)

    def __init__(self, **attributes: Any) -> None:
        self.logins: list[Any] = [LOGIN]
        self.renewals: list[Any] = [Renewal(LOGIN)]
        self.snapshots: list[Any] = [Snapshot((), frozenset())]
        self.calls, self.login_calls, self.weight = 1, 0, 1
        self.asked: list[int] = []
        self.logged_in: list[Login] = []
        self.logins_asked = self.renewals_asked = 0
        self._frames: list[tuple[Any, ...]] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def frame(self, *items: Any) -> tuple[int, bytes]:
        """A frame that decodes to these items."""
        self._frames.append(items)
        return TEXT, f"frame {len(self._frames) - 1}".encode()

    def is_configured(self, secrets):
        return secrets.has("TEST_KEY")

    def login(self, secrets, ws_url, markets, now_wall_ns):
        self.logins_asked += 1
        secrets.get("TEST_KEY")
        for _ in range(self.login_calls):
            yield RestRequest("/login", weight=self.weight)
        return _next(self.logins)

    def renew(self, login, secrets, now_wall_ns):
        self.renewals_asked += 1
        yield RestRequest("/renew", weight=self.weight)
        return _next(self.renewals)

    def decode(self, payload, binary, markets, account):
        try:
            return copy.deepcopy(list(self._frames[int(bytes(payload).removeprefix(b"frame "))]))
        except (ValueError, IndexError) as error:
            raise DecodeError("not a frame of this venue") from error

    def snapshot(self, login, secrets, markets, account, since_ms, now_wall_ns):
        self.asked.append(since_ms)
        self.logged_in.append(login)
        for _ in range(self.calls):
            yield RestRequest("/account", weight=self.weight)
        return _next(self.snapshots)


def _next(results: list[Any]) -> Any:
    result = results.pop(0) if len(results) > 1 else results[0]
    if isinstance(result, Exception):
        raise result
    return copy.deepcopy(result)


class FakeClient:
    """Answers each call with the next of ``answers`` (the last one forever): bytes, an error, or something to call."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [b"{}"]
        self.requests: list[RestRequest] = []

    def call(self, request, deadline_s):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(request) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeTransport:
    """Gives its steps one by one: frames, an error to raise, or something to call; then the server closes."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.sent: list[bytes] = []
        self.pongs: list[bytes] = []
        self.pings = 0
        self.is_closed = False

    def receive(self):
        if not self.steps:
            raise ClosedError(Reason.SERVER_CLOSE, "the script is over")
        step = self.steps.pop(0)
        step = step() or [] if callable(step) else step
        if isinstance(step, Exception):
            raise step
        return step

    def send(self, message):
        self.sent.append(message)

    def ping(self):
        self.pings += 1

    def pong(self, payload):
        self.pongs.append(payload)

    def close(self):
        self.is_closed = True


class FakeReconciler:
    """``heard`` holds what it received, in order."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def logged_in(self, login):
        self.heard.append(login)

    def logged_out(self):
        self.heard.append("out")

    def ask(self):
        self.heard.append("ask")

    def ask_later(self):
        self.heard.append("ask later")


class PublishedAccount:
    """Statement with all that was published through it: ``sent`` to subscribers, ``described`` in words."""

    def __init__(self, board: Board, published: PublishedFills | None = None, duty: LineDuty | None = None) -> None:
        self.publisher = FakePublisher()
        self.cell = board.cell(SLOT, 0, Stream.ACCOUNT)
        self.words: list[AccountWords] = []
        self.statement = AccountPublisher(
            VENUE, ALIAS, self.publisher, self.cell, self.words.append, published, duty=duty
        )

    @property
    def described(self) -> list[str | None]:
        """The texts that stood beside the states, each once."""
        texts = [None, *(words.detail for words in self.words)]
        return [text for before, text in pairwise(texts) if text != before]

    @property
    def sent(self) -> list[Any]:
        """The account's events, in their order."""
        return [event for topic, event in self.publisher.sent if topic.endswith(f".{ALIAS}")]

    def of(self, channel: str) -> list[Any]:
        """The events of one channel."""
        return self.publisher.of(f"{channel}.{VENUE}.{ALIAS}")

    @property
    def states(self) -> list[tuple[str, str | None]]:
        """What the stream was said to be, and why."""
        return [(event.state, event.reason) for event in self.publisher.of(f"status.{VENUE}")]
