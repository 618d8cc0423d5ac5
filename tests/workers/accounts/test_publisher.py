"""Events of an account, the state that late subscribers receive, and its words on the board."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_account import ALIAS, NS, VENUE, PublishedAccount, balance, fill, margin, order, payment, position

from ipc.board import Board, CellWord, WorkerWord
from ipc.events import Heartbeat, Status
from ipc.health import Reason, Stream, StreamState, code_of
from ipc.log import hide
from ipc.rundir import AccountWords
from ipc.topics import ACCOUNT_CHANNELS
from workers.accounts import publisher as module
from workers.accounts.checkpoint import PublishedFills
from workers.duty import LineDuty
from workers.venues.account import AllPositions, Leg, Snapshot, nothing
from workers.venues.rows import InvalidRow


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def reported(board: Board, clock: Any, monkeypatch: pytest.MonkeyPatch) -> PublishedAccount:
    monkeypatch.setattr(module, "time", clock)
    return PublishedAccount(board)


def answer(reported: PublishedAccount, *events: Any, open_orders: Any = (), asked_at: int | None = None) -> bool:
    at = reported.statement.push_count() if asked_at is None else asked_at
    return reported.statement.apply_snapshot(Snapshot(events, frozenset(open_orders)), at)


# --- what is reported -------------------------------------------------------------------------------------------------


def test_every_kind_goes_to_its_own_topic_with_its_stamps(reported: PublishedAccount, clock: Any) -> None:
    kinds = [order(), fill(), position(), balance(), margin(), payment()]
    reported.statement.apply_pushed(kinds)
    topics = [topic for topic, _ in reported.publisher.sent]
    assert topics == [f"{channel}.{VENUE}.{ALIAS}" for channel in ACCOUNT_CHANNELS]
    for event in reported.sent:
        assert (event.recv_ns, event.recv_mono_ns) == (clock.time_ns(), clock.monotonic_ns())
        assert (event.account, event.seq, event.flags) == (ALIAS, 1, ())


def test_a_trade_with_ourselves_is_two_fills_once_over_restarts(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "published"
    for expected in (["a", "b", "b:sell"], []):
        life = PublishedAccount(board, PublishedFills(path, VENUE))
        life.statement.apply_pushed([fill("a")])  # the file is written whole with the first, and appended to after that
        life.statement.apply_pushed([fill("b"), msgspec.structs.replace(fill("b"), side="sell")])
        assert [one.fill_id for one in life.of("fill")] == expected
        joined = life.publisher.latest(f"fill.{VENUE}.{ALIAS}")
        assert [(one.fill_id, one.side) for one in joined] == [("a", "buy"), ("b", "buy"), ("b:sell", "sell")]


def test_what_says_nothing_new_is_not_reported(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([order(), order(), fill(), fill()])
    assert answer(reported, order(snapshot=True), fill(snapshot=True), open_orders=["1"])
    assert [len(reported.of(channel)) for channel in ("order", "fill")] == [1, 1]
    assert reported.statement.ledger.repeated == 2


def test_all_positions_of_a_frame_end_the_others(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([position("1", market="BTC"), position("2", market="ETH")])
    reported.statement.apply_pushed([position("1", market="BTC"), AllPositions(frozenset({"BTC-USD"}))])
    assert [(event.symbol, event.size, event.snapshot) for event in reported.of("position")] == [
        ("BTC-PERP", "1", False),
        ("ETH-PERP", "2", False),
        ("ETH-PERP", "0", False),
    ]


def test_what_the_stream_missed_is_reported_when_rest_answers(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([order("1"), order("2", filled="2"), position("1"), fill("a")])
    assert answer(reported, fill("a"), fill("b"), order("3"), balance("4"), open_orders=["3"])
    assert [one.fill_id for one in reported.of("fill")] == ["a", "b"]
    assert [(one.order_id, one.status) for one in reported.of("order")[2:]] == [
        ("3", "open"),
        ("1", "closed"),
        ("2", "filled"),
    ]
    assert [(one.size, one.snapshot) for one in reported.of("position")[1:]] == [("0", True)]
    assert [one.total for one in reported.of("balance")] == ["4"]


@pytest.mark.parametrize("wrong", ["abc", "", "NaN", "1_0", " 1"])
def test_an_event_that_is_invalid_costs_itself_and_is_counted(
    reported: PublishedAccount, wrong: str, caplog: Any
) -> None:
    pushed = [fill("a"), order("9", filled=wrong), fill("b"), position(wrong), balance(wrong)]
    with caplog.at_level(logging.WARNING):
        assert reported.statement.apply_pushed(pushed) == 3
    assert [one.fill_id for one in reported.of("fill")] == ["a", "b"]
    assert [reported.of(channel) for channel in ("order", "position", "balance")] == [[], [], []]
    assert reported.statement.invalid_rows == 3
    fields = [record.fields for record in caplog.records if record.getMessage() == "account.invalid_row"]
    assert [(one["of"], one["total"]) for one in fields] == [("order", 1), ("position", 2), ("balance", 3)]
    assert all("'" not in one["error"] for one in fields), "values are private"


def test_rows_that_were_left_out_are_counted_and_described_with_the_next_answer(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([InvalidRow("trades", "another account's"), fill("a")])
    snapshot = Snapshot((fill("b"),), frozenset(), (InvalidRow("orders", "px"),))
    assert [words.invalid_rows for words in reported.words] == []
    reported.statement.apply_snapshot(snapshot, reported.statement.push_count())
    assert [one.fill_id for one in reported.of("fill")] == ["a", "b"]
    assert reported.statement.invalid_rows == 2
    reported.statement.apply_snapshot(Snapshot((), frozenset()), reported.statement.push_count())
    assert [words.invalid_rows for words in reported.words] == [2]


def test_an_event_of_an_answer_that_is_invalid_is_listed_all_the_same(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([position("1"), balance("5")])
    answer(reported, position("many"), balance("much"))
    assert [one.size for one in reported.of("position")] == ["1"]
    assert [one.total for one in reported.of("balance")] == ["5"]


def test_decimals_are_plain_when_they_are_published(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([balance("1E-7"), position("-0.0")])
    assert [one.total for one in reported.of("balance")] == ["0.0000001"]
    assert [one.size for one in reported.of("position")] == ["0"]


def test_an_answer_that_a_push_overtook_does_not_undo_it(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([position("1"), order("1")])
    asked_at = reported.statement.push_count()
    reported.statement.apply_pushed([position("2"), order("1", "filled")])
    assert not answer(reported, position("1"), order("1"), open_orders=["1"], asked_at=asked_at)
    assert [one.size for one in reported.of("position")] == ["1", "2"]
    assert [one.status for one in reported.of("order")] == ["open", "filled"]


def test_what_was_pushed_since_asking_is_not_ended_by_its_absence(reported: PublishedAccount) -> None:
    asked_at = reported.statement.push_count()
    reported.statement.apply_pushed([position("2"), order("1")])
    assert answer(reported, asked_at=asked_at)
    assert [one.size for one in reported.of("position")] == ["2"]
    assert [one.status for one in reported.of("order")] == ["open"]


def test_an_answer_is_contested_by_itself_alone(reported: PublishedAccount) -> None:
    asked_at = reported.statement.push_count()
    reported.statement.apply_pushed([position("2")])
    assert not answer(reported, position("1"), asked_at=asked_at)
    assert answer(reported, position("1"))


def test_a_balance_that_is_not_listed_is_gone(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([balance("5", asset="HYPE"), balance("7")])
    answer(reported, balance("7"))
    assert [(one.asset, one.total) for one in reported.of("balance")[2:]] == [("HYPE", "0")]


def test_balances_stand_where_the_answer_does_not_list_all_of_them(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([balance("5", asset="HYPE")])
    reported.statement.apply_snapshot(
        Snapshot((balance("7"),), frozenset(), balances_of=nothing), reported.statement.push_count()
    )
    assert [one.asset for one in reported.of("balance")] == ["HYPE", "USDC"]


def test_a_balance_that_was_pushed_after_the_question_stands(reported: PublishedAccount) -> None:
    asked_at = reported.statement.push_count()
    reported.statement.apply_pushed([balance("5", asset="HYPE")])
    reported.statement.apply_snapshot(Snapshot((), frozenset()), asked_at)
    assert [one.total for one in reported.of("balance")] == ["5"]


# --- what late subscribers are sent -----------------------------------------------------------------------------------


def test_late_subscribers_are_sent_the_last_state_of_everything(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed(
        [order("1"), order("2"), order("1", "filled"), position("1"), position("3"), margin("5")]
    )
    latest = reported.publisher.latest
    assert {one.order_id: one.status for one in latest(f"order.{VENUE}.{ALIAS}")} == {"2": "open", "1": "filled"}
    assert [one.size for one in latest(f"position.{VENUE}.{ALIAS}")] == ["3"]
    assert [one.equity for one in latest(f"margin.{VENUE}.{ALIAS}")] == ["5"]


def test_late_subscribers_are_sent_as_much_of_the_past_as_is_kept_and_every_open_order(
    reported: PublishedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 3)
    reported.statement.apply_pushed([order("o1"), order("o2")])
    for number in range(5):
        reported.statement.apply_pushed([order(f"c{number}", "canceled"), fill(str(number)), payment(str(number))])
    latest = reported.publisher.latest
    assert [one.order_id for one in latest(f"order.{VENUE}.{ALIAS}")] == ["o1", "o2", "c4"]
    assert [one.fill_id for one in latest(f"fill.{VENUE}.{ALIAS}")] == ["2", "3", "4"]
    assert [one.payment_id for one in latest(f"payment.{VENUE}.{ALIAS}")] == ["2", "3", "4"]


def test_open_orders_beyond_the_bound_are_all_sent_to_late_subscribers(
    reported: PublishedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 3)
    reported.statement.apply_pushed([order(str(number)) for number in range(6)])
    assert len(reported.publisher.latest(f"order.{VENUE}.{ALIAS}")) == 6


# --- the state of the stream --------------------------------------------------------------------------------------


def test_a_state_is_reported_to_subscribers_the_board_and_in_words(reported: PublishedAccount, clock: Any) -> None:
    reported.statement.mark_alive(clock.now_ns)
    clock.advance(2)
    reported.statement.publish_state(StreamState.BACKOFF, Reason.SERVER_CLOSE, "it went away", attempt=2, backoff_s=1.5)
    (event,) = reported.publisher.of(f"status.{VENUE}")
    assert isinstance(event, Status)
    assert (event.stream, event.state, event.previous) == (Stream.ACCOUNT, StreamState.BACKOFF, None)
    assert (event.reason, event.attempt, event.backoff_s) == (Reason.SERVER_CLOSE, 2, 1.5)
    assert event.ages_ms == {"account": 2000}
    assert reported.cell[CellWord.STATE] == code_of(StreamState.BACKOFF)
    assert reported.cell[CellWord.REASON] == code_of(Reason.SERVER_CLOSE)
    assert reported.cell[CellWord.SINCE] == clock.now_ns
    assert reported.described == ["it went away"]
    assert reported.statement.state is StreamState.BACKOFF


def test_no_reader_sees_a_state_without_its_text(
    reported: PublishedAccount, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words are written before the board is, so anyone who reads the board first finds words that go with it."""
    seen: list[tuple[AccountWords, int]] = []
    describe = lambda words: seen.append((words, reported.cell[CellWord.SINCE]))  # noqa: E731
    monkeypatch.setattr(reported.statement, "_describe", describe)
    reported.statement.publish_state(StreamState.FAILED, Reason.AUTH_FAILED, "the token has expired")
    first = clock.now_ns
    clock.advance(1)
    reported.statement.publish_state(StreamState.LIVE, None, None)
    assert seen == [
        (AccountWords(ALIAS, StreamState.FAILED, Reason.AUTH_FAILED, first, "the token has expired"), 0),
        (AccountWords(ALIAS, StreamState.LIVE, Reason.AUTH_FAILED, clock.now_ns, None), first),
    ]


