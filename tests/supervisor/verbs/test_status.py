"""The verb ``status`` in every situation; what it reads is tested with :mod:`supervisor.status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from ipc.health import StreamState, WorkerState


@pytest.fixture
def system(boards, run_dir, monkeypatch):
    """As it stands now, on the clock of this machine."""
    monkeypatch.setattr(boards, "NOW", time.monotonic_ns())
    system = boards.WrittenSystem(run_dir)
    for name in ("lighter", "paradex", "gateway"):
        system.process(name, PID=os.getpid())
    yield system
    system.board.close()


def test_none(cli):
    ran = cli("status", "--json")
    assert ran.code == 3
    assert json.loads(ran.out)["supervisor"]["state"] == "none"
    assert cli("status").out == "■ Nothing runs here — start with: paraphina-supervisor start\n"


def test_dead(cli, system):
    ran = cli("status", "--json")
    assert ran.code == 3
    assert json.loads(ran.out)["supervisor"]["state"] == "dead"
    verdict, head = cli("status").out.splitlines()[:2]
    assert verdict.startswith("▲ The supervisor is gone: nothing runs")
    assert head.startswith("supervisor   dead")


def test_running(cli, system, held_lock):
    ran = cli("status", "--json")
    assert ran.code == 0
    supervisor = json.loads(ran.out)["supervisor"]
    assert (supervisor["state"], supervisor["pid"]) == ("running", held_lock)


def test_degraded(cli, system, held_lock):
    system.cell("lighter", "book", "BTC-PERP", StreamState.STALE)
    assert cli("status", "--json").code == 1
    ran = cli("status")
    assert ran.code == 1
    assert "stale" in ran.out


def test_draining(cli, system, held_lock):
    system.header(PARENT_DRAINING=1)
    system.process("lighter", WorkerState.KILLING)
    ran = cli("status", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["supervisor"]["state"] == "draining"


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "text"])
def test_what_cannot_be_read_is_four(cli, system, held_lock, run_dir, options):
    run_dir.board.unlink()
    run_dir.board.write_bytes(b"rubbish")
    ran = cli("status", *options)
    assert (ran.code, ran.out) == (4, "")
    assert f"{run_dir.board}: not a board of this version" in ran.err


@pytest.mark.parametrize(
    ("proxies", "text"),
    [
        ({"proxy": "http://p:1", "rest_proxy": "http://p:1"}, "  proxy http://p:1\n"),
        ({"proxy": None, "rest_proxy": "http://p:1"}, "  proxy none, for REST http://p:1\n"),
        ({"proxy": "http://p:1", "rest_proxy": None}, "  proxy http://p:1, for REST none\n"),
        ({"proxy": None, "rest_proxy": None}, None),
        ({}, None),
    ],
)
def test_proxies_are_shown(cli, system, held_lock, proxies, text):
    system.described["venues"]["lighter"] |= proxies
    system.describe()
    assert "proxy" not in cli("status").out
    shown = cli("status", "-v").out
    assert ("proxy" in shown) is (text is not None)
    assert text is None or text in shown
    venue = json.loads(cli("status", "--json").out)["venues"]["lighter"]
    assert (venue["proxy"], venue["rest_proxy"]) == (proxies.get("proxy"), proxies.get("rest_proxy"))


def test_another_directory(cli, run_dir, system, held_lock):
    assert cli("status", "--run-dir", run_dir.path.parent / "other").code == 3


def test_piped_text_has_no_colours(cli, system, held_lock):
    assert "\x1b" not in cli("status").out


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_no_color_is_heeded_on_a_terminal(system, held_lock, run_dir, no_color, is_coloured):
    master, slave = os.openpty()
    try:
        env = {**os.environ, "NO_COLOR": no_color, "PARAPHINA_RUN_DIR": str(run_dir.path)}
        subprocess.run([sys.executable, "-m", "supervisor", "status"], stdout=slave, env=env, timeout=60, check=False)
        assert (b"\x1b[" in os.read(master, 65_536)) is is_coloured
    finally:
        os.close(master)
        os.close(slave)


def test_pid_of_one(cli, system, held_lock):
    system.process("lighter", PID=os.getpid())
    ran = cli("status", "--pid", "lighter")
    assert (ran.code, ran.out) == (0, f"{os.getpid()}\n")


def test_pid_of_one_that_does_not_run(cli, system, held_lock):
    system.process("lighter", PID=0)
    ran = cli("status", "--pid", "lighter")
    assert (ran.code, ran.out) == (3, "")
    assert "lighter is not running" in ran.err


def test_pid_of_a_stranger(cli, system, held_lock):
    ran = cli("status", "--pid", "binance")
    assert ran.code == 2
    assert "there are lighter, paradex, gateway, simulator" in ran.err


def test_pid_of_one_where_nothing_ever_ran(cli):
    ran = cli("status", "--pid", "lighter")
    assert (ran.code, ran.out) == (3, "")
    assert "lighter is not running" in ran.err


def test_watch_goes_on_until_it_is_interrupted(cli, system, held_lock, monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("supervisor.verbs.status.time.sleep", sleep)
    ran = cli("status", "--watch", "--json")
    assert ran.code == 130
    assert [json.loads(line)["supervisor"]["state"] for line in ran.out.splitlines()] == ["running"] * 3
    assert slept == [1.0] * 3


def test_it_loads_nothing_heavy(command, system, held_lock):
    """Beside msgspec, which reads the description."""
    ran = command("status", env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in ran.err.splitlines() if "|" in line}
    assert ran.code == 0
    assert not loaded & {
        "zmq",
        "requests",
        "websocket",
        "websockets",
        "rich",
        "multiprocess",
        "prometheus_client",
        "psutil",
    }
