"""Decisions about what a process inherits, and their effect on a fork of the test process."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipc import start_directory
from ipc.errors import UsageError
from supervisor import process_state as module
from supervisor.process_state import (
    close_foreign_descriptors,
    controlling_terminal,
    discard,
    forget_service_manager,
    require_descriptors,
    reset_process_state,
    reset_signals,
)


@pytest.fixture
def in_fork(forking):
    return forking.in_fork


# --- who resets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("start", "--sim"), ("worker", "lighter"), ("sim",), ("replay", "{}", "--run-dir", "{}/x")], ids=str
)
def test_each_program_that_runs_for_long_resets_before_all_else(cli, monkeypatch, tmp_path, arguments):
    def refuse():
        raise UsageError("reset before anything")

    monkeypatch.setattr(module, "reset_process_state", refuse)
    (tmp_path / "raw.jsonl").touch()
    ran = cli(*(argument.format(tmp_path) for argument in arguments))
    assert (ran.code, ran.err) == (2, "paraphina-supervisor: reset before anything\n")


# --- signals ----------------------------------------------------------------------------------------------------------


def test_ignored_signals_become_default_and_none_is_blocked(in_fork):
    def scenario():
        numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)
        reset_signals()
        ignored = sorted(number for number in numbers if signal.getsignal(number) is signal.SIG_IGN)
        return [int(number) for number in ignored], signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()

    kept = [signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ]
    assert in_fork(scenario) == (kept, True)


def test_our_own_handlers_are_kept(in_fork):
    def scenario():
        signal.signal(signal.SIGTERM, handler := lambda *_: None)
        reset_signals()
        reset_signals()
        return signal.getsignal(signal.SIGTERM) is handler

    assert in_fork(scenario) is True


def test_a_child_that_dies_is_noticed_by_a_program_that_was_started_with_its_deaths_ignored(tmp_path):
    """The kernel would reap it, and its exit code would be lost."""
    program = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
    then = """
import os
from supervisor.process_state import reset_signals
reset_signals()
pid = os.fork()
if pid == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program, then], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"7\n", b"")


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_all_descriptors_but_the_standard_streams_are_closed(in_fork, forking, tmp_path):
    def scenario():
        for _ in range(50):
            os.open(os.devnull, os.O_RDONLY)
        kept = os.dup2(os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT), 2)
        close_foreign_descriptors()
        os.write(kept, json.dumps(sorted(forking.descriptors())).encode())
        os._exit(0)

    with pytest.raises(AssertionError, match="said nothing"):  # its pipe to the test is closed too
        in_fork(scenario)
    assert json.loads((tmp_path / "said").read_text()) == [0, 1, 2]


def test_nothing_tries_every_number_below_the_limit(monkeypatch):
    """Where the kernel has no close_range, 1,073,741,816 closes take minutes."""
    tried = []
    monkeypatch.setattr(os, "closerange", lambda first, end: tried.extend(range(first, end)))
    monkeypatch.setattr(os, "sysconf", lambda _: 1_073_741_816)
    monkeypatch.setattr(os, "listdir", lambda _: ["0", "1", "2", "5", "700"])
    close_foreign_descriptors()
    assert tried == [3, 5, 700]


