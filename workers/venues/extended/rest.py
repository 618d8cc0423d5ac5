"""Extended's REST requests and answers: listings, books, running and settled funding rates.

Source of the rules: Extended's API documentation (public REST API, rate limits, funding), and recorded answers.

The hosts from before Starknet (``api.extended.exchange``, ``api.testnet.extended.exchange``) answer 404 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.checks import valid_ns
from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Funding, Mark
from ipc.health import Stream
from ipc.topics import base_of
from workers.venues.fields import Name, Number, Text, increment, ns_of_ms
from workers.venues.funding import funding, settled_poll
from workers.venues.listing import Listing, one_per_base, split_multiplier
from workers.venues.rows import InvalidRow, items_of_rows
from workers.venues.venue import Poll, RestRequest, parsed

_HOUR_S: Final = 3600
_HOUR_MS: Final = 3_600_000
#: Funding times before 1973, read as ms, are seconds: one example of the documentation has them, no recorded frame.
_SECONDS_BELOW_NS: Final = 10**17
_SUFFIX: Final = "-USD"
#: Statuses as published; others are published unchanged. A reduce-only market still trades.
_STATUS: Final[Mapping[str, str]] = {
    "ACTIVE": "active",
    "REDUCE_ONLY": "active",
    "PRELISTED": "halted",
    "DISABLED": "halted",
    "DELISTED": "delisted",
}


class _Stats(msgspec.Struct):
    markPrice: str | None = None  # noqa: N815 - the venue's names
    indexPrice: str | None = None  # noqa: N815
    fundingRate: str | UnsetType | None = UNSET  # noqa: N815
    #: Time at which the running rate is applied, ms (not a rate).
    nextFundingRate: Number | None = None  # noqa: N815
    #: In units of the collateral.
    openInterest: str | None = None  # noqa: N815
    openInterestBase: str | None = None  # noqa: N815


class _Trading(msgspec.Struct):
    minPriceChange: Number | None = None  # noqa: N815
    minOrderSizeChange: Number | None = None  # noqa: N815


class _Market(msgspec.Struct):
    name: Name
    active: bool = True
    status: Text | None = None
    type: str | None = None
    collateral: Text = field(name="collateralAssetName", default="USD")
    trading: _Trading | None = field(name="tradingConfig", default=None)


class _MarketStats(msgspec.Struct):
    name: str
    stats: _Stats | None = field(name="marketStats", default=None)


class _Payment(msgspec.Struct):
    market: str = field(name="m")
    time: Number = field(name="T")
    rate: str | None = field(name="f")


class _RestLevel(msgspec.Struct):
    price: str
    qty: str


class _RestBook(msgspec.Struct):
    market: str
    bid: list[_RestLevel] | None
    ask: list[_RestLevel] | None


class _Answer(msgspec.Struct):
    """Answer with rows; without ``OK`` it is an error even with HTTP status 200."""

    status: Literal["OK"]
    data: list[msgspec.Raw]


class _BookAnswer(msgspec.Struct):
    status: Literal["OK"]
    data: _RestBook


_answers: Final = msgspec.json.Decoder(_Answer)
_markets: Final = msgspec.json.Decoder(_Market)
_market_stats: Final = msgspec.json.Decoder(_MarketStats)
_payments: Final = msgspec.json.Decoder(_Payment)
_books: Final = msgspec.json.Decoder(_BookAnswer)


def _base_and_units(name: str) -> tuple[str | None, int]:
    """Return the base in a market's name, None where there is none, and its units per contract."""
    base, multiplier = split_multiplier(name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else "")
    return base_of(base), multiplier


def listing_of_name(wire: str) -> Listing:
    """Return what a market's name says: everything but its steps."""
    base, multiplier = _base_and_units(wire)
    return Listing(base, wire, wire, multiplier=multiplier, funding_interval_s=_HOUR_S)


