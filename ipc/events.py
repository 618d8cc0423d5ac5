"""Events of schema version 1, one msgspec type for each kind.

Prices, sizes and rates are the venue's decimal text, never converted to float. Times are integer nanoseconds. Unknown
values are ``None``. Ids are text. Readers ignore unknown keys; adding an optional field keeps the version, any other
change makes a new one.

The fields that a decoder knows come first: decoders on the hot path give them by position, which is twice as fast as by
name. The publisher fills in the stamps.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ipc.health import Reason, Stream, StreamState
from ipc.lines import Line

__all__ = [
    "SCHEMA",
    "AccountEvent",
    "AnyEvent",
    "Balance",
    "Bbo",
    "BookDelta",
    "BookSnapshot",
    "Cause",
    "Event",
    "Fill",
    "Flag",
    "Funding",
    "Gap",
    "GapAction",
    "Heartbeat",
    "HeartbeatBook",
    "Instrument",
    "Level",
    "Lifecycle",
    "Liquidation",
    "Margin",
    "Mark",
    "Order",
    "Payment",
    "Position",
    "ProcessPorts",
    "Side",
    "Status",
    "Trade",
]

#: The version of this schema.
SCHEMA = 1

#: Levels a side of the channel ``book20``.
_BOOK20_DEPTH: Final = 20
#: A price level: price and size as the venue wrote them.
Level: TypeAlias = tuple[str, str]
#: The side of the aggressor.
Side: TypeAlias = Literal["buy", "sell"]
Flag: TypeAlias = Literal["refresh", "backlog", "replay", "rest", "crossed_by_venue", "late"]
#: Reason for a snapshot.
Cause: TypeAlias = Literal["subscribe", "resync", "refresh", "rest", "rotation", "takeover"]
#: Reaction of the worker to a gap.
GapAction: TypeAlias = Literal["resync", "resubscribe", "reconnect", "none"]


class _Stamps(msgspec.Struct, kw_only=True, tag_field="kind", gc=False):
    """Stamps of the publisher: its epoch, the order and the times of its messages."""

    #: Version of the schema.
    schema: int = SCHEMA
    #: Epoch of the publisher: strictly increasing, close to its start in wall-clock ns.
    epoch: int = 0
    #: Position within the topic and epoch, from 1 without gaps.
    seq: int = 0
    #: Wall clock when the frame was read from the socket, ns.
    recv_ns: int = 0
    #: Monotonic clock at the same moment, ns; comparable between processes of one boot.
    recv_mono_ns: int = 0
    #: Wall clock when the event was handed to the socket, ns.
    publish_ns: int = 0
    flags: tuple[Flag, ...] = ()
    #: Line of the worker that sent it; left out by a venue's only one.
    line: Line | msgspec.UnsetType = msgspec.UNSET


class Event(_Stamps, gc=False):
    """Base of all events."""

    venue: str
    #: Our symbol, ``BTC-PERP``; None for events of a whole venue, and where it is unknown offline.
    symbol: str | None
    #: Venue's name of the market.
    venue_symbol: str | None
    #: Venue's matching time, else its push time, else None; never a substitute.
    exchange_ns: int | None


class BookSnapshot(Event, tag="book_snapshot", gc=False):
    """Whole book that replaces the consumer's. Sides are best first."""

    bids: list[Level]
    asks: list[Level]
    #: Maximum number of levels a side; None when the feed carries the whole book.
    depth: int | None
    #: The venue's sequence number of this state, where it has one.
    venue_seq: int | None
    cause: Cause = "subscribe"

    @property
    def channel(self) -> Literal["book", "book20"]:
        """Channel that carries it. A book of 20 levels by REST replaces one of ``book``."""
        return "book20" if self.depth == _BOOK20_DEPTH and "rest" not in self.flags else "book"


class BookDelta(Event, tag="book_delta", gc=False):
    """Changed levels with their new absolute sizes, in the venue's order; a size of value zero deletes the level."""

    bids: list[Level]
    asks: list[Level]
    venue_seq: int | None
    prev_venue_seq: int | None
    #: First of the venue's numbers that this change covers, where it covers a range.
    first_venue_seq: int | None = None