def test_descriptors_are_closed_even_when_the_list_needs_the_last_one(in_fork, forking, tmp_path):
    def scenario():
        os.dup2(os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT), 2)
        last = max(forking.descriptors()) + 5
        resource.setrlimit(resource.RLIMIT_NOFILE, (last, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True:
                os.open(os.devnull, os.O_RDONLY)
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - in a fork
        close_foreign_descriptors()
        os.write(2, json.dumps(sorted(forking.descriptors())).encode())
        os._exit(0)

    with pytest.raises(AssertionError, match="said nothing"):
        in_fork(scenario)
    assert json.loads((tmp_path / "said").read_text()) == [0, 1, 2]


def test_without_proc_descriptors_are_left_alone(monkeypatch):
    def missing(_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "closerange", lambda *_: None)
    monkeypatch.setattr(os, "listdir", missing)
    close_foreign_descriptors()


@pytest.mark.parametrize("limit", [256, 1024, 65_536])
def test_a_limit_that_suffices(limit):
    require_descriptors(limit)


def test_a_limit_that_is_too_low_is_refused_with_advice():
    with pytest.raises(UsageError, match=r"^RLIMIT_NOFILE: the hard limit of 255 file descriptors .*LimitNOFILE="):
        require_descriptors(255)


# --- streams ----------------------------------------------------------------------------------------------------------

COMBINATIONS = [some for count in (1, 2, 3) for some in itertools.combinations(range(3), count)]


@pytest.mark.parametrize("closed", COMBINATIONS, ids=str)
def test_closed_streams_lead_nowhere(tmp_path, closed):
    """Output would go to a journal, lock or socket that took the number of a standard stream."""
    program = """
import os, sys
from supervisor import process_state
process_state.open_standard_streams()
print("for its reader", flush=True)
print("for its reader", file=sys.stderr, flush=True)
taken = os.open("taken", os.O_RDWR | os.O_CREAT)
os.write(taken, b"number %d" % taken)
"""
    starter = f"""
import os, sys
for number in {closed}:
    os.close(number)
os.execv(sys.executable, [sys.executable, "-c", {program!r}])
"""
    done = subprocess.run(
        [sys.executable, "-c", starter], cwd=tmp_path, timeout=60, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0
    assert (tmp_path / "taken").read_text() == "number 3"
    assert done.stdout == (b"" if 1 in closed else b"for its reader\n")
    assert done.stderr == (b"" if 2 in closed else b"for its reader\n")


def test_a_discarded_stream_does_not_fail_at_exit():
    """What its buffer holds cannot be written; Python would end with code 120."""
    program = """
import sys
from supervisor.process_state import discard
try:
    print("no room", flush=True)
except OSError:
    discard(sys.stdout)
sys.exit(7)
"""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")


def test_discarding_leaves_no_descriptor(in_fork, forking):
    def scenario():
        sys.stdout = os.fdopen(1, "w", closefd=False)
        before = forking.descriptors()
        discard(sys.stdout)
        return forking.descriptors() == before, str(Path("/proc/self/fd/1").readlink())

    assert in_fork(scenario) == (True, os.devnull)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_the_reset_may_be_repeated(in_fork, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "close_foreign_descriptors", lambda: None)  # the fork's pipe to the test

    def scenario():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        os.umask(0o777)
        os.chdir(tmp_path)
        seen = []
        for _ in range(2):
            reset_process_state()
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            ignored = signal.getsignal(signal.SIGTTOU) is signal.SIG_IGN
            seen.append((soft == min(hard, 65_536), ignored, str(Path.cwd()) == str(tmp_path)))
        return seen, os.umask(0)

    assert in_fork(scenario) == ([(True, True, True)] * 2, 0o077)


def test_a_removed_directory_is_left(in_fork, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "close_foreign_descriptors", lambda: None)

    def scenario():
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        reset_process_state()
        return str(Path.cwd()), start_directory.directory()

    assert in_fork(scenario) == ("/", "/")


def test_a_child_notifies_nobody_in_the_parents_place():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "LISTEN_FDS": "1", "HOME": "/"}
    forget_service_manager(environ)
    assert environ == {"HOME": "/"}


def test_a_terminal_that_is_not_the_controlling_one_does_not_count(in_fork):
    def scenario():
        os.setpgid(0, os.getpgid(os.getppid()))  # only a process that leads no group may found a session
        os.setsid()
        _, slave = os.openpty()  # Linux gives a session its terminal when it is opened: not with O_NOCTTY
        for number in range(3):
            os.dup2(slave, number)
        return os.isatty(0), controlling_terminal()

    assert in_fork(scenario) == (True, None)