def parse_listings(bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
    """Return the perpetuals in an answer to ``/info/markets``."""
    return one_per_base(items_of_rows(parsed(_answers, bodies[0], "markets").data, _parse_market, "markets"))


def _parse_market(raw: msgspec.Raw) -> list[Listing]:
    """Return the market of a row when it is a perpetual; rows from before spot markets have no type."""
    row = _markets.decode(raw)
    if row.type not in {None, "PERPETUAL"}:
        return []
    base, multiplier = _base_and_units(row.name)
    trading = row.trading or _Trading()
    status = row.status or ("ACTIVE" if row.active else "DISABLED")
    return [
        Listing(
            base,
            wire=row.name,
            venue_symbol=row.name,
            tick=increment(trading.minPriceChange),
            lot=increment(trading.minOrderSizeChange),
            multiplier=multiplier,
            quote=row.collateral,
            funding_interval_s=_HOUR_S,
            status=_STATUS.get(status, status),
        )
    ]


def book_request(listing: Listing) -> RestRequest:
    """Return the request for a whole book, which has no sequence number."""
    return RestRequest(f"/info/markets/{listing.wire}/orderbook")


def parse_book(body: bytes, listing: Listing) -> BookSnapshot:
    """Return the book in an answer to :func:`book_request`."""
    book = parsed(_books, body, "orderbook").data
    if book.market != listing.wire:
        raise DecodeError(f"orderbook answered for {book.market}, not {listing.wire}")
    return BookSnapshot(
        venue="extended",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=None,
        bids=[(level.price, level.qty) for level in book.bid or ()],
        asks=[(level.price, level.qty) for level in book.ask or ()],
        depth=None,
        venue_seq=None,
    )


def polls(listings: Sequence[Listing]) -> tuple[Poll, ...]:
    """Return the polls: running rates, prices and open interest of all markets at once, settled rates by market."""
    markets = {listing.wire: listing for listing in listings}
    symbols = tuple(str(listing.symbol) for listing in listings)
    request = RestRequest("/info/markets?" + "&".join(f"market={wire}" for wire in markets))
    stats = Poll("stats", Stream.FUNDING_POLL, lambda _: request, partial(_parse_all_stats, markets), symbols)
    return (stats, *map(_settled_poll, listings)) if listings else ()


def _parse_all_stats(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    return items_of_rows(parsed(_answers, body, "markets").data, partial(_parse_stats_row, markets), "markets")


def _parse_stats_row(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _market_stats.decode(raw)
    listing, stats = markets.get(row.name), row.stats
    if listing is None or stats is None:
        return []
    mark = _mark(listing, stats)
    if stats.fundingRate is UNSET:
        return [mark]
    next_ns = ns_of_ms(stats.nextFundingRate)
    return [funding_event(listing, stats.fundingRate, None, next_ns, "predicted", "rest"), mark]


def _mark(listing: Listing, stats: _Stats) -> Mark:
    return Mark(
        venue="extended",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=None,
        mark_price=stats.markPrice or None,
        index_price=stats.indexPrice or None,
        index_kind="index" if stats.indexPrice else None,
        open_interest=stats.openInterestBase or None,
        open_interest_notional=stats.openInterest or None,
    )


def _settled_poll(listing: Listing) -> Poll:
    return settled_poll(listing, partial(_payments_request, listing.wire), _parse_payment, "funding", _payment_rows)


def _payments_request(wire: str, now_ms: int) -> RestRequest:
    since_ms = now_ms - 2 * _HOUR_MS
    return RestRequest(f"/info/{wire}/funding?startTime={since_ms}&endTime={now_ms}&limit=1")


def _payment_rows(body: bytes) -> list[msgspec.Raw]:
    return parsed(_answers, body, "funding").data


def _parse_payment(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _payments.decode(raw)
    if row.market != listing.wire:
        raise DecodeError(f"a row about {row.market} in an answer about {listing.wire}")
    return funding_event(listing, row.rate, funding_ns(row.time), None, "settled", "rest")


def funding_ns(time: Number | None) -> int | None:
    """Return a time of funding in ns, given in ms or s; None when that does not fit int64."""
    time_ns = ns_of_ms(time)
    return valid_ns(time_ns * 1000) if time_ns and time_ns < _SECONDS_BELOW_NS else time_ns


def funding_event(
    listing: Listing,
    native: str | UnsetType | None,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
    """Return the event for a rate, which Extended gives as a fraction per hour."""
    return funding(
        "extended",
        listing,
        native or None,
        _HOUR_S,
        exchange_ns=exchange_ns,
        next_ns=next_ns,
        phase=phase,
        settled_at="unknown",
        source=source,
    )
