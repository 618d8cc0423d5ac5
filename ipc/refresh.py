"""Refreshes: which topics' state new subscribers wait for, and when it is sent.

A subscription takes effect at once. The state of its topics is sent to all subscribers of a topic, at most once in a
period, so its cost does not grow with the number of those who join.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

_STATUS: Final = b"status."


class Refreshed(Protocol):
    """Topic with a state; ``refresh_ns`` is the time of its last or, with ``is_refresh_due``, of its next refresh."""

    name: bytes
    refresh_ns: int
    is_refresh_due: bool


FeedT = TypeVar("FeedT", bound=Refreshed)


class TopicIndex(Generic[FeedT]):
    """Topics of a publisher in the order of their names, found by prefix."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._feeds: list[FeedT] = []

    def add(self, feed: FeedT) -> None:
        """Add a new topic."""
        at = bisect_left(self._names, feed.name)
        self._names.insert(at, feed.name)
        self._feeds.insert(at, feed)

    def matching(self, prefix: bytes) -> Iterator[FeedT]:
        """Yield the topics with a prefix."""
        at = bisect_left(self._names, prefix)
        while at < len(self._names) and self._names[at].startswith(prefix):
            yield self._feeds[at]
            at += 1


class RefreshQueue(Generic[FeedT]):
    """Topics whose state is wanted, in the order in which it is due.

    ``period_ns`` is the least time between two refreshes of a topic, ``delay_ns`` the least time until that of a
    status: a list of subscriptions comes in pieces, and the status is to follow the topics of all.
    """

    def __init__(self, period_ns: int, delay_ns: int) -> None:
        self._period_ns = period_ns
        self._delay_ns = delay_ns
        #: Due time, whether it is a status, number (so that no feeds are compared), and topic.
        self._waiting: list[tuple[int, bool, int, FeedT]] = []
        self._numbers = count()
        #: Latest due time of a topic other than a status.
        self._last_due_ns = 0

    def add(self, feeds: Iterable[FeedT], now_ns: int) -> None:
        """Refresh topics as soon as their pace allows it; a status after all others that are wanted by then."""
        statuses = []
        for feed in feeds:
            if feed.name.startswith(_STATUS):
                statuses.append(feed)
            elif feed.is_refresh_due:
                continue
            else:
                self._schedule(feed, now_ns)
                self._last_due_ns = max(self._last_due_ns, feed.refresh_ns)
        for feed in statuses:
            if not feed.is_refresh_due or feed.refresh_ns < self._last_due_ns:
                self._schedule(feed, now_ns, not_before_ns=max(self._last_due_ns, now_ns + self._delay_ns))

    def pop(self, now_ns: int) -> FeedT | None:
        """Return the next topic that is due; None without one."""
        if not self._waiting or self._waiting[0][0] > now_ns:
            return None
        due_ns, _, _, feed = heapq.heappop(self._waiting)
        if due_ns == feed.refresh_ns:  # else a later refresh is scheduled as well
            feed.is_refresh_due = False
            feed.refresh_ns = now_ns
        return feed

    def forget(self, feed: FeedT, now_ns: int) -> None:
        """Note that a refresh sent nothing, so the next one need not wait."""
        if not feed.is_refresh_due:
            feed.refresh_ns = now_ns - self._period_ns

    @property
    def due_ns(self) -> int | None:
        """Time at which the next refresh is due; None without one."""
        return self._waiting[0][0] if self._waiting else None

    def _schedule(self, feed: FeedT, now_ns: int, not_before_ns: int = 0) -> None:
        feed.refresh_ns = max(now_ns, feed.refresh_ns + self._period_ns, not_before_ns)
        feed.is_refresh_due = True
        heapq.heappush(self._waiting, (feed.refresh_ns, feed.name.startswith(_STATUS), next(self._numbers), feed))
