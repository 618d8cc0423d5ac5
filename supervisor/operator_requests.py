"""Requests of operators about single processes: restart, drill, stop and start of a venue.

A venue that an operator stopped stays stopped until an operator starts it: reloads, rollouts and restarts of all
workers leave it alone. The record is on the board, so it ends with the system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from ipc.control import ProcessFault
from ipc.errors import UsageError
from ipc.health import Reason
from ipc.lines import LINES, venue_of
from ipc.log import get_log
from ipc.users import user_name
from supervisor.child import ChildProcess
from supervisor.lifecycle import ChildEvent, ChildState
from supervisor.rollout import Rollout
from supervisor.system import System

log = get_log(__name__)

_START: Final = "start it with: paraphina-supervisor start {}"


class OperatorRequests:
    """Executor of requests; each returns the state that every affected process is in then.

    Args:
        children: Processes by name, those of earlier configurations included.
        system: Returns the current system.
        rollout: Queue of restarts, for venues with two lines.
        start_line: Starts a process; a second line only once it may.
    """

    def __init__(
        self,
        children: Mapping[str, ChildProcess],
        system: Callable[[], System],
        rollout: Rollout,
        start_line: Callable[[str], None],
    ) -> None:
        self._children = children
        self._system = system
        self._rollout = rollout
        self._start_line = start_line

    def restart(self, target: str | None) -> dict[str, str]:
        """Restart a process, a venue, or all workers but the stopped ones.

        Of a venue with two lines one is restarted after the other, first one that is not live.

        Raises:
            UsageError: There is no such process, or an operator stopped it.
        """
        children = self._running(target, "cannot be restarted")
        lines = Counter(venue_of(child.name) for child in children)
        at_once = [child for child in children if lines[venue_of(child.name)] == 1]
        for child in at_once:
            child.handle(ChildEvent.RESTART, Reason.REQUESTED)
        in_turn = [child for child in children if child not in at_once]
        in_turn.sort(key=lambda child: (list(lines).index(venue_of(child.name)), child.state is ChildState.LIVE))
        self._rollout.add((child.name for child in in_turn), Reason.REQUESTED)
        return _states(children)

    def drill(self, target: str | None, fault: ProcessFault) -> None:
        """Inject a fault into a process, or into all workers but the stopped ones.

        Raises:
            UsageError: There is no such process, or it does not run.
        """
        for child in self._running(target, "cannot be drilled"):
            child.drill(fault)

    def stop_venue(self, target: str | None, uid: int) -> dict[str, str]:
        """Stop a venue until an operator starts it; one that is stopped keeps its first record.

        Raises:
            UsageError: There is no such venue.
        """
        children = self._venue(target)
        for child in children:
            if not child.is_stopped_by_operator:
                log.info("venue.stop_requested", venue=child.name, by=user_name(uid), uid=uid)
                child.stop(uid)
        return _states(children)

    def start_venue(self, target: str | None, uid: int) -> dict[str, str]:
        """Start a venue that an operator stopped.

        Raises:
            UsageError: There is no such venue, or nobody stopped it.
        """
        children = self._venue(target)
        stopped = [child for child in children if child.is_stopped_by_operator]
        if not stopped:
            raise UsageError(
                f"{target} is not stopped: it is {children[0].state.public}",
                advice=f"restart it with: paraphina-supervisor restart {target}",
            )
        for child in stopped:
            log.info("venue.start_requested", venue=child.name, by=user_name(uid), uid=uid)
            child.allow(self._system().policy_of(child.name))
            self._start_line(child.name)
        return _states(children)

    def _running(self, target: str | None, refusal: str) -> list[ChildProcess]:
        """Return the process of that name, the lines of a venue, or all workers, without those that are stopped."""
        system = self._system()
        if target is None:
            workers = [self._children[name] for name in system.workers]
            return [child for child in workers if not child.is_stopped_by_operator]
        names = self._processes(target)
        if not names:
            raise UsageError(f"no process {target!r} here", advice=f"there are {', '.join(system.slots)}")
        children = [self._children[name] for name in names]
        if all(child.is_stopped_by_operator for child in children):
            raise UsageError(f"{target} is stopped, and {refusal}", advice=_START.format(venue_of(target)))
        return children

    def _processes(self, target: str) -> list[str]:
        """Return the processes that a name stands for: ``lighter.a`` and ``lighter.b`` are lines of ``lighter``."""
        system, venue = self._system(), venue_of(target)
        if target in system.config.venues:
            return system.lines_of(target)
        is_first = venue in system.config.venues and len(system.lines_of(venue)) > 1 and target == f"{venue}.{LINES[0]}"
        name = venue if is_first else target
        return [name] if name in system.slots else []

    def _venue(self, target: str | None) -> list[ChildProcess]:
        """Return the workers of a venue; one that a reload removed is not among them."""
        system = self._system()
        if target is None or target not in system.config.venues:
            what = f"{target} is no venue" if target in system.slots else f"no venue {target!r} here"
            raise UsageError(what, advice=f"there are {', '.join(system.config.venues)}")
        return [self._children[name] for name in system.lines_of(target)]


def _states(children: list[ChildProcess]) -> dict[str, str]:
    return {child.name: child.state.value for child in children}
