"""Lighter: books chained by nonces, everything by market id, one REST answer for the rates of all markets.

Source of the rules: Lighter's API documentation (WebSocket reference, rate limits, data structures), and recorded
frames where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec

from ipc.decimals import number, plain, shortest
from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Flag, Funding, Level, Mark, Trade
from ipc.health import Reason, Stream
from ipc.topics import base_of
from workers.venues.fields import (
    Id,
    Name,
    Number,
    SequenceNumber,
    Text,
    digits_of,
    ns_of_ms,
    ns_of_s,
    ns_of_us,
    side,
    step,
)
from workers.venues.funding import Unit, funding, newest_payment
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import InvalidRow, each_row, items_of_rows
from workers.venues.venue import (
    Ack,
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    InvalidBook,
    Item,
    Keepalive,
    Listing,
    Markets,
    Ping,
    Poll,
    Pong,
    Refused,
    RestRequest,
    Resync,
    Rule,
    ServerShutdown,
    Unsubscribed,
    Venue,
    VenueLimits,
    best_first,
    one_per_base,
    parsed,
    split_multiplier,
)

__all__ = ["MARKET_DATA", "Lighter"]

_HOUR_S: Final = 3600
_HOUR_NS: Final = 3600 * 1_000_000_000
#: A connection may hold 500 subscriptions, and a market needs four.
_MARKETS_PER_CONNECTION: Final = 125
#: The most orders a side that REST gives.
_REST_ORDERS: Final = 250
_SETTLED_PERIOD_S: Final = 600.0
_PING: Final = b'{"type":"ping"}'
_PONG: Final = b'{"type":"pong"}'
#: The venue's words for kinds of trades that have a name of ours.
_TRADE_TYPES: Final = {"trade": "trade", "deleverage": "adl", "market-settlement": "settlement"}
#: The venue's statuses in our words; any other is published as it is.
_STATUS: Final = {"active": "active", "inactive": "halted"}
#: What error codes mean for us; a code that is not listed is a failed subscription.
_REASONS: Final[dict[int | str | None, Reason | None]] = {
    30002: None,  # not subscribed
    30003: None,  # already subscribed: data goes on
    30005: Reason.UNKNOWN_MARKET,
    30009: Reason.RATE_LIMITED,
    30010: Reason.RATE_LIMITED,
    23000: Reason.RATE_LIMITED,
    23001: Reason.RATE_LIMITED,
    23002: Reason.RATE_LIMITED,
    23003: Reason.RATE_LIMITED,
    21109: Reason.AUTH_FAILED,
    21110: Reason.AUTH_FAILED,
    21120: Reason.AUTH_FAILED,
}
#: A channel of an error or within its text, written as in requests or as in replies.
_CHANNEL: Final = re.compile(r"\b([a-z_]+)[:/](\d+|all)\b")


class _Level(msgspec.Struct, gc=False):
    price: str
    size: str


class _Book(msgspec.Struct, gc=False):
    nonce: SequenceNumber
    asks: list[_Level] | None = None
    bids: list[_Level] | None = None
    begin_nonce: SequenceNumber | None = None
    last_updated_at: Number | None = None


class _Ticker(msgspec.Struct, gc=False):
    s: str | None = None
    a: _Level | None = None
    b: _Level | None = None
    last_updated_at: Number | None = None


class _Trade(msgspec.Struct, gc=False):
    trade_id: Id
    size: str
    price: str
    is_maker_ask: bool
    type: str = "trade"
    timestamp: Number | None = None
    transaction_time: Number | None = None


class _Stats(msgspec.Struct, gc=False):
    symbol: str | None = None
    index_price: str | None = None
    mark_price: str | None = None
    open_interest: str | None = None
    current_funding_rate: str | msgspec.UnsetType | None = msgspec.UNSET


_NO_STATS: Final = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, gc=False):
    """What a frame is about, and its error, if it is one."""

    type: str = ""
    channel: str = ""
    #: An object with code and message. Some errors have the two beside their type instead.
    error: Any = None
    code: Any = None
    message: Any = None


class _Frame(_Envelope, gc=False):
    """Any frame. One type for all: ``type`` comes last, so a union told apart by it would read each frame twice."""

    order_book: _Book | None = None
    ticker: _Ticker | None = None
    #: An object, or with ``market_stats:all`` a map of them; never kept beyond the frame.
    market_stats: msgspec.Raw = _NO_STATS
    trades: list[_Trade] | None = None
    liquidation_trades: list[_Trade] | None = None
    last_updated_at: Number | None = None
    timestamp: Number | None = None
    close_in_ms: int = 0


class _AnyFrame(_Envelope):
    """A frame of which something cannot be read; its rows, if it has such, by themselves."""

    trades: msgspec.Raw = _NO_STATS
    liquidation_trades: msgspec.Raw = _NO_STATS


class _Market(msgspec.Struct):
    symbol: Name
    market_id: int | str
    #: Missing in old rows.
    market_type: str | None = None
    status: Text = "active"
    supported_size_decimals: Number | None = None
    supported_price_decimals: Number | None = None


class _Markets(msgspec.Struct):
    code: Literal[200]
    order_books: list[msgspec.Raw] | None


class _Prediction(msgspec.Struct):
    market_id: int | str
    exchange: str
    #: A number, whose digits are kept as they are; never kept beyond the answer.
    rate: msgspec.Raw


class _Predictions(msgspec.Struct):
    code: Literal[200]
    funding_rates: list[msgspec.Raw] | None


class _Payment(msgspec.Struct):
    timestamp: Number
    rate: str | None
    #: Who paid: the rate itself has no sign.
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


_frames: Final = msgspec.json.Decoder(_Frame)
_any_frame: Final = msgspec.json.Decoder(_AnyFrame)
_trade_rows: Final[msgspec.json.Decoder[list[msgspec.Raw] | None]] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_trade_row: Final = msgspec.json.Decoder(_Trade)
_one_stats: Final = msgspec.json.Decoder(_Stats)
_all_stats: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_markets: Final = msgspec.json.Decoder(_Markets)
_market: Final = msgspec.json.Decoder(_Market)
_predictions: Final = msgspec.json.Decoder(_Predictions)
_prediction: Final = msgspec.json.Decoder(_Prediction)
_payments: Final = msgspec.json.Decoder(_Payments)
_payment: Final = msgspec.json.Decoder(_Payment)
_orders: Final = msgspec.json.Decoder(_Orders)


class Lighter(Venue):
    """Public market data of the perpetuals."""

    name: ClassVar[str] = "lighter"
    env: ClassVar[str] = "LIGHTER"
    ws_url: ClassVar[str] = "wss://mainnet.zklighter.elliot.ai/stream"
    rest_url: ClassVar[str] = "https://mainnet.zklighter.elliot.ai/api/v1"
    streams: ClassVar[Mapping[Stream, float | None]] = {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
    }
    # The server closes what has sent it no message for two minutes; WebSocket's own ping frames may not count.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0, ping=_PING)
    # An address may send 200 messages a minute, those about its account among them, and have 50 in flight.
    limits: ClassVar[VenueLimits] = VenueLimits(burst=40, messages_per_s=2.4, rest_weight_per_min=60)
    # REST lists single orders, 250 a side at most: enough to compare the best levels with, not to show a book.
    has_rest_book: ClassVar[bool] = False
    continuity: ClassVar[Continuity] = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """``orderBooks``, the light one of the two lists."""
        return (RestRequest("/orderBooks"),)

    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The perpetuals; the ids differ between hosts, so they are looked up at each start."""
        rows = parsed(_markets, bodies[0], "orderBooks").order_books
        return one_per_base(items_of_rows(rows, _listed, "order_books"))

    def offline_listing(self, wire: str) -> Listing:
        """A market id says nothing of its market."""
        return _listing(None, wire, wire)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - it has none
    ) -> tuple[ConnectionSpec, ...]:
        """One connection, as far as its number of subscriptions allows."""
        starts = range(0, len(listings), _MARKETS_PER_CONNECTION)
        return tuple(
            ConnectionSpec(
                "main" if number == 1 else f"main.{number}",
                ws_url,
                tuple(
                    subscription
                    for listing in listings[start : start + _MARKETS_PER_CONNECTION]
                    for subscription in _subscriptions(listing)
                ),
            )
            for number, start in enumerate(starts, start=1)
        )

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`Venue.decode`."""
        try:
            frame = _frames.decode(payload)
            if _is_error(frame):
                return [_refused(frame)]
            decoder = _DECODERS.get(frame.type)
            if decoder is None:
                return _unknown(frame.type)
            items = decoder(frame, markets)
        except (ValueError, RecursionError) as error:
            return _decode_other(bytes(payload), markets, error)
        # There is no acknowledgement beside the first data frame.
        return [Ack(frame.channel), *items] if frame.type.startswith("subscribed/") else items

    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """The running rates of all markets in one request; the payments market by market, seldom."""
        markets = {listing.wire: listing for listing in listings}
        symbols = tuple(str(listing.symbol) for listing in listings)
        running = RestRequest("/funding-rates")
        polls = [Poll("predicted", Stream.FUNDING_POLL, lambda _: running, partial(_parse_predicted, markets), symbols)]
        polls += [
            Poll(
                f"settled.{listing.symbol}",
                Stream.FUNDING_POLL,
                partial(_payments_request, listing.wire),
                partial(_parse_settled, listing),
                (str(listing.symbol),),
                period_s=_SETTLED_PERIOD_S,
            )
            for listing in listings
        ]
        return tuple(polls) if listings else ()

    def book_request(self, listing: Listing) -> RestRequest:
        """The resting orders one by one; they carry no nonce."""
        return RestRequest(f"/orderBookOrders?market_id={listing.wire}&limit={_REST_ORDERS}")

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """Orders added up by price."""
        orders = parsed(_orders, body, "orderBookOrders")
        bids, asks = best_first(_by_price(orders.bids or []), _by_price(orders.asks or []))
        return BookSnapshot(
            "lighter",
            listing.symbol,
            listing.venue_symbol,
            None,
            _complete(bids, orders.bids),
            _complete(asks, orders.asks),
            min(_known_depth(bids, orders.bids), _known_depth(asks, orders.asks)),
            None,
        )


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_other(payload: bytes, markets: Markets, error: Exception) -> list[Item]:
    """A frame that is not shaped as ours: of another type, with an invalid row or book, or malformed."""
    try:
        frame = _any_frame.decode(payload)
        if _is_error(frame):
            return [_refused(frame)]
        decoder = _ROWS.get(frame.type.partition("/")[2]) if frame.type in _DECODERS else None
        items = None if decoder is None else decoder(frame, markets, error)
    except (ValueError, RecursionError) as noise:
        raise DecodeError(f"not a Lighter frame: {noise}") from noise
    if items is not None:
        return [Ack(frame.channel), *items] if frame.type.startswith("subscribed/") else items
    if frame.type in _DECODERS:
        raise DecodeError(f"malformed {frame.type} frame: {error}") from error
    return _unknown(frame.type)


def _invalid_book(frame: _AnyFrame, markets: Markets, error: Exception) -> list[Item]:
    listing = markets.get(_wire(frame.channel))
    return [] if listing is None else [InvalidBook(listing, Stream.BOOK, str(error))]


def _unknown(kind: str) -> list[Item]:
    """Frames of other types carry nothing for us; one without a type is no frame of Lighter's."""
    if not kind:
        raise DecodeError("a frame without a type")
    return []


