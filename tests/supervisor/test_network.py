"""Settings of the way to the venues: which proxy, whose credentials, which authorities; and every mistake."""

from __future__ import annotations

import certifi
import pytest

from ipc.errors import ConfigError
from supervisor.config import load
from supervisor.rollout import compare

VENUE_URLS = ("wss://venue.test", "https://venue.test")


@pytest.fixture
def auth_file(tmp_path):
    def write(text="desk:planted", mode=0o600, name="auth"):
        path = tmp_path / name
        path.touch(mode=mode)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "paraphina.toml"
        path.write_text(text)
        return str(path)

    return write


def mistakes(path, environ=None):
    with pytest.raises(ConfigError) as wrong:
        load(path, environ or {}, {})
    return wrong.value.problems


def proxy_of(config, venue):
    """The one proxy for all URLs of a venue."""
    (found,) = {config.venues[venue].dial.proxy_for(url) for url in VENUE_URLS}
    return found


def shown(config, *venues):
    return [proxy and str(proxy) for proxy in (proxy_of(config, venue) for venue in venues)]


# --- which proxy --------------------------------------------------------------------------------------------------


def test_venue_over_system_over_environment(write):
    environ = {"HTTPS_PROXY": "http://env:1"}
    assert shown(load(None, {}, {}), "aster") == [None]
    assert shown(load(None, environ, {}), "aster") == ["http://env:1"]
    path = write('[network]\nproxy = "http://sys:1"\n[venues.lighter]\nproxy = "socks5://own"\n')
    config = load(path, environ, {})
    assert shown(config, "aster", "lighter") == ["http://sys:1", "socks5://own:1080"]
    assert proxy_of(config, "aster").source == f"{path}:network.proxy"
    assert proxy_of(config, "lighter").source == f"{path}:venues.lighter.proxy"


def test_empty_switches_off_what_else_applied(write):
    environ = {"HTTPS_PROXY": "http://env:1"}
    assert shown(load(write('[network]\nproxy = ""\n'), environ, {}), "aster") == [None]
    path = write('[network]\nproxy = ""\n[venues.lighter]\nproxy = "http://own:1"\n')
    assert shown(load(path, environ, {}), "aster", "lighter") == [None, "http://own:1"]
    path = write('[network]\nproxy = "http://sys:1"\n[venues.lighter]\nproxy = ""\n')
    assert shown(load(path, environ, {}), "aster", "lighter") == ["http://sys:1", None]
    path = write('[venues.lighter]\nproxy = ""\n')
    assert shown(load(path, environ, {}), "aster", "lighter") == ["http://env:1", None]


def test_no_proxy_is_for_the_environments_proxy_alone(write):
    environ = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "*"}
    assert shown(load(None, environ, {}), "aster") == [None]
    assert shown(load(write('[network]\nproxy = "http://sys:1"\n'), environ, {}), "aster") == ["http://sys:1"]


def test_invalid_variable_is_a_mistake_unless_a_setting_has_precedence(write):
    environ = {"ALL_PROXY": "socks4://desk:planted@env"}
    (mistake,) = mistakes(None, environ)
    assert mistake.startswith("environment:ALL_PROXY: what is given will not do; it takes a URL as http://host:port")
    assert "planted" not in mistake
    assert shown(load(write('[network]\nproxy = ""\n'), environ, {}), "aster") == [None]


@pytest.mark.parametrize("value", ['"http://desk:planted@proxy:1"', '"http://desk@proxy:1"'])
@pytest.mark.parametrize("section", ["network", "venues.lighter"])
def test_credentials_in_the_url_are_refused_with_advice_and_not_shown(write, section, value):
    path = write(f"[{section}]\nproxy = {value}\n")
    (mistake,) = mistakes(path)
    head, _, advice = mistake.partition(": put ")
    assert head == f"{path}:{section}.proxy: what is given will not do; it takes a URL without user and password"
    assert advice == "them into a file and name it in proxy_auth_file"


@pytest.mark.parametrize("value", ['"proxy:3128"', '"https://proxy"', "7", '"http://"'])
def test_what_is_no_proxy(write, value):
    path = write(f"[network]\nproxy = {value}\n")
    (mistake,) = mistakes(path)
    assert mistake.endswith("will not do; it takes a URL as http://host:port or socks5://host:port")


# --- credentials --------------------------------------------------------------------------------------------------


