"""Extended: one stream a connection, chosen by its URL; all frames of a connection are numbered, whatever they carry.

Source of the rules: Extended's API documentation (public WebSocket streams, public REST API, rate limits, funding), its
Python SDK for the multiplexed stream, and recorded frames where they differ.

The hosts of the time before Starknet (``api.extended.exchange``, ``api.testnet.extended.exchange``) answer 404 to
everything here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Level, Mark, Trade
from ipc.health import Reason, Stream
from ipc.topics import base_of
from workers.venues.fields import Id, Name, Number, SequenceNumber, Text, increment, ns_of_ms, side
from workers.venues.funding import funding, newest_payment
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
    Listing,
    Markets,
    Poll,
    Refused,
    RelativeDelta,
    RestRequest,
    Resync,
    Rule,
    Venue,
    VenueLimits,
    one_per_base,
    parsed,
    split_multiplier,
)

__all__ = ["MARKET_DATA", "Extended"]

_HOUR_S: Final = 3600
_HOUR_MS: Final = 3_600_000
_SETTLED_PERIOD_S: Final = 600.0
#: Up to here every market has sockets of its own; beyond it one socket a stream carries all markets of the venue.
_OWN_SOCKETS: Final = 5
#: Funding times that would lie before 1973 are seconds, as in one example of the documentation; in practice they are
#: milliseconds.
_SECONDS_BELOW_NS: Final = 10**17
#: The firewall refuses clients that do not name themselves.
_HEADERS: Final = ("User-Agent: paraphina-supervisor",)
_SUFFIX: Final = "-USD"
#: Streams with a socket a market, and those that one socket carries for all: name, stream, URL with the market's place.
_OWN: Final = (
    ("book", Stream.BOOK, "/orderbooks{}"),
    ("bbo", Stream.BBO, "/orderbooks{}?depth=1"),
    ("trade", Stream.TRADE, "/publicTrades{}"),
)
_SHARED: Final = (
    ("mark", Stream.MARK, "/prices/mark{}"),
    ("index", Stream.MARK, "/prices/index{}"),
    ("funding", Stream.FUNDING, "/funding{}"),
)
#: The venue's statuses in our words; any other is published as it is. A market that only lets positions be reduced
#: still trades.
_STATUS: Final[Mapping[str, str]] = {
    "ACTIVE": "active",
    "REDUCE_ONLY": "active",
    "PRELISTED": "halted",
    "DISABLED": "halted",
    "DELISTED": "delisted",
}
_TRADE_TYPES: Final[Mapping[str, str]] = {"TRADE": "trade", "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}


class _Level(msgspec.Struct, gc=False):
    price: str = field(name="p")
    #: The size in a snapshot; by how much it changed in a delta.
    size: str = field(name="q")
    #: The size after the change.
    resulting: str | None = field(name="c", default=None)


class _Data(msgspec.Struct, gc=False):
    """What a frame is about, when it is not a list: a book, a price or a funding rate."""

    market: str | None = field(name="m", default=None)
    type: str | None = field(name="t", default=None)
    bids: list[_Level] | None = field(name="b", default=None)
    asks: list[_Level] | None = field(name="a", default=None)
    #: ``1`` for best levels only, ``f`` for whole books; older frames of whole books have none.
    depth: str | None = field(name="d", default=None)
    price: str | UnsetType | None = field(name="p", default=UNSET)
    #: Of a price; 0 in recorded frames.
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
    """What any frame may have beside its data."""

    type: str | None = None
    #: A text; on the multiplexed stream an object with code and message. Some errors have the two beside their type.
    error: Any = None
    code: Any = None
    message: Any = None
    pushed_ms: Number | None = field(name="ts", default=None)
    seq: SequenceNumber | None = None
    #: The next two only on the multiplexed stream: in data frames, and in replies.
    subscription: str | None = None
    jsonrpc: str | None = None
    id: int | str | None = None


class _Frame(_Envelope, gc=False):
    data: _Data | list[_Trade] | None = None


class _Other(_Envelope):
    """A frame whose data is looked at by itself."""

    data: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """Enough of a frame's data, or of a row of it, to tell what it is about."""

    market: Any = field(name="m", default=None)
    type: Any = field(name="t", default=None)
    trade_type: Any = field(name="tT", default=None)
    depth: Any = field(name="d", default=None)
    rate: msgspec.Raw | UnsetType = field(name="f", default=UNSET)


_frames: Final = msgspec.json.Decoder(_Frame)
_other: Final = msgspec.json.Decoder(_Other)
_head: Final = msgspec.json.Decoder(_Head)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_trade: Final = msgspec.json.Decoder(_Trade)


