"""Control of one connection: acknowledgements, refusals, pings, age limit, and shutdowns that the venue announces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from ipc.health import Reason, StreamState
from workers.protocol.actions import ActionQueue
from workers.protocol.keepalive import PingTimer
from workers.protocol.policy import Policy
from workers.protocol.recovery import Recovery
from workers.protocol.streams import MarketStream
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.venue import Ack, ChannelSubscription, Ping, Pong, Refused, ServerShutdown, Unsubscribed, Venue

ControlMessage: TypeAlias = Ack | Unsubscribed | Ping | Pong | Refused | ServerShutdown

_NS: Final = 1_000_000_000
#: A connection is renewed at this fraction of its venue's age limit, less the session's stagger.
_ROTATE_AT: Final = 0.955
_ROTATE_SPREAD: Final = 0.01
#: From this fraction on it is renewed even if the venue's other line is not live: the venue would close it.
_ROTATE_BY: Final = 0.99


class ControlHandler:
    """Handler of one connection's control messages and timers; gives up streams that the venue refuses."""

    def __init__(
        self,
        venue: Venue,
        policy: Policy,
        subscriptions: SubscriptionManager,
        recovery: Recovery,
        actions: ActionQueue,
        streams: Sequence[MarketStream],
    ) -> None:
        self._venue = venue
        self._policy = policy
        self._subscriptions = subscriptions
        self._recovery = recovery
        self._actions = actions
        self._streams = streams
        self._ping_timer = PingTimer(policy.ping_ns, policy.pong_ns)
        self._opened_ns = 0

    def opened(self, now_ns: int) -> None:
        """Start over on a new connection."""
        self._opened_ns = now_ns
        self._ping_timer.start(now_ns)
        self._subscriptions.opened(now_ns)

    def closed(self, now_ns: int, *, by_server: bool) -> None:
        """Record the end of the connection; give up the subscriptions that are quarantined because of it."""
        for subscription in self._subscriptions.closed(now_ns, by_server=by_server):
            self._actions.log_event("ws.quarantined", subscription=subscription.key, reason=Reason.UNKNOWN_MARKET)
            self._fail(subscription, Reason.UNKNOWN_MARKET, now_ns)

    def handle(self, message: ControlMessage, now_ns: int) -> None:
        """Handle a control message."""
        match message:
            case Ack(key):
                self._on_ack(key, now_ns)
            case Unsubscribed(key):
                self._subscriptions.left(key, now_ns)
                self.send_due(now_ns)
            case Ping(reply):
                # Replies count against the venue's message limit as all messages do.
                self._subscriptions.post(reply)
                self.send_due(now_ns)
            case Pong():
                self.ponged()
            case Refused():
                self._on_refused(message, now_ns)
            case ServerShutdown(close_in_ms):
                self._actions.close(Reason.SERVER_SHUTDOWN, f"the venue closes in {close_in_ms} ms")

    def ponged(self) -> None:
        """Record the answer to a ping of ours."""
        self._ping_timer.pong()

    def keep_alive(self, now_ns: int) -> None:
        """Ping when it is time, and close a connection that does not answer; report unanswered subscriptions."""
        if self._ping_timer.is_overdue(now_ns):
            self._actions.close(Reason.PONG_TIMEOUT, f"no pong within {self._policy.pong_ns / _NS:g} s")
        if self._ping_timer.should_ping(now_ns):
            ping = self._venue.keepalive.ping
            if ping is None:
                self._actions.ping()
            else:
                self._subscriptions.post(ping)
        for subscription in self._subscriptions.overdue(now_ns):
            self._actions.log_event("ws.unanswered", subscription=subscription.key)

    def check_age(self, now_ns: int) -> None:
        """Close a connection that approaches its venue's age limit."""
        limit_s = self._venue.limits.max_age_s
        if limit_s is None:
            return
        at_s = limit_s * (_ROTATE_AT - _ROTATE_SPREAD * self._policy.stagger)
        age_ns, is_covered = now_ns - self._opened_ns, self._policy.is_covered
        if age_ns > at_s * _NS and (is_covered is None or is_covered() or age_ns > limit_s * _ROTATE_BY * _NS):
            self._actions.close(Reason.ROTATION, f"the connection is {at_s / 3600:.1f} h old")

    def send_due(self, now_ns: int) -> None:
        """Send the messages that the venue's limit permits now."""
        self._actions.send(*self._subscriptions.sends(now_ns))

    def _on_ack(self, key: str, now_ns: int) -> None:
        subscription = self._subscriptions.answered(key, now_ns)
        if subscription is None:
            self.send_due(now_ns)
        for stream in self._streams:
            if stream.subscription is subscription and stream.state is StreamState.CONNECTING:
                self._actions.change(stream, StreamState.SUBSCRIBED, stream.reason)

    def _on_refused(self, item: Refused, now_ns: int) -> None:
        subscription = self._subscriptions.find(item.key)
        if item.reason is None:
            if subscription is not None:
                self._subscriptions.answered(subscription.key, now_ns)
            return
        self._actions.log_event("ws.refused", subscription=item.key, reason=item.reason, text=item.text)
        if subscription is not None:
            self._subscriptions.refused(subscription.key, now_ns)
            self._fail(subscription, item.reason, now_ns)
        if item.fatal:
            self._actions.close(item.reason, item.text)

    def _fail(self, subscription: ChannelSubscription, reason: Reason, now_ns: int) -> None:
        for stream in self._streams:
            if stream.subscription is subscription:
                self._recovery.fail(stream, reason, now_ns)
