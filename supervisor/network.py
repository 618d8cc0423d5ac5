"""Settings of the way to the venues (proxy, its credentials, authorities, source address), and of feeds on TCP.

Each setting of a way exists for the system (``[network]``), for a venue and for its line b; the nearest one has
precedence.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ipc.errors import ConfigError
from ipc.lines import LINES, process_of
from ipc.remote import Network, ports_of
from supervisor.setting_checks import absolute_path
from workers.net.proxy import DialOptions, ProxyRules, environment_rules, parse_proxy
from workers.net.tunnel import read_credentials


def proxy_url(raw: object) -> str:
    """Check the URL of a proxy; empty for none."""
    if raw == "":
        return ""
    proxy = parse_proxy(raw if isinstance(raw, str) else "")
    if proxy.credentials is not None:
        raise ValueError("a URL without user and password: put them into a file and name it in proxy_auth_file")
    return str(proxy)


def auth_file(raw: object) -> str:
    """Check that a file with user and password can be read by us alone."""
    try:
        read_credentials(path := absolute_path(raw))
    except ValueError as error:
        raise ValueError(f"a file with one line user:password; {error}") from None
    return path


def ca_file(raw: object) -> str:
    """Check that a file holds certificates of authorities."""
    path, context = absolute_path(raw), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:
        what = "no certificate is in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"a PEM file with certificates of authorities ({what})") from None
    if not context.cert_store_stats()["x509"]:
        raise ValueError("a PEM file with certificates of authorities (no certificate is in it)")
    return path


def source_address(raw: object) -> str:
    """Check the form of an address; this machine may get it later."""
    try:
        return str(ipaddress.ip_address(str(raw)))
    except ValueError:
        raise ValueError("an IP address of this machine, as 192.0.2.7") from None


def feed_network(feeds: Mapping[str, Any], venues: Iterable[str], second: Mapping[str, int | None]) -> Network | None:
    """Return address and ports of the feeds on TCP; None without any.

    Args:
        feeds: Values of ``[feeds]``.
        venues: Venues of the system.
        second: Own port of the line b of each venue that has one, None for the next free one.

    Raises:
        ConfigError: The port of a line is taken, or too high.
    """
    if not feeds["tcp"]:
        return None
    keys = {process_of(venue, LINES[-1]): f"venues.{venue}.line_b.tcp_port" for venue in second}
    own = {process_of(venue, LINES[-1]): port for venue, port in second.items()}
    try:
        ports = ports_of(feeds["tcp_port"], {**dict.fromkeys(venues), **own})
    except ConfigError as error:
        parts = (problem.partition(": ") for problem in error.problems)
        raise ConfigError([f"{keys[name]}: {text}" for name, _, text in parts]) from None
    return Network(feeds["tcp"], feeds["tcp_port"], feeds["curve_dir"], ports)


@dataclass(frozen=True, slots=True)
class _Way:
    """Settings in effect; ``key`` is where the proxy was set."""

    proxy: str | None
    auth_file: str | None
    ca_file: str | None
    source_address: str | None
    key: str = "network"

    def with_own(self, own: Mapping[str, Any], key: str) -> _Way:
        """Return the settings of a venue, or of a line of it, which inherits what it does not set itself."""
        if own["proxy"] is None:
            proxy, auth_file, key = self.proxy, own["proxy_auth_file"] or self.auth_file, self.key
        else:
            # Credentials go to the proxy that they were set for, never to another one.
            proxy, auth_file = own["proxy"], own["proxy_auth_file"]
        return _Way(proxy, auth_file, own["ca_file"] or self.ca_file, own["source_address"] or self.source_address, key)


def dial_options(
    shared: Mapping[str, Any],
    per_venue: Mapping[str, Mapping[str, Any]],
    second: Mapping[str, Mapping[str, Any]],
    environ: Mapping[str, str],
    sources: Mapping[str, str],
) -> tuple[dict[str, tuple[DialOptions, DialOptions]], list[str]]:
    """Return the ways of both lines to each venue, and the mistakes.

    Args:
        shared: Values of ``[network]``.
        per_venue: Values by venue.
        second: Values of line b by venue.
        environ: Environment, whose customary variables apply where no ``proxy`` is set.
        sources: Source by dotted key.
    """
    problems: list[str] = []
    customary = ProxyRules()
    if shared["proxy"] is None:
        customary, problems = environment_rules(environ)
    base = _Way(shared["proxy"], shared["proxy_auth_file"], shared["ca_file"], shared["source_address"])
    without_proxy = [] if base.proxy or not base.auth_file else ["network.proxy_auth_file"]
    options = {}
    for name, own in per_venue.items():
        first_key, second_key = f"venues.{name}", f"venues.{name}.line_b"
        first = base.with_own(own, first_key)
        both = ((first, own, first_key), (first.with_own(second[name], second_key), second[name], second_key))
        without_proxy += [
            f"{key}.proxy_auth_file" for way, given, key in both if given["proxy_auth_file"] and not way.proxy
        ]
        options[name] = (_options(both[0][0], customary, sources), _options(both[1][0], customary, sources))
    problems += [f"{sources[key]}: there is no proxy; set {key.removesuffix('_auth_file')}" for key in without_proxy]
    return options, problems


def _options(way: _Way, customary: ProxyRules, sources: Mapping[str, str]) -> DialOptions:
    rules = customary if way.proxy is None else _explicit(way.proxy, way.auth_file, sources[f"{way.key}.proxy"])
    return DialOptions(rules, way.ca_file, way.source_address)


def _explicit(url: str, path: str | None, source: str) -> ProxyRules:
    if not url:
        return ProxyRules()
    return ProxyRules.always(replace(parse_proxy(url, source), auth_file=path))
