"""Kill rules: conditions on board words for which the parent kills a running process. Pure.

``docs/states.md`` prints :data:`RULES` with thresholds, reasons and exemptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ipc.board import Row, SessionWord, WorkerWord
from ipc.health import Phase, Reason, code_of

_NS: Final = 1_000_000_000
#: A live worker without a usable book for longer is stale; a resync takes less.
_STALE_NS: Final = _NS
_CONNECTING, _BACKOFF = code_of(Phase.CONNECTING), code_of(Phase.BACKOFF)
_RESOLVING, _SUBSCRIBED = code_of(Phase.RESOLVING), code_of(Phase.SUBSCRIBED)
_REPLAYING = code_of(Phase.REPLAYING)


@dataclass(frozen=True, slots=True)
class KillLimits:
    """Thresholds of the kill rules, ns where nothing else is said.

    Attributes:
        start_ns: ``health.start_timeout_ms``.
        beat_ns: Age of the watchdog's last beat.
        main_ns: Lag of the main thread (ten rounds a second) behind the watchdog; a slow disk may delay a black box.
        deadline_ns: Delay of a thread past the deadline of its blocking call.
        overdue_ns: Delay of a session's planned action.
        failed_cycles: Connections in a row that subscribed and received no fresh book.
        memory_bytes: ``health.memory_limit_mb``; 0 for no limit.
    """

    start_ns: int
    beat_ns: int = 2 * _NS
    main_ns: int = 10 * _NS
    deadline_ns: int = 3 * _NS
    overdue_ns: int = 20 * _NS
    failed_cycles: int = 2
    memory_bytes: int = 0
    #: After a debugger released the process; a thread that runs again first shows how long the others stood.
    released_ns: int = 10 * _NS


@dataclass(frozen=True, slots=True)
class Observation:
    """Board words of one process at one moment."""

    worker: Row
    sessions: Sequence[Row]
    now_ns: int
    limits: KillLimits
    #: True while a debugger holds the process and shortly after; called only when a rule applies, for it reads /proc.
    is_held: Callable[[], bool]

    def is_overdue(self, session: Row) -> bool:
        """Return whether the planned action of a session that backs off is overdue."""
        return self.now_ns - session[SessionWord.NEXT_ACTION] > self.limits.overdue_ns


Check = Callable[[Observation], bool]


@dataclass(frozen=True, slots=True)
class Exemption:
    """Condition that spares a process from a rule."""

    text: str
    applies: Check


@dataclass(frozen=True, slots=True)
class KillRule:
    """Condition on which a running process is killed.

    Attributes:
        text: The condition in words; ``{}`` stands for the threshold.
        threshold: Name of its field in :class:`KillLimits`.
        reason: Reason of the kill.
        applies: The condition.
        exemptions: Conditions that spare the process.
    """

    text: str
    threshold: str
    reason: Reason
    applies: Check
    exemptions: tuple[Exemption, ...] = ()


def is_fresh(worker: Row, now_ns: int) -> bool:
    """Return whether every wanted book of a worker is usable and some of them have recent updates."""
    last = worker[WorkerWord.LAST_FRESH]
    return last != 0 and now_ns - last <= _STALE_NS


def is_stale(worker: Row, now_ns: int) -> bool:
    """Return whether a worker has had no fresh data for too long to be live."""
    return now_ns - worker[WorkerWord.LAST_FRESH] > _STALE_NS


def kill_reason_of(
    worker: Row, sessions: Sequence[Row], now_ns: int, limits: KillLimits, is_held: Callable[[], bool]
) -> Reason | None:
    """Return the reason of the first rule that applies to a running process; None when none does."""
    seen = Observation(worker, sessions, now_ns, limits, is_held)
    for rule in RULES:
        if rule.applies(seen) and not any(exemption.applies(seen) for exemption in (*rule.exemptions, HELD)):
            return rule.reason
    return None


def _has_late_beat(seen: Observation) -> bool:
    beat = seen.worker[WorkerWord.BEAT]
    return beat != 0 and seen.now_ns - beat > seen.limits.beat_ns


def _has_no_beat(seen: Observation) -> bool:
    return not seen.worker[WorkerWord.BEAT] and seen.now_ns - seen.worker[WorkerWord.FORKED] > seen.limits.start_ns


def _has_stuck_main_thread(seen: Observation) -> bool:
    main = seen.worker[WorkerWord.MAIN_SEEN]
    return main != 0 and seen.worker[WorkerWord.BEAT] - main > seen.limits.main_ns


def _has_stuck_session(seen: Observation) -> bool:
    deadlines = (session[SessionWord.DEADLINE] for session in seen.sessions)
    return any(deadline and seen.now_ns - deadline > seen.limits.deadline_ns for deadline in deadlines)


def _exceeds_memory(seen: Observation) -> bool:
    return 0 < seen.limits.memory_bytes < seen.worker[WorkerWord.RSS_BYTES]


def _subscribes_in_vain(seen: Observation) -> bool:
    return any(
        session[SessionWord.PHASE] == _SUBSCRIBED and session[SessionWord.FAILED_CYCLES] >= seen.limits.failed_cycles
        for session in seen.sessions
    )


def _misses_plan(seen: Observation) -> bool:
    return any(
        session[SessionWord.PHASE] == _BACKOFF and session[SessionWord.NEXT_ACTION] and seen.is_overdue(session)
        for session in seen.sessions
    )


def _starts_late(seen: Observation) -> bool:
    """Return whether the grace period, which begins again with each of these events, is over without fresh data."""
    worker = seen.worker
    opened = max((session[SessionWord.OPENED] for session in seen.sessions), default=0)
    began = max(worker[WorkerWord.FORKED], worker[WorkerWord.RESOLVING], worker[WorkerWord.HELD_BACK], opened)
    return not worker[WorkerWord.FIRST_FRESH] and seen.now_ns - began > seen.limits.start_ns


def _is_in_outage(seen: Observation) -> bool:
    return seen.worker[WorkerWord.OUTAGE_SINCE] != 0


def _wants_no_book(seen: Observation) -> bool:
    return seen.worker[WorkerWord.RESOLVED] != 0 and not seen.worker[WorkerWord.BOOKS_WANTED]


def _has_usable_book(seen: Observation) -> bool:
    return seen.worker[WorkerWord.BOOKS_USABLE] > 0


def _is_busy(seen: Observation) -> bool:
    busy = {_CONNECTING, _RESOLVING, _REPLAYING}
    return any(
        session[SessionWord.PHASE] in busy or (session[SessionWord.PHASE] == _BACKOFF and not seen.is_overdue(session))
        for session in seen.sessions
    )


_OUTAGE: Final = Exemption("the venue is in outage", _is_in_outage)
_NO_BOOK_WANTED: Final = Exemption("no market can have a book (not listed, or halted)", _wants_no_book)
_USABLE_BOOK: Final = Exemption("another session delivers a usable book", _has_usable_book)
_BUSY: Final = Exemption("a session connects, resolves, replays, or backs off and is not overdue", _is_busy)

#: Spares a process from every rule.
HELD: Final = Exemption("a debugger holds the process, or released it shortly before", lambda seen: seen.is_held())

#: Checked in this order.
RULES: Final = (
    KillRule("no beat of the watchdog for {}", "beat_ns", Reason.WEDGED, _has_late_beat),
    KillRule("no first beat of the watchdog {} after the fork", "start_ns", Reason.WEDGED, _has_no_beat),
    KillRule("main thread {} behind the watchdog", "main_ns", Reason.WEDGED, _has_stuck_main_thread),
    KillRule("session thread {} past its deadline", "deadline_ns", Reason.WEDGED, _has_stuck_session),
    KillRule("memory above {}", "memory_bytes", Reason.MEMORY, _exceeds_memory),
    KillRule(
        "a session subscribed on {} connections in a row without fresh data",
        "failed_cycles",
        Reason.STALE_WORKER,
        _subscribes_in_vain,
        (_OUTAGE, _NO_BOOK_WANTED, _USABLE_BOOK),
    ),
    KillRule(
        "planned reconnect of a session {} overdue",
        "overdue_ns",
        Reason.STALE_WORKER,
        _misses_plan,
        (_OUTAGE, _NO_BOOK_WANTED),
    ),
    KillRule(
        "no fresh data {} after fork, start of market lookup, rate-limit pause or last opened connection",
        "start_ns",
        Reason.START_TIMEOUT,
        _starts_late,
        (_OUTAGE, _NO_BOOK_WANTED, _BUSY),
    ),
)
