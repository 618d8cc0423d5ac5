"""Replaying a journal: the same events on the same topics, in another run directory, for consumers that notice nothing.

What a live worker guarantees holds here as well, because it is made anew from the events: a fresh epoch for every life
in the recording, sequences by :class:`ipc.publisher.Publisher`, heartbeats with the checksums of books that are kept
meanwhile, and these books for whoever joins. What the recording lost stays lost: its place in the sequence is left out.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import msgspec
import psutil
import zmq

from ipc.codec import decode
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
from ipc.orderbook import OrderBook
from ipc.publisher import Publisher, TopicFeed
from ipc.replica import NO_SNAPSHOT, BookReplica
from ipc.rundir import RunDir, replace_file
from ipc.sequence import Epochs
from ipc.topics import BOOK_CHANNELS, Topic
from supervisor.journal.format import publisher_of, topic_of
from supervisor.journal.read import EventFile, Lines
from supervisor.lock import InstanceLock

__all__ = ["Pace", "Replay"]

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Subscribers that are there already get in before the first event.
_JOIN_S: Final = 0.5
#: After the last event: time for what is under way, and for a heartbeat that tells of it.
_LINGER_S: Final = 1.5
#: Between two looks for joiners while there is nothing to say.
_NAP_S: Final = 0.005
_BEAT_NS: Final = _NS
_STRIDE: Final = 256
#: A recording whose monotonic clock goes back this far went on after a boot.
_BOOT_NS: Final = 60 * _NS
#: At full speed a subscriber that is behind is waited for, so long.
_PATIENCE_S: Final = 5.0
_CHECKSUM_DEPTH: Final = 10


class Pace:
    """When to say what was received when, by the recorded monotonic clock.

    Args:
        speed: How many times as fast as recorded; infinity keeps no time.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._from_ns: tuple[int, int] | None = None
        self._latest_ns = 0

    def restart(self) -> None:
        """Another recording begins, with a clock that may be another."""
        self._from_ns = None

    def due_ns(self, recv_mono_ns: int, now_ns: int) -> int:
        """The monotonic time at which an event is due; what was received before the last one is due with it."""
        if math.isinf(self._speed) or not recv_mono_ns:
            return now_ns
        if self._from_ns is None or recv_mono_ns < self._latest_ns - _BOOT_NS:
            self._from_ns = (recv_mono_ns, now_ns)
            self._latest_ns = recv_mono_ns
        self._latest_ns = max(self._latest_ns, recv_mono_ns)
        recorded_ns, began_ns = self._from_ns
        return began_ns + int((self._latest_ns - recorded_ns) / self._speed)


class _PatientPublisher(Publisher):
    """Waits for subscribers that are behind: at full speed everybody would be, and nobody is harmed by the wait."""

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
    """A topic: its feed, where it was in the recording, and its book if it has one."""

    def __init__(self, name: str, feed: TopicFeed) -> None:
        self.parts = Topic.parse(name)
        self.feed = feed
        self.seq: int | None = None
        self.book: BookReplica | None = None
        self._last: BookSnapshot | None = None
        if self.parts.channel in BOOK_CHANNELS:
            self.book = BookReplica(self.parts.venue, self.parts.symbol)
            feed.snapshot = self.whole

    def begin_epoch(self) -> None:
        """The publisher starts anew."""
        self.seq = None
        self.feed.seq = 0
        self.feed.latest.clear()
        if self.book is not None:
            self.book.invalidate(NO_SNAPSHOT)

    def lose(self, count: int) -> None:
        """Events are not in the recording: consumers are to see that as well."""
        self.feed.seq += count
        if self.book is not None:
            self.book.invalidate("seq_gap")

    def follow(self, event: Event) -> None:
        """Keep the book."""
        if self.book is None:
            return
        if isinstance(event, BookSnapshot):
            self._last = event
            self.book.apply_snapshot(event)
        elif isinstance(event, BookDelta):
            self.book.apply_delta(event)
        elif isinstance(event, Gap):
            self.book.apply_gap(event)

    def whole(self) -> BookSnapshot | None:
        """The book as it stands, for a joiner; None while it is not usable."""
        book, last = self.book, self._last
        if book is None or last is None or book.fault is not None:
            return None
        bids, asks = book.indicative()
        event = BookSnapshot(
            book.venue, book.symbol, last.venue_symbol, book.exchange_ns, bids, asks, last.depth, book.venue_seq
        )
        event.cause = "refresh"
        event.flags = ("refresh", "replay")
        event.recv_ns, event.recv_mono_ns = last.recv_ns, book.recv_mono_ns
        return event

    def beat(self, now_ns: int) -> HeartbeatBook | None:
        """What a heartbeat says of the book; ``now_ns`` is where the recording is."""
        book = self.book
        if book is None or self.parts.channel != BOOK_CHANNELS[0]:
            return None
        usable = book.fault is None
        top = OrderBook()
        top.replace(*book.indicative(_CHECKSUM_DEPTH))
        age_ms = max(0, now_ns - book.recv_mono_ns) // _MS if book.recv_mono_ns else None
        return HeartbeatBook(self.feed.seq, book.venue_seq, usable, age_ms, top.crc32_top10() if usable else None)


