"""Durations of starts: a system to live venues, a killed worker to a fresh book, a verb to its output."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.system import BenchSystem
from bench.task import ROOT
from ipc.events import BookDelta, BookSnapshot
from ipc.feed import Feed

_VICTIM = "lighter"
_LIMIT_S = 20.0


@dataclass(frozen=True)
class Start:
    """Durations of every run.

    ``live_s``: ``start --sim`` to five live venues. ``restart_ms``: SIGKILL of a worker to its book usable again in a
    consumer's Feed, with ``first_restart = "immediate"``. ``help_ms``, ``status_ms``: real time above that of
    ``python -c pass`` right before it; ``bare_ms`` that itself.
    """

    live_s: list[float]
    restart_ms: list[float]
    help_ms: list[float]
    status_ms: list[float]
    bare_ms: list[float]


def measure(runs: int, report: Callable[[str], None] = print) -> Start:
    """Measure each ``runs`` times."""
    live_s, restart_ms = [], []
    help_ms: list[float] = []
    status_ms: list[float] = []
    bare_ms: list[float] = []
    for _ in range(runs):
        with BenchSystem('[supervisor]\nfirst_restart = "immediate"', "--sim") as system:
            live_s.append(system.wait_live())
            restart_ms.append(_restart_s(system) * 1e3)
            for verb, found in (("--help", help_ms), ("status", status_ms)):
                bare = _wall_ms("-c", "pass")
                bare_ms.append(bare)
                place = ["--run-dir", str(system.run_dir.path)] if verb == "status" else []
                found.append(_wall_ms("-m", "supervisor", verb, *place) - bare)
    found_all = Start(live_s, restart_ms, help_ms, status_ms, bare_ms)
    for name in ("live_s", "restart_ms", "help_ms", "status_ms", "bare_ms"):
        values = getattr(found_all, name)
        report(f"start   {name:<11} {statistics.median(values):8.2f}  ({min(values):.2f}-{max(values):.2f})")
    return found_all


def _restart_s(system: BenchSystem) -> float:
    """Kill a worker; return the time, s, until a consumer can use its book again."""
    with Feed(system.run_dir.path, venues=[_VICTIM], channels=["book"], symbols=["BTC-PERP"]) as feed:
        epoch = _next_book(feed).epoch
        victim, start = system.process(_VICTIM), time.monotonic()
        victim.kill()
        while _next_book(feed).epoch == epoch or not feed.book(_VICTIM, "BTC-PERP").usable:
            pass
        return time.monotonic() - start


def _next_book(feed: Feed) -> BookSnapshot | BookDelta:
    until = time.monotonic() + _LIMIT_S
    while time.monotonic() < until:
        event = feed.poll(0.1)
        if isinstance(event, BookSnapshot | BookDelta):
            return event
    raise RuntimeError("no book")


def _wall_ms(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False)
    return (time.perf_counter() - start) * 1e3
