"""Temporary systems: their directories, and commands that end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from supervisor import bound, temporary
from supervisor.proc import is_alive
from supervisor.temporary import TemporarySystem

#: Starts a bound command that sleeps, and prints its pid.
_STARTER = """
import subprocess, sys, time
from supervisor.bound import bound_command
command = bound_command("sim", "--venues", "lighter")
print(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(run_dir, monkeypatch):
    """Directory of temporary systems."""
    place = run_dir.path.parent
    monkeypatch.setattr(temporary, "_PLACE", place)
    return lambda: sorted(path for path in place.iterdir() if path.name.startswith("paraphina-temporary-"))


def test_a_directory_is_private_and_removed_at_the_end(place):
    with TemporarySystem() as system:
        assert place() == [system.path]
        assert system.path.stat().st_mode & 0o777 == 0o700
        assert system.run_dir.path == system.path / "run"
        assert (system.has_ended, system.log_tail()) == (False, "")
    assert place() == []


def test_a_directory_whose_owner_lives_is_kept(place):
    with TemporarySystem() as first, TemporarySystem() as second:
        assert set(place()) == {first.path, second.path}


@pytest.fixture
def leftover(place, run_dir):
    """Directory whose owner was killed."""
    left = run_dir.path.parent / "paraphina-temporary-left"
    (left / "run").mkdir(parents=True)
    (left / "owner.lock").touch()
    return left


def test_a_directory_that_was_left_is_removed_by_the_next(place, leftover):
    with TemporarySystem() as system:
        assert place() == [system.path]


def test_a_directory_whose_system_still_runs_is_kept(place, leftover, start_holder):
    start_holder(leftover / "run" / "supervisor.lock")
    with TemporarySystem():
        assert leftover in place()


@pytest.mark.parametrize("name", ["paraphina-temporary-new", "paraphina-1000"])
def test_a_directory_without_the_lock_is_not_touched(place, run_dir, name):
    other = run_dir.path.parent / name
    other.mkdir()
    with TemporarySystem():
        assert other.exists()


def test_a_system_that_cannot_start_has_ended_and_its_log_says_why(place, forking):
    with TemporarySystem() as system:
        system.start("--venues", "binance")
        forking.wait_until(lambda: system.has_ended)
        assert "binance" in system.log_tail()


def test_a_bound_command_is_asked_to_stop_when_its_starter_is_killed(forking):
    starter = subprocess.Popen([sys.executable, "-c", _STARTER], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(starter.stdout.readline())
        forking.wait_until(lambda: is_alive(pid))
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    forking.wait_until(lambda: not is_alive(pid))


def test_a_bound_command_does_nothing_when_its_starter_is_gone_already(monkeypatch):
    ran = []
    monkeypatch.setattr(bound, "main", ran.append)
    monkeypatch.setattr(bound.ctypes, "CDLL", lambda _: type("Libc", (), {"prctl": lambda *_: 0}))
    bound.run([str(os.getppid()), "status"])
    assert ran == [["status"]]
    bound.run([str(os.getpid()), "status"])
    assert ran == [["status"]]


def test_the_signal_is_the_one_that_drains(monkeypatch):
    calls = []
    monkeypatch.setattr(bound, "main", lambda _: None)
    monkeypatch.setattr(
        bound.ctypes, "CDLL", lambda _: type("Libc", (), {"prctl": lambda *of: calls.append(of[-2:])})()
    )
    bound.run([str(os.getppid()), "status"])
    assert calls == [(1, signal.SIGTERM)]
