"""The five venues, each one pure file, and the registry through which everything else finds them."""

from __future__ import annotations

from workers.venues.aster import Aster
from workers.venues.extended import Extended
from workers.venues.hyperliquid import Hyperliquid
from workers.venues.lighter import Lighter
from workers.venues.paradex import Paradex
from workers.venues.venue import Venue

__all__ = ["VENUES"]

#: Every venue by name, in the order in which tools show them.
VENUES: dict[str, Venue] = {venue.name: venue for venue in (Hyperliquid(), Aster(), Extended(), Lighter(), Paradex())}
