"""Reports of a process: its board row, its log lines and the lifecycle events for followers."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, Final

from ipc.board import Row, WorkerWord
from ipc.health import Reason, WorkerState, code_of
from ipc.log import get_log
from supervisor.lifecycle import PLANNED_KILLS, Death, ProcessLifecycle, Transition

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Exits that a crash loop is logged with.
_LOGGED_DEATHS: Final = 5
_EXPECTED: Final = PLANNED_KILLS | {Reason.DRILL}


def signal_name(number: int | None) -> str | None:
    """Return ``SIGKILL`` for 9; None for None."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class LifecycleReporter:
    """Reporter of one process to the board, the log and the followers.

    Args:
        name: The process.
        row: Its words on the board.
        lifecycle: Its state.
        publish: Sends a lifecycle event to the followers.
    """

    def __init__(
        self, name: str, row: Row, lifecycle: ProcessLifecycle, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        self._name = name
        self._row = row
        self._lifecycle = lifecycle
        self._publish_event = publish
        self._pid: int | None = None
        self._stale_since_ns = 0
        #: Time of the last line on the crash loop; None outside of one.
        self._crash_loop_logged_ns: int | None = None

    def record_fork(self, pid: int) -> None:
        """Record a successful fork."""
        self._pid = self._row[WorkerWord.PID] = pid
        self._row[WorkerWord.RESTARTS] = self._lifecycle.restarts
        self._row[WorkerWord.FAILURES] = self._lifecycle.backoff.failures
        self._publish("started", None)

    def record_failed_fork(self, error: str) -> None:
        """Log a failed fork with the delay before the next one."""
        log.error("worker.fork_failed", venue=self._name, error=error, retry_in_s=self._delay_s())

    def record_state(self, step: Transition, now: int, reason: Reason | None) -> None:
        """Record a change of the public state."""
        row, state = self._row, step.state.public
        row[WorkerWord.STATE] = code_of(state)
        row[WorkerWord.STATE_SINCE] = now
        row[WorkerWord.NEXT_START] = self._lifecycle.next_start_ns
        if step.previous.public is WorkerState.STALE:
            row.add(WorkerWord.STALE_NS, now - self._stale_since_ns)
        if state is WorkerState.STALE:
            self._stale_since_ns = now
            log.warning("worker.stale", venue=self._name)
        elif state is WorkerState.LIVE:
            row[WorkerWord.LIVE_AT] = now
            log.info("worker.live", venue=self._name, after_ms=(now - self._lifecycle.forked_ns) // _MS)
        self._publish(state.value, reason)

    def log_kill(self, reason: Reason | None) -> None:
        """Log the begin of a kill."""
        write = log.info if reason in _EXPECTED else log.warning
        write("worker.killing", venue=self._name, worker_pid=self._pid, reason=reason)

    def log_attention(self, state: WorkerState, reason: Reason | None) -> None:
        """Log that an operator must act."""
        log.error("worker.needs_attention", venue=self._name, state=state, reason=reason)

    def record_exit(self, death: Death, *, is_expected: bool) -> None:
        """Record the exit."""
        row, pid = self._row, self._pid
        self._pid = None
        row[WorkerWord.PID] = 0
        row[WorkerWord.EXIT_REASON] = code_of(death.reason)
        row[WorkerWord.EXIT_CODE] = 0 if death.exit_code is None else death.exit_code + 1
        row[WorkerWord.EXIT_SIGNAL] = death.signal or 0
        row[WorkerWord.EXIT_AT] = death.at_ns
        row[WorkerWord.EXIT_UPTIME_NS] = death.uptime_ns
        row[WorkerWord.FAILURES] = death.failures
        write = log.info if is_expected else log.error
        write(
            "worker.exited",
            venue=self._name,
            worker_pid=pid,
            reason=death.reason,
            exit_code=death.exit_code,
            signal=signal_name(death.signal),
            uptime_s=round(death.uptime_ns / _NS, 3),
        )
        self._publish("exited", death.reason, death)

    def record_restart(self, reason: Reason) -> None:
        """Report that the next start is planned."""
        log.info(
            "worker.restarting",
            venue=self._name,
            reason=reason,
            delay_s=self._delay_s(),
            failures=self._lifecycle.backoff.failures,
            restarts=self._lifecycle.restarts + 1,
        )
        self._publish("restarting", reason)

    def record_crash_loop(self, now: int) -> None:
        """Record a crash loop; log it when it begins, and once per longest delay while it lasts."""
        self._row[WorkerWord.CRASH_LOOP] = 1
        logged, backoff = self._crash_loop_logged_ns, self._lifecycle.backoff
        if logged is not None and now - logged < int(backoff.policy.cap_s * _NS):
            return
        self._crash_loop_logged_ns = now
        recent = list(self._lifecycle.deaths)[-_LOGGED_DEATHS:]
        log.error(
            "worker.crash_loop",
            venue=self._name,
            failures=backoff.failures,
            reasons=",".join(death.reason for death in recent),
            uptimes_s=",".join(f"{death.uptime_ns / _NS:.1f}" for death in recent),
            within_s=round((recent[-1].at_ns - recent[0].at_ns) / _NS, 1) if recent else None,
            next_try_in_s=self._delay_s(),
        )

    def record_recovery(self) -> None:
        """Record that a healthy run ended the crash loop."""
        self._row[WorkerWord.CRASH_LOOP] = 0
        self._crash_loop_logged_ns = None
        log.info("worker.crash_loop_over", venue=self._name)

    def _delay_s(self) -> float:
        return round(max(0, self._lifecycle.next_start_ns - time.monotonic_ns()) / _NS, 3)

    def _publish(self, event: str, reason: Reason | None, death: Death | None = None) -> None:
        lifecycle = self._lifecycle
        self._publish_event(
            {
                "process": self._name,
                "event": event,
                "reason": reason,
                "pid": self._pid,
                "generation": lifecycle.generation,
                "exit_code": death.exit_code if death else None,
                "signal": signal_name(death.signal) if death else None,
                "delay_s": self._delay_s() if lifecycle.next_start_ns else None,
                "failures": lifecycle.backoff.failures,
                "restarts": lifecycle.restarts,
                "uptime_s": death.uptime_ns / _NS if death else None,
                "mono_ns": time.monotonic_ns(),
                "wall_ns": time.time_ns(),
            }
        )
