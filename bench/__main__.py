"""Run of all measurements: ``python -m bench [--quick] [--only PART] [--out DIRECTORY]``.

Writes ``<date>.json`` with every single figure and the machine's description, and what :mod:`bench.report` and
:mod:`bench.page` make of it: ``latest.md`` and ``latest.html``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bench import frames, hot_path, joins, latency, memory, pressure, rivals, scaling, start
from bench.page import results_page
from bench.report import tables
from bench.task import ROOT
from bench.verdict import machine
from ipc.topics import VENUES
from supervisor.progress import progress

Report: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """Part of the measurements.

    Attributes:
        measure: Runs it, quickly or completely, and reports every finished measurement.
        count: Number of measurements that it reports.
    """

    measure: Callable[[bool, Report], Any]
    count: Callable[[bool], int]


_HOT_PATH = len(hot_path.TEMPI) * sum(len(kinds) for kinds in frames.KINDS.values())
_VENUES = len(VENUES)

#: Each part, with the numbers of runs, frames or seconds of a quick run and of a complete one.
PARTS: dict[str, Part] = {
    "hot_path": Part(
        lambda quick, say: list(hot_path.measure(1, 1500, say) if quick else hot_path.measure(3, 3000, say)),
        lambda _: _HOT_PATH,
    ),
    "rivals": Part(
        lambda quick, say: list(rivals.measure(1, 2000, say) if quick else rivals.measure(3, 5000, say)),
        lambda _: len(rivals.CASES) * len(hot_path.TEMPI),
    ),
    "latency": Part(
        lambda quick, say: (
            latency.measure_all((100, 1000), 3.0, say) if quick else latency.measure_all(latency.RATES, 10.0, say)
        ),
        lambda quick: 3 if quick else len(latency.RATES) + 1,
    ),
    "pressure": Part(lambda quick, say: pressure.measure(3.0 if quick else 10.0, say), lambda _: 1),
    "markets": Part(
        lambda quick, say: list(
            scaling.measure_markets(1, 1000, report=say) if quick else scaling.measure_markets(3, 4000, report=say)
        ),
        lambda _: _VENUES,
    ),
    "subscribers": Part(
        lambda quick, say: (
            scaling.measure_subscribers(1, 1000, report=say)
            if quick
            else scaling.measure_subscribers(3, 4000, report=say)
        ),
        lambda _: 1,
    ),
    "venues": Part(
        lambda quick, say: scaling.measure_venues(2.0, 500, say) if quick else scaling.measure_venues(10.0, 1000, say),
        lambda _: 3,
    ),
    "joins": Part(lambda quick, say: joins.measure(200, 100, 15_000, 1 if quick else 3, say), lambda _: 4),
    "memory": Part(lambda quick, say: memory.measure(2.0 if quick else 60.0, say), lambda _: 1),
    "start": Part(lambda quick, say: start.measure(2 if quick else 7, say), lambda _: 5),
}


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--quick", action="store_true", help="some minutes instead of half an hour")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part only; may be given again")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the results go")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.out):
            pass
    except OSError as error:
        parser.error(f"--out {options.out} cannot be written: {error.strerror}")
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    results: dict[str, Any] = {"at": stamp, "quick": options.quick, "machine": machine()}
    results |= measured(options.only or list(PARTS), quick=options.quick)
    (options.out / f"{stamp}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = tables(results)
    (options.out / "latest.md").write_text(text, encoding="utf-8")
    (options.out / "latest.html").write_text(results_page(results), encoding="utf-8")
    print("\n" + text)


def measured(names: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Run parts, with a bar at a terminal: which part, and how many of all measurements are done."""
    done = 0
    results: dict[str, Any] = {}
    with progress("measuring", sum(PARTS[name].count(quick) for name in names), is_counted=True) as advance:
        for name in names:

            def say(line: str, name: str = name) -> None:
                nonlocal done
                done += 1
                print(line)
                advance(done, name)

            advance(done, name)
            results[name] = _plain(PARTS[name].measure(quick, say))
    return results


def _plain(found: Any) -> Any:
    """Convert dataclasses, alone or in lists, to plain data for JSON."""
    if isinstance(found, list):
        return [_plain(one) for one in found]
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else found


if __name__ == "__main__":
    main()
