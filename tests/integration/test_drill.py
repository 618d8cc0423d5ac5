"""``drill``: the table that it prints, its exit codes, and what it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from pages import parsed, texts
from systems import System, paraphina, wait_for
from terminals import at_terminal

from ipc.health import Reason
from supervisor.cli import main
from supervisor.drill import catalogue
from supervisor.drill.catalogue import DRILLS, PARENT

pytestmark = pytest.mark.integration

FIGURES = {"venue", "fault", "n", "detected_ms", "recovered_ms", "fresh_ms", "limit_ms", "result"}
#: A port of loopback on which nobody listens.
NOWHERE = '[venues.lighter]\nws_url = "ws://127.0.0.1:9"\nrest_url = "http://127.0.0.1:9"\n'


def drill(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """A drill in a process of its own: its exit code and its rows."""
    done = paraphina("drill", *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def assert_documented(row: dict[str, Any]) -> None:
    """Whether a row has the figures of the documentation, in their types."""
    assert set(row) - {"note", "reason"} == FIGURES
    assert set(row["fresh_ms"]) == {"p50", "p99"}
    times = [row["detected_ms"], row["recovered_ms"], *row["fresh_ms"].values()]
    assert all(time_ms is None or time_ms >= 0 for time_ms in times)
    assert isinstance(row["n"], int)
    assert isinstance(row["limit_ms"], int)
    assert row["result"] in {"ok", "missed", "skipped"}
    assert row["reason"] in {None, *Reason}


# --- without a system -------------------------------------------------------------------------------------------------


def test_the_list_names_every_fault_and_what_must_come_of_it() -> None:
    done = paraphina("drill", "--list")
    assert done.returncode == 0
    lines = {line.split()[0]: line.split() for line in done.stdout.decode().splitlines()}
    assert set(lines) == {*DRILLS, PARENT}
    for name, one in DRILLS.items():
        assert lines[name][1:3] == [one.kind, one.effect]


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["earthquake"], "no fault 'earthquake'"),
        ([], "no fault named"),
        (["kill", "--venues", "lighter,binance"], "unknown venue 'binance'"),
        (["kill", "--rounds", "0"], "--rounds"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str], reported: str) -> None:
    done = paraphina("drill", *arguments)
    assert done.returncode == 2
    assert not done.stdout
    assert "Traceback" not in done.stderr.decode()
    assert reported in done.stderr.decode()


def test_a_directory_where_nothing_ever_ran_is_not_running(tmp_path: Path) -> None:
    done = paraphina("drill", "kill", "--run-dir", str(tmp_path))
    assert done.returncode == 3
    assert b"no supervisor has run here" in done.stderr


# --- on a system of its own -------------------------------------------------------------------------------------------


def test_a_drill_measures_every_fault_on_every_venue() -> None:
    code, rows = drill("kill", "drop_delta", "garbage", "wrong_schema", "--venues", "lighter,paradex")
    assert code == 0
    for row in rows:
        assert_documented(row)
    found = {(row["venue"], row["fault"]): row for row in rows}
    assert len(rows) == len(found) == 8
    results = {key: row["result"] for key, row in found.items()}
    assert results.pop(("lighter", "wrong_schema")) == "skipped", "there is no such fault there"
    assert set(results.values()) == {"ok"}
    for venue in ("lighter", "paradex"):
        killed = found[venue, "kill"]
        assert killed["n"] == 1
        assert 0 <= killed["detected_ms"] <= killed["recovered_ms"] <= killed["fresh_ms"]["p50"] <= killed["limit_ms"]
        assert killed["recovered_ms"] >= 900, "after the first delay of a second, never early"
        assert found[venue, "garbage"]["detected_ms"] is None, "nobody noticed, as it should be"


def test_rounds_are_counted_and_an_immediate_restart_is_soon() -> None:
    code, (row,) = drill("kill", "--venues", "lighter", "--rounds", "3", "--immediate")
    assert_documented(row)
    assert (code, row["n"], row["result"]) == (0, 3, "ok")
    assert row["recovered_ms"] < 900
    assert row["fresh_ms"]["p50"] <= row["fresh_ms"]["p99"]


def test_a_missed_limit_shows_in_its_row_and_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "_SLACK_S", -0.9)  # a second of backoff within a tenth of one
    with pytest.raises(SystemExit) as ended:
        main(["drill", "close", "garbage", "--venues", "lighter", "--json"])
    assert ended.value.code == 1
    close, garbage = json.loads(capsys.readouterr().out)
    assert_documented(close)
    assert (close["result"], close["limit_ms"]) == ("missed", 100)
    assert close["fresh_ms"]["p50"] > 100, "late, and measured all the same"
    assert garbage["result"] == "ok"


def test_the_drill_of_the_parent_leaves_nothing_and_starts_again() -> None:
    code, (row,) = drill(PARENT, "--venues", "lighter,aster")
    assert_documented(row)
    assert (code, row["venue"], row["fault"], row["result"]) == (0, "all", PARENT, "ok")
    assert row["detected_ms"] <= 1000


# --- on a system that runs --------------------------------------------------------------------------------------------


def test_a_running_system_is_drilled_where_it_is() -> None:
    with System("--venues", "lighter,paradex") as system:
        system.wait_live(["lighter", "paradex"])
        assert system.process is not None
        untouched = system.pid("paradex")
        before = system.pid("lighter")
        absent = paraphina("drill", "kill", "--run-dir", str(system.run_dir.path), "--venues", "aster")
        assert (absent.returncode, absent.stdout) == (2, b"")
        assert b"no venue 'aster' here (there are lighter, paradex)" in absent.stderr
        code, rows = drill("kill", "close", PARENT, "--run-dir", str(system.run_dir.path), "--venues", "lighter")
        for row in rows:
            assert_documented(row)
        assert code == 0
        results = [(row["venue"], row["fault"], row["result"]) for row in rows]
        assert results == [("lighter", "kill", "ok"), ("lighter", "close", "ok"), ("all", PARENT, "skipped")]
        assert system.status()["supervisor"]["pid"] == system.process.pid
        assert system.pid("paradex") == untouched
        lighter = system.venue("lighter")
        assert lighter["pid"] != before
        assert lighter["last_exit"]["reason"] == "drill"
        assert lighter["failures"] == 0, "a drill is no failure"


def test_a_system_without_a_simulator_is_only_drilled_when_that_is_meant() -> None:
    with System("--venues", "lighter", config=NOWHERE, sim=False) as system:
        wait_for(system.run_dir.description.exists)
        where = ("--run-dir", str(system.run_dir.path))
        refused = paraphina("drill", "kill", *where)
        assert refused.returncode == 2
        assert b"--live" in refused.stderr
        assert not system.log("worker.drill")
        code, (row,) = drill("close", "--live", *where)
        assert_documented(row)
        assert (code, row["result"], row["n"]) == (0, "skipped", 0), "only a simulator can do that"


def test_a_dead_system_is_reported_at_once() -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        assert system.process is not None
        system.process.send_signal(signal.SIGKILL)
        system.process.wait()
        done = paraphina("drill", "kill", "--run-dir", str(system.run_dir.path))
        assert done.returncode == 3
        assert b"no supervisor is running here" in done.stderr


# --- its report -------------------------------------------------------------------------------------------------------


def test_a_report_is_a_page_a_table_and_the_rows(tmp_path: Path) -> None:
    done = paraphina("drill", "close", "--venues", "lighter", "--report", str(tmp_path / "new" / "report"), "--json")
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "no bar without a terminal"
    written = {path.name: path.read_text() for path in (tmp_path / "new" / "report").iterdir()}
    assert set(written) == {"drill.html", "drill.md", "drill.json"}
    assert json.loads(written["drill.json"]) == json.loads(done.stdout)
    assert texts(parsed(written["drill.html"]), "h1") == ["● The drill recovered within its limit."]
    assert "| lighter | close | 1 |" in written["drill.md"]


def test_a_terminal_shows_which_fault_is_where_and_how_many_are_done() -> None:
    ran = at_terminal(["-m", "supervisor", "drill", "close", "garbage", "--venues", "lighter,aster", "--json"])
    assert len(json.loads(ran.out)) == 4
    assert "0 of 4" in ran.shown
    assert "lighter: close" in ran.shown
    assert "aster: garbage" in ran.shown


def test_a_report_that_cannot_be_written_is_one_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = paraphina("drill", "close", "--report", str(tmp_path / "file" / "report"))
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count(b"\n") == 1
    assert b"cannot be written" in done.stderr
    assert b"not go live" not in done.stderr
