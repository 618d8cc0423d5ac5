"""The consumer's end: subscribe to a running system, iterate over its events, hold books that can be trusted.

    from ipc.feed import Feed

    with Feed(channels=["book", "trade"]) as feed:
        for event in feed:
            book = feed.book("lighter", "BTC-PERP")
            if book.usable:
                print(book.best_bid, book.best_ask)

A feed belongs to one thread. It survives restarts of workers and of the whole system, finds losses by sequence and by
heartbeat, and asks for a snapshot where it needs one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final, Self

import zmq

from ipc.codec import decode
from ipc.errors import DecodeError, FeedError, NotRunningError, UnknownStateError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Lifecycle
from ipc.health import Reason
from ipc.log import get_log
from ipc.replica import NO_SNAPSHOT, WORKER_EXITED, BookReplica
from ipc.rundir import RunDir, default_path
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import VENUES, Topic, topic_of

__all__ = ["HEARTBEAT_LOST_S", "PUBLIC_CHANNELS", "Feed"]

log = get_log(__name__)

#: Without a heartbeat for this long, no book of the venue is usable.
HEARTBEAT_LOST_S: Final = 3.0
#: What a feed subscribes when it is not told otherwise.
PUBLIC_CHANNELS: Final = ("book", "bbo", "trade", "mark", "funding")
#: The channel, and the publisher, of what the parent does; it comes from the gateway.
LIFECYCLE: Final = "lifecycle"
#: A reconnect every 10 ms finds a restarted worker within 8 ms, for 3 % of a core while five are away.
_RECONNECT_MS: Final = 10
_RECEIVE_HWM: Final = 10_000
#: Between two requests for the same snapshot.
_ASK_NS: Final = 1_500_000_000
_NS: Final = 1_000_000_000


class _Publisher:
    """What a feed knows of one venue's publisher."""

    def __init__(self, now_mono_ns: int) -> None:
        self.sequence = PublisherSequence()
        self.heartbeat_mono_ns = now_mono_ns
        self.books: dict[str, BookReplica] = {}
        self.latest: dict[tuple[str, str], Event] = {}