def _ns(time_us: Number | None, time_ms: Number | None) -> int | None:
    """The first of two times that is given, µs before ms; 0 is not a time."""
    return ns_of_us(time_us) if time_us else ns_of_ms(time_ms)


def _wire(channel: str) -> str:
    wire = channel.partition(":")[2]
    if not wire:
        raise DecodeError(f"no market in channel {channel!r}")
    return wire


def _named(listing: Listing, symbol: str | None) -> Listing:
    """``listing``, named by the frame's own text where nothing else names it."""
    return listing if listing.base is not None or not symbol else _listing(symbol, symbol, listing.wire)


def _levels(side: list[_Level] | None) -> list[Level]:
    return [(level.price, level.size) for level in side] if side else []


def _decode_snapshot(frame: _Frame, markets: Markets) -> list[Item]:
    book, listing = _book(frame), markets.get(_wire(frame.channel))
    if listing is None:
        return []
    # The order of levels is not promised.
    bids, asks = best_first(_levels(book.bids), _levels(book.asks))
    exchange_ns = _ns(book.last_updated_at, frame.timestamp)
    return [
        BookSnapshot("lighter", listing.symbol, listing.venue_symbol, exchange_ns, bids, asks, None, book.nonce),
    ]


def _decode_delta(frame: _Frame, markets: Markets) -> list[Item]:
    book, listing = _book(frame), markets.get(_wire(frame.channel))
    if listing is None:
        return []
    return [
        BookDelta(
            "lighter",
            listing.symbol,
            listing.venue_symbol,
            _ns(book.last_updated_at, frame.timestamp),
            _levels(book.bids),
            _levels(book.asks),
            book.nonce,
            book.begin_nonce,
        )
    ]


