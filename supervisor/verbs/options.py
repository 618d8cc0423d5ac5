"""Options that several verbs share."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import click

from ipc.errors import NotRunningError
from ipc.rundir import RunDir, run_dir_of

__all__ = [
    "FiniteRange",
    "configured_run_dir",
    "end_as_interrupted",
    "json_option",
    "open_run_dir",
    "require_running",
    "run_dir_option",
]

run_dir_option = click.option(
    "--run-dir",
    envvar="PARAPHINA_RUN_DIR",
    metavar="DIR",
    help="The system's run directory.  [default: $XDG_RUNTIME_DIR/paraphina, else /dev/shm/paraphina-<uid>]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


class FiniteRange(click.FloatRange):
    """A number within bounds; ``nan``, which is within any for click, and ``inf`` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to work with", param, ctx)
        return number


def open_run_dir(path: str | None) -> RunDir:
    """The run directory that a user means."""
    return run_dir_of(path, os.environ)


def configured_run_dir(path: str | None) -> RunDir:
    """The run directory of a configuration, which holds wherever its processes go."""
    return run_dir_of(Path(path).absolute() if path else None, os.environ)


def end_as_interrupted() -> None:
    """TERM and a terminal that closes do as Ctrl-C does, so that a system started for the purpose is ended as well."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


def require_running(directory: RunDir) -> None:
    """Go on only where a supervisor is running.

    Raises:
        NotRunningError: None is.
    """
    from supervisor.lock import holder_of

    if holder_of(directory.lock) is None:
        raise NotRunningError(
            "no supervisor is running here",
            where=str(directory.path),
            advice="start one with: paraphina-supervisor start",
        )
