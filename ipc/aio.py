"""Feed for asyncio: the same rules and state as :class:`ipc.feed.Feed`, awaited.

from ipc.aio import AsyncFeed

async with AsyncFeed(channels=["book"]) as feed:
    async for event in feed:
        print(feed.top("BTC-PERP"))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import zmq.asyncio

from ipc.events import Event
from ipc.remote import Remote
from ipc.subscriber import Subscriber
from ipc.subscription import PUBLIC_CHANNELS, subscriptions_of

__all__ = ["AsyncFeed"]

#: Between two checks for silent venues while no message arrives, ms.
_CHECK_MS: Final = 200
#: Longest wait of a feed that has several sources to judge, ms.
_JUDGE_MS: Final = 20


class AsyncFeed(Subscriber):
    """Subscription in an event loop; an asynchronous context manager.

    Arguments as for :class:`ipc.feed.Feed`, without those for slow consumers.
    """

    def __init__(
        self,
        run_dir: str | Path | Sequence[str | Path] | None = None,
        *,
        venues: Iterable[str] | None = None,
        channels: Sequence[str] = PUBLIC_CHANNELS,
        symbols: Sequence[str] | None = None,
        remote: Remote | Sequence[Remote | None] | None = None,
        sources: Sequence[str] | None = None,
        name: str | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] | None = None,
    ) -> None:
        subscriptions = subscriptions_of(run_dir, venues, channels, symbols, remote, name, sources)
        super().__init__(zmq.asyncio.Context(), subscriptions, clock, boot_clock)
        self._poller = zmq.asyncio.Poller()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events in the order of their arrival, without end."""
        while True:
            yield await self.next()

    async def next(self) -> Event:
        """Return the next event."""
        while not self._pending:
            await self._receive()
        return self._pending.popleft()

    async def _receive(self) -> None:
        """Handle the next messages, one of each source; check for silent venues meanwhile."""
        now = self._now()
        self._check_silence(now)
        if now >= self._connections_due_ns:
            self._read_connections(now)
        if self._arbitration is None:
            if await self._links[0].socket.poll(_CHECK_MS):
                self._handle(0, await self._links[0].socket.recv_multipart())
            return
        for socket in self._sockets():
            if socket not in self._poller:
                self._poller.register(socket, zmq.POLLIN)
        ready = dict(await self._poller.poll(_JUDGE_MS))
        for number, link in enumerate(list(self._links)):
            if link.socket in ready:
                self._handle(number, await link.socket.recv_multipart())
        if not dict(await self._poller.poll(0)).keys() & {link.socket for link in self._links}:
            self._judge()

    async def wait_live(self, markets: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Read until the books of all ``markets`` are usable; return False when ``timeout_s`` is over before."""

        async def read() -> None:
            while not all(self.book(*market).usable for market in markets):
                await self.next()

        try:
            await asyncio.wait_for(read(), timeout_s)
        except TimeoutError:
            return False
        return True
