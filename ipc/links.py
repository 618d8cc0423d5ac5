"""Sockets of a consumer: one for each source, read one after the other.

A source is a line of a system (:mod:`ipc.sources`). Its socket is connected to that line of every venue, the first one
of a system to its lifecycle events as well. What a system describes may change; its sockets follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import zmq

from ipc.connections import ConnectionMonitor
from ipc.errors import FeedError
from ipc.events import Lifecycle
from ipc.feed_state import LIFECYCLE
from ipc.lines import LINES, Line
from ipc.remote import Remote
from ipc.sources import Source, SourceFilter
from ipc.systems import System

#: A reconnect every 10 ms finds a restarted worker within 8 ms, for 3 % of a core while five are away.
_RECONNECT_MS: Final = 10
_RECEIVE_HWM: Final = 10_000
#: Longest wait of a consumer with several sources, which judges them in between, ms.
WAIT_MS: Final = 20
#: Messages of one source that are read before the next one is.
_BURST: Final = 16
_NOW: Final = int(zmq.DONTWAIT)
_MORE: Final = int(zmq.RCVMORE)

#: Returns the endpoint of a line of a venue in a system; None where there is none.
EndpointOf: TypeAlias = Callable[[System, str, Line], str | None]


def connect(
    socket: zmq.Socket[Any],
    endpoints: Iterable[str],
    prefixes: Iterable[str],
    remote: Remote | None,
    *,
    hwm: int = _RECEIVE_HWM,
) -> None:
    """Set up a SUB socket: options, subscriptions, keys of a remote system, connections.

    ``hwm`` limits the messages that may wait for the consumer; 0 for any number.
    """
    options = (
        (zmq.LINGER, 0),
        (zmq.RCVHWM, hwm),
        (zmq.SNDHWM, 0),  # a SUB socket sends its subscriptions; none may be dropped
        (zmq.RECONNECT_IVL, _RECONNECT_MS),
        (zmq.RECONNECT_IVL_MAX, 0),
    )
    for option, value in options:
        socket.setsockopt(option, value)
    for prefix in prefixes:
        socket.subscribe(prefix.encode())
    if remote is not None:
        remote.apply(socket)
    for endpoint in endpoints:
        socket.connect(endpoint)


def request_snapshots(socket: zmq.Socket[Any], topics: Iterable[str]) -> None:
    """Request snapshots: a publisher answers every subscription, including one that exists already."""
    for topic in topics:
        socket.subscribe(topic.encode())
        socket.unsubscribe(topic.encode())


class Link:
    """Socket of one source.

    Attributes:
        source: Its source.
        system: System of the source.
        endpoints: Endpoints that it is connected to, by venue, with ``lifecycle`` on the first one of a system.
        monitor: Monitor of its connections; None for one on this machine that is not watched.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        source: Source,
        system: System,
        endpoints: dict[str, str],
        prefixes: Iterable[str],
        now_ns: int,
        *,
        hwm: int,
    ) -> None:
        self.source = source
        self.system = system
        self.endpoints = endpoints
        self.socket = context.socket(zmq.SUB)
        self.monitor: ConnectionMonitor | None = None
        if system.remote is not None:
            self.monitor = ConnectionMonitor(self.socket, endpoints, now_ns)
        connect(self.socket, endpoints.values(), prefixes, system.remote, hwm=hwm)
        # The calls beneath ``recv_multipart``, whose own work costs more than all the rest of a small message.
        plain: Any = super(zmq.Socket, self.socket)
        self._recv: Callable[[int], bytes] = plain.recv
        self._get: Callable[[int], int] = plain.get

    @property
    def is_remote(self) -> bool:
        """True for a source on another machine."""
        return self.system.remote is not None

    def receive(self) -> list[bytes] | None:
        """Return the next message; None when none is waiting."""
        try:
            parts = [self._recv(_NOW)]
            while self._get(_MORE):
                parts.append(self._recv(_NOW))
        except zmq.Again:
            return None
        return parts

    def watch(self, now_ns: int) -> None:
        """Watch the connections, also those on this machine, for ends."""
        if self.monitor is None:
            self.monitor = ConnectionMonitor(self.socket, self.endpoints, now_ns, is_local=True)

    def reconnect(self, endpoints: dict[str, str], now_ns: int) -> list[str]:
        """Connect to endpoints and to no others; return the names of those that are gone."""
        before, self.endpoints = self.endpoints, endpoints
        gone = [name for name, endpoint in before.items() if endpoints.get(name) != endpoint]
        for name in gone:
            if self.monitor is not None:
                self.monitor.remove(before[name])
            self.socket.disconnect(before[name])
        for name, endpoint in endpoints.items():
            if before.get(name) != endpoint:
                if self.monitor is not None:
                    self.monitor.add(name, endpoint, now_ns)
                self.socket.connect(endpoint)
        return gone

    def close(self) -> None:
        """Close the socket."""
        if self.monitor is not None:
            self.monitor.close()
        self.socket.close()


