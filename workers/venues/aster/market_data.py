"""Aster: a stream of book changes joined to a REST snapshot, subscribed through the URL.

Source of the rules: Aster's futures API documentation (V3: WebSocket market streams, "How to manage a local order book
correctly", market data endpoints, limits), and recorded frames where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType, field

from ipc.decimals import is_zero
from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Funding, Level, Liquidation, Mark, Trade
from ipc.health import Reason, Stream
from ipc.topics import base_of
from workers.venues.fields import Id, Name, Number, SequenceNumber, Text, increment, interval_s_of, ns_of_ms, side
from workers.venues.funding import funding, newest_payment
from workers.venues.refusals import code_and_text, usual_reason
from workers.venues.rows import InvalidRow, each_row, items_of_rows, opens, split_rows
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
    best_first,
    one_per_base,
    parsed,
    split_multiplier,
)

__all__ = ["MARKET_DATA", "Aster"]

_QUOTE: Final = "USDT"
#: How the names of the venue's own markets for tests begin.
_INTERNAL: Final = "TEST"
_REST_DEPTH: Final = 1000
#: A connection carries 200 streams; a market has five.
_MARKETS_PER_CONNECTION: Final = 40
#: Replies echo only the request's id. A stream's UNSUBSCRIBE has the id of its SUBSCRIBE plus this.
_UNSUBSCRIBE: Final = 1000
_OPEN_INTEREST_PERIOD_S: Final = 30.0
_SETTLED_PERIOD_S: Final = 600.0
#: Weight is counted by the minute. Who goes on over the limit is banned: for two minutes at first, days at last.
_MINUTE_MS: Final = 60_000
_SHORTEST_BAN_S: Final = 120.0
#: A ban is heeded for so long at once: a moment that is wrong must not silence a worker for ever.
_LONGEST_WAIT_S: Final = 3600.0
_BANNED_UNTIL: Final = re.compile(rb"banned until (\d{13})")
#: The venue's statuses in our words; any other is published as it is.
_STATUS: Final[Mapping[str, str]] = {
    "TRADING": "active",
    **dict.fromkeys(("PENDING_TRADING", "PRE_SETTLE", "HALT", "BREAK", "END_OF_DAY"), "halted"),
    **dict.fromkeys(("SETTLING", "DELIVERING", "CLOSE", "DELISTED"), "delisted"),
}
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
    #: ``last`` of the frame before. Between the two, numbers are missing as a rule.
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
    """A frame of a combined stream; a raw one is the payload alone."""

    stream: str
    data: _Payloads


class _Head(msgspec.Struct):
    """Enough of any payload to tell what it is about."""

    e: str = ""
    s: str = ""


class _Other(msgspec.Struct):
    """Enough of any frame to tell what it is."""

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
_raw_answer: Final = msgspec.json.Decoder(msgspec.Raw)


class _Filter(msgspec.Struct):
    filterType: str  # noqa: N815 - the venue's names
    tickSize: Number | None = None  # noqa: N815
    stepSize: Number | None = None  # noqa: N815


class _Symbol(msgspec.Struct):
    symbol: Name
    status: Text
    contractType: str = ""  # noqa: N815
    marginAsset: str = ""  # noqa: N815
    filters: list[_Filter] = []


class _ExchangeInfo(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _FundingInfo(msgspec.Struct):
    symbol: str
    fundingIntervalHours: Number | None = None  # noqa: N815


class _Premium(msgspec.Struct):
    symbol: str
    lastFundingRate: str | UnsetType | None = UNSET  # noqa: N815
    nextFundingTime: Number | None = None  # noqa: N815
    time: Number | None = None


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str | None  # noqa: N815
    fundingTime: Number  # noqa: N815


class _OpenInterest(msgspec.Struct):
    symbol: str
    openInterest: str | None  # noqa: N815
    time: Number | None = None


class _RestDepth(msgspec.Struct):
    lastUpdateId: SequenceNumber  # noqa: N815
    bids: list[Level]
    asks: list[Level]
    matched_ms: Number | None = field(name="T", default=None)
    pushed_ms: Number | None = field(name="E", default=None)


_exchange_info: Final = msgspec.json.Decoder(_ExchangeInfo)
_symbol: Final = msgspec.json.Decoder(_Symbol)
_funding_info: Final = msgspec.json.Decoder(_FundingInfo)
_premium: Final = msgspec.json.Decoder(_Premium)
_settled: Final = msgspec.json.Decoder(_Settled)
_open_interest: Final = msgspec.json.Decoder(_OpenInterest)
_rest_depth: Final = msgspec.json.Decoder(_RestDepth)


class Aster(Venue):
    """Public market data of the USDT-margined perpetuals."""

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
    # The server pings every 5 minutes; that is too seldom to notice a dead connection by.
    keepalive: ClassVar[Keepalive] = Keepalive(interval_s=30.0)
    # Ten messages a second end the connection, and pings may count. A connection lives for a day at most.
    limits: ClassVar[VenueLimits] = VenueLimits(
        burst=5, messages_per_s=5.0, rest_weight_per_min=2400, max_age_s=86_400.0
    )
    continuity: ClassVar[Continuity] = Continuity(Rule.BRIDGE, Resync.REFETCH, soft_resync=True)

    def listing_requests(self) -> tuple[RestRequest, ...]:
        """The symbols, and their funding intervals, which only a request of its own tells."""
        return RestRequest("/fapi/v3/exchangeInfo"), RestRequest("/fapi/v3/fundingInfo")

    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The perpetuals that are margined in USDT."""
        symbols = parsed(_exchange_info, bodies[0], "exchangeInfo").symbols
        funding_info = parsed(_rows, bodies[1], "fundingInfo")
        intervals, invalid = split_rows(each_row(funding_info, _interval, "fundingInfo"))
        return [*one_per_base(items_of_rows(symbols, partial(_listed, dict(intervals)), "symbols")), *invalid]

    def offline_listing(self, wire: str) -> Listing:
        """A contract quoted in USDT is named by its base; any other could be mistaken for it and is not named."""
        base, multiplier = split_multiplier(_base_text(wire))
        return Listing(base_of(base), wire, wire, multiplier=multiplier, quote=_QUOTE)

    def connections(
        self,
        listings: Sequence[Listing],
        ws_url: str,
        options: Mapping[str, str],  # noqa: ARG002 - it has none
    ) -> tuple[ConnectionSpec, ...]:
        """One connection for every forty markets."""
        portions = [listings[i : i + _MARKETS_PER_CONNECTION] for i in range(0, len(listings), _MARKETS_PER_CONNECTION)]
        return tuple(_connection(number, portion, ws_url) for number, portion in enumerate(portions, start=1))

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: ARG002, FBT001
        """One frame, combined or raw; see :meth:`Venue.decode`."""
        try:
            frame = _combined.decode(payload)
            return _items(frame.data, frame.stream, markets)
        except (ValueError, RecursionError):
            return _decode_raw(bytes(payload), markets)

    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """Running rates of all markets in one request; open interest and settled rates market by market."""
        markets = {listing.wire: listing for listing in listings}
        symbols = tuple(str(listing.symbol) for listing in listings)
        # All symbols at once are 200 kB and cost the same as a single one.
        one = f"?symbol={listings[0].wire}" if len(listings) == 1 else ""
        running = RestRequest(f"/fapi/v3/premiumIndex{one}")
        predicted = Poll(
            "predicted", Stream.FUNDING_POLL, lambda _: running, partial(_parse_premiums, markets), symbols
        )
        by_market = (poll for listing in listings for poll in (_open_interest_poll(listing), _settled_poll(listing)))
        return (predicted, *by_market) if listings else ()

    def book_request(self, listing: Listing) -> RestRequest:
        """``depth`` with the most levels: what the changes are joined to."""
        return RestRequest(f"/fapi/v3/depth?symbol={listing.wire}&limit={_REST_DEPTH}", weight=20)

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """The snapshot in an answer to ``depth``; ``venue_seq`` counts as the stream's ``u``."""
        book = parsed(_rest_depth, body, "depth")
        time_ns = ns_of_ms(book.matched_ms or book.pushed_ms)
        return BookSnapshot(
            "aster", listing.symbol, listing.venue_symbol, time_ns, book.bids, book.asks, _REST_DEPTH, book.lastUpdateId
        )

    def retry_after_s(self, status: int, body: bytes, now_ms: int) -> float | None:
        """Until a ban ends, which only error -1003 says in its text; over the limit, until the next minute."""
        if found := _BANNED_UNTIL.search(body):
            return min(max(1.0, (int(found[1]) - now_ms) / 1000), _LONGEST_WAIT_S)
        if status == 418:
            return _SHORTEST_BAN_S
        return max(1.0, (_MINUTE_MS - now_ms % _MINUTE_MS) / 1000) if status == 429 else None


