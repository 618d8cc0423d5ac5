"""Journals of a real system: recorded, verified, converted, replayed, recorded again; through kills and full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from recordings import Loudspeakers, Recorder, essence, journal
from systems import VENUES, Listener, System, paraphina, wait_for

from ipc.rundir import RunDir
from supervisor.journal.findings import VerifyReport
from supervisor.journal.verify import verify

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of all venues, in which a worker is killed and a book is lost; in several files."""
    out = tmp_path_factory.mktemp("journal")
    with System() as system:
        system.wait_live()
        with Recorder(system.run_dir, out, "--rotate-every", "4s") as recorder:
            recorder.wait_for_events()
            system.fault("paradex", "drop_delta", symbol="BTC-PERP")
            os.kill(system.pid("lighter"), signal.SIGKILL)
            time.sleep(4)
            system.wait_live()
            time.sleep(2)
            assert recorder.stop() == 0, recorder.errors
        assert recorder.tally["lost"] == dict.fromkeys((*VENUES, "lifecycle"), 0)
        assert recorder.tally["files"] >= 2
    return out


@pytest.fixture
def elsewhere() -> Iterator[RunDir]:
    """A run directory in which nothing runs."""
    path = Path(tempfile.mkdtemp(prefix="pp-", dir="/dev/shm"))
    yield RunDir(path / "run")
    shutil.rmtree(path)


