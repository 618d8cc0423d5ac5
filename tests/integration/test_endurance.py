"""Restarts forever: nothing grows in the parent, nothing is left behind, and watching costs next to nothing."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from churn import Reading, Seen, assert_nothing_grew, churn, quantile
from systems import VENUES, System, wait_for

from supervisor.status.document import read_status

pytestmark = pytest.mark.integration

_MIB = 2**20
RESTARTS = 600
ROUNDS = 8
IDLE_S = 8.0


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Show a figure also when the test passes."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return show


@pytest.fixture
def some_run_dir() -> Any:
    with tempfile.TemporaryDirectory(prefix="pp-", dir="/dev/shm") as path:
        yield Path(path) / "run"


def test_hundreds_of_restarts_leave_the_parent_as_it_was(some_run_dir: Path, say: Callable[[str], None]) -> None:
    seen = churn(some_run_dir, RESTARTS, timeout_s=120)
    assert_nothing_grew(seen)
    times = [time_ms for tenth in seen.times_ms for time_ms in tenth]
    assert len(times) == RESTARTS
    say(f"{RESTARTS} restarts: p50 {quantile(times, 0.5):.1f} ms, p99 {quantile(times, 0.99):.1f} ms")


def test_what_leaks_is_noticed() -> None:
    def seen(**last: Any) -> Seen:
        usual = {"descriptors": 9, "threads": 1, "rss_bytes": 20 * _MIB, "run_dir": ("board",), "shared_memory": ()}
        readings = [Reading(restarts=n, held=5, children=5, **usual) for n in range(9)]
        worse = {"held": 5, "children": 5, **usual, **last}
        return Seen([*readings, Reading(restarts=9, **worse)], [[10.0]] * 9 + [[last.get("held", 10.0)]], 0)

    assert_nothing_grew(seen())
    for leak in (
        {"descriptors": 10},
        {"threads": 2},
        {"children": 6},
        {"rss_bytes": 22 * _MIB},
        {"run_dir": ("board", "board.1")},
        {"shared_memory": ("psm_1",)},
    ):
        with pytest.raises(AssertionError):
            assert_nothing_grew(seen(**leak))
    slow = Seen(seen().readings, [[10.0]] * 9 + [[500.0]], 0)
    with pytest.raises(AssertionError):
        assert_nothing_grew(slow)


def test_real_workers_killed_again_and_again_leave_nothing_behind(say: Callable[[str], None]) -> None:
    config = '[supervisor]\nfirst_restart = "immediate"\nbackoff_base_ms = 1\n[health]\nhealthy_threshold_ms = 0\n'
    with System(config=config) as system:
        system.wait_live()
        assert system.process is not None
        parent = psutil.Process(system.process.pid)
        before: tuple[Any, ...] = ()
        rss_before = 0
        times_ms = []
        for number in range(ROUNDS):
            times_ms.append(kill_all(system))
            if number == 1:  # caches are written by now
                before, rss_before = footprint(system, parent), parent.memory_info().rss
        wait_for(lambda: footprint(system, parent) == before, 10, what=f"{before}, not {footprint(system, parent)}")
        assert parent.memory_info().rss - rss_before <= _MIB
        assert read_status(system.run_dir)["supervisor"]["forks"] == 7 + 5 * ROUNDS
        assert not any(read_status(system.run_dir)["venues"][venue]["crash_loop"] for venue in VENUES)
        say(f"all five killed to all five live: {sorted(times_ms)} ms")
        children = system.descendants()
        assert system.stop() == 0
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        assert not list(system.run_dir.path.glob(".*")), "no half-written file"


def kill_all(system: System) -> int:
    """Kill every worker; how long until all are live again, ms."""
    pids = {venue: system.pid(venue) for venue in VENUES}
    began = time.monotonic()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    for venue, pid in pids.items():
        wait_for(lambda v=venue, p=pid: system.venue(v)["pid"] not in {None, p}, every_s=0.005, what=venue)
    system.wait_live()
    return round((time.monotonic() - began) * 1000)


def footprint(system: System, parent: psutil.Process) -> tuple[Any, ...]:
    """What the parent and its directory hold, and how many processes there are in which state."""
    children = parent.children(recursive=True)
    return (
        parent.num_fds(),
        parent.num_threads(),
        len(children),
        sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
        sorted(path.name for path in system.run_dir.path.iterdir()),
    )


def test_watching_five_live_workers_costs_next_to_nothing(say: Callable[[str], None]) -> None:
    with System() as system:
        system.wait_live()
        assert system.process is not None
        parent = psutil.Process(system.process.pid)
        before = parent.cpu_times()
        began = time.monotonic()
        time.sleep(IDLE_S)
        after = parent.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        share = used_s / (time.monotonic() - began)
        pss = parent.memory_full_info().pss / _MIB
        say(f"idle parent: {share:.2%} of a core, {pss:.1f} MiB PSS")
        assert share <= 0.02
        assert pss <= 30
        assert parent.num_threads() == 1
