"""Extended's public stream: one stream per connection, chosen by its URL, with all frames of a connection numbered.

Source of the rules: Extended's API documentation (public WebSocket streams, rate limits, funding), its Python SDK for
the multiplexed stream, and recorded frames where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Level, Mark, Trade
from ipc.health import Reason, Stream
from workers.venues.extended import rest
from workers.venues.extended.rest import funding_event, funding_ns
from workers.venues.fields import Id, Number, SequenceNumber, ns_of_ms, side
from workers.venues.listing import Listing, Markets
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import InvalidRow, items_of_rows, opens
from workers.venues.venue import (
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    FrameSeq,
    InvalidBook,
    Item,
    Keepalive,
    Refused,
    RelativeDelta,
    RestRequest,
    Resync,
    Rule,
    Venue,
    VenueLimits,
)

#: Markets up to which each has its own sockets; beyond it, one socket per stream carries all markets of the venue.
_MAX_SOCKETS_PER_STREAM: Final = 5
#: The firewall rejects clients without a user agent.
_HEADERS: Final = ("User-Agent: paraphina-supervisor",)
#: Streams with one socket per market: name, stream, path with the market's place.
_PER_MARKET: Final = (
    ("book", Stream.BOOK, "/orderbooks{}"),
    ("bbo", Stream.BBO, "/orderbooks{}?depth=1"),
    ("trade", Stream.TRADE, "/publicTrades{}"),
)
#: Streams that one socket carries for all markets.
_SHARED: Final = (
    ("mark", Stream.MARK, "/prices/mark{}"),
    ("index", Stream.MARK, "/prices/index{}"),
    ("funding", Stream.FUNDING, "/funding{}"),
)
_TRADE_TYPES: Final[Mapping[str, str]] = {"TRADE": "trade", "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}


class _Level(msgspec.Struct, gc=False):
    price: str = field(name="p")
    #: Size in a snapshot; change of size in a delta.
    size: str = field(name="q")
    #: Size after the change.
    resulting: str | None = field(name="c", default=None)


class _Data(msgspec.Struct, gc=False):
    """Content of a frame that is not a list: a book, a price or a funding rate."""

    market: str | None = field(name="m", default=None)
    type: str | None = field(name="t", default=None)
    bids: list[_Level] | None = field(name="b", default=None)
    asks: list[_Level] | None = field(name="a", default=None)
    #: ``1`` for best levels only, ``f`` for whole books; absent in older frames of whole books.
    depth: str | None = field(name="d", default=None)
    price: str | UnsetType | None = field(name="p", default=UNSET)
    #: Time of a price; 0 in recorded frames.
    time_ms: Number | None = field(name="ts", default=None)
    rate: str | UnsetType | None = field(name="f", default=UNSET)
    funding_time: Number | None = field(name="T", default=None)


class _Trade(msgspec.Struct, gc=False):
    market: str = field(name="m")
    id: Id = field(name="i")
    side: Literal["BUY", "SELL"] = field(name="S")
    price: str = field(name="p")
    size: str = field(name="q")
    type: str = field(name="tT", default="TRADE")
    matched_ms: Number | None = field(name="T", default=None)


class _Envelope(msgspec.Struct, gc=False):
    """Fields that any frame may have beside its data."""

    type: str | None = None
    #: Text, or on the multiplexed stream an object with code and message; some errors have these beside their type.
    error: Any = None
    code: Any = None
    message: Any = None
    pushed_ms: Number | None = field(name="ts", default=None)
    seq: SequenceNumber | None = None
    #: Only on the multiplexed stream: ``subscription`` in data frames, ``jsonrpc`` in replies.
    subscription: str | None = None
    jsonrpc: str | None = None
    id: int | str | None = None


class _Frame(_Envelope, gc=False):
    data: _Data | list[_Trade] | None = None


class _AnyFrame(_Envelope):
    """Frame whose data is decoded separately."""

    data: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """Fields of a frame's data, or of a row of it, that identify its content."""

    market: Any = field(name="m", default=None)
    type: Any = field(name="t", default=None)
    trade_type: Any = field(name="tT", default=None)
    depth: Any = field(name="d", default=None)
    rate: msgspec.Raw | UnsetType = field(name="f", default=UNSET)


_frames: Final = msgspec.json.Decoder(_Frame)
_any_frames: Final = msgspec.json.Decoder(_AnyFrame)
_head: Final = msgspec.json.Decoder(_Head)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_trade_rows: Final = msgspec.json.Decoder(_Trade)