def test_a_state_that_lasts_is_reported_once(reported: PublishedAccount) -> None:
    for _ in range(3):
        reported.statement.publish_state(StreamState.LIVE, None, None)
    assert reported.states == [("live", None)]


def test_another_reason_is_reported_and_the_last_one_stays_on_the_board(reported: PublishedAccount) -> None:
    reported.statement.publish_state(StreamState.STALE, Reason.READ_TIMEOUT, "slow")
    reported.statement.publish_state(StreamState.STALE, Reason.RATE_LIMITED, "slow")
    reported.statement.publish_state(StreamState.STALE, Reason.RATE_LIMITED, "slower")
    reported.statement.publish_state(StreamState.LIVE, None, None)
    assert reported.states == [
        ("stale", "read_timeout"),
        ("stale", "rate_limited"),
        ("stale", "rate_limited"),
        ("live", None),
    ]
    assert [event.previous for event in reported.publisher.of(f"status.{VENUE}")] == [None, "stale", "stale", "stale"]
    assert reported.cell[CellWord.REASON] == code_of(Reason.RATE_LIMITED)
    assert reported.described == ["slow", "slower", None]


def test_late_subscribers_are_sent_the_last_state_of_the_stream(reported: PublishedAccount) -> None:
    reported.statement.publish_state(StreamState.CONNECTING, None, None)
    reported.statement.publish_state(StreamState.LIVE, None, None)
    assert [event.state for event in reported.publisher.latest(f"status.{VENUE}")] == [StreamState.LIVE]


