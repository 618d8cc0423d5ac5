"""Lighter's REST requests and answers: listings, books of single orders, running and settled funding rates.

Source of the rules: Lighter's API documentation (rate limits, data structures), and recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, Literal

import msgspec

from ipc.decimals import number, plain, shortest
from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Funding, Level
from ipc.health import Stream
from ipc.topics import base_of
from workers.venues.fields import Name, Number, Text, digits_of, ns_of_s, step
from workers.venues.funding import Unit, funding, settled_poll
from workers.venues.listing import Listing, one_per_base, split_multiplier
from workers.venues.rows import InvalidRow, items_of_rows
from workers.venues.venue import Poll, RestRequest, best_first, parsed

_HOUR_S: Final = 3600
#: Orders per side in an answer, at most.
REST_ORDERS: Final = 250
#: Statuses as published; others are published unchanged.
_STATUS: Final = {"active": "active", "inactive": "halted"}


class _Market(msgspec.Struct):
    symbol: Name
    market_id: int | str
    #: Absent in old rows.
    market_type: str | None = None
    status: Text = "active"
    supported_size_decimals: Number | None = None
    supported_price_decimals: Number | None = None


class _Markets(msgspec.Struct):
    code: Literal[200]
    order_books: list[msgspec.Raw] | None


class _Rate(msgspec.Struct):
    market_id: int | str
    exchange: str
    #: Number whose digits are preserved; a view of the answer, so not kept.
    rate: msgspec.Raw


class _Rates(msgspec.Struct):
    code: Literal[200]
    funding_rates: list[msgspec.Raw] | None


class _Payment(msgspec.Struct):
    timestamp: Number
    rate: str | None
    #: Payer; the rate itself is unsigned.
    direction: Literal["long", "short"]


class _Payments(msgspec.Struct):
    code: Literal[200]
    fundings: list[msgspec.Raw] | None


class _Order(msgspec.Struct):
    price: str
    remaining_base_amount: str


class _Orders(msgspec.Struct):
    code: Literal[200]
    asks: list[_Order] | None
    bids: list[_Order] | None


_markets: Final = msgspec.json.Decoder(_Markets)
_market: Final = msgspec.json.Decoder(_Market)
_rates: Final = msgspec.json.Decoder(_Rates)
_rate: Final = msgspec.json.Decoder(_Rate)
_payments: Final = msgspec.json.Decoder(_Payments)
_payment: Final = msgspec.json.Decoder(_Payment)
_orders: Final = msgspec.json.Decoder(_Orders)


def parse_listings(bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
    """Return the perpetuals in an answer to ``/orderBooks``; ids differ between hosts."""
    return one_per_base(
        items_of_rows(parsed(_markets, bodies[0], "orderBooks").order_books, _parse_market, "order_books")
    )


def _parse_market(raw: msgspec.Raw) -> list[Listing]:
    """Return the market of a row when it is a perpetual."""
    market = _market.decode(raw)
    if not _is_perpetual(market):
        return []
    tick, lot = step(market.supported_price_decimals), step(market.supported_size_decimals)
    status = _STATUS.get(market.status, market.status)
    return [market_listing(market.symbol, market.symbol, digits_of(market.market_id), tick, lot, status)]


def _is_perpetual(market: _Market) -> bool:
    return market.market_type == "perp" if market.market_type is not None else "/" not in market.symbol


def market_listing(
    name: str | None,
    venue_symbol: str,
    market_id: str,
    tick: str | None = None,
    lot: str | None = None,
    status: str = "active",
) -> Listing:
    """Return the listing of a market; without a name, what its id alone says."""
    base, multiplier = (None, 1) if name is None else split_multiplier(name)
    return Listing(
        None if base is None else base_of(base),
        wire=market_id,
        venue_symbol=venue_symbol,
        market_id=market_id,
        tick=tick,
        lot=lot,
        multiplier=multiplier,
        quote="USDC",
        funding_interval_s=_HOUR_S,
        status=status,
    )


def book_request(listing: Listing) -> RestRequest:
    """Return the request for the resting orders of a market, which have no nonce."""
    return RestRequest(f"/orderBookOrders?market_id={listing.wire}&limit={REST_ORDERS}")


def parse_book(body: bytes, listing: Listing) -> BookSnapshot:
    """Return the book in an answer to :func:`book_request`: orders aggregated by price."""
    orders = parsed(_orders, body, "orderBookOrders")
    bids, asks = best_first(_levels_by_price(orders.bids or []), _levels_by_price(orders.asks or []))
    return BookSnapshot(
        venue="lighter",
        symbol=listing.symbol,
        venue_symbol=listing.venue_symbol,
        exchange_ns=None,
        bids=_complete_levels(bids, orders.bids),
        asks=_complete_levels(asks, orders.asks),
        depth=min(_complete_depth(bids, orders.bids), _complete_depth(asks, orders.asks)),
        venue_seq=None,
    )


def _levels_by_price(orders: list[_Order]) -> list[Level]:
    """Return the levels of a side, adding up orders whose prices are equal in value."""
    levels: dict[str, tuple[str, Decimal]] = {}
    try:
        for order in orders:
            price, size = levels.get(shortest(order.price), (order.price, Decimal(0)))
            remaining = number(order.remaining_base_amount)
            if remaining <= 0:  # would be hidden by other orders at its price
                raise ValueError(f"a size of {order.remaining_base_amount[:40]!r}")
            levels[shortest(order.price)] = (price, size + remaining)
    except ValueError as error:
        raise DecodeError(f"an order with an invalid price or size: {error}") from error
    return [(price, plain(size)) for price, size in levels.values()]


def _complete_levels(levels: list[Level], orders: list[_Order] | None) -> list[Level]:
    """Return the levels without the last one of a truncated list, which may be incomplete."""
    return levels[:-1] or levels if orders and len(orders) == REST_ORDERS else levels


def _complete_depth(levels: list[Level], orders: list[_Order] | None) -> int:
    """Return how many levels of a side are certain: not the last one of a truncated list."""
    return len(levels) - 1 if orders and len(orders) == REST_ORDERS else REST_ORDERS


def polls(listings: Sequence[Listing]) -> tuple[Poll, ...]:
    """Return the polls: running rates of all markets in one request, payments market by market."""
    markets = {listing.wire: listing for listing in listings}
    symbols = tuple(str(listing.symbol) for listing in listings)
    request = RestRequest("/funding-rates")
    running = Poll("predicted", Stream.FUNDING_POLL, lambda _: request, partial(_parse_rates, markets), symbols)
    return (running, *map(_settled_poll, listings)) if listings else ()


def _settled_poll(listing: Listing) -> Poll:
    return settled_poll(listing, partial(_payments_request, listing.wire), _parse_payment, "fundings", _payment_rows)


def _parse_rates(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    """Return the rates of this venue; the answer contains those of other exchanges."""
    rows = parsed(_rates, body, "funding-rates").funding_rates
    return items_of_rows(rows, partial(_parse_rate, markets), "funding_rates")


def _parse_rate(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _rate.decode(raw)
    listing = markets.get(str(row.market_id)) if row.exchange == "lighter" else None
    if listing is None:
        return []
    rate = bytes(row.rate).decode().strip('"')
    native = None if rate in {"", "null"} else shortest(rate)
    return [funding_event(listing, native, "fraction_per_8h", None, None, "predicted", "rest")]


def _payments_request(wire: str, now_ms: int) -> RestRequest:
    now_s = now_ms // 1000
    span = f"start_timestamp={now_s - 2 * _HOUR_S}&end_timestamp={now_s}&count_back=2"
    return RestRequest(f"/fundings?market_id={wire}&resolution=1h&{span}")


def _payment_rows(body: bytes) -> list[msgspec.Raw]:
    return parsed(_payments, body, "fundings").fundings or []


def _parse_payment(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _payment.decode(raw)
    native = f"-{row.rate}" if row.rate and row.direction == "short" else row.rate or None
    return funding_event(listing, native, "percent_per_hour", ns_of_s(row.timestamp), None, "settled", "rest")


def funding_event(
    listing: Listing,
    native: str | None,
    unit: Unit,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
    """Return the event for a rate of this hour."""
    return funding(
        "lighter",
        listing,
        native,
        _HOUR_S,
        exchange_ns=exchange_ns,
        next_ns=next_ns,
        phase=phase,
        settled_at="unknown",
        source=source,
        unit=unit,
    )
