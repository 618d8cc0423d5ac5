"""Lighter: markets of the catalogue and their ids."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import Market
from simulator.venue import SimulatedVenue

_FIRST_SPOT = 2048
#: Fixed ids of the venue; the other markets are numbered in the order of the settings.
_KNOWN_IDS = {"ETH": 0, "BTC": 1}


def lighter_listings(bases: Iterable[str]) -> list[SimulatedListing]:
    """Return the perpetuals, and one spot pair."""
    spot = _listing(Contract("ETH", contracts(["ETH"])[0].price, activity=0.05), name="ETH/USDC")
    return [*map(_listing, contracts(bases)), spot]


class LighterMarkets:
    """Markets by id."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue = venue
        #: Market ids by symbol.
        self._ids: dict[str, int] = {}
        free = iter(number for number in range(255) if number not in _KNOWN_IDS.values())
        for symbol, market in venue.markets.items():
            known = _KNOWN_IDS.get(market.listing.name)
            is_spot = self.kind_of(market) == "spot"
            self._ids[symbol] = _FIRST_SPOT if is_spot else next(free) if known is None else known

    def numbered(self) -> list[tuple[int, Market]]:
        """Return the catalogue with its market ids."""
        return [(self._ids[market.listing.symbol], market) for market in self._venue.listed()]

    def perpetuals(self) -> list[tuple[int, Market]]:
        """Return the perpetuals of the catalogue with their market ids."""
        return [(number, market) for number, market in self.numbered() if self.kind_of(market) == "perp"]

    def id_of(self, market: Market) -> int:
        """Return a market's id."""
        return self._ids[market.listing.symbol]

    def find(self, text: str) -> Market | None:
        """Return the market whose id, in text, is ``text``."""
        return next((market for number, market in self.numbered() if str(number) == text), None)

    def kind_of(self, market: Market) -> str:
        """Return ``perp`` or ``spot``."""
        return "perp" if market.listing.symbol.endswith("-PERP") else "spot"


def _listing(contract: Contract, name: str = "") -> SimulatedListing:
    power = contract.price.adjusted()
    perp = f"{contract.multiplier}{contract.base}" if contract.multiplier > 1 else contract.base
    return list_market(contract, name or perp, max(0, 5 - power), max(0, power + 1), symbol=name)
