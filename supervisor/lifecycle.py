"""State machine of a supervised process: one table decides what each event leads to in each state.

Pure: no clock, no kernel, no log. :class:`ProcessLifecycle` maps an event and a time to actions;
:class:`supervisor.child.ChildProcess` executes them. ``docs/states.md`` is printed from this table.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ipc.health import Reason, WorkerState
from workers.backoff import Backoff

_NS: Final = 1_000_000_000
#: A crash loop: this many failures in a row, and as many within the window.
_LOOP_DEATHS: Final = 5
_LOOP_WINDOW_NS: Final = 600 * _NS
_REMEMBERED_DEATHS: Final = 100
#: Kills that an operator or a changed configuration asked for: no failure of the process.
PLANNED_KILLS: Final = frozenset({Reason.REQUESTED, Reason.CONFIG_CHANGED})


class ChildState(Enum):
    """State of a supervised process; several may share one public state."""

    #: Not running, and not to be started before an operator asks for it.
    STOPPED = "stopped"
    #: Forked, and not healthy yet.
    STARTING = "starting"
    #: Delivers fresh data.
    LIVE = "live"
    #: Delivered fresh data before, but not now.
    STALE = "stale"
    #: Waits for its next start.
    BACKOFF = "backoff"
    #: Being killed because a kill rule applies; is started again after the backoff delay.
    KILLING = "killing"
    #: Being killed on request; is started again at once.
    RESTARTING = "restarting"
    #: Being killed on request; is not started again.
    STOPPING = "stopping"
    #: Survived SIGKILL; is started again once it has exited.
    UNKILLABLE = "unkillable"
    #: Survived SIGKILL; is not started again.
    UNKILLABLE_STOPPING = "unkillable_stopping"
    #: Exited with a configuration error that no retry can fix.
    FAILED = "failed"

    @property
    def public(self) -> WorkerState:
        """State that board, events and ``status`` show."""
        return _PUBLIC.get(self) or WorkerState(self.value)


_PUBLIC: Final = {
    ChildState.RESTARTING: WorkerState.KILLING,
    ChildState.STOPPING: WorkerState.KILLING,
    ChildState.UNKILLABLE_STOPPING: WorkerState.UNKILLABLE,
}


class ChildEvent(Enum):
    """Event in the life of a process, or a request for one."""

    #: The backoff delay is over, or the process is wanted for the first time.
    START = "start"
    #: All its data is fresh.
    FRESH = "fresh"
    #: Some of its data is not fresh.
    STALE = "stale"
    #: A kill rule applies (wedged, start_timeout, stale_worker, memory).
    UNHEALTHY = "unhealthy"
    #: An operator or a changed configuration asks for a restart.
    RESTART = "restart"
    #: An operator or a changed configuration asks for a stop.
    STOP = "stop"
    #: The process exited.
    EXIT = "exit"
    #: The process exited with the code for a configuration error.
    EXIT_CONFIG = "exit_config"
    #: The process still exists after the last step of the kill sequence.
    KILL_TIMEOUT = "kill_timeout"
    #: The kernel refused the fork.
    FORK_FAILED = "fork_failed"


class Action(Enum):
    """Reaction of :class:`supervisor.child.ChildProcess` to an event."""

    FORK = "fork"
    #: Begin the kill sequence.
    KILL = "kill"
    #: Plan the next start after the delay that the exit or the failed fork earned.
    BACK_OFF = "back off"
    #: Plan the next start without a delay.
    START_AT_ONCE = "start at once"
    #: Log that an operator must act.
    ALERT = "alert"


S, E, A = ChildState, ChildEvent, Action
Outcome = tuple[ChildState, tuple[Action, ...]]

_FORK: Final = S.STARTING, (A.FORK,)
_RETRY: Final = S.BACKOFF, (A.BACK_OFF,)
_AT_ONCE: Final = S.BACKOFF, (A.START_AT_ONCE,)
_STOPPED: Final[Outcome] = S.STOPPED, ()
_RUNNING: Final[dict[ChildEvent, Outcome]] = {
    E.UNHEALTHY: (S.KILLING, (A.KILL,)),
    E.RESTART: (S.RESTARTING, (A.KILL,)),
    E.STOP: (S.STOPPING, (A.KILL,)),
    E.EXIT: _RETRY,
    E.EXIT_CONFIG: (S.FAILED, (A.ALERT,)),
}
_UNKILLABLE: Final = S.UNKILLABLE, (A.ALERT,)

#: What each event leads to in each state: next state and actions, in order. An event that is not listed is ignored.
TABLE: Final[dict[ChildState, dict[ChildEvent, Outcome]]] = {
    S.STOPPED: {E.START: _FORK, E.RESTART: _FORK},
    S.STARTING: {E.FRESH: (S.LIVE, ()), **_RUNNING, E.FORK_FAILED: _RETRY},
    S.LIVE: {E.STALE: (S.STALE, ()), **_RUNNING},
    S.STALE: {E.FRESH: (S.LIVE, ()), **_RUNNING},
    S.BACKOFF: {E.START: _FORK, E.RESTART: _FORK, E.STOP: _STOPPED},
    S.KILLING: {E.STOP: (S.STOPPING, ()), E.EXIT: _RETRY, E.EXIT_CONFIG: _RETRY, E.KILL_TIMEOUT: _UNKILLABLE},
    S.RESTARTING: {E.STOP: (S.STOPPING, ()), E.EXIT: _AT_ONCE, E.EXIT_CONFIG: _AT_ONCE, E.KILL_TIMEOUT: _UNKILLABLE},
    S.STOPPING: {
        E.START: (S.RESTARTING, ()),
        E.RESTART: (S.RESTARTING, ()),
        E.EXIT: _STOPPED,
        E.EXIT_CONFIG: _STOPPED,
        E.KILL_TIMEOUT: (S.UNKILLABLE_STOPPING, (A.ALERT,)),
    },
    # Never fork beside a process that still exists: both would publish on the same path.
    S.UNKILLABLE: {E.STOP: (S.UNKILLABLE_STOPPING, ()), E.EXIT: _RETRY, E.EXIT_CONFIG: _RETRY},
    S.UNKILLABLE_STOPPING: {
        E.START: (S.UNKILLABLE, ()),
        E.RESTART: (S.UNKILLABLE, ()),
        E.EXIT: _STOPPED,
        E.EXIT_CONFIG: _STOPPED,
    },
    S.FAILED: {E.RESTART: _FORK, E.STOP: _STOPPED},
}

#: States of a process that runs and is not being killed.
ALIVE: Final = frozenset({S.STARTING, S.LIVE, S.STALE})


@dataclass(frozen=True, slots=True)
class Death:
    """Exit of one generation."""

    reason: Reason
    exit_code: int | None
    signal: int | None
    at_ns: int
    uptime_ns: int
    failures: int
    #: True when it counts towards backoff and crash loop; exits by request or by a drill do not.
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class Transition:
    """Result of one event."""

    previous: ChildState
    state: ChildState
    actions: tuple[Action, ...]

    @property
    def is_public(self) -> bool:
        """True when the public state changed."""
        return self.state.public is not self.previous.public


@dataclass(slots=True)
class ProcessLifecycle:
    """State of one supervised process over all its generations. Times are monotonic ns.

    Attributes:
        backoff: Counts its failures and decides the delays.
        generation: Number of successful forks.
        forked_ns: Time of the last one.
        kill_reason: Reason of the kill under way; becomes the reason of the exit.
        stop_reason: Reason of the last stop; becomes the reason of the state that it leads to.
        is_drill: True while a drill is the likely cause of the next exit; that exit is not counted.
        retry_delay_ns: Delay that the last exit or failed fork earned.
        next_start_ns: Time of the planned start; 0 when none is planned.
        deaths: The last hundred exits.
        in_crash_loop: True after too many failures in a short time, until a healthy run or a stop.
    """

    backoff: Backoff
    state: ChildState = ChildState.STOPPED
    generation: int = 0
    forked_ns: int = 0
    kill_reason: Reason | None = None
    stop_reason: Reason | None = None
    is_drill: bool = False
    retry_delay_ns: int = 0
    next_start_ns: int = 0
    deaths: deque[Death] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_DEATHS))
    in_crash_loop: bool = False

    @property
    def restarts(self) -> int:
        """Number of forks after the first."""
        return max(0, self.generation - 1)

    @property
    def is_planned(self) -> bool:
        """True when the kill under way was asked for."""
        return self.kill_reason in PLANNED_KILLS

    def handle(self, event: ChildEvent, now_ns: int, reason: Reason | None = None) -> Transition:
        """Apply an event to the state and return what is to be done.

        Args:
            event: What happened.
            now_ns: Time of the event.
            reason: Reason for ``UNHEALTHY``, ``RESTART`` and ``STOP``.
        """
        previous = self.state
        outcome = TABLE[previous].get(event)
        if outcome is None:
            return Transition(previous, previous, ())
        self.state, actions = outcome
        self.next_start_ns = 0
        if event is ChildEvent.STOP:
            self.stop_reason = reason
        if self.state is ChildState.STOPPED:  # the next start is a new beginning
            self.backoff.reset()
            self.in_crash_loop = False
        for action in actions:
            match action:
                case Action.FORK:
                    self.kill_reason, self.is_drill = None, False
                case Action.KILL:
                    self.kill_reason = reason
                case Action.BACK_OFF:
                    self.next_start_ns = now_ns + self.retry_delay_ns
                case Action.START_AT_ONCE:
                    self.next_start_ns = now_ns
        return Transition(previous, self.state, actions)

    def record_fork(self, now_ns: int) -> None:
        """Count a successful fork as a new generation."""
        self.generation += 1
        self.forked_ns = now_ns

    def record_failed_fork(self) -> None:
        """Count a failed fork as a failure; call before :attr:`ChildEvent.FORK_FAILED` is handled."""
        self.retry_delay_ns = self.backoff.failed(0)

    def record_exit(
        self, reason: Reason, exit_code: int | None, signal: int | None, now_ns: int, healthy_ns: int
    ) -> Death:
        """Record an exit and compute the delay that it earned; call before the event for the exit is handled.

        Args:
            reason: Why the process exited.
            exit_code: Its exit code; None after a signal.
            signal: The signal that ended it; None after an exit.
            now_ns: Time of the exit.
            healthy_ns: How long this generation had fresh data; long enough resets the count of failures.
        """
        is_counted = not (self.is_planned or self.is_drill)
        is_healthy = self.backoff.is_healthy(healthy_ns)
        if is_healthy:
            self.in_crash_loop = False
        if is_counted:
            self.retry_delay_ns = self.backoff.failed(healthy_ns)
        else:
            if is_healthy:
                self.backoff.reset()
            self.retry_delay_ns = self.backoff.policy.delay_ns(1, 0.0) if self.is_drill else 0
        death = Death(
            reason=reason,
            exit_code=exit_code,
            signal=signal,
            at_ns=now_ns,
            uptime_ns=now_ns - self.forked_ns,
            failures=self.backoff.failures,
            is_counted=is_counted,
        )
        self.deaths.append(death)
        if is_counted:
            recent = sum(now_ns - d.at_ns <= _LOOP_WINDOW_NS and d.is_counted for d in self.deaths)
            self.in_crash_loop = self.in_crash_loop or (self.backoff.failures >= _LOOP_DEATHS <= recent)
        return death
