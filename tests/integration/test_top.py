"""``top`` at a real terminal: keys, the verdict as things happen, and a terminal that is as before on every way out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest
from systems import System, paraphina, wait_for

pytestmark = pytest.mark.integration

#: Runs a command in the foreground of a terminal as a shell does: says when it stops, and continues it after Enter.
SHELL = """
import os, signal, sys
os.login_tty(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("PID", pid, flush=True)
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        print("ENDED", os.waitstatus_to_exitcode(status), flush=True)
        break
    print("STOPPED", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.kill(pid, signal.SIGCONT)
"""
CODES = re.compile(r"\x1b(?:\[[0-9;?]*[@-~]|\][^\x07]*\x07|[=>()][0-9A-Za-z]?)")
ENTERED, LEFT, CURSOR_SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Session:
    """``top`` in the foreground of a pseudo-terminal; a context manager."""

    def __init__(self, system: System, *arguments: str, rows: int = 24, columns: int = 80, **env: str) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.before = termios.tcgetattr(self.slave)
        self._parts: list[bytes] = []
        command = [sys.executable, "-c", SHELL, sys.executable, "-m", "supervisor", "top"]
        command += ["--run-dir", str(system.run_dir.path), *arguments]
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "", **env}
        standard = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        self.shell = subprocess.Popen(command, env=environment, **standard)  # type: ignore[call-overload]
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.shell.poll() is None:
            with contextlib.suppress(ProcessLookupError, AttributeError):
                os.kill(self.pid, signal.SIGKILL)
            self.shell.kill()
        self.shell.wait()
        os.close(self.slave)
        self._thread.join(5)
        os.close(self.master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65_536):
                self._parts.append(data)

    @property
    def output(self) -> str:
        """Everything that was written."""
        return b"".join(self._parts).decode(errors="replace")

    @property
    def pid(self) -> int:
        """The pid of ``top``."""
        found = wait_for(lambda: re.search(r"PID (\d+)", self.output))
        return int(found[1])

    @property
    def screen(self) -> list[str]:
        """The lines of the last whole frame, without codes."""
        frames = self.output.split("\x1b[H")
        frame = frames[-1] if len(frames[-1]) > 500 or len(frames) < 2 else frames[-2]
        return [line.rstrip() for line in CODES.sub("", frame).replace("\r", "").split("\n")]

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def until(self, text: str, timeout_s: float = 30.0) -> list[str]:
        """Wait for a screen that contains a text, and return it."""
        try:
            wait_for(lambda: text in "\n".join(self.screen), timeout_s)
        except AssertionError as error:
            shown = "\n".join(self.screen)
            raise AssertionError(f"no {text!r} within {timeout_s} s:\n{shown}") from error
        return self.screen

    def ended(self) -> int:
        """Wait for the end; check that the terminal is as before; return the exit code."""
        found = wait_for(lambda: re.search(r"ENDED (-?\d+)", self.output))
        assert termios.tcgetattr(self.slave) == self.before
        written = self.output
        assert written.rindex(LEFT) > written.rindex(ENTERED)
        assert written.rindex(CURSOR_SHOWN) > written.rindex("\x1b[?25l")
        return int(found[1])


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    with System(config="[supervisor]\nbackoff_base_ms = 3000\n") as system:
        system.wait_live()
        yield system


@pytest.fixture
def live(running: System) -> System:
    running.wait_live()
    return running


def test_keys_work_and_q_restores_the_terminal(live: System) -> None:
    with Session(live) as top:
        screen = top.until("All 5 venues live")
        assert len(screen) <= 24
        assert max(map(len, screen)) <= 80
        assert any("BTC-PERP" in line for line in screen)
        top.press("2")
        top.until(">2 ● aster")
        top.press("\x1b[B")
        top.until(">3 ● extended")
        top.press("\r")
        top.until("extended: streams")
        top.press("l")
        top.until("writes its log to its own standard error")
        top.press("\x1b")
        top.until("What happened")
        top.press("s")
        top.until("oldest book first")
        top.press("?")
        top.until("choose a venue")
        top.press("?p")
        top.until("paused")
        top.press("p")
        top.press("q")
        assert top.ended() == 0


def test_a_killed_worker_changes_the_verdict_and_comes_back(live: System) -> None:
    with Session(live) as top:
        top.until("All 5 venues live")
        os.kill(live.pid("lighter"), signal.SIGKILL)
        screen = top.until("4 of 5 live — lighter: killed from outside — heals by itself")
        (line,) = [line for line in screen if "■ lighter" in line]
        assert "next start in" in line
        assert "0/2" in line
        top.until("exited: killed from outside; live again after")
        top.until("All 5 venues live")
        top.press("q")
        assert top.ended() == 0


def test_a_restart_is_asked_for_and_made(live: System) -> None:
    before = live.venue("paradex")["restarts"]
    with Session(live) as top:
        top.until("All 5 venues live")
        top.press("5r")
        top.until("Restart the worker of paradex? y / n")
        top.press("n")
        top.until("q quit")
        top.press("r")
        top.until("Restart the worker of paradex?")
        top.press("y")
        top.until("paradex: restarting")
        wait_for(lambda: live.venue("paradex")["restarts"] == before + 1)
        top.press("q")
        assert top.ended() == 0


def test_it_goes_on_without_the_gateway(live: System) -> None:
    pid = live.pid("gateway")
    with Session(live) as top:
        top.until("All 5 venues live")
        os.kill(pid, signal.SIGKILL)
        top.until("page, metrics and lifecycle events are away")
        top.until("feeds go on")
        os.kill(live.pid("aster"), signal.SIGKILL)
        top.until("4 of 5 live — aster")
        wait_for(lambda: live.status()["gateway"]["state"] == "live", 60)
        top.until("All 5 venues live")
        top.press("q")
        assert top.ended() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signals_end_it_with_a_restored_terminal(live: System, number: signal.Signals, code: int) -> None:
    with Session(live) as top:
        top.until("All 5 venues live")
        os.kill(top.pid, number)
        assert top.ended() == code


def test_it_is_suspended_and_goes_on(live: System) -> None:
    with Session(live) as top:
        top.until("All 5 venues live")
        top.press("\x1a")
        wait_for(lambda: "STOPPED" in top.output)
        assert termios.tcgetattr(top.slave) == top.before
        assert top.output.rindex(LEFT) > top.output.rindex(ENTERED)
        shown = len(top.output)
        top.press("\n")
        wait_for(lambda: ENTERED in top.output[shown:])
        top.until("All 5 venues live")
        assert termios.tcgetattr(top.slave) != top.before
        top.press("q")
        assert top.ended() == 0


def test_it_follows_the_size_of_the_terminal(live: System) -> None:
    with Session(live) as top:
        top.until("All 5 venues live")
        termios.tcsetwinsize(top.master, (50, 130))
        screen = top.until("restarts")
        assert len(screen) <= 50
        assert sum("Best bid" in line for line in screen) == 2
        termios.tcsetwinsize(top.master, (10, 40))
        wait_for(lambda: len(top.screen) <= 10 and max(map(len, top.screen)) <= 40)
        top.press("q")
        assert top.ended() == 0


def test_signs_and_words_carry_it_without_colour(live: System) -> None:
    with Session(live, NO_COLOR="1") as top:
        top.until("● All 5 venues live")
        assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[0-9;]+)m", top.output)
        top.press("q")
        assert top.ended() == 0


def test_once_and_for_programs(live: System) -> None:
    run_dir = str(live.run_dir.path)
    once = paraphina("top", "--once", "--run-dir", run_dir)
    assert once.returncode == 0
    assert once.stdout.decode().startswith("● All 5 venues live")
    assert b"\x1b" not in once.stdout
    document = json.loads(paraphina("top", "--json", "--symbol", "ETH-PERP", "--run-dir", run_dir).stdout)
    assert document["verdict"]["level"] == "fine"
    assert [table["symbol"] for table in document["prices"]] == ["ETH-PERP"]
    assert all(row["bid"] for row in document["prices"][0]["rows"])


def test_a_supervisor_that_dies_is_said_to_be_gone_and_the_next_one_is_found() -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        with Session(system) as top:
            top.until("The venue is live")
            assert system.process is not None
            system.process.kill()
            system.process.wait()
            top.until("The supervisor is gone: nothing runs")
            time.sleep(1.0)
            system.start()
            top.until("The venue is live", 60)
            top.press("q")
            assert top.ended() == 0
