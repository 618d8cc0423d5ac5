"""Hyperliquid: whole books on a cadence, everything on one connection, REST by POST.

Source of the rules: Hyperliquid's API documentation (WebSocket subscriptions, timeouts and heartbeats, rate limits,
perpetuals info endpoint), and recorded frames where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from ipc.errors import DecodeError
from ipc.events import Bbo, BookSnapshot, Event, Funding, Level, Mark, Side, Trade
from ipc.health import Reason, Stream
from ipc.topics import base_of
from workers.venues.fields import Id, Name, Number, interval_s_of, ns_of_ms, side, step
from workers.venues.funding import funding, newest_payment
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
    Poll,
    Pong,
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

__all__ = ["MARKET_DATA", "Hyperliquid"]

_HOUR_S: Final = 3600
#: Levels a side at most: of the fast book, and of the ordinary one (since July 2026 every 5 s).
_FAST_DEPTH: Final = 5
_FULL_DEPTH: Final = 20
#: Some servers greet with this bare text, which is no JSON.
_GREETING: Final = b"Websocket connection established"
_SETTLED_PERIOD_S: Final = 600.0
#: The aggressor's side: B buys, A sells.
_SIDES: Final[dict[str, Side]] = {"B": "buy", "A": "sell"}


class _Level(msgspec.Struct, gc=False):
    px: str
    sz: str


class _L2Book(msgspec.Struct, gc=False):
    coin: str
    time: Number
    levels: tuple[list[_Level], list[_Level]]
    fast: bool | None = None


class _Bbo(msgspec.Struct, gc=False):
    coin: str
    time: Number
    bbo: tuple[_Level | None, _Level | None]


class _Trade(msgspec.Struct, gc=False):
    coin: str
    side: Literal["A", "B"]
    px: str
    sz: str
    time: Number
    tid: Id


class _Context(msgspec.Struct, gc=False):
    funding: str | msgspec.UnsetType | None = msgspec.UNSET
    openInterest: str | None = None  # noqa: N815 - the venue's names
    oraclePx: str | None = None  # noqa: N815
    markPx: str | None = None  # noqa: N815


class _AssetContext(msgspec.Struct, gc=False):
    coin: str
    ctx: _Context


class _Described(msgspec.Struct, gc=False):
    """A subscription as the venue echoes it: normalised, with defaults filled in."""

    type: str
    coin: str = ""
    fast: bool | None = None


class _Response(msgspec.Struct, gc=False):
    method: str
    subscription: _Described


class _L2BookFrame(msgspec.Struct, tag_field="channel", tag="l2Book", gc=False):
    data: _L2Book


class _BboFrame(msgspec.Struct, tag_field="channel", tag="bbo", gc=False):
    data: _Bbo


class _TradesFrame(msgspec.Struct, tag_field="channel", tag="trades", gc=False):
    data: list[_Trade]


class _TradeRows(msgspec.Struct):
    data: list[msgspec.Raw]


class _BookHead(msgspec.Struct):
    """What a book frame is about, read where its levels cannot be."""

    coin: str
    fast: msgspec.Raw = msgspec.Raw(b"null")


class _BookHeadFrame(msgspec.Struct):
    data: _BookHead


class _ContextFrame(msgspec.Struct, tag_field="channel", tag="activeAssetCtx", gc=False):
    data: _AssetContext


class _ResponseFrame(msgspec.Struct, tag_field="channel", tag="subscriptionResponse", gc=False):
    data: _Response


class _PongFrame(msgspec.Struct, tag_field="channel", tag="pong", gc=False):
    pass


class _ErrorFrame(msgspec.Struct, tag_field="channel", tag="error", gc=False):
    data: Any = None


class _AnyFrame(msgspec.Struct):
    channel: str


_Frame: TypeAlias = _L2BookFrame | _BboFrame | _TradesFrame | _ContextFrame | _ResponseFrame | _PongFrame | _ErrorFrame
_frames: Final = msgspec.json.Decoder(_Frame)
_any_frame: Final = msgspec.json.Decoder(_AnyFrame)
_trade_rows: Final = msgspec.json.Decoder(_TradeRows)
_trade_row: Final = msgspec.json.Decoder(_Trade)
_book_head: Final = msgspec.json.Decoder(_BookHeadFrame)
_KNOWN: Final = frozenset(
    {"l2Book", "bbo", "trades", "activeAssetCtx", "subscriptionResponse", "pong", "error"},
)


class _Asset(msgspec.Struct):
    name: Name
    szDecimals: Number  # noqa: N815
    isDelisted: bool | None = None  # noqa: N815


class _Meta(msgspec.Struct):
    universe: list[msgspec.Raw]


class _Prediction(msgspec.Struct):
    fundingRate: str | None = None  # noqa: N815
    nextFundingTime: Number | None = None  # noqa: N815
    fundingIntervalHours: Number | None = None  # noqa: N815


class _Settled(msgspec.Struct):
    coin: str
    fundingRate: str | None  # noqa: N815
    time: Number


_meta: Final = msgspec.json.Decoder(_Meta)
_asset: Final = msgspec.json.Decoder(_Asset)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
#: A coin and the rates of it on several venues.
_rates: Final = msgspec.json.Decoder(tuple[str, list[msgspec.Raw]])
_venue: Final = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_prediction: Final[msgspec.json.Decoder[_Prediction | None]] = msgspec.json.Decoder(_Prediction | None)
_settled: Final = msgspec.json.Decoder(_Settled)
_rest_book: Final = msgspec.json.Decoder(_L2Book)


class Hyperliquid(Venue):
    """Public market data of the core perpetuals."""

    name: ClassVar[str] = "hyperliquid"
    env: ClassVar[str] = "HL"
    ws_url: ClassVar[str] = "wss://api.hyperliquid.xyz/ws"
    rest_url: ClassVar[str] = "https://api.hyperliquid.xyz"
    streams: ClassVar[Mapping[Stream, float | None]] = {
        Stream.BOOK: 0.5,
        Stream.BOOK20: 5.0,
        Stream.BBO: None,
        Stream.TRADE: None,
        Stream.MARK: 1.0,
        Stream.FUNDING: 1.0,
    }
    # The server closes what it has sent nothing to for 60 s; acknowledgements do not count.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0, ping=b'{"method":"ping"}')
    limits: ClassVar[VenueLimits] = VenueLimits(burst=100, messages_per_s=20.0, rest_weight_per_min=1200)
    continuity: ClassVar[Continuity] = Continuity(
        Rule.SNAPSHOTS, Resync.RESUBSCRIBE, silence_s={Stream.BOOK: 2.0, Stream.BOOK20: 20.0}
    )
    replays_trades: ClassVar[bool] = True

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """``meta`` of the core dex."""
        return (_info(b'{"type":"meta"}', weight=20),)

    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The universe; a name's position in it is its asset id."""
        universe = parsed(_meta, bodies[0], "meta").universe
        return one_per_base(each_row(enumerate(universe), _listed, "universe"))

    def offline_listing(self, wire: str) -> Listing:
        """A core coin's name says all; builder, spot and outcome markets are not named."""
        return _listing(wire)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - it has none
    ) -> tuple[ConnectionSpec, ...]:
        """Everything on one connection: an address may open only ten."""
        wanted: list[ChannelSubscription] = []
        for listing in listings:
            coin = listing.wire
            wanted += [
                _subscription(listing, (Stream.BOOK,), {"type": "l2Book", "coin": coin, "fast": True}),
                _subscription(listing, (Stream.BBO,), {"type": "bbo", "coin": coin}),
                _subscription(listing, (Stream.TRADE,), {"type": "trades", "coin": coin}),
                _subscription(listing, (Stream.MARK, Stream.FUNDING), {"type": "activeAssetCtx", "coin": coin}),
                _subscription(listing, (Stream.BOOK20,), {"type": "l2Book", "coin": coin}),
            ]
        return (ConnectionSpec("main", ws_url, tuple(wanted)),)

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`Venue.decode`."""
        try:
            frame = _frames.decode(payload)
            return _DECODERS[type(frame)](frame, markets)
        except (ValueError, RecursionError) as error:
            return _decode_other(bytes(payload), markets, error)

    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """Predicted rates of all coins in one request; the settled ones coin by coin, seldom."""
        markets = {listing.wire: listing for listing in listings}
        symbols = tuple(str(listing.symbol) for listing in listings)
        predicted = _info(b'{"type":"predictedFundings"}', weight=20)
        polls = [
            Poll("predicted", Stream.FUNDING_POLL, lambda _: predicted, partial(_parse_predicted, markets), symbols)
        ]
        polls += [
            Poll(
                f"settled.{listing.symbol}",
                Stream.FUNDING_POLL,
                partial(_history_request, listing.wire),
                partial(_parse_settled, listing),
                (str(listing.symbol),),
                period_s=_SETTLED_PERIOD_S,
            )
            for listing in listings
        ]
        return tuple(polls)

    def book_request(self, listing: Listing) -> RestRequest:
        """``l2Book``: 20 levels a side, as the ordinary subscription."""
        return _info(msgspec.json.encode({"type": "l2Book", "coin": listing.wire}), weight=2)

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """The same shape as the stream's frames."""
        book = parsed(_rest_book, body, "l2Book")
        if book.coin != listing.wire:
            raise DecodeError(f"l2Book answered for {book.coin}, not {listing.wire}")
        return _snapshot(listing, book, _FULL_DEPTH)


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_other(payload: bytes, markets: Markets, malformed: Exception) -> list[Item]:
    """The greeting, a frame of another channel, one with an invalid row or book, or a malformed one."""
    if payload.startswith(_GREETING):
        return []
    try:
        channel = _any_frame.decode(payload).channel
        if channel == "trades":
            return _decode_trade_rows(_trade_rows.decode(payload).data, markets)
        if channel == "l2Book":
            return _invalid_book(_book_head.decode(payload).data, markets, malformed)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a Hyperliquid frame: {error}") from error
    if channel in _KNOWN:
        raise DecodeError(f"malformed {channel} frame: {malformed}") from malformed
    return []


