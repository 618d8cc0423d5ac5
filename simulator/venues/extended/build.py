"""Extended: the venue, made of its parts."""

from __future__ import annotations

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venues.extended.account import ExtendedAccounts
from simulator.venues.extended.rest import ExtendedRest
from simulator.venues.extended.stream import SimulatedExtended


def build(settings: SimSettings, schedule: Schedule) -> SimulatedExtended:
    """Make the venue: its streams, its accounts, and REST over both."""
    venue = SimulatedExtended(settings, schedule)
    venue.accounts = ExtendedAccounts(venue)
    ExtendedRest(venue, venue.accounts)
    return venue
