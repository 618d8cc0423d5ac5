"""Feed that is read now and then instead of on each event, which costs a third; it belongs to one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import zmq

from ipc.events import Event
from ipc.feed import Feed
from ipc.replica import BookReplica
from ipc.rundir import RunDir

#: Longest read; what is left comes with the next one. A feed that is too far behind loses events and recovers.
_READ_S: Final = 0.2


class DrainedFeed:
    """Feed that is open while it is wanted, and follows the venues of the system.

    Args:
        context: ZeroMQ context.
        run_dir: Run directory of the system.
        channels: Channels beside ``status`` and ``heartbeat``.
        symbols: Symbols; None for all.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        run_dir: RunDir,
        channels: Sequence[str] = (),
        symbols: Sequence[str] | None = None,
    ) -> None:
        self._context = context
        self._run_dir = run_dir
        self._channels = channels
        self._symbols = symbols
        self._venues: tuple[str, ...] = ()
        self._feed: Feed | None = None
        self._opened_s = 0.0

    @property
    def open_s(self) -> float:
        """Time since it was opened, s; 0 while it is closed."""
        return 0.0 if self._feed is None else time.monotonic() - self._opened_s

    def read(self, venues: tuple[str, ...]) -> Iterator[Event]:
        """Yield the events that have come; open the feed first if it is closed, or of other venues."""
        if self._feed is None or venues != self._venues:
            self.close()
            self._venues = venues
            self._feed = Feed(
                self._run_dir.path,
                venues=venues,
                channels=self._channels,
                symbols=self._symbols,
                context=self._context,
                name="gateway",
            )
            self._opened_s = time.monotonic()
        until = time.monotonic() + _READ_S
        while (event := self._feed.poll(0.0)) is not None:
            yield event
            if time.monotonic() > until:
                break

    def book(self, venue: str, symbol: str) -> BookReplica | None:
        """Return a market's book as of the last read; None while the feed is closed."""
        return None if self._feed is None else self._feed.book(venue, symbol)

    def close(self) -> None:
        """Close the feed until the next read."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None
