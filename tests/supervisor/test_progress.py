"""Progress bars: at a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from supervisor.progress import progress
with progress("drilling", 4, is_counted=True) as advance:
    for done in range(5):
        advance(done, "[red]lighter: kill")
        print("a line")
print("the end")
"""


def run(*, is_error_terminal, is_output_terminal=False, program=PROGRAM, **env):
    """Run a program at a terminal of 100 columns, or with pipes; return what reached each."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read():
        while True:
            try:
                data = os.read(master, 65_536)
            except OSError:
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "100", **env},
        stdin=subprocess.DEVNULL,
        stdout=slave if is_output_terminal else subprocess.PIPE,
        stderr=slave if is_error_terminal else subprocess.PIPE,
        timeout=60,
    )
    os.close(slave)
    reader.join(20)
    os.close(master)
    assert done.returncode == 0, (done.stderr, shown)
    return shown.decode(), (done.stdout or b"").decode(), (done.stderr or b"").decode()


def test_a_terminal_shows_what_is_done_and_the_output_stays_where_it_belongs():
    shown, out, _ = run(is_error_terminal=True)
    assert "0 of 4" in shown
    assert "[red]lighter: kill" in shown, "text is no markup"
    assert out == "a line\n" * 5 + "the end\n", "piped output is as without a bar"
    assert "a line" not in shown


def test_on_one_terminal_the_lines_stand_above_the_bar():
    shown, _, _ = run(is_error_terminal=True, is_output_terminal=True)
    assert shown.count("a line") == 5
    assert shown.count("the end") == 1


def test_no_color_means_no_color():
    coloured, _, _ = run(is_error_terminal=True)
    plain, _, _ = run(is_error_terminal=True, NO_COLOR="1")
    assert "\x1b[38;5;" in coloured or "\x1b[3" in coloured
    assert "drilling" in plain
    assert "\x1b[38;5;" not in plain


@pytest.mark.parametrize(
    ("is_terminal", "env"),
    [
        (False, {}),
        (True, {"CI": "true"}),
        (True, {"TERM": "dumb"}),
        (True, {"TERM": ""}),
        (False, {"FORCE_COLOR": "1"}),
    ],
    ids=["pipe", "ci", "dumb", "no terminal type", "forced colour in a pipe"],
)
def test_elsewhere_nothing_is_written(is_terminal, env):
    shown, out, err = run(is_error_terminal=is_terminal, **env)
    assert (shown, err) == ("", "")
    assert out == "a line\n" * 5 + "the end\n"


def test_without_a_terminal_rich_is_not_imported():
    program = (
        "import sys\nfrom supervisor.progress import progress\nwith progress('x') as advance:\n    advance(1.0, '')\n"
    )
    program += "print('rich' in sys.modules)"
    assert run(is_error_terminal=False, program=program)[1] == "False\n"


def test_threads_may_report_at_once():
    program = """
from concurrent.futures import ThreadPoolExecutor
from supervisor.progress import progress
with progress("x", 800, is_counted=True) as advance, ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda done: advance(done, "y" * done), range(800)))
"""
    shown, _, _ = run(is_error_terminal=True, program=program)
    assert "of 800" in shown


def test_an_error_ends_the_bar_and_is_not_swallowed():
    program = """
from supervisor.progress import progress
try:
    with progress("x") as advance:
        advance(0.5, "")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted")
"""
    shown, out, _ = run(is_error_terminal=True, program=program)
    assert out == "interrupted\n"
    assert shown.rstrip().endswith(("\x1b[?25h", "\x1b[2K")) or "\x1b[?25h" in shown, "the cursor is back"
