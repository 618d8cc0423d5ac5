"""Verdicts: what the parent concludes of a worker from its words on the board. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ipc.board import Row, SessionWord, WorkerWord
from ipc.health import Phase, Reason, code_of

__all__ = ["VerdictLimits", "is_fresh", "is_stale", "kill_reason_of"]

_NS: Final = 1_000_000_000
#: How long all books may be missing before a live worker is called stale (a resync takes less).
_STALE_NS: Final = _NS
#: A planned action of a session may be late by this much.
_OVERDUE_NS: Final = 20 * _NS
_FRUITLESS: Final = 2
#: The main thread moves ten times a second; writing a black box to a slow disk may hold it up.
_MAIN_NS: Final = 10 * _NS
_CONNECTING, _BACKOFF = code_of(Phase.CONNECTING), code_of(Phase.BACKOFF)
_RESOLVING, _SUBSCRIBED = code_of(Phase.RESOLVING), code_of(Phase.SUBSCRIBED)
_REPLAYING = code_of(Phase.REPLAYING)


@dataclass(frozen=True, slots=True)
class VerdictLimits:
    """When a worker is given up, ns (memory in bytes, 0 for no limit)."""

    beat_ns: int = 2 * _NS
    deadline_ns: int = 3 * _NS
    start_ns: int = 30 * _NS
    memory_bytes: int = 0


def is_fresh(worker: Row, now_ns: int) -> bool:
    """Whether every wanted book of a worker is usable and some of them moving."""
    last = worker[WorkerWord.LAST_FRESH]
    return last != 0 and now_ns - last <= _STALE_NS


def is_stale(worker: Row, now_ns: int) -> bool:
    """Whether a worker that was live has lost that."""
    return now_ns - worker[WorkerWord.LAST_FRESH] > _STALE_NS


def kill_reason_of(worker: Row, sessions: Sequence[Row], now_ns: int, limits: VerdictLimits) -> Reason | None:
    """Why a running worker must be killed, if it must."""
    if _is_wedged(worker, sessions, now_ns, limits):
        return Reason.WEDGED
    if limits.memory_bytes and worker[WorkerWord.RSS_BYTES] > limits.memory_bytes:
        return Reason.MEMORY
    if worker[WorkerWord.OUTAGE_SINCE] or _wants_no_book(worker):
        return None  # no restart mends that
    if _is_stale_for_good(sessions, now_ns, has_book=worker[WorkerWord.BOOKS_USABLE] > 0):
        return Reason.STALE_WORKER
    is_late = now_ns - _began_ns(worker, sessions) > limits.start_ns and not worker[WorkerWord.FIRST_FRESH]
    return Reason.START_TIMEOUT if is_late and not _is_busy_as_planned(sessions, now_ns) else None


def _wants_no_book(worker: Row) -> bool:
    """Whether the venue lists none of the markets, or all of them are halted; the worker looks again by itself."""
    return worker[WorkerWord.RESOLVED] != 0 and not worker[WorkerWord.BOOKS_WANTED]


def _began_ns(worker: Row, sessions: Sequence[Row]) -> int:
    """Since when a worker could have become live: a venue that answers late, or seldom, has its time from then on."""
    opened = max((session[SessionWord.OPENED] for session in sessions), default=0)
    return max(worker[WorkerWord.FORKED], worker[WorkerWord.RESOLVING], worker[WorkerWord.HELD_BACK], opened)


def _is_wedged(worker: Row, sessions: Sequence[Row], now_ns: int, limits: VerdictLimits) -> bool:
    """No beat of the watchdog, or a thread that should have been back from what it blocks in."""
    beat = worker[WorkerWord.BEAT]
    if beat and now_ns - beat > limits.beat_ns:
        return True
    if not beat and now_ns - worker[WorkerWord.FORKED] > limits.start_ns:
        return True
    # The watchdog beats, but the thread that sends the heartbeats does not move.
    main = worker[WorkerWord.MAIN_SEEN]
    if main and beat - main > _MAIN_NS:
        return True
    deadlines = (session[SessionWord.DEADLINE] for session in sessions)
    return any(deadline and now_ns - deadline > limits.deadline_ns for deadline in deadlines)


def _is_stale_for_good(sessions: Sequence[Row], now_ns: int, *, has_book: bool) -> bool:
    """A session that connects and subscribes again and again without fresh data, or forgot what it had planned.

    Beside sessions that deliver, one without data is left to go on by itself: a restart would cost their markets too.
    """
    for session in sessions:
        is_subscribed = session[SessionWord.PHASE] == _SUBSCRIBED
        if is_subscribed and session[SessionWord.FAILED_CYCLES] >= _FRUITLESS and not has_book:
            return True
        planned = session[SessionWord.NEXT_ACTION]
        if session[SessionWord.PHASE] == _BACKOFF and planned and now_ns - planned > _OVERDUE_NS:
            return True
    return False


def _is_busy_as_planned(sessions: Sequence[Row], now_ns: int) -> bool:
    """Whether some session connects, waits or resolves, each within its own time, or plays what may hold no book."""
    for session in sessions:
        phase, planned = session[SessionWord.PHASE], session[SessionWord.NEXT_ACTION]
        if phase in {_CONNECTING, _RESOLVING, _REPLAYING}:
            return True
        if phase == _BACKOFF and now_ns - planned <= _OVERDUE_NS:
            return True
    return False
