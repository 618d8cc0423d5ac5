"""Feeds over TCP: off by default, on loopback, and beyond it only with CURVE.

On the run directory's sockets the file system says who may read. On TCP nobody does, so whoever listens beyond loopback
must have keys: the server's own pair, and the public key of each client that may connect (ZeroMQ's certificate files,
as ``zmq.auth.create_certificates`` writes them).
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

__all__ = ["ClientKeys", "FeedListener", "Network", "Remote", "is_loopback", "load_client_keys"]

_SERVER_KEY: Final = "server.key_secret"
_CLIENTS: Final = "clients"
_OPEN_TO_OTHERS: Final = 0o077


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own: ``127.0.0.1``, ``::1``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


#: Offset of each feed's port from the first one. Consumers depend on these numbers: only add unused ones.
_PORTS: Final = {"hyperliquid": 0, "aster": 1, "extended": 2, "lighter": 3, "paradex": 4, "lifecycle": 5}
#: Offset of a venue's account port from the port of its feed.
_ACCOUNT_PORTS: Final = 6


def port_of(name: str, first: int, *, account: bool = False) -> int:
    """The TCP port of a venue's feed (or of ``lifecycle``), or of its account's.

    Raises:
        UsageError: There is no such feed.
    """
    if name not in _PORTS:
        raise UsageError(f"no feed {name!r}", advice=f"there are {', '.join(_PORTS)}")
    return first + _PORTS[name] + _ACCOUNT_PORTS * account


@dataclass(frozen=True, slots=True)
class Network:
    """Where a system's feeds listen on TCP.

    Attributes:
        host: The address.
        port: The first of the ports: one a venue in the order of :data:`ipc.topics.VENUES`, one for ``lifecycle``, then
            one for each account.
        curve_dir: Of the keys; None goes without.
    """

    host: str
    port: int
    curve_dir: str | None = None


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs to read a feed that is encrypted."""

    server_public: bytes
    public: bytes
    secret: bytes

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Use these keys for the connections that the socket makes from now on."""
        socket.curve_serverkey = self.server_public
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret


def load_client_keys(server_public: str | Path, own_secret: str | Path) -> ClientKeys:
    """Read the certificate files of the server (public part) and of the client (with its secret).

    Raises:
        ConfigError: One cannot be read, or the secret is open to others.
    """
    server, _ = _load(Path(server_public))
    public, secret = _load(Path(own_secret))
    if secret is None:
        raise ConfigError([f"{own_secret}: holds no secret key; take the file that ends in .key_secret"])
    _check_private(Path(own_secret))
    return ClientKeys(server, public, secret)


@dataclass(frozen=True, slots=True)
class Remote:
    """Feeds of a system that is reached over TCP, as :class:`Network` has them listen there."""

    host: str
    port: int
    keys: ClientKeys | None = None

    def endpoint(self, name: str, *, account: bool = False) -> str:
        """The ZeroMQ endpoint of a venue's feed, or of its account's."""
        return f"tcp://{_bracketed(self.host)}:{port_of(name, self.port, account=account)}"

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Make the connections from now on as this system asks for: with keys, and by IPv6 where its address is one."""
        socket.ipv6 = _is_ipv6(self.host)
        if self.keys is not None:
            self.keys.apply(socket)


class FeedListener:
    """Lets a process's feeds listen on TCP.

    Args:
        context: The process's ZeroMQ context.
        network: Where to. The directory of its keys holds ``server.key_secret``, and ``clients/`` with a public
            certificate for each client.

    Raises:
        ConfigError: The address asks for keys and there are none, or they cannot be read.
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
        """Whether only known clients can read."""
        return self._keys is not None

    def bind(self, socket: zmq.Socket[Any], name: str, *, account: bool = False) -> None:
        """Bind a feed's socket on TCP as well; what it was bound to before stays as it is.

        Raises:
            ConfigError: The port is taken, or the address is not of this machine.
        """
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
        """End the thread that checks clients."""
        if self._authenticator is not None:
            self._authenticator.stop()


def _is_ipv6(host: str) -> bool:
    """Whether an address is one of IPv6. Only then is ZeroMQ told so: it would look a name up in IPv6 alone."""
    return ":" in host


def _bracketed(host: str) -> str:
    return f"[{host}]" if _is_ipv6(host) else host


def server_keys(directory: Path) -> tuple[bytes, bytes]:
    """The server's public and secret key.

    Raises:
        ConfigError: They cannot be read, or are open to others, or no client is known.
    """
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
