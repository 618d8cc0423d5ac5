"""Subscribing side of feeds of public data: their sockets, and the state that follows from the messages.

:class:`ipc.feed.Feed` and :class:`ipc.aio.AsyncFeed` add how they wait. With one source the state is a
:class:`~ipc.feed_state.FeedState`; with more an :class:`~ipc.arbitration.arbitration.Arbitration` decides between them.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import zmq

from ipc.arbitration.arbitration import Arbitration
from ipc.clocks import Suspension
from ipc.connections import UNEXPLAINED, ConnectionState
from ipc.errors import FeedError
from ipc.events import Event, Lifecycle
from ipc.feed_state import LIFECYCLE, FeedState, Top
from ipc.lines import Line
from ipc.replica import BookReplica
from ipc.rundir import RunDir
from ipc.sources import Source
from ipc.subscription import Subscription
from ipc.systems import LocalSystem

#: Between two reads of the monitors of several sources while messages arrive.
_ENDS_NS: Final = 5_000_000
#: Messages that are read of a source whose connection ended.
_LAST_MESSAGES: Final = 10_000


class Subscriber:
    """Base of feeds: the sockets of its sources, the state that follows from their messages, and the waiting events.

    Args:
        context: ZeroMQ context.
        subscription: Systems, sources and topics.
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
        now = clock()
        self._clock = clock
        self._suspension = Suspension(clock, boot_clock)
        self._subscription = subscription
        self._pending: deque[Event] = deque()
        self._context = context
        self._owns_context = owns_context
        self._links = subscription.links(context, now)
        self._first = self._links.links[0]
        #: Next read of the monitors of the connections; never for one source of this machine.
        self._connections_due_ns = sys.maxsize if self._first.monitor is None else 0
        #: State of the only source; None with several.
        self._only: FeedState | None = FeedState(
            subscription.venues,
            now,
            is_remote=self._first.is_remote,
            consumer=subscription.name,
            line=self._first.source.line,
        )
        #: None with one source.
        self._arbitration: Arbitration | None = None
        self._state: FeedState | Arbitration = self._only
        if len(self._links.links) > 1:
            self._begin_arbitration(now)

    def close(self) -> None:
        """Close the subscription."""
        self._links.close()
        if self._owns_context:
            self._context.term()

    @property
    def name(self) -> str:
        """Name of this consumer, as ``status`` shows it."""
        return self._subscription.name

    @property
    def run_dir(self) -> RunDir:
        """Run directory of the first system on this machine; raise FeedError if all are reached over TCP."""
        for system in self._subscription.systems:
            if isinstance(system, LocalSystem):
                return system.run_dir
        raise FeedError("this feed reads no run directory", advice="give it one with run_dir")

    @property
    def sources(self) -> list[Source]:
        """Sources that are read, in the order in which they were found; a line that is added joins them."""
        return [link.source for link in self._links.links]

    @property
    def lost(self) -> int:
        """Number of messages that never arrived, over all sources."""
        return self._state.lost

    @property
    def malformed(self) -> int:
        """Number of messages that could not be decoded, over all sources."""
        return self._state.malformed

    @property
    def changeovers(self) -> dict[str, int]:
        """Number of books' changes from one source to another by reason: ``behind``, ``silent``, ``lost``."""
        return {} if self._arbitration is None else {str(key): n for key, n in self._arbitration.changeovers.items()}

    @property
    def trades_of_one_line(self) -> int:
        """Number of trades that only one of several sources delivered."""
        return 0 if self._arbitration is None else self._arbitration.trades_of_one_line

    @property
    def single_line_s(self) -> float:
        """Time for which a feed of several sources had only one, s."""
        return 0.0 if self._arbitration is None else self._arbitration.single_line_s

    def book(self, venue: str, symbol: str) -> BookReplica:
        """Return the book of a market, unusable until its first snapshot; raise FeedError for another venue's.

        It is one object for the life of the feed.
        """
        return self._state.book(venue, symbol, self._now())

    def books(self) -> list[BookReplica]:
        """Return every book that has been received so far."""
        return self._state.books(self._now())

    def latest(self, channel: str, venue: str, symbol: str, line: Line | None = None) -> Event | None:
        """Return the last event of a channel other than ``book``; None before the first.

        Statuses, heartbeats and instruments are about a line: ``line`` names it; None for the last of any line.
        For ``lifecycle``, ``venue`` names a process (``lighter``, ``lighter.b``), and ``symbol`` is ignored.
        """
        if self._arbitration is not None:
            return self._arbitration.latest(channel, venue, symbol, line=line)
        return None if line not in {None, self._first.source.line} else self._state.latest(channel, venue, symbol)

    def top(self, symbol: str) -> list[Top]:
        """Return the best bid and offer of a symbol on every venue that has it; unusable books give their reason."""
        return self._state.top(symbol, self._now())

    def connection(self, venue: str, source: str | None = None) -> ConnectionState | None:
        """Return the state of a source's TCP connection to a venue's feed (or ``lifecycle``); None on this machine.

        ``source`` is one of :attr:`sources` as text, ``h2:b``; None for the first.

        Raises:
            FeedError: The venue or the source is not part of this feed.
        """
        link = self._links.link(source)
        if venue != LIFECYCLE and venue not in self._subscription.venues:
            raise FeedError(f"no such venue in this feed; it has {', '.join(self._subscription.venues)}", where=venue)
        if link.monitor is None or not link.is_remote or venue not in link.endpoints:
            return None
        self._read_connections(self._now())
        return link.monitor.state(venue)

    def _now(self) -> int:
        """Return the monotonic time; detect a suspension of the machine."""
        now = self._clock()
        if self._suspension.is_over(now):
            self._pending.extend(self._state.handle_resume(now, time.time_ns()) or ())
        return now

    def _check(self) -> int:
        """Check for silent venues, and read the monitors when that is due; return the time."""
        now = self._now()
        self._pending.extend(self._state.check_silence(now) or ())
        if now >= self._connections_due_ns:
            self._read_connections(now)
        return now

    def _receive(self) -> bool:
        """Handle one message if there is one; judge the sources if there is none. Return whether to go on."""
        if self._arbitration is None:
            parts = self._first.receive()
            if parts is None:
                return False
            self._handle(0, parts)
            return True
        message = self._links.receive()
        if message is None:
            self._judge(self._arbitration)
            return bool(self._pending)
        self._handle(*message)
        return True

    def _handle(self, number: int, parts: Sequence[bytes]) -> None:
        """Apply a message of a source; queue its events for the user and request the snapshots that are needed."""
        now = self._now()
        if self._only is not None:
            self._deliver(number, self._only.handle(parts, now), now)
        elif self._arbitration is not None:
            self._deliver(number, self._arbitration.handle(number, parts, now), now)

    def _deliver(self, number: int, events: Iterable[Event], now: int) -> None:
        for event in events:
            if not isinstance(event, Lifecycle) or self._on_lifecycle(number, event, now):
                self._pending.append(event)
        self._request_snapshots(number)

    def _request_snapshots(self, number: int) -> None:
        topics: list[str] = []
        if self._only is not None:
            topics = self._only.snapshot_requests()
        elif self._arbitration is not None:
            topics = self._arbitration.snapshot_requests(number)
        if topics:
            self._subscription.request_snapshots(self._links.links[number].socket, topics)

    def _judge(self, arbitration: Arbitration) -> None:
        """Judge the sources, of which all messages were read."""
        now = self._now()
        if now >= self._connections_due_ns:
            self._read_connections(now)
        self._deliver_all(arbitration.judge(now), now)

    def _deliver_all(self, events: Sequence[Event], now: int) -> None:
        """Deliver events that follow from no message."""
        self._deliver(0, events, now)
        for number in range(1, len(self._links.links)):
            self._request_snapshots(number)

    def _on_lifecycle(self, number: int, event: Lifecycle, now: int) -> bool:
        """Follow changes of a system; return whether the event is for the user."""
        changes = self._links.update(number, event, now)
        if changes is not None:
            if self._arbitration is not None:
                for one in changes.new:
                    link = self._links.links[one]
                    self._arbitration.add_source(link.source, now, is_remote=link.is_remote)
            elif changes.new:
                self._begin_arbitration(now)
            if self._arbitration is not None:
                self._links.watch(now)
                for one, venue in changes.gone:
                    if venue != LIFECYCLE:
                        self._deliver(one, self._arbitration.disconnected(one, venue, now), now)
        return self._subscription.wants(event)

    def _begin_arbitration(self, now: int) -> None:
        """Arbitrate from now on; what the only source has delivered so far counts."""
        links = self._links.links
        self._arbitration = self._state = Arbitration(
            self._subscription.venues,
            [link.source for link in links],
            now,
            is_remote=[link.is_remote for link in links],
            consumer=self._subscription.name,
            first=self._only,
        )
        self._only = None
        self._connections_due_ns = 0
        self._links.watch(now)

    def _read_connections(self, now_ns: int) -> None:
        """Read the monitors of the connections: when nothing arrives, and once in a while otherwise."""
        arbitration = self._arbitration
        for number, link in enumerate(self._links.links):
            monitor = link.monitor
            if monitor is None:
                continue
            for name, state in monitor.read(now_ns).items():
                reason = None if state in UNEXPLAINED else str(state)
                if self._only is not None:
                    self._only.set_silence_reason(name, reason)
                elif arbitration is not None:
                    arbitration.set_silence_reason(number, name, reason)
            self._connections_due_ns = monitor.due_ns if arbitration is None else now_ns + _ENDS_NS
            if arbitration is not None:
                self._on_ended(arbitration, number, monitor.ended())

    def _on_ended(self, arbitration: Arbitration, number: int, venues: Sequence[str]) -> None:
        """Apply the ends of connections, after the last messages that came over them."""
        link = self._links.links[number]
        for _ in range(_LAST_MESSAGES if venues else 0):
            parts = link.receive()
            if parts is None:
                break
            self._handle(number, parts)
        for venue in venues:
            if venue != LIFECYCLE:
                now = self._now()
                self._deliver_all(arbitration.disconnected(number, venue, now), now)
