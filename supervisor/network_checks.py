"""Checks of the way to the venues: authorities, source addresses, proxies. No venue is contacted."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ipc.health import Reason
from supervisor.config import Config, VenueConfig
from workers.net.dial import ConnectError, bind_source, dial
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DialOptions, Proxy, bracketed, host_and_port
from workers.net.rest import RestError

#: Check, and the problem that it found; None for none.
Finding = tuple[str, str | None]

_ANSWERS_WITHIN_NS: Final = 5_000_000_000
#: Names of the files that OpenSSL finds an authority by.
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.\d+")
#: Failures of a network from which only a proxy leads out.
_NO_WAY_OUT: Final = frozenset({Reason.DNS_FAILED, Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT, Reason.REFUSED})
_CA_ADVICE: Final = "install the package ca-certificates, or name a PEM file in ca_file or SSL_CERT_FILE"


def check_network(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the way to every venue."""
    venues = config.venues.values()
    if any(_uses_tls(venue) and venue.dial.ca_file is None for venue in venues):
        yield "certificates of authorities", _problem_with_authorities(environ)
    for source in dict.fromkeys(venue.dial.source_address for venue in venues):
        if source is not None:
            yield f"source address {source}", _problem_with_source(source)
    yield from _check_proxies(venues)


def advice_for(error: RestError, venue: VenueConfig) -> str:
    """Return what to try after a failed call to a venue that no proxy was used for; empty for nothing."""
    is_cut_off = error.status is None and error.reason in _NO_WAY_OUT and venue.dial.proxy_for(venue.rest_url) is None
    return " (where only a proxy leads out, name it in network.proxy or HTTPS_PROXY)" if is_cut_off else ""


def _uses_tls(venue: VenueConfig) -> bool:
    return any(host_and_port(url)[2] for url in (venue.ws_url, venue.rest_url))


def _problem_with_authorities(environ: Mapping[str, str]) -> str | None:
    """Return why certificates cannot be verified: OpenSSL ignores files and directories that are missing."""
    for variable, exists in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        path = environ.get(variable)
        if path and not any(exists(part) for part in path.split(os.pathsep)):
            return f"{variable} names {path!r}, which does not exist; {_CA_ADVICE}"
    if ssl.create_default_context().cert_store_stats()["x509"]:
        return None
    directory = ssl.get_default_verify_paths().capath
    if directory is not None and any(_HASHED.fullmatch(path.name) for path in Path(directory).iterdir()):
        return None
    return f"there are none; {_CA_ADVICE}"


def _problem_with_source(source: str) -> str | None:
    family = socket.AF_INET if ipaddress.ip_address(source).version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            bind_source(sock, source)
    except OSError as error:
        return str(error)
    return None


def _check_proxies(venues: Iterable[VenueConfig]) -> Iterator[Finding]:
    """Report each venue's proxy and whether it accepts connections; nothing where no proxy is used."""
    used: dict[str, tuple[Proxy, DialOptions]] = {}
    found: dict[str, str] = {}
    for venue in venues:
        proxies = [venue.dial.proxy_for(url) for url in (venue.ws_url, venue.rest_url)]
        used |= {str(proxy): (proxy, venue.dial) for proxy in proxies if proxy is not None}
        ways = dict.fromkeys(_way(proxy) for proxy in proxies)
        found[venue.name] = ", REST ".join(ways)
    if used:
        for name, way in found.items():
            yield f"{name} is reached {way}", None
    for proxy, options in used.values():
        yield f"proxy {proxy} accepts connections", _problem_with_proxy(proxy, options)


def _way(proxy: Proxy | None) -> str:
    return "directly" if proxy is None else f"through {proxy} ({proxy.source})"


def _problem_with_proxy(proxy: Proxy, options: DialOptions) -> str | None:
    interrupter = SocketInterrupter()
    direct = DialOptions(source_address=options.source_address)
    url = f"http://{bracketed(proxy.host)}:{proxy.port}"
    try:
        dial(url, interrupter, time.monotonic_ns() + _ANSWERS_WITHIN_NS, options=direct)
    except ConnectError as error:
        return str(error)
    finally:
        interrupter.close()
    return None
