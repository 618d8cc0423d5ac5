"""Registry of venues: derived from the names in :data:`ipc.topics.VENUES`, one folder per venue.

To add a venue, add its name there and a folder here with ``LOGIN_METHODS``, ``market_data.MARKET_DATA`` and
``account.PRIVATE_VENUE``. The simulator's part lies in ``simulator/venues`` under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ipc import topics
from workers.venues.venue import Venue

#: Public sides by name, in the order in which tools show them.
VENUES: Final[Mapping[str, Venue]] = {
    name: import_module(f"{__name__}.{name}.market_data").MARKET_DATA for name in topics.VENUES
}
#: By venue: sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    name: import_module(f"{__name__}.{name}").LOGIN_METHODS for name in topics.VENUES
}
