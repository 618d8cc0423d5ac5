"""Notes while a verb waits."""

from __future__ import annotations

import pytest

from ipc.errors import FeedError, NotRunningError
from supervisor.verbs import waiting
from supervisor.verbs.waiting import Waiting, failed_wait, state_of


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def state(monkeypatch):
    """State of the supervisor, to be changed by the test."""
    state = {"supervisor": {"state": "running"}}
    monkeypatch.setattr("supervisor.status.document.read_status", lambda _: state)
    return state["supervisor"]


@pytest.fixture
def wait(run_dir, clock, state):
    return Waiting(run_dir, "trade.\x1b[2J", clock)


def test_a_silence_is_reported_once(wait, clock, capsys):
    wait.check()
    clock.now += 4.9
    wait.check()
    assert capsys.readouterr().err == ""
    clock.now += 0.2
    wait.check()
    assert capsys.readouterr().err == "waiting for trade.\\x1b[2J (5 s; supervisor: running)\n"
    clock.now += 100
    wait.check()
    assert capsys.readouterr().err == ""


def test_a_change_of_the_system_is_reported(wait, clock, capsys, state):
    clock.now += 6
    wait.check()
    state["state"] = "dead"
    wait.check()
    clock.now += 2
    wait.check()
    assert capsys.readouterr().err.splitlines()[-1].endswith("(8 s; supervisor: dead)")


def test_an_event_ends_the_silence(wait, clock, capsys):
    clock.now += 4
    wait.has_come()
    clock.now += 4
    wait.check()
    assert capsys.readouterr().err == ""
    clock.now += 2
    wait.check()
    assert "(6 s;" in capsys.readouterr().err


def test_at_a_terminal_the_first_note_comes_soon(run_dir, clock, state, capsys, monkeypatch):
    monkeypatch.setattr(waiting.sys.stderr, "isatty", lambda: True)
    wait = Waiting(run_dir, "books", clock)
    clock.now += 1.1
    wait.check()
    assert capsys.readouterr().err == "waiting for books (1 s; supervisor: running)\n"


ADVICE = "(see why with: paraphina-supervisor status)"


@pytest.mark.parametrize(
    ("word", "text"), [("running", f"x: no book {ADVICE}"), ("stalled", f"x: no book (supervisor: stalled) {ADVICE}")]
)
def test_the_error_of_a_wait_in_vain_names_the_state(run_dir, state, held_lock, word, text):
    state["state"] = word
    error = failed_wait(run_dir, "no book", "x")
    assert (type(error), error.exit_code, str(error)) == (FeedError, 1, text)


def test_the_error_of_a_wait_in_vain_says_that_the_system_ended(run_dir):
    error = failed_wait(run_dir, "no book", "x")
    assert (type(error), error.exit_code) == (NotRunningError, 3)
    assert str(error) == "x: no book: no supervisor is running any more"


def test_a_state_that_cannot_be_read_is_said(run_dir):
    assert state_of(run_dir) == "none"
    run_dir.description.write_text("not json")
    assert "cannot be read" in state_of(run_dir)
