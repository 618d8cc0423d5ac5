from __future__ import annotations

import signal
import socket

import pytest

pytestmark = pytest.mark.integration


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_until_sigterm_and_ends_cleanly(simproc):
    process = simproc.SimulatorProcess(simproc.make_settings(venues=("lighter", "paradex"))).start()
    settings = process.settings
    ports = [port for pair in settings.ports.values() for port in (pair.ws, pair.rest)] + [settings.admin_port]
    assert all(listens(port) for port in ports)
    assert process.stop() == 0
    assert not any(listens(port) for port in ports)


def test_sigint_ends_it_as_well(simproc):
    process = simproc.SimulatorProcess(simproc.make_settings(venues=("lighter",))).start()
    process.signal(signal.SIGINT)
    assert process.stop() == 0


def test_ports_stay_the_same_when_it_restarts(simproc):
    settings = simproc.make_settings(venues=("lighter",))
    for _ in range(2):
        with simproc.SimulatorProcess(settings) as process:
            assert process.truth("lighter", "BTC-PERP")["bids"]


def test_the_same_seed_starts_alike_in_two_processes(simproc):
    books = []
    for _ in range(2):
        with simproc.SimulatorProcess(simproc.make_settings(venues=("lighter",), seed=42, rate=1.0)) as process:
            process.pause()
            books.append({row["trade_id"] for row in process.truth("lighter", "BTC-PERP")["trades"][:20]})
    assert books[0] == books[1]


def test_a_port_in_use_is_reported(simproc):
    settings = simproc.make_settings(venues=("lighter",))
    with simproc.SimulatorProcess(settings):
        second = simproc.SimulatorProcess(settings)
        with pytest.raises(AssertionError, match="did not start"):
            second.start()
