"""The venues that can be simulated, by name."""

from __future__ import annotations

from simulator.venue import Venue
from simulator.venues.aster import Aster
from simulator.venues.extended import Extended
from simulator.venues.hyperliquid import Hyperliquid
from simulator.venues.lighter import Lighter
from simulator.venues.paradex import Paradex

__all__ = ["VENUE_CLASSES"]

#: To add a venue: its file here, and a line in this table.
VENUE_CLASSES: dict[str, type[Venue]] = {
    venue.name: venue for venue in (Hyperliquid, Aster, Extended, Lighter, Paradex)
}