# --- frames -------------------------------------------------------------------------------------------------------


def _decode_raw(payload: bytes, markets: Markets) -> list[Item]:
    try:
        return _items(_raw.decode(payload), "", markets)
    except (ValueError, RecursionError):
        return _decode_other(payload, markets)


def _decode_other(payload: bytes, markets: Markets) -> list[Item]:
    """A frame without public data of ours: a reply, an error, another kind of stream, or a malformed one."""
    try:
        if opens(payload.lstrip(), b"["):
            return _decode_rows(_rows.decode(payload), "", markets)
        frame = _other.decode(payload)
        if frame.error is not None or frame.code is not None:
            return [_refused(frame)]
        if frame.data is not UNSET:
            rows = _rows.decode(frame.data) if opens(frame.data, b"[") else [frame.data]
            return _decode_rows(rows, frame.stream, markets)
        if frame.result is not UNSET:
            return _decode_result(frame)
        return _decode_rows([msgspec.Raw(payload)], "", markets)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Aster frame: {error}") from error


def _decode_rows(rows: list[msgspec.Raw], stream: str, markets: Markets) -> list[Item]:
    """Payloads one by one; what is wrong with the only one of a frame is wrong with the frame."""
    items = items_of_rows(rows, partial(_decode_row, stream, markets), stream or "frame")
    if len(rows) == 1 and items and isinstance(items[0], InvalidRow):
        raise DecodeError(items[0].error)
    return items


