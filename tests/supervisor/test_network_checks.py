"""What ``check`` finds on the way to the venues."""

from __future__ import annotations

import socket
import ssl

import certifi
import pytest
from proxies import ProxyServer

from ipc.health import Reason
from supervisor.config import load
from supervisor.network_checks import advice_for, check_network
from workers.net.rest import RestError

ADVICE = "install the package ca-certificates, or name a PEM file in ca_file or SSL_CERT_FILE"


@pytest.fixture
def checked(monkeypatch):
    """Findings for two venues and settings; authorities are there unless said otherwise."""

    def check(environ=(), **flags):
        environ = {"PARAPHINA_VENUES": "aster,lighter", "SSL_CERT_FILE": certifi.where(), **dict(environ)}
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.setenv(name, environ[name]) if name in environ else monkeypatch.delenv(name, raising=False)
        found = load(None, environ, {key.replace("__", "."): value for key, value in flags.items()})
        return dict(check_network(found, environ))

    return check


def test_all_is_well(checked):
    assert checked() == {"certificates of authorities": None}


# --- authorities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_variable_that_names_nothing(checked, tmp_path, variable):
    found = checked({variable: f"{tmp_path}/none"})
    what = f"{variable} names '{tmp_path}/none', which does not exist"
    assert found == {"certificates of authorities": f"{what}; {ADVICE}"}


def test_machine_without_authorities(checked, tmp_path):
    (tmp_path / "ca.pem").touch()
    (tmp_path / "empty").mkdir()
    found = checked({"SSL_CERT_FILE": f"{tmp_path}/ca.pem", "SSL_CERT_DIR": f"{tmp_path}/empty"})
    assert found == {"certificates of authorities": f"there are none; {ADVICE}"}
    (tmp_path / "empty" / "3513523f.0").touch()
    found = checked({"SSL_CERT_FILE": f"{tmp_path}/ca.pem", "SSL_CERT_DIR": f"{tmp_path}/empty"})
    assert found == {"certificates of authorities": None}


def test_authorities_of_the_machine_do_not_matter_where_none_are_needed(checked, monkeypatch):
    monkeypatch.setattr(ssl, "create_default_context", lambda: pytest.fail("it was asked"))
    assert checked(network__ca_file=certifi.where()) == {}
    urls = {f"venues__{venue}__{key}_url": f"{scheme}://venue.test" for venue in ("aster", "lighter")
            for key, scheme in (("ws", "ws"), ("rest", "http"))}  # fmt: skip
    assert checked(**urls) == {}


# --- source addresses ---------------------------------------------------------------------------------------------


def test_source_addresses(checked):
    found = checked(network__source_address="127.0.0.9", venues__lighter__source_address="203.0.113.9")
    found.pop("certificates of authorities")
    assert found == {
        "source address 127.0.0.9": None,
        "source address 203.0.113.9": "source_address 203.0.113.9 is not an address of this machine",
    }


# --- proxies ------------------------------------------------------------------------------------------------------


def test_each_venue_and_each_proxy_is_a_line_without_credentials(checked):
    with ProxyServer("http") as proxy, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        environ = {
            "HTTPS_PROXY": f"http://desk:planted@127.0.0.1:{proxy.port}",
            "PARAPHINA_LIGHTER_PROXY": f"socks5://127.0.0.1:{port}",
        }
        found = checked(environ)
    assert found == {
        "certificates of authorities": None,
        f"aster is reached through http://127.0.0.1:{proxy.port} (environment:HTTPS_PROXY)": None,
        f"lighter is reached through socks5://127.0.0.1:{port} (environment:PARAPHINA_LIGHTER_PROXY)": None,
        f"proxy http://127.0.0.1:{proxy.port} accepts connections": None,
        f"proxy socks5://127.0.0.1:{port} accepts connections": f"127.0.0.1:{port} refuses connections",
    }


def test_venue_that_is_reached_both_ways_and_one_that_is_reached_directly(checked):
    with ProxyServer("http") as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        environ = {"HTTPS_PROXY": url, "NO_PROXY": "ws.test, lighter.test"}
        names = {"venues__aster__ws_url": "wss://ws.test", "venues__aster__rest_url": "https://rest.test"}
        names |= {"venues__lighter__ws_url": "wss://lighter.test", "venues__lighter__rest_url": "https://lighter.test"}
        found = list(checked(environ, **names))
    assert found[1:] == [
        f"aster is reached directly, REST through {url} (environment:HTTPS_PROXY)",
        "lighter is reached directly",
        f"proxy {url} accepts connections",
    ]


@pytest.mark.parametrize(
    ("environ", "reason", "status", "has_advice"),
    [
        ({}, Reason.DNS_FAILED, None, True),
        ({}, Reason.CONNECT_FAILED, None, True),
        ({}, Reason.REFUSED, 403, False),
        ({}, Reason.TLS_FAILED, None, False),
        ({"PARAPHINA_PROXY": "http://proxy.desk:1"}, Reason.CONNECT_FAILED, None, False),
    ],
)
def test_advice_for_a_network_that_only_a_proxy_leads_out_of(environ, reason, status, has_advice):
    venue = load(None, environ, {}).venues["lighter"]
    assert bool(advice_for(RestError(reason, "x", status=status), venue)) is has_advice
