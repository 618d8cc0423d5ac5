"""Publisher that keeps its events, checks exclusive access, and can refuse."""

from __future__ import annotations

import contextlib

from ipc.consumer_names import ConsumerNames
from ipc.publisher import TopicFeed

__all__ = ["FakePublisher"]


class FakePublisher:
    """``sent`` holds (topic, event) in their order; while ``is_refusing`` nothing is sent."""

    def __init__(self):
        self.epoch = 7
        self.sent = []
        self.is_refusing = False
        self.drops = self.errors = self.published = self.subscriptions = 0
        self.listening = None  # no descriptors are short
        self.is_intact = True
        self.consumers = ConsumerNames()
        self._feeds = {}
        self._is_held = False

    @contextlib.contextmanager
    def exclusive(self):
        assert not self._is_held, "exclusive access is taken once, not again inside"
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def assert_exclusive(self):
        assert self._is_held

    def topic(self, topic):
        assert not self._is_held, "the real one takes its lock here"
        return self._feeds.setdefault(str(topic), TopicFeed(str(topic)))

    def send(self, feed, event):
        assert self._is_held, "sent without exclusive access"
        feed.seq += 1
        event.epoch, event.seq = self.epoch, feed.seq
        if self.is_refusing:
            self.errors += 1
            return False
        self.published += 1
        self.sent.append((feed.name.decode(), event))
        return True

    def send_latest(self, feed, key, event):
        feed.latest[key] = event
        return self.send(feed, event)

    def last_seqs(self):
        assert self._is_held
        return {name: feed.seq for name, feed in self._feeds.items() if feed.seq}

    def serve(self, duration_s, wait):
        wait(duration_s)

    def close(self):
        pass

    def relisten(self):
        self.is_intact = True

    def of(self, topic):
        """The events of one topic."""
        return [event for name, event in self.sent if name == topic]

    def latest(self, topic):
        """The events that a late subscriber of a topic receives, in their order."""
        return list(self._feeds[topic].latest.values())
