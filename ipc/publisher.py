"""The publishing end of a feed: one XPUB socket, a sequence per topic, and an answer for whoever joins.

The socket is used by several threads of a worker under one lock. A thread takes it for a *turn*, in which it also
changes its books: whoever has the turn sees every book at rest and in step with its topic. A turn begins by letting
waiting joiners in and sending them the last values and the books that they ask for. With XPUB_MANUAL a subscription
takes effect only when it is let in, so a joiner gets a snapshot before any delta, always.

Joiners are let in together: after a refresh nobody is let in for a second, which keeps refreshes to one a book and
second however many join. A full pipe of one subscriber neither blocks the worker nor costs the others anything; the
episodes are counted here, and what was lost shows in the subscriber's sequence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

import zmq

from ipc.codec import encode
from ipc.errors import ParaphinaError
from ipc.events import Event
from ipc.log import get_log
from ipc.remote import FeedListener
from ipc.topics import Topic

__all__ = ["HIGH_WATER_MARK", "Publisher", "TopicFeed"]

log = get_log(__name__)

#: Messages that a subscriber may be behind before it loses some.
HIGH_WATER_MARK: Final = 10_000
#: Between two looks for joiners; asking ZeroMQ costs 2 µs, which a busy feed should not pay for every frame.
_LOOK_NS: Final = 5_000_000
#: Between two rounds of snapshots for joiners.
_ROUND_NS: Final = 1_000_000_000
#: Subscriptions let in at once: reading a thousand holds the feed up for some milliseconds.
_AT_ONCE: Final = 1024
_SUBSCRIBE: Final = b"\x01"
#: Combined once: joining two enum flags costs as much as sending.
_MORE: Final = int(zmq.SNDMORE | zmq.DONTWAIT)
_LAST: Final = int(zmq.DONTWAIT)


class TopicFeed:
    """One topic: its sequence, and what a joiner is sent.

    ``latest`` holds the topic's last events by key. ``snapshot`` gives the book of a book topic as it stands, or None
    while it is unusable (its first snapshot is then the answer); it is called within a turn.
    """

    __slots__ = ("latest", "name", "seq", "snapshot")

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.seq = 0
        self.latest: dict[Hashable, Event] = {}
        self.snapshot: Callable[[], Event | None] | None = None


class _Turn:
    """The lock as a context manager of its own: a generator's costs 1 µs more for every turn."""

    __slots__ = ("_publisher",)

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def __enter__(self) -> None:
        self._publisher.begin_turn()

    def __exit__(self, *_: object) -> None:
        self._publisher.end_turn()