class _Stats(msgspec.Struct):
    markPrice: str | None = None  # noqa: N815 - the venue's names
    indexPrice: str | None = None  # noqa: N815
    fundingRate: str | UnsetType | None = UNSET  # noqa: N815
    #: Not a rate: when the running one is applied, ms.
    nextFundingRate: Number | None = None  # noqa: N815
    #: In the collateral.
    openInterest: str | None = None  # noqa: N815
    openInterestBase: str | None = None  # noqa: N815


class _Trading(msgspec.Struct):
    minPriceChange: Number | None = None  # noqa: N815
    minOrderSizeChange: Number | None = None  # noqa: N815


class _Market(msgspec.Struct):
    name: Name
    active: bool = True
    status: Text | None = None
    type: str | None = None
    collateral: Text = field(name="collateralAssetName", default="USD")
    trading: _Trading | None = field(name="tradingConfig", default=None)


class _MarketStats(msgspec.Struct):
    name: str
    stats: _Stats | None = field(name="marketStats", default=None)


class _Settled(msgspec.Struct):
    market: str = field(name="m")
    time: Number = field(name="T")
    rate: str | None = field(name="f")


class _RestLevel(msgspec.Struct):
    price: str
    qty: str


class _RestBook(msgspec.Struct):
    market: str
    bid: list[_RestLevel] | None
    ask: list[_RestLevel] | None


class _Rows(msgspec.Struct):
    """An answer; one without ``OK`` is an error even with HTTP status 200."""

    status: Literal["OK"]
    data: list[msgspec.Raw]


class _BookAnswer(msgspec.Struct):
    status: Literal["OK"]
    data: _RestBook


_answer: Final = msgspec.json.Decoder(_Rows)
_market: Final = msgspec.json.Decoder(_Market)
_market_stats: Final = msgspec.json.Decoder(_MarketStats)
_settled: Final = msgspec.json.Decoder(_Settled)
_rest_book: Final = msgspec.json.Decoder(_BookAnswer)


class Extended(Venue):
    """Public market data of the perpetuals on Starknet."""

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
    # Not documented; the recorded frame of a live trade has number 2, so that one of recent trades seems to come first.
    replays_trades: ClassVar[bool] = True

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """All markets."""
        return (RestRequest("/info/markets"),)

    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The perpetuals; a row of before there were spot markets has no type."""
        return one_per_base(items_of_rows(parsed(_answer, bodies[0], "markets").data, _listed, "markets"))

    def offline_listing(self, wire: str) -> Listing:
        """A market's name says all but its steps."""
        base, multiplier = _split(wire)
        return Listing(base, wire, wire, multiplier=multiplier, funding_interval_s=_HOUR_S)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - it has none
    ) -> tuple[ConnectionSpec, ...]:
        """A socket a market for what is frequent, while they are few; one for all markets for what is not."""
        if not listings:
            return ()
        each: Sequence[Listing | None] = listings if len(listings) <= _OWN_SOCKETS else [None]
        only = listings[0] if len(listings) == 1 else None
        return (
            *(
                _connection(f"{name}.{one.symbol}" if one else name, ws_url, stream, path, one)
                for name, stream, path in _OWN
                for one in each
            ),
            *(_connection(name, ws_url, stream, path, only) for name, stream, path in _SHARED),
        )

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """One frame of either stream version; see :meth:`Venue.decode`."""
        try:
            return _decode_frame(_frames.decode(payload), markets)
        except (ValueError, RecursionError) as error:
            return _decode_other(bytes(payload), markets, error)

    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """One request gives running rates, prices and open interest of all markets; settled rates go by market."""
        markets = {listing.wire: listing for listing in listings}
        symbols = tuple(str(listing.symbol) for listing in listings)
        wanted = RestRequest("/info/markets?" + "&".join(f"market={wire}" for wire in markets))
        stats = Poll("stats", Stream.FUNDING_POLL, lambda _: wanted, partial(_parse_stats, markets), symbols)
        return (stats, *map(_settled_poll, listings)) if listings else ()

    def book_request(self, listing: Listing) -> RestRequest:
        """The whole book, without a sequence number."""
        return RestRequest(f"/info/markets/{listing.wire}/orderbook")

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """The book in an answer to :meth:`book_request`."""
        book = parsed(_rest_book, body, "orderbook").data
        if book.market != listing.wire:
            raise DecodeError(f"orderbook answered for {book.market}, not {listing.wire}")
        bids = [(level.price, level.qty) for level in book.bid or ()]
        asks = [(level.price, level.qty) for level in book.ask or ()]
        return BookSnapshot("extended", listing.symbol, listing.venue_symbol, None, bids, asks, None, None)


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_frame(frame: _Frame, markets: Markets) -> list[Item]:
    items: list[Item] = [] if frame.seq is None else [FrameSeq(frame.seq)]
    if _is_error(frame):
        items.append(_refused(frame))
    elif isinstance(frame.data, list):
        items += _trades(frame.pushed_ms, frame.data, markets)
    elif frame.data is not None:
        items += _decode_data(frame, frame.data, markets)
    elif frame.type in _DECODERS or (frame.type is None and frame.seq is None and frame.jsonrpc is None):
        raise DecodeError(f"a {frame.type or 'nameless'} frame without data")
    return items


