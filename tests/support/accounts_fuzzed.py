"""The private side of a venue: right messages and answers from its simulator, and the path that wrong ones go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from fakes import Client, Stage
from fuzzed import shown
from pipeline import PATHS
from validity import faults_of_event

from ipc.errors import DecodeError
from ipc.events import Event, Fill
from simulator.accounts.credentials import (
    ASTER_KEY,
    ASTER_SECRET,
    EXTENDED_KEY,
    HYPERLIQUID_ADDRESS,
    LIGHTER_ACCOUNT,
)
from workers.accounts.publisher import AccountPublisher
from workers.accounts.secrets import Secrets
from workers.venues import VENUES
from workers.venues.account import AccountData, AccountItem, Login, LoginError, RestFlow, Snapshot, private_venue
from workers.venues.listing import Listing
from workers.venues.rows import split_rows
from workers.venues.venue import RestRequest

__all__ = ["ALIAS", "Answers", "FuzzedAccount", "Life", "played"]

ALIAS: Final = "desk"
BASES: Final = ("BTC", "ETH")
#: Where the simulator issues what a login takes.
_WITH_TOKENS: Final = ("lighter", "paradex")


class RefusedError(Exception):
    """The simulator refused a request: what a wrong answer said was asked for."""


class Life:
    """A simulated account that has lived: ``frames`` are what its stream sent, ``binary`` whether each is binary.

    Args:
        name: The venue.
    """

    def __init__(self, name: str) -> None:
        self.stage = Stage(name, rate=1, bases=BASES)
        self.side = private_venue(name, {})
        self.venue = VENUES[name]
        self.markets = {listing.wire: listing for listing in self._listings()}
        token = self.stage.venue.accounts.token({})["token"] if name in _WITH_TOKENS else ""
        given = {
            "HL_VAULT_ADDRESS": HYPERLIQUID_ADDRESS,
            "ASTER_API_KEY": ASTER_KEY,
            "ASTER_API_SECRET": ASTER_SECRET,
            "EXTENDED_API_KEY": EXTENDED_KEY,
            "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
            "LIGHTER_AUTH_TOKEN": token,
            "PARADEX_JWT": token,
        }
        self.secrets = Secrets(self.side.secrets, {key: given[key] for key in self.side.secrets if key in given})
        self.login = played(self.side.login(self.secrets, PATHS[name][0], self.markets, self.now_ns()), self.ask)
        client = self._connect(self.login)
        self.frames = self._lived(client)

    def now_ns(self) -> int:
        """The simulator's wall clock."""
        return int(self.stage.schedule.wall_ms()) * 1_000_000

    def ask(self, request: RestRequest) -> bytes:
        """The simulator's answer to a private request."""
        request = request.made_at(self.now_ns())
        parts = urlsplit(PATHS[self.side.venue][1] + request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in request.headers}
        while True:
            response = self.stage.ask(parts.path, request.method, body=request.body, headers=headers, **query)
            if response.status == 200:
                return bytes(response.body)
            if response.status != 429:
                raise RefusedError(f"{request.method} {parts.path}: {response}", bytes(response.body))
            self.stage.run(60)  # its limit is a minute's

    def snapshot(self) -> RestFlow[Snapshot]:
        """The course that asks for the whole account."""
        return self.side.snapshot(self.login, self.secrets, self.markets, ALIAS, 0, self.now_ns())

    def decode(self, payload: bytes, *, binary: bool) -> list[AccountItem]:
        """What a private frame holds."""
        return self.side.decode(memoryview(payload), binary, self.markets, ALIAS)

    def _listings(self) -> list[Listing]:
        bodies = [self.ask(request) for request in self.venue_requests()]
        return [one for one in split_rows(self.venue.parse_listings(bodies))[0] if one.base in BASES]

    def venue_requests(self) -> Iterable[RestRequest]:
        """The public requests that list the markets."""
        return VENUES[self.side.venue].listing_requests()

    def _connect(self, login: Login) -> Client:
        parts = urlsplit(login.url)
        headers = dict(header.split(": ", 1) for header in login.headers)
        headers = {name.lower(): value for name, value in headers.items()}
        client = self.stage.knock(parts.path or "/", {"user-agent": "test", **headers}, **dict(parse_qsl(parts.query)))
        assert isinstance(client, Client), client
        for message in (*login.hello, *login.subscribe):
            client.say(message.decode())
        return client

    def _lived(self, client: Client) -> list[tuple[bytes, bool]]:
        accounts = self.stage.venue.accounts
        accounts.set_activity({"rate": 10})
        self.stage.run(20)
        accounts.set_activity({"run": False})
        for action in ({"action": "market", "symbol": "BTC-PERP"}, {"action": "funding"}, {"action": "place"}):
            accounts.do(action)
        self.stage.run(1)
        return [(bytes(frame.payload), frame.is_binary) for frame in client.raw()]


