"""TCP listener of a process's feeds: binds its ports, and admits clients by their keys.

File permissions protect the run directory's sockets. TCP has none, so listening beyond loopback requires keys: the
server's pair, and the public key of each client that may connect (:mod:`ipc.certificates`).
"""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils import z85

from ipc.board import TCP_LISTENING, TCP_WAITING, Row, WorkerWord
from ipc.certificates import CertificateError, KeyDirectory
from ipc.errors import ConfigError
from ipc.health import Reason
from ipc.listening import ListeningSocket
from ipc.log import get_log
from ipc.remote import Network, is_ipv6, is_loopback

log = get_log(__name__)

_ZAP: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"feeds"
#: Frames of a request of ZeroMQ's authentication protocol (RFC 27) for CURVE.
_ZAP_FRAMES: Final = 7
#: Questions that are answered at once; the rest waits for the next call.
_BATCH: Final = 1000
#: Another program may free the port, and an interface may come up.
_PASSING: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
_RETRY_NS: Final = 1_000_000_000


class KeyAuthenticator:
    """Answers ZeroMQ's questions whether a client may connect; belongs to one thread, which calls :meth:`answer`.

    The directory is read for every batch of questions: a new key works at once, a removed one is refused at its next
    connection.
    """

    def __init__(self, context: zmq.Context[Any], directory: KeyDirectory) -> None:
        self.refused = 0
        self._directory = directory
        self._socket = context.socket(zmq.REP, socket_class=zmq.Socket)
        self._socket.linger = 0
        self._socket.bind(_ZAP)

    def answer(self) -> None:
        """Answer every waiting question."""
        if not self._socket.poll(0):
            return
        allowed = self._allowed()
        for _ in range(_BATCH):
            if not self._socket.poll(0):
                return
            version, request_id, *rest = self._socket.recv_multipart()
            is_allowed = len(rest) == _ZAP_FRAMES - 2 and self._judge(rest[1], rest[-1], allowed)
            code, text = (b"200", b"OK") if is_allowed else (b"400", b"unknown key")
            self._socket.send_multipart([version, request_id, code, text, b"", b""])

    def close(self) -> None:
        """Close the socket; every client is refused from then on."""
        self._socket.close()

    def _judge(self, address: bytes, key: bytes, allowed: set[bytes]) -> bool:
        """Return whether a client may connect; log the key of one that may not."""
        public = z85.encode(key)
        if public in allowed:
            return True
        self.refused += 1
        log.warning("feed.key_refused", of=public.decode(), address=address.decode(errors="replace"))
        return False

    def _allowed(self) -> set[bytes]:
        """Return the keys of all clients; a certificate that cannot be used affects its own client alone."""
        allowed = set()
        try:
            for path in self._directory.client_files():
                try:
                    allowed.add(self._directory.load_client(path))
                except CertificateError as error:
                    log.error("feed.certificate_unusable", error=str(error), of=path.name)
        except CertificateError as error:
            log.error("feed.certificates_unusable", error=str(error))
        return allowed


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Feed whose address is in use."""

    listening: ListeningSocket
    #: Held while the socket is used.
    lock: threading.RLock
    endpoint: str
    #: Board word for its state.
    word: int


class FeedListener:
    """TCP listener of a process's feeds; the process's main thread calls :meth:`serve` several times a second.

    Args:
        context: ZeroMQ context of the process.
        network: Address and directory of keys.

    Raises:
        ConfigError: The address requires keys and there are none, or they cannot be read.
    """

    def __init__(self, context: zmq.Context[Any], network: Network) -> None:
        self._network = network
        self._keys: tuple[bytes, bytes] | None = None
        self._authenticator: KeyAuthenticator | None = None
        self._waiting: list[_Waiting] = []
        #: Board words of all feeds, by which each was bound.
        self._words: set[int] = set()
        self._next_retry_ns = 0
        if network.curve_dir is None:
            if not is_loopback(network.host):
                raise ConfigError([f"feeds.tcp: {network.host} is not loopback; set feeds.curve_dir as well"])
            return
        directory = KeyDirectory(Path(network.curve_dir))
        self._keys = directory.load_server()
        directory.client_files()
        self._authenticator = KeyAuthenticator(context, directory)

    @property
    def is_encrypted(self) -> bool:
        """True when only known clients can read."""
        return self._keys is not None

    def bind(self, listening: ListeningSocket, lock: threading.RLock, name: str, *, account: bool = False) -> None:
        """Bind a feed's socket on TCP as well, now or, while its address is in use, as soon as that is free.

        Raises:
            ConfigError: The address can never be bound.
        """
        socket = listening.socket
        with lock:
            if self._keys is not None:
                socket.curve_publickey, socket.curve_secretkey = self._keys
                socket.curve_server = True
                socket.zap_domain = _ZAP_DOMAIN
                socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            socket.ipv6 = is_ipv6(self._network.host)
        endpoint = self._network.endpoint(name, account=account)
        one = _Waiting(listening, lock, endpoint, WorkerWord.ACCOUNT_TCP if account else WorkerWord.TCP)
        self._words.add(one.word)
        error = _bind(one)
        if error is not None:
            log.error("feed.not_listening", reason=Reason.ADDRESS_IN_USE, endpoint=endpoint, error=error)
            self._waiting.append(one)
            self._next_retry_ns = time.monotonic_ns() + _RETRY_NS

    def serve(self, now_ns: int, row: Row) -> None:
        """Admit or refuse clients that connect, bind waiting feeds once a second, and report to the board."""
        if self._authenticator is not None:
            self._authenticator.answer()
            row[WorkerWord.KEYS_REFUSED] = self._authenticator.refused
        if self._waiting and now_ns >= self._next_retry_ns:
            self._next_retry_ns = now_ns + _RETRY_NS
            self._waiting = [one for one in self._waiting if not _retry(one)]
        waiting = {one.word for one in self._waiting}
        for word in self._words:
            row[word] = TCP_WAITING if word in waiting else TCP_LISTENING

    def close(self) -> None:
        """Stop admitting clients."""
        if self._authenticator is not None:
            self._authenticator.close()


def _retry(one: _Waiting) -> bool:
    """Bind a feed; return whether it listens."""
    try:
        error = _bind(one)
    except ConfigError:
        return False
    if error is None:
        log.info("feed.listening", endpoint=one.endpoint)
    return error is None


def _bind(one: _Waiting) -> str | None:
    """Bind a feed; return the error while its address is in use, or not ours yet.

    Raises:
        ConfigError: Another error, which no retry can fix.
    """
    try:
        with one.lock:
            one.listening.bind_tcp(one.endpoint)
    except zmq.ZMQError as error:
        reason = zmq.strerror(error.errno or 0)
        if error.errno in _PASSING:
            return reason
        text = f"feeds.tcp: {one.endpoint} cannot be bound: {reason}"
        raise ConfigError([text]) from error
    return None
