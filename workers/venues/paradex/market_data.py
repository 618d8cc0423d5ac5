"""Paradex's public stream: JSON-RPC requests, binary or JSON data frames, books chained by sequence numbers.

The layout of binary frames is in :mod:`workers.venues.paradex.sbe`; both encodings decode to the same events.

Source of the rules: Paradex's API documentation (WebSocket channels, binary encoding, error handling, rate limits), and
recorded frames where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, Event, Level, Mark, Side, Trade
from ipc.health import Stream
from workers.venues.fields import Id, Number, SequenceNumber, ns_of_ms, ns_of_us, side
from workers.venues.listing import Listing, Markets
from workers.venues.paradex import rest, sbe
from workers.venues.paradex.errors import GEO_BLOCKED, market_data_reason
from workers.venues.paradex.rest import book_snapshot, funding_event, funding_rows
from workers.venues.refusals import code_and_text
from workers.venues.venue import (
    Ack,
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    InvalidBook,
    Item,
    Keepalive,
    Refused,
    RestRequest,
    Resync,
    Rule,
    Unsubscribed,
    Venue,
    VenueLimits,
)

#: Added to a subscription's request id to unsubscribe: replies to both requests have the same shape.
_UNSUBSCRIBE_OFFSET: Final = 1_000_000
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_SBE_SIDES: Final[Mapping[int, Side]] = {1: "buy", 2: "sell"}
#: Types of trades as published; others are published in lower case.
_TRADE_TYPES: Final = {"FILL": "trade", "SETTLE_MARKET": "settlement"}
_SBE_TRADE_TYPES: Final = {
    1: "FILL",
    2: "LIQUIDATION",
    3: "UNWIND_TRANSFER",
    4: "SETTLE_MARKET",
    5: "RPI",
    6: "BLOCK_TRADE",
    **dict.fromkeys((254, 255), "UNKNOWN"),
}
#: Levels per side in the name of a channel of whole books.
_CHANNEL_DEPTH: Final = re.compile(r"\.(?:snapshot|interactive)@(\d+)")


class _Level(msgspec.Struct, gc=False):
    side: Literal["BUY", "SELL"]
    price: str
    size: str


class _Book(msgspec.Struct, gc=False):
    market: str
    seq_no: SequenceNumber
    update_type: Literal["s", "d"]
    inserts: list[_Level] | None = None
    updates: list[_Level] | None = None
    deletes: list[_Level] | None = None
    last_updated_at: Number | None = None


class _Bbo(msgspec.Struct, gc=False):
    market: str
    bid: str | None = None
    bid_size: str | None = None
    ask: str | None = None
    ask_size: str | None = None
    last_updated_at: Number | None = None


class _Trade(msgspec.Struct, gc=False):
    #: Up to 28 digits.
    id: Id
    market: str
    side: Literal["BUY", "SELL"]
    size: str
    price: str
    trade_type: str = "FILL"
    created_at: Number | None = None


class _Summary(msgspec.Struct, gc=False):
    symbol: str
    mark_price: str | None = None
    #: Spot index.
    underlying_price: str | None = None
    open_interest: str | None = None
    created_at: Number | None = None


class _Params(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw


class _BookHead(msgspec.Struct):
    """Market of a book whose levels cannot be decoded."""

    market: str


class _Frame(msgspec.Struct, gc=False):
    """Text frame: data with its ``method``, or the reply to a request with its ``id``."""

    id: int | str | None = None
    method: str = ""
    params: _Params | None = None
    result: Any = msgspec.UNSET
    error: Any = None
    code: Any = None
    message: Any = None


_frames: Final = msgspec.json.Decoder(_Frame)
_books: Final = msgspec.json.Decoder(_Book)
_book_head: Final = msgspec.json.Decoder(_BookHead)
_bbos: Final = msgspec.json.Decoder(_Bbo)
_trades: Final = msgspec.json.Decoder(_Trade)
_summaries: Final = msgspec.json.Decoder(_Summary)


class Paradex(Venue):
    """Public market data of Paradex's perpetuals, in either encoding."""

    name: ClassVar[str] = "paradex"
    env: ClassVar[str] = "PARADEX"
    ws_url: ClassVar[str] = "wss://ws-public.api.prod.paradex.trade/v1"
    rest_url: ClassVar[str] = "https://api.prod.paradex.trade/v1"
    streams: ClassVar[Mapping[Stream, float | None]] = {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 5.0,
    }
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0)
    limits: ClassVar[VenueLimits] = VenueLimits(
        burst=50, messages_per_s=20.0, rest_weight_per_min=1500, connects_per_min=600
    )
    continuity: ClassVar[Continuity] = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"encoding": ("sbe", "json")}

    parse_listings = staticmethod(rest.parse_listings)
    polls = staticmethod(rest.polls)
    book_request = staticmethod(rest.book_request)
    parse_book = staticmethod(rest.parse_book)
    offline_listing = staticmethod(rest.market_listing)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the request for all markets, options included."""
        return (RestRequest("/markets"),)

    def connections(
        self, listings: Sequence[Listing], ws_url: str, options: Mapping[str, str]
    ) -> tuple[ConnectionSpec, ...]:
        """Return one connection for everything, binary unless the option selects JSON."""
        wanted = [(listing, *channel) for listing in listings for channel in _channels(listing.wire).items()]
        url, fallback_url = sbe.urls(ws_url, options.get("encoding"))
        subscriptions = tuple(
            _subscription(number, *market_channel) for number, market_channel in enumerate(wanted, start=1)
        )
        return (ConnectionSpec("main", url, subscriptions, fallback_url=fallback_url),) if listings else ()

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: FBT001
        """Decode a frame; see :meth:`Venue.decode`. On a binary connection replies to requests are text."""
        try:
            return _decode_binary(payload, markets) if binary else _decode_text(_frames.decode(payload), markets)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"malformed Paradex frame: {error}") from error


def _decode_text(frame: _Frame, markets: Markets) -> list[Item]:
    if frame.method == "subscription":
        if frame.params is None:
            raise DecodeError("a subscription frame without params")
        decoder = _DECODERS.get(frame.params.channel.partition(".")[0])
        return decoder(frame.params, markets) if decoder else []
    if frame.error is not None or frame.code is not None:
        return [_error_item(frame)]
    if frame.result is msgspec.UNSET and not frame.method:
        raise DecodeError("a frame that is neither data nor a reply")
    return _decode_reply(frame.id, frame.result)


def _decode_reply(request_id: int | str | None, result: Any) -> list[Item]:
    """Return the acknowledgement of a request; only its id distinguishes subscribing from unsubscribing."""
    channel = result.get("channel") if isinstance(result, dict) else None
    if isinstance(request_id, int) and request_id > _UNSUBSCRIBE_OFFSET:
        return [Unsubscribed(channel if isinstance(channel, str) else _alias(request_id))]
    return [Ack(channel)] if isinstance(channel, str) else []


def _alias(request_id: int) -> str:
    """Return the alias of a subscription in replies, from the id of either request."""
    return f"id:{request_id % _UNSUBSCRIBE_OFFSET}"


def _error_item(frame: _Frame) -> Refused:
    code, text = code_and_text({"code": frame.code, "message": frame.message, "error": frame.error})
    key = _alias(frame.id) if isinstance(frame.id, int) else None
    return Refused(f"{code} {text}", key, market_data_reason(code, text.lower()), fatal=code == GEO_BLOCKED)


def _decode_book(params: _Params, markets: Markets) -> list[Item]:
    try:
        return _book_events(params, _books.decode(params.data), markets)
    except (ValueError, RecursionError) as error:
        listing = markets.get(_book_head.decode(params.data).market)
        return [] if listing is None else [InvalidBook(listing, Stream.BOOK, str(error))]


def _book_events(params: _Params, book: _Book, markets: Markets) -> list[Item]:
    listing = markets.get(book.market)
    if listing is None:
        return []
    exchange_ns = ns_of_ms(book.last_updated_at)
    if book.update_type == "s":
        depth = _CHANNEL_DEPTH.search(params.channel)
        bids, asks = _sides(book.inserts or [])
        return [book_snapshot(listing, exchange_ns, bids, asks, int(depth[1]) if depth else None, book.seq_no)]
    gone = [_Level(level.side, level.price, "0") for level in book.deletes or ()]
    return [_delta(listing, exchange_ns, *_sides([*(book.inserts or ()), *(book.updates or ()), *gone]), book.seq_no)]


def _sides(levels: list[_Level]) -> tuple[list[Level], list[Level]]:
    bids: list[Level] = []
    asks: list[Level] = []
    for level in levels:
        (bids if level.side == "BUY" else asks).append((level.price, level.size))
    return bids, asks


def _decode_bbo(params: _Params, markets: Markets) -> list[Item]:
    row = _bbos.decode(params.data)
    listing = markets.get(row.market)
    if listing is None:
        return []
    return [_bbo(listing, ns_of_ms(row.last_updated_at), row.bid, row.bid_size, row.ask, row.ask_size)]


def _decode_trade(params: _Params, markets: Markets) -> list[Item]:
    row = _trades.decode(params.data)
    listing = markets.get(row.market)
    if listing is None:
        return []
    side, exchange_ns = _SIDES[row.side], ns_of_ms(row.created_at)
    return [_trade(listing, exchange_ns, row.price, row.size, side, str(row.id), row.trade_type)]


def _decode_summary(params: _Params, markets: Markets) -> list[Item]:
    row = _summaries.decode(params.data)
    listing = markets.get(row.symbol)
    if listing is None:
        return []
    return [_mark(listing, ns_of_ms(row.created_at), row.mark_price, row.underlying_price, row.open_interest)]


def _decode_funding(params: _Params, markets: Markets) -> list[Item]:
    row = funding_rows.decode(params.data)
    listing = markets.get(row.market)
    if listing is None or row.funding_rate is msgspec.UNSET:
        return []
    exchange_ns = ns_of_ms(row.created_at)
    return [funding_event(listing, exchange_ns, row.funding_rate, row.funding_period_hours, "ws")]


_DECODERS: Final[dict[str, Callable[[_Params, Markets], list[Item]]]] = {
    "order_book": _decode_book,
    "bbo": _decode_bbo,
    "trades": _decode_trade,
    "markets_summary": _decode_summary,
    "funding_data": _decode_funding,
}


def _decode_binary(payload: bytes | memoryview, markets: Markets) -> list[Item]:
    try:
        message = sbe.decode(payload)
    except sbe.InvalidBookError as error:
        listing = markets.get(error.market)
        return [] if listing is None else [InvalidBook(listing, Stream.BOOK, error.what)]
    listing = None if message is None else markets.get(message.market)
    return [] if listing is None else [_SBE_DECODERS[type(message)](message, listing)]


def _sbe_book(book: sbe.SbeBook, listing: Listing) -> Item:
    exchange_ns = ns_of_us(book.ts_us)
    if book.seq < 0:
        return InvalidBook(listing, Stream.BOOK, f"a book of number {book.seq}")
    if book.package == 1:
        return _delta(listing, exchange_ns, book.bids, book.asks, book.seq)
    if book.package == 0:
        return book_snapshot(listing, exchange_ns, book.bids, book.asks, None, book.seq)
    return InvalidBook(listing, Stream.BOOK, f"a book of package type {book.package}")


def _sbe_bbo(row: sbe.SbeBbo, listing: Listing) -> Event:
    return _bbo(listing, ns_of_us(row.ts_us), row.bid_price, row.bid_size, row.ask_price, row.ask_size)


def _sbe_trade(row: sbe.SbeTrade, listing: Listing) -> Event:
    side = _SBE_SIDES.get(row.side)
    if side is None:
        raise DecodeError(f"a trade of side {row.side}")
    exchange_ns = ns_of_us(row.created_us) or ns_of_us(row.ts_us)
    # The id in the block is truncated to 64 bits and so is not unique.
    trade_id = row.trade_id or f"{row.seq}:{row.price}:{row.size}"
    trade_type = _SBE_TRADE_TYPES.get(row.trade_type) or str(row.trade_type)
    return _trade(listing, exchange_ns, row.price, row.size, side, trade_id, trade_type)


def _sbe_mark(row: sbe.MarketSummary, listing: Listing) -> Event:
    return _mark(listing, ns_of_us(row.ts_us), row.mark_price, row.index_price, row.open_interest)


def _sbe_funding(row: sbe.FundingData, listing: Listing) -> Event:
    exchange_ns = ns_of_us(row.created_us) or ns_of_us(row.ts_us)
    return funding_event(listing, exchange_ns, row.rate, row.period_hours, "ws")


_SBE_DECODERS: Final[dict[type, Callable[[Any, Listing], Item]]] = {
    sbe.SbeBook: _sbe_book,
    sbe.SbeBbo: _sbe_bbo,
    sbe.SbeTrade: _sbe_trade,
    sbe.MarketSummary: _sbe_mark,
    sbe.FundingData: _sbe_funding,
}


def _delta(listing: Listing, exchange_ns: int | None, bids: list[Level], asks: list[Level], seq: int) -> BookDelta:
    """Return a change, with or without levels: it follows the number before its own."""
    return BookDelta("paradex", listing.symbol, listing.venue_symbol, exchange_ns, bids, asks, seq, seq - 1)


def _bbo(
    listing: Listing,
    exchange_ns: int | None,
    bid_price: str | None,
    bid_size: str | None,
    ask_price: str | None,
    ask_size: str | None,
) -> Bbo:
    sides = *side(bid_price, bid_size), *side(ask_price, ask_size)
    return Bbo("paradex", listing.symbol, listing.venue_symbol, exchange_ns, *sides)


def _trade(
    listing: Listing, exchange_ns: int | None, price: str, size: str, side: Side, trade_id: str, trade_type: str
) -> Trade:
    return Trade(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        exchange_ns,
        price,
        size,
        side,
        trade_id,
        _TRADE_TYPES.get(trade_type) or trade_type.lower(),
    )


def _mark(
    listing: Listing, exchange_ns: int | None, mark: str | None, index: str | None, open_interest: str | None
) -> Mark:
    return Mark(
        "paradex",
        listing.symbol,
        listing.venue_symbol,
        exchange_ns,
        mark or None,
        index or None,
        "index" if index else None,
        open_interest or None,
        None,
    )


def _channels(market: str) -> dict[str, tuple[Stream, ...]]:
    return {
        f"order_book.{market}.deltas": (Stream.BOOK,),
        f"bbo.{market}": (Stream.BBO,),
        f"trades.{market}": (Stream.TRADE,),
        f"markets_summary.{market}": (Stream.MARK,),
        f"funding_data.{market}": (Stream.FUNDING,),
    }


def _subscription(number: int, listing: Listing, channel: str, streams: tuple[Stream, ...]) -> ChannelSubscription:
    return ChannelSubscription(
        channel,
        streams,
        listing.symbol,
        _request("subscribe", channel, number),
        _request("unsubscribe", channel, _UNSUBSCRIBE_OFFSET + number),
        _alias(number),
    )


def _request(method: str, channel: str, request_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": {"channel": channel}, "id": request_id})


#: For the registry of venues.
MARKET_DATA: Final = Paradex()
