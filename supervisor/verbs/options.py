"""Options shared by several verbs."""

from __future__ import annotations

import math
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import click

from ipc.errors import NotRunningError, UsageError
from ipc.printable import printable_json
from ipc.rundir import RunDir, run_dir_of
from ipc.start_directory import absolute

run_dir_option = click.option(
    "--run-dir",
    envvar="PARAPHINA_RUN_DIR",
    metavar="DIR",
    help="The system's run directory.  [default: $XDG_RUNTIME_DIR/paraphina, else /dev/shm/paraphina-<uid>]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def print_json(value: Any) -> None:
    """Print plain data as one line of JSON whose every character a terminal shows."""
    import json

    print_json_text(json.dumps(value, default=str))


def print_json_text(text: str) -> None:
    """Print a JSON text, of one line, likewise."""
    click.echo(printable_json(text))


class FiniteRange(click.FloatRange):
    """Finite number within bounds; rejects ``inf`` and ``nan``, which click accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to work with", param, ctx)
        return number


def open_run_dir(path: str | None) -> RunDir:
    """Return the run directory given by option, environment or default."""
    return run_dir_of(path, os.environ)


def configured_run_dir(path: str | None) -> RunDir:
    """Return the configured run directory as an absolute path."""
    return RunDir(Path(absolute(str(run_dir_of(path, os.environ).path))))


def make_report_dir(path: str) -> Path:
    """Create the directory of a report now, so that a place that cannot be written fails before a long run.

    Raises:
        UsageError: It cannot be created or written.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise UsageError(what, where=path, advice="name a directory with --report") from error
    return directory


def end_as_interrupted() -> None:
    """Handle TERM and HUP like Ctrl-C, so that a temporary system is stopped as well."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


def require_running(directory: RunDir) -> None:
    """Refuse to continue unless a supervisor is running.

    Raises:
        NotRunningError: No supervisor runs there.
    """
    from supervisor.lock import holder_of

    if holder_of(directory.lock) is None:
        raise NotRunningError(
            "no supervisor is running here",
            where=str(directory.path),
            advice="start one with: paraphina-supervisor start",
        )