@contextmanager
def replay(source: Path, run_dir: RunDir, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``replay`` in a process of its own."""
    command = [sys.executable, "-m", "supervisor", "replay", str(source), "--run-dir", str(run_dir.path), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def found(path: Path) -> VerifyReport:
    report = verify(path, processes=1)
    assert report.problems == []
    return report


def kinds(report: VerifyReport) -> set[str]:
    return {note.kind for note in report.notes}


# --- round trip -------------------------------------------------------------------------------------------------------


def test_a_recording_is_whole_and_right(recorded: Path) -> None:
    ran = paraphina("verify", str(recorded), "--json")
    assert ran.returncode == 0, ran.stdout
    report = json.loads(ran.stdout)
    assert report["ok"]
    assert set(report["topics"]) == {*VENUES, "lifecycle"}
    book = report["topics"]["lighter"]["book.lighter.BTC-PERP"]
    assert (book["epochs"], book["lost"]) == (2, 0)
    assert report["topics"]["paradex"]["book.paradex.BTC-PERP"]["gaps"] == 1


def test_a_recording_converted_is_what_duckdb_reads(recorded: Path, tmp_path: Path) -> None:
    ran = paraphina("convert", "--to", "parquet", str(recorded), "--out", str(tmp_path / "parquet"))
    assert ran.returncode == 0, ran.stderr
    database = duckdb.connect()
    database.read_parquet(f"{tmp_path}/parquet/**/*.parquet", hive_partitioning=True, union_by_name=True).create_view(
        "events"
    )
    (count,) = database.execute("select count(*) from events").fetchone() or (0,)
    assert count == sum(of.events for topics in found(recorded).topics.values() for of in topics.values())
    rows = database.execute(
        "select price, size, trade_id, price_dec::varchar, epoch, seq, exchange_ns from events "
        "where venue = 'aster' and channel = 'trade' and symbol = 'BTC-PERP' order by epoch, seq"
    ).fetchall()
    trades: list[Any] = journal(recorded)["trade.aster.BTC-PERP"]
    assert [row[:3] for row in rows] == [(one.price, one.size, one.trade_id) for one in trades]
    assert [row[4:] for row in rows] == [(one.epoch, one.seq, one.exchange_ns) for one in trades]
    assert all(float(row[3]) == float(row[0]) for row in rows)


def test_a_replay_recorded_again_is_the_recording(recorded: Path, elsewhere: RunDir, tmp_path: Path) -> None:
    again = tmp_path / "again"
    with Recorder(elsewhere, again) as recorder, replay(recorded, elsewhere, "--speed", "max") as process:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert recorder.stop() == 0, recorder.errors
    first, second = journal(recorded), journal(again)
    assert second.keys() == first.keys()
    for name, events in first.items():
        assert [essence(one) for one in second[name]] == [essence(one) for one in events], name
        assert all(one.flags == (*other.flags, "replay") for one, other in zip(second[name], events, strict=True)), name
    found(again)


def test_a_replay_keeps_the_time_and_is_a_system_to_its_consumers(recorded: Path, elsewhere: RunDir) -> None:
    report = found(recorded)
    mine = report.topics["aster"]["book.aster.BTC-PERP"]
    length_s = (mine.last_ns - mine.first_ns) / 1e9
    system = System(sim=False)
    system.run_dir = elsewhere
    with replay(recorded, elsewhere, "--speed", "2") as process, Listener(system) as listener:
        wait_for(lambda: not listener.book("aster", "BTC-PERP")[0], what="a book of the replay")
        began = time.monotonic()
        refused = paraphina("start", "--sim", "--run-dir", str(system.run_dir.path))
        assert refused.returncode == 2
        late = paraphina("book", "aster", "ETH-PERP", "--run-dir", str(system.run_dir.path))
        assert late.returncode == 0, late.stderr
        assert process.wait(60) == 0
        took_s = time.monotonic() - began
        assert not listener.wrong
        assert listener.drifts() == 0
    shutil.rmtree(system.path)
    assert length_s / 2 - 2 <= took_s <= length_s / 2 + 10


def test_a_replay_refuses_the_directory_of_a_running_system(recorded: Path) -> None:
    with System("--venues", "aster") as system:
        system.wait_live(["aster"])
        ran = paraphina("replay", str(recorded), "--run-dir", str(system.run_dir.path))
        assert ran.returncode == 2
        assert b"already running" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert system.venue("aster")["state"] == "live"


# --- recorders --------------------------------------------------------------------------------------------------------


def test_a_recorder_waits_for_its_system_and_misses_nothing_of_it(tmp_path: Path) -> None:
    system, out = System("--venues", "lighter"), tmp_path / "out"
    with Recorder(system.run_dir, out, "--venues", "lighter") as recorder:
        with system:
            system.wait_live(["lighter"])
            time.sleep(1)
        assert recorder.stop() == 0, recorder.errors
    topics = journal(out)
    assert topics["book.lighter.BTC-PERP"][0].seq == 1
    assert topics["lifecycle.lighter"][0].event == "started"  # type: ignore[attr-defined]
    found(out)


def test_a_killed_recorder_leaves_at_most_a_torn_line(tmp_path: Path) -> None:
    with System("--venues", "aster", "--sim-rate", "500") as system:
        system.wait_live(["aster"])
        with Recorder(system.run_dir, tmp_path, "--raw") as recorder:
            recorder.wait_for_events()
            assert recorder.stop(signal.SIGKILL) == -signal.SIGKILL
        assert kinds(found(tmp_path)) <= {"torn_line", "silent_channel"}


def test_five_venues_of_a_thousand_events_a_second_cost_less_than_a_third_of_a_core(
    recorded: Path, elsewhere: RunDir, tmp_path: Path
) -> None:
    elsewhere.prepare()
    seconds, rate = 6, 1000
    with Recorder(elsewhere, tmp_path / "out") as recorder, Loudspeakers(elsewhere, journal(recorded)) as speakers:
        speakers.play(rate, 1)
        process = psutil.Process(recorder.process.pid)
        before = process.cpu_times()
        speakers.play(rate, seconds)
        after = process.cpu_times()
        assert recorder.stop() == 0, recorder.errors
    cost_s = after.user + after.system - before.user - before.system
    assert cost_s / seconds < 1 / 3
    assert sum(recorder.tally["events"].values()) >= 5 * rate * seconds
    assert sum(recorder.tally["lost"].values()) == 0


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "tiny"
    place.mkdir()
    if subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["/bin/umount", place], check=True)


@pytest.mark.parametrize("raw", [(), ("--raw",)], ids=["events", "raw frames as well"])
def test_a_full_disk_stops_the_recorder_with_one_error_and_touches_no_feed(tiny: Path, raw: tuple[str, ...]) -> None:
    with System("--sim-rate", "200") as system, Listener(system) as listener:
        system.wait_live()
        with Recorder(system.run_dir, tiny, *raw) as recorder:
            wait_for(lambda: recorder.process.poll() is not None, what="the end of the recorder")
            recorder.stop()
        assert recorder.code == 1
        assert len(recorder.errors.splitlines()) == 1, recorder.errors
        assert "No space left on device" in recorder.errors
        time.sleep(1)
        assert all(system.venue(venue)["state"] == "live" for venue in VENUES)
        assert listener.lost == 0
        assert system.log("publish.pipe_full") == []
    assert not {"torn_line"} & kinds(verify(tiny, processes=1))
    found(tiny)
