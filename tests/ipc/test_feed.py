from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
import zmq

from ipc import feed as feed_module
from ipc.board import TCP_LISTENING, Board, WorkerWord
from ipc.codec import encode
from ipc.decimals import shortest
from ipc.errors import BookUnusableError, FeedError, ParaphinaError
from ipc.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    Heartbeat,
    HeartbeatBook,
    Level,
    Lifecycle,
    Mark,
    Status,
    Trade,
)
from ipc.feed import BehindError, Feed, conflate
from ipc.health import Reason, Stream, StreamState
from ipc.listener import FeedListener
from ipc.orderbook import OrderBook
from ipc.publisher import Publisher, TopicFeed
from ipc.remote import Network, Remote
from ipc.replica import NO_SNAPSHOT
from ipc.rundir import RunDir, replace_file
from ipc.topics import Topic

BTC = ("lighter", "BTC-PERP")
BIDS: list[Level] = [("99", "1"), ("98", "2")]
ASKS: list[Level] = [("100", "1"), ("101", "2")]
TOPIC = "book.lighter.BTC-PERP"


class Worker:
    """A venue's worker as a feed sees it: a real publisher with books, events and heartbeats.

    Its publisher's clock leaps, so that every acquisition accepts subscriptions and sends the state of their topics.
    """

    def __init__(self, publisher: Publisher, venue: str = "lighter") -> None:
        self.publisher = publisher
        self.venue = venue
        self.books: dict[str, OrderBook] = {}
        self.usable: dict[str, bool] = {}

    def feed(self, channel: str, symbol: str = "BTC-PERP") -> TopicFeed:
        return self.publisher.topic(Topic(channel, self.venue, symbol))

    def turn(self) -> None:
        with self.publisher.exclusive():
            pass

    def send(self, channel: str, event: Event, symbol: str = "BTC-PERP", *, lost: bool = False) -> None:
        """Publish an event, or use its number up as if the network had lost it."""
        feed = self.feed(channel, symbol)
        with self.publisher.exclusive():
            if lost:
                feed.seq += 1
            else:
                self.publisher.send(feed, event)

    def keep(self, channel: str, event: Event, symbol: str = "BTC-PERP") -> None:
        feed = self.feed(channel, symbol)
        with self.publisher.exclusive():
            self.publisher.send_latest(feed, "ws", event)

    # --- books ---

    def snapshot(self, bids=BIDS, asks=ASKS, symbol: str = "BTC-PERP", *, lost: bool = False) -> None:
        book = self.books.setdefault(symbol, OrderBook())
        book.replace(bids, asks)
        self.usable[symbol] = True
        self.feed("book", symbol).snapshot = lambda: self._refresh(symbol)
        self.send("book", self._whole(symbol), symbol, lost=lost)

    def change(self, bids: list[Level], asks: list[Level], symbol: str = "BTC-PERP", *, lost: bool = False) -> None:
        self.books[symbol].apply(bids, asks)
        event = BookDelta(self.venue, symbol, "1", None, bids, asks, None, None)
        self.send("book", event, symbol, lost=lost)

    def lose(self, symbol: str = "BTC-PERP") -> None:
        self.usable[symbol] = False
        self.send(
            "book", Gap(self.venue, symbol, "1", None, "session", Reason.READ_TIMEOUT, None, None, "reconnect"), symbol
        )

    def _whole(self, symbol: str) -> BookSnapshot:
        book = self.books[symbol]
        return BookSnapshot(self.venue, symbol, "1", None, book.bids(), book.asks(), None, None)

    def _refresh(self, symbol: str) -> BookSnapshot | None:
        if not self.usable[symbol]:
            return None
        event = self._whole(symbol)
        event.flags = ("refresh",)
        return event

    # --- the rest ---

    def trade(self, number: int, *, lost: bool = False) -> None:
        self.send("trade", Trade(self.venue, "BTC-PERP", "1", None, "1", "2", "buy", str(number)), lost=lost)

    def beat(self, *, lost: bool = False) -> None:
        feed = self.feed("heartbeat", "")
        with self.publisher.exclusive():
            books = {}
            for symbol, book in self.books.items():
                usable = self.usable[symbol]
                seq = self.publisher.last_seqs()[f"book.{self.venue}.{symbol}"]
                books[symbol] = HeartbeatBook(seq, None, usable, 0, book.crc32_top10() if usable else None)
            beat = Heartbeat(self.venue, None, None, None, self.publisher.last_seqs(), books, 0, 0)
            if lost:
                feed.seq += 1
            else:
                self.publisher.send(feed, beat)


def leaping() -> Callable[[], int]:
    ticks = count(1)
    return lambda: next(ticks) * 2_000_000_000


@pytest.fixture
def open_worker(open_publisher, short_dir: Path) -> Callable[..., Worker]:
    """Makes workers: ``open_worker(epoch=1)``."""

    def make(epoch: int = 1, venue: str = "lighter") -> Worker:
        endpoint = RunDir(short_dir).feed(venue)
        return Worker(open_publisher(endpoint, epoch=epoch, monotonic=leaping(), refresh_ns=0), venue)

    return make


@pytest.fixture
def worker(open_worker) -> Worker:
    return open_worker()


