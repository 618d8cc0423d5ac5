"""Verbs say what is, in words and by exit code: on systems that are killed, stopped, crowded and changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from systems import System, wait_for

from ipc.board import Board, WorkerWord
from ipc.control import ControlClient
from supervisor.bound import bound_command
from supervisor.proc import is_alive, is_stopped
from supervisor.status.document import exit_code_of, read_status
from supervisor.temporary import TemporarySystem

pytestmark = pytest.mark.integration

#: Ticks are short; a killed worker stays away until it is restarted on request.
CONFIG = """
[supervisor]
tick_ms = 100
blackbox_kb = 0
venues = ["lighter", "paradex"]
backoff_base_ms = 60000
[venues.lighter]
funding_poll_ms = 1000
"""
VENUES = ("lighter", "paradex")


def run(system: System, *arguments: str) -> tuple[int, str, str]:
    """Run a verb on a system; return its exit code and its output."""
    command = [sys.executable, "-m", "supervisor", *arguments, "--run-dir", str(system.run_dir.path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, env=system.env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def shown(system: System) -> tuple[int, dict[str, Any]]:
    """Return exit code and object of ``status --json``."""
    code, out, _ = run(system, "status", "--json")
    return code, json.loads(out)


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    with System(config=CONFIG) as running:
        running.wait_live(VENUES)
        wait_for(lambda: exit_code_of(read_status(running.run_dir)) == 0, 60, what="everything live")
        yield running


def rewrite(running: System, text: str) -> None:
    (running.path / "config.toml").write_text(text)


@contextlib.contextmanager
def removing(path: Path) -> Iterator[None]:
    """Remove a directory afterwards."""
    try:
        yield
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: is_stopped(pid))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- on one system ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_has_no_books_and_its_streams_are_off(running: System) -> None:
    pid = running.pid("lighter")
    assert shown(running)[0] == 0
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid))
    # Whether the parent has noticed by now or not.
    code, state = shown(running)
    lighter = state["venues"]["lighter"]
    assert (code, lighter["pid"], lighter["books"]) == (1, None, {"wanted": 2, "usable": 0})
    assert {of["state"] for of in lighter["streams"].values()} == {"off"}
    wait_for(lambda: running.venue("lighter")["state"] == "backoff")
    code, text, _ = run(running, "status", "--streams")
    assert code == 1
    assert [line.split()[1] for line in text.splitlines() if "killed from outside (killed)" in line] == ["off"] * len(
        lighter["streams"]
    )
    code, _, err = run(running, "status", "--pid", "lighter")
    assert (code, "lighter is not running" in err) == (3, True)
    books = [lighter["books"]]
    assert run(running, "restart", "lighter") == (0, "lighter: restarting\n", "")

    def is_back() -> bool:
        venue = running.venue("lighter")
        books.append(venue["books"])
        return bool(venue["state"] == "live")

    wait_for(is_back, 60)
    assert {of["wanted"] for of in books} == {2}, "a restart does not change what is wanted"
    wait_for(lambda: exit_code_of(read_status(running.run_dir)) == 0, 60)


def test_a_stopped_supervisor_is_stalled_and_verbs_say_so_at_once(running: System) -> None:
    assert running.process is not None
    pid = running.process.pid
    worker = running.pid("paradex")
    with stopped(pid), stopped(worker):
        for verb in (["restart"], ["reload"], ["stop"], ["drill", "kill"]):
            began = time.monotonic()
            code, out, err = run(running, *verb)
            assert (code, out) == (1, "")
            assert f"pid {pid}: the supervisor does not answer: it is stopped (state T)" in err
            assert f"kill -CONT {pid}" in err
            assert time.monotonic() - began < 15
        wait_for(lambda: read_status(running.run_dir)["supervisor"]["state"] == "stalled")
        code, text, _ = run(running, "status")
        assert (code, text.splitlines()[1].split()[1]) == (1, "stalled")
        assert "it is stopped (state T), and last worked " in text
        assert f"kill -CONT {pid}" in text
        wait_for(lambda: running.venue("paradex")["books"] == {"wanted": 2, "usable": 0})
        paradex = running.venue("paradex")
        assert {(of["state"], of["reason"]) for of in paradex["streams"].values()} == {("stale", "wedged")}
    wait_for(lambda: shown(running)[0] == 0, 60, what="running again, with no request left to execute")
    assert not running.log("supervisor.stopping")
    assert running.venue("paradex")["restarts"] == 0


def test_idle_clients_do_not_keep_a_restart_out(running: System) -> None:
    before = running.pid("paradex")
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(ControlClient(running.run_dir.control))
        assert run(running, "restart", "paradex") == (0, "paradex: restarting\n", "")
    wait_for(lambda: running.venue("paradex")["pid"] not in {None, before})
    wait_for(lambda: running.venue("paradex")["state"] == "live", 60)
    assert running.venue("paradex")["last_exit"]["reason"] == "requested"
    code, out, err = run(running, "restart", "binance")
    assert (code, out) == (2, "")
    assert "no process 'binance' here (there are " in err


def test_reload_says_what_it_changes_and_refuses_mistakes(running: System) -> None:
    before = {name: running.pid(name) for name in VENUES}
    assert run(running, "reload") == (0, "nothing changed\n", "")
    rewrite(running, CONFIG.replace("tick_ms = 100", "tick_ms = 1"))
    code, out, err = run(running, "reload")
    assert (code, out) == (2, "")
    assert err.startswith(f"paraphina-supervisor: {running.path / 'config.toml'}:supervisor.tick_ms: 1 will not do")
    rewrite(running, CONFIG.replace("funding_poll_ms = 1000", "funding_poll_ms = 700"))
    code, out, _ = run(running, "reload", "--json")
    assert code == 0
    assert json.loads(out) == {
        "settings": ["venues.lighter.funding_poll_ms"],
        "added": [],
        "removed": [],
        "restarting": ["lighter"],
        "needs_start": [],
    }
    wait_for(lambda: running.venue("lighter")["pid"] not in {None, before["lighter"]})
    assert running.pid("paradex") == before["paradex"]
    wait_for(lambda: running.venue("lighter")["state"] == "live", 60)


def test_a_failed_worker_is_shown_as_such_and_restarted_on_request(running: System) -> None:
    rewrite(running, CONFIG + '[venues.paradex]\nfixture_dir = "/dev"\n')
    code, out, _ = run(running, "reload")
    assert code == 0
    assert "restarting, one after the other: " in out
    assert "paradex" in out
    wait_for(lambda: running.venue("paradex")["state"] == "failed", 60)
    code, state = shown(running)
    paradex = state["venues"]["paradex"]
    assert (code, paradex["books"], paradex["pid"]) == (1, {"wanted": 2, "usable": 0}, None)
    assert {(of["state"], of["reason"]) for of in paradex["streams"].values()} == {("off", "config_error")}
    rewrite(running, CONFIG)
    before = paradex["generation"]
    assert run(running, "restart", "paradex") == (0, "paradex: restarting\n", "")
    wait_for(lambda: running.venue("paradex")["generation"] > before)
    wait_for(lambda: running.venue("paradex")["state"] == "failed", 60, what="failed with the settings that it has")
    code, out, _ = run(running, "reload")
    assert code == 0
    assert "changed settings: venues.paradex.fixture_dir" in out
    wait_for(lambda: running.venue("paradex")["state"] == "live", 60)


def test_a_worker_alone_is_no_dead_system(running: System) -> None:
    urls = running.run_dir.describe()["simulator"]["venues"]["paradex"]
    alone = System(sim=False, env={"PARAPHINA_VENUES": "paradex"})
    options = ["--ws-url", urls["ws"], "--rest-url", urls["rest"], "--run-dir", str(alone.run_dir.path)]
    command = bound_command("worker", "paradex", *options)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=alone.env) as worker, removing(alone.path):
        try:
            wait_for(lambda: exit_code_of(read_status(alone.run_dir)) == 0, 60)
            code, text, _ = run(alone, "status", "--streams")
            verdict, head, _, venue = text.splitlines()[:4]
            assert verdict.startswith("● Live, without a supervisor")
            assert (code, head.split()[:2]) == (0, ["supervisor", "none"])
            assert "no supervisor: paradex runs alone, up " in head
            assert venue.split()[:4] == ["paradex", "live", "pid", str(worker.pid)]
            code, _, err = run(alone, "restart")
            assert (code, "no supervisor is running here" in err) == (3, True)
            assert run(alone, "stop") == (0, "stopped\n", "")
            assert worker.wait(10) == 0
            code, state = shown(alone)
            assert (code, state["supervisor"]["state"]) == (3, "dead")
            assert (state["venues"]["paradex"]["state"], state["venues"]["paradex"]["books"]["usable"]) == (
                "stopped",
                0,
            )
        finally:
            worker.kill()


def test_a_poll_that_never_had_an_answer_is_retried_and_not_off(running: System) -> None:
    def poll() -> dict[str, Any]:
        stream: dict[str, Any] = running.venue("lighter")["streams"]["funding_poll"]
        return stream

    wait_for(lambda: poll()["state"] == "live", 60)
    running.fault("lighter", "rest_error", status=503)
    try:
        assert run(running, "restart", "lighter")[0] == 0
        failed = wait_for(lambda: (it := poll())["state"] == "backoff" and it, 60)
        assert failed["reason"] not in {None, "requested"}
        assert shown(running)[0] == 1
    finally:
        running.mend()
    wait_for(lambda: poll()["state"] == "live", 60)


def test_stop_names_what_it_leaves_behind_and_later_nothing_runs(running: System) -> None:
    """A process of another program in the place of the gateway plays the one that cannot be killed."""
    assert running.process is not None
    pids = [process.pid for process in running.descendants()]
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as other:
        board = Board.attach(running.run_dir.board, writable=True)
        board.worker(running.run_dir.describe()["processes"]["gateway"]["slot"])[WorkerWord.PID] = other.pid
        code, out, err = run(running, "stop")
        other.kill()
        board.close()
    assert (code, out) == (1, "")
    assert f"left behind: gateway (pid {other.pid})" in err
    wait_for(lambda: not any(map(is_alive, pids)), what="the others are gone")
    assert running.process.wait(10) == 0
    for verb in ("stop", "restart", "reload"):
        code, out, err = run(running, verb)
        assert (code, out) == (3, "")
        assert "no supervisor is running here" in err
    code, state = shown(running)
    assert (code, state["supervisor"]["state"]) == (3, "dead")
    for venue in state["venues"].values():
        assert (venue["books"]["usable"], venue["pid"]) == (0, None)
        assert {(of["state"], of["reason"]) for of in venue["streams"].values()} == {("off", "requested")}


# --- others -----------------------------------------------------------------------------------------------------------


def test_a_killed_system_is_dead_and_its_processes_were_lost_with_it() -> None:
    with System("--venues", "paradex") as system:
        system.wait_live(["paradex"])
        assert system.process is not None
        system.process.kill()
        system.process.wait()
        code, state = shown(system)
        assert (code, state["supervisor"]["state"]) == (3, "dead")
        paradex = state["venues"]["paradex"]
        assert (paradex["state"], paradex["books"]["usable"]) == ("stopped", 0)
        assert {(of["state"], of["reason"]) for of in paradex["streams"].values()} == {("off", "parent_lost")}


def test_temporary_systems_end_when_their_starters_are_killed(tmp_path: Path) -> None:
    env = {**os.environ, "PARAPHINA_VENUES": "lighter", "PARAPHINA_RUN_DIR": str(tmp_path / "run")}
    verbs = [["check", "--sim", "--for", "60"], ["drill", "stall", "--venues", "lighter"]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    starters = [psutil.Popen([sys.executable, "-m", "supervisor", *verb], env=env, **quiet) for verb in verbs]
    try:
        # supervisor, simulator, worker and gateway
        for starter in starters:
            wait_for(lambda of=starter: len(of.children(recursive=True)) == 4, 60)
        systems = [starter.children()[0].cmdline() for starter in starters]
        processes = [process for starter in starters for process in starter.children(recursive=True)]
        places = [Path(command[command.index("--run-dir") + 1]).parent for command in systems]
        assert all(place.exists() for place in places)
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
    assert len(processes) == 8
    assert psutil.wait_procs(processes, timeout=30)[1] == []
    with TemporarySystem():
        assert not any(place.exists() for place in places)
