"""Telling of processes: what happens to a child goes onto the board, into the log and to whoever follows."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, Final

from ipc.board import WorkerWord
from ipc.health import Reason, WorkerState, code_of
from ipc.log import get_log
from supervisor.child import Supervised
from supervisor.lifecycle import Death, Transition

__all__ = ["LifecycleReporter", "signal_name"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Reasons and uptimes that a crash loop is told with.
_TOLD_DEATHS: Final = 5
_PLANNED: Final = frozenset({Reason.REQUESTED, Reason.CONFIG_CHANGED, Reason.DRILL})


def signal_name(number: int | None) -> str | None:
    """``SIGKILL`` for 9; None for None."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class LifecycleReporter:
    """Tells of children.

    Args:
        follow: Takes a lifecycle event for the followers.
    """

    def __init__(self, follow: Callable[[dict[str, Any]], None]) -> None:
        self._follow = follow
        self._loop_told_ns: dict[str, int] = {}

    def forked(self, child: Supervised) -> None:
        """It runs."""
        row, life = child.row, child.life
        row[WorkerWord.PID] = child.child.pid if child.child is not None else 0
        row[WorkerWord.RESTARTS] = life.restarts
        row[WorkerWord.FAILURES] = life.backoff.failures
        self._tell(child, "started", None)

    def changed(self, child: Supervised, step: Transition, now: int, reason: Reason | None) -> None:
        """It has another state."""
        row, life = child.row, child.life
        row[WorkerWord.STATE] = code_of(life.state)
        row[WorkerWord.STATE_SINCE] = now
        row[WorkerWord.NEXT_START] = life.next_start_ns
        if step.previous is WorkerState.STALE:
            row.add(WorkerWord.STALE_NS, now - child.stale_since_ns)
        if life.state is WorkerState.STALE:
            child.stale_since_ns = now
            log.warning("worker.stale", venue=child.name)
        elif life.state is WorkerState.LIVE:
            row[WorkerWord.LIVE_AT] = now
            log.info("worker.live", venue=child.name, after_ms=(now - life.forked_ns) // _MS)
        self._tell(child, life.state.value, reason)

    def killing(self, child: Supervised, reason: Reason) -> None:
        """It is being killed."""
        tell = log.info if reason in _PLANNED else log.warning
        tell("worker.killing", venue=child.name, worker_pid=child.child.pid if child.child else None, reason=reason)

    def attention(self, child: Supervised, state: WorkerState, reason: Reason | None) -> None:
        """A person is needed."""
        log.error("worker.needs_attention", venue=child.name, state=state, reason=reason)

    def fork_failed(self, child: Supervised, error: str) -> None:
        """The kernel had no room for it."""
        child.row[WorkerWord.NEXT_START] = child.life.next_start_ns
        log.error("worker.fork_failed", venue=child.name, error=error, retry_in_s=self._delay_s(child))

    def exited(self, child: Supervised, death: Death, pid: int, *, expected: bool) -> None:
        """It is gone."""
        row = child.row
        row[WorkerWord.PID] = 0
        row[WorkerWord.EXIT_REASON] = code_of(death.reason)
        row[WorkerWord.EXIT_CODE] = 0 if death.exit_code is None else death.exit_code + 1
        row[WorkerWord.EXIT_SIGNAL] = death.signal or 0
        row[WorkerWord.EXIT_AT] = death.at_ns
        row[WorkerWord.EXIT_UPTIME_NS] = death.uptime_ns
        row[WorkerWord.FAILURES] = child.life.backoff.failures
        tell = log.info if expected else log.error
        tell(
            "worker.exited",
            venue=child.name,
            worker_pid=pid,
            reason=death.reason,
            exit_code=death.exit_code,
            signal=signal_name(death.signal),
            uptime_s=round(death.uptime_ns / _NS, 3),
        )
        self._tell(child, "exited", death.reason, death)

    def restarting(self, child: Supervised, reason: Reason) -> None:
        """Its next start is planned."""
        life = child.life
        log.info(
            "worker.restarting",
            venue=child.name,
            reason=reason,
            delay_s=self._delay_s(child),
            failures=life.backoff.failures,
            restarts=life.restarts + 1,
        )
        self._tell(child, "restarting", reason)

    def crash_loop(self, child: Supervised, now: int) -> None:
        """It dies again and again: one line when that begins, and one per longest delay while it lasts."""
        child.row[WorkerWord.CRASH_LOOP] = 1
        told = self._loop_told_ns.get(child.name)
        cap_ns = int(child.life.backoff.policy.cap_s * _NS)
        if told is not None and now - told < cap_ns:
            return
        self._loop_told_ns[child.name] = now
        recent = list(child.life.deaths)[-_TOLD_DEATHS:]
        log.error(
            "worker.crash_loop",
            venue=child.name,
            failures=child.life.backoff.failures,
            reasons=",".join(death.reason for death in recent),
            uptimes_s=",".join(f"{death.uptime_ns / _NS:.1f}" for death in recent),
            within_s=round((recent[-1].at_ns - recent[0].at_ns) / _NS, 1) if recent else None,
            next_try_in_s=self._delay_s(child),
        )

    def crash_loop_over(self, child: Supervised) -> None:
        """It had a healthy run again."""
        child.row[WorkerWord.CRASH_LOOP] = 0
        self._loop_told_ns.pop(child.name, None)
        log.info("worker.crash_loop_over", venue=child.name)

    def _delay_s(self, child: Supervised) -> float:
        return round(max(0, child.life.next_start_ns - time.monotonic_ns()) / _NS, 3)

    def _tell(self, child: Supervised, event: str, reason: Reason | None, death: Death | None = None) -> None:
        life = child.life
        self._follow(
            {
                "process": child.name,
                "event": event,
                "reason": reason,
                "pid": child.child.pid if child.child is not None else None,
                "generation": life.generation,
                "exit_code": death.exit_code if death else None,
                "signal": signal_name(death.signal) if death else None,
                "delay_s": self._delay_s(child) if life.next_start_ns else None,
                "failures": life.backoff.failures,
                "restarts": life.restarts,
                "uptime_s": death.uptime_ns / _NS if death else None,
                "mono_ns": time.monotonic_ns(),
                "wall_ns": time.time_ns(),
            }
        )
