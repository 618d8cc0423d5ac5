from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Any

import pytest
import zmq

from ipc.codec import encode
from ipc.events import BookDelta, BookSnapshot, Event, Mark, Status, Trade
from ipc.health import Stream, StreamState
from ipc.publisher import Publisher, TopicFeed
from ipc.topics import Topic

BOOK = Topic("book", "lighter", "BTC-PERP")
TRADE = Topic("trade", "lighter", "BTC-PERP")
MARK = Topic("mark", "lighter", "BTC-PERP")
STATUS = Topic("status", "lighter", "")
MS = 1_000_000


def trade(number: int, text: str = "") -> Trade:
    return Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", str(number), text or "trade")


def mark(price: str) -> Mark:
    return Mark("lighter", "BTC-PERP", "1", None, price, None, None, None, None)


def status() -> Status:
    return Status("lighter", None, None, None, Stream.BOOK, StreamState.LIVE, None, None, 1, None, 7, {})


def hurried() -> int:
    """A monotonic clock on which a second takes 10 ms, so that nobody waits for the pace of snapshots."""
    return time.monotonic_ns() * 100


class NumberBook:
    """A book whose state is one number: its venue sequence number, which is also its only price."""

    def __init__(self, publisher: Publisher, topic: Topic = BOOK) -> None:
        self.publisher = publisher
        self.topic = topic
        self.number = 1
        self.feed = publisher.topic(topic)
        self.feed.snapshot = self.snapshot

    def snapshot(self) -> BookSnapshot:
        levels = [(str(self.number), "1")]
        event = BookSnapshot("lighter", self.topic.symbol, "1", None, levels, [], None, self.number, "refresh")
        event.flags = ("refresh",)
        return event

    def change(self) -> None:
        with self.publisher.exclusive():
            self.number += 1
            changes = [(str(self.number), "1"), (str(self.number - 1), "0")]
            event = BookDelta("lighter", self.topic.symbol, "1", None, changes, [], self.number, self.number - 1)
            self.publisher.send(self.feed, event)


@pytest.fixture
def endpoint(short_dir: Path) -> str:
    return f"ipc://{short_dir}/lighter.feed"


@pytest.fixture
def publisher(open_publisher, endpoint: str) -> Publisher:
    return open_publisher(endpoint, epoch=7, monotonic=hurried)


def acquire(publisher: Publisher) -> None:
    with publisher.exclusive():
        pass


def seqs(publisher: Publisher) -> dict[str, int]:
    with publisher._access.lock:
        return publisher.last_seqs()


def send(publisher: Publisher, feed: TopicFeed, event: Event) -> bool:
    with publisher.exclusive():
        return publisher.send(feed, event)


def keep(publisher: Publisher, topic: Topic, key: str, event: Event) -> None:
    """Send an event that late subscribers receive as well."""
    feed = publisher.topic(topic)
    with publisher.exclusive():
        publisher.send_latest(feed, key, event)


@pytest.fixture
def join(until) -> Callable[..., list[tuple[str, Event]]]:
    """Gives turns until a subscriber has received ``count`` messages, and returns all that it got."""

    def wait(publisher: Publisher, subscriber, count: int = 1) -> list[tuple[str, Event]]:
        got: list[tuple[str, Event]] = []

        def step() -> None:
            acquire(publisher)
            got.extend(subscriber.waiting(1))

        until(lambda: len(got) >= count, step)
        return got

    return wait


# --- sending ------------------------------------------------------------------------------------------------------


def test_event_is_stamped_with_life_order_and_time(open_publisher, endpoint: str, clock) -> None:
    publisher = open_publisher(endpoint, epoch=7, clock=clock)
    event = trade(1)
    event.recv_ns = 5
    assert send(publisher, publisher.topic(TRADE), event)
    assert (event.epoch, event.seq, event.publish_ns, event.recv_ns) == (7, 1, clock.now_ns, 5)
    assert (publisher.published, publisher.drops, publisher.errors) == (1, 0, 0)


def test_each_topic_counts_for_itself_from_one(publisher: Publisher) -> None:
    trades, marks = publisher.topic(TRADE), publisher.topic(MARK)
    for event in (trade(1), trade(2)):
        send(publisher, trades, event)
    send(publisher, marks, mark("1"))
    publisher.topic(BOOK)
    assert seqs(publisher) == {str(TRADE): 2, str(MARK): 1}


