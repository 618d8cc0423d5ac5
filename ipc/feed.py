"""Feed of a running system: its events, and books that show prices only while they are known to be right.

    from ipc.feed import Feed

    with Feed(channels=["book", "trade"]) as feed:
        for event in feed:
            book = feed.book("lighter", "BTC-PERP")
            if book.usable:
                print(book.best_bid, book.best_ask)

A feed belongs to one thread. It survives restarts of workers and of the whole system, detects losses by sequence and by
heartbeat, and requests a snapshot where it needs one. Its state is kept by :mod:`ipc.feed_state`; the variant for
asyncio is :mod:`ipc.aio`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import zmq

from ipc.errors import FeedError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Lifecycle, Status
from ipc.feed_state import HEARTBEAT_LOST_S
from ipc.subscriber import Subscriber
from ipc.subscription import PUBLIC_CHANNELS, Subscription
from ipc.systems import Remotes, RunDirs

__all__ = ["HEARTBEAT_LOST_S", "PUBLIC_CHANNELS", "Behind", "BehindError", "Feed", "Subscription", "conflate"]

#: How to treat a consumer that is too slow: deliver old events, deliver the last event of each topic, or raise.
Behind: TypeAlias = Literal["ignore", "conflate", "raise"]
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Messages read at once to catch up.
_CATCH_UP: Final = 50_000
#: A read continues this long past its deadline while messages arrive that may yield an event.
_GRACE_NS: Final = 50 * _MS


class BehindError(FeedError):
    """Consumer slower than the feed: the next event is older than allowed."""

    def __init__(self, venue: str, age_ms: float, limit_ms: float) -> None:
        super().__init__(
            f"the next event is {age_ms:.0f} ms old, over the limit of {limit_ms:.0f} ms",
            where=venue,
            advice="read faster, subscribe to less, or let the feed conflate",
        )
        self.age_ms = age_ms


def conflate(events: Iterable[Event]) -> list[Event]:
    """Return the last event of every topic, and all gaps, statuses and lifecycle events.

    Books in the feed stay up to date; trades in between are dropped.
    """
    kept: dict[object, Event] = {}
    for event in events:
        is_kept = isinstance(event, Gap | Status | Lifecycle)
        # Heartbeats are about a line, all others are one stream.
        line = event.line if isinstance(event, Heartbeat) else None
        key = object() if is_kept else (_kind_of(event), event.venue, event.symbol, line)
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())


class Feed(Subscriber):
    """Subscription to one or more venues of a running system; a context manager.

    Args:
        run_dir: Run directory of the system, or a list of them; None for the one in the environment, else the default
            one.
        venues: Venues; None for all.
        channels: Channels; ``heartbeat`` and ``status`` are always included. Lifecycle events are always received, and
            delivered with the channel ``lifecycle``.
        symbols: Symbols (``BTC-PERP``); None for all.
        remote: System that is reached over TCP instead, or a list of systems, where None is the run directory; a list
            of run directories is read in any case. All sources are arbitrated.
        sources: Sources to read, of lines and systems: ``:a``, ``h2``, ``h2:a`` (:mod:`ipc.sources`); None for all.
        name: Name of this consumer for operators, 1 to 64 letters, digits, dots, hyphens and underscores; None for
            the program's with its pid.
        max_age_ms: Maximum age of a delivered event; None for any.
        behind: Treatment of older events: ``ignore``, ``conflate`` or ``raise``.
        context: ZeroMQ context to share; None for a new one.
        clock: Monotonic clock, ns.
        boot_clock: Clock of the time since boot, ns, that runs while the machine is suspended; None for the machine's
            when ``clock`` is the machine's.

    ``conflated`` counts the events dropped because the consumer was behind. Losses are logged (``feed.lost``).

    Raises:
        FeedError: A venue, a channel, a system, a source or the name is none.
    """

    def __init__(
        self,
        run_dir: RunDirs = None,
        *,
        venues: Iterable[str] | None = None,
        channels: Sequence[str] = PUBLIC_CHANNELS,
        symbols: Sequence[str] | None = None,
        remote: Remotes = None,
        sources: Sequence[str] | None = None,
        name: str | None = None,
        max_age_ms: float | None = None,
        behind: Behind = "ignore",
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] | None = None,
    ) -> None:
        subscription = Subscription(run_dir, venues, channels, symbols, remote, name, sources)
        super().__init__(context or zmq.Context(), subscription, clock, boot_clock, owns_context=context is None)
        self.conflated = 0
        self._max_age_ms = max_age_ms
        self._behind = behind
        #: By channel.
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        """Yield events in the order of their arrival, without end."""
        while True:
            event = self.poll(1.0)
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.0) -> Event | None:
        """Return the next event, or None when none arrived within ``timeout_s``.

        A loss that this feed detected itself is delivered as a :class:`Gap` of epoch 0.

        Raises:
            BehindError: The event is too old, and ``behind`` is ``raise``.
        """
        deadline = self._check() + int(timeout_s * _NS)
        while not self._pending:
            has_received = self._receive()
            left_ns = deadline - self._clock()
            if not has_received and (left_ns <= 0 or not self._wait(max(1, left_ns // _MS))):
                self._check()
                if not self._pending:
                    return None
            if has_received and left_ns < -_GRACE_NS:
                return None
        self._enforce_age(self._pending[0])
        return self._pending.popleft()

    def on(self, channel: str, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` with every event of a channel while :meth:`run` runs."""
        self._callbacks.setdefault(channel, []).append(callback)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read and call back until ``until()`` is true (checked at least once a second)."""
        while not until():
            event = self.poll(1.0)
            if event is not None:
                for callback in self._callbacks.get(channel_of(event), ()):
                    callback(event)

    def wait_live(self, markets: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Read until the books of all ``markets`` (venue, symbol) are usable; return False on timeout.

        The events read meanwhile are applied, not delivered.
        """
        deadline = self._clock() + int(timeout_s * _NS)
        while not all(self.book(*market).usable for market in markets):
            left_s = (deadline - self._clock()) / _NS
            if left_s <= 0:
                return False
            self.poll(min(left_s, 0.1))
        return True

    def _wait(self, wait_ms: int) -> bool:
        """Wait for a message; return whether to go on reading, which several sources need even without one."""
        goes_on = self._links.wait(wait_ms)
        if self._arbitration is not None:
            self._connections_due_ns = 0
            self._check()
        return goes_on

    def _enforce_age(self, event: Event) -> None:
        """Conflate or raise when the next event is too old."""
        if self._max_age_ms is None or self._behind == "ignore" or not event.recv_mono_ns:
            return
        age_ms = (self._clock() - event.recv_mono_ns) / _MS
        if age_ms <= self._max_age_ms or isinstance(event, Heartbeat) or _is_old_by_nature(event):
            return
        if self._behind == "raise":
            self._pending.popleft()
            raise BehindError(event.venue, age_ms, self._max_age_ms)
        received = 0
        while received < _CATCH_UP and self._receive():
            received += 1
        kept = conflate(self._pending)
        self.conflated += len(self._pending) - len(kept)
        self._pending = deque(kept)


def _is_old_by_nature(event: Event) -> bool:
    """Return whether an event is old without any fault of the consumer's, who changed to another source."""
    return "late" in event.flags or (isinstance(event, BookSnapshot) and event.cause == "takeover")


def _kind_of(event: Event) -> str:
    """Return the key by which events are conflated: the changes of a book together, apart from ``book20``."""
    if isinstance(event, BookSnapshot):
        return event.channel
    return "book" if isinstance(event, BookDelta) else type(event).__name__


def channel_of(event: Event) -> str:
    """Return the channel of an event's kind; ``book`` also for ``book20``."""
    name = type(event).__name__
    return "book" if name in {"BookSnapshot", "BookDelta", "Gap"} else name.lower()
