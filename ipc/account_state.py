"""State of one account as one source reports it, and the ids of what was delivered of it."""

from __future__ import annotations

from typing import Final

import msgspec

from ipc.events import AccountEvent, Balance, Event, Fill, Heartbeat, Margin, Order, Payment, Position, Status
from ipc.health import Reason, StreamState
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import ACCOUNT_CHANNELS

_NS: Final = 1_000_000_000
#: Time without a heartbeat after which the account is unusable.
_HEARTBEAT_LOST_NS: Final = 3 * _NS
#: Ids of fills and payments that are kept for deduplication; the oldest are dropped.
_REMEMBERED: Final = 1_000_000
#: Orders that are kept; beyond it the oldest closed ones are dropped.
_CLOSED_ORDERS: Final = 10_000
HEARTBEAT_LOST: Final = "heartbeat_lost"
_NO_SNAPSHOT: Final = "no_snapshot"
_SEQ_GAP: Final = "seq_gap"
_PREFIXES: Final = tuple(f"{channel}." for channel in ACCOUNT_CHANNELS)


class DeliveredOnce:
    """Fills and payments of an account that were delivered, over all sources, by kind and id.

    ``repeated`` counts those that were received again and suppressed.
    """

    def __init__(self) -> None:
        self.repeated = 0
        #: Oldest first.
        self._ids: dict[tuple[str, str], None] = {}

    def is_first(self, kind: str, event_id: str) -> bool:
        """Return whether an event is new; record it."""
        if (kind, event_id) in self._ids:
            self.repeated += 1
            return False
        self._ids[kind, event_id] = None
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return True


