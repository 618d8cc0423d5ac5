"""The benchmarks run, with tiny numbers, and give figures that can be figures. No times are judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import pressure
from bench.feeder import Feeder
from bench.frames import KINDS, encoded
from bench.report import tables
from bench.task import Task, ask
from bench.verdict import machine, percentile, ratio

ROOT = Path(__file__).resolve().parent.parent


def test_a_ratio_is_the_median_of_neighbours_with_its_spread():
    found = ratio([10.0, 30.0, 8.0], [5.0, 10.0, 4.0])
    assert (found.median, found.least, found.most) == (2.0, 2.0, 3.0)


def test_percentile_is_a_value_that_was_measured():
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.999) == 3.0


@pytest.mark.parametrize(("venue", "kind"), [(venue, kind) for venue, kinds in KINDS.items() for kind in kinds])
def test_frames_are_the_same_every_time(venue, kind):
    assert encoded(venue, kind, 3, 2) == encoded(venue, kind, 3, 2)


def test_the_description_of_the_machine_names_no_place_of_it():
    text = json.dumps(machine())
    assert str(Path.cwd()) not in text
    assert os.uname().nodename not in text.split('"')


@pytest.mark.integration
@pytest.mark.parametrize(("venue", "kind"), [("aster", "delta"), ("paradex", "delta"), ("hyperliquid", "book20")])
def test_every_frame_of_a_stream_is_published(venue, kind):
    assert measured("bench.ours", venue, kind).is_complete


@pytest.mark.integration
@pytest.mark.parametrize("venue", ["hyperliquid", "aster", "extended", "lighter"])
def test_ccxt_handles_every_frame_of_the_same_stream(venue):
    pytest.importorskip("ccxt.pro")
    assert measured("bench.with_ccxt", venue, KINDS[venue][0]).is_complete


@pytest.mark.integration
def test_a_run_writes_its_figures_and_its_tables(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench",
        "--quick",
        "--only",
        "pressure",
        "--only",
        "memory",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    results = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert results["machine"]["cores"] == os.cpu_count()
    assert results["memory"]["total"] > results["memory"]["parent"] > 1.0
    assert (tmp_path / "latest.md").read_text() == tables(results)


@pytest.mark.integration
def test_a_flood_leaves_the_book_whole_and_every_message_accounted_for():
    found = pressure.measure(2.0, report=lambda _: None)
    assert found.published["trade"] >= found.frames // 2
    assert found.lost > 0
    assert found.drops > 0
    assert found.is_accounted
    assert found.is_book_usable
    assert found.drifts == 0


def measured(module, venue, kind):
    """One measured program on 600 frames."""
    with Feeder(venue, {"book": encoded(venue, kind, 600)}, per_s=1000.0) as feeder:
        task = Task(venue, kind, 600, feeder.ws_url, feeder.rest_url)
        outcome = ask(sys.executable, module, task)
    assert outcome.us_per_frame > 0
    return outcome
