"""Aster's REST requests: listings, books, open interest and funding rates.

Source of the rules: Aster's futures API documentation (V3: "How to manage a local order book correctly", market data
endpoints, limits), and recorded answers where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Funding, Level, Mark
from ipc.health import Stream
from ipc.topics import base_of
from workers.venues.fields import Name, Number, SequenceNumber, Text, increment, interval_s_of, ns_of_ms
from workers.venues.funding import funding, settled_poll
from workers.venues.listing import Listing, one_per_base, split_multiplier
from workers.venues.rows import InvalidRow, each_row, items_of_rows, opens, split_rows
from workers.venues.venue import Poll, RestRequest, parsed

#: Symbols, and their funding intervals, which only the second request returns.
LISTING_REQUESTS: Final = (RestRequest("/fapi/v3/exchangeInfo"), RestRequest("/fapi/v3/fundingInfo"))
_QUOTE: Final = "USDT"
#: Prefix of the venue's own test markets.
_INTERNAL: Final = "TEST"
#: Levels per side of a requested book.
REST_DEPTH: Final = 1000
#: Time between requests for a market's open interest, s.
OPEN_INTEREST_PERIOD_S: Final = 30.0
#: Request weight is counted per minute. Requests above the limit lead to bans, from two minutes to days.
_MINUTE_MS: Final = 60_000
_SHORTEST_BAN_S: Final = 120.0
#: Upper bound of one wait for a ban: a wrong timestamp must not silence a worker.
_LONGEST_WAIT_S: Final = 3600.0
_BANNED_UNTIL: Final = re.compile(rb"banned until (\d{13})")
#: Our statuses by the venue's; any other is published as it is.
_STATUS: Final[Mapping[str, str]] = {
    "TRADING": "active",
    **dict.fromkeys(("PENDING_TRADING", "PRE_SETTLE", "HALT", "BREAK", "END_OF_DAY"), "halted"),
    **dict.fromkeys(("SETTLING", "DELIVERING", "CLOSE", "DELISTED"), "delisted"),
}


class _Filter(msgspec.Struct):
    filterType: str  # noqa: N815 - the venue's names
    tickSize: Number | None = None  # noqa: N815
    stepSize: Number | None = None  # noqa: N815


class _Symbol(msgspec.Struct):
    symbol: Name
    status: Text
    contractType: str = ""  # noqa: N815
    marginAsset: str = ""  # noqa: N815
    filters: list[_Filter] = []


class _ExchangeInfo(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _FundingInfo(msgspec.Struct):
    symbol: str
    fundingIntervalHours: Number | None = None  # noqa: N815


class _Premium(msgspec.Struct):
    symbol: str
    lastFundingRate: str | UnsetType | None = UNSET  # noqa: N815
    nextFundingTime: Number | None = None  # noqa: N815
    time: Number | None = None


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str | None  # noqa: N815
    fundingTime: Number  # noqa: N815


class _OpenInterest(msgspec.Struct):
    symbol: str
    openInterest: str | None  # noqa: N815
    time: Number | None = None


class _RestDepth(msgspec.Struct):
    lastUpdateId: SequenceNumber  # noqa: N815
    bids: list[Level]
    asks: list[Level]
    matched_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


_exchange_info: Final = msgspec.json.Decoder(_ExchangeInfo)
_symbol: Final = msgspec.json.Decoder(_Symbol)
_funding_info: Final = msgspec.json.Decoder(_FundingInfo)
_premium: Final = msgspec.json.Decoder(_Premium)
_settled: Final = msgspec.json.Decoder(_Settled)
_open_interest: Final = msgspec.json.Decoder(_OpenInterest)
_rest_depth: Final = msgspec.json.Decoder(_RestDepth)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_raw_answer: Final = msgspec.json.Decoder(msgspec.Raw)


def retry_after_s(status: int, body: bytes, now_ms: int) -> float | None:
    """Return the wait until a ban ends, s, which only error -1003 states; above the limit, until the next minute."""
    if found := _BANNED_UNTIL.search(body):
        return min(max(1.0, (int(found[1]) - now_ms) / 1000), _LONGEST_WAIT_S)
    if status == 418:
        return _SHORTEST_BAN_S
    return max(1.0, (_MINUTE_MS - now_ms % _MINUTE_MS) / 1000) if status == 429 else None


def listing_of(wire: str) -> Listing:
    """Return what a contract's name says; only contracts quoted in USDT have a symbol, others could be confused."""
    base, multiplier = split_multiplier(_base_text(wire))
    return Listing(base_of(base), wire, wire, multiplier=multiplier, quote=_QUOTE)


def _base_text(wire: str) -> str:
    """Return the base in a contract's name; empty for contracts not quoted in USDT and for internal ones."""
    return "" if wire.startswith(_INTERNAL) or not wire.endswith(_QUOTE) else wire.removesuffix(_QUOTE)


