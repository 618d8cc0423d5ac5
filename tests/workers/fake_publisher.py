"""A publisher that keeps what it is given, holds everyone to turns, and can refuse."""

from __future__ import annotations

import contextlib

from ipc.publisher import TopicFeed

__all__ = ["FakePublisher"]


class FakePublisher:
    """``sent`` holds (topic, event) in their order; while ``is_refusing`` nothing is sent."""

    def __init__(self):
        self.epoch = 7
        self.sent = []
        self.is_refusing = False
        self.drops = self.errors = self.published = 0
        self._feeds = {}
        self._has_turn = False

    @property
    @contextlib.contextmanager
    def turn(self):
        assert not self._has_turn, "a thread that has the turn would wait for itself for ever"
        self._has_turn = True
        try:
            yield
        finally:
            self._has_turn = False

    def topic(self, topic):
        assert not self._has_turn, "the real one takes its lock here"
        return self._feeds.setdefault(str(topic), TopicFeed(str(topic)))

    def send(self, feed, event):
        assert self._has_turn, "sent outside of a turn"
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
        assert self._has_turn
        return {name: feed.seq for name, feed in self._feeds.items() if feed.seq}

    def close(self):
        pass

    def of(self, topic):
        """The events of one topic."""
        return [event for name, event in self.sent if name == topic]

    def latest(self, topic):
        """What a joiner of a topic is sent, in its order."""
        return list(self._feeds[topic].latest.values())
