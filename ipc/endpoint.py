"""Endpoint of a ZeroMQ socket that survives the loss of its path in the run directory.

libzmq deletes the path of an ``ipc`` endpoint when it binds, unbinds and closes, even if it is another's by then. So
the Unix socket is created here and passed on (ZMQ_USE_FD): libzmq then only accepts on it. To restore a lost path
another one is bound beside it; connected subscribers stay connected to the old one.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any, Final

import zmq

from ipc.errors import ParaphinaError
from ipc.watched_files import Identity, identity_of, unlink_own

_SCHEME: Final = "ipc://"
_BACKLOG: Final = 100
#: Listeners without a path that may accumulate, each a descriptor; then subscribers are disconnected once.
_MAX_LISTENERS: Final = 16


class BoundEndpoint:
    """Endpoint that a socket is bound to; raise ParaphinaError if it cannot be bound.

    Only an ``ipc`` endpoint has a path; any other is always intact.
    """

    def __init__(self, of: zmq.Socket[Any], endpoint: str) -> None:
        self.path = Path(endpoint.removeprefix(_SCHEME)) if endpoint.startswith(_SCHEME) else None
        self._endpoint = endpoint
        self._socket = of
        self._identity: Identity | None = None
        self._listeners = 0
        try:
            self.bind()
        except ParaphinaError:
            of.close()
            raise

    @property
    def is_intact(self) -> bool:
        """True while the path belongs to this endpoint."""
        return self.path is None or (self._identity is not None and identity_of(self.path) == self._identity)

    def bind(self) -> None:
        """Bind it, also again after its path was lost; raise ParaphinaError if it cannot be bound."""
        try:
            if self.path is None:
                self._socket.bind(self._endpoint)
            else:
                self._bind_path(self.path)
        except OSError as error:  # zmq.ZMQError is not one
            # Python's own error for a path that is too long has no strerror.
            raise self._error(error.strerror or str(error)) from error
        except zmq.ZMQError as error:
            raise self._error(str(error.strerror)) from error

    def _bind_path(self, path: Path) -> None:
        if self._listeners >= _MAX_LISTENERS:
            self._socket.unbind(self._endpoint)
            self._listeners = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            _remove_left_behind(path)
            listener.bind(os.fsencode(path))
            self._identity = identity_of(path)
            listener.listen(_BACKLOG)
            self._pass_on(listener.fileno())
            listener.detach()
        self._listeners += 1

    def _pass_on(self, listener: int) -> None:
        """Let the socket accept on a listener; without encryption, which is for TCP alone."""
        is_encrypted = self._socket.getsockopt(zmq.MECHANISM) == zmq.CURVE
        if is_encrypted:
            self._socket.setsockopt(zmq.CURVE_SERVER, 0)
        self._socket.setsockopt(zmq.USE_FD, listener)
        try:
            self._socket.bind(self._endpoint)
        finally:
            self._socket.setsockopt(zmq.USE_FD, -1)
            if is_encrypted:
                self._socket.setsockopt(zmq.CURVE_SERVER, 1)

    def _error(self, text: str) -> ParaphinaError:
        return ParaphinaError(f"the feed cannot be bound: {text}", where=self._endpoint)

    def close(self) -> None:
        """Close the socket, and remove the path if it still belongs to this endpoint."""
        self._socket.close()
        if self.path is not None:
            unlink_own(self.path, self._identity)


def _remove_left_behind(path: Path) -> None:
    """Remove the socket, or a plain file, that has the path; anything else stays, and the bind fails."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(mode) or stat.S_ISREG(mode):
        path.unlink(missing_ok=True)
