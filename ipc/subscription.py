"""Subscription of a feed to one source: its endpoints, its topics, and its socket."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import zmq

from ipc.connections import ConnectionMonitor, ConnectionState
from ipc.consumer_names import checked_name, topic_of_consumer
from ipc.errors import FeedError, NotRunningError, UnknownStateError
from ipc.events import Event, Lifecycle
from ipc.feed_state import LIFECYCLE
from ipc.lines import LINES, Line, process_of
from ipc.remote import Remote
from ipc.rundir import RunDir, run_dir_of
from ipc.sources import Source, hosts, wanted_sources
from ipc.topics import CHANNELS, VENUES, topic_of

#: Default channels of a feed.
PUBLIC_CHANNELS: Final = ("book", "bbo", "trade", "mark", "funding")
#: A reconnect every 10 ms finds a restarted worker within 8 ms, for 3 % of a core while five are away.
_RECONNECT_MS: Final = 10
_RECEIVE_HWM: Final = 10_000
#: States of a connection that do not explain a lost heartbeat.
UNEXPLAINED: Final = frozenset({ConnectionState.CONNECTED, ConnectionState.CONNECTING})


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


class Subscription:
    """Endpoints and topics of a subscription to one source.

    Args:
        run_dir: Run directory of the system; None for the one in the environment, else the default one.
        venues: Venues; None for all.
        channels: Channels.
        symbols: Symbols; None for all.
        remote: System that is reached over TCP; None for one on this machine.
        name: Name of the consumer; None for the program's with its pid.
        source: Line to subscribe to, and the name of its host.
        has_lifecycle: Receive the lifecycle events of the system; one of its sources must.

    Raises:
        FeedError: A venue, a channel or the name is none.
    """

    def __init__(
        self,
        run_dir: str | Path | None,
        venues: Iterable[str] | None,
        channels: Sequence[str],
        symbols: Sequence[str] | None,
        remote: Remote | None = None,
        name: str | None = None,
        *,
        source: Source = Source("", LINES[0]),  # noqa: B008 - immutable
        has_lifecycle: bool = True,
    ) -> None:
        self.name = checked_name(name)
        self.run_dir = run_dir_of(run_dir, os.environ)
        self.remote = remote
        self.source = source
        self._venues = None if venues is None else tuple(venues)
        #: Endpoints of the public feeds by venue.
        self.endpoints = self._described_endpoints()
        #: Venues of the feed, whether this source has them or not.
        self.venues = tuple(self.endpoints if source.line == LINES[0] else self._all_endpoints(LINES[0]))
        self.prefixes = _prefixes(self.venues, channels, symbols)
        #: True when the user wants lifecycle events; the feed itself always receives them.
        self.wants_lifecycle = LIFECYCLE in channels
        self._has_lifecycle = has_lifecycle
        self._books = tuple(prefix for prefix in self.prefixes if prefix.startswith("book."))

    def monitor(self, socket: zmq.Socket[Any], now_ns: int) -> ConnectionMonitor | None:
        """Return the monitor of a socket's connections to another machine; call it before :meth:`open`."""
        return None if self.remote is None else ConnectionMonitor(socket, self.connections(), now_ns)

    def open(self, socket: zmq.Socket[Any]) -> None:
        """Set up a SUB socket for this subscription."""
        prefixes = [*self.prefixes, topic_of_consumer(self.name)]
        connect(socket, self.connections().values(), prefixes, self.remote)

    def connections(self) -> dict[str, str]:
        """Return the endpoints that a socket connects to, by venue, and ``lifecycle``."""
        if not self._has_lifecycle:
            return self.endpoints
        lifecycle = self.run_dir.feed(LIFECYCLE) if self.remote is None else self.remote.endpoint(LIFECYCLE)
        return {**self.endpoints, LIFECYCLE: lifecycle}

    def update(self) -> dict[str, str]:
        """Read the description of the system again; return the endpoints that are new, by venue."""
        before = self.endpoints
        self.endpoints = {**before, **self._described_endpoints()}
        return {name: endpoint for name, endpoint in self.endpoints.items() if before.get(name) != endpoint}

    def request_snapshots(self, socket: zmq.Socket[Any], topics: Iterable[str]) -> None:
        """Request snapshots of subscribed books only: others would receive no changes."""
        request_snapshots(socket, [topic for topic in topics if topic.startswith(self._books)])

    def wants(self, event: Event) -> bool:
        """Return whether an event is for the user."""
        return self.wants_lifecycle or not isinstance(event, Lifecycle)

    def _described_endpoints(self) -> dict[str, str]:
        return self._all_endpoints(self.source.line)

    def _all_endpoints(self, line: Line) -> dict[str, str]:
        if self.remote is not None:
            venues = VENUES if self._venues is None else self._venues
            return {name: self.remote.endpoint(process_of(name, line)) for name in venues}
        if line == LINES[0]:
            return _endpoints(self.run_dir, self._venues)
        return _second_endpoints(self.run_dir, self._venues)


