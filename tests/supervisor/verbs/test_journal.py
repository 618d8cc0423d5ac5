"""``verify``, ``convert`` and ``replay`` as their users see them."""

from __future__ import annotations

import json
import sys

import pytest

from supervisor.journal import columns
from supervisor.journal import replay as replaying

pytestmark = pytest.mark.usefixtures("signals")


def refusal(ran):
    """The one line of a mistake."""
    assert ran.code == 2
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    return line


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_good_journal_is_whole_and_right(cli, tmp_path, script, raw_script):
    script.everything().write(tmp_path)
    raw_script.add("open", b"ws://x").write(tmp_path / "lighter")
    ran = cli("verify", tmp_path)
    assert ran.code == 0
    head, lifecycle, lighter, *_, verdict = ran.out.splitlines()
    assert head.startswith("2 files, ")
    assert lifecycle.split() == ["lifecycle", "1", "events", "in", "1", "topic"]
    assert lighter.split() == ["lighter", "10", "events", "in", "8", "topics", "1", "raw"]
    assert verdict == "whole and right"


def test_what_is_wrong_is_listed_with_its_place(cli, tmp_path, script, say):
    path = script.everything().say("trade", say.trade(9), seq=5).write(tmp_path)
    ran = cli("verify", path)
    assert ran.code == 1
    assert f"{path}:13: seq_gap: trade.lighter.BTC-PERP: 3 lost, seq 2 to 4" in ran.out
    assert "LOST 3" in ran.out
    assert ran.out.splitlines()[-1] == "NOT WELL: 1 seq_gap"


def test_of_many_faults_of_a_kind_the_first_are_listed(cli, tmp_path, script, say):
    script.everything()
    for seq in range(10, 100, 2):
        script.say("trade", say.trade(seq), seq=seq)
    ran = cli("verify", script.write(tmp_path))
    assert ran.out.count("seq_gap: trade") == 10
    assert "… 35 more of seq_gap" in ran.out
    assert ran.out.splitlines()[-1] == "NOT WELL: 45 seq_gap"


def test_programs_get_the_findings(cli, tmp_path, script, say):
    path = script.everything().say("trade", say.trade(9), seq=5).write(tmp_path)
    ran = cli("verify", path, "--json")
    assert ran.code == 1
    reported = json.loads(ran.out)
    assert (reported["ok"], reported["counts"], reported["files"]) == (False, {"seq_gap": 1}, 1)
    assert reported["problems"][0] | {"text": ""} == {
        "kind": "seq_gap",
        "file": str(path),
        "line": 13,
        "topic": "trade.lighter.BTC-PERP",
        "text": "",
    }
    assert reported["topics"]["lighter"]["trade.lighter.BTC-PERP"]["lost"] == 3


@pytest.mark.parametrize(
    "verb", [("verify",), ("convert", "--to", "parquet", "--out", "x"), ("replay", "--run-dir", "x")]
)
def test_what_is_no_journal_is_refused_in_one_line(cli, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter").write_text("hello\n")
    assert "neither a journal nor a raw recording" in refusal(cli(*verb, tmp_path / "letter"))
    assert "no recording in it" in refusal(cli(*verb, tmp_path))
    assert cli(*verb, tmp_path / "nowhere").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


# --- convert ----------------------------------------------------------------------------------------------------------


def test_a_conversion_tells_what_it_made(cli, tmp_path, script):
    path, out = script.everything().write(tmp_path), tmp_path / "parquet"
    ran = cli("convert", "--to", "parquet", path, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"11 events in 9 files, in {out}\n"
    assert len(list(out.rglob("*.parquet"))) == 9


def test_an_existing_directory_is_refused(cli, tmp_path, script):
    path = script.everything().write(tmp_path)
    assert "is there already" in refusal(cli("convert", "--to", "parquet", path, "--out", tmp_path))


def test_lines_that_are_left_out_are_reported_and_are_no_success(cli, tmp_path, script):
    script.everything().lines.append(b'{"topic":"trade.lighter.BTC-PERP","kind":"trade"}\n')
    ran = cli("convert", "--to", "parquet", script.write(tmp_path), "--out", tmp_path / "parquet")
    assert ran.code == 1
    assert "bad lines left out: 1; see: verify" in ran.err


def test_without_the_extra_it_says_how_to_get_it(cli, tmp_path, script, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refusal(cli("convert", "--to", "parquet", script.everything().write(tmp_path), "--out", tmp_path / "out"))
    assert 'pip install "paraphina-supervisor[parquet]"' in line
    assert not (tmp_path / "out").exists()
    assert columns.CHANNELS


# --- replay -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(replaying, "_JOIN_S", 0.0)
    monkeypatch.setattr(replaying, "_LINGER_S", 0.0)


def test_a_replay_tells_where_and_how_much(cli, tmp_path, run_dir, script, quick):
    path = script.everything().write(tmp_path)
    ran = cli("replay", path, "--run-dir", run_dir.path, "--speed", "max")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"replaying in {run_dir.path}; consumers take the same --run-dir",
        "10 events, 0 times a subscriber was too far behind",
    ]


def test_a_directory_that_is_in_use_is_refused(cli, tmp_path, run_dir, held_lock, script):
    line = refusal(cli("replay", script.everything().write(tmp_path), "--run-dir", run_dir.path))
    assert "already running" in line


def test_raw_frames_are_played_otherwise(cli, tmp_path, run_dir, raw_script):
    line = refusal(cli("replay", raw_script.add("open").write(tmp_path), "--run-dir", run_dir.path))
    assert "fixture info" in line


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", ""])
def test_speeds_that_are_none_are_refused(cli, tmp_path, run_dir, script, speed):
    ran = cli("replay", script.everything().write(tmp_path), "--run-dir", run_dir.path, "--speed", speed)
    assert ran.code == 2
    assert "is no speed; write 1, 0.5, 10 or max" in ran.err


def test_bad_lines_are_reported_and_are_no_success(cli, tmp_path, run_dir, script, quick):
    script.everything().lines.append(b"hello\n")
    ran = cli("replay", script.write(tmp_path), "--run-dir", run_dir.path, "--speed", "max")
    assert ran.code == 1
    assert "bad lines left out: 1" in ran.err