def _decode_other(payload: bytes, markets: Markets, malformed: Exception) -> list[Item]:
    """A frame that is no public data of ours, as candles are; or one with an invalid row or book; or a malformed one.

    Its number counts whatever it holds, so that what is wrong with it costs no other market its book.
    """
    try:
        frame = _other.decode(payload)
        items: list[Item] = [] if frame.seq is None else [FrameSeq(frame.seq)]
        if _is_error(frame):
            return [*items, _refused(frame)]
        if opens(frame.data, b"["):
            return items + items_of_rows(_rows.decode(frame.data), partial(_trade_row, frame, markets), "trades")
        head = _head.decode(frame.data) if opens(frame.data, b"{") else _Head()
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Extended frame: {error}") from error
    kind = _kind(frame, head)
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


def _kind(frame: _Other, head: _Head) -> str | None:
    """The kind of data, None for what is none of ours; frames of funding rates have no type."""
    kind = frame.type or head.type
    if isinstance(kind, str) and kind in _DECODERS:
        return kind
    return None if head.rate is UNSET else "funding"


def _trade_row(frame: _Other, markets: Markets, row: msgspec.Raw) -> list[Event]:
    """A trade, or a row of another kind: a candle's names no market."""
    head = _head.decode(row)
    if head.market is None and head.trade_type is None:
        return []
    return _trades(frame.pushed_ms, [_trade.decode(row)], markets)


def _is_error(frame: _Envelope) -> bool:
    return frame.error is not None or frame.code is not None or frame.type == "error"


def _refused(frame: _Envelope) -> Refused:
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
    """The event of one market; frames of funding rates have no type, those of other kinds nothing for us."""
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
    """Whether a frame of levels is of the stream of best prices."""
    return depth == "1" or (subscription or "").startswith("orderbooks.1.")


def _decode_delta(frame: _Frame, data: _Data, listing: Listing) -> Item:
    bids, asks = data.bids or [], data.asks or []
    time_ns, seq = ns_of_ms(frame.pushed_ms), frame.seq
    previous = None if seq is None else seq - 1
    absolute_bids, absolute_asks = _absolute(bids), _absolute(asks)
    if absolute_bids is None or absolute_asks is None:
        return RelativeDelta(listing, time_ns, _relative(bids), _relative(asks), seq, previous)
    return BookDelta(
        "extended", listing.symbol, listing.venue_symbol, time_ns, absolute_bids, absolute_asks, seq, previous
    )


def _absolute(side: list[_Level]) -> list[Level] | None:
    """The side's levels with their new sizes; None when one does not say its size."""
    levels = [(level.price, level.resulting) for level in side if level.resulting]
    return levels if len(levels) == len(side) else None


def _relative(side: list[_Level]) -> list[tuple[str, str | None, str]]:
    return [(level.price, level.resulting or None, level.size) for level in side]


def _decode_mark(frame: _Frame, data: _Data, listing: Listing) -> Item:
    time_ns = ns_of_ms(data.time_ms or frame.pushed_ms)
    return Mark("extended", listing.symbol, listing.venue_symbol, time_ns, _price(data), None, None, None, None)


def _decode_index(frame: _Frame, data: _Data, listing: Listing) -> Item:
    time_ns, price = ns_of_ms(data.time_ms or frame.pushed_ms), _price(data)
    kind: Literal["index"] | None = "index" if price else None
    return Mark("extended", listing.symbol, listing.venue_symbol, time_ns, None, price, kind, None, None)


def _decode_funding(frame: _Frame, data: _Data, listing: Listing) -> Item:
    exchange_ns = _funding_ns(data.funding_time) or ns_of_ms(frame.pushed_ms)
    return _funding(listing, data.rate, exchange_ns, None, "settled", "ws")


