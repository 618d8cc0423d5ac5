"""Overload: a venue that sends more than a core can handle, and a consumer that is too slow.

A venue sends changes of a book and trades as fast as they are read; the worker is always busy, and TCP holds back what
it has not read. A consumer reads more slowly than the feed publishes, so that its pipe fills and loses messages.
Afterwards everything must add up: every frame published, every message either received or counted as lost, the worker's
own count of full pipes above zero, and the book whole and usable again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.feeder import Feeder
from bench.frames import encoded
from bench.system import BenchSystem, fed
from ipc.events import Event, Heartbeat
from ipc.feed import Feed, channel_of

_VENUE, _SYMBOL = "lighter", "BTC-PERP"
_TOPICS = {channel: f"{channel}.{_VENUE}.{_SYMBOL}" for channel in ("book", "trade")}
#: Frames a second of either stream, for the size of the flood; a core handles about half as many.
_ASSUMED_PER_S = 20_000
_CONSUMER_PER_S = 1_000
_LIMIT_S = 60.0


@dataclass(frozen=True)
class Pressure:
    """Result. ``is_accounted``: received and lost make up all that was published since the consumer joined."""

    frames: int
    published: dict[str, int]
    carried_per_s: float
    worker_cpu_share: float
    received: int
    lost: int
    drops: int
    is_accounted: bool
    is_book_usable: bool
    drifts: int


def measure(seconds: float, report: Callable[[str], None] = print) -> Pressure:
    """Flood one venue with as many frames as it would take a core about twice ``seconds`` to carry."""
    count = int(seconds * _ASSUMED_PER_S)
    streams = {"book": encoded(_VENUE, "delta", count), "trade": encoded(_VENUE, "trade", count)}
    with Feeder(_VENUE, streams, burst=32) as feeder, BenchSystem(fed({_VENUE: feeder})) as system:
        system.wait_live()
        with Feed(system.run_dir.path, venues=[_VENUE], channels=list(_TOPICS)) as feed:
            cpu_s, start, sent = system.cpu_s(_VENUE), time.monotonic(), feeder.sent
            consumer = _Consumer(feed)
            while feeder.sent < 2 * count and time.monotonic() - start < _LIMIT_S:
                consumer.read(1 / _CONSUMER_PER_S)
            wall_s = time.monotonic() - start
            share, carried = (system.cpu_s(_VENUE) - cpu_s) / wall_s, (feeder.sent - sent) / wall_s
            consumer.catch_up(count)
            book, last = feed.book(_VENUE, _SYMBOL), consumer.heartbeat
            published = {channel: last.seqs.get(topic, 0) for channel, topic in _TOPICS.items()} if last else {}
            found = Pressure(
                frames=2 * count,
                published=published,
                carried_per_s=carried,
                worker_cpu_share=share,
                received=consumer.received,
                lost=feed.lost,
                drops=last.drops if last else 0,
                is_accounted=consumer.received + feed.lost == consumer.expected(),
                is_book_usable=book.usable,
                drifts=book.drifts,
            )
    report(
        f"pressure {found.frames} frames, {carried:.0f}/s carried with {share:.0%} of a core; published {published}, "
        f"received {found.received}, lost {found.lost} (worker: {found.drops} full pipes), "
        f"accounted for: {found.is_accounted}, book usable: {found.is_book_usable}, drifts {found.drifts}"
    )
    return found


class _Consumer:
    """Slow reader that counts messages by channel: full pipes lose heartbeats as well."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.received = 0
        self.heartbeat: Heartbeat | None = None
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def read(self, pause_s: float) -> None:
        """Read one event, then pause."""
        self._note(self._feed.poll(0.0))
        time.sleep(pause_s)

    def catch_up(self, count: int) -> None:
        """Read until a heartbeat counts the whole flood and the book is usable again."""
        until = time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            event = self._feed.poll(0.5)
            self._note(event)
            is_over = isinstance(event, Heartbeat) and all(
                event.seqs.get(topic, 0) >= count for topic in _TOPICS.values()
            )
            if is_over and self._feed.book(_VENUE, _SYMBOL).usable:
                return

    def expected(self) -> int:
        """Return the number of messages from the first received to the last received or counted."""
        return sum(last - self._first[name] + 1 for name, last in self._last.items())

    def _note(self, event: Event | None) -> None:
        if event is None or not event.epoch:
            return
        if isinstance(event, Heartbeat):
            self.heartbeat = event
            counted = (_TOPICS | {"status": f"status.{_VENUE}"}).items()
            self._last.update((name, event.seqs[topic]) for name, topic in counted if name in self._last)
        name = channel_of(event)
        self.received += 1
        self._first.setdefault(name, event.seq)
        self._last[name] = event.seq
