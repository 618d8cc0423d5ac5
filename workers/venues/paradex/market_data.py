"""Paradex: JSON-RPC to ask, binary or JSON frames as data, books chained by sequence numbers.

The layout of binary frames is in :mod:`workers.venues.paradex.sbe`; here both encodings become the same events.

Source of the rules: Paradex's API documentation (WebSocket channels, binary encoding, error handling, rate limits,
funding mechanism), and recorded frames where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Level, Mark, Side, Trade
from ipc.health import Reason, Stream
from ipc.topics import base_of
from workers.venues.fields import (
    Id,
    Name,
    Number,
    SequenceNumber,
    increment,
    interval_s_of,
    ns_of_ms,
    ns_of_us,
    side,
)
from workers.venues.funding import funding
from workers.venues.paradex import sbe
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import InvalidRow, items_of_rows, split_rows
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
    Poll,
    Refused,
    RestRequest,
    Resync,
    Rule,
    Unsubscribed,
    Venue,
    VenueLimits,
    one_per_base,
    parsed,
    split_multiplier,
)

__all__ = ["MARKET_DATA", "Paradex"]

#: The funding period of a market that states none, s.
_USUAL_INTERVAL_S: Final = 28_800
_REST_DEPTH: Final = 20
#: Added to a subscription's request id for the request that ends it: replies to the two look alike.
_UNSUBSCRIBE: Final = 1_000_000
#: What asks for binary frames; versions above the server's are refused, and recorded frames carry this one.
_SBE_QUERY: Final = "?sbeSchemaId=1&sbeSchemaVersion=1"
_AUTH_CODES: Final = frozenset({40110, 40111})
_GEO_BLOCKED: Final = 40112
_SIDES: Final[Mapping[str, Side]] = {"BUY": "buy", "SELL": "sell"}
_SBE_SIDES: Final[Mapping[int, Side]] = {1: "buy", 2: "sell"}
#: The venue's words for kinds of trades that have a name of ours.
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
#: The number of levels a side in the name of a channel of whole books.
_DEPTH: Final = re.compile(r"\.(?:snapshot|interactive)@(\d+)")


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
    #: The spot index.
    underlying_price: str | None = None
    open_interest: str | None = None
    created_at: Number | None = None


class _FundingData(msgspec.Struct, gc=False):
    market: str
    funding_rate: str | msgspec.UnsetType | None = msgspec.UNSET
    funding_period_hours: Number | None = None
    created_at: Number | None = None


class _Params(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw


class _BookHead(msgspec.Struct):
    """What a book is about, read where its levels cannot be."""

    market: str


class _Frame(msgspec.Struct, gc=False):
    """A text frame: data with its ``method``, or the reply to a request with its ``id``."""

    id: int | str | None = None
    method: str = ""
    params: _Params | None = None
    result: Any = msgspec.UNSET
    error: Any = None
    code: Any = None
    message: Any = None


class _Market(msgspec.Struct):
    symbol: Name
    asset_kind: str | None = None
    price_tick_size: Number | None = None
    order_size_increment: Number | None = None
    #: A number with fractions by the venue's specification; text in some rows.
    funding_period_hours: Number | None = None


class _Rows(msgspec.Struct):
    results: list[msgspec.Raw] | None


class _RestBook(msgspec.Struct):
    market: str
    seq_no: SequenceNumber
    bids: list[Level] | None = None
    asks: list[Level] | None = None
    last_updated_at: Number | None = None


_frames: Final = msgspec.json.Decoder(_Frame)
_books: Final = msgspec.json.Decoder(_Book)
_book_head: Final = msgspec.json.Decoder(_BookHead)
_bbos: Final = msgspec.json.Decoder(_Bbo)
_trades: Final = msgspec.json.Decoder(_Trade)
_summaries: Final = msgspec.json.Decoder(_Summary)
_fundings: Final = msgspec.json.Decoder(_FundingData)
_answer: Final = msgspec.json.Decoder(_Rows)
_market: Final = msgspec.json.Decoder(_Market)
_rest_book: Final = msgspec.json.Decoder(_RestBook)


class Paradex(Venue):
    """Public market data of the perpetuals, in either encoding."""

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
    limits: ClassVar[VenueLimits] = VenueLimits(burst=50, messages_per_s=20.0, rest_weight_per_min=1500)
    continuity: ClassVar[Continuity] = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"encoding": ("sbe", "json")}

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """The list of all markets, options among them."""
        return (RestRequest("/markets"),)

    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The perpetuals; one that is delisted is simply no longer in the list."""
        return one_per_base(items_of_rows(parsed(_answer, bodies[0], "markets").results, _listed, "markets"))

    def offline_listing(self, wire: str) -> Listing:
        """A perpetual's name says all; options are not named."""
        return _listing(wire)

    def connections(
        self, listings: Sequence[Listing], ws_url: str, options: Mapping[str, str]
    ) -> tuple[ConnectionSpec, ...]:
        """Everything on one connection, binary unless the option says otherwise."""
        wanted = [
            (listing, channel, streams) for listing in listings for channel, streams in _channels(listing.wire).items()
        ]
        query = "" if options.get("encoding") == "json" else _SBE_QUERY
        subscriptions = tuple(_subscription(number, *each) for number, each in enumerate(wanted, start=1))
        return (ConnectionSpec("main", ws_url + query, subscriptions),) if listings else ()

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: FBT001
        """One frame; see :meth:`Venue.decode`. On a binary connection the replies to requests are still text."""
        try:
            return _decode_binary(payload, markets) if binary else _decode_text(_frames.decode(payload), markets)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"malformed Paradex frame: {error}") from error

    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """The newest observation market by market: the answer for all markets at once is too large to repeat."""
        return tuple(
            Poll(
                f"predicted.{listing.symbol}",
                Stream.FUNDING_POLL,
                partial(_funding_request, listing.wire),
                partial(_parse_funding, listing),
                (str(listing.symbol),),
            )
            for listing in listings
        )

    def book_request(self, listing: Listing) -> RestRequest:
        """The top of the book; its sequence numbers are not known to be the stream's."""
        return RestRequest(f"/orderbook/{listing.wire}?depth={_REST_DEPTH}")

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """Levels as the venue gives them."""
        book = parsed(_rest_book, body, "orderbook")
        _check_market(book.market, listing)
        exchange_ns = ns_of_ms(book.last_updated_at)
        return _snapshot(listing, exchange_ns, book.bids or [], book.asks or [], _REST_DEPTH, book.seq_no)


