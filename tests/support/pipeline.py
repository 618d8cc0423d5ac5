"""A venue's whole path in one process and in fake time: market model, frames, decoder, session, consumer's book.

Two links can lose, repeat and reorder: the venue's socket and the way to the consumer. No socket is opened, so that
hundreds of thousands of updates take seconds.
"""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fakes import Client, Stage

from ipc.codec import encode
from ipc.decimals import shortest
from ipc.events import Event, Heartbeat
from ipc.feed_state import FeedState
from ipc.health import Reason, Stream
from ipc.topics import topic_of
from workers import markets
from workers.heartbeat import heartbeat_book
from workers.protocol.actions import CloseConnection, FetchBook, Send, SendPing
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.protocol.streams import MarketStream
from workers.venues import VENUES
from workers.venues.rows import split_rows
from workers.venues.venue import RestRequest

NS = 1_000_000_000
STEP_S = 0.02
BASES = ("BTC", "ETH")
#: How many levels a side of the truth a venue's book shows; None for all.
DEPTHS = {"hyperliquid": 5}
PATHS = {
    "hyperliquid": ("ws://h/ws", ""),
    "aster": ("ws://h", ""),
    "extended": ("ws://h/stream.extended.exchange/v1", "/api/v1"),
    "lighter": ("ws://h/stream", "/api/v1"),
    "paradex": ("ws://h/v1", "/v1"),
}


@dataclass
class Faults:
    """Chances per frame or message, and per second."""

    drop: float = 0.0
    repeat: float = 0.0
    swap: float = 0.0
    disconnect_per_s: float = 0.0
    lose_message: float = 0.0
    restart_per_s: float = 0.0


@dataclass
class Line:
    """One connection: its session, and the venue's end of it while it is open."""

    session: MarketSession
    client: Client | None = None
    retry_ns: int = 0
    fetches: deque[tuple[int, FetchBook]] = field(default_factory=deque)


