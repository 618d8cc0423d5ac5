"""Journals that are written by hand: events in order, and then whatever a test does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest

from ipc.codec import encode
from ipc.events import (
    Bbo,
    BookDelta,
    BookSnapshot,
    Event,
    Funding,
    Gap,
    Heartbeat,
    HeartbeatBook,
    Instrument,
    Lifecycle,
    Mark,
    Status,
    Trade,
)
from ipc.health import Reason, Stream, StreamState
from ipc.orderbook import OrderBook
from ipc.raw import RawHeader, encode_line, make
from ipc.topics import topic_of
from supervisor.journal.coverage import Coverage, Summary, VenuePresence, summary_path
from supervisor.journal.format import Header, encode_header, prefix_of

SECOND = 1_000_000_000
#: 2026-07-31, a Friday.
WALL_NS = 1_785_499_200 * SECOND
MONO_NS = 5_000 * SECOND
BIDS = [("99", "1"), ("98", "2")]
ASKS = [("100", "1"), ("101", "2")]
CONFIG: dict[str, Any] = {
    "lighter": {
        "slot": 3,
        "feed": "ipc:///nowhere/lighter.feed",
        "account": None,
        "symbols": ["BTC-PERP"],
        "streams": ["book", "bbo", "trade", "mark", "funding", "funding_poll"],
        "ws": "ws://127.0.0.1:1",
        "rest": "http://127.0.0.1:1",
    }
}


def snapshot(bids=BIDS, asks=ASKS, *, venue="lighter", symbol="BTC-PERP", cause="subscribe", flags=(), venue_seq=1):
    event = BookSnapshot(venue, symbol, "1", None, list(bids), list(asks), None, venue_seq, cause)
    event.flags = flags
    return event


def delta(bids=(), asks=(), *, venue="lighter", symbol="BTC-PERP"):
    return BookDelta(venue, symbol, "1", None, list(bids), list(asks), 2, 1)


def gap(reason=Reason.SEQ_GAP, *, venue="lighter", symbol="BTC-PERP"):
    return Gap(venue, symbol, "1", None, "book", reason, None, None, "resubscribe")


def trade(number, *, venue="lighter", symbol="BTC-PERP", price="99.5", size="0.5"):
    return Trade(venue, symbol, "1", WALL_NS, price, size, "buy", str(number))


def mark(price, *, venue="lighter", flags=()):
    event = Mark(venue, "BTC-PERP", "1", None, price, None, None, None, None)
    event.flags = flags
    return event


def checksum(bids, asks):
    book = OrderBook()
    book.replace(bids, asks)
    return book.crc32_top10()


def one_of_each(venue="lighter"):
    """An event of every channel but heartbeat and liquidation."""
    status = Status(venue, None, None, None, Stream.BOOK, StreamState.LIVE, None, None, 1, None, 7, {"BTC-PERP": 3})
    funding = Funding(
        venue, "BTC-PERP", "1", None, "0.0001", "0.01", "percent_per_hour", 3600, "0.0008", None, "predicted", "index"
    )
    return [
        ("instrument", Instrument(venue, "BTC-PERP", "1", None, "0.1", "0.001", "1", 1, "USD", "1", 3600, "active")),
        ("status", status),
        ("book", snapshot(venue=venue)),
        ("bbo", Bbo(venue, "BTC-PERP", "1", WALL_NS, "99", "1", None, None)),
        ("trade", trade(1, venue=venue)),
        ("mark", mark("99.7", venue=venue)),
        ("funding", funding),
        ("lifecycle", Lifecycle(venue, None, None, None, "started", None, 7, 1, None, None, None, 0, 0, None)),
    ]


class Script:
    """A journal in the making: events are given their place and their time, 10 ms after the last."""

    def __init__(self, recording: str = "20260731T120000.000Z", config: dict[str, Any] | None = None) -> None:
        self.recording = recording
        self.config = CONFIG if config is None else config
        self.coverage: Coverage | None = None
        self.lines: list[bytes] = []
        self.epochs: dict[str, int] = {}
        self.seqs: dict[str, int] = {}
        self.now_ns = 0

    def epoch(self, publisher: str = "lighter") -> int:
        return self.epochs.setdefault(publisher, WALL_NS)

    def say(self, channel: str, event: Event, *, seq: int | None = None, epoch: int | None = None) -> Self:
        """Add an event; its seq is the next one."""
        symbol = None if channel in {"status", "heartbeat", "lifecycle"} else event.symbol
        topic = topic_of(channel, event.venue, symbol)
        self.now_ns += SECOND // 100
        event.seq = self.seqs[topic] = self.seqs.get(topic, 0) + 1 if seq is None else seq
        event.epoch = self.epoch("lifecycle" if channel == "lifecycle" else event.venue) if epoch is None else epoch
        if "refresh" not in event.flags or not isinstance(event, BookSnapshot):
            event.recv_ns = event.recv_ns or WALL_NS + self.now_ns
            event.recv_mono_ns = event.recv_mono_ns or MONO_NS + self.now_ns
        event.publish_ns = WALL_NS + self.now_ns
        self.lines.append(prefix_of(topic.encode()) + encode(event)[1:] + b"\n")
        return self

    def book(self, *events: Event) -> Self:
        """Add events of the channel ``book``."""
        for event in events:
            self.say("book", event)
        return self

    def beat(self, bids=BIDS, asks=ASKS, *, usable=True, seqs: dict[str, int] | None = None, crc: int = 0) -> Self:
        """Add a heartbeat in step with everything before it; the book as the worker has it."""
        seqs = {**self.seqs, **(seqs or {})}
        number = seqs.get("book.lighter.BTC-PERP", 0)
        book = HeartbeatBook(number, 1, usable, 5, crc or checksum(bids, asks) if usable else None)
        return self.say("heartbeat", Heartbeat("lighter", None, None, None, seqs, {"BTC-PERP": book}, 0, 1))

    def restart(self, publisher: str = "lighter") -> Self:
        """The publisher dies and comes again."""
        self.epochs[publisher] = self.epoch(publisher) + SECOND
        owned = (lambda name: name.startswith("lifecycle.")) if publisher == "lifecycle" else None
        for name in list(self.seqs):
            if owned(name) if owned else name.split(".")[1] == publisher and not name.startswith("lifecycle."):
                del self.seqs[name]
        return self

    def everything(self) -> Self:
        """All that a small system says in a moment, and nothing wrong with it."""
        for channel, event in one_of_each():
            self.say(channel, event)
        self.book(delta(bids=[("99.5", "3")]), delta(asks=[("101", "0")]))
        return self.beat([("99.5", "3"), *BIDS], ASKS[:1])

    def header(self, number: int = 1) -> bytes:
        return encode_header(
            Header(
                version="1.2.3",
                recording=self.recording,
                file=number,
                created_wall_ns=WALL_NS,
                created_mono_ns=MONO_NS,
                run_dir="/run/somewhere",
                config=self.config,
                coverage=self.coverage,
            )
        )

    def cover(self, *recorded: str, left_out: Iterable[str] = (), described: bool = True) -> Self:
        """The recorder read from the system which venues it runs; a second before everything."""
        since_ns = WALL_NS - SECOND
        venues = {name: VenuePresence(since_ns) for name in recorded or ("lighter",)}
        venues |= {name: VenuePresence(since_ns, recorded=False) for name in left_out}
        self.coverage = Coverage(began_ns=since_ns, described=described, venues=venues)
        return self

    def write_summary(self, directory: Path, *written: int, ended_after_s: float | None = 1.0) -> Path:
        """The summary of the recording: the lines of each file, and when it ended after the last event, if it did."""
        assert self.coverage is not None
        ended_ns = 0 if ended_after_s is None else WALL_NS + self.now_ns + round(ended_after_s * SECOND)
        summary = Summary(
            recording=self.recording,
            written=list(written or (len(self.lines),)),
            ended_ns=ended_ns,
            coverage=self.coverage,
        )
        path = summary_path(directory, self.recording)
        path.write_bytes(msgspec.json.encode(summary))
        return path

    def bytes(self, number: int = 1) -> bytes:
        return self.header(number) + b"".join(self.lines)

    def write(self, directory: Path, number: int = 1, lines: Iterable[bytes] | None = None) -> Path:
        """A file of these lines, or of all."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"events-{self.recording}-{number:06d}.jsonl"
        path.write_bytes(self.header(number) + b"".join(self.lines if lines is None else lines))
        return path


