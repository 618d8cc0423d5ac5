"""``logs``: the log of a background system."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from ipc.errors import NotRunningError, UsageError
from supervisor.verbs.options import json_option, open_run_dir, run_dir_option

_POLL_S: Final = 0.25


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="The last so many lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until interrupted.")
@click.option("--venue", metavar="VENUE", help="Only what concerns this venue.")
@json_option
@run_dir_option
def logs(lines: int, follow: bool, venue: str | None, as_json: bool, run_dir: str | None) -> int:
    """Show the log of a background system (`start --detach`).

    A foreground system logs to its standard error.
    """
    described = open_run_dir(run_dir).describe()
    wanted = partial(_is_about, _known(venue, described))
    with _open(described) as file:
        for line in deque(filter(wanted, _lines(file)), maxlen=lines):
            _show(line, as_json=as_json)
        if follow:
            for line in filter(wanted, _following(file)):
                _show(line, as_json=as_json)
    return 0


def _known(name: str | None, described: Mapping[str, Any]) -> str | None:
    """Reject a name that is not a process of this system: it would match no line."""
    names = [*(described.get("venues") or ()), "gateway", "simulator"]
    if name is not None and name not in names:
        raise UsageError(f"no process {name!r} here", where="--venue", advice=f"there are {', '.join(names)}")
    return name


def _open(described: Mapping[str, Any]) -> BinaryIO:
    path = described.get("log")
    if not isinstance(path, str):
        raise UsageError(
            f"the system with pid {described.get('pid')} writes its log to its own standard error",
            advice="look there, or start it with --detach",
        )
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise NotRunningError(f"its log cannot be read: {error.strerror}", where=path) from error


def _is_about(venue: str | None, line: str) -> bool:
    if venue is None:
        return True
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return isinstance(told, dict) and venue in {told.get("venue"), told.get("name")}


def _show(line: str, *, as_json: bool) -> None:
    from ipc.log import prettied

    sys.stdout.write(f"{line if as_json else prettied(line)}\n")
    sys.stdout.flush()


def _lines(file: BinaryIO) -> Iterator[str]:
    for line in file:
        yield line.decode("utf-8", "replace").rstrip("\n")


def _following(file: BinaryIO) -> Iterator[str]:
    """Yield lines as they are appended, until interrupted; start at the beginning of a rotated log."""
    rest = b""
    while True:
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)
            rest = b""
        *whole, rest = (rest + file.read()).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        if not whole:
            time.sleep(_POLL_S)
