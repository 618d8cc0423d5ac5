"""Progress bars: at a terminal, and nowhere else."""

from __future__ import annotations

import pytest
from terminals import at_terminal

PROGRAM = """
from supervisor.progress import progress
with progress("drilling", 4, is_counted=True) as advance:
    for done in range(5):
        advance(done, "[red]lighter: kill")
        print("a line")
print("the end")
"""


def run(program=PROGRAM, **more):
    """Run a program; return what it showed at the terminal and wrote to each pipe."""
    shown, out, err, code = at_terminal(["-c", program], **more)
    assert code == 0, (err, shown)
    return shown, out, err


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
