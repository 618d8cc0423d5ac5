"""Feeds over TCP: off by default, on loopback, and beyond it only with CURVE.

File permissions protect the run directory's sockets. TCP has none, so listening beyond loopback requires keys: the
server's pair, and the public key of each client that may connect (ZeroMQ certificate files, as written by
``zmq.auth.create_certificates``).
"""

from __future__ import annotations

import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from ipc.errors import ConfigError, UsageError
from ipc.topics import FEED_PORTS

_SERVER_KEY: Final = "server.key_secret"
_CLIENTS: Final = "clients"
_OPEN_TO_OTHERS: Final = 0o077


def is_loopback(host: str) -> bool:
    """Return whether an address is a loopback address: ``127.0.0.1``, ``::1``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


#: Offset of a venue's account port from the port of its feed.
_ACCOUNT_PORTS: Final = 6


def port_of(name: str, first: int, *, account: bool = False) -> int:
    """Return the TCP port of a feed (venue or ``lifecycle``), or of its account feed; UsageError if unknown."""
    if name not in FEED_PORTS:
        raise UsageError(f"no feed {name!r}", advice=f"there are {', '.join(FEED_PORTS)}")
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
    secret: bytes

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Use these keys for later connections of a socket."""
        socket.curve_serverkey = self.server_public
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret


def load_client_keys(server_public: str | Path, own_secret: str | Path) -> ClientKeys:
    """Load the certificates of the server (public part) and of the client (with its secret).

    Raise ConfigError when one cannot be read, or others can read the secret.
    """
    server, _ = _load(Path(server_public))
    public, secret = _load(Path(own_secret))
    if secret is None:
        raise ConfigError([f"{own_secret}: holds no secret key; take the file that ends in .key_secret"])
    _check_private(Path(own_secret))
    return ClientKeys(server, public, secret)


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
        """Set a socket up for connections to this system: keys, and IPv6 for an IPv6 address."""
        socket.ipv6 = _is_ipv6(self.host)
        if self.keys is not None:
            self.keys.apply(socket)


class FeedListener:
    """TCP listener of a process's feeds.

    Args:
        context: ZeroMQ context of the process.
        network: Address. The directory of its keys holds ``server.key_secret``, and ``clients/`` with a public
            certificate for each client.

    Raises:
        ConfigError: The address requires keys and there are none, or they cannot be read.
    """

    def __init__(self, context: zmq.Context[Any], network: Network) -> None:
        self._network = network
        self._keys: tuple[bytes, bytes] | None = None
        self._authenticator: ThreadAuthenticator | None = None
        if network.curve_dir is None:
            if not is_loopback(network.host):
                raise ConfigError([f"feeds.tcp: {network.host} is not loopback; set feeds.curve_dir as well"])
            return
        directory = Path(network.curve_dir)
        self._keys = server_keys(directory)
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve(domain="*", location=str(directory / _CLIENTS))

    @property
    def is_encrypted(self) -> bool:
        """True when only known clients can read."""
        return self._keys is not None

    def bind(self, socket: zmq.Socket[Any], name: str, *, account: bool = False) -> None:
        """Bind a feed's socket on TCP as well; raise ConfigError if the port is taken or the address is not ours."""
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys
            socket.curve_server = True
        socket.ipv6 = _is_ipv6(self._network.host)
        endpoint = Remote(self._network.host, self._network.port).endpoint(name, account=account)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise ConfigError([f"feeds.tcp: {endpoint} cannot be bound: {error.strerror}"]) from error

    def close(self) -> None:
        """Stop the thread that authenticates clients."""
        if self._authenticator is not None:
            self._authenticator.stop()


def _is_ipv6(host: str) -> bool:
    """Return whether an address is an IPv6 one; with the option set ZeroMQ would resolve names to IPv6 only."""
    return ":" in host


def _bracketed(host: str) -> str:
    return f"[{host}]" if _is_ipv6(host) else host


def server_keys(directory: Path) -> tuple[bytes, bytes]:
    """Load the server's public and secret key; raise ConfigError if unreadable, not private, or without clients."""
    path = directory / _SERVER_KEY
    public, secret = _load(path)
    if secret is None:
        raise ConfigError([f"{path}: holds no secret key"])
    _check_private(path)
    if not (directory / _CLIENTS).is_dir():
        raise ConfigError([f"{directory / _CLIENTS}: make this directory, with the public certificate of each client"])
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: not a ZeroMQ certificate: {error}"]) from error


def _check_private(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & _OPEN_TO_OTHERS:
        raise ConfigError([f"{path}: must be yours alone; do: chmod 600 {path}"])
