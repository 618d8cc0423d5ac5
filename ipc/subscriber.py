"""Subscribing side of a feed: its socket, and what all feeds of public data share.

:class:`ipc.feed.Feed` and :class:`ipc.aio.AsyncFeed` add how they wait; :mod:`ipc.accounts` uses the socket alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import zmq

from ipc.clocks import Suspension
from ipc.connections import ConnectionMonitor, ConnectionState
from ipc.consumer_names import checked_name, topic_of_consumer
from ipc.errors import FeedError, NotRunningError, UnknownStateError
from ipc.events import Event, Lifecycle
from ipc.feed_state import LIFECYCLE, FeedState, Top
from ipc.remote import Remote
from ipc.replica import BookReplica
from ipc.rundir import RunDir, run_dir_of
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
    """Endpoints and topics of a subscription; arguments as for :class:`ipc.feed.Feed`."""

    def __init__(
        self,
        run_dir: str | Path | None,
        venues: Iterable[str] | None,
        channels: Sequence[str],
        symbols: Sequence[str] | None,
        remote: Remote | None = None,
        name: str | None = None,
    ) -> None:
        self.name = checked_name(name)
        self.run_dir = run_dir_of(run_dir, os.environ)
        self.is_remote = remote is not None
        #: Endpoints of the public feeds by venue.
        self.endpoints: dict[str, str]
        if remote is None:
            self.endpoints = _endpoints(self.run_dir, venues)
        else:
            self.endpoints = {name: remote.endpoint(name) for name in (VENUES if venues is None else venues)}
        self.prefixes = _prefixes(tuple(self.endpoints), channels, symbols)
        #: True when the user wants lifecycle events; the feed itself always receives them.
        self.has_lifecycle = LIFECYCLE in channels
        self._remote = remote
        self._books = tuple(prefix for prefix in self.prefixes if prefix.startswith("book."))

    def monitor(self, socket: zmq.Socket[Any], now_ns: int) -> ConnectionMonitor | None:
        """Return the monitor of a socket's connections to another machine; call it before :meth:`open`."""
        return None if self._remote is None else ConnectionMonitor(socket, self._all_endpoints(), now_ns)

    def open(self, socket: zmq.Socket[Any]) -> None:
        """Set up a SUB socket for this subscription."""
        prefixes = [*self.prefixes, topic_of_consumer(self.name)]
        connect(socket, self._all_endpoints().values(), prefixes, self._remote)

    def _all_endpoints(self) -> dict[str, str]:
        remote = self._remote
        lifecycle = self.run_dir.feed(LIFECYCLE) if remote is None else remote.endpoint(LIFECYCLE)
        return {**self.endpoints, LIFECYCLE: lifecycle}

    def request_snapshots(self, socket: zmq.Socket[Any], state: FeedState) -> None:
        """Request the snapshots that are needed, of subscribed books only: others would receive no changes."""
        topics = state.snapshot_requests()
        if topics:
            request_snapshots(socket, [topic for topic in topics if topic.startswith(self._books)])

    def wants(self, event: Event) -> bool:
        """Return whether an event is for the user."""
        return self.has_lifecycle or not isinstance(event, Lifecycle)


class Subscriber:
    """Base of feeds: a socket, the state that follows from its messages, and the events that wait for the user.

    Args:
        context: ZeroMQ context.
        subscription: Endpoints and topics.
        clock: Monotonic clock, ns.
        boot_clock: Clock of the time since boot, ns, that runs while the machine is suspended; None for the machine's
            when ``clock`` is the machine's.
        owns_context: Terminate the context on :meth:`close`.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        subscription: Subscription,
        clock: Callable[[], int],
        boot_clock: Callable[[], int] | None,
        *,
        owns_context: bool = True,
    ) -> None:
        self._clock = clock
        self._suspension = Suspension(clock, boot_clock)
        self._subscription = subscription
        self._state = FeedState(
            subscription.endpoints, clock(), is_remote=subscription.is_remote, consumer=subscription.name
        )
        self._pending: deque[Event] = deque()
        self._context = context
        self._owns_context = owns_context
        self._socket = context.socket(zmq.SUB)
        self._connections = subscription.monitor(self._socket, clock())
        #: Next read of the connections' monitor; never for feeds of this machine.
        self._connections_due_ns = sys.maxsize if self._connections is None else 0
        subscription.open(self._socket)

    def close(self) -> None:
        """Close the subscription."""
        if self._connections is not None:
            self._connections.close()
        self._socket.close()
        if self._owns_context:
            self._context.term()

    @property
    def name(self) -> str:
        """Name of this consumer, as ``status`` shows it."""
        return self._subscription.name

    @property
    def run_dir(self) -> RunDir:
        """Run directory of the system."""
        return self._subscription.run_dir

    @property
    def lost(self) -> int:
        """Number of messages that never arrived."""
        return self._state.lost

    @property
    def malformed(self) -> int:
        """Number of messages that could not be decoded."""
        return self._state.malformed

    def book(self, venue: str, symbol: str) -> BookReplica:
        """Return the book of a market, unusable until its first snapshot; raise FeedError for another venue's."""
        return self._state.book(venue, symbol, self._now())

    def books(self) -> list[BookReplica]:
        """Return every book that has been received so far."""
        return self._state.books(self._now())

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """Return the last event of a channel other than ``book``; None before the first."""
        return self._state.latest(channel, venue, symbol)

    def top(self, symbol: str) -> list[Top]:
        """Return the best bid and offer of a symbol on every venue that has it; unusable books give their reason."""
        return self._state.top(symbol, self._now())

    def connection(self, venue: str) -> ConnectionState | None:
        """Return the state of the TCP connection to a venue's feed (or ``lifecycle``); None on this machine.

        Raises:
            FeedError: The venue is not part of this feed.
        """
        if venue != LIFECYCLE and venue not in self._subscription.endpoints:
            raise FeedError(
                f"no such venue in this feed; it has {', '.join(self._subscription.endpoints)}", where=venue
            )
        if self._connections is None:
            return None
        self._read_connections(self._now())
        return self._connections.state(venue)

    def _read_connections(self, now_ns: int) -> None:
        """Read the monitor of the connections: when nothing arrives, and once a second otherwise."""
        monitor = self._connections
        if monitor is None:
            return
        for name, state in monitor.read(now_ns).items():
            self._state.set_silence_reason(name, None if state in UNEXPLAINED else str(state))
        self._connections_due_ns = monitor.due_ns

    def _now(self) -> int:
        """Return the monotonic time; detect a suspension of the machine."""
        now = self._clock()
        if self._suspension.is_over(now):
            self._state.handle_resume(now, time.time_ns())
        return now

    def _handle(self, parts: Sequence[bytes]) -> None:
        """Apply a message; queue its events for the user and request the snapshots that are needed."""
        for event in self._state.handle(parts, self._now()):
            if self._subscription.wants(event):
                self._pending.append(event)
        self._subscription.request_snapshots(self._socket, self._state)


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


def _prefixes(venues: Sequence[str], channels: Sequence[str], symbols: Sequence[str] | None) -> list[str]:
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown:
        raise FeedError("no such channel", where=unknown[0], advice=f"channels are {', '.join(CHANNELS)}")
    prefixes = ["heartbeat.", "status.", f"{LIFECYCLE}."]
    if symbols is None:
        return prefixes + [f"{channel}." for channel in channels]
    return prefixes + [topic_of(*parts) for parts in product(channels, venues, symbols)]
