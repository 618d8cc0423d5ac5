"""Reader of one board at one moment: it gives the object that ``status --json`` prints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ipc.board import (
    ACCOUNT_SESSION,
    COUNTERS,
    TCP_LISTENING,
    Board,
    CellWord,
    HeaderWord,
    Row,
    SessionWord,
    WorkerWord,
)
from ipc.health import Phase, Reason, Stream, StreamState, WorkerState, word_of
from ipc.rundir import RunDir
from ipc.users import user_name
from supervisor.kill_rules import is_fresh
from supervisor.lock import Holder
from supervisor.proc import is_alive, is_stopped, pid_namespace

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: A parent whose last tick is older is stalled, and a worker whose last beat is older delivers nothing.
_STALLED_NS: Final = 3 * _NS
#: Ticks that a stalled parent has missed at least; they can be longer than the limit.
_MISSED_TICKS: Final = 2
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
#: States of a process of which there is none now.
_WITHOUT_PROCESS: Final = frozenset({WorkerState.BACKOFF, WorkerState.STOPPED, WorkerState.FAILED})


class _Inactivity(NamedTuple):
    """State and reason of all streams of a process that delivers nothing, whatever it left on the board."""

    state: StreamState
    reason: Reason | None


class StatusReader:
    """Reader of one board at one moment, with the descriptions beside it.

    ``holder`` is the process that holds the system's lock: the parent, or a worker that runs alone.
    """

    def __init__(self, run_dir: RunDir, described: Mapping[str, Any], board: Board, holder: Holder | None) -> None:
        self._run_dir = run_dir
        self._described = described
        self._board = board
        self._is_alone = bool(described.get("is_alone"))
        self._holder = holder
        self._parent = None if self._is_alone else holder
        #: Pids on the board mean something here.
        self._sees_processes = described.get("pid_namespace") in {None, pid_namespace()}
        self._now = time.monotonic_ns()

    def read(self) -> dict[str, Any]:
        """Return the state of the whole system."""
        described = self._described
        simulator = described["simulator"]
        return {
            "supervisor": self._supervisor(),
            "venues": {name: self._venue(name, venue) for name, venue in described["venues"].items()},
            "gateway": self._gateway(described["gateway"]),
            "simulator": None if simulator is None else {**simulator, **self._process("simulator")},
        }

    def _gateway(self, described: Mapping[str, Any]) -> dict[str, Any]:
        tcp = self._tcp(described.get("tcp"), self._slot("gateway"), WorkerWord.TCP)
        return {**self._process("gateway"), **self._consumers("gateway"), "http": described["http"], "tcp": tcp}

    def _tcp(self, endpoint: str | None, slot: int, word: int) -> dict[str, Any] | None:
        """Return the endpoint of a feed on TCP and whether it is bound; None for a feed that is not served there."""
        row = self._board.worker(slot)
        if endpoint is None or not row[word]:
            return None
        return {"endpoint": endpoint, "listening": row[word] == TCP_LISTENING and self._pid_of(row) is not None}

    def _slot(self, name: str) -> int:
        return int(self._described["processes"][name]["slot"])

    def _supervisor(self) -> dict[str, Any]:
        header, parent = self._board.header, self._parent
        return {
            "state": self._parent_state(),
            "pid": parent.pid if parent is not None else None,
            "pid_namespace": "own" if self._sees_processes else "other",
            "uptime_s": self._seconds_since(header[HeaderWord.PARENT_STARTED]) if parent is not None else None,
            "version": self._described["version"],
            "run_dir": str(self._run_dir.path),
            "beat_age_ms": self._beat_age_ns() // _MS if parent is not None else None,
            "is_stopped": self._sees_processes and parent is not None and is_stopped(parent.pid or 0),
            "loop_gap_max_ms": header[HeaderWord.LOOP_GAP_MAX_NS] // _MS,
            **header.counts(COUNTERS["supervisor"]),
        }

    def _parent_state(self) -> str:
        if self._is_alone:
            return "none"
        if self._parent is None:
            return "dead"
        if self._beat_age_ns() > max(_STALLED_NS, _MISSED_TICKS * self._described.get("tick_ms", 0) * _MS):
            return "stalled"
        return "draining" if self._board.header[HeaderWord.PARENT_DRAINING] else "running"

    def _beat_age_ns(self) -> int:
        header = self._board.header
        return self._now - max(header[HeaderWord.PARENT_BEAT], header[HeaderWord.PARENT_STARTED])

    def _pid_of(self, row: Row) -> int | None:
        """Return the pid of a process; None when it does not run, whatever it left on the board."""
        if self._holder is None:
            return None
        if self._is_alone:
            return (self._holder.pid or 0) if row[WorkerWord.BOOTED] else None
        pid = row[WorkerWord.PID]
        return pid if pid and (not self._sees_processes or is_alive(pid)) else None

    def _inactivity_of(self, row: Row) -> _Inactivity | None:
        """Return how the streams of a process ended; None while it may deliver."""
        if self._pid_of(row) is None:
            return _Inactivity(StreamState.OFF, self._end_reason_of(row))
        beat = row[WorkerWord.BEAT]
        return _Inactivity(StreamState.STALE, Reason.WEDGED) if beat and self._now - beat > _STALLED_NS else None

    def _end_reason_of(self, row: Row) -> Reason | None:
        """Return the reason of the last exit; None for a process whose exit the parent has not recorded."""
        if row[WorkerWord.PID]:
            return Reason.PARENT_LOST if self._parent is None else None
        return word_of(Reason, row[WorkerWord.EXIT_REASON])

    def _process(self, name: str) -> dict[str, Any]:
        row = self._board.worker(self._slot(name))
        pid = self._pid_of(row)
        state = self._process_state(row, pid)
        return {
            "state": str(state),
            "since_s": self._seconds_since(row[WorkerWord.STATE_SINCE]),
            "pid": pid if self._sees_processes else None,
            "generation": row[WorkerWord.GENERATION],
            "crash_loop": bool(row[WorkerWord.CRASH_LOOP]),
            "last_exit": self._last_exit(row),
            "next_start_in_s": self._seconds_until(row[WorkerWord.NEXT_START]) if self._parent is not None else None,
            "error": self._run_dir.config_error(name) if state is WorkerState.FAILED else None,
            **row.counts(COUNTERS["process"]),
        }

    def _process_state(self, row: Row, pid: int | None) -> WorkerState:
        if self._is_alone and pid is not None:
            return _state_alone(row, self._now)
        state = word_of(WorkerState, row[WorkerWord.STATE]) if self._parent is not None else None
        # The parent has not recorded the exit of a process that is gone.
        is_recorded = pid is not None or state in _WITHOUT_PROCESS
        return state if state is not None and is_recorded else WorkerState.STOPPED

    def _consumers(self, name: str) -> dict[str, Any]:
        """Return the subscriptions at a process, and its descriptors: most of them belong to consumers."""
        row = self._board.worker(self._slot(name))
        limit = row[WorkerWord.DESCRIPTOR_LIMIT]
        descriptors = {
            "open": row[WorkerWord.DESCRIPTORS],
            "limit": limit,
            "refusing": bool(row[WorkerWord.REFUSING]),
        }
        is_known = limit > 0 and self._pid_of(row) is not None
        return {
            "subscriptions": row[WorkerWord.SUBSCRIPTIONS] if is_known else 0,
            "descriptors": descriptors if is_known else None,
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
        idle = self._inactivity_of(row)
        has_process = self._pid_of(row) is not None
        sessions = self._sessions(name, slot, has_process=has_process)
        streams = {
            stream: self._stream(slot, Stream(stream), described["symbols"], idle)
            for stream in described["streams"]
            if stream != Stream.ACCOUNT
        }
        if Stream.ACCOUNT in described["streams"]:
            streams |= self._account(name, slot, idle)
        stopped = self._stopped(row)
        wanted = row[WorkerWord.BOOKS_WANTED]
        if not wanted and not row[WorkerWord.RESOLVED]:
            wanted = len(described["symbols"])
        if stopped is not None:
            wanted = 0
        return {
            **self._process(name),
            "stopped": stopped,
            "epoch": row[WorkerWord.EPOCH] or None,
            "feed": described["feed"],
            "proxy": described.get("proxy"),
            "rest_proxy": described.get("rest_proxy"),
            "tcp": self._tcp(described.get("tcp"), slot, WorkerWord.TCP),
            "account_tcp": self._tcp(described.get("account_tcp"), slot, WorkerWord.ACCOUNT_TCP),
            "outage": bool(row[WorkerWord.OUTAGE_SINCE]) and stopped is None,
            "books": {"wanted": wanted, "usable": row[WorkerWord.BOOKS_USABLE] if idle is None else 0},
            "time_to_fresh_ms": (fresh - row[WorkerWord.FORKED]) // _MS if fresh else None,
            "rss_bytes": (row[WorkerWord.RSS_BYTES] or None) if has_process else None,
            "beat_age_ms": self._age_ms(row[WorkerWord.BEAT]) if has_process else None,
            **row.counts(COUNTERS["worker"]),
            **self._consumers(name),
            "consumers": self._run_dir.consumers(name) if has_process else [],
            "invalid_rows": sum(session["invalid_rows"] for session in sessions.values()),
            "sessions": sessions,
            "streams": streams,
        }

    def _stopped(self, row: Row) -> dict[str, Any] | None:
        """Return who stopped a venue, and when; None unless an operator did."""
        since = row[WorkerWord.STOPPED_AT]
        if not since:
            return None
        uid = row[WorkerWord.STOPPED_BY] - 1
        return {"by": user_name(uid) or f"uid {uid}", "ago_s": self._seconds_since(since)}

    def _account(self, name: str, slot: int, idle: _Inactivity | None) -> dict[str, Any]:
        """Return the account's stream, which has no markets, with its reason in words.

        State, reason and text come from one file. The board's time is read before the file, which is written first: a
        file that is older than that time could not be replaced (a full disk), and its text belongs to another state.
        """
        since_ns = self._board.cell(slot, 0, Stream.ACCOUNT)[CellWord.SINCE]
        stream = self._stream(slot, Stream.ACCOUNT, ["account"], idle)
        words = self._run_dir.account_words(name)
        detail = None
        if idle is None and words.state is not None and words.since_ns >= since_ns > 0:
            detail = words.detail
            stream["state"], stream["reason"] = str(words.state), _text(words.reason)
        own = {"account": words.account, "detail": detail, "invalid_rows": words.invalid_rows or 0}
        return {"account": {**stream, "markets": {}, **own}}

    def _sessions(self, name: str, slot: int, *, has_process: bool) -> dict[str, dict[str, Any]]:
        described = self._run_dir.describe_worker(name)
        public, private = described.get("sessions", ()), described.get("account_sessions", ())
        numbers = [*enumerate(public), *enumerate(private, ACCOUNT_SESSION)]
        rows = {session: self._board.session(slot, number) for number, session in numbers}
        return {session: self._session(row, has_process=has_process) for session, row in rows.items()}

    def _session(self, row: Row, *, has_process: bool) -> dict[str, Any]:
        next_action = row[SessionWord.NEXT_ACTION] if has_process else 0
        phase = word_of(Phase, row[SessionWord.PHASE]) if has_process else None
        return {
            "phase": str(phase or "none"),
            "attempt": row[SessionWord.ATTEMPT],
            "reason": _text(word_of(Reason, row[SessionWord.LAST_REASON])),
            "next_action_in_s": self._seconds_until(next_action) if next_action > self._now else None,
            "silent_ms": self._age_ms(row[SessionWord.LAST_WS_RX]),
            **row.counts(COUNTERS["session"]),
        }

    def _stream(self, slot: int, stream: Stream, symbols: list[str], idle: _Inactivity | None) -> dict[str, Any]:
        cells = {symbol: self._board.cell(slot, index, stream) for index, symbol in enumerate(symbols)}
        markets = {symbol: self._market(cell, idle) for symbol, cell in cells.items()}
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

    def _market(self, cell: Row, idle: _Inactivity | None) -> dict[str, Any]:
        state, reason = idle or (word_of(StreamState, cell[CellWord.STATE]), word_of(Reason, cell[CellWord.REASON]))
        return {
            "state": str(state or StreamState.OFF),
            "reason": _text(reason),
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


def _state_alone(row: Row, now_ns: int) -> WorkerState:
    """Return the state of a worker that no parent judges."""
    if is_fresh(row, now_ns):
        return WorkerState.LIVE
    return WorkerState.STALE if row[WorkerWord.FIRST_FRESH] else WorkerState.STARTING


def _badness(market: Mapping[str, Any]) -> tuple[int, float]:
    """Return a sort key that puts the worst market first: by state, then by age."""
    return _WORST_FIRST.index(StreamState(market["state"])), -(market["age_ms"] or 0)


def _text(word: Reason | None) -> str | None:
    return None if word is None else str(word)
