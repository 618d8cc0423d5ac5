"""Witness: a book that stands still while the other line's moves, and never one that is quiet on both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.board import Board, CellWord, WorkerWord
from ipc.health import Reason, Stream, StreamState, code_of
from workers.witness import Witness, WitnessedBook, still_ns

NS = 1_000_000_000
MS = 1_000_000
OWN, PEER = 2, 7


class Stage:
    """Two lines' books on a board; a check every 200 ms."""

    def __init__(self, symbols=("BTC-PERP", "ETH-PERP"), peer_symbols=None):
        self.board = Board.in_memory()
        self.now = 1_000 * NS
        self.symbols = symbols
        self.peer_symbols = peer_symbols or symbols
        self.board.assign_markets(OWN, symbols)
        self.start_peer(self.peer_symbols)
        self.reports = []
        self.books = [
            WitnessedBook(self.own(symbol), lambda at, symbol=symbol: self.reports.append((symbol, at)))
            for symbol in symbols
        ]
        self.witness = Witness(self.board, PEER, 2 * NS)
        for symbol in symbols:
            self.set_state(self.own(symbol), StreamState.LIVE)
            self.move(symbol, OWN)

    def start_peer(self, symbols):
        self.peer_symbols = symbols
        self.board.clear_worker(PEER, 256)
        self.board.worker(PEER)[WorkerWord.EPOCH] = self.now
        self.board.assign_markets(PEER, symbols)
        for symbol in symbols:
            self.set_state(self.peer(symbol), StreamState.LIVE)
            self.move(symbol, PEER)

    def own(self, symbol):
        return self.board.cell(OWN, self.symbols.index(symbol), Stream.BOOK)

    def peer(self, symbol):
        return self.board.cell(PEER, self.peer_symbols.index(symbol), Stream.BOOK)

    def move(self, symbol, *slots):
        for slot in slots:
            cell = self.own(symbol) if slot == OWN else self.peer(symbol)
            cell[CellWord.LAST_PUBLISHED] = cell[CellWord.LAST_GOOD] = self.now

    @staticmethod
    def set_state(cell, state, reason=None):
        cell[CellWord.STATE], cell[CellWord.REASON] = code_of(state), code_of(reason)

    def pass_time(self, seconds, moves=(), every_s=0.1):
        """Let time pass in which books move, as (symbol, slots) pairs; return whether the session stands still."""
        end, due = self.now + round(seconds * NS), self.now
        stands_still = False
        while self.now < end:
            self.now += 100 * MS
            if self.now >= due:
                due += round(every_s * NS)
                for symbol, *slots in moves:
                    self.move(symbol, *slots)
            if self.now // (100 * MS) % 2 == 0:
                stands_still = self.witness.check(self.books, self.now) or stands_still
        return stands_still

    @property
    def reported(self):
        return [symbol for symbol, _ in self.reports]


@pytest.fixture
def stage():
    stage = Stage()
    stage.pass_time(1)
    return stage


def test_book_that_stands_still_while_the_other_lines_moves_is_reported_after_two_seconds(stage):
    stage.pass_time(2, [("BTC-PERP", PEER)])
    assert stage.reports == []
    stage.pass_time(0.6, [("BTC-PERP", PEER)])
    assert stage.reported == ["BTC-PERP"]


def test_report_names_the_last_publication_so_that_a_later_one_voids_it(stage):
    at = stage.own("BTC-PERP")[CellWord.LAST_PUBLISHED]
    stage.pass_time(3, [("BTC-PERP", PEER)])
    assert stage.reports == [("BTC-PERP", at)]


def test_it_is_reported_again_after_as_long_again(stage):
    stage.pass_time(10, [("BTC-PERP", PEER)])
    assert len(stage.reports) in {4, 5}


@pytest.mark.parametrize("slots", [(), (OWN,), (OWN, PEER)])
def test_book_that_moves_here_or_is_quiet_on_both_lines_is_not(stage, slots):
    stage.pass_time(120, [(symbol, *slots) for symbol in stage.symbols])
    assert stage.reports == []


def test_one_publication_of_the_other_line_is_no_movement(stage):
    """It may have been renewed there: a snapshot every minute, or after a new subscription."""
    stage.move("BTC-PERP", PEER)
    stage.pass_time(60)
    assert stage.reports == []


def test_two_changes_that_never_arrive_here_are_enough(stage):
    stage.move("BTC-PERP", PEER)
    stage.pass_time(0.4)
    stage.move("BTC-PERP", PEER)
    stage.pass_time(3)
    assert stage.reported == ["BTC-PERP"]


def test_first_changes_after_a_quiet_while_are_waited_for_as_any_others(stage):
    """The time since which a book stands still begins with the market's movement, not with its own last change."""
    stage.pass_time(60)
    stage.pass_time(1.5, [("BTC-PERP", PEER)])
    stage.move("BTC-PERP", OWN)
    stage.pass_time(1.5, [("BTC-PERP", PEER)])
    assert stage.reports == []


def test_slow_line_is_late_but_does_not_stand_still(stage):
    stage.pass_time(60, [("BTC-PERP", PEER, OWN)], every_s=1.8)
    assert stage.reports == []


def test_limit_of_a_slow_book_is_four_cadences():
    assert [still_ns(cadence_s) for cadence_s in (None, 0.1, 0.5, 5.0)] == [2 * NS, 2 * NS, 2 * NS, 20 * NS]


