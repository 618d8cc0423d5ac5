"""Hyperliquid's REST requests, all of them POSTs to ``/info``: listings, books and funding rates.

Source of the rules: Hyperliquid's API documentation (rate limits, perpetuals info endpoint), and recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Literal

import msgspec

from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Funding, Level
from ipc.health import Stream
from ipc.topics import base_of
from workers.venues.fields import Name, Number, interval_s_of, ns_of_ms, step
from workers.venues.funding import funding, settled_poll
from workers.venues.listing import Listing, one_per_base, split_multiplier
from workers.venues.rows import InvalidRow, each_row, items_of_rows
from workers.venues.venue import Poll, RestRequest, parsed

_HOUR_S: Final = 3600
#: Levels per side of the ordinary book.
FULL_DEPTH: Final = 20
#: Age of the oldest settled rate requested, ms.
_HISTORY_MS: Final = 2 * _HOUR_S * 1000


class L2Level(msgspec.Struct, gc=False):
    """Price level of a book or of a best bid and offer."""

    px: str
    sz: str


class L2Book(msgspec.Struct, gc=False):
    """Book, in frames and in answers alike."""

    coin: str
    time: Number
    levels: tuple[list[L2Level], list[L2Level]]
    fast: bool | None = None


class _Asset(msgspec.Struct):
    name: Name
    szDecimals: Number  # noqa: N815 - the venue's names
    isDelisted: bool | None = None  # noqa: N815


class _Meta(msgspec.Struct):
    universe: list[msgspec.Raw]


class _Prediction(msgspec.Struct):
    fundingRate: str | None = None  # noqa: N815
    nextFundingTime: Number | None = None  # noqa: N815
    fundingIntervalHours: Number | None = None  # noqa: N815


class _Settled(msgspec.Struct):
    coin: str
    fundingRate: str | None  # noqa: N815
    time: Number


_meta: Final = msgspec.json.Decoder(_Meta)
_asset: Final = msgspec.json.Decoder(_Asset)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
#: Coin and its rates on several venues.
_rates: Final = msgspec.json.Decoder(tuple[str, list[msgspec.Raw]])
_venue: Final = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_prediction: Final[msgspec.json.Decoder[_Prediction | None]] = msgspec.json.Decoder(_Prediction | None)
_settled: Final = msgspec.json.Decoder(_Settled)
_book: Final = msgspec.json.Decoder(L2Book)


def info_request(body: bytes, weight: int) -> RestRequest:
    """Return a request to the info endpoint."""
    return RestRequest("/info", "POST", body, weight)


def core_listing(wire: str) -> Listing:
    """Return what a coin's name says; builder, spot and outcome markets have no symbol of ours."""
    base, multiplier = split_multiplier(wire)
    return Listing(base_of(base), wire, wire, multiplier=multiplier, quote="USDC", funding_interval_s=_HOUR_S)


def parse_listings(bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
    """Return the core perpetuals in an answer to ``meta``; the position in the universe is the asset id."""
    universe = parsed(_meta, bodies[0], "meta").universe
    return one_per_base(each_row(enumerate(universe), _parse_asset, "universe"))


def _parse_asset(row: tuple[int, msgspec.Raw]) -> Listing:
    index, asset = row[0], _asset.decode(row[1])
    return replace(
        core_listing(asset.name),
        market_id=str(index),
        # No tick is published: five significant digits and 6 - szDecimals decimals, so it moves with the price.
        lot=step(asset.szDecimals),
        status="delisted" if asset.isDelisted else "active",
    )


def book_request(listing: Listing) -> RestRequest:
    """Return the request for ``l2Book``: 20 levels per side, as in the ordinary subscription."""
    return info_request(msgspec.json.encode({"type": "l2Book", "coin": listing.wire}), weight=2)


def parse_book(body: bytes, listing: Listing) -> BookSnapshot:
    """Return the book in an answer to ``l2Book``."""
    book = parsed(_book, body, "l2Book")
    if book.coin != listing.wire:
        raise DecodeError(f"l2Book answered for {book.coin}, not {listing.wire}")
    return book_snapshot(listing, book, FULL_DEPTH)


def book_snapshot(listing: Listing, book: L2Book, depth: int) -> BookSnapshot:
    """Return the event for a book."""
    bids, asks = book.levels
    return BookSnapshot(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(book.time),
        _levels(bids),
        _levels(asks),
        depth,
        None,
    )


def _levels(side: list[L2Level]) -> list[Level]:
    return [(level.px, level.sz) for level in side]


def polls(listings: Sequence[Listing]) -> tuple[Poll, ...]:
    """Return the polls of funding: predicted rates of all coins in one request, settled rates coin by coin."""
    markets = {listing.wire: listing for listing in listings}
    symbols = tuple(str(listing.symbol) for listing in listings)
    request = info_request(b'{"type":"predictedFundings"}', weight=20)
    predicted = Poll("predicted", Stream.FUNDING_POLL, lambda _: request, partial(_parse_predicted, markets), symbols)
    return (
        predicted,
        *(
            settled_poll(listing, partial(_history_request, listing.wire), _parse_settled, "fundingHistory")
            for listing in listings
        ),
    )


def funding_event(
    listing: Listing,
    native: str | None,
    exchange_ms: Number | None,
    next_ms: Number | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
    interval_s: int = _HOUR_S,
) -> Funding:
    """Return the event for a rate, which Hyperliquid gives as a fraction per hour and settles at the oracle price."""
    return funding(
        "hyperliquid",
        listing,
        native,
        interval_s,
        exchange_ns=ns_of_ms(exchange_ms),
        next_ns=ns_of_ms(next_ms),
        phase=phase,
        settled_at="oracle",
        source=source,
    )


def _parse_predicted(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    rows = parsed(_rows, body, "predictedFundings")
    return items_of_rows(rows, partial(_parse_rates, markets), "predictedFundings")


def _parse_rates(markets: Mapping[str, Listing], row: msgspec.Raw) -> list[Event | InvalidRow]:
    """Return the rate of a coin; the row has rates of several venues, of which only Hyperliquid's is read."""
    coin, venues = _rates.decode(row)
    listing = markets.get(coin)
    return [] if listing is None else items_of_rows(venues, partial(_parse_rate, listing), "predictedFundings")


def _parse_rate(listing: Listing, row: msgspec.Raw) -> list[Event]:
    venue, raw = _venue.decode(row)
    own = _prediction.decode(raw) if venue == "HlPerp" else None
    if own is None:
        return []
    interval_s = interval_s_of(own.fundingIntervalHours) or _HOUR_S
    return [funding_event(listing, own.fundingRate, None, own.nextFundingTime, "predicted", "rest", interval_s)]


def _history_request(coin: str, now_ms: int) -> RestRequest:
    query = {"type": "fundingHistory", "coin": coin, "startTime": now_ms - _HISTORY_MS}
    return info_request(msgspec.json.encode(query), weight=21)


def _parse_settled(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _settled.decode(raw)
    if row.coin != listing.wire:
        raise DecodeError(f"a row about {row.coin} in an answer about {listing.wire}")
    return funding_event(listing, row.fundingRate, row.time, None, "settled", "rest")