def test_only_what_needs_a_person_is_logged_as_an_error(
    reported: PublishedAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reported.statement.publish_state(StreamState.BACKOFF, Reason.SERVER_CLOSE, "gone")
    reported.statement.publish_state(StreamState.FAILED, Reason.AUTH_FAILED, "no")
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]


def test_hearing_something_stamps_the_board(reported: PublishedAccount) -> None:
    reported.statement.mark_alive(5 * NS)
    words = (CellWord.LAST_DATA_RX, CellWord.LAST_PARSED, CellWord.LAST_PUBLISHED, CellWord.LAST_GOOD)
    assert [reported.cell[word] for word in words] == [5 * NS] * 4


def test_events_are_counted_on_the_board(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([order("1"), order("2"), order("2")])
    assert reported.cell[CellWord.EVENTS] == 2, "the third is known"


def test_the_time_of_the_last_reason_is_on_the_board(reported: PublishedAccount, clock: Any) -> None:
    reported.statement.publish_state(StreamState.BACKOFF, Reason.SERVER_CLOSE, "it went away")
    occurred = clock.now_ns
    clock.advance(5)
    reported.statement.publish_state(StreamState.LIVE, None, None)
    assert (reported.cell[CellWord.REASON_AT], reported.cell[CellWord.SINCE]) == (occurred, clock.now_ns)


def test_a_secret_in_the_reason_is_hidden_from_the_words_as_from_the_log(reported: PublishedAccount) -> None:
    hide("planted-user-91c4")
    reported.statement.publish_state(
        StreamState.BACKOFF, Reason.CONNECT_FAILED, "broke: /listenKey?user=planted-user-91c4"
    )
    assert "planted-user-91c4" not in str(reported.words)


# --- the heartbeat ------------------------------------------------------------------------------------------------


def test_the_heartbeat_counts_what_was_sent(reported: PublishedAccount) -> None:
    reported.statement.apply_pushed([order("1"), order("2"), fill()])
    reported.statement.publish_state(StreamState.LIVE, None, None)
    reported.statement.publish_heartbeat()
    reported.statement.publish_heartbeat()
    first, second = reported.publisher.of(f"heartbeat.{VENUE}")
    assert isinstance(second, Heartbeat)
    expected = {f"order.{VENUE}.{ALIAS}": 2, f"fill.{VENUE}.{ALIAS}": 1, f"status.{VENUE}": 1}
    assert first.seqs == expected
    assert second.seqs == expected | {f"heartbeat.{VENUE}": 1}
    assert (second.books, second.drops) == ({}, 0)


# --- two lines --------------------------------------------------------------------------------------------------------


class Lines:
    """The publishers of two lines of one account, which keep one file of published fills."""

    def __init__(self, board: Board, path: Path) -> None:
        self.words = [board.worker(slot) for slot in (1, 2)]
        self.accounts = [PublishedAccount(board, PublishedFills(path, VENUE), LineDuty(words)) for words in self.words]
        self.give(0)

    def give(self, line: int) -> PublishedAccount:
        """Give a line the duty, as the parent does; it adopts what the other published."""
        for number, words in enumerate(self.words):
            words[WorkerWord.DUTY] = number == line
        self.accounts[1 - line].statement.hand_over()
        self.accounts[line].statement.adopt()
        return self.accounts[line]

    def fills(self) -> list[list[str]]:
        return [[one.fill_id for one in account.of("fill")] for account in self.accounts]


@pytest.fixture
def lines(board: Board, tmp_path: Path) -> Lines:
    return Lines(board, tmp_path / "published")


def test_fills_are_published_by_one_line_whichever_has_the_duty(lines: Lines) -> None:
    lines.accounts[0].statement.apply_pushed([fill("1"), payment("1")])
    answer(lines.give(1), fill("1"), payment("1"), fill("2"))
    answer(lines.give(0), fill("1"), fill("2"), fill("3"))
    assert lines.fills() == [["1", "3"], ["2"]]
    assert lines.accounts[1].of("payment") == []


def test_late_subscribers_of_either_line_are_sent_every_fill(lines: Lines) -> None:
    lines.accounts[0].statement.apply_pushed([fill("1")])
    answer(lines.give(1), fill("1"), fill("2"))
    joined = lines.accounts[1].publisher.latest(f"fill.{VENUE}.{ALIAS}")
    assert [one.fill_id for one in joined] == ["1", "2"]


def test_line_that_gets_the_duty_publishes_every_state(lines: Lines) -> None:
    """A consumer takes them from it alone from then on, also those that have not changed since it last had the duty."""
    states = [order(), position(), balance(), margin()]
    for line in (0, 1, 0):
        answer(lines.give(line), *copy.deepcopy(states), open_orders=["1"])
    for channel in ("order", "position", "balance", "margin"):
        assert [len(account.of(channel)) for account in lines.accounts] == [2, 1]


@pytest.mark.parametrize("channel", ["order", "position", "balance", "margin"])
def test_line_without_the_duty_keeps_no_states_for_late_subscribers(lines: Lines, channel: str) -> None:
    answer(lines.accounts[0], order(), position(), balance(), margin(), open_orders=["1"])
    assert lines.accounts[0].publisher.latest(f"{channel}.{VENUE}.{ALIAS}")
    lines.give(1)
    assert lines.accounts[0].publisher.latest(f"{channel}.{VENUE}.{ALIAS}") == []


def test_duty_is_read_before_each_event(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    account = lines.accounts[0]
    send = account.publisher.send_latest

    def lose(*arguments: Any) -> bool:
        lines.words[0][WorkerWord.DUTY] = 0
        return send(*arguments)

    monkeypatch.setattr(account.publisher, "send_latest", lose)
    account.statement.apply_pushed([fill("1"), fill("2"), order()])
    assert [one.fill_id for one in account.of("fill")] == ["1"]
    assert account.of("order") == []
    assert [one.fill_id for one in lines.give(1).of("fill")] == []
    answer(lines.accounts[1], fill("1"), fill("2"))
    assert lines.fills() == [["1"], ["2"]]


def test_leg_whose_net_position_was_not_published_is_published_by_the_other_line(lines: Lines) -> None:
    legs = [Leg("long", position("3")), Leg("short", position("-1"))]
    lines.words[0][WorkerWord.DUTY] = 0
    lines.accounts[0].statement.apply_pushed(legs)
    assert lines.accounts[0].of("position") == []
    answer(lines.give(1), *legs)
    assert [one.size for one in lines.accounts[1].of("position")] == ["2"]


def test_file_of_fills_that_was_lost_is_written_by_the_line_with_the_duty(lines: Lines, tmp_path: Path) -> None:
    """The other one may not know the last ones."""
    lines.accounts[0].statement.apply_pushed([fill("1")])
    (tmp_path / "published").unlink()
    lines.accounts[1].statement.restore_published()
    assert not (tmp_path / "published").exists()
    lines.accounts[0].statement.restore_published()
    assert PublishedFills(tmp_path / "published", VENUE).load() == [("fill", "1:buy")]
