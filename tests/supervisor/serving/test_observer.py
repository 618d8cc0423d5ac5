"""Observer of the gateway: what it answers, and that no error ends it."""

from __future__ import annotations

import msgspec
import overviews
import pytest
from systems import wait_for

from ipc.errors import UnknownStateError
from ipc.rundir import RunDir
from supervisor.serving import observer as observing
from supervisor.serving.books import BookKey
from supervisor.serving.observer import Observer, is_configured


@pytest.fixture
def board(monkeypatch):
    """Status document that is read; an exception is raised instead."""

    class Board:
        status = overviews.system()
        reads = 0

    def read(_run_dir):
        Board.reads += 1
        if isinstance(Board.status, Exception):
            raise Board.status
        return Board.status

    monkeypatch.setattr(observing, "read_status", read)
    monkeypatch.setattr(observing, "_RESTORE_S", 0.2)
    monkeypatch.setattr(observing, "_STATUS_S", 0.0)
    return Board


@pytest.fixture
def logged(monkeypatch):
    """Errors that were logged."""
    lines = []
    monkeypatch.setattr(observing.log, "exception", lines.append)
    return lines


@pytest.fixture
def observer(tmp_path, board, logged):
    observer = Observer(RunDir(tmp_path))
    observer.start()
    yield observer
    observer.close()


def state(observer, book=None):
    return msgspec.json.decode(observer.state_json(book))


def seen(observer):
    """Return the state once there is one."""

    def read():
        try:
            return state(observer)
        except UnknownStateError:
            return None

    return wait_for(read)


def test_it_answers_with_the_overview(observer):
    shown = seen(observer)
    assert [venue["name"] for venue in shown["venues"]] == list(overviews.VENUES)
    assert shown["verdict"]["headline"] == "All 5 venues live"
    assert shown["book"] is None
    assert {"from", "to", "watched_since", "lanes"} == set(shown["hour"])


def test_a_book_is_opened_for_a_configured_market_alone(observer):
    seen(observer)
    assert state(observer, "lighter:BTC-PERP")["book"]["why"] == "the book is being opened"
    wait_for(lambda: state(observer, "lighter:BTC-PERP")["book"]["why"] == "waits for a snapshot")
    for name in ("lighter:DOGE-PERP", "binance:BTC-PERP", "lighter", "", ":", "lighter:BTC-PERP:"):
        assert state(observer, name)["book"]["why"] == "no such market here"


def test_before_the_first_state_it_says_that_nothing_is_known(tmp_path, board):
    board.status = UnknownStateError("the board is away")
    observer = Observer(RunDir(tmp_path))
    with pytest.raises(UnknownStateError, match="the board is away"):
        observer.state_json()
    observer.close()


def test_a_state_that_cannot_be_read_is_no_bug(observer, board, logged, monkeypatch):
    warnings = []
    monkeypatch.setattr(observing.log, "warning", lambda event, **fields: warnings.append((event, fields["error"])))
    seen(observer)
    board.status = UnknownStateError("the board is away")
    wait_for(lambda: state(observer)["verdict"]["level"] == "none")
    wait_for(lambda: warnings)
    assert (warnings, logged) == ([("observer.state_unknown", "the board is away")], [])


def test_an_error_is_shown_and_logged_once_and_observing_goes_on(observer, board, logged):
    seen(observer)
    fine = board.status
    board.status = ValueError("a bad byte")
    broken = wait_for(lambda: (shown := state(observer))["verdict"]["level"] == "none" and shown)
    assert broken["verdict"]["headline"] == "State unknown"
    assert "the gateway cannot read it (ValueError('a bad byte')) and tries again" in broken["verdict"]["detail"]
    assert "feeds go on" in broken["verdict"]["detail"]
    reads = board.reads
    wait_for(lambda: board.reads > reads and logged)
    assert logged == ["observer.failed"]
    board.status = fine
    wait_for(lambda: state(observer)["verdict"]["headline"] == "All 5 venues live")
    assert logged == ["observer.failed"]


def test_the_state_of_a_system_that_was_never_read_is_unknown_until_the_last_hour_is_there(tmp_path, board):
    observer = Observer(RunDir(tmp_path))
    with pytest.raises(UnknownStateError, match="starting"):
        observer.state_json()
    observer.close()


def test_what_is_exported_is_read_when_it_is_asked_for(observer, board, monkeypatch):
    monkeypatch.setattr(observing, "_STATUS_S", 60.0)
    seen(observer)
    monkeypatch.setattr(observing, "_RECORD_S", 60.0)
    wait_for(lambda: observer.observe(with_prices=False).status is observer._status)
    reads = board.reads
    for _ in range(3):
        assert observer.observe(with_prices=True)[2:] == ({}, {}), "prices are not followed yet"
    assert board.reads == reads
    monkeypatch.setattr(observing, "_STATUS_S", 0.0)
    observer.observe(with_prices=False)
    assert board.reads == reads + 1


def test_nothing_is_exported_of_a_state_that_cannot_be_read(observer, board):
    seen(observer)
    board.status = UnknownStateError("the board is away")
    with pytest.raises(UnknownStateError, match="the board is away"):
        observer.observe(with_prices=True)


def test_markets_are_those_with_a_book():
    status = overviews.system()
    assert is_configured(BookKey("lighter", "ETH-PERP"), status)
    assert not is_configured(BookKey("lighter", "eth-perp"), status)
    assert not is_configured(BookKey("gateway", "ETH-PERP"), status)


def test_what_a_venue_says_of_an_account_stays_in_the_terminal(observer, board):
    refused = overviews.stream("failed", reason="auth_failed", reason_ago_s=3.0)
    refused |= {"markets": {}, "account": "desk", "detail": "key 4711 of the fund is blocked"}
    board.status = overviews.system({"aster": overviews.venue(streams={"account": refused})})

    def served():
        seen(observer)
        text = observer.state_json().decode()
        return text if "rejected the credentials" in text else None

    text = wait_for(served)
    assert "aster needs you" in text
    assert "4711" not in text
    assert "desk" not in text
