"""The five venues, each one pure file, and the registry through which everything else finds them."""

from __future__ import annotations

from workers.venues.aster.market_data import Aster
from workers.venues.extended.market_data import Extended
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.lighter.market_data import Lighter
from workers.venues.paradex.market_data import Paradex
from workers.venues.venue import Venue

__all__ = ["VENUES"]

#: Every venue by name, in the order in which tools show them.
VENUES: dict[str, Venue] = {venue.name: venue for venue in (Hyperliquid(), Aster(), Extended(), Lighter(), Paradex())}
