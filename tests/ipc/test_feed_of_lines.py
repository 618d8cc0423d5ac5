"""Feeds of several lines and systems over real sockets: whom they read, what they deliver, and what they notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_lines import BTC, SYMBOL, VENUE, TwoLineSystem

from ipc.aio import AsyncFeed
from ipc.errors import FeedError
from ipc.events import BookDelta, BookSnapshot, Event, Heartbeat, Lifecycle, Trade
from ipc.feed import BehindError, Feed, conflate
from ipc.feed_state import FeedState
from ipc.listener import FeedListener
from ipc.remote import Network, PortPair, Remote
from ipc.rundir import RunDir
from ipc.systems import directory_event, tcp_ports
from ipc.topics import Topic


@pytest.fixture
def new_system(short_dir: Path, open_publisher) -> Callable[[str], TwoLineSystem]:
    return lambda name: TwoLineSystem(RunDir(short_dir / name), open_publisher)


@pytest.fixture
def system(new_system) -> TwoLineSystem:
    """A system whose lighter has two lines, each with a book in state 1."""
    system = new_system("one")
    system.start("a", "b")
    system.describe("a", "b")
    system.step(1)
    return system


@pytest.fixture
def open_feed(context) -> Iterator[Callable[..., Feed]]:
    made: list[Feed] = []

    def make(run_dir: object, **options: object) -> Feed:
        options = {"venues": [VENUE], "channels": ["book", "trade"], "name": "reader", **options}
        made.append(Feed(run_dir, context=context, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for feed in made:
        feed.close()


@pytest.fixture
def read(until) -> Callable[..., list[Event]]:
    """Read a feed, with turns of its systems, until a condition holds; return the events but for heartbeats."""

    def read(feed: Feed, condition: Callable[[], object], *systems: TwoLineSystem) -> list[Event]:
        got: list[Event] = []

        def step() -> None:
            for one in systems:
                one.turn()
            event = feed.poll(0.005)
            if event is not None:
                got.append(event)

        until(condition, step)
        return [event for event in got if not isinstance(event, Heartbeat)]

    return read


@pytest.fixture
def joined(open_feed, read, clock) -> Callable[..., Feed]:
    """Open a feed and wait until every source of its systems has its first snapshot; its clock stands still."""

    def join(*systems: TwoLineSystem, sources: int, **options: object) -> Feed:
        paths = [system.run_dir.path for system in systems]
        feed = open_feed(paths[0] if len(paths) == 1 else paths, clock=clock, **options)
        workers = [worker for system in systems for worker in system.workers.values()]
        for worker in workers:
            worker.refreshes = 0
        # A delivered book comes of the first source; the others have answered their subscriptions as well.
        read(feed, lambda: feed.book(*BTC).usable and sum(w.refreshes > 0 for w in workers) >= sources, *systems)
        for _ in range(5):
            feed.poll(0.01)
        return feed

    return join


def state(feed: Feed) -> int:
    return int(feed.book(*BTC).best_bid[1])


def readers(system: TwoLineSystem, line: str) -> list[str]:
    system.turn()
    return system.workers[line].publisher.consumer_names()


# --- two lines of one system ------------------------------------------------------------------------------------------


def test_one_line_is_delivered_and_the_other_stands_by(system, joined, read) -> None:
    feed = joined(system, sources=2)
    assert [str(source) for source in feed.sources] == [":a", ":b"]
    system.step(2)
    got = read(feed, lambda: state(feed) == 2, system)
    assert [type(event) for event in got] == [BookDelta]
    assert (got[0].line, feed.book(*BTC).line, feed.changeovers) == ("a", "a", {})


def test_a_gap_of_one_line_is_the_others_snapshot(system, joined, read) -> None:
    feed = joined(system, sources=2)
    book = feed.book(*BTC)
    system.step(2)
    read(feed, lambda: state(feed) == 2, system)
    for _ in range(5):  # both lines were read
        feed.poll(0.01)
    system.workers["a"].gap()
    (snapshot,) = read(feed, lambda: feed.changeovers, system)
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.cause, snapshot.line, book.usable, book.line) == ("takeover", "b", True, "b")
    system.workers["b"].step(3)
    read(feed, lambda: state(feed) == 3, system)
    assert feed.book(*BTC) is book
    assert feed.changeovers == {"lost": 1}
    assert [(top.venue, top.bid) for top in feed.top(SYMBOL)] == [(VENUE, ("99", "3"))]


@pytest.mark.parametrize("dead", ["a", "b"])
def test_a_line_that_dies_is_noticed_by_its_connection_alone(system, joined, read, until, dead) -> None:
    feed = joined(system, sources=2)  # no time passes for it, so no heartbeat can be late
    system.workers[dead].publisher.close()
    if dead == "a":
        (snapshot,) = read(feed, lambda: feed.changeovers)
        assert (snapshot.cause, snapshot.line, state(feed)) == ("takeover", "b", 1)
    else:
        read(feed, lambda: not feed._arbitration._states[1].books(feed._now())[0].usable)
        assert (feed.changeovers, feed.book(*BTC).line, feed.book(*BTC).usable) == ({}, "a", True)


def test_what_a_line_sent_before_it_died_still_counts(system, joined, read) -> None:
    feed = joined(system, sources=2)
    system.workers["b"].step(2)
    for _ in range(5):
        feed.poll(0.01)
    system.workers["a"].trade("7")
    system.workers["a"].step(2)
    feed._links.links[0].socket.poll(10_000)
    system.workers["a"].publisher.close()
    got = read(feed, lambda: feed.changeovers)
    assert [type(event) for event in got] == [Trade, BookDelta, BookSnapshot]
    assert state(feed) == 2


def test_trades_are_the_union_of_both_lines(system, joined, read) -> None:
    feed = joined(system, sources=2)
    a, b = system.workers["a"], system.workers["b"]
    for worker, trade_id in ((a, "1"), (b, "1"), (b, "2"), (a, "2"), (a, "3")):
        worker.trade(trade_id)
    seen: list[str] = []
    got = read(feed, lambda: seen.append("") or len(seen) > 20, system)
    assert sorted(event.trade_id for event in got if isinstance(event, Trade)) == ["1", "2", "3"]
    assert feed.trades_of_one_line == 1


def test_snapshots_are_requested_of_the_line_that_needs_them(system, joined, read) -> None:
    feed = joined(system, sources=2)
    a, b = system.workers["a"], system.workers["b"]
    a.refreshes = b.refreshes = 0
    b.step(2, lost=True)
    b.step(3)
    read(feed, lambda: b.refreshes, system)
    assert (a.refreshes, feed.lost, feed.changeovers) == (0, 1, {})


def test_the_last_heartbeat_is_kept_for_each_line(system, joined, read) -> None:
    feed = joined(system, sources=2, channels=["book", "heartbeat"])
    for worker in system.workers.values():
        worker.beat()
    read(feed, lambda: all(feed.latest("heartbeat", VENUE, "", line) for line in ("a", "b")), system)
    assert feed.latest("heartbeat", VENUE, "", "b").line == "b"


def test_heartbeats_of_two_lines_are_not_conflated() -> None:
    beats = [Heartbeat(VENUE, None, None, None, {}, {}, 0, 0) for _ in range(4)]
    for number, beat in enumerate(beats):
        beat.line = "ab"[number % 2]
    assert conflate(beats) == beats[2:]


def test_a_change_over_is_not_blamed_on_the_consumer(system, joined, read, clock) -> None:
    """The book that it delivers may have been quiet for long."""
    for worker in system.workers.values():
        worker.read_ns = clock()
    feed = joined(system, sources=2, max_age_ms=100, behind="raise")
    clock.advance(1)
    system.workers["a"].gap()
    got = read(feed, lambda: feed.changeovers, system)
    assert [event.cause for event in got] == ["takeover"]
    system.workers["b"].step(2)
    with pytest.raises(BehindError, match="the next event is 1000 ms old"):
        read(feed, lambda: False, system)


# --- which lines ------------------------------------------------------------------------------------------------------


def test_a_feed_of_one_line_has_no_arbitration_and_no_monitor(new_system, open_feed, read) -> None:
    system = new_system("one")
    system.start("a")
    system.describe()
    system.step(1, "a")
    feed = open_feed(system.run_dir.path)
    read(feed, lambda: feed.book(*BTC).usable, system)
    assert isinstance(feed._state, FeedState)
    assert feed._links.links[0].monitor is None
    assert (feed.changeovers, feed.trades_of_one_line, feed.single_line_s) == ({}, 0, 0.0)
    assert feed.latest("heartbeat", VENUE, "", "b") is None


def test_a_line_that_is_not_described_is_not_read(new_system, open_feed, read) -> None:
    system = new_system("one")
    system.start("a", "b")
    system.describe()
    system.step(1)
    feed = open_feed(system.run_dir.path)
    read(feed, lambda: feed.book(*BTC).usable, system)
    assert readers(system, "b") == []


def test_a_line_that_appears_later_joins(new_system, open_feed, read, clock) -> None:
    system = new_system("one")
    system.start("a")
    system.describe()
    system.step(1, "a")
    feed = open_feed(system.run_dir.path, clock=clock)
    read(feed, lambda: feed.book(*BTC).usable, system)
    book = feed.book(*BTC)
    system.start("b")
    system.workers["b"].step(1)
    system.describe("a", "b")
    system.report("started", "b")
    read(feed, lambda: system.workers["b"].refreshes, system)
    assert [str(source) for source in feed.sources] == [":a", ":b"]
    for _ in range(5):
        feed.poll(0.01)
    system.workers["a"].publisher.close()
    got = read(feed, lambda: feed.changeovers)
    assert [event.cause for event in got if isinstance(event, BookSnapshot)][-1:] == ["takeover"]
    assert (feed.book(*BTC) is book, book.line, book.usable) == (True, "b", True)


def test_a_feed_may_come_before_its_system(new_system, open_feed, read) -> None:
    system = new_system("one")
    feed = open_feed(system.run_dir.path)
    system.start("a", "b")
    system.step(1)
    system.describe("a", "b")
    system.report("started", "a")
    read(feed, lambda: all(worker.refreshes for worker in system.workers.values()), system)
    assert [str(source) for source in feed.sources] == [":a", ":b"]
    assert feed.wait_live([BTC], 10)


def test_a_line_that_is_described_no_more_is_left(system, joined, read) -> None:
    feed = joined(system, sources=2)
    system.describe()
    system.report("started", "a")
    read(feed, lambda: readers(system, "b") == [], system)
    system.workers["a"].step(2)
    read(feed, lambda: state(feed) == 2, system)


@pytest.mark.parametrize(("chosen", "other"), [("a", "b"), ("b", "a")])
def test_a_chosen_line_is_read_alone(system, open_feed, read, clock, chosen, other) -> None:
    feed = open_feed(system.run_dir.path, sources=[f":{chosen}"], clock=clock)
    read(feed, lambda: feed.book(*BTC).usable, system)
    assert readers(system, other) == []
    assert isinstance(feed._state, FeedState)
    system.report("exited", other, at_ns=2 * clock())
    system.workers[chosen].step(2)
    read(
        feed, lambda: feed.latest("lifecycle", VENUE if other == "a" else f"{VENUE}.b", "") and state(feed) == 2, system
    )
    system.report("exited", chosen, at_ns=2 * clock())
    read(feed, lambda: feed.book(*BTC).reason == "worker_exited", system)


def test_a_chosen_line_may_appear_later(new_system, open_feed, read) -> None:
    system = new_system("one")
    system.start("a")
    system.describe()
    feed = open_feed(system.run_dir.path, sources=[":b"])
    system.start("b")
    system.step(1)
    assert not feed.wait_live([BTC], 0.05)
    system.describe("a", "b")
    system.report("started", "b")
    read(feed, lambda: feed.book(*BTC).usable, system)
    assert readers(system, "a") == []


def test_errors_say_which_sources_there_are(system, open_feed) -> None:
    with pytest.raises(FeedError, match=r":c: no such line \(lines are a and b"):
        open_feed(system.run_dir.path, sources=[":c"])
    feed = open_feed(system.run_dir.path)
    with pytest.raises(FeedError, match=r":c: no such source in this feed; it has :a, :b"):
        feed.connection(VENUE, ":c")
    with pytest.raises(FeedError, match="no such venue in this feed"):
        feed.connection("aster")
    assert feed.connection(VENUE) is feed.connection(VENUE, ":b") is None


# --- several systems --------------------------------------------------------------------------------------------------


def test_a_system_that_stops_gives_way_to_another(new_system, joined, read) -> None:
    old, new = new_system("old"), new_system("new")
    for system in (old, new):
        system.start("a")
        system.describe()
        system.step(1, "a")
    feed = joined(old, new, sources=2)
    assert [str(source) for source in feed.sources] == ["h1:a", "h2:a"]
    old.workers["a"].gap()
    old.workers["a"].publisher.close()
    (snapshot,) = read(feed, lambda: feed.changeovers, new)
    assert (snapshot.cause, feed.book(*BTC).usable) == ("takeover", True)
    new.workers["a"].step(2)
    read(feed, lambda: state(feed) == 2, new)


def test_sources_narrow_systems(new_system, open_feed, read) -> None:
    systems = [new_system("one"), new_system("two")]
    for system in systems:
        system.start("a", "b")
        system.describe("a", "b")
        system.step(1)
    feed = open_feed([system.run_dir.path for system in systems], sources=["h1:b", "h2"])
    assert [str(source) for source in feed.sources] == ["h1:b", "h2:a", "h2:b"]
    read(feed, lambda: feed.book(*BTC).usable, *systems)
    assert readers(systems[0], "a") == []


# --- over TCP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def over_tcp(system, context, first_port) -> Iterator[tuple[TwoLineSystem, Network]]:
    """The system, also on TCP, with line b on a port of its own."""
    ports = {"lighter.b": PortPair(first_port + 20, first_port + 21)}
    network = Network("127.0.0.1", first_port, None, ports)
    listener = FeedListener(context, network)
    for publisher, name in (
        (system.workers["a"].publisher, VENUE),
        (system.workers["b"].publisher, "lighter.b"),
        (system.lifecycle, "lifecycle"),
    ):
        publisher.listen(listener, name)
    yield system, network
    listener.close()


def publish_directory(system: TwoLineSystem, network: Network, *processes: str) -> None:
    lines = {
        name: {"feed": "ipc://x", "tcp": network.endpoint(process), "account_tcp": None}
        for name, process in zip(("a", "b"), processes, strict=False)
    }
    described = {"venues": {VENUE: {**lines["a"], "lines": lines}}}
    feed = system.lifecycle.topic(Topic("lifecycle", "directory", ""))
    with system.lifecycle.exclusive():
        system.lifecycle.send_latest(feed, "lifecycle", directory_event(tcp_ports(described), 1, 1))


def test_lines_of_a_remote_system_are_those_of_its_directory(over_tcp, open_feed, read) -> None:
    system, network = over_tcp
    feed = open_feed(None, remote=Remote("127.0.0.1", network.port), channels=["book", "lifecycle"])
    read(feed, lambda: feed.book(*BTC).usable, system)
    assert [str(source) for source in feed.sources] == [":a"]
    publish_directory(system, network, VENUE, "lighter.b")
    system.workers["b"].refreshes = 0
    got = read(feed, lambda: system.workers["b"].refreshes, system)
    assert [str(source) for source in feed.sources] == [":a", ":b"]
    assert not any(isinstance(event, Lifecycle) for event in got)  # the directory is for the feed alone
    read(feed, lambda: str(feed.connection(VENUE, ":b")) == "connected", system)
    system.workers["a"].publisher.close()
    read(feed, lambda: feed.changeovers)
    assert (feed.book(*BTC).line, state(feed)) == ("b", 1)


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_asyncio_reads_two_lines(system) -> None:
    async def scenario() -> None:
        async def turns() -> None:
            while True:
                system.turn()
                await asyncio.sleep(0.001)

        going = asyncio.create_task(turns())
        async with AsyncFeed(system.run_dir.path, venues=[VENUE], channels=["book"]) as feed:
            assert await feed.wait_live([BTC], 15)
            for _ in range(1500):
                if all(worker.refreshes for worker in system.workers.values()):
                    break
                await asyncio.sleep(0.01)
            reader = asyncio.create_task(anext(aiter(feed)))
            await asyncio.sleep(0.1)
            going.cancel()
            system.workers["a"].publisher.close()
            async with asyncio.timeout(15):
                event = await reader
            assert (event.cause, event.line) == ("takeover", "b")
            assert [str(source) for source in feed.sources] == [":a", ":b"]

    asyncio.run(scenario())
