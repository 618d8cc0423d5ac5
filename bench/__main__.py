"""Run of all measurements: ``python -m bench [--quick] [--only PART] [--out DIRECTORY]``.

Writes ``<date>.json`` with every single figure and the machine's description, and ``latest.md``, the tables that
:mod:`bench.report` makes of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from bench import hot_path, joins, latency, memory, pressure, rivals, scaling, start
from bench.report import tables
from bench.task import ROOT
from bench.verdict import machine

#: Each part, with the numbers of runs, frames or seconds of a quick run and of a complete one.
PARTS: dict[str, Callable[[bool], Any]] = {
    "hot_path": lambda quick: list(hot_path.measure(1, 1500) if quick else hot_path.measure(3, 3000)),
    "rivals": lambda quick: list(rivals.measure(1, 2000) if quick else rivals.measure(3, 5000)),
    "latency": lambda quick: (
        latency.measure_all((100, 1000), 3.0) if quick else latency.measure_all(latency.RATES, 10.0)
    ),
    "pressure": lambda quick: pressure.measure(3.0 if quick else 10.0),
    "markets": lambda quick: list(scaling.measure_markets(1, 1000) if quick else scaling.measure_markets(3, 4000)),
    "subscribers": lambda quick: (
        scaling.measure_subscribers(1, 1000) if quick else scaling.measure_subscribers(3, 4000)
    ),
    "venues": lambda quick: scaling.measure_venues(2.0, 500) if quick else scaling.measure_venues(10.0, 1000),
    "joins": lambda quick: joins.measure(200, 100, 15_000, 1 if quick else 3),
    "memory": lambda quick: memory.measure(2.0 if quick else 60.0),
    "start": lambda quick: start.measure(2 if quick else 7),
}


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--quick", action="store_true", help="some minutes instead of half an hour")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part only; may be given again")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the results go")
    options = parser.parse_args()
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    results: dict[str, Any] = {"at": stamp, "quick": options.quick, "machine": machine()}
    for name in options.only or PARTS:
        results[name] = _plain(PARTS[name](options.quick))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{stamp}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = tables(results)
    (options.out / "latest.md").write_text(text, encoding="utf-8")
    print("\n" + text)


def _plain(found: Any) -> Any:
    """Convert dataclasses, alone or in lists, to plain data for JSON."""
    if isinstance(found, list):
        return [_plain(one) for one in found]
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else found


if __name__ == "__main__":
    main()