@pytest.mark.parametrize("word", [CellWord.RECONNECTS, CellWord.GAPS])
def test_other_line_that_loses_its_book_again_and_again_shows_nothing(stage, word):
    """Each of its snapshots is a publication of a market that may be quiet."""
    for _ in range(20):
        stage.peer("BTC-PERP").add(word)
        stage.move("BTC-PERP", PEER)
        stage.pass_time(1)
    assert stage.reports == []


@pytest.mark.parametrize("state", [StreamState.CONNECTING, StreamState.RESYNC, StreamState.STALE, StreamState.REST])
def test_other_line_without_a_live_book_shows_nothing(stage, state):
    stage.set_state(stage.peer("BTC-PERP"), state)
    stage.pass_time(10, [("BTC-PERP", PEER)])
    assert stage.reports == []


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (StreamState.QUIET, None, ["BTC-PERP"]),
        (StreamState.STALE, Reason.STALE_WATCHDOG, ["BTC-PERP"]),
        (StreamState.RESYNC, Reason.SOFT_RESYNC, ["BTC-PERP"]),
        (StreamState.RESYNC, Reason.SEQ_GAP, []),
        (StreamState.CONNECTING, None, []),
        (StreamState.BACKOFF, None, []),
        (StreamState.FAILED, Reason.NO_BOOK, []),
    ],
)
def test_book_that_its_session_is_recovering_is_left_to_it(stage, state, reason, expected):
    stage.set_state(stage.own("BTC-PERP"), state, reason)
    stage.pass_time(2.8, [("BTC-PERP", PEER)])
    assert stage.reported == expected


def test_book_that_has_published_nothing_on_this_connection_is_not_judged(stage):
    stage.own("BTC-PERP")[CellWord.LAST_PUBLISHED] = 0
    stage.pass_time(10, [("BTC-PERP", PEER)])
    assert stage.reports == []


def test_line_that_stood_itself_judges_nobody_at_once(stage):
    """A stopped process finds the other line's stamps new and its own old."""
    stage.now += 30 * NS
    stage.move("BTC-PERP", PEER)
    stage.pass_time(0.4, [("BTC-PERP", PEER)])
    stage.pass_time(10, [("BTC-PERP", OWN, PEER)])
    assert stage.reports == []


# --- which book is which ----------------------------------------------------------------------------------------------


def test_markets_are_matched_by_name():
    stage = Stage(("BTC-PERP", "ETH-PERP"), ("SOL-PERP", "ETH-PERP", "BTC-PERP"))
    stage.pass_time(1)
    stage.pass_time(3, [("ETH-PERP", PEER), ("SOL-PERP", PEER), ("BTC-PERP", PEER, OWN)])
    assert stage.reported == ["ETH-PERP"]


def test_other_line_that_restarts_with_other_markets_is_matched_again(stage):
    stage.start_peer(("ETH-PERP", "BTC-PERP"))
    stage.pass_time(5, [("BTC-PERP", PEER, OWN), ("ETH-PERP", PEER, OWN)])
    assert stage.reports == []
    stage.pass_time(3, [("BTC-PERP", PEER), ("ETH-PERP", PEER, OWN)])
    assert stage.reported == ["BTC-PERP"]


def test_market_that_the_other_line_does_not_follow_is_not_judged():
    stage = Stage(("BTC-PERP", "ETH-PERP"), ("BTC-PERP",))
    stage.pass_time(10, [("BTC-PERP", PEER)])
    assert set(stage.reported) == {"BTC-PERP"}


def test_line_whose_other_does_not_run_judges_nothing(stage):
    stage.board.worker(PEER)[WorkerWord.EPOCH] = 0
    stage.pass_time(10, [("BTC-PERP", PEER)])
    assert stage.reports == []


# --- a whole session --------------------------------------------------------------------------------------------------


@pytest.fixture
def wide():
    stage = Stage(tuple(f"M{number}-PERP" for number in range(20)))
    stage.pass_time(1)
    return stage


def test_session_of_which_many_books_stand_still_is_judged_as_one_after_twice_the_time(wide):
    """To subscribe each again would cost the address's messages, and help nothing."""
    moves = [(symbol, PEER) for symbol in wide.symbols]
    assert not wide.pass_time(4, moves)
    assert wide.pass_time(0.6, moves)
    assert wide.reports == []


def test_few_of_many_books_are_judged_one_by_one(wide):
    still = wide.symbols[:4]
    moves = [(symbol, PEER) if symbol in still else (symbol, OWN, PEER) for symbol in wide.symbols]
    assert not wide.pass_time(3, moves)
    assert wide.reported == list(still)


@given(
    pauses=st.lists(st.floats(0.05, 8), min_size=1, max_size=30),
    delay_ms=st.integers(0, 700),
)
def test_healthy_lines_are_never_judged_however_quiet_the_market(pauses, delay_ms):
    """Every change arrives on both lines, here up to a cadence later."""
    stage = Stage(("BTC-PERP",))
    changes, at = [], stage.now
    for pause_s in pauses:
        at += round(pause_s * NS)
        changes.append(at)
    while stage.now < at + 5 * NS:
        stage.now += 200 * MS
        for slot, lag in ((PEER, 0), (OWN, delay_ms * MS)):
            arrived = [change + lag for change in changes if change + lag <= stage.now]
            cell = stage.own("BTC-PERP") if slot == OWN else stage.peer("BTC-PERP")
            if arrived:
                cell[CellWord.LAST_PUBLISHED] = arrived[-1]
        assert not stage.witness.check(stage.books, stage.now)
    assert stage.reports == []
