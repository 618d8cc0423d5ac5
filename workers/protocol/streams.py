"""Market streams: one stream of one market, with the state that each part of a worker keeps of it.

A stream outlives connections. Each attribute has one writer:

* identity (``kind``, ``subscription``, ``limit_ns``): none, it is fixed;
* ``state`` and ``reason``: :meth:`MarketStream.change_state`;
* ``listing``, ``applied_ns``, ``is_backlog_due``: the session;
* ``is_published_valid``, ``phase`` and ``recovery``: :mod:`workers.protocol.recovery`;
* ``fetch``: the methods of :class:`workers.protocol.book_fetch.BookFetch`;
* ``feed``, ``cell_offset``, ``histograms_offset``, ``stamped_ns``: the thread that owns the socket, which thereby needs
  no look-up per event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from ipc.health import BOOK_STREAMS, Reason, Stream, StreamState
from ipc.trades import SeenTrades
from workers.protocol.book_fetch import BookFetch
from workers.protocol.book_sync import BookSync
from workers.venues.listing import Listing
from workers.venues.venue import ChannelSubscription, ConnectionSpec, Venue

_NS: Final = 1_000_000_000
_RATES: Final = (Stream.MARK, Stream.FUNDING)
#: A stream with a cadence is mute after this many periods, and not before half a minute.
_MUTE_PERIODS: Final = 10
_MUTE_MIN_NS: Final = 30 * _NS


class BookPhase(Enum):
    """Phase of a book's recovery.

    A book is MISSING until it is published, VALID until it is invalidated, and CROSSED while the venue's own book is.
    From each phase it may enter each other one.
    """

    MISSING = "missing"
    VALID = "valid"
    CROSSED = "crossed"


@dataclass(slots=True)
class RecoveryState:
    """Recovery of one stream; times are monotonic ns."""

    #: Since when the book has been unusable on this connection; 0 while it is usable.
    unusable_since_ns: int = 0
    #: When recovery acts next: it resyncs a lost book, or retries a failed stream.
    next_attempt_ns: int = 0
    #: When the stream was last subscribed again because it was mute.
    resubscribed_ns: int = 0
    #: Silence after which a book is compared with REST; doubles each time REST confirms that the market is quiet.
    quiet_limit_ns: int = 0
    #: When the other line last showed that this book stands still.
    witnessed_ns: int = 0
    #: Connections in a row that ended because this book never arrived.
    book_timeouts: int = 0
    #: True while the book waits for a limit of the venue: of messages, or of requests.
    is_throttled: bool = False


@dataclass(slots=True, eq=False)
class MarketStream:
    """Stream of one market."""

    kind: Stream
    listing: Listing
    subscription: ChannelSubscription
    #: Age at which its data is stale; None for streams that may be silent.
    limit_ns: int | None
    #: The local book, for books.
    book_sync: BookSync | None = None
    #: Trades that were published, for trades.
    seen: SeenTrades = field(default_factory=SeenTrades)
    state: StreamState = StreamState.OFF
    reason: Reason | None = None
    #: When data was last applied; 0 on a new connection.
    applied_ns: int = 0
    #: True while consumers hold a usable book: a snapshot was published, and no gap since.
    is_published_valid: bool = False
    phase: BookPhase = BookPhase.MISSING
    recovery: RecoveryState = field(default_factory=RecoveryState)
    fetch: BookFetch = field(default_factory=BookFetch)
    #: True while the next frame of trades may be history, which some venues send after a subscription.
    is_backlog_due: bool = False
    #: When it was last fetched to be shown while the connection is away.
    last_rest_book_ns: int = 0
    #: The topic's feed.
    feed: Any = None
    #: Offset of the board cell's first word.
    cell_offset: int = 0
    #: Offset of the first word of the histograms that all markets of this kind share.
    histograms_offset: int = 0
    #: Time of the last read whose events were stamped on the board, monotonic.
    stamped_ns: int = 0

    @property
    def symbol(self) -> str:
        """Return our symbol of the market."""
        return str(self.listing.symbol)

    @property
    def is_refused(self) -> bool:
        """True when the market was found to kill its connections, or the venue does not know it."""
        return self.state is StreamState.FAILED and self.reason is Reason.UNKNOWN_MARKET

    @property
    def has_moved(self) -> bool:
        """True when a frame was applied since its last fetch was requested, whose answer then proves nothing."""
        return self.applied_ns >= self.fetch.requested_ns

    def change_state(self, state: StreamState, reason: Reason | None) -> StreamState | None:
        """Set state and reason; return the previous state, or None when nothing changed."""
        if self.state is state and self.reason is reason:
            return None
        previous, self.state, self.reason = self.state, state, reason
        return previous


def market_streams(
    venue: Venue, connection: ConnectionSpec, listings: Sequence[Listing], stale_ns: int
) -> list[MarketStream]:
    """Return the streams of every market that a connection carries; books are stale after ``stale_ns``."""
    streams = []
    for subscription in connection.subscriptions:
        for listing in listings:
            if subscription.symbol not in {None, listing.symbol}:
                continue
            for kind in subscription.streams:
                has_book = kind in BOOK_STREAMS
                book_sync = BookSync(venue.name, str(listing.symbol), venue.continuity) if has_book else None
                limit_ns = _limit_ns(venue, kind, stale_ns)
                streams.append(MarketStream(kind, listing, subscription, limit_ns, book_sync))
    return streams


def _limit_ns(venue: Venue, kind: Stream, stale_ns: int) -> int | None:
    """Return the age at which a stream's data is stale; None where silence means nothing."""
    if kind in BOOK_STREAMS:
        return max(stale_ns, int(venue.continuity.min_stale_s.get(kind, 0) * _NS))
    cadence_s = venue.streams.get(kind)
    if cadence_s is None or kind not in _RATES:
        return None
    return max(_MUTE_MIN_NS, int(_MUTE_PERIODS * cadence_s * _NS))
