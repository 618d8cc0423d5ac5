"""A real parent whose workers do nothing but die, as a program: how its resources stand as restarts go by.

Everything is real but the work: the parent's loop, forks, pidfds, the board, the restarts (without delay). Each worker
says that it is healthy and ends at once, by turns as if all were well and by SIGKILL.

    python churn.py RUN_DIR RESTARTS     prints what was seen, as JSON

:func:`churn` runs that program, :func:`assert_nothing_grew` judges what it saw.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ipc import log
from ipc.board import Board, WorkerWord
from ipc.rundir import RunDir
from supervisor.child import Handover
from supervisor.config import load
from supervisor.lock import Instance
from supervisor.parent import Parent
from supervisor.system import GATEWAY, System

__all__ = ["Reading", "Seen", "assert_nothing_grew", "churn", "quantile"]

_NS_PER_MS = 1_000_000
_MIB = 2**20
_TENTHS = 10
#: What a child costs the parent: its pidfd, and two ends of pipes that multiprocess holds.
_DESCRIPTORS_A_CHILD = 3
_FLAGS = {
    "supervisor.first_restart": "immediate",
    "supervisor.backoff_base_ms": 1,
    "supervisor.log_level": "error",
    "health.healthy_threshold_ms": 0,
}
#: Names in /dev/shm of what Python's shared memory, semaphores and multiprocessing leave when they leak.
_LEAKS = ("psm_", "sem.", "mp-", "pym-")


class Reading(msgspec.Struct, frozen=True):
    """The parent's resources after a number of restarts.

    Attributes:
        held: Children that the parent knows of.
        children: Those that the kernel knows of, zombies included.
        descriptors: Open ones, without those that each child costs.
        run_dir: Names of the files there.
        shared_memory: Names of leaks in /dev/shm.
    """

    restarts: int
    held: int
    children: int
    descriptors: int
    threads: int
    rss_bytes: int
    run_dir: tuple[str, ...]
    shared_memory: tuple[str, ...]


class Seen(msgspec.Struct, frozen=True):
    """What a churn led to: a reading after each tenth, and by tenth the times from a death to the next life, ms."""

    readings: list[Reading]
    times_ms: list[list[float]]
    exit_code: int


def churn(run_dir: Path, restarts: int, timeout_s: float) -> Seen:
    """Let a parent restart its workers so many times, in a process of its own."""
    command = [sys.executable, __file__, str(run_dir), str(restarts)]
    done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-5000:].decode()
    return msgspec.json.decode(done.stdout, type=Seen)


def quantile(times: list[float], share: float) -> float:
    """The time below which a share of them lie."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def assert_nothing_grew(seen: Seen) -> None:
    """A parent after all its restarts is what it was when its bounded memories had filled, and as quick."""
    early, last = seen.readings[3], seen.readings[-1]
    assert seen.exit_code == 0
    for reading in seen.readings:
        assert reading.children <= reading.held, "no process that it does not know of"
        assert reading.threads == 1
        assert reading.descriptors == early.descriptors
        assert reading.run_dir == early.run_dir
        assert reading.shared_memory == early.shared_memory
    assert last.rss_bytes - early.rss_bytes <= _MIB
    first_ms, last_ms = seen.times_ms[0], seen.times_ms[-1]
    assert quantile(last_ms, 0.99) <= 5 * quantile(first_ms, 0.99) + 100
    assert quantile(last_ms, 0.5) <= 3 * quantile(first_ms, 0.5) + 20


# --- the program ------------------------------------------------------------------------------------------------------


class ShortLived(System):
    """A system whose workers end as soon as they have begun; its gateway waits."""

    __slots__ = ()

    def run_child(self, name: str, board: Board, generation: int, before: Handover) -> None:
        """What a child does; called in the child."""
        del before
        row = board.worker(self.slots[name])
        while name == GATEWAY:
            row[WorkerWord.BEAT] = time.monotonic_ns()
            time.sleep(0.1)
        now = time.monotonic_ns()
        row[WorkerWord.FIRST_FRESH], row[WorkerWord.LAST_FRESH] = now - 1, now
        if generation % 2:
            os.kill(os.getpid(), signal.SIGKILL)


class Watch:
    """Counts restarts from inside the parent, takes a reading after each tenth, and stops it after the last."""

    def __init__(self, parent: Parent, run_dir: RunDir, restarts: int) -> None:
        self.readings: list[Reading] = []
        #: Made to its full length now: what is measured must not grow with the measuring.
        self._times_ms = array("f", bytes(4 * restarts))
        self._parent = parent
        self._run_dir = run_dir
        self._process = psutil.Process()
        self._restarts = restarts
        self._done = 0
        self._died_ns: dict[str, int] = {}
        self._pass_on = parent._control.publish
        for child in parent._children.values():
            child._reporter._publish_event = self.take

    def take(self, event: dict[str, Any]) -> None:
        """A lifecycle event."""
        self._pass_on(event)
        if event["event"] == "exited":
            self._died_ns[event["process"]] = event["mono_ns"]
        elif event["event"] == "started" and event["generation"] > 1:
            self._restarted((event["mono_ns"] - self._died_ns[event["process"]]) / _NS_PER_MS)

    def _restarted(self, after_ms: float) -> None:
        if self._done == self._restarts:
            return
        self._times_ms[self._done] = after_ms
        self._done += 1
        if self._done % (self._restarts // _TENTHS) == 0:
            self.readings.append(self._read())
        if self._done == self._restarts:
            self._parent._stop()

    def seen(self, exit_code: int) -> Seen:
        """What there was to see."""
        times, size = [round(time_ms, 3) for time_ms in self._times_ms], self._restarts // _TENTHS
        return Seen(self.readings, [times[size * tenth : size * (tenth + 1)] for tenth in range(_TENTHS)], exit_code)

    def _read(self) -> Reading:
        held = sum(child.process is not None for child in self._parent._children.values())
        return Reading(
            self._done,
            held,
            len(self._process.children(recursive=True)),
            self._process.num_fds() - _DESCRIPTORS_A_CHILD * held,
            self._process.num_threads(),
            self._process.memory_info().rss,
            tuple(sorted(os.listdir(self._run_dir.path))),  # noqa: PTH208 - names are wanted
            tuple(sorted(name for name in os.listdir("/dev/shm") if name.startswith(_LEAKS))),  # noqa: PTH208, S108
        )


def _main(path: str, restarts: str) -> None:
    log.setup("error")
    run_dir = RunDir(Path(path))
    parent = Parent(ShortLived(load(None, {}, _FLAGS), run_dir), run_dir, Instance(run_dir), lambda _: None)
    watch = Watch(parent, run_dir, int(restarts))
    sys.stdout.write(msgspec.json.encode(watch.seen(parent.run())).decode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
