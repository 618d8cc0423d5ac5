"""Listings: underlyings, their prices, and the properties that their contracts share on every venue.

Market names and decimal places are defined by each venue.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ipc.topics import symbol_of

_PRICES = {
    "BTC": Decimal(80_000),
    "ETH": Decimal(2_400),
    "SOL": Decimal(128),
    "PEPE": Decimal("0.00000973"),
    "BONK": Decimal("0.0000206"),
    "SHIB": Decimal("0.0000118"),
    "FLOKI": Decimal("0.0000847"),
}

#: Low-priced; venues quote them per thousand units.
_BY_THE_THOUSAND = frozenset({"PEPE", "BONK", "SHIB", "FLOKI"})

#: Illiquid: each side of the book has a handful of levels.
_THIN = frozenset({"BLAST"})

#: Listed on every venue beside the configured ones: a contract of 1000 units, and a delisted one.
_THOUSANDS, _DELISTED = "PEPE", "MATIC"


@dataclass(frozen=True, slots=True)
class Contract:
    """Perpetual as every venue lists it.

    Attributes:
        price: Value of one contract unit (``multiplier`` units of the base), in the quote.
        live: False if delisted.
        activity: Factor of the market's activity; 1 is normal.
        is_thin: Whether its book has only a few levels per side.
    """

    base: str
    price: Decimal
    multiplier: int = 1
    live: bool = True
    activity: float = 1.0
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class SimulatedListing:
    """Market of a venue.

    Attributes:
        symbol: The project's symbol, ``BTC-PERP``; the venue's own name for other kinds of markets.
        name: The venue's name.
        price: Reference price, in units of 10^-``price_places``; one unit is the tick.
        size_places: A size unit is 10^-``size_places`` contracts.
    """

    symbol: str
    name: str
    contract: Contract
    price_places: int
    size_places: int
    price: int


def contracts(bases: Iterable[str]) -> list[Contract]:
    """Return the perpetuals that a venue lists, given the configured ``bases``."""
    wanted = list(dict.fromkeys(bases))
    listed = [_contract(base) for base in wanted]
    if _THOUSANDS not in wanted:
        listed.append(_contract(_THOUSANDS, activity=0.2))
    if _DELISTED not in wanted:
        listed.append(_contract(_DELISTED, live=False))
    return listed


def _contract(base: str, *, live: bool = True, activity: float = 1.0) -> Contract:
    multiplier = 1000 if base in _BY_THE_THOUSAND else 1
    return Contract(base, _price_of(base) * multiplier, multiplier, live, activity, base in _THIN)


def _price_of(base: str) -> Decimal:
    if base in _PRICES:
        return _PRICES[base]
    hashed = zlib.crc32(base.encode())
    return Decimal(150 + hashed % 590).scaleb(hashed // 590 % 5 - 3)


def list_market(
    contract: Contract, name: str, price_places: int, size_places: int, symbol: str = ""
) -> SimulatedListing:
    """Return a market for ``contract`` with these decimal places."""
    price = int(contract.price.scaleb(price_places))
    return SimulatedListing(symbol or symbol_of(contract.base), name, contract, price_places, size_places, price)
