"""The verb ``logs``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest


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


def test_every_line_for_programs_is_an_object(cli, log):
    texts = ["bare \x1b]0;x\x07", "42", '{"cut', '{"ts": NaN}', "[" * 20_000]
    with log.open("a") as file:
        file.write("".join(f"{text}\n" for text in ("", *texts)))
        file.write('{"event": "odd",\t"text": "\x7f\x9b\u202e"}\n')
    first, second, *others, odd = cli("logs", "--json").out.splitlines()
    assert [first, second] == log.read_text().splitlines()[:2]
    assert [json.loads(one) for one in others] == [{"event": "log.text", "text": text} for text in ("bare", *texts)]
    assert json.loads(odd) == {"event": "odd", "text": "\x7f\x9b\u202e"}
    assert all(one.isprintable() for one in (*others, odd))


def test_no_line_reaches_the_terminal_raw(cli, log):
    evil = "\x1b]0;owned\x07\u202e\n\x9b2J"
    log.write_text(
        line("sub\x1b[2J", **{"te\x07xt": evil}, traceback="Traceback:\n  Error: \x1b[1m") + f"\n\x1b{'c'}dump\n"
    )
    ran = cli("logs")
    assert all(one.isprintable() for one in ran.out.split("\n"))
    head, *rest = ran.out.splitlines()
    assert head.endswith(" sub\\x1b[2J te\\x07xt=\\x1b]0;owned\\x07\\u202e\\n\\x9b2J")
    assert rest == ["Traceback:", "  Error: \\x1b[1m", "\\x1bcdump"]


def test_a_system_that_ended_has_a_log_and_a_note_says_so(cli, log, run_dir):
    ran = cli("logs", "-n", "1")
    assert (ran.code, ran.out) == (0, "bare\n")
    expected = f"no supervisor is running in {run_dir.path}; these are the lines of an earlier one\n"
    assert ran.err == f"paraphina-supervisor: {expected}"


def test_a_system_that_runs_needs_no_note(cli, log, held_lock):
    assert cli("logs", "-n", "1").err == ""


def test_only_the_last_lines(cli, log):
    assert cli("logs", "-n", "1").out == "bare\n"
    assert cli("logs", "-n", "0").out == ""


def test_only_one_venue(cli, log):
    assert cli("logs", "--venue", "aster", "--json").out == line("ws.connected", venue="aster") + "\n"


def test_a_venue_that_is_none_is_refused_and_not_waited_for(cli, log):
    ran = cli("logs", "--venue", "astre", "--follow")
    assert (ran.code, ran.out) == (2, "")
    assert "no process 'astre' here (there are aster, lighter, gateway, simulator)" in ran.err


def test_a_reader_that_left_says_nothing_about_the_log(log, run_dir, held_lock):
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


class Follower:
    """``logs --follow`` in a process of its own, with what it has printed so far."""

    def __init__(self, run_dir, *arguments):
        command = [sys.executable, "-m", "supervisor", "logs", "--follow", "--run-dir", str(run_dir.path), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out, self.err = [], []
        self._threads = [
            threading.Thread(target=lambda to=to, pipe=pipe: to.extend(map(str.rstrip, pipe)), daemon=True)
            for to, pipe in ((self.out, self.process.stdout), (self.err, self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def close(self):
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def follow(run_dir):
    made = []

    def start(*arguments):
        made.append(Follower(run_dir, *arguments))
        return made[-1]

    yield start
    for follower in made:
        follower.close()


def test_following_survives_whatever_happens_to_the_log(log, run_dir, held_lock, follow):
    log.write_text("first\n")
    follower = follow()
    until(lambda: follower.out == ["first"])
    with log.open("a") as file:
        file.write("torn")
        file.flush()
        file.write(" line\n")
    until(lambda: follower.out[-1] == "torn line")
    os.truncate(log, 0)
    until(lambda: append(log, "begun again"), lambda: "begun again" in follower.out)
    log.rename(log.with_name("log.1"))
    append(log.with_name("log.1"), "last of the old file")
    append(log, "first of the new file")
    until(lambda: follower.out[-2:] == ["last of the old file", "first of the new file"])
    log.unlink()
    until(lambda: any("was removed" in text for text in follower.err))
    append(log, "back")
    until(lambda: follower.out[-1] == "back")
    other = log.with_name("other")
    append(other, "of the next system")
    run_dir.description.write_text(json.dumps({"pid": 8, "log": str(other), "venues": {}}))
    until(lambda: follower.out[-1] == "of the next system")
    run_dir.description.write_text(json.dumps({"pid": 9, "log": None}))
    assert follower.process.wait(10) == 2
    until(lambda: "the system with pid 9 writes its log to its own standard error" in follower.err[-1])


def test_following_says_when_the_system_ends(log, run_dir, start_holder, follow):
    holder = start_holder(run_dir.lock)
    follower = follow("-n", "1")
    until(lambda: follower.out == ["bare"])
    assert follower.err == []
    holder.kill()
    until(lambda: [text for text in follower.err if "no supervisor is running" in text])


def append(path, text):
    with path.open("a") as file:
        file.write(f"{text}\n")
    return True


def until(*steps):
    """Wait until every step has given something true, in order."""
    deadline = time.monotonic() + 20
    for step in steps:
        while not step():
            assert time.monotonic() < deadline
            time.sleep(0.01)