def _invalid_book(head: _BookHead, markets: Markets, malformed: Exception) -> list[Item]:
    """A book of which something cannot be read, but not its market."""
    listing = markets.get(head.coin)
    stream = Stream.BOOK if bytes(head.fast) == b"true" else Stream.BOOK20
    return [] if listing is None else [InvalidBook(listing, stream, str(malformed))]


def _decode_trade_rows(rows: list[msgspec.Raw], markets: Markets) -> list[Item]:
    return items_of_rows(rows, lambda row: _trades([_trade_row.decode(row)], markets), "trades")


def _levels(side: list[_Level]) -> list[Level]:
    return [(level.px, level.sz) for level in side]


def _snapshot(listing: Listing, book: _L2Book, depth: int) -> BookSnapshot:
    bids, asks = book.levels
    return BookSnapshot(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        ns_of_ms(book.time),
        _levels(bids),
        _levels(asks),
        depth,
        None,
    )


def _decode_book(frame: _L2BookFrame, markets: Markets) -> list[Item]:
    book = frame.data
    listing = markets.get(book.coin)
    if listing is None:
        return []
    # Both subscriptions share channel and coin. Fast frames say so; their number of levels tells nothing, for the
    # ordinary book of a thin market has as few.
    return [_snapshot(listing, book, _FAST_DEPTH if book.fast else _FULL_DEPTH)]


