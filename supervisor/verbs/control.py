"""``stop``, ``start VENUE``, ``restart`` and ``reload``: over the control socket.

``stop`` of a whole system is by signal when nobody answers there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import click

from ipc.control import UNKILLABLE_STATES, ControlReply, ControlRequest, ask
from ipc.errors import ForeignSystemError, NotAnsweringError, NotRunningError, ParaphinaError, UnknownStateError
from ipc.health import WorkerState
from ipc.printable import joined_lines, printable
from ipc.rundir import RunDir
from supervisor.lock import Holder, holder_of
from supervisor.status.document import processes_of, read_status, refuse_stalled
from supervisor.verbs.completion import complete_process, complete_venue
from supervisor.verbs.options import json_option, open_run_dir, print_json, run_dir_option

_STOP_S: Final = 15.0
#: Wait for processes that outlive their supervisor: the kernel kills them when it exits.
_LEFT_S: Final = 2.0


@click.command()
@click.argument("venue", required=False, shell_complete=complete_venue)
@json_option
@run_dir_option
def stop(venue: str | None, as_json: bool, run_dir: str | None) -> int:
    """Stop a running system, or only VENUE, and wait until the processes are gone.

    A venue that was stopped stays stopped, also over a reload, until `start VENUE` or a new start of the system.

    Exit codes: 0 they are gone, 1 the supervisor does not answer or a process was left behind, 2 no such venue, 3 not
    running, 4 another user's system.
    """
    directory = open_run_dir(run_dir)
    if venue is not None:
        return _stop_venue(directory, venue, as_json=as_json)
    holder = holder_of(directory.lock)
    if holder is None:
        raise NotRunningError("no supervisor is running here", where=str(directory.path))
    refuse_stalled(directory, unless_it_answers=True)
    with _Processes(processes_of(directory)) as processes:
        try:
            ask(directory.control, ControlRequest("stop"))
        except ForeignSystemError:
            raise
        except ParaphinaError:
            refuse_stalled(directory)
            _terminate(directory.lock, holder)  # the socket is gone or does not answer
        _await_release(directory, holder)
        left = processes.left(_LEFT_S)
    if as_json:
        print_json({"stopped": not left, "pid": holder.pid, "left_behind": left})
        return int(bool(left))
    if left:
        named = ", ".join(f"{name} (pid {number})" for name, number in left.items())
        raise ParaphinaError(
            f"the supervisor has ended and left behind: {named}",
            where=str(directory.path),
            advice="they survived SIGKILL, so they are stuck in the kernel; check disks and NFS",
        )
    click.echo("stopped")
    return 0


def _stop_venue(directory: RunDir, venue: str, *, as_json: bool) -> int:
    """Stop one venue and wait until its process is gone.

    Raises:
        ParaphinaError: It is not, or somebody started it again.
    """
    _ask(directory, ControlRequest("stop_venue", target=venue))
    deadline = time.monotonic() + _STOP_S
    while True:
        of = read_status(directory)["venues"].get(venue, {})
        state = of.get("state")
        if state != WorkerState.KILLING or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    is_stopped = state == WorkerState.STOPPED
    if as_json:
        print_json({"venue": venue, "state": state, "stopped": of.get("stopped")})
    elif is_stopped:
        click.echo(printable(f"{venue}: stopped"))
    elif state == WorkerState.UNKILLABLE:
        click.echo(printable(f"{venue}: its process survived SIGKILL; it is not started again when that is gone"))
    else:
        click.echo(printable(f"{venue}: {state}, not stopped; see: paraphina-supervisor status"))
    return int(not is_stopped)


def start_venue(directory: RunDir, venue: str, *, as_json: bool) -> int:
    """Start a venue that ``stop VENUE`` stopped; return the exit code.

    Raises:
        ParaphinaError: It is not stopped, or the supervisor is not running, does not answer, or refuses.
    """
    try:
        reply = _ask(directory, ControlRequest("start_venue", target=venue))
    except NotRunningError as error:
        advice = f"start one with: paraphina-supervisor start --venues {venue}"
        raise NotRunningError(error.what, where=error.where, advice=advice) from error
    state = reply.data["states"][venue]
    is_unkillable = state in UNKILLABLE_STATES
    if as_json:
        print_json({"venue": venue, "state": state})
    elif is_unkillable:
        click.echo(printable(f"{venue}: not started, its process survived SIGKILL; it is started when that is gone"))
    else:
        click.echo(printable(f"{venue}: starting"))
    return int(is_unkillable)


def _await_release(directory: RunDir, holder: Holder) -> None:
    """Wait until the supervisor has ended.

    Raises:
        ParaphinaError: It has not, in words of what it does.
    """
    deadline = time.monotonic() + _STOP_S
    while holder_of(directory.lock) == holder:
        if time.monotonic() > deadline:
            refuse_stalled(directory)
            raise ParaphinaError(
                f"it is still running after {_STOP_S:g} s",
                where=str(holder),
                advice=f"look at its log, or end it with: kill -9 {holder.pid}" if holder.pid else "look at its log",
            )
        time.sleep(0.02)


class _Processes:
    """Context manager of processes of a system; by pidfd, so that a pid that is used again is no mistake."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        #: Name and pid by descriptor, which becomes readable when the process exits.
        self._named: dict[int, tuple[str, int]] = {}
        for name, pid in pids.items():
            with contextlib.suppress(ProcessLookupError):
                self._named[os.pidfd_open(pid)] = name, pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._named:
            os.close(descriptor)

    def left(self, within_s: float) -> dict[str, int]:
        """Wait until they have exited; return those that have not ``within_s``."""
        deadline = time.monotonic() + within_s
        left = dict(self._named)
        while left:
            poll = select.poll()
            for descriptor in left:
                poll.register(descriptor, select.POLLIN)
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                break
            for descriptor, _ in ready:
                del left[descriptor]
        return dict(left.values())


