"""Hyperliquid: the venue, made of its parts."""

from __future__ import annotations

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venues.hyperliquid.account import HyperliquidAccounts
from simulator.venues.hyperliquid.rest import HyperliquidInfo
from simulator.venues.hyperliquid.stream import SimulatedHyperliquid


def build(settings: SimSettings, schedule: Schedule) -> SimulatedHyperliquid:
    """Make the venue: its stream, its accounts, and REST over both, which connections query too."""
    venue = SimulatedHyperliquid(settings, schedule)
    venue.accounts = HyperliquidAccounts(venue)
    venue.answer_info = HyperliquidInfo(venue).answer
    return venue
