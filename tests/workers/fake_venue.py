"""A venue that exists only here: its frames are whatever a test says, its rules are what a test gives it."""

from __future__ import annotations

import copy
import json
from types import MappingProxyType

from ipc.errors import DecodeError
from ipc.events import Bbo, BookDelta, BookSnapshot, Funding, Mark, Trade
from ipc.health import Stream
from workers.venues.listing import Listing
from workers.venues.venue import (
    ChannelSubscription,
    ConnectionSpec,
    Continuity,
    Keepalive,
    Poll,
    RestRequest,
    Resync,
    Rule,
    Venue,
    VenueLimits,
)

__all__ = ["BTC", "ETH", "FakeVenue", "bbo", "delta", "mark", "snapshot", "subscription", "trade"]

NAME = "lighter"  # topics and board know only the real ones
BTC, ETH = Listing("BTC", "1", "BTC-USD", market_id="1"), Listing("ETH", "2", "ETH-USD", market_id="2")
FUNDING_PATH = "/funding"


def snapshot(seq=1, bids=(("100", "1"),), asks=(("101", "1"),), *, symbol="BTC-PERP", ns=None, depth=None):
    return BookSnapshot(NAME, symbol, symbol, ns, list(bids), list(asks), depth, seq)


def delta(seq, prev, bids=(), asks=(), *, symbol="BTC-PERP", ns=None):
    return BookDelta(NAME, symbol, symbol, ns, list(bids), list(asks), seq, prev)


def trade(trade_id, *, symbol="BTC-PERP", ns=None):
    return Trade(NAME, symbol, symbol, ns, "100.5", "2", "buy", trade_id)


def mark(price="100.5", *, symbol="BTC-PERP"):
    return Mark(NAME, symbol, symbol, None, price, None, None, None, None)


def bbo(*, symbol="BTC-PERP"):
    return Bbo(NAME, symbol, symbol, None, "100", "1", "101", "1")


def subscription(symbol, *streams, can_leave=True, **changes):
    """A subscription with messages that say what they do: ``+book.BTC-PERP``."""
    key = f"{streams[0]}.{symbol}"
    leave = f"-{key}".encode() if can_leave else None
    return ChannelSubscription(
        key, streams, symbol, **{"subscribe": f"+{key}".encode(), "unsubscribe": leave, **changes}
    )


class FakeVenue(Venue):
    """Give it other attributes by name: ``FakeVenue(replays_trades=True)``.

    :meth:`frame` makes the message that decodes to given items.
    """

    name = NAME
    env = "TEST"
    ws_url = "ws://venue.test"
    rest_url = "http://venue.test"
    streams = MappingProxyType({Stream.BOOK: None, Stream.BBO: None, Stream.TRADE: None, Stream.MARK: 1.0})
    keepalive = Keepalive(20.0, b"ping", 10.0)
    limits = VenueLimits(burst=100, messages_per_s=100, rest_weight_per_min=1200)
    continuity = Continuity(Rule.CHAIN, Resync.RESUBSCRIBE)

    def __init__(self, **attributes):
        self._frames = []
        self.can_leave = True
        for name, value in attributes.items():
            setattr(self, name, value)

    def frame(self, *items):
        self._frames.append(items)
        return f"frame {len(self._frames) - 1}".encode()

    def decode(self, payload, binary, markets):  # noqa: ARG002 - the interface of a venue
        try:
            return copy.deepcopy(list(self._frames[int(bytes(payload).removeprefix(b"frame "))]))
        except (ValueError, IndexError) as error:
            raise DecodeError("not a frame of this venue") from error

    def connections(self, listings, ws_url, options):  # noqa: ARG002 - the interface of a venue
        subscriptions = [
            subscription(listing.symbol, stream, can_leave=self.can_leave)
            for listing in listings
            for stream in self.streams
        ]
        return (ConnectionSpec("main", f"{ws_url}/feed", tuple(subscriptions)),)

    def offline_listing(self, wire):
        return Listing(None, wire, wire)

    def listing_requests(self):
        return (RestRequest("/markets"),)

    def parse_listings(self, bodies):
        try:
            return [Listing(base, f"{base}-wire", f"{base}-USD") for base in json.loads(bodies[0])]
        except ValueError as error:
            raise DecodeError(f"not a list: {error}") from error

    def polls(self, listings):
        symbols = tuple(listing.symbol for listing in listings)
        return (Poll("funding", Stream.FUNDING_POLL, lambda _: RestRequest(FUNDING_PATH), self.parse_funding, symbols),)

    def parse_funding(self, body):
        try:
            rates = json.loads(body)
        except ValueError as error:
            raise DecodeError(f"not rates: {error}") from error
        return [
            Funding(self.name, symbol, symbol, None, rate, rate, "x", 3600, None, None, "predicted", "mark", "rest")
            for symbol, rate in rates.items()
        ]

    def book_request(self, listing):
        return RestRequest(f"/book/{listing.symbol}", weight=5)

    def parse_book(self, body, listing):
        try:
            seq = int(body)
        except ValueError as error:
            raise DecodeError(f"not a book: {error}") from error
        return snapshot(seq, symbol=listing.symbol)
