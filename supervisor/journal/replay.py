"""Replay of a journal: the same events on the same topics, in another run directory, for unmodified consumers.

A replay gives the guarantees of a live worker: a new epoch for every recorded epoch, sequence numbers from
:class:`ipc.publisher.Publisher`, heartbeats with checksums of the rebuilt books, and snapshots for late subscribers.
Events missing from the recording leave a gap in the sequence.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import msgspec
import psutil
import zmq

from ipc.codec import decode
from ipc.descriptors import DescriptorGuard
from ipc.errors import DecodeError
from ipc.events import (
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
)
from ipc.feed_state import LIFECYCLE
from ipc.listening import ListeningSocket
from ipc.orderbook import OrderBook
from ipc.publisher import Publisher, TopicFeed
from ipc.replica import NO_SNAPSHOT, BookReplica
from ipc.rundir import RunDir, replace_file
from ipc.sequence import Epochs
from ipc.topics import BOOK_CHANNELS, Topic
from supervisor.journal.format import publisher_of, topic_of
from supervisor.journal.read import EventFile, Lines
from supervisor.lock import Instance

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Time for existing subscribers to connect before the first event.
_JOIN_S: Final = 0.5
#: Time after the last event for messages in flight and a final heartbeat.
_LINGER_S: Final = 1.5
#: Interval between checks for late subscribers while idle.
_NAP_S: Final = 0.005
_BEAT_NS: Final = _NS
_STRIDE: Final = 256
#: A monotonic clock that steps back this far means a reboot during the recording.
_BOOT_NS: Final = 60 * _NS
#: At full speed, wait this long for a slow subscriber.
_PATIENCE_S: Final = 5.0
_CHECKSUM_DEPTH: Final = 10


class Pace:
    """Pace of a replay by the recorded monotonic clock.

    Args:
        speed: Factor relative to the recording; infinity for no pacing.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._from_ns: tuple[int, int] | None = None
        self._latest_ns = 0

    def restart(self) -> None:
        """Start another recording, whose clock may differ."""
        self._from_ns = None

    def due_ns(self, recv_mono_ns: int, now_ns: int) -> int:
        """Return the monotonic time at which an event is due, at the earliest that of its predecessor."""
        if math.isinf(self._speed) or not recv_mono_ns:
            return now_ns
        if self._from_ns is None or recv_mono_ns < self._latest_ns - _BOOT_NS:
            self._from_ns = (recv_mono_ns, now_ns)
            self._latest_ns = recv_mono_ns
        self._latest_ns = max(self._latest_ns, recv_mono_ns)
        recorded_ns, began_ns = self._from_ns
        return began_ns + int((self._latest_ns - recorded_ns) / self._speed)


class _PatientPublisher(Publisher):
    """Publisher that waits for slow subscribers: at full speed all would fall behind, and waiting does no harm."""

    def _send_past_full_pipe(self, feed: TopicFeed, payload: bytes) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0.001)
            try:
                self._socket.send_multipart((feed.name, payload), zmq.DONTWAIT)
            except zmq.Again:
                continue
            self.published += 1
            return True
        return super()._send_past_full_pipe(feed, payload)


class _Topic:
    """Topic: its feed, its position in the recording, and its book if it has one."""

    def __init__(self, name: str, feed: TopicFeed) -> None:
        self.parts = Topic.parse(name)
        self.feed = feed
        self.seq: int | None = None
        self.book: BookReplica | None = None
        self._last: BookSnapshot | None = None
        if self.parts.channel in BOOK_CHANNELS:
            self.book = BookReplica(self.parts.venue, self.parts.symbol)
            feed.snapshot = self.snapshot

    def begin_epoch(self) -> None:
        """Reset the state for a new epoch."""
        self.seq = None
        self.feed.seq = 0
        self.feed.latest.clear()
        if self.book is not None:
            self.book.invalidate(NO_SNAPSHOT)

    def skip(self, count: int) -> None:
        """Skip sequence numbers of missing events, so that consumers notice the loss."""
        self.feed.seq += count
        if self.book is not None:
            self.book.invalidate("seq_gap")

    def follow(self, event: Event) -> None:
        """Apply an event to the book."""
        if self.book is None:
            return
        if isinstance(event, BookSnapshot):
            self._last = event
            self.book.apply_snapshot(event)
        elif isinstance(event, BookDelta):
            self.book.apply_delta(event)
        elif isinstance(event, Gap):
            self.book.apply_gap(event)

    def snapshot(self) -> BookSnapshot | None:
        """Return the current book for a late subscriber; None while it is unusable."""
        book, last = self.book, self._last
        if book is None or last is None or book.fault is not None:
            return None
        bids, asks = book.indicative()
        event = BookSnapshot(
            venue=book.venue,
            symbol=book.symbol,
            venue_symbol=last.venue_symbol,
            exchange_ns=book.exchange_ns,
            bids=bids,
            asks=asks,
            depth=last.depth,
            venue_seq=book.venue_seq,
        )
        event.cause = "refresh"
        event.flags = ("refresh", "replay")
        event.recv_ns, event.recv_mono_ns = last.recv_ns, book.recv_mono_ns
        return event

    def heartbeat(self, now_ns: int) -> HeartbeatBook | None:
        """Return the heartbeat entry of the book; ``now_ns`` is the position in the recording."""
        book = self.book
        if book is None or self.parts.channel != BOOK_CHANNELS[0]:
            return None
        usable = book.fault is None
        top = OrderBook()
        top.replace(*book.indicative(_CHECKSUM_DEPTH))
        age_ms = max(0, now_ns - book.recv_mono_ns) // _MS if book.recv_mono_ns else None
        return HeartbeatBook(
            seq=self.feed.seq,
            venue_seq=book.venue_seq,
            usable=usable,
            age_ms=age_ms,
            crc32_top10=top.crc32_top10() if usable else None,
        )


