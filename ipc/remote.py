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

from ipc.errors import ConfigError

__all__ = ["ClientKeys", "Listener", "is_loopback", "load_client_keys"]

_SERVER_KEY: Final = "server.key_secret"
_CLIENTS: Final = "clients"
_OPEN_TO_OTHERS: Final = 0o077


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own: ``127.0.0.1``, ``::1``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


class Listener:
    """Lets a worker's feeds listen on TCP.

    Args:
        context: The worker's context.
        host: The address to bind.
        directory: Of the keys: ``server.key_secret``, and ``clients/`` with a public certificate a client. None goes
            without, which is for loopback alone.

    Raises:
        ConfigError: The address asks for keys and there are none, or they cannot be read.
    """

    def __init__(self, context: zmq.Context[Any], host: str, directory: Path | None) -> None:
        self._host = host
        self._keys: tuple[bytes, bytes] | None = None
        self._authenticator: ThreadAuthenticator | None = None
        if directory is None:
            if not is_loopback(host):
                raise ConfigError([f"feeds.tcp: {host} is not loopback; set feeds.curve_dir as well"])
            return
        self._keys = server_keys(directory)
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve(domain="*", location=str(directory / _CLIENTS))

    @property
    def is_encrypted(self) -> bool:
        """Whether only known clients can read."""
        return self._keys is not None

    def bind(self, socket: zmq.Socket[Any], port: int) -> None:
        """Bind a socket on TCP as well; what it was bound to before stays as it is.

        Raises:
            ConfigError: The port is taken, or the address is not of this machine.
        """
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys
            socket.curve_server = True
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError as error:
            raise ConfigError([f"feeds.tcp: {host}:{port} cannot be bound: {error.strerror}"]) from error

    def close(self) -> None:
        """End the thread that checks clients."""
        if self._authenticator is not None:
            self._authenticator.stop()


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