# --- text frames --------------------------------------------------------------------------------------------------


def _decode_text(frame: _Frame, markets: Markets) -> list[Item]:
    if frame.method == "subscription":
        if frame.params is None:
            raise DecodeError("a subscription frame without params")
        decoder = _DECODERS.get(frame.params.channel.partition(".")[0])
        return decoder(frame.params, markets) if decoder else []
    if frame.error is not None or frame.code is not None:
        return [_refused(frame)]
    if frame.result is msgspec.UNSET and not frame.method:
        raise DecodeError("a frame that is neither data nor a reply")
    return _decode_reply(frame.id, frame.result)


def _decode_reply(request_id: int | str | None, result: Any) -> list[Item]:
    """Acceptance of a request; which of the two it was, only its id tells."""
    channel = result.get("channel") if isinstance(result, dict) else None
    if isinstance(request_id, int) and request_id > _UNSUBSCRIBE:
        return [Unsubscribed(channel if isinstance(channel, str) else _alias(request_id))]
    return [Ack(channel)] if isinstance(channel, str) else []


def _alias(request_id: int) -> str:
    """What a subscription is called by requests' ids, those of its end included."""
    return f"id:{request_id % _UNSUBSCRIBE}"


def _refused(frame: _Frame) -> Refused:
    code, text = code_and_text({"code": frame.code, "message": frame.message, "error": frame.error})
    key = _alias(frame.id) if isinstance(frame.id, int) else None
    return Refused(f"{code} {text}", key, _reason(code, text.lower()), fatal=code == _GEO_BLOCKED)


