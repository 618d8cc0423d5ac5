"""Telling of state: the board, the bus and the log say the same of a stream, and one event speaks for many markets."""

from __future__ import annotations

import os

import pytest
from fake_publisher import FakePublisher
from fake_venue import subscription

from ipc.board import Board, CellWord
from ipc.health import Reason, Stream, StreamState, code_of
from workers import status as reports
from workers.protocol.actions import StateChanged
from workers.protocol.streams import MarketStream
from workers.status import StatusPublisher
from workers.venues.listing import Listing

NS = 1_000_000_000
TOPIC = "status.lighter"
SYMBOLS = ("BTC-PERP", "ETH-PERP", "SOL-PERP")


@pytest.fixture
def board(tmp_path):
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def publisher():
    return FakePublisher()


@pytest.fixture
def reporter(board, publisher, clock, monkeypatch):
    monkeypatch.setattr(reports, "time", clock)
    return StatusPublisher("lighter", board, publisher)


@pytest.fixture
def routes(board):
    """Three markets' books, whose cells are the first three."""
    made = []
    for index, symbol in enumerate(SYMBOLS):
        listing = Listing(symbol.removesuffix("-PERP"), symbol, symbol)
        route = MarketStream(Stream.BOOK, listing, subscription(symbol, Stream.BOOK), None)
        route.cell_offset = board.cell(0, index, Stream.BOOK).at
        made.append(route)
    return made


def change(route, state, reason=None, applied_ns=0):
    previous, route.state, route.reason, route.applied_ns = route.state, state, reason, applied_ns
    return StateChanged(route, previous)


def test_change_is_on_the_board_and_on_the_bus(reporter, routes, board, publisher, clock):
    reported = change(routes[0], StreamState.RESYNC, Reason.SEQ_GAP, clock.now_ns - 250_000_000)
    reporter.changed([reported], attempt=3, backoff_s=1.5)
    cell = board.cell(0, 0, Stream.BOOK)
    assert cell[CellWord.STATE] == code_of(StreamState.RESYNC)
    assert cell[CellWord.REASON] == code_of(Reason.SEQ_GAP)
    assert cell[CellWord.SINCE] == clock.now_ns
    (event,) = publisher.of(TOPIC)
    assert (event.venue, event.symbol, event.stream) == ("lighter", "BTC-PERP", Stream.BOOK)
    assert (event.state, event.previous, event.reason) == (StreamState.RESYNC, StreamState.OFF, Reason.SEQ_GAP)
    assert (event.attempt, event.backoff_s, event.pid) == (3, 1.5, os.getpid())
    assert event.ages_ms == {"BTC-PERP": 250}
    assert (event.recv_ns, event.recv_mono_ns) == (clock.time_ns(), clock.now_ns)


def test_reason_has_the_time_at_which_it_occurred(reporter, routes, board, clock):
    cell = board.cell(0, 0, Stream.BOOK)

    def report(state, reason):
        clock.advance(60)
        reporter.changed([change(routes[0], state, reason)], attempt=1, backoff_s=None)
        return round((clock.now_ns - cell[CellWord.REASON_AT]) / NS) if cell[CellWord.REASON_AT] else None

    assert report(StreamState.CONNECTING, None) is None
    assert report(StreamState.BACKOFF, Reason.SERVER_CLOSE) == 0
    assert report(StreamState.CONNECTING, Reason.SERVER_CLOSE) == 60
    assert report(StreamState.LIVE, Reason.SERVER_CLOSE) == 120
    assert report(StreamState.QUIET, Reason.SERVER_CLOSE) == 180
    assert report(StreamState.RESYNC, Reason.SERVER_CLOSE) == 0, "it has occurred again"
    assert report(StreamState.LIVE, Reason.CROSSED_BOOK) == 0, "another one"
    assert report(StreamState.LIVE, None) == 60
    assert cell[CellWord.REASON] == code_of(Reason.CROSSED_BOOK)


