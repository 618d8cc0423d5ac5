"""Funding rates of all venues as events: units and intervals are normalised here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Raw

from ipc.decimals import rate_per_8h, scale_rate, shortest
from ipc.errors import DecodeError
from ipc.events import Event, Funding
from ipc.health import Stream
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import Poll, RestRequest, parsed

#: Unit of a venue's rate: fraction per funding interval, percent per hour, or fraction per eight hours.
Unit: TypeAlias = Literal["fraction_per_interval", "percent_per_hour", "fraction_per_8h"]

#: Divisor that turns a rate into a fraction per interval; the last two units belong to venues with hourly funding.
_DIVISORS: Final[dict[Unit, int]] = {"fraction_per_interval": 1, "percent_per_hour": 100, "fraction_per_8h": 8}
#: Time between requests for a market's settled rate, s.
SETTLED_PERIOD_S: Final = 600.0
_rows: Final = msgspec.json.Decoder(list[Raw])


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
    """Return the event for a rate that the venue wrote as ``native`` (empty or None: unknown, which is not zero).

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
    """Return the latest payment in an answer, if there is one, and the invalid rows; see :func:`each_row`."""
    payments, invalid = split_rows(each_row(rows, parse, what))
    return [*sorted(payments, key=lambda event: event.exchange_ns or 0)[-1:], *invalid]


def settled_poll(
    listing: Listing,
    request: Callable[[int], RestRequest],
    parse_row: Callable[[Listing, Raw], Event],
    what: str,
    rows_of: Callable[[bytes], list[Raw]] | None = None,
) -> Poll:
    """Return the poll for a market's newest settled rate; a new market has none.

    Answers are lists of rows, unless ``rows_of`` extracts the rows of an answer.
    """

    def parse(body: bytes) -> list[Event | InvalidRow]:
        rows = parsed(_rows, body, what) if rows_of is None else rows_of(body)
        return newest_payment(rows, partial(parse_row, listing), what)

    symbol = str(listing.symbol)
    return Poll(f"settled.{symbol}", Stream.FUNDING_POLL, request, parse, (symbol,), period_s=SETTLED_PERIOD_S)
