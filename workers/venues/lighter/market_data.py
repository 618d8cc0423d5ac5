"""Lighter's public stream: books chained by nonces, markets by id, everything on one connection.

Source of the rules: Lighter's API documentation (WebSocket reference, rate limits, data structures), and recorded
frames where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import msgspec

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Flag, Level, Mark, Trade
from ipc.health import Reason, Stream
from workers.venues.fields import Id, Number, SequenceNumber, ns_of_ms, ns_of_us, side
from workers.venues.lighter import rest
from workers.venues.lighter.errors import ERROR_REASONS, channel_in
from workers.venues.lighter.rest import funding_event, market_listing
from workers.venues.listing import Listing, Markets
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import each_row, items_of_rows
from workers.venues.venue import (
    Ack,
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    InvalidBook,
    Item,
    Keepalive,
    Ping,
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
)

_HOUR_NS: Final = 3600 * 1_000_000_000
#: A connection may have 500 subscriptions, and a market needs four.
_MARKETS_PER_CONNECTION: Final = 125
_CHANNELS: Final[Mapping[str, tuple[Stream, ...]]] = {
    "order_book": (Stream.BOOK,),
    "ticker": (Stream.BBO,),
    "trade": (Stream.TRADE,),
    "market_stats": (Stream.MARK, Stream.FUNDING),
}
_PING: Final = b'{"type":"ping"}'
_PONG: Final = b'{"type":"pong"}'
#: Types of trades as published; others are published in lower case.
_TRADE_TYPES: Final = {"trade": "trade", "deleverage": "adl", "market-settlement": "settlement"}
#: Reasons for error codes; :func:`usual_reason` decides on others.
_REASONS: Final[Mapping[int | str | None, Reason | None]] = {**ERROR_REASONS, 30005: Reason.UNKNOWN_MARKET}


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


_NULL: Final = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, gc=False):
    """Identity of a frame, and the fields of an error."""

    type: str = ""
    channel: str = ""
    #: Object with code and message; some errors have these beside their type.
    error: Any = None
    code: Any = None
    message: Any = None


class _Frame(_Envelope, gc=False):
    """Frame of any type. Not a tagged union: ``type`` comes last, so decoding would scan each frame twice."""

    order_book: _Book | None = None
    ticker: _Ticker | None = None
    #: Object, or with ``market_stats:all`` a map of them; a view of the frame, so not kept.
    market_stats: msgspec.Raw = _NULL
    trades: list[_Trade] | None = None
    liquidation_trades: list[_Trade] | None = None
    last_updated_at: Number | None = None
    timestamp: Number | None = None
    close_in_ms: int = 0


class _AnyFrame(_Envelope):
    """Frame with an invalid part; its rows are decoded separately."""

    trades: msgspec.Raw = _NULL
    liquidation_trades: msgspec.Raw = _NULL


_frames: Final = msgspec.json.Decoder(_Frame)
_any_frames: Final = msgspec.json.Decoder(_AnyFrame)
_trade_rows: Final[msgspec.json.Decoder[list[msgspec.Raw] | None]] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_trade_row: Final = msgspec.json.Decoder(_Trade)
_one_stats: Final = msgspec.json.Decoder(_Stats)
_all_stats: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Lighter(Venue):
    """Public market data of Lighter's perpetuals."""

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
    # The server closes a connection without a client message for 120 s; WebSocket ping frames may not count.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0, ping=_PING)
    # An IP address may send 200 messages per minute, account messages included, with at most 50 in flight.
    limits: ClassVar[VenueLimits] = VenueLimits(
        burst=40, messages_per_s=2.4, rest_weight_per_min=60, connects_per_min=60
    )
    # REST lists single orders, at most 250 per side: enough to compare the best levels, not to publish a book.
    has_rest_book: ClassVar[bool] = False
    continuity: ClassVar[Continuity] = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)

    parse_listings = staticmethod(rest.parse_listings)
    polls = staticmethod(rest.polls)
    book_request = staticmethod(rest.book_request)
    parse_book = staticmethod(rest.parse_book)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the request for ``orderBooks``, the lighter of the two lists."""
        return (RestRequest("/orderBooks"),)

    def offline_listing(self, wire: str) -> Listing:
        """Return the listing of a market id, which says nothing of its market."""
        return market_listing(None, wire, wire)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - there are none
    ) -> tuple[ConnectionSpec, ...]:
        """Return one connection, or more where the limit of subscriptions requires it."""
        size = _MARKETS_PER_CONNECTION
        parts = [listings[start : start + size] for start in range(0, len(listings), size)]
        return tuple(
            ConnectionSpec("main" if number == 1 else f"main.{number}", ws_url, _subscriptions(part))
            for number, part in enumerate(parts, start=1)
        )

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """Decode a frame; see :meth:`Venue.decode`."""
        try:
            frame = _frames.decode(payload)
            if _is_error(frame):
                return [_error_item(frame)]
            decoder = _DECODERS.get(frame.type)
            if decoder is None:
                return _ignore_type(frame.type)
            items = decoder(frame, markets)
        except (ValueError, RecursionError) as error:
            return _decode_irregular(bytes(payload), markets, error)
        # The first data frame is the only acknowledgement.
        return [Ack(frame.channel), *items] if frame.type.startswith("subscribed/") else items


def _decode_irregular(payload: bytes, markets: Markets, error: Exception) -> list[Item]:
    """Decode a frame that the fast path rejects: of another type, with an invalid row or book, or malformed."""
    try:
        frame = _any_frames.decode(payload)
        if _is_error(frame):
            return [_error_item(frame)]
        decoder = _IRREGULAR_DECODERS.get(frame.type.partition("/")[2]) if frame.type in _DECODERS else None
        items = None if decoder is None else decoder(frame, markets, error)
    except (ValueError, RecursionError) as noise:
        raise DecodeError(f"not a Lighter frame: {noise}") from noise
    if items is not None:
        return [Ack(frame.channel), *items] if frame.type.startswith("subscribed/") else items
    if frame.type in _DECODERS:
        raise DecodeError(f"malformed {frame.type} frame: {error}") from error
    return _ignore_type(frame.type)


def _invalid_book(frame: _AnyFrame, markets: Markets, error: Exception) -> list[Item]:
    listing = markets.get(_market_id(frame.channel))
    return [] if listing is None else [InvalidBook(listing, Stream.BOOK, str(error))]


def _ignore_type(kind: str) -> list[Item]:
    """Ignore frames of other types; reject one without a type."""
    if not kind:
        raise DecodeError("a frame without a type")
    return []


def _ns(time_us: Number | None, time_ms: Number | None) -> int | None:
    """Return the first of two times that is present, µs before ms; 0 counts as absent."""
    return ns_of_us(time_us) if time_us else ns_of_ms(time_ms)


def _market_id(channel: str) -> str:
    wire = channel.partition(":")[2]
    if not wire:
        raise DecodeError(f"no market in channel {channel!r}")
    return wire


def _name_listing(listing: Listing, symbol: str | None) -> Listing:
    """Return the listing, named by the frame's symbol where it has no name."""
    return listing if listing.base is not None or not symbol else market_listing(symbol, symbol, listing.wire)


