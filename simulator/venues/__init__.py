"""Simulated venues: a folder per venue, and the functions that make each venue from its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venue import SimulatedVenue
from simulator.venues.aster.account import AsterAccounts
from simulator.venues.aster.account_rest import AsterAccountRest
from simulator.venues.aster.rest import AsterRest
from simulator.venues.aster.stream import SimulatedAster
from simulator.venues.extended.account import ExtendedAccounts
from simulator.venues.extended.rest import ExtendedRest
from simulator.venues.extended.stream import SimulatedExtended
from simulator.venues.hyperliquid.account import HyperliquidAccounts
from simulator.venues.hyperliquid.rest import HyperliquidInfo
from simulator.venues.hyperliquid.stream import SimulatedHyperliquid
from simulator.venues.lighter.account import LighterAccounts
from simulator.venues.lighter.rest import LighterRest
from simulator.venues.lighter.stream import SimulatedLighter
from simulator.venues.paradex.account import ParadexAccounts
from simulator.venues.paradex.rest import ParadexRest
from simulator.venues.paradex.stream import SimulatedParadex

VenueBuilder: TypeAlias = Callable[[SimSettings, Schedule], SimulatedVenue]


def _aster(settings: SimSettings, schedule: Schedule) -> SimulatedVenue:
    venue = SimulatedAster(settings, schedule)
    venue.accounts = AsterAccounts(venue)
    AsterAccountRest(venue, venue.accounts, AsterRest(venue))
    return venue


def _extended(settings: SimSettings, schedule: Schedule) -> SimulatedVenue:
    venue = SimulatedExtended(settings, schedule)
    venue.accounts = ExtendedAccounts(venue)
    ExtendedRest(venue, venue.accounts)
    return venue


def _hyperliquid(settings: SimSettings, schedule: Schedule) -> SimulatedVenue:
    venue = SimulatedHyperliquid(settings, schedule)
    venue.accounts = HyperliquidAccounts(venue)
    venue.answer_info = HyperliquidInfo(venue).answer
    return venue


def _lighter(settings: SimSettings, schedule: Schedule) -> SimulatedVenue:
    venue = SimulatedLighter(settings, schedule)
    venue.accounts = LighterAccounts(venue, venue.catalogue)
    LighterRest(venue, venue.catalogue, venue.accounts)
    return venue


def _paradex(settings: SimSettings, schedule: Schedule) -> SimulatedVenue:
    venue = SimulatedParadex(settings, schedule)
    venue.accounts = ParadexAccounts(venue)
    ParadexRest(venue)
    return venue


VENUE_BUILDERS: dict[str, VenueBuilder] = {
    "aster": _aster,
    "extended": _extended,
    "hyperliquid": _hyperliquid,
    "lighter": _lighter,
    "paradex": _paradex,
}
