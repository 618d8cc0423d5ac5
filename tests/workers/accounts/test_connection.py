"""The thread of an account's socket on a clock: logins, connections, what ends them, and how long it waits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock, FakeStop
from fake_account import (
    ALIAS,
    LOGIN,
    NS,
    SLOT,
    FakeClient,
    FakeReconciler,
    FakeSide,
    FakeTransport,
    PublishedAccount,
    fill,
    order,
    secrets,
)

from ipc import log as log_module
from ipc.board import ACCOUNT_SESSION, Board, CellWord, SessionWord, WorkerWord
from ipc.errors import ConfigError, DecodeError
from ipc.health import Phase, Reason, code_of
from workers import duty as duty_module
from workers.accounts import connection as module
from workers.accounts import publisher as statement
from workers.accounts.connection import AccountConnection
from workers.accounts.rest_flow import RestFlowRunner
from workers.backoff import BackoffPolicy
from workers.duty import LineDuty
from workers.net import lifecycle
from workers.net.budget import MinuteBudget
from workers.net.dial import ConnectError
from workers.net.frames import PONG, TEXT
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestError
from workers.net.transport import ClosedError
from workers.venues.account import Expired, LoggedIn, LoginError
from workers.venues.venue import Refused

EXACT = BackoffPolicy(jitter=0.0)
CONFIRMED = dataclasses.replace(LOGIN, hello=(b"hello",), must_confirm=True)
CONNECT_NS = 15 * NS


class Life:
    """An account's stream that lives for some seconds; ``connections`` are what it finds one after the other.

    A connection is a transport, or an error that dialling ends with; the last one stays. ``dialled`` holds how each was
    asked for, ``waits`` the pauses in between.
    """

    def __init__(
        self, board: Board, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, duty: LineDuty | None = None, **side: Any
    ) -> None:
        self.clock, self.side, self.duty = clock, FakeSide(**side), duty
        self.reported, self.reconciler, self.client = PublishedAccount(board, duty=duty), FakeReconciler(), FakeClient()
        self.adopted: list[int] = []
        self.connects: MinuteBudget | None = None
        self.row = board.session(SLOT, ACCOUNT_SESSION)
        self.ends = board.ends(SLOT, ACCOUNT_SESSION)
        self.stop = FakeStop(clock)
        self.interrupter = SocketInterrupter()
        self.connections: list[Any] = [ConnectError(Reason.REFUSED, "nobody there")]
        self.dialled: list[tuple[str, dict[str, Any]]] = []
        self.phases: list[int] = []
        self.make()
        monkeypatch.setattr(lifecycle, "WebSocketTransport", self._dial)

    def make(self, found: Any = None) -> AccountConnection:
        self.stream = AccountConnection(
            self.side,
            found or secrets(),
            ALIAS,
            "ws://venue.test",
            dict,
            self.reported.statement,
            self.reconciler,  # type: ignore[arg-type]
            RestFlowRunner(self.client, duty=self.duty),  # type: ignore[arg-type]
            self.interrupter,
            self.row,
            self.ends,
            CONNECT_NS,
            EXACT,
            self.stop,
            connects=self.connects,
            duty=self.duty,
            adopt=lambda: self.adopted.append(self.clock.now_ns),
        )
        return self.stream

    def _dial(self, url: str, **options: Any) -> Any:
        self.dialled.append((url, options))
        self.phases.append(self.row[SessionWord.PHASE])
        found = self.connections.pop(0) if len(self.connections) > 1 else self.connections[0]
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else found

    def tick(self, *frames: Any) -> Any:
        """Something comes after a tick of the socket."""

        def step() -> Any:
            self.clock.advance(0.2)
            return list(frames)

        return step

    def scaled(self, seconds: float, *end: Any) -> FakeTransport:
        """A connection on which nothing but pings is answered for a while, then ends."""
        return FakeTransport(*[self.tick((PONG, b""))] * round(seconds / 0.2), *end)

    def run(self, seconds: float) -> None:
        self.stop._end_ns = self.clock.now_ns + round(seconds * NS)
        self.stream.run()

    @property
    def waits(self) -> list[float]:
        return self.stop.waits

    @property
    def states(self) -> list[tuple[str, str | None]]:
        return self.reported.states

    @property
    def says(self) -> list[str | None]:
        return [text for text in self.reported.described if text is not None]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def new(board: Board, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.setattr(duty_module, "time", clock)
    monkeypatch.setattr(statement, "time", clock)
    monkeypatch.setattr("workers.accounts.session.PrivateSession.__init__.__defaults__", (clock.monotonic_ns,))
    return lambda **side: Life(board, clock, monkeypatch, **side)


@pytest.fixture
def life(new: Any) -> Life:
    found: Life = new()
    return found


# --- a connection -------------------------------------------------------------------------------------------------


def test_a_connection_is_made_as_the_login_says(new: Any, clock: FakeClock) -> None:
    life = new(logins=[dataclasses.replace(LOGIN, headers=("X-Api-Key: k",))])
    began = clock.now_ns
    life.run(0.1)
    ((url, options),) = life.dialled
    assert url == LOGIN.url
    assert options["headers"] == ("X-Api-Key: k",)
    assert options["deadline_ns"] == began + CONNECT_NS
    assert options["interrupter"] is life.interrupter
    assert life.phases == [code_of(Phase.CONNECTING)]


def test_what_it_hears_is_reported(life: Life) -> None:
    life.connections = [FakeTransport(life.tick(life.side.frame(fill("a"))), life.tick(life.side.frame(fill("b"))))]
    life.run(0.5)
    assert [event.fill_id for event in life.reported.of("fill")] == ["a", "b"]
    assert life.states[:2] == [("connecting", None), ("subscribed", None)]


def test_the_board_shows_what_it_does(life: Life, clock: FakeClock) -> None:
    seen: dict[str, int] = {}
    names = ("PHASE", "OPENED", "LAST_WS_RX", "ATTEMPT", "DEADLINE", "CONNECT_START", "NEXT_ACTION")

    def look() -> list[Any]:
        seen.update({name: life.row[getattr(SessionWord, name)] for name in names})
        clock.advance(0.2)
        return []

    began = clock.now_ns
    life.connections = [FakeTransport(look)]
    life.run(0.1)
    assert seen["PHASE"] == code_of(Phase.SUBSCRIBED)
    assert seen["OPENED"] == seen["LAST_WS_RX"] == seen["CONNECT_START"] == began
    assert (seen["ATTEMPT"], seen["NEXT_ACTION"]) == (1, 0)
    assert seen["DEADLINE"] == began + 2 * NS


def test_it_stops_on_request(life: Life) -> None:
    transport = life.scaled(60)
    life.connections = [transport]
    life.run(3)
    assert transport.is_closed
    assert life.row[SessionWord.DEADLINE] == 0
    assert ("backoff", "requested") not in life.states
    assert life.waits == []


@pytest.mark.parametrize(
    "end",
    [
        ClosedError(Reason.SERVER_CLOSE, "gone"),
        [(TEXT, b"frame 0")],
        [(TEXT, b"rubbish")] * 5,
    ],
)
def test_a_connection_is_closed_whatever_ends_it(life: Life, end: Any) -> None:
    life.side.frame(Refused("down", reason=Reason.SERVER_SHUTDOWN, fatal=True))
    transport = FakeTransport(end)
    life.connections = [transport]
    life.run(0.1)
    assert transport.is_closed
    assert life.reconciler.heard[-1] == "out"


def test_the_token_is_hidden_from_the_log(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: dict[str, None] = {}
    monkeypatch.setattr(log_module, "_hidden", hidden)
    life.run(0.1)
    assert set(hidden) == {"planted-token", "planted-key"}


# --- how long it waits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectError(Reason.DNS_FAILED, "who?"), "dns_failed"),
        (ClosedError(Reason.SERVER_CLOSE, "gone"), "server_close"),
    ],
)
def test_a_connection_that_cannot_be_had_is_tried_again_like_any_other(life: Life, error: Any, reason: str) -> None:
    life.connections = [error]
    life.run(100)
    assert life.waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert set(life.states) == {("connecting", None), ("backoff", reason)}
    assert life.row[SessionWord.LAST_REASON] == code_of(Reason(reason))
    assert set(life.says) == {error.what}
    assert life.row[SessionWord.RECONNECTS] == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RestError(Reason.READ_TIMEOUT, "late"), "read_timeout"),
        (RestError(Reason.RATE_LIMITED, "too much", status=429), "rate_limited"),
        (RestError(Reason.REFUSED, "HTTP 503", status=503), "refused"),
    ],
)
def test_a_login_that_rest_does_not_answer_is_tried_again_like_any_other(new: Any, answer: Any, reason: str) -> None:
    life = new(login_calls=1)
    life.client.answers = [answer]
    life.run(6)
    assert life.waits == [1, 2, 4]
    assert set(life.states) == {("connecting", None), ("backoff", reason)}
    assert life.dialled == []


def test_an_answer_that_is_none_is_reported_as_such(new: Any) -> None:
    life = new(logins=[DecodeError("malformed answer to login")])
    life.run(0.1)
    assert life.states[-1] == ("backoff", "parse_errors")
    assert life.says == ["malformed answer to login"]


REFUSED_LOGINS = [
    LoginError("the key is unknown"),
    ConfigError(["environment:TEST_KEY_FILE: /x must be yours alone"]),
]


@pytest.mark.parametrize("error", REFUSED_LOGINS)
def test_refused_credentials_are_tried_again_more_and_more_seldom(new: Any, error: Any) -> None:
    life = new(logins=[error])
    life.run(1000)
    assert life.waits == [30, 60, 120, 240, 300, 300]
    assert set(life.states) == {("connecting", None), ("failed", "auth_failed")}
    assert life.row[SessionWord.PHASE] == code_of(Phase.BACKOFF)
    assert life.row[SessionWord.NEXT_ACTION] > life.clock.now_ns - NS
    assert life.dialled == []


def test_credentials_that_are_missing_are_named(life: Life) -> None:
    life.make(secrets(OTHER="x"))
    life.run(1000)
    assert life.waits == [30, 60, 120, 240, 300, 300]
    assert set(life.states) == {("connecting", None), ("failed", "auth_failed")}
    assert all(
        text is not None and "set LIGHTER_ACCOUNT_INDEX with LIGHTER_AUTH_TOKEN, or" in text for text in life.says
    )
    assert life.side.logins_asked == 0


def test_a_login_that_fails_for_something_that_passes_is_tried_again_like_any_other(new: Any) -> None:
    life = new(logins=[LoginError("maintenance", Reason.REFUSED)])
    life.run(6)
    assert life.waits == [1, 2, 4]
    assert life.states[-1] == ("backoff", "refused")


def test_credentials_that_the_stream_refuses_after_a_while_are_tried_again_seldom(new: Any) -> None:
    life = new(logins=[CONFIRMED])
    life.connections = [lambda: FakeTransport(life.tick(life.side.frame(Refused("no", reason=Reason.AUTH_FAILED))))]
    life.run(200)
    assert life.waits == [30, 60, 120]
    assert life.states[-1] == ("failed", "auth_failed")
    assert life.row[SessionWord.RECONNECTS] == 3


def test_a_login_that_lasted_makes_the_next_refusal_the_first(new: Any) -> None:
    life = new(logins=[LoginError("no"), LoginError("no"), CONFIRMED])
    refused = life.tick(life.side.frame(Refused("no more", reason=Reason.AUTH_FAILED)))
    minute = [life.tick((PONG, b""))] * 305
    life.connections = [FakeTransport(life.tick(life.side.frame(LoggedIn())), *minute, refused)]
    life.run(155)
    assert life.waits == [30, 60, 30]


def test_a_login_that_was_accepted_and_refused_a_moment_later_is_no_success(new: Any) -> None:
    life = new(logins=[LoginError("no"), LoginError("no"), CONFIRMED])
    refused = life.tick(life.side.frame(Refused("no more", reason=Reason.AUTH_FAILED)))
    life.connections = [FakeTransport(life.tick(life.side.frame(LoggedIn())), life.tick(), refused)]
    life.run(95)
    assert life.waits == [30, 60, 120]


def test_an_expired_login_is_made_again_at_once(life: Life) -> None:
    life.connections = [
        life.scaled(90, life.tick(life.side.frame(Expired("an hour is over")))),
        life.scaled(60),
    ]
    life.run(100)
    assert life.waits == [0]
    assert life.side.logins_asked == 2
    assert ("backoff", "rotation") in life.states
    assert life.says == ["the login expired: an hour is over"]


def test_a_long_run_restarts_the_count(life: Life) -> None:
    refused = ConnectError(Reason.REFUSED, "nobody there")
    life.connections = [refused, refused, life.scaled(61), refused]
    life.run(66)
    assert life.waits == [1, 2, 1, 2]


def test_a_short_run_does_not(life: Life) -> None:
    life.connections = [lambda: life.scaled(10)]
    life.run(50)
    assert life.waits == [1, 2, 4, 8]
    assert life.row[SessionWord.RECONNECTS] == 4


def test_a_long_time_without_a_confirmed_login_is_no_run(new: Any) -> None:
    life = new(logins=[CONFIRMED])
    life.connections = [lambda: life.scaled(60)]
    life.run(40)
    assert life.waits == [1, 2, 4]
    assert ("backoff", "connect_timeout") in life.states


# --- what the reconciler wants ------------------------------------------------------------------------------------


def test_messages_are_sent_in_their_order(life: Life) -> None:
    def wish() -> list[Any]:
        life.stream.send(b"one")
        life.stream.send(b"two")
        life.clock.advance(0.2)
        return []

    transport = FakeTransport(wish, life.tick())
    life.connections = [transport]
    life.run(0.3)
    assert transport.sent == [b"+orders", b"+fills", b"one", b"two"]


def test_it_ends_a_connection_on_request(life: Life) -> None:
    def wish() -> list[Any]:
        life.stream.end(Reason.ROTATION, "the login is renewed")
        life.clock.advance(0.2)
        return []

    life.connections = [FakeTransport(*[life.tick((PONG, b""))] * 60, wish, life.tick()), life.scaled(9)]
    life.run(15)
    assert len(life.dialled) == 2
    assert life.waits == [0]
    assert life.says == ["the login is renewed"]


def test_a_long_login_that_is_renewed_earns_the_first_delay_again(life: Life) -> None:
    def wish() -> list[Any]:
        life.stream.end(Reason.ROTATION, "the login is renewed")
        life.clock.advance(0.2)
        return []

    refused = ConnectError(Reason.REFUSED, "nobody there")
    renewed = FakeTransport(*[life.tick((PONG, b""))] * 350, wish, life.tick())
    life.connections = [refused, refused, refused, renewed, refused, life.scaled(9)]
    life.run(80)
    assert life.waits == [1, 2, 4, 0, 1]


def test_a_wish_for_an_earlier_connection_is_dropped(life: Life) -> None:
    life.stream.end(Reason.AUTH_FAILED, "of long ago")
    life.stream.send(b"of long ago")
    transport = life.scaled(2)
    life.connections = [transport]
    life.run(1)
    assert b"of long ago" not in transport.sent
    assert life.says == []


def test_the_stream_is_heard_of_on_the_board(life: Life, clock: FakeClock) -> None:
    life.connections = [FakeTransport(life.tick(life.side.frame()))]
    life.run(0.1)
    assert life.reported.cell[CellWord.LAST_PARSED] == clock.now_ns


def test_a_venue_that_asks_to_wait_is_left_alone(life: Life) -> None:
    life.connections = [ConnectError(Reason.RATE_LIMITED, "status 429", retry_after_s=50.0)]
    life.run(60)
    assert life.waits == [50, 50]


# --- credentials that are refused elsewhere, logins that do not last --------------------------------------------------


def test_credentials_that_the_upgrade_refuses_are_tried_again_seldom(life: Life) -> None:
    life.connections = [ConnectError(Reason.AUTH_FAILED, "the upgrade was refused with status 401")]
    life.run(1000)
    assert life.states == [("connecting", None), ("failed", "auth_failed")], "reported once"
    assert life.waits == [30, 60, 120, 240, 300, 300]


def test_credentials_that_rest_refuses_are_tried_again_seldom(life: Life) -> None:
    def wish() -> list[Any]:
        life.stream.end(Reason.AUTH_FAILED, "the JWT has expired")
        life.clock.advance(0.2)
        return []

    life.connections = [lambda: FakeTransport(wish, *[life.tick()] * 9)]
    life.run(300)
    assert ("failed", "auth_failed") in life.states
    assert life.waits[0] == 30


def test_credentials_that_a_subscription_refuses_are_tried_again_more_and_more_seldom(life: Life) -> None:
    life.connections = [lambda: FakeTransport(life.tick(life.side.frame(Refused("no", reason=Reason.AUTH_FAILED))))]
    life.run(1000)
    assert life.waits == [30, 60, 120, 240, 300, 300]


def test_a_login_that_expires_at_once_is_not_asked_for_without_a_pause(life: Life) -> None:
    life.connections = [lambda: FakeTransport(life.tick(life.side.frame(Expired("already"))))]
    life.run(60)
    assert life.side.logins_asked < 30


# --- two lines ----------------------------------------------------------------------------------------------------


class Shared:
    """An account of one of two lines; its duty is the word of the line's process."""

    def __init__(self, new: Any, board: Board) -> None:
        self.words = board.worker(SLOT)
        self.life: Life = new(duty=LineDuty(self.words))

    def give(self) -> None:
        self.words[WorkerWord.DUTY] = 1

    def remove(self) -> list[Any]:
        self.words[WorkerWord.DUTY] = 0
        return []