class RawScript:
    """A raw recording in the making: Lighter's main socket, its frames 20 ms apart."""

    venue = "lighter"

    def __init__(self, *, listings: bool = True, sessions: Iterable[str] = ("poll", "fetch", "main")) -> None:
        self.now_ns = 0
        rows = [
            {"base": base, "wire": wire, "venue_symbol": base, "market_id": wire, "symbol": f"{base}-PERP"}
            for base, wire in (("BTC", "1"), ("ETH", "0"))
        ]
        self.head = RawHeader(
            venue=self.venue, created_wall_ns=WALL_NS, sessions=list(sessions), listings=rows if listings else []
        )
        self.records: list[Any] = []

    def add(
        self, kind: str, payload: bytes = b"", *, session: str = "main", after_ns: int = SECOND // 50, **more
    ) -> Self:
        self.now_ns += after_ns
        at = (MONO_NS + self.now_ns, WALL_NS + self.now_ns)
        self.records.append(make(kind, session, *at, payload, **more))
        return self

    def frame(self, frame: object, **more) -> Self:
        return self.add("in", msgspec.json.encode(frame), **more)

    def book(self, kind: str, begin: int, nonce: int, bids, asks=(), market: int = 1, **more) -> Self:
        """A book frame of Lighter: ``subscribed`` carries the whole book, ``update`` what changed."""
        sides = {
            name: [{"price": price, "size": size} for price, size in levels]
            for name, levels in (("bids", bids), ("asks", asks))
        }
        book = {"code": 0, **sides, "offset": nonce, "nonce": nonce, "begin_nonce": begin}
        frame = {"channel": f"order_book:{market}", "order_book": book, "timestamp": 1, "type": f"{kind}/order_book"}
        return self.frame(frame, **more)

    def bytes(self) -> bytes:
        return b"".join(map(encode_line, (self.head, *self.records)))

    def write(self, directory: Path, number: int = 1) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"raw-{self.venue}-20260731T120000.000Z-{number:06d}.jsonl"
        path.write_bytes(self.bytes())
        return path


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def new_script() -> Callable[..., Script]:
    return Script


@pytest.fixture
def raw_script() -> RawScript:
    return RawScript()


@pytest.fixture
def new_raw_script() -> Callable[..., RawScript]:
    return RawScript


@pytest.fixture
def say():
    """The events of this module's making, by name: ``say.snapshot(...)``."""
    makers = (snapshot, delta, gap, trade, mark, checksum, one_of_each)
    constants = {"BIDS": BIDS, "ASKS": ASKS, "CONFIG": CONFIG, "WALL_NS": WALL_NS, "MONO_NS": MONO_NS, "SECOND": SECOND}
    return SimpleNamespace(**{maker.__name__: maker for maker in makers}, **constants)


@pytest.fixture
def say_events():
    """An event of every channel, with its channel."""
    return one_of_each()
