"""Event schema version 1: what a consumer receives, one msgspec type a kind.

Prices, sizes and rates are the venue's own decimal text; no float stands between the venue and the consumer. Times are
integer nanoseconds. What is not known is ``None``. Ids are text. A reader ignores keys that it does not know; adding an
optional field keeps the version, anything else makes a new one.

The fields that a decoder knows come first and are given by position (twice as fast as by name, and this is the hot
path); the stamps are filled in by the publisher.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ipc.health import Reason, Stream, StreamState

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
Flag: TypeAlias = Literal["refresh", "backlog", "replay", "rest", "crossed_by_venue"]
#: Why a snapshot was sent.
Cause: TypeAlias = Literal["subscribe", "resync", "refresh", "rest", "rotation"]
#: What the worker does about a gap.
GapAction: TypeAlias = Literal["resync", "resubscribe", "reconnect", "none"]


class _Stamps(msgspec.Struct, kw_only=True, tag_field="kind", gc=False):
    """What the publisher adds: who sent it, in which order, and when."""

    #: Version of the schema.
    schema: int = SCHEMA
    #: Life of the publisher: strictly increasing, close to its start in wall-clock ns.
    epoch: int = 0
    #: Position within the topic and epoch, from 1 without a hole.
    seq: int = 0
    #: Wall clock when the frame was read from the socket, ns.
    recv_ns: int = 0
    #: Monotonic clock at the same moment, ns; comparable between processes of one boot.
    recv_mono_ns: int = 0
    #: Wall clock when the event was handed to the socket, ns.
    publish_ns: int = 0
    flags: tuple[Flag, ...] = ()


class Event(_Stamps, gc=False):
    """What every event carries beside its stamps."""

    venue: str
    #: Ours, ``BTC-PERP``; None for events of a whole venue, and where a market cannot be named offline.
    symbol: str | None
    #: The venue's own name of the market.
    venue_symbol: str | None
    #: The venue's matching time, else its push time, else None. Never faked.
    exchange_ns: int | None


class BookSnapshot(Event, tag="book_snapshot", gc=False):
    """Whole book that replaces the consumer's. Sides are best first."""

    bids: list[Level]
    asks: list[Level]
    #: Levels a side that this feed carries at most; None when it carries the whole book.
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
    """From here to the next snapshot the book is unusable."""

    #: ``book``: this one alone; ``session``: every book of the connection.
    scope: Literal["book", "session"]
    reason: Reason
    #: What the continuity rule asked for, and what came, in the rule's own terms.
    expected: int | str | None
    got: int | str | None
    action: GapAction


class Bbo(Event, tag="bbo", gc=False):
    """Best bid and offer; a side that is empty is None."""

    bid_price: str | None
    bid_size: str | None
    ask_price: str | None
    ask_size: str | None


class Trade(Event, tag="trade", gc=False):
    """A public trade."""

    price: str
    size: str
    side: Side
    #: Unique within the market; the key to deduplicate by.
    trade_id: str
    #: ``trade``, ``liquidation``, ``adl``, ``settlement``, or the venue's own word.
    trade_type: str = "trade"


class Liquidation(Event, tag="liquidation", gc=False):
    """A liquidation, where the venue has a stream of its own for them."""

    price: str
    size: str
    side: Side
    trade_id: str
    trade_type: str = "liquidation"


class Mark(Event, tag="mark", gc=False):
    """Mark price, index price and open interest; what this frame did not carry is None."""

    mark_price: str | None
    index_price: str | None
    index_kind: Literal["oracle", "index"] | None
    #: In base units.
    open_interest: str | None
    #: In quote units.
    open_interest_notional: str | None


class Funding(Event, tag="funding", gc=False):
    """A funding rate, in the venue's words and normalised."""

    #: Decimal fraction for one interval; positive means that longs pay.
    rate: str | None
    #: The venue's own text, in ``rate_unit``.
    rate_native: str | None
    #: For example ``fraction_per_interval`` or ``percent_per_hour``.
    rate_unit: str
    interval_s: int | None
    #: ``rate`` times 28 800 over ``interval_s``, 12 places.
    rate_8h: str | None
    #: When it is paid next; None where the venue accrues continuously or does not say.
    next_funding_ns: int | None
    phase: Literal["predicted", "settled"]
    #: Which price the payment is computed with.
    settlement_price_kind: Literal["oracle", "mark", "index", "usdc_oracle_adjusted", "unknown"]
    source: Literal["ws", "rest"] = "ws"
    #: Wall clock of the poll, ns; None for what came by WebSocket.
    polled_ns: int | None = None


