"""The whole system over TLS: it trusts whom it should, follows the truth, and outlives handshakes that go wrong."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from systems import MARKETS, VENUES, Listener, System, equals_truth, paraphina, wait_for

from ipc.events import Gap

pytestmark = pytest.mark.integration

CONNECT_MS = 1500
#: Any fresh data earns the first delay again, so that each test begins with it.
HEALTH = "[health]\nhealthy_threshold_ms = 100\n"


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """All venues over TLS, in a process of their own."""
    path = Path(__file__).parents[1] / "simulator" / "simproc.py"
    spec = importlib.util.spec_from_file_location("simulator_process", path)
    sys.modules[spec.name] = simproc = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(simproc)
    ca_path = tmp_path_factory.mktemp("authority") / "ca.pem"
    with simproc.SimulatorProcess(simproc.make_settings(tls=True, ca_path=str(ca_path))) as process:
        yield process


def configured(sim, venues=VENUES):
    """A configuration that leads to the simulator."""
    sections = [
        f'[venues.{venue}]\nws_url = "{sim.urls[venue].ws}"\nrest_url = "{sim.urls[venue].rest}"\n'
        f"connect_timeout_ms = {CONNECT_MS}\n"
        for venue in venues
    ]
    return HEALTH + "".join(sections)


@pytest.fixture(scope="module")
def system(sim):
    """A system that trusts the simulator's authority."""
    with System(config=configured(sim), env={"SSL_CERT_FILE": sim.settings.ca_path}, sim=False) as system:
        system.wait_live()
        yield system


def follows_the_truth(sim, listener):
    """Hold the markets still, compare every book, and let them move again."""
    sim.pause()
    try:
        for market in MARKETS:
            wait_for(lambda m=market: equals_truth(sim, listener, *m), 20, what=f"{market} is the truth")
    finally:
        sim.resume()
    return not listener.wrong


def test_all_venues_go_live_over_tls_and_follow_the_truth(sim, system):
    assert all(urls.ws.startswith("wss://") and urls.rest.startswith("https://") for urls in sim.urls.values())
    with Listener(system) as listener:
        wait_for(lambda: all(len(listener.of(None, *market)) > 20 for market in MARKETS))
        assert follows_the_truth(sim, listener)
        assert listener.lost == 0
        assert listener.drifts() == 0
    assert not system.log(level="error")


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("tls_hang", "connect_timeout", "in time"),
        ("tls_bad_certificate", "tls_failed", "certificate verify failed"),
        ("tls_expired", "tls_failed", "certificate has expired"),
    ],
)
def test_a_handshake_that_goes_wrong_is_named_and_outlived(sim, system, fault, reason, text):
    pids = {venue: system.pid(venue) for venue in VENUES}
    began = time.time()
    for venue in VENUES:
        sim.fault(venue, fault, cut=True)

    def failures(venue):
        failed = system.log("ws.connect_failed", venue=venue, reason=reason)
        return [record for record in failed if record["ts"] > began and text in record["text"]]

    for venue in VENUES:
        wait_for(lambda v=venue: len(failures(v)) >= 2, what=f"{venue} is tried again")
        book = wait_for(lambda v=venue: _with_reason(system.venue(v)["streams"]["book"], reason), what=venue)
        assert book["state"] in {"connecting", "backoff", "rest"}
    if reason == "connect_timeout":
        waited = failures("lighter")[0]["ts"] - began - 1.0  # the first delay comes before
        assert waited > 0.9 * CONNECT_MS / 1000
    for venue in VENUES:
        sim.clear(venue)
    system.wait_live()
    assert {venue: system.pid(venue) for venue in VENUES} == pids
    assert not system.log("worker.exited")
    with Listener(system) as listener:
        assert follows_the_truth(sim, listener)


def _with_reason(stream, reason):
    return stream if stream["reason"] == reason else None


@pytest.mark.parametrize("fault", ["tls_bad_certificate", "tls_expired"])
def test_a_rest_interface_that_cannot_be_trusted_is_named_in_the_same_word(sim, fault):
    sim.fault("lighter", fault, port="rest")
    env = {"SSL_CERT_FILE": sim.settings.ca_path}
    with System("--venues", "lighter", config=configured(sim, ["lighter"]), env=env, sim=False) as system:
        wait_for(lambda: system.log("markets.unresolved", reason="tls_failed"))
        sim.clear("lighter")
        system.wait_live(["lighter"])
        assert not system.log("worker.exited")


def test_without_its_authority_nobody_trusts_the_simulator(sim):
    with System("--venues", "lighter", config=configured(sim, ["lighter"]), sim=False) as system:
        wait_for(lambda: len(system.log("markets.unresolved", reason="tls_failed")) >= 2)
        assert not system.log("worker.exited")


def test_a_bad_certificate_on_one_venue_touches_no_other(sim, system):
    with Listener(system, channels=["book"]) as listener:
        wait_for(lambda: all(listener.book(*market)[0] is None for market in MARKETS))
        began = time.time()
        sim.fault("aster", "tls_expired", cut=True)
        wait_for(lambda: [r for r in system.log("ws.connect_failed", venue="aster") if r["ts"] > began])
        others = [market for market in MARKETS if market[0] != "aster"]
        assert all(listener.book(*market)[0] is None for market in others)
        sim.clear("aster")
        system.wait_live()


def test_a_worker_that_starts_into_a_hanging_venue_is_left_alone_and_goes_live(sim):
    sim.fault("paradex", "tls_hang", port="ws")
    start = "start_timeout_ms = 3000\n"
    config = configured(sim, ["paradex"]).replace(HEALTH, HEALTH + start)
    env = {"SSL_CERT_FILE": sim.settings.ca_path}
    with System("--venues", "paradex", config=config, env=env, sim=False) as system:
        wait_for(lambda: len(system.log("ws.connect_failed", reason="connect_timeout")) >= 3)
        assert system.venue("paradex")["restarts"] == 0
        sim.clear("paradex")
        system.wait_live(["paradex"])
        assert not system.log("worker.exited")


def test_a_simulator_that_was_killed_is_trusted_as_before():
    with System("--sim-tls", "--venues", "lighter") as system, Listener(system) as listener:
        system.wait_live(["lighter"])
        assert system.status()["simulator"]["venues"]["lighter"]["ws"].startswith("wss://")
        os.kill(system.pid("simulator"), signal.SIGKILL)
        wait_for(lambda: listener.of(Gap, "lighter"))
        wait_for(lambda: listener.book("lighter", "BTC-PERP")[0] is None)
        assert system.venue("lighter")["restarts"] == 0
        assert not system.log(reason="tls_failed")


def test_tls_without_simulated_venues_is_refused_with_advice():
    refused = paraphina("start", "--sim-tls")
    assert refused.returncode == 2
    assert b"--sim" in refused.stderr
