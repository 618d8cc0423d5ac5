"""The benchmarks run, with tiny numbers, and give figures that can be figures. No times are judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from measured import results
from pages import parsed, texts

from bench import hot_path, latency, pressure, scaling
from bench.__main__ import PARTS
from bench.feeder import Feeder
from bench.frames import KINDS, encoded
from bench.page import results_page
from bench.report import tables
from bench.task import Task, TaskResult, ask
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


def test_the_page_has_every_part_and_both_sides_of_a_comparison():
    root = parsed(results_page(results()))
    assert texts(root, "h1") == ["● 10 parts, complete run"]
    tables_of = {table.get("aria-label"): table for table in root.iter("table")}
    beside = {
        texts(row, "th")[0]: texts(row, "td")
        for row in tables_of["CPU a message beside ccxt.pro"].iter("tr")
        if texts(row, "th")
    }
    assert beside["lighter delta, steady: ours"][1:] == ["63.2", "60.1 to 66", ""]
    assert beside["lighter delta, steady: ccxt.pro"][1:] == ["600", "580 to 640", "9.50 (9.10 to 10.20)"]
    assert "lighter wide, steady: ours" in beside
    assert "lighter wide, steady: ccxt.pro" not in beside, "there is no counterpart"
    assert "nautilus: BENCH_RIVALS is not set" in " ".join(texts(root, "p"))
    assert len(texts(root, "h2")) == 11


@pytest.mark.parametrize("name", [name for name in results() if name not in {"at", "quick", "machine"}])
def test_a_part_alone_is_a_page_and_a_table(name):
    alone = {key: value for key, value in results().items() if key in {"at", "quick", "machine", name}}
    assert len(texts(parsed(results_page(alone)), "section")) >= 1
    assert tables(alone).count("\n## ") == 1


def test_no_text_of_the_results_becomes_markup():
    page = results_page(results("<script>alert(1)</script>\x1b"))
    assert "<script" not in page
    assert "\x1b" not in page
    parsed(page)


def test_every_part_reports_as_many_measurements_as_it_counts(monkeypatch):
    monkeypatch.setattr(hot_path, "_pairs", lambda *arguments, **_: hot_path.Case(*arguments[:3], 1, [1.0], [], None))
    monkeypatch.delenv("BENCH_RIVALS", raising=False)
    monkeypatch.setattr(latency, "_at", lambda per_s, seconds, venues: latency.Latency(len(venues), per_s, seconds))
    monkeypatch.setattr(scaling, "ask", lambda *_: TaskResult(1, 1.0, 1.0, is_complete=True))
    monkeypatch.setattr(scaling, "Feeder", MagicMock())
    monkeypatch.setattr(scaling, "Subscribers", MagicMock())
    monkeypatch.setattr(scaling, "encoded", lambda *_: [])
    monkeypatch.setattr(scaling, "Task", MagicMock())
    monkeypatch.setattr(scaling, "_venues", lambda venues, *_: dict.fromkeys(venues, 1.0))
    for name in ("hot_path", "rivals", "latency", "markets", "subscribers", "venues"):
        for quick in (True, False):
            reported = []
            PARTS[name].measure(quick, reported.append)
            assert len(reported) == PARTS[name].count(quick), name


def test_a_place_that_cannot_be_written_is_one_error_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "bench", "--only", "memory", "--out", str(tmp_path / "file" / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("cannot be written: Not a directory")
    assert not done.stdout


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
    found = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert found["machine"]["cores"] == os.cpu_count()
    assert found["memory"]["total"] > found["memory"]["parent"] > 1.0
    assert (tmp_path / "latest.md").read_text() == tables(found)
    assert (tmp_path / "latest.html").read_text() == results_page(found)


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
