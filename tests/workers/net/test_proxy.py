"""Which proxy a URL is reached through: settings, the environment's variables, and what is never proxied."""

from __future__ import annotations

import pytest

from workers.net.proxy import DialOptions, Proxy, ProxyRules, environment_rules, host_and_port, parse_proxy

PROXY = Proxy("http", "proxy.desk", 3128)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://venue.test/feed", ("venue.test", 80, False)),
        ("wss://venue.test/feed?a=b", ("venue.test", 443, True)),
        ("https://venue.test:8443", ("venue.test", 8443, True)),
        ("http://[::1]:8080/x", ("::1", 8080, False)),
        ("no url at all", ("", 0, False)),
    ],
)
def test_host_port_and_tls_of_a_url(url, expected):
    assert host_and_port(url) == expected


# --- URLs of proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown", "credentials"),
    [
        ("http://proxy.desk:3128", "http://proxy.desk:3128", None),
        ("HTTP://Proxy.Desk/", "http://proxy.desk:80", None),
        ("socks5://10.0.0.1", "socks5://10.0.0.1:1080", None),
        ("socks5h://[fd00::1]:9", "socks5://[fd00::1]:9", None),
        ("http://desk:a%3Ab%2Fc@proxy:1", "http://proxy:1", ("desk", "a:b/c")),
        ("http://desk@proxy:1", "http://proxy:1", ("desk", "")),
    ],
)
def test_url_of_a_proxy(url, shown, credentials):
    proxy = parse_proxy(url, "environment:X")
    assert (str(proxy), proxy.credentials, proxy.source) == (shown, credentials, "environment:X")
    assert "a:b/c" not in repr(proxy)
    assert "a:b/c" not in repr(DialOptions(ProxyRules.always(proxy)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy.desk:3128",
        "https://proxy.desk:3128",
        "socks4://proxy.desk:1080",
        "http://",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy:secret",
        "http://proxy:1/path",
        "http://proxy:1?secret",
        "http://proxy:1#secret",
        "http://pro xy:1",
        "http://pro\x1bxy:1",
        "http://desk:secret/word@proxy:1",
        "http://[::1:1",
    ],
)
def test_what_is_no_url_of_a_proxy_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match=r"^a URL as http://host:port or socks5://host:port$"):
        parse_proxy(url)


# --- the decision -------------------------------------------------------------------------------------------------

ALL = ("wss://venue.test/ws", "https://venue.test", "ws://venue.test", "http://venue.test:8080/x")
LOOPBACK = (
    *("ws://127.0.0.1:1", "https://127.9.9.9", "http://[::1]:8080", "wss://[::ffff:127.0.0.1]/x"),
    *("wss://localhost", "wss://LOCALHOST.", "https://sim.localhost:1"),
)
#: Names and addresses that only look like loopback.
BEYOND = (
    "wss://localhost.venue.test",
    "wss://notlocalhost",
    "wss://128.0.0.1",
    "https://[::2]",
    "wss://0127.0.0.1.test",
)


@pytest.mark.parametrize("url", [*ALL, *BEYOND])
def test_explicit_proxy_is_for_every_venue(url):
    assert ProxyRules.always(PROXY).proxy_for(url) is PROXY
    assert DialOptions(ProxyRules.always(PROXY)).proxy_for(url) is PROXY


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_is_never_proxied(url):
    assert ProxyRules.always(PROXY).proxy_for(url) is None
    rules, _ = environment_rules({"ALL_PROXY": "http://a:1", "http_proxy": "http://b:1", "HTTPS_PROXY": "http://c:1"})
    assert rules.proxy_for(url) is None


