"""Extended: published streams, version 1. Every connection is one stream, selected by its URL.

Source: Extended, API documentation, public WebSocket streams; the start with an old snapshot, empty deltas and prices
in several formats as captured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import msgspec

from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import Batch, LevelChange, Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse
from simulator.schedule import Schedule
from simulator.session import ClientSession, Kind
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.extended import messages
from simulator.venues.extended.account import ExtendedAccounts
from simulator.venues.extended.messages import ExtendedMessage
from simulator.venues.extended.session import ACCOUNT_CHANNEL, ExtendedChannel, ExtendedSession
from simulator.wire import Upgrade, UpgradeRefusal, Wire

_ROOT = "/stream.extended.exchange/v1/"
_BATCH_S, _TOUCH_S = 0.1, 0.01
_SNAPSHOT_S, _FUNDING_S = 60, 60
#: An unchanged book sends an empty delta after this many batches.
_QUIET_BATCHES = 10
_REPLAYED_TRADES = 5
_HOUR_MS = 3_600_000
_PATHS = {
    "orderbooks": "book",
    "publicTrades": "trade",
    "prices/mark": "mark",
    "prices/index": "index",
    "funding": "funding",
}


class BookFeed:
    """Published book of one market: the last periodic snapshot, and the deltas since."""

    def __init__(self, market: Market, now_ms: int) -> None:
        self.market = market
        self.batch = Batch()
        self.since_snapshot: list[ExtendedMessage] = [self.snapshot(now_ms)]
        self._quiet = 0

    def snapshot(self, now_ms: int, depth: int | None = None) -> ExtendedMessage:
        """Return the complete book, or its best levels."""
        market = self.market
        bids, asks = (messages.snapshot_levels(market, side.top(depth)) for side in (market.bids, market.asks))
        return self._message("SNAPSHOT", bids, asks, now_ms, "f" if depth is None else str(depth))

    def renew(self, now_ms: int) -> list[ExtendedMessage]:
        """Return the frames of a new minute: an empty delta and a snapshot, where new subscribers start from now on."""
        snapshot = self.snapshot(now_ms)
        self.since_snapshot = [snapshot]
        return [self._message("DELTA", [], [], now_ms), snapshot]

    def delta(self, now_ms: int) -> ExtendedMessage | None:
        """Return the changes since the last delta; an empty delta after a while without changes, else None."""
        self._quiet += 1
        bids, asks = self.batch.drain()
        if not bids and not asks and self._quiet < _QUIET_BATCHES:
            return None
        self._quiet = 0
        changed = messages.delta_levels(self.market, bids), messages.delta_levels(self.market, asks)
        message = self._message("DELTA", *changed, now_ms)
        self.since_snapshot.append(message)
        return message

    def _message(self, word: str, bids: list[Any], asks: list[Any], now_ms: int, depth: str = "f") -> ExtendedMessage:
        data = {"t": word, "m": self.market.listing.name, "b": bids, "a": asks, "d": depth}
        kind: Kind = "delta" if word == "DELTA" else "snapshot"
        return ExtendedMessage(word, msgspec.Raw(msgspec.json.encode(data)), now_ms, kind)


class SimulatedExtended(SimulatedVenue):
    """Simulated Extended."""

    name: ClassVar[str] = "extended"
    #: Mark and index by timer, books in batches, the touch and trades as they happen.
    traffic: ClassVar[Traffic] = Traffic(steady=2.0, batches=1 / _BATCH_S, per_step=0.69)
    bids_open: ClassVar[bytes] = b'"b":['
    accounts: ExtendedAccounts

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        now = schedule.wall_ms()
        self._feeds = {symbol: BookFeed(market, now) for symbol, market in self.markets.items()}
        #: Symbols whose touch changed since it was last published.
        self._moved: dict[str, None] = {}
        #: Books started so far; every other one starts with an old snapshot.
        self._welcomed = 0

    def listings(self) -> list[SimulatedListing]:
        """Return the perpetuals against USD, and one spot market."""
        perps = [_list(contract) for contract in contracts(self.settings.bases)]
        spot = _list(Contract("ETH", contracts(["ETH"])[0].price, activity=0.05), name="ETHSPOT-USD")
        return [*perps, spot]

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Accept a connection, whose path is its subscription."""
        if not upgrade.headers.get("user-agent"):
            return UpgradeRefusal(403)
        if upgrade.path == _ROOT + ACCOUNT_CHANNEL.kind:
            is_known = self.accounts.is_known(upgrade)
            return (
                ExtendedSession(self, wire, upgrade, ACCOUNT_CHANNEL, self.welcome) if is_known else UpgradeRefusal(401)
            )
        channel = self._channel(upgrade)
        return UpgradeRefusal(404) if channel is None else ExtendedSession(self, wire, upgrade, channel, self.welcome)

    def not_found(self, _request: HttpRequest) -> HttpResponse:
        """Return the response to an unknown path."""
        return messages.problem(404, 404, "Not found.")

    def failure(self, status: int) -> HttpResponse:
        """Return an error in the venue's envelope."""
        return messages.problem(status, 1010 if status == 503 else status, "Request failed.")

    def start(self) -> None:
        """Start the markets and the periodic messages."""
        super().start()
        self.schedule.every(_BATCH_S, self._send_deltas)
        self.schedule.every(_TOUCH_S, self._send_touches)
        self.schedule.every(self.scaled(_SNAPSHOT_S), self._renew)
        self.schedule.every(self.scaled(_FUNDING_S), self._publish_funding)

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Add changes to the batch; publish trades."""
        symbol = market.listing.symbol
        self._feeds[symbol].batch.add(step)
        if step.touch_moved:
            self._moved[symbol] = None
        if step.trades:
            self._publish("trade", market, partial(self._trades, market, list(step.trades)))

    def on_second(self) -> None:
        """Publish mark and index."""
        for market in self.listed():
            if self.is_live(market) and not messages.is_spot(market):
                self._publish("mark", market, partial(self._mark, market))
                self._publish("index", market, partial(self._index, market))

    def flush(self) -> None:
        """Publish pending deltas and touches."""
        self._send_deltas()
        self._send_touches()

    def book_seq(self, _market: Market) -> int | None:
        """Return None: each connection counts its own frames."""
        return None

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return a new level."""
        return messages.delta_levels(market, [LevelChange(price, 0, size)])[0]

    def bids_in(self, message: Any) -> Levels:
        """Return the bids of a snapshot."""
        return Levels(message["data"]["b"], "p", "q")

    def restart_ids(self) -> None:
        """Restart the sequence numbers of each connection."""
        for session in self.sessions:
            if isinstance(session, ExtendedSession):
                session.restart()

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return ``i``."""
        return str(messages.trade_id(market, trade))

    def welcome(self, session: ExtendedSession, channel: ExtendedChannel) -> None:
        """Send the current state: the account, or the markets of a channel.

        Every other book starts with the last periodic snapshot and the deltas since, the rest with a new snapshot.
        """
        if channel == ACCOUNT_CHANNEL:
            self.accounts.welcome(session)
            return
        for market in self._markets_of(channel):
            with self.failures.guard(channel.kind, market.listing.symbol):
                for message in self._first_messages(channel.kind, market):
                    session.publish(market.listing.symbol, message)

    def _first_messages(self, kind: str, market: Market) -> list[ExtendedMessage]:
        if kind == "book":
            return self._first_book(market)
        if kind == "touch":
            return [self._feeds[market.listing.symbol].snapshot(self.now_ms(), 1)]
        if messages.is_spot(market) or not self.is_live(market):
            return []
        makers = {"mark": self._mark, "index": self._index, "funding": self._funding}
        if kind in makers:
            return [makers[kind](market)]
        return [self._trades(market, list(market.trades)[-_REPLAYED_TRADES:])]

    def _first_book(self, market: Market) -> list[ExtendedMessage]:
        feed = self._feeds[market.listing.symbol]
        self._send_delta(feed)
        self._welcomed += 1
        return list(feed.since_snapshot) if self._welcomed % 2 == 0 else [feed.snapshot(self.now_ms())]

    def _channel(self, upgrade: Upgrade) -> ExtendedChannel | None:
        """Return the channel that a URL selects; None for an unknown one."""
        path = upgrade.path.removeprefix(_ROOT)
        for root, kind in _PATHS.items():
            market = "" if path == root else path.removeprefix(f"{root}/")
            if path != root and market == path:
                continue
            found = self.find(market)
            if market and found is None:
                return None
            is_touch = kind == "book" and upgrade.query.get("depth") == ["1"]
            return ExtendedChannel("touch" if is_touch else kind, "" if found is None else found.listing.symbol)
        return None

    def _markets_of(self, channel: ExtendedChannel) -> list[Market]:
        return self.listed() if not channel.symbol else [self.markets[channel.symbol]]

    def _publish(self, kind: str, market: Market, make: Callable[[], ExtendedMessage]) -> None:
        """Publish a message to the subscribers of this market and of all markets; build it only if there are any."""
        if self._subscribers(kind, market):
            with self.failures.guard(kind, market.listing.symbol):
                self._send(kind, market, make())

    def _send(self, kind: str, market: Market, message: ExtendedMessage) -> None:
        for session in self._subscribers(kind, market):
            if isinstance(session, ExtendedSession):
                session.publish(market.listing.symbol, message)

    def _subscribers(self, kind: str, market: Market) -> list[ClientSession]:
        to = self.subscriptions.to
        return to(ExtendedChannel(kind, market.listing.symbol)) + to(ExtendedChannel(kind, ""))

    def _send_deltas(self) -> None:
        for feed in self._feeds.values():
            self._send_delta(feed)

    def _send_delta(self, feed: BookFeed) -> None:
        with self.failures.guard("book", feed.market.listing.symbol):
            message = feed.delta(self.now_ms())
            if message is not None:
                self._send("book", feed.market, message)

    def _send_touches(self) -> None:
        moved, self._moved = self._moved, {}
        for symbol in moved:
            feed = self._feeds[symbol]
            self._publish("touch", feed.market, partial(feed.snapshot, self.now_ms(), 1))

    def _renew(self) -> None:
        """Publish complete books."""
        for feed in self._feeds.values():
            self._send_delta(feed)
            with self.failures.guard("book", feed.market.listing.symbol):
                for message in feed.renew(self.now_ms()):
                    self._send("book", feed.market, message)

    def _publish_funding(self) -> None:
        for market in self.listed():
            if self.is_live(market) and not messages.is_spot(market):
                self._publish("funding", market, partial(self._funding, market))

    def _trades(self, market: Market, trades: list[MarketTrade]) -> ExtendedMessage:
        return self._message(None, [messages.trade_row(market, trade) for trade in trades])

    def _mark(self, market: Market) -> ExtendedMessage:
        return self._message("MP", {"m": market.listing.name, "p": messages.fine_price(market.mark_e8), "ts": 0})

    def _index(self, market: Market) -> ExtendedMessage:
        data = {"m": market.listing.name, "p": messages.fine_price(market.index_e8), "ts": self.now_ms()}
        return self._message("IP", data)._replace(more=(("sourceEventId", None),))

    def _funding(self, market: Market) -> ExtendedMessage:
        return self._message(None, messages.funding_row(market, self.now_ms() // _HOUR_MS))

    def _message(self, word: str | None, data: Any) -> ExtendedMessage:
        return messages.message(word, data, self.now_ms())


def _list(contract: Contract, name: str = "") -> SimulatedListing:
    power = contract.price.adjusted()
    base = f"{contract.multiplier}{contract.base}" if contract.multiplier > 1 else contract.base
    return list_market(contract, name or f"{base}-USD", max(0, 4 - power), max(0, power + 1), symbol=name)
