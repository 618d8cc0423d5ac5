"""Paradex: published channels, as JSON or binary, per connection.

Source: Paradex, WebSocket documentation, channels and binary encoding; misspelt channels that stay silent, and empty
deltas that are counted, as captured.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, ClassVar

import msgspec

from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import LevelChange, Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse
from simulator.schedule import Schedule
from simulator.session import ClientSession
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.paradex import messages, sbe
from simulator.venues.paradex.account import ParadexAccounts
from simulator.venues.paradex.session import WORDS, ChannelMessage, ParadexChannel, ParadexSession
from simulator.wire import Frame, Upgrade, UpgradeRefusal, Wire

_SNAPSHOT_DEPTH = 15
_FUNDING_EVERY = 5
_SNAPSHOT = re.compile(r"(snapshot|interactive)@15@(50|100|200|400)ms(@[0-9_]+)?")
_SILENT = frozenset({"markets", "funding_rate_comparison"})


class SimulatedParadex(SimulatedVenue):
    """Simulated Paradex."""

    name: ClassVar[str] = "paradex"
    #: Summary and funding by timer; deltas (also empty ones), the touch and trades as they happen.
    traffic: ClassVar[Traffic] = Traffic(steady=1.2, batches=0, per_step=2.1)
    bids_open: ClassVar[bytes] = b'"inserts":['
    accounts: ParadexAccounts

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self._random = random.Random(f"{settings.seed}:paradex:empty")
        #: Last sequence number by symbol.
        self._seqs = {symbol: 8_106_000_000 + 10**7 * n for n, symbol in enumerate(self.markets)}
        self._connects = (self.rate_limit(20, 1), self.rate_limit(600, 60))
        self._seconds = 0
        option = self.markets[messages.OPTION]
        for price in option.asks.prices():
            option.asks.put(price, 0)

    def listings(self) -> list[SimulatedListing]:
        """Return the perpetuals, and an option whose book has bids only."""
        perps = [_list(contract) for contract in contracts(self.settings.bases)]
        worth = replace(contracts(["BTC"])[0], price=contracts(["BTC"])[0].price / 20, activity=0.0)
        return [*perps, _list(worth, name=messages.OPTION)]

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Accept a connection; its query selects the encoding."""
        if upgrade.path != "/v1":
            return UpgradeRefusal(404)
        if not all(limit.acquire() for limit in self._connects):
            return UpgradeRefusal(429)
        schema, version = (upgrade.query.get(name, [None])[0] for name in ("sbeSchemaId", "sbeSchemaVersion"))
        if schema is None and version is None:
            return ParadexSession(self, wire, upgrade, None, self)
        if schema != str(sbe.SCHEMA) or version is None or not version.isdecimal():
            return UpgradeRefusal(400)
        if int(version) > self.settings.sbe_version and self.settings.refuses_newer_sbe:
            return UpgradeRefusal(400)
        return ParadexSession(self, wire, upgrade, min(int(version), self.settings.sbe_version), self)

    def not_found(self, _request: HttpRequest) -> HttpResponse:
        """Return the response to an unknown path."""
        return messages.problem(404, "NOT_FOUND", "not found")

    def failure(self, status: int) -> HttpResponse:
        """Return an error with an upper-case word."""
        word = {429: "RATE_LIMIT_EXCEEDED", 503: "SERVICE_UNAVAILABLE"}.get(status, "INTERNAL_ERROR")
        return messages.problem(status, word, "request failed")

    def start(self) -> None:
        """Start the markets and the snapshots of 15 levels."""
        super().start()
        for period_ms in (50, 100, 200, 400):
            self.schedule.every(period_ms / 1000, partial(self._send_snapshots, period_ms))

    def find(self, name: str) -> Market | None:
        """Return the market of that name, unless it was delisted."""
        market = super().find(name)
        return market if market is not None and self.is_live(market) else None

    def listed(self) -> list[Market]:
        """Return the markets of the catalogue without delisted ones."""
        return [market for market in super().listed() if self.is_live(market)]

    def text(self, value: Any) -> Frame:
        """Return a text frame, which ends with a newline."""
        return Frame(msgspec.json.encode(value) + b"\n")

    def garbage(self, session: ClientSession) -> Frame:
        """Return binary noise after a valid header where data is binary."""
        if isinstance(session, ParadexSession) and session.version is not None:
            return Frame(sbe.book(session.version, 1, 1, ([(1, 1)], []), "", is_delta=True)[:60], is_binary=True)
        return super().garbage(session)

    def corrupt(self, frame: Frame) -> Frame | None:
        """Return a book frame with garbage, or null, for the first price."""
        if not frame.is_binary:
            return super().corrupt(frame)
        payload = sbe.without_first_price(frame.payload)
        return None if payload is None else Frame(payload, is_binary=True)

    def parse(self, name: str) -> ParadexChannel:
        """Return a channel from its name.

        Raises:
            ValueError: The venue rejects it; the text is the reason.
        """
        private = self.accounts.parse(name)
        if private is not None:
            return private
        topic, *rest = name.split(".")
        if topic in _SILENT or (topic in {"markets_summary", "funding_data"} and not rest):
            return ParadexChannel(name, topic)
        if topic not in WORDS or not rest or not (rest[0] == "ALL" or self.find(rest[0])):
            raise ValueError("invalid channel")
        market = "" if rest[0] == "ALL" else rest[0]
        if topic == "order_book":
            return ParadexChannel(name, topic, market, _flavour(rest[1:]))
        # An unknown suffix is acknowledged, and silent.
        known = rest[1:] == [] or (topic == "bbo" and rest[1:] == ["interactive"])
        return ParadexChannel(name, topic if known else "other", market)

    def login_error(self, bearer: Any) -> tuple[int, str] | None:
        """Return code and text of the error for a bearer token; None for a valid one."""
        return self.accounts.login_error(bearer)

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Publish the step, and now and then an empty delta."""
        self._send_delta(market, step.bids, step.asks)
        if self._random.random() < 0.4:
            self._send_delta(market, (), ())
        if step.touch_moved:
            self._publish(market, "bbo", partial(self._bbo, market))
        for trade in step.trades:
            self._publish(market, "trades", partial(self._trade, market, trade))

    def on_second(self) -> None:
        """Publish prices, and every few seconds funding."""
        self._seconds += 1
        for market in self.listed():
            self._publish(market, "markets_summary", partial(self._summary, market))
            if self._seconds % _FUNDING_EVERY == 0 and not messages.is_option(market):
                self._publish(market, "funding_data", partial(self._funding, market))

    def flush(self) -> None:
        """Publish the snapshots of books that changed."""
        for period_ms in (50, 100, 200, 400):
            self._send_snapshots(period_ms)

    def book_seq(self, market: Market) -> int:
        """Return the sequence number of the market."""
        return self._seqs[market.listing.symbol]

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return an inserted level."""
        return messages.level_json(market, "BUY", price, size)

    def with_bid(self, market: Market, frame: Frame, price: int, size: int) -> Frame:
        """Return a book frame with one more bid, before the others."""
        if not frame.is_binary:
            return super().with_bid(market, frame, price, size)
        payload = sbe.with_bid(frame.payload, *messages.level_e8(market, price, size))
        return Frame(payload, is_binary=True)

    def bids_in(self, message: Any) -> Levels:
        """Return the inserted levels; bids come first."""
        return Levels(message["params"]["data"]["inserts"], "price", "size")

    def edit_bids(self, frame: Frame, edit: Callable[[Levels], None]) -> Frame:
        """Return a book frame with other bids."""
        if not frame.is_binary:
            return super().edit_bids(frame, edit)
        bids = [list(level) for level in sbe.bids_of(frame.payload)]
        edit(Levels(bids, 0, 1, zero=0, negative=-5 * 10**8, none=sbe.NULL))
        return Frame(sbe.with_bids(frame.payload, bids), is_binary=True)

    def restart_ids(self) -> None:
        """Restart the sequence numbers of all markets."""
        self._seqs = dict.fromkeys(self._seqs, self.restarted_id(10**6))

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return ``id``."""
        return messages.trade_id(market, trade)

    def welcome(self, session: ParadexSession, channel: ParadexChannel) -> None:
        """Send the current state, right after the acknowledgement."""
        makers: dict[str, Callable[[Market], ChannelMessage]] = {
            "bbo": self._bbo,
            "markets_summary": self._summary,
            "funding_data": self._funding,
            "order_book": partial(self._snapshot, channel),
        }
        if channel.topic in makers:
            found = self.find(channel.market)
            for market in self.listed() if found is None else [found]:
                session.sent_seqs[channel] = self.book_seq(market)
                session.publish(channel, makers[channel.topic](market))

    def _publish(self, market: Market, topic: str, make: Callable[[], ChannelMessage]) -> None:
        """Publish data on all channels that include the market; build it only if there are subscribers."""
        name = market.listing.name
        channels = [
            ParadexChannel(f"{topic}.{name}", topic, name),
            ParadexChannel(f"{topic}.{name}.interactive", topic, name),
            ParadexChannel(f"{topic}.ALL", topic),
            ParadexChannel(topic, topic),
        ]
        self._send(channels, make)

    def _send(self, channels: list[ParadexChannel], make: Callable[[], ChannelMessage]) -> None:
        subscribers = [(channel, session) for channel in channels for session in self.subscriptions.to(channel)]
        message = make() if subscribers else None
        for channel, session in subscribers:
            if isinstance(session, ParadexSession) and message is not None:
                session.publish(channel, message)

    def _send_delta(self, market: Market, bids: tuple[LevelChange, ...], asks: tuple[LevelChange, ...]) -> None:
        """Count and publish a delta: every delta counts, also empty ones and those without subscribers."""
        symbol, name = market.listing.symbol, market.listing.name
        self._seqs[symbol] += 1
        channels = [
            ParadexChannel(f"order_book.{name}.{flavour}", "order_book", name, flavour)
            for flavour in ("deltas", "interactive_deltas")
        ]
        self._send(channels, partial(self._delta, market, bids, asks))

    def _delta(self, market: Market, bids: tuple[LevelChange, ...], asks: tuple[LevelChange, ...]) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        return ChannelMessage(
            market,
            cache(lambda: messages.delta_json(market, seq, now, bids, asks)),
            cache(lambda version: messages.delta_sbe(market, version, seq, now, bids, asks)),
            "delta",
        )

    def _snapshot(self, channel: ParadexChannel, market: Market) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        depth = None if channel.flavour.endswith("deltas") else _SNAPSHOT_DEPTH
        return ChannelMessage(
            market,
            cache(lambda: messages.snapshot_json(market, seq, now, depth)),
            cache(lambda version: messages.snapshot_sbe(market, version, seq, now, depth)),
            "snapshot",
        )

    def _send_snapshots(self, period_ms: int) -> None:
        """Send the best levels of books that changed since each client's last snapshot."""
        suffix = f"@15@{period_ms}ms"
        for channel in [key for key in self.subscriptions.active() if isinstance(key, ParadexChannel)]:
            market = self.find_even_hidden(channel.market)
            if channel.topic != "order_book" or suffix not in channel.flavour or market is None:
                continue
            message = self._snapshot(channel, market)
            for session in self.subscriptions.to(channel):
                if isinstance(session, ParadexSession) and session.sent_seqs.get(channel) != self.book_seq(market):
                    session.sent_seqs[channel] = self.book_seq(market)
                    session.publish(channel, message)

    def _bbo(self, market: Market) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        return ChannelMessage(
            market,
            cache(lambda: messages.bbo_json(market, seq, now)),
            cache(lambda version: messages.bbo_sbe(market, version, seq, now)),
        )

    def _trade(self, market: Market, trade: MarketTrade) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        return ChannelMessage(
            market,
            cache(lambda: messages.trade_json(market, trade)),
            cache(lambda version: messages.trade_sbe(market, version, seq, now, trade)),
        )

    def _summary(self, market: Market) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        return ChannelMessage(
            market,
            cache(lambda: messages.summary_json(market, now)),
            cache(lambda version: messages.summary_sbe(market, version, seq, now)),
        )

    def _funding(self, market: Market) -> ChannelMessage:
        seq, now = self.book_seq(market), self.now_ms()
        return ChannelMessage(
            market,
            cache(lambda: messages.funding_json(market, now)),
            cache(lambda version: messages.funding_sbe(market, version, seq, now)),
        )


def _flavour(rest: list[str]) -> str:
    """Return the flavour of an order book.

    Raises:
        ValueError: It is unknown.
    """
    flavour = ".".join(rest)
    if flavour in {"deltas", "interactive_deltas"} or _SNAPSHOT.fullmatch(flavour):
        return flavour
    if flavour.startswith(("deltas@", "interactive_deltas@")):
        raise ValueError("no parameters expected for deltas topic.")
    raise ValueError("invalid channel")


def _list(contract: Contract, name: str = "") -> SimulatedListing:
    power = contract.price.adjusted()
    base = f"k{contract.base}" if contract.multiplier > 1 else contract.base
    return list_market(contract, name or f"{base}-USD-PERP", max(0, 5 - power), max(0, power + 1), symbol=name)