def _decode_row(stream: str, markets: Markets, row: msgspec.Raw) -> list[Item]:
    """One payload, which may be of another kind of stream; a book that cannot be read is an invalid book.

    Raises:
        ValueError: It cannot be read, and is none of a followed book.
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
    """The reply to a request of ours; a list answers a question that we do not ask."""
    if frame.result is not None or frame.id is None:
        return []
    is_unsubscribe = isinstance(frame.id, int) and frame.id > _UNSUBSCRIBE
    return [Unsubscribed(_alias(frame.id)) if is_unsubscribe else Ack(_alias(frame.id))]


def _refused(frame: _Other) -> Refused:
    code, text = code_and_text({"code": frame.code, "msg": frame.msg, "error": frame.error})
    key = None if frame.id is None else _alias(frame.id)
    return Refused(f"{code}: {text}", key, _REASONS.get(code, usual_reason(code, text)))


def _items(data: _Payloads, stream: str, markets: Markets) -> list[Item]:
    if type(data) is list:
        return [item for payload in data for item in _items(payload, stream, markets)]
    return _DECODERS[type(data)](data, stream, markets)


@lru_cache(maxsize=4096)
def _partial_depth(stream: str) -> int | None:
    """How many levels a partial-depth stream carries (``btcusdt@depth20@100ms``: 20); None for one of changes."""
    digits = stream.partition("@depth")[2].partition("@")[0]
    return int(digits) if digits.isdecimal() else None


def _decode_depth(frame: _Depth, stream: str, markets: Markets) -> list[Item]:
    listing = markets.get(frame.symbol)
    if listing is None:
        return []
    # Only the stream's name tells whole books of a few levels from changes.
    depth = _partial_depth(stream)
    bids, asks = frame.bids or [], frame.asks or []
    time_ns = ns_of_ms(frame.matched_ms or frame.pushed_ms)
    if depth is not None:
        bids, asks = best_first(bids, asks)
        return [BookSnapshot("aster", listing.symbol, listing.venue_symbol, time_ns, bids, asks, depth, frame.last)]
    return [
        BookDelta(
            "aster",
            listing.symbol,
            listing.venue_symbol,
            time_ns,
            bids,
            asks,
            frame.last,
            frame.previous,
            frame.first,
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
        items.append(_funding(listing, frame.rate, time_ns, ns_of_ms(frame.next_funding_ms), "predicted", "ws"))
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
            # The venue gives no id; a symbol has at most one of these frames a second.
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


def _funding(
    listing: Listing,
    native: str | None,
    exchange_ns: int | None,
    next_ns: int | None,
    phase: Literal["predicted", "settled"],
    source: Literal["ws", "rest"],
) -> Funding:
    return funding(
        "aster",
        listing,
        native,
        listing.funding_interval_s,
        exchange_ns=exchange_ns,
        next_ns=next_ns,
        phase=phase,
        settled_at="mark",
        source=source,
    )


# --- subscriptions ------------------------------------------------------------------------------------------------


def _alias(request_id: int | str) -> str:
    """What a reply names: the subscription's request id, for its UNSUBSCRIBE as well."""
    return f"id:{request_id % _UNSUBSCRIBE if isinstance(request_id, int) else request_id}"