def subscriptions_of(
    run_dir: str | Path | Sequence[str | Path] | None,
    venues: Iterable[str] | None,
    channels: Sequence[str],
    symbols: Sequence[str] | None,
    remote: Remote | Sequence[Remote | None] | None,
    name: str | None,
    sources: Sequence[str] | None,
) -> list[Subscription]:
    """Return a subscription for each source of a feed; arguments as for :class:`ipc.feed.Feed`.

    A second line over TCP is not described there, so it is one only where ``sources`` name it.

    Raises:
        FeedError: A venue, a channel, the name or a source is none.
    """
    systems = _systems(run_dir, remote)
    names = hosts(len(systems))
    wanted = wanted_sources(sources, names)
    named = checked_name(name)
    venues = None if venues is None else tuple(venues)
    made = []
    for host, (directory, other) in zip(names, systems, strict=True):
        lines = [source for source in wanted if source.host == host]
        if other is not None and sources is None:
            lines = lines[:1]
        made += [
            Subscription(
                directory, venues, channels, symbols, other, named, source=source, has_lifecycle=source == lines[0]
            )
            for source in lines
        ]
    return made


def _systems(
    run_dir: str | Path | Sequence[str | Path] | None, remote: Remote | Sequence[Remote | None] | None
) -> list[tuple[str | Path | None, Remote | None]]:
    """Return directory or address of each system that the arguments name."""
    remotes = [remote] if remote is None or isinstance(remote, Remote) else list(remote)
    systems: list[tuple[str | Path | None, Remote | None]]
    if run_dir is None or isinstance(run_dir, str | Path):
        systems = [(run_dir, one) for one in remotes]
    else:
        systems = [*((one, None) for one in run_dir), *((None, one) for one in remotes if one is not None)]
    if not systems:
        raise FeedError("no system to read", where="run_dir or remote", advice="give one at least")
    return systems


def _endpoints(run_dir: RunDir, venues: Iterable[str] | None) -> dict[str, str]:
    """Return the endpoint of each venue: as described, or the one it will have once the system starts."""
    try:
        described = {name: str(venue["feed"]) for name, venue in run_dir.describe()["venues"].items()}
    except (NotRunningError, UnknownStateError, KeyError, TypeError, AttributeError):
        described = {name: run_dir.feed(name) for name in VENUES}
    wanted = described if venues is None else tuple(venues)
    unknown = [name for name in wanted if name not in described and name not in VENUES]
    if unknown:
        raise FeedError("no such venue", where=unknown[0], advice=f"venues are {', '.join(VENUES)}")
    return {name: described.get(name, run_dir.feed(name)) for name in wanted}


def _second_endpoints(run_dir: RunDir, venues: Sequence[str] | None) -> dict[str, str]:
    """Return the endpoint of each venue's second line that is described: there is no other."""
    try:
        described = run_dir.describe()["venues"]
        return {
            name: str(venue["lines"][LINES[-1]]["feed"])
            for name, venue in described.items()
            if venue.get("lines") and (venues is None or name in venues)
        }
    except (NotRunningError, UnknownStateError, KeyError, TypeError, AttributeError):
        return {}


def _prefixes(venues: Sequence[str], channels: Sequence[str], symbols: Sequence[str] | None) -> list[str]:
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown:
        raise FeedError("no such channel", where=unknown[0], advice=f"channels are {', '.join(CHANNELS)}")
    prefixes = ["heartbeat.", "status.", f"{LIFECYCLE}."]
    if symbols is None:
        return prefixes + [f"{channel}." for channel in channels]
    return prefixes + [topic_of(*parts) for parts in product(channels, venues, symbols)]
