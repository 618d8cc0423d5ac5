"""Contract of a venue's public side: data and pure functions, without sockets, clocks or logging.

To add a venue, subclass :class:`Venue` and supply:

* its listings: the REST requests that list the markets, and their parser;
* its connections: which sockets carry which subscriptions, and the keep-alive and message limits that apply;
* its decoder: one frame in, events and control items out, each frame on its own;
* its continuity rule: how a lost book update shows, and how to obtain a whole book again;
* its polls: the REST requests for funding and for books.

Connecting, pacing, recovering books and polling are the same for all venues and happen elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias, TypeVar

import msgspec

from ipc.errors import DecodeError
from ipc.events import BookSnapshot, Event, Level
from ipc.health import Reason, Stream
from workers.venues.listing import Listing, Markets
from workers.venues.rows import InvalidRow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChannelSubscription:
    """Channel subscribed on a connection.

    Attributes:
        key: Name of the subscription in acknowledgements.
        streams: Streams that it carries.
        symbol: None for a subscription to all markets.
        subscribe: Message to send; None where the venue has none because the URL subscribes.
        unsubscribe: Message to send; None likewise.
        alias: Second name, where replies carry only a request id (``id:3``).
    """

    key: str
    streams: tuple[Stream, ...]
    symbol: str | None
    subscribe: bytes | None = None
    unsubscribe: bytes | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """Socket that a venue needs: its URL and its subscriptions.

    Attributes:
        name: Unique within the venue (``main``, ``book.BTC-PERP``).
        url: WebSocket URL.
        subscriptions: Channels on this socket.
        headers: HTTP headers of the upgrade.
        in_url: The URL subscribes everything; the messages serve only to subscribe a single channel again.
        fallback_url: URL for a server that refuses the first one with status 400; None where it has no second.
    """

    name: str
    url: str
    subscriptions: tuple[ChannelSubscription, ...]
    headers: tuple[str, ...] = ()
    in_url: bool = False
    fallback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Pings that keep a connection open and detect a half-open one.

    Attributes:
        interval_s: Time between pings.
        ping: Ping message of the venue; None for a WebSocket ping frame.
        pong_within_s: Without an answer within this time, the connection counts as half open.
    """

    interval_s: float
    ping: bytes | None = None
    pong_within_s: float = 10.0


@dataclass(frozen=True, slots=True)
class VenueLimits:
    """Limits that a venue enforces.

    Attributes:
        burst: Client messages allowed at once.
        messages_per_s: Rate at which ``burst`` refills.
        rest_weight_per_min: REST request weight allowed per minute and IP.
        max_age_s: Age at which the venue closes a connection; it is renewed before.
        max_frame_bytes: Larger frames are rejected.
        messages_per_address: The venue counts messages over all connections of an IP; else per connection.
        connects_per_min: New connections allowed per minute and IP; None where no limit is known.
        markets_on_two_lines: Markets of which two lines fit into the limit of subscriptions of an IP; None for any
            number.
    """

    burst: int
    messages_per_s: float
    rest_weight_per_min: int
    max_age_s: float | None = None
    max_frame_bytes: int = 16 * 1024 * 1024
    messages_per_address: bool = True
    connects_per_min: int | None = None
    markets_on_two_lines: int | None = None


class Rule(Enum):
    """Evidence of a lost book update."""

    #: Every frame is a whole book; only silence shows a loss.
    SNAPSHOTS = "snapshots"
    #: A delta names the sequence number that it follows.
    CHAIN = "chain"
    #: As CHAIN, and the stream is joined to a snapshot fetched by REST.
    BRIDGE = "bridge"
    #: Frames of a connection are numbered without gaps, whatever they carry.
    CONNECTION = "connection"


class Resync(Enum):
    """Cheapest way to obtain a whole book again."""

    #: Unsubscribe, wait for the acknowledgement, subscribe.
    RESUBSCRIBE = "resubscribe"
    #: Fetch a REST snapshot that joins the stream.
    REFETCH = "refetch"
    #: Open a new connection.
    RECONNECT = "reconnect"


@dataclass(frozen=True, slots=True)
class SoftResync:
    """Times of a precautionary refetch: after this much silence of a book, and at most this often."""

    after_s: float
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class Continuity:
    """Continuity rule of a venue's books.

    Attributes:
        rule: How a lost update shows.
        resync: How to recover from it.
        silence_s: For feeds of whole books: silence after which a frame counts as lost, by stream.
        min_stale_s: Least age at which a book is stale, by stream, whatever the settings.
        soft_resync: Fetch a fresh snapshot when a book stops changing (only with ``Resync.REFETCH``); None for never.
    """

    rule: Rule
    resync: Resync
    silence_s: Mapping[Stream, float] = field(default_factory=dict)
    min_stale_s: Mapping[Stream, float] = field(default_factory=dict)
    soft_resync: SoftResync | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """Confirmation of the subscription ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """Confirmation that the subscription ``key`` ended."""

    key: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to our ping message."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping message of the venue, with the reply to send."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Error message of the venue.

    Attributes:
        text: Error text.
        key: Subscription that it concerns, where the frame names one.
        reason: None for errors without effect ("already subscribed").
        fatal: The connection is unusable.
    """

    text: str
    key: str | None = None
    reason: Reason | None = Reason.SUBSCRIBE_ERROR
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """Announcement that the venue will close the connection, in ms."""

    close_in_ms: int


@dataclass(frozen=True, slots=True)
class FrameSeq:
    """Number of a frame on its connection (``Rule.CONNECTION``); precedes the frame's events."""

    seq: int


