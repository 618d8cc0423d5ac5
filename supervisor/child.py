"""Supervised process: fork, checks, kill, exit and restart of one child, over all its generations.

:mod:`supervisor.lifecycle` decides what an event leads to, :mod:`supervisor.kill_rules` when to kill.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ipc.board import Board, HeaderWord, WorkerWord
from ipc.control import ProcessFault
from ipc.errors import UsageError
from ipc.health import Reason, SelfFault, code_of
from ipc.log import get_log
from supervisor.kill_rules import KillLimits, is_fresh, is_stale, kill_reason_of
from supervisor.lifecycle import ALIVE, PLANNED_KILLS, Action, ChildEvent, ChildState, ProcessLifecycle, Transition
from supervisor.lifecycle_reporter import LifecycleReporter
from supervisor.reactor import Reactor
from supervisor.spawn import CONFIG_EXIT, ForkedProcess, ForkError, spawn
from workers.backoff import Backoff, BackoffPolicy

log = get_log(__name__)

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
#: Wait for the stack dump before SIGTERM.
DUMP_NS: Final = 200 * _MS
#: Wait after SIGTERM before SIGKILL, and for a wedged process, which rarely reacts to SIGTERM.
GRACE_NS: Final = 2 * _NS
WEDGED_GRACE_NS: Final = 500 * _MS
#: Wait after SIGKILL before the process is reported as unkillable.
KILL_TIMEOUT_NS: Final = 5 * _NS
_SIGKILL: Final = (signal.SIGKILL, KILL_TIMEOUT_NS)
#: An exit later than this after a drill is not attributed to the drill.
_DRILL_NS: Final = 60 * _NS
_DRILL_SIGNALS: Final = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "stop": signal.SIGSTOP}
#: Signals that others send to end a process: the kernel when memory is short, or an operator.
_KILL_SIGNALS: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_STOPPING: Final = frozenset({ChildState.STOPPING, ChildState.UNKILLABLE_STOPPING})
#: Events that no process follows while an operator keeps it stopped.
_STARTS: Final = frozenset({ChildEvent.START, ChildEvent.RESTART})


@dataclass(frozen=True, slots=True)
class Handover:
    """State that a generation takes over from the one before; read from the board before it is cleared."""

    epoch: int = 0
    #: Reason of the last exit; None for the first generation.
    reason: Reason | None = None
    #: Number of the last event that the gateway published.
    published: int = 0


class KillSequence:
    """Signals that end a process, each with the wait after it.

    A stopped process reacts to SIGKILL alone. A planned kill needs no stack dump.
    """

    def __init__(self, process: ForkedProcess, steps: Iterable[tuple[int, int]]) -> None:
        self._process = process
        self._steps = deque(steps)

    @classmethod
    def begin(cls, process: ForkedProcess, reason: Reason | None) -> KillSequence:
        """Return the sequence for a reason."""
        steps = []
        if not process.is_stopped():
            if reason not in PLANNED_KILLS:
                steps.append((signal.SIGUSR1, DUMP_NS))
            steps.append((signal.SIGTERM, WEDGED_GRACE_NS if reason is Reason.WEDGED else GRACE_NS))
        return cls(process, [*steps, _SIGKILL])

    @classmethod
    def at_once(cls, process: ForkedProcess) -> KillSequence:
        """Return the sequence of SIGKILL alone."""
        return cls(process, [_SIGKILL])

    def send_next(self) -> int | None:
        """Send the next signal and return the wait after it, ns; None when all were sent."""
        if not self._steps:
            return None
        number, wait_ns = self._steps.popleft()
        if number == signal.SIGKILL:
            self._process.kill_group()
        else:
            self._process.signal(number)
        return wait_ns


@dataclass(frozen=True, slots=True)
class Supervision:
    """Collaborators that all children of a parent share.

    Attributes:
        publish: Sends a lifecycle event to the followers.
        exited: Called after each exit, before a restart is reported.
    """

    board: Board
    reactor: Reactor
    publish: Callable[[dict[str, Any]], None]
    exited: Callable[[ChildProcess], None]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """Program of a child and its place on the board.

    Attributes:
        name: A venue, ``gateway`` or ``simulator``.
        slot: Its place on the board.
        target: Called in the child with its generation and the handover.
        count_markets: Returns the number of markets that the next generation writes cells for.
        is_judged: False for the simulator, which publishes no health: it is live once it listens.
    """

    name: str
    slot: int
    target: Callable[[int, Handover], None]
    count_markets: Callable[[], int]
    is_judged: bool = True


class ChildProcess:
    """Process under supervision, over all its generations."""

    def __init__(self, spec: ChildSpec, policy: BackoffPolicy, supervision: Supervision) -> None:
        self.name = spec.name
        self.row = supervision.board.worker(spec.slot)
        self.lifecycle = ProcessLifecycle(Backoff(policy))
        #: The running generation.
        self.process: ForkedProcess | None = None
        self._spec = spec
        self._board = supervision.board
        self._reactor = supervision.reactor
        self._on_exit = supervision.exited
        self._reporter = LifecycleReporter(spec.name, self.row, self.lifecycle, supervision.publish)
        #: Markets that the last generation wrote cells for.
        self._markets = 0
        #: Handover of the last generation; epoch and number never decrease.
        self._handover = Handover()
        #: The kill under way.
        self._kill_sequence: KillSequence | None = None
        #: Kill rules do not apply until then.
        self._held_until_ns = 0

    @property
    def state(self) -> ChildState:
        """State by :data:`supervisor.lifecycle.TABLE`."""
        return self.lifecycle.state

    @property
    def is_stopped_by_operator(self) -> bool:
        """True from :meth:`stop` to :meth:`allow`, whatever else would start the process."""
        return self.row[WorkerWord.STOPPED_AT] != 0

    def stop(self, uid: int) -> None:
        """Stop the process until an operator starts it; ``uid`` is the operator's."""
        self.row[WorkerWord.STOPPED_BY] = uid + 1
        self.row[WorkerWord.STOPPED_AT] = time.monotonic_ns()
        self.handle(ChildEvent.STOP, Reason.REQUESTED)

    def allow(self, policy: BackoffPolicy) -> None:
        """End :meth:`stop`: a start takes effect again, if the process is being killed once it has exited."""
        self.row[WorkerWord.STOPPED_AT] = self.row[WorkerWord.STOPPED_BY] = 0
        self.lifecycle.backoff.policy = policy

    def handle(self, event: ChildEvent, reason: Reason | None = None) -> None:
        """Apply an event and execute what it leads to; one that an operator stopped is not started."""
        if event in _STARTS and self.is_stopped_by_operator:
            return
        now = time.monotonic_ns()
        was_in_crash_loop = self.lifecycle.in_crash_loop
        self._execute(self.lifecycle.handle(event, now, reason), now, reason)
        if was_in_crash_loop and not self.lifecycle.in_crash_loop:
            self._reporter.record_recovery()

    def check(self, now: int, limits: KillLimits | None) -> None:
        """Compare the process with its words on the board; kill it if a rule applies, unless ``limits`` is None."""
        if self.state not in ALIVE:
            return
        if not self._spec.is_judged:
            if self.row[WorkerWord.FIRST_FRESH]:
                self.handle(ChildEvent.FRESH)
            return
        if is_fresh(self.row, now):
            self.handle(ChildEvent.FRESH)
        elif is_stale(self.row, now):
            self.handle(ChildEvent.STALE)
        self._check_recovery(now)
        if limits is not None:
            sessions = list(self._board.sessions(self._spec.slot))
            reason = kill_reason_of(self.row, sessions, now, limits, partial(self._is_held, now, limits))
            if reason is not None:
                self.handle(ChildEvent.UNHEALTHY, reason)

    def _is_held(self, now: int, limits: KillLimits) -> bool:
        """Return whether a debugger holds the process, or released it so recently that its board words are old."""
        if self.process is not None and self.process.is_traced():
            if now > self._held_until_ns:
                log.warning("worker.traced", venue=self.name, worker_pid=self.process.pid)
            self._held_until_ns = now + limits.released_ns
        return now <= self._held_until_ns

    def kill_now(self) -> None:
        """Skip to SIGKILL if the process is being killed."""
        if self.process is not None and self._kill_sequence is not None:
            self._begin_kill(KillSequence.at_once(self.process))

    def drill(self, fault: ProcessFault) -> None:
        """Inject a fault; the exit that it causes is not counted as a failure.

        Raises:
            UsageError: The process does not run.
        """
        if self.process is None:
            raise UsageError(f"{self.name} is not running", advice="wait until it is")
        self.lifecycle.is_drill = True
        self._reactor.at(time.monotonic_ns() + _DRILL_NS, partial(self._end_drill, self.lifecycle.generation))
        log.info("worker.drill", venue=self.name, worker_pid=self.process.pid, fault=fault)
        if fault in _DRILL_SIGNALS:
            self.process.signal(_DRILL_SIGNALS[fault])
        else:
            self.row[WorkerWord.SELF_FAULT] = code_of(SelfFault(fault))

    def _end_drill(self, generation: int) -> None:
        if self.lifecycle.generation == generation:
            self.lifecycle.is_drill = False

    def _execute(self, step: Transition, now: int, reason: Reason | None) -> None:
        for action in step.actions:
            match action:
                case Action.FORK:
                    if not self._fork():
                        return  # FORK_FAILED was handled instead
                case Action.KILL:
                    self._kill(reason)
                case Action.BACK_OFF | Action.START_AT_ONCE:
                    self._reactor.at(self.lifecycle.next_start_ns, partial(self._start, self.lifecycle.next_start_ns))
                case Action.ALERT:
                    self._reporter.log_attention(step.state.public, reason)
        if step.is_public:
            self._reporter.record_state(step, now, reason)

    def _start(self, planned_ns: int) -> None:
        """Start the process unless its plan changed."""
        if self.lifecycle.next_start_ns == planned_ns:
            self.handle(ChildEvent.START)

    def _fork(self) -> bool:
        """Fork the next generation; return False when the kernel refuses."""
        lifecycle, row = self.lifecycle, self.row
        generation = lifecycle.generation + 1
        self._handover = self._next_handover()
        markets = self._spec.count_markets()
        self._board.clear_worker(self._spec.slot, max(self._markets, markets))
        self._markets = markets
        row[WorkerWord.SELF_FAULT] = 0
        row[WorkerWord.FORKED] = now = time.monotonic_ns()
        row[WorkerWord.GENERATION] = generation
        try:
            process = spawn(self.name, partial(self._spec.target, generation, self._handover))
        except ForkError as error:
            lifecycle.record_failed_fork()
            self.handle(ChildEvent.FORK_FAILED)
            self._reporter.record_failed_fork(error.what)
            return False
        self.process = process
        self._held_until_ns = 0
        lifecycle.record_fork(now)
        self._board.header.add(HeaderWord.FORKS)
        self._reactor.watch(process.pidfd, partial(self._exited, process))
        self._reporter.record_fork(process.pid)
        return True

    def _next_handover(self) -> Handover:
        """Read the handover off the board; a generation that died at once wrote nothing there."""
        deaths, before = self.lifecycle.deaths, self._handover
        return Handover(
            epoch=max(before.epoch, self.row[WorkerWord.EPOCH]),
            reason=deaths[-1].reason if deaths else None,
            published=max(before.published, self.row[WorkerWord.PUBLISHED]),
        )

    def _kill(self, reason: Reason | None) -> None:
        assert self.process is not None  # noqa: S101 - TABLE kills in ALIVE states only
        self._reporter.log_kill(reason)
        self._begin_kill(KillSequence.begin(self.process, reason))

    def _begin_kill(self, sequence: KillSequence) -> None:
        self._kill_sequence = sequence
        self._escalate(sequence)

    def _escalate(self, sequence: KillSequence) -> None:
        """Execute the next step unless the process exited or another sequence replaced this one."""
        if sequence is not self._kill_sequence:
            return
        wait_ns = sequence.send_next()
        if wait_ns is None:
            self.handle(ChildEvent.KILL_TIMEOUT)
        else:
            self._reactor.at(time.monotonic_ns() + wait_ns, partial(self._escalate, sequence))

    def _exited(self, process: ForkedProcess) -> None:
        """Reap the process, record its exit and plan the next start."""
        now, lifecycle = time.monotonic_ns(), self.lifecycle
        self._reactor.watch(process.pidfd, None)
        code, number = process.reap()
        self.process = self._kill_sequence = None
        reason = lifecycle.kill_reason or (Reason.DRILL if lifecycle.is_drill else _reason_of(code, number))
        is_expected = lifecycle.is_planned or lifecycle.is_drill or lifecycle.state in _STOPPING
        was_in_crash_loop = lifecycle.in_crash_loop
        self._board.exits(self._spec.slot).add(code_of(reason))
        death = lifecycle.record_exit(reason, code, number, now, self._healthy_ns(now))
        step = lifecycle.handle(ChildEvent.EXIT_CONFIG if code == CONFIG_EXIT else ChildEvent.EXIT, now, reason)
        self._reporter.record_exit(death, is_expected=is_expected)
        self._execute(step, now, lifecycle.stop_reason if step.state is ChildState.STOPPED else reason)
        if lifecycle.in_crash_loop:
            self._reporter.record_crash_loop(now)
        elif was_in_crash_loop:
            self._reporter.record_recovery()
        self._on_exit(self)
        if self.state is ChildState.BACKOFF:
            self._reporter.record_restart(reason)

    def _healthy_ns(self, now: int) -> int:
        """Return how long this generation had fresh data; one without a health record counts its whole life."""
        first = self.row[WorkerWord.FIRST_FRESH]
        last = self.row[WorkerWord.LAST_FRESH] if self._spec.is_judged else now
        return last - first if first else 0

    def _check_recovery(self, now: int) -> None:
        """End the crash loop once this generation was healthy for long enough."""
        lifecycle = self.lifecycle
        if lifecycle.in_crash_loop and lifecycle.backoff.is_healthy(self._healthy_ns(now)):
            lifecycle.in_crash_loop = False
            self._reporter.record_recovery()


def _reason_of(code: int | None, number: int | None) -> Reason:
    """Return the reason of an exit that the parent did not cause."""
    if number is not None:
        return Reason.KILLED if number in _KILL_SIGNALS else Reason.CRASH
    if code == CONFIG_EXIT:
        return Reason.CONFIG_ERROR
    return Reason.CLEAN_EXIT if code == 0 else Reason.CRASH
