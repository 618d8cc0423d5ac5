"""The figures of recovery, as a consumer sees them: medians over many faults on a system that has its default limits.

What is asserted is twice what a quiet machine reaches, see ``docs/drills.md``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import psutil
import pytest
from systems import VENUES, Listener, System, wait_for

from ipc.events import BookDelta, BookSnapshot, Lifecycle
from supervisor.drill.catalogue import DRILLS, Conditions
from supervisor.drill.ground import TrainingGround
from supervisor.drill.measure import Ground, attempt

pytestmark = pytest.mark.soak

ROUNDS = 10
SYMBOLS = ["BTC-PERP", "ETH-PERP"]
#: Any fresh data earns the first delay again; nothing else is shortened.
HEALTHY = "[health]\nhealthy_threshold_ms = 100\n"
STALE = "".join(f"[venues.{venue}]\nstale_ms = 2000\n" for venue in VENUES)
IMMEDIATE = '[supervisor]\nfirst_restart = "immediate"\n'

Say = Callable[[str, Sequence[float], float], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Show the median and the worst of some times, and whether twice the goal was reached."""

    def show(what: str, times_ms: Sequence[float], goal_ms: float) -> None:
        middle = median(times_ms)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{what:<52} p50 {middle:7.1f} ms  max {max(times_ms):7.1f} ms  goal {goal_ms:6.0f} ms"
                f"  n {len(times_ms)}"
            )
            sys.stdout.flush()
        assert middle <= 2 * goal_ms

    return show


def drilled(config: str, fault: str, rounds: int = ROUNDS, **conditions: float) -> dict[str, list[tuple[float, float]]]:
    """One fault again and again, venue after venue: by venue the times to detect it and to all fresh books, ms."""
    with System(config=config) as system:
        system.wait_live()
        ground = Ground.of(system.run_dir, Conditions(**conditions))
        times: dict[str, list[tuple[float, float]]] = {}
        for venue in VENUES:
            for _ in range(rounds):
                one = attempt(ground, DRILLS[fault], venue, SYMBOLS)
                assert one.result == "ok", (venue, one)
                times.setdefault(venue, []).append((one.detected_ms or 0.0, one.fresh_ms or 0.0))
        return times


@pytest.mark.parametrize(("config", "first_s", "goal_ms"), [(HEALTHY, 1.0, 1200.0), (IMMEDIATE + HEALTHY, 0.0, 150.0)])
def test_kill(say: Say, config: str, first_s: float, goal_ms: float) -> None:
    times = drilled(config, "kill", first_s=first_s)
    say("crash known to the parent", [known for of in times.values() for known, _ in of], 5)
    for venue, of in times.items():
        say(f"kill -9 to all books fresh, {first_s:g} s delay, {venue}", [fresh for _, fresh in of], goal_ms)


def test_stop(say: Say) -> None:
    for venue, of in drilled(HEALTHY, "stop", rounds=3).items():
        say(f"SIGSTOP to all books fresh, {venue}", [fresh for _, fresh in of], 4000)


def test_stall(say: Say) -> None:
    for venue, of in drilled(HEALTHY + STALE, "stall", rounds=5, stale_s=2.0).items():
        say(f"stalled stream to all books fresh, limit 2 s, {venue}", [fresh for _, fresh in of], 3500)


@pytest.mark.parametrize(("config", "delay_ms"), [(HEALTHY, 1000.0), (IMMEDIATE + HEALTHY, 0.0)])
def test_all_five_killed_at_once(say: Say, config: str, delay_ms: float) -> None:
    running: list[float] = []
    fresh: list[float] = []
    with System(config=config) as system, Listener(system, channels=["book", "lifecycle"]) as listener:
        for _ in range(ROUNDS):
            wait_for(lambda: all(not listener.book(v, s)[0] for v in VENUES for s in SYMBOLS))
            time.sleep(1.0)
            killed = time.monotonic()
            for venue in VENUES:
                os.kill(system.pid(venue), signal.SIGKILL)
            wait_for(lambda at=killed: all(_started(listener, v, at) for v in VENUES), every_s=0.005)
            running.append(max(_started(listener, venue, killed) - killed for venue in VENUES) * 1000)
            wait_for(lambda at=killed: all(_fresh(listener, v, s, at) for v in VENUES for s in SYMBOLS), every_s=0.005)
            fresh.append(max(_fresh(listener, v, s, killed) - killed for v in VENUES for s in SYMBOLS) * 1000)
    say(f"all five killed, {delay_ms:g} ms delay: all running", running, delay_ms + 300)
    say(f"all five killed, {delay_ms:g} ms delay: all books fresh", fresh, delay_ms + 300)


def _started(listener: Listener, venue: str, since: float) -> float:
    """When a worker was started anew, by the parent's clock; 0 when it was not."""
    starts = [e for e in listener.of(Lifecycle, venue) if e.event == "started" and e.recv_mono_ns > since * 1e9]
    return starts[0].recv_mono_ns / 1e9 if starts else 0.0


def _fresh(listener: Listener, venue: str, symbol: str, since: float) -> float:
    """When a consumer had the first event of a book of the worker that was started after ``since``; 0 when not yet."""
    started = _started(listener, venue, since)
    if not started:
        return 0.0
    kinds = (BookSnapshot, BookDelta)
    found = [
        at
        for at, event in list(listener.events)
        if at > started
        and isinstance(event, kinds)
        and (event.venue, event.symbol) == (venue, symbol)
        and event.recv_mono_ns > started * 1e9
        and not {"rest", "refresh"} & set(event.flags)
    ]
    return found[0] if found else 0.0


def test_parent_killed(say: Say) -> None:
    with TrainingGround(list(VENUES)) as training:
        times = [training.kill_parent() for _ in range(ROUNDS)]
    say("parent killed: nothing left", [one.detected_ms or 10_000 for one in times], 50)
    say("parent killed: all live after the next start", [one.fresh_ms or 60_000 for one in times], 2000)


def test_idle_parent(say: Say) -> None:
    """Times here are the share of a core, in thousandths, and MiB."""
    with System() as system:
        system.wait_live()
        assert system.process is not None
        parent = psutil.Process(system.process.pid)
        before, began = parent.cpu_times(), time.monotonic()
        time.sleep(30)
        after = parent.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        say("idle parent, thousandths of a core", [1000 * used_s / (time.monotonic() - began)], 3)
        say("idle parent, MiB PSS", [parent.memory_full_info().pss / 2**20], 14)
