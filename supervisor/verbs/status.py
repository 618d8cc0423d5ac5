"""``status``: the verdict on a system, a line for each venue, and why a stream is not as it should be."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from ipc.errors import NotRunningError
from supervisor.status.document import exit_code_of, pid_of, read_status
from supervisor.terminal.status_table import render
from supervisor.verbs.completion import complete_process
from supervisor.verbs.options import json_option, open_run_dir, print_json, run_dir_option

_WATCH_S: Final = 1.0
#: To the first place; the rest of a line, and of the screen, is erased after it was written, so nothing flickers.
_HOME: Final = "\x1b[H"
_LINE_END: Final = "\x1b[K"
_SCREEN_END: Final = "\x1b[J"


@click.command()
@json_option
@click.option("-v", "--streams", "all_streams", is_flag=True, help="Every stream of every venue, and the pids.")
@click.option("--watch", is_flag=True, help="Again every second, until interrupted.")
@click.option(
    "--pid",
    "pid_name",
    metavar="PROCESS",
    help="Print the pid of one venue's worker, or of the gateway.",
    shell_complete=complete_process,
)
@run_dir_option
@click.pass_context
def status(
    ctx: click.Context, as_json: bool, all_streams: bool, watch: bool, pid_name: str | None, run_dir: str | None
) -> int:
    """Show how the system is: the verdict, every venue, and why a stream is not as it should be.

    The first line says what is wrong, and whether you must act. Exit codes: 0 all live, 1 a required stream is not live
    or the supervisor is draining or stalled, 3 not running, 4 unknown.
    """
    directory = open_run_dir(run_dir)
    if pid_name is not None:
        state = read_status(directory)
        pid = pid_of(state, pid_name) if state["venues"] else None
        if pid is None:
            raise NotRunningError(f"{pid_name} is not running", where=str(directory.path))
        if as_json:
            print_json({"process": pid_name, "pid": pid})
        else:
            click.echo(pid)
        return 0
    is_redrawn = watch and not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    while True:
        state = read_status(directory)
        if as_json:
            print_json(state)
        elif is_redrawn:
            sys.stdout.write(_frame(state, all_streams=all_streams, is_plain=ctx.color is False))
            sys.stdout.flush()
        else:
            click.echo(render(state, all_streams=all_streams, width=_width()))
        if not watch:
            return exit_code_of(state)
        time.sleep(_WATCH_S)


def _width() -> int | None:
    """Return the columns of the terminal; None elsewhere: a program wants one line for each venue."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _frame(state: Mapping[str, Any], *, all_streams: bool, is_plain: bool) -> str:
    """Return what is written over the last frame, cut to the terminal; :func:`render` escapes its text.

    Not for ``click.echo``, which removes these codes as well where no colours are wanted.
    """
    columns, rows = shutil.get_terminal_size()
    lines = render(state, all_streams=all_streams, width=columns).split("\n")
    room, shown = rows - 1, []
    for line in lines:
        room -= max(1, -(-len(click.unstyle(line)) // columns))
        if room < 0:
            break
        shown.append(click.unstyle(line) if is_plain else line)
    return _HOME + "".join(f"{line}{_LINE_END}\n" for line in shown) + _SCREEN_END
