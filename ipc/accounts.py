"""Feed of the desk's own accounts: orders, fills, positions, balances, margin and payments.

    from ipc.accounts import AccountFeed

    with AccountFeed() as feed:
        for event in feed:
            desk = feed.account("lighter")
            if desk.usable:
                print(desk.positions, desk.open_orders)

Fills and payments are delivered once each, also across restarts. The rest is state that the worker sends again to late
subscribers and after a loss.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import zmq

from ipc.codec import decode
from ipc.connections import ConnectionMonitor, ConnectionState
from ipc.consumer_names import checked_name, topic_of_consumer
from ipc.errors import DecodeError, FeedError, NotRunningError, UnknownStateError
from ipc.events import AccountEvent, Balance, Event, Fill, Heartbeat, Margin, Order, Payment, Position, Status
from ipc.health import Reason, StreamState
from ipc.log import get_log
from ipc.losses import LossLog
from ipc.remote import Remote
from ipc.rundir import RunDir, run_dir_of
from ipc.sequence import PublisherSequence, Verdict
from ipc.subscription import UNEXPLAINED, connect, request_snapshots
from ipc.topics import ACCOUNT_CHANNELS, VENUES

__all__ = ["Account", "AccountFeed"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Time without a heartbeat after which the account is unusable.
_HEARTBEAT_LOST_NS: Final = 3 * _NS
#: Ids of fills and payments that are kept for deduplication; the oldest are dropped.
_REMEMBERED: Final = 1_000_000
#: Orders that are kept; beyond it the oldest closed ones are dropped.
_CLOSED_ORDERS: Final = 10_000
_HEARTBEAT_LOST: Final = "heartbeat_lost"
_NO_SNAPSHOT: Final = "no_snapshot"
_SEQ_GAP: Final = "seq_gap"
_PREFIXES: Final = tuple(f"{channel}." for channel in ACCOUNT_CHANNELS)


class Account:
    """State of one venue's account.

    Attributes:
        name: Alias of the account; None before its first event.
        orders: Orders by id, open and closed; see :attr:`open_orders`.
        positions: Positions by symbol (by the venue's own name where we have none), without those of size zero.
        balances: Balances by asset.
        margin: Last margin; None before the first.
        state: State of the account's stream, as the worker published it.
        state_reason: Reason for ``state``.
        lost: Number of messages that never arrived.
        repeated: Number of fills and payments that were received again and suppressed.
    """

    def __init__(self, venue: str, now_ns: int) -> None:
        self.venue = venue
        self.name: str | None = None
        self.state: StreamState | None = None
        self.state_reason: Reason | None = None
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, Balance] = {}
        self.margin: Margin | None = None
        self.lost = 0
        self.repeated = 0
        self._sequence = PublisherSequence()
        #: Kind and id of the fills and payments delivered, oldest first.
        self._delivered: dict[tuple[str, str], None] = {}
        #: True after the first complete snapshot of this epoch.
        self._has_snapshot = False
        #: Topics with a loss since their last complete snapshot.
        self._incomplete: set[str] = set()
        #: Topics whose snapshot is being received; True while nothing of it was lost.
        self._snapshots: dict[str, bool] = {}
        self._heartbeat_ns = now_ns
        self._is_silent = False
        #: Reason while the heartbeat is lost.
        self.silence_reason = _HEARTBEAT_LOST

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
                self.state = self.state_reason = None  # the lost one may have been worse
            elif topic.startswith(_PREFIXES):
                self._snapshots[topic] = False
                self._mark_incomplete(topic)
        self._incomplete.difference_update(topic for topic, is_complete in self._snapshots.items() if is_complete)
        self._snapshots.clear()
        return bool(self._incomplete or missed)

    def _on_status(self, event: Status) -> None:
        """Apply a status: it ends a snapshot, and "live" means that the worker's state is complete."""
        self.state, self.state_reason = event.state, event.reason
        self._has_snapshot = self._has_snapshot or "refresh" in event.flags or event.state is StreamState.LIVE

    def _reset(self) -> None:
        """Drop the state of an earlier epoch, but not the ids of delivered events."""
        self.state = self.state_reason = None
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
                return self._is_first("fill", event.fill_id)
            case Payment():
                return self._is_first("payment", event.payment_id)
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

    def _is_first(self, kind: str, event_id: str) -> bool:
        if (kind, event_id) in self._delivered:
            self.repeated += 1
            return False
        self._delivered[kind, event_id] = None
        if len(self._delivered) > _REMEMBERED:
            del self._delivered[next(iter(self._delivered))]
        return True


class AccountFeed:
    """Subscription to the accounts of one or more venues; a context manager, for one thread.

    Args:
        run_dir: Run directory of the system; None for the one in the environment, else the default one.
        venues: Venues; None for all whose account is followed.
        remote: System that is reached over TCP; None for one on this machine.
        name: Name of this consumer, as ``status`` shows it; None for the program's with its pid.
        context: ZeroMQ context to share; None for a new one.
        clock: Monotonic clock, ns.

    ``malformed`` counts messages that could not be decoded. Losses are logged (``feed.lost``).

    Raises:
        FeedError: No account is followed there, or ``name`` cannot be one.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        venues: Iterable[str] | None = None,
        remote: Remote | None = None,
        name: str | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = checked_name(name)
        self.malformed = 0
        self._losses = LossLog(self.name)
        self._clock = clock
        directory = run_dir_of(run_dir, os.environ)
        names = tuple(venues) if venues is not None else _followed(directory) if remote is None else VENUES
        if not names:
            raise FeedError(
                "no account is followed here",
                where=str(directory.path),
                advice="give one a name in the configuration: [venues.X] account",
            )
        self._accounts = {name: Account(name, clock()) for name in names}
        self._pending: deque[Event] = deque()
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._socket: zmq.Socket[Any] = self._context.socket(zmq.SUB)
        endpoints = {
            name: directory.account(name) if remote is None else remote.endpoint(name, account=True) for name in names
        }
        self._connections = None if remote is None else ConnectionMonitor(self._socket, endpoints, clock())
        connect(self._socket, endpoints.values(), ("", topic_of_consumer(self.name)), remote, hwm=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the subscription."""
        if self._connections is not None:
            self._connections.close()
        self._socket.close()
        if self._own_context:
            self._context.term()

    def __iter__(self) -> Iterator[Event]:
        """Yield events without end."""
        while True:
            event = self.poll(1.0)
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.0) -> Event | None:
        """Return the next event, or None when none arrived within ``timeout_s``."""
        deadline = self._clock() + int(timeout_s * _NS)
        self._check_silence()
        while not self._pending:
            if self._receive():
                continue
            left_ns = deadline - self._clock()
            if left_ns <= 0 or not self._socket.poll(max(1, left_ns // _MS)):
                self._check_silence()
                return None
        return self._pending.popleft()

    def account(self, venue: str) -> Account:
        """Return the account on a venue; raise FeedError if it is not part of this feed."""
        if venue not in self._accounts:
            raise FeedError(f"no account of it in this feed; there is {', '.join(self._accounts)}", where=venue)
        account = self._accounts[venue]
        account.check_silence(self._clock())
        return account

    def connection(self, venue: str) -> ConnectionState | None:
        """Return the state of the TCP connection to a venue's account feed; None for one on this machine.

        Raises:
            FeedError: The account is not part of this feed.
        """
        self.account(venue)
        if self._connections is None:
            return None
        self._read_connections(self._connections, self._clock())
        return self._connections.state(venue)

    def _read_connections(self, monitor: ConnectionMonitor, now: int) -> None:
        for name, state in monitor.read(now).items():
            self._accounts[name].silence_reason = _HEARTBEAT_LOST if state in UNEXPLAINED else str(state)

    def _check_silence(self) -> None:
        """Make silent accounts unusable, also those that a consumer holds; read the connections once a second."""
        now = self._clock()
        if self._connections is not None and now >= self._connections.due_ns:
            self._read_connections(self._connections, now)
        for account in self._accounts.values():
            account.check_silence(now)
        self._losses.flush(now)

    def _receive(self) -> bool:
        try:
            parts = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._handle(parts)
        return True

    def _handle(self, parts: Sequence[bytes]) -> None:
        try:
            head, payload = parts
            topic = head.decode()
            event = decode(payload)
            account = self._accounts[event.venue] if event is not None else None
        except (ValueError, KeyError, DecodeError) as error:
            self.malformed += 1
            log.warning("feed.malformed", error=str(error))
            return
        if event is None or account is None:
            return
        now, lost = self._clock(), account.lost
        events, needs_snapshot = account.handle(topic, event, now)
        if account.lost > lost:
            self._losses.add(account.venue, topic, account.lost - lost, now)
        self._pending.extend(events)
        if needs_snapshot:  # the status comes last
            request_snapshots(self._socket, [f"{channel}.{account.venue}" for channel in (*ACCOUNT_CHANNELS, "status")])


def _followed(run_dir: RunDir) -> tuple[str, ...]:
    try:
        venues = run_dir.describe()["venues"]
    except (NotRunningError, UnknownStateError, KeyError):
        return ()
    return tuple(name for name, venue in venues.items() if venue.get("account"))