def test_market_that_never_had_data_has_no_age(reporter, routes, publisher):
    reporter.changed([change(routes[0], StreamState.CONNECTING)], attempt=1, backoff_s=None)
    assert publisher.of(TOPIC)[0].ages_ms == {"BTC-PERP": None}


def test_markets_that_change_alike_are_reported_of_in_one_event(reporter, routes, publisher):
    alike = [change(route, StreamState.BACKOFF, Reason.SERVER_CLOSE) for route in routes]
    reporter.changed(alike, attempt=1, backoff_s=1.0)
    (event,) = publisher.of(TOPIC)
    assert event.symbol is None
    assert set(event.ages_ms) == set(SYMBOLS)


def test_markets_that_change_differently_are_reported_apart(reporter, routes, publisher):
    changes = [
        change(routes[0], StreamState.LIVE),
        change(routes[1], StreamState.STALE, Reason.STALE_WATCHDOG),
        change(routes[2], StreamState.LIVE, Reason.SEQ_GAP),
    ]
    reporter.changed(changes, attempt=1, backoff_s=None)
    assert {(event.symbol, event.state) for event in publisher.of(TOPIC)} == {
        ("BTC-PERP", StreamState.LIVE),
        ("ETH-PERP", StreamState.STALE),
        ("SOL-PERP", StreamState.LIVE),
    }


def test_of_several_changes_of_a_market_the_last_is_reported(reporter, routes, publisher):
    changes = [change(routes[0], state) for state in (StreamState.RESYNC, StreamState.LIVE)]
    reporter.changed(changes, attempt=1, backoff_s=None)
    assert [event.state for event in publisher.of(TOPIC)] == [StreamState.LIVE]


def test_nothing_changed_nothing_reported(reporter, publisher):
    reporter.changed([], attempt=1, backoff_s=None)
    assert publisher.sent == []


@pytest.mark.parametrize(
    ("state", "reported"),
    [
        (StreamState.STALE, "stream.stale"),
        (StreamState.QUIET, "stream.quiet"),
        (StreamState.RESYNC, "stream.resync"),
        (StreamState.FAILED, "stream.failed"),
    ],
)
def test_what_an_operator_should_know_is_in_the_log(reporter, routes, events, state, reported):
    reporter.changed([change(route, state, Reason.SEQ_GAP) for route in routes[:2]], attempt=1, backoff_s=None)
    (fields,) = events(reported)
    assert fields["symbol"] == "BTC-PERP,ETH-PERP"
    assert (fields["stream"], fields["reason"]) == (Stream.BOOK, Reason.SEQ_GAP)


@pytest.mark.parametrize("state", [StreamState.CONNECTING, StreamState.SUBSCRIBED, StreamState.LIVE])
def test_what_goes_well_is_not_in_the_log(reporter, routes, caplog, state):
    caplog.set_level("DEBUG")
    reporter.changed([change(routes[0], state)], attempt=1, backoff_s=None)
    assert caplog.records == []


def test_late_subscribers_are_reported_the_last_state_of_every_stream(reporter, routes, publisher):
    reporter.changed([change(routes[0], StreamState.STALE, Reason.STALE_WATCHDOG)], attempt=1, backoff_s=None)
    reporter.changed([change(routes[0], StreamState.LIVE)], attempt=1, backoff_s=None)
    assert [event.state for event in publisher.latest(TOPIC)] == [StreamState.LIVE]


def test_late_subscriber_is_not_left_with_an_older_state_of_a_market(reporter, routes, publisher):
    reporter.changed([change(route, StreamState.CONNECTING) for route in routes], attempt=1, backoff_s=None)
    reporter.changed([change(routes[0], StreamState.STALE, Reason.STALE_WATCHDOG)], attempt=1, backoff_s=None)
    reporter.changed([change(route, StreamState.LIVE) for route in routes], attempt=1, backoff_s=None)
    states = {}
    for event in publisher.latest(TOPIC):
        states.update(dict.fromkeys(event.ages_ms, event.state))
    assert states["BTC-PERP"] is StreamState.LIVE