@pytest.fixture
def shared(new: Any, board: Board) -> Shared:
    return Shared(new, board)


def test_line_without_the_duty_does_not_log_in_and_its_account_is_off(shared: Shared) -> None:
    shared.life.run(60)
    assert shared.life.side.logins_asked == 0
    assert shared.life.dialled == []
    assert shared.life.states == [("off", None)]
    assert shared.life.says == ["the other line follows the account"]
    assert shared.life.row[SessionWord.PHASE] == 0


def test_line_that_gets_the_duty_continues_where_the_other_was_and_logs_in_at_once(
    shared: Shared, clock: FakeClock
) -> None:
    life = shared.life
    life.run(5)
    life.connections = [life.scaled(5)]
    shared.give()
    given_ns = clock.now_ns
    life.run(3)
    assert life.adopted == [pytest.approx(given_ns, abs=NS / 4)]
    assert life.row[SessionWord.CONNECT_START] - given_ns < NS / 2
    assert life.states == [("off", None), ("connecting", None), ("subscribed", None)]


def test_line_that_loses_the_duty_ends_its_session_and_no_more(shared: Shared) -> None:
    life = shared.life
    shared.give()
    transport = FakeTransport(life.tick(life.side.frame(fill("a"))), shared.remove, life.tick())
    life.connections = [transport]
    life.run(60)
    assert transport.is_closed
    assert life.reconciler.heard == [LOGIN, "out"]
    assert life.client.requests == [], "the venue is asked for nothing: the other line uses the same login"
    assert life.states == [("connecting", None), ("subscribed", None), ("off", None)]
    assert len(life.dialled) == 1


