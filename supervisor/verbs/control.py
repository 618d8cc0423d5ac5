"""``stop`` and ``restart``: over the control socket, or by signal when the parent does not answer there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import click

from ipc.control import ControlRequest, ask
from ipc.errors import NotRunningError, ParaphinaError, UnknownStateError
from supervisor.lock import holder_of
from supervisor.verbs.options import open_run_dir, run_dir_option

_STOP_S: Final = 15.0


@click.command()
@run_dir_option
def stop(run_dir: str | None) -> int:
    """Stop a running system, and wait until it is gone."""
    directory = open_run_dir(run_dir)
    pid = holder_of(directory.lock)
    if pid is None:
        raise NotRunningError("no supervisor is running here", where=str(directory.path))
    try:
        ask(directory.control, ControlRequest("stop"))
    except ParaphinaError:
        _terminate(directory.lock, pid)  # the socket is gone or does not answer
    deadline = time.monotonic() + _STOP_S
    while holder_of(directory.lock) == pid:
        if time.monotonic() > deadline:
            raise ParaphinaError(
                f"it is still running after {_STOP_S:g} s",
                where=f"pid {pid}",
                advice=f"look at its log, or end it with: kill -9 {pid}",
            )
        time.sleep(0.02)
    click.echo("stopped")
    return 0


def _terminate(lock: Path, pid: int) -> None:
    """Send SIGTERM to the process that holds the lock, and to no other.

    Raises:
        UnknownStateError: It runs in another PID namespace, or the kernel refuses the signal.
    """
    if not pid:
        raise UnknownStateError(
            "it runs in another PID namespace and does not answer on its control socket",
            where=str(lock.parent),
            advice="stop its container, or run this in it",
        )
    try:
        pidfd = os.pidfd_open(pid)
        try:
            if holder_of(lock) == pid:  # so the descriptor is of the holder, not of a process that got its pid later
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        return
    except OSError as error:
        raise UnknownStateError(
            f"it does not answer on its control socket, and a signal is refused: {error.strerror}",
            where=f"pid {pid}",
            advice=f"end it with: kill {pid}",
        ) from error


@click.command()
@click.argument("venue", required=False)
@run_dir_option
def restart(venue: str | None, run_dir: str | None) -> int:
    """Restart the worker of VENUE, or all workers; not counted as a failure."""
    ask(open_run_dir(run_dir).control, ControlRequest("restart", target=venue))
    click.echo(f"{venue or 'all workers'}: restarting")
    return 0
