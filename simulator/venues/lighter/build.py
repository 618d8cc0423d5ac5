"""Lighter: the venue, made of its parts."""

from __future__ import annotations

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venues.lighter.account import LighterAccounts
from simulator.venues.lighter.rest import LighterRest
from simulator.venues.lighter.stream import SimulatedLighter


def build(settings: SimSettings, schedule: Schedule) -> SimulatedLighter:
    """Make the venue: its stream, its accounts, and REST over both."""
    venue = SimulatedLighter(settings, schedule)
    venue.accounts = LighterAccounts(venue, venue.catalogue)
    LighterRest(venue, venue.catalogue, venue.accounts)
    return venue
