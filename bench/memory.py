"""Memory of a whole system: the sum of its processes' PSS, in which every shared page is counted once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from bench.system import BenchSystem
from ipc.topics import VENUES

_MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """PSS in MiB after ``seconds`` of running: each process, and all that runs in production (no simulator)."""

    seconds: float
    parent: float
    workers: dict[str, float]
    gateway: float
    total: float


def measure(seconds: float, report: Callable[[str], None] = print) -> Memory:
    """Measure a system of five venues with two markets each, on its simulator; its memory is not counted."""
    with BenchSystem() as system:
        system.wait_live()
        time.sleep(seconds)
        parent = _pss(psutil.Process(system.pid))
        workers = {venue: _pss(system.process(venue)) for venue in VENUES}
        gateway = _pss(system.process("gateway"))
    total = parent + sum(workers.values()) + gateway
    report(
        f"memory  parent {parent:.1f} + workers {sum(workers.values()):.1f} + gateway {gateway:.1f} = {total:.1f} MiB"
    )
    return Memory(seconds, parent, workers, gateway, total)


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / _MIB