@pytest.fixture
def open_feed(short_dir: Path, context: zmq.Context, clock) -> Iterator[Callable[..., Feed]]:
    """Makes feeds on lighter whose clock stands still; closes them in the end."""
    made: list[Feed] = []

    def make(**options: object) -> Feed:
        filled = {"venues": ["lighter"], "context": context, "clock": clock, **options}
        made.append(Feed(short_dir, **filled))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def feed(open_feed) -> Feed:
    return open_feed()


@pytest.fixture
def read(until) -> Callable[..., list[Event]]:
    """Reads until ``condition`` holds, giving the worker turns meanwhile; returns what the feed gave."""

    def wait(feed: Feed, condition: Callable[[], object], *workers: Worker) -> list[Event]:
        got: list[Event] = []

        def step() -> None:
            for worker in workers:
                worker.turn()
            event = feed.poll(0.001)
            if event is not None:
                got.append(event)

        until(condition, step)
        return got

    return wait


@pytest.fixture
def live(worker: Worker, feed: Feed, read) -> Feed:
    """A feed in step with the worker's book, nothing left to read."""
    worker.snapshot()
    book = feed.book(*BTC)
    read(feed, lambda: book.usable, worker)
    settle(feed, worker, read)
    return feed


def join(feed: Feed, worker: Worker, until) -> None:
    """Let the worker accept everything that a feed subscribes."""
    until(lambda: worker.publisher.subscriptions >= len(feed._subscription.prefixes), worker.turn)


def last_heard(feed: Feed, topic: str) -> int | None:
    return feed._state._publishers[topic.split(".")[1]].sequence.last(topic)


def settle(feed: Feed, worker: Worker, read) -> list[Event]:
    """Read all that the worker has sent: its next heartbeat comes behind it."""
    worker.beat()
    seq = worker.feed("heartbeat", "").seq
    got: list[Event] = []

    def has_come() -> bool:
        return last_heard(feed, "heartbeat.lighter") == seq and not feed._pending

    got += read(feed, has_come, worker)
    return got


def assert_in_step(feed: Feed, worker: Worker) -> None:
    book, true = feed.book(*BTC), worker.books["BTC-PERP"]
    assert book.usable, book.reason
    assert (plainly(book.bids()), plainly(book.asks())) == (plainly(true.bids()), plainly(true.asks()))


def plainly(levels: list[Level]) -> list[Level]:
    return [(shortest(price), shortest(size)) for price, size in levels]


# --- joining ------------------------------------------------------------------------------------------------------


def test_feed_that_joins_late_gets_the_book_and_follows_it(worker: Worker, feed: Feed, read) -> None:
    worker.snapshot()
    worker.change([("99", "0")], [])
    assert not feed.book(*BTC).usable
    read(feed, lambda: feed.book(*BTC).usable, worker)
    settle(feed, worker, read)
    assert_in_step(feed, worker)
    worker.change([("97.5", "3")], [("100.0", "0.5")])
    settle(feed, worker, read)
    assert_in_step(feed, worker)
    assert (feed.lost, feed.malformed) == (0, 0)


def test_events_come_in_the_order_in_which_they_were_sent(live: Feed, worker: Worker, read) -> None:
    for number in range(5):
        worker.trade(number)
        worker.change([("98", str(number + 1))], [])
    got = settle(live, worker, read)
    assert [type(event) for event in got] == [Trade, BookDelta] * 5 + [Heartbeat]
    assert [event.trade_id for event in got if isinstance(event, Trade)] == list("01234")


def test_snapshot_that_never_came_is_requested_after_a_while(worker: Worker, feed: Feed, read, clock, until) -> None:
    join(feed, worker, until)
    worker.snapshot(lost=True)
    worker.change([("98", "7")], [])
    settle(feed, worker, read)
    assert not feed.book(*BTC).usable
    clock.advance(1.5)
    worker.change([("98", "8")], [])
    read(feed, lambda: feed.book(*BTC).usable, worker)
    assert_in_step(feed, worker)
    assert feed.lost == 0


def test_heartbeat_of_a_usable_book_asks_for_the_snapshot_that_is_missing(
    worker: Worker, feed: Feed, read, clock
) -> None:
    feed.book(*BTC)
    worker.keep("mark", Mark("lighter", "BTC-PERP", "1", None, "1", None, None, None, None))
    read(feed, lambda: feed.latest("mark", *BTC), worker)
    worker.snapshot(lost=True)
    clock.advance(1.5)
    worker.beat()
    read(feed, lambda: feed.book(*BTC).usable, worker)
    assert_in_step(feed, worker)


def test_feed_waits_until_its_books_are_live(worker: Worker, open_feed, until) -> None:
    feed = open_feed(clock=feed_module.time.monotonic_ns)
    assert not feed.wait_live([BTC], 0.02)
    worker.snapshot()
    worker.snapshot(symbol="ETH-PERP")

    def step() -> None:
        worker.turn()
        done.append(feed.wait_live([BTC, ("lighter", "ETH-PERP")], 0.01))

    done: list[bool] = []
    until(lambda: any(done), step)
    assert feed.wait_live([BTC, ("lighter", "ETH-PERP")], 0)
    assert {book.symbol for book in feed.books()} == {"BTC-PERP", "ETH-PERP"}


