"""Reader of one board at one moment: it gives the object that ``status --json`` prints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

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
from ipc.health import Phase, Reason, Stream, word_of
from ipc.lines import LINES, process_of
from ipc.rundir import RunDir
from ipc.users import user_name
from supervisor.lock import Holder
from supervisor.proc import is_stopped
from supervisor.status.clock import clock_status
from supervisor.status.lines import merged
from supervisor.status.process import MS, STALLED_NS, Inactivity, Moment, ProcessStatus, counts_by_reason
from supervisor.status.stream import reason_of, stream_status

#: Ticks that a stalled parent has missed at least; they can be longer than the limit.
_MISSED_TICKS: Final = 2


class StatusReader:
    """Reader of one board at one moment, with the descriptions beside it.

    ``holder`` is the process that holds the system's lock: the parent, or a worker that runs alone.
    """

    def __init__(self, run_dir: RunDir, described: Mapping[str, Any], board: Board, holder: Holder | None) -> None:
        self._moment = Moment(run_dir, described, board, holder, time.monotonic_ns())

    def read(self) -> dict[str, Any]:
        """Return the state of the whole system."""
        moment, described = self._moment, self._moment.described
        simulator = described["simulator"]
        return {
            "supervisor": self._supervisor(),
            "venues": {name: _venue(moment, name, venue) for name, venue in described["venues"].items()},
            "gateway": self._gateway(described["gateway"]),
            "simulator": None if simulator is None else {**simulator, **ProcessStatus(moment, "simulator").common()},
        }

    def _gateway(self, described: Mapping[str, Any]) -> dict[str, Any]:
        process = ProcessStatus(self._moment, "gateway")
        tcp = process.tcp(described.get("tcp"), WorkerWord.TCP)
        return {
            **process.common(),
            **process.consumers(),
            "http": described["http"],
            "http_listening": process.row[WorkerWord.HTTP] == TCP_LISTENING and process.is_running,
            "tcp": tcp,
        }

    def _supervisor(self) -> dict[str, Any]:
        moment, header, parent = self._moment, self._moment.board.header, self._moment.parent
        return {
            "state": self._parent_state(),
            "is_alone": moment.is_alone and moment.holder is not None,
            "pid": parent.pid if parent is not None else None,
            "pid_namespace": "own" if moment.sees_processes else "other",
            "uptime_s": moment.seconds_since(header[HeaderWord.PARENT_STARTED]) if parent is not None else None,
            "version": moment.described["version"],
            "run_dir": str(moment.run_dir.path),
            "beat_age_ms": self._beat_age_ns() // MS if parent is not None else None,
            "is_stopped": moment.sees_processes and parent is not None and is_stopped(parent.pid or 0),
            "loop_gap_max_ms": header[HeaderWord.LOOP_GAP_MAX_NS] // MS,
            "clock": clock_status(),
            **header.counts(COUNTERS["supervisor"]),
        }

    def _parent_state(self) -> str:
        """Return the state of the parent: ``dead``, or ``none`` where a worker runs that never had one."""
        moment = self._moment
        if moment.holder is None:
            return "dead"
        if moment.is_alone:
            return "none"
        if self._beat_age_ns() > max(STALLED_NS, _MISSED_TICKS * moment.described.get("tick_ms", 0) * MS):
            return "stalled"
        return "draining" if moment.board.header[HeaderWord.PARENT_DRAINING] else "running"

    def _beat_age_ns(self) -> int:
        header = self._moment.board.header
        return self._moment.now_ns - max(header[HeaderWord.PARENT_BEAT], header[HeaderWord.PARENT_STARTED])


def _venue(moment: Moment, name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a venue: of its process, or of both lines with what they have together."""
    lines = described.get("lines")
    if not lines:
        return _worker(moment, name, described)
    workers = {str(line): _worker(moment, process_of(name, line), {**described, **lines[line]}) for line in LINES}
    rows = {line: moment.board.worker(moment.slot(process_of(name, line))) for line in LINES}
    return {**merged(workers), "duty": next((line for line, row in rows.items() if row[WorkerWord.DUTY]), None)}