class Feed:
    """A subscription to one or more venues of a running system.

    Args:
        run_dir: The system's run directory; None takes the default one.
        venues: Which venues; None takes all.
        channels: Which channels; ``heartbeat`` and ``status`` are always there. What happens to processes is always
            listened to as well, and told with the channel ``lifecycle``.
        symbols: Which symbols (``BTC-PERP``); None takes all.
        context: A ZeroMQ context to share; None makes one.
        clock: Monotonic clock, ns.

    ``lost`` counts messages that never arrived, ``malformed`` those that could not be read.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        venues: Iterable[str] | None = None,
        channels: Sequence[str] = PUBLIC_CHANNELS,
        symbols: Sequence[str] | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.run_dir = RunDir(Path(run_dir) if run_dir else default_path(os.environ))
        self.lost = 0
        self.malformed = 0
        self._clock = clock
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        options = (
            (zmq.LINGER, 0),
            (zmq.RCVHWM, _RECEIVE_HWM),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, 0),
        )
        for option, value in options:
            self._socket.setsockopt(option, value)
        endpoints = _endpoints(self.run_dir, venues)
        prefixes = _prefixes(tuple(endpoints), channels, symbols)
        endpoints[LIFECYCLE] = self.run_dir.feed(LIFECYCLE)
        self._tells_lifecycle = LIFECYCLE in channels
        self._publishers = {venue: _Publisher(clock()) for venue in endpoints}
        self._asked: dict[str, int] = {}
        self._pending: list[Event] = []
        for prefix in prefixes:
            self._socket.subscribe(prefix.encode())
        for endpoint in endpoints.values():
            self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        if self._own_context:
            self._context.term()

    def __iter__(self) -> Iterator[Event]:
        """Events for ever, in the order of their arrival."""
        while True:
            event = self.poll(1.0)
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.0) -> Event | None:
        """The next event, or None when none came within ``timeout_s``.

        A loss that this feed found itself comes as a :class:`Gap` of its own making (``epoch`` 0).
        """
        deadline = self._clock() + int(timeout_s * _NS)
        while True:
            if self._pending:
                return self._pending.pop(0)
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                left_ns = deadline - self._clock()
                if left_ns <= 0 or not self._socket.poll(max(1, left_ns // 1_000_000)):
                    return None
                continue
            event = self._take(parts)
            if event is not None:
                return event

    def book(self, venue: str, symbol: str) -> BookReplica:
        """The book of a market; unusable until its first snapshot.

        Raises:
            FeedError: The venue is not part of this feed.
        """
        publisher = self._publisher(venue)
        book = publisher.books.get(symbol)
        if book is None:
            book = publisher.books[symbol] = BookReplica(venue, symbol)
        self._judge_silence(publisher)
        return book

    def books(self) -> list[BookReplica]:
        """Every book heard of so far."""
        for publisher in self._publishers.values():
            self._judge_silence(publisher)
        return [book for publisher in self._publishers.values() for book in publisher.books.values()]

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """The last event of a channel other than ``book``; None before the first."""
        return self._publisher(venue).latest.get((channel, symbol))

    def wait_live(self, markets: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Read until the books of all ``markets`` (venue, symbol) are usable; whether they are.

        The events read meanwhile are applied, and not given to the caller.
        """
        deadline = self._clock() + int(timeout_s * _NS)
        while not all(self.book(*market).usable for market in markets):
            left_s = (deadline - self._clock()) / _NS
            if left_s <= 0:
                return False
            self.poll(min(left_s, 0.1))
        return True

    # --- one message ----------------------------------------------------------------------------------------------

    def _take(self, parts: list[bytes]) -> Event | None:
        try:
            topic_text, payload = parts
            topic = Topic.parse(topic_text.decode())
            event = decode(payload)
            publisher = self._publishers[topic.channel if topic.channel == LIFECYCLE else topic.venue]
        except (ValueError, KeyError, DecodeError) as error:
            self.malformed += 1
            log.warning("feed.malformed", error=str(error))
            return None
        return None if event is None else self._apply(publisher, topic, event)

    def _apply(self, publisher: _Publisher, topic: Topic, event: Event) -> Event | None:
        now = self._clock()
        name = str(topic)
        last = publisher.sequence.last(name)
        verdict = publisher.sequence.judge(name, event.epoch, event.seq, now)
        if verdict in {Verdict.IGNORE, Verdict.ZOMBIE}:
            return None
        if verdict is Verdict.NEW_EPOCH:
            self._forget(publisher)
        if topic.channel == "heartbeat" and isinstance(event, Heartbeat):
            self._beat(publisher, topic.venue, event, now)
        elif isinstance(event, Lifecycle):
            self._on_lifecycle(event)
            return event if self._tells_lifecycle else None
        elif topic.channel == "book":
            self._apply_book(publisher, topic, event, last if verdict is Verdict.GAP else None)
            if self._pending:
                self._pending.append(event)
                return self._pending.pop(0)
        else:
            self.lost += event.seq - (last or 0) - 1 if verdict is Verdict.GAP else 0
            publisher.latest[topic.channel, topic.symbol] = event
        return event

    def _apply_book(self, publisher: _Publisher, topic: Topic, event: Event, gap_after: int | None) -> None:
        book = publisher.books.setdefault(topic.symbol, BookReplica(topic.venue, topic.symbol))
        if gap_after is not None:
            self.lost += event.seq - gap_after - 1
            self._void(book, topic, gap_after + 1, event.seq)
        if isinstance(event, BookSnapshot):
            if not book.apply_snapshot(event):
                log.error("feed.drift", venue=topic.venue, symbol=topic.symbol, found_by="refresh")
        elif isinstance(event, BookDelta):
            book.apply_delta(event)
        elif isinstance(event, Gap):
            book.apply_gap(event)
            return
        if book.fault in {NO_SNAPSHOT, "seq_gap", "bad_level", "drift"} and not isinstance(event, BookSnapshot):
            self._ask(str(topic))

    def _void(self, book: BookReplica, topic: Topic, expected: int | None, got: int) -> None:
        """A message of this book never came: say so in the stream, and ask for a snapshot."""
        if book.fault is None:
            gap = Gap(topic.venue, topic.symbol, None, None, "book", Reason.SEQ_GAP, expected, got, "resync")
            self._pending.append(gap)
        book.void("seq_gap")

    def _beat(self, publisher: _Publisher, venue: str, beat: Heartbeat, now: int) -> None:
        publisher.heartbeat_mono_ns = now
        for name in publisher.sequence.missed_tail(beat.seqs):
            topic = Topic.parse(name)
            self.lost += 1
            if topic.channel == "book" and topic.symbol in publisher.books:
                self._void(publisher.books[topic.symbol], topic, None, beat.seqs[name])
        for symbol, told in beat.books.items():
            book = publisher.books.get(symbol)
            if book is None:
                continue
            name = topic_of("book", venue, symbol)
            if told.seq == publisher.sequence.last(name) and not book.agrees_with(told):
                log.error("feed.drift", venue=venue, symbol=symbol, found_by="checksum")
            if told.usable and book.fault is not None:
                self._ask(name)

    def _on_lifecycle(self, event: Lifecycle) -> None:
        """A worker that has died says nothing more; the parent does, within milliseconds."""
        publisher = self._publishers.get(event.venue)
        if event.event != "exited" or publisher is None:
            return
        for book in publisher.books.values():
            if book.recv_mono_ns < event.recv_mono_ns:  # else the next worker has already sent it anew
                book.void(WORKER_EXITED)

    def _forget(self, publisher: _Publisher) -> None:
        """The worker started anew: nothing that was known of the venue holds."""
        publisher.latest.clear()
        for book in publisher.books.values():
            book.void(NO_SNAPSHOT)

    def _ask(self, name: str) -> None:
        """Ask the worker for a snapshot: it answers every subscription, also one that was there already."""
        now = self._clock()
        if now - self._asked.get(name, -_ASK_NS) >= _ASK_NS:
            self._asked[name] = now
            self._socket.subscribe(name.encode())
            self._socket.unsubscribe(name.encode())

    def _judge_silence(self, publisher: _Publisher) -> None:
        lost = self._clock() - publisher.heartbeat_mono_ns > HEARTBEAT_LOST_S * _NS
        for book in publisher.books.values():
            book.silence = "heartbeat_lost" if lost else None

    def _publisher(self, venue: str) -> _Publisher:
        try:
            return self._publishers[venue]
        except KeyError:
            known = ", ".join(self._publishers)
            raise FeedError(f"no such venue in this feed; it has {known}", where=venue) from None


def _endpoints(run_dir: RunDir, venues: Iterable[str] | None) -> dict[str, str]:
    """Where each venue publishes: as described, or as it will be once the system starts."""
    try:
        described = {name: str(venue["feed"]) for name, venue in run_dir.describe()["venues"].items()}
    except (NotRunningError, UnknownStateError, KeyError):
        described = {name: run_dir.feed(name) for name in VENUES}
    wanted = described if venues is None else venues
    return {name: described.get(name, run_dir.feed(name)) for name in wanted}


def _prefixes(venues: Sequence[str], channels: Sequence[str], symbols: Sequence[str] | None) -> list[str]:
    prefixes = ["heartbeat.", "status.", f"{LIFECYCLE}."]
    if symbols is None:
        return prefixes + [f"{channel}." for channel in channels]
    return prefixes + [topic_of(*parts) for parts in product(channels, venues, symbols)]