class Gap(Event, tag="gap", gc=False):
    """Loss of a book, which is unusable until its next snapshot."""

    #: ``book``: this book alone; ``session``: every book of the connection.
    scope: Literal["book", "session"]
    reason: Reason
    #: Expected and received value, in terms of the venue's continuity rule.
    expected: int | str | None
    got: int | str | None
    action: GapAction


class Bbo(Event, tag="bbo", gc=False):
    """Best bid and offer; an empty side is None."""

    bid_price: str | None
    bid_size: str | None
    ask_price: str | None
    ask_size: str | None


class Trade(Event, tag="trade", gc=False):
    """Public trade."""

    price: str
    size: str
    side: Side
    #: Unique within the market; the key for deduplication.
    trade_id: str
    #: ``trade``, ``liquidation``, ``adl``, ``settlement``, or the venue's own word.
    trade_type: str = "trade"


class Liquidation(Event, tag="liquidation", gc=False):
    """Liquidation, where the venue has a separate stream of them."""

    price: str
    size: str
    side: Side
    trade_id: str
    trade_type: str = "liquidation"


class Mark(Event, tag="mark", gc=False):
    """Mark price, index price and open interest; None where the frame did not carry it."""

    mark_price: str | None
    index_price: str | None
    index_kind: Literal["oracle", "index"] | None
    #: In base units.
    open_interest: str | None
    #: In quote units.
    open_interest_notional: str | None


class Funding(Event, tag="funding", gc=False):
    """Funding rate, as the venue writes it and normalised."""

    #: Decimal fraction for one interval; positive means that longs pay.
    rate: str | None
    #: Venue's text, in ``rate_unit``.
    rate_native: str | None
    #: For example ``fraction_per_interval`` or ``percent_per_hour``.
    rate_unit: str
    interval_s: int | None
    #: ``rate`` times 28 800 over ``interval_s``, 12 places.
    rate_8h: str | None
    #: Time of the next payment; None where the venue accrues continuously or does not publish it.
    next_funding_ns: int | None
    phase: Literal["predicted", "settled"]
    #: Price that the payment is computed with.
    settlement_price_kind: Literal["oracle", "mark", "index", "usdc_oracle_adjusted", "unknown"]
    source: Literal["ws", "rest"] = "ws"
    #: Wall clock of the poll, ns; None for data from the WebSocket.
    polled_ns: int | None = None


class Status(Event, tag="status", gc=False):
    """Change of state of a stream, or of one market of it (``symbol``)."""

    stream: Stream
    state: StreamState
    previous: StreamState | None
    reason: Reason | None
    #: Number of the connection attempt since the last healthy run.
    attempt: int
    #: Delay before the next attempt, s; None when none is planned.
    backoff_s: float | None
    pid: int
    #: Age of the last applied data by symbol, ms; None before the first.
    ages_ms: dict[str, int | None]


class HeartbeatBook(msgspec.Struct, gc=False):
    """State of one of the worker's books, for comparison."""

    #: Last seq of the book's topic that ``crc32_top10`` covers.
    seq: int
    venue_seq: int | None
    usable: bool
    age_ms: int | None
    #: CRC-32 of the ten best levels a side; None while unusable, and in heartbeats that leave it out.
    crc32_top10: int | None


class Heartbeat(Event, tag="heartbeat", gc=False):
    """Heartbeat of every worker, once a second, independent of its streams."""

    #: Last seq of every topic.
    seqs: dict[str, int]
    #: By symbol.
    books: dict[str, HeartbeatBook]
    #: Number of times that a subscriber's pipe was full.
    drops: int
    rss_bytes: int


class Instrument(Event, tag="instrument", gc=False):
    """Venue's listing of a market."""

    #: Price step; None where the venue has no fixed one.
    tick: str | None
    #: Size step.
    lot: str | None
    #: Base units in one unit of size.
    contract_size: str
    #: Units of the base asset in one quoted unit: 1000 for ``kPEPE``. Prices are not rescaled.
    multiplier: int
    quote: str
    #: Venue's numeric or other id, as text.
    market_id: str | None
    funding_interval_s: int | None
    #: ``active``, ``halted``, ``delisted``, or the venue's own word where none of these is certain.
    status: str