def _levels(side: list[_Level] | None) -> list[Level]:
    return [(level.price, level.size) for level in side] if side else []


def _decode_snapshot(frame: _Frame, markets: Markets) -> list[Item]:
    book, listing = _book(frame), markets.get(_market_id(frame.channel))
    if listing is None:
        return []
    # The order of levels is not documented.
    bids, asks = best_first(_levels(book.bids), _levels(book.asks))
    exchange_ns = _ns(book.last_updated_at, frame.timestamp)
    return [BookSnapshot("lighter", listing.symbol, listing.venue_symbol, exchange_ns, bids, asks, None, book.nonce)]


def _decode_delta(frame: _Frame, markets: Markets) -> list[Item]:
    book, listing = _book(frame), markets.get(_market_id(frame.channel))
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
    ticker, listing = frame.ticker, markets.get(_market_id(frame.channel))
    if ticker is None:
        raise DecodeError("no ticker")
    if listing is None:
        return []
    listing = _name_listing(listing, ticker.s)
    exchange_ns = _ns(ticker.last_updated_at or frame.last_updated_at, frame.timestamp)
    return [Bbo("lighter", listing.symbol, listing.venue_symbol, exchange_ns, *_side(ticker.b), *_side(ticker.a))]


def _side(level: _Level | None) -> tuple[str | None, str | None]:
    return (None, None) if level is None else side(level.price, level.size)


