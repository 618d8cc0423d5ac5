"""The parent: forks the children, watches pidfds and the board, restarts what must be, answers control requests.

It is single-threaded, opens no network connection and no ZeroMQ socket. What each event means stands in
:mod:`supervisor.lifecycle`, what the board means in :mod:`supervisor.kill_rules`; here they are brought together.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Final

from ipc.board import Board, HeaderWord, WorkerWord
from ipc.control import ControlReply, ControlRequest, ProcessFault
from ipc.errors import ParaphinaError, UsageError
from ipc.health import Reason, SelfFault, WorkerState, code_of
from ipc.log import get_log
from ipc.rundir import RunDir
from supervisor.child import Handover, KillSequence, Supervised
from supervisor.control import ControlServer
from supervisor.kill_rules import VerdictLimits, is_fresh, is_stale, kill_reason_of
from supervisor.lifecycle import Action, ChildEvent, ProcessLifecycle, Transition
from supervisor.lifecycle_reporter import LifecycleReporter
from supervisor.lock import InstanceLock
from supervisor.logfile import reopen
from supervisor.notify import Notifier
from supervisor.reactor import Reactor
from supervisor.rollout import Rollout, compare
from supervisor.spawn import CONFIG_EXIT, ForkError, prepare, spawn
from supervisor.system import GATEWAY, SIMULATOR, System
from workers.backoff import Backoff, BackoffPolicy

__all__ = ["Parent"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: A loop gap of this much means that the parent itself was stopped or starved; nobody is judged for a while after it.
_SELF_STALL_NS: Final = _NS
#: How long workers wait for the simulator to listen, and how often the parent looks.
_SIMULATOR_NS: Final = 5 * _NS
_LOOK_NS: Final = 10 * _MS
_STOP_BUDGET_NS: Final = 5 * _NS
#: A system some of whose venues are not live by then is ready all the same.
_READY_NS: Final = 60 * _NS
#: A death this long after a drill is not the drill's.
_DRILL_NS: Final = 60 * _NS
_DRILL_SIGNALS: Final = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "stop": signal.SIGSTOP}
#: Signals of a kill that is nobody's fault: the kernel's, for want of memory, or somebody's with a shell.
_KILLS: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


class Parent:
    """Supervises one system until it is told to stop.

    Args:
        system: What to run.
        run_dir: Where; prepared.
        announce: Told of milestones in one line each, for a terminal.
    """

    def __init__(self, system: System, run_dir: RunDir, announce: Callable[[str], None]) -> None:
        self._system = system
        self._run_dir = run_dir
        self._announce = announce
        self._lock = InstanceLock(run_dir.lock)
        self._board = Board.create(run_dir.board, time.time_ns())
        self._header = self._board.header
        self._header[HeaderWord.PARENT_PID] = system.pid
        self._header[HeaderWord.PARENT_STARTED] = self._started_ns = time.monotonic_ns()
        self._reactor = Reactor()
        self._control = ControlServer(run_dir.control, self._handle, self._reactor.watch)
        self._reports = LifecycleReporter(self._control.tell)
        self._notifier = Notifier(os.environ)
        self._rollout = Rollout()
        self._limits = _limits(system)
        self._children = {name: self._make_child(name) for name in system.slots}
        self._judge_from_ns = 0
        self._next_tick_ns = 0
        self._is_draining = False
        self._live_announced = False
        self._exit_code = 0

    # --- life of the parent -----------------------------------------------------------------------------------------

    def run(self, for_s: float | None = None, ready: Callable[[], None] | None = None) -> int:
        """Supervise; the exit code of the program.

        Args:
            for_s: Stop after so long; None goes on for ever.
            ready: Called when everything has been forked once.
        """
        self._run_dir.write_description(self._system.describe())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._reactor.on_signal(number, self._stop)
        self._reactor.on_signal(signal.SIGHUP, self._hang_up)
        self._reactor.on_signal(signal.SIGUSR1, self._dump)
        self._reactor.on_signal(signal.SIGUSR2, self._reopen_log)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        prepare()
        simulator = self._children.get(SIMULATOR)
        if simulator is not None:
            self._handle_event(simulator, ChildEvent.START)
        self._start_children(time.monotonic_ns() + _SIMULATOR_NS, ready)
        if for_s is not None:
            self._reactor.at(time.monotonic_ns() + int(for_s * _NS), self._stop)
        self._tick()
        self._reactor.run()
        self._control.close()
        self._notifier.close()
        self._reactor.close()
        self._run_dir.control.unlink(missing_ok=True)
        log.info("supervisor.stopped", exit_code=self._exit_code)
        return self._exit_code

    def _start_children(self, deadline_ns: int, ready: Callable[[], None] | None) -> None:
        """Fork everything; the workers only when the simulator, if there is one, listens."""
        if self._is_draining:
            return
        now = time.monotonic_ns()
        simulator = self._children.get(SIMULATOR)
        if simulator is not None and not simulator.row[WorkerWord.FIRST_FRESH] and now < deadline_ns:
            self._reactor.at(now + _LOOK_NS, partial(self._start_children, deadline_ns, ready))
            return
        for name in self._system.slots:
            if name != SIMULATOR:
                self._handle_event(self._children[name], ChildEvent.START)
        if ready is not None:
            ready()

    def _make_child(self, name: str) -> Supervised:
        slot = self._system.slots[name]
        return Supervised(
            name,
            slot,
            self._board.worker(slot),
            ProcessLifecycle(Backoff(self._policy_of(name))),
            partial(self._run_child, name),
            markets=len(self._system.markets_of(name)),
            is_judged=name != SIMULATOR,
        )

    def _policy_of(self, name: str) -> BackoffPolicy:
        policy = self._system.config.backoff
        if name in {GATEWAY, SIMULATOR}:
            return BackoffPolicy(policy.base_s, policy.cap_s, 0.0, policy.jitter)
        return policy

    def _run_child(self, name: str, generation: int, before: Handover) -> None:
        """In the child: what the system says that it is."""
        self._system.run_child(name, self._board, generation, before)

    # --- the round --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic_ns()
        tick_ns = self._system.config.tick_ms * _MS
        self._next_tick_ns = max(self._next_tick_ns + tick_ns, now)
        self._reactor.at(self._next_tick_ns, self._tick)
        self._header[HeaderWord.PARENT_BEAT] = now
        self._look_at_self(now)
        for child in self._children.values():
            self._look_at(child, now)
        if not self._is_draining:
            self._roll(now)
        self._control.flush()
        self._announce_live(now)
        if self._notifier.is_wanted:
            self._notify(now)

    def _look_at_self(self, now: int) -> None:
        """A parent that was stopped must not take its own absence for everybody else's."""
        gap, self._reactor.gap_ns = self._reactor.gap_ns, 0
        self._header[HeaderWord.LOOP_GAP_MAX_NS] = max(self._header[HeaderWord.LOOP_GAP_MAX_NS], gap)
        if gap > _SELF_STALL_NS:
            self._header.add(HeaderWord.SELF_STALLS)
            self._header[HeaderWord.LAST_STALL] = now
            longest_ms = max(venue.stale_ms for venue in self._system.config.venues.values())
            self._judge_from_ns = now + max(self._limits.deadline_ns, longest_ms * _MS)
            log.warning("supervisor.stalled", gap_ms=gap // _MS, judging_again_in_ms=(self._judge_from_ns - now) // _MS)

    def _look_at(self, child: Supervised, now: int) -> None:
        state = child.life.state
        if child.ladder is not None and child.child is not None:
            for number in child.ladder.due(now):
                self._escalate(child, number)
        elif state is WorkerState.BACKOFF and child.life.next_start_ns and now >= child.life.next_start_ns:
            self._handle_event(child, ChildEvent.START)
        elif state in {WorkerState.STARTING, WorkerState.LIVE, WorkerState.STALE}:
            self._judge(child, now)

    def _judge(self, child: Supervised, now: int) -> None:
        if not child.is_judged:
            if child.row[WorkerWord.FIRST_FRESH]:
                self._handle_event(child, ChildEvent.FRESH)
            return
        if is_fresh(child.row, now):
            self._handle_event(child, ChildEvent.FRESH)
        elif is_stale(child.row, now):
            self._handle_event(child, ChildEvent.STALE)
        healthy_ns = child.row[WorkerWord.LAST_FRESH] - child.row[WorkerWord.FIRST_FRESH]
        if child.life.in_crash_loop and child.life.backoff.is_healthy(healthy_ns):
            child.life.in_crash_loop = False
            self._reports.crash_loop_over(child)
        if now < self._judge_from_ns:
            return
        reason = kill_reason_of(child.row, list(self._board.sessions(child.slot)), now, self._limits)
        if reason is not None:
            self._handle_event(child, ChildEvent.UNHEALTHY, reason)

    def _announce_live(self, now: int) -> None:
        """Say, once each, when a venue first delivers and when all do."""
        workers = self._workers()
        for child in workers:
            if child.life.state is WorkerState.LIVE and not child.announced:
                child.announced = True
                self._announce(f"{child.name} is live after {(now - self._started_ns) / _NS:.1f} s")
        if not self._live_announced and all(child.announced for child in workers):
            self._live_announced = True
            self._announce(f"all {len(workers)} venues are live after {(now - self._started_ns) / _NS:.1f} s")
            for line in self._system.hints():
                self._announce(line)

    def _notify(self, now: int) -> None:
        """What systemd is told when all have been looked at."""
        workers = self._workers()
        if self._live_announced or now - self._started_ns > _READY_NS:
            self._notifier.ready()
        others = [f", {child.name} {child.life.state}" for child in workers if child.life.state is not WorkerState.LIVE]
        self._notifier.looked(f"{len(workers) - len(others)}/{len(workers)} live{''.join(others)}", now)

    def _workers(self) -> list[Supervised]:
        return [self._children[name] for name in self._system.config.venues]

    # --- events and actions -----------------------------------------------------------------------------------------

    def _handle_event(self, child: Supervised, event: ChildEvent, reason: Reason | None = None) -> Transition:
        now = time.monotonic_ns()
        step = child.life.handle(event, now, reason)
        self._act(child, step, now, reason)
        return step

    def _act(self, child: Supervised, step: Transition, now: int, reason: Reason | None) -> None:
        """Do what an event led to, and tell of it."""
        for action in step.actions:
            match action:
                case Action.FORK:
                    self._fork(child)
                case Action.KILL:
                    self._kill(child, reason or Reason.REQUESTED)
                case Action.ALERT:
                    self._reports.attention(child, step.state, reason)
                case Action.BURY | Action.SCHEDULE | Action.NOTHING:
                    pass  # BURY and SCHEDULE go together, in _exited
        if step.state is not step.previous:
            self._reports.changed(child, step, now, reason)

    def _fork(self, child: Supervised) -> None:
        life, row = child.life, child.row
        last = life.deaths[-1].reason if life.deaths else None
        # The board is cleared before the fork, and one that dies at once writes nothing on it.
        before = child.before
        child.before = Handover(
            max(before.epoch, row[WorkerWord.EPOCH]), last, max(before.published, row[WorkerWord.PUBLISHED])
        )
        markets = len(self._system.markets_of(child.name))
        self._board.clear_worker(child.slot, max(child.markets, markets))
        child.markets = markets
        row[WorkerWord.SELF_FAULT] = 0
        row[WorkerWord.FORKED] = time.monotonic_ns()
        row[WorkerWord.GENERATION] = life.generation
        try:
            child.child = spawn(child.name, partial(child.target, life.generation, child.before))
        except ForkError as error:
            self._handle_event(child, ChildEvent.FORK_FAILED)
            life.schedule_after_failed_fork(time.monotonic_ns())
            self._reports.fork_failed(child, error.what)
            self._arm_restart(child)
            return
        self._header.add(HeaderWord.FORKS)
        self._reactor.watch(child.child.pidfd, partial(self._exited, child))
        self._reports.forked(child)

    def _kill(self, child: Supervised, reason: Reason) -> None:
        if child.child is None:
            return
        now = time.monotonic_ns()
        child.ladder = KillSequence.begin(reason, now, is_stopped=child.child.is_stopped())
        self._reports.killing(child, reason)
        for number in child.ladder.due(now):
            self._escalate(child, number)

    def _escalate(self, child: Supervised, number: int | None) -> None:
        assert child.child is not None  # noqa: S101 - a ladder stands only against a process
        if number is None:
            self._handle_event(child, ChildEvent.KILL_TIMEOUT)
        elif number == signal.SIGKILL:
            child.child.kill_group()
        else:
            child.child.signal(number)
        if child.ladder is not None and child.ladder.steps:
            self._reactor.at(child.ladder.steps[0][0], partial(self._escalate_due, child))

    def _escalate_due(self, child: Supervised) -> None:
        if child.ladder is not None and child.child is not None:
            for number in child.ladder.due(time.monotonic_ns()):
                self._escalate(child, number)

    def _exited(self, child: Supervised) -> None:
        """Its pidfd is readable: it is gone."""
        assert child.child is not None  # noqa: S101 - only a forked one is watched
        now = time.monotonic_ns()
        pid = child.child.pid
        self._reactor.watch(child.child.pidfd, None)
        code, number = child.child.reap()
        child.child = None
        child.ladder = None
        life, row = child.life, child.row
        reason = life.kill_reason or (Reason.DRILL if life.is_drill else _reason_of(code, number))
        was_in_crash_loop = life.in_crash_loop
        # Anchored at each generation's own words: they are zeroed only at the next fork. One that is not judged was
        # well for as long as it lived.
        last_fresh_ns = row[WorkerWord.LAST_FRESH] if child.is_judged else now
        healthy_ns = last_fresh_ns - row[WorkerWord.FIRST_FRESH] if row[WorkerWord.FIRST_FRESH] else 0
        event = ChildEvent.EXIT_CONFIG if code == CONFIG_EXIT else ChildEvent.EXIT
        death = life.record_exit(reason, code, number, now, healthy_ns)
        step = life.handle(event, now, reason)
        self._reports.exited(child, death, pid, expected=life.is_planned or life.is_drill or self._is_draining)
        self._act(child, step, now, reason)
        if life.in_crash_loop:
            self._reports.crash_loop(child, now)
        elif was_in_crash_loop:
            self._reports.crash_loop_over(child)
        self._after_exit(child, reason)

    def _after_exit(self, child: Supervised, reason: Reason) -> None:
        if self._is_draining:
            self._maybe_done()
            return
        life = child.life
        if life.state is not WorkerState.BACKOFF:
            return
        self._reports.restarting(child, reason)
        self._arm_restart(child)

    def _arm_restart(self, child: Supervised) -> None:
        """Start it when its time has come, and not a tick later."""
        due = child.life.next_start_ns

        def start() -> None:
            if child.life.state is WorkerState.BACKOFF and child.life.next_start_ns == due and not self._is_draining:
                self._handle_event(child, ChildEvent.START)

        self._reactor.at(due, start)

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _handle(self, request: ControlRequest) -> ControlReply:
        """Carry out a control request.

        Raises:
            UsageError: It names nobody, or cannot be done.
        """
        if self._is_draining and request.verb in {"restart", "drill", "reload"}:
            raise UsageError("it is stopping", advice="start it again when it is gone")
        match request.verb:
            case "stop":
                self._stop()
            case "restart":
                for child in self._named(request.target):
                    self._handle_event(child, ChildEvent.RESTART, Reason.REQUESTED)
            case "drill":
                for child in self._named(request.target):
                    self._drill(child, request.fault or "kill")
            case "reload":
                self._reload()
        return ControlReply(True, data={"pid": self._system.pid})

    def _named(self, target: str | None) -> list[Supervised]:
        if target is None:
            return self._workers()
        if target not in self._system.slots:  # one that was taken out is still a child, and nobody's to start
            raise UsageError(f"no process {target!r} here", advice=f"there are {', '.join(self._system.slots)}")
        return [self._children[target]]

    def _drill(self, child: Supervised, fault: ProcessFault) -> None:
        """Do something to a child for practice; what comes of it is not counted as a failure."""
        if child.child is None:
            raise UsageError(f"{child.name} is not running", advice="wait until it is")
        child.life.is_drill = True
        self._reactor.at(time.monotonic_ns() + _DRILL_NS, partial(_forget_drill, child.life, child.life.generation))
        log.info("worker.drill", venue=child.name, worker_pid=child.child.pid, fault=fault)
        if fault in _DRILL_SIGNALS:
            child.child.signal(_DRILL_SIGNALS[fault])
        else:
            child.row[WorkerWord.SELF_FAULT] = code_of(SelfFault(fault))

    def _hang_up(self) -> None:
        """HUP: as asked over the control socket, only that nobody waits for the answer."""
        with contextlib.suppress(ParaphinaError):
            self._reload()

    def _reload(self) -> None:
        """Read the configuration again and roll out what changed; a mistake in it changes nothing.

        Raises:
            ParaphinaError: It cannot be taken over.
        """
        if self._is_draining:
            return
        self._notifier.reloading(time.monotonic_ns())
        try:
            system = self._system.reloaded()
            self._run_dir.write_description(system.describe())
        except ParaphinaError as error:
            log.error("supervisor.reload_refused", error=str(error))
            raise
        else:
            self._take_over(system)
        finally:
            self._notifier.reloaded()

    def _take_over(self, system: System) -> None:
        """Roll a new configuration out."""
        before = self._system.config
        difference = compare(before, system.config)
        log.info(
            "supervisor.reloaded",
            added=",".join(difference.added),
            removed=",".join(difference.removed),
            changed=",".join(difference.changed),
        )
        self._system = system
        self._limits = _limits(system)
        for name in difference.removed:
            self._rollout.forget(name)
            self._handle_event(self._children[name], ChildEvent.STOP, Reason.CONFIG_CHANGED)
        for name in difference.added:
            child = self._children.get(name)
            if child is None:
                child = self._children[name] = self._make_child(name)
            self._handle_event(child, ChildEvent.START)
        self._rollout.add(difference.changed)
        if system.config.network != before.network:
            self._rollout.add([GATEWAY])
        # What no retry could mend may be mended now, and need not stand in the configuration.
        self._rollout.add(name for name in system.slots if self._children[name].life.state is WorkerState.FAILED)

    def _roll(self, now: int) -> None:
        """The next worker takes its new settings when the one before it is up."""
        current = self._children.get(self._rollout.current or "")
        name = self._rollout.next(current.life.state if current is not None else None, now)
        if name is None:
            return
        child = self._children[name]
        child.life.backoff.policy = self._policy_of(name)
        self._handle_event(child, ChildEvent.RESTART, Reason.CONFIG_CHANGED)

    def _dump(self) -> None:
        """USR1: what there is to know of this process, to the log, which waits for no reader."""
        states = {name: child.life.state.value for name, child in self._children.items()}
        log.info("supervisor.dump", **states, stack="".join(traceback.format_stack()))

    def _reopen_log(self) -> None:
        """USR2: the log was moved away, and all processes go on in a new one; nothing where it is not ours."""
        path = self._system.log_file
        if path is None:
            return
        reopen(path)
        for child in self._children.values():
            if child.child is not None:
                child.child.signal(signal.SIGUSR2)
        log.info("log.reopened", path=str(path))

    # --- the end ----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """End everything; asked again, at once."""
        now = time.monotonic_ns()
        if self._is_draining:
            for child in self._children.values():
                if child.ladder is not None:
                    child.ladder.hurry(now)
                    self._escalate_due(child)
            return
        self._is_draining = True
        self._header[HeaderWord.PARENT_DRAINING] = 1
        log.info("supervisor.stopping")
        self._notifier.stopping()
        for child in self._children.values():
            if child.name != SIMULATOR:
                self._handle_event(child, ChildEvent.STOP, Reason.REQUESTED)
        self._reactor.at(now + _STOP_BUDGET_NS, self._give_up)
        self._maybe_done()

    def _maybe_done(self) -> None:
        """The venues leave before the simulator that they are connected to; when all are gone, so is the parent."""
        left = [child for child in self._children.values() if child.child is not None]
        if not left:
            self._reactor.stop()
        elif [child.name for child in left] == [SIMULATOR]:
            self._handle_event(left[0], ChildEvent.STOP, Reason.REQUESTED)

    def _give_up(self) -> None:
        left = [child.name for child in self._children.values() if child.child is not None]
        if left:
            log.error("supervisor.left_behind", processes=",".join(left))
            self._exit_code = 1
            self._reactor.stop()


def _limits(system: System) -> VerdictLimits:
    config = system.config
    return VerdictLimits(start_ns=config.start_timeout_ms * _MS, memory_bytes=config.memory_limit_mb * 1024 * 1024)


def _forget_drill(life: ProcessLifecycle, generation: int) -> None:
    """A drill that nobody died of excuses no later death."""
    if life.generation == generation:
        life.is_drill = False


def _reason_of(code: int | None, number: int | None) -> Reason:
    """The word for an end that the parent did not bring about."""
    if number is not None:
        return Reason.KILLED if number in _KILLS else Reason.CRASH
    if code == CONFIG_EXIT:
        return Reason.CONFIG_ERROR
    return Reason.CLEAN_EXIT if code == 0 else Reason.CRASH
