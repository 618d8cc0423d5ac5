"""State of a system, read from its run directory: the board and the descriptions, never the parent.

Light on imports, so that ``status`` starts quickly; also correct when the parent is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from ipc.board import ACCOUNT_SESSION, COUNTERS, Board, CellWord, HeaderWord, Row, SessionWord, WorkerWord
from ipc.errors import BoardError, NotRunningError, UnknownStateError, UsageError
from ipc.health import Phase, Reason, Stream, StreamState, WorkerState, word_of
from ipc.rundir import RunDir
from supervisor.lock import Holder, holder_of

EXIT_OK: Final = 0
EXIT_DEGRADED: Final = 1
EXIT_NOT_RUNNING: Final = 3

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Stream states from bad to good: a stream shows the state of its worst market.
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
#: Streams whose bad state degrades the system. Trades and bbo may be silent.
_REQUIRED: Final = frozenset({"book", "mark", "funding", "funding_poll", "account"})


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
        return _StatusReader(run_dir, described, board, holder).read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _other_version(run_dir, error) from error


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
    if status["supervisor"]["state"] in {"dead", "none"}:
        return EXIT_NOT_RUNNING
    if not status["venues"]:
        return EXIT_DEGRADED
    for venue in status["venues"].values():
        if venue["state"] != WorkerState.LIVE:
            return EXIT_DEGRADED
        for name, stream in venue["streams"].items():
            if name in _REQUIRED and stream["state"] not in _GOOD:
                return EXIT_DEGRADED
    return EXIT_OK


def _without_description(holder: Holder | None) -> dict[str, Any]:
    """Return the state without a description: never started, or a running system that is about to write it."""
    state, pid = ("none", None) if holder is None else ("running", holder.pid)
    supervisor = {"state": state, "pid": pid, "uptime_s": None, "version": None}
    return {
        "supervisor": supervisor,
        "venues": {},
        "gateway": {"state": "stopped", "pid": None, "http": None},
        "simulator": None,
    }


class _StatusReader:
    """Reader of one board at one moment, with the descriptions beside it."""

    def __init__(self, run_dir: RunDir, described: Mapping[str, Any], board: Board, holder: Holder | None) -> None:
        self._run_dir = run_dir
        self._described = described
        self._board = board
        self._holder = holder
        self._now = time.monotonic_ns()

    def read(self) -> dict[str, Any]:
        """Return the state of the whole system."""
        described = self._described
        simulator = described["simulator"]
        return {
            "supervisor": self._supervisor(),
            "venues": {name: self._venue(name, venue) for name, venue in described["venues"].items()},
            "gateway": {**self._process("gateway"), "http": described["gateway"]["http"]},
            "simulator": None if simulator is None else {**simulator, **self._process("simulator")},
        }

    def _slot(self, name: str) -> int:
        return int(self._described["processes"][name]["slot"])

    def _supervisor(self) -> dict[str, Any]:
        header, holder = self._board.header, self._holder
        return {
            "state": "dead" if holder is None else "draining" if header[HeaderWord.PARENT_DRAINING] else "running",
            "pid": holder.pid if holder is not None else None,
            "uptime_s": self._seconds_since(header[HeaderWord.PARENT_STARTED]) if holder is not None else None,
            "version": self._described["version"],
            "run_dir": str(self._run_dir.path),
            "beat_age_ms": self._age_ms(header[HeaderWord.PARENT_BEAT]) if holder is not None else None,
            "loop_gap_max_ms": header[HeaderWord.LOOP_GAP_MAX_NS] // _MS,
            **header.counts(COUNTERS["supervisor"]),
        }

    def _process(self, name: str) -> dict[str, Any]:
        row = self._board.worker(self._slot(name))
        is_running = self._holder is not None
        state = word_of(WorkerState, row[WorkerWord.STATE]) if is_running else None
        return {
            "state": str(state or WorkerState.STOPPED),
            "since_s": self._seconds_since(row[WorkerWord.STATE_SINCE]),
            "pid": (row[WorkerWord.PID] or None) if is_running else None,
            "generation": row[WorkerWord.GENERATION],
            "crash_loop": bool(row[WorkerWord.CRASH_LOOP]),
            "last_exit": self._last_exit(row),
            "next_start_in_s": self._seconds_until(row[WorkerWord.NEXT_START]) if is_running else None,
            **row.counts(COUNTERS["process"]),
        }

    def _last_exit(self, row: Row) -> dict[str, Any] | None:
        reason = word_of(Reason, row[WorkerWord.EXIT_REASON])
        if reason is None:
            return None
        return {
            "reason": str(reason),
            "code": row[WorkerWord.EXIT_CODE] - 1 if row[WorkerWord.EXIT_CODE] else None,
            "signal": row[WorkerWord.EXIT_SIGNAL] or None,
            "uptime_s": round(row[WorkerWord.EXIT_UPTIME_NS] / _NS, 3),
            "ago_s": round((self._now - row[WorkerWord.EXIT_AT]) / _NS, 3),
        }

    def _venue(self, name: str, described: Mapping[str, Any]) -> dict[str, Any]:
        slot = self._slot(name)
        row = self._board.worker(slot)
        fresh = row[WorkerWord.FIRST_FRESH]
        sessions = self._sessions(name, slot)
        return {
            **self._process(name),
            "epoch": row[WorkerWord.EPOCH] or None,
            "feed": described["feed"],
            "outage": bool(row[WorkerWord.OUTAGE_SINCE]),
            "books": {"wanted": row[WorkerWord.BOOKS_WANTED], "usable": row[WorkerWord.BOOKS_USABLE]},
            "time_to_fresh_ms": (fresh - row[WorkerWord.FORKED]) // _MS if fresh else None,
            "rss_bytes": row[WorkerWord.RSS_BYTES] or None,
            "beat_age_ms": self._age_ms(row[WorkerWord.BEAT]) if self._holder is not None else None,
            **row.counts(COUNTERS["worker"]),
            "invalid_rows": sum(session["invalid_rows"] for session in sessions.values()),
            "sessions": sessions,
            "streams": {
                stream: self._stream(slot, Stream(stream), described["symbols"])
                for stream in described["streams"]
                if stream != Stream.ACCOUNT
            }
            | (self._account(name, slot) if Stream.ACCOUNT in described["streams"] else {}),
        }

    def _account(self, name: str, slot: int) -> dict[str, Any]:
        """Return the account's stream, which has no markets, with its reason in words.

        State, reason and text come from one file. The board's time is read before the file, which is written first: a
        file that is older than that time could not be replaced (a full disk), and its text belongs to another state.
        """
        since_ns = self._board.cell(slot, 0, Stream.ACCOUNT)[CellWord.SINCE]
        stream = self._stream(slot, Stream.ACCOUNT, ["account"])
        words = self._run_dir.account_words(name)
        detail = None
        if words.state is not None and words.since_ns >= since_ns > 0:
            detail, stream["reason"] = words.detail, _text(words.reason)
            stream["state"] = str(words.state) if self._holder is not None else stream["state"]
        own = {"account": words.account, "detail": detail, "invalid_rows": words.invalid_rows or 0}
        return {"account": {**stream, "markets": {}, **own}}

    def _sessions(self, name: str, slot: int) -> dict[str, dict[str, Any]]:
        described = self._run_dir.describe_worker(name)
        public, private = described.get("sessions", ()), described.get("account_sessions", ())
        numbers = [*enumerate(public), *enumerate(private, ACCOUNT_SESSION)]
        return {session: self._session(self._board.session(slot, number)) for number, session in numbers}

    def _session(self, row: Row) -> dict[str, Any]:
        next_action = row[SessionWord.NEXT_ACTION]
        return {
            "phase": str(word_of(Phase, row[SessionWord.PHASE]) or "none"),
            "attempt": row[SessionWord.ATTEMPT],
            "reason": _text(word_of(Reason, row[SessionWord.LAST_REASON])),
            "next_action_in_s": self._seconds_until(next_action) if next_action > self._now else None,
            "silent_ms": self._age_ms(row[SessionWord.LAST_WS_RX]),
            **row.counts(COUNTERS["session"]),
        }

    def _stream(self, slot: int, stream: Stream, symbols: list[str]) -> dict[str, Any]:
        markets = {symbol: self._market(self._board.cell(slot, index, stream)) for index, symbol in enumerate(symbols)}
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

    def _market(self, cell: Row) -> dict[str, Any]:
        state = word_of(StreamState, cell[CellWord.STATE]) if self._holder is not None else None
        return {
            "state": str(state or StreamState.OFF),
            "reason": _text(word_of(Reason, cell[CellWord.REASON])),
            "age_ms": self._age_ms(max(cell[CellWord.LAST_PARSED], cell[CellWord.LAST_PUBLISHED])),
            "limit_ms": cell[CellWord.LIMIT_MS] or None,
            "since_ms": self._age_ms(cell[CellWord.SINCE]),
            **cell.counts(COUNTERS["stream"]),
        }

    def _age_ms(self, at_ns: int) -> int | None:
        return (self._now - at_ns) // _MS if at_ns else None

    def _seconds_since(self, at_ns: int) -> float | None:
        return round((self._now - at_ns) / _NS, 3) if at_ns else None

    def _seconds_until(self, at_ns: int) -> float | None:
        return round(max(0, at_ns - self._now) / _NS, 3) if at_ns else None


def _badness(market: Mapping[str, Any]) -> tuple[int, float]:
    """Return a sort key that puts the worst market first: by state, then by age."""
    return _WORST_FIRST.index(StreamState(market["state"])), -(market["age_ms"] or 0)


def _text(word: Reason | None) -> str | None:
    return None if word is None else str(word)


def pid_of(status: Mapping[str, Any], name: str) -> int | None:
    """Return the pid of a venue's worker, the gateway or the simulator; None when it is not running.

    Raises:
        UsageError: There is no such process.
    """
    processes = {**status["venues"], "gateway": status["gateway"], "simulator": status["simulator"] or {}}
    if name not in processes:
        raise UsageError(f"no process {name!r} here", advice=f"there are {', '.join(processes)}")
    pid = processes[name].get("pid")
    return int(pid) if pid and os.path.exists(f"/proc/{pid}") else None  # noqa: PTH110 - pathlib costs start-up time
