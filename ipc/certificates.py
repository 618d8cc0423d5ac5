"""Certificates of ZeroMQ's CURVE: the server's pair, and the public keys of the clients that may connect.

A directory of keys holds ``server.key_secret``, ``server.key`` and ``clients/`` with a ``NAME.key`` for each client.
Files have ZeroMQ's certificate format (``zmq.auth``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
import zmq.auth
from zmq.utils import z85

from ipc.errors import ConfigError, ParaphinaError, UsageError

SERVER: Final = "server"
_PUBLIC_SUFFIX: Final = ".key"
_SECRET_SUFFIX: Final = f"{_PUBLIC_SUFFIX}_secret"
_CLIENTS: Final = "clients"
_OPEN_TO_OTHERS: Final = 0o077
_KEY_BYTES: Final = 40
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PUBLIC_HEAD: Final = "#   ZeroMQ CURVE public certificate\n\n"
_PRIVATE_HEAD: Final = "#   ZeroMQ CURVE **secret** certificate: do not give it to others, do not change its mode\n\n"


class CertificateError(ConfigError):
    """Certificate that cannot be used: unreadable, malformed, or open to others."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Keys in ZeroMQ's text form (Z85); ``secret`` is None in a public certificate."""

    public: bytes
    secret: bytes | None = field(default=None, repr=False)


def load_certificate(path: Path) -> Certificate:
    """Load a certificate; raise CertificateError if it cannot be read or is none."""
    try:
        public, secret = zmq.auth.load_certificate(path)
        if not all(_is_key(key) for key in (public, secret) if key is not None):
            raise ValueError("a key has not the form of one")
    except OSError as error:
        raise CertificateError([f"{path}: cannot be read: {error.strerror or 'there is no such file'}"]) from error
    except ValueError as error:
        raise CertificateError([f"{path}: not a ZeroMQ certificate: {error}"]) from error
    return Certificate(public, secret)


def load_secret(path: Path) -> tuple[bytes, bytes]:
    """Load a pair of keys; raise CertificateError if the secret is missing, or others can read it."""
    found = load_certificate(path)
    if found.secret is None:
        raise CertificateError([f"{path}: holds no secret key; use the file that ends in {_SECRET_SUFFIX}"])
    if zmq.curve_public(found.secret) != found.public:
        raise CertificateError([f"{path}: its two keys are no pair; make new ones"])
    if stat.S_IMODE(path.stat().st_mode) & _OPEN_TO_OTHERS:
        raise CertificateError([f"{path}: must be yours alone; do: chmod 600 {path}"])
    return found.public, found.secret


def _is_key(key: bytes) -> bool:
    """Return whether a key is 32 bytes in Z85."""
    return len(key) == _KEY_BYTES and set(key) <= set(z85.Z85CHARS)