def _decode_trades(frame: _Frame, markets: Markets) -> list[Item]:
    listing = markets.get(_market_id(frame.channel))
    if listing is None:
        return []
    flags = _trade_flags(frame.type)
    return [_trade(listing, row, flags) for rows in (frame.trades, frame.liquidation_trades) for row in rows or ()]


def _decode_trade_rows(frame: _AnyFrame, markets: Markets, error: Exception) -> list[Item]:  # noqa: ARG001
    listing = markets.get(_market_id(frame.channel))
    if listing is None:
        return []
    flags = _trade_flags(frame.type)
    rows = [*(_trade_rows.decode(frame.trades) or ()), *(_trade_rows.decode(frame.liquidation_trades) or ())]
    return [*each_row(rows, lambda row: _trade(listing, _trade_row.decode(row), flags), "trades")]


def _trade_flags(kind: str) -> tuple[Flag, ...]:
    """Return the flags of a frame's trades: the first frame repeats recent trades."""
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
    wire, body = _market_id(frame.channel), frame.market_stats
    if wire != "all":
        return _market_stats(frame, markets, (wire, body))
    return items_of_rows(_all_stats.decode(body).items(), partial(_market_stats, frame, markets), "market_stats")


def _market_stats(frame: _Frame, markets: Markets, row: tuple[str, msgspec.Raw]) -> list[Item]:
    listing = markets.get(row[0])
    if listing is None:
        return []
    stats = _one_stats.decode(row[1])
    return _stats_events(_name_listing(listing, stats.symbol), stats, ns_of_ms(frame.timestamp))


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
        # Quote units here; REST's orderBookDetails has base units under the same name.
        stats.open_interest or None,
    )
    native = stats.current_funding_rate
    if native is msgspec.UNSET:
        return [mark]
    next_ns = (exchange_ns // _HOUR_NS + 1) * _HOUR_NS if exchange_ns else None
    return [mark, funding_event(listing, native or None, "percent_per_hour", exchange_ns, next_ns, "predicted", "ws")]


def _is_error(frame: _Envelope) -> bool:
    return frame.error is not None or frame.type == "error" or (frame.code is not None and not frame.type)


def _error_item(frame: _Envelope) -> Refused:
    code, text = code_and_text({"code": frame.code, "message": frame.message, "error": frame.error})
    key = channel_in(f"{frame.channel} {frame.message} {frame.error}")
    reason = _REASONS.get(code, usual_reason(code, text))
    # Once rate-limited the connection stays silent, pings included.
    return Refused(f"{code} {text}", key, reason, fatal=reason is Reason.RATE_LIMITED)


#: Decoders of frames with an invalid row or book, by the channel in their type.
_IRREGULAR_DECODERS: Final[dict[str, Callable[[_AnyFrame, Markets, Exception], list[Item]]]] = {
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


def _subscriptions(listings: Sequence[Listing]) -> tuple[ChannelSubscription, ...]:
    return tuple(_subscription(listing, *channel) for listing in listings for channel in _CHANNELS.items())


def _subscription(listing: Listing, channel: str, streams: tuple[Stream, ...]) -> ChannelSubscription:
    """Return a subscription: requests separate channel and market by a slash, replies by a colon."""
    requested = f"{channel}/{listing.wire}"
    return ChannelSubscription(
        f"{channel}:{listing.wire}",
        streams,
        listing.symbol,
        msgspec.json.encode({"type": "subscribe", "channel": requested}),
        msgspec.json.encode({"type": "unsubscribe", "channel": requested}),
    )


#: For the registry of venues.
MARKET_DATA: Final = Lighter()
