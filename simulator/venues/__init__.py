"""The venues that can be simulated, by name."""

from __future__ import annotations

from simulator.venue import SimulatedVenue
from simulator.venues.aster.stream import SimulatedAster
from simulator.venues.extended.stream import SimulatedExtended
from simulator.venues.hyperliquid.stream import SimulatedHyperliquid
from simulator.venues.lighter.stream import SimulatedLighter
from simulator.venues.paradex.stream import SimulatedParadex

__all__ = ["VENUE_CLASSES"]

#: To add a venue: its file here, and a line in this table.
VENUE_CLASSES: dict[str, type[SimulatedVenue]] = {
    venue.name: venue
    for venue in (SimulatedHyperliquid, SimulatedAster, SimulatedExtended, SimulatedLighter, SimulatedParadex)
}