@dataclass(frozen=True, slots=True)
class KeyDirectory:
    """Directory of a server's keys."""

    path: Path

    @property
    def clients(self) -> Path:
        """Directory of the clients' public certificates."""
        return self.path / _CLIENTS

    @property
    def server_public(self) -> Path:
        """Public certificate of the server, for its clients."""
        return self.path / (SERVER + _PUBLIC_SUFFIX)

    @property
    def server_secret(self) -> Path:
        """Secret certificate of the server."""
        return self.path / (SERVER + _SECRET_SUFFIX)

    def load_server(self) -> tuple[bytes, bytes]:
        """Load the server's public and secret key; raise CertificateError."""
        if not self.server_secret.exists():
            advice = f"create it with: paraphina-supervisor keys server {self.path}"
            raise CertificateError([f"{self.server_secret}: does not exist; {advice}"])
        return load_secret(self.server_secret)

    def client_files(self) -> list[Path]:
        """Return the clients' public certificates; raise CertificateError if their directory cannot be read."""
        try:
            return sorted(path for path in self.clients.iterdir() if path.suffix == _PUBLIC_SUFFIX)
        except OSError as error:
            advice = f"create clients with: paraphina-supervisor keys client {self.path} NAME"
            raise CertificateError([f"{self.clients}: cannot be read: {error.strerror}; {advice}"]) from error

    def load_client(self, path: Path) -> bytes:
        """Load the public key of a client; raise CertificateError, also for a file that holds its secret key."""
        found = load_certificate(path)
        if found.secret is not None:
            advice = f"replace it by the public certificate of {path.stem}, and make new keys for that client"
            raise CertificateError([f"{path}: holds a client's SECRET key; {advice}"])
        return found.public

    def problems(self) -> list[str]:
        """Return every reason why a server cannot use this directory, each with its file and an advice."""
        return [*_problems_of(self.load_server), *self._mode_problems(), *self._client_problems()]

    def _mode_problems(self) -> Iterator[str]:
        for path in (self.path, self.clients):
            if path.is_dir() and path.stat().st_mode & stat.S_IWOTH:
                yield f"{path}: everybody can write there, and so admit clients; do: chmod o-w {path}"

    def _client_problems(self) -> Iterator[str]:
        try:
            files = self.client_files()
        except CertificateError as error:
            yield from error.problems
            return
        for path in files:
            yield from _problems_of(lambda path=path: self.load_client(path))  # type: ignore[misc]

    def create_server(self) -> None:
        """Create the server's pair and ``clients/``, and the directory if it is missing.

        Raises:
            UsageError: There is a pair already, or a file cannot be written.
        """
        _make_directory(self.path)
        _make_directory(self.clients)
        _write_pair(self.server_public, self.server_secret)

    def create_client(self, name: str, out: Path | None = None) -> Path:
        """Create a client's pair: its public part in ``clients/``, the secret in ``out`` with the server's public key.

        Args:
            name: Name of its files.
            out: Directory for the client; None for this directory.

        Returns:
            The secret certificate.

        Raises:
            UsageError: The name is invalid or in use, or a file cannot be written.
        """
        if not _NAME.fullmatch(name) or name == SERVER:
            raise UsageError(f"no name of a client: {name!r}", advice="use letters, digits, and . _ - between them")
        server = load_certificate(self.server_public)
        _make_directory(self.clients)
        secret = (out or self.path) / (name + _SECRET_SUFFIX)
        if out is not None:
            _make_directory(out)
            _give_server_key(out / self.server_public.name, server.public)
        _write_pair(self.clients / (name + _PUBLIC_SUFFIX), secret)
        return secret


def _problems_of(load: Callable[[], object]) -> list[str]:
    try:
        load()
    except CertificateError as error:
        return error.problems
    return []


def _give_server_key(path: Path, public: bytes) -> None:
    """Write the server's public certificate for a client, unless it is there already."""
    if not path.exists():
        _write(path, Certificate(public))
    elif load_certificate(path).public != public:
        raise UsageError("holds the key of another server", where=str(path), advice="choose another directory")


def _make_directory(path: Path) -> None:
    """Create a directory that is ours alone; an existing one keeps its mode."""
    try:
        path.mkdir(mode=0o700, parents=True)
        path.chmod(0o700)  # a umask may have removed bits of ours
    except FileExistsError:
        if not path.is_dir():
            raise UsageError("is not a directory", where=str(path), advice="choose another") from None
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_pair(public: Path, secret: Path) -> None:
    """Write a new pair of keys; UsageError if either file exists."""
    for path in (public, secret):
        if path.exists():
            raise UsageError("exists already", where=str(path), advice="move it away first if it is to be replaced")
    made = Certificate(*zmq.curve_keypair())
    _write(secret, made)
    try:
        _write(public, Certificate(made.public))
    except ParaphinaError:
        secret.unlink()
        raise


def _write(path: Path, keys: Certificate) -> None:
    """Write a certificate with its mode, whatever the umask: 0600 with a secret, else 0644."""
    mode = 0o644 if keys.secret is None else 0o600
    head = _PUBLIC_HEAD if keys.secret is None else _PRIVATE_HEAD
    secret = "" if keys.secret is None else f'    secret-key = "{keys.secret.decode()}"\n'
    text = f'{head}metadata\ncurve\n    public-key = "{keys.public.decode()}"\n{secret}'
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as stream:
            os.fchmod(file, mode)
            stream.write(text)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot be written: {error.strerror}", where=str(path), advice="choose another directory")