class Extended(Venue):
    """Public market data of Extended's perpetuals on Starknet."""

    name: ClassVar[str] = "extended"
    env: ClassVar[str] = "EXTENDED"
    ws_url: ClassVar[str] = "wss://api.starknet.extended.exchange/stream.extended.exchange/v1"
    rest_url: ClassVar[str] = "https://api.starknet.extended.exchange/api/v1"
    streams: ClassVar[Mapping[Stream, float | None]] = {
        Stream.BOOK: None,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 3600.0,
    }
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=15.0)
    limits: ClassVar[VenueLimits] = VenueLimits(burst=10, messages_per_s=10.0, rest_weight_per_min=1000)
    continuity: ClassVar[Continuity] = Continuity(Rule.CONNECTION, Resync.RECONNECT)
    # Undocumented; the first recorded live trade has number 2, so a frame of recent trades appears to come first.
    replays_trades: ClassVar[bool] = True

    parse_listings = staticmethod(rest.parse_listings)
    polls = staticmethod(rest.polls)
    book_request = staticmethod(rest.book_request)
    parse_book = staticmethod(rest.parse_book)
    offline_listing = staticmethod(rest.listing_of_name)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the request for all markets."""
        return (RestRequest("/info/markets"),)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - there are none
    ) -> tuple[ConnectionSpec, ...]:
        """Return a socket per market for frequent streams while markets are few, one for all markets otherwise."""
        if not listings:
            return ()
        sockets: Sequence[Listing | None] = listings if len(listings) <= _MAX_SOCKETS_PER_STREAM else [None]
        only = listings[0] if len(listings) == 1 else None
        return (
            *(
                _connection(f"{name}.{listing.symbol}" if listing else name, ws_url, stream, path, listing)
                for name, stream, path in _PER_MARKET
                for listing in sockets
            ),
            *(_connection(name, ws_url, stream, path, only) for name, stream, path in _SHARED),
        )

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """Decode a frame of either stream version; see :meth:`Venue.decode`."""
        try:
            return _decode_frame(_frames.decode(payload), markets)
        except (ValueError, RecursionError) as error:
            return _decode_irregular(bytes(payload), markets, error)


def _decode_frame(frame: _Frame, markets: Markets) -> list[Item]:
    items: list[Item] = [] if frame.seq is None else [FrameSeq(frame.seq)]
    if _is_error(frame):
        items.append(_error_item(frame))
    elif isinstance(frame.data, list):
        items += _trades(frame.pushed_ms, frame.data, markets)
    elif frame.data is not None:
        items += _decode_data(frame, frame.data, markets)
    elif frame.type in _DECODERS or (frame.type is None and frame.seq is None and frame.jsonrpc is None):
        raise DecodeError(f"a {frame.type or 'nameless'} frame without data")
    return items


def _decode_irregular(payload: bytes, markets: Markets, malformed: Exception) -> list[Item]:
    """Decode a frame that the fast path rejects: unrelated data such as candles, an invalid row or book, or malformed.

    Its number counts in any case, so that a fault in it does not invalidate the books of other markets.
    """
    try:
        frame = _any_frames.decode(payload)
        items: list[Item] = [] if frame.seq is None else [FrameSeq(frame.seq)]
        if _is_error(frame):
            return [*items, _error_item(frame)]
        if opens(frame.data, b"["):
            return items + items_of_rows(_rows.decode(frame.data), partial(_parse_trade_row, frame, markets), "trades")
        head = _head.decode(frame.data) if opens(frame.data, b"{") else _Head()
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Extended frame: {error}") from error
    kind = _data_kind(frame, head)
    if kind is None:
        if isinstance(malformed, DecodeError) and not items:
            raise malformed
        return items
    listing = markets.get(head.market) if isinstance(head.market, str) else None
    if kind in _BOOKS and listing is not None and not _is_bbo(frame.subscription, head.depth):
        return [*items, InvalidBook(listing, Stream.BOOK, str(malformed))]
    if not items:
        raise DecodeError(f"malformed {kind} frame: {malformed}") from malformed
    return [*items, InvalidRow(kind, str(malformed))]


def _data_kind(frame: _AnyFrame, head: _Head) -> str | None:
    """Return the kind of data, None for unrelated data; frames of funding rates have no type."""
    kind = frame.type or head.type
    if isinstance(kind, str) and kind in _DECODERS:
        return kind
    return None if head.rate is UNSET else "funding"


def _parse_trade_row(frame: _AnyFrame, markets: Markets, row: msgspec.Raw) -> list[Event]:
    """Return the trade of a row, nothing for rows of other kinds: a candle names no market."""
    head = _head.decode(row)
    if head.market is None and head.trade_type is None:
        return []
    return _trades(frame.pushed_ms, [_trade_rows.decode(row)], markets)


def _is_error(frame: _Envelope) -> bool:
    return frame.error is not None or frame.code is not None or frame.type == "error"


def _error_item(frame: _Envelope) -> Refused:
    error = frame.error if frame.error is not None else {"code": frame.code, "message": frame.message}
    code, text = code_and_text(error)
    key = None if frame.id is None else f"id:{frame.id}"
    reason = Reason.UNKNOWN_MARKET if code in (1001, "NOT_FOUND") else usual_reason(code, text)
    return Refused(text if code is None else f"{code}: {text}", key, reason)


def _trades(pushed_ms: Number | None, rows: list[_Trade], markets: Markets) -> list[Event]:
    return [
        Trade(
            "extended",
            listing.symbol,
            listing.venue_symbol,
            ns_of_ms(row.matched_ms or pushed_ms),
            row.price,
            row.size,
            "buy" if row.side == "BUY" else "sell",
            str(row.id),
            _TRADE_TYPES.get(row.type) or row.type.lower(),
        )
        for row in rows
        if (listing := markets.get(row.market)) is not None
    ]


def _decode_data(frame: _Frame, data: _Data, markets: Markets) -> list[Item]:
    """Return the event of a frame; frames of funding rates have no type, other kinds are ignored."""
    decoder = _DECODERS.get(frame.type or data.type or "")
    if decoder is None:
        if data.rate is UNSET:
            return []
        decoder = _decode_funding
    if data.market is None:
        raise DecodeError(f"a {frame.type or 'nameless'} frame without a market")
    listing = markets.get(data.market)
    return [] if listing is None else [decoder(frame, data, listing)]


def _decode_snapshot(frame: _Frame, data: _Data, listing: Listing) -> Item:
    bids = [(level.price, level.size) for level in data.bids or ()]
    asks = [(level.price, level.size) for level in data.asks or ()]
    time_ns = ns_of_ms(frame.pushed_ms)
    if _is_bbo(frame.subscription, data.depth):
        sides = *_best(bids), *_best(asks)
        return Bbo("extended", listing.symbol, listing.venue_symbol, time_ns, *sides)
    return BookSnapshot("extended", listing.symbol, listing.venue_symbol, time_ns, bids, asks, None, frame.seq)


def _best(levels: list[Level]) -> tuple[str | None, str | None]:
    return side(*levels[0]) if levels else (None, None)


def _is_bbo(subscription: str | None, depth: Any) -> bool:
    """Return whether a frame of levels belongs to the stream of best prices."""
    return depth == "1" or (subscription or "").startswith("orderbooks.1.")


def _decode_delta(frame: _Frame, data: _Data, listing: Listing) -> Item:
    bids, asks = data.bids or [], data.asks or []
    time_ns, seq = ns_of_ms(frame.pushed_ms), frame.seq
    previous = None if seq is None else seq - 1
    absolute_bids, absolute_asks = _resulting_levels(bids), _resulting_levels(asks)
    if absolute_bids is None or absolute_asks is None:
        return RelativeDelta(listing, time_ns, _changed_levels(bids), _changed_levels(asks), seq, previous)
    return BookDelta(
        "extended", listing.symbol, listing.venue_symbol, time_ns, absolute_bids, absolute_asks, seq, previous
    )


def _resulting_levels(side: list[_Level]) -> list[Level] | None:
    """Return a side's levels with their new sizes; None when one lacks its size."""
    levels = [(level.price, level.resulting) for level in side if level.resulting]
    return levels if len(levels) == len(side) else None