def _decode_bbo(frame: _BboFrame, markets: Markets) -> list[Item]:
    data = frame.data
    listing = markets.get(data.coin)
    if listing is None:
        return []
    bid, ask = map(_side, data.bbo)
    return [Bbo("hyperliquid", listing.symbol, listing.venue_symbol, ns_of_ms(data.time), *bid, *ask)]


def _side(level: _Level | None) -> tuple[str | None, str | None]:
    return (None, None) if level is None else side(level.px, level.sz)


def _decode_trades(frame: _TradesFrame, markets: Markets) -> list[Item]:
    return _trades(frame.data, markets)


def _trades(rows: list[_Trade], markets: Markets) -> list[Item]:
    # The hash is no key: it is all zeros for system fills. tid is unique across markets.
    return [
        Trade(
            "hyperliquid",
            listing.symbol,
            listing.venue_symbol,
            ns_of_ms(row.time),
            row.px,
            row.sz,
            _SIDES[row.side],
            str(row.tid),
        )
        for row in rows
        if (listing := markets.get(row.coin)) is not None
    ]


def _decode_context(frame: _ContextFrame, markets: Markets) -> list[Item]:
    listing = markets.get(frame.data.coin)
    if listing is None:
        return []
    context = frame.data.ctx
    mark = Mark(
        "hyperliquid",
        listing.symbol,
        listing.venue_symbol,
        None,
        context.markPx or None,
        context.oraclePx or None,
        "oracle" if context.oraclePx else None,
        context.openInterest or None,
        None,
    )
    if context.funding is msgspec.UNSET:
        return [mark]
    # The published rate is already hourly; the frame has no time, so neither the next settlement nor its own is known.
    return [mark, _funding(listing, context.funding, None, None, "predicted", "ws")]


def _decode_response(frame: _ResponseFrame, markets: Markets) -> list[Item]:  # noqa: ARG001
    key = _key(frame.data.subscription)
    return [Ack(key) if frame.data.method == "subscribe" else Unsubscribed(key)]


def _decode_pong(frame: _PongFrame, markets: Markets) -> list[Item]:  # noqa: ARG001
    return [Pong()]


