"""What a consumer knows of the venues that it listens to: books, last values, and what it has missed.

Pure: it is given messages and times, and says what to tell the user and which snapshots to ask for. The sockets are
:mod:`ipc.feed`'s and :mod:`ipc.aio`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ipc.codec import decode
from ipc.errors import DecodeError, FeedError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Level, Lifecycle, Trade
from ipc.health import Reason
from ipc.log import get_log
from ipc.replica import BAD_LEVEL, NO_SNAPSHOT, SUSPENDED, WORKER_EXITED, BookReplica
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import Topic, topic_of
from ipc.trades import SeenTrades

__all__ = ["HEARTBEAT_LOST_S", "LIFECYCLE", "FeedState", "Top"]

log = get_log(__name__)

#: Without a heartbeat for this long, no book of the venue is usable.
HEARTBEAT_LOST_S: Final = 3.0
#: The channel, and the publisher, of what the parent does; it comes from the gateway.
LIFECYCLE: Final = "lifecycle"
#: Between two requests for the same snapshot.
_ASK_NS: Final = 1_500_000_000
#: Between two looks for venues that have gone silent.
_LOOK_NS: Final = 100_000_000
_NS: Final = 1_000_000_000
_HEARTBEAT_LOST: Final = "heartbeat_lost"
#: Faults that only a snapshot ends, and that the worker does not know of.
_OWN_FAULTS: Final = frozenset({NO_SNAPSHOT, SUSPENDED, BAD_LEVEL, "seq_gap", "drift"})


class Top(NamedTuple):
    """The best of one venue's book; sides are None when empty or when ``reason`` says why the book is not usable."""

    venue: str
    bid: Level | None
    ask: Level | None
    age_ms: float | None
    reason: str | None


class _Publisher:
    """What is known of one venue's publisher."""

    def __init__(self, now_ns: int) -> None:
        self.sequence = PublisherSequence()
        self.heartbeat_ns = now_ns
        #: Whether the heartbeat is lost; every book says so as well.
        self.is_silent = False
        #: The last death of a worker that the parent told of.
        self.exited: Lifecycle | None = None
        self.books: dict[str, BookReplica] = {}
        self.latest: dict[tuple[str, str], Event] = {}
        self.trades: dict[str, SeenTrades] = {}


