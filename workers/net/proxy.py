"""Proxies: which of them a URL is reached through. Pure.

Hosts on loopback are always reached directly. An explicit setting applies to all other hosts. Without one, the
customary variables do, as curl reads them: ``https_proxy`` (wss and https), ``http_proxy`` (ws and http), ``all_proxy``
and ``no_proxy``; also in capitals, except ``HTTP_PROXY``, which a client of a web server could set by a header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_DEFAULT_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_SECURE: Final = frozenset({"wss", "https"})
#: Scheme of a proxy's URL to its protocol; socks5h asks for what always applies, names resolved by the proxy.
_PROTOCOLS: Final = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}
_PROXY_PORTS: Final = {"http": 80, "socks5": 1080}
_EXPECTED: Final = "a URL as http://host:port or socks5://host:port"
#: Variables by the scheme of the URL to reach; the first that is set applies.
_SECURE_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_PLAIN_VARIABLES: Final = ("http_proxy", "all_proxy", "ALL_PROXY")
_DIRECT_VARIABLES: Final = ("no_proxy", "NO_PROXY")
#: ``host``, ``host:port``, ``[address]:port``; anything else is an address or a network.
_WITH_PORT: Final = re.compile(r"(?:\[(?P<address>[^\]]+)\]|(?P<name>[^:]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Proxy by its URL; neither ``str`` nor ``repr`` shows credentials.

    Attributes:
        protocol: ``http`` (CONNECT) or ``socks5``.
        auth_file: File with ``user:password``, read at each connection.
        credentials: User and password, of a variable's URL.
        source: Setting or variable that names it.
    """

    protocol: str
    host: str
    port: int
    auth_file: str | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.protocol}://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """Proxy by the scheme of a URL, and the entries of ``no_proxy``: hosts to reach directly."""

    by_scheme: Mapping[str, Proxy] = field(default_factory=dict)
    direct: tuple[str, ...] = ()

    @classmethod
    def always(cls, proxy: Proxy) -> ProxyRules:
        """Return rules that use one proxy for every scheme."""
        return cls(dict.fromkeys(_DEFAULT_PORTS, proxy))

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy to reach a URL through; None to connect directly."""
        host, port, _ = host_and_port(url)
        proxy = self.by_scheme.get(urlsplit(url).scheme)
        is_direct = proxy is None or _is_local(host) or any(_matches(entry, host, port) for entry in self.direct)
        return None if is_direct else proxy


@dataclass(frozen=True, slots=True)
class DialOptions:
    """Way to reach a venue.

    Attributes:
        proxies: Proxies, by URL.
        ca_file: PEM file of the only authorities to trust; None for the system's.
        source_address: Address of this machine to connect from; None for the system's choice.
    """

    proxies: ProxyRules = field(default_factory=ProxyRules)
    ca_file: str | None = None
    source_address: str | None = None

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy to reach a URL through; None to connect directly."""
        return self.proxies.proxy_for(url)


DIRECT: Final = DialOptions()


def host_and_port(url: str) -> tuple[str, int, bool]:
    """Return host and port of a URL, and True when it uses TLS."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0), parts.scheme in _SECURE


def bracketed(host: str) -> str:
    """Return a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def parse_proxy(url: str, source: str = "") -> Proxy:
    """Return the proxy that a URL names; raise ValueError with what is expected, which never repeats the URL."""
    try:
        parts = urlsplit(url)
        protocol, host, port = _PROTOCOLS.get(parts.scheme), parts.hostname, parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    is_bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    if protocol is None or not host or port == 0 or not is_bare or not _is_host(host):
        raise ValueError(_EXPECTED)
    has_login = parts.username is not None or parts.password is not None
    credentials = (unquote(parts.username or ""), unquote(parts.password or "")) if has_login else None
    return Proxy(protocol, host, port or _PROXY_PORTS[protocol], None, credentials, source)


def environment_rules(environ: Mapping[str, str]) -> tuple[ProxyRules, list[str]]:
    """Return the rules of the customary variables, and a line for each variable that is invalid."""
    found: dict[str, Proxy] = {}
    problems: dict[str, str] = {}
    for scheme in _DEFAULT_PORTS:
        variable = _first(environ, _SECURE_VARIABLES if scheme in _SECURE else _PLAIN_VARIABLES)
        if variable is None:
            continue
        value = environ[variable].strip()
        try:
            found[scheme] = parse_proxy(value if "://" in value else f"http://{value}", f"environment:{variable}")
        except ValueError as error:
            what = f"environment:{variable}: what is given will not do; it takes {error}"
            problems[variable] = f"{what} (network.proxy has precedence)"
    variable = _first(environ, _DIRECT_VARIABLES)
    direct = tuple(re.split(r"[\s,]+", environ[variable].strip(" ,").lower())) if variable is not None else ()
    return ProxyRules(found, direct), list(problems.values())


def variables_with_credentials(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the customary variables whose URLs contain credentials, also of one that is not used."""
    names = {*_SECURE_VARIABLES, *_PLAIN_VARIABLES, "HTTP_PROXY"}
    return sorted(name for name in names if "@" in environ.get(name, ""))


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if environ.get(name, "").strip()), None)


def _is_host(host: str) -> bool:
    return host.isprintable() and not re.search(r"\s", host)


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_local(host: str) -> bool:
    address = _address(host)
    name = host.rstrip(".")
    return address.is_loopback if address is not None else name == "localhost" or name.endswith(".localhost")


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of ``no_proxy`` covers a host: its name, a domain above it, its address or network."""
    if entry == "*":
        return True
    parts = _WITH_PORT.fullmatch(entry)
    name = (parts["address"] or parts["name"]) if parts is not None else entry
    if parts is not None and parts["port"] is not None and int(parts["port"]) != port:
        return False
    address = _address(host)
    if address is not None:
        return _is_within(address, name)
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and f".{host.rstrip('.')}".endswith(f".{domain}")


def _is_within(address: _Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
