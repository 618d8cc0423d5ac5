"""What a venue is: data and pure functions, without sockets, clocks or logging.

A venue's file says where its markets are listed, which connections and subscriptions carry which streams, how a frame
becomes events, which rule tells that a book update was lost, what keeps a connection alive, and which REST requests
answer for funding and books. Everything that happens in time (connecting, pacing, resyncing, polling) is done for all
venues alike by the session and its threads.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar, Protocol, TypeAlias, TypeVar

import msgspec

from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Instrument, Level
from ipc.health import Reason, Stream
from ipc.topics import symbol_of
from workers.venues.rows import InvalidRow, split_rows

__all__ = [
    "Ack",
    "ChannelSubscription",
    "ConnectionSpec",
    "Continuity",
    "Control",
    "FrameSeq",
    "InvalidBook",
    "Item",
    "Keepalive",
    "Listing",
    "Markets",
    "Ping",
    "Poll",
    "Pong",
    "Refused",
    "RelativeDelta",
    "RestRequest",
    "Resync",
    "Rule",
    "ServerShutdown",
    "SoftResync",
    "Unsubscribed",
    "Venue",
    "VenueLimits",
    "answered",
    "best_first",
    "one_per_base",
    "parsed",
    "split_multiplier",
]

T = TypeVar("T")

_MULTIPLIER = re.compile(r"(k|1000000|10000|1000|1M)(?=[A-Z])")
_NOT_TRADING = frozenset({"halted", "delisted"})
#: What goes into URLs and subscriptions as it is.
_WIRE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
#: Characters that are shown of a name that cannot be carried.
_SHOWN = 64
_UNITS = {"k": 1000, "1000": 1000, "10000": 10_000, "1000000": 1_000_000, "1M": 1_000_000}


def split_multiplier(name: str) -> tuple[str, int]:
    """The base asset behind a contract of many units, and how many: ``kPEPE`` gives ``("PEPE", 1000)``."""
    match = _MULTIPLIER.match(name)
    return (name[match.end() :], _UNITS[match[1]]) if match else (name, 1)


# --- markets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """A market as its venue lists it.

    ``wire`` is how frames name the market (Lighter: the market id); ``venue_symbol`` is the venue's name for people.
    ``base`` is None for a market that cannot be named: offline, or because its name does not fit symbols and topics.
    The rest is as in :class:`ipc.events.Instrument`.
    """

    base: str | None
    wire: str
    venue_symbol: str
    market_id: str | None = None
    tick: str | None = None
    lot: str | None = None
    contract_size: str = "1"
    multiplier: int = 1
    quote: str = "USD"
    funding_interval_s: int | None = None
    #: ``active``, ``halted`` (listed, not trading now), ``delisted`` (gone for good), or the venue's word where it is
    #: not known which of these it means.
    status: str = "active"
    #: Ours, ``BTC-PERP``; made from ``base``.
    symbol: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbol", None if self.base is None else symbol_of(self.base))

    @property
    def is_trading(self) -> bool:
        """Tell whether the market should have a book; a status that is not known stops no market."""
        return self.status not in _NOT_TRADING

    def instrument(self, venue: str) -> Instrument:
        """The event that tells consumers of this market."""
        return Instrument(
            venue,
            self.symbol,
            self.venue_symbol,
            None,
            self.tick,
            self.lot,
            self.contract_size,
            self.multiplier,
            self.quote,
            self.market_id,
            self.funding_interval_s,
            self.status,
        )


class Markets(Protocol):
    """Listings by wire name: a dict of the subscribed ones when live, anything at all when decoding offline."""

    def get(self, wire: str, /) -> Listing | None:
        """The listing behind a wire name; None when it is not one of ours, whose data is then left out."""


# --- connections --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChannelSubscription:
    """One thing that is subscribed on a connection.

    ``key`` is what an acknowledgement names; ``alias`` is its other name where replies carry only a request's id
    (``id:3``). ``symbol`` is None for a subscription to all markets. The messages are what is sent on the socket; None
    where the venue has no such message (the URL subscribes).
    """

    key: str
    streams: tuple[Stream, ...]
    symbol: str | None
    subscribe: bytes | None = None
    unsubscribe: bytes | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """A socket that a venue needs: where it leads and what it carries.

    ``name`` is unique within the venue (``main``, ``book.BTC-PERP``). With ``in_url`` the URL subscribes everything and
    the subscriptions' messages serve only to subscribe one of them anew.
    """

    name: str
    url: str
    subscriptions: tuple[ChannelSubscription, ...]
    headers: tuple[str, ...] = ()
    in_url: bool = False


@dataclass(frozen=True, slots=True)
class Keepalive:
    """What a client must send so that the venue, and it itself, know the connection alive.

    ``ping`` is the venue's own ping message; None means a WebSocket ping frame. A ping goes out every ``interval_s``;
    without an answer within ``pong_within_s`` the connection is taken for half open.
    """

    interval_s: float
    ping: bytes | None = None
    pong_within_s: float = 10.0


@dataclass(frozen=True, slots=True)
class VenueLimits:
    """What a venue allows.

    At most ``burst`` client messages at once, refilled at ``messages_per_s``. ``rest_weight_per_min`` is the request
    budget of one IP. A connection is renewed before it is ``max_age_s`` old. A frame of more than ``max_frame_bytes``
    is refused.
    """

    burst: int
    messages_per_s: float
    rest_weight_per_min: int
    max_age_s: float | None = None
    max_frame_bytes: int = 16 * 1024 * 1024


class Rule(Enum):
    """How a lost book update shows."""

    #: Every frame is the whole book; only its cadence shows a loss.
    SNAPSHOTS = "snapshots"
    #: A delta names the sequence number that it follows.
    CHAIN = "chain"
    #: As CHAIN, and the stream is joined to a snapshot fetched by REST.
    BRIDGE = "bridge"
    #: Frames of a connection are numbered without a hole, whatever they carry.
    CONNECTION = "connection"


class Resync(Enum):
    """The cheapest means a venue has to give a whole book again."""

    #: Unsubscribe, wait for the answer, subscribe.
    RESUBSCRIBE = "resubscribe"
    #: Ask REST for a snapshot that joins the stream.
    REFETCH = "refetch"
    #: A new connection.
    RECONNECT = "reconnect"


@dataclass(frozen=True, slots=True)
class SoftResync:
    """Times of a precautionary refetch: after this much silence of a book, and at most this often."""

    after_s: float
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class Continuity:
    """Continuity rule of a venue's books.

    ``silence_s`` is, for feeds of whole books, how long one may be silent before a frame counts as lost; it is given by
    stream. ``min_stale_s`` is the least age at which a book is stale, by stream, whatever the settings say.
    ``soft_resync`` fetches a silent book (only with ``Resync.REFETCH``); None for never.
    """

    rule: Rule
    resync: Resync
    silence_s: Mapping[Stream, float] = field(default_factory=dict)
    min_stale_s: Mapping[Stream, float] = field(default_factory=dict)
    soft_resync: SoftResync | None = None


# --- what a frame holds -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ack:
    """The venue accepted the subscription ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The venue dropped the subscription ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping message of ours."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The venue's ping message, and what to answer."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue refused something.

    ``key`` names the subscription when the frame tells it. ``reason`` is None for refusals that harm nothing
    ("already subscribed"). ``fatal`` means that the connection is of no more use.
    """

    text: str
    key: str | None = None
    reason: Reason | None = Reason.SUBSCRIBE_ERROR
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """The venue announces that it will close the connection."""

    close_in_ms: int


@dataclass(frozen=True, slots=True)
class FrameSeq:
    """The number of this frame on its connection (``Rule.CONNECTION``); comes before the frame's events."""

    seq: int


