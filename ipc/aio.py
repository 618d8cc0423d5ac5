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
from typing import Final, Self

import zmq

from ipc.events import Event
from ipc.links import WAIT_MS
from ipc.subscriber import Subscriber
from ipc.subscription import PUBLIC_CHANNELS, Subscription
from ipc.systems import Remotes, RunDirs

__all__ = ["AsyncFeed"]

#: Between two checks for silent venues while no message arrives, s; with several sources they are more.
_CHECK_S: Final = 0.2
_MS_PER_S: Final = 1000
#: Messages after which other tasks run, however many are waiting.
_YIELD_AFTER: Final = 16


class AsyncFeed(Subscriber):
    """Subscription in an event loop; an asynchronous context manager.

    Arguments as for :class:`ipc.feed.Feed`, without those for slow consumers.
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
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] | None = None,
    ) -> None:
        subscription = Subscription(run_dir, venues, channels, symbols, remote, name, sources)
        super().__init__(zmq.Context(), subscription, clock, boot_clock)
        #: Messages since other tasks ran.
        self._unyielded = 0

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
        self._check()
        while not self._pending:
            if not self._receive():
                await self._wait()
            self._unyielded += 1
            if self._unyielded >= _YIELD_AFTER:
                self._unyielded = 0
                await asyncio.sleep(0)
        return self._pending.popleft()

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

    async def _wait(self) -> None:
        """Wait for a message, at most until the next check for silent venues is due."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        sockets = self._links.sockets() if self._arbitration is not None else [self._first.socket]
        descriptors = [int(socket.fd) for socket in sockets]
        for descriptor in descriptors:
            loop.add_reader(descriptor, arrived.set)
        try:
            # A descriptor is readable when the state of its socket has changed, so that must be read before each wait.
            if not any(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN for socket in sockets):
                async with asyncio.timeout(_CHECK_S if self._arbitration is None else WAIT_MS / _MS_PER_S):
                    await arrived.wait()
        except TimeoutError:
            pass
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
        if self._arbitration is not None:
            self._connections_due_ns = 0
        self._check()
