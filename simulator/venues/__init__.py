"""Simulated venues: a folder per venue, whose ``build`` module makes the venue from its parts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

from ipc.topics import VENUES
from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venue import SimulatedVenue

VenueBuilder: TypeAlias = Callable[[SimSettings, Schedule], SimulatedVenue]

#: ``simulator.venues.<name>.build.build`` by venue.
VENUE_BUILDERS: dict[str, VenueBuilder] = {name: import_module(f"{__name__}.{name}.build").build for name in VENUES}
