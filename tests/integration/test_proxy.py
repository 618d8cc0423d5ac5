"""Whole systems whose only way to the venues is a proxy: everything goes through it, public and private, with TLS."""

from __future__ import annotations

import os
import signal
import time
from urllib.parse import quote, urlsplit

import psutil
import pytest
from proxies import ProxyServer
from simproc import SimulatorProcess, make_settings
from systems import VENUES, System, paraphina, wait_for

from simulator.accounts.credentials import (
    ASTER_KEY,
    ASTER_SECRET,
    EXTENDED_KEY,
    HYPERLIQUID_ADDRESS,
    LIGHTER_ACCOUNT,
    LIGHTER_KEY_INDEX,
    PARADEX_ACCOUNT,
    JwtIssuer,
    TokenIssuer,
)

pytestmark = pytest.mark.integration

USER, PASSWORD = "desk", "open-sesame:4711"
#: Variables that the machine of these tests may have set.
NO_VARIABLES = dict.fromkeys(
    ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"), ""
)


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """All venues over TLS, with certificates for names that only the proxy can resolve."""
    ca_path = tmp_path_factory.mktemp("authority") / "ca.pem"
    settings = make_settings(
        tls=True, ca_path=str(ca_path), names=tuple(f"{venue}.example" for venue in VENUES), rate=10
    )
    with SimulatorProcess(settings) as process:
        yield process


def named(url, venue):
    """The URL of a simulated venue by a name of its own."""
    return url.replace("127.0.0.1", f"{venue}.example")


def configured(sim, *lines, venues=VENUES, account=True):
    """A configuration that leads to the simulator by names."""
    sections = ["[network]\n", *(f"{line}\n" for line in lines)]
    for venue in venues:
        sections.append(
            f'[venues.{venue}]\nws_url = "{named(sim.urls[venue].ws, venue)}"\n'
            f'rest_url = "{named(sim.urls[venue].rest, venue)}"\n'
        )
        sections += ['account = "desk"\n'] if account else []
    return "".join(sections)


def credentials():
    """Credentials of the simulated accounts."""
    until = int(time.time()) + 8 * 3600
    return {
        "HL_VAULT_ADDRESS": HYPERLIQUID_ADDRESS,
        "ASTER_API_KEY": ASTER_KEY,
        "ASTER_API_SECRET": ASTER_SECRET,
        "EXTENDED_API_KEY": EXTENDED_KEY,
        "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
        "LIGHTER_AUTH_TOKEN": TokenIssuer(1, LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX).issue(until),
        "PARADEX_JWT": JwtIssuer(1).issue(PARADEX_ACCOUNT, time.time(), 8 * 3600),
    }


def auth_file(tmp_path):
    path = tmp_path / "proxy.auth"
    path.touch(mode=0o600)
    path.write_text(f"{USER}:{PASSWORD}\n")
    return path


def peers(system, *venues):
    """Ports that these workers are connected to by TCP."""
    connections = [of for venue in venues for of in psutil.Process(system.pid(venue)).net_connections("tcp")]
    return {connection.raddr.port for connection in connections if connection.raddr}


def all_live(system):
    """True when public and private streams of every venue are live."""
    return all(
        found["state"] == "live" and found["streams"]["account"]["state"] == "live"
        for found in system.status()["venues"].values()
    )


