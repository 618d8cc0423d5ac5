"""Publisher of a feed: one XPUB socket, a sequence per topic, and the state of topics for late subscribers.

Several threads of a worker use the socket under one lock, :meth:`Publisher.exclusive`. A thread that holds it also
changes its books, so every book is consistent with its topic whenever the lock is free. On acquisition the publisher
accepts all waiting subscriptions, which take effect at once (XPUB_MANUAL, so that none is overlooked), and then sends
the last values and books that are due, both within a time limit.

The state of a topic is sent at most once a second (:mod:`ipc.refresh`), for any number of subscribers. So a subscriber
that comes within a second of another may see changes of a book before its first snapshot, which it ignores. An account
feed has ``refresh_ns=0``: it sends all of its state with the acceptance of a subscriber, before any other event.

A full pipe of one subscriber neither blocks the worker nor costs the others anything; the episodes are counted here,
and the loss shows in that subscriber's sequence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

import zmq
from msgspec import UNSET, UnsetType

from ipc.codec import encode
from ipc.consumer_names import TOPIC_PREFIX, ConsumerNames
from ipc.events import Event
from ipc.health import MANY_SUBSCRIPTIONS
from ipc.lines import Line
from ipc.listener import FeedListener
from ipc.listening import ListeningSocket
from ipc.log import get_log
from ipc.refresh import RefreshQueue, TopicIndex
from ipc.topics import Topic

log = get_log(__name__)

#: Messages that a subscriber may be behind before it loses some.
HIGH_WATER_MARK: Final = 10_000
#: Between two checks for subscriptions: a check costs 2 µs, too much for every frame of a busy feed.
_CHECK_NS: Final = 5_000_000
#: Between two refreshes of a topic.
REFRESH_NS: Final = 1_000_000_000
#: Time limit of a check for accepting subscribers, and for sending what they wait for; the feed waits meanwhile.
_LIMIT_NS: Final = 2_500_000
#: Pause after a check that had no time for all: threads that wait for the lock have it then.
_PAUSE_NS: Final = 1_000_000
#: Subscriptions accepted between two looks at the clock.
_BATCH: Final = 64
#: Number of subscriptions below which too many may be reported again.
_MANY_NO_MORE: Final = 100_000
_NS: Final = 1_000_000_000
_SUBSCRIBE: Final = b"\x01"
_ADD: Final = int(zmq.SUBSCRIBE)
_REMOVE: Final = int(zmq.UNSUBSCRIBE)
#: Combined once: joining two enum flags costs as much as sending.
_MORE: Final = int(zmq.SNDMORE | zmq.DONTWAIT)
_LAST: Final = int(zmq.DONTWAIT)
_NOW: Final = int(zmq.DONTWAIT)


class TopicFeed:
    """Topic of a feed: its sequence, and its state for late subscribers.

    ``latest`` holds the topic's last events by key. ``snapshot`` returns the current book of a book topic, or None
    while it is unusable (its next snapshot goes to all); it is called with exclusive access.
    ``refresh_ns`` is the time of the last or, with ``is_refresh_due``, of the next refresh.
    """

    __slots__ = ("is_refresh_due", "latest", "name", "refresh_ns", "seq", "snapshot")

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.seq = 0
        self.latest: dict[Hashable, Event] = {}
        self.snapshot: Callable[[], Event | None] | None = None
        self.refresh_ns = -REFRESH_NS
        self.is_refresh_due = False


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
    def next_check_ns(self) -> int:
        """Return the time of the next check."""
        return self._next_check_ns

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
        refresh_ns: Least time between two refreshes of a topic; 0 to send all state with each acceptance.
        line: Line that its events name; None for a venue's only one.

    ``drops`` counts the times that a subscriber's pipe was full, ``errors`` the sends that failed otherwise, and
    ``subscriptions`` those in effect, approximately: libzmq reports no repeated ones of a peer that disconnects.
    ``consumers`` are the names of those who subscribe; :meth:`consumer_names` returns them to any thread.
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
        refresh_ns: int = REFRESH_NS,
        line: Line | None = None,
    ) -> None:
        self.epoch = epoch
        self._line: Line | UnsetType = UNSET if line is None else line
        self.drops = 0
        self.errors = 0
        self.published = 0
        self.subscriptions = 0
        self.consumers = ConsumerNames()
        #: True while there are too many subscriptions, which was reported.
        self._has_many = False
        self._clock = clock
        self._monotonic = monotonic
        self._topics: dict[str, TopicFeed] = {}
        self._index: TopicIndex[TopicFeed] = TopicIndex()
        self._is_paced = refresh_ns > 0
        self._refreshes: RefreshQueue[TopicFeed] = RefreshQueue(refresh_ns, _CHECK_NS if self._is_paced else 0)
        self._access = _ExclusiveAccess(monotonic, self._check_subscriptions)
        #: True when the last check left subscribers waiting, for acceptance or for state that is due.
        self._is_behind = False
        self._socket = context.socket(zmq.XPUB)
        #: Unwrapped calls: the options of pyzmq's wrapper, all unused here, cost half of a call.
        plain: Any = super(zmq.Socket, self._socket)
        self._send: Callable[[bytes, int], object] = plain.send
        self._recv: Callable[[int], bytes] = plain.recv
        self._set: Callable[[int, bytes], None] = plain.set
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, hwm), (zmq.XPUB_MANUAL, 1), (zmq.XPUB_NODROP, 1)):
            self._socket.setsockopt(option, value)
        self.listening = ListeningSocket(self._socket, endpoint)

    def topic(self, topic: Topic) -> TopicFeed:
        """Return the feed of a topic; create it at the first call."""
        name = str(topic)
        with self._access.lock:
            feed = self._topics.get(name)
            if feed is None:
                feed = self._topics[name] = TopicFeed(name)
                self._index.add(feed)
            return feed

    def listen(self, listener: FeedListener, name: str, *, account: bool = False) -> None:
        """Publish over TCP as well, as soon as the address is free; raise ConfigError if it can never be bound."""
        listener.bind(self.listening, self._access.lock, name, account=account)

    @property
    def is_intact(self) -> bool:
        """True while the path of the endpoint, if it has one, is this publisher's."""
        return self.listening.is_intact

    def relisten(self) -> None:
        """Bind the endpoint's path again; subscribers stay connected. Raise ParaphinaError if it cannot be bound."""
        with self._access.lock:
            self.listening.bind()

    def exclusive(self) -> _ExclusiveAccess:
        """Return the lock of this publisher and its books: ``with publisher.exclusive(): ...``."""
        return self._access

    def serve(self, duration_s: float, wait: Callable[[float], object]) -> None:
        """Accept subscribers for a while, and send them what they wait for; for a thread with nothing else to do.

        ``wait`` waits for a time in s; it returns True when it is to end at once, as ``Event.wait`` does.
        """
        end_ns = self._monotonic() + int(duration_s * _NS)
        while True:
            with self._access:
                due_ns = self._access.next_check_ns if self._is_behind else self._refreshes.due_ns
            now_ns = self._monotonic()
            next_ns = end_ns if due_ns is None else min(end_ns, max(due_ns, self._access.next_check_ns))
            if wait(max(0, next_ns - now_ns) / _NS) or next_ns >= end_ns:
                return

    @property
    def is_behind(self) -> bool:
        """True while subscribers wait that the last check had no time for; see :meth:`serve`."""
        return self._is_behind

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
        event.line = self._line
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

    def consumer_names(self) -> list[str]:
        """Return the names of the consumers, sorted."""
        with self._access.lock:
            return self.consumers.names()

    def close(self) -> None:
        """Close the socket; messages not yet sent are lost."""
        with self._access.lock:
            self.listening.close()

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
        """Accept waiting subscriptions and send the state that is due; return the time of the next check."""
        self._is_behind = False
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._accept_subscriptions(now_ns)
        due_ns = self._refreshes.due_ns
        if due_ns is not None and due_ns <= now_ns:
            self._send_due(now_ns)
        return self._monotonic() + _PAUSE_NS if self._is_behind else now_ns + _CHECK_NS

    def _accept_subscriptions(self, now_ns: int) -> None:
        """Apply waiting subscriptions and cancellations within the time limit; schedule the state of their topics."""
        prefixes: set[bytes] = set()
        while self._accept_batch(prefixes):
            if self._monotonic() - now_ns >= _LIMIT_NS:
                self._is_behind = True
                break
        self._refreshes.add((feed for prefix in prefixes for feed in self._index.matching(prefix)), now_ns)
        if self._has_many != (self.subscriptions >= (_MANY_NO_MORE if self._has_many else MANY_SUBSCRIPTIONS)):
            self._has_many = not self._has_many
            if self._has_many:
                log.warning("publish.many_subscriptions", subscriptions=self.subscriptions)

    def _accept_batch(self, prefixes: set[bytes]) -> bool:
        """Apply a number of subscriptions, and add the new ones; return whether there may be more."""
        for _ in range(_BATCH):
            try:
                message: bytes = self._recv(_NOW)
            except zmq.Again:
                return False
            is_new, prefix = message.startswith(_SUBSCRIBE), message[1:]
            if prefix.startswith(TOPIC_PREFIX):  # for its name alone: nothing to apply, and nothing to send
                self.consumers.update(prefix, is_new=is_new)
                continue
            self._set(_ADD if is_new else _REMOVE, prefix)  # applies to the sender of the last message
            if is_new:
                prefixes.add(prefix)
                self.subscriptions += 1
            elif self.subscriptions:
                self.subscriptions -= 1
        return True

    def _send_due(self, now_ns: int) -> None:
        """Send the state that is due, within the time limit if the feed is paced."""
        self.assert_exclusive()
        deadline_ns = self._monotonic() + _LIMIT_NS
        while (feed := self._refreshes.pop(now_ns)) is not None:
            if not self._send_state(feed):
                self._refreshes.forget(feed, now_ns)
            if self._is_paced and self._monotonic() >= deadline_ns:
                self._is_behind = True
                return

    def _send_state(self, feed: TopicFeed) -> bool:
        """Send the last values and the book of a topic; return whether it has a state to be sent."""
        for event in list(feed.latest.values()):
            if "refresh" not in event.flags:
                event.flags = (*event.flags, "refresh")
            self.send(feed, event)
        if feed.snapshot is None:
            return bool(feed.latest)
        book = feed.snapshot()
        if book is not None:
            self.send(feed, book)
        return book is not None
