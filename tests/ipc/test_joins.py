"""Whatever joins whenever: no consumer ever uses a wrong book, and each has its books soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, HeartbeatBook, Level
from ipc.feed_state import FeedState
from ipc.health import Reason
from ipc.links import request_snapshots
from ipc.orderbook import OrderBook
from ipc.publisher import Publisher
from ipc.topics import Topic

SYMBOLS = ("A-PERP", "B-PERP", "C-PERP")
MS = 1_000_000
BOOKS = st.sampled_from(range(len(SYMBOLS)))
CONSUMERS = st.sampled_from(range(4))
PREFIXES = (("book.",), tuple(f"book.lighter.{symbol}" for symbol in SYMBOLS), ("book.lighter.A-PERP",), ("",))
levels = st.lists(st.tuples(st.integers(1, 9).map(str), st.sampled_from(["0", "1", "2.50"])), min_size=1, max_size=3)
acts = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from(PREFIXES)),
        st.tuples(st.sampled_from(["leave", "lose"]), CONSUMERS),
        st.tuples(st.sampled_from(["change", "snapshot"]), st.tuples(BOOKS, levels)),
        st.tuples(st.sampled_from(["gap", "resend"]), BOOKS),
        st.tuples(st.just("wait"), st.sampled_from([5, 10, 300, 1_000])),
        st.tuples(st.sampled_from(["beat", "restart"]), st.none()),
    ),
    min_size=20,
    max_size=60,
)


class Consumer:
    """Plain SUB socket with the state of a feed; ``is_losing`` drops the next message."""

    def __init__(self, context: zmq.Context, endpoint: str, prefixes: tuple[str, ...], now_ns: int) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        for prefix in (*prefixes, "heartbeat."):
            self.socket.subscribe(prefix)
        self.socket.connect(endpoint)
        self.endpoint = endpoint
        self.state = FeedState(["lighter"], now_ns)
        self.symbols = [name for name in SYMBOLS if any(f"book.lighter.{name}".startswith(one) for one in prefixes)]
        self.is_losing = self.has_lost = False

    def read(self, now_ns: int) -> None:
        while self.socket.poll(0):
            parts = self.socket.recv_multipart()
            if self.is_losing:
                self.is_losing, self.has_lost = False, True
                continue
            self.state.handle(parts, now_ns)
            request_snapshots(self.socket, self.state.snapshot_requests())


class World:
    """One publisher with three books, and its consumers; everything in one thread, on a clock of its own."""

    def __init__(self, context: zmq.Context) -> None:
        self.context = context
        self.now_ns = 1_000_000 * MS
        self.epoch = 0
        self.consumers: list[Consumer] = []
        #: By epoch, symbol and seq: the book at that time, None where it was unusable.
        self.history: dict[tuple[int, str, int], Any] = {}
        self.publisher: Publisher
        self.restart()

    def restart(self) -> None:
        if self.epoch:
            self.publisher.close()
        self.epoch += 1
        self.publisher = Publisher(self.context, f"inproc://{self.epoch}", self.epoch, monotonic=lambda: self.now_ns)
        self.books = {symbol: OrderBook() for symbol in SYMBOLS}
        self.usable = dict.fromkeys(SYMBOLS, False)
        for symbol in SYMBOLS:
            feed = self.publisher.topic(Topic("book", "lighter", symbol))
            feed.snapshot = lambda symbol=symbol: self._noted(symbol, self._whole(symbol, "refresh"))
        for one in self.consumers:  # as a reconnecting socket does
            one.socket.disconnect(one.endpoint)
            one.endpoint = f"inproc://{self.epoch}"
            one.socket.connect(one.endpoint)

    def _whole(self, symbol: str, *flags: Any) -> BookSnapshot | None:
        if not self.usable[symbol]:
            return None
        book = self.books[symbol]
        event = BookSnapshot("lighter", symbol, "1", None, book.bids(), book.asks(), None, None)
        event.flags = flags
        return event

    def _noted(self, symbol: str, event: Event | None) -> Any:
        if event is not None:
            book = self.books[symbol]
            state = (book.bids(), book.asks()) if self.usable[symbol] else None
            self.history[self.epoch, symbol, self.publisher.topic(Topic("book", "lighter", symbol)).seq + 1] = state
        return event

    def send(self, symbol: str, event: Event) -> None:
        feed = self.publisher.topic(Topic("book", "lighter", symbol))
        with self.publisher.exclusive():
            self._noted(symbol, event)
            self.publisher.send(feed, event)

    def beat(self) -> None:
        feed = self.publisher.topic(Topic("heartbeat", "lighter", ""))
        with self.publisher.exclusive():
            seqs = self.publisher.last_seqs()
            books = {
                symbol: HeartbeatBook(
                    seqs.get(f"book.lighter.{symbol}", 0), None, self.usable[symbol], 0, self._checksum(symbol)
                )
                for symbol in SYMBOLS
            }
            self.publisher.send(feed, Heartbeat("lighter", None, None, None, seqs, books, 0, 0))

    def _checksum(self, symbol: str) -> int | None:
        return self.books[symbol].crc32_top10() if self.usable[symbol] else None

    def do(self, what: str, given: Any) -> None:
        match what:
            case "join":
                self.consumers.append(Consumer(self.context, f"inproc://{self.epoch}", given, self.now_ns))
            case "leave" if given < len(self.consumers):
                self.consumers.pop(given).socket.close()
            case "lose" if given < len(self.consumers):
                self.consumers[given].is_losing = True
            case "change" | "snapshot":
                self._change(SYMBOLS[given[0]], given[1], is_whole=what == "snapshot")
            case "gap" if self.usable[SYMBOLS[given]]:
                self.usable[SYMBOLS[given]] = False
                gap = Gap("lighter", SYMBOLS[given], "1", None, "book", Reason.SEQ_GAP, None, None, "resync")
                self.send(SYMBOLS[given], gap)
            case "resend" if (whole := self._whole(SYMBOLS[given])) is not None:
                self.send(SYMBOLS[given], whole)
            case "wait":
                self.now_ns += given * MS
            case "beat":
                self.beat()
            case "restart":
                self.restart()
            case _:
                pass
        self.settle()

    def _change(self, symbol: str, bids: list[Level], *, is_whole: bool) -> None:
        if is_whole:
            book = self.books[symbol] = OrderBook()
            book.apply(bids, [("100", "1")])
            self.usable[symbol] = True
            whole = self._whole(symbol)
            assert whole is not None
            self.send(symbol, whole)
        elif self.usable[symbol]:
            self.books[symbol].apply(bids, [])
            self.send(symbol, BookDelta("lighter", symbol, "1", None, bids, [], None, None))

    def settle(self) -> None:
        """Give the publisher a turn, let everybody read, and check every book that may be used."""
        with self.publisher.exclusive():
            pass
        for one in self.consumers:
            one.read(self.now_ns)
            assert one.has_lost or one.is_losing or one.state.lost == 0
            for symbol in one.symbols:
                self._check(one, symbol)

    def _check(self, one: Consumer, symbol: str) -> None:
        book = one.state.book("lighter", symbol, self.now_ns)
        assert book.drifts == 0
        if book.usable:
            sequence = one.state._publishers["lighter"].sequence
            seq = sequence.last(f"book.lighter.{symbol}")
            assert seq is not None
            assert (book.bids(), book.asks()) == self.history[sequence.epoch, symbol, seq]


@contextmanager
def world() -> Iterator[World]:
    context: zmq.Context = zmq.Context()
    made = World(context)
    try:
        yield made
    finally:
        for one in made.consumers:
            one.socket.close()
        made.publisher.close()
        context.term()


@settings(max_examples=100, deadline=None)
@given(acts=acts)
def test_no_consumer_ever_uses_a_wrong_book_and_all_have_their_books_in_the_end(acts) -> None:
    with world() as here:
        for number in range(len(SYMBOLS)):
            here.do("snapshot", (number, [("1", "1")]))
        for act in acts:
            here.do(*act)
        for one in here.consumers:
            one.is_losing = False
        for step in range(900):
            here.now_ns += 5 * MS
            if not step % 200:
                here.beat()
            here.settle()
        for one in here.consumers:
            for symbol in one.symbols:
                book = one.state.book("lighter", symbol, here.now_ns)
                assert book.usable == here.usable[symbol], (symbol, book.reason)


def test_consumers_that_join_in_a_crowd_are_served_by_one_refresh_of_each_book() -> None:
    with world() as here:
        for number in range(len(SYMBOLS)):
            here.do("snapshot", (number, [("1", "1")]))
        here.do("join", PREFIXES[1])
        here.do("wait", 5)  # accepts it
        first = here.consumers[0]
        assert first.state.book("lighter", "A-PERP", here.now_ns).usable
        before = here.publisher.published
        for _ in range(40):
            here.do("join", PREFIXES[1])
        here.do("wait", 5)
        changes = 40
        for number in range(changes):
            here.do("change", (0, [(str(number % 9 + 1), "1")]))
            assert [one for one in here.consumers if one.state.book("lighter", "A-PERP", here.now_ns).usable] == [first]
        here.do("wait", 1_000)
        assert here.publisher.published - before == changes + len(SYMBOLS)
        assert all(one.state.book("lighter", "A-PERP", here.now_ns).usable for one in here.consumers)
        assert sum(one.state.lost for one in here.consumers) == 0
