"""The state of a system as its run directory shows it: read from the board, never asked of the parent.

Light on imports, so that ``status`` answers at once, and right also when the parent is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from ipc.board import ACCOUNT_SESSION, Board, CellWord, HeaderWord, Row, SessionWord, WorkerWord
from ipc.errors import BoardError, NotRunningError, UnknownStateError, UsageError
from ipc.health import Phase, Reason, Stream, StreamState, WorkerState, word_of
from ipc.rundir import RunDir
from supervisor.lock import holder_of

__all__ = ["EXIT_DEGRADED", "EXIT_NOT_RUNNING", "EXIT_OK", "exit_code_of", "pid_of", "read_status", "symbols_of"]

EXIT_OK: Final = 0
EXIT_DEGRADED: Final = 1
EXIT_NOT_RUNNING: Final = 3

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: From bad to good: a stream is what its worst market is.
_WORST_FIRST: Final = (
    StreamState.FAILED,
    StreamState.STALE,
    StreamState.BACKOFF,
    StreamState.CONNECTING,
    StreamState.RESYNC,
    StreamState.REST,
    StreamState.SUBSCRIBED,
    StreamState.QUIET,
    StreamState.LIVE,
    StreamState.OFF,
)
_GOOD: Final = frozenset({"live", "quiet", "off", "subscribed"})
#: Streams that make a system degraded when they are not well. Trades and bbo may be silent.
_REQUIRED: Final = frozenset({"book", "mark", "funding", "funding_poll", "account"})


def read_status(run_dir: RunDir) -> dict[str, Any]:
    """The contract's ``status --json`` object.

    Raises:
        UnknownStateError: What is there cannot be read.
    """
    try:
        described = run_dir.describe()
    except NotRunningError:
        return _never_started()
    pid = holder_of(run_dir.lock)
    try:
        board = Board.attach(run_dir.board)
    except BoardError:
        if pid is None:
            return _never_started()
        raise
    try:
        return _read(run_dir, described, board, pid)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _other_version(run_dir, error) from error


def symbols_of(run_dir: RunDir) -> dict[str, list[str]]:
    """The symbols of each venue that the system follows.

    Raises:
        NotRunningError: No supervisor ever ran here.
        UnknownStateError: What is there cannot be read.
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
    """What ``status`` returns to the shell."""
    if status["supervisor"]["state"] in {"dead", "none"}:
        return EXIT_NOT_RUNNING
    for venue in status["venues"].values():
        if venue["state"] != WorkerState.LIVE:
            return EXIT_DEGRADED
        for name, stream in venue["streams"].items():
            if name in _REQUIRED and stream["state"] not in _GOOD:
                return EXIT_DEGRADED
    return EXIT_OK


def _never_started() -> dict[str, Any]:
    supervisor = {"state": "none", "pid": None, "uptime_s": None, "version": None}
    return {
        "supervisor": supervisor,
        "venues": {},
        "gateway": {"state": "stopped", "pid": None, "http": None},
        "simulator": None,
    }


def _read(run_dir: RunDir, described: Mapping[str, Any], board: Board, pid: int | None) -> dict[str, Any]:
    now = time.monotonic_ns()
    header = board.header
    state = "dead" if pid is None else "draining" if header[HeaderWord.PARENT_DRAINING] else "running"
    supervisor = {
        "state": state,
        "pid": pid,
        "uptime_s": round((now - header[HeaderWord.PARENT_STARTED]) / _NS, 3) if pid is not None else None,
        "version": described["version"],
        "run_dir": str(run_dir.path),
        "beat_age_ms": (now - header[HeaderWord.PARENT_BEAT]) // _MS if pid is not None else None,
        "loop_gap_max_ms": header[HeaderWord.LOOP_GAP_MAX_NS] // _MS,
        "self_stalls": header[HeaderWord.SELF_STALLS],
        "forks": header[HeaderWord.FORKS],
    }
    is_running = pid is not None
    gateway = described["gateway"]
    return {
        "supervisor": supervisor,
        "venues": {
            name: _venue(run_dir, name, venue, board, now, is_running=is_running)
            for name, venue in described["venues"].items()
        },
        "gateway": {**_process(board.worker(gateway["slot"]), now, is_running=is_running), "http": gateway["http"]},
        "simulator": _simulator(described["simulator"], board, now, is_running=is_running),
    }