def test_suspension_of_the_machine_hides_every_book_at_once(worker: Worker, open_feed, read, clock) -> None:
    slept_ns = 0
    feed = open_feed(boot_clock=lambda: clock() + slept_ns)
    worker.snapshot()
    held = feed.book(*BTC)
    read(feed, lambda: held.usable, worker)
    slept_ns = 3_600_000_000_000
    assert feed.book(*BTC).reason == "suspended"
    assert not held.usable
    slept_ns += 1_000_000
    worker.send("book", stamped(worker._whole("BTC-PERP"), clock() + 1))
    read(feed, lambda: held.usable, worker)


def stamped(event: Event, mono_ns: int) -> Event:
    event.recv_mono_ns = mono_ns
    return event


def test_iteration_gives_events_without_end(worker: Worker, open_feed, until) -> None:
    feed = open_feed(clock=feed_module.time.monotonic_ns)
    join(feed, worker, until)
    worker.keep("mark", Mark("lighter", "BTC-PERP", "1", None, "1", None, None, None, None))
    for number in range(3):
        worker.trade(number)
    events = iter(feed)
    assert [type(next(events)) for _ in range(4)] == [Mark, Trade, Trade, Trade]


def test_iteration_waits_for_what_comes_later(feed: Feed, monkeypatch) -> None:
    trade = Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", "1")
    answers: Iterator[Event | None] = iter([None, None, trade])
    monkeypatch.setattr(feed, "poll", lambda _timeout_s: next(answers))
    assert next(iter(feed)) is trade


def test_poll_gives_nothing_when_nothing_comes(feed: Feed) -> None:
    assert feed.poll() is None
    assert feed.poll(0.01) is None


# --- what is subscribed -------------------------------------------------------------------------------------------


def test_symbols_and_channels_select_what_is_received(worker: Worker, open_feed, read, until) -> None:
    feed = open_feed(channels=["book", "trade"], symbols=["BTC-PERP"])
    join(feed, worker, until)
    worker.snapshot()
    worker.snapshot(symbol="ETH-PERP")
    read(feed, lambda: feed.book(*BTC).usable, worker)
    worker.change([], [("101", "0")], "ETH-PERP")
    worker.send("mark", Mark("lighter", "BTC-PERP", "1", None, "1", None, None, None, None))
    worker.trade(1)
    got = settle(feed, worker, read)
    assert [type(event) for event in got] == [Trade, Heartbeat]
    assert [book.symbol for book in feed.books()] == ["BTC-PERP"]


def test_status_and_heartbeat_come_unasked(worker: Worker, open_feed, read) -> None:
    feed = open_feed(channels=[])
    status = Status("lighter", None, None, None, Stream.BOOK, StreamState.LIVE, None, None, 1, None, 7, {"BTC-PERP": 3})
    worker.keep("status", status, "")
    got = read(feed, lambda: feed.latest("status", "lighter", ""), worker)
    assert [type(event) for event in got] == [Status]
    assert [type(event) for event in settle(feed, worker, read)] == [Heartbeat]


def test_every_venue_is_there_when_none_is_named(open_feed) -> None:
    feed = open_feed(venues=None)
    for venue in ("hyperliquid", "aster", "extended", "lighter", "paradex"):
        assert feed.book(venue, "BTC-PERP").fault == NO_SNAPSHOT


def test_venue_that_is_not_part_of_the_feed_is_an_error(feed: Feed) -> None:
    for look in (lambda: feed.book("paradex", "BTC-PERP"), lambda: feed.latest("mark", "paradex", "BTC-PERP")):
        with pytest.raises(FeedError, match="it has lighter") as caught:
            look()
        assert caught.value.where == "paradex"


def test_endpoints_are_those_that_the_system_describes(short_dir: Path, open_publisher, open_feed, read) -> None:
    elsewhere = f"ipc://{short_dir}/elsewhere"
    description = {"venues": {"lighter": {"feed": elsewhere}, "aster": {"feed": f"ipc://{short_dir}/a"}}}
    replace_file(RunDir(short_dir).description, msgspec.json.encode(description))
    worker = Worker(open_publisher(elsewhere, monotonic=leaping()))
    feed = open_feed(venues=None)
    worker.snapshot()
    read(feed, lambda: feed.book(*BTC).usable, worker)
    with pytest.raises(FeedError, match="it has lighter, aster"):
        feed.book("paradex", "BTC-PERP")


@pytest.mark.parametrize("description", [b"{", b"{}", b'{"venues": {"lighter": {}}}'])
def test_description_that_cannot_be_read_falls_back_to_the_usual_endpoints(
    short_dir: Path, worker: Worker, open_feed, read, description: bytes
) -> None:
    replace_file(RunDir(short_dir).description, description)
    feed = open_feed()
    worker.snapshot()
    read(feed, lambda: feed.book(*BTC).usable, worker)


@pytest.mark.parametrize("description", [b'{"venues": []}', b'{"venues": {"lighter": "x"}}'])
def test_description_of_another_shape_falls_back_to_the_usual_endpoints(
    short_dir: Path, open_feed, description: bytes
) -> None:
    replace_file(RunDir(short_dir).description, description)
    open_feed()