def test_five_venues_with_accounts_go_live_through_http_and_through_socks5(sim, tmp_path):
    path = auth_file(tmp_path)
    env = {**NO_VARIABLES, **credentials()}
    ca_file = f'ca_file = "{sim.settings.ca_path}"'
    with ProxyServer("http", (USER, PASSWORD)) as http, ProxyServer("socks5", (USER, PASSWORD)) as socks5:

        def system(proxy):
            lines = (f'proxy = "{proxy.url}"', f'proxy_auth_file = "{path}"', ca_file)
            return System(config=configured(sim, *lines), env=env, sim=False)

        with system(http) as by_http, system(socks5) as by_socks5:
            for each, proxy in ((by_http, http), (by_socks5, socks5)):
                each.wait_live()
                wait_for(lambda e=each: all_live(e), 60, what=f"accounts; log: {each.path / 'log'}")
                wanted = {
                    (f"{venue}.example", urlsplit(url).port)
                    for venue, urls in sim.urls.items()
                    for url in (urls.ws, urls.rest)
                }
                assert set(proxy.asked) == wanted
                assert peers(each, *VENUES) == {proxy.port}
                assert proxy.refused == 0
                assert {of["proxy"] for of in each.status()["venues"].values()} == {proxy.url}
                assert not each.log(level="error")
                assert PASSWORD not in (each.path / "log").read_text()


def test_the_customary_variables_lead_through_a_proxy_that_may_fail_and_return(sim):
    venues = ("hyperliquid", "lighter")
    config = configured(sim, venues=venues, account=False) + "[health]\nhealthy_threshold_ms = 100\n"
    proxy = ProxyServer("http", (USER, PASSWORD))
    env = {
        **NO_VARIABLES,
        "HTTPS_PROXY": f"http://{USER}:{quote(PASSWORD)}@127.0.0.1:{proxy.port}",
        "NO_PROXY": ".elsewhere.example",
        "SSL_CERT_FILE": sim.settings.ca_path,
    }

    def shown(verb, *arguments):
        done = paraphina(verb, *arguments, "--run-dir", str(system.run_dir.path), env=system.env)
        return done.returncode, done.stdout.decode()

    with System("--venues", ",".join(venues), config=config, env=env, sim=False) as system:
        with proxy:
            system.wait_live(venues)
            assert f"  proxy {proxy.url}" in shown("status", "--streams")[1]
            before = {venue: system.pid(venue) for venue in venues}
        check = ("check", "--config", str(system.path / "config.toml"))
        code, text = shown(*check)
        assert code == 1
        assert f"ok   lighter is reached through {proxy.url} (environment:HTTPS_PROXY)" in text
        assert f"FAIL proxy {proxy.url} accepts connections: 127.0.0.1:{proxy.port} refuses connections" in text
        for venue in venues:
            wait_for(lambda v=venue: system.venue(v)["streams"]["book"]["reason"] == "proxy_failed")
        assert not any(system.venue(venue)["outage"] for venue in venues)
        with ProxyServer("http", (USER, PASSWORD), proxy.port):
            system.wait_live(venues)
            assert f"ok   proxy {proxy.url} accepts connections" in shown(*check)[1]
            assert {venue: system.pid(venue) for venue in venues} == before
            with ProxyServer("socks5") as other:
                path = system.path / "config.toml"
                own = f'[venues.lighter]\nproxy = "{other.url}"\n'
                path.write_text(path.read_text().replace("[venues.lighter]\n", own))
                system.process.send_signal(signal.SIGHUP)
                wait_for(lambda: sum(other.asked.values()) and system.venue("lighter")["proxy"] == other.url)
                system.wait_live(venues)
                assert system.pid("hyperliquid") == before["hyperliquid"]
                assert peers(system, "lighter") == {other.port}
        described = system.run_dir.description.read_text()
        for text in ((system.path / "log").read_text(), described, shown("status", "--json")[1]):
            assert PASSWORD not in text
            assert quote(PASSWORD) not in text


def test_without_the_proxy_check_names_what_is_missing(sim, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(configured(sim, venues=["lighter"], account=False))
    arguments = ("--live", "--for", "1", "--config", str(path), "--run-dir", str(tmp_path / "run"))
    env = {**os.environ, **NO_VARIABLES, "SSL_CERT_FILE": sim.settings.ca_path, "PARAPHINA_VENUES": "lighter"}
    done = paraphina("check", *arguments, env=env)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.decode().splitlines() if line.startswith("FAIL lighter at ")]
    assert "cannot resolve lighter.example" in line
    assert line.endswith("(where only a proxy leads out, name it in network.proxy or HTTPS_PROXY)")
