"""What is listed: the underlyings, what they are worth, and the shape that their contracts share on every venue.

How a venue names a market, and how fine its prices and sizes are, stands with the venue.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ipc.topics import symbol_of

__all__ = ["Contract", "SimulatedListing", "contracts", "list_market"]

_PRICES = {
    "BTC": Decimal(80_000),
    "ETH": Decimal(2_400),
    "SOL": Decimal(128),
    "PEPE": Decimal("0.00000973"),
    "BONK": Decimal("0.0000206"),
    "SHIB": Decimal("0.0000118"),
    "FLOKI": Decimal("0.0000847"),
}

#: Worth so little that venues quote a thousand of them.
_BY_THE_THOUSAND = frozenset({"PEPE", "BONK", "SHIB", "FLOKI"})

#: Traded so little that a side of their books has a handful of levels.
_THIN = frozenset({"BLAST"})

#: Listed on every venue beside what was asked for: a contract of 1000 units, and one that is traded no more.
_THOUSANDS, _DELISTED = "PEPE", "MATIC"


@dataclass(frozen=True, slots=True)
class Contract:
    """A perpetual as every venue lists it.

    Attributes:
        price: What one contract unit (``multiplier`` units of the base) is worth, in the quote.
        live: False when it was delisted.
        activity: How busy its market is; 1 is normal.
        is_thin: Whether its book has only a few levels a side.
    """

    base: str
    price: Decimal
    multiplier: int = 1
    live: bool = True
    activity: float = 1.0
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class SimulatedListing:
    """A market of a venue.

    Attributes:
        symbol: Ours, ``BTC-PERP``; the venue's own name for what is no perpetual.
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
    """The perpetuals that a venue lists when ``bases`` are traded on it."""
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
    """A market for ``contract`` on a grid of so many decimal places."""
    price = int(contract.price.scaleb(price_places))
    return SimulatedListing(symbol or symbol_of(contract.base), name, contract, price_places, size_places, price)
