"""The dialogue about subscriptions on one connection: what to send when, what is acknowledged, what is poison.

Pure: it is told what happened and when, and says which messages may go out now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final

from ipc.health import Stream
from workers.protocol.pacing import TokenBucket
from workers.venues.venue import ChannelSubscription, ConnectionSpec

__all__ = ["SubscriptionManager", "SubscriptionState"]

_NS: Final = 1_000_000_000
#: Without an answer for this long a subscription is asked for again.
_ANSWER_NS: Final = 10 * _NS
#: Without an answer to an unsubscription for this long it is taken for done.
_LEAVE_NS: Final = 2 * _NS
#: Connections in a row that died with unanswered subscriptions, after which they are asked for one at a time.
_CAREFUL_AFTER: Final = 2
#: How long a subscription that killed its connection is left out.
_POISONED_NS: Final = 600 * _NS


class SubscriptionState(Enum):
    """Where a subscription stands."""

    WAITING = "waiting"
    SENT = "sent"
    ACTIVE = "active"
    LEAVING = "leaving"
    REFUSED = "refused"
    POISONED = "poisoned"


#: Nothing is to be sent or to come.
_SETTLED: Final = frozenset({SubscriptionState.ACTIVE, SubscriptionState.REFUSED, SubscriptionState.POISONED})


class _Entry:
    __slots__ = ("is_asked", "since_ns", "state", "subscription")

    def __init__(self, subscription: ChannelSubscription) -> None:
        self.subscription = subscription
        self.state = SubscriptionState.WAITING
        self.since_ns = 0
        #: Whether it was asked for on this connection.
        self.is_asked = False


class SubscriptionManager:
    """All subscriptions of a connection, over its reconnects.

    Args:
        connection: Whose they are.
        pace: Of the messages to the venue; shared where it counts those of an address, over connections and their ends.
    """

    def __init__(self, connection: ConnectionSpec, pace: TokenBucket) -> None:
        # Where the pace lets only some go out at once, books come first: by them a venue is judged.
        in_order = sorted(connection.subscriptions, key=lambda subscription: Stream.BOOK not in subscription.streams)
        self._entries = {subscription.key: _Entry(subscription) for subscription in in_order}
        self._aliases = {s.alias: s.key for s in connection.subscriptions if s.alias is not None}
        self._in_url = connection.in_url
        self._bucket = pace
        self._outbox: deque[bytes] = deque()
        #: Those of which something is still to be sent or to come; there may be a thousand that are active.
        self._pending = dict(self._entries)
        self._is_open = False
        self._is_answered = False
        self._deaths = 0

    def opened(self, now_ns: int) -> None:
        """The connection is open: everything that is not poisoned is to be subscribed."""
        self._outbox.clear()
        self._pending.clear()
        self._is_open = True
        self._is_answered = False
        for entry in self._entries.values():
            if entry.state is SubscriptionState.POISONED and now_ns - entry.since_ns < _POISONED_NS:
                continue
            implicit = entry.is_asked = self._in_url or entry.subscription.subscribe is None
            self._to(entry, SubscriptionState.ACTIVE if implicit else SubscriptionState.WAITING, now_ns)

    def closed(self, now_ns: int, *, by_server: bool = True) -> list[ChannelSubscription]:
        """The connection is gone; the subscriptions that are thereby known to be poison.

        One is known by the answers to others: a venue that is down also ends connections before it answers anything,
        and what was asked for first is then as innocent as the rest.
        """
        if not self._is_open:
            return []
        self._is_open = False
        if not by_server:
            return []
        unanswered = [entry for entry in self._pending.values() if entry.state is SubscriptionState.SENT]
        is_careful = self._deaths >= _CAREFUL_AFTER
        self._deaths = self._deaths + 1 if unanswered else 0
        if not is_careful or len(unanswered) != 1:
            return []
        suspect = unanswered[0]
        if not self._is_answered:
            self._ask_last(suspect)
            return []
        self._to(suspect, SubscriptionState.POISONED, now_ns)
        return [suspect.subscription]

    def post(self, message: bytes) -> None:
        """Queue another message for the same pace."""
        self._outbox.append(message)

    def sends(self, now_ns: int) -> list[bytes]:
        """The messages that may go out now."""
        messages = []
        while self._outbox and self._bucket.take(1, now_ns):
            messages.append(self._outbox.popleft())
        for entry in self._due(now_ns):
            if not self._bucket.take(1, now_ns):
                break
            self._to(entry, SubscriptionState.SENT, now_ns)
            entry.is_asked = True
            messages.append(entry.subscription.subscribe or b"")
        return messages

    def is_asked(self, subscription: ChannelSubscription) -> bool:
        """Whether a subscription was asked for on this connection; before, nothing can come of it."""
        return self._entries[subscription.key].is_asked

    def since_ns(self, subscription: ChannelSubscription) -> int:
        """When a subscription came into the state that it is in."""
        return self._entries[subscription.key].since_ns

    def resubscribe(self, subscription: ChannelSubscription, now_ns: int) -> bool:
        """Leave and join again, unless joining is under way; False when the venue has no messages for that."""
        if subscription.unsubscribe is None:
            return False
        entry = self._entries[subscription.key]
        if entry.state is SubscriptionState.ACTIVE:
            self._to(entry, SubscriptionState.LEAVING, now_ns)
            self._outbox.append(subscription.unsubscribe)
        return True

    def retry(self, subscription: ChannelSubscription, now_ns: int) -> None:
        """Ask once more for what was refused or poison."""
        if subscription.subscribe is not None:
            self._to(self._entries[subscription.key], SubscriptionState.WAITING, now_ns)

    def answered(self, key: str, now_ns: int) -> ChannelSubscription | None:
        """The venue confirmed what was asked last of ``key``; the subscription when it is thereby active."""
        entry = self._entry(key)
        if entry is None:
            return None
        self._is_answered = True
        if entry.state is SubscriptionState.LEAVING:
            self._to(entry, SubscriptionState.WAITING, now_ns)
            return None
        self._to(entry, SubscriptionState.ACTIVE, now_ns)
        return entry.subscription

    def refused(self, key: str, now_ns: int) -> None:
        """The venue refused ``key``: it is not asked for again on this connection, unless it is tried once more."""
        entry = self._entry(key)
        if entry is not None:
            self._is_answered = True
            self._to(entry, SubscriptionState.REFUSED, now_ns)

    def left(self, key: str, now_ns: int) -> None:
        """The venue confirmed that ``key`` is unsubscribed; it is subscribed again."""
        entry = self._entry(key)
        if entry is not None and entry.state is SubscriptionState.LEAVING:
            self._to(entry, SubscriptionState.WAITING, now_ns)

    def find(self, key: str | None) -> ChannelSubscription | None:
        """The subscription behind a key or alias."""
        entry = self._entry(key) if key is not None else None
        return entry.subscription if entry else None

    def overdue(self, now_ns: int) -> list[ChannelSubscription]:
        """Subscriptions without an answer for too long; they will be sent again."""
        late = [
            entry
            for entry in self._pending.values()
            if entry.state is SubscriptionState.SENT and now_ns - entry.since_ns > _ANSWER_NS
        ]
        for entry in late:
            self._to(entry, SubscriptionState.WAITING, now_ns)
        return [entry.subscription for entry in late]

    def _due(self, now_ns: int) -> Iterable[_Entry]:
        for entry in self._pending.values():
            if entry.state is SubscriptionState.LEAVING and now_ns - entry.since_ns > _LEAVE_NS:
                self._to(entry, SubscriptionState.WAITING, now_ns)
        waiting = [entry for entry in self._pending.values() if entry.state is SubscriptionState.WAITING]
        if self._deaths >= _CAREFUL_AFTER:
            is_busy = any(entry.state is SubscriptionState.SENT for entry in self._pending.values())
            return [] if is_busy else waiting[:1]
        return waiting

    def _ask_last(self, entry: _Entry) -> None:
        """On later connections the others come first, and their answers tell whether the venue is there at all."""
        key = entry.subscription.key
        self._entries[key] = self._entries.pop(key)

    def _to(self, entry: _Entry, state: SubscriptionState, now_ns: int) -> None:
        entry.state = state
        entry.since_ns = now_ns
        if state in _SETTLED:
            self._pending.pop(entry.subscription.key, None)
        else:
            self._pending[entry.subscription.key] = entry

    def _entry(self, key: str) -> _Entry | None:
        return self._entries.get(self._aliases.get(key, key))
