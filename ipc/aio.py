"""The consumer's end for asyncio: the same feed, awaited.

    from ipc.aio import AsyncFeed

    async with AsyncFeed(channels=["book"]) as feed:
        async for event in feed:
            print(feed.top("BTC-PERP"))

It keeps the same rules, and what it knows is kept by the same :mod:`ipc.feed_state`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import zmq.asyncio

from ipc.clocks import Suspension
from ipc.events import Event
from ipc.feed import PUBLIC_CHANNELS, Subscription
from ipc.feed_state import FeedState, Top
from ipc.remote import Remote
from ipc.replica import BookReplica

__all__ = ["AsyncFeed"]

#: Without a message for so long the venues are looked at for silence, ms.
_LOOK_MS: Final = 200


class AsyncFeed:
    """A subscription in an event loop; an asynchronous context manager.

    Arguments as of :class:`ipc.feed.Feed`, without those for slow consumers.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        venues: Iterable[str] | None = None,
        channels: Sequence[str] = PUBLIC_CHANNELS,
        symbols: Sequence[str] | None = None,
        remote: Remote | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] | None = None,
    ) -> None:
        self._clock = clock
        self._suspension = Suspension(clock, boot_clock)
        self._subscription = Subscription(run_dir, venues, channels, symbols, remote)
        self._mirror = FeedState(self._subscription.endpoints, clock(), is_remote=self._subscription.is_remote)
        self._pending: deque[Event] = deque()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._subscription.open(self._socket)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        self._context.term()

    @property
    def lost(self) -> int:
        """Messages that never arrived."""
        return self._mirror.lost

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events for ever, in the order of their arrival."""
        while True:
            yield await self.next()

    async def next(self) -> Event:
        """The next event."""
        while not self._pending:
            parts = await self._received()
            events = self._mirror.take(parts, self._now())
            self._pending.extend(event for event in events if self._subscription.wants(event))
            self._subscription.ask(self._socket, self._mirror)
        return self._pending.popleft()

    def _now(self) -> int:
        """Return the monotonic time, having noticed a suspension of the machine."""
        now = self._clock()
        if self._suspension.is_over(now):
            self._mirror.resumed(now, time.time_ns())
        return now

    async def _received(self) -> list[bytes]:
        """The next message; silence is noticed meanwhile."""
        while True:
            self._mirror.look(self._now())
            if await self._socket.poll(_LOOK_MS):
                return await self._socket.recv_multipart()

    async def wait_live(self, markets: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Read until the books of all ``markets`` are usable; whether they are."""

        async def read() -> None:
            while not all(self.book(*market).usable for market in markets):
                await self.next()

        try:
            await asyncio.wait_for(read(), timeout_s)
        except TimeoutError:
            return False
        return True

    def book(self, venue: str, symbol: str) -> BookReplica:
        """The book of a market; see :meth:`ipc.feed.Feed.book`."""
        return self._mirror.book(venue, symbol, self._now())

    def books(self) -> list[BookReplica]:
        """Every book heard of so far."""
        return self._mirror.books(self._now())

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """The last event of a channel other than ``book``."""
        return self._mirror.latest(channel, venue, symbol)

    def top(self, symbol: str) -> list[Top]:
        """The best bid and offer of a symbol on every venue; see :meth:`ipc.feed.Feed.top`."""
        return self._mirror.top(symbol, self._now())
