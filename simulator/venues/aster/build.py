"""Aster: the venue, made of its parts."""

from __future__ import annotations

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venues.aster.account import AsterAccounts
from simulator.venues.aster.account_rest import AsterAccountRest
from simulator.venues.aster.rest import AsterRest
from simulator.venues.aster.stream import SimulatedAster


def build(settings: SimSettings, schedule: Schedule) -> SimulatedAster:
    """Make the venue: its stream, its accounts, public REST, and signed REST."""
    venue = SimulatedAster(settings, schedule)
    venue.accounts = AsterAccounts(venue)
    AsterAccountRest(venue, venue.accounts, AsterRest(venue))
    return venue