def _reason(code: int | str | None, text: str) -> Reason | None:
    """What an error means for us. Codes are coarse, so the text has to tell."""
    if code in _AUTH_CODES:
        return Reason.AUTH_FAILED
    if code == _GEO_BLOCKED:
        return Reason.REFUSED
    if "already subscribed" in text or "not subscribed" in text:
        return None
    reason = usual_reason(code, text)
    return Reason.UNKNOWN_MARKET if reason is Reason.SUBSCRIBE_ERROR and "market" in text else reason


def _decode_book(params: _Params, markets: Markets) -> list[Item]:
    try:
        return _book_items(params, _books.decode(params.data), markets)
    except (ValueError, RecursionError) as error:
        listing = markets.get(_book_head.decode(params.data).market)
        return [] if listing is None else [InvalidBook(listing, Stream.BOOK, str(error))]


def _book_items(params: _Params, book: _Book, markets: Markets) -> list[Item]:
    listing = markets.get(book.market)
    if listing is None:
        return []
    exchange_ns = ns_of_ms(book.last_updated_at)
    if book.update_type == "s":
        depth = _DEPTH.search(params.channel)
        bids, asks = _sides(book.inserts or [])
        return [_snapshot(listing, exchange_ns, bids, asks, int(depth[1]) if depth else None, book.seq_no)]
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
    row = _fundings.decode(params.data)
    listing = markets.get(row.market)
    if listing is None or row.funding_rate is msgspec.UNSET:
        return []
    exchange_ns = ns_of_ms(row.created_at)
    return [_funding(listing, exchange_ns, row.funding_rate, row.funding_period_hours, "ws")]


_DECODERS: Final[dict[str, Callable[[_Params, Markets], list[Item]]]] = {
    "order_book": _decode_book,
    "bbo": _decode_bbo,
    "trades": _decode_trade,
    "markets_summary": _decode_summary,
    "funding_data": _decode_funding,
}


# --- binary frames ------------------------------------------------------------------------------------------------


def _decode_binary(payload: bytes | memoryview, markets: Markets) -> list[Item]:
    try:
        message = sbe.decode(payload)
    except sbe.InvalidBookError as error:
        listing = markets.get(error.market)
        return [] if listing is None else [InvalidBook(listing, Stream.BOOK, error.what)]
    listing = None if message is None else markets.get(message.market)
    return [] if listing is None else [_EVENTS[type(message)](message, listing)]


def _book_event(book: sbe.SbeBook, listing: Listing) -> Item:
    exchange_ns = ns_of_us(book.ts_us)
    if book.seq < 0:
        return InvalidBook(listing, Stream.BOOK, f"a book of number {book.seq}")
    if book.package == 1:
        return _delta(listing, exchange_ns, book.bids, book.asks, book.seq)
    if book.package == 0:
        return _snapshot(listing, exchange_ns, book.bids, book.asks, None, book.seq)
    return InvalidBook(listing, Stream.BOOK, f"a book of package type {book.package}")


def _bbo_event(row: sbe.SbeBbo, listing: Listing) -> Event:
    return _bbo(listing, ns_of_us(row.ts_us), row.bid_price, row.bid_size, row.ask_price, row.ask_size)


def _trade_event(row: sbe.SbeTrade, listing: Listing) -> Event:
    side = _SBE_SIDES.get(row.side)
    if side is None:
        raise DecodeError(f"a trade of side {row.side}")
    exchange_ns = ns_of_us(row.created_us) or ns_of_us(row.ts_us)
    # The id in the block is cut to 64 bits, so it is none.
    trade_id = row.trade_id or f"{row.seq}:{row.price}:{row.size}"
    trade_type = _SBE_TRADE_TYPES.get(row.trade_type) or str(row.trade_type)
    return _trade(listing, exchange_ns, row.price, row.size, side, trade_id, trade_type)