def _book(frame: _Frame) -> _Book:
    if frame.order_book is None:
        raise DecodeError("no book")
    return frame.order_book


def _decode_ticker(frame: _Frame, markets: Markets) -> list[Item]:
    ticker, listing = frame.ticker, markets.get(_wire(frame.channel))
    if ticker is None:
        raise DecodeError("no ticker")
    if listing is None:
        return []
    listing = _named(listing, ticker.s)
    exchange_ns = _ns(ticker.last_updated_at or frame.last_updated_at, frame.timestamp)
    return [
        Bbo("lighter", listing.symbol, listing.venue_symbol, exchange_ns, *_side(ticker.b), *_side(ticker.a)),
    ]


def _side(level: _Level | None) -> tuple[str | None, str | None]:
    return (None, None) if level is None else side(level.price, level.size)


def _decode_trades(frame: _Frame, markets: Markets) -> list[Item]:
    listing = markets.get(_wire(frame.channel))
    if listing is None:
        return []
    flags = _trade_flags(frame.type)
    return [_trade(listing, row, flags) for rows in (frame.trades, frame.liquidation_trades) for row in rows or ()]


def _decode_trade_rows(frame: _AnyFrame, markets: Markets, error: Exception) -> list[Item]:  # noqa: ARG001
    listing = markets.get(_wire(frame.channel))
    if listing is None:
        return []
    flags = _trade_flags(frame.type)
    rows = [*(_trade_rows.decode(frame.trades) or ()), *(_trade_rows.decode(frame.liquidation_trades) or ())]
    return [*each_row(rows, lambda row: _trade(listing, _trade_row.decode(row), flags), "trades")]


