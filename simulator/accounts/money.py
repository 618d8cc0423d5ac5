"""Money of simulated accounts: integers of 10^-14 of the quote, which avoids rounding losses.

Prices are ticks and sizes lots of a listing; computed prices (marks, indexes) are in 10^-8 of the quote.
"""

from __future__ import annotations

from typing import Final

from simulator.listing import SimulatedListing

#: Money units are 10^-14: enough for price times size times a rate in millionths.
PLACES: Final = 14


def amount(units: int) -> int:
    """Convert whole units of the quote to money."""
    return units * 10**PLACES


def cost_of(listing: SimulatedListing, price: int, size: int) -> int:
    """Return the value of ``size`` lots at ``price`` ticks; negative for negative sizes."""
    cost: int = price * size * 10 ** (PLACES - listing.price_places - listing.size_places)
    return cost


def notional(listing: SimulatedListing, price_e8: int, size: int) -> int:
    """Return the value of ``size`` lots at a computed price; negative for negative sizes."""
    value: int = price_e8 * size * 10 ** (PLACES - 8 - listing.size_places)
    return value


def ratio(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest integer, halves away from zero; ``denominator`` is positive."""
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def rounded(money: int, places: int) -> int:
    """Round money to units of 10^-``places``, as a venue reports it."""
    return ratio(money, 10 ** (PLACES - places))