def _decode_error(frame: _ErrorFrame, markets: Markets) -> list[Item]:  # noqa: ARG001
    code, text = code_and_text(frame.data)
    if text.startswith(("Already subscribed", "Already unsubscribed")):
        return [Refused(text, _key_in(text), reason=None)]
    if text.startswith("Cannot"):
        # Over the pace nothing is heard any more, pings neither; other limits leave what there is alone.
        return [Refused(text, reason=Reason.RATE_LIMITED, fatal=text.startswith("Cannot send"))]
    return [Refused(text, _key_in(text), usual_reason(code, text))]


_DECODERS: Final[dict[type, Callable[[Any, Markets], list[Item]]]] = {
    _L2BookFrame: _decode_book,
    _BboFrame: _decode_bbo,
    _TradesFrame: _decode_trades,
    _ContextFrame: _decode_context,
    _ResponseFrame: _decode_response,
    _PongFrame: _decode_pong,
    _ErrorFrame: _decode_error,
}


# --- subscriptions ------------------------------------------------------------------------------------------------


def _key(described: _Described) -> str:
    """A subscription's name, the same for what was sent and for its normalised echo."""
    fast = ":fast" if described.fast else ""
    return f"{described.type}:{described.coin}{fast}"


def _key_in(text: str) -> str | None:
    """The key of the subscription that an error text quotes, if it quotes one."""
    start = text.find("{")
    try:
        return _key(msgspec.json.decode(text[start:].encode(), type=_Described)) if start >= 0 else None
    except ValueError:
        return None


def _subscription(listing: Listing, streams: tuple[Stream, ...], body: dict[str, str | bool]) -> ChannelSubscription:
    return ChannelSubscription(
        _key(msgspec.convert(body, _Described)),
        streams,
        listing.symbol,
        msgspec.json.encode({"method": "subscribe", "subscription": body}),
        msgspec.json.encode({"method": "unsubscribe", "subscription": body}),
    )


# --- REST ---------------------------------------------------------------------------------------------------------


def _info(body: bytes, weight: int) -> RestRequest:
    return RestRequest("/info", "POST", body, weight)


def _listed(row: tuple[int, msgspec.Raw]) -> Listing:
    """The row of the universe at a position."""
    index, asset = row[0], _asset.decode(row[1])
    listing = _listing(asset.name)
    return replace(
        listing,
        market_id=str(index),
        # No tick is published: five significant digits and 6 - szDecimals decimals, so it moves with the price.
        lot=step(asset.szDecimals),
        status="delisted" if asset.isDelisted else "active",
    )


def _listing(name: str) -> Listing:
    base, multiplier = split_multiplier(name)
    return Listing(base_of(base), name, name, multiplier=multiplier, quote="USDC", funding_interval_s=_HOUR_S)


def _funding(
    listing: Listing,
    native: str | None,
    exchange_ms: Number | None,
    next_ms: Number | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
    interval_s: int = _HOUR_S,
) -> Funding:
    return funding(
        "hyperliquid",
        listing,
        native,
        interval_s,
        exchange_ns=ns_of_ms(exchange_ms),
        next_ns=ns_of_ms(next_ms),
        phase=phase,
        settled_at="oracle",
        source=source,
    )


def _parse_predicted(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    rows = parsed(_rows, body, "predictedFundings")
    return items_of_rows(rows, partial(_predictions, markets), "predictedFundings")


def _predictions(markets: Mapping[str, Listing], row: msgspec.Raw) -> list[Event | InvalidRow]:
    """The rate of a coin: of the venues in its row only our own is read."""
    coin, venues = _rates.decode(row)
    listing = markets.get(coin)
    return [] if listing is None else items_of_rows(venues, partial(_predicted, listing), "predictedFundings")


def _predicted(listing: Listing, row: msgspec.Raw) -> list[Event]:
    venue, raw = _venue.decode(row)
    own = _prediction.decode(raw) if venue == "HlPerp" else None
    if own is None:
        return []
    interval_s = interval_s_of(own.fundingIntervalHours) or _HOUR_S
    return [_funding(listing, own.fundingRate, None, own.nextFundingTime, "predicted", "rest", interval_s)]


def _history_request(coin: str, now_ms: int) -> RestRequest:
    since_ms = now_ms - 2 * _HOUR_S * 1000
    return _info(msgspec.json.encode({"type": "fundingHistory", "coin": coin, "startTime": since_ms}), weight=21)


def _parse_settled(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """The newest payment; a new market has none."""
    rows = parsed(_rows, body, "fundingHistory")
    return newest_payment(rows, partial(_payment, listing), "fundingHistory")


def _payment(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _settled.decode(raw)
    if row.coin != listing.wire:
        raise DecodeError(f"a row about {row.coin} in an answer about {listing.wire}")
    return _funding(listing, row.fundingRate, row.time, None, "settled", "rest")


#: For the registry of venues.
MARKET_DATA: Final = Hyperliquid()
