"""Server of the control socket: requests, replies and followers of lifecycle events; never blocks.

The number of clients is bounded: beyond it the one that has been idle longest must go, followers of events last. They
must be of the same user. A client that is turned away gets the reason in a reply. Events that a follower does not read
are queued up to a bound; beyond it the oldest are dropped, which shows as a gap in their numbers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.control import MAX_PACKET, ControlReply, ControlRequest, decode_request
from ipc.errors import ForeignSystemError, ParaphinaError
from ipc.log import get_log
from ipc.users import sudo_name
from ipc.watched_files import identity_of, unlink_own
from supervisor.proc import peer_of

log = get_log(__name__)

_MAX_CLIENTS: Final = 32
_BACKLOG: Final = 16
#: Lifecycle events kept for a follower that connects again, and queued for one that does not read.
_REMEMBERED: Final = 500
_EVICTED: Final = ParaphinaError("the connection was closed: it was idle, and too many others wait", advice="ask again")


class ControlServer:
    """Listener on ``path`` and its clients, driven by the parent's poll set.

    Args:
        path: The socket; one that a dead parent left is replaced (the caller holds the instance lock).
        handle: Executes a request of the user with a uid.
        watch: Registers a callback for a readable descriptor; None removes it.
    """

    def __init__(
        self,
        path: Path,
        handle: Callable[[ControlRequest, int], ControlReply],
        watch: Callable[[int, Callable[[], None] | None], None],
    ) -> None:
        self._handle = handle
        self._watch = watch
        #: By descriptor; the one that has been idle longest first.
        self._clients: dict[int, socket.socket] = {}
        #: Packets that each follower has still to be sent; the oldest is dropped when there are too many.
        self._followers: dict[int, deque[bytes]] = {}
        self._events: deque[tuple[int, bytes]] = deque(maxlen=_REMEMBERED)
        self._last_event = 0
        self._path = path
        self._listen()

    def _listen(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(self._path))
            self._identity = identity_of(self._path)
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._watch(listener.fileno(), self._accept)

    @property
    def is_intact(self) -> bool:
        """True while the path belongs to this server."""
        return identity_of(self._path) == self._identity

    def relisten(self) -> None:
        """Listen at the path again after it was lost; clients stay connected. Raise OSError if that is not possible."""
        lost = self._listener
        self._listen()
        self._watch(lost.fileno(), None)
        lost.close()

    def publish(self, event: dict[str, Any]) -> None:
        """Send a lifecycle event to every follower, and keep it for later ones."""
        self._last_event += 1
        packet = msgspec.json.encode({"number": self._last_event, **event})
        self._events.append((self._last_event, packet))
        for waiting in self._followers.values():
            waiting.append(packet)
        self.flush()

    def flush(self) -> None:
        """Send the queued events as far as the followers read; called on every tick."""
        for descriptor, waiting in list(self._followers.items()):
            while waiting and self._send(descriptor, waiting[0]):
                waiting.popleft()

    def close(self) -> None:
        """Close all connections and the listener."""
        for descriptor in list(self._clients):
            self._drop(descriptor)
        self._watch(self._listener.fileno(), None)
        self._listener.close()
        unlink_own(self._path, self._identity)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: the client must try again
            log.warning("control.refused", clients=len(self._clients), error=error.strerror)
            return
        client.setblocking(False)
        uid = peer_of(client).uid
        if uid != os.getuid():
            log.warning("control.refused", clients=len(self._clients), uid=uid)
            _refuse(client, ForeignSystemError(sudo_name(os.getuid())))
            return
        if len(self._clients) >= _MAX_CLIENTS:
            self._evict()
        descriptor = client.fileno()
        self._clients[descriptor] = client
        self._watch(descriptor, lambda: self._read(descriptor))

    def _evict(self) -> None:
        """Close the connection that has been idle longest; a follower's only when there is no other."""
        idle = next((one for one in self._clients if one not in self._followers), next(iter(self._clients)))
        log.warning("control.evicted", clients=len(self._clients))
        self._send(idle, msgspec.json.encode(ControlReply.refusing(_EVICTED)))
        self._drop(idle)

    def _read(self, descriptor: int) -> None:
        client = self._clients[descriptor] = self._clients.pop(descriptor)  # the last to be idle
        try:
            packet = client.recv(MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop(descriptor)
            return
        try:
            request = decode_request(packet)
            if request.verb == "follow":
                self._follow(descriptor, request.after)
                return
            reply = self._handle(request, peer_of(client).uid)
        except ParaphinaError as error:
            reply = ControlReply.refusing(error)
        self._send(descriptor, msgspec.json.encode(reply))

    def _follow(self, descriptor: int, after: int) -> None:
        """Make the client a follower of every event after number ``after``."""
        missed = (packet for number, packet in self._events if number > after)
        self._followers[descriptor] = deque(missed, maxlen=_REMEMBERED)
        self.flush()

    def _send(self, descriptor: int, packet: bytes) -> bool:
        """Send a packet; return whether the client accepted it."""
        client = self._clients.get(descriptor)
        if client is None:
            return False
        try:
            client.send(packet)
        except BlockingIOError:
            return False
        except OSError:
            self._drop(descriptor)
            return False
        return True

    def _drop(self, descriptor: int) -> None:
        self._watch(descriptor, None)
        self._followers.pop(descriptor, None)
        client = self._clients.pop(descriptor, None)
        if client is not None:
            client.close()


def _refuse(client: socket.socket, error: ParaphinaError) -> None:
    """Close a connection that was just accepted, with the reason."""
    with contextlib.suppress(OSError):
        client.send(msgspec.json.encode(ControlReply.refusing(error)))
    client.close()