def test_topic_has_one_feed(publisher: Publisher) -> None:
    assert publisher.topic(TRADE) is publisher.topic(Topic.parse("trade.lighter.BTC-PERP"))
    assert publisher.topic(TRADE) is not publisher.topic(MARK)


def test_message_is_topic_and_payload(publisher: Publisher, endpoint: str, subscriber, join) -> None:
    marks = publisher.topic(MARK)
    keep(publisher, MARK, "ws", mark("1"))
    reader = subscriber(endpoint, "mark.")
    join(publisher, reader)
    event = mark("2")
    send(publisher, marks, event)
    assert reader.socket.poll(10_000)
    assert reader.socket.recv_multipart() == [b"mark.lighter.BTC-PERP", encode(event)]


def test_sequence_has_no_hole_when_threads_send_side_by_side(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    marks = publisher.topic(MARK)
    keep(publisher, MARK, "ws", mark("0"))
    reader = subscriber(endpoint, "")
    got = join(publisher, reader)
    feeds = [publisher.topic(Topic("trade", "lighter", f"{name}-PERP")) for name in "AB"]

    def work(own: TopicFeed) -> None:
        for number in range(500):
            with publisher.exclusive():
                publisher.send(own, trade(number))
                publisher.send(marks, mark(str(number)))

    threads = [threading.Thread(target=work, args=(feed,)) for feed in feeds]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        got += reader.waiting(5)
    while len(got) < publisher.published - 1:
        assert reader.socket.poll(10_000)
        got += reader.waiting()
    for topic, count in ((str(MARK), 1000), ("trade.lighter.A-PERP", 500), ("trade.lighter.B-PERP", 500)):
        seqs = [event.seq for name, event in got if name == topic]
        assert len(seqs) >= count
        assert all(other == one + 1 for one, other in pairwise(seqs))


# --- joining ------------------------------------------------------------------------------------------------------


def test_late_subscriber_gets_a_snapshot_and_every_change_since_while_another_thread_sends(
    publisher: Publisher, endpoint: str, subscriber, until
) -> None:
    book = NumberBook(publisher)
    stop = threading.Event()

    def send_changes() -> None:
        while not stop.is_set():
            book.change()
            time.sleep(0)  # let the other thread have the lock

    thread = threading.Thread(target=send_changes)
    thread.start()
    try:
        for prefix in ("book.", "book.lighter.BTC-PERP", "", "book.lighter.B"):
            reader = subscriber(endpoint, prefix)
            got: list[Event] = []
            until(
                lambda got=got: len(since_snapshot(got)) >= 50,
                lambda got=got, reader=reader: got.extend(event for _, event in reader.waiting(50)),
            )
            assert_one_story(got)
            reader.socket.close()
    finally:
        stop.set()
        thread.join()


def since_snapshot(got: list[Event]) -> list[Event]:
    return list(dropwhile(lambda event: isinstance(event, BookDelta), got))


def assert_one_story(got: list[Event]) -> None:
    """Changes before the first snapshot aside, every state of the book in turn; later snapshots show the state held."""
    assert all(other.seq == one.seq + 1 for one, other in pairwise(got))
    got = since_snapshot(got)
    first = got[0]
    assert isinstance(first, BookSnapshot)
    assert first.flags == ("refresh",)
    number = first.venue_seq
    for event in got[1:]:
        if isinstance(event, BookDelta):
            assert event.prev_venue_seq == number
        else:
            assert isinstance(event, BookSnapshot)
            assert event.venue_seq == number
        number = event.venue_seq


def test_late_subscriber_is_sent_the_books_and_values_that_it_asks_for_and_no_others(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    NumberBook(publisher)
    NumberBook(publisher, Topic("book", "lighter", "ETH-PERP"))
    keep(publisher, MARK, "ws", mark("1"))
    send(publisher, publisher.topic(TRADE), trade(1))
    reader = subscriber(endpoint, "book.lighter.ETH-PERP", "mark.", "trade.")
    got = join(publisher, reader, 2)
    assert sorted(topic for topic, _ in got) == ["book.lighter.ETH-PERP", "mark.lighter.BTC-PERP"]


def test_book_that_is_not_usable_yet_is_answered_by_its_first_snapshot(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    book = NumberBook(publisher)
    book.feed.snapshot = lambda: None
    keep(publisher, MARK, "ws", mark("1"))
    reader = subscriber(endpoint, "book.", "mark.")
    assert [topic for topic, _ in join(publisher, reader)] == [str(MARK)]
    send(publisher, book.feed, book.snapshot())
    assert [(topic, event.seq) for topic, event in join(publisher, reader)] == [(str(BOOK), 1)]


def test_last_values_are_sent_again_as_refresh_with_their_own_times(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    for price, key, flags in (("1", "ws", ()), ("2", "rest", ("rest",)), ("3", "ws", ())):
        event = mark(price)
        event.recv_ns, event.flags = int(price), flags  # type: ignore[assignment]
        keep(publisher, MARK, key, event)
    got = [event for _, event in join(publisher, subscriber(endpoint, "mark."), 2)]
    assert {(event.mark_price, event.recv_ns, frozenset(event.flags)) for event in got} == {  # type: ignore[attr-defined]
        ("2", 2, frozenset({"rest", "refresh"})),
        ("3", 3, frozenset({"refresh"})),
    }
    assert [event.seq for event in got] == [4, 5]


def test_status_is_the_last_of_what_a_late_subscriber_is_sent(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    keep(publisher, STATUS, "book", status())
    NumberBook(publisher)
    keep(publisher, MARK, "ws", mark("1"))
    keep(publisher, TRADE, "ws", trade(1))
    topics = [topic for topic, _ in join(publisher, subscriber(endpoint, ""), 4)]
    assert (len(topics), set(topics[:-1]), topics[-1]) == (4, {str(BOOK), str(MARK), str(TRADE)}, str(STATUS))


def test_second_subscriber_sees_no_flag_twice(publisher: Publisher, endpoint: str, subscriber, join) -> None:
    keep(publisher, MARK, "ws", mark("1"))
    for _ in range(2):
        ((_, event),) = join(publisher, subscriber(endpoint, "mark."))
        assert event.flags == ("refresh",)


def test_last_values_are_sent_again_oldest_first(publisher: Publisher, endpoint: str, subscriber, join) -> None:
    for price, key in (("1", "ws"), ("2", "rest"), ("3", "ws")):
        keep(publisher, MARK, key, mark(price))
    got = [event for _, event in join(publisher, subscriber(endpoint, "mark."), 2)]
    assert [event.mark_price for event in got] == ["2", "3"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("prefix", ["book.", "book.lighter.BTC-PERP"])
def test_subscribing_to_an_exact_topic_again_asks_for_a_snapshot(
    publisher: Publisher, endpoint: str, subscriber, join, prefix: str
) -> None:
    book = NumberBook(publisher)
    reader = subscriber(endpoint, prefix)
    join(publisher, reader)
    book.change()
    assert isinstance(join(publisher, reader)[0][1], BookDelta)
    for _ in range(2):
        reader.socket.subscribe(str(BOOK))
        reader.socket.unsubscribe(str(BOOK))
        ((_, event),) = join(publisher, reader)
        assert isinstance(event, BookSnapshot)
        assert event.venue_seq == book.number
    book.change()
    assert isinstance(join(publisher, reader)[0][1], BookDelta)


def test_one_subscribers_snapshot_is_valid_for_all(publisher: Publisher, endpoint: str, subscriber, join) -> None:
    book = NumberBook(publisher)
    early, late = subscriber(endpoint, "book."), subscriber(endpoint, "book.")
    got = join(publisher, early)
    book.change()
    join(publisher, late)
    book.change()
    got += join(publisher, early, book.feed.seq - len(got))
    assert_one_story([event for _, event in got])


def test_unsubscription_takes_effect_at_the_publisher(
    publisher: Publisher, endpoint: str, context: zmq.Context, until
) -> None:
    keep(publisher, MARK, "ws", mark("1"))
    with context.socket(zmq.XSUB) as reader:  # unlike a SUB it does not sort out by itself what it did not ask for
        reader.connect(endpoint)
        reader.send(b"\x01mark.")
        until(lambda: reader.poll(1), lambda: acquire(publisher))
        reader.send(b"\x00mark.")

        def marks_stopped() -> bool:
            send(publisher, publisher.topic(MARK), mark("2"))
            is_quiet = not reader.poll(20)
            while reader.poll(0):
                reader.recv_multipart()
            return is_quiet

        until(marks_stopped, lambda: acquire(publisher))


def test_unsubscription_is_not_answered_with_snapshots(
    publisher: Publisher, endpoint: str, context: zmq.Context, until
) -> None:
    keep(publisher, MARK, "ws", mark("1"))
    with context.socket(zmq.XSUB) as reader:
        reader.connect(endpoint)
        reader.send(b"\x01mark.")
        until(lambda: reader.poll(1), lambda: acquire(publisher))
        sent = seqs(publisher)
        reader.send(b"\x00mark.")
        until(lambda: publisher._socket.poll(0))
        until(lambda: not publisher._socket.poll(0), lambda: acquire(publisher))
        assert seqs(publisher) == sent


def test_exclusive_access_is_asserted(publisher: Publisher) -> None:
    with pytest.raises(AssertionError):
        publisher.assert_exclusive()
    with pytest.raises(AssertionError):
        publisher.last_seqs()
    with publisher.exclusive():
        publisher.assert_exclusive()
        with publisher.exclusive():
            publisher.assert_exclusive()
        publisher.assert_exclusive()


def test_exclusive_access_of_another_thread_is_not_ones_own(publisher: Publisher) -> None:
    found: list[bool] = []
    with publisher.exclusive():
        thread = threading.Thread(target=lambda: found.append(publisher.exclusive().is_held()))
        thread.start()
        thread.join()
    assert found == [False]


def test_exclusive_access_is_one_object(publisher: Publisher) -> None:
    assert publisher.exclusive() is publisher.exclusive()


def test_subscriber_that_left_and_came_back_requests_a_snapshot(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    book = NumberBook(publisher)
    for _ in range(3):
        reader = subscriber(endpoint, "book.")
        assert join(publisher, reader)[0][1].venue_seq == book.number  # type: ignore[attr-defined]
        reader.socket.close()
        book.change()


def test_more_subscriptions_than_are_let_in_at_once_all_take_effect(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    topics = [Topic("mark", "lighter", f"M{number}-PERP") for number in range(1_500)]
    for topic in topics:
        keep(publisher, topic, "ws", mark("1"))
    got = join(publisher, subscriber(endpoint, *map(str, topics)), len(topics))
    assert {topic for topic, _ in got} == set(map(str, topics))


# --- pace ---------------------------------------------------------------------------------------------------------


def test_refreshes_are_at_most_one_a_book_and_second_however_many_join(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    book = NumberBook(publisher)
    waiting = [subscriber(endpoint, "book.") for _ in range(3)]
    served: list[Any] = []
    refreshed_ns: list[int] = []

    def step() -> None:
        before = book.feed.seq
        acquire(publisher)
        refreshed_ns.extend([clock.now_ns] * (book.feed.seq - before))
        clock.advance(0.05)
        for reader in [reader for reader in waiting if reader.waiting(1)]:
            waiting.remove(reader)
            served.append(reader)
            if len(served) <= 9:
                waiting.append(subscriber(endpoint, "book."))

    until(lambda: not waiting, step)
    assert len(served) == 12
    assert len(refreshed_ns) >= 2
    assert all(other - one >= 1_000 * MS for one, other in pairwise(refreshed_ns))


def test_refresh_of_one_topic_does_not_delay_another(open_publisher, endpoint: str, clock, subscriber, until) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    topics = [Topic("mark", "lighter", f"{name}-PERP") for name in "ABC"]
    for topic in topics:
        keep(publisher, topic, "ws", mark("1"))
    start = clock.now_ns
    for topic in topics:
        reader = subscriber(endpoint, str(topic))
        until(lambda: publisher._socket.poll(0))
        for _ in range(2):
            clock.advance(0.005)
            acquire(publisher)
        assert reader.waiting(10_000)
    assert clock.now_ns - start < 1_000 * MS


def refreshed(publisher: Publisher, clock, seconds: float) -> dict[int, list[str]]:
    """Acquire a publisher every 5 ms; return the topics that were sent, in order, by the time in ms."""
    sent: dict[int, list[str]] = {}
    original = publisher.send

    def spy(feed: TopicFeed, event: Event) -> bool:
        sent.setdefault(at_ms, []).append(feed.name.decode())
        return original(feed, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "send", spy)
        for at_ms in range(0, int(seconds * 1_000), 5):  # noqa: B007 - the spy reads it
            clock.advance(0.005)
            acquire(publisher)
    return sent


def test_book_that_was_unusable_is_sent_to_the_next_subscriber_at_once(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    """After a restart some consumers subscribe before the first snapshot of a book, and some after it."""
    publisher = open_publisher(endpoint, monotonic=clock)
    book = NumberBook(publisher)
    usable, book.feed.snapshot = book.feed.snapshot, lambda: None
    subscriber(endpoint, "book.")
    until(lambda: publisher._socket.poll(0))
    assert refreshed(publisher, clock, 0.05) == {}
    book.feed.snapshot = usable
    book.change()
    late = subscriber(endpoint, "book.")
    until(lambda: publisher._socket.poll(0))
    assert refreshed(publisher, clock, 0.05) == {0: [str(BOOK)]}
    assert late.waiting(10_000)


def test_status_waits_for_every_book_that_was_wanted_with_it(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    """Another subscriber had one of the books refreshed shortly before."""
    publisher = open_publisher(endpoint, monotonic=clock)
    keep(publisher, STATUS, "book", status())
    other = Topic("book", "lighter", "ETH-PERP")
    NumberBook(publisher)
    NumberBook(publisher, other)
    subscriber(endpoint, str(BOOK))
    until(lambda: publisher._socket.poll(0))
    assert refreshed(publisher, clock, 0.5) == {0: [str(BOOK)]}
    subscriber(endpoint, "")
    until(lambda: publisher._socket.poll(0))
    assert refreshed(publisher, clock, 2) == {0: [str(other)], 500: [str(BOOK), str(STATUS)]}


def test_status_follows_the_books_of_a_list_that_comes_in_pieces(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    keep(publisher, STATUS, "book", status())
    NumberBook(publisher)
    reader = subscriber(endpoint, "status.")
    until(lambda: publisher._socket.poll(0))
    clock.advance(0.005)
    acquire(publisher)
    reader.subscribe(str(BOOK))
    until(lambda: publisher._socket.poll(0))
    assert refreshed(publisher, clock, 2) == {0: [str(BOOK), str(STATUS)]}


def test_status_that_is_already_due_comes_again_after_books_wanted_later(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    keep(publisher, STATUS, "book", status())
    NumberBook(publisher)
    subscriber(endpoint, "")
    until(lambda: publisher._socket.poll(0))
    refreshed(publisher, clock, 0.2)
    subscriber(endpoint, "status.")
    until(lambda: publisher._socket.poll(0))
    refreshed(publisher, clock, 0.1)
    other = NumberBook(publisher, Topic("book", "lighter", "ETH-PERP"))
    subscriber(endpoint, "book.lighter.E")
    until(lambda: publisher._socket.poll(0))
    refreshed(publisher, clock, 0.1)
    subscriber(endpoint, "")
    until(lambda: publisher._socket.poll(0))
    sent = refreshed(publisher, clock, 3)
    assert sent == {600: [str(BOOK)], 605: [str(STATUS)], 900: [str(other.topic)], 1_605: [str(STATUS)]}


@pytest.fixture
def flooded(open_publisher, clock, context: zmq.Context) -> Iterator[Callable[[int], Publisher]]:
    """Makes a publisher at which a number of subscriptions wait, whose clock goes on by 1 ms at each look."""
    reader = context.socket(zmq.XSUB)

    def make(count: int) -> Publisher:
        publisher = open_publisher("inproc://flooded", monotonic=ticking)  # without a network all arrive at once
        publisher._socket.setsockopt(zmq.RCVHWM, 0)
        reader.setsockopt(zmq.LINGER, 0)
        reader.setsockopt(zmq.SNDHWM, 0)
        reader.connect("inproc://flooded")
        for number in range(count):
            reader.send(b"\x01mark.lighter.%06d" % number)
        return publisher

    def ticking() -> int:
        clock.advance(0.001)
        return clock.now_ns

    yield make
    reader.close()


def test_acceptance_takes_a_limited_time_of_the_feed_and_goes_on_soon(flooded) -> None:
    publisher = flooded(1_500)
    acquire(publisher)
    assert 0 < publisher.subscriptions < 500
    assert publisher.is_behind
    checks = 1
    while publisher.is_behind:
        acquire(publisher)
        checks += 1
    assert publisher.subscriptions == 1_500
    assert checks < 100


def test_idle_thread_serves_until_nothing_waits_any_more(flooded) -> None:
    publisher = flooded(1_500)
    waits: list[float] = []
    publisher.serve(0.5, waits.append)
    assert publisher.subscriptions == 1_500
    assert max(waits[:-1]) < 0.1 < waits[-1] <= 0.5


def test_serving_ends_when_the_wait_is_ended(flooded) -> None:
    publisher = flooded(1_500)
    publisher.serve(1_000.0, lambda _: True)
    assert publisher.subscriptions < 1_500


def test_subscriptions_of_a_subscriber_that_left_are_not_counted(
    publisher: Publisher, endpoint: str, subscriber, until
) -> None:
    readers = [subscriber(endpoint, "book.", "mark.") for _ in range(3)]
    until(lambda: publisher.subscriptions == 6, lambda: acquire(publisher))
    for reader in readers[:2]:
        reader.socket.close()
    until(lambda: publisher.subscriptions == 2, lambda: acquire(publisher))


def test_too_many_subscriptions_are_reported_once(
    publisher: Publisher, endpoint: str, subscriber, until, logged, monkeypatch
) -> None:
    monkeypatch.setattr("ipc.publisher.MANY_SUBSCRIPTIONS", 10)
    monkeypatch.setattr("ipc.publisher._MANY_NO_MORE", 5)

    def join(*prefixes: str) -> Any:
        count = publisher.subscriptions + len(prefixes)
        reader = subscriber(endpoint, *prefixes)
        until(lambda: publisher.subscriptions == count, lambda: acquire(publisher))
        return reader

    def leave(reader: Any, count: int) -> None:
        count = publisher.subscriptions - count
        reader.socket.close()
        until(lambda: publisher.subscriptions == count, lambda: acquire(publisher))

    join("a", "b", "c")
    second = join(*"abcdef")
    assert logged.events == []
    third = join("a")
    assert logged.events == ["publish.many_subscriptions"]
    leave(third, 1)
    third = join("a")
    assert logged.events == ["publish.many_subscriptions"]
    leave(third, 1)
    leave(second, 6)
    join(*"abcdefghij")
    assert logged.events == ["publish.many_subscriptions"] * 2


def test_account_feed_sends_all_state_at_once_with_each_acceptance(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock, refresh_ns=0)
    keep(publisher, STATUS, "book", status())
    keep(publisher, MARK, "ws", mark("1"))
    for number in range(1, 4):
        reader = subscriber(endpoint, "")
        until(lambda: publisher._socket.poll(0))
        clock.advance(0.005)
        acquire(publisher)
        assert seqs(publisher) == {str(STATUS): 1 + number, str(MARK): 1 + number}
        topics: list[str] = []
        until(lambda: len(topics) == 2, lambda: topics.extend(topic for topic, _ in reader.waiting(10)))  # noqa: B023
        assert topics == [str(MARK), str(STATUS)]


def test_subscriptions_are_not_checked_at_every_acquisition(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    NumberBook(publisher)
    acquire(publisher)
    reader = subscriber(endpoint, "book.")
    until(lambda: publisher._socket.poll(0))
    clock.advance(0.0049)
    for _ in range(10):
        acquire(publisher)
    assert seqs(publisher) == {}
    clock.advance(0.0001)
    acquire(publisher)
    assert seqs(publisher) == {str(BOOK): 1}
    assert reader.waiting(10_000)


def test_snapshot_comes_before_the_first_change_unless_another_subscriber_came_shortly_before(
    open_publisher, endpoint: str, clock, subscriber, until
) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    book = NumberBook(publisher)
    for number in range(3):
        reader = subscriber(endpoint, "book.")
        until(lambda: publisher._socket.poll(0))
        clock.advance(1.5)
        book.change()
        received: list[Any] = []
        until(lambda r=reader, found=received: found.extend(r.waiting(10)) or len(found) >= 2)
        assert [type(event).__name__ for _, event in received] == ["BookSnapshot", "BookDelta"], number


# --- slow subscribers and broken sockets --------------------------------------------------------------------------


def test_full_pipe_of_one_subscriber_costs_the_healthy_ones_nothing_and_is_counted(
    open_publisher, endpoint: str, subscriber, join, logged
) -> None:
    publisher = open_publisher(endpoint, monotonic=hurried, hwm=50)
    keep(publisher, MARK, "ws", mark("1"))
    stuck = subscriber(endpoint, "mark.", "trade.", hwm=1)
    healthy = subscriber(endpoint, "mark.", "trade.")
    join(publisher, healthy)
    join(publisher, stuck)
    trades = publisher.topic(TRADE)
    received = []
    text = "x" * 4_000
    while publisher.drops == 0 or len(received) < trades.seq or trades.seq % 100:
        assert trades.seq < 20_000
        assert send(publisher, trades, trade(trades.seq, text))
        assert healthy.socket.poll(10_000)
        received += [event.seq for topic, event in healthy.waiting() if topic == str(TRADE)]
    assert received == list(range(1, trades.seq + 1))
    assert publisher.errors == 0
    assert "publish.pipe_full" in logged.events

    seen = []
    while not any(other > one + 1 for one, other in pairwise(seen)):
        send(publisher, trades, trade(trades.seq, text))
        seen += [event.seq for topic, event in stuck.waiting(20) if topic == str(TRADE)]
        healthy.waiting()
    assert seen == sorted(seen)


class BrokenSocket:
    """Stands in for the XPUB: refuses each send with the next of ``errors`` (None lets it through)."""

    def __init__(self, *errors: zmq.ZMQError | None) -> None:
        self.errors = list(errors)
        self.calls: list[object] = []

    def send(self, data: bytes, flags: int) -> None:
        self._do(data, flags)

    def send_multipart(self, parts: tuple[bytes, ...], flags: int) -> None:
        self._do(parts[0], flags)

    def _do(self, data: bytes, flags: int) -> None:
        assert flags & zmq.DONTWAIT
        error = self.errors.pop(0)
        if error is not None:
            raise error
        self.calls.append(data)

    def setsockopt(self, option: int, value: int) -> None:
        self.calls.append((option, value))


@pytest.fixture
def break_socket(publisher: Publisher, monkeypatch) -> Callable[..., BrokenSocket]:
    def put(*errors: zmq.ZMQError | None) -> BrokenSocket:
        broken = BrokenSocket(*errors)
        monkeypatch.setattr(publisher, "_socket", broken)
        monkeypatch.setattr(publisher, "_send", broken.send)
        monkeypatch.setattr(publisher._access, "_next_check_ns", 2**63)
        return broken

    yield put
    monkeypatch.undo()


def test_message_past_a_full_pipe_is_offered_once_more_to_those_who_have_room(publisher, break_socket) -> None:
    broken = break_socket(zmq.Again(), None)
    assert send(publisher, publisher.topic(TRADE), trade(1))
    assert broken.calls == [(zmq.XPUB_NODROP, 0), b"trade.lighter.BTC-PERP", (zmq.XPUB_NODROP, 1)]
    assert (publisher.drops, publisher.errors, publisher.published) == (1, 0, 1)


def test_failure_behind_a_full_pipe_is_counted_and_leaves_the_socket_as_it_was(publisher, break_socket, logged) -> None:
    broken = break_socket(zmq.Again(), zmq.ZMQError(zmq.ENOTSOCK))
    assert not send(publisher, publisher.topic(TRADE), trade(1))
    assert broken.calls == [(zmq.XPUB_NODROP, 0), (zmq.XPUB_NODROP, 1)]
    assert (publisher.drops, publisher.errors, publisher.published) == (1, 1, 0)
    assert logged.events == ["publish.pipe_full", "publish.failed"]


def test_failed_send_is_counted_and_its_number_used_up(publisher, break_socket, logged) -> None:
    break_socket(zmq.ZMQError(zmq.ENOTSOCK), None, None)
    trades = publisher.topic(TRADE)
    assert not send(publisher, trades, trade(1))
    assert (publisher.errors, publisher.published) == (1, 0)
    assert logged.events == ["publish.failed"]
    after = trade(2)
    assert send(publisher, trades, after)
    assert after.seq == 2


def test_closed_socket_is_counted_as_an_error(publisher: Publisher) -> None:
    trades = publisher.topic(TRADE)
    with publisher.exclusive():
        publisher._socket.close()
        assert not publisher.send(trades, trade(1))
    assert publisher.errors == 1


def test_process_ends_without_waiting_for_those_who_do_not_read(endpoint: str, subscriber, join) -> None:
    context: zmq.Context = zmq.Context()
    publisher = Publisher(context, endpoint, 1, monotonic=hurried)
    keep(publisher, MARK, "ws", mark("1"))
    reader = subscriber(endpoint, "", hwm=1)
    join(publisher, reader)
    for number in range(1_000):
        send(publisher, publisher.topic(TRADE), trade(number, "x" * 1_000))
    publisher.close()
    end = threading.Thread(target=context.term, daemon=True)
    end.start()
    end.join(10)
    assert not end.is_alive()


def released(publisher: Publisher) -> bool:
    free = publisher._access.lock.acquire(timeout=0)
    if free:
        publisher._access.lock.release()
    return free


def test_lock_is_released_when_the_work_fails(publisher: Publisher) -> None:
    with pytest.raises(KeyError), publisher.exclusive():
        raise KeyError
    assert released(publisher)


def test_lock_is_released_when_a_snapshot_cannot_be_made(
    publisher: Publisher, endpoint: str, subscriber, until
) -> None:
    failed = []

    def fail() -> None:
        failed.append(1)
        raise ValueError("no book")

    publisher.topic(BOOK).snapshot = fail
    subscriber(endpoint, "book.")

    def step() -> None:
        try:
            acquire(publisher)
        except ValueError:
            assert released(publisher)
        time.sleep(0.002)

    until(lambda: failed, step)


def test_lock_is_released_when_the_socket_is_closed(open_publisher, endpoint: str, clock) -> None:
    publisher = open_publisher(endpoint, monotonic=clock)
    publisher.close()
    with pytest.raises(zmq.ZMQError):
        acquire(publisher)
    assert released(publisher)


def test_topic_may_be_created_with_exclusive_access(publisher: Publisher) -> None:
    def ask() -> None:
        with publisher.exclusive():
            publisher.topic(TRADE)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(0.5)
    assert not thread.is_alive()


# --- lives --------------------------------------------------------------------------------------------------------


def test_next_life_on_the_same_path_is_heard_by_the_same_subscriber(
    open_publisher, endpoint: str, subscriber, join
) -> None:
    reader = subscriber(endpoint, "book.")
    for epoch in (1, 2, 3):
        publisher = open_publisher(endpoint, epoch=epoch, monotonic=hurried)
        NumberBook(publisher)
        got = join(publisher, reader)
        assert [(event.epoch, event.seq) for _, event in got] == [(epoch, 1)]
        publisher.close()


# --- loss of its path ---------------------------------------------------------------------------------------------


def test_subscriber_after_the_loss_of_the_path_is_sent_the_book_and_the_one_before_misses_nothing(
    publisher: Publisher, endpoint: str, subscriber, join
) -> None:
    book = NumberBook(publisher)
    first = subscriber(endpoint, "book.")
    join(publisher, first)
    Path(endpoint.removeprefix("ipc://")).unlink()
    assert not publisher.is_intact
    publisher.relisten()
    assert publisher.is_intact
    second = subscriber(endpoint, "book.")
    (snapshot,) = join(publisher, second)
    assert "refresh" in snapshot[1].flags
    book.change()
    assert [event.seq for _, event in join(publisher, first, 2)] == [snapshot[1].seq, snapshot[1].seq + 1]
