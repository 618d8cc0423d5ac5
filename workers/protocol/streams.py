"""Routes: where the events of one stream of one market go, and what the session knows of that stream.

A route outlives connections. The session decides with it; the thread that obeys keeps the topic and the board cell in
it, so that the hot path needs no look-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ipc.health import Reason, Stream, StreamState
from ipc.trades import SeenTrades
from workers.protocol.book_sync import BookSync
from workers.venues.venue import ChannelSubscription, Listing

__all__ = ["MarketStream"]


@dataclass(slots=True, eq=False)
class MarketStream:
    """One stream of one market."""

    stream: Stream
    listing: Listing
    subscription: ChannelSubscription
    #: How old its data may become; None for streams that may be silent.
    limit_ns: int | None
    #: For books.
    keeper: BookSync | None = None
    #: For trades.
    seen: SeenTrades = field(default_factory=SeenTrades)
    state: StreamState = StreamState.OFF
    reason: Reason | None = None
    #: When data of it was last applied; 0 on a new connection.
    applied_ns: int = 0
    #: Whether consumers take the book for usable: a snapshot was published and no gap since.
    is_published_valid: bool = False
    #: Since when the book is unusable on this connection.
    unusable_since_ns: int = 0
    #: When a resync of it that shows no result is tried again.
    retry_ns: int = 0
    #: When it was last asked for by REST, and whether the answer is still out.
    fetched_ns: int = 0
    is_fetching: bool = False
    #: Fetches in a row that gave no book that could be joined.
    fetch_failures: int = 0
    #: Whether REST gave no book because that was over the venue's limit.
    is_limited: bool = False
    #: Whether the question to REST still waits for those of other books; written by who asks and who answers.
    is_queued: bool = False
    #: Whether the book waits for what the venue allows, in messages or in requests, or for REST to be asked.
    is_throttled: bool = False
    #: When it was last asked for by REST to be shown while the connection is away.
    last_rest_book_ns: int = 0
    #: When it was last subscribed anew for being mute.
    resubscribed_ns: int = 0
    #: The limit, doubled each time REST confirmed that the market is only quiet.
    quiet_limit_ns: int = 0
    #: Connections in a row that ended for want of this one book.
    book_timeouts: int = 0
    #: The first frame of trades after a subscription is history on some venues.
    is_backlog_due: bool = False
    # For the thread that obeys: the topic's feed, and the first word of the board cell.
    feed: Any = None
    at: int = 0

    @property
    def symbol(self) -> str:
        """Our symbol of the market."""
        return str(self.listing.symbol)
