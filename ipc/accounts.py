"""The consumer's end of the desk's own accounts: orders, fills, positions, balances, margin and payments.

    from ipc.accounts import AccountFeed

    with AccountFeed() as feed:
        for event in feed:
            desk = feed.account("lighter")
            if desk.usable:
                print(desk.positions, desk.open_orders)

Fills and payments are told once each, whatever is restarted in between. The rest is a state that the worker repeats to
whoever joins, and to whoever missed something.
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
from ipc.errors import DecodeError, FeedError, NotRunningError, UnknownStateError
from ipc.events import AccountEvent, Balance, Event, Fill, Heartbeat, Margin, Order, Payment, Position, Status
from ipc.health import Reason, StreamState
from ipc.log import get_log
from ipc.remote import Remote
from ipc.rundir import RunDir, run_dir_of
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import ACCOUNT_CHANNELS, VENUES

__all__ = ["Account", "AccountFeed"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Without a heartbeat for this long nothing of the account is known.
_HEARTBEAT_LOST_NS: Final = 3 * _NS
#: Ids of fills and payments that are remembered; the oldest go.
_REMEMBERED: Final = 1_000_000
#: Orders that are kept; of more the oldest that are closed go.
_CLOSED_ORDERS: Final = 10_000
_NO_SNAPSHOT: Final = "no_snapshot"
_SEQ_GAP: Final = "seq_gap"
_PREFIXES: Final = tuple(f"{channel}." for channel in ACCOUNT_CHANNELS)
_RECONNECT_MS: Final = 10


class Account:
    """What is known of one venue's account.

    Attributes:
        name: Its alias; None until something was heard.
        orders: The orders heard of, by id; :attr:`open_orders` are those that are open.
        positions: By symbol (by the venue's own name where we have none); those of size zero are left out.
        balances: By asset.
        margin: The last that was told; None before.
        state: What the worker says of the account's stream, and ``reason_told`` why.
    """

    def __init__(self, venue: str, now_ns: int) -> None:
        self.venue = venue
        self.name: str | None = None
        self.state: StreamState | None = None
        self.reason_told: Reason | None = None
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, Balance] = {}
        self.margin: Margin | None = None
        self.lost = 0
        self.repeated = 0
        self._sequence = PublisherSequence()
        self._told: dict[tuple[str, str], None] = {}
        #: Whether everything was told once in this life of the worker.
        self._has_snapshot = False
        #: Topics of which something was lost since they were last told whole.
        self._torn: set[str] = set()
        #: Topics that are being told whole, and whether something of that was lost.
        self._retold: dict[str, bool] = {}
        self._beat_ns = now_ns
        self._is_silent = False

    @property
    def usable(self) -> bool:
        """Whether all that stands here is what the venue says."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why it may be wrong."""
        if self._is_silent:
            return "heartbeat_lost"
        if not self._has_snapshot:
            return _NO_SNAPSHOT
        if self._torn:
            return _SEQ_GAP
        if self.state is not StreamState.LIVE:
            return str(self.reason_told or self.state or "no_snapshot")
        return None

    @property
    def open_orders(self) -> dict[str, Order]:
        """The orders that are open, by id."""
        return {order_id: order for order_id, order in self.orders.items() if order.is_open}

    def judge_silence(self, now_ns: int) -> None:
        """To be called before it is looked at; a feed does so whenever it is polled."""
        self._is_silent = now_ns - self._beat_ns > _HEARTBEAT_LOST_NS

    def take(self, topic: str, event: Event, now_ns: int) -> tuple[list[Event], bool]:
        """A message came; what to tell the user, and whether to ask for everything anew."""
        last = self._sequence.last(topic)
        verdict = self._sequence.judge(topic, event.epoch, event.seq, now_ns)
        if verdict in {Verdict.IGNORE, Verdict.STALE_EPOCH}:
            return [], False
        if verdict is Verdict.NEW_EPOCH:
            self._begin_life()
        # Of a topic that was not heard of when everything was told, the first message is the first that there is.
        is_first_lost = last is None and event.seq > 1 and self._has_snapshot
        has_missed = verdict is Verdict.GAP or (verdict is Verdict.APPLY and is_first_lost)
        if verdict is Verdict.GAP:
            self.lost += event.seq - (last or 0) - 1
        match event:
            case Heartbeat():
                return [event], self._beat(event, now_ns)
            case Status():
                self._take_status(event)
                return [event], has_missed
            case AccountEvent():
                self._note(topic, is_retold="refresh" in event.flags, has_missed=has_missed)
                return ([event] if self._apply(event) else []), has_missed
            case _:
                return [], False

    def _note(self, topic: str, *, is_retold: bool, has_missed: bool) -> None:
        """Keep account of what is whole: a topic that is retold without a loss is, once a heartbeat has counted it."""
        if has_missed:
            self._tear(topic)
            if not is_retold:
                self._retold.pop(topic, None)  # that was before the loss
        if is_retold:
            self._retold[topic] = self._retold.get(topic, True) and not has_missed

    def _beat(self, beat: Heartbeat, now_ns: int) -> bool:
        """Heartbeats count all that was sent: what is missing now was lost, and nothing else was."""
        self._beat_ns = now_ns
        missed = self._sequence.missed_tail(beat.seqs)
        self.lost += sum(missed.values())
        unheard = [topic for topic in beat.seqs if self._sequence.last(topic) is None] if self._has_snapshot else []
        for topic in (*missed, *unheard):
            if topic.startswith("status."):
                self.state = self.reason_told = None  # it may have been worse news
            elif topic.startswith(_PREFIXES):
                self._retold[topic] = False
                self._tear(topic)
        self._torn.difference_update(topic for topic, is_whole in self._retold.items() if is_whole)
        self._retold.clear()
        return bool(self._torn or missed)

    def _take_status(self, event: Status) -> None:
        """The worker sends whoever joins all it knows, and this behind it; and it says "live" when it knows all."""
        self.state, self.reason_told = event.state, event.reason
        self._has_snapshot = self._has_snapshot or "refresh" in event.flags or event.state is StreamState.LIVE

    def _begin_life(self) -> None:
        """Nothing of the state is known any more; what was told once stays told."""
        self.state = self.reason_told = None
        self._has_snapshot = False
        self._torn.clear()
        self._retold.clear()
        for channel in ACCOUNT_CHANNELS:
            self._forget(channel)

    def _tear(self, topic: str) -> None:
        self._torn.add(topic)
        self._forget(topic.partition(".")[0])

    def _forget(self, channel: str) -> None:
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
        """Whether the user is to be told of it."""
        self.name = event.account
        match event:
            case Order():
                self._take_order(event)
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

    def _take_order(self, order: Order) -> None:
        self.orders.pop(order.order_id, None)  # the newest stand last
        self.orders[order.order_id] = order
        if len(self.orders) > _CLOSED_ORDERS:
            closed = next((key for key, one in self.orders.items() if not one.is_open), None)
            if closed is not None:
                del self.orders[closed]

    def _is_first(self, kind: str, event_id: str) -> bool:
        if (kind, event_id) in self._told:
            self.repeated += 1
            return False
        self._told[kind, event_id] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        return True


class AccountFeed:
    """A subscription to the accounts of one or more venues; a context manager, for one thread.

    Args:
        run_dir: The system's run directory; None takes the one that the environment names, else the default one.
        venues: Whose accounts; None takes all that are followed.
        remote: A system that is reached over TCP; None reads the run directory of one on this machine.
        context: A ZeroMQ context to share; None makes one.
        clock: Monotonic clock, ns.

    Raises:
        FeedError: No account is followed there.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        venues: Iterable[str] | None = None,
        remote: Remote | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.malformed = 0
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
        for option, value in ((zmq.LINGER, 0), (zmq.RECONNECT_IVL, _RECONNECT_MS), (zmq.RCVHWM, 0)):
            self._socket.setsockopt(option, value)
        self._socket.subscribe(b"")
        if remote is not None:
            remote.apply(self._socket)
        for name in names:
            endpoint = directory.account(name) if remote is None else remote.endpoint(name, account=True)
            self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        if self._own_context:
            self._context.term()

    def __iter__(self) -> Iterator[Event]:
        """Events for ever."""
        while True:
            event = self.poll(1.0)
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.0) -> Event | None:
        """The next event, or None when none came within ``timeout_s``."""
        deadline = self._clock() + int(timeout_s * _NS)
        self._look()
        while not self._pending:
            if self._receive():
                continue
            left_ns = deadline - self._clock()
            if left_ns <= 0 or not self._socket.poll(max(1, left_ns // _MS)):
                self._look()
                return None
        return self._pending.popleft()

    def account(self, venue: str) -> Account:
        """The account on a venue.

        Raises:
            FeedError: It is not part of this feed.
        """
        if venue not in self._accounts:
            raise FeedError(f"no account of it in this feed; there is {', '.join(self._accounts)}", where=venue)
        account = self._accounts[venue]
        account.judge_silence(self._clock())
        return account

    def _look(self) -> None:
        """Hide accounts that have gone silent, also those that a consumer holds."""
        now = self._clock()
        for account in self._accounts.values():
            account.judge_silence(now)

    def _receive(self) -> bool:
        try:
            parts = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._take(parts)
        return True

    def _take(self, parts: Sequence[bytes]) -> None:
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
        told, must_ask = account.take(topic, event, self._clock())
        self._pending.extend(told)
        if must_ask:
            self._ask(account)

    def _ask(self, account: Account) -> None:
        """Every subscription is answered, also one that was there already; the status comes behind all else."""
        for topic in [f"{channel}.{account.venue}" for channel in (*ACCOUNT_CHANNELS, "status")]:
            self._socket.subscribe(topic.encode())
            self._socket.unsubscribe(topic.encode())


def _followed(run_dir: RunDir) -> tuple[str, ...]:
    try:
        venues = run_dir.describe()["venues"]
    except (NotRunningError, UnknownStateError, KeyError):
        return ()
    return tuple(name for name, venue in venues.items() if venue.get("account"))