def played(steps: Generator[RestRequest, bytes, Any], answer: Any) -> Any:
    """Run a course of calls to its end; ``answer(request)`` is the body of each."""
    try:
        request = next(steps)
        while True:
            request = steps.send(answer(request))
    except StopIteration as end:
        return end.value


@dataclass
class _Sender:
    """Publisher that judges everything sent at once.

    Attributes:
        sent: What was sent last, for the text of a finding.
        fills: How often each fill was sent.
    """

    faults: list[str] = field(default_factory=list)
    fills: Counter[str] = field(default_factory=Counter)
    drops: int = 0

    def exclusive(self) -> _Sender:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def topic(self, topic: Any) -> Any:
        return _Topic(str(topic))

    def send_latest(self, topic: _Topic, key: str, event: Event) -> None:
        topic.latest[key] = event
        self.faults += [f"{fault} in {event}" for fault in faults_of_event(event)]
        if isinstance(event, Fill):
            self.fills[event.fill_id] += 1
            if self.fills[event.fill_id] > 1:
                self.faults.append(f"fill {event.fill_id} twice")


@dataclass
class _Topic:
    name: str
    latest: dict[str, Event] = field(default_factory=dict)


class FuzzedAccount:
    """Account publisher that receives wrong data; its events are judged."""

    def __init__(self, life: Life) -> None:
        self.sender = _Sender()
        words: dict[Any, int] = {}
        self.publisher = AccountPublisher(life.side.venue, ALIAS, self.sender, _Cell(words), lambda _: None)  # type: ignore[arg-type]
        self._life = life

    def push(self, payload: bytes, *, binary: bool) -> str | None:
        """A frame came; what went wrong."""
        try:
            items = self._life.decode(payload, binary=binary)
        except DecodeError:
            return None
        except Exception as error:  # whatever it is, it would end the thread
            return f"decode: {type(error).__name__}: {error}"
        return self._judged(
            lambda: self.publisher.apply_pushed([item for item in items if isinstance(item, AccountData)])
        )

    def answer(self, snapshot: Snapshot) -> str | None:
        """Apply a whole snapshot by REST; return what went wrong."""
        return self._judged(lambda: self.publisher.apply_snapshot(snapshot, self.publisher.push_count()))

    def _judged(self, tell: Any) -> str | None:
        try:
            tell()
        except Exception as error:
            return f"ledger: {type(error).__name__}: {error}"
        faults, self.sender.faults = self.sender.faults, []
        return "; ".join(faults)[:2000] or None


class _Cell(dict[Any, int]):
    def __missing__(self, key: Any) -> int:
        return 0

    def add(self, word: Any, amount: int = 1) -> None:
        self[word] += amount


class Answers:
    """Answers to a course of calls, of which some are wrong; ``given`` are those of the last course."""

    def __init__(self, life: Life, wrong: Any) -> None:
        self._life = life
        self._wrong = wrong
        self.given: list[bytes] = []

    def snapshot(self) -> tuple[Snapshot | None, str | None]:
        """The result of the course for the whole account, and what went wrong with it."""
        self.given = []
        try:
            return played(self._life.snapshot(), self._answer), None
        except (DecodeError, LoginError, RefusedError):
            return None, None
        except Exception as error:
            return None, f"snapshot: {type(error).__name__}: {error}"

    def shown(self) -> str:
        return "\n".join(shown(body) for body in self.given)

    def _answer(self, request: RestRequest) -> bytes:
        assert len(self.given) < 400, "the course does not end"
        try:
            body = self._wrong(self._life.ask(request))
        except RefusedError as refused:
            body = refused.args[1]  # goes into the course, which knows the venue's words
        self.given.append(body)
        return body  # type: ignore[no-any-return]
