"""Requests of operators about single processes: restart, drill, stop and start of a venue.

A venue that an operator stopped stays stopped until an operator starts it: reloads, rollouts and restarts of all
workers leave it alone. The record is on the board, so it ends with the system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ipc.control import ProcessFault
from ipc.errors import UsageError
from ipc.health import Reason
from ipc.log import get_log
from ipc.users import user_name
from supervisor.child import ChildProcess
from supervisor.lifecycle import ChildEvent
from supervisor.system import System

log = get_log(__name__)

_START: Final = "start it with: paraphina-supervisor start {}"


class OperatorRequests:
    """Executor of requests; each returns the state that every affected process is in then.

    Args:
        children: Processes by name, those of earlier configurations included.
        system: Returns the current system.
    """

    def __init__(self, children: Mapping[str, ChildProcess], system: Callable[[], System]) -> None:
        self._children = children
        self._system = system

    def restart(self, target: str | None) -> dict[str, str]:
        """Restart a process, or all workers but the stopped ones.

        Raises:
            UsageError: There is no such process, or an operator stopped it.
        """
        children = self._running(target, "cannot be restarted")
        for child in children:
            child.handle(ChildEvent.RESTART, Reason.REQUESTED)
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
        child = self._venue(target)
        if not child.is_stopped_by_operator:
            log.info("venue.stop_requested", venue=child.name, by=user_name(uid), uid=uid)
            child.stop(uid)
        return _states([child])

    def start_venue(self, target: str | None, uid: int) -> dict[str, str]:
        """Start a venue that an operator stopped.

        Raises:
            UsageError: There is no such venue, or nobody stopped it.
        """
        child = self._venue(target)
        if not child.is_stopped_by_operator:
            raise UsageError(
                f"{child.name} is not stopped: it is {child.state.public}",
                advice=f"restart it with: paraphina-supervisor restart {child.name}",
            )
        log.info("venue.start_requested", venue=child.name, by=user_name(uid), uid=uid)
        child.start(self._system().policy_of(child.name))
        return _states([child])

    def _running(self, target: str | None, refusal: str) -> list[ChildProcess]:
        """Return the process of that name, or all workers, without those that an operator stopped."""
        system = self._system()
        if target is None:
            workers = [self._children[name] for name in system.config.venues]
            return [child for child in workers if not child.is_stopped_by_operator]
        if target not in system.slots:
            raise UsageError(f"no process {target!r} here", advice=f"there are {', '.join(system.slots)}")
        child = self._children[target]
        if child.is_stopped_by_operator:
            raise UsageError(f"{target} is stopped, and {refusal}", advice=_START.format(target))
        return [child]

    def _venue(self, target: str | None) -> ChildProcess:
        """Return the worker of a venue; one that a reload removed is not among them."""
        system = self._system()
        if target is None or target not in system.config.venues:
            what = f"{target} is no venue" if target in system.slots else f"no venue {target!r} here"
            raise UsageError(what, advice=f"there are {', '.join(system.config.venues)}")
        return self._children[target]


def _states(children: list[ChildProcess]) -> dict[str, str]:
    return {child.name: child.state.value for child in children}