@dataclass(frozen=True, slots=True)
class RelativeDelta:
    """A book change with levels whose new size the frame does not say, only by how much it changed.

    A level is (price, absolute size, change); the size is None where only the change is known.
    """

    listing: Listing
    exchange_ns: int | None
    bids: list[tuple[str, str | None, str]]
    asks: list[tuple[str, str | None, str]]
    venue_seq: int | None
    prev_venue_seq: int | None


@dataclass(frozen=True, slots=True)
class InvalidBook:
    """A frame of one market's book that cannot be decoded.

    A level that cannot be read is no row that could be left out: the book is lost with it. ``stream`` is the book's.
    """

    listing: Listing
    stream: Stream
    error: str


Control: TypeAlias = (
    Ack | Unsubscribed | Pong | Ping | Refused | ServerShutdown | FrameSeq | RelativeDelta | InvalidRow | InvalidBook
)
#: What a frame decodes to, in its order. Frames that carry nothing for us decode to nothing.
Item: TypeAlias = Event | Control


# --- REST ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A REST request: ``path`` goes behind the venue's base URL; ``weight`` counts against the venue's budget.

    ``path`` may hold a signature in its query and ``headers`` may hold secrets, so a request is never shown whole.
    ``sign`` makes of it what is sent at a wall-clock time, ns, where the venue takes none that was signed long ago.
    """

    path: str = field(repr=False)
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    weight: int = 1
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sign: Callable[[int], RestRequest] | None = field(default=None, repr=False, compare=False)

    def made_at(self, now_wall_ns: int) -> RestRequest:
        """What is sent now."""
        return self if self.sign is None else self.sign(now_wall_ns)


@dataclass(frozen=True, slots=True)
class Poll:
    """A REST request that is repeated for ever.

    ``request(now_ms)`` makes it for a wall-clock time. ``parse(body)`` gives the events of one answer and its invalid
    rows, and raises :class:`ipc.errors.DecodeError` when the body is not what it should be. ``period_s`` None means the
    configured funding period. ``symbols`` are the markets that it answers for.
    """

    name: str
    stream: Stream
    request: Callable[[int], RestRequest]
    parse: Callable[[bytes], Sequence[Event | InvalidRow]]
    symbols: tuple[str, ...]
    period_s: float | None = None


# --- the venue ----------------------------------------------------------------------------------------------------


class Venue(ABC):
    """A venue's public side. Instances are stateless; one exists per venue."""

    #: Lower case, as in topics.
    name: ClassVar[str]
    #: The venue's word in environment variables: ``PARAPHINA_<env>_STALE_MS``.
    env: ClassVar[str]
    #: Live base URLs; the simulator's have the same paths.
    ws_url: ClassVar[str]
    rest_url: ClassVar[str]
    #: Every stream that the venue offers by WebSocket, with its usual time between frames in s (None: on change only).
    streams: ClassVar[Mapping[Stream, float | None]]
    keepalive: ClassVar[Keepalive]
    limits: ClassVar[VenueLimits]
    continuity: ClassVar[Continuity]
    #: Whether :meth:`book_request` gives a book by price, whole enough to show while there is no stream.
    has_rest_book: ClassVar[bool] = True
    #: Whether the first frame of trades after a subscription is unmarked history.
    replays_trades: ClassVar[bool] = False
    #: Settings of this venue alone: key to allowed values, the first being the default.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def listing_requests(self) -> tuple[RestRequest, ...]:
        """The requests whose answers together list the venue's markets."""

    @abstractmethod
    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """The perpetuals that the venue lists, one a base (where it has several, the one a desk means).

        Among them are those that cannot be named (``base`` None), and the rows that cannot be read.

        Raises:
            DecodeError: A body is not a market list.
        """

    @abstractmethod
    def offline_listing(self, wire: str) -> Listing:
        """What can be said of a market from its wire name alone."""

    @abstractmethod
    def connections(
        self, listings: Sequence[Listing], ws_url: str, options: Mapping[str, str]
    ) -> tuple[ConnectionSpec, ...]:
        """The connections that carry every stream of ``listings``."""

    @abstractmethod
    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: FBT001
        """What a frame holds; stateless, each frame by itself.

        Nothing of ``payload`` may be kept: it is a view of a buffer that is used again.

        Raises:
            DecodeError: The frame does not have the documented shape (or, as RecursionError or ValueError, is no JSON).
        """

    @abstractmethod
    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """The REST requests to repeat: funding always, and what the WebSocket does not give."""

    @abstractmethod
    def book_request(self, listing: Listing) -> RestRequest:
        """The request for a market's book."""

    @abstractmethod
    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """The book in an answer to :meth:`book_request`, aggregated by price, best first.

        Raises:
            DecodeError: The body is not a book.
        """

    def retry_after_s(self, status: int, body: bytes, now_ms: int) -> float | None:  # noqa: ARG002
        """How long to wait after an error, s, at a wall-clock time; None when neither its body nor a rule says."""
        return None


