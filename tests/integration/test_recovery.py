"""What happens when something is killed, stopped, stalled or away."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from systems import VENUES, Listener, System, equals_truth, paraphina, wait_for

from ipc.events import BookDelta, BookSnapshot, Gap, Lifecycle

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("venue", VENUES)
def test_a_killed_worker_comes_back_after_a_second_with_a_snapshot_first(venue: str) -> None:
    with System("--venues", venue) as system, Listener(system) as listener:
        system.wait_live([venue])
        wait_for(lambda: not listener.book(venue, "BTC-PERP")[0])
        epoch = listener.of(BookSnapshot, venue)[-1].epoch
        killed = time.monotonic()
        os.kill(system.pid(venue), signal.SIGKILL)

        def reborn() -> list[BookSnapshot | BookDelta]:
            books = listener.of(None, venue, "BTC-PERP", killed)
            return [e for e in books if isinstance(e, BookSnapshot | BookDelta) and e.epoch > epoch]

        assert isinstance(wait_for(reborn)[0], BookSnapshot)
        system.admin("/pause", {})
        wait_for(lambda: equals_truth(system, listener, venue, "BTC-PERP"), 20)
        exited = system.log("worker.exited", venue=venue)[0]
        assert (exited["reason"], exited["signal"]) == ("killed", "SIGKILL")
        started = system.log("worker.started", venue=venue)
        assert 0.95 <= started[1]["ts"] - exited["ts"] <= 1.6, "a second, and never early"
        assert not listener.wrong


def test_a_second_kill_before_the_run_was_healthy_waits_twice_as_long() -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        for _ in range(2):
            pid = system.pid("lighter")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: system.venue("lighter")["pid"] not in {None, pid})
            system.wait_live(["lighter"])
        waits = [record["delay_s"] for record in system.log("worker.restarting", venue="lighter")]
        assert 0.9 <= waits[0] <= 1.0
        assert 1.7 <= waits[1] <= 2.0, "doubled, less up to a tenth"


def test_a_healthy_run_earns_the_first_delay_again() -> None:
    env = {"PARAPHINA_WS_HEALTHY_THRESHOLD_MS": "1500"}
    with System("--venues", "lighter", env=env) as system:
        for _ in range(2):
            system.wait_live(["lighter"])
            time.sleep(2.5)
            pid = system.pid("lighter")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: system.venue("lighter")["pid"] not in {None, pid})
        waits = [record["delay_s"] for record in system.log("worker.restarting", venue="lighter")]
        assert all(0.9 <= wait <= 1.0 for wait in waits)


def test_a_stopped_worker_is_noticed_and_replaced() -> None:
    with System("--venues", "paradex,lighter") as system:
        system.wait_live(["paradex", "lighter"])
        pid, other = system.pid("paradex"), system.pid("lighter")
        stopped = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: system.venue("paradex")["pid"] not in {None, pid}, 30)
        assert time.monotonic() - stopped < 8
        system.wait_live(["paradex"])
        assert system.venue("paradex")["last_exit"]["reason"] == "wedged"
        assert system.pid("lighter") == other, "its sibling was not touched"


def test_nothing_survives_a_killed_parent_and_the_next_start_works() -> None:
    with System() as system:
        system.wait_live()
        children = system.descendants()
        assert len(children) == 7
        assert system.process is not None
        system.process.kill()
        system.process.wait()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        verb = paraphina("status", "--json", "--run-dir", str(system.run_dir.path))
        assert verb.returncode == 3
        assert b'"dead"' in verb.stdout
        system.start()
        system.wait_live()


def test_a_killed_gateway_touches_no_feed_and_control_goes_on() -> None:
    with System("--venues", "lighter,paradex") as system, Listener(system, channels=["book", "lifecycle"]) as listener:
        system.wait_live(["lighter", "paradex"])
        workers = {name: system.pid(name) for name in ("lighter", "paradex")}
        pid = system.pid("gateway")
        since = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(listener.of(BookDelta, None, None, since)) > 20)
        assert paraphina("restart", "lighter", "--run-dir", str(system.run_dir.path)).returncode == 0
        wait_for(lambda: system.venue("lighter")["pid"] not in {None, workers["lighter"]})
        wait_for(lambda: system.pid("gateway") != pid)
        assert system.pid("paradex") == workers["paradex"]
        restarted = wait_for(
            lambda: [e for e in listener.of(Lifecycle, "lighter", None, since) if e.event == "started"]
        )
        assert restarted[-1].generation == 2
        assert not listener.of(Gap, "paradex")
        assert paraphina("stop", "--run-dir", str(system.run_dir.path)).returncode == 0


def test_a_restarted_simulator_is_found_again() -> None:
    with System("--venues", "lighter") as system, Listener(system) as listener:
        system.wait_live(["lighter"])
        os.kill(system.pid("simulator"), signal.SIGKILL)
        wait_for(lambda: listener.of(Gap, "lighter"))
        wait_for(lambda: listener.book("lighter", "BTC-PERP")[0] is None, 30)
        assert system.venue("lighter")["restarts"] == 0, "the worker reconnected by itself"


@pytest.mark.parametrize("venue", VENUES)
def test_a_stalled_venue_reconnects_within_its_limit(venue: str) -> None:
    with System("--venues", venue, config=f"[venues.{venue}]\nstale_ms = 3000\n") as system:
        system.wait_live([venue])
        system.fault(venue, "stall")
        stalled = time.time()
        cut = wait_for(lambda: system.log("ws.cut", venue=venue, reason="stale_watchdog"), 30)[0]
        assert cut["text"] == f"{venue} book stale: freshness exceeded 3000 ms"
        assert cut["ts"] - stalled < 3.0 + 2.0
        wait_for(lambda: system.venue(venue)["streams"]["book"]["reason"] == "stale_watchdog")
        system.fault(venue, "clear")
        system.wait_live([venue])
        assert system.venue(venue)["streams"]["book"]["reason"] == "stale_watchdog", "the last reason stays"


@pytest.mark.parametrize("venue", VENUES)
def test_a_quiet_market_beside_a_busy_one_does_not_flap(venue: str) -> None:
    with System("--venues", venue, config=f"[venues.{venue}]\nstale_ms = 2000\n") as system:
        system.wait_live([venue])
        system.admin(f"/activity/{venue}/ETH-PERP", {"factor": 0})
        time.sleep(9)
        assert not system.log("ws.closed", venue=venue)
        assert not system.log("ws.cut", venue=venue)
        book = system.venue(venue)["streams"]["book"]["markets"]
        assert book["BTC-PERP"]["state"] == "live"
        assert book["ETH-PERP"]["state"] in {"live", "quiet"}


def test_a_venue_without_rest_from_the_start_goes_live_when_it_answers() -> None:
    with System("--venues", "lighter,paradex") as sim:
        sim.wait_live(["lighter", "paradex"])
        urls = sim.status()["simulator"]["venues"]
        for venue in ("lighter", "paradex"):
            sim.fault(venue, "rest_error")
        config = "".join(
            f'[venues.{venue}]\nws_url = "{urls[venue]["ws"]}"\nrest_url = "{urls[venue]["rest"]}"\n'
            for venue in ("lighter", "paradex")
        )
        with System("--venues", "lighter,paradex", config=config, sim=False) as system:
            wait_for(lambda: len(system.log("markets.unresolved", venue="lighter")) >= 2, 30)
            retries = [record["retry_in_s"] for record in system.log("markets.unresolved", venue="lighter")]
            assert retries[:2] == [5.0, 10.0]
            assert not system.log("worker.exited")
            for venue in ("lighter", "paradex"):
                sim.fault(venue, "clear")
            system.wait_live(["lighter", "paradex"], 60)
            wait_for(lambda: system.log("funding.initialised", venue="lighter"))