class _Voice:
    """One publisher of the recording, saying its events once more."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self.publisher = publisher
        self.said = 0
        self._epoch = 0
        self._now_ns = 0
        self._topics: dict[str, _Topic] = {}
        self._beats = publisher.topic(Topic("heartbeat", name, ""))

    def restart(self) -> None:
        """Another recording begins; its epochs stand for themselves."""
        self._epoch = 0

    def say(self, name: str, event: Event) -> None:
        """Publish an event of the recording; its heartbeats only tell what was lost."""
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
                topic.lose(event.seq - last - 1)
            topic.follow(event)
            event.flags = (*event.flags, "replay")
            key = _key(event)
            if key is None:
                self.publisher.send(topic.feed, event)
            else:
                self.publisher.send_latest(topic.feed, key, event)
        self.said += 1

    def let_in(self) -> None:
        """Let joiners in while there is nothing to say."""
        with self.publisher.exclusive():
            pass

    def beat(self, rss_bytes: int) -> None:
        """A heartbeat of our own."""
        with self.publisher.exclusive():
            books = {topic.parts.symbol: book for topic in self._topics.values() if (book := topic.beat(self._now_ns))}
            seqs = self.publisher.last_seqs()
            beat = Heartbeat(self.name, None, None, None, seqs, books, self.publisher.drops, rss_bytes)
            beat.recv_ns, beat.recv_mono_ns, beat.flags = time.time_ns(), time.monotonic_ns(), ("replay",)
            self.publisher.send(self._beats, beat)

    def _begin_epoch(self, recorded: int) -> None:
        self._epoch = recorded
        self._now_ns = 0
        with self.publisher.exclusive():
            self.publisher.epoch = Epochs.following(self.publisher.epoch)
            self._beats.seq = 0
            for topic in self._topics.values():
                topic.begin_epoch()

    def _note_losses(self, beat: Heartbeat) -> None:
        with self.publisher.exclusive():
            for name, seq in beat.seqs.items():
                topic = self._topics.get(name)
                if topic is not None and topic.seq is not None and topic.seq < seq:
                    topic.lose(seq - topic.seq)
                    topic.seq = seq


class Replay:
    """A journal as a system: :meth:`run`, then :meth:`close`.

    Args:
        files: The journal, in order.
        run_dir: Where the feeds are bound; no system may run there.
        speed: How many times as fast as recorded; infinity for as fast as subscribers take it.
        version: The program's.

    ``bad`` counts lines that are no events.

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
        run_dir.prepare()
        self._lock = InstanceLock(run_dir.lock)
        run_dir.board.unlink(missing_ok=True)  # of a system that was here before
        self._process = psutil.Process()
        self._context: zmq.Context[Any] = zmq.Context()
        self._config = {name: of for file in files if file.header for name, of in file.header.config.items()}
        self._voices: dict[str, _Voice] = {}
        self._next_beat_ns = 0
        for name in (*self._config, LIFECYCLE):
            self._add_voice(name)
        self._describe()

    @property
    def said(self) -> int:
        """Events published, without heartbeats."""
        return sum(voice.said for voice in self._voices.values())

    @property
    def drops(self) -> int:
        """Times that a subscriber was too far behind."""
        return sum(voice.publisher.drops for voice in self._voices.values())

    def run(self, stop: Callable[[], bool], progress: Callable[[float], None]) -> None:
        """Say everything, or until ``stop()``; ``progress`` is told the done part, from 0 to 1."""
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
                    self._say(line, stop)
                if not lines.number % _STRIDE:
                    progress(read / total)
                if stop():
                    return
        progress(1.0)
        self._idle(_LINGER_S, stop)

    def close(self) -> None:
        """Unbind the feeds."""
        for voice in self._voices.values():
            voice.publisher.close()
        self._context.term()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _say(self, line: bytes, stop: Callable[[], bool]) -> None:
        try:
            name = topic_of(line)
            event = decode(line)
            publisher = publisher_of(name)
        except (DecodeError, ValueError):
            self.bad += 1
            return
        if event is None:
            return
        voice = self._voices.get(publisher)
        if voice is None:
            voice = self._add_voice(publisher)
            self._describe()
        now_ns = time.monotonic_ns()
        # What is only told once more was received at any time before the recording began: it keeps nobody waiting.
        due_ns = self._pace.due_ns(0 if "refresh" in event.flags else event.recv_mono_ns, now_ns)
        if due_ns > now_ns:
            self._idle((due_ns - now_ns) / _NS, stop)
        elif now_ns >= self._next_beat_ns:
            self._beat(now_ns)
        voice.say(name, event)

    def _idle(self, seconds: float, stop: Callable[[], bool]) -> None:
        """Nothing to say for a while: let joiners in, and beat."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not stop():
            for voice in self._voices.values():
                voice.let_in()
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_beat_ns:
                self._beat(now_ns)
            time.sleep(min(left, _NAP_S))

    def _beat(self, now_ns: int) -> None:
        self._next_beat_ns = max(self._next_beat_ns + _BEAT_NS, now_ns)
        rss_bytes = self._process.memory_info().rss
        for name, voice in self._voices.items():
            if name != LIFECYCLE:
                voice.beat(rss_bytes)
            else:
                voice.let_in()

    def _restart(self) -> None:
        self._pace.restart()
        for voice in self._voices.values():
            voice.restart()

    def _add_voice(self, name: str) -> _Voice:
        kind = _PatientPublisher if math.isinf(self._speed) else Publisher
        voice = self._voices[name] = _Voice(name, kind(self._context, self._run_dir.feed(name), Epochs.following(0)))
        return voice

    def _describe(self) -> None:
        """What a system says of itself, for consumers that look there."""
        nothing: dict[str, Any] = {"symbols": [], "streams": []}
        venues = {
            name: {**self._config.get(name, nothing), "feed": self._run_dir.feed(name), "account": None}
            for name in self._voices
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
    """Under which key an event is kept for joiners; None for those that are not."""
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