_DECODERS: Final[Mapping[str | None, Callable[[_Frame, _Data, Listing], Item]]] = {
    "SNAPSHOT": _decode_snapshot,
    "DELTA": _decode_delta,
    "MP": _decode_mark,
    "IP": _decode_index,
}


#: Frames of levels.
_BOOKS: Final = frozenset({"SNAPSHOT", "DELTA"})


def _price(data: _Data) -> str | None:
    if data.price is UNSET:
        raise DecodeError("a price frame without a price")
    return data.price or None


def _funding_ns(time: Number | None) -> int | None:
    """A time of funding, which one example of the documentation writes in seconds, as ns."""
    time_ns = ns_of_ms(time)
    return time_ns * 1000 if time_ns and time_ns < _SECONDS_BELOW_NS else time_ns


def _funding(
    listing: Listing,
    native: str | UnsetType | None,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
    return funding(
        "extended",
        listing,
        native or None,
        _HOUR_S,
        exchange_ns=exchange_ns,
        next_ns=next_ns,
        phase=phase,
        settled_at="unknown",
        source=source,
    )


# --- connections --------------------------------------------------------------------------------------------------


def _connection(name: str, ws_url: str, stream: Stream, path: str, listing: Listing | None) -> ConnectionSpec:
    """The connection for one market's stream; without a market for that of all markets."""
    key = path.format("" if listing is None else f"/{listing.wire}")
    subscription = ChannelSubscription(key, (stream,), None if listing is None else listing.symbol)
    return ConnectionSpec(name, ws_url + key, (subscription,), _HEADERS, in_url=True)


# --- REST ---------------------------------------------------------------------------------------------------------


def _split(name: str) -> tuple[str | None, int]:
    """The base behind a market's name, None where there is none, and the units of it in a contract."""
    base, multiplier = split_multiplier(name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else "")
    return base_of(base), multiplier


def _listed(raw: msgspec.Raw) -> list[Listing]:
    """The market of a row, if it is a perpetual."""
    row = _market.decode(raw)
    if row.type not in {None, "PERPETUAL"}:
        return []
    base, multiplier = _split(row.name)
    trading = row.trading or _Trading()
    status = row.status or ("ACTIVE" if row.active else "DISABLED")
    return [
        Listing(
            base,
            wire=row.name,
            venue_symbol=row.name,
            tick=increment(trading.minPriceChange),
            lot=increment(trading.minOrderSizeChange),
            multiplier=multiplier,
            quote=row.collateral,
            funding_interval_s=_HOUR_S,
            status=_STATUS.get(status, status),
        )
    ]


def _parse_stats(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    return items_of_rows(parsed(_answer, body, "markets").data, partial(_stats_events, markets), "markets")


def _stats_events(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _market_stats.decode(raw)
    listing, stats = markets.get(row.name), row.stats
    if listing is None or stats is None:
        return []
    mark = _mark(listing, stats)
    if stats.fundingRate is UNSET:
        return [mark]
    next_ns = ns_of_ms(stats.nextFundingRate)
    return [_funding(listing, stats.fundingRate, None, next_ns, "predicted", "rest"), mark]


def _mark(listing: Listing, stats: _Stats) -> Mark:
    index = stats.indexPrice or None
    return Mark(
        "extended",
        listing.symbol,
        listing.venue_symbol,
        None,
        stats.markPrice or None,
        index,
        "index" if index else None,
        stats.openInterestBase or None,
        stats.openInterest or None,
    )


def _settled_poll(listing: Listing) -> Poll:
    return Poll(
        f"settled.{listing.symbol}",
        Stream.FUNDING_POLL,
        partial(_history_request, listing.wire),
        partial(_parse_settled, listing),
        (str(listing.symbol),),
        period_s=_SETTLED_PERIOD_S,
    )


def _history_request(wire: str, now_ms: int) -> RestRequest:
    since_ms = now_ms - 2 * _HOUR_MS
    return RestRequest(f"/info/{wire}/funding?startTime={since_ms}&endTime={now_ms}&limit=1")


def _parse_settled(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """The newest payment of the answer; a new market has none."""
    rows = parsed(_answer, body, "funding").data
    return newest_payment(rows, partial(_payment, listing), "funding")


def _payment(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _settled.decode(raw)
    if row.market != listing.wire:
        raise DecodeError(f"a row about {row.market} in an answer about {listing.wire}")
    return _funding(listing, row.rate, _funding_ns(row.time), None, "settled", "rest")


#: For the registry of venues.
MARKET_DATA: Final = Extended()
