"""Lighter: published channels. Books are sent in batches, chained by the nonces of the matching engine.

Source: Lighter, API documentation, WebSocket reference and rate limits.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from simulator.listing import SimulatedListing
from simulator.market import Batch, LevelChange, Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.schedule import Schedule
from simulator.session import ClientSession, OutgoingFrame
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.lighter import messages
from simulator.venues.lighter.account import LighterAccounts
from simulator.venues.lighter.markets import LighterMarkets, lighter_listings
from simulator.venues.lighter.session import LighterSession
from simulator.wire import Frame, Upgrade, UpgradeRefusal, Wire

_BATCH_S = 0.05
_REPLAYED = 50
_MOST_CONNECTIONS = 255
_MOST_IN_FLIGHT, _FLIGHT_S = 50, 0.1
_CHANNELS = {"order_book": "book", "ticker": "bbo", "trade": "trade", "market_stats": "mark"}


class SimulatedLighter(SimulatedVenue):
    """Simulated Lighter."""

    name: ClassVar[str] = "lighter"
    traffic: ClassVar[Traffic] = Traffic(steady=1.0, batches=1 / _BATCH_S, per_step=0.68)
    bids_open: ClassVar[bytes] = b'"bids":['
    accounts: LighterAccounts

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self.messages = self.rate_limit(200, 60)
        #: Messages are handled instantly, so those within this window count as in flight together.
        self.in_flight = self.rate_limit(_MOST_IN_FLIGHT, _FLIGHT_S * settings.pace)
        self._connects = self.rate_limit(255, 60)
        self._random = random.Random(f"{settings.seed}:lighter:engine")
        self._engine = 23_189_369_000 + self._random.randrange(10**6)
        live = [symbol for symbol, market in self.markets.items() if market.listing.contract.live]
        #: Unpublished changes by symbol; then the last nonce of the engine, and the last one published.
        self._batches = {symbol: Batch() for symbol in live}
        self._nonces = {symbol: self._next_nonce() for symbol in live}
        self._sent_nonces = dict(self._nonces)
        #: Offsets of the books, to which each connection adds its own start.
        self._offsets = dict.fromkeys(self.markets, 0)
        self.catalogue = LighterMarkets(self)

    def listings(self) -> list[SimulatedListing]:
        """Return the perpetuals, and one spot pair."""
        return lighter_listings(self.settings.bases)

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Accept connections on the one path, within the limits."""
        if upgrade.path != "/stream":
            return UpgradeRefusal(404)
        if len(self.sessions) >= _MOST_CONNECTIONS or not self._connects.acquire():
            return UpgradeRefusal(429)
        return LighterSession(self, wire, upgrade, self)

    def not_found(self, _request: HttpRequest) -> HttpResponse:
        """Return the response to an unknown path."""
        return json({"code": 404, "message": "not found"}, 404)

    def failure(self, status: int) -> HttpResponse:
        """Return an error with a code and a message."""
        return json({"code": 23000 if status == 429 else status, "message": "Too Many Requests!"}, status)

    def announce_shutdown(self) -> float:
        """Announce the shutdown, a second ahead."""
        for session in self.sessions:
            session.reply({"type": "shutdown", "close_in_ms": 1000})
        return 1.0

    def start(self) -> None:
        """Start the markets and the batches."""
        super().start()
        self.schedule.every(_BATCH_S, self.flush)

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Add changes to the batch; publish the touch and trades."""
        symbol, number = market.listing.symbol, self.catalogue.id_of(market)
        self._batches[symbol].add(step)
        self._nonces[symbol] = self._next_nonce()
        if step.touch_moved:
            self.publish(f"ticker:{number}", "bbo", market, "data", lambda: self._ticker(market, "update"))
        if step.trades:
            trades = step.trades
            self.publish(f"trade:{number}", "trade", market, "data", lambda: self._trades(market, trades, "update"))

    def on_second(self) -> None:
        """Publish marks and funding; end channels whose token has expired."""
        for number, market in self.catalogue.perpetuals():
            key = f"market_stats:{number}"
            self.publish(key, "mark", market, "data", partial(self._stats, key, market, "update"))
        for session in self.subscriptions.to("market_stats:all"):
            with self.failures.guard("mark"):
                session.push(self._all_stats("update"))
        self.accounts.end_expired()

    def flush(self) -> None:
        """Publish the batches."""
        for symbol in self._batches:
            self._flush_book(self.markets[symbol])

    def book_seq(self, market: Market) -> int | None:
        """Return the nonce that subscribers have after the next batch."""
        return self._nonces.get(market.listing.symbol, 0)

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return a level."""
        return messages.level(market, price, size)

    def bids_in(self, message: Any) -> Levels:
        """Return the bids of a message."""
        return Levels(message["order_book"]["bids"], "price", "size")

    def restart_ids(self) -> None:
        """Restart the engine's nonces."""
        self._engine = self.restarted_id(10**9)
        self._nonces = {symbol: self._next_nonce() for symbol in self._nonces}
        self._sent_nonces = dict(self._nonces)

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return ``trade_id``."""
        return str(messages.trade_id(self.catalogue.id_of(market), trade))

    def key_of(self, channel: str, token: Any) -> str:
        """Return a channel's key: its name with colons.

        Raises:
            LighterApiError: The token or the channel is not accepted.
        """
        try:
            private = self.accounts.key_of(channel, token)
        except ValueError as error:
            raise messages.LighterApiError(30005, f"Invalid Channel:  ({error})") from error
        if private is not None:
            return private
        name, _, target = channel.partition("/")
        if name not in _CHANNELS:
            raise messages.LighterApiError(30005, f"Invalid Channel: {channel}")
        if not (target == "all" and name == "market_stats") and self.catalogue.find(target) is None:
            raise messages.LighterApiError(30005, "Invalid Channel:  (marketId)")
        return f"{name}:{target}"

    def requires_token(self, key: str) -> bool:
        """Return whether a channel is private."""
        return self.accounts.requires_token(key)

    def first_frames(self, session: LighterSession, key: str) -> list[OutgoingFrame]:
        """Return the frames that answer a subscription, with the current state."""
        name, _, target = key.partition(":")
        if name not in _CHANNELS:
            return self.accounts.first_frames(key)
        market = self.catalogue.find(target)
        if market is None:
            return [self._all_stats("subscribed")]
        symbol = market.listing.symbol
        if name == "order_book":
            self._flush_book(market)
            return [OutgoingFrame("book", symbol, "snapshot", self._snapshot(session, market))]
        frames = {
            "ticker": lambda: self._ticker(market, "subscribed"),
            "trade": lambda: self._trades(market, list(market.trades)[-_REPLAYED:], "subscribed"),
            "market_stats": lambda: self._stats(key, market, "subscribed"),
        }
        return [OutgoingFrame(_CHANNELS[name], symbol, "data", frames[name]())]

    def _next_nonce(self) -> int:
        """Return the nonce of the next event of the engine, which all markets share."""
        self._engine += self._random.randint(1, 120)
        return self._engine

    def _flush_book(self, market: Market) -> None:
        """Publish the changes since the last batch; the chain of nonces advances even without subscribers."""
        symbol = market.listing.symbol
        begin, nonce = self._sent_nonces.get(symbol, 0), self._nonces.get(symbol, 0)
        if begin == nonce:
            return
        self._sent_nonces[symbol] = nonce
        self._offsets[symbol] += self._random.randint(1, 3)
        bids, asks = self._batches[symbol].drain()
        for session in self.subscriptions.to(f"order_book:{self.catalogue.id_of(market)}"):
            if isinstance(session, LighterSession):
                with self.failures.guard("book", symbol):
                    frame = self._book(session, market, (bids, asks), begin)
                    session.push(OutgoingFrame("book", symbol, "delta", frame))

    def _book(
        self, session: LighterSession, market: Market, changes: tuple[list[LevelChange], list[LevelChange]], begin: int
    ) -> Frame:
        bids, asks = ([messages.level(market, change.price, change.new) for change in side] for side in changes)
        return self._book_frame(session, market, "update", bids, asks, begin)

    def _snapshot(self, session: LighterSession, market: Market) -> Frame:
        bids, asks = ([messages.level(market, *level) for level in side.top()] for side in (market.bids, market.asks))
        return self._book_frame(session, market, "subscribed", bids, asks, 0)

    def _book_frame(
        self, session: LighterSession, market: Market, word: str, bids: list[Any], asks: list[Any], begin: int
    ) -> Frame:
        symbol, now = market.listing.symbol, self.now_ms()
        updated = now * 1000 - 20_000 if symbol in self._nonces else 0
        offset = session.offset_base + self._offsets[symbol]
        book = {
            "code": 0,
            "asks": asks,
            "bids": bids,
            "offset": offset,
            "nonce": self._sent_nonces.get(symbol, 0),
            "last_updated_at": updated,
            "begin_nonce": begin,
        }
        return self.text(
            {
                "channel": f"order_book:{self.catalogue.id_of(market)}",
                "last_updated_at": updated,
                "offset": offset,
                "order_book": book,
                "timestamp": now,
                "type": f"{word}/order_book",
            }
        )

    def _ticker(self, market: Market, word: str) -> Frame:
        now = self.now_ms()
        ask, bid = (
            messages.level(market, *best) if best else {"price": "", "size": ""}
            for best in (market.asks.best(), market.bids.best())
        )
        return self.text(
            {
                "channel": f"ticker:{self.catalogue.id_of(market)}",
                "last_updated_at": now * 1000,
                "nonce": self._nonces.get(market.listing.symbol, 0),
                "ticker": {"s": market.listing.name, "a": ask, "b": bid, "last_updated_at": now * 1000},
                "timestamp": now,
                "type": f"{word}/ticker",
            }
        )

    def _trades(self, market: Market, trades: Sequence[MarketTrade], word: str) -> Frame:
        """Return trades, newest first; liquidations are listed apart, and an empty list may be null."""
        number = self.catalogue.id_of(market)
        rows = [messages.trade_row(market, number, trade) for trade in reversed(trades)]
        usual = [row for row in rows if row["type"] == "trade"]
        forced = [row for row in rows if row["type"] != "trade"]
        return self.text(
            {
                "channel": f"trade:{number}",
                "liquidation_trades": forced or ([] if len(usual) % 2 else None),
                "nonce": self._nonces.get(market.listing.symbol, 0),
                "trades": usual or None,
                "type": f"{word}/trade",
            }
        )

    def _stats(self, key: str, market: Market, word: str) -> Frame:
        stats = messages.market_stats(market, self.catalogue.id_of(market), self.now_ms())
        return self._stats_frame(key, stats, word)

    def _all_stats(self, word: str) -> OutgoingFrame:
        stats = {
            str(number): messages.market_stats(market, number, self.now_ms())
            for number, market in self.catalogue.perpetuals()
            if word == "subscribed" or self.is_live(market)
        }
        return OutgoingFrame("mark", "", "data", self._stats_frame("market_stats:all", stats, word))

    def _stats_frame(self, key: str, stats: dict[str, Any], word: str) -> Frame:
        value = {"channel": key, "market_stats": stats, "timestamp": self.now_ms(), "type": f"{word}/market_stats"}
        return self.text(value)
