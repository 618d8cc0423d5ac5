"""Feeds over TCP: their addresses, and the keys of a client.

TCP is off by default, on loopback without keys, and beyond it only with CURVE; :mod:`ipc.listener` serves it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import zmq

from ipc.certificates import load_certificate, load_secret
from ipc.errors import UsageError
from ipc.lines import LINES, process_of, venue_of
from ipc.topics import FEED_PORTS

#: Reconnecting to another machine: the first delay, and the limit of its doubling, ms.
_RECONNECT_MS: Final = 100
_RECONNECT_MAX_MS: Final = 1000
#: Limit of a connection attempt, and of its handshake, ms.
_ATTEMPT_MS: Final = 3000
#: Interval of pings, and time to the answer, ms; without them a connection that a network drops silently stays open.
_PING_MS: Final = 2000
_PONG_MS: Final = 5000
_OPTIONS: Final = (
    (zmq.RECONNECT_IVL, _RECONNECT_MS),
    (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS),
    (zmq.CONNECT_TIMEOUT, _ATTEMPT_MS),
    (zmq.HANDSHAKE_IVL, _ATTEMPT_MS),
    (zmq.HEARTBEAT_IVL, _PING_MS),
    (zmq.HEARTBEAT_TIMEOUT, _PONG_MS),
)


def is_loopback(host: str) -> bool:
    """Return whether an address is a loopback address: ``127.0.0.1``, ``::1``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


#: Offset of a venue's account port from the port of its feed.
_ACCOUNT_PORTS: Final = 6
#: Offset of the ports of the lines b, two for each venue: its feed and its account.
_SECOND_LINES: Final = 11


def port_of(name: str, first: int, *, account: bool = False) -> int:
    """Return the TCP port of a feed (a venue's, its line b's or ``lifecycle``), or of its account feed.

    Raises:
        UsageError: There is no such feed.
    """
    venue = venue_of(name)
    if venue not in FEED_PORTS or name not in {venue, process_of(venue, LINES[-1])}:
        raise UsageError(f"no feed {name!r}", advice=f"there are {', '.join(FEED_PORTS)}")
    if name != venue:
        return first + _SECOND_LINES + 2 * FEED_PORTS[venue] + account
    return first + FEED_PORTS[name] + _ACCOUNT_PORTS * account


@dataclass(frozen=True, slots=True)
class Network:
    """TCP address of a system's feeds.

    Attributes:
        host: Address to listen on.
        port: First port; see :func:`port_of`.
        curve_dir: Directory of the keys; None for no encryption.
    """

    host: str
    port: int
    curve_dir: str | None = None


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Keys of a client for an encrypted feed."""

    server_public: bytes
    public: bytes
    secret: bytes = field(repr=False)

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Use these keys for later connections of a socket."""
        socket.curve_serverkey = self.server_public
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret


def load_client_keys(server_public: str | Path, own_secret: str | Path) -> ClientKeys:
    """Load the certificates of the server (public part) and of the client (with its secret).

    Raise ConfigError when one cannot be read, or others can read the secret.
    """
    return ClientKeys(load_certificate(Path(server_public)).public, *load_secret(Path(own_secret)))


@dataclass(frozen=True, slots=True)
class Remote:
    """System that is reached over TCP; its feeds listen there as :class:`Network` describes."""

    host: str
    port: int
    keys: ClientKeys | None = None

    def endpoint(self, name: str, *, account: bool = False) -> str:
        """Return the ZeroMQ endpoint of a venue's feed, or of its account feed."""
        return f"tcp://{_bracketed(self.host)}:{port_of(name, self.port, account=account)}"

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Set a socket up for connections to this system: keys, time limits, and IPv6 for an IPv6 address."""
        socket.ipv6 = is_ipv6(self.host)
        for option, value in _OPTIONS:
            socket.setsockopt(option, value)
        if self.keys is not None:
            self.keys.apply(socket)


def is_ipv6(host: str) -> bool:
    """Return whether an address is an IPv6 one; with the option set ZeroMQ would resolve names to IPv6 only."""
    return ":" in host


def _bracketed(host: str) -> str:
    return f"[{host}]" if is_ipv6(host) else host