def _simulator(
    described: Mapping[str, Any] | None, board: Board, now: int, *, is_running: bool
) -> dict[str, Any] | None:
    if described is None:
        return None
    process = _process(board.worker(described["slot"]), now, is_running=is_running)
    return {"admin": described["admin"], "venues": described["venues"], **process}


def _process(row: Row, now: int, *, is_running: bool) -> dict[str, Any]:
    state = word_of(WorkerState, row[WorkerWord.STATE]) if is_running else None
    since = row[WorkerWord.STATE_SINCE]
    next_start = row[WorkerWord.NEXT_START]
    return {
        "state": str(state or WorkerState.STOPPED),
        "since_s": round((now - since) / _NS, 3) if since else None,
        "pid": (row[WorkerWord.PID] or None) if is_running else None,
        "generation": row[WorkerWord.GENERATION],
        "restarts": row[WorkerWord.RESTARTS],
        "failures": row[WorkerWord.FAILURES],
        "crash_loop": bool(row[WorkerWord.CRASH_LOOP]),
        "last_exit": _last_exit(row, now),
        "next_start_in_s": round(max(0, next_start - now) / _NS, 3) if next_start and is_running else None,
    }


def _last_exit(row: Row, now: int) -> dict[str, Any] | None:
    reason = word_of(Reason, row[WorkerWord.EXIT_REASON])
    if reason is None:
        return None
    return {
        "reason": str(reason),
        "code": row[WorkerWord.EXIT_CODE] - 1 if row[WorkerWord.EXIT_CODE] else None,
        "signal": row[WorkerWord.EXIT_SIGNAL] or None,
        "uptime_s": round(row[WorkerWord.EXIT_UPTIME_NS] / _NS, 3),
        "ago_s": round((now - row[WorkerWord.EXIT_AT]) / _NS, 3),
    }


def _venue(
    run_dir: RunDir, name: str, described: Mapping[str, Any], board: Board, now: int, *, is_running: bool
) -> dict[str, Any]:
    slot = described["slot"]
    row = board.worker(slot)
    process = _process(row, now, is_running=is_running)
    fresh = row[WorkerWord.FIRST_FRESH]
    words = run_dir.describe_worker(name)
    numbers = [*enumerate(words.get("sessions", ())), *enumerate(words.get("account_sessions", ()), ACCOUNT_SESSION)]
    sessions = {session: _session(board.session(slot, number), now) for number, session in numbers}
    return {
        **process,
        "epoch": row[WorkerWord.EPOCH] or None,
        "feed": described["feed"],
        "outage": bool(row[WorkerWord.OUTAGE_SINCE]),
        "books": {"wanted": row[WorkerWord.BOOKS_WANTED], "usable": row[WorkerWord.BOOKS_USABLE]},
        "time_to_fresh_ms": (fresh - row[WorkerWord.FORKED]) // _MS if fresh else None,
        "drops": row[WorkerWord.DROPS],
        "rss_bytes": row[WorkerWord.RSS_BYTES] or None,
        "resolve_failures": row[WorkerWord.RESOLVE_FAILED],
        "beat_age_ms": (now - row[WorkerWord.BEAT]) // _MS if row[WorkerWord.BEAT] and is_running else None,
        "invalid_rows": sum(session["invalid_rows"] for session in sessions.values()),
        "sessions": sessions,
        "streams": {
            stream: _stream(board, slot, Stream(stream), described["symbols"], now, is_running=is_running)
            for stream in described["streams"]
            if stream != Stream.ACCOUNT
        }
        | _account(run_dir, name, described, board, now, is_running=is_running),
    }