class Publisher:
    """A venue's feed.

    Args:
        context: This process's own ZeroMQ context (one that was inherited by fork loses messages silently).
        endpoint: Where to bind.
        epoch: This life of the publisher; above that of every earlier one.
        clock: Wall clock, ns.
        monotonic: Monotonic clock, ns.
        hwm: Messages that a subscriber may be behind.

    ``drops`` counts the times that a subscriber's pipe was full, ``errors`` the sends that failed otherwise.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        epoch: int,
        *,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
        hwm: int = HIGH_WATER_MARK,
    ) -> None:
        self.epoch = epoch
        self.drops = 0
        self.errors = 0
        self.published = 0
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._topics: dict[str, TopicFeed] = {}
        #: ``with publisher.turn: ...``
        self.turn = _Turn(self)
        self._next_look_ns = 0
        self._joiner_seen = False
        self._socket = context.socket(zmq.XPUB)
        #: What the socket's own ``send`` ends in; its options, none of them used here, cost half of it.
        self._send: Callable[[bytes, int], object] = super(zmq.Socket, self._socket).send
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, hwm), (zmq.XPUB_MANUAL, 1), (zmq.XPUB_NODROP, 1)):
            self._socket.setsockopt(option, value)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ParaphinaError(f"the feed cannot be bound: {error.strerror}", where=endpoint) from error

    def topic(self, topic: Topic) -> TopicFeed:
        """The feed of a topic; made at the first call."""
        name = str(topic)
        with self._lock:
            feed = self._topics.get(name)
            if feed is None:
                feed = self._topics[name] = TopicFeed(name)
            return feed

    def listen(self, listener: FeedListener, name: str, *, account: bool = False) -> None:
        """Publish over TCP as well.

        Raises:
            ConfigError: It cannot be.
        """
        listener.bind(self._socket, name, account=account)

    def begin_turn(self) -> None:
        """Take the lock and let joiners in; prefer :attr:`turn`."""
        self._lock.acquire()
        now_mono_ns = self._monotonic()
        if now_mono_ns >= self._next_look_ns:
            try:
                self._look(now_mono_ns)
            except BaseException:
                self._lock.release()
                raise

    def end_turn(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def send(self, feed: TopicFeed, event: Event) -> bool:
        """Stamp and send an event; within a turn.

        Returns:
            Whether it was handed to ZeroMQ. When not, its seq is used up, so subscribers see the loss.
        """
        feed.seq += 1
        event.epoch = self.epoch
        event.seq = feed.seq
        event.publish_ns = self._clock()
        payload = encode(event)
        try:
            self._send(feed.name, _MORE)
            self._send(payload, _LAST)
        except zmq.Again:
            return self._send_past_full_pipe(feed, payload)
        except zmq.ZMQError as error:
            self.errors += 1
            log.error("publish.failed", topic=feed.name.decode(), error=str(error))
            return False
        self.published += 1
        return True

    def send_latest(self, feed: TopicFeed, key: Hashable, event: Event) -> bool:
        """Send an event and keep it as the topic's last one of ``key``, for whoever joins later; within a turn."""
        feed.latest.pop(key, None)  # the newest stand last
        feed.latest[key] = event
        return self.send(feed, event)

    def last_seqs(self) -> dict[str, int]:
        """The last seq of every topic that has sent; within a turn."""
        return {name: feed.seq for name, feed in self._topics.items() if feed.seq}

    def close(self) -> None:
        """Unbind; messages not yet sent are lost."""
        with self._lock:
            self._socket.close()

    def _send_past_full_pipe(self, feed: TopicFeed, payload: bytes) -> bool:
        """With XPUB_NODROP a full pipe refuses the message to everyone; without, only to the one that is full."""
        self.drops += 1
        log.warning("publish.pipe_full", topic=feed.name.decode(), reason="pipe_full", episodes=self.drops)
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self._socket.send_multipart((feed.name, payload), zmq.DONTWAIT)
        except zmq.ZMQError as error:
            self.errors += 1
            log.error("publish.failed", topic=feed.name.decode(), error=str(error))
            return False
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.published += 1
        return True

    def _look(self, now_mono_ns: int) -> None:
        """Let joiners in, one look after the first was seen: a subscriber's list comes in pieces."""
        self._next_look_ns = now_mono_ns + _LOOK_NS
        if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return
        if not self._joiner_seen:
            self._joiner_seen = True
            return
        self._joiner_seen = False
        if self._answer(self._accept_subscriptions()):
            self._next_look_ns = now_mono_ns + _ROUND_NS

    def _accept_subscriptions(self) -> tuple[bytes, ...]:
        """Make waiting subscriptions effective; the prefixes that they ask for."""
        prefixes = set()
        for _ in range(_AT_ONCE):
            try:
                message: bytes = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            joins, prefix = message.startswith(_SUBSCRIBE), message[1:]
            self._socket.setsockopt(zmq.SUBSCRIBE if joins else zmq.UNSUBSCRIBE, prefix)
            if joins:
                prefixes.add(prefix)
        return tuple(prefixes)

    def _answer(self, prefixes: tuple[bytes, ...]) -> bool:
        """Send what is known of the topics asked for; whether a book was among it.

        The status comes last: whoever reads it has everything else.
        """
        books = 0
        wanted = [feed for feed in self._topics.values() if feed.name.startswith(prefixes)]
        for feed in sorted(wanted, key=_is_status):
            for event in list(feed.latest.values()):
                if "refresh" not in event.flags:
                    event.flags = (*event.flags, "refresh")
                self.send(feed, event)
            book = feed.snapshot() if feed.snapshot is not None else None
            if book is not None:
                self.send(feed, book)
                books += 1
        return books > 0


def _is_status(feed: TopicFeed) -> bool:
    return feed.name.startswith(b"status.")
