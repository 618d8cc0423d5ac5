"""One connection to an account on a clock that the test controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_account import (
    ALIAS,
    LOGIN,
    NS,
    SLOT,
    VENUE,
    FakeReconciler,
    FakeSide,
    FakeTransport,
    PublishedAccount,
    fill,
    order,
    position,
)

from ipc.board import ACCOUNT_SESSION, Board, CellWord, SessionWord
from ipc.health import Reason
from workers.accounts import publisher as statement
from workers.accounts.session import PrivateSession
from workers.net.frames import BINARY, PING, PONG, TEXT
from workers.net.lifecycle import CloseReason
from workers.net.transport import ClosedError
from workers.venues.account import AllPositions, Expired, LoggedIn
from workers.venues.rows import InvalidRow
from workers.venues.venue import Keepalive, Ping, Pong, Refused

CONFIRMED = dataclasses.replace(LOGIN, hello=(b"hello",), must_confirm=True)
RUBBISH = (TEXT, b"rubbish")


class Conversation:
    """A connection and its two ends; ``heard`` is what the reconciler received."""

    def __init__(self, board: Board, clock: Any, login: Any = LOGIN, **side: Any) -> None:
        self.side, self.reported, self.clock = FakeSide(**side), PublishedAccount(board), clock
        self.transport, self.reconciler = FakeTransport(), FakeReconciler()
        self.row = board.session(SLOT, ACCOUNT_SESSION)
        self.talk = PrivateSession(
            self.side,
            ALIAS,
            dict,
            self.transport,
            login,
            self.reported.statement,
            self.reconciler,  # type: ignore[arg-type]
            self.row,
            clock.monotonic_ns,
        )
        self.talk.begin()

    @property
    def sent(self) -> list[bytes]:
        return self.transport.sent

    def hear(self, *frames: Any) -> CloseReason | None:
        self.transport.steps.append(list(frames))
        return self.talk.process_batch()

    def say(self, *items: Any) -> CloseReason | None:
        return self.hear(self.side.frame(*items))

    def wait(self, seconds: float, every_s: float = 0.2) -> CloseReason | None:
        """Nothing comes for a while; ends early when the connection must."""
        for _ in range(round(seconds / every_s)):
            self.clock.advance(every_s)
            end = self.hear()
            if end is not None:
                return end
        return None


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def new(board: Board, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(statement, "time", clock)
    return lambda *args, **side: Conversation(board, clock, *args, **side)


# --- the beginning ------------------------------------------------------------------------------------------------


def test_without_a_login_to_confirm_everything_is_subscribed_at_once(new: Any, clock: Any) -> None:
    one = new()
    assert one.sent == [b"+orders", b"+fills"]
    assert one.reported.states == [("subscribed", None)]
    assert one.reconciler.heard == [LOGIN]
    assert one.talk.confirmed_ns == clock.now_ns


def test_nothing_is_subscribed_before_the_login_is_confirmed(new: Any, clock: Any) -> None:
    one = new(CONFIRMED)
    assert (one.sent, one.reported.states, one.reconciler.heard, one.talk.confirmed_ns) == ([b"hello"], [], [], 0)
    clock.advance(1)
    assert one.say(LoggedIn()) is None
    assert one.sent == [b"hello", b"+orders", b"+fills"]
    assert one.reported.states == [("subscribed", None)]
    assert one.reconciler.heard == [CONFIRMED]
    assert one.talk.confirmed_ns == clock.now_ns


def test_a_row_that_was_left_out_is_asked_for_in_a_while_and_ends_nothing(new: Any) -> None:
    one = new()
    for _ in range(20):
        assert one.say(InvalidRow("orders", "px"), fill()) is None
    assert one.reconciler.heard[1:] == ["ask later"] * 20
    assert len(one.reported.of("fill")) == 1


def test_a_second_confirmation_changes_nothing(new: Any) -> None:
    one = new(CONFIRMED)
    one.say(LoggedIn(), LoggedIn())
    one.say(LoggedIn())
    assert one.sent.count(b"+orders") == 1
    assert one.reconciler.heard == [CONFIRMED]


def test_a_login_that_is_not_answered_ends_the_connection(new: Any) -> None:
    one = new(CONFIRMED)
    assert one.wait(9.9) is None
    assert one.wait(0.4) == CloseReason(Reason.CONNECT_TIMEOUT, "the venue did not answer the login")


# --- what comes ---------------------------------------------------------------------------------------------------


def test_what_a_frame_holds_is_reported(new: Any) -> None:
    one = new()
    one.say(order(), fill(), position("1", market="ETH"))
    one.say(position("1", market="BTC"), AllPositions(frozenset({"BTC-USD"})))
    assert [type(event).__name__ for event in one.reported.sent] == [
        "Order",
        "Fill",
        "Position",
        "Position",
        "Position",
    ]
    assert one.reported.sent[-1].size == "0"


def test_frames_are_counted_and_stamp_the_board(new: Any, clock: Any) -> None:
    one = new()
    one.hear()
    assert (one.row[SessionWord.FRAMES], one.row[SessionWord.LAST_WS_RX]) == (0, 0)
    clock.advance(3)
    one.hear(one.side.frame(), (PONG, b""), one.side.frame(order()))
    assert (one.row[SessionWord.FRAMES], one.row[SessionWord.LAST_WS_RX]) == (3, clock.now_ns)
    assert one.reported.cell[CellWord.LAST_PARSED] == clock.now_ns


def test_binary_frames_are_marked_as_such(new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = new()
    seen: list[bool] = []
    monkeypatch.setattr(one.side, "decode", lambda _payload, binary, _markets, _account: seen.append(binary) or [])
    one.hear((BINARY, b"x"), (TEXT, b"x"))
    assert seen == [True, False]


def test_markets_and_alias_are_those_of_now(new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = new()
    seen: list[Any] = []
    monkeypatch.setattr(one.side, "decode", lambda _p, _b, markets, account: seen.append((markets, account)) or [])
    one.hear(RUBBISH)
    one.talk._markets = lambda: {"1": "listing"}
    one.hear(RUBBISH)
    assert seen == [({}, ALIAS), ({"1": "listing"}, ALIAS)]


def test_what_came_before_an_end_in_the_same_frame_is_reported(new: Any) -> None:
    one = new()
    assert one.say(fill("a"), Expired("gone"), fill("b")) is not None
    assert [event.fill_id for event in one.reported.of("fill")] == ["a", "b"]


def test_what_comes_behind_the_frame_that_ends_it_is_left(new: Any) -> None:
    one = new()
    assert one.hear(one.side.frame(Expired("gone")), one.side.frame(fill())) is not None
    assert one.reported.of("fill") == []


def test_an_expired_login_is_made_again(new: Any) -> None:
    assert new().say(Expired("an hour is over")) == CloseReason(Reason.ROTATION, "the login expired: an hour is over")


def test_refused_credentials_end_it_as_such(new: Any) -> None:
    assert new().say(Refused("no", reason=Reason.AUTH_FAILED)) == CloseReason(Reason.AUTH_FAILED, "no")


def test_any_other_refusal_ends_it_for_something_would_be_missing(new: Any) -> None:
    one = new()
    assert one.say(Refused("slowly", reason=Reason.RATE_LIMITED)) == CloseReason(Reason.RATE_LIMITED, "slowly")
    assert one.say(Refused("going down", reason=Reason.SERVER_SHUTDOWN, fatal=True)) == CloseReason(
        Reason.SERVER_SHUTDOWN, "going down"
    )


def test_a_harmless_refusal_changes_nothing(new: Any) -> None:
    assert new().say(Refused("already subscribed", reason=None)) is None


def test_the_servers_end_is_passed_on(new: Any) -> None:
    one = new()
    one.transport.steps.append(ClosedError(Reason.READ_TIMEOUT, "cut"))
    with pytest.raises(ClosedError):
        one.talk.process_batch()


# --- malformed frames ---------------------------------------------------------------------------------------------


def test_a_malformed_frame_has_everything_asked_for(new: Any, events: Any) -> None:
    one = new()
    assert one.hear(RUBBISH) is None
    assert one.reconciler.heard == [LOGIN, "ask"]
    assert events("account.malformed") == [{"venue": VENUE, "error": "not a frame of this venue"}]


def test_a_parsers_fault_costs_its_frame_alone(new: Any, events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = new()
    monkeypatch.setattr(one.side, "decode", lambda *_: {}["planted"])
    assert one.hear(RUBBISH) is None
    assert one.reconciler.heard == [LOGIN, "ask"]
    (reported,) = events("account.malformed")
    assert "KeyError in test_session.py" in reported["error"]
    assert "planted" not in reported["error"]


def test_ten_malformed_frames_in_a_row_end_it(new: Any) -> None:
    one = new()
    assert one.hear(*[RUBBISH] * 9) is None
    assert one.hear(RUBBISH) == CloseReason(Reason.PARSE_ERRORS, "not a frame of this venue")


def test_a_good_frame_restarts_the_count(new: Any) -> None:
    one = new()
    assert one.hear(*[RUBBISH] * 9, one.side.frame(), *[RUBBISH] * 9) is None


# --- keeping alive ------------------------------------------------------------------------------------------------


def test_the_venues_pings_are_answered(new: Any) -> None:
    one = new()
    one.hear((PING, b"abc"), one.side.frame(Ping(b"pong!")))
    assert one.transport.pongs == [b"abc"]
    assert one.sent[-1] == b"pong!"


def test_pings_of_ours_go_out_as_the_venue_wants_them(new: Any) -> None:
    one = new()
    one.wait(19.8)
    assert b"ping" not in one.sent
    one.wait(0.4)
    assert (one.sent[-1], one.transport.pings) == (b"ping", 0)
    framed = new(keepalive=Keepalive(20.0, None, 10.0))
    framed.wait(20.2)
    assert (framed.transport.pings, b"ping" in framed.sent) == (1, False)


@pytest.mark.parametrize("answer", ["frame", "message"])
def test_an_answered_ping_is_followed_by_the_next(new: Any, answer: str) -> None:
    one = new()
    for number in range(1, 6):
        assert one.wait(20.2) is None
        assert one.sent.count(b"ping") == number
        assert (one.hear((PONG, b"")) if answer == "frame" else one.say(Pong())) is None


def test_an_unanswered_ping_ends_it(new: Any) -> None:
    one = new()
    assert one.wait(29.8) is None
    end = one.wait(0.8)
    assert end == CloseReason(Reason.PONG_TIMEOUT, "a ping was not answered")


def test_another_ping_does_not_put_off_the_answer_to_the_first(new: Any) -> None:
    one = new(keepalive=Keepalive(3.0, b"ping", 10.0))
    assert one.wait(12.8) is None
    assert one.sent.count(b"ping") == 4
    end = one.wait(1.0)
    assert end is not None
    assert end.reason is Reason.PONG_TIMEOUT


def test_data_is_no_answer_to_a_ping(new: Any) -> None:
    one = new()
    one.wait(20.2)
    ends = []
    for number in range(60):
        one.clock.advance(0.2)
        ends.append(one.say(fill(str(number))))
    assert any(end is not None and end.reason is Reason.PONG_TIMEOUT for end in ends)


def test_a_quiet_account_is_not_ended(new: Any) -> None:
    one = new()
    end = None
    for _ in range(50):
        end = end or one.wait(20.2) or one.hear((PONG, b""))
    assert end is None
    assert one.clock.now_ns - one.talk.confirmed_ns > 1000 * NS