def test_without_rules_there_is_no_proxy():
    assert [ProxyRules().proxy_for(url) for url in ALL] == [None] * 4
    assert DialOptions().proxy_for(ALL[0]) is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, [None, None, None, None]),
        ({"HTTPS_PROXY": "http://up:1"}, ["up", "up", None, None]),
        ({"https_proxy": "http://low:1"}, ["low", "low", None, None]),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, ["low", "low", None, None]),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://up:1"}, ["up", "up", None, None]),
        ({"http_proxy": "http://low:1"}, [None, None, "low", "low"]),
        ({"HTTP_PROXY": "http://up:1"}, [None, None, None, None]),
        ({"ALL_PROXY": "socks5://all"}, ["all", "all", "all", "all"]),
        ({"all_proxy": "socks5://low", "ALL_PROXY": "socks5://up"}, ["low", "low", "low", "low"]),
        ({"ALL_PROXY": "socks5://all", "HTTPS_PROXY": "http://up:1"}, ["up", "up", "all", "all"]),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, [None, None, None, None]),
        ({"HTTPS_PROXY": "bare.proxy:3128"}, ["bare.proxy", "bare.proxy", None, None]),
    ],
)
def test_variables_of_the_environment(environ, expected):
    rules, problems = environment_rules(environ)
    found = [rules.proxy_for(url) for url in ALL]
    assert [proxy and proxy.host for proxy in found] == expected
    assert problems == []


def test_proxy_of_a_variable_names_its_source_and_keeps_its_credentials():
    rules, _ = environment_rules({"https_proxy": "", "HTTPS_PROXY": "http://desk:sesame@proxy:1"})
    proxy = rules.proxy_for("wss://venue.test")
    assert (proxy.source, proxy.credentials) == ("environment:HTTPS_PROXY", ("desk", "sesame"))


def test_invalid_variable_is_one_mistake_that_repeats_nothing():
    rules, problems = environment_rules({"ALL_PROXY": "https://desk:sesame@proxy:1", "http_proxy": "http://b:1"})
    what = "what is given will not do; it takes a URL as http://host:port or socks5://host:port"
    assert problems == [f"environment:ALL_PROXY: {what} (network.proxy has precedence)"]
    assert rules.proxy_for("ws://venue.test").host == "b"


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("*", "wss://venue.test", True),
        ("other.test, *", "wss://venue.test", True),
        ("venue.test", "wss://venue.test/ws", True),
        ("venue.test", "wss://api.venue.test", True),
        ("venue.test", "wss://myvenue.test", False),
        (".venue.test", "wss://venue.test", True),
        (".venue.test", "wss://api.venue.test.", True),
        ("*.venue.test", "wss://api.venue.test", True),
        ("api.venue.test", "wss://venue.test", False),
        ("VENUE.test", "wss://Venue.TEST", True),
        ("venue.test.", "wss://venue.test", True),
        ("a.test,b.test , venue.test", "wss://venue.test", True),
        ("a.test venue.test", "wss://venue.test", True),
        ("venue.test:443", "wss://venue.test", True),
        ("venue.test:443", "wss://venue.test:8443", False),
        (".venue.test:8443", "https://api.venue.test:8443", True),
        ("192.0.2.7", "wss://192.0.2.7", True),
        ("192.0.2.7", "wss://192.0.2.70", False),
        ("192.0.2.7:443", "wss://192.0.2.7", True),
        ("192.0.2.7:80", "wss://192.0.2.7", False),
        ("192.0.2.0/24", "wss://192.0.2.7", True),
        ("192.0.2.1/24", "wss://192.0.2.7", True),
        ("192.0.2.0/24", "wss://192.0.3.7", False),
        ("192.0.2.0/24", "wss://[::ffff:192.0.2.7]", True),
        ("192.0.2.0/24", "wss://192.0.2.7.test", False),
        ("2001:db8::/32", "wss://[2001:db8::5]", True),
        ("2001:db8::5", "wss://[2001:db8::5]:8443", True),
        ("[2001:db8::5]", "wss://[2001:db8::5]", True),
        ("[2001:db8::5]:443", "wss://[2001:db8::5]", True),
        ("[2001:db8::5]:1", "wss://[2001:db8::5]", False),
        ("2001:db8::/32", "wss://192.0.2.7", False),
        (",", "wss://venue.test", False),
        (".", "wss://venue.test", False),
        ("", "wss://venue.test", False),
        ("localhost,127.0.0.1", "wss://venue.test", False),
    ],
)
def test_hosts_that_no_proxy_is_for(no_proxy, url, is_direct):
    for variable in ("no_proxy", "NO_PROXY"):
        rules, problems = environment_rules({"ALL_PROXY": "http://proxy:1", variable: no_proxy})
        assert (rules.proxy_for(url) is None) is is_direct
        assert problems == []


def test_explicit_proxy_is_for_hosts_of_no_proxy_as_well():
    assert ProxyRules.always(PROXY).direct == ()
