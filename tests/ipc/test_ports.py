"""TCP ports of a system's processes: old numbers stay, others are assigned in the order of the configuration."""

import pytest

from ipc.errors import ConfigError
from ipc.remote import Network, PortPair, ports_of


def test_the_venues_and_lifecycle_keep_their_numbers():
    ports = ports_of(5600, {"lighter": None, "lighter.b": None, "hyperliquid": None})
    assert ports["hyperliquid"] == (5600, 5606)
    assert ports["lighter"] == (5603, 5609)
    assert ports["lifecycle"] == (5605, None)


def test_every_other_process_has_the_next_free_ports_in_the_order_of_the_configuration():
    ports = ports_of(5600, {"paradex": None, "paradex.b": None, "aster": None, "aster.b": None})
    assert (ports["paradex.b"], ports["aster.b"]) == ((5611, 5612), (5613, 5614))


def test_an_own_port_is_kept_and_passed_over_by_others():
    ports = ports_of(5600, {"aster.b": None, "lighter.b": 5612, "paradex.b": 7000})
    assert ports["lighter.b"] == (5612, 5613)
    assert ports["paradex.b"] == (7000, 7001)
    assert ports["aster.b"] == (5611, 5614)


def test_a_port_belongs_to_one_process():
    with pytest.raises(ConfigError) as caught:
        ports_of(5600, {"lighter.b": 5604, "aster.b": 6000, "paradex.b": 6001})
    assert caught.value.problems == [
        "lighter.b: TCP port 5604 is that of paradex; choose another tcp_port",
        "lighter.b: TCP port 5605 is that of lifecycle; choose another tcp_port",
        "paradex.b: TCP port 6001 is that of aster.b; choose another tcp_port",
    ]


def test_no_port_is_above_the_last_one():
    with pytest.raises(ConfigError, match=r"^lighter\.b: TCP port 65536 is above 65535"):
        ports_of(5600, {"lighter.b": 65535})


def test_a_process_listens_on_the_port_of_the_table():
    network = Network("127.0.0.1", 5600, None, {"lighter.b": PortPair(5611, 5612)})
    assert network.endpoint("lighter.b") == "tcp://127.0.0.1:5611"
    assert network.endpoint("lighter.b", account=True) == "tcp://127.0.0.1:5612"
    assert network.endpoint("lighter") == "tcp://127.0.0.1:5603"
    assert Network("::1", 5600).endpoint("aster", account=True) == "tcp://[::1]:5607"