class Pipeline:
    """One venue; ``step()`` lets 20 ms pass.

    ``updates`` counts book frames that reached a session, ``messages`` what the consumer was sent.
    """

    def __init__(self, venue: str, seed: int, *, rate: float = 400.0, encoding: str = "sbe") -> None:
        self.dice = random.Random(seed)
        self.faults = Faults()
        self.stage = Stage(venue, rate=rate, seed=seed, bases=BASES)
        self.updates = 0
        self.messages = 0
        self.now_ns = NS
        self._venue = VENUES[venue]
        ws_url, self._rest = PATHS[venue]
        bodies = [self._ask(request) for request in self._venue.listing_requests()]
        listings = markets.resolve(split_rows(self._venue.parse_listings(bodies))[0], BASES).listings
        assert len(listings) == len(BASES)
        policy = Policy(stale_ns=10 * NS, ping_ns=30 * NS, pong_ns=10 * NS)
        plans = self._venue.connections(listings, ws_url, {"encoding": encoding})
        self.lines = [Line(MarketSession(self._venue, plan, listings, policy)) for plan in plans]
        self.mirror = FeedState([venue], self.now_ns)
        self._epoch = 1
        self._seqs: dict[str, int] = {}
        self._beat_ns = 0
        self._to_ask: list[str] = []

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def step(self) -> None:
        """20 ms: the market moves, frames and messages travel."""
        self.stage.run(STEP_S)
        self.now_ns += round(STEP_S * NS)
        if self.dice.random() < self.faults.restart_per_s * STEP_S:
            self._restart()
        for line in self.lines:
            self._serve(line)
        if self.now_ns >= self._beat_ns:
            self._beat_ns = self.now_ns + NS
            self._beat()
        self._answer()

    def settle(self) -> None:
        """Bring everybody up to date and hold the market still, without faults."""
        faults, self.faults = self.faults, Faults()
        self.stage.venue.pause()
        self.step()
        self.step()
        self.faults = faults

    def resume(self) -> None:
        """Let the market move again."""
        self.stage.venue.resume()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> int:
        """Of a settled pipeline: every usable book is the truth. How many were usable."""
        usable = 0
        for base in BASES:
            symbol = f"{base}-PERP"
            book = self.mirror.book(self._venue.name, symbol, self.now_ns)
            if not book.usable:
                continue
            usable += 1
            truth, depth = self.stage.venue.truth(symbol), DEPTHS.get(self._venue.name)
            for side, held in (("bids", book.bids()), ("asks", book.asks())):
                theirs = [(shortest(p), shortest(q)) for p, q in truth[side]][:depth]
                ours = [(shortest(p), shortest(q)) for p, q in held]
                assert ours == theirs, (
                    self._venue.name,
                    symbol,
                    side,
                    book.venue_seq,
                    truth["venue_seq"],
                    ours[:3],
                    theirs[:3],
                )
        return usable

    # --- the venue's socket -------------------------------------------------------------------------------------------

    def _serve(self, line: Line) -> None:
        session = line.session
        if line.client is None:
            if self.now_ns >= line.retry_ns:
                self._open(line)
            return
        if self.dice.random() < self.faults.disconnect_per_s * STEP_S:
            self._close(line, Reason.SERVER_CLOSE)
            return
        for frame in self._through(line.client.raw()):
            self.updates += 1
            self._publish(session.received(frame.is_binary, frame.payload, self.now_ns))
            if not self._obey(line):
                return
        while line.fetches and line.fetches[0][0] <= self.now_ns:
            self._fetched(line, line.fetches.popleft()[1])
        self._publish(session.tick(self.now_ns))
        self._obey(line)
        if line.client is not None and line.client.wire.close_code is not None:
            self._close(line, Reason.SERVER_CLOSE)

    def _through(self, frames: list[Any]) -> list[Any]:
        """The frames as they arrive over a bad line."""
        arrived: list[Any] = []
        for frame in frames:
            if self.dice.random() < self.faults.drop:
                continue
            arrived.append(frame)
            if self.dice.random() < self.faults.repeat:
                arrived.append(frame)
            if len(arrived) > 1 and self.dice.random() < self.faults.swap:
                arrived[-1], arrived[-2] = arrived[-2], arrived[-1]
        return arrived

    def _open(self, line: Line) -> None:
        parts = urlsplit(line.session.connection.url)
        line.session.connecting(self.now_ns)
        line.client = self.stage.connect(parts.path or "/", **dict(parse_qsl(parts.query)))
        line.session.opened(self.now_ns)
        self._obey(line)

    def _close(self, line: Line, reason: Reason) -> None:
        assert line.client is not None
        line.client.leave()
        line.client = None
        line.fetches.clear()
        line.session.actions.drain()
        self._publish(line.session.closed(reason, self.now_ns))
        line.session.actions.drain()
        line.retry_ns = self.now_ns + round(self.dice.uniform(0.1, 1.0) * NS)

    def _obey(self, line: Line) -> bool:
        """Do what the session wants; whether the connection is still open."""
        for action in line.session.actions.drain():
            match action:
                case CloseConnection():
                    self._close(line, action.reason)
                    return False
                case Send() if line.client is not None:
                    line.client.say(action.message.decode())
                case SendPing():
                    line.session.ponged()
                case FetchBook():
                    line.fetches.append((self.now_ns + round(self.dice.uniform(0.02, 0.3) * NS), action))
                case _:
                    pass
        return True

    def _fetched(self, line: Line, fetch: FetchBook) -> None:
        body = self._ask(self._venue.book_request(fetch.stream.listing))
        book = self._venue.parse_book(body, fetch.stream.listing)
        self._publish(line.session.fetched(fetch.stream, fetch.purpose, book, None, self.now_ns))

    def _ask(self, request: RestRequest) -> bytes:
        parts = urlsplit(self._rest + request.path)
        response = self.stage.ask(parts.path, request.method, body=_json(request.body), **dict(parse_qsl(parts.query)))
        assert response.status == 200, response
        return response.body

    # --- the way to the consumer --------------------------------------------------------------------------------------

    def _publish(self, publications: list[tuple[MarketStream, Event | None]]) -> None:
        for route, event in publications:
            if event is not None:
                self._send(topic_of(route.kind, self._venue.name, route.symbol), event)

    def _send(self, topic: str, event: Event) -> None:
        self._seqs[topic] = event.seq = self._seqs.get(topic, 0) + 1
        event.epoch = self._epoch
        event.recv_mono_ns = self.now_ns
        self.messages += 1
        if self.dice.random() >= self.faults.lose_message:
            self.mirror.handle([topic.encode(), encode(event)], self.now_ns)
            self._to_ask += self.mirror.snapshot_requests()

    def _books(self) -> list[MarketStream]:
        return [route for line in self.lines for route in line.session.book_streams if route.kind is Stream.BOOK]

    def _beat(self) -> None:
        for route in self._books():
            route.feed = _Feed(self._seqs.get(topic_of("book", self._venue.name, route.symbol), 0))
        books = {route.symbol: heartbeat_book(route, self.now_ns, _checksum(route)) for route in self._books()}
        beat = Heartbeat(self._venue.name, None, None, None, dict(self._seqs), books, 0, 0)
        self._send(f"heartbeat.{self._venue.name}", beat)

    def _answer(self) -> None:
        """Snapshots for those who asked."""
        asked, self._to_ask = self._to_ask, []
        for line in self.lines:
            for route in line.session.book_streams:
                topic = topic_of(route.kind, self._venue.name, route.symbol)
                snapshot = line.session.refresh(route) if topic in asked else None
                if snapshot is not None:
                    self._send(topic, snapshot)

    def _restart(self) -> None:
        """The worker dies and is started again: everything it knew is gone."""
        for line in self.lines:
            if line.client is not None:
                line.client.leave()
        listings = [route.listing for route in self._books()]
        listings = list(dict.fromkeys(listings))
        policy = Policy(stale_ns=10 * NS, ping_ns=30 * NS, pong_ns=10 * NS)
        self.lines = [
            Line(MarketSession(self._venue, line.session.connection, listings, policy)) for line in self.lines
        ]
        self._epoch += 1
        self._seqs.clear()


def _checksum(route: MarketStream) -> int | None:
    return route.book_sync.crc32_top10() if route.is_published_valid and route.book_sync is not None else None


@dataclass
class _Feed:
    seq: int


def _json(body: bytes | None) -> Any:
    return None if body is None else json.loads(body)