def _connection(number: int, listings: Sequence[Listing], ws_url: str) -> ConnectionSpec:
    wanted = [(listing, f"{listing.wire.lower()}@{kind}", kind) for listing in listings for kind in _STREAMS]
    subscriptions = tuple(
        _subscription(index, listing, stream, _STREAMS[kind])
        for index, (listing, stream, kind) in enumerate(wanted, start=1)
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


# --- REST ---------------------------------------------------------------------------------------------------------


def _base_text(wire: str) -> str:
    """The base in a contract's name, empty for contracts that are not quoted in USDT and for internal ones."""
    return "" if wire.startswith(_INTERNAL) or not wire.endswith(_QUOTE) else wire.removesuffix(_QUOTE)


def _is_perpetual(row: _Symbol) -> bool:
    return row.contractType in {"", "PERPETUAL"} and row.marginAsset == _QUOTE


def _interval(row: msgspec.Raw) -> tuple[str, int | None]:
    """A symbol and its funding interval, s."""
    info = _funding_info.decode(row)
    return info.symbol, interval_s_of(info.fundingIntervalHours)


def _listed(intervals: Mapping[str, int | None], raw: msgspec.Raw) -> list[Listing]:
    """The market of a row, if it is a perpetual margined in USDT and none of the venue's own for tests."""
    row = _symbol.decode(raw)
    if not _is_perpetual(row) or row.symbol.startswith(_INTERNAL):
        return []
    base, multiplier = split_multiplier(_base_text(row.symbol))
    filters = {one.filterType: one for one in row.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    return [
        Listing(
            base_of(base),
            wire=row.symbol,
            venue_symbol=row.symbol,
            tick=increment(price.tickSize) if price else None,
            lot=increment(lot.stepSize) if lot else None,
            multiplier=multiplier,
            quote=_QUOTE,
            funding_interval_s=intervals.get(row.symbol),
            status=_STATUS.get(row.status, row.status),
        )
    ]


def _parse_premiums(markets: Mapping[str, Listing], body: bytes) -> list[Event | InvalidRow]:
    """The rates of all symbols, or that of one, which comes without a list around it."""
    answer = parsed(_raw_answer, body, "premiumIndex")
    rows = _rows.decode(answer) if opens(answer, b"[") else [answer]
    return items_of_rows(rows, partial(_running, markets), "premiumIndex")


def _running(markets: Mapping[str, Listing], raw: msgspec.Raw) -> list[Event]:
    row = _premium.decode(raw)
    listing = markets.get(row.symbol)
    if listing is None or row.lastFundingRate is UNSET:
        return []
    # Despite its name, lastFundingRate is the rate of the running interval.
    times = ns_of_ms(row.time), ns_of_ms(row.nextFundingTime)
    return [_funding(listing, row.lastFundingRate, *times, "predicted", "rest")]


def _open_interest_poll(listing: Listing) -> Poll:
    # The documentation leaves this path out, and there is no v3 of it.
    request = RestRequest(f"/fapi/v1/openInterest?symbol={listing.wire}")
    return Poll(
        f"open_interest.{listing.symbol}",
        Stream.MARK,
        lambda _: request,
        partial(_parse_open_interest, listing),
        (str(listing.symbol),),
        period_s=_OPEN_INTEREST_PERIOD_S,
    )


def _parse_open_interest(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    row = parsed(_open_interest, body, "openInterest")
    if row.symbol != listing.wire:
        raise DecodeError(f"openInterest answered for {row.symbol}, not {listing.wire}")
    open_interest = row.openInterest or None
    return [
        Mark("aster", listing.symbol, listing.venue_symbol, ns_of_ms(row.time), None, None, None, open_interest, None),
    ]


def _settled_poll(listing: Listing) -> Poll:
    request = RestRequest(f"/fapi/v3/fundingRate?symbol={listing.wire}&limit=1")
    return Poll(
        f"settled.{listing.symbol}",
        Stream.FUNDING_POLL,
        lambda _: request,
        partial(_parse_settled, listing),
        (str(listing.symbol),),
        period_s=_SETTLED_PERIOD_S,
    )


def _parse_settled(listing: Listing, body: bytes) -> list[Event | InvalidRow]:
    """The newest payment of the answer; a new market has none."""
    rows = parsed(_rows, body, "fundingRate")
    return newest_payment(rows, partial(_payment, listing), "fundingRate")


def _payment(listing: Listing, raw: msgspec.Raw) -> Event:
    row = _settled.decode(raw)
    if row.symbol != listing.wire:
        raise DecodeError(f"a row about {row.symbol} in an answer about {listing.wire}")
    return _funding(listing, row.fundingRate, ns_of_ms(row.fundingTime), None, "settled", "rest")


#: For the registry of venues.
MARKET_DATA: Final = Aster()