def parsed(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The answer ``body`` of a REST request, as ``decoder`` types it.

    Raises:
        DecodeError: The body is something else; ``what`` names what was asked for.
    """
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed answer to {what}: {error}") from error


def answered(parse: Callable[..., T], *arguments: object) -> T:
    """Call a venue's parser of a REST answer; whatever it raises becomes one error, with its cause.

    Raises:
        DecodeError: The answer is not what it should be, or the parser has a fault.
    """
    try:
        return parse(*arguments)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"{type(error).__name__} in an answer: {error}") from error


def one_per_base(rows: Sequence[Listing | InvalidRow]) -> list[Listing | InvalidRow]:
    """Choose the contract that each base stands for: not delisted, then of the fewest units, then trading now.

    Behind them come the markets that cannot be named, by their base or in a URL, with ``base`` None, and invalid rows.
    """
    listings, invalid = split_rows(rows)
    named: list[Listing] = []
    nameless: list[Listing | InvalidRow] = []
    for listing in listings:
        if listing.base is not None and _WIRE.fullmatch(listing.wire):
            named.append(listing)
        else:
            nameless.append(replace(listing, base=None, venue_symbol=listing.venue_symbol[:_SHOWN]))
    chosen: dict[str | None, Listing] = {}
    for listing in sorted(named, key=lambda one: (one.status == "delisted", one.multiplier, not one.is_trading)):
        chosen.setdefault(listing.base, listing)
    return [*chosen.values(), *nameless, *invalid]


def best_first(bids: list[Level], asks: list[Level]) -> tuple[list[Level], list[Level]]:
    """Both sides sorted best first, by value."""
    bids.sort(key=lambda level: float(level[0]), reverse=True)
    asks.sort(key=lambda level: float(level[0]))
    return bids, asks