class LinkChanges(NamedTuple):
    """Changes by a new description of a system: numbers of new links, and lines of venues that are gone."""

    new: list[int]
    #: Number of the link and venue.
    gone: list[tuple[int, str]]


class Links:
    """Sockets of a consumer; a link's number is its place in ``links`` and never changes.

    Args:
        context: ZeroMQ context.
        systems: Systems to read.
        chosen: Sources to read.
        venues: Venues to read.
        endpoint: Gives the endpoints.
        prefixes: Topics to subscribe to.
        now_ns: Monotonic time.
        hwm: Messages that may wait for the consumer on each socket; 0 for any number.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        systems: Sequence[System],
        chosen: SourceFilter,
        venues: Iterable[str],
        endpoint: EndpointOf,
        prefixes: Sequence[str],
        now_ns: int,
        *,
        hwm: int = _RECEIVE_HWM,
    ) -> None:
        self.links: list[Link] = []
        self._context = context
        self._chosen = chosen
        self._venues = tuple(venues)
        self._endpoint = endpoint
        self._prefixes = prefixes
        self._hwm = hwm
        self._next = 0
        #: Messages that were read of the next link in succession.
        self._burst = 0
        #: Of all sockets; None before the first wait, and after a change.
        self._poller: zmq.Poller | None = None
        for system in systems:
            self._update(system, now_ns)

    def receive(self) -> tuple[int, list[bytes]] | None:
        """Return the next message with the number of its link; None when every socket was found empty."""
        links = self.links
        for _ in links:
            number = self._next
            parts = links[number].receive()
            self._burst += 1
            if parts is None or self._burst >= _BURST:
                self._next, self._burst = (number + 1) % len(links), 0
            if parts is not None:
                return number, parts
        return None

    def update(self, number: int, event: Lifecycle, now_ns: int) -> LinkChanges | None:
        """Follow what a link's system describes after a lifecycle event; return the changes, None for none."""
        system = self.links[number].system
        return self._update(system, now_ns) if system.update(event) else None

    def watch(self, now_ns: int) -> None:
        """Watch the connections of all links for ends."""
        for link in self.links:
            link.watch(now_ns)
        self._poller = None

    def link(self, source: str | None) -> Link:
        """Return the link of a source given as text, the first for None; raise FeedError if there is no such one."""
        known = {str(link.source): link for link in self.links}
        if source is not None and source not in known:
            raise FeedError(f"no such source in this feed; it has {', '.join(known)}", where=source)
        return self.links[0] if source is None else known[source]

    def sockets(self) -> list[zmq.Socket[Any]]:
        """Return what to wait for: the sockets, and those of their monitors."""
        monitors = [link.monitor.socket for link in self.links if link.monitor is not None]
        return [*(link.socket for link in self.links), *monitors]

    def wait(self, wait_ms: int) -> bool:
        """Wait for a message, or for news of a connection; return False when there was none in the time.

        With several links it returns True after :data:`WAIT_MS` at the latest, so that the caller checks them.
        """
        if len(self.links) == 1:
            return bool(self.links[0].socket.poll(wait_ms))
        if self._poller is None:
            self._poller = zmq.Poller()
            for socket in self.sockets():
                self._poller.register(socket, zmq.POLLIN)
        self._poller.poll(min(wait_ms, WAIT_MS))
        return True

    def close(self) -> None:
        """Close all sockets."""
        for link in self.links:
            link.close()

    def _update(self, system: System, now_ns: int) -> LinkChanges:
        """Connect a system's links as it is described now; make those that it lacks."""
        numbers = {link.source.line: number for number, link in enumerate(self.links) if link.system is system}
        changes = LinkChanges([], [])
        for line in LINES:
            if not self._chosen.has(system.host, line):
                continue
            endpoints = self._endpoints(system, line)
            number = numbers.get(line)
            is_first = number == min(numbers.values(), default=None)
            if is_first or not numbers:  # also without a feed: the lifecycle events tell when there is one
                endpoints[LIFECYCLE] = system.lifecycle
            if number is not None:
                gone = self.links[number].reconnect(endpoints, now_ns)
                changes.gone.extend((number, name) for name in gone)
            elif endpoints:
                numbers[line] = len(self.links)
                changes.new.append(numbers[line])
                self._open(Source(system.host, line), system, endpoints, now_ns)
        return changes

    def _endpoints(self, system: System, line: Line) -> dict[str, str]:
        found = {venue: self._endpoint(system, venue, line) for venue in self._venues}
        return {venue: endpoint for venue, endpoint in found.items() if endpoint is not None}

    def _open(self, source: Source, system: System, endpoints: dict[str, str], now_ns: int) -> None:
        one = Link(self._context, source, system, endpoints, self._prefixes, now_ns, hwm=self._hwm)
        self.links.append(one)
        self._poller = None
