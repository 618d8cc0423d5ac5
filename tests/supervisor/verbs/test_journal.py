"""``verify``, ``convert`` and ``replay`` as their users see them."""

from __future__ import annotations

import gzip
import json
import os
import sys

import pytest
from terminals import at_terminal

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
    script.cover().everything().write(tmp_path)
    script.write_summary(tmp_path)
    raw_script.add("open", b"ws://x").write(tmp_path / "lighter")
    ran = cli("verify", tmp_path)
    assert ran.code == 0
    head, lifecycle, lighter, *_, recording, verdict = ran.out.splitlines()
    assert head.startswith("2 files, ")
    assert lifecycle.split() == ["lifecycle", "1", "events", "in", "1", "topic"]
    assert lighter.split() == ["lighter", "10", "events", "in", "8", "topics", "1", "raw"]
    expected = "2026-07-31 11:59:59Z to 2026-07-31 12:00:01Z, 1 venue"
    assert recording == f"recording 20260731T120000.000Z: {expected}"
    assert verdict == "whole and right"


def test_what_cannot_be_known_is_not_called_whole(cli, tmp_path, script):
    path = script.everything().write(tmp_path)
    ran = cli("verify", path)
    assert ran.code == 0
    verdict = ran.out.splitlines()[-1]
    assert verdict.startswith("no fault found; ")
    assert "which venues the system ran is not known" in verdict
    assert json.loads(cli("verify", path, "--json").out)["whole"] is False


def test_venues_that_were_left_out_are_named(cli, tmp_path, script):
    script.cover(left_out=["aster", "paradex"]).everything().write(tmp_path)
    script.write_summary(tmp_path)
    ran = cli("verify", tmp_path)
    expected = "no fault found; not recorded, because of --venues: aster, paradex"
    assert (ran.code, ran.out.splitlines()[-1]) == (0, expected)


def test_a_venue_that_was_there_and_of_which_nothing_came_is_a_fault(cli, tmp_path, script):
    script.cover("lighter", "ext\x1bended").everything().write(tmp_path)
    script.write_summary(tmp_path, ended_after_s=20)
    ran = cli("verify", tmp_path)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "NOT WELL: 1 missing_venue")
    assert "missing_venue: ext\\x1bended: nothing of it was recorded" in ran.out


def test_a_recording_that_broke_off_is_no_success(cli, tmp_path, script):
    script.cover().everything().write(tmp_path)
    path = script.write_summary(tmp_path, ended_after_s=None)
    ran = cli("verify", tmp_path)
    expected = "NOT WHOLE: 20260731T120000.000Z breaks off (the recorder was killed, or the disk was full)"
    assert (ran.code, ran.out.splitlines()[-1]) == (1, expected)
    path.unlink()
    ran = cli("verify", tmp_path)
    assert ran.code == 0
    assert "does not say where it ends" in ran.out.splitlines()[-1]


def test_a_truncated_file_is_a_fault(cli, tmp_path, script):
    path = script.cover().everything().write(tmp_path)
    script.write_summary(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\n", 0, -1) + 1])
    ran = cli("verify", tmp_path)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "NOT WELL: 1 missing_channel, 1 missing_lines")
    assert f"{path}:11: missing_lines: 1 of 11 lines are not there" in ran.out


@pytest.mark.parametrize("content", [b"", b'{"journal":1,"sche'])
def test_a_journal_without_content_is_no_success(cli, tmp_path, content):
    path = tmp_path / "events-20260731T120000.000Z-000001.jsonl"
    path.write_bytes(content)
    ran = cli("verify", path)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "NOTHING RECORDED")


def test_raw_frames_alone_cannot_be_known_to_be_whole(cli, tmp_path, raw_script):
    ran = cli("verify", raw_script.add("open", b"ws://x").write(tmp_path))
    expected = "no fault found; raw frames are not numbered, so a loss cannot be seen"
    assert (ran.code, ran.out.splitlines()[-1]) == (0, expected)


def test_what_is_no_file_is_refused(cli, tmp_path):
    os.mkfifo(tmp_path / "events-1.jsonl")
    assert "not a regular file" in refusal(cli("verify", tmp_path / "events-1.jsonl"))
    assert "not a regular file" in refusal(cli("verify", tmp_path))
    assert "not a regular file" in refusal(cli("verify", "/dev/null"))


def test_a_compressed_file_is_named_as_such(cli, tmp_path):
    path = tmp_path / "events-1.jsonl"
    path.write_bytes(gzip.compress(b"{}\n"))
    for place in (path, tmp_path):
        assert f"{path}: compressed (decompress it first)" in refusal(cli("verify", place))


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


def test_a_conversion_for_programs(cli, tmp_path, script):
    script.everything().lines.append(b'{"topic":"trade.lighter.BTC-PERP","kind":"trade"}\n')
    ran = cli("convert", "--to", "parquet", script.write(tmp_path), "--out", tmp_path / "parquet", "--json")
    counts = {"events": 11, "files": 9, "left_out": 0, "bad_lines": 1}
    assert (ran.code, ran.err, json.loads(ran.out)) == (1, "", {"out": str(tmp_path / "parquet"), **counts})


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


def test_a_replay_for_programs(cli, tmp_path, run_dir, script, quick):
    path = script.everything().write(tmp_path)
    ran = cli("replay", path, "--run-dir", run_dir.path, "--speed", "max", "--json")
    counts = {"events": 10, "drops": 0, "bad_lines": 0}
    assert (ran.code, ran.err, json.loads(ran.out)) == (0, "", {"run_dir": str(run_dir.path), **counts})


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_at_a_terminal_leaves_the_output_as_it_is_without_one(tmp_path, script):
    path = str(script.everything().write(tmp_path / "journal"))
    piped = at_terminal(["-m", "supervisor", "verify", path, "--json"], is_error_terminal=False)
    at = at_terminal(["-m", "supervisor", "verify", path, "--json"])
    assert (piped.code, piped.shown, piped.err) == (0, "", "")
    assert json.loads(piped.out)["whole"] is False
    assert at.out == piped.out
    assert "verifying" in at.shown


def test_a_conversion_shows_its_progress(tmp_path, script):
    path = str(script.everything().write(tmp_path / "journal"))
    ran = at_terminal(["-m", "supervisor", "convert", path, "--to", "parquet", "--out", str(tmp_path / "lake")])
    assert ran.code == 0
    assert "converting" in ran.shown
    assert ran.out.endswith(f"in {tmp_path / 'lake'}\n")
    assert ran.out.count("\n") == 1
