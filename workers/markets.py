"""The markets of a venue: resolved from its own list, remembered across restarts.

The list is cached in the run directory, so that a restart while the venue's REST interface is away still subscribes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ipc.health import Reason
from ipc.log import get_log
from ipc.rundir import replace_file
from workers.venues.venue import Listing

__all__ = ["Resolved", "keep_missing", "load", "nameless", "resolve", "save"]

log = get_log(__name__)

#: A price or size step finer than this many significant digits would make two levels of one.
_MAX_DIGITS = 15


class _Cache(msgspec.Struct):
    """What was asked for, and what the venue lists."""

    bases: list[str]
    listings: list[Listing]


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configured markets, as far as the venue has them.

    ``listings`` are to be subscribed, in the order of the configuration; ``missing`` tells why the others are not, by
    base asset.
    """

    listings: tuple[Listing, ...]
    missing: dict[str, Reason]


def resolve(listings: Sequence[Listing], bases: Sequence[str]) -> Resolved:
    """Find the configured base assets in a venue's list."""
    by_base = {listing.base: listing for listing in listings if listing.base is not None}
    missing: dict[str, Reason] = {}
    found: list[Listing] = []
    for base in bases:
        listing = by_base.get(base)
        if listing is None or not _is_exact(listing):
            missing[base] = Reason.UNKNOWN_MARKET
        elif listing.status == "delisted":
            missing[base] = Reason.DELISTED
        else:
            found.append(listing)
    return Resolved(tuple(found), missing)


def keep_missing(listings: Sequence[Listing], known: Sequence[Listing], refused: Collection[str]) -> list[Listing]:
    """Return a venue's list, and behind it the known markets that are missing from it.

    A list can end early, so a market is not given up for being missing; the list must say that it is delisted, or the
    venue must have refused it as well, or have given its wire name to another market.

    Args:
        listings: The venue's list as it was read.
        known: The markets that are followed.
        refused: Symbols of the markets that the venue refused since.
    """
    listed, wires = {listing.base for listing in listings}, {listing.wire for listing in listings}
    missing = [one for one in known if one.base not in listed and one.wire not in wires]
    return [*listings, *(one for one in missing if one.symbol not in refused)]


def nameless(listings: Sequence[Listing]) -> list[str]:
    """Return the venue's names of the markets that cannot be carried, because no symbol can be made of their names."""
    return [listing.venue_symbol for listing in listings if listing.base is None]


def _is_exact(listing: Listing) -> bool:
    """Whether floats tell the market's prices apart (they identify levels, nothing else)."""
    return listing.tick is None or len(listing.tick.partition(".")[2].rstrip("0")) <= _MAX_DIGITS


def load(path: Path, bases: Sequence[str]) -> list[Listing] | None:
    """The cached list, if there is one that was made when every one of ``bases`` was asked for."""
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("markets.cache_unreadable", path=str(path), error=str(error))
        return None
    return cache.listings if set(cache.bases) >= set(bases) else None


def save(path: Path, listings: Sequence[Listing], bases: Sequence[str]) -> None:
    """Remember a venue's list, all of it: an account may hold any market. A full disk costs the cache and no more."""
    try:
        replace_file(path, msgspec.json.encode(_Cache(list(bases), list(listings))))
    except OSError as error:
        log.warning("markets.cache_failed", path=str(path), error=str(error))
