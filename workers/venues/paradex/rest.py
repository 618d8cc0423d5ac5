"""Paradex's REST requests and answers: listings, books and running funding rates.

Source of the rules: Paradex's API documentation (rate limits, funding mechanism), and recorded answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

import msgspec

from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Funding, Level
from ipc.health import Stream
from ipc.topics import base_of
from workers.venues.fields import Name, Number, SequenceNumber, increment, interval_s_of, ns_of_ms
from workers.venues.funding import funding
from workers.venues.listing import Listing, one_per_base, split_multiplier
from workers.venues.rows import InvalidRow, items_of_rows, split_rows
from workers.venues.venue import Poll, RestRequest, parsed

#: Funding period of a market that gives none, s.
DEFAULT_INTERVAL_S: Final = 28_800
#: Levels per side of a book by REST.
REST_DEPTH: Final = 20


class _FundingRow(msgspec.Struct, gc=False):
    """Funding rate, in frames and in answers alike."""

    market: str
    funding_rate: str | msgspec.UnsetType | None = msgspec.UNSET
    funding_period_hours: Number | None = None
    created_at: Number | None = None


class _Market(msgspec.Struct):
    symbol: Name
    asset_kind: str | None = None
    price_tick_size: Number | None = None
    order_size_increment: Number | None = None
    #: Fractional number by the venue's specification; text in some rows.
    funding_period_hours: Number | None = None


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw] | None


class _RestBook(msgspec.Struct):
    market: str
    seq_no: SequenceNumber
    bids: list[Level] | None = None
    asks: list[Level] | None = None
    last_updated_at: Number | None = None


#: Decodes rates, in frames and in answers alike.
funding_rows: Final = msgspec.json.Decoder(_FundingRow)
_answers: Final = msgspec.json.Decoder(_Answer)
_markets: Final = msgspec.json.Decoder(_Market)
_rest_books: Final = msgspec.json.Decoder(_RestBook)


def parse_listings(bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
    """Return the perpetuals in an answer to ``/markets``; delisted ones are absent from it."""
    return one_per_base(items_of_rows(parsed(_answers, bodies[0], "markets").results, _parse_market, "markets"))


def _parse_market(raw: msgspec.Raw) -> list[Listing]:
    """Return the market of a row when it is a perpetual."""
    market = _markets.decode(raw)
    # Rows from before other kinds of markets have no kind.
    if market.asset_kind != "PERP" and (market.asset_kind is not None or not market.symbol.endswith("-PERP")):
        return []
    tick, lot = increment(market.price_tick_size), increment(market.order_size_increment)
    return [market_listing(market.symbol, tick, lot, interval_s_of(market.funding_period_hours))]


def market_listing(
    wire: str, tick: str | None = None, lot: str | None = None, interval_s: int | None = None
) -> Listing:
    """Return the listing of a market name: ``kBONK-USD-PERP`` is the perpetual on 1000 BONK, quoted in USD."""
    name, *rest = wire.rsplit("-", 2)
    perpetual = len(rest) == 2 and rest[1] == "PERP"
    base, multiplier = split_multiplier(name) if perpetual else (None, 1)
    return Listing(
        None if base is None else base_of(base),
        wire=wire,
        venue_symbol=wire,
        tick=tick,
        lot=lot,
        multiplier=multiplier,
        quote=rest[0] if perpetual else "USD",
        funding_interval_s=interval_s,
    )


def book_request(listing: Listing) -> RestRequest:
    """Return the request for the top of a book; its sequence numbers may differ from the stream's."""
    return RestRequest(f"/orderbook/{listing.wire}?depth={REST_DEPTH}")


def parse_book(body: bytes, listing: Listing) -> BookSnapshot:
    """Return the book in an answer to :func:`book_request`, with its levels unchanged."""
    book = parsed(_rest_books, body, "orderbook")
    _check_market(book.market, listing)
    exchange_ns = ns_of_ms(book.last_updated_at)
    return book_snapshot(listing, exchange_ns, book.bids or [], book.asks or [], REST_DEPTH, book.seq_no)


def book_snapshot(
    listing: Listing, exchange_ns: int | None, bids: list[Level], asks: list[Level], depth: int | None, seq: int
) -> BookSnapshot:
    """Return the event for a book."""
    return BookSnapshot("paradex", listing.symbol, listing.venue_symbol, exchange_ns, bids, asks, depth, seq)


def _check_market(market: str, listing: Listing) -> None:
    if market != listing.wire:
        raise DecodeError(f"an answer about {market} to a request about {listing.wire}")


def polls(listings: Sequence[Listing]) -> tuple[Poll, ...]:
    """Return the polls of the newest rate by market: the answer for all markets at once is too large to repeat."""
    return tuple(
        Poll(
            f"predicted.{listing.symbol}",
            Stream.FUNDING_POLL,
            partial(_funding_request, listing.wire),
            partial(_parse_newest, listing),
            (str(listing.symbol),),
        )
        for listing in listings
    )


def _funding_request(wire: str, now_ms: int) -> RestRequest:  # noqa: ARG001 - the newest row at any time
    return RestRequest(f"/funding/data?market={wire}&page_size=1")


def _parse_newest(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """Return the newest rate, which comes first."""
    rows = parsed(_answers, body, "funding/data").results
    events, invalid = split_rows(items_of_rows(rows, partial(_parse_observation, listing), "funding/data"))
    return [*events[:1], *invalid]


def _parse_observation(listing: Listing, raw: msgspec.Raw) -> list[Event]:
    row = funding_rows.decode(raw)
    _check_market(row.market, listing)
    if row.funding_rate is msgspec.UNSET:
        return []
    return [funding_event(listing, ns_of_ms(row.created_at), row.funding_rate, row.funding_period_hours, "rest")]


def funding_event(
    listing: Listing,
    exchange_ns: int | None,
    native: str | None,
    period_hours: Number | None,
    source: Literal["ws", "rest"],
) -> Funding:
    """Return the event for the rate of a whole period; it accrues every second, so there is no next payment."""
    return funding(
        "paradex",
        listing,
        native,
        interval_s_of(period_hours) or listing.funding_interval_s or DEFAULT_INTERVAL_S,
        exchange_ns=exchange_ns,
        next_ns=None,
        phase="predicted",
        settled_at="usdc_oracle_adjusted",
        source=source,
    )
