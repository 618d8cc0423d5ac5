"""Tests see the same signals however their run was started: under nohup, in the background, by a careless parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)

#: Ignores and blocks a signal, becomes a run, and lets a program of the run send itself the signal.
BEFORE = """
import os, signal, sys
signal.signal({0}, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [{0}])
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
RUN = """
import os, signal, subprocess, sys
sys.path.insert(0, {1!r})
from inherited import reset_signals
reset_signals()
program = "import os, signal; os.kill(os.getpid(), {0}); signal.getsignal({0})"
print(subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode)
"""


def code_of_a_program_that_is_sent(number: int, *, is_ignored: bool) -> int:
    """The exit code of a program of a run whose parent ignored the signal, or did not."""
    run = RUN.format(int(number), str(SUPPORT))
    arguments = [BEFORE.format(int(number)), run] if is_ignored else [run]
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("number", IGNORED, ids=lambda number: number.name)
def test_programs_of_a_run_handle_a_signal_that_its_parent_ignored_and_blocked(number: signal.Signals) -> None:
    as_usual = code_of_a_program_that_is_sent(number, is_ignored=False)
    assert code_of_a_program_that_is_sent(number, is_ignored=True) == as_usual


def test_a_run_under_nohup_outlives_a_hangup() -> None:
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(SUPPORT)!r})
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from inherited import reset_signals
reset_signals()
os.kill(os.getpid(), signal.SIGHUP)
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"alive\n"
