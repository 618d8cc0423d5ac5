"""Aster: published streams. Books are sent as events whose ids form a chain for each stream.

Source: Aster, futures API documentation v3, WebSocket market streams; ids between events have gaps as in recorded
frames.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import Batch, Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, html, json
from simulator.schedule import Schedule
from simulator.session import ClientSession, Kind, OutgoingFrame
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.aster import messages
from simulator.venues.aster.account import AsterAccounts
from simulator.venues.aster.session import MOST_STREAMS, AsterSession, framed
from simulator.wire import Upgrade, UpgradeRefusal, Wire

_SPEEDS = {None: 0.25, "500ms": 0.5, "100ms": 0.1}
_DEPTH = re.compile(r"([a-z0-9]+)@depth(5|10|20)?(?:@(500ms|100ms))?")
#: Lag of a REST snapshot from a server that is behind.
_LAG_S = 0.7


class Past(NamedTuple):
    """Book at a past time."""

    time_s: float
    time_ms: int
    update_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class DepthStream:
    """Events of one depth stream of one market: differences, or the ``depth`` best levels."""

    def __init__(self, market: Market, depth: int | None, update_id: int) -> None:
        self.market = market
        self.depth = depth
        self.kind: Kind = "delta" if depth is None else "snapshot"
        self._batch = Batch()
        self._first: int | None = None
        self._last = self._previous = update_id

    def add(self, step: MarketStep, first: int, last: int) -> None:
        """Add a step with its ids."""
        self._batch.add(step)
        self._first = first if self._first is None else self._first
        self._last = last

    def skip(self) -> None:
        """Skip an event that has no subscribers."""
        self._batch.drain()
        self._first, self._previous = None, self._last

    def restart(self, update_id: int) -> None:
        """Continue with other ids; keep pending changes."""
        self._last = self._previous = update_id
        if self._first is not None:
            self._first, self._previous = update_id, update_id - 1

    def event(self, now_ms: int) -> dict[str, Any] | None:
        """Return the changes since the last event, or None."""
        if self._first is None:
            return None
        bids, asks = self._levels()
        event = {
            "e": "depthUpdate",
            "E": now_ms,
            "T": now_ms - 3,
            "s": self.market.listing.name,
            "U": self._first,
            "u": self._last,
            "pu": self._previous,
            "b": bids,
            "a": asks,
        }
        self._first, self._previous = None, self._last
        return event

    def _levels(self) -> list[list[list[str]]]:
        changed = self._batch.drain(keep_unchanged=True)
        sides = [[(change.price, change.new) for change in side] for side in changed]
        if self.depth is not None:
            sides = [self.market.bids.top(self.depth), self.market.asks.top(self.depth)]
        return [[messages.level(self.market, price, size) for price, size in side] for side in sides]


class SimulatedAster(SimulatedVenue):
    """Simulated Aster."""

    name: ClassVar[str] = "aster"
    #: Differences at 100 ms and the mark by timer; the touch and each trade as they happen.
    traffic: ClassVar[Traffic] = Traffic(steady=1.0, batches=10.0, per_step=0.8)
    bids_open: ClassVar[bytes] = b'"b":['
    first_book: ClassVar[str] = "/depth"
    accounts: AsterAccounts

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self._random = random.Random(f"{settings.seed}:aster:ids")
        self._last_id = 183_522_000_000 + self._random.randrange(10**6)
        #: Last update id by symbol.
        self._ids = {symbol: self._next_ids()[1] for symbol in self.markets}
        #: Depth streams by name, and their names by period.
        self._depths: dict[str, DepthStream] = {}
        self._by_speed: dict[float, list[str]] = {speed: [] for speed in _SPEEDS.values()}
        for name in [market.listing.name.lower() for market in self.markets.values() if market.listing.contract.live]:
            for speed in ("@depth", "@depth@500ms", "@depth@100ms"):
                self._open_depth(name + speed)
        #: Recent books by symbol, for REST snapshots of a server that is behind.
        self._past: dict[str, deque[Past]] = {symbol: deque(maxlen=30) for symbol in self.markets}
        #: REST book requests by symbol; they select the kind of snapshot.
        self._requests: dict[str, int] = {}
        #: Second of the last liquidation event by market.
        self._forced: dict[str, int] = {}
        self._seconds = 0

    def listings(self) -> list[SimulatedListing]:
        """Return the perpetuals against USDT."""
        return [_list(contract) for contract in contracts(self.settings.bases)]

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Accept a connection, with streams in the path or in the query of the combined form."""
        root, _, rest = upgrade.path.lstrip("/").partition("/")
        if root == "ws":
            streams = [stream for stream in rest.split("/") if stream]
        elif upgrade.path == "/stream":
            streams = [stream for text in upgrade.query.get("streams", []) for stream in text.split("/") if stream]
        else:
            return UpgradeRefusal(404)
        return (
            UpgradeRefusal(400)
            if len(streams) > MOST_STREAMS
            else AsterSession(self, wire, upgrade, streams, self.join)
        )

    def not_found(self, _request: HttpRequest) -> HttpResponse:
        """Return the gateway's answer to an unknown path."""
        return html(404)

    def failure(self, status: int) -> HttpResponse:
        """Return an error with a code and a message."""
        if status in {418, 429}:
            return json({"code": -1003, "msg": "Too many requests."}, status)
        return json({"code": -1001, "msg": "Internal error; unable to process your request."}, status)

    def start(self) -> None:
        """Start the markets and the depth events."""
        super().start()
        for speed in self._by_speed:
            self.schedule.every(speed, partial(self._send_depths, speed))

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Assign ids to changes; publish the touch and trades."""
        symbol, stem = market.listing.symbol, market.listing.name.lower()
        if step.bids or step.asks:
            first, last = self._next_ids()
            self._ids[symbol] = last
            for stream in self._depths.values():
                if stream.market is market:
                    stream.add(step, first, last)
        if step.touch_moved:
            for key in (f"{stem}@bookTicker", "!bookTicker"):
                self._publish(
                    key, "bbo", symbol, lambda: messages.book_ticker(market, self._ids[symbol], self.now_ms())
                )
        for trade in step.trades:
            self._publish_trade(market, stem, trade)

    def on_second(self) -> None:
        """Publish marks and 24-hour numbers."""
        self._seconds += 1
        self._publish_all("markPrice", "mark", messages.mark, "@1s")
        if self._seconds % 3 == 0:
            self._publish_all("markPrice", "mark", messages.mark)
        self._publish_all("ticker", "other", messages.ticker_event)
        self._publish_all("miniTicker", "other", messages.mini_ticker_event)

    def flush(self) -> None:
        """Publish the pending depth events."""
        for speed in self._by_speed:
            self._send_depths(speed)

    def book_seq(self, market: Market) -> int | None:
        """Return the last update id."""
        return self._ids[market.listing.symbol]

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return a pair."""
        return messages.level(market, price, size)

    def bids_in(self, message: Any) -> Levels:
        """Return the bids of an event or of a REST body."""
        event = message.get("data", message)
        return Levels(event["bids"] if "bids" in event else event["b"], 0, 1)

    def restart_ids(self) -> None:
        """Restart the update ids, which all markets share."""
        self._last_id = self.restarted_id(10**9)
        for symbol in self._ids:
            self._ids[symbol] = self._next_ids()[1]
            self._past[symbol].clear()
        for stream in self._depths.values():
            stream.restart(self._ids[stream.market.listing.symbol])

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return ``a``."""
        return str(messages.agg_trade(market, trade)["a"])

    def join(self, session: ClientSession, stream: str) -> None:
        """Subscribe a session to a stream, which may not exist."""
        self.subscriptions.add(session, stream)
        if stream not in self._depths:
            self._open_depth(stream)

    def _open_depth(self, stream: str) -> None:
        """Start the events of a depth stream, if it is one; their ids advance even without subscribers."""
        match = _DEPTH.fullmatch(stream)
        market = self.find(match[1].upper()) if match else None
        if match and market is not None:
            depth = int(match[2]) if match[2] else None
            self._depths[stream] = DepthStream(market, depth, self._ids[market.listing.symbol])
            self._by_speed[_SPEEDS[match[3]]].append(stream)

    def snapshot(self, market: Market) -> Past:
        """Return the book for a REST request: usually the live one, at times that of the last event, or an older one.

        So clients meet every case of bridging a snapshot with the stream. An unchanged market gives the same book
        in all of them.
        """
        symbol = market.listing.symbol
        turn = self._requests[symbol] = self._requests.get(symbol, 0) + 1
        past, now_s = self._past[symbol], self.schedule.mono_s()
        if turn % 5 == 2 and past:
            return past[-1]
        if turn % 5 == 4:
            old = [one for one in past if one.time_s <= now_s - _LAG_S]
            if old:
                return old[-1]
        return self._present(market)

    def _present(self, market: Market) -> Past:
        update_id = self._ids[market.listing.symbol]
        return Past(self.schedule.mono_s(), self.now_ms(), update_id, market.bids.top(), market.asks.top())

    def _record_books(self) -> None:
        """Record the books at the end of each 100 ms."""
        for symbol, market in self.markets.items():
            past = self._past[symbol]
            if not past or past[-1].update_id != self._ids[symbol]:
                past.append(self._present(market))

    def _next_ids(self) -> tuple[int, int]:
        """Return the first and last id of a step; all markets share the counter, and most ids are never published."""
        first = self._last_id + self._random.randint(1, 900)
        self._last_id = first + self._random.choice((0, 0, 1, 3))
        return first, self._last_id

    def _send_depths(self, speed: float) -> None:
        for name in self._by_speed[speed]:
            stream, sessions = self._depths[name], self.subscriptions.to(name)
            if not sessions:
                stream.skip()
                continue
            symbol = stream.market.listing.symbol
            with self.failures.guard("book", symbol):
                event = stream.event(self.now_ms())
                for session in sessions if event else ():
                    session.push(OutgoingFrame("book", symbol, stream.kind, framed(session, name, event)))
        if speed == _SPEEDS["100ms"]:
            self._record_books()

    def _publish_trade(self, market: Market, stem: str, trade: MarketTrade) -> None:
        now, symbol = self.now_ms(), market.listing.symbol
        event = {"e": "aggTrade", "E": now, "s": market.listing.name, **messages.agg_trade(market, trade)}
        self._publish(f"{stem}@aggTrade", "trade", symbol, lambda: event)
        self._publish(f"{stem}@tradepro", "trade", symbol, lambda: messages.trade_pro(market, trade, now))
        if trade.is_liquidation and self._forced.get(stem) != now // 1000:
            self._forced[stem] = now // 1000
            for key in (f"{stem}@forceOrder", "!forceOrder@arr"):
                self._publish(key, "liquidation", symbol, lambda: messages.force_order(market, trade, now))

    def _publish_all(self, kind: str, word: str, row_of: Callable[[Market, int], Any], speed: str = "") -> None:
        """Publish an event for each market, and an array of all."""
        now, live = self.now_ms(), [market for market in self.listed() if self.is_live(market)]
        for market in live:
            stream = f"{market.listing.name.lower()}@{kind}{speed}"
            self._publish(stream, word, market.listing.symbol, partial(row_of, market, now))
        self._publish(f"!{kind}@arr{speed}", word, "", lambda: [row_of(market, now) for market in live])

    def _publish(self, stream: str, word: str, symbol: str, make: Callable[[], Any]) -> None:
        """Publish an event to the subscribers of a stream; build it only if there are any."""
        sessions = self.subscriptions.to(stream)
        if not sessions:
            return
        with self.failures.guard(word, symbol):
            event = make()
            for session in sessions:
                session.push(OutgoingFrame(word, symbol, "data", framed(session, stream, event)))


def _list(contract: Contract) -> SimulatedListing:
    power = contract.price.adjusted()
    name = f"{contract.multiplier}{contract.base}" if contract.multiplier > 1 else contract.base
    return list_market(contract, f"{name}USDT", max(0, 5 - power), min(3, max(0, power)))