def _mark_event(row: sbe.MarketSummary, listing: Listing) -> Event:
    return _mark(listing, ns_of_us(row.ts_us), row.mark_price, row.index_price, row.open_interest)


def _funding_event(row: sbe.FundingData, listing: Listing) -> Event:
    exchange_ns = ns_of_us(row.created_us) or ns_of_us(row.ts_us)
    return _funding(listing, exchange_ns, row.rate, row.period_hours, "ws")


_EVENTS: Final[dict[type, Callable[[Any, Listing], Item]]] = {
    sbe.SbeBook: _book_event,
    sbe.SbeBbo: _bbo_event,
    sbe.SbeTrade: _trade_event,
    sbe.MarketSummary: _mark_event,
    sbe.FundingData: _funding_event,
}


# --- events -------------------------------------------------------------------------------------------------------


def _snapshot(
    listing: Listing, exchange_ns: int | None, bids: list[Level], asks: list[Level], depth: int | None, seq: int
) -> BookSnapshot:
    return BookSnapshot("paradex", listing.symbol, listing.venue_symbol, exchange_ns, bids, asks, depth, seq)


def _delta(listing: Listing, exchange_ns: int | None, bids: list[Level], asks: list[Level], seq: int) -> BookDelta:
    """A change follows the number before its own; so does one without levels."""
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


def _funding(
    listing: Listing,
    exchange_ns: int | None,
    native: str | None,
    period_hours: Number | None,
    source: Literal["ws", "rest"],
) -> Funding:
    """The rate of one whole period. It accrues every second, so that there is no next payment."""
    return funding(
        "paradex",
        listing,
        native,
        interval_s_of(period_hours) or listing.funding_interval_s or _USUAL_INTERVAL_S,
        exchange_ns=exchange_ns,
        next_ns=None,
        phase="predicted",
        settled_at="usdc_oracle_adjusted",
        source=source,
    )


# --- subscriptions ------------------------------------------------------------------------------------------------


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
        _request("unsubscribe", channel, _UNSUBSCRIBE + number),
        _alias(number),
    )


def _request(method: str, channel: str, request_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": {"channel": channel}, "id": request_id})


# --- REST ---------------------------------------------------------------------------------------------------------


def _listed(raw: msgspec.Raw) -> list[Listing]:
    """The market of a row, if it is a perpetual."""
    market = _market.decode(raw)
    # A row of before there were other kinds has none.
    if market.asset_kind != "PERP" and (market.asset_kind is not None or not market.symbol.endswith("-PERP")):
        return []
    tick, lot = increment(market.price_tick_size), increment(market.order_size_increment)
    return [_listing(market.symbol, tick, lot, interval_s_of(market.funding_period_hours))]


def _listing(wire: str, tick: str | None = None, lot: str | None = None, interval_s: int | None = None) -> Listing:
    """A market by its name: ``kBONK-USD-PERP`` is the perpetual on 1000 BONK, quoted in USD."""
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


def _funding_request(wire: str, now_ms: int) -> RestRequest:  # noqa: ARG001 - the newest row, whenever
    return RestRequest(f"/funding/data?market={wire}&page_size=1")


def _parse_funding(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """The newest observation, which comes first."""
    rows = parsed(_answer, body, "funding/data").results
    events, invalid = split_rows(items_of_rows(rows, partial(_observation, listing), "funding/data"))
    return [*events[:1], *invalid]


def _observation(listing: Listing, raw: msgspec.Raw) -> list[Event]:
    row = _fundings.decode(raw)
    _check_market(row.market, listing)
    if row.funding_rate is msgspec.UNSET:
        return []
    return [_funding(listing, ns_of_ms(row.created_at), row.funding_rate, row.funding_period_hours, "rest")]


def _check_market(market: str, listing: Listing) -> None:
    if market != listing.wire:
        raise DecodeError(f"an answer about {market} to a question about {listing.wire}")


#: For the registry of venues.
MARKET_DATA: Final = Paradex()
