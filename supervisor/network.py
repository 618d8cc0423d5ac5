"""Settings of the way to the venues: proxy, its credentials, authorities and source address.

Each setting exists for the system (``[network]``) and for a venue, whose own one has precedence.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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


def dial_options(
    shared: Mapping[str, Any],
    per_venue: Mapping[str, Mapping[str, Any]],
    environ: Mapping[str, str],
    sources: Mapping[str, str],
) -> tuple[dict[str, DialOptions], list[str]]:
    """Return the way to each venue, and the mistakes.

    Args:
        shared: Values of ``[network]``.
        per_venue: Values by venue.
        environ: Environment, whose customary variables apply where no ``proxy`` is set.
        sources: Source by dotted key.
    """
    problems: list[str] = []
    customary = ProxyRules()
    if shared["proxy"] is None:
        customary, problems = environment_rules(environ)
    without_proxy = [] if shared["proxy"] or not shared["proxy_auth_file"] else ["network.proxy_auth_file"]
    options = {}
    for name, own in per_venue.items():
        section = f"venues.{name}" if own["proxy"] is not None else "network"
        url = shared["proxy"] if own["proxy"] is None else own["proxy"]
        rules = customary
        if url is not None:
            # Credentials go to the proxy that they were set for, never to a venue's other one.
            inherited = shared["proxy_auth_file"] if own["proxy"] is None else None
            rules = _explicit(url, own["proxy_auth_file"] or inherited, sources[f"{section}.proxy"])
        if own["proxy_auth_file"] and not url:
            without_proxy.append(f"venues.{name}.proxy_auth_file")
        options[name] = DialOptions(
            rules, own["ca_file"] or shared["ca_file"], own["source_address"] or shared["source_address"]
        )
    problems += [f"{sources[key]}: there is no proxy; set {key.removesuffix('_auth_file')}" for key in without_proxy]
    return options, problems


def _explicit(url: str, path: str | None, source: str) -> ProxyRules:
    if not url:
        return ProxyRules()
    return ProxyRules.always(replace(parse_proxy(url, source), auth_file=path))
