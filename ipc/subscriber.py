"""Subscribing side of a feed: its sockets, one for each source, and what all feeds of public data share.

:class:`ipc.feed.Feed` and :class:`ipc.aio.AsyncFeed` add how they wait. With one source its state is the feed's; with
more, :class:`ipc.arbitration.arbitration.Arbitration` decides what is delivered.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import zmq

from ipc.arbitration.arbitration import Arbitration
from ipc.clocks import Suspension
from ipc.connections import ConnectionState, DisconnectMonitor
from ipc.errors import FeedError
from ipc.events import Event, Lifecycle
from ipc.feed_state import LIFECYCLE, FeedState, Top
from ipc.lines import Line
from ipc.replica import BookReplica
from ipc.rundir import RunDir
from ipc.subscription import UNEXPLAINED, Subscription

_NS: Final = 1_000_000_000
_NOW: Final = int(zmq.DONTWAIT)
_MORE: Final = int(zmq.RCVMORE)


class Link:
    """Socket of one source, with the monitors of its connections.

    Args:
        context: ZeroMQ context.
        subscription: Endpoints and topics.
        now_ns: Monotonic time.
        is_one_of_several: Report ends of connections, so that another source can take over at once.
    """

    def __init__(
        self, context: zmq.Context[Any], subscription: Subscription, now_ns: int, *, is_one_of_several: bool
    ) -> None:
        self.subscription = subscription
        self.socket = context.socket(zmq.SUB)
        self.connections = subscription.monitor(self.socket, now_ns)
        self.disconnects: DisconnectMonitor | None = None
        if is_one_of_several:
            self.report_ends()
        # The calls beneath ``recv_multipart``, whose own work costs more than all the rest of a small message.
        plain: Any = super(zmq.Socket, self.socket)
        self._recv: Callable[[int], bytes] = plain.recv
        self._get: Callable[[int], int] = plain.get
        subscription.open(self.socket)

    def report_ends(self) -> None:
        """Begin to report ends of connections on this machine; those to others are monitored anyway."""
        if self.connections is None and self.disconnects is None:
            self.disconnects = DisconnectMonitor(self.socket)

    def receive(self) -> list[bytes] | None:
        """Return the next message; None when none is there."""
        try:
            parts = [self._recv(_NOW)]
            while self._get(_MORE):
                parts.append(self._recv(_NOW))
        except zmq.Again:
            return None
        return parts

    def ended(self) -> list[str]:
        """Return the venues to which a connection on this machine has ended since the last call."""
        if self.disconnects is None:
            return []
        names = {endpoint: name for name, endpoint in self.subscription.endpoints.items()}
        return [names[endpoint] for endpoint in self.disconnects.read() if endpoint in names]

    def close(self) -> None:
        """Close the monitors and the socket."""
        for monitor in (self.connections, self.disconnects):
            if monitor is not None:
                monitor.close()
        self.socket.close()


class Subscriber:
    """Base of feeds: sockets, the state that follows from their messages, and the events that wait for the user.

    Args:
        context: ZeroMQ context.
        subscriptions: Endpoints and topics of each source; those without a venue wait until one is described.
        clock: Monotonic clock, ns.
        boot_clock: Clock of the time since boot, ns, that runs while the machine is suspended; None for the machine's
            when ``clock`` is the machine's.
        owns_context: Terminate the context on :meth:`close`.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        subscriptions: Sequence[Subscription],
        clock: Callable[[], int],
        boot_clock: Callable[[], int] | None,
        *,
        owns_context: bool = True,
    ) -> None:
        now = clock()
        self._clock = clock
        self._suspension = Suspension(clock, boot_clock)
        self._subscription = subscriptions[0]
        present = [one for one in subscriptions if one.endpoints] or list(subscriptions[:1])
        #: Sources without an endpoint so far.
        self._absent = [one for one in subscriptions if one not in present]
        self._pending: deque[Event] = deque()
        self._context = context
        self._owns_context = owns_context
        self._links = [Link(context, one, now, is_one_of_several=len(present) > 1) for one in present]
        #: State of the only source, or what decides between several.
        self._state: FeedState | Arbitration
        self._arbitration: Arbitration | None = None
        if len(present) == 1:
            self._state = _state_of(present[0], now)
        else:
            self._state = self._arbitration = self._arbitrate(present, now, None)
        #: Next read of the connections' monitors; never for feeds of this machine.
        self._connections_due_ns = 0 if any(link.connections for link in self._links) else sys.maxsize

    def close(self) -> None:
        """Close the subscription."""
        for link in self._links:
            link.close()
        if self._owns_context:
            self._context.term()

    @property
    def name(self) -> str:
        """Name of this consumer, as ``status`` shows it."""
        return self._subscription.name

    @property
    def run_dir(self) -> RunDir:
        """Run directory of the system; of the first one."""
        return self._subscription.run_dir

    @property
    def lost(self) -> int:
        """Number of messages that never arrived."""
        return self._state.lost

    @property
    def malformed(self) -> int:
        """Number of messages that could not be decoded."""
        return self._state.malformed

    @property
    def changeovers(self) -> dict[str, int]:
        """Number of changes from one source to another: one was ``lost``, ``behind`` or ``silent``."""
        return {} if self._arbitration is None else {str(k): v for k, v in self._arbitration.changeovers.items()}

    @property
    def single_line_s(self) -> float:
        """Time during which a venue was received from one of several sources only, s, over all venues."""
        return 0.0 if self._arbitration is None else self._arbitration.single_line_s

    @property
    def trades_of_one_line(self) -> int:
        """Number of recent trades that one of several sources alone has brought."""
        return 0 if self._arbitration is None else self._arbitration.trades_of_one_line

    def book(self, venue: str, symbol: str) -> BookReplica:
        """Return the book of a market, unusable until its first snapshot; raise FeedError for another venue's."""
        return self._state.book(venue, symbol, self._now())

    def books(self) -> list[BookReplica]:
        """Return every book that has been received so far."""
        return self._state.books(self._now())

    def latest(self, channel: str, venue: str, symbol: str, line: Line | None = None) -> Event | None:
        """Return the last event of a channel other than ``book``; None before the first.

        ``line`` selects one of ``status`` and ``heartbeat`` where there are two; else the last one counts.
        """
        if self._arbitration is not None:
            return self._arbitration.latest(channel, venue, symbol, line)
        return self._state.latest(channel, venue, symbol)

    def top(self, symbol: str) -> list[Top]:
        """Return the best bid and offer of a symbol on every venue that has it; unusable books give their reason."""
        return self._state.top(symbol, self._now())

    def connection(self, venue: str) -> ConnectionState | None:
        """Return the state of the TCP connection to a venue's feed (or ``lifecycle``); None on this machine.

        Raises:
            FeedError: The venue is not part of this feed.
        """
        if venue != LIFECYCLE and venue not in self._subscription.venues:
            raise FeedError(f"no such venue in this feed; it has {', '.join(self._subscription.venues)}", where=venue)
        monitors = [link.connections for link in self._links if link.connections is not None]
        if not monitors:
            return None
        self._read_connections(self._now())
        return monitors[0].state(venue)

    def _sockets(self) -> list[zmq.Socket[Any]]:
        """Return the sockets to wait for: an end of a connection wakes a feed of several sources as a message does."""
        monitors = [link.disconnects.socket for link in self._links if link.disconnects is not None]
        return [*(link.socket for link in self._links), *monitors]

    def _read_connections(self, now_ns: int) -> None:
        """Read the monitors of connections to other machines: when nothing arrives, and once a second otherwise."""
        for number, link in enumerate(self._links):
            if link.connections is None:
                continue
            for name, state in link.connections.read(now_ns).items():
                reason = None if state in UNEXPLAINED else str(state)
                if self._arbitration is None:
                    self._only_state().set_silence_reason(name, reason)
                    continue
                self._arbitration.set_silence_reason(number, name, reason)
                if state is not ConnectionState.CONNECTED and name != LIFECYCLE:
                    self._deliver(self._arbitration.disconnected(number, name, now_ns))
            self._connections_due_ns = link.connections.due_ns

    def _now(self) -> int:
        """Return the monotonic time; detect a suspension of the machine."""
        now = self._clock()
        if self._suspension.is_over(now):
            self._deliver(self._state.handle_resume(now, time.time_ns()) or ())
        return now

    def _handle(self, number: int, parts: Sequence[bytes]) -> None:
        """Apply a message of a source; queue its events for the user and request the snapshots that are needed."""
        link, arbitration = self._links[number], self._arbitration
        if arbitration is None:
            state = self._only_state()
            events = state.handle(parts, self._now())
            requests = state.snapshot_requests()
        else:
            events = arbitration.handle(number, parts, self._now())
            requests = arbitration.snapshot_requests(number)
        self._deliver(events)
        if requests:
            link.subscription.request_snapshots(link.socket, requests)

    def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Lifecycle):
                if event.event == "started":
                    self._update_sources()
                if not self._subscription.wants_lifecycle:
                    continue
            self._pending.append(event)

    def _check_silence(self, now_ns: int) -> None:
        """Hide the books of silent venues; cheap to call often."""
        self._deliver(self._state.check_silence(now_ns) or ())

    def _judge(self) -> None:
        """Let the arbitration decide what everything that has arrived leads to; read the ends of connections before."""
        arbitration = self._arbitration
        if arbitration is None:
            return
        now = self._now()
        for number, link in enumerate(self._links):
            for venue in link.ended():
                self._deliver(arbitration.disconnected(number, venue, now))
        self._deliver(arbitration.judge(now))

    def _update_sources(self) -> None:
        """Connect to lines that a system describes since one of its processes started."""
        now = self._now()
        for link in self._links:
            if link.subscription.remote is None:
                for endpoint in link.subscription.update().values():
                    link.socket.connect(endpoint)
        for subscription in [one for one in self._absent if one.remote is None and one.update()]:
            self._absent.remove(subscription)
            self._add(subscription, now)

    def _add(self, subscription: Subscription, now_ns: int) -> None:
        """Add a source, from which on there are several."""
        if self._arbitration is None:
            (first,) = self._links
            first.report_ends()
            present = [first.subscription, subscription]
            self._state = self._arbitration = self._arbitrate(present, now_ns, self._only_state())
        else:
            self._arbitration.add_source(subscription.source, now_ns, is_remote=subscription.remote is not None)
        self._links.append(Link(self._context, subscription, now_ns, is_one_of_several=True))

    def _only_state(self) -> FeedState:
        assert isinstance(self._state, FeedState)  # noqa: S101 - without an arbitration
        return self._state

    def _arbitrate(self, present: Sequence[Subscription], now_ns: int, first: FeedState | None) -> Arbitration:
        return Arbitration(
            self._subscription.venues,
            [one.source for one in present],
            now_ns,
            is_remote=[one.remote is not None for one in present],
            consumer=self._subscription.name,
            first=first,
        )


def _state_of(subscription: Subscription, now_ns: int) -> FeedState:
    return FeedState(
        subscription.venues,
        now_ns,
        is_remote=subscription.remote is not None,
        consumer=subscription.name,
        line=subscription.source.line,
    )
