"""Journals, in events a second: how fast they are verified, converted and replayed, and what recording them costs.

    paraphina-supervisor start --sim --sim-rate 250 --for 70 & paraphina-supervisor record --out journal --for 60
    python bench/journals.py journal [--speed 4]

Recording is measured on the journal's replay: ``--speed`` says how many times as fast, so that the rate is the wanted
one. Absolute figures differ between machines and hours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from supervisor.journal.parquet import convert
from supervisor.journal.verify import verify

PROGRAM = (sys.executable, "-m", "supervisor")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call and its duration, s."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def replay(journal: Path, run_dir: Path, speed: str) -> subprocess.Popen[bytes]:
    """Start a replay in its own process."""
    command = [*PROGRAM, "replay", str(journal), "--run-dir", str(run_dir), "--speed", speed]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def record(journal: Path, directory: Path, speed: str) -> tuple[float, float]:
    """Record a replay; return the share of a core that it takes, and events per second."""
    command = [*PROGRAM, "record", "--out", str(directory / "again"), "--run-dir", str(directory / "run"), "--json"]
    recorder = subprocess.Popen(command, stdout=subprocess.PIPE)
    while not (directory / "again").exists():
        time.sleep(0.05)
    process = psutil.Process(recorder.pid)
    before = sum(process.cpu_times()[:2])
    _, took_s = timed(replay(journal, directory / "run", speed).wait)
    cost_s = sum(process.cpu_times()[:2]) - before
    recorder.terminate()
    recorder.communicate()
    return cost_s / took_s, verify(directory / "again", processes=1).lines / took_s


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--speed", default="4")
    arguments = parser.parse_args()
    journal: Path = arguments.journal
    for processes in (1, os.cpu_count() or 1):
        report, took_s = timed(lambda count=processes: verify(journal, processes=count))
        print(f"verify, {processes} processes: {report.lines / took_s:,.0f} events/s")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory = Path(name)
        done, took_s = timed(lambda: convert(journal, directory / "parquet"))
        print(f"convert: {done.events / took_s:,.0f} events/s")
        shutil.rmtree(directory / "parquet")
        _, took_s = timed(replay(journal, directory / "run", "max").wait)
        print(f"replay at full speed, with start and end: {done.events / took_s:,.0f} events/s")
        share, rate = record(journal, directory, arguments.speed)
        print(f"record: {100 * share:.1f} % of a core at {rate:,.0f} events/s")


if __name__ == "__main__":
    main()
