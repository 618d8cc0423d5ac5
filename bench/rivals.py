"""nautilus_trader and cryptofeed on the same frames as ours, where they support the venue.

Both need their own versions of libraries, so ``BENCH_RIVALS`` names the Python of a separate environment
(``python -m venv rivals; rivals/bin/pip install nautilus_trader cryptofeed``); without it they are left out.
nautilus_trader has an adapter for Hyperliquid (Rust, then Python). cryptofeed has Binance futures, whose protocol aster
uses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.feeder import Feeder
from bench.frames import encoded
from bench.hot_path import TEMPI
from bench.task import Task, ask
from bench.verdict import Ratio, ratio

CASES = (
    ("nautilus", "hyperliquid", "book20"),
    ("nautilus", "hyperliquid", "trade"),
    ("cryptofeed", "aster", "delta"),
    ("cryptofeed", "aster", "trade"),
)


@dataclass(frozen=True)
class Rival:
    """Row of results, µs of CPU a frame in each run; ``why`` says why it was not measured."""

    rival: str
    venue: str
    kind: str
    tempo: str
    ours: list[float]
    theirs: list[float]
    ratio: Ratio | None = None
    why: str = ""


def measure(runs: int, frames: int, report: Callable[[str], None] = print) -> Iterator[Rival]:
    """Measure every case at both tempi, ``runs`` pairs each."""
    python = os.environ.get("BENCH_RIVALS", "")
    for rival, venue, kind in CASES:
        for tempo in TEMPI:
            found = Rival(rival, venue, kind, tempo, [], [], why="BENCH_RIVALS is not set")
            if python:
                found = _pairs(python, rival, venue, kind, tempo, runs, frames)
            report(f"{tempo:<7} {venue:<12} {kind:<8} {rival} / ours {found.ratio or found.why}")
            yield found


def _pairs(python: str, rival: str, venue: str, kind: str, tempo: str, runs: int, frames: int) -> Rival:
    per_s, burst = TEMPI[tempo]
    ours: list[float] = []
    theirs: list[float] = []
    stream = "trade" if kind == "trade" else "book"
    with Feeder(venue, {stream: encoded(venue, kind, frames)}, burst=burst, per_s=per_s) as feeder:
        task = Task(venue, kind, frames, feeder.ws_url, feeder.rest_url)
        try:
            for _ in range(runs):
                ours.append(ask(sys.executable, "bench.ours", task).us_per_frame)
                theirs.append(ask(python, f"bench.with_{rival}", task).us_per_frame)
        except RuntimeError as error:
            return Rival(rival, venue, kind, tempo, ours, theirs, why=str(error)[-300:])
    return Rival(rival, venue, kind, tempo, ours, theirs, ratio(theirs, ours))
