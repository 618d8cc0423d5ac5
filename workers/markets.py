"""Markets of a venue: resolved from its list, cached across restarts.

The cache lies in the run directory: a worker that restarts while the REST interface is down still subscribes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ipc.health import Reason
from ipc.log import get_log
from ipc.rundir import replace_file
from workers.venues.listing import Listing

log = get_log(__name__)

#: Decimals of a price step that floats represent exactly; with more, two levels would share a key.
_MAX_DIGITS = 15


class _Cache(msgspec.Struct):
    """Configured base assets, and the venue's list."""

    bases: list[str]
    listings: list[Listing]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Configured markets.

    Attributes:
        listings: Markets to subscribe to, in the order of the configuration.
        missing: Why the others are not subscribed to, by base asset.
    """

    listings: tuple[Listing, ...]
    missing: dict[str, Reason]


class MarketList:
    """List of a venue's markets: as it was read last, in its cache, and until the worker applies it.

    The poll thread calls :meth:`receive`, the main thread everything else.

    Args:
        venue: The venue.
        path: File of the cache.
        bases: Configured base assets.
    """

    def __init__(self, venue: str, path: Path, bases: Sequence[str]) -> None:
        #: Number of followed markets that are missing from the venue's last list.
        self.missing_kept = 0
        self._venue = venue
        self._path = path
        self._bases = bases
        self._last: list[Listing] | None = None
        #: Cache file that was read or written last.
        self._version: object = None
        self._unapplied: list[Listing] | None = None

    def load(self) -> list[Listing] | None:
        """Return the list that an earlier generation cached, to be applied at once; None without one."""
        self._version = _version_of(self._path)
        self._last = load(self._path, self._bases)
        return self._last

    def reload(self) -> None:
        """Apply what the venue's other line has cached since, if anything; called while that line reads the list."""
        version = _version_of(self._path)
        if version is None or version == self._version:
            return
        listings = self.load()
        if listings is not None:
            self._unapplied = listings

    def receive(self, listings: Sequence[Listing], known: Sequence[Listing], refused: Collection[str]) -> None:
        """Cache a list that was read, with the followed markets that it lacks (:func:`keep_missing`)."""
        found = keep_missing(listings, known, refused)
        if kept := found[len(listings) :]:
            log.warning("markets.kept", venue=self._venue, markets=",".join(str(one.symbol) for one in kept))
        self.missing_kept = len(kept)
        save(self._path, found, self._bases)
        self._version = _version_of(self._path)
        self._last = found  # once it is written: until then the check of files would report it as lost
        self._unapplied = found

    def pop(self) -> list[Listing] | None:
        """Return the list that is to be applied now, once; None without one."""
        listings, self._unapplied = self._unapplied, None
        return listings

    def restore(self) -> None:
        """Write the cache again after its file was removed."""
        if self._last is not None:
            save(self._path, self._last, self._bases)


def _version_of(path: Path) -> object:
    """Return what changes with each writing of a file; None for a missing one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


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
    """Return a venue's list, followed by the known markets that it lacks.

    A list can be truncated, so a missing market is dropped only if the list marks it as delisted, the venue rejected it
    as well (its symbol is in ``refused``), or its wire name belongs to another market now.
    """
    listed, wires = {listing.base for listing in listings}, {listing.wire for listing in listings}
    missing = [one for one in known if one.base not in listed and one.wire not in wires]
    return [*listings, *(one for one in missing if one.symbol not in refused)]


def nameless(listings: Sequence[Listing]) -> list[str]:
    """Return the names of the markets that are left out because no symbol can be derived from them."""
    return [listing.venue_symbol for listing in listings if listing.base is None]


def _is_exact(listing: Listing) -> bool:
    """Return whether floats, which identify levels, distinguish all prices of the market."""
    return listing.tick is None or len(listing.tick.partition(".")[2].rstrip("0")) <= _MAX_DIGITS


def load(path: Path, bases: Sequence[str]) -> list[Listing] | None:
    """Return the cached list if it was read with all of ``bases`` configured, else None."""
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("markets.cache_unreadable", path=str(path), error=str(error))
        return None
    return cache.listings if set(cache.bases) >= set(bases) else None


def save(path: Path, listings: Sequence[Listing], bases: Sequence[str]) -> None:
    """Cache a venue's whole list, since an account may hold any market; log when the disk refuses it."""
    try:
        replace_file(path, msgspec.json.encode(_Cache(list(bases), list(listings))))
    except OSError as error:
        log.warning("markets.cache_failed", path=str(path), error=str(error))
