"""The consumer's end: subscribe to a running system, iterate over its events, hold books that can be trusted.

    from ipc.feed import Feed

    with Feed(channels=["book", "trade"]) as feed:
        for event in feed:
            book = feed.book("lighter", "BTC-PERP")
            if book.usable:
                print(book.best_bid, book.best_ask)

A feed belongs to one thread. It survives restarts of workers and of the whole system, finds losses by sequence and by
heartbeat, and asks for a snapshot where it needs one. What it knows is kept by :mod:`ipc.feed_state`; the variant for
asyncio is :mod:`ipc.aio`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import zmq

from ipc.clocks import Suspension
from ipc.errors import FeedError, NotRunningError, UnknownStateError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Lifecycle, Status
from ipc.feed_state import HEARTBEAT_LOST_S, LIFECYCLE, FeedState, Top
from ipc.remote import Remote
from ipc.replica import BookReplica
from ipc.rundir import RunDir, run_dir_of
from ipc.topics import CHANNELS, VENUES, topic_of

__all__ = ["HEARTBEAT_LOST_S", "PUBLIC_CHANNELS", "Behind", "BehindError", "Feed", "Subscription", "conflate"]

#: What a feed subscribes when it is not told otherwise.
PUBLIC_CHANNELS: Final = ("book", "bbo", "trade", "mark", "funding")
#: What to do when the consumer is too slow: deliver all the same, deliver the last event of each topic, or raise.
Behind: TypeAlias = Literal["ignore", "conflate", "raise"]
#: A reconnect every 10 ms finds a restarted worker within 8 ms, for 3 % of a core while five are away.
_RECONNECT_MS: Final = 10
_RECEIVE_HWM: Final = 10_000
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Messages taken in one go when catching up.
_CATCH_UP: Final = 50_000
#: Past its deadline a read goes on for so long while there is something to take that may give an event.
_PATIENCE_NS: Final = 50 * _MS
#: Levels a side of the channel ``book20``.
_DEEP: Final = 20
_NOW: Final = int(zmq.DONTWAIT)
_MORE: Final = int(zmq.RCVMORE)


class BehindError(FeedError):
    """The consumer is slower than the feed: what it would be given is older than it allows."""

    def __init__(self, venue: str, age_ms: float, limit_ms: float) -> None:
        super().__init__(
            f"the next event is {age_ms:.0f} ms old, over the limit of {limit_ms:.0f} ms",
            where=venue,
            advice="read faster, subscribe to less, or let the feed conflate",
        )
        self.age_ms = age_ms


class Subscription:
    """Where to connect and what to subscribe; shared by the feeds with and without asyncio.

    Args:
        run_dir: The system's run directory; None takes the one that the environment names, else the default one.
        venues: Which venues; None takes all.
        channels: Which channels.
        symbols: Which symbols; None takes all.
        remote: A system that is reached over TCP; None reads the run directory of one on this machine.
    """

    def __init__(
        self,
        run_dir: str | Path | None,
        venues: Iterable[str] | None,
        channels: Sequence[str],
        symbols: Sequence[str] | None,
        remote: Remote | None = None,
    ) -> None:
        self.run_dir = run_dir_of(run_dir, os.environ)
        self._remote = remote
        self.is_remote = remote is not None
        if remote is None:
            self.endpoints = _endpoints(self.run_dir, venues)
        else:
            self.endpoints = {name: remote.endpoint(name) for name in (VENUES if venues is None else venues)}
        self.prefixes = _prefixes(tuple(self.endpoints), channels, symbols)
        self._books = tuple(prefix for prefix in self.prefixes if prefix.startswith("book."))
        self.tells_lifecycle = LIFECYCLE in channels

    def open(self, socket: zmq.Socket[Any]) -> None:
        """Set a SUB socket up for this subscription."""
        options = (
            (zmq.LINGER, 0),
            (zmq.RCVHWM, _RECEIVE_HWM),
            (zmq.SNDHWM, 0),  # what a SUB socket sends are its subscriptions; none may be dropped
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, 0),
        )
        for option, value in options:
            socket.setsockopt(option, value)
        for prefix in self.prefixes:
            socket.subscribe(prefix.encode())
        remote = self._remote
        if remote is not None:
            remote.apply(socket)
        lifecycle = self.run_dir.feed(LIFECYCLE) if remote is None else remote.endpoint(LIFECYCLE)
        for endpoint in (*self.endpoints.values(), lifecycle):
            socket.connect(endpoint)

    def ask(self, socket: zmq.Socket[Any], mirror: FeedState) -> None:
        """Ask for the snapshots that are needed: a worker answers every subscription, also one that was there already.

        What is not subscribed is not asked for: a snapshot without the changes behind it would be a wrong book.
        """
        for name in mirror.asks():
            if name.startswith(self._books):
                socket.subscribe(name.encode())
                socket.unsubscribe(name.encode())

    def wants(self, event: Event) -> bool:
        """Whether an event is for the user; what happens to processes is listened to in any case."""
        return self.tells_lifecycle or not isinstance(event, Lifecycle)


def conflate(events: Iterable[Event]) -> list[Event]:
    """The last event of every topic; gaps, states and processes are all kept.

    Books are up to date in the feed whatever is left out here; trades in between are gone.
    """
    kept: dict[object, Event] = {}
    for event in events:
        is_kept = isinstance(event, Gap | Status | Lifecycle)
        key = object() if is_kept else (_kind_of(event), event.venue, event.symbol)
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())


class Feed:
    """A subscription to one or more venues of a running system; a context manager.

    Args:
        run_dir: The system's run directory; None takes the one that the environment names, else the default one.
        venues: Which venues; None takes all.
        channels: Which channels; ``heartbeat`` and ``status`` are always there. What happens to processes is always
            listened to as well, and told with the channel ``lifecycle``.
        symbols: Which symbols (``BTC-PERP``); None takes all.
        remote: A system that is reached over TCP; None reads the run directory of one on this machine.
        max_age_ms: How old an event may be when it is delivered; None for any age.
        behind: What to do when it is older: ``ignore``, ``conflate`` or ``raise``.
        context: A ZeroMQ context to share; None makes one.
        clock: Monotonic clock, ns.
        boot_clock: Clock of the time since boot, ns, that goes on while the machine is suspended; None takes the
            machine's where ``clock`` is.

    ``conflated`` counts the events left out because the consumer was behind.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        venues: Iterable[str] | None = None,
        channels: Sequence[str] = PUBLIC_CHANNELS,
        symbols: Sequence[str] | None = None,
        remote: Remote | None = None,
        max_age_ms: float | None = None,
        behind: Behind = "ignore",
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] | None = None,
    ) -> None:
        self.conflated = 0
        self._clock = clock
        self._suspension = Suspension(clock, boot_clock)
        self._max_age_ms = max_age_ms
        self._behind = behind
        self._subscription = Subscription(run_dir, venues, channels, symbols, remote)
        self._mirror = FeedState(self._subscription.endpoints, clock(), is_remote=self._subscription.is_remote)
        self._pending: deque[Event] = deque()
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {}
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        # What ``recv_multipart`` ends in; its own turns cost more than all the rest of a small message.
        plain: Any = super(zmq.Socket, self._socket)
        self._recv: Callable[[int], bytes] = plain.recv
        self._get: Callable[[int], int] = plain.get
        self._subscription.open(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        if self._own_context:
            self._context.term()

    @property
    def run_dir(self) -> RunDir:
        """The run directory of the system."""
        return self._subscription.run_dir

    @property
    def lost(self) -> int:
        """Messages that never arrived."""
        return self._mirror.lost

    @property
    def malformed(self) -> int:
        """Messages that could not be read."""
        return self._mirror.malformed

    # --- events -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        """Events for ever, in the order of their arrival."""
        while True:
            event = self.poll(1.0)
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.0) -> Event | None:
        """The next event, or None when none came within ``timeout_s``.

        A loss that this feed found itself comes as a :class:`Gap` of its own making (``epoch`` 0).

        Raises:
            BehindError: It is too old, and ``behind`` says ``raise``.
        """
        now = self._now()
        deadline = now + int(timeout_s * _NS)
        self._mirror.look(now)
        while not self._pending:
            has_come = self._receive()
            left_ns = deadline - self._clock()
            if not has_come and (left_ns <= 0 or not self._socket.poll(max(1, left_ns // _MS))):
                self._mirror.look(self._now())
                return None
            if has_come and left_ns < -_PATIENCE_NS:
                return None
        self._mind_age(self._pending[0])
        return self._pending.popleft()

    def on(self, channel: str, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` with every event of a channel while :meth:`run` runs."""
        self._callbacks.setdefault(channel, []).append(callback)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read and call back, until ``until()`` says so (asked at least once a second)."""
        while not until():
            event = self.poll(1.0)
            if event is not None:
                for callback in self._callbacks.get(channel_of(event), ()):
                    callback(event)

    def wait_live(self, markets: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Read until the books of all ``markets`` (venue, symbol) are usable; whether they are.

        The events read meanwhile are applied, and not given to the caller.
        """
        deadline = self._clock() + int(timeout_s * _NS)
        while not all(self.book(*market).usable for market in markets):
            left_s = (deadline - self._clock()) / _NS
            if left_s <= 0:
                return False
            self.poll(min(left_s, 0.1))
        return True

    # --- what is known ----------------------------------------------------------------------------------------------

    def book(self, venue: str, symbol: str) -> BookReplica:
        """The book of a market; unusable until its first snapshot.

        Raises:
            FeedError: The venue is not part of this feed.
        """
        return self._mirror.book(venue, symbol, self._now())

    def books(self) -> list[BookReplica]:
        """Every book heard of so far."""
        return self._mirror.books(self._now())

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """The last event of a channel other than ``book``; None before the first."""
        return self._mirror.latest(channel, venue, symbol)

    def top(self, symbol: str) -> list[Top]:
        """The best bid and offer of a symbol on every venue that has it, with their ages; unusable books say why."""
        return self._mirror.top(symbol, self._now())

    # --- inside -----------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        """Return the monotonic time, having noticed a suspension of the machine."""
        now = self._clock()
        if self._suspension.is_over(now):
            self._mirror.resumed(now, time.time_ns())
        return now

    def _receive(self) -> bool:
        """Take one message if there is one."""
        try:
            parts = [self._recv(_NOW)]
            while self._get(_MORE):
                parts.append(self._recv(_NOW))
        except zmq.Again:
            return False
        for event in self._mirror.take(parts, self._now()):
            if self._subscription.wants(event):
                self._pending.append(event)
        self._subscription.ask(self._socket, self._mirror)
        return True

    def _mind_age(self, event: Event) -> None:
        """What to do when the next event has waited for too long."""
        if self._max_age_ms is None or self._behind == "ignore" or not event.recv_mono_ns:
            return
        age_ms = (self._clock() - event.recv_mono_ns) / _MS
        if age_ms <= self._max_age_ms or isinstance(event, Heartbeat):
            return
        if self._behind == "raise":
            self._pending.popleft()
            raise BehindError(event.venue, age_ms, self._max_age_ms)
        taken = 0
        while taken < _CATCH_UP and self._receive():
            taken += 1
        kept = conflate(self._pending)
        self.conflated += len(self._pending) - len(kept)
        self._pending = deque(kept)


def _kind_of(event: Event) -> str:
    """What is conflated together: the changes of a book, but not those of its deeper sibling."""
    if isinstance(event, BookSnapshot | BookDelta):
        is_deep = isinstance(event, BookSnapshot) and event.depth == _DEEP and "rest" not in event.flags
        return "book20" if is_deep else "book"
    return type(event).__name__


def channel_of(event: Event) -> str:
    """The channel that an event's kind stands for; ``book20`` is ``book`` here."""
    name = type(event).__name__
    return "book" if name in {"BookSnapshot", "BookDelta", "Gap"} else name.lower()


def _endpoints(run_dir: RunDir, venues: Iterable[str] | None) -> dict[str, str]:
    """Where each venue publishes: as described, or as it will be once the system starts."""
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
