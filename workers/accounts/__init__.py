"""The desk's own accounts: what a venue tells of orders, fills, positions and balances. No order entry here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from workers.venues.account import PrivateVenue

__all__ = ["account_side"]

#: Venue to where its private side stands; it is imported only where an account is configured.
_SIDES: Final = {
    "hyperliquid": "HyperliquidAccount",
    "aster": "AsterAccount",
    "extended": "ExtendedAccount",
    "lighter": "LighterAccount",
    "paradex": "ParadexAccount",
}


def account_side(venue: str, options: Mapping[str, str]) -> PrivateVenue:
    """The private side of a venue; its settings are those of the public side."""
    side = getattr(importlib.import_module(f"workers.venues.{venue}.account"), _SIDES[venue])(**options)
    assert isinstance(side, PrivateVenue)  # noqa: S101 - the table is ours
    return side
