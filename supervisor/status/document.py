"""State of a system, read from its run directory: the board and the descriptions, never the parent.

Light on imports, so that ``status`` starts quickly; also correct when the parent is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ipc.board import Board
from ipc.errors import BoardError, NotAnsweringError, NotRunningError, UnknownStateError, UsageError
from ipc.health import WorkerState
from ipc.lines import process_of
from ipc.rundir import RunDir
from supervisor.lock import Holder, holder_of
from supervisor.status.reader import StatusReader

EXIT_OK: Final = 0
EXIT_DEGRADED: Final = 1
EXIT_NOT_RUNNING: Final = 3

#: States of a stream that needs no attention.
GOOD_STATES: Final = frozenset({"live", "quiet", "off", "subscribed"})
#: Streams whose bad state degrades the system. Trades and bbo may be silent.
REQUIRED_STREAMS: Final = frozenset({"book", "mark", "funding", "funding_poll", "account"})


def read_status(run_dir: RunDir) -> dict[str, Any]:
    """Return the object that ``status --json`` prints.

    Raises:
        UnknownStateError: The run directory cannot be read.
    """
    try:
        described = run_dir.describe()
    except NotRunningError:
        return _without_description(holder_of(run_dir.lock))
    holder = holder_of(run_dir.lock)
    try:
        board = Board.attach(run_dir.board)
    except BoardError:
        if holder is None:
            return _without_description(None)
        raise
    try:
        return StatusReader(run_dir, described, board, holder).read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _other_version(run_dir, error) from error


def refuse_stalled(run_dir: RunDir, *, unless_it_answers: bool = False) -> None:
    """Refuse to ask a supervisor that is stopped or stalled; ``unless_it_answers``, only one that is stopped.

    Raises:
        NotAnsweringError: In words, with advice.
    """
    try:
        supervisor = read_status(run_dir)["supervisor"]
    except UnknownStateError:
        return
    is_stalled = supervisor["state"] == "stalled" and not unless_it_answers
    if is_stalled or supervisor.get("is_stopped"):
        what, advice = describe_stall(supervisor)
        raise NotAnsweringError(
            f"the supervisor does not answer: it {what}", where=f"pid {supervisor['pid']}", advice=advice
        )


def processes_of(run_dir: RunDir) -> dict[str, int]:
    """Return the pids of the processes that a supervisor started and that run, by name; none if they cannot be seen."""
    try:
        status = read_status(run_dir)
    except UnknownStateError:
        return {}
    if status["supervisor"].get("pid_namespace") != "own":
        return {}
    return {name: int(of["pid"]) for name, of in _processes(status).items() if of.get("pid")}


def _processes(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the processes of a status, the lines of a venue each by the name of its process."""
    workers = {
        process_of(name, line): of
        for name, venue in status["venues"].items()
        for line, of in (venue.get("lines") or {None: venue}).items()
    }
    return {**workers, "gateway": status["gateway"], "simulator": status["simulator"] or {}}


def symbols_of(run_dir: RunDir) -> dict[str, list[str]]:
    """Return the symbols of each venue that the system follows.

    Raises:
        NotRunningError: No supervisor has run here.
        UnknownStateError: The run directory cannot be read.
    """
    described = run_dir.describe()
    try:
        return {name: [*map(str, venue["symbols"])] for name, venue in described["venues"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise _other_version(run_dir, error) from error


def _other_version(run_dir: RunDir, error: Exception) -> UnknownStateError:
    return UnknownStateError(
        f"its description is of another version: {error!r}",
        where=str(run_dir.description),
        advice="use the program that wrote it",
    )


def exit_code_of(status: Mapping[str, Any]) -> int:
    """Return the exit code of ``status``."""
    supervisor = status["supervisor"]["state"]
    if supervisor == "dead" or (supervisor == "none" and not any(of["pid"] for of in status["venues"].values())):
        return EXIT_NOT_RUNNING
    if supervisor in {"draining", "stalled"} or not status["venues"]:
        return EXIT_DEGRADED
    for venue in status["venues"].values():
        if venue["stopped"] is not None and venue["state"] != WorkerState.UNKILLABLE:
            continue
        if venue["state"] != WorkerState.LIVE:
            return EXIT_DEGRADED
        for name, stream in venue["streams"].items():
            if name in REQUIRED_STREAMS and stream["state"] not in GOOD_STATES:
                return EXIT_DEGRADED
    return EXIT_OK


def _without_description(holder: Holder | None) -> dict[str, Any]:
    """Return the state without a description: never started, or a running system that is about to write it."""
    state, pid = ("none", None) if holder is None else ("running", holder.pid)
    supervisor = {"state": state, "pid": pid, "uptime_s": None, "version": None}
    return {
        "supervisor": supervisor,
        "venues": {},
        "gateway": {"state": "stopped", "pid": None, "http": None, "http_listening": False},
        "simulator": None,
    }


def describe_stall(supervisor: Mapping[str, Any]) -> tuple[str, str]:
    """Return in words how a stalled supervisor is, and what to do about it."""
    pid, seconds = supervisor["pid"], supervisor["beat_age_ms"] / 1000
    if supervisor["pid_namespace"] != "own":
        return f"last worked {seconds:.1f} s ago", "it runs in another pid namespace: look at it there"
    if supervisor["is_stopped"]:
        resume = f"let it go on with: kill -CONT {pid}"
        return f"is stopped (state T), and last worked {seconds:.1f} s ago", f"{resume}, or end it with: kill -9 {pid}"
    return f"last worked {seconds:.1f} s ago", f"look at its log, or end it with: kill -9 {pid}"


def pid_of(status: Mapping[str, Any], name: str) -> int | None:
    """Return the pid of a venue's worker, the gateway or the simulator; None when it is not running.

    Raises:
        UsageError: There is no such process.
        UnknownStateError: The system runs in another PID namespace.
    """
    processes = _processes(status)
    if name not in processes:
        raise UsageError(f"no process {name!r} here", advice=f"there are {', '.join(processes)}")
    if status["supervisor"].get("pid_namespace") == "other":
        raise UnknownStateError(
            "the system runs in another PID namespace, where pids differ",
            where=name,
            advice="run this in its container",
        )
    pid = processes[name].get("pid")
    return int(pid) if pid else None
