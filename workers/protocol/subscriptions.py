"""Subscriptions of one connection: what to send when, what the venue acknowledged, and what is quarantined."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final

from ipc.health import Stream
from workers.protocol.pacing import TokenBucket
from workers.venues.venue import ChannelSubscription, ConnectionSpec

_NS: Final = 1_000_000_000
#: A subscription without an answer within this time is sent again.
_ANSWER_NS: Final = 10 * _NS
#: An unsubscription without an answer within this time counts as done.
_LEAVE_NS: Final = 2 * _NS
#: Connections in a row that ended with unanswered subscriptions, after which these are sent one at a time.
_CAREFUL_AFTER: Final = 2
#: A subscription that ended its connections is left out for this long.
_QUARANTINE_NS: Final = 600 * _NS


class SubscriptionState(Enum):
    """State of a subscription."""

    #: To be sent.
    WAITING = "waiting"
    SENT = "sent"
    ACTIVE = "active"
    #: Unsubscription sent; it is subscribed again afterwards.
    LEAVING = "leaving"
    REFUSED = "refused"
    #: Left out for a while: it ended its connections.
    QUARANTINED = "quarantined"


#: States in which nothing is to be sent or received.
_SETTLED: Final = frozenset({SubscriptionState.ACTIVE, SubscriptionState.REFUSED, SubscriptionState.QUARANTINED})


class _Entry:
    __slots__ = ("is_requested", "since_ns", "state", "subscription")

    def __init__(self, subscription: ChannelSubscription) -> None:
        self.subscription = subscription
        self.state = SubscriptionState.WAITING
        #: When it entered its state.
        self.since_ns = 0
        #: True when it was sent on this connection.
        self.is_requested = False


class SubscriptionManager:
    """Subscriptions of a connection, over its reconnects.

    ``pace`` is shared where the venue counts an address's messages over all connections.
    """

    def __init__(self, connection: ConnectionSpec, pace: TokenBucket) -> None:
        # Where the pace permits only some at once, books come first: they decide whether a venue is healthy.
        in_order = sorted(connection.subscriptions, key=lambda subscription: Stream.BOOK not in subscription.streams)
        self._entries = {subscription.key: _Entry(subscription) for subscription in in_order}
        self._aliases = {s.alias: s.key for s in connection.subscriptions if s.alias is not None}
        self._in_url = connection.in_url
        self._bucket = pace
        self._outbox: deque[bytes] = deque()
        #: Entries that are not settled; a thousand others may be active.
        self._pending = dict(self._entries)
        self._is_open = False
        #: True when the venue answered any subscription on this connection.
        self._is_answered = False
        #: Connections in a row that ended with unanswered subscriptions.
        self._deaths = 0

    def opened(self, now_ns: int) -> None:
        """Start over on a new connection: subscribe everything that is not quarantined."""
        self._outbox.clear()
        self._pending.clear()
        self._is_open = True
        self._is_answered = False
        for entry in self._entries.values():
            if entry.state is SubscriptionState.QUARANTINED and now_ns - entry.since_ns < _QUARANTINE_NS:
                continue
            implicit = entry.is_requested = self._in_url or entry.subscription.subscribe is None
            self._enter(entry, SubscriptionState.ACTIVE if implicit else SubscriptionState.WAITING, now_ns)

    def closed(self, now_ns: int, *, by_server: bool = True) -> list[ChannelSubscription]:
        """Record the end of the connection; return the subscriptions that are quarantined because of it.

        A subscription is quarantined only when others were answered: a venue that is down also ends connections, before
        it answers anything.
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
            self._send_last(suspect)
            return []
        self._enter(suspect, SubscriptionState.QUARANTINED, now_ns)
        return [suspect.subscription]

    def post(self, message: bytes) -> None:
        """Queue another message under the same pace."""
        self._outbox.append(message)

    def sends(self, now_ns: int) -> list[bytes]:
        """Return the messages to send now, as the pace permits."""
        messages = []
        while self._outbox and self._bucket.acquire(1, now_ns):
            messages.append(self._outbox.popleft())
        for entry in self._due(now_ns):
            if not self._bucket.acquire(1, now_ns):
                break
            self._enter(entry, SubscriptionState.SENT, now_ns)
            entry.is_requested = True
            messages.append(entry.subscription.subscribe or b"")
        return messages

    def is_requested(self, subscription: ChannelSubscription) -> bool:
        """Return True when a subscription was sent on this connection; before, no data can arrive."""
        return self._entries[subscription.key].is_requested

    def is_waiting(self, subscription: ChannelSubscription) -> bool:
        """Return True while the pace holds back a message that it needs."""
        return bool(self._outbox) or self._entries[subscription.key].state is SubscriptionState.WAITING

    def since_ns(self, subscription: ChannelSubscription) -> int:
        """Return when a subscription entered its state."""
        return self._entries[subscription.key].since_ns

    def resubscribe(self, subscription: ChannelSubscription, now_ns: int) -> bool:
        """Subscribe again unless that is under way; return False when the venue has no message to unsubscribe."""
        if subscription.unsubscribe is None:
            return False
        entry = self._entries[subscription.key]
        if entry.state is SubscriptionState.ACTIVE:
            self._enter(entry, SubscriptionState.LEAVING, now_ns)
            self._outbox.append(subscription.unsubscribe)
        return True

    def retry(self, subscription: ChannelSubscription, now_ns: int) -> None:
        """Subscribe again what was refused or quarantined."""
        if subscription.subscribe is not None:
            self._enter(self._entries[subscription.key], SubscriptionState.WAITING, now_ns)

    def answered(self, key: str, now_ns: int) -> ChannelSubscription | None:
        """Record that the venue confirmed the last message for ``key``; return the subscription that is active now."""
        entry = self._entry(key)
        if entry is None:
            return None
        self._is_answered = True
        if entry.state is SubscriptionState.LEAVING:
            self._enter(entry, SubscriptionState.WAITING, now_ns)
            return None
        self._enter(entry, SubscriptionState.ACTIVE, now_ns)
        return entry.subscription

    def refused(self, key: str, now_ns: int) -> None:
        """Record that the venue refused ``key``: it is not sent again on this connection, except by :meth:`retry`."""
        entry = self._entry(key)
        if entry is not None:
            self._is_answered = True
            self._enter(entry, SubscriptionState.REFUSED, now_ns)

    def left(self, key: str, now_ns: int) -> None:
        """Record that ``key`` is unsubscribed, to subscribe it again."""
        entry = self._entry(key)
        if entry is not None and entry.state is SubscriptionState.LEAVING:
            self._enter(entry, SubscriptionState.WAITING, now_ns)

    def find(self, key: str | None) -> ChannelSubscription | None:
        """Return the subscription of a key or alias."""
        entry = self._entry(key) if key is not None else None
        return entry.subscription if entry else None

    def overdue(self, now_ns: int) -> list[ChannelSubscription]:
        """Return the subscriptions without a timely answer; they are sent again."""
        late = [
            entry
            for entry in self._pending.values()
            if entry.state is SubscriptionState.SENT and now_ns - entry.since_ns > _ANSWER_NS
        ]
        for entry in late:
            self._enter(entry, SubscriptionState.WAITING, now_ns)
        return [entry.subscription for entry in late]

    def _due(self, now_ns: int) -> Iterable[_Entry]:
        for entry in self._pending.values():
            if entry.state is SubscriptionState.LEAVING and now_ns - entry.since_ns > _LEAVE_NS:
                self._enter(entry, SubscriptionState.WAITING, now_ns)
        waiting = [entry for entry in self._pending.values() if entry.state is SubscriptionState.WAITING]
        if self._deaths >= _CAREFUL_AFTER:
            is_busy = any(entry.state is SubscriptionState.SENT for entry in self._pending.values())
            return [] if is_busy else waiting[:1]
        return waiting

    def _send_last(self, entry: _Entry) -> None:
        """Send it last on later connections: answers to the others show that the venue works."""
        key = entry.subscription.key
        self._entries[key] = self._entries.pop(key)

    def _enter(self, entry: _Entry, state: SubscriptionState, now_ns: int) -> None:
        entry.state = state
        entry.since_ns = now_ns
        if state in _SETTLED:
            self._pending.pop(entry.subscription.key, None)
        else:
            self._pending[entry.subscription.key] = entry

    def _entry(self, key: str) -> _Entry | None:
        return self._entries.get(self._aliases.get(key, key))
