"""Options that several verbs share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ipc.errors import NotRunningError
from ipc.rundir import RunDir, default_path

__all__ = ["json_option", "open_run_dir", "require_running", "run_dir_option"]

run_dir_option = click.option(
    "--run-dir",
    envvar="PARAPHINA_RUN_DIR",
    metavar="DIR",
    help="The system's run directory.  [default: $XDG_RUNTIME_DIR/paraphina, else /dev/shm/paraphina-<uid>]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def open_run_dir(path: str | None) -> RunDir:
    """The run directory that a user means."""
    return RunDir(Path(path) if path else default_path(os.environ))


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