def _changed_levels(side: list[_Level]) -> list[tuple[str, str | None, str]]:
    return [(level.price, level.resulting or None, level.size) for level in side]


def _decode_mark(frame: _Frame, data: _Data, listing: Listing) -> Item:
    time_ns = ns_of_ms(data.time_ms or frame.pushed_ms)
    return Mark("extended", listing.symbol, listing.venue_symbol, time_ns, _price(data), None, None, None, None)


def _decode_index(frame: _Frame, data: _Data, listing: Listing) -> Item:
    time_ns, price = ns_of_ms(data.time_ms or frame.pushed_ms), _price(data)
    kind: Literal["index"] | None = "index" if price else None
    return Mark("extended", listing.symbol, listing.venue_symbol, time_ns, None, price, kind, None, None)


def _decode_funding(frame: _Frame, data: _Data, listing: Listing) -> Item:
    exchange_ns = funding_ns(data.funding_time) or ns_of_ms(frame.pushed_ms)
    return funding_event(listing, data.rate, exchange_ns, None, "settled", "ws")


_DECODERS: Final[Mapping[str | None, Callable[[_Frame, _Data, Listing], Item]]] = {
    "SNAPSHOT": _decode_snapshot,
    "DELTA": _decode_delta,
    "MP": _decode_mark,
    "IP": _decode_index,
}
#: Types of frames with levels.
_BOOKS: Final = frozenset({"SNAPSHOT", "DELTA"})


def _price(data: _Data) -> str | None:
    if data.price is UNSET:
        raise DecodeError("a price frame without a price")
    return data.price or None


def _connection(name: str, ws_url: str, stream: Stream, path: str, listing: Listing | None) -> ConnectionSpec:
    """Return the connection for one market's stream; without a market, for that of all markets."""
    key = path.format("" if listing is None else f"/{listing.wire}")
    subscription = ChannelSubscription(key, (stream,), None if listing is None else listing.symbol)
    return ConnectionSpec(name, ws_url + key, (subscription,), _HEADERS, in_url=True)


#: For the registry of venues.
MARKET_DATA: Final = Extended()