class AccountState:
    """State of one venue's account as one source reports it.

    Attributes:
        name: Alias of the account; None before its first event.
        orders: Orders by id, open and closed; see :attr:`open_orders`.
        positions: Positions by symbol (by the venue's own name where we have none), without those of size zero.
        balances: Balances by asset.
        margin: Last margin; None before the first.
        state: State of the account's stream, as the worker published it.
        state_reason: Reason for ``state``.
        lost: Number of messages that never arrived.
        status: Last status; None before the first, and after one was lost.
    """

    def __init__(self, venue: str, now_ns: int, delivered: DeliveredOnce) -> None:
        self.venue = venue
        self.name: str | None = None
        self.state: StreamState | None = None
        self.state_reason: Reason | None = None
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, Balance] = {}
        self.margin: Margin | None = None
        self.lost = 0
        self.status: Status | None = None
        self._sequence = PublisherSequence()
        self.delivered = delivered
        #: True after the first complete snapshot of this epoch.
        self._has_snapshot = False
        #: Topics with a loss since their last complete snapshot.
        self._incomplete: set[str] = set()
        #: Topics whose snapshot is being received; True while nothing of it was lost.
        self._snapshots: dict[str, bool] = {}
        self._heartbeat_ns = now_ns
        self._is_silent = False
        #: Reason while the heartbeat is lost.
        self.silence_reason = HEARTBEAT_LOST

    @property
    def usable(self) -> bool:
        """True when this state matches the venue's."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Reason why the state may be wrong; None while it is usable."""
        if self._is_silent:
            return self.silence_reason
        if not self._has_snapshot:
            return _NO_SNAPSHOT
        if self._incomplete:
            return _SEQ_GAP
        if self.state is not StreamState.LIVE:
            return str(self.state_reason or self.state or _NO_SNAPSHOT)
        return None

    @property
    def open_orders(self) -> dict[str, Order]:
        """Open orders by id."""
        return {order_id: order for order_id, order in self.orders.items() if order.is_open}

    def check_silence(self, now_ns: int) -> None:
        """Update :attr:`usable` from the age of the last heartbeat; a feed calls it at every poll."""
        self._is_silent = now_ns - self._heartbeat_ns > _HEARTBEAT_LOST_NS

    def disconnect(self, now_ns: int) -> None:
        """Make the account unusable until the next heartbeat: its worker is gone, or out of reach."""
        self._heartbeat_ns = now_ns - _HEARTBEAT_LOST_NS - 1
        self.check_silence(now_ns)

    def contents(self) -> list[Event]:
        """Return the whole state as events with the flag ``refresh``, the status last."""
        margin = [] if self.margin is None else [self.margin]
        status = [] if self.status is None else [self.status]
        parts = (self.orders.values(), self.positions.values(), self.balances.values(), margin, status)
        return [_refreshed(event) for part in parts for event in part]

    def handle(self, topic: str, event: Event, now_ns: int) -> tuple[list[Event], bool]:
        """Apply a message; return the events for the user, and whether a snapshot is needed."""
        last = self._sequence.last(topic)
        verdict = self._sequence.judge(topic, event.epoch, event.seq, now_ns)
        if verdict in {Verdict.IGNORE, Verdict.STALE_EPOCH}:
            return [], False
        if verdict is Verdict.NEW_EPOCH:
            self._reset()
        # A topic that was empty at the snapshot begins with its first message.
        is_first_lost = last is None and event.seq > 1 and self._has_snapshot
        has_missed = verdict is Verdict.GAP or (verdict is Verdict.APPLY and is_first_lost)
        if verdict is Verdict.GAP:
            self.lost += event.seq - (last or 0) - 1
        match event:
            case Heartbeat():
                return [event], self._on_heartbeat(event, now_ns)
            case Status():
                self._on_status(event)
                return [event], has_missed
            case AccountEvent():
                self._track(topic, is_refresh="refresh" in event.flags, has_missed=has_missed)
                return ([event] if self._apply(event) else []), has_missed
            case _:
                return [], False

    def _track(self, topic: str, *, is_refresh: bool, has_missed: bool) -> None:
        """Track losses: a topic is complete after a snapshot without one, once a heartbeat has confirmed it."""
        if has_missed:
            self._mark_incomplete(topic)
            if not is_refresh:
                self._snapshots.pop(topic, None)  # it preceded the loss
        if is_refresh:
            self._snapshots[topic] = self._snapshots.get(topic, True) and not has_missed

    def _on_heartbeat(self, beat: Heartbeat, now_ns: int) -> bool:
        """Detect losses by a heartbeat, which counts every message sent; return whether a snapshot is needed."""
        self._heartbeat_ns = now_ns
        missed = self._sequence.missed_tail(beat.seqs)
        self.lost += sum(missed.values())
        unknown = [topic for topic in beat.seqs if self._sequence.last(topic) is None] if self._has_snapshot else []
        for topic in (*missed, *unknown):
            if topic.startswith("status."):
                self.state = self.state_reason = self.status = None  # the lost one may have been worse
            elif topic.startswith(_PREFIXES):
                self._snapshots[topic] = False
                self._mark_incomplete(topic)
        self._incomplete.difference_update(topic for topic, is_complete in self._snapshots.items() if is_complete)
        self._snapshots.clear()
        return bool(self._incomplete or missed)

    def _on_status(self, event: Status) -> None:
        """Apply a status: it ends a snapshot, and "live" means that the worker's state is complete."""
        self.status, self.state, self.state_reason = event, event.state, event.reason
        self._has_snapshot = self._has_snapshot or "refresh" in event.flags or event.state is StreamState.LIVE

    def _reset(self) -> None:
        """Drop the state of an earlier epoch, but not the ids of delivered events."""
        self.state = self.state_reason = self.status = None
        self._has_snapshot = False
        self._incomplete.clear()
        self._snapshots.clear()
        for channel in ACCOUNT_CHANNELS:
            self._clear(channel)

    def _mark_incomplete(self, topic: str) -> None:
        self._incomplete.add(topic)
        self._clear(topic.partition(".")[0])

    def _clear(self, channel: str) -> None:
        match channel:
            case "order":
                self.orders.clear()
            case "position":
                self.positions.clear()
            case "balance":
                self.balances.clear()
            case "margin":
                self.margin = None
            case _:
                pass

    def _apply(self, event: AccountEvent) -> bool:
        """Apply an event; return whether to deliver it."""
        self.name = event.account
        match event:
            case Order():
                self._on_order(event)
            case Position():
                key = event.symbol or event.venue_symbol or ""
                self.positions[key] = event
                if not event.size.strip("-0."):
                    del self.positions[key]
            case Balance():
                self.balances[event.asset] = event
            case Margin():
                self.margin = event
            case Fill():
                return self.delivered.is_first("fill", event.fill_id)
            case Payment():
                return self.delivered.is_first("payment", event.payment_id)
            case _:
                pass
        return True

    def _on_order(self, order: Order) -> None:
        self.orders.pop(order.order_id, None)  # keeps the newest last
        self.orders[order.order_id] = order
        if len(self.orders) > _CLOSED_ORDERS:
            closed = next((key for key, one in self.orders.items() if not one.is_open), None)
            if closed is not None:
                del self.orders[closed]


def _refreshed(event: Event) -> Event:
    return event if "refresh" in event.flags else msgspec.structs.replace(event, flags=(*event.flags, "refresh"))