#: Statuses of an open order.
_OPEN: Final = frozenset({"open", "untriggered"})


class AccountEvent(Event, gc=False):
    """Event of the desk's own account; only on the worker's account endpoint."""

    #: Account's alias from the configuration; never a key or an address.
    account: str


class Order(AccountEvent, tag="order", gc=False):
    """State of an order of our account."""

    order_id: str
    client_id: str | None
    side: Side
    #: Limit price; None for market orders.
    price: str | None
    #: Size as placed, in base units; ``filled`` of it so far.
    size: str
    filled: str
    status: Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]
    #: The venue's own words for status and type.
    venue_status: str
    order_type: str
    reduce_only: bool
    #: True for state that was requested, False for a change that the venue pushed.
    snapshot: bool = False

    @property
    def is_open(self) -> bool:
        """True while the order is in the book or waits for its trigger."""
        return self.status in _OPEN


class Fill(AccountEvent, tag="fill", gc=False):
    """Fill of our account; ``fill_id`` is unique within venue and account, and published once."""

    fill_id: str
    order_id: str | None
    side: Side
    price: str
    size: str
    #: Positive: paid; negative: a rebate.
    fee: str | None
    fee_asset: str | None
    liquidity: Literal["maker", "taker"] | None
    fill_type: str = "trade"
    snapshot: bool = False


class Position(AccountEvent, tag="position", gc=False):
    """Position of our account; a size of zero means that there is none."""

    #: Signed, base units: positive is long.
    size: str
    entry_price: str | None
    mark_price: str | None
    unrealised_pnl: str | None
    liquidation_price: str | None
    margin_mode: Literal["cross", "isolated"] | None
    snapshot: bool = False


class Balance(AccountEvent, tag="balance", gc=False):
    """Balance of one asset."""

    asset: str
    total: str
    available: str | None
    snapshot: bool = False


class Margin(AccountEvent, tag="margin", gc=False):
    """Margin of the account, in quote units; None where the venue does not publish it."""

    equity: str | None
    available: str | None
    initial_margin: str | None
    maintenance_margin: str | None
    snapshot: bool = False


class Payment(AccountEvent, tag="payment", gc=False):
    """Payment without a fill; ``payment_id`` is unique within venue and account, and published once."""

    payment_id: str
    #: None where the venue does not name the asset.
    asset: str | None
    #: Positive: received.
    amount: str
    #: ``funding``, or the venue's own word.
    payment_type: str
    #: For funding: the rate of the interval, as a fraction.
    rate: str | None = None
    snapshot: bool = False


class ProcessPorts(msgspec.Struct, frozen=True, gc=False):
    """TCP ports of a worker: of its feed, and of its account feed, if it has one."""

    feed: int
    account: int | None


class Lifecycle(Event, tag="lifecycle", gc=False):
    """Event in the life of a process of the system; ``venue`` names the process."""

    #: ``started``, ``live``, ``stale``, ``exited``, ``restarting``, ``killing``, ``unkillable``, ``stopped`` or
    #: ``failed``; ``directory`` for the ports of all workers over TCP, in ``ports``.
    event: str
    reason: Reason | None
    pid: int | None
    generation: int
    exit_code: int | None
    signal: str | None
    #: Delay before the next start, s.
    delay_s: float | None
    #: Deaths since the last healthy run.
    failures: int
    restarts: int
    uptime_s: float | None
    #: By process (``lighter``, ``lighter.b``); left out but by ``directory``.
    ports: dict[str, ProcessPorts] | msgspec.UnsetType = msgspec.UNSET


#: Any event of this schema, distinguished by ``kind``.
AnyEvent: TypeAlias = (
    BookSnapshot
    | BookDelta
    | Gap
    | Bbo
    | Trade
    | Liquidation
    | Mark
    | Funding
    | Status
    | Heartbeat
    | Instrument
    | Order
    | Fill
    | Position
    | Balance
    | Margin
    | Payment
    | Lifecycle
)
