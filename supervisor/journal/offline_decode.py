"""Offline decoding: the events of a raw recording, without a worker, a feed or elapsed time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

import msgspec

from ipc.events import Event
from ipc.topics import topic_of
from supervisor.journal.blackbox import RawRecording, played_venue
from workers import markets
from workers.fixture import Fixture, Player, Stage
from workers.protocol.actions import Publication
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.listing import Listing

_NS: Final = 1_000_000_000
_STALE_NS: Final = 10 * _NS


def offline_decode(recording: RawRecording, bases: Sequence[str] | None = None) -> list[tuple[str, Event]]:
    """Yield the events of a recording with their topics, in order; stamps other than the recorded time are empty.

    Args:
        recording: Raw recording that names its markets.
        bases: Markets to follow; None for all it names.

    Raises:
        UsageError: It does not name its markets, or its venue is not known.
    """
    header = recording.header
    venue = played_venue(recording)
    listings = [msgspec.convert({**row, "symbol": None}, Listing) for row in header.listings]
    wanted = bases if bases is not None else [str(listing.base) for listing in listings]
    resolved = markets.resolve(listings, wanted).listings
    keepalive = venue.keepalive
    policy = Policy(
        stale_ns=_STALE_NS, ping_ns=int(keepalive.interval_s * _NS), pong_ns=int(keepalive.pong_within_s * _NS)
    )
    plans = venue.connections(resolved, venue.ws_url, header.options)
    sessions = [MarketSession(venue, plan, resolved, policy) for plan in plans]
    said: list[tuple[str, Event]] = []

    def publish(_session: MarketSession, publications: list[Publication], _is_caused: bool) -> None:  # noqa: FBT001
        for route, event in publications:
            if event is not None:
                said.append((topic_of(route.kind, venue.name, route.symbol), event))

    records = tuple(sorted(recording.records, key=lambda record: record.mono_ns))
    fixture = Fixture(tuple(listings), header.options, records)
    stage = Stage(venue, sessions, publish, _ignore, nullcontext)
    Player(fixture, stage, is_paced=False, stop=lambda: False).run()
    return said


def _ignore(session: MarketSession) -> None:
    session.actions.drain()
