"""What the verbs report of a real system, and what of a venue's texts reaches a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pytest
from recordings import Recorder
from systems import System, paraphina, wait_for

from simulator.accounts.credentials import EXTENDED_KEY
from supervisor.lock import holder_of

pytestmark = pytest.mark.integration

EVIL = "no\x1b]0;owned\x07\x9b2J\u202e\nsecond"
SHOWN = "no\\x1b]0;owned\\x07\\x9b2J\\u202e\\nsecond"
#: Our own colours and positions of the cursor at a terminal; nothing else that it acts on.
OURS = re.compile(r"\x1b\[[0-9;]*[mHJ]|\r?\n")


def is_safe(text: str) -> bool:
    return OURS.sub("", text).isprintable()


class Terminal:
    """A terminal with what was written to it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.slave)
        self._thread.join(10)
        os.close(self.master)

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "replace")

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65_536):
                self._data += data


class TerminalSystem(System):
    """A system in the foreground of a terminal."""

    def __init__(self, terminal: Terminal, *arguments: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._terminal = terminal

    def start(self) -> Self:
        command = [sys.executable, "-m", "supervisor", "start", "--run-dir", str(self.run_dir.path), *self.arguments]
        slave = self._terminal.slave
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=self.env)
        return self


def at_terminal(system: System, *arguments: str) -> str:
    """Run a verb at a terminal; return what it shows."""
    with Terminal() as terminal:
        command = [sys.executable, "-m", "supervisor", *arguments, "--run-dir", str(system.run_dir.path)]
        done = subprocess.run(command, stdout=terminal.slave, stderr=terminal.slave, timeout=60, check=False)
        assert done.returncode in {0, 1}, terminal.text
    return terminal.text


def test_no_text_of_a_venue_reaches_a_terminal_raw() -> None:
    config = '[supervisor]\nbackoff_base_ms = 100\n[venues.extended]\naccount = "desk"\n'
    with (
        Terminal() as terminal,
        TerminalSystem(
            terminal, "--venues", "extended", config=config, env={"EXTENDED_API_KEY": EXTENDED_KEY}
        ) as system,
    ):
        system.wait_live(["extended"])
        system.fault("extended", "close", text=EVIL)
        wait_for(lambda: SHOWN in terminal.text, what="the close reason in the log")
        system.fault("extended", "rest_error", status=401, path="/api/v1/user", text=EVIL)
        assert paraphina("restart", "extended", "--run-dir", str(system.run_dir.path)).returncode == 0
        wait_for(lambda: EVIL in str(system.venue("extended")["streams"]["account"]["detail"]), what="the detail")
        shown = at_terminal(system, "status")
        assert SHOWN in shown
        assert is_safe(shown)
        as_json = at_terminal(system, "status", "--json")
        assert is_safe(as_json)
        assert EVIL in json.loads(as_json)["venues"]["extended"]["streams"]["account"]["detail"]
        system.stop()
    assert is_safe(terminal.text), OURS.sub("", terminal.text)


@pytest.fixture(scope="module")
def background() -> Iterator[System]:
    """A system in the background; its log holds a venue's text and a stack dump."""
    system = System("--venues", "lighter")
    with contextlib.ExitStack() as ending:
        ending.callback(System.__exit__, system)
        run_dir = str(system.run_dir.path)
        started = paraphina("start", "--detach", "--run-dir", run_dir, *system.arguments, env=system.env)
        assert started.returncode == 0, started.stderr
        # The parent is no child of this process.
        system.process = subprocess.Popen([sys.executable, "-c", ""])
        ending.callback(end, system)
        system.wait_live(["lighter"])
        yield system


def read_pid(system: System) -> int:
    return int(system.run_dir.describe()["pid"])