def _terminate(lock: Path, holder: Holder) -> None:
    """Send SIGTERM to the process that holds the lock, and to no other.

    Raises:
        UnknownStateError: It runs in another PID namespace, or the kernel refuses the signal.
    """
    if holder.pid is None:
        raise UnknownStateError(
            "it runs in another PID namespace and does not answer on its control socket",
            where=str(lock.parent),
            advice="stop its container, or run this in it",
        )
    try:
        pidfd = os.pidfd_open(holder.pid)
        try:
            if holder_of(lock) == holder:  # so the descriptor is of the holder, not of a process that got its pid later
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        return
    except OSError as error:
        raise UnknownStateError(
            f"it does not answer on its control socket, and a signal is refused: {error.strerror}",
            where=str(holder),
            advice=f"end it with: kill {holder.pid}",
        ) from error


@click.command()
@click.argument("venue", required=False, shell_complete=complete_process)
@json_option
@run_dir_option
def restart(venue: str | None, as_json: bool, run_dir: str | None) -> int:
    """Restart the worker of VENUE, or all workers that nobody stopped; not counted as a failure.

    Exit codes: 0 they restart, 1 the supervisor does not answer or a process cannot be ended, 2 no such process, or
    it is stopped, 3 not running, 4 another user's system.
    """
    reply = _ask(open_run_dir(run_dir), ControlRequest("restart", target=venue))
    states: Mapping[str, str] = reply.data.get("states", {})
    unkillable = [name for name, state in states.items() if state in UNKILLABLE_STATES]
    if as_json:
        print_json({"states": states})
        return int(bool(unkillable))
    for name in unkillable:
        click.echo(printable(f"{name}: not restarted, its process survived SIGKILL; it is restarted when that is gone"))
    if not unkillable:
        click.echo(printable(f"{venue or 'all workers'}: restarting"))
    return int(bool(unkillable))


@click.command()
@json_option
@run_dir_option
def reload(as_json: bool, run_dir: str | None) -> int:
    """Apply a changed configuration; only what it changes is restarted, one process after the other.

    Exit codes: 0 applied, 1 the supervisor does not answer, 2 the configuration has mistakes and nothing was changed,
    3 not running, 4 another user's system.
    """
    reply = _ask(open_run_dir(run_dir), ControlRequest("reload"))
    difference = {key: reply.data.get(key, []) for key in _DIFFERENCES}
    if as_json:
        print_json(difference)
    else:
        click.echo(joined_lines(_described(difference)))
    return 0


#: Keys of the reply to ``reload``, and their lines.
_DIFFERENCES: Final = {
    "settings": "changed settings",
    "added": "added",
    "removed": "removed",
    "restarting": "restarting, one after the other",
    "needs_start": "takes effect at the next start of the system",
}


def _described(difference: Mapping[str, Sequence[Any]]) -> list[str]:
    lines = [f"{text}: {', '.join(difference[key])}" for key, text in _DIFFERENCES.items() if difference[key]]
    return lines or ["nothing changed"]


def _ask(directory: RunDir, request: ControlRequest) -> ControlReply:
    """Ask the supervisor; describe one that does not answer.

    Raises:
        ParaphinaError: It is not running, does not answer, or refuses.
    """
    refuse_stalled(directory, unless_it_answers=True)
    try:
        return ask(directory.control, request)
    except NotAnsweringError:
        refuse_stalled(directory)
        raise