class FeedState:
    """The state of a subscription.

    Args:
        venues: The venues whose feeds are subscribed.
        now_ns: Monotonic.
        is_remote: Whether the system runs on another machine, whose monotonic clock is another one.

    ``lost`` counts messages that never arrived, ``malformed`` those that could not be read, ``repeated`` trades that
    came again after a restart and were left out.
    """

    def __init__(self, venues: Iterable[str], now_ns: int, *, is_remote: bool = False) -> None:
        self.lost = 0
        self.malformed = 0
        self.repeated = 0
        self._publishers = {venue: _Publisher(now_ns) for venue in (*venues, LIFECYCLE)}
        #: By the first part of a message.
        self._origins: dict[bytes, tuple[_Publisher, str, Topic]] = {}
        self._asked: dict[str, int] = {}
        self._asks: list[str] = []
        self._looked_ns = 0
        self._is_remote = is_remote
        #: When the machine was last found to have been suspended, by the clock that its events are judged by.
        self._resumed_ns = 0

    # --- what comes -------------------------------------------------------------------------------------------------

    def take(self, parts: Sequence[bytes], now_ns: int) -> list[Event]:
        """A message came; what to tell the user. A loss found here is told as a :class:`Gap` of epoch 0 before it."""
        self.look(now_ns)
        origin = None
        try:
            head, payload = parts
            origin = self._origins.get(head) or self._origin(head)
            event = decode(payload)
        except (ValueError, KeyError, DecodeError) as error:
            self.malformed += 1
            log.warning("feed.malformed", error=str(error))
            return [] if origin is None else self._on_unreadable(*origin, now_ns)
        return [] if event is None else self._apply(*origin, event, now_ns)

    def asks(self) -> list[str]:
        """The topics whose snapshot is to be asked for now, once."""
        asks, self._asks = self._asks, []
        return asks

    def look(self, now_ns: int) -> None:
        """Hide the books of venues that have gone silent, also those that a consumer holds; cheap to call often."""
        if now_ns - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now_ns
        for publisher in self._publishers.values():
            _judge_silence(publisher, now_ns)

    def resumed(self, now_ns: int, now_wall_ns: int) -> None:
        """The machine was suspended: no book is usable before a snapshot of what was read since.

        What is still in the pipes is from before, and so is what a worker of this machine holds until it reads its
        venue's next frame.
        """
        self._resumed_ns = now_wall_ns if self._is_remote else now_ns
        for publisher in self._publishers.values():
            for book in publisher.books.values():
                book.void(SUSPENDED)

    # --- what is known ----------------------------------------------------------------------------------------------

    def book(self, venue: str, symbol: str, now_ns: int) -> BookReplica:
        """The book of a market; unusable until its first snapshot.

        Raises:
            FeedError: The venue is not subscribed.
        """
        publisher = self._publisher(venue)
        _judge_silence(publisher, now_ns)
        return publisher.books.get(symbol) or _new_book(publisher, venue, symbol)

    def books(self, now_ns: int) -> list[BookReplica]:
        """Every book heard of so far."""
        for publisher in self._publishers.values():
            _judge_silence(publisher, now_ns)
        return [book for publisher in self._publishers.values() for book in publisher.books.values()]

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """The last event of a channel other than ``book``; None before the first.

        For ``lifecycle``, ``venue`` names a process and ``symbol`` is not looked at.
        """
        if channel == LIFECYCLE:
            return self._publishers[LIFECYCLE].latest.get((channel, venue))
        return self._publisher(venue).latest.get((channel, symbol))

    def top(self, symbol: str, now_ns: int) -> list[Top]:
        """The best bid and offer of a symbol on every venue that has it, with their ages."""
        tops = []
        for venue, publisher in self._publishers.items():
            if symbol not in publisher.books:
                continue
            book = self.book(venue, symbol, now_ns)
            if book.usable:
                tops.append(Top(venue, book.best_bid, book.best_ask, book.age_ms(now_ns), None))
            else:
                tops.append(Top(venue, None, None, book.age_ms(now_ns), book.reason))
        return tops

    # --- inside -----------------------------------------------------------------------------------------------------

    def _origin(self, head: bytes) -> tuple[_Publisher, str, Topic]:
        """Who publishes a topic, its text and its parts; looked up once a topic.

        Raises:
            ValueError: It is no topic.
            KeyError: It is none of this subscription's venues.
        """
        name = head.decode()
        topic = Topic.parse(name)
        publisher = self._publishers[LIFECYCLE if topic.channel == LIFECYCLE else topic.venue]
        self._origins[head] = origin = (publisher, name, topic)
        return origin

    def _apply(self, publisher: _Publisher, name: str, topic: Topic, event: Event, now_ns: int) -> list[Event]:
        last = publisher.sequence.last(name)
        verdict = publisher.sequence.judge(name, event.epoch, event.seq, now_ns)
        missed = 0
        if verdict is not Verdict.APPLY:
            if verdict is Verdict.NEW_EPOCH:
                _forget(publisher)
            elif verdict is Verdict.GAP:
                missed = event.seq - (last or 0) - 1
                self.lost += missed
            else:
                return []
        if isinstance(event, Heartbeat):
            return [*self._beat(publisher, topic.venue, event, now_ns), event]
        if isinstance(event, Lifecycle):
            self._on_lifecycle(event)
        elif topic.channel == "book":
            gap = self._void(publisher, topic, (last or 0) + 1, event.seq) if missed else []
            self._apply_book(publisher, topic, event, now_ns)
            return [*gap, event]
        elif isinstance(event, Trade) and not self._is_new_trade(publisher, topic.symbol, event):
            return []
        # What happened to a process is kept by the process, though all of it comes from one publisher.
        publisher.latest[topic.channel, topic.venue if topic.channel == LIFECYCLE else topic.symbol] = event
        return [event]

    def _on_unreadable(self, publisher: _Publisher, name: str, topic: Topic, now_ns: int) -> list[Event]:
        """A message cannot be read; a book is lost by it as by one that never came."""
        if topic.channel != "book":
            return []
        self._ask(name, now_ns)
        return self._void(publisher, topic, (publisher.sequence.last(name) or 0) + 1, "what cannot be read")

    def _apply_book(self, publisher: _Publisher, topic: Topic, event: Event, now_ns: int) -> None:
        book = publisher.books.get(topic.symbol) or _new_book(publisher, topic.venue, topic.symbol)
        if isinstance(event, BookSnapshot):
            if not book.apply_snapshot(event):
                log.error("feed.drift", venue=topic.venue, symbol=topic.symbol, found_by="refresh")
            if publisher.exited is not None and _is_left_behind(event, publisher.exited):
                book.void(WORKER_EXITED)
            elif self._is_from_before(event):
                book.void(SUSPENDED)
            if book.fault == BAD_LEVEL:
                self._ask(str(topic), now_ns)
            return
        if isinstance(event, Gap):
            book.apply_gap(event)
            return
        if isinstance(event, BookDelta):
            book.apply_delta(event)
        if book.fault in _OWN_FAULTS:
            self._ask(str(topic), now_ns)

    def _is_from_before(self, event: BookSnapshot) -> bool:
        """Whether what a snapshot shows was read before the machine was resumed; a recording is old in any case."""
        read_ns = event.recv_ns if self._is_remote else event.recv_mono_ns
        return 0 < read_ns <= self._resumed_ns and "replay" not in event.flags

    def _is_new_trade(self, publisher: _Publisher, symbol: str, event: Trade) -> bool:
        """Trades are known by their ids, also across restarts of the worker."""
        is_new = publisher.trades.setdefault(symbol, SeenTrades()).is_new(event.trade_id)
        self.repeated += not is_new
        return is_new

    def _void(self, publisher: _Publisher, topic: Topic, expected: int | None, got: int | str) -> list[Event]:
        """A message of a book never came: the book is void, and that is told if it was trusted."""
        book = publisher.books.get(topic.symbol)
        if book is None:
            return []
        was_trusted = book.fault is None
        book.void("seq_gap")
        gap = Gap(topic.venue, topic.symbol, None, None, "book", Reason.SEQ_GAP, expected, got, "resync")
        return [gap] if was_trusted else []

    def _beat(self, publisher: _Publisher, venue: str, beat: Heartbeat, now_ns: int) -> list[Event]:
        publisher.heartbeat_ns = now_ns
        _judge_silence(publisher, now_ns)
        told: list[Event] = []
        for name, missed in publisher.sequence.missed_tail(beat.seqs).items():
            topic = Topic.parse(name)
            self.lost += missed
            if topic.channel == "book":
                told += self._void(publisher, topic, None, beat.seqs[name])
        for symbol, theirs in beat.books.items():
            book = publisher.books.get(symbol)
            if book is None:
                continue
            name = topic_of("book", venue, symbol)
            if theirs.seq == publisher.sequence.last(name) and not book.agrees_with(theirs):
                log.error("feed.drift", venue=venue, symbol=symbol, found_by="checksum")
            if theirs.usable and book.fault is not None:
                self._ask(name, now_ns)
        return told

    def _on_lifecycle(self, event: Lifecycle) -> None:
        """A worker that has died says nothing more; the parent does, within milliseconds."""
        publisher = self._publishers.get(event.venue)
        if event.event != "exited" or publisher is None:
            return
        publisher.exited = event
        for book in publisher.books.values():
            if book.recv_mono_ns < event.recv_mono_ns:  # else the next worker has already sent it anew
                book.void(WORKER_EXITED)

    def _ask(self, name: str, now_ns: int) -> None:
        if now_ns - self._asked.get(name, -_ASK_NS) >= _ASK_NS:
            self._asked[name] = now_ns
            self._asks.append(name)

    def _publisher(self, venue: str) -> _Publisher:
        try:
            return self._publishers[venue]
        except KeyError:
            known = ", ".join(name for name in self._publishers if name != LIFECYCLE)
            raise FeedError(f"no such venue in this feed; it has {known}", where=venue) from None


