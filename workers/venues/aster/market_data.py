"""Aster's public stream: book changes joined to a REST snapshot, subscribed through the URL.

Source of the rules: Aster's futures API documentation (V3: WebSocket market streams, "How to manage a local order book
correctly", limits), and recorded frames where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Level, Liquidation, Mark, Trade
from ipc.health import Reason, Stream
from workers.venues.aster import rest
from workers.venues.aster.rest import funding_event
from workers.venues.fields import Id, Number, SequenceNumber, ns_of_ms, side
from workers.venues.listing import Listing, Markets
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import InvalidRow, items_of_rows, opens
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
    SoftResync,
    Unsubscribed,
    Venue,
    VenueLimits,
    best_first,
)

#: A connection carries at most 200 streams; a market has five.
_MARKETS_PER_CONNECTION: Final = 40
#: Replies echo only the request id. A stream's UNSUBSCRIBE has the id of its SUBSCRIBE plus this.
_UNSUBSCRIBE: Final = 1000
_STREAMS: Final[Mapping[str, tuple[Stream, ...]]] = {
    "depth@100ms": (Stream.BOOK,),
    "bookTicker": (Stream.BBO,),
    "aggTrade": (Stream.TRADE,),
    "markPrice@1s": (Stream.MARK, Stream.FUNDING),
    "forceOrder": (Stream.LIQUIDATION,),
}


class _Depth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    symbol: str = field(name="s")
    first: SequenceNumber = field(name="U")
    last: SequenceNumber = field(name="u")
    #: ``last`` of the previous frame. Numbers between the two are usually skipped.
    previous: SequenceNumber = field(name="pu")
    bids: list[Level] | None = field(name="b", default=None)
    asks: list[Level] | None = field(name="a", default=None)
    matched_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


class _Ticker(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    symbol: str = field(name="s")
    bid_price: str | None = field(name="b")
    bid_size: str | None = field(name="B")
    ask_price: str | None = field(name="a")
    ask_size: str | None = field(name="A")
    matched_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


class _Trade(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    symbol: str = field(name="s")
    id: Id = field(name="a")
    price: str = field(name="p")
    size: str = field(name="q")
    is_buyer_maker: bool = field(name="m")
    matched_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


class _Mark(msgspec.Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    symbol: str = field(name="s")
    mark: str | None = field(name="p")
    index: str | None = field(name="i", default=None)
    rate: str | UnsetType | None = field(name="r", default=UNSET)
    next_funding_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


class _Order(msgspec.Struct, gc=False):
    symbol: str = field(name="s")
    side: Literal["BUY", "SELL"] = field(name="S")
    average_price: str = field(name="ap")
    filled: str = field(name="z")
    matched_ms: Number = field(name="T")


class _ForceOrder(msgspec.Struct, tag_field="e", tag="forceOrder", gc=False):
    order: _Order = field(name="o")
    pushed_ms: Number | None = field(name="E", default=None)


_Payload: TypeAlias = _Depth | _Ticker | _Trade | _Mark | _ForceOrder
_Payloads: TypeAlias = _Payload | list[_Payload]


class _Combined(msgspec.Struct, gc=False):
    """Frame of a combined stream; a raw frame is the payload alone."""

    stream: str
    data: _Payloads


class _Head(msgspec.Struct):
    """Members that identify a payload's type and market."""

    e: str = ""
    s: str = ""


class _Other(msgspec.Struct):
    """Members that identify the kind of a frame."""

    e: str = ""
    stream: str = ""
    data: msgspec.Raw | UnsetType = UNSET
    result: Any = UNSET
    error: Any = None
    code: Any = None
    msg: Any = None
    id: int | str | None = None


