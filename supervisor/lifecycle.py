"""The life of a supervised process as a table: what happens in which state, every pair decided.

Pure: no clock, no kernel, no log. :class:`ProcessLifecycle` is told an event and a time and answers with actions; whoever holds the
process (:mod:`supervisor.parent`) carries them out. The page ``docs/states.md`` is printed from this table.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ipc.health import Reason, WorkerState
from workers.backoff import Backoff

__all__ = ["TABLE", "Action", "ChildEvent", "Death", "ProcessLifecycle", "Transition"]

_NS: Final = 1_000_000_000
#: Deaths within this time that make a crash loop, and how many of them.
_LOOP_WINDOW_NS: Final = 600 * _NS
_LOOP_DEATHS: Final = 5
_REMEMBERED_DEATHS: Final = 100
_PAGE: Final = """# The states of a process

What moves a worker, the gateway and the simulator from state to state, and what is then done. Printed from the table in
`supervisor/lifecycle.py` by `make docs`; what is not listed means nothing in that state. On its way down (`killing`) a
process that an operator stopped stays down (`stopped`), and one that shall come up again goes on to `backoff` and is
started at once.

| state | event | next | actions |
|---|---|---|---|
"""


class ChildEvent(Enum):
    """What can happen to a process, or be asked for it."""

    #: The time to start has come, or an operator wants it up.
    START = "start"
    #: Everything that it should deliver is fresh.
    FRESH = "fresh"
    #: Something that it should deliver is not.
    STALE = "stale"
    #: The parent's verdict: it must be killed (wedged, start_timeout, stale_worker, memory).
    UNHEALTHY = "condemn"
    #: An operator (or a changed configuration) wants it down and up again.
    RESTART = "restart"
    #: An operator wants it down.
    STOP = "stop"
    #: The kernel says that it is gone.
    EXIT = "exit"
    #: It is gone, and says that no retry can mend its configuration.
    EXIT_CONFIG = "exit_config"
    #: It is still there long after SIGKILL.
    KILL_TIMEOUT = "survived"
    #: It could not be forked.
    FORK_FAILED = "fork_failed"


class Action(Enum):
    """What to do about it."""

    FORK = "fork"
    #: Begin the ladder of signals.
    KILL = "kill"
    #: Set the time of the next start.
    SCHEDULE = "schedule"
    #: Reap it and note its death.
    BURY = "bury"
    #: Call a person.
    ALERT = "alert"
    NOTHING = "nothing"


S, E, A = WorkerState, ChildEvent, Action
_IGNORE: Final = None

#: (state, event) to (next state, actions); None where the event means nothing in that state.
TABLE: Final[dict[tuple[WorkerState, ChildEvent], tuple[WorkerState, tuple[Action, ...]] | None]] = {
    (S.STOPPED, E.START): (S.STARTING, (A.FORK,)),
    (S.STOPPED, E.FRESH): _IGNORE,
    (S.STOPPED, E.STALE): _IGNORE,
    (S.STOPPED, E.UNHEALTHY): _IGNORE,
    (S.STOPPED, E.RESTART): (S.STARTING, (A.FORK,)),
    (S.STOPPED, E.STOP): _IGNORE,
    (S.STOPPED, E.EXIT): _IGNORE,
    (S.STOPPED, E.EXIT_CONFIG): _IGNORE,
    (S.STOPPED, E.KILL_TIMEOUT): _IGNORE,
    (S.STOPPED, E.FORK_FAILED): _IGNORE,
    (S.STARTING, E.START): _IGNORE,
    (S.STARTING, E.FRESH): (S.LIVE, ()),
    (S.STARTING, E.STALE): _IGNORE,
    (S.STARTING, E.UNHEALTHY): (S.KILLING, (A.KILL,)),
    (S.STARTING, E.RESTART): (S.KILLING, (A.KILL,)),
    (S.STARTING, E.STOP): (S.KILLING, (A.KILL,)),
    (S.STARTING, E.EXIT): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.STARTING, E.EXIT_CONFIG): (S.FAILED, (A.BURY, A.ALERT)),
    (S.STARTING, E.KILL_TIMEOUT): _IGNORE,
    (S.STARTING, E.FORK_FAILED): (S.BACKOFF, (A.SCHEDULE,)),
    (S.LIVE, E.START): _IGNORE,
    (S.LIVE, E.FRESH): _IGNORE,
    (S.LIVE, E.STALE): (S.STALE, ()),
    (S.LIVE, E.UNHEALTHY): (S.KILLING, (A.KILL,)),
    (S.LIVE, E.RESTART): (S.KILLING, (A.KILL,)),
    (S.LIVE, E.STOP): (S.KILLING, (A.KILL,)),
    (S.LIVE, E.EXIT): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.LIVE, E.EXIT_CONFIG): (S.FAILED, (A.BURY, A.ALERT)),
    (S.LIVE, E.KILL_TIMEOUT): _IGNORE,
    (S.LIVE, E.FORK_FAILED): _IGNORE,
    (S.STALE, E.START): _IGNORE,
    (S.STALE, E.FRESH): (S.LIVE, ()),
    (S.STALE, E.STALE): _IGNORE,
    (S.STALE, E.UNHEALTHY): (S.KILLING, (A.KILL,)),
    (S.STALE, E.RESTART): (S.KILLING, (A.KILL,)),
    (S.STALE, E.STOP): (S.KILLING, (A.KILL,)),
    (S.STALE, E.EXIT): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.STALE, E.EXIT_CONFIG): (S.FAILED, (A.BURY, A.ALERT)),
    (S.STALE, E.KILL_TIMEOUT): _IGNORE,
    (S.STALE, E.FORK_FAILED): _IGNORE,
    (S.BACKOFF, E.START): (S.STARTING, (A.FORK,)),
    (S.BACKOFF, E.FRESH): _IGNORE,
    (S.BACKOFF, E.STALE): _IGNORE,
    (S.BACKOFF, E.UNHEALTHY): _IGNORE,
    (S.BACKOFF, E.RESTART): (S.STARTING, (A.FORK,)),
    (S.BACKOFF, E.STOP): (S.STOPPED, ()),
    (S.BACKOFF, E.EXIT): _IGNORE,
    (S.BACKOFF, E.EXIT_CONFIG): _IGNORE,
    (S.BACKOFF, E.KILL_TIMEOUT): _IGNORE,
    (S.BACKOFF, E.FORK_FAILED): _IGNORE,
    (S.KILLING, E.START): _IGNORE,
    (S.KILLING, E.FRESH): _IGNORE,
    (S.KILLING, E.STALE): _IGNORE,
    (S.KILLING, E.UNHEALTHY): _IGNORE,
    (
        S.KILLING,
        E.RESTART,
    ): _IGNORE,  # it is on its way down; :class:`ProcessLifecycle` remembers that it shall come up again
    (S.KILLING, E.STOP): _IGNORE,  # likewise that it shall stay down
    (S.KILLING, E.EXIT): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.KILLING, E.EXIT_CONFIG): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.KILLING, E.KILL_TIMEOUT): (S.UNKILLABLE, (A.ALERT,)),
    (S.KILLING, E.FORK_FAILED): _IGNORE,
    (S.UNKILLABLE, E.START): _IGNORE,  # never a twin: two publishers on one path
    (S.UNKILLABLE, E.FRESH): _IGNORE,
    (S.UNKILLABLE, E.STALE): _IGNORE,
    (S.UNKILLABLE, E.UNHEALTHY): _IGNORE,
    (S.UNKILLABLE, E.RESTART): _IGNORE,
    (S.UNKILLABLE, E.STOP): _IGNORE,
    (S.UNKILLABLE, E.EXIT): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.UNKILLABLE, E.EXIT_CONFIG): (S.BACKOFF, (A.BURY, A.SCHEDULE)),
    (S.UNKILLABLE, E.KILL_TIMEOUT): _IGNORE,
    (S.UNKILLABLE, E.FORK_FAILED): _IGNORE,
    (S.FAILED, E.START): _IGNORE,
    (S.FAILED, E.FRESH): _IGNORE,
    (S.FAILED, E.STALE): _IGNORE,
    (S.FAILED, E.UNHEALTHY): _IGNORE,
    (S.FAILED, E.RESTART): (S.STARTING, (A.FORK,)),
    (S.FAILED, E.STOP): (S.STOPPED, ()),
    (S.FAILED, E.EXIT): _IGNORE,
    (S.FAILED, E.EXIT_CONFIG): _IGNORE,
    (S.FAILED, E.KILL_TIMEOUT): _IGNORE,
    (S.FAILED, E.FORK_FAILED): _IGNORE,
}


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended: plain data, kept for a while."""

    reason: Reason
    exit_code: int | None
    signal: int | None
    at_ns: int
    uptime_ns: int
    failures: int
    #: Whether it counts towards backoff and crash loop: what an operator or a drill did does not.
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event led to."""

    previous: WorkerState
    state: WorkerState
    actions: tuple[Action, ...]


@dataclass(slots=True)
class ProcessLifecycle:
    """One supervised process, over all its generations. Times are monotonic ns.

    Attributes:
        backoff: Counts its failures.
        state: Where it stands, and ``since_ns`` when.
        generation: How many times it was forked.
        restarts: How many of those were not the first.
        kill_reason: Why it is being killed; kept, so that its death is not called "signal 9".
        is_planned: Whether the kill under way is an operator's, which does not count as a failure.
        is_drill: Whether its next death is the work of a drill; not counted either.
        stays_down: Whether it shall stay down when it is gone.
        next_start_ns: When it is started next; 0 when no start is planned.
        deaths: The last hundred.
        in_crash_loop: Whether it died too often of late.
    """

    backoff: Backoff
    state: WorkerState = WorkerState.STOPPED
    since_ns: int = 0
    generation: int = 0
    restarts: int = 0
    forked_ns: int = 0
    kill_reason: Reason | None = None
    is_planned: bool = False
    is_drill: bool = False
    wants_stopped: bool = False
    next_start_ns: int = 0
    deaths: deque[Death] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_DEATHS))
    in_crash_loop: bool = False

    def handle(self, event: ChildEvent, now_ns: int, reason: Reason | None = None) -> Transition:
        """Take an event; what is to be done.

        Args:
            event: What happened.
            now_ns: When.
            reason: Why, for ``UNHEALTHY``, ``RESTART`` and ``STOP``.
        """
        previous = self.state
        if event is ChildEvent.STOP:
            self.wants_stopped = True
        elif event in {ChildEvent.RESTART, ChildEvent.START}:
            self.wants_stopped = False
        row = TABLE[previous, event]
        if row is None:
            return Transition(previous, previous, ())
        state, actions = row
        if Action.KILL in actions:
            self.kill_reason = reason
            self.is_planned = event in {ChildEvent.STOP, ChildEvent.RESTART}
        if Action.FORK in actions:
            self.generation += 1
            self.restarts += self.generation > 1
            self.forked_ns = now_ns
            self.next_start_ns = 0
            self.kill_reason = None
            self.is_planned = self.is_drill = False
        if state is WorkerState.BACKOFF and self.wants_stopped:
            state = WorkerState.STOPPED
            actions = tuple(action for action in actions if action is not Action.SCHEDULE)
        if event is ChildEvent.FORK_FAILED:
            self.generation -= 1
            self.restarts = max(0, self.generation - 1)
        if state in {WorkerState.STOPPED, WorkerState.FAILED}:
            self.next_start_ns = 0
        if state is not previous:
            self.state, self.since_ns = state, now_ns
        return Transition(previous, state, actions)

    def record_exit(
        self, reason: Reason, exit_code: int | None, signal: int | None, now_ns: int, healthy_ns: int
    ) -> Death:
        """Note a death. ``healthy_ns`` is how long this generation was fresh; it decides whether the count starts anew.

        Returns:
            The death, with the delay that it earned already counted in :attr:`next_start_ns`.
        """
        is_counted = not (self.is_planned or self.is_drill)
        if not is_counted:
            delay_ns = self._uncounted_delay_ns(healthy_ns)
        else:
            if self.backoff.is_healthy(healthy_ns):
                self.in_crash_loop = False
            delay_ns = self.backoff.failed(healthy_ns)
        death = Death(reason, exit_code, signal, now_ns, now_ns - self.forked_ns, self.backoff.failures, is_counted)
        self.deaths.append(death)
        self.next_start_ns = 0 if self.wants_stopped else now_ns + delay_ns
        if is_counted:
            recent = sum(now_ns - d.at_ns <= _LOOP_WINDOW_NS and d.is_counted for d in self.deaths)
            self.in_crash_loop = self.in_crash_loop or (self.backoff.failures >= _LOOP_DEATHS <= recent)
        return death

    def _uncounted_delay_ns(self, healthy_ns: int) -> int:
        """A drill waits as the first failure would, and an operator's restart not at all; neither is counted."""
        if self.backoff.is_healthy(healthy_ns):
            self.backoff.reset()
            self.in_crash_loop = False
        return self.backoff.policy.delay_ns(1, 0.0) if self.is_drill else 0

    def schedule_after_failed_fork(self, now_ns: int) -> None:
        """The kernel had no room for another process: wait as after a death."""
        self.next_start_ns = now_ns + self.backoff.failed(0)


def transitions() -> list[tuple[str, str, str, str]]:
    """The table for people: state, event, next state, actions; rows that mean nothing are left out."""
    return [
        (state.value, event.value, row[0].value, ", ".join(action.value for action in row[1]))
        for (state, event), row in TABLE.items()
        if row is not None
    ]


def page() -> str:
    """The table as the page ``docs/states.md``; ``make docs`` writes it."""
    rows = "".join(f"| {' | '.join(row)} |\n" for row in transitions())
    return _PAGE + rows