def test_feed_reads_the_default_run_directory_with_a_context_of_its_own(short_dir: Path, monkeypatch) -> None:
    monkeypatch.delenv("PARAPHINA_RUN_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    with Feed() as feed:
        assert feed.run_dir.path == short_dir / "paraphina"
        assert feed.poll() is None
        context = feed._context
    assert context.closed


def test_feed_reads_the_run_directory_that_the_environment_names(short_dir: Path, monkeypatch) -> None:
    monkeypatch.setenv("PARAPHINA_RUN_DIR", str(short_dir))
    with Feed() as feed:
        assert feed.run_dir.path == short_dir


def test_closing_a_feed_leaves_a_shared_context_open(feed: Feed, context: zmq.Context) -> None:
    feed.close()
    assert not context.closed


def test_more_topics_than_a_thousand_are_all_subscribed(short_dir: Path, context: zmq.Context, open_feed) -> None:
    symbols = [f"M{number}-PERP" for number in range(1_200)]
    with context.socket(zmq.XPUB) as listener:
        listener.bind(RunDir(short_dir).feed("lighter"))
        feed = open_feed(channels=["mark"], symbols=symbols)
        heard = set()
        while listener.poll(2_000):
            heard.add(listener.recv())
    wanted = {f"mark.lighter.{symbol}" for symbol in symbols} | {
        "heartbeat.",
        "status.",
        "lifecycle.",
        f"consumer.{feed.name}",
    }
    assert heard == {b"\x01" + prefix.encode() for prefix in wanted}


# --- losses -------------------------------------------------------------------------------------------------------


def test_loss_in_a_book_is_a_gap_in_the_stream_and_mended_by_asking(live: Feed, worker: Worker, read) -> None:
    seq = worker.feed("book").seq
    worker.change([("97", "1")], [], lost=True)
    worker.change([("96", "1")], [], lost=True)
    worker.change([("95", "1")], [])
    gap, delta, *_ = read(live, lambda: live.book(*BTC).fault == "seq_gap" and not live._pending, worker)
    assert isinstance(gap, Gap)
    assert (gap.venue, gap.symbol, gap.epoch, gap.reason, gap.scope) == (*BTC, 0, Reason.SEQ_GAP, "book")
    assert (gap.expected, gap.got) == (seq + 1, seq + 3)
    assert isinstance(delta, BookDelta)
    assert live.lost == 2
    read(live, lambda: live.book(*BTC).usable, worker)
    assert_in_step(live, worker)


def test_unusable_book_refuses_prices(live: Feed, worker: Worker, read) -> None:
    worker.change([("97", "1")], [], lost=True)
    worker.change([("95", "1")], [])
    read(live, lambda: live.book(*BTC).fault == "seq_gap", worker)
    with pytest.raises(BookUnusableError, match="seq_gap"):
        _ = live.book(*BTC).best_bid


def test_snapshot_behind_a_loss_heals_it_at_once(live: Feed, worker: Worker, read) -> None:
    worker.change([("97", "1")], [], lost=True)
    worker.snapshot([("50", "1")], [("51", "1")])
    got = read(live, lambda: live.lost and not live._pending, worker)
    assert [type(event) for event in got] == [Gap, BookSnapshot]
    assert_in_step(live, worker)
    assert live._state._requested_ns == {}


def test_lost_tail_is_found_by_the_next_heartbeat(live: Feed, worker: Worker, read) -> None:
    worker.change([("97", "1")], [], lost=True)
    got = settle(live, worker, read)
    assert [type(event) for event in got if not isinstance(event, BookSnapshot)] == [Gap, Heartbeat]
    assert live.lost == 1
    read(live, lambda: live.book(*BTC).usable, worker)
    assert_in_step(live, worker)
    worker.change([("96", "1")], [])
    settle(live, worker, read)
    assert_in_step(live, worker)


def test_lost_trades_are_counted_and_touch_no_book(live: Feed, worker: Worker, read) -> None:
    worker.trade(1)
    worker.trade(2, lost=True)
    worker.trade(3)
    settle(live, worker, read)
    assert live.lost == 1
    worker.trade(4, lost=True)
    settle(live, worker, read)
    assert live.lost == 2
    assert_in_step(live, worker)


def test_gap_of_the_worker_voids_the_book_until_its_next_snapshot(live: Feed, worker: Worker, read) -> None:
    worker.lose()
    worker.change([("97", "1")], [])
    settle(live, worker, read)
    assert live.book(*BTC).reason == "read_timeout"
    assert live._state._requested_ns == {}
    worker.snapshot([("50", "1")], [("51", "1")])
    settle(live, worker, read)
    assert_in_step(live, worker)


def test_snapshot_is_asked_for_at_a_bounded_rate(live: Feed, worker: Worker, clock, read) -> None:
    worker.usable["BTC-PERP"] = False
    worker.change([("97", "1")], [], lost=True)
    asked = []
    for _ in range(10):
        worker.change([("96", "1")], [])
        settle(live, worker, read)
        asked.append(live._state._requested_ns[TOPIC])
        clock.advance(0.25)
    assert len(set(asked)) == 2
    assert asked[6] - asked[0] == 1_500_000_000


@pytest.mark.parametrize(
    ("symbols", "published"),
    [(None, [b"\x01" + TOPIC.encode(), b"\x00" + TOPIC.encode()]), (["BTC-PERP"], [b"\x01" + TOPIC.encode()])],
    ids=["by channel", "by topic"],
)
def test_asking_leaves_the_subscription_as_it_was(
    short_dir, context, open_feed, symbols, published: list[bytes]
) -> None:
    with context.socket(zmq.XPUB) as listener:
        listener.setsockopt(zmq.XPUB_VERBOSER, 1)
        listener.setsockopt(zmq.RCVTIMEO, 10_000)
        listener.bind(RunDir(short_dir).feed("lighter"))
        feed = open_feed(channels=["book"], symbols=symbols)
        joined = {listener.recv() for _ in range(5)}
        assert len(joined) == 5
        for _ in range(2):
            feed._state._requests.append(TOPIC)
            feed._request_snapshots(0)
            assert [listener.recv() for _ in published] == published
        assert not listener.poll(50)


@pytest.mark.parametrize("options", [{"channels": ["trade"]}, {"channels": ["book"], "symbols": ["ETH-PERP"]}])
def test_book_that_is_not_subscribed_is_not_asked_for(short_dir, context, open_feed, options) -> None:
    """The worker would send it to all who are, again and again; and here it would stand still."""
    with context.socket(zmq.XPUB) as listener:
        listener.setsockopt(zmq.XPUB_VERBOSER, 1)
        listener.setsockopt(zmq.RCVTIMEO, 10_000)
        listener.bind(RunDir(short_dir).feed("lighter"))
        feed = open_feed(**options)
        assert len({listener.recv() for _ in range(5)}) == 5
        assert not feed.book(*BTC).usable
        books = {"BTC-PERP": HeartbeatBook(1, None, usable=True, age_ms=0, crc32_top10=None)}
        beat = Heartbeat("lighter", None, None, None, {TOPIC: 1}, books, 0, 0)
        beat.epoch, beat.seq = 1, 1
        listener.send_multipart([b"heartbeat.lighter", encode(beat)])
        assert isinstance(feed.poll(10.0), Heartbeat)
        assert not listener.poll(50)


# --- drift --------------------------------------------------------------------------------------------------------


def corrupt(feed: Feed) -> None:
    feed.book(*BTC)._book.apply([("99", "17")], [])


def test_checksum_of_the_heartbeat_proves_drift_which_a_snapshot_mends(
    live: Feed, worker: Worker, read, logged
) -> None:
    corrupt(live)
    settle(live, worker, read)
    assert live.book(*BTC).drifts == 1
    read(live, lambda: live.book(*BTC).usable, worker)
    assert_in_step(live, worker)
    (record,) = [record for record in logged.records if record.getMessage() == "feed.drift"]
    assert record.levelno == logging.ERROR
    assert record.fields == {"venue": "lighter", "symbol": "BTC-PERP", "found_by": "checksum"}


def test_refresh_for_another_subscriber_proves_drift_and_mends_it(
    live: Feed, worker: Worker, subscriber, read, logged
) -> None:
    corrupt(live)
    subscriber(worker.publisher._socket.getsockopt_string(zmq.LAST_ENDPOINT), "book.")
    read(live, lambda: live.book(*BTC).drifts, worker)
    assert_in_step(live, worker)
    assert [r.fields["found_by"] for r in logged.records if r.getMessage() == "feed.drift"] == ["refresh"]


def test_heartbeat_tells_of_books_that_are_not_followed(worker: Worker, open_feed, read) -> None:
    feed = open_feed(symbols=["BTC-PERP"])
    worker.snapshot()
    worker.snapshot(symbol="ETH-PERP")
    read(feed, lambda: feed.book(*BTC).usable, worker)
    settle(feed, worker, read)
    assert [book.symbol for book in feed.books()] == ["BTC-PERP"]
    assert feed._state._requested_ns == {}


# --- silence ------------------------------------------------------------------------------------------------------


def test_books_hide_when_the_heartbeat_is_lost_and_return_with_it(live: Feed, worker: Worker, clock, read) -> None:
    clock.advance(3.0)
    assert live.book(*BTC).usable
    clock.advance(0.001)
    assert live.book(*BTC).reason == "heartbeat_lost"
    assert [book.reason for book in live.books()] == ["heartbeat_lost"]
    worker.change([("97", "1")], [])
    read(live, lambda: live.book(*BTC)._book.size_at("bid", "97"), worker)
    assert live.book(*BTC).reason == "heartbeat_lost"
    settle(live, worker, read)
    assert_in_step(live, worker)
    assert live.book(*BTC).drifts == 0


def test_venue_that_was_never_heard_is_silent_after_three_seconds(feed: Feed, clock) -> None:
    assert feed.book(*BTC).reason == NO_SNAPSHOT
    clock.advance(3.1)
    assert feed.book(*BTC).reason == "heartbeat_lost"


def test_book_that_a_consumer_holds_hides_when_the_heartbeat_is_lost(live: Feed, clock) -> None:
    book = live.book(*BTC)
    clock.advance(60)
    assert live.poll() is None
    assert not book.usable


# --- lives of the publisher ---------------------------------------------------------------------------------------


def test_new_life_voids_every_book_and_value(live: Feed, worker: Worker, read) -> None:
    worker.snapshot(symbol="ETH-PERP")
    worker.send("mark", Mark("lighter", "BTC-PERP", "1", None, "1", None, None, None, None))
    settle(live, worker, read)
    assert live.latest("mark", *BTC) is not None
    worker.publisher.epoch += 1
    worker.feed("trade").seq = 0
    worker.trade(1)
    read(live, lambda: live.latest("trade", *BTC), worker)
    assert [book.reason for book in live.books()] == [NO_SNAPSHOT, NO_SNAPSHOT]
    assert live.latest("mark", *BTC) is None


def test_publisher_that_dies_is_followed_into_its_next_life(live: Feed, worker: Worker, open_worker, read) -> None:
    for epoch in (2, 3):
        worker.publisher.close()
        worker = open_worker(epoch)
        worker.snapshot([("50", str(epoch))], [("51", "1")])
        book = live.book(*BTC)
        read(live, lambda book=book, epoch=epoch: book._book.best_bid == ("50", str(epoch)), worker)
        assert_in_step(live, worker)
        worker.change([("49", "1")], [])
        settle(live, worker, read)
        assert_in_step(live, worker)
    assert (live.lost, live.malformed) == (0, 0)


def test_zombie_is_ignored_and_counted(live: Feed, worker: Worker, read) -> None:
    worker.publisher.epoch -= 1
    for number in range(3):
        worker.trade(number)
    worker.send("book", BookSnapshot("lighter", "BTC-PERP", "1", None, [], [], None, None))
    worker.publisher.epoch += 1
    worker.feed("book").seq -= 1
    assert [type(event) for event in settle(live, worker, read)] == [Heartbeat]
    assert live._state._publishers["lighter"].sequence.stale == 4
    assert_in_step(live, worker)


def test_older_life_is_adopted_when_nothing_else_is_heard(live: Feed, worker: Worker, open_worker, clock, read) -> None:
    worker.publisher.close()
    older = open_worker(epoch=0)
    clock.advance(5)
    older.snapshot([("50", "1")], [("51", "1")])
    book = live.book(*BTC)
    read(live, lambda: book._book.best_bid == ("50", "1"), older)
    older.beat()
    read(live, lambda: live.book(*BTC).usable, older)
    assert_in_step(live, older)


# --- values -------------------------------------------------------------------------------------------------------


def test_latest_value_of_a_channel_is_kept(live: Feed, worker: Worker, read) -> None:
    assert live.latest("mark", *BTC) is None
    for price in ("1", "2"):
        worker.send("mark", Mark("lighter", "BTC-PERP", "1", None, price, None, None, None, None))
    settle(live, worker, read)
    event = live.latest("mark", *BTC)
    assert isinstance(event, Mark)
    assert event.mark_price == "2"
    assert live.latest("mark", "lighter", "ETH-PERP") is None


def lifecycle(process: str, event: str) -> Lifecycle:
    return Lifecycle(process, None, None, None, event, None, 1, 1, None, None, None, 0, 0, None)


def test_lifecycle_comes_from_the_gateways_own_endpoint(open_worker, open_feed, read) -> None:
    gateway = open_worker(epoch=9, venue="lifecycle")
    feed = open_feed(channels=["lifecycle"])
    topic = gateway.publisher.topic(Topic("lifecycle", "lighter", ""))
    with gateway.publisher.exclusive():
        gateway.publisher.send_latest(topic, "lifecycle", lifecycle("lighter", "exited"))
    got = read(feed, lambda: feed.latest("lifecycle", "lighter", ""), gateway)
    assert [(event.venue, event.event) for event in got if isinstance(event, Lifecycle)] == [("lighter", "exited")]
    assert feed.malformed == 0


def test_life_of_the_gateway_is_no_life_of_a_venue(live: Feed, open_worker, open_feed, worker, read) -> None:
    gateway = open_worker(epoch=9, venue="lifecycle")
    feed = open_feed(channels=["book", "lifecycle"])
    read(feed, lambda: feed.book(*BTC).usable, worker)
    topic = gateway.publisher.topic(Topic("lifecycle", "lighter", ""))
    with gateway.publisher.exclusive():
        gateway.publisher.send_latest(topic, "lifecycle", lifecycle("lighter", "stale"))
    read(feed, lambda: feed.latest("lifecycle", "lighter", ""), gateway)
    assert feed.book(*BTC).usable


# --- rubbish ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        (b"trade.lighter.BTC-PERP",),
        (b"trade.lighter.BTC-PERP", b"{}", b"more"),
        (b"trade.lighter.BTC-PERP", b"{"),
        (b"trade.lighter.BTC-PERP", b'{"kind":"trade"}'),
        (b"trade.lighter.\xff", b"{}"),
        (b"trade.", encode(Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", "1"))),
        (b"trade.elsewhere.BTC-PERP", encode(Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", "1"))),
    ],
    ids=["one part", "three parts", "no JSON", "no event", "no text", "no topic", "no venue of this feed"],
)
def test_malformed_message_is_counted_and_stops_nothing(live: Feed, worker: Worker, read, logged, parts) -> None:
    with worker.publisher.exclusive():
        worker.publisher._socket.send_multipart(parts)
    worker.trade(7)
    got = settle(live, worker, read)
    assert [type(event) for event in got] == [Trade, Heartbeat]
    assert live.malformed == 1
    assert logged.events.count("feed.malformed") == 1
    assert_in_step(live, worker)


def test_kind_of_a_newer_schema_is_passed_over(live: Feed, worker: Worker, read) -> None:
    with worker.publisher.exclusive():
        worker.publisher._socket.send_multipart((b"trade.lighter.BTC-PERP", b'{"kind":"candle","epoch":1,"seq":1}'))
    assert [type(event) for event in settle(live, worker, read)] == [Heartbeat]
    assert live.malformed == 0


# --- a consumer that is too slow ----------------------------------------------------------------------------------


def mark_of(price: str, recv_mono_ns: int) -> Mark:
    event = Mark("lighter", "BTC-PERP", "1", None, price, None, None, None, None)
    event.recv_mono_ns = recv_mono_ns
    return event


@pytest.fixture
def slow(worker: Worker, open_feed, clock, read) -> Callable[..., Feed]:
    """A feed that is given three marks, read 5 s ago, 2 s ago and now."""

    def make(**options: object) -> Feed:
        feed = open_feed(max_age_ms=1_000.0, **options)
        worker.keep("mark", mark_of("0", clock.now_ns))
        read(feed, lambda: feed.latest("mark", *BTC), worker)
        for price, age_s in (("1", 5), ("2", 2), ("3", 0)):
            worker.send("mark", mark_of(price, clock.now_ns - age_s * 1_000_000_000))
        return feed

    return make


def prices(events: list[Event]) -> list[str | None]:
    return [event.mark_price for event in events if isinstance(event, Mark)]


def test_old_events_are_delivered_all_the_same_when_the_consumer_does_not_mind(slow, worker: Worker, read) -> None:
    feed = slow(behind="ignore")
    assert prices(settle(feed, worker, read)) == ["1", "2", "3"]
    assert feed.conflated == 0


def test_old_events_give_way_to_the_last_of_their_topic(slow, worker: Worker, until) -> None:
    feed = slow(behind="conflate")
    worker.beat()
    until(lambda: last_heard(feed, "heartbeat.lighter"), feed._receive)
    assert prices(list(iter(feed.poll, None))) == ["3"]
    assert feed.conflated == 2


def test_consumer_that_is_behind_is_given_what_has_arrived_meanwhile(slow, until) -> None:
    feed = slow(behind="conflate")
    until(feed._receive)
    assert feed._first.socket.poll(10_000)
    got: list[Event] = []

    def step() -> None:
        event = feed.poll(0.01)
        if event is not None:
            got.append(event)

    until(lambda: "3" in prices(got), step)
    assert "1" not in prices(got)
    assert len(got) + feed.conflated == 3


def test_old_event_is_an_error_when_the_consumer_wants_one(slow, until) -> None:
    feed = slow(behind="raise")
    with pytest.raises(
        BehindError, match=r"lighter: the next event is 5000 ms old, over the limit of 1000 ms"
    ) as caught:
        until(lambda: False, feed.poll)
    assert caught.value.age_ms == 5_000.0
    assert "read faster" in caught.value.advice


def test_consumer_may_read_on_after_the_error(slow, until) -> None:
    feed = slow(behind="raise")
    got: list[Event] = []

    def step() -> None:
        event = feed.poll()
        if event is not None:
            got.append(event)

    for _ in range(2):
        with pytest.raises(BehindError):
            until(lambda: False, step)
    until(lambda: got, step)
    assert prices(got) == ["3"]


@pytest.mark.parametrize("behind", ["conflate", "raise"])
def test_fresh_events_and_events_without_a_time_are_delivered(open_feed, worker, clock, read, behind: str) -> None:
    feed = open_feed(max_age_ms=1_000.0, behind=behind)
    worker.snapshot()  # without a receive time
    read(feed, lambda: feed.book(*BTC).usable, worker)
    for age_ms in (1_000, 0):
        worker.send("mark", mark_of(str(age_ms), clock.now_ns - age_ms * 1_000_000))
    assert prices(settle(feed, worker, read)) == ["1000", "0"]
    assert feed.conflated == 0


def test_old_heartbeat_is_no_reason_to_complain(open_feed, worker: Worker, clock, read) -> None:
    feed = open_feed(max_age_ms=1_000.0, behind="raise")
    beat = Heartbeat("lighter", None, None, None, {}, {}, 0, 0)
    beat.recv_mono_ns = clock.now_ns - 60_000_000_000
    worker.keep("heartbeat", beat, "")
    assert Heartbeat in {type(event) for event in read(feed, lambda: last_heard(feed, "heartbeat.lighter"), worker)}


def named(kind: type[Event], venue: str, symbol: str) -> Event:
    match kind.__name__:
        case "Mark":
            return Mark(venue, symbol, "1", None, "1", None, None, None, None)
        case "Gap":
            return Gap(venue, symbol, "1", None, "book", Reason.SEQ_GAP, None, None, "resync")
        case "BookDelta":
            return BookDelta(venue, symbol, "1", None, [], [], None, None)
    return BookSnapshot(venue, symbol, "1", None, [], [], None, None)


def test_conflation_keeps_the_last_of_each_market_and_kind_in_order_of_arrival() -> None:
    first, other, last = (named(Mark, "lighter", symbol) for symbol in ("BTC-PERP", "ETH-PERP", "BTC-PERP"))
    elsewhere = named(Mark, "aster", "BTC-PERP")
    assert list(map(id, conflate([first, other, elsewhere, last]))) == list(map(id, [other, elsewhere, last]))


def test_conflation_keeps_every_gap_and_takes_snapshots_and_deltas_for_one_topic() -> None:
    kinds = [BookSnapshot, Gap, BookDelta, BookDelta, Gap, BookSnapshot]
    events = [named(kind, *BTC) for kind in kinds]
    assert list(map(id, conflate(events))) == [id(events[number]) for number in (1, 4, 5)]


def test_conflation_keeps_every_state_and_every_process() -> None:
    status = Status("lighter", None, None, None, Stream.BOOK, StreamState.LIVE, None, None, 1, None, 7, {})
    events: list[Event] = [status, lifecycle("lighter", "exited"), status, lifecycle("lighter", "started")]
    assert conflate(events) == events


def test_conflation_does_not_take_two_books_of_a_market_for_one_topic() -> None:
    fast = BookSnapshot("hyperliquid", "BTC-PERP", "BTC", None, [("1", "1")], [], 5, None)
    deep = BookSnapshot("hyperliquid", "BTC-PERP", "BTC", None, [("1", "1")], [], 20, None)
    assert conflate([fast, deep]) == [fast, deep]


# --- callbacks ----------------------------------------------------------------------------------------------------


def test_callbacks_get_the_events_of_their_channel(live: Feed, worker: Worker) -> None:
    seen: dict[str, list[Event]] = {"book": [], "trade": [], "twice": [], "heartbeat": []}
    for channel in ("book", "trade", "heartbeat"):
        live.on(channel, seen[channel].append)
    live.on("trade", seen["twice"].append)
    worker.trade(1)
    worker.change([("97", "1")], [])
    worker.lose()
    worker.send("mark", mark_of("1", 0))
    worker.snapshot()
    worker.beat()
    live.run(until=lambda: bool(seen["heartbeat"]))
    assert [type(event) for event in seen["book"]] == [BookDelta, Gap, BookSnapshot]
    assert [type(event) for event in seen["trade"]] == [Trade]
    assert seen["twice"] == seen["trade"]


def test_run_looks_up_when_nothing_comes(feed: Feed, monkeypatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(feed, "poll", asked.append)
    feed.run(until=lambda: len(asked) == 3)
    assert asked == [1.0, 1.0, 1.0]


# --- several venues -----------------------------------------------------------------------------------------------


def test_top_shows_the_symbol_on_every_venue(open_worker, open_feed, read) -> None:
    feed = open_feed(venues=["lighter", "aster"])
    workers = [open_worker(venue=venue) for venue in ("lighter", "aster")]
    for worker in workers:
        worker.snapshot()
    read(feed, lambda: len([top for top in feed.top("BTC-PERP") if top.bid]) == 2, *workers)
    assert [(top.venue, top.bid, top.ask, top.reason) for top in feed.top("BTC-PERP")] == [
        ("lighter", ("99", "1"), ("100", "1"), None),
        ("aster", ("99", "1"), ("100", "1"), None),
    ]


def test_worker_that_the_parent_saw_die_takes_its_books_along(live: Feed, worker, open_worker, clock, read) -> None:
    gateway = open_worker(epoch=9, venue="lifecycle")
    died = lifecycle("lighter", "exited")
    died.recv_mono_ns = clock.now_ns
    topic = gateway.publisher.topic(Topic("lifecycle", "lighter", ""))
    with gateway.publisher.exclusive():
        gateway.publisher.send_latest(topic, "lifecycle", died)
    got = read(live, lambda: live.book(*BTC).reason == "worker_exited", gateway)
    assert not [event for event in got if isinstance(event, Lifecycle)]


# --- over TCP -----------------------------------------------------------------------------------------------------


#: How far behind the first port of a system lighter's is.
LIGHTER_PORT = 3


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_feed_of_another_machine_is_read_over_tcp(
    worker: Worker, open_feed, context, free_port: int, curve, read, *, is_encrypted: bool
) -> None:
    directory, keys = curve if is_encrypted else (None, None)
    first = free_port - LIGHTER_PORT
    listener = FeedListener(context, Network("127.0.0.1", first, str(directory) if directory else None))
    try:
        worker.publisher.listen(listener, "lighter")
        feed = open_feed(remote=Remote("127.0.0.1", first, keys))
        worker.snapshot()
        row = Board.in_memory().worker(0)
        read(feed, lambda: listener.serve(time.monotonic_ns(), row) or feed.book(*BTC).usable, worker)
        assert_in_step(feed, worker)
        assert row[WorkerWord.TCP] == TCP_LISTENING
    finally:
        listener.close()


def test_every_venue_of_another_machine_is_there_when_none_is_named(open_feed) -> None:
    feed = open_feed(venues=None, remote=Remote("127.0.0.1", 5_000))
    assert feed.book("paradex", "BTC-PERP").reason == NO_SNAPSHOT


def test_venue_that_another_machine_cannot_have_is_an_error_of_ours(open_feed) -> None:
    with pytest.raises(ParaphinaError):
        open_feed(venues=["dydx"], remote=Remote("127.0.0.1", 5_000))
