"""``top``: the verdict, every venue, what happened, and prices on all venues, redrawn until you quit."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from ipc.errors import NotRunningError, UsageError
from supervisor.verbs.completion import complete_symbol
from supervisor.verbs.options import json_option, open_run_dir, print_json_text, require_running, run_dir_option
from supervisor.verbs.waiting import Waiting, is_gone

if TYPE_CHECKING:
    from supervisor.overview.document import Overview
    from supervisor.terminal.watcher import Watcher

#: Longest wait for the first prices, and least time for a rate.
_FIRST_S: Final = 5.0
_RATE_S: Final = 1.2
_TURN_S: Final = 0.2
#: A pipe has no width, and a truncated price is a wrong price.
_PIPE_COLUMNS: Final = 140


@click.command()
@click.option(
    "--symbol",
    "symbols",
    multiple=True,
    metavar="SYMBOL",
    help="Only this market; may be repeated.",
    shell_complete=complete_symbol,
)
@click.option("--once", is_flag=True, help="Show it once and end.")
@json_option
@run_dir_option
def top(symbols: tuple[str, ...], once: bool, as_json: bool, run_dir: str | None) -> int:
    """Show the verdict, every venue, what happened, and prices and funding on all venues.

    Redrawn twice a second; `?` lists the keys, `q` quits. Printed once when the output is not a terminal. It needs no
    gateway and goes on when the supervisor ends. With --json, the document of the page. Exit code 3 when no supervisor
    is running.
    """
    from supervisor.status.document import symbols_of
    from supervisor.terminal.live import show_once, watch
    from supervisor.terminal.watcher import Watcher

    directory = open_run_dir(run_dir)
    require_running(directory)
    known = sorted({symbol for of in symbols_of(directory).values() for symbol in of})
    for unknown in set(symbols) - set(known):
        raise UsageError(f"no venue has {unknown!r} here", advice=f"there are {', '.join(known)}")
    is_once = once or as_json or not _can_redraw()
    with Watcher(directory, symbols) as watcher:
        if not is_once:
            watch(watcher, directory)
        else:
            overview = _first(watcher, Waiting(directory, "prices"))
            if as_json:
                print_json_text(_as_json(overview))
            else:
                show_once(overview, None if sys.stdout.isatty() else _PIPE_COLUMNS)
    return NotRunningError.exit_code if is_gone(directory) else 0


def _can_redraw() -> bool:
    """Return whether the terminal supports control sequences; without them nothing would appear."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


def _first(watcher: Watcher, waiting: Waiting) -> Overview:
    """Return the overview once rates are known and every usable book has its prices, or the wait is over."""
    began = time.monotonic()
    while True:
        overview = watcher.overview()
        is_complete = not any(row.why is None and row.age_s is None for of in overview.prices for row in of.rows)
        waited_s = time.monotonic() - began
        if waited_s > _FIRST_S or (is_complete and waited_s > min(_RATE_S, _FIRST_S)):
            return overview
        watcher.drain(_TURN_S)
        waiting.check()


def _as_json(overview: Overview) -> str:
    import msgspec

    return msgspec.json.encode(overview).decode()
