"""Looks at the whole account by REST on a clock: when, from when on, what a failure does, and how a login is kept."""

from __future__ import annotations

import dataclasses
import itertools
import json
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
    VENUE,
    FakeClient,
    FakeSide,
    PublishedAccount,
    fill,
    order,
    position,
    secrets,
)

from ipc import log as log_module
from ipc.board import ACCOUNT_SESSION, Board, CellWord, Row, SessionWord, WorkerWord
from ipc.errors import ConfigError, DecodeError
from ipc.health import Phase, Reason, StreamState, code_of
from ipc.rundir import RunDir
from workers.accounts import publisher as statement
from workers.accounts import reconciler as module
from workers.accounts.reconciler import Reconciler
from workers.accounts.rest_flow import RestFlowRunner
from workers.duty import LineDuty
from workers.net.budget import MinuteBudget
from workers.net.rest import RestError
from workers.venues.account import LoginError, Renewal, Snapshot

MINUTE, DAY = 60, 86_400
FIVE_MINUTES_MS = 300_000
LATE = RestError(Reason.READ_TIMEOUT, "no answer in time")
SOON = dataclasses.replace(LOGIN, renew_at_ns=0)
NOTHING = Snapshot((), frozenset())


class FakeStream:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ends: list[tuple[Reason, str]] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def end(self, reason: Reason, text: str) -> None:
        self.ends.append((reason, text))


class Looking:
    """A reconciler that runs for some seconds at a time; ``seconds`` are those at which it asked."""

    def __init__(self, board: Board, path: Path, clock: FakeClock, **side: Any) -> None:
        self.clock, self.began, self.path = clock, clock.now_ns, path
        self.side, self.reported, self.stream = FakeSide(**side), PublishedAccount(board), FakeStream()
        self.row = board.session(SLOT, ACCOUNT_SESSION + 1)
        self.client = FakeClient(self._answer)
        self.answers: list[Any] = [b"{}"]
        self.seconds: list[float] = []
        self.make()

    def make(self, alias: str = ALIAS, period_s: float = MINUTE) -> None:
        """As after a start."""
        self.reconciler = Reconciler(
            self.side,
            secrets(),
            alias,
            dict,
            self.reported.statement,
            RestFlowRunner(self.client, FakeStop(self.clock).wait),  # type: ignore[arg-type]
            self.row,
            RunDir(self.path),
            period_s,
            FakeStop(self.clock),
        )
        self.reconciler.stream = self.stream

    def run(self, seconds: float) -> None:
        self.reconciler._stop = FakeStop(self.clock, for_s=seconds)
        self.reconciler.run()

    def log_in(self, login: Any = LOGIN) -> None:
        self.reconciler.logged_in(login)

    def _answer(self, _request: Any) -> Any:
        self.seconds.append(round((self.clock.now_ns - self.began) / NS, 1))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer() if callable(answer) else answer

    @property
    def pauses(self) -> list[int]:
        return [round(later - earlier) for earlier, later in itertools.pairwise(self.seconds)]

    @property
    def states(self) -> list[tuple[str, str | None]]:
        return self.reported.states

    @property
    def since_s(self) -> list[float]:
        """How long before the begin fills were asked for from, s."""
        began_ms = (self.began + self.clock.wall_offset_ns) // 1_000_000
        return [(began_ms - since_ms) / 1000 for since_ms in self.side.asked]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def new(board: Board, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(statement, "time", clock)
    return lambda **side: Looking(board, tmp_path, clock, **side)


@pytest.fixture
def looking(new: Any) -> Looking:
    found: Looking = new()
    return found


# --- when it looks ------------------------------------------------------------------------------------------------


def test_nothing_is_asked_without_a_login(looking: Looking) -> None:
    looking.run(200)
    assert looking.seconds == []
    assert looking.row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)


def test_everything_is_asked_for_after_a_login_and_every_minute(looking: Looking) -> None:
    looking.log_in()
    looking.run(5 * MINUTE)
    assert looking.seconds[0] == 0
    assert looking.pauses == [60, 60, 60, 60]
    assert looking.states == [("live", None)]


def test_another_login_is_looked_at_at_once(looking: Looking) -> None:
    looking.log_in()
    looking.run(10)
    other = dataclasses.replace(LOGIN, token="other")
    looking.log_in(other)
    looking.run(1)
    assert looking.seconds == [0, 10]
    assert [login.token for login in looking.side.logged_in] == ["planted-token", "other"]


def test_what_may_be_missing_is_asked_for_at_once(looking: Looking) -> None:
    looking.log_in()
    looking.run(10)
    looking.reconciler.ask()
    looking.run(MINUTE - 1)
    assert looking.seconds == [0, 10]


