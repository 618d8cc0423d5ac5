"""nautilus_trader and cryptofeed on the same frames as ours, where their code reaches a venue of ours.

Both want versions of libraries of their own, so they live in an environment apart, named by ``BENCH_RIVALS`` (its
Python: ``python -m venv rivals; rivals/bin/pip install nautilus_trader cryptofeed``); without it they are left out.
nautilus_trader has an adapter for Hyperliquid (Rust, Python at the end). cryptofeed has no venue of ours; aster's
protocol is that of Binance futures, which it has.
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

_CASES = (
    ("nautilus", "hyperliquid", "book20"),
    ("nautilus", "hyperliquid", "trade"),
    ("cryptofeed", "aster", "delta"),
    ("cryptofeed", "aster", "trade"),
)


@dataclass(frozen=True)
class Rival:
    """One row, µs of CPU a frame in each run; ``why`` tells what kept it from being measured."""

    rival: str
    venue: str
    kind: str
    tempo: str
    ours: list[float]
    theirs: list[float]
    ratio: Ratio | None = None
    why: str = ""


def measure(runs: int, frames: int, tell: Callable[[str], None] = print) -> Iterator[Rival]:
    """Every case at both tempi, ``runs`` pairs each."""
    python = os.environ.get("BENCH_RIVALS", "")
    for rival, venue, kind in _CASES:
        for tempo in TEMPI:
            found = Rival(rival, venue, kind, tempo, [], [], why="BENCH_RIVALS is not set")
            if python:
                found = _pairs(python, rival, venue, kind, tempo, runs, frames)
            tell(f"{tempo:<7} {venue:<12} {kind:<8} {rival} / ours {found.ratio or found.why}")
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