class _ReplayedPublisher:
    """Publisher of the recording that republishes its events."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self.publisher = publisher
        self.published = 0
        self._epoch = 0
        self._now_ns = 0
        self._topics: dict[str, _Topic] = {}
        self._heartbeats = publisher.topic(Topic("heartbeat", name, ""))

    def restart(self) -> None:
        """Start another recording with its own epochs."""
        self._epoch = 0

    def publish(self, name: str, event: Event) -> None:
        """Publish a recorded event; recorded heartbeats only reveal losses."""
        if event.epoch < self._epoch:
            return
        if event.epoch > self._epoch:
            self._begin_epoch(event.epoch)
        self._now_ns = max(self._now_ns, event.recv_mono_ns)
        if isinstance(event, Heartbeat):
            self._note_losses(event)
            return
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic(name, self.publisher.topic(Topic.parse(name)))
        last = event.seq - 1 if topic.seq is None else topic.seq
        if event.seq <= last:
            return
        topic.seq = event.seq
        with self.publisher.exclusive():
            if event.seq > last + 1:
                topic.skip(event.seq - last - 1)
            topic.follow(event)
            event.flags = (*event.flags, "replay")
            key = _key(event)
            if key is None:
                self.publisher.send(topic.feed, event)
            else:
                self.publisher.send_latest(topic.feed, key, event)
        self.published += 1

    def accept_subscribers(self) -> None:
        """Accept late subscribers while idle."""
        with self.publisher.exclusive():
            pass

    def heartbeat(self, rss_bytes: int) -> None:
        """Publish a heartbeat of the replay."""
        with self.publisher.exclusive():
            books = {
                topic.parts.symbol: book for topic in self._topics.values() if (book := topic.heartbeat(self._now_ns))
            }
            seqs = self.publisher.last_seqs()
            heartbeat = Heartbeat(
                venue=self.name,
                symbol=None,
                venue_symbol=None,
                exchange_ns=None,
                seqs=seqs,
                books=books,
                drops=self.publisher.drops,
                rss_bytes=rss_bytes,
            )
            heartbeat.recv_ns, heartbeat.recv_mono_ns, heartbeat.flags = (
                time.time_ns(),
                time.monotonic_ns(),
                ("replay",),
            )
            self.publisher.send(self._heartbeats, heartbeat)

    def _begin_epoch(self, recorded: int) -> None:
        self._epoch = recorded
        self._now_ns = 0
        with self.publisher.exclusive():
            self.publisher.epoch = Epochs.following(self.publisher.epoch)
            self._heartbeats.seq = 0
            for topic in self._topics.values():
                topic.begin_epoch()

    def _note_losses(self, heartbeat: Heartbeat) -> None:
        with self.publisher.exclusive():
            for name, seq in heartbeat.seqs.items():
                topic = self._topics.get(name)
                if topic is not None and topic.seq is not None and topic.seq < seq:
                    topic.skip(seq - topic.seq)
                    topic.seq = seq


class Replay:
    """Replay of a journal as a system; call :meth:`run`, then :meth:`close`.

    Args:
        files: The journal, in order.
        run_dir: Directory in which the feeds are bound; no system may run there.
        speed: Factor relative to the recording; infinity for as fast as subscribers read.
        version: Program version.

    ``bad`` counts invalid lines.

    Raises:
        AlreadyRunningError: A system, or another replay, runs there.
        RunDirError: The directory cannot be used.
    """

    def __init__(self, files: Sequence[EventFile], run_dir: RunDir, speed: float, version: str = "") -> None:
        self.bad = 0
        self._files = files
        self._run_dir = run_dir
        self._speed = speed
        self._version = version
        self._pace = Pace(speed)
        self._instance = Instance(run_dir)
        run_dir.board.unlink(missing_ok=True)  # left by a previous system
        self._process = psutil.Process()
        self._context: zmq.Context[Any] = zmq.Context()
        self._config = {name: of for file in files if file.header for name, of in file.header.config.items()}
        self._sources: dict[str, _ReplayedPublisher] = {}
        self._next_beat_ns = 0
        self._listening: list[ListeningSocket] = []
        self._closed = threading.Event()
        for name in (*self._config, LIFECYCLE):
            self._add_source(name)
        self._describe()
        guard = DescriptorGuard("replay", self._listening)
        threading.Thread(target=guard.run, args=(self._closed.wait,), name="descriptors", daemon=True).start()

    @property
    def published(self) -> int:
        """Events published, without heartbeats."""
        return sum(source.published for source in self._sources.values())

    @property
    def drops(self) -> int:
        """Events dropped because a subscriber was too slow."""
        return sum(source.publisher.drops for source in self._sources.values())

    def run(self, stop: Callable[[], bool], progress: Callable[[float], None]) -> None:
        """Publish all events, or until ``stop()``; ``progress`` receives the completed fraction, from 0 to 1."""
        total, read = max(1, sum(file.size for file in self._files)), 0
        recording = None
        self._idle(_JOIN_S, stop)
        for file in self._files:
            if file.header is not None and file.header.recording != recording:
                recording = file.header.recording
                self._restart()
            lines = Lines(file.path)
            for line in lines:
                read += len(line)
                if lines.number > 1 or file.header is None:
                    self._publish_event(line, stop)
                if not lines.number % _STRIDE:
                    progress(read / total)
                if stop():
                    return
        progress(1.0)
        self._idle(_LINGER_S, stop)

    def close(self) -> None:
        """Unbind the feeds."""
        self._closed.set()
        for source in self._sources.values():
            source.publisher.close()
        self._context.term()
        self._instance.close()

    def _publish_event(self, line: bytes, stop: Callable[[], bool]) -> None:
        try:
            name = topic_of(line)
            event = decode(line)
            publisher = publisher_of(name)
        except (DecodeError, ValueError):
            self.bad += 1
            return
        if event is None:
            return
        source = self._sources.get(publisher)
        if source is None:
            source = self._add_source(publisher)
            self._describe()
        now_ns = time.monotonic_ns()
        # A republished event was received before the recording started: it is due at once.
        due_ns = self._pace.due_ns(0 if "refresh" in event.flags else event.recv_mono_ns, now_ns)
        if due_ns > now_ns:
            self._idle((due_ns - now_ns) / _NS, stop)
        elif now_ns >= self._next_beat_ns:
            self._beat(now_ns)
        source.publish(name, event)

    def _idle(self, seconds: float, stop: Callable[[], bool]) -> None:
        """Accept late subscribers and publish heartbeats while no event is due."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not stop():
            for source in self._sources.values():
                source.accept_subscribers()
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_beat_ns:
                self._beat(now_ns)
            time.sleep(min(left, _NAP_S))

    def _beat(self, now_ns: int) -> None:
        self._next_beat_ns = max(self._next_beat_ns + _BEAT_NS, now_ns)
        self._instance.name.drop_questions()
        rss_bytes = self._process.memory_info().rss
        for name, source in self._sources.items():
            if name != LIFECYCLE:
                source.heartbeat(rss_bytes)
            else:
                source.accept_subscribers()

    def _restart(self) -> None:
        self._pace.restart()
        for source in self._sources.values():
            source.restart()

    def _add_source(self, name: str) -> _ReplayedPublisher:
        kind = _PatientPublisher if math.isinf(self._speed) else Publisher
        source = self._sources[name] = _ReplayedPublisher(
            name, kind(self._context, self._run_dir.feed(name), Epochs.following(0))
        )
        self._listening.append(source.publisher.listening)
        return source

    def _describe(self) -> None:
        """Return the system description for consumers."""
        nothing: dict[str, Any] = {"symbols": [], "streams": []}
        venues = {
            name: {**self._config.get(name, nothing), "feed": self._run_dir.feed(name), "account": None}
            for name in self._sources
            if name != LIFECYCLE
        }
        described = {
            "version": self._version,
            "pid": os.getpid(),
            "started_wall_ns": time.time_ns(),
            "venues": venues,
            "gateway": {"feed": self._run_dir.feed(LIFECYCLE), "http": None},
            "simulator": None,
            "replay": [str(file.path) for file in self._files],
        }
        replace_file(self._run_dir.description, msgspec.json.encode(described))


def _key(event: Event) -> Hashable | None:
    """Return the key under which an event is kept for late subscribers; None for events that are not kept."""
    match event:
        case Mark():
            return "rest" if "rest" in event.flags else "ws"
        case Funding():
            return event.phase
        case Status():
            return (event.stream, event.symbol)
        case Instrument() | Lifecycle():
            return type(event)
        case _:
            return None