def test_rows_that_were_left_out_bring_the_next_look_forward_and_no_more(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    for _ in range(80):
        looking.reconciler.ask_later()
        looking.run(1)
    assert looking.seconds[0] == 0
    assert looking.pauses[:4] == [15, 15, 15, 15]


def test_rows_that_were_left_out_do_not_hurry_a_look_that_a_failure_put_off(looking: Looking) -> None:
    looking.answers = [LATE]
    looking.log_in()
    for _ in range(20):
        looking.reconciler.ask_later()
        looking.run(1)
    assert len(looking.seconds) <= 4


def test_what_may_be_missing_while_it_asks_is_asked_for_again(looking: Looking) -> None:
    looking.answers = [lambda: looking.reconciler.ask() or b"{}", b"{}"]
    looking.log_in()
    looking.run(1)
    assert len(looking.seconds) == 2


def test_an_answer_that_a_push_overtook_is_asked_for_again_soon(new: Any) -> None:
    looking = new(snapshots=[Snapshot((position("1"),), frozenset()), NOTHING])
    looking.answers = [lambda: looking.reported.statement.apply_pushed([position("2")]) or b"{}", b"{}"]
    looking.log_in()
    looking.run(MINUTE)
    assert looking.pauses == [5]
    assert [event.size for event in looking.reported.of("position")] == ["2", "0"]


def test_a_busy_account_is_not_asked_for_all_the_time(new: Any) -> None:
    """A push overtakes every answer."""
    sizes = itertools.count(2)
    looking = new(snapshots=[Snapshot((position("1"),), frozenset({"none"}))])
    looking.answers = [lambda: looking.reported.statement.apply_pushed([position(str(next(sizes)))]) or b"{}"]
    looking.log_in()
    looking.run(4 * MINUTE)
    assert looking.pauses == [5, 60, 5, 60, 5, 60, 5]


def reported_of(*fill_ids: str) -> list[Snapshot]:
    """What looks find, one after the other; the last one nothing more."""
    return [*(Snapshot((fill(fill_id),), frozenset()) for fill_id in fill_ids), NOTHING]


def test_a_stream_that_tells_nothing_is_made_again(new: Any) -> None:
    """It is open and answers pings, but fills are found by REST alone."""
    looking = new(snapshots=reported_of("before", "a", "b", "c"))
    looking.log_in()
    looking.run(2.5 * MINUTE)
    assert looking.stream.ends == []
    looking.run(MINUTE)
    assert [reason for reason, _ in looking.stream.ends] == [Reason.SEQ_GAP]


def test_a_stream_that_missed_something_once_goes_on(new: Any) -> None:
    looking = new(snapshots=reported_of("before", "a"))
    looking.log_in()
    looking.run(10 * MINUTE)
    assert looking.stream.ends == []


def test_a_stream_that_is_later_than_rest_goes_on(new: Any) -> None:
    looking = new(snapshots=reported_of("before", "a", "b", "c", "d"))
    looking.log_in()
    for fill_id in ("before", "a", "b", "c", "d"):
        looking.run(MINUTE / 2)
        looking.reported.statement.apply_pushed([fill(fill_id)])
        looking.run(MINUTE / 2)
    assert looking.stream.ends == []


def test_what_the_answer_holds_is_reported_and_heard(new: Any, clock: FakeClock) -> None:
    looking = new(snapshots=[Snapshot((order(), fill()), frozenset({"1"}))])
    looking.log_in()
    looking.run(0.1)
    assert [type(event).__name__ for event in looking.reported.sent] == ["Order", "Fill"]
    assert looking.reported.cell[CellWord.LAST_PARSED] == clock.now_ns - NS // 5


def test_without_a_login_no_more_is_asked(looking: Looking) -> None:
    looking.log_in()
    looking.run(10)
    looking.reconciler.logged_out()
    looking.reconciler.ask()
    looking.run(200)
    assert looking.seconds == [0]


def test_an_answer_that_comes_when_the_connection_is_gone_is_reported_but_does_not_make_it_live(new: Any) -> None:
    looking = new(snapshots=[Snapshot((fill(),), frozenset())])
    looking.answers = [lambda: looking.reconciler.logged_out() or b"{}"]
    looking.log_in()
    looking.run(1)
    assert len(looking.reported.of("fill")) == 1
    assert looking.states == []


# --- from when on -------------------------------------------------------------------------------------------------


def test_fills_are_asked_for_from_a_day_ago_and_then_from_five_minutes_before_the_last_look(looking: Looking) -> None:
    looking.log_in()
    looking.run(2.5 * MINUTE)
    assert looking.since_s[0] == DAY
    asked_ms = [second * 1000 for second in looking.seconds]
    wanted = [(FIVE_MINUTES_MS - last) / 1000 for last in asked_ms[:-1]]
    assert looking.since_s[1:] == pytest.approx(wanted)


def test_the_last_look_is_remembered_over_a_restart(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    looking.clock.advance(3 * DAY)
    looking.make()
    looking.log_in()
    looking.run(1)
    assert looking.since_s[-1] == pytest.approx(300)


def test_a_look_that_failed_is_not_remembered(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    looking.answers = [LATE]
    looking.run(5 * MINUTE)
    looking.make()
    looking.answers = [b"{}"]
    looking.log_in()
    looking.run(1)
    assert looking.since_s[-1] == pytest.approx(300)


def test_fills_of_a_list_that_was_cut_are_asked_for_again(looking: Looking) -> None:
    looking.side.snapshots = [dataclasses.replace(NOTHING, has_all_fills=False), NOTHING, NOTHING]
    looking.log_in()
    looking.run(2.5 * MINUTE)
    assert looking.since_s == pytest.approx([DAY, DAY - MINUTE, 300 - MINUTE], abs=1)


def test_the_look_of_an_account_with_another_name_is_not_taken_for_its_own(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    looking.make(alias="other")
    looking.log_in()
    looking.run(1)
    assert looking.since_s[-1] == pytest.approx(DAY - 1, abs=1)


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"alias":"desk"}', b'{"alias":"desk","reconciled_ns":"x"}'])
def test_a_memory_that_cannot_be_read_is_none(looking: Looking, rubbish: bytes) -> None:
    RunDir(looking.path).account_checkpoint(VENUE).write_bytes(rubbish)
    looking.make()
    looking.log_in()
    looking.run(1)
    assert looking.since_s == [DAY]


def test_the_memory_holds_a_name_and_a_time_alone(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    path = RunDir(looking.path).account_checkpoint(VENUE)
    assert set(json.loads(path.read_text())) == {"alias", "reconciled_ns"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_memory_that_cannot_be_written_is_logged_and_no_more(
    looking: Looking, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(module, "replace_file", fail)
    looking.log_in()
    looking.run(1.5 * MINUTE)
    assert events("account.unremembered")[0]["error"] == "no space"
    assert len(looking.seconds) == 2


# --- when it fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"), [(LATE, "read_timeout"), (RestError(Reason.REFUSED, "HTTP 503", status=503), "refused")]
)
def test_a_look_that_fails_is_tried_again_after_5_10_20_40_and_60_seconds(
    looking: Looking, events: Any, error: RestError, reason: str
) -> None:
    looking.answers = [error]
    looking.log_in()
    looking.run(200)
    assert looking.pauses == [5, 10, 20, 40, 60, 60]
    reported = events("account.unreconciled")
    assert [fields["retry_in_s"] for fields in reported[:5]] == [5, 10, 20, 40, 60]
    assert (reported[0]["reason"], reported[0]["error"]) == (reason, error.what)


def test_an_answer_that_is_none_is_a_failure(new: Any, events: Any) -> None:
    looking = new(snapshots=[DecodeError("malformed answer to orders"), NOTHING])
    looking.log_in()
    looking.run(6)
    assert looking.pauses == [5]
    assert events("account.unreconciled")[0]["reason"] == "parse_errors"
    assert looking.states == [("live", None)]


def test_a_look_that_fails_is_not_put_off_beyond_the_period(looking: Looking) -> None:
    looking.make(period_s=15)
    looking.answers = [LATE]
    looking.log_in()
    looking.run(70)
    assert looking.pauses == [5, 10, 15, 15, 15]


def test_a_venue_that_asks_to_wait_is_given_the_time(looking: Looking) -> None:
    looking.answers = [RestError(Reason.RATE_LIMITED, "HTTP 429", status=429, retry_after_s=100.0), b"{}"]
    looking.log_in()
    looking.run(150)
    assert looking.pauses == [100]


def test_a_good_answer_begins_the_count_again(looking: Looking) -> None:
    looking.answers = [LATE, LATE, b"{}", LATE, b"{}"]
    looking.log_in()
    looking.run(100)
    assert looking.pauses == [5, 10, 60, 5]


def test_an_account_that_is_not_answered_for_three_periods_is_stale_until_it_is(looking: Looking) -> None:
    looking.log_in()
    looking.run(1)
    looking.answers = [LATE]
    looking.run(4 * MINUTE)
    assert looking.states == [("live", None), ("stale", "read_timeout")]
    assert looking.reported.described == ["no answer in time"]
    (stale,) = [event for event in looking.reported.publisher.of(f"status.{VENUE}") if event.state is StreamState.STALE]
    assert stale.recv_mono_ns - looking.began > 180 * NS
    looking.answers = [b"{}"]
    looking.run(2 * MINUTE)
    assert looking.states[-1] == ("live", None)
    assert looking.reported.described == ["no answer in time", None]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LoginError("the key is unknown"), "the key is unknown"),
        (ConfigError(["TEST_KEY_FILE: cannot be read", "x"]), "TEST_KEY_FILE: cannot be read; x"),
    ],
)
def test_refused_credentials_end_the_connection_and_the_looks(new: Any, error: Any, text: str) -> None:
    looking = new(snapshots=[error])
    looking.log_in()
    looking.run(5 * MINUTE)
    assert looking.seconds == [0]
    assert looking.stream.ends == [(Reason.AUTH_FAILED, text)]
    assert looking.states == []


# --- keeping the login --------------------------------------------------------------------------------------------


def in_a_while(looking: Looking, seconds: float, **changes: Any) -> Any:
    at_ns = looking.clock.time_ns() + round(seconds * NS)
    return dataclasses.replace(LOGIN, renew_at_ns=at_ns, **changes)


def test_a_login_without_an_end_is_not_renewed(looking: Looking) -> None:
    looking.log_in()
    looking.run(1000)
    assert looking.side.renewals_asked == 0


def test_a_login_is_renewed_when_it_is_due_and_used_from_then_on(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: dict[str, None] = {}
    monkeypatch.setattr(log_module, "_hidden", hidden)
    renewed = dataclasses.replace(LOGIN, token="renewed-token")
    looking.side.renewals = [Renewal(renewed, messages=(b"use it",))]
    looking.log_in(in_a_while(looking, 100))
    looking.run(99)
    assert looking.side.renewals_asked == 0
    looking.run(100)
    assert looking.side.renewals_asked == 1
    assert looking.stream.sent == [b"use it"]
    assert [login.token for login in looking.side.logged_in][-1] == "renewed-token"
    assert looking.stream.ends == []
    assert "renewed-token" in hidden


def test_a_renewed_login_is_renewed_again(looking: Looking) -> None:
    looking.side.renewals = [Renewal(in_a_while(looking, 200)), Renewal(in_a_while(looking, 999))]
    looking.log_in(in_a_while(looking, 100))
    looking.run(250)
    assert looking.side.renewals_asked == 2


def test_a_renewal_for_which_the_connection_must_be_made_again_ends_it(looking: Looking) -> None:
    looking.side.renewals = [Renewal(LOGIN, must_reconnect=True)]
    looking.log_in(in_a_while(looking, 5))
    looking.run(8)
    assert looking.stream.ends == [(Reason.ROTATION, "the login is renewed")]
    assert looking.stream.sent == []


@pytest.mark.parametrize("error", [LATE, DecodeError("malformed answer to listenKey")])
def test_a_renewal_that_fails_is_tried_again_every_ten_seconds(looking: Looking, events: Any, error: Any) -> None:
    looking.side.renewals = [error]
    looking.log_in(in_a_while(looking, 20))
    looking.run(55)
    assert looking.side.renewals_asked == 4
    assert events("account.unrenewed")[0]["error"] == error.what
    assert looking.stream.ends == []


@pytest.mark.parametrize("error", [LoginError("the listenKey is gone"), ConfigError(["the listenKey is gone"])])
def test_a_login_that_cannot_be_renewed_ends_the_connection(looking: Looking, error: Any) -> None:
    looking.side.renewals = [error]
    looking.log_in(in_a_while(looking, 20))
    looking.run(100)
    assert looking.side.renewals_asked == 1
    assert looking.stream.ends == [(Reason.AUTH_FAILED, "the listenKey is gone")]


def test_a_renewal_that_comes_when_there_is_another_login_is_dropped(looking: Looking) -> None:
    other = dataclasses.replace(LOGIN, token="other")
    looking.side.renewals = [Renewal(SOON, must_reconnect=True)]
    looking.log_in(in_a_while(looking, 5))
    looking.run(1)
    looking.answers = [lambda: looking.log_in(other) or b"{}", b"{}"]
    looking.run(10)
    assert looking.stream.ends == []
    assert looking.side.logged_in[-1].token == "other"


# --- faults that are known ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["snapshots", "renewals"])
def test_a_refusal_of_an_earlier_login_does_not_end_the_connection_of_the_next(looking: Looking, what: str) -> None:
    other = dataclasses.replace(LOGIN, token="other")
    setattr(looking.side, what, [LoginError("the token has expired"), NOTHING if what == "snapshots" else None])
    looking.answers = [lambda: looking.log_in(other) or b"{}", b"{}"]
    looking.log_in(SOON if what == "renewals" else LOGIN)
    looking.run(3)
    assert looking.stream.ends == []
    assert looking.side.logged_in[-1].token == "other"


def test_a_failure_with_an_earlier_login_does_not_put_off_the_first_look_at_the_next(looking: Looking) -> None:
    def fail() -> RestError:
        looking.log_in(dataclasses.replace(LOGIN, token="other"))
        return LATE

    looking.answers = [fail, b"{}"]
    looking.log_in()
    looking.run(3)
    assert looking.states == [("live", None)]


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.RATE_LIMITED])
def test_what_rest_refuses_for_the_moment_does_not_end_the_connection(new: Any, reason: Reason) -> None:
    looking = new(snapshots=[LoginError("orders: maintenance", reason), NOTHING])
    looking.log_in()
    looking.run(10)
    assert looking.stream.ends == []
    assert looking.states == [("live", None)]


def test_looks_that_are_more_frequent_than_the_budget_allows_end_all_the_same(new: Any, clock: FakeClock) -> None:
    looking = new(calls=4)
    looking.make(period_s=3)
    budget = MinuteBudget(12, clock.monotonic_ns)

    def answer(_request: Any) -> Any:
        assert len(looking.client.requests) < 5000, "it asks without a pause"
        wait_s = budget.acquire(1)
        return RestError(Reason.RATE_LIMITED, "over the budget", retry_after_s=wait_s) if wait_s else b"{}"

    looking.client.answers = [answer]
    looking.log_in()
    looking.run(600)
    assert looking.states[-1] == ("live", None)


# --- two lines ----------------------------------------------------------------------------------------------------


@pytest.fixture
def words(board: Board) -> Row:
    return board.worker(SLOT)


@pytest.fixture
def shared(looking: Looking, words: Row) -> Looking:
    """The reconciler of one of two lines, which has the duty."""
    words[WorkerWord.DUTY] = 1
    duty = LineDuty(words)
    looking.reconciler._duty = looking.reconciler._runner._duty = duty
    return looking


def test_line_without_the_duty_asks_nothing(shared: Looking, words: Row) -> None:
    words[WorkerWord.DUTY] = 0
    shared.log_in(SOON)
    shared.run(300)
    assert shared.client.requests == []
    assert shared.side.renewals_asked == 0


def test_snapshot_ends_before_its_next_call_when_the_duty_is_lost(shared: Looking, words: Row, events: Any) -> None:
    def lose() -> bytes:
        words[WorkerWord.DUTY] = 0
        return b"{}"

    shared.side.calls = 3
    shared.answers = [lose]
    shared.log_in()
    shared.run(300)
    assert len(shared.client.requests) == 1
    assert events("account.unreconciled") == [], "it is no failure"
    assert shared.states == []


def test_snapshot_of_a_line_that_lost_the_duty_does_not_count(shared: Looking, words: Row) -> None:
    """Its fills were left out: the next one, whichever line takes it, must request the same time."""
    shared.log_in()
    shared.run(5)
    at = json.loads(RunDir(shared.path).account_checkpoint("lighter").read_bytes())

    def lose() -> bytes:
        words[WorkerWord.DUTY] = 0
        return b"{}"

    shared.answers = [lose]
    shared.run(70)
    assert len(shared.client.requests) == 2
    assert json.loads(RunDir(shared.path).account_checkpoint("lighter").read_bytes()) == at


def test_line_that_gets_the_duty_asks_for_fills_since_the_other_lines_snapshot(
    shared: Looking, new: Any, clock: FakeClock
) -> None:
    other = new()
    clock.advance(600)
    shared.log_in()
    shared.run(1)
    clock.advance(30)
    other.reconciler.adopt()
    other.log_in()
    other.run(1)
    assert other.side.asked == [pytest.approx(shared.side.asked[0] + DAY * 1000 - FIVE_MINUTES_MS, abs=1)]


def test_time_of_the_last_snapshot_is_written_by_the_line_with_the_duty(shared: Looking, words: Row) -> None:
    shared.log_in()
    shared.run(1)
    path = RunDir(shared.path).account_checkpoint("lighter")
    path.unlink()
    words[WorkerWord.DUTY] = 0
    shared.reconciler.restore_last_snapshot()
    assert not path.exists()
    words[WorkerWord.DUTY] = 1
    shared.reconciler.restore_last_snapshot()
    assert path.exists()
