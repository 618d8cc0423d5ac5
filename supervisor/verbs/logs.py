"""``logs``: the log of a background system."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from ipc.errors import NotRunningError, UsageError
from ipc.printable import printable
from ipc.rundir import RunDir
from supervisor.lock import holder_of
from supervisor.log_reader import LogReader, json_line
from supervisor.verbs.completion import complete_process
from supervisor.verbs.options import json_option, open_run_dir, run_dir_option

_POLL_S: Final = 0.25


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="The last so many lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until interrupted.")
@click.option("--venue", metavar="VENUE", help="Only what concerns this venue.", shell_complete=complete_process)
@json_option
@run_dir_option
def logs(lines: int, follow: bool, venue: str | None, as_json: bool, run_dir: str | None) -> int:
    """Show the log of a background system (`start --detach`).

    The log of a system that has ended is shown as well; a note on standard error says so. A foreground system logs to
    its standard error. With --json every line is a JSON object; the text of other lines is in `text` of `log.text`.
    """
    directory = open_run_dir(run_dir)
    described = directory.describe()
    wanted = partial(_is_about, _known(venue, described))
    reader = _open(described)
    with contextlib.closing(reader):
        note = _note(directory, reader)
        _say(note)
        written = reader.lines() if follow else chain(reader.lines(), reader.unfinished())
        for line in deque(filter(wanted, written), maxlen=lines):
            _show(line, as_json=as_json)
        if follow:
            for line in filter(wanted, _following(directory, reader, note)):
                _show(line, as_json=as_json)
    return 0


def _known(name: str | None, described: Mapping[str, Any]) -> str | None:
    """Reject a name that is not a process of this system: it would match no line."""
    names = [*(described.get("venues") or ()), "gateway", "simulator"]
    if name is not None and name not in names:
        raise UsageError(f"no process {name!r} here", where="--venue", advice=f"there are {', '.join(names)}")
    return name


def _open(described: Mapping[str, Any]) -> LogReader:
    path = described.get("log")
    if not isinstance(path, str):
        raise UsageError(
            f"the system with pid {described.get('pid')} writes its log to its own standard error",
            advice="look there, or start it with --detach",
        )
    try:
        return LogReader(Path(path))
    except OSError as error:
        raise NotRunningError(f"its log cannot be read: {error.strerror}", where=path) from error


def _note(directory: RunDir, reader: LogReader) -> str | None:
    """Return what a reader of these lines must know; None when the system runs and writes them."""
    if reader.is_removed:
        return f"{reader.path} was removed; what is shown are the lines of the removed file"
    if holder_of(directory.lock) is None:
        return f"no supervisor is running in {directory.path}; these are the lines of an earlier one"
    return None


def _say(note: str | None) -> None:
    if note is not None:
        click.echo(printable(f"paraphina-supervisor: {note}"), err=True)


def _is_about(venue: str | None, line: str) -> bool:
    if venue is None:
        return True
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and venue in {str(fields.get("venue")), str(fields.get("name"))}


def _show(line: str, *, as_json: bool) -> None:
    from ipc.log import prettied

    if as_json and not line.strip():
        return
    sys.stdout.write(f"{json_line(line) if as_json else prettied(line)}\n")
    sys.stdout.flush()


def _following(directory: RunDir, reader: LogReader, said: str | None) -> Iterator[str]:
    """Yield lines as they are appended, until interrupted: by this system and by those that follow it."""
    while True:
        yield from reader.lines()
        described = directory.describe()
        if described.get("log") != str(reader.path):
            yield from reader.unfinished()
            reader.close()
            reader = _open(described)
            continue
        note = _note(directory, reader)
        if note != said:
            _say(note)
            said = note
        time.sleep(_POLL_S)
