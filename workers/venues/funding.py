"""Funding rates of all venues as events: the one place where units and intervals become alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from msgspec import Raw

from ipc.decimals import rate_per_8h, scale_rate, shortest
from ipc.errors import DecodeError
from ipc.events import Event, Funding
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Listing

__all__ = ["Unit", "funding", "newest_payment"]

#: What a venue's number means: a fraction for one funding interval, percent an hour, or a fraction for eight hours.
Unit: TypeAlias = Literal["fraction_per_interval", "percent_per_hour", "fraction_per_8h"]

#: What a number in that unit is divided by to be a fraction per interval; the last two units are hourly venues'.
_DIVISORS: Final[dict[Unit, int]] = {"fraction_per_interval": 1, "percent_per_hour": 100, "fraction_per_8h": 8}


def funding(
    venue: str,
    listing: Listing,
    native: str | None,
    interval_s: int | None,
    *,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    settled_at: Literal["oracle", "mark", "index", "usdc_oracle_adjusted", "unknown"],
    source: Literal["ws", "rest"],
    unit: Unit = "fraction_per_interval",
) -> Funding:
    """The event for a rate that the venue gave as ``native`` (empty or None: it gave none, which is not zero).

    Raises:
        DecodeError: ``native`` is not a number.
    """
    try:
        rate = scale_rate(shortest(native), _DIVISORS[unit]) if native else None
        per_8h = rate_per_8h(rate, interval_s)
    except ValueError as error:
        raise DecodeError(f"not a funding rate: {native!r}", where=venue) from error
    return Funding(
        venue,
        listing.symbol,
        listing.venue_symbol,
        exchange_ns,
        rate,
        native or None,
        unit,
        interval_s,
        per_8h,
        next_ns,
        phase,
        settled_at,
        source,
    )


def newest_payment(rows: Iterable[Raw], parse: Callable[[Raw], Event], what: str) -> list[Event | InvalidRow]:
    """Return the latest payment of an answer, if it has one, and its invalid rows; as :func:`each_row` otherwise."""
    payments, invalid = split_rows(each_row(rows, parse, what))
    return [*sorted(payments, key=lambda event: event.exchange_ns or 0)[-1:], *invalid]
