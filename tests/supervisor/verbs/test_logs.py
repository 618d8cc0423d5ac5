"""The verb ``logs``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from supervisor.verbs import logs


def line(event, **fields):
    return json.dumps({"ts": 1_790_000_000.25, "level": "info", "event": event, "pid": 7, "logger": "x", **fields})


@pytest.fixture
def log(run_dir, tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(f"{text}\n" for text in (line("ws.connected", venue="aster"), line("a.b", n=1), "bare")))
    run_dir.description.write_text(json.dumps({"pid": 7, "log": str(path), "venues": {"aster": {}, "lighter": {}}}))
    return path


def test_lines_are_shown_as_on_a_terminal(cli, log):
    ran = cli("logs")
    assert ran.code == 0
    shown = ran.out.splitlines()
    assert shown[0].endswith(".250 INFO    ws.connected venue=aster")
    assert shown[1].endswith(" INFO    a.b n=1")
    assert shown[2] == "bare"


def test_lines_for_programs_are_left_as_they_are(cli, log):
    assert cli("logs", "--json").out == log.read_text()


def test_only_the_last_lines(cli, log):
    assert cli("logs", "-n", "1").out == "bare\n"
    assert cli("logs", "-n", "0").out == ""


def test_only_one_venue(cli, log):
    assert cli("logs", "--venue", "aster", "--json").out == line("ws.connected", venue="aster") + "\n"


def test_a_venue_that_is_none_is_refused_and_not_waited_for(cli, log):
    ran = cli("logs", "--venue", "astre", "--follow")
    assert (ran.code, ran.out) == (2, "")
    assert "no process 'astre' here (there are aster, lighter, gateway, simulator)" in ran.err


def test_a_reader_that_left_says_nothing_about_the_log(log, run_dir):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["logs", "--run-dir", str(run_dir.path)]
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run([sys.executable, "-m", "supervisor", *arguments], stdout=output, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_traceback_stands_below_its_line(cli, log):
    log.write_text(line("worker.crashed", traceback="Traceback: it\nbroke") + "\n")
    out = cli("logs", "-n", "1")
    assert out.out.endswith("worker.crashed\nTraceback: it\nbroke\n")


def test_a_system_in_the_foreground_has_none(cli, run_dir):
    run_dir.description.write_text(json.dumps({"pid": 7, "log": None}))
    ran = cli("logs")
    assert ran.code == 2
    assert "the system with pid 7 writes its log to its own standard error" in ran.err


def test_never_started(cli):
    assert cli("logs").code == 3


def test_a_log_that_is_gone(cli, log):
    log.unlink()
    ran = cli("logs")
    assert ran.code == 3
    assert str(log) in ran.err


def test_following_goes_on_where_the_log_is_begun_again(log):
    seen = []

    def follow():
        with log.open("rb") as file:
            seen.extend(logs._lines(file))
            for text in logs._following(file):
                seen.append(text)
                if text == "end":
                    return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    until(lambda: len(seen) == 3)
    with log.open("a") as file:
        file.write("torn")
        file.flush()
        file.write(" line\n")
    until(lambda: seen[-1] == "torn line")
    os.truncate(log, 0)
    log.write_text("end\n")
    reader.join(10)
    assert seen[3:] == ["torn line", "end"]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