def test_file_of_the_system_or_of_a_venue(write, auth_file):
    shared, own = auth_file(), auth_file(name="own")
    path = write(f'[network]\nproxy = "http://sys:1"\nproxy_auth_file = "{shared}"\n')
    config = load(path, {"PARAPHINA_LIGHTER_PROXY_AUTH_FILE": own}, {})
    assert (proxy_of(config, "aster").auth_file, proxy_of(config, "lighter").auth_file) == (shared, own)
    assert "planted" not in repr(config)


def test_credentials_never_go_to_another_proxy_than_theirs(write, auth_file):
    shared = auth_file()
    path = write(
        f'[network]\nproxy = "http://sys:1"\nproxy_auth_file = "{shared}"\n[venues.lighter]\nproxy = "http://own:1"\n'
    )
    assert proxy_of(load(path, {}, {}), "lighter").auth_file is None


@pytest.mark.parametrize("section", ["network", "venues.lighter"])
@pytest.mark.parametrize("off", ["", 'proxy = ""\n'])
def test_file_without_a_proxy_is_a_mistake(write, auth_file, section, off):
    path = write(f'[{section}]\n{off}proxy_auth_file = "{auth_file()}"\n')
    assert mistakes(path, {"HTTPS_PROXY": "http://env:1"}) == [
        f"{path}:{section}.proxy_auth_file: there is no proxy; set {section}.proxy"
    ]


def test_file_must_be_private_and_hold_a_user_and_a_password(write, auth_file):
    for path, what in (
        (auth_file(mode=0o644), "auth must be yours alone; do: chmod 600 "),
        (auth_file("planted", name="b"), "b must hold one line user:password"),
        ("/nonexistent", "/nonexistent cannot be read: FileNotFoundError"),
        ("", "a path of printable characters"),
    ):
        (mistake,) = mistakes(write(f'[network]\nproxy = "http://sys:1"\nproxy_auth_file = "{path}"\n'))
        assert "proxy_auth_file: " in mistake
        assert "will not do; it takes a file with one line user:password; " in mistake
        assert what in mistake
        assert "planted" not in mistake


# --- authorities and source addresses -----------------------------------------------------------------------------


def test_venue_over_system(write):
    path = write(f'[network]\nsource_address = "192.0.2.7"\n[venues.lighter]\nca_file = "{certifi.where()}"\n')
    venues = load(path, {"PARAPHINA_ASTER_SOURCE_ADDRESS": "192.0.2.8"}, {}).venues
    found = {name: (venues[name].dial.ca_file, venues[name].dial.source_address) for name in ("aster", "lighter")}
    assert found == {"aster": (None, "192.0.2.8"), "lighter": (certifi.where(), "192.0.2.7")}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "No such file or directory"),
        ("", "no certificate is in it"),
        ("no certificate", "no certificate is in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate is in it"),
    ],
)
def test_file_without_certificates(write, tmp_path, text, what):
    ca_file = tmp_path / "ca.pem"
    if text is not None:
        ca_file.write_text(text)
    path = write(f'[network]\nca_file = "{ca_file}"\n')
    expected = f"it takes a PEM file with certificates of authorities ({what})"
    assert mistakes(path) == [f"{path}:network.ca_file: {str(ca_file)!r} will not do; {expected}"]


@pytest.mark.parametrize("value", ['"localhost"', '"10.0.0.0/8"', "7.5", '""'])
def test_what_is_no_address(write, value):
    (mistake,) = mistakes(write(f"[network]\nsource_address = {value}\n"))
    assert mistake.endswith("will not do; it takes an IP address of this machine, as 192.0.2.7")


# --- changes ------------------------------------------------------------------------------------------------------


def test_change_restarts_the_venues_that_it_is_for(write):
    before = load(None, {}, {})
    one = load(write('[venues.lighter]\nproxy = "http://own:1"\n'), {}, {})
    assert compare(before, one).changed == ("lighter",)
    both = load(None, {"HTTPS_PROXY": "http://desk:a@env:1"}, {})
    assert compare(before, both).changed == tuple(before.venues)
    renewed = load(None, {"HTTPS_PROXY": "http://desk:b@env:1"}, {})
    assert compare(both, renewed).changed == tuple(before.venues)
    assert compare(both, load(None, {"https_proxy": "http://desk:a@env:1"}, {})).changed == ()
