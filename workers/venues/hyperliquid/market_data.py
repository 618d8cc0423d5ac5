"""Hyperliquid's public stream: whole books at a fixed cadence, everything on one connection.

Source of the rules: Hyperliquid's API documentation (WebSocket subscriptions, timeouts and heartbeats, rate limits),
and recorded frames where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from ipc.errors import DecodeError
from ipc.events import Bbo, Mark, Side, Trade
from ipc.health import Reason, Stream
from workers.venues.fields import Id, Number, ns_of_ms, side
from workers.venues.hyperliquid import rest
from workers.venues.hyperliquid.rest import FULL_DEPTH, L2Book, L2Level, book_snapshot, funding_event
from workers.venues.listing import Listing, Markets
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import items_of_rows
from workers.venues.venue import (
    Ack,
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    InvalidBook,
    Item,
    Keepalive,
    Pong,
    Refused,
    RestRequest,
    Resync,
    Rule,
    Unsubscribed,
    Venue,
    VenueLimits,
)

#: Levels per side of the fast book.
_FAST_DEPTH: Final = 5
#: Text, not JSON, that some servers send first.
_GREETING: Final = b"Websocket connection established"
#: Side of the aggressor: B buys, A sells.
_SIDES: Final[dict[str, Side]] = {"B": "buy", "A": "sell"}


class _Bbo(msgspec.Struct, gc=False):
    coin: str
    time: Number
    bbo: tuple[L2Level | None, L2Level | None]


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
    """Subscription as the venue echoes it: normalised, with defaults filled in."""

    type: str
    coin: str = ""
    fast: bool | None = None


class _Response(msgspec.Struct, gc=False):
    method: str
    subscription: _Described


class _L2BookFrame(msgspec.Struct, tag_field="channel", tag="l2Book", gc=False):
    data: L2Book


class _BboFrame(msgspec.Struct, tag_field="channel", tag="bbo", gc=False):
    data: _Bbo


class _TradesFrame(msgspec.Struct, tag_field="channel", tag="trades", gc=False):
    data: list[_Trade]


class _TradeRows(msgspec.Struct):
    data: list[msgspec.Raw]


class _BookHead(msgspec.Struct):
    """Market of a book frame whose levels cannot be decoded."""

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
_KNOWN: Final = frozenset({"l2Book", "bbo", "trades", "activeAssetCtx", "subscriptionResponse", "pong", "error"})


class Hyperliquid(Venue):
    """Public market data of Hyperliquid's core perpetuals."""

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
    # The server closes a connection on which it sent nothing for 60 s; acknowledgements do not count.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0, ping=b'{"method":"ping"}')
    limits: ClassVar[VenueLimits] = VenueLimits(
        burst=100,
        messages_per_s=20.0,
        rest_weight_per_min=1200,
        connects_per_min=30,
        markets_on_two_lines=100,  # 1,000 subscriptions, five of each market
    )
    continuity: ClassVar[Continuity] = Continuity(
        Rule.SNAPSHOTS,
        Resync.RESUBSCRIBE,
        silence_s={Stream.BOOK: 2.0, Stream.BOOK20: 20.0},
        min_stale_s={Stream.BOOK20: 20.0},
    )
    replays_trades: ClassVar[bool] = True

    parse_listings = staticmethod(rest.parse_listings)
    polls = staticmethod(rest.polls)
    book_request = staticmethod(rest.book_request)
    parse_book = staticmethod(rest.parse_book)
    offline_listing = staticmethod(rest.core_listing)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the request for ``meta`` of the core dex."""
        return (rest.info_request(b'{"type":"meta"}', weight=20),)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - there are none
    ) -> tuple[ConnectionSpec, ...]:
        """Return one connection for everything: an IP address may open only ten."""
        subscriptions: list[ChannelSubscription] = []
        for listing in listings:
            coin = listing.wire
            subscriptions += [
                _subscription(listing, (Stream.BOOK,), {"type": "l2Book", "coin": coin, "fast": True}),
                _subscription(listing, (Stream.BBO,), {"type": "bbo", "coin": coin}),
                _subscription(listing, (Stream.TRADE,), {"type": "trades", "coin": coin}),
                _subscription(listing, (Stream.MARK, Stream.FUNDING), {"type": "activeAssetCtx", "coin": coin}),
                _subscription(listing, (Stream.BOOK20,), {"type": "l2Book", "coin": coin}),
            ]
        return (ConnectionSpec("main", ws_url, tuple(subscriptions)),)

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """Decode a frame; see :meth:`Venue.decode`."""
        try:
            frame = _frames.decode(payload)
            return _DECODERS[type(frame)](frame, markets)
        except (ValueError, RecursionError) as error:
            return _decode_other(bytes(payload), markets, error)


def _decode_other(payload: bytes, markets: Markets, malformed: Exception) -> list[Item]:
    """Decode the greeting, a frame of another channel, or one with an invalid row or book; reject any other."""
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
    """Report an undecodable book whose market is known."""
    listing = markets.get(head.coin)
    stream = Stream.BOOK if bytes(head.fast) == b"true" else Stream.BOOK20
    return [] if listing is None else [InvalidBook(listing, stream, str(malformed))]


def _decode_trade_rows(rows: list[msgspec.Raw], markets: Markets) -> list[Item]:
    return items_of_rows(rows, lambda row: _trades([_trade_row.decode(row)], markets), "trades")


def _decode_book(frame: _L2BookFrame, markets: Markets) -> list[Item]:
    book = frame.data
    listing = markets.get(book.coin)
    if listing is None:
        return []
    # Both subscriptions share channel and coin; fast frames are marked. The number of levels does not distinguish them:
    # the ordinary book of a thin market has as few.
    return [book_snapshot(listing, book, _FAST_DEPTH if book.fast else FULL_DEPTH)]


def _decode_bbo(frame: _BboFrame, markets: Markets) -> list[Item]:
    data = frame.data
    listing = markets.get(data.coin)
    if listing is None:
        return []
    bid, ask = map(_side, data.bbo)
    return [Bbo("hyperliquid", listing.symbol, listing.venue_symbol, ns_of_ms(data.time), *bid, *ask)]


def _side(level: L2Level | None) -> tuple[str | None, str | None]:
    return (None, None) if level is None else side(level.px, level.sz)


def _decode_trades(frame: _TradesFrame, markets: Markets) -> list[Item]:
    return _trades(frame.data, markets)


def _trades(rows: list[_Trade], markets: Markets) -> list[Item]:
    # The hash is not unique: it is all zeros for system fills. tid is unique across markets.
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
    # The rate is hourly already. The frame has no time, so neither its own nor that of the next settlement is known.
    return [mark, funding_event(listing, context.funding, None, None, "predicted", "ws")]


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
        # Over the message limit the server ignores everything, pings too; other limits leave existing channels alone.
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


def _key(described: _Described) -> str:
    """Return the key of a subscription, equal for the message sent and for its normalised echo."""
    fast = ":fast" if described.fast else ""
    return f"{described.type}:{described.coin}{fast}"


def _key_in(text: str) -> str | None:
    """Return the key of the subscription quoted in an error text; None without one."""
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


#: For the registry of venues.
MARKET_DATA: Final = Hyperliquid()