def _forget(publisher: _Publisher) -> None:
    """The worker started anew: nothing that was known of the venue holds."""
    publisher.latest.clear()
    for book in publisher.books.values():
        book.void(NO_SNAPSHOT)


def _is_left_behind(snapshot: BookSnapshot, exited: Lifecycle) -> bool:
    """Whether the worker that sent a snapshot is dead: the news of its end may overtake its last messages.

    By both clocks: the wall clock may be set back, and the monotonic one begins anew when a machine that is read over
    TCP is booted. What is replayed is old by both.
    """
    is_older = snapshot.recv_mono_ns < exited.recv_mono_ns and snapshot.recv_ns < exited.recv_ns
    return is_older and "replay" not in snapshot.flags


def _new_book(publisher: _Publisher, venue: str, symbol: str) -> BookReplica:
    book = publisher.books[symbol] = BookReplica(venue, symbol)
    book.silence = _HEARTBEAT_LOST if publisher.is_silent else None
    return book


def _judge_silence(publisher: _Publisher, now_ns: int) -> None:
    """Hide or show every book of a venue; asked for with each look at a book, so it walks them only when it changed."""
    is_silent = now_ns - publisher.heartbeat_ns > HEARTBEAT_LOST_S * _NS
    if is_silent is publisher.is_silent:
        return
    publisher.is_silent = is_silent
    for book in publisher.books.values():
        book.silence = _HEARTBEAT_LOST if is_silent else None
