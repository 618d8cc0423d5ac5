"""CPU a message from socket to published, by venue, against ccxt.pro on the same frames.

Both programs read from one feeder over a real loopback WebSocket, in turn, so that a busy machine slows both alike; the
reliable figure is the ratio of neighbours. Ours decodes, keeps the book, stamps the board, fills the black box and
publishes; ccxt's loop (``await exchange.watch_order_book(symbol)``) publishes nothing. A run counts only when the last
frame was handled.

Two tempi: ``steady`` sends a frame a millisecond, so that each is read alone, as a venue sends them; ``burst`` sends as
fast as they are read, so that waiting and waking hardly count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.feeder import Feeder
from bench.frames import KINDS, encoded
from bench.task import Task, ask
from bench.verdict import Ratio, ratio

#: Streams that ccxt does not follow: of Paradex it reads whole books only.
_OURS_ONLY = {("paradex", "delta"), ("paradex", "wide"), ("paradex", "json_delta")}
#: Frames a second, and frames written at once.
TEMPI: dict[str, tuple[float | None, int]] = {"steady": (1000.0, 1), "burst": (None, 32)}
#: ccxt's decoder of binary frames takes milliseconds; a tenth of the frames says as much.
_SLOW = {("paradex", "book"), ("paradex", "trade")}


@dataclass(frozen=True)
class Case:
    """Row of results, µs of CPU a frame in each run; ``theirs`` is empty where there is no counterpart."""

    venue: str
    kind: str
    tempo: str
    frames: int
    ours: list[float]
    theirs: list[float]
    ratio: Ratio | None


def measure(runs: int, frames: int, report: Callable[[str], None] = print) -> Iterator[Case]:
    """Measure every case at both tempi, ``runs`` pairs each."""
    for tempo in TEMPI:
        for venue, kind in [(venue, kind) for venue, kinds in KINDS.items() for kind in kinds]:
            count = max(frames // 10, 200) if (venue, kind) in _SLOW else frames
            case = _pairs(venue, kind, tempo, count, runs, is_rivalled=(venue, kind) not in _OURS_ONLY)
            report(_row(case))
            yield case


def _pairs(venue: str, kind: str, tempo: str, frames: int, runs: int, *, is_rivalled: bool) -> Case:
    """Measure ours and theirs in turn, in reversed order every second time."""
    per_s, burst = TEMPI[tempo]
    stream = "trade" if kind == "trade" else "book"
    found: dict[str, list[float]] = {"bench.ours": [], "bench.with_ccxt": []}
    modules = list(found) if is_rivalled else ["bench.ours"]
    with Feeder(venue, {stream: encoded(venue, kind, frames)}, burst=burst, per_s=per_s) as feeder:
        task = Task(venue, kind, frames, feeder.ws_url, feeder.rest_url)
        for _ in range(runs):
            for module in modules:
                found[module].append(ask(sys.executable, module, task).us_per_frame)
            modules.reverse()
    ours, theirs = found.values()
    return Case(venue, kind, tempo, frames, ours, theirs, ratio(theirs, ours) if theirs else None)


def _row(case: Case) -> str:
    ours = sorted(case.ours)[len(case.ours) // 2]
    against = f"{case.ratio}" if case.ratio else "-"
    return f"{case.tempo:<7} {case.venue:<12} {case.kind:<11} {ours:7.1f} µs   ccxt / ours {against}"


def main() -> None:
    """Measure from the command line: ``python -m bench.hot_path [runs] [frames]``."""
    arguments: list[Any] = [int(text) for text in sys.argv[1:]]
    for _ in measure(*(arguments + [3, 3000][len(arguments) :])):
        pass


if __name__ == "__main__":
    main()
