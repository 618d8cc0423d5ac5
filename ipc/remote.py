"""Feeds over TCP: their addresses, and the keys of a client.

TCP is off by default, on loopback without keys, and beyond it only with CURVE; :mod:`ipc.listener` serves it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq

from ipc.certificates import load_certificate, load_secret
from ipc.errors import ConfigError, UsageError
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


#: Feed without an account.
_LIFECYCLE: Final = "lifecycle"
#: Offset of a venue's account port from the port of its feed.
_ACCOUNT_PORTS: Final = 6
#: Offset of the first port that no venue and not ``lifecycle`` has: five venues, ``lifecycle``, five accounts.
_FIRST_FREE: Final = 11
_MAX_PORT: Final = 65_535


def port_of(name: str, first: int, *, account: bool = False) -> int:
    """Return the TCP port of a feed (venue or ``lifecycle``), or of its account feed; UsageError if unknown."""
    if name not in FEED_PORTS:
        raise UsageError(f"no feed {name!r}", advice=f"there are {', '.join(FEED_PORTS)}")
    return first + FEED_PORTS[name] + _ACCOUNT_PORTS * account


class PortPair(NamedTuple):
    """TCP ports of one process: of its feed, and of its account feed (None for ``lifecycle``)."""

    feed: int
    account: int | None


def ports_of(first: int, processes: Mapping[str, int | None]) -> dict[str, PortPair]:
    """Return the ports of processes, and of ``lifecycle``, by name.

    The venues and ``lifecycle`` have fixed numbers from ``first`` on; they never move. Any other process (a
    line b) has its own number, with its account on the next one; without a number of its own it has the next two free
    ones from ``first + 11`` on, also without an account, so that following one later moves no port.

    Args:
        first: First port of the system.
        processes: Own port of each process (``tcp_port``), None for the next free ones, in the order of the
            configuration. Own ports of the venues are ignored.

    Raises:
        ConfigError: A port is taken, or above 65535; the problems begin with the name of the process.
    """
    pairs = {name: _fixed_ports(name, first) for name in FEED_PORTS}
    taken = {port: name for name, pair in pairs.items() for port in pair if port is not None}
    others = {name: own for name, own in processes.items() if name not in pairs}
    problems: list[str] = []
    for name, own in others.items():
        if own is None:
            continue
        pairs[name] = PortPair(own, own + 1)
        for port in (own, own + 1):
            if port in taken:
                problems.append(f"{name}: TCP port {port} is that of {taken[port]}; choose another tcp_port")
            taken.setdefault(port, name)
    free = _free_ports(first, taken)
    pairs |= {name: PortPair(next(free), next(free)) for name, own in others.items() if own is None}
    problems += [
        f"{name}: TCP port {pair.account} is above {_MAX_PORT}; choose a lower tcp_port"
        for name, pair in pairs.items()
        if pair.account is not None and pair.account > _MAX_PORT
    ]
    if problems:
        raise ConfigError(problems)
    return {name: pairs[name] for name in (*processes, _LIFECYCLE)}


def _fixed_ports(name: str, first: int) -> PortPair:
    return PortPair(port_of(name, first), None if name == _LIFECYCLE else port_of(name, first, account=True))


def _free_ports(first: int, taken: Mapping[int, str]) -> Iterator[int]:
    port = first + _FIRST_FREE
    while True:
        if port not in taken:
            yield port
        port += 1


@dataclass(frozen=True, slots=True)
class Network:
    """TCP address of a system's feeds.

    Attributes:
        host: Address to listen on.
        port: First port; see :func:`port_of`.
        curve_dir: Directory of the keys; None for no encryption.
        ports: Ports by process, as :func:`ports_of` returns them; those that it lacks have fixed numbers.
    """

    host: str
    port: int
    curve_dir: str | None = None
    ports: Mapping[str, PortPair] = field(default_factory=dict)

    def endpoint(self, name: str, *, account: bool = False) -> str:
        """Return the ZeroMQ endpoint of a process's feed, or of its account feed; raise UsageError if unknown."""
        pair = self.ports.get(name)
        port = None if pair is None else pair.account if account else pair.feed
        return tcp_endpoint(self.host, port_of(name, self.port, account=account) if port is None else port)


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
        return tcp_endpoint(self.host, port_of(name, self.port, account=account))

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


def tcp_endpoint(host: str, port: int) -> str:
    """Return the ZeroMQ endpoint of an address; an IPv6 one stands in brackets."""
    return f"tcp://[{host}]:{port}" if is_ipv6(host) else f"tcp://{host}:{port}"