def _worker(moment: Moment, name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    process = ProcessStatus(moment, name)
    row, slot, idle = process.row, process.slot, process.inactivity
    first_fresh = row[WorkerWord.FIRST_FRESH]
    worker = moment.run_dir.describe_worker(name)
    public, private = _session_numbers(worker)
    sessions = {
        session: _session(moment, moment.board.session(slot, number), is_running=process.is_running)
        for session, number in (public | private).items()
    }
    streams = {
        stream: stream_status(moment, slot, Stream(stream), described["symbols"], idle)
        for stream in described["streams"]
        if stream != Stream.ACCOUNT
    }
    if Stream.ACCOUNT in described["streams"]:
        streams["account"] = _account(moment, name, slot, idle)
    stopped = _stopped(moment, row)
    return {
        **process.common(),
        "stopped": stopped,
        "epoch": row[WorkerWord.EPOCH] or None,
        "feed": described["feed"],
        "proxy": described.get("proxy"),
        "rest_proxy": described.get("rest_proxy"),
        "tcp": process.tcp(described.get("tcp"), WorkerWord.TCP),
        "account_tcp": process.tcp(described.get("account_tcp"), WorkerWord.ACCOUNT_TCP),
        "outage": bool(row[WorkerWord.OUTAGE_SINCE]) and stopped is None,
        "books": {
            "wanted": _wanted_books(row, len(described["symbols"])) if stopped is None else 0,
            "usable": row[WorkerWord.BOOKS_USABLE] if idle is None else 0,
        },
        "time_to_fresh_ms": (first_fresh - row[WorkerWord.FORKED]) // MS if first_fresh else None,
        "beat_age_ms": moment.age_ms(row[WorkerWord.BEAT]) if process.is_running else None,
        **row.counts(COUNTERS["worker"]),
        **process.consumers(),
        "consumers": _consumers(worker) if process.is_running else [],
        "invalid_rows": sum(session["invalid_rows"] for session in sessions.values()),
        "session_ends": counts_by_reason(*(moment.board.ends(slot, number) for number in public.values())),
        "account_session_ends": counts_by_reason(*(moment.board.ends(slot, number) for number in private.values())),
        "sessions": sessions,
        "streams": streams,
    }


def _stopped(moment: Moment, row: Row) -> dict[str, Any] | None:
    """Return who stopped a venue, and when; None unless an operator did."""
    stopped_ns = row[WorkerWord.STOPPED_AT]
    if not stopped_ns:
        return None
    uid = row[WorkerWord.STOPPED_BY] - 1
    return {"by": user_name(uid) or f"uid {uid}", "ago_s": moment.seconds_since(stopped_ns)}


def _wanted_books(row: Row, configured: int) -> int:
    """Return how many books a venue is to have: those of the configuration until the venue's list is known."""
    return row[WorkerWord.BOOKS_WANTED] if row[WorkerWord.RESOLVED] else row[WorkerWord.BOOKS_WANTED] or configured


def _account(moment: Moment, name: str, slot: int, idle: Inactivity | None) -> dict[str, Any]:
    """Return the account's stream, which has no markets, with its reason in words.

    State, reason and text come from one file. The board's time is read before the file, which is written first: a
    file that is older than that time could not be replaced (a full disk), and its text belongs to another state.
    """
    cell = moment.board.cell(slot, 0, Stream.ACCOUNT)
    since_ns = cell[CellWord.SINCE]
    stream = stream_status(moment, slot, Stream.ACCOUNT, ["account"], idle)
    words = moment.run_dir.account_words(name)
    detail = None
    if idle is None and words.state is not None and words.since_ns >= since_ns > 0:
        detail = words.detail
        shown = reason_of(moment, words.state, words.reason, cell[CellWord.REASON_AT])
        stream |= {"state": str(words.state), "reason": shown[0], "reason_ago_s": shown[1]}
    own = {"account": words.account, "detail": detail, "invalid_rows": words.invalid_rows or 0}
    return {**stream, "markets": {}, **own}


def _consumers(described: Mapping[str, Any]) -> list[str]:
    """Return the names of a venue's consumers, sorted; none before its worker described them."""
    names = described.get("consumers")
    return sorted(map(str, names)) if isinstance(names, list) else []


def _session_numbers(described: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers of a worker's sessions, of the public ones and of the account's, by name."""
    public, private = described.get("sessions", ()), described.get("account_sessions", ())
    return (
        {session: number for number, session in enumerate(public)},
        {session: number for number, session in enumerate(private, ACCOUNT_SESSION)},
    )


def _session(moment: Moment, row: Row, *, is_running: bool) -> dict[str, Any]:
    next_action = row[SessionWord.NEXT_ACTION] if is_running else 0
    phase = word_of(Phase, row[SessionWord.PHASE]) if is_running else None
    reason = word_of(Reason, row[SessionWord.LAST_REASON])
    return {
        "phase": str(phase or "none"),
        "attempt": row[SessionWord.ATTEMPT],
        "reason": None if reason is None else str(reason),
        "next_action_in_s": moment.seconds_until(next_action) if next_action > moment.now_ns else None,
        "silent_ms": moment.age_ms(row[SessionWord.LAST_WS_RX]),
        **row.counts(COUNTERS["session"]),
    }