class Status(Event, tag="status", gc=False):
    """A stream, or one market of it (``symbol``), changed its state."""

    stream: Stream
    state: StreamState
    previous: StreamState | None
    reason: Reason | None
    #: Number of the connection attempt since the last healthy run.
    attempt: int
    #: Delay before the next attempt, s; None when none is planned.
    backoff_s: float | None
    pid: int
    #: Age of the last applied data, by symbol, ms; None where there was none.
    ages_ms: dict[str, int | None]


class HeartbeatBook(msgspec.Struct, gc=False):
    """What the worker holds of one book, to compare with."""

    #: Last seq of the book's topic that ``crc32_top10`` covers.
    seq: int
    venue_seq: int | None
    usable: bool
    age_ms: int | None
    #: CRC-32 of the ten best levels a side; None while unusable, and in heartbeats that leave it out.
    crc32_top10: int | None


class Heartbeat(Event, tag="heartbeat", gc=False):
    """Once a second from every worker, whatever its streams do."""

    #: Last seq of every topic.
    seqs: dict[str, int]
    #: By symbol.
    books: dict[str, HeartbeatBook]
    #: Times that a subscriber's pipe was full.
    drops: int
    rss_bytes: int


class Instrument(Event, tag="instrument", gc=False):
    """What the venue lists of a market."""

    #: Price step; None where the venue has none that is fixed.
    tick: str | None
    #: Size step.
    lot: str | None
    #: Base units that one unit of size stands for.
    contract_size: str
    #: Units of the base asset in one quoted unit: 1000 for ``kPEPE``. Prices are not rescaled.
    multiplier: int
    quote: str
    #: The venue's numeric or other id, as text.
    market_id: str | None
    funding_interval_s: int | None
    #: ``active``, ``halted``, ``delisted``, or the venue's own word where it is none of these for sure.
    status: str


#: What an order is that is not over.
_OPEN: Final = frozenset({"open", "untriggered"})


class AccountEvent(Event, gc=False):
    """What concerns the desk's own account; only on the worker's account endpoint."""

    #: The account's alias from the configuration; never a key or an address.
    account: str


class Order(AccountEvent, tag="order", gc=False):
    """The state of an order of ours."""

    order_id: str
    client_id: str | None
    side: Side
    #: Limit price; None for market orders.
    price: str | None
    #: As placed, in base units; ``filled`` of it so far.
    size: str
    filled: str
    status: Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]
    #: The venue's own words for status and type.
    venue_status: str
    order_type: str
    reduce_only: bool
    #: From the state that the venue told on request, not from a change that it pushed.
    snapshot: bool = False

    @property
    def is_open(self) -> bool:
        """Tell whether it is alive: in the book, or waiting for its trigger."""
        return self.status in _OPEN


class Fill(AccountEvent, tag="fill", gc=False):
    """A fill of ours; ``fill_id`` is unique within venue and account, and comes once."""

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
    """A position of ours; a size of zero means that there is none."""

    #: Signed, base units: positive is long.
    size: str
    entry_price: str | None
    mark_price: str | None
    unrealised_pnl: str | None
    liquidation_price: str | None
    margin_mode: Literal["cross", "isolated"] | None
    snapshot: bool = False


class Balance(AccountEvent, tag="balance", gc=False):
    """What the account holds of an asset."""

    asset: str
    total: str
    available: str | None
    snapshot: bool = False


class Margin(AccountEvent, tag="margin", gc=False):
    """The account's margin, in quote units; what the venue does not say is None."""

    equity: str | None
    available: str | None
    initial_margin: str | None
    maintenance_margin: str | None
    snapshot: bool = False


class Payment(AccountEvent, tag="payment", gc=False):
    """Money that came or went without a fill; ``payment_id`` is unique within venue and account, and comes once."""

    payment_id: str
    #: None where the venue does not say what was paid in.
    asset: str | None
    #: Positive: received.
    amount: str
    #: ``funding``, or the venue's own word.
    payment_type: str
    #: For funding: the rate of the interval, as a fraction.
    rate: str | None = None
    snapshot: bool = False


class Lifecycle(Event, tag="lifecycle", gc=False):
    """Something happened to a process of the system; ``venue`` names the process."""

    #: ``started``, ``live``, ``stale``, ``exited``, ``restarting``, ``killing``, ``unkillable``, ``stopped`` or
    #: ``failed``.
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


#: Any event of this schema, told apart by ``kind``.
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