@dataclass(frozen=True, slots=True)
class RelativeDelta:
    """Book change that gives some levels only as a change of size.

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
    """Book frame of one market that cannot be decoded.

    A book with a level left out would be wrong, so one invalid level invalidates the whole book of ``stream``.
    """

    listing: Listing
    stream: Stream
    error: str


Control: TypeAlias = (
    Ack | Unsubscribed | Pong | Ping | Refused | ServerShutdown | FrameSeq | RelativeDelta | InvalidRow | InvalidBook
)
#: Content of a frame, in its order. A frame without relevant content decodes to an empty list.
Item: TypeAlias = Event | Control


@dataclass(frozen=True, slots=True)
class RestRequest:
    """REST request.

    ``path`` may contain a signature and ``headers`` may contain secrets, so ``repr`` omits them.

    Attributes:
        path: Path and query, appended to the venue's base URL.
        method: HTTP method.
        body: HTTP body.
        weight: Cost against ``VenueLimits.rest_weight_per_min``.
        headers: HTTP headers.
        sign: Returns the request signed for a wall-clock time, ns, where the venue rejects old signatures.
    """

    path: str = field(repr=False)
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    weight: int = 1
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sign: Callable[[int], RestRequest] | None = field(default=None, repr=False, compare=False)

    def made_at(self, now_wall_ns: int) -> RestRequest:
        """Return the request to send now, signed where needed."""
        return self if self.sign is None else self.sign(now_wall_ns)


@dataclass(frozen=True, slots=True)
class Poll:
    """REST request that is repeated until the worker stops.

    Attributes:
        name: Unique within the venue.
        stream: Stream that the answers belong to.
        request: Returns the request for a wall-clock time, ms.
        parse: Returns an answer's events and invalid rows; raises :class:`ipc.errors.DecodeError`.
        symbols: Markets that an answer covers.
        period_s: Time between requests; None for the configured funding period.
    """

    name: str
    stream: Stream
    request: Callable[[int], RestRequest]
    parse: Callable[[bytes], Sequence[Event | InvalidRow]]
    symbols: tuple[str, ...]
    period_s: float | None = None


class Venue(ABC):
    """Public side of a venue. Instances are stateless; one exists per venue."""

    #: Lower case, as in topics.
    name: ClassVar[str]
    #: Name in environment variables: ``PARAPHINA_<env>_STALE_MS``.
    env: ClassVar[str]
    #: Live base URLs; the simulator serves the same paths.
    ws_url: ClassVar[str]
    rest_url: ClassVar[str]
    #: Streams offered by WebSocket, each with its usual time between frames in s (None: on change only).
    streams: ClassVar[Mapping[Stream, float | None]]
    keepalive: ClassVar[Keepalive]
    limits: ClassVar[VenueLimits]
    continuity: ClassVar[Continuity]
    #: True when :meth:`book_request` returns a book by price, complete enough to publish while there is no stream.
    has_rest_book: ClassVar[bool] = True
    #: True when the first frame of trades after a subscription is history that is not marked as such.
    replays_trades: ClassVar[bool] = False
    #: Settings specific to this venue: key to allowed values, the default first.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def listing_requests(self) -> tuple[RestRequest, ...]:
        """Return the requests whose answers together list the venue's markets."""

    @abstractmethod
    def parse_listings(self, bodies: Sequence[bytes]) -> list[Listing | InvalidRow]:
        """Return the perpetuals in the answers to :meth:`listing_requests`, one per base, and the invalid rows.

        Markets without a symbol of ours (``base`` None) are included.

        Raises:
            DecodeError: A body is not a market list.
        """

    @abstractmethod
    def offline_listing(self, wire: str) -> Listing:
        """Return what a wire name alone says of its market."""

    @abstractmethod
    def connections(
        self, listings: Sequence[Listing], ws_url: str, options: Mapping[str, str]
    ) -> tuple[ConnectionSpec, ...]:
        """Return the connections that carry every stream of ``listings``."""

    @abstractmethod
    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets) -> list[Item]:  # noqa: FBT001
        """Return the content of a frame; stateless.

        ``payload`` may be a view of a buffer that is reused: keep no reference to it.

        Raises:
            DecodeError: The frame does not have the documented shape (or RecursionError, ValueError: not JSON).
        """

    @abstractmethod
    def polls(self, listings: Sequence[Listing]) -> tuple[Poll, ...]:
        """Return the requests to repeat: funding always, and what the WebSocket does not carry."""

    @abstractmethod
    def book_request(self, listing: Listing) -> RestRequest:
        """Return the request for a market's book."""

    @abstractmethod
    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """Return the book in an answer to :meth:`book_request`, aggregated by price, best first.

        Raises:
            DecodeError: The body is not a book.
        """

    def retry_after_s(self, status: int, body: bytes, now_ms: int) -> float | None:  # noqa: ARG002
        """Return how long to wait after an HTTP error, s; None when neither its body nor a rule says.

        Args:
            status: HTTP status.
            body: Body of the answer.
            now_ms: Wall-clock time.
        """
        return None


def parsed(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Decode the answer to a REST request.

    Raises:
        DecodeError: The body has another shape; ``what`` names the request.
    """
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed answer to {what}: {error}") from error


def parse_answer(parse: Callable[..., T], *arguments: object) -> T:
    """Call a venue's parser of a REST answer; convert whatever it raises into one error, with its cause.

    Raises:
        DecodeError: The answer is malformed, or the parser has a fault.
    """
    try:
        return parse(*arguments)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"{type(error).__name__} in an answer: {error}") from error


def best_first(bids: list[Level], asks: list[Level]) -> tuple[list[Level], list[Level]]:
    """Sort both sides best first, by value, in place; return them."""
    bids.sort(key=lambda level: float(level[0]), reverse=True)
    asks.sort(key=lambda level: float(level[0]))
    return bids, asks
