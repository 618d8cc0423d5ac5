from __future__ import annotations

import pytest

from ipc.errors import UsageError
from simulator.settings import SimPorts, SimSettings, VenuePorts, admin_url, endpoints, pick_ports

PORTS = {
    "hyperliquid": VenuePorts(ws=20_000, rest=21_000),
    "aster": VenuePorts(ws=20_001, rest=21_001),
    "extended": VenuePorts(ws=20_002, rest=21_002),
    "lighter": VenuePorts(ws=20_003, rest=21_003),
    "paradex": VenuePorts(ws=20_004, rest=21_004),
}


def make(**changes):
    return SimSettings(**{"ports": PORTS, "admin_port": 9, **changes})


def test_urls_are_the_live_ones_with_another_host():
    urls = endpoints(make())
    assert urls["hyperliquid"].ws == "ws://127.0.0.1:20000/ws"
    assert urls["hyperliquid"].rest == "http://127.0.0.1:21000"
    assert urls["aster"].ws == "ws://127.0.0.1:20001"
    assert urls["extended"].ws == "ws://127.0.0.1:20002/stream.extended.exchange/v1"
    assert urls["extended"].rest == "http://127.0.0.1:21002/api/v1"
    assert urls["lighter"].ws == "ws://127.0.0.1:20003/stream"
    assert urls["paradex"].ws == "ws://127.0.0.1:20004/v1"
    assert urls["paradex"].rest == "http://127.0.0.1:21004/v1"
    assert admin_url(make()) == "http://127.0.0.1:9"


def test_with_tls_the_schemes_are_the_secure_ones_and_admin_stays_plain():
    settings = make(tls=True, ca_path="ca.pem")
    urls = endpoints(settings)
    assert urls["hyperliquid"].ws == "wss://127.0.0.1:20000/ws"
    assert urls["paradex"].rest == "https://127.0.0.1:21004/v1"
    assert admin_url(settings) == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "changes",
    [
        {"venues": ("nyse",)},
        {"ports": {}},
        {"bases": ("btc",)},
        {"rate": 0.5},
        {"rate": 1001.0},
        {"pace": 0.0},
        {"sbe_version": 4},
        {"tls": True},
    ],
)
def test_invalid_settings_are_refused_with_advice(changes):
    with pytest.raises(UsageError):
        make(**changes)


def test_picked_ports_differ_and_are_outside_of_the_ephemeral_range():
    picked = pick_ports()
    assert isinstance(picked, SimPorts)
    ports = [port for pair in picked.venues.values() for port in (pair.ws, pair.rest)] + [picked.admin]
    assert len(set(ports)) == 11
    assert all(20_000 <= port < 32_000 for port in ports)
