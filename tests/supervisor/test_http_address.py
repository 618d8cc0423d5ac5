"""Addresses of the HTTP server, and the port that is chosen once."""

from __future__ import annotations

import socket

import pytest

from supervisor import http_address as module
from supervisor.http_address import HttpAddress, PortChoice


@pytest.mark.parametrize(
    ("text", "address", "url", "is_local"),
    [
        ("127.0.0.1:9464", HttpAddress("127.0.0.1", 9464), "http://127.0.0.1:9464", True),
        ("localhost:1", HttpAddress("127.0.0.1", 1), "http://127.0.0.1:1", True),
        ("[::1]:9464", HttpAddress("::1", 9464), "http://[::1]:9464", True),
        ("[0:0::1]:0", HttpAddress("::1", 0), "http://[::1]:0", True),
        ("0.0.0.0:80", HttpAddress("0.0.0.0", 80), "http://0.0.0.0:80", False),
        ("[::]:65535", HttpAddress("::", 65_535), "http://[::]:65535", False),
        ("10.0.0.7:80", HttpAddress("10.0.0.7", 80), "http://10.0.0.7:80", False),
        ("unix:/run/p/http", HttpAddress(path="/run/p/http"), "unix:/run/p/http", True),
    ],
)
def test_an_address_and_its_url(text, address, url, is_local):
    parsed = HttpAddress.parse(text)
    assert (parsed, parsed.url, parsed.is_local) == (address, url, is_local)


def test_a_relative_socket_belongs_to_the_directory_of_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert HttpAddress.parse("unix:http") == HttpAddress(path=f"{tmp_path}/http")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "9464",
            ":9464",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:+1",
            "::1:9464",
        ),
        *(
            "[127.0.0.1]:1",
            "[::1]",
            "[::1",
            "desk.example.com:80",
            "http://127.0.0.1:80",
            "127.0.0.1:٣",
            "127.0.0.1:1 ",
        ),
        *("unix:", "unix:/a\nb", "unix:/a\x00", "unix:/" + "a" * 107, "127.0.0.256:1"),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        HttpAddress.parse(text)


def test_families():
    assert HttpAddress("127.0.0.1", 1).family == socket.AF_INET
    assert HttpAddress("::1", 1).family == socket.AF_INET6
    assert HttpAddress(path="/p").family == socket.AF_UNIX


def test_a_port_is_chosen_once_for_each_host(monkeypatch):
    asked = []

    def free_ports(count, host):
        asked.append((count, host))
        return [30_000 + len(asked)]

    monkeypatch.setattr(module, "free_ports", free_ports)
    choice = PortChoice()
    first, other = HttpAddress("127.0.0.1"), HttpAddress("::1")
    assert choice.resolve(first) == choice.resolve(first) == HttpAddress("127.0.0.1", 30_001)
    assert choice.resolve(other) == HttpAddress("::1", 30_002)
    assert choice.resolve(first) == HttpAddress("127.0.0.1", 30_001)
    assert asked == [(1, "127.0.0.1"), (1, "::1")]


@pytest.mark.parametrize("address", [None, HttpAddress("127.0.0.1", 80), HttpAddress(path="/p")])
def test_other_addresses_are_left_as_they_are(address):
    assert PortChoice().resolve(address) is address
