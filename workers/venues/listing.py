"""Markets as their venues list them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ipc.events import Instrument
from ipc.topics import symbol_of
from workers.venues.rows import InvalidRow, split_rows

_MULTIPLIER: Final = re.compile(r"(k|1000000|10000|1000|1M)(?=[A-Z])")
_UNITS: Final = {"k": 1000, "1000": 1000, "10000": 10_000, "1000000": 1_000_000, "1M": 1_000_000}
_NOT_TRADING: Final = frozenset({"halted", "delisted"})
#: Wire names that fit into URLs and subscriptions without quoting.
_WIRE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
#: Characters kept of a name that does not fit.
_MAX_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """Market as its venue lists it.

    ``wire`` is the market's name in frames (Lighter: the market id); ``venue_symbol`` is the name that the venue shows.
    ``base`` is None for a market without a symbol of ours: offline, or because its name does not fit symbols and
    topics. The other fields are those of :class:`ipc.events.Instrument`.
    """

    base: str | None
    wire: str
    venue_symbol: str
    market_id: str | None = None
    tick: str | None = None
    lot: str | None = None
    contract_size: str = "1"
    multiplier: int = 1
    quote: str = "USD"
    funding_interval_s: int | None = None
    #: ``active``, ``halted`` (listed, not trading now), ``delisted`` (for good), or the venue's own word where it maps
    #: to none of these.
    status: str = "active"
    #: Our symbol, ``BTC-PERP``; derived from ``base``.
    symbol: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbol", None if self.base is None else symbol_of(self.base))

    @property
    def is_trading(self) -> bool:
        """Return whether the market should have a book; an unknown status counts as trading."""
        return self.status not in _NOT_TRADING

    def instrument(self, venue: str) -> Instrument:
        """Return the event that describes this market to consumers."""
        return Instrument(
            venue=venue,
            symbol=self.symbol,
            venue_symbol=self.venue_symbol,
            exchange_ns=None,
            tick=self.tick,
            lot=self.lot,
            contract_size=self.contract_size,
            multiplier=self.multiplier,
            quote=self.quote,
            market_id=self.market_id,
            funding_interval_s=self.funding_interval_s,
            status=self.status,
        )


class Markets(Protocol):
    """Listings by wire name: live, a dict of the subscribed ones; offline, an object that answers for any name."""

    def get(self, wire: str, /) -> Listing | None:
        """Return the listing of a wire name; None for a market that is not followed, whose data is dropped."""


def split_multiplier(name: str) -> tuple[str, int]:
    """Return the base asset of a contract and its units per contract: ``kPEPE`` gives ``("PEPE", 1000)``."""
    match = _MULTIPLIER.match(name)
    return (name[match.end() :], _UNITS[match[1]]) if match else (name, 1)


def one_per_base(rows: Sequence[Listing | InvalidRow]) -> list[Listing | InvalidRow]:
    """Choose one contract per base: prefer one that is not delisted, then the fewest units, then one trading now.

    Markets without a usable base or wire name follow, with ``base`` None, and then the invalid rows.
    """
    listings, invalid = split_rows(rows)
    named: list[Listing] = []
    nameless: list[Listing | InvalidRow] = []
    for listing in listings:
        if listing.base is not None and _WIRE.fullmatch(listing.wire):
            named.append(listing)
        else:
            nameless.append(replace(listing, base=None, venue_symbol=listing.venue_symbol[:_MAX_CHARS]))
    chosen: dict[str | None, Listing] = {}
    for listing in sorted(named, key=lambda each: (each.status == "delisted", each.multiplier, not each.is_trading)):
        chosen.setdefault(listing.base, listing)
    return [*chosen.values(), *nameless, *invalid]
