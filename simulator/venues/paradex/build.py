"""Paradex: the venue, made of its parts."""

from __future__ import annotations

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venues.paradex.account import ParadexAccounts
from simulator.venues.paradex.rest import ParadexRest
from simulator.venues.paradex.stream import SimulatedParadex


def build(settings: SimSettings, schedule: Schedule) -> SimulatedParadex:
    """Make the venue: its channels, its accounts, and REST over both."""
    venue = SimulatedParadex(settings, schedule)
    venue.accounts = ParadexAccounts(venue)
    ParadexRest(venue)
    return venue