def test_what_comes_after_the_duty_is_lost_is_left_to_the_other_line(shared: Shared) -> None:
    life = shared.life
    shared.give()

    def late() -> list[Any]:
        shared.remove()
        return [life.side.frame(fill("b"), order("2"))]

    life.connections = [FakeTransport(life.tick(life.side.frame(fill("a"))), late)]
    life.run(5)
    assert [event.fill_id for event in life.reported.of("fill")] == ["a"]
    assert life.reported.of("order") == []


def test_login_ends_before_its_next_call_when_the_duty_is_lost(shared: Shared) -> None:
    life = shared.life
    shared.give()
    life.side.login_calls = 2
    life.client.answers = [lambda _: (shared.remove() and b"") or b"{}"]
    life.run(60)
    assert len(life.client.requests) == 1
    assert life.dialled == []
    assert life.states == [("connecting", None), ("off", None)]


def test_wait_after_refused_credentials_ends_with_the_duty(shared: Shared) -> None:
    """It may last for hours, and the account of a line without the duty is off, not failed."""
    life = shared.life
    shared.give()
    life.side.logins = [LoginError("-1022")]
    life.run(10)
    assert life.states[-1] == ("failed", "auth_failed")
    shared.remove()
    life.run(10)
    assert life.states[-1] == ("off", None)


def test_states_of_a_line_that_lost_the_duty_are_forgotten(shared: Shared) -> None:
    """A consumer that joins must not receive them beside the newer ones of the other line; fills stay."""
    life = shared.life
    shared.give()
    life.connections = [FakeTransport(life.tick(life.side.frame(order("1"), fill("a"))), shared.remove)]
    life.run(3)
    assert life.reported.publisher.latest(f"order.lighter.{ALIAS}") == []
    assert [event.fill_id for event in life.reported.publisher.latest(f"fill.lighter.{ALIAS}")] == ["a"]
    shared.give()
    life.connections = [FakeTransport(life.tick(life.side.frame(order("1"), fill("a"))), life.tick())]
    life.run(3)
    assert [event.order_id for event in life.reported.of("order")] == ["1", "1"], "as after a restart"
    assert [event.fill_id for event in life.reported.of("fill")] == ["a"]


def test_connects_of_an_account_count(life: Life, clock: FakeClock) -> None:
    life.connects = MinuteBudget(9, clock.monotonic_ns)
    life.make()
    life.run(5)
    assert len(life.dialled) == 3
    life.connects.acquire(3)
    life.run(5)
    assert ("backoff", "rate_limited") in life.states