def _trade_flags(kind: str) -> tuple[Flag, ...]:
    """The first frame repeats recent trades."""
    return ("backlog",) if kind == "subscribed/trade" else ()


def _trade(listing: Listing, row: _Trade, flags: tuple[Flag, ...]) -> Trade:
    return Trade(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        _ns(row.transaction_time, row.timestamp),
        row.price,
        row.size,
        "buy" if row.is_maker_ask else "sell",
        str(row.trade_id),
        _TRADE_TYPES.get(row.type) or row.type.lower(),
        flags=flags,
    )


def _decode_stats(frame: _Frame, markets: Markets) -> list[Item]:
    wire, body = _wire(frame.channel), frame.market_stats
    if wire != "all":
        return _market_stats(frame, markets, (wire, body))
    return items_of_rows(_all_stats.decode(body).items(), partial(_market_stats, frame, markets), "market_stats")


def _market_stats(frame: _Frame, markets: Markets, row: tuple[str, msgspec.Raw]) -> list[Item]:
    listing = markets.get(row[0])
    if listing is None:
        return []
    stats = _one_stats.decode(row[1])
    return _stats_events(_named(listing, stats.symbol), stats, ns_of_ms(frame.timestamp))


def _stats_events(listing: Listing, stats: _Stats, exchange_ns: int | None) -> list[Item]:
    mark = Mark(
        "lighter",
        listing.symbol,
        listing.venue_symbol,
        exchange_ns,
        stats.mark_price or None,
        stats.index_price or None,
        "index" if stats.index_price else None,
        None,
        # In quote units here, though REST's orderBookDetails has base units under the same name.
        stats.open_interest or None,
    )
    native = stats.current_funding_rate
    if native is msgspec.UNSET:
        return [mark]
    next_ns = (exchange_ns // _HOUR_NS + 1) * _HOUR_NS if exchange_ns else None
    return [mark, _funding(listing, native or None, "percent_per_hour", exchange_ns, next_ns, "predicted", "ws")]


def _is_error(frame: _Envelope) -> bool:
    return frame.error is not None or frame.type == "error" or (frame.code is not None and not frame.type)


def _refused(frame: _Envelope) -> Refused:
    code, text = code_and_text({"code": frame.code, "message": frame.message, "error": frame.error})
    found = _CHANNEL.search(f"{frame.channel} {frame.message} {frame.error}")
    reason = _REASONS.get(code, usual_reason(code, text))
    key = f"{found[1]}:{found[2]}" if found else None
    # Over the pace nothing is heard any more, pings neither.
    return Refused(f"{code} {text}", key, reason, fatal=reason is Reason.RATE_LIMITED)


#: How frames are read of which something is invalid, by the channel's name in their type.
_ROWS: Final[dict[str, Callable[[_AnyFrame, Markets, Exception], list[Item]]]] = {
    "order_book": _invalid_book,
    "trade": _decode_trade_rows,
}
_DECODERS: Final[dict[str, Callable[[_Frame, Markets], list[Item]]]] = {
    "update/order_book": _decode_delta,
    "subscribed/order_book": _decode_snapshot,
    "update/ticker": _decode_ticker,
    "subscribed/ticker": _decode_ticker,
    "update/trade": _decode_trades,
    "subscribed/trade": _decode_trades,
    "update/market_stats": _decode_stats,
    "subscribed/market_stats": _decode_stats,
    "unsubscribed": lambda frame, _: [Unsubscribed(frame.channel)],
    "ping": lambda _frame, _: [Ping(_PONG)],
    "pong": lambda _frame, _: [Pong()],
    "shutdown": lambda frame, _: [ServerShutdown(frame.close_in_ms)],
}


# --- subscriptions ------------------------------------------------------------------------------------------------


def _subscriptions(listing: Listing) -> tuple[ChannelSubscription, ...]:
    return (
        _subscription(listing, "order_book", Stream.BOOK),
        _subscription(listing, "ticker", Stream.BBO),
        _subscription(listing, "trade", Stream.TRADE),
        _subscription(listing, "market_stats", Stream.MARK, Stream.FUNDING),
    )


def _subscription(listing: Listing, channel: str, *streams: Stream) -> ChannelSubscription:
    """Requests separate channel and market with a slash, replies with a colon."""
    requested = f"{channel}/{listing.wire}"
    return ChannelSubscription(
        f"{channel}:{listing.wire}",
        streams,
        listing.symbol,
        msgspec.json.encode({"type": "subscribe", "channel": requested}),
        msgspec.json.encode({"type": "unsubscribe", "channel": requested}),
    )


# --- REST ---------------------------------------------------------------------------------------------------------


def _is_perpetual(market: _Market) -> bool:
    return market.market_type == "perp" if market.market_type is not None else "/" not in market.symbol


def _listed(raw: msgspec.Raw) -> list[Listing]:
    """The market of a row, if it is a perpetual."""
    market = _market.decode(raw)
    if not _is_perpetual(market):
        return []
    tick, lot = step(market.supported_price_decimals), step(market.supported_size_decimals)
    status = _STATUS.get(market.status, market.status)
    return [_listing(market.symbol, market.symbol, digits_of(market.market_id), tick, lot, status)]


def _listing(
    name: str | None,
    venue_symbol: str,
    market_id: str,
    tick: str | None = None,
    lot: str | None = None,
    status: str = "active",
) -> Listing:
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


def _funding(
    listing: Listing,
    native: str | None,
    unit: Unit,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
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


def _parse_predicted(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    """The rows of this venue; those of other exchanges stand among them."""
    rows = parsed(_predictions, body, "funding-rates").funding_rates
    return items_of_rows(rows, partial(_predicted, markets), "funding_rates")


def _predicted(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _prediction.decode(raw)
    listing = markets.get(str(row.market_id)) if row.exchange == "lighter" else None
    if listing is None:
        return []
    rate = bytes(row.rate).decode().strip('"')
    native = None if rate in {"", "null"} else shortest(rate)
    return [_funding(listing, native, "fraction_per_8h", None, None, "predicted", "rest")]


def _payments_request(wire: str, now_ms: int) -> RestRequest:
    now_s = now_ms // 1000
    span = f"start_timestamp={now_s - 2 * _HOUR_S}&end_timestamp={now_s}&count_back=2"
    return RestRequest(f"/fundings?market_id={wire}&resolution=1h&{span}")


def _parse_settled(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """The newest payment; a new market has none."""
    rows = parsed(_payments, body, "fundings").fundings or []
    return newest_payment(rows, partial(_settled, listing), "fundings")


def _settled(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _payment.decode(raw)
    native = f"-{row.rate}" if row.rate and row.direction == "short" else row.rate or None
    return _funding(listing, native, "percent_per_hour", ns_of_s(row.timestamp), None, "settled", "rest")


def _by_price(orders: list[_Order]) -> list[Level]:
    """Levels of one side: orders of one price, whatever its text, are one level."""
    levels: dict[str, tuple[str, Decimal]] = {}
    try:
        for order in orders:
            price, size = levels.get(shortest(order.price), (order.price, Decimal(0)))
            remaining = number(order.remaining_base_amount)
            if remaining <= 0:  # which others of its price would hide
                raise ValueError(f"a size of {order.remaining_base_amount[:40]!r}")
            levels[shortest(order.price)] = (price, size + remaining)
    except ValueError as error:
        raise DecodeError(f"an order whose price or size is none: {error}") from error
    return [(price, plain(size)) for price, size in levels.values()]


def _complete(levels: list[Level], orders: list[_Order] | None) -> list[Level]:
    """``levels`` without the last one where the list of orders was cut, possibly in its midst."""
    return levels[:-1] or levels if orders and len(orders) == _REST_ORDERS else levels


def _known_depth(levels: list[Level], orders: list[_Order] | None) -> int:
    """How many levels of a side are known for sure: not the last one of a list that was cut, which may hold more."""
    return len(levels) - 1 if orders and len(orders) == _REST_ORDERS else _REST_ORDERS


#: For the registry of venues.
MARKET_DATA: Final = Lighter()
