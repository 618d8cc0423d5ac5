"""Status of one process: what the kernel and its words on the board say of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from ipc.board import COUNTERS, TCP_LISTENING, Board, HeaderWord, Row, WorkerWord
from ipc.health import Reason, StreamState, WorkerState, word_of
from ipc.rundir import RunDir
from supervisor.kill_rules import is_fresh
from supervisor.lock import Holder
from supervisor.proc import Usage, pid_namespace, usage_of

NS: Final = 1_000_000_000
MS: Final = 1_000_000
#: A parent whose last tick is older is stalled, and a worker whose last beat is older delivers nothing.
STALLED_NS: Final = 3 * NS
#: States of a process of which there is none now.
_WITHOUT_PROCESS: Final = frozenset({WorkerState.BACKOFF, WorkerState.STOPPED, WorkerState.FAILED})


class Inactivity(NamedTuple):
    """State and reason of all streams of a process that delivers nothing, whatever it left on the board.

    ``at_ns`` is when the reason occurred, monotonic; 0 where that is unknown.
    """

    state: StreamState
    reason: Reason | None
    at_ns: int


class Moment:
    """System as it is at one moment: its board and descriptions, who holds its lock, and the time.

    ``holder`` is the process that holds the lock: the parent, or a worker that runs alone.
    """

    def __init__(
        self, run_dir: RunDir, described: Mapping[str, Any], board: Board, holder: Holder | None, now_ns: int
    ) -> None:
        self.run_dir = run_dir
        self.described = described
        self.board = board
        self.holder = holder
        self.now_ns = now_ns
        self.is_alone = bool(described.get("is_alone"))
        self.parent = None if self.is_alone else holder
        #: Pids on the board mean something here.
        self.sees_processes = described.get("pid_namespace") in {None, pid_namespace()}

    def slot(self, name: str) -> int:
        """Return the board slot of a process."""
        return int(self.described["processes"][name]["slot"])

    def age_ms(self, at_ns: int) -> int | None:
        """Return the time since a stamp, ms; None for 0. One that was written during this reading is 0 old."""
        if not at_ns:
            return None
        age_ns = self.now_ns - at_ns
        return age_ns // MS if age_ns > 0 else 0

    def seconds_since(self, at_ns: int) -> float | None:
        """Return the time since a stamp, s; None for 0."""
        return round(max(0, self.now_ns - at_ns) / NS, 3) if at_ns else None

    def seconds_until(self, at_ns: int) -> float | None:
        """Return the time until a stamp, s, at least 0; None for 0."""
        return round(max(0, at_ns - self.now_ns) / NS, 3) if at_ns else None


class ProcessStatus:
    """Status of one process of a system."""

    def __init__(self, moment: Moment, name: str) -> None:
        self.name = name
        self.slot = moment.slot(name)
        self.row = moment.board.worker(self.slot).copy()
        self._moment = moment

    @cached_property
    def usage(self) -> Usage | None:
        """Return what the kernel says of the process; None when it does not run or is in another PID namespace."""
        pid = self._claimed_pid
        return usage_of(pid) if pid and self._moment.sees_processes else None

    @cached_property
    def pid(self) -> int | None:
        """Return the pid, 0 for one without a pid here; None when it does not run, whatever it left on the board."""
        if self._moment.is_alone:
            return self._claimed_pid
        is_there = self.usage is not None or not self._moment.sees_processes
        return self._claimed_pid if self._claimed_pid and is_there else None

    @property
    def is_running(self) -> bool:
        """True while there is a process."""
        return self.pid is not None

    @cached_property
    def inactivity(self) -> Inactivity | None:
        """Return how the streams of the process ended; None while it may deliver."""
        if not self.is_running:
            return Inactivity(StreamState.OFF, *self._end())
        beat = self.row[WorkerWord.BEAT]
        is_wedged = beat and self._moment.now_ns - beat > STALLED_NS
        return Inactivity(StreamState.STALE, Reason.WEDGED, beat) if is_wedged else None

    def common(self) -> dict[str, Any]:
        """Return the members that every process has."""
        moment, row, usage = self._moment, self.row, self.usage
        state = self._state()
        has_parent = moment.parent is not None
        return {
            "state": str(state),
            "since_s": moment.seconds_since(row[WorkerWord.STATE_SINCE]),
            "pid": self.pid if moment.sees_processes else None,
            "uptime_s": moment.seconds_since(self._started_ns()) if self.is_running else None,
            "stale_s": round(self._stale_ns(state) / NS, 3),
            "generation": row[WorkerWord.GENERATION],
            "crash_loop": bool(row[WorkerWord.CRASH_LOOP]),
            "exits": counts_by_reason(moment.board.exits(self.slot)),
            "last_exit": self._last_exit(),
            "next_start_in_s": moment.seconds_until(row[WorkerWord.NEXT_START]) if has_parent else None,
            "error": moment.run_dir.config_error(self.name) if state is WorkerState.FAILED else None,
            "cpu_s": None if usage is None else usage.cpu_s,
            "rss_bytes": self._rss_bytes(),
            **row.counts(COUNTERS["process"]),
        }

    def consumers(self) -> dict[str, Any]:
        """Return the subscriptions at the process, and its descriptors: most of them belong to consumers."""
        row = self.row
        limit = row[WorkerWord.DESCRIPTOR_LIMIT]
        descriptors = {
            "open": row[WorkerWord.DESCRIPTORS],
            "limit": limit,
            "refusing": bool(row[WorkerWord.REFUSING]),
        }
        is_known = limit > 0 and self.is_running
        return {
            "subscriptions": row[WorkerWord.SUBSCRIPTIONS] if is_known else 0,
            "descriptors": descriptors if is_known else None,
        }

    def tcp(self, endpoint: str | None, word: int) -> dict[str, Any] | None:
        """Return the endpoint of a feed on TCP and whether it is bound; None for a feed that is not served there."""
        if endpoint is None or not self.row[word]:
            return None
        return {"endpoint": endpoint, "listening": self.row[word] == TCP_LISTENING and self.is_running}

    @property
    def _claimed_pid(self) -> int | None:
        """Return the pid that the board names, or for a worker alone the lock; None without one."""
        holder = self._moment.holder
        if holder is None:
            return None
        if self._moment.is_alone:
            return (holder.pid or 0) if self.row[WorkerWord.BOOTED] else None
        return None if self._is_without_process else self.row[WorkerWord.PID]

    @property
    def _is_without_process(self) -> bool:
        """True while the parent says so; the pid of a new one stands on the board for a moment before its state."""
        return not self.row[WorkerWord.PID] or word_of(WorkerState, self.row[WorkerWord.STATE]) in _WITHOUT_PROCESS

    def _rss_bytes(self) -> int | None:
        """Return the resident memory as a worker reports it, in any PID namespace, or as the kernel does."""
        if not self.is_running:
            return None
        return self.row[WorkerWord.RSS_BYTES] or (self.usage.rss_bytes if self.usage is not None else None)

    def _started_ns(self) -> int:
        """Return when the process began: its fork, or without a parent its own first words."""
        return self.row[WorkerWord.BOOTED if self._moment.is_alone else WorkerWord.FORKED]

    def _stale_ns(self, state: WorkerState) -> int:
        """Return how long the process was stale; the board has the spans that are over."""
        running_ns = self._moment.now_ns - self.row[WorkerWord.STATE_SINCE] if state is WorkerState.STALE else 0
        return self.row[WorkerWord.STALE_NS] + running_ns

    def _state(self) -> WorkerState:
        if self._moment.is_alone and self.is_running:
            return _state_alone(self.row, self._moment.now_ns)
        state = word_of(WorkerState, self.row[WorkerWord.STATE]) if self._moment.parent is not None else None
        # The parent has not recorded the exit of a process that is gone.
        is_recorded = self.is_running or state in _WITHOUT_PROCESS
        return state if state is not None and is_recorded else WorkerState.STOPPED

    def _end(self) -> tuple[Reason | None, int]:
        """Return why the process ended, and when; no reason for an exit that the parent has not recorded."""
        if self._is_without_process:
            return word_of(Reason, self.row[WorkerWord.EXIT_REASON]), self.row[WorkerWord.EXIT_AT]
        if self._moment.parent is None:
            return Reason.PARENT_LOST, self._moment.board.header[HeaderWord.PARENT_BEAT]
        return None, 0

    def _last_exit(self) -> dict[str, Any] | None:
        row = self.row
        reason = word_of(Reason, row[WorkerWord.EXIT_REASON])
        if reason is None:
            return None
        return {
            "reason": str(reason),
            "code": row[WorkerWord.EXIT_CODE] - 1 if row[WorkerWord.EXIT_CODE] else None,
            "signal": row[WorkerWord.EXIT_SIGNAL] or None,
            "uptime_s": round(row[WorkerWord.EXIT_UPTIME_NS] / NS, 3),
            "ago_s": self._moment.seconds_since(row[WorkerWord.EXIT_AT]),
        }


def counts_by_reason(*rows: Row) -> dict[str, int]:
    """Return the counts of rows that are indexed by a reason's code, added up; those that are 0 are left out."""
    totals: dict[str, int] = {}
    for row in rows:
        counts = row.words[row.at : row.at + row.count].tolist()
        for code, count in enumerate(counts if any(counts) else ()):
            reason = word_of(Reason, code) if count else None
            if reason is not None:
                totals[str(reason)] = totals.get(str(reason), 0) + count
    return totals


def _state_alone(row: Row, now_ns: int) -> WorkerState:
    """Return the state of a worker that no parent judges."""
    if is_fresh(row, now_ns):
        return WorkerState.LIVE
    return WorkerState.STALE if row[WorkerWord.FIRST_FRESH] else WorkerState.STARTING