def parse_listings(bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
    """Return the perpetuals margined in USDT in the answers to ``LISTING_REQUESTS``."""
    symbols = parsed(_exchange_info, bodies[0], "exchangeInfo").symbols
    funding_info = parsed(_rows, bodies[1], "fundingInfo")
    intervals, invalid = split_rows(each_row(funding_info, _parse_interval, "fundingInfo"))
    return [*one_per_base(items_of_rows(symbols, partial(_parse_symbol, dict(intervals)), "symbols")), *invalid]


def _parse_interval(row: msgspec.Raw) -> tuple[str, int | None]:
    """Return a symbol and its funding interval, s."""
    info = _funding_info.decode(row)
    return info.symbol, interval_s_of(info.fundingIntervalHours)


def _parse_symbol(intervals: Mapping[str, int | None], raw: msgspec.Raw) -> list[Listing]:
    """Return the market of a row, if it is a perpetual margined in USDT and not a test market."""
    row = _symbol.decode(raw)
    is_perpetual = row.contractType in {"", "PERPETUAL"} and row.marginAsset == _QUOTE
    if not is_perpetual or row.symbol.startswith(_INTERNAL):
        return []
    base, multiplier = split_multiplier(_base_text(row.symbol))
    filters = {each.filterType: each for each in row.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    return [
        Listing(
            base_of(base),
            wire=row.symbol,
            venue_symbol=row.symbol,
            tick=increment(price.tickSize) if price else None,
            lot=increment(lot.stepSize) if lot else None,
            multiplier=multiplier,
            quote=_QUOTE,
            funding_interval_s=intervals.get(row.symbol),
            status=_STATUS.get(row.status, row.status),
        )
    ]


def book_request(listing: Listing) -> RestRequest:
    """Return the request for ``depth`` with the most levels, to which the stream's changes are joined."""
    return RestRequest(f"/fapi/v3/depth?symbol={listing.wire}&limit={REST_DEPTH}", weight=20)


def parse_book(body: bytes, listing: Listing) -> BookSnapshot:
    """Return the book in an answer to ``depth``; ``venue_seq`` corresponds to the stream's ``u``."""
    book = parsed(_rest_depth, body, "depth")
    return BookSnapshot(
        venue="aster",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=ns_of_ms(book.matched_ms or book.pushed_ms),
        bids=book.bids,
        asks=book.asks,
        depth=REST_DEPTH,
        venue_seq=book.lastUpdateId,
    )


def polls(listings: Sequence[Listing]) -> tuple[Poll, ...]:
    """Return the polls: current rates of all markets in one request, open interest and settled rates per market."""
    markets = {listing.wire: listing for listing in listings}
    symbols = tuple(str(listing.symbol) for listing in listings)
    # All symbols at once are 200 kB and have the same weight as a single one.
    query = f"?symbol={listings[0].wire}" if len(listings) == 1 else ""
    request = RestRequest(f"/fapi/v3/premiumIndex{query}")
    predicted = Poll("predicted", Stream.FUNDING_POLL, lambda _: request, partial(_parse_premiums, markets), symbols)
    by_market = (poll for listing in listings for poll in (_open_interest_poll(listing), _settled_poll(listing)))
    return (predicted, *by_market) if listings else ()


def funding_event(
    listing: Listing,
    native: str | None,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
    """Return the event for a rate, which Aster gives per funding interval and settles at the mark price."""
    return funding(
        "aster",
        listing,
        native,
        listing.funding_interval_s,
        exchange_ns=exchange_ns,
        next_ns=next_ns,
        phase=phase,
        settled_at="mark",
        source=source,
    )


def _parse_premiums(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    """Return the rates of all symbols, or of a single one, which the venue sends without a list."""
    answer = parsed(_raw_answer, body, "premiumIndex")
    rows = _rows.decode(answer) if opens(answer, b"[") else [answer]
    return items_of_rows(rows, partial(_parse_premium, markets), "premiumIndex")


def _parse_premium(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _premium.decode(raw)
    listing = markets.get(row.symbol)
    if listing is None or row.lastFundingRate is UNSET:
        return []
    # Despite its name, lastFundingRate is the rate of the current interval.
    times = ns_of_ms(row.time), ns_of_ms(row.nextFundingTime)
    return [funding_event(listing, row.lastFundingRate, *times, "predicted", "rest")]


def _open_interest_poll(listing: Listing) -> Poll:
    # The documentation omits this path, and there is no v3 of it.
    request = RestRequest(f"/fapi/v1/openInterest?symbol={listing.wire}")
    symbol = str(listing.symbol)
    parse = partial(_parse_open_interest, listing)
    return Poll(f"open_interest.{symbol}", Stream.MARK, lambda _: request, parse, (symbol,), OPEN_INTEREST_PERIOD_S)


def _parse_open_interest(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    row = parsed(_open_interest, body, "openInterest")
    if row.symbol != listing.wire:
        raise DecodeError(f"openInterest answered for {row.symbol}, not {listing.wire}")
    return [
        Mark(
            venue="aster",
            symbol=listing.symbol,
            venue_symbol=listing.venue_symbol,
            exchange_ns=ns_of_ms(row.time),
            mark_price=None,
            index_price=None,
            index_kind=None,
            open_interest=row.openInterest or None,
            open_interest_notional=None,
        )
    ]


def _settled_poll(listing: Listing) -> Poll:
    request = RestRequest(f"/fapi/v3/fundingRate?symbol={listing.wire}&limit=1")
    return settled_poll(listing, lambda _: request, _parse_settled, "fundingRate")


def _parse_settled(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _settled.decode(raw)
    if row.symbol != listing.wire:
        raise DecodeError(f"a row about {row.symbol} in an answer about {listing.wire}")
    return funding_event(listing, row.fundingRate, ns_of_ms(row.fundingTime), None, "settled", "rest")
