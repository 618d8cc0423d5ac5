"""Endpoints that a ZeroMQ socket listens on: limited messages, paths that can be restored, no new peers for a while.

libzmq deletes the path of an ``ipc`` endpoint when it binds, unbinds and closes, even if it is another's by then. So
the Unix socket is created here and passed on (ZMQ_USE_FD): libzmq then only accepts on it. To restore a lost path
another one is bound beside it; connected peers stay connected to the old one.

libzmq cannot stop listening without disconnecting every peer: its sessions end with their listener. So new peers are
kept out in front of it, and connected ones go on: a Unix socket is renamed, so that a connect finds nothing, and a TCP
listener drops what arrives by a socket filter. Both need no lock of the ZeroMQ socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
from array import array
from pathlib import Path
from typing import Any, Final

import zmq

from ipc.errors import ParaphinaError
from ipc.watched_files import Identity, identity_of, unlink_own

#: Bytes of a message that a peer may send: peers only subscribe, to topics of a hundred bytes at most. Without a limit
#: one subscription can take all memory. A peer that sends more is disconnected.
MAX_MESSAGE: Final = 4096
_IPC: Final = "ipc://"
_TCP: Final = "tcp://"
_HIDDEN: Final = ".closed"
_BACKLOG: Final = 100
#: Listeners without a path that may accumulate, each a descriptor; then peers are disconnected once.
_MAX_LISTENERS: Final = 16
#: Socket options of Linux that Python does not name.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
#: ``struct sock_filter``: return 0 bytes of every packet, which drops it.
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)


class ListeningSocket:
    """Endpoints of one ZeroMQ socket: one in the run directory or elsewhere, and at most a TCP one beside it.

    Make it before the first bind; raise ParaphinaError, with the socket closed, if ``endpoint`` cannot be bound.
    """

    def __init__(self, of: zmq.Socket[Any], endpoint: str) -> None:
        self.path = Path(endpoint.removeprefix(_IPC)) if endpoint.startswith(_IPC) else None
        self._endpoint = endpoint
        self.socket = of
        self._identity: Identity | None = None
        #: Listeners of the path so far; all but the last have lost it.
        self._listeners = 0
        #: Descriptor and inode of each TCP listener; they belong to libzmq.
        self._tcp: list[tuple[int, int]] = []
        self._guard = threading.Lock()
        self._is_open = True
        of.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        try:
            self.bind()
        except ParaphinaError:
            of.close()
            raise

    @property
    def is_intact(self) -> bool:
        """True while the path belongs to this socket, or is hidden because no new peers are accepted."""
        if self.path is None or not self._is_open:
            return True
        return self._identity is not None and identity_of(self.path) == self._identity

    def bind(self) -> None:
        """Bind the endpoint, also again after its path was lost; connected peers go on. Requires the socket's lock.

        Raises:
            ParaphinaError: It cannot be bound.
        """
        with self._guard:
            try:
                if self.path is None:
                    self.socket.bind(self._endpoint)
                else:
                    self._bind_path(self.path)
            except OSError as error:  # zmq.ZMQError is not one
                # Python's own error for a path that is too long has no strerror.
                raise self._error(error.strerror or str(error)) from error
            except zmq.ZMQError as error:
                raise self._error(str(error.strerror)) from error

    def bind_tcp(self, endpoint: str) -> None:
        """Bind a TCP endpoint as well; raise ZMQError if that is impossible. Requires the socket's lock."""
        with self._guard:
            self.socket.bind(endpoint)
            found = _tcp_listener(endpoint)
            if found is not None:
                self._tcp.append(found)

    def refuse_peers(self) -> None:
        """Accept no new peers; those that have connected already, and wait to be accepted, still are."""
        with self._guard:
            self._is_open = False
            if self.path is not None and identity_of(self.path) == self._identity:
                with contextlib.suppress(OSError):
                    self.path.rename(_hidden(self.path))
            program = array("B", _DROP_ALL)
            self._set_tcp(_SO_ATTACH_FILTER, struct.pack("HP", 1, program.buffer_info()[0]))

    def accept_peers(self) -> None:
        """Accept new peers again."""
        with self._guard:
            if self._is_open:
                return
            self._is_open = True
            if self.path is not None and not self.path.exists():
                with contextlib.suppress(OSError):
                    _hidden(self.path).rename(self.path)
            self._set_tcp(_SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """Close the socket, and remove the path if it still belongs to it."""
        with self._guard:
            self._tcp.clear()
            self.socket.close()
            if self.path is not None:
                unlink_own(self.path, self._identity)
                unlink_own(_hidden(self.path), self._identity)

    def _bind_path(self, path: Path) -> None:
        if self._listeners >= _MAX_LISTENERS:
            self.socket.unbind(self._endpoint)
            self._listeners = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            _remove_left_behind(path)
            _remove_left_behind(_hidden(path))  # of a process that ended while it accepted no peers
            listener.bind(os.fsencode(path))
            self._identity = identity_of(path)
            listener.listen(_BACKLOG)
            self._pass_on(listener.fileno())
            listener.detach()
        self._listeners += 1

    def _pass_on(self, listener: int) -> None:
        """Let the socket accept on a listener; without encryption, which is for TCP alone."""
        is_encrypted = self.socket.getsockopt(zmq.MECHANISM) == zmq.CURVE
        if is_encrypted:
            self.socket.setsockopt(zmq.CURVE_SERVER, 0)
        self.socket.setsockopt(zmq.USE_FD, listener)
        try:
            self.socket.bind(self._endpoint)
        finally:
            self.socket.setsockopt(zmq.USE_FD, -1)
            if is_encrypted:
                self.socket.setsockopt(zmq.CURVE_SERVER, 1)

    def _set_tcp(self, option: int, value: int | bytes) -> None:
        for number, inode in self._tcp:
            with contextlib.suppress(OSError), _duplicate(number) as one:
                if os.fstat(number).st_ino == inode:
                    one.setsockopt(socket.SOL_SOCKET, option, value)

    def _error(self, text: str) -> ParaphinaError:
        return ParaphinaError(f"the feed cannot be bound: {text}", where=self._endpoint)


def _hidden(path: Path) -> Path:
    return path.with_name(path.name + _HIDDEN)


def _remove_left_behind(path: Path) -> None:
    """Remove the socket, or a plain file, that has the path; anything else stays, and the bind fails."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(mode) or stat.S_ISREG(mode):
        path.unlink(missing_ok=True)


def _duplicate(number: int) -> socket.socket:
    """Return a socket of its own for a descriptor; raise OSError if that is not a socket."""
    copy = os.dup(number)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _tcp_listener(endpoint: str) -> tuple[int, int] | None:
    """Return descriptor and inode of this process's TCP listener with an address; None without one."""
    if not endpoint.startswith(_TCP):
        return None
    host, _, port = endpoint.removeprefix(_TCP).rpartition(":")
    wanted = (host.strip("[]"), int(port))
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        number = int(name)
        with contextlib.suppress(OSError), _duplicate(number) as one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.getsockname()[:2] == wanted:
                return number, os.fstat(number).st_ino
    return None