def end(system: System) -> None:
    pid = holder_of(system.run_dir.lock)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def begin(system: System, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "supervisor", *arguments, "--run-dir", str(system.run_dir.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=system.env)


def together(system: System, *verbs: str) -> list[tuple[int, str, str]]:
    """Run verbs at the same time; return exit code, output and errors of each."""
    processes = [begin(system, *verb.split()) for verb in verbs]
    outputs = [process.communicate(timeout=60) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def test_logs_and_readers_report_the_real_state(background: System) -> None:
    """First of a system that runs, then of one whose parent is stopped, then of one that was killed."""
    log = Path(background.run_dir.describe()["log"])
    background.fault("lighter", "close", text=EVIL)
    wait_for(lambda: "owned" in log.read_text(), what="the close reason in the log")
    with log.open("a") as file:
        file.write("Fatal Python error: \x1b[2J\n")
    waiting = begin(background, "tail", "liquidation.")
    (code, out, err), as_json = together(background, "logs -n 100000", "logs --json -n 100000")
    assert (code, err) == (0, "")
    assert SHOWN in out
    assert "Fatal Python error: \\x1b[2J" in out
    assert is_safe(out)
    lines = [json.loads(line) for line in as_json[1].splitlines()]
    assert {"event": "log.text", "text": "Fatal Python error: \x1b[2J"} in lines
    assert any(EVIL in str(line.get("text")) for line in lines)
    assert is_safe(as_json[1])
    # Stopped: the workers go on, and so do those who read from them.
    pid = read_pid(background)
    os.kill(pid, signal.SIGSTOP)
    try:
        background.wait_live(["lighter"])
        for code, out, err in together(background, "tail --count 1 book.", "book lighter BTC-PERP"):
            assert (code, err) == (0, "")
            assert out
        assert waiting.stderr is not None
        assert re.match(r"waiting for liquidation\. \(\d+ s; supervisor: \w+\)\n", waiting.stderr.readline())
    finally:
        os.kill(pid, signal.SIGKILL)
    # Killed: who waits hears of it, and nobody says that anything runs.
    # A parent that was stopped for long is called stalled before.
    assert any("supervisor: dead" in line for line in islice(waiting.stderr, 2))
    waiting.kill()
    waiting.communicate()
    *readers, (code, out, err) = together(background, "tail", "book lighter BTC-PERP", "funding", "top", "logs -n 3")
    for reader in readers:
        assert reader[:2] == (3, "")
        assert "no supervisor is running here" in reader[2]
    assert code == 0
    assert out.count("\n") == 3
    assert "no supervisor is running in" in err
    log.rename(log.with_name("moved"))
    ((code, out, err),) = together(background, "logs")
    assert (code, out) == (3, "")
    assert f"{log}: its log cannot be read: No such file or directory" in err


#: ``record`` of a program whose list of venues lacks most of them.
OLD_RECORDER = """
import sys
import ipc.topics
ipc.topics.VENUES = ("aster",)
from supervisor.cli import main
main(["record", *sys.argv[1:]])
"""


@contextlib.contextmanager
def simulated_venues() -> Iterator[dict[str, tuple[str, str]]]:
    """Two simulated venues in a process of their own, by name: their WebSocket and REST addresses."""
    command = [sys.executable, "-m", "supervisor", "sim", "--venues", "aster,lighter"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        try:
            yield {name: (ws, rest) for name, ws, rest in lines[:2]}
        finally:
            process.terminate()


def configured(names: str, urls: dict[str, tuple[str, str]]) -> str:
    parts = [f'[venues.{name}]\nws_url = "{ws}"\nrest_url = "{rest}"\n' for name, (ws, rest) in urls.items()]
    return f"[supervisor]\nvenues = [{names}]\n" + "".join(parts)


def written(out: Path) -> bytes:
    """Return what stands in a journal's event files so far."""
    return b"".join(path.read_bytes() for path in out.glob("events-*"))


def last_line(*arguments: str) -> tuple[int, str]:
    done = paraphina(*arguments)
    return done.returncode, done.stdout.decode().splitlines()[-1]


def test_what_the_system_runs_is_recorded_and_verify_says_what_is_covered(tmp_path: Path) -> None:
    """A recorder from before the system, one with a shorter list, one of a part; then a reload adds a venue."""
    with simulated_venues() as urls:
        system = System(config=configured('"lighter"', urls), sim=False)
        run_dir = str(system.run_dir.path)
        with Recorder(system.run_dir, tmp_path / "early") as early, system:
            system.wait_live(["lighter"])
            command = [sys.executable, "-c", OLD_RECORDER, "--out", str(tmp_path / "old"), "--run-dir", run_dir]
            old = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            refused = paraphina("record", "--out", str(tmp_path / "x"), "--run-dir", run_dir, "--venues", "aster")
            assert refused.returncode == 2
            assert b"unknown venue 'aster' (the system runs lighter)" in refused.stderr
            with (
                Recorder(system.run_dir, tmp_path / "part", "--venues", "lighter") as part,
                Recorder(system.run_dir, tmp_path / "killed") as killed,
            ):
                part.wait_for_events()
                killed.wait_for_events()
                killed.stop(signal.SIGKILL)
                (system.path / "config.toml").write_text(configured('"lighter", "aster"', urls))
                assert system.process is not None
                system.process.send_signal(signal.SIGHUP)
                wait_for(lambda: "aster" in system.run_dir.describe()["venues"], what="the reload")
                system.wait_live(["lighter", "aster"])
                for place in ("early", "old"):
                    wait_for(lambda at=place: b'"heartbeat.aster' in written(tmp_path / at), what=f"aster in {place}")
                wait_for(lambda: b'"lifecycle.aster' in written(tmp_path / "early"), what="its start in early")
                assert "still being written" in last_line("verify", str(tmp_path / "early"))[1]
                assert part.stop() == 0, part.errors
            old.send_signal(signal.SIGTERM)
            out, errors = old.communicate(timeout=30)
            assert old.returncode == 0, errors
            assert early.stop() == 0, early.errors
    assert part.tally["left_out"] == ["aster"]
    assert early.tally["left_out"] == early.tally["silent"] == []
    assert {"aster", "lighter", "lifecycle"} == set(early.tally["events"])
    assert re.search(r"^  aster +\d", out, re.MULTILINE)
    shutil.copytree(tmp_path / "early", tmp_path / "cut")
    (events,) = (tmp_path / "cut").glob("events-*")
    os.truncate(events, events.stat().st_size - 1000)
    with ThreadPoolExecutor() as pool:
        names = ("early", "old", "part", "killed", "cut")
        verdicts = dict(
            zip(names, pool.map(lambda name: last_line("verify", str(tmp_path / name)), names), strict=True)
        )
    assert verdicts["early"] == verdicts["old"] == (0, "whole and right")
    assert verdicts["part"] == (0, "no fault found; not recorded, because of --venues: aster")
    assert verdicts["killed"][0] == verdicts["cut"][0] == 1
    assert re.fullmatch(r"NOT WHOLE: .* breaks off \(the recorder was killed, .*", verdicts["killed"][1])
    assert "1 missing_lines" in verdicts["cut"][1]