_combined: Final = msgspec.json.Decoder(_Combined)
_raw: Final = msgspec.json.Decoder(_Payloads)
_payload: Final[msgspec.json.Decoder[_Payload]] = msgspec.json.Decoder(_Payload)
_head: Final = msgspec.json.Decoder(_Head)
_other: Final = msgspec.json.Decoder(_Other)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Aster(Venue):
    """Public market data of Aster's USDT-margined perpetuals."""

    name: ClassVar[str] = "aster"
    env: ClassVar[str] = "ASTER"
    ws_url: ClassVar[str] = "wss://fstream.asterdex.com"
    rest_url: ClassVar[str] = "https://fapi.asterdex.com"
    streams: ClassVar[Mapping[Stream, float | None]] = {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
        Stream.LIQUIDATION: None,
    }
    # The server pings every 5 minutes, too rarely to detect a dead connection.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0)
    # Ten messages per second end the connection, and pings may count. A connection lasts a day at most.
    limits: ClassVar[VenueLimits] = VenueLimits(
        burst=5, messages_per_s=5.0, rest_weight_per_min=2400, max_age_s=86_400.0, messages_per_address=False
    )
    # A silent book is fetched after 2 s, at most every 7 s.
    continuity: ClassVar[Continuity] = Continuity(
        Rule.BRIDGE, Resync.REFETCH, soft_resync=SoftResync(after_s=2.0, cooldown_s=7.0)
    )

    parse_listings = staticmethod(rest.parse_listings)
    polls = staticmethod(rest.polls)
    book_request = staticmethod(rest.book_request)
    parse_book = staticmethod(rest.parse_book)
    retry_after_s = staticmethod(rest.retry_after_s)
    offline_listing = staticmethod(rest.listing_of)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the requests for symbols and for funding intervals."""
        return rest.LISTING_REQUESTS

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - there are none
    ) -> tuple[ConnectionSpec, ...]:
        """Return one connection for every forty markets."""
        portions = [listings[i : i + _MARKETS_PER_CONNECTION] for i in range(0, len(listings), _MARKETS_PER_CONNECTION)]
        return tuple(_connection(number, portion, ws_url) for number, portion in enumerate(portions, start=1))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """Decode a frame, combined or raw; see :meth:`Venue.decode`."""
        try:
            frame = _combined.decode(payload)
            return _items(frame.data, frame.stream, markets)
        except (ValueError, RecursionError):
            return _decode_raw(bytes(payload), markets)


def _decode_raw(payload: bytes, markets: Markets) -> list[Item]:
    try:
        return _items(_raw.decode(payload), "", markets)
    except (ValueError, RecursionError):
        return _decode_other(payload, markets)


def _decode_other(payload: bytes, markets: Markets) -> list[Item]:
    """Decode a reply, an error, a frame of another kind of stream, or one with invalid rows; reject any other."""
    try:
        if opens(payload.lstrip(), b"["):
            return _decode_rows(_rows.decode(payload), "", markets)
        frame = _other.decode(payload)
        if frame.error is not None or frame.code is not None:
            return [_decode_error(frame)]
        if frame.data is not UNSET:
            rows = _rows.decode(frame.data) if opens(frame.data, b"[") else [frame.data]
            return _decode_rows(rows, frame.stream, markets)
        if frame.result is not UNSET:
            return _decode_result(frame)
        return _decode_rows([msgspec.Raw(payload)], "", markets)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Aster frame: {error}") from error


def _decode_rows(rows: list[msgspec.Raw], stream: str, markets: Markets) -> list[Item]:
    """Decode payloads one by one; when the only payload of a frame is invalid, the frame is malformed."""
    items = items_of_rows(rows, partial(_decode_row, stream, markets), stream or "frame")
    if len(rows) == 1 and items and isinstance(items[0], InvalidRow):
        raise DecodeError(items[0].error)
    return items


def _decode_row(stream: str, markets: Markets, row: msgspec.Raw) -> list[Item]:
    """Decode a payload, of any kind of stream; a malformed payload of a followed book becomes an ``InvalidBook``.

    Raises:
        DecodeError: Any other payload is malformed.
    """
    head = _head.decode(row)
    if not head.e:
        raise DecodeError("a frame without an event type")
    if head.e not in _KNOWN:
        return []
    try:
        return _items(_payload.decode(row), stream, markets)
    except (ValueError, RecursionError) as error:
        listing = markets.get(head.s) if head.e == "depthUpdate" else None
        if listing is not None:
            return [InvalidBook(listing, Stream.BOOK, str(error))]
        raise DecodeError(f"malformed {head.e} frame: {error}") from error


def _decode_result(frame: _Other) -> list[Item]:
    """Decode the reply to a subscription request; a list answers a request that we do not send."""
    if frame.result is not None or frame.id is None:
        return []
    is_unsubscribe = isinstance(frame.id, int) and frame.id > _UNSUBSCRIBE
    return [Unsubscribed(_alias(frame.id)) if is_unsubscribe else Ack(_alias(frame.id))]


def _decode_error(frame: _Other) -> Refused:
    code, text = code_and_text({"code": frame.code, "msg": frame.msg, "error": frame.error})
    key = None if frame.id is None else _alias(frame.id)
    return Refused(f"{code}: {text}", key, _REASONS.get(code, usual_reason(code, text)))


def _items(data: _Payloads, stream: str, markets: Markets) -> list[Item]:
    if type(data) is list:
        return [item for payload in data for item in _items(payload, stream, markets)]
    return _DECODERS[type(data)](data, stream, markets)


@lru_cache(maxsize=4096)
def _partial_depth(stream: str) -> int | None:
    """Return the levels of a partial-depth stream (``btcusdt@depth20@100ms``: 20); None for a stream of changes."""
    digits = stream.partition("@depth")[2].partition("@")[0]
    return int(digits) if digits.isdecimal() else None


def _decode_depth(frame: _Depth, stream: str, markets: Markets) -> list[Item]:
    listing = markets.get(frame.symbol)
    if listing is None:
        return []
    # Only the stream's name distinguishes whole books of a few levels from changes.
    depth = _partial_depth(stream)
    bids, asks = frame.bids or [], frame.asks or []
    time_ns = ns_of_ms(frame.matched_ms or frame.pushed_ms)
    if depth is not None:
        bids, asks = best_first(bids, asks)
        return [BookSnapshot("aster", listing.symbol, listing.venue_symbol, time_ns, bids, asks, depth, frame.last)]
    return [
        BookDelta(
            "aster", listing.symbol, listing.venue_symbol, time_ns, bids, asks, frame.last, frame.previous, frame.first
        )
    ]


def _decode_ticker(frame: _Ticker, stream: str, markets: Markets) -> list[Item]:  # noqa: ARG001
    listing = markets.get(frame.symbol)
    if listing is None:
        return []
    return [
        Bbo(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            ns_of_ms(frame.matched_ms or frame.pushed_ms),
            *side(frame.bid_price, frame.bid_size),
            *side(frame.ask_price, frame.ask_size),
        )
    ]


def _decode_trade(frame: _Trade, stream: str, markets: Markets) -> list[Item]:  # noqa: ARG001
    listing = markets.get(frame.symbol)
    if listing is None:
        return []
    return [
        Trade(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            ns_of_ms(frame.matched_ms or frame.pushed_ms),
            frame.price,
            frame.size,
            "sell" if frame.is_buyer_maker else "buy",
            str(frame.id),
        )
    ]


def _decode_mark(frame: _Mark, stream: str, markets: Markets) -> list[Item]:  # noqa: ARG001
    listing = markets.get(frame.symbol)
    if listing is None:
        return []
    time_ns, index = ns_of_ms(frame.pushed_ms), frame.index or None
    items: list[Item] = [
        Mark(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            time_ns,
            frame.mark or None,
            index,
            "index" if index else None,
            None,
            None,
        )
    ]
    if frame.rate is not UNSET:
        items.append(funding_event(listing, frame.rate, time_ns, ns_of_ms(frame.next_funding_ms), "predicted", "ws"))
    return items


def _decode_liquidation(frame: _ForceOrder, stream: str, markets: Markets) -> list[Item]:  # noqa: ARG001
    order = frame.order
    listing = markets.get(order.symbol)
    if listing is None or is_zero(order.filled):
        return []
    return [
        Liquidation(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            ns_of_ms(order.matched_ms or frame.pushed_ms),
            order.average_price,
            order.filled,
            "sell" if order.side == "SELL" else "buy",
            # The venue gives no id; a symbol has at most one of these frames per second.
            f"{order.matched_ms}:{order.symbol}:{order.filled}",
        )
    ]


_DECODERS: Final[dict[type, Callable[[Any, str, Markets], list[Item]]]] = {
    _Depth: _decode_depth,
    _Ticker: _decode_ticker,
    _Trade: _decode_trade,
    _Mark: _decode_mark,
    _ForceOrder: _decode_liquidation,
}
_KNOWN: Final = frozenset({"depthUpdate", "bookTicker", "aggTrade", "markPriceUpdate", "forceOrder"})
_REASONS: Final[Mapping[int | str | None, Reason]] = {-1003: Reason.RATE_LIMITED, -1121: Reason.UNKNOWN_MARKET}


def _alias(request_id: int | str) -> str:
    """Return the alias of a subscription for the request id in a reply to its SUBSCRIBE or UNSUBSCRIBE."""
    return f"id:{request_id % _UNSUBSCRIBE if isinstance(request_id, int) else request_id}"


def _connection(number: int, listings: Sequence[Listing], ws_url: str) -> ConnectionSpec:
    channels = [(listing, f"{listing.wire.lower()}@{kind}", kind) for listing in listings for kind in _STREAMS]
    subscriptions = tuple(
        _subscription(index, listing, stream, _STREAMS[kind])
        for index, (listing, stream, kind) in enumerate(channels, start=1)
    )
    streams = "/".join(subscription.key for subscription in subscriptions)
    name = "main" if number == 1 else f"main.{number}"
    return ConnectionSpec(name, f"{ws_url}/stream?streams={streams}", subscriptions, in_url=True)


def _subscription(index: int, listing: Listing, stream: str, streams: tuple[Stream, ...]) -> ChannelSubscription:
    def message(method: str, request_id: int) -> bytes:
        return msgspec.json.encode({"method": method, "params": [stream], "id": request_id})

    return ChannelSubscription(
        stream,
        streams,
        listing.symbol,
        message("SUBSCRIBE", index),
        message("UNSUBSCRIBE", index + _UNSUBSCRIBE),
        _alias(index),
    )


#: For the registry of venues.
MARKET_DATA: Final = Aster()
