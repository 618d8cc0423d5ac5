"""``stop`` and ``restart``: over the control socket, or by signal when the parent does not answer there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

import click

from ipc.control import ControlRequest, ask
from ipc.errors import NotRunningError, ParaphinaError
from supervisor.lock import holder_of
from supervisor.verbs.options import open_run_dir, run_dir_option

_STOP_S: Final = 15.0


@click.command()
@run_dir_option
def stop(run_dir: str | None) -> int:
    """Stop a running system, and wait until it is gone."""
    directory = open_run_dir(run_dir)
    holder = holder_of(directory.lock)
    if holder is None:
        raise NotRunningError("no supervisor is running here", where=str(directory.path))
    try:
        ask(directory.control, ControlRequest("stop"))
    except ParaphinaError:
        if holder.pid is None:
            raise
        # The socket is gone or does not answer; the locks still name the parent's pid.
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while holder_of(directory.lock) == holder:
        if time.monotonic() > deadline:
            raise ParaphinaError(
                f"it is still running after {_STOP_S:g} s",
                where=str(holder),
                advice=f"look at its log, or end it with: kill -9 {holder.pid}" if holder.pid else "look at its log",
            )
        time.sleep(0.02)
    click.echo("stopped")
    return 0


@click.command()
@click.argument("venue", required=False)
@run_dir_option
def restart(venue: str | None, run_dir: str | None) -> int:
    """Restart the worker of VENUE, or all workers; not counted as a failure."""
    ask(open_run_dir(run_dir).control, ControlRequest("restart", target=venue))
    click.echo(f"{venue or 'all workers'}: restarting")
    return 0
