"""``top`` and ``status --watch`` at a terminal: keys, the verdict as things happen, and a terminal that is restored."""

from __future__ import annotations

import json
import os
import re
import signal
import termios
import time
from collections.abc import Iterator

import pytest
from foreground import ENTERED, LEFT, Session
from systems import System, paraphina, wait_for

from supervisor.status.document import exit_code_of, read_status

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    with System(config="[supervisor]\nbackoff_base_ms = 3000\n") as system:
        system.wait_live()
        yield system


@pytest.fixture
def live(running: System) -> System:
    running.wait_live()
    wait_for(lambda: exit_code_of(read_status(running.run_dir)) == 0, 60, what="every required stream is live")
    return running


def test_keys_work_and_q_restores_the_terminal(live: System) -> None:
    with Session(live) as top:
        screen = top.until("All 5 venues live")
        assert len(screen) <= 24
        assert max(map(len, screen)) <= 80
        top.until("BTC-PERP")
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
        top.until("4 of 5 live — lighter: killed from outside — heals by itself")
        # A frame reaches the terminal in pieces, the verdict first.
        line = wait_for(lambda: next((line for line in top.screen if "■ lighter" in line), None))
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
        wait_for(lambda: sum("Best bid" in line for line in top.screen) == 2, what="the prices of both symbols")
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


@pytest.mark.parametrize("no_color", ["", "1"])
def test_status_is_redrawn_in_place(live: System, no_color: str) -> None:
    with Session(live, "--watch", verb="status", NO_COLOR=no_color) as watch:
        watch.until("All 5 venues live")
        frames = watch.output.count("\x1b[H")
        wait_for(lambda: watch.output.count("\x1b[H") >= frames + 2)
        assert len([line for line in watch.screen if line]) <= 23
        assert "\x1b[2J" not in watch.output, "a screen that is cleared flickers"
        assert bool(re.search(r"\x1b\[3[0-7]m", watch.output)) is (not no_color)
        os.kill(live.pid("lighter"), signal.SIGKILL)
        watch.until("4 of 5 live — lighter: killed from outside — heals by itself")
        watch.press("\x03")
        wait_for(lambda: "ENDED 130" in watch.output)
