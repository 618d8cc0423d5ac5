"""Endpoints of a bound socket: limited messages from peers, listening again, and no new peers for a while.

libzmq cannot stop listening without disconnecting every peer: its sessions end with their listener. So new peers are
kept out in front of it, and connected ones go on: a Unix socket is renamed, so that a connect finds nothing, and a TCP
listener drops what arrives by a socket filter. Both need no lock of the ZeroMQ socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from array import array
from pathlib import Path
from typing import Any, Final

import zmq

#: Bytes of a message that a peer may send: peers only subscribe, to topics of a hundred bytes at most. Without a limit
#: one subscription can take all memory. A peer that sends more is disconnected.
MAX_MESSAGE: Final = 4096
_IPC: Final = "ipc://"
_TCP: Final = "tcp://"
_HIDDEN: Final = ".closed"
#: Socket options of Linux that Python does not name.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
#: ``struct sock_filter``: return 0 bytes of every packet, which drops it.
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)


class ListeningSocket:
    """Endpoints that one ZeroMQ socket is bound to; to be made before the first bind."""

    def __init__(self, of: zmq.Socket[Any]) -> None:
        self._socket = of
        #: Identity of the socket file of each ``ipc`` endpoint.
        self._files: dict[Path, tuple[int, int] | None] = {}
        #: Descriptor and inode of each TCP listener; they belong to libzmq.
        self._tcp: list[tuple[int, int]] = []
        self._guard = threading.Lock()
        self._is_open = True
        of.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)

    def bind(self, endpoint: str) -> None:
        """Bind an endpoint; raise ZMQError if that is impossible. Requires the lock of the socket."""
        with self._guard:
            self._socket.bind(endpoint)
            if endpoint.startswith(_IPC):
                self._note_file(Path(endpoint.removeprefix(_IPC)))

    def note_tcp(self) -> None:
        """Take note of the TCP endpoint that the socket was bound to last."""
        endpoint = bytes(self._socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        with self._guard:
            found = _tcp_listener(endpoint)
            if found is not None:
                self._tcp.append(found)

    def listen_again(self) -> list[str]:
        """Bind every endpoint whose socket file was removed or replaced; return them. Requires the lock of the socket.

        Connected peers go on. Nothing is done while no new peers are accepted. Raises ZMQError, for instance when the
        directory does not exist.
        """
        with self._guard:
            lost = [path for path, identity in self._files.items() if self._is_open and _identity(path) != identity]
            for path in lost:
                self._socket.bind(f"{_IPC}{path}")
                self._note_file(path)
        return [f"{_IPC}{path}" for path in lost]

    def refuse_peers(self) -> None:
        """Accept no new peers; those that have connected already, and wait to be accepted, still are."""
        with self._guard:
            self._is_open = False
            for path, identity in self._files.items():
                if _identity(path) == identity:
                    with contextlib.suppress(OSError):
                        path.rename(_hidden(path))
            program = array("B", _DROP_ALL)
            self._set_tcp(_SO_ATTACH_FILTER, struct.pack("HP", 1, program.buffer_info()[0]))

    def accept_peers(self) -> None:
        """Accept new peers again."""
        with self._guard:
            if self._is_open:
                return
            self._is_open = True
            for path in self._files:
                if not path.exists():
                    with contextlib.suppress(OSError):
                        _hidden(path).rename(path)
            self._set_tcp(_SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """Close the socket."""
        with self._guard:
            self._tcp.clear()
            self._files.clear()
            self._socket.close()

    def _set_tcp(self, option: int, value: int | bytes) -> None:
        for number, inode in self._tcp:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
                if os.fstat(number).st_ino == inode:
                    one.setsockopt(socket.SOL_SOCKET, option, value)

    def _note_file(self, path: Path) -> None:
        _hidden(path).unlink(missing_ok=True)  # of a process that ended while it accepted no peers
        self._files[path] = _identity(path)


def _hidden(path: Path) -> Path:
    return path.with_name(path.name + _HIDDEN)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _tcp_listener(endpoint: str) -> tuple[int, int] | None:
    """Return descriptor and inode of this process's TCP listener with an address; None without one."""
    if not endpoint.startswith(_TCP):
        return None
    host, _, port = endpoint.removeprefix(_TCP).rpartition(":")
    wanted = (host.strip("[]"), int(port))
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        number = int(name)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.getsockname()[:2] == wanted:
                return number, os.fstat(number).st_ino
    return None
