"""Parent process: starts, checks and stops the children, answers control requests, reloads the configuration.

It is single-threaded, opens no network connection and no ZeroMQ socket. :mod:`supervisor.child` does the work on each
child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ipc.board import Board, CellWord, HeaderWord, WorkerWord
from ipc.control import ControlReply, ControlRequest
from ipc.errors import ConfigError, ParaphinaError, RunDirLostError, UsageError
from ipc.health import Reason, Stream, StreamState, WorkerState, word_of
from ipc.lines import LINES, line_of, process_of, venue_of
from ipc.log import get_log
from ipc.rundir import RunDir
from supervisor.child import ChildProcess, ChildSpec, Handover, Supervision
from supervisor.control import ControlServer
from supervisor.duties import Duty, LineHealth
from supervisor.guard import CHECK_NS, RunDirGuard
from supervisor.kill_rules import KillLimits
from supervisor.lifecycle import ChildEvent, ChildState
from supervisor.lock import Instance
from supervisor.logfile import reopen
from supervisor.notify import Notifier
from supervisor.operator_requests import OperatorRequests
from supervisor.process_state import controlling_terminal, is_ignored
from supervisor.reactor import Reactor
from supervisor.rollout import Rollout, address_of, compare
from supervisor.spawn import prepare, reap_orphans
from supervisor.system import GATEWAY, SIMULATOR, System

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_MIB: Final = 1024 * 1024
#: A loop gap longer than this means that the parent itself was stopped or starved: kill rules are suspended after it.
_SELF_STALL_NS: Final = _NS
#: How long workers wait for the simulator to listen, and how often the parent checks.
_SIMULATOR_NS: Final = 5 * _NS
_SIMULATOR_POLL_NS: Final = 10 * _MS
#: How long the second line of a venue waits for the first one to be live.
_SECOND_LINE_NS: Final = 30 * _NS
#: How long a start waits for the first worker to run, and how often the parent checks.
_UP_NS: Final = 15 * _NS
_UP_POLL_NS: Final = 50 * _MS
#: Time that a graceful shutdown may take.
_STOP_BUDGET_NS: Final = 5 * _NS
#: Report readiness to systemd after this long even if some venues are not live.
_READY_NS: Final = 60 * _NS


class Parent:
    """Supervisor of one system until it is stopped.

    Args:
        system: What to run.
        run_dir: Its run directory.
        instance: Exclusive use of it.
        announce: Prints a milestone on the terminal.
    """

    def __init__(self, system: System, run_dir: RunDir, instance: Instance, announce: Callable[[str], None]) -> None:
        self._system = system
        self._run_dir = run_dir
        self._announce = announce
        self._board = Board.create(run_dir.board, time.time_ns())
        self._header = self._board.header
        self._header[HeaderWord.PARENT_STARTED] = self._started_ns = time.monotonic_ns()
        self._reactor = Reactor()
        self._control = ControlServer(run_dir.control, self._answer, self._reactor.watch)
        self._guard = RunDirGuard(run_dir, instance, self._board)
        self._guard.files.add(run_dir.control, self._control.relisten, lambda: self._control.is_intact)
        self._guard.files.add(run_dir.description, lambda: run_dir.write_description(self._described))
        self._described = system.describe()
        self._notifier = Notifier(os.environ)
        self._rollout = Rollout()
        self._supervision = Supervision(self._board, self._reactor, self._control.publish, self._child_exited)
        self._limits = _limits_of(system)
        #: By name; a venue that a reload removed stays, for a later reload may add it again.
        self._children = {name: self._make_child(name) for name in system.slots}
        self._requests = OperatorRequests(self._children, lambda: self._system, self._rollout, self._start_line)
        #: Second lines that wait for their venue's first one, and until when.
        self._waiting_lines: dict[str, int] = {}
        #: Second lines that a reload removed and that still run.
        self._leaving_lines: set[str] = set()
        #: Duty of each venue with two lines.
        self._duties: dict[str, Duty] = {}
        #: Venues whose first time live was announced.
        self._announced: set[str] = set()
        self._all_announced = False
        #: Kill rules apply from then on, after the parent itself was stalled.
        self._judge_from_ns = 0
        self._next_tick_ns = 0
        self._is_draining = False
        self._exit_code = 0
        #: Why no worker can run; then the system ends.
        self._config_errors: list[str] = []

    def run(self, for_s: float | None = None, ready: Callable[[], None] | None = None) -> int:
        """Supervise until stopped; return the exit code of the program.

        Args:
            for_s: Stop after this many seconds; None for no limit.
            ready: Called when every child has been forked once, and a worker runs.

        Raises:
            ConfigError: Every worker ended with a configuration error at its first start.
        """
        self._run_dir.write_description(self._described)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._reactor.on_signal(number, self._stop)
        self._watch_terminal()
        self._reactor.on_signal(signal.SIGHUP, self._reload_on_signal)
        self._reactor.on_signal(signal.SIGUSR1, self._dump)
        self._reactor.on_signal(signal.SIGUSR2, self._reopen_log)
        prepare()
        simulator = self._children.get(SIMULATOR)
        if simulator is not None:
            simulator.handle(ChildEvent.START)
        self._move_duties(time.monotonic_ns())
        self._start_children(time.monotonic_ns() + _SIMULATOR_NS, ready)
        if for_s is not None:
            self._reactor.at(time.monotonic_ns() + int(for_s * _NS), self._stop)
        self._tick()
        self._check_run_dir()
        self._reactor.run()
        self._guard.refresh_board()  # with the last exits
        self._control.close()
        self._notifier.close()
        self._reactor.close()
        log.info("supervisor.stopped", exit_code=self._exit_code)
        if self._config_errors:
            raise ConfigError(self._config_errors)
        return self._exit_code

    def _watch_terminal(self) -> None:
        """Stop when the terminal is closed, unless SIGHUP is ignored (nohup); SIGHUP itself reloads."""
        terminal = controlling_terminal()
        if terminal is not None and not is_ignored(signal.SIGHUP):
            self._reactor.watch_hangup(terminal, self._terminal_closed)

    def _terminal_closed(self) -> None:
        log.info("supervisor.terminal_closed")
        if not self._is_draining:  # a second request would kill
            self._stop()

    def _start_children(self, deadline_ns: int, ready: Callable[[], None] | None) -> None:
        """Start every child; the workers once the simulator, if there is one, listens."""
        if self._is_draining:
            return
        now = time.monotonic_ns()
        simulator = self._children.get(SIMULATOR)
        if simulator is not None and not simulator.row[WorkerWord.FIRST_FRESH] and now < deadline_ns:
            self._reactor.at(now + _SIMULATOR_POLL_NS, partial(self._start_children, deadline_ns, ready))
            return
        for name in self._system.slots:
            if name != SIMULATOR:
                self._start_line(name)
        if ready is not None:
            self._await_worker(now + _UP_NS, ready)

    def _await_worker(self, deadline_ns: int, ready: Callable[[], None]) -> None:
        """Report that the system runs once a worker passed the point where its configuration can be refused."""
        now = time.monotonic_ns()
        if self._is_draining:
            return
        if now < deadline_ns and not any(_is_up(child) for child in self._first_lines()):
            self._reactor.at(now + _UP_POLL_NS, partial(self._await_worker, deadline_ns, ready))
            return
        ready()

    def _make_child(self, name: str) -> ChildProcess:
        spec = ChildSpec(
            name=name,
            slot=self._system.slots[name],
            target=partial(self._run_child, name),
            count_markets=lambda: len(self._system.markets_of(name)),
            is_judged=name != SIMULATOR,
        )
        return ChildProcess(spec, self._system.policy_of(name), self._supervision)

    def _move_duties(self, now: int) -> None:
        """Move the duty of venues whose line that has it cannot do it; write it on the board."""
        for venue in self._venues():
            children = {line_of(name): self._children[name] for name in self._system.lines_of(venue)}
            duty = self._duties.setdefault(venue, Duty())
            if len(children) == 1:
                duty.holder = LINES[0]
            elif duty.update(now, {line: self._health_of(child) for line, child in children.items()}):
                log.warning("duty.moved", venue=venue, to=duty.holder)
            for line, child in children.items():
                child.row[WorkerWord.DUTY] = line == duty.holder

    def _health_of(self, child: ChildProcess) -> LineHealth:
        """Return a line's health; an account of which nothing is known yet does not count."""
        is_live = child.state is ChildState.LIVE
        if self._system.config.venues[venue_of(child.name)].account is None:
            return LineHealth(is_live, is_live)
        cell = self._board.cell(self._system.slots[child.name], 0, Stream.ACCOUNT)
        state, reason = word_of(StreamState, cell[CellWord.STATE]), word_of(Reason, cell[CellWord.REASON])
        has_account = state in {None, StreamState.OFF, StreamState.LIVE} or reason is Reason.AUTH_FAILED
        return LineHealth(is_live, is_live and has_account)

    def _run_child(self, name: str, generation: int, handover: Handover) -> None:
        """Run the child's program; in the child."""
        self._system.run_child(name, self._board, generation, handover)

    def _first_lines(self) -> list[ChildProcess]:
        return [self._children[name] for name in self._venues()]

    def _wanted(self) -> dict[str, list[ChildProcess]]:
        """Return the workers of each venue that nobody stopped."""
        lines = {name: [self._children[line] for line in self._system.lines_of(name)] for name in self._venues()}
        return {name: of for name, of in lines.items() if not of[0].is_stopped_by_operator}

    def _venues(self) -> list[str]:
        return list(self._system.config.venues)

    def _start_line(self, name: str) -> None:
        """Start a worker; a second line once :meth:`_start_second_lines` lets it."""
        if name in self._system.second_lines:
            self._waiting_lines[name] = time.monotonic_ns() + _SECOND_LINE_NS
        else:
            self._children[name].handle(ChildEvent.START)

    def _start_second_lines(self, now: int) -> None:
        """Start second lines whose first one is live or took too long, so that a venue never starts both at once."""
        for name, until_ns in list(self._waiting_lines.items()):
            first = self._children[venue_of(name)]
            if first.state is ChildState.LIVE or now >= until_ns:
                del self._waiting_lines[name]
                self._children[name].handle(ChildEvent.START)

    def _tick(self) -> None:
        now = time.monotonic_ns()
        tick_ns = self._system.config.tick_ms * _MS
        self._next_tick_ns = max(self._next_tick_ns + tick_ns, now)
        self._reactor.at(self._next_tick_ns, self._tick)
        self._header[HeaderWord.PARENT_BEAT] = now
        self._check_own_gap(now)
        limits = self._limits if now >= self._judge_from_ns else None
        for child in self._children.values():
            child.check(now, limits)
        reap_orphans([child.process.pid for child in self._children.values() if child.process is not None])
        if not self._is_draining:
            self._start_second_lines(now)
            self._move_duties(now)
            self._end_leaving_lines()
            self._continue_rollout(now)
        self._guard.refresh_board()
        self._control.flush()
        self._announce_live(now)
        if self._notifier.is_wanted:
            self._notify(now)

    def _check_run_dir(self) -> None:
        """Restore files that were removed from the run directory; stop when that is not possible."""
        now = time.monotonic_ns()
        self._reactor.at(now + CHECK_NS, self._check_run_dir)
        try:
            self._guard.check(now)
        except RunDirLostError as error:
            if not self._is_draining:
                log.error("supervisor.run_dir_lost", reason=Reason.RUN_DIR_LOST, error=str(error))
                self._exit_code = error.exit_code
                self._stop()

    def _check_own_gap(self, now: int) -> None:
        """Suspend the kill rules after a gap of the parent's own loop, which makes all words on the board look old."""
        gap, self._reactor.gap_ns = self._reactor.gap_ns, 0
        self._header[HeaderWord.LOOP_GAP_MAX_NS] = max(self._header[HeaderWord.LOOP_GAP_MAX_NS], gap)
        if gap > _SELF_STALL_NS:
            self._header.add(HeaderWord.SELF_STALLS)
            longest_ms = max(venue.stale_ms for venue in self._system.config.venues.values())
            self._judge_from_ns = now + max(self._limits.deadline_ns, longest_ms * _MS)
            log.warning("supervisor.stalled", gap_ms=gap // _MS, judging_again_in_ms=(self._judge_from_ns - now) // _MS)

    def _announce_live(self, now: int) -> None:
        """Announce, once each, that a venue is live and that all are."""
        wanted = self._wanted()
        after = f"live after {(now - self._started_ns) / _NS:.1f} s"
        for name, lines in wanted.items():
            if name not in self._announced and any(child.state is ChildState.LIVE for child in lines):
                self._announced.add(name)
                self._announce(f"{name} is {after}")
        if not self._all_announced and self._announced.issuperset(wanted):
            self._all_announced = True
            if wanted:
                self._announce(f"all {len(wanted)} venues are {after}")
                for line in self._system.hints():
                    self._announce(line)

    def _notify(self, now: int) -> None:
        """Report readiness and health to systemd after a round of checks."""
        wanted = {name: _state_of(lines) for name, lines in self._wanted().items()}
        if self._all_announced or now - self._started_ns > _READY_NS:
            self._notifier.ready()
        others = [f", {name} {state}" for name, state in wanted.items() if state is not WorkerState.LIVE]
        stopped = [f", {name} stopped" for name in self._venues() if name not in wanted]
        live = f"{len(wanted) - len(others)}/{len(wanted)} live"
        self._notifier.checked("".join([live, *others, *stopped]), now)

    def _answer(self, request: ControlRequest, uid: int) -> ControlReply:
        """Execute a control request of a user.

        Raises:
            UsageError: It names no process of the system, or cannot be executed now.
        """
        if self._is_draining and request.verb not in {"ping", "stop"}:
            raise UsageError("it is stopping", advice="start it again when it is gone")
        data: dict[str, Any] = {"pid": self._system.pid}
        match request.verb:
            case "stop":
                self._stop()
            case "restart":
                data["states"] = self._requests.restart(request.target)
            case "stop_venue":
                data["states"] = self._requests.stop_venue(request.target, uid)
            case "start_venue":
                data["states"] = self._requests.start_venue(request.target, uid)
            case "drill":
                self._requests.drill(request.target, request.fault or "kill")
            case "reload":
                data |= self._reload()
        return ControlReply(True, data=data)

    def _dump(self) -> None:
        """Log all states and the stack, on SIGUSR1."""
        states = {name: child.state.public.value for name, child in self._children.items()}
        log.info("supervisor.dump", **states, stack="".join(traceback.format_stack()))

    def _reopen_log(self) -> None:
        """Open the log file again in all processes after a rotation, on SIGUSR2; do nothing if it is not ours."""
        path = self._system.log_file
        if path is None:
            return
        reopen(path)
        for child in self._children.values():
            if child.process is not None:
                child.process.signal(signal.SIGUSR2)
        log.info("log.reopened", path=str(path))

    def _reload_on_signal(self) -> None:
        """Reload on SIGHUP; an error is logged, for nobody waits for a reply."""
        with contextlib.suppress(ParaphinaError):
            self._reload()

    def _reload(self) -> dict[str, Any]:
        """Load the configuration again and roll out what changed; return that. An invalid one changes nothing.

        Raises:
            ParaphinaError: The configuration is invalid, or its description cannot be written.
        """
        if self._is_draining:
            return {}
        self._notifier.reloading(time.monotonic_ns())
        try:
            system = self._system.reloaded()
            described = system.describe()
            self._run_dir.write_description(described)
        except ParaphinaError as error:
            log.error("supervisor.reload_refused", error=str(error))
            raise
        else:
            self._described = described
            return self._apply(system)
        finally:
            self._notifier.reloaded()

    def _apply(self, system: System) -> dict[str, Any]:
        """Start, stop and restart what differs in a new configuration; return the difference for the reply."""
        before, present = self._system.config, set(self._system.workers)
        difference = compare(before, system.config)
        self._system = system
        self._limits = _limits_of(system)
        for name in sorted(present - set(system.workers)):
            self._rollout.forget(name)
            self._waiting_lines.pop(name, None)
            if venue_of(name) in system.config.venues:
                self._leaving_lines.add(name)
            else:
                self._children[name].handle(ChildEvent.STOP, Reason.CONFIG_CHANGED)
        for name in [name for name in system.workers if name not in present]:
            self._add_worker(name, starts=venue_of(name) not in present)
        is_gateway_changed = (address_of(system.config), system.config.gateway) != (address_of(before), before.gateway)
        gateway = [GATEWAY] if is_gateway_changed else []
        # The cause of a configuration error may have been fixed outside of the file.
        failed = [name for name in system.slots if self._children[name].state is ChildState.FAILED]
        # A line that is new or not live comes before the other one is restarted.
        changed = [
            line
            for name in difference.changed
            for line in sorted(
                system.lines_of(name),
                key=lambda line: (line in present, self._children[line].state is ChildState.LIVE),
            )
        ]
        concerned = dict.fromkeys([*changed, *gateway, *failed])
        restarting = [name for name in concerned if not self._children[name].is_stopped_by_operator]
        self._rollout.add(restarting, Reason.CONFIG_CHANGED)
        log.info(
            "supervisor.reloaded",
            added=",".join(difference.added),
            removed=",".join(difference.removed),
            changed=",".join(difference.changed),
            needs_start=",".join(difference.unapplied),
        )
        return {
            "settings": difference.settings,
            "added": difference.added,
            "removed": difference.removed,
            "restarting": restarting,
            "needs_start": difference.unapplied,
        }

    def _add_worker(self, name: str, *, starts: bool) -> None:
        """Add a worker of a new configuration; a line of a venue that an operator stopped is stopped as well."""
        if name not in self._children:
            self._children[name] = self._make_child(name)
        child, first = self._children[name], self._children[venue_of(name)]
        self._leaving_lines.discard(name)
        if first is not child and first.is_stopped_by_operator:
            child.stop(first.row[WorkerWord.STOPPED_BY] - 1)
        elif first is not child and child.is_stopped_by_operator:
            child.allow(self._system.policy_of(name))
        if starts:
            self._start_line(name)

    def _end_leaving_lines(self) -> None:
        """End the lines that a reload removed, once the other line runs with the new configuration and is live."""
        for name in sorted(self._leaving_lines):
            first = self._children.get(venue_of(name))
            is_changing = {venue_of(name)} & {*self._rollout.waiting, self._rollout.current}
            if first is None or (first.state is ChildState.LIVE and not is_changing) or first.is_stopped_by_operator:
                self._leaving_lines.discard(name)
                self._children[name].row[WorkerWord.DUTY] = 0
                self._children[name].handle(ChildEvent.STOP, Reason.CONFIG_CHANGED)

    def _may_end(self, name: str) -> bool:
        """Return whether a process may end: a live line only while its venue has another one that is live."""
        venue = venue_of(name)
        lines = [process_of(venue, line) for line in LINES]
        others = [self._children[other] for other in lines if other != name and other in self._children]
        running = [child for child in others if child.state is not ChildState.STOPPED]
        if name not in lines or not running or self._children[name].state is not ChildState.LIVE:
            return True
        return any(child.state is ChildState.LIVE for child in running)

    def _continue_rollout(self, now: int) -> None:
        """Restart the next child with its new settings once the one before it is up."""
        current = self._children.get(self._rollout.current or "")
        name = self._rollout.next(current.state.public if current is not None else None, now, self._may_end)
        while self._rollout.abandoned:
            left = self._rollout.abandoned.pop()
            log.error("rollout.abandoned", venue=left, text="the other line of the venue did not become live again")
        if name is None:
            return
        child = self._children[name]
        child.lifecycle.backoff.policy = self._system.policy_of(name)
        child.handle(ChildEvent.RESTART, self._rollout.reason)

    def _stop(self) -> None:
        """Shut down gracefully; a second request kills at once."""
        if self._is_draining:
            for child in self._children.values():
                child.kill_now()
            return
        self._is_draining = True
        self._header[HeaderWord.PARENT_DRAINING] = 1
        log.info("supervisor.stopping")
        self._notifier.stopping()
        for child in self._children.values():
            if child.name != SIMULATOR:
                child.handle(ChildEvent.STOP, Reason.REQUESTED)
        self._reactor.at(time.monotonic_ns() + _STOP_BUDGET_NS, self._give_up)
        self._continue_drain()

    def _child_exited(self, child: ChildProcess) -> None:
        if self._is_draining:
            child.handle(ChildEvent.STOP, Reason.REQUESTED)  # a simulator that crashes meanwhile is not restarted
            self._continue_drain()
        elif not self._announced and all(_is_refused(one) for one in self._first_lines()):
            texts = [self._run_dir.config_error(one.name) or f"{one.name}: see the log" for one in self._first_lines()]
            self._config_errors = list(dict.fromkeys(line for text in texts for line in text.splitlines()))
            self._stop()

    def _continue_drain(self) -> None:
        """Stop the simulator after the venues that are connected to it, and the loop after the last child."""
        left = self._running()
        if not left:
            self._reactor.stop()
        elif [child.name for child in left] == [SIMULATOR]:
            left[0].handle(ChildEvent.STOP, Reason.REQUESTED)

    def _give_up(self) -> None:
        """Exit with an error when children survived the shutdown."""
        left = self._running()
        if left:
            pids = ",".join(str(child.process.pid) for child in left if child.process is not None)
            log.error("supervisor.left_behind", processes=",".join(child.name for child in left), pids=pids)
            self._exit_code = 1
            self._reactor.stop()

    def _running(self) -> list[ChildProcess]:
        return [child for child in self._children.values() if child.process is not None]


def _state_of(lines: list[ChildProcess]) -> WorkerState:
    """Return the state of a venue: that of its first line, unless another one is live."""
    states = [child.state.public for child in lines]
    return WorkerState.LIVE if WorkerState.LIVE in states else states[0]


def _is_up(child: ChildProcess) -> bool:
    """Return whether a worker runs its main loop, or ended for another reason than its configuration."""
    return bool(child.row[WorkerWord.MAIN_LOOPS]) or child.state not in {ChildState.STARTING, ChildState.FAILED}


def _is_refused(child: ChildProcess) -> bool:
    """Return whether a worker's configuration was refused at its first start."""
    return child.state is ChildState.FAILED and child.lifecycle.generation == 1


def _limits_of(system: System) -> KillLimits:
    config = system.config
    return KillLimits(start_ns=config.start_timeout_ms * _MS, memory_bytes=config.memory_limit_mb * _MIB)
