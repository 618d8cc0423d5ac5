"""Options that several verbs share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ipc.rundir import RunDir, default_path

__all__ = ["json_option", "open_run_dir", "run_dir_option"]

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
