"""Publisher of a feed: one XPUB socket, a sequence per topic, and snapshots for late subscribers.

Several threads of a worker use the socket under one lock, :meth:`Publisher.exclusive`. A thread that holds it also
changes its books, so every book is consistent with its topic whenever the lock is free. On acquisition the publisher
accepts waiting subscriptions and sends the last values and books of their topics. With XPUB_MANUAL a subscription takes
effect only when it is accepted, so a late subscriber always receives a snapshot before any delta.

Subscriptions are accepted in batches: after a batch that needed a snapshot of a book the publisher accepts no others
for a second, which limits snapshots to one per book and second for any number of subscribers. A full pipe of one
subscriber neither blocks the worker nor costs the others anything; the episodes are counted here, and the loss shows in
that subscriber's sequence.
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
from ipc.listener import FeedListener
from ipc.log import get_log
from ipc.topics import Topic

log = get_log(__name__)

#: Messages that a subscriber may be behind before it loses some.
HIGH_WATER_MARK: Final = 10_000
#: Between two checks for subscriptions: a check costs 2 µs, too much for every frame of a busy feed.
_CHECK_NS: Final = 5_000_000
#: Between two rounds of snapshots.
_ROUND_NS: Final = 1_000_000_000
#: Subscriptions accepted at once: a thousand delay the feed by some milliseconds.
_BATCH: Final = 1024
_SUBSCRIBE: Final = b"\x01"
#: Combined once: joining two enum flags costs as much as sending.
_MORE: Final = int(zmq.SNDMORE | zmq.DONTWAIT)
_LAST: Final = int(zmq.DONTWAIT)


class TopicFeed:
    """Topic of a feed: its sequence, and its state for late subscribers.

    ``latest`` holds the topic's last events by key. ``snapshot`` returns the current book of a book topic, or None
    while it is unusable (its next snapshot goes to all); it is called with exclusive access.
    """

    __slots__ = ("latest", "name", "seq", "snapshot")

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.seq = 0
        self.latest: dict[Hashable, Event] = {}
        self.snapshot: Callable[[], Event | None] | None = None


class _ExclusiveAccess:
    """Reentrant lock that accepts late subscribers when it is acquired; the clock is in ns.

    ``check`` is called with the time when a check for subscriptions is due, and returns the time of the next one.
    """

    __slots__ = ("_check", "_lock", "_monotonic", "_next_check_ns")

    def __init__(self, monotonic: Callable[[], int], check: Callable[[int], int]) -> None:
        self._lock = threading.RLock()
        self._monotonic = monotonic
        self._check = check
        self._next_check_ns = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        now_ns = self._monotonic()
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + _CHECK_NS
            try:
                self._next_check_ns = self._check(now_ns)
            except BaseException:
                self._lock.release()
                raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def lock(self) -> threading.RLock:
        """Return the lock alone, for work that needs no check."""
        return self._lock

    def is_held(self) -> bool:
        """Return whether the calling thread has exclusive access."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined] # noqa: SLF001 - as threading.Condition does


class Publisher:
    """Publisher of one feed.

    Args:
        context: ZeroMQ context of this process (one that was inherited by fork loses messages silently).
        endpoint: Endpoint to bind.
        epoch: Epoch of this publisher; above that of every earlier one.
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
        self._topics: dict[str, TopicFeed] = {}
        self._access = _ExclusiveAccess(monotonic, self._check_subscriptions)
        #: True after a check found subscriptions; the next one accepts them.
        self._has_waiting = False
        self._socket = context.socket(zmq.XPUB)
        #: Unwrapped ``send``: the options of pyzmq's wrapper, all unused here, cost half of a call.
        self._send: Callable[[bytes, int], object] = super(zmq.Socket, self._socket).send
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, hwm), (zmq.XPUB_MANUAL, 1), (zmq.XPUB_NODROP, 1)):
            self._socket.setsockopt(option, value)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ParaphinaError(f"the feed cannot be bound: {error.strerror}", where=endpoint) from error

    def topic(self, topic: Topic) -> TopicFeed:
        """Return the feed of a topic; create it at the first call."""
        name = str(topic)
        with self._access.lock:
            feed = self._topics.get(name)
            if feed is None:
                feed = self._topics[name] = TopicFeed(name)
            return feed

    def listen(self, listener: FeedListener, name: str, *, account: bool = False) -> None:
        """Publish over TCP as well, as soon as the address is free; raise ConfigError if it can never be bound."""
        listener.bind(self._socket, self._access.lock, name, account=account)

    def exclusive(self) -> _ExclusiveAccess:
        """Return the lock of this publisher and its books: ``with publisher.exclusive(): ...``."""
        return self._access

    def assert_exclusive(self) -> None:
        """Assert that the calling thread has exclusive access; not for every event, it costs 0.1 µs."""
        assert self._access.is_held(), "exclusive access to the publisher is required"  # noqa: S101 - a programming error

    def send(self, feed: TopicFeed, event: Event) -> bool:
        """Stamp and send an event; requires exclusive access.

        Return True when ZeroMQ accepted it; otherwise its seq is used up, so subscribers see the loss.
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
        """Send an event and keep it as the last one of ``key`` for late subscribers; requires exclusive access."""
        feed.latest.pop(key, None)  # keeps the newest last
        feed.latest[key] = event
        return self.send(feed, event)

    def last_seqs(self) -> dict[str, int]:
        """Return the last seq of every topic that has sent; requires exclusive access."""
        self.assert_exclusive()
        return {name: feed.seq for name, feed in self._topics.items() if feed.seq}

    def close(self) -> None:
        """Close the socket; messages not yet sent are lost."""
        with self._access.lock:
            self._socket.close()

    def _send_past_full_pipe(self, feed: TopicFeed, payload: bytes) -> bool:
        """Send without XPUB_NODROP: only the subscriber whose pipe is full loses the message."""
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

    def _check_subscriptions(self, now_ns: int) -> int:
        """Accept waiting subscriptions; return the time of the next check.

        This happens one check after the first arrived: a subscriber's list comes in pieces.
        """
        next_ns = now_ns + _CHECK_NS
        if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return next_ns
        self._has_waiting = not self._has_waiting
        if not self._has_waiting and self._send_snapshots(self._accept_subscriptions()):
            return now_ns + _ROUND_NS
        return next_ns

    def _accept_subscriptions(self) -> tuple[bytes, ...]:
        """Apply waiting subscriptions and cancellations; return the new prefixes."""
        prefixes = set()
        for _ in range(_BATCH):
            try:
                message: bytes = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            is_new, prefix = message.startswith(_SUBSCRIBE), message[1:]
            self._socket.setsockopt(zmq.SUBSCRIBE if is_new else zmq.UNSUBSCRIBE, prefix)
            if is_new:
                prefixes.add(prefix)
        return tuple(prefixes)

    def _send_snapshots(self, prefixes: tuple[bytes, ...]) -> bool:
        """Send the state of all topics with these prefixes; return whether it included a book.

        The status comes last: a subscriber that has received it has everything else.
        """
        self.assert_exclusive()
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
