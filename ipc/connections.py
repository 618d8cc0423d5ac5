"""State of a feed's TCP connections: why nothing arrives from another machine.

ZeroMQ reports the events of a socket's connections on a monitor. It gives a connection up for good when a handshake is
refused, so the monitor also connects again. A consumer with several sources also monitors connections on this machine:
their end is the first that it learns of a killed worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ipc.log import get_log

log = get_log(__name__)

_NS: Final = 1_000_000_000
#: Of the monitors in this process: an address stays in use for a moment after its monitor was closed.
_numbers: Final = itertools.count()
#: Between two reads of the monitor while messages arrive.
_READ_NS: Final = _NS
#: Silence after which a connection that is not up is made again; an attempt that goes on is heard of within 3 s.
_AGAIN_NS: Final = 4 * _NS
_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
)
#: On this machine attempts that fail are too many to be reported: a hundred a second while a worker is away.
_LOCAL_EVENTS: Final = zmq.EVENT_DISCONNECTED


class ConnectionState(StrEnum):
    """State of a connection to a feed on another machine."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    #: Nothing listens there, no answer, or an unknown host name.
    UNREACHABLE = "unreachable"
    #: Our key is not among the server's clients.
    KEY_REFUSED = "key_refused"
    #: Wrong public key of the server, or another program listens there.
    HANDSHAKE_FAILED = "handshake_failed"
    #: Either side alone uses keys.
    ENCRYPTION_MISMATCH = "encryption_mismatch"


#: States that do not explain a lost heartbeat.
UNEXPLAINED: Final = frozenset({ConnectionState.CONNECTED, ConnectionState.CONNECTING})

_ADVICE: Final = {
    ConnectionState.UNREACHABLE: "check address, port and firewall, and that the system runs there",
    ConnectionState.KEY_REFUSED: "put this client's public certificate into clients/ of the server",
    ConnectionState.HANDSHAKE_FAILED: "check that server.key is the server's, and that it listens on this port",
    ConnectionState.ENCRYPTION_MISMATCH: "use keys on both sides, or on neither",
}
_OUTCOMES: Final[dict[int, ConnectionState]] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: ConnectionState.CONNECTED,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: ConnectionState.KEY_REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: ConnectionState.ENCRYPTION_MISMATCH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: ConnectionState.HANDSHAKE_FAILED,
    zmq.EVENT_CLOSED: ConnectionState.UNREACHABLE,
}


class _Connection:
    """Connection to one endpoint."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = self.logged = ConnectionState.CONNECTING
        self.heard_ns = 0
        self._last = 0

    def apply(self, event: int, now_ns: int) -> None:
        """Apply an event of the monitor."""
        before, self._last, self.heard_ns = self._last, event, now_ns
        outcome = _OUTCOMES.get(event)
        if outcome is not None:
            self.state = outcome
        elif event == zmq.EVENT_DISCONNECTED and self.state is ConnectionState.CONNECTED:
            self.state = ConnectionState.CONNECTING
        elif event == zmq.EVENT_DISCONNECTED and before not in _OUTCOMES:
            self.state = ConnectionState.HANDSHAKE_FAILED  # closed before its handshake
        elif event == zmq.EVENT_CONNECT_RETRIED and before in {0, zmq.EVENT_CONNECT_RETRIED}:
            self.state = ConnectionState.UNREACHABLE  # no attempt was possible: the name is unknown


class ConnectionMonitor:
    """Monitor of a socket's connections; create it before they are made.

    Args:
        socket: Socket to monitor.
        endpoints: Endpoints that it will connect to, by name.
        now_ns: Monotonic time.
        is_local: Only watch for ends, on this machine, where ZeroMQ connects again by itself; there are no states.

    ``due_ns`` is the time of the next read. ``socket`` is readable when something happened.
    """

    def __init__(
        self, socket: zmq.Socket[Any], endpoints: Mapping[str, str], now_ns: int, *, is_local: bool = False
    ) -> None:
        self.due_ns = now_ns
        self._monitored = socket
        self._is_local = is_local
        self._connections: dict[str, _Connection] = {}
        #: Names of the connections that ended since they were last asked for.
        self._ended: dict[str, None] = {}
        for name, endpoint in endpoints.items():
            self.add(name, endpoint, now_ns)
        address = f"inproc://connections-{next(_numbers)}"
        socket.monitor(address, _LOCAL_EVENTS if is_local else _EVENTS)
        self.socket: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR, socket_class=zmq.Socket)
        self.socket.linger = 0
        self.socket.connect(address)

    def add(self, name: str, endpoint: str, now_ns: int) -> None:
        """Monitor one more connection; call it before that is made."""
        self._connections[endpoint] = one = _Connection(name)
        one.heard_ns = now_ns

    def remove(self, endpoint: str) -> None:
        """Stop monitoring a connection."""
        self._connections.pop(endpoint, None)

    def read(self, now_ns: int) -> dict[str, ConnectionState]:
        """Apply what happened; return the states that changed, by name, and log them."""
        self.due_ns = now_ns + _READ_NS
        while self.socket.poll(0):
            event = parse_monitor_message(self.socket.recv_multipart())
            connection = self._connections.get(event["endpoint"].decode())
            if connection is not None:
                is_end = event["event"] == zmq.EVENT_DISCONNECTED
                if is_end and (self._is_local or connection.state is ConnectionState.CONNECTED):
                    self._ended[connection.name] = None
                connection.apply(int(event["event"]), now_ns)
        return {} if self._is_local else self._changes(now_ns)

    def ended(self) -> list[str]:
        """Return the names of the connections that ended since the last call, as of the last read."""
        names = list(self._ended)
        self._ended.clear()
        return names

    def _changes(self, now_ns: int) -> dict[str, ConnectionState]:
        for endpoint, connection in self._connections.items():
            if connection.state is not ConnectionState.CONNECTED and now_ns - connection.heard_ns > _AGAIN_NS:
                connection.heard_ns = now_ns
                self._connect_again(endpoint)
        return {one.name: one.state for one in self._connections.values() if _log_change(one)}

    def state(self, name: str) -> ConnectionState:
        """Return the state of a connection, as last read; KeyError for an unknown name."""
        return {one.name: one.state for one in self._connections.values()}[name]

    def close(self) -> None:
        """Stop monitoring; call it before the socket is closed."""
        if not self.socket.closed:
            self._monitored.monitor(None, 0)
            self.socket.close()

    def _connect_again(self, endpoint: str) -> None:
        try:
            self._monitored.disconnect(endpoint)
        except zmq.ZMQError as error:
            log.debug("feed.not_connected", error=str(error))
        self._monitored.connect(endpoint)


def _log_change(one: _Connection) -> bool:
    """Log a new state; return whether it is new."""
    if one.state is one.logged:
        return False
    one.logged = one.state
    advice = _ADVICE.get(one.state)
    write = log.info if advice is None else log.warning
    write("feed.connection", of=one.name, state=one.state, advice=advice)
    return True