def _account(
    run_dir: RunDir, name: str, described: Mapping[str, Any], board: Board, now: int, *, is_running: bool
) -> dict[str, Any]:
    """Return the account's stream, where one is followed: it has no markets, and a text that goes with its reason.

    State, reason and text come from one file. The board's stamp is read before the file, which is written first: a
    file that is older than the stamp could not be replaced (a full disk), and its text belongs to something else.
    """
    if Stream.ACCOUNT not in described["streams"]:
        return {}
    since_ns = board.cell(described["slot"], 0, Stream.ACCOUNT)[CellWord.SINCE]
    stream = _stream(board, described["slot"], Stream.ACCOUNT, ["account"], now, is_running=is_running)
    words = run_dir.account_words(name)
    says = None
    if words.state is not None and words.since_ns >= since_ns > 0:
        says, stream["reason"] = words.says, _text(words.reason)
        stream["state"] = str(words.state) if is_running else stream["state"]
    told = {"account": words.account, "says": says, "invalid_rows": words.invalid_rows or 0}
    return {"account": {**stream, "markets": {}, **told}}


def _session(row: Row, now: int) -> dict[str, Any]:
    next_action = row[SessionWord.NEXT_ACTION]
    return {
        "phase": str(word_of(Phase, row[SessionWord.PHASE]) or "none"),
        "attempt": row[SessionWord.ATTEMPT],
        "reconnects": row[SessionWord.RECONNECTS],
        "reason": _text(word_of(Reason, row[SessionWord.LAST_REASON])),
        "next_action_in_s": round((next_action - now) / _NS, 3) if next_action > now else None,
        "frames": row[SessionWord.FRAMES],
        "invalid_rows": row[SessionWord.INVALID_ROWS],
        "silent_ms": (now - row[SessionWord.LAST_WS_RX]) // _MS if row[SessionWord.LAST_WS_RX] else None,
    }


def _stream(
    board: Board, slot: int, stream: Stream, symbols: list[str], now: int, *, is_running: bool
) -> dict[str, Any]:
    markets = {
        symbol: _market(board.cell(slot, index, stream), now, is_running=is_running)
        for index, symbol in enumerate(symbols)
    }
    rows = list(markets.values())
    worst = min(rows, key=_badness)
    last = min(rows, key=lambda market: (market["since_ms"] is None, market["since_ms"] or 0))
    reasons = [market["reason"] for market in (worst, last, *rows) if market["reason"]]
    return {
        "state": worst["state"],
        "reason": reasons[0] if reasons else None,
        "age_ms": worst["age_ms"],
        "limit_ms": worst["limit_ms"],
        "reconnects": max(market["reconnects"] for market in rows),
        "markets": markets,
    }


def _badness(market: Mapping[str, Any]) -> tuple[int, float]:
    """Sorts the worst first: by state, and among those alike by age."""
    return _WORST_FIRST.index(StreamState(market["state"])), -(market["age_ms"] or 0)


def _market(cell: Row, now: int, *, is_running: bool) -> dict[str, Any]:
    newest = max(cell[CellWord.LAST_PARSED], cell[CellWord.LAST_PUBLISHED])
    state = word_of(StreamState, cell[CellWord.STATE]) if is_running else None
    since = cell[CellWord.SINCE]
    age_ms = (now - newest) // _MS if newest else None
    limit_ms = cell[CellWord.LIMIT_MS] or None
    return {
        "state": str(state or StreamState.OFF),
        "reason": _text(word_of(Reason, cell[CellWord.REASON])),
        "age_ms": age_ms,
        "limit_ms": limit_ms,
        "reconnects": cell[CellWord.RECONNECTS],
        "gaps": cell[CellWord.GAPS],
        "since_ms": (now - since) // _MS if since else None,
    }


def _text(word: Reason | None) -> str | None:
    return None if word is None else str(word)


def pid_of(status: Mapping[str, Any], name: str) -> int | None:
    """The pid of a venue's worker, the gateway or the simulator; None when it does not run.

    Raises:
        UsageError: There is no such process.
    """
    processes = {**status["venues"], "gateway": status["gateway"], "simulator": status["simulator"] or {}}
    if name not in processes:
        raise UsageError(f"no process {name!r} here", advice=f"there are {', '.join(processes)}")
    pid = processes[name].get("pid")
    return int(pid) if pid and os.path.exists(f"/proc/{pid}") else None  # noqa: PTH110 - pathlib costs start-up time
