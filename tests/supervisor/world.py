"""Parent in simulated time: clock, poll and children are the test's; board and sockets are real."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ipc.board import Board, WorkerWord
from ipc.control import ControlClient, ControlReply, ControlRequest, decode_reply
from supervisor import child as child_module
from supervisor import lifecycle_reporter as reports
from supervisor import parent, reactor
from supervisor.config import load
from supervisor.control import ControlServer
from supervisor.lock import Instance
from supervisor.spawn import ForkError
from supervisor.system import System

__all__ = ["FakeChild", "World"]

S = 1_000_000_000
MS = 1_000_000
_WALL_NS = 1_700_000_000 * S


class FakeChild:
    """Simulated process; ``dies_of`` maps the signals that end it to its exit code and signal."""

    def __init__(self, world: World, name: str, pid: int, generation: int, before: Any) -> None:
        self.world = world
        self.name = name
        self.pid = pid
        self.generation = generation
        self.before = before
        self.born_s = world.now_s
        self.pidfd = os.eventfd(0)
        self.signals: list[tuple[float, int]] = []
        self.dies_of: dict[int, tuple[int | None, int | None]] = {
            signal.SIGTERM: (0, None),
            signal.SIGKILL: (None, signal.SIGKILL),
            signal.SIGSEGV: (None, signal.SIGSEGV),
        }
        self.stopped = False
        self.beats = True
        self.is_fresh = True
        self.end: tuple[int | None, int | None] | None = None
        self.died_s: float | None = None

    def die(self, code: int | None = 1, number: int | None = None) -> None:
        """Exit now."""
        if self.end is None:
            self.end = (code, number)
            self.died_s = self.world.now_s
            os.eventfd_write(self.pidfd, 1)

    def stamp(self) -> None:
        """Write on the board what a running worker does."""
        row = self.world.row(self.name)
        if self.beats:
            row[WorkerWord.BEAT] = self.world.now_ns
        if self.is_fresh:
            row[WorkerWord.FIRST_FRESH] = row[WorkerWord.FIRST_FRESH] or self.world.now_ns
            row[WorkerWord.LAST_FRESH] = self.world.now_ns
            row[WorkerWord.EPOCH] = self.generation * 1000

    # --- what the parent calls ----------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        self.signals.append((round(self.world.now_s - self.born_s, 3), number))
        if number == signal.SIGSTOP:
            self.stopped, self.beats, self.is_fresh = True, False, False
        if self.stopped and number != signal.SIGKILL:
            return
        if number in self.dies_of:
            self.die(*self.dies_of[number])

    def kill_group(self) -> None:
        self.signal(signal.SIGKILL)

    def is_stopped(self) -> bool:
        return self.stopped

    def is_traced(self) -> bool:
        return False

    def reap(self) -> tuple[int | None, int | None]:
        assert self.end is not None, "reaped alive"
        os.close(self.pidfd)
        return self.end


class World:
    """Parent with its simulated environment.

    Args:
        flags: Settings, dotted with two underscores: ``supervisor__venues="lighter"``.
        simulation: In place of the venues.
        environ: Variables of the configuration.
    """

    def __init__(self, monkeypatch: Any, run_dir: Any, simulation: Any = None, environ: Any = None, **flags: Any):
        self.now_ns = 10_000 * S
        self.flags = {"supervisor.jitter": 0, **{key.replace("__", "."): value for key, value in flags.items()}}
        self.environ = dict(environ or {})
        self.children: list[FakeChild] = []
        self.born: Callable[[FakeChild], None] = lambda _: None
        self.refuses_forks = False
        #: Own pids of each round of reaping.
        self.reaped: list[list[int]] = []
        self.oversleep_ns = 0
        self.published: list[dict[str, Any]] = []
        self.announced: list[str] = []
        self.replies: list[ControlReply] = []
        self.run_dir = run_dir
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(1001)
        self._clients: list[ControlClient] = []
        clock = SimpleNamespace(monotonic_ns=lambda: self.now_ns, time_ns=lambda: _WALL_NS + self.now_ns)
        for module in (child_module, parent, reactor, reports):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(reactor, "select", SimpleNamespace(poll=self._poll, POLLIN=select.POLLIN))
        monkeypatch.setattr(child_module, "spawn", self._spawn)
        monkeypatch.setattr(parent, "prepare", lambda: None)
        monkeypatch.setattr(parent, "reap_orphans", self.reaped.append)
        monkeypatch.setattr(parent, "ControlServer", self._control)
        self.system = System(self.load(), run_dir, simulation, self.load)
        self.instance = Instance(run_dir)
        self.parent = parent.Parent(self.system, run_dir, self.instance, self.announced.append)
        self.board = Board.attach(run_dir.board, writable=True)

    def load(self) -> Any:
        """Load the current configuration."""
        return load(None, self.environ, self.flags)

    def close(self) -> None:
        """Release what a parent that failed did not."""
        for client in self._clients:
            client.close()
        self.board.close()
        for close in (self.parent._control.close, self.parent._reactor.close):
            try:
                close()
            except OSError:
                continue
        self.instance.close()

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Seconds since the world began."""
        return (self.now_ns - 10_000 * S) / S

    def at(self, when_s: float, happens: Callable[[], Any]) -> None:
        """Schedule a call."""
        heapq.heappush(self._events, (10_000 * S + round(when_s * S), next(self._order), happens))

    def run(self, for_s: float = 60.0) -> int:
        """Run the parent and return its exit code; it must stop within ``for_s`` and a minute."""
        self.at(for_s + 60.0, self._never_ends)
        return self.parent.run(for_s)

    def stalls(self, for_s: float) -> None:
        """Make the next poll of the parent longer than its timeout."""
        self.oversleep_ns = int(for_s * S)

    def _never_ends(self) -> None:
        raise AssertionError("the parent does not come to its end")

    def _poll(self) -> Any:
        world, real = self, select.poll()

        class Poll:
            register, unregister = real.register, real.unregister

            def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
                return real.poll(0) or world._pass(timeout_ms) or real.poll(0)

        return Poll()

    def _pass(self, timeout_ms: int) -> None:
        """Let time pass until the next scheduled call, up to the timeout (longer if the parent is stalled)."""
        until = self.now_ns + timeout_ms * MS
        if self._events and self._events[0][0] <= until:
            self.now_ns, _, happens = heapq.heappop(self._events)
            happens()
        else:
            self.now_ns = until
        self.now_ns += self.oversleep_ns
        self.oversleep_ns = 0
        for child in self.living():
            child.stamp()

    # --- processes ----------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, target: Any) -> FakeChild:
        if self.refuses_forks:
            raise ForkError(f"cannot fork {name}: no room")
        assert not [child for child in self.living() if child.name == name], f"a twin of {name}"
        generation, before = target.args[-2:]
        child = FakeChild(self, name, next(self._pids), generation, before)
        self.children.append(child)
        self.born(child)
        if child.end is None:
            child.stamp()
        return child

    def living(self) -> list[FakeChild]:
        """Return the running processes."""
        return [child for child in self.children if child.end is None]

    def lives(self, name: str) -> list[FakeChild]:
        """Return all generations of a process."""
        return [child for child in self.children if child.name == name]

    def the(self, name: str) -> FakeChild:
        """Return the last generation of a process."""
        return self.lives(name)[-1]

    def row(self, name: str) -> Any:
        """Return the board row of a process."""
        return self.board.worker(self.system.slot_table[name])

    # --- requests and events ------------------------------------------------------------------------------------------

    def ask_at(self, when_s: float, verb: Any, target: str | None = None, fault: Any = None) -> None:
        """Schedule a control request; the reply goes to ``replies``."""

        def send() -> None:
            client = ControlClient(self.run_dir.control)
            self._clients.append(client)
            client.send(ControlRequest(verb, target, fault))
            self.at(self.now_s + 0.001, lambda: self.replies.append(decode_reply(client.receive())))

        self.at(when_s, send)

    def signal_at(self, when_s: float, number: int) -> None:
        """Schedule a signal to the parent."""
        self.at(when_s, lambda: os.kill(os.getpid(), number))

    def _control(self, path: Any, handle: Any, watch: Any) -> ControlServer:
        world = self

        class Recorded(ControlServer):
            def publish(self, event: dict[str, Any]) -> None:
                world.published.append(event)
                super().publish(event)

        return Recorded(path, handle, watch)

    def events(self, name: str) -> list[str]:
        """Return the events that followers received of a process."""
        return [event["event"] for event in self.published if event["process"] == name]
