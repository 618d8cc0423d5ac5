"""Subscription of a feed of public data: its systems, sources, venues and topics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Final

import zmq

from ipc.consumer_names import checked_name, topic_of_consumer
from ipc.errors import FeedError
from ipc.events import Lifecycle
from ipc.feed_state import LIFECYCLE
from ipc.lines import Line
from ipc.links import Links, connect, request_snapshots
from ipc.sources import SourceFilter
from ipc.systems import DIRECTORY, Remotes, RunDirs, System, systems_of
from ipc.topics import CHANNELS, VENUES, topic_of

#: Default channels of a feed.
PUBLIC_CHANNELS: Final = ("book", "bbo", "trade", "mark", "funding")


class Subscription:
    """Systems, sources and topics of a subscription; arguments as for :class:`ipc.feed.Feed`."""

    def __init__(
        self,
        run_dir: RunDirs,
        venues: Iterable[str] | None,
        channels: Sequence[str],
        symbols: Sequence[str] | None,
        remote: Remotes = None,
        name: str | None = None,
        sources: Sequence[str] | None = None,
    ) -> None:
        self.name = checked_name(name)
        self.systems = systems_of(run_dir, remote)
        self._chosen = SourceFilter(sources, [system.host for system in self.systems])
        self.venues = _venues(self.systems, venues)
        self.prefixes = _prefixes(self.venues, channels, symbols)
        #: True when the user wants lifecycle events; the feed itself always receives them.
        self.has_lifecycle = LIFECYCLE in channels
        self._books = tuple(prefix for prefix in self.prefixes if prefix.startswith("book."))

    @property
    def endpoints(self) -> dict[str, str]:
        """Endpoints of the public feeds of the first system by venue, of line a."""
        return {venue: endpoint for venue in self.venues if (endpoint := _feed(self.systems[0], venue, "a"))}

    def open(self, socket: zmq.Socket[Any]) -> None:
        """Set up a SUB socket of a caller's own for line a of the first system."""
        first = self.systems[0]
        endpoints = {**self.endpoints, LIFECYCLE: first.lifecycle}
        connect(socket, endpoints.values(), self._topics(), first.remote)

    def links(self, context: zmq.Context[Any], now_ns: int) -> Links:
        """Return a socket for each source."""
        return Links(context, self.systems, self._chosen, self.venues, _feed, self._topics(), now_ns)

    def request_snapshots(self, socket: zmq.Socket[Any], topics: Sequence[str]) -> None:
        """Request snapshots of subscribed books only: others would receive no changes."""
        request_snapshots(socket, [topic for topic in topics if topic.startswith(self._books)])

    def wants(self, event: Lifecycle) -> bool:
        """Return whether a lifecycle event is for the user."""
        return self.has_lifecycle and event.event != DIRECTORY

    def _topics(self) -> list[str]:
        return [*self.prefixes, topic_of_consumer(self.name)]


def _feed(system: System, venue: str, line: Line) -> str | None:
    return system.feed(venue, line)


def _venues(systems: Sequence[System], wanted: Iterable[str] | None) -> tuple[str, ...]:
    """Return the venues to read: those that are wanted, else all; raise FeedError for one that nobody has."""
    known = dict.fromkeys(venue for system in systems for venue in system.venues())
    venues = tuple(known if wanted is None else wanted)
    unknown = [name for name in venues if name not in known and name not in VENUES]
    if unknown:
        raise FeedError("no such venue", where=unknown[0], advice=f"venues are {', '.join(VENUES)}")
    return venues


def _prefixes(venues: Sequence[str], channels: Sequence[str], symbols: Sequence[str] | None) -> list[str]:
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown:
        raise FeedError("no such channel", where=unknown[0], advice=f"channels are {', '.join(CHANNELS)}")
    prefixes = ["heartbeat.", "status.", f"{LIFECYCLE}."]
    if symbols is None:
        return prefixes + [f"{channel}." for channel in channels]
    return prefixes + [topic_of(*parts) for parts in product(channels, venues, symbols)]
