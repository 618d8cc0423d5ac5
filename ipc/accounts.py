"""Feed of the desk's own accounts: orders, fills, positions, balances, margin and payments.

    from ipc.accounts import AccountFeed

    with AccountFeed() as feed:
        for event in feed:
            desk = feed.account("lighter")
            if desk.usable:
                print(desk.positions, desk.open_orders)

Fills and payments are delivered once each, also across restarts and over all sources. The rest is state that the worker
sends again to late subscribers and after a loss. Of several sources (lines, systems) one shows its state: the first
usable one, as long as it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Self

import zmq

from ipc.account_state import HEARTBEAT_LOST, AccountState, DeliveredOnce
from ipc.codec import decode
from ipc.connections import UNEXPLAINED, ConnectionState
from ipc.consumer_names import checked_name, topic_of_consumer
from ipc.errors import DecodeError, FeedError
from ipc.events import Balance, Event, Fill, Lifecycle, Margin, Order, Payment, Position
from ipc.feed_state import LIFECYCLE
from ipc.health import Reason, StreamState
from ipc.lines import Line
from ipc.links import Links, request_snapshots
from ipc.log import get_log
from ipc.losses import LossLog
from ipc.sources import Source, SourceFilter
from ipc.systems import LocalSystem, Remotes, RunDirs, System, systems_of
from ipc.topics import ACCOUNT_CHANNELS

__all__ = ["Account", "AccountFeed"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000


class Account:
    """Account on one venue: the state of one of its sources.

    The source is kept while it is usable. When it is not and another is, that one's state is shown, without a moment in
    between: with two lines, the one whose session with the venue is live.
    """

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self._delivered = DeliveredOnce()
        self._states: list[AccountState] = []
        self._sources: list[Source] = []
        self._shown = 0

    @property
    def source(self) -> Source:
        """Source whose state is shown."""
        return self._sources[self._shown]

    @property
    def name(self) -> str | None:
        """Alias of the account; None before its first event."""
        return self._state.name

    @property
    def orders(self) -> dict[str, Order]:
        """Orders by id, open and closed; see :attr:`open_orders`."""
        return self._state.orders

    @property
    def open_orders(self) -> dict[str, Order]:
        """Open orders by id."""
        return self._state.open_orders

    @property
    def positions(self) -> dict[str, Position]:
        """Positions by symbol (by the venue's own name where we have none), without those of size zero."""
        return self._state.positions

    @property
    def balances(self) -> dict[str, Balance]:
        """Balances by asset."""
        return self._state.balances

    @property
    def margin(self) -> Margin | None:
        """Last margin; None before the first."""
        return self._state.margin

    @property
    def state(self) -> StreamState | None:
        """State of the account's stream, as the worker published it."""
        return self._state.state

    @property
    def state_reason(self) -> Reason | None:
        """Reason for :attr:`state`."""
        return self._state.state_reason

    @property
    def usable(self) -> bool:
        """True when this state matches the venue's."""
        return self._state.usable

    @property
    def reason(self) -> str | None:
        """Reason why the state may be wrong; None while it is usable."""
        return self._state.reason

    @property
    def lost(self) -> int:
        """Number of messages that never arrived, over all sources."""
        return sum(state.lost for state in self._states)

    @property
    def repeated(self) -> int:
        """Number of fills and payments that were received again and suppressed."""
        return self._delivered.repeated

    def add_source(self, source: Source, now_ns: int) -> None:
        """Add a source; for the feed."""
        self._sources.append(source)
        self._states.append(AccountState(self.venue, now_ns, self._delivered))

    def handle(self, number: int, topic: str, event: Event, now_ns: int) -> tuple[list[Event], bool]:
        """Apply a source's message; return the events for the user, and whether a snapshot is needed from it."""
        events, needs_snapshot = self._states[number].handle(topic, event, now_ns)
        is_shown = number == self._shown
        once = [one for one in events if isinstance(one, Fill | Payment)]
        changed = self._choose()
        return [*once, *changed] if changed or not is_shown else events, needs_snapshot

    def check_silence(self, now_ns: int) -> list[Event]:
        """Update :attr:`usable` from the ages of the last heartbeats; return the events for the user."""
        for state in self._states:
            state.check_silence(now_ns)
        return self._choose()

    def disconnect(self, number: int, now_ns: int) -> list[Event]:
        """Apply the end of a source's connection; return the events for the user."""
        self._states[number].disconnect(now_ns)
        return self._choose()

    def set_silence_reason(self, number: int, reason: str | None) -> None:
        """Set the reason while a source's heartbeat is lost; None when nothing more is known."""
        self._states[number].silence_reason = reason or HEARTBEAT_LOST

    @property
    def _state(self) -> AccountState:
        return self._states[self._shown]

    def _choose(self) -> list[Event]:
        """Show another source if the shown one is not usable and the other is; return its whole state as events."""
        if self._state.usable:
            return []
        for number, state in enumerate(self._states):
            if state.usable:
                log.info("feed.account_source", of=self.venue, source=str(self._sources[number]))
                self._shown = number
                return state.contents()
        return []


class AccountFeed:
    """Subscription to the accounts of one or more venues; a context manager, for one thread.

    Args:
        run_dir: Run directory of the system, or a list of them; None for the one in the environment, else the default
            one.
        venues: Venues; None for all whose account is followed.
        remote: System that is reached over TCP instead, or a list of systems, where None is the run directory.
        name: Name of this consumer, as ``status`` shows it; None for the program's with its pid.
        context: ZeroMQ context to share; None for a new one.
        clock: Monotonic clock, ns.

    ``malformed`` counts messages that could not be decoded. Losses are logged (``feed.lost``).

    Raises:
        FeedError: No account is followed there, or ``name`` cannot be one.
    """

    def __init__(
        self,
        run_dir: RunDirs = None,
        *,
        venues: Iterable[str] | None = None,
        remote: Remotes = None,
        name: str | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = checked_name(name)
        self.malformed = 0
        self._losses = LossLog(self.name)
        self._clock = clock
        systems = systems_of(run_dir, remote)
        names = tuple(venues) if venues is not None else _followed(systems)
        if not names:
            raise FeedError(
                "no account is followed here",
                where=", ".join(str(one.run_dir.path) for one in systems if isinstance(one, LocalSystem)),
                advice="give one a name in the configuration: [venues.X] account",
            )
        now = clock()
        self._accounts = {name: Account(name) for name in names}
        self._pending: deque[Event] = deque()
        self._own_context = context is None
        self._context: zmq.Context[Any] = context or zmq.Context()
        chosen = SourceFilter(None, [system.host for system in systems])
        topics = ("", topic_of_consumer(self.name))
        self._links = Links(self._context, systems, chosen, names, _account, topics, now, hwm=0)
        self._add_sources(range(len(self._links.links)), now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the subscription."""
        self._links.close()
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
            goes_on = left_ns > 0 and self._links.wait(max(1, left_ns // _MS))
            self._check_silence()
            if not goes_on and not self._pending:
                return None
        return self._pending.popleft()

    def account(self, venue: str) -> Account:
        """Return the account on a venue; raise FeedError if it is not part of this feed."""
        if venue not in self._accounts:
            raise FeedError(f"no account of it in this feed; there is {', '.join(self._accounts)}", where=venue)
        account = self._accounts[venue]
        self._pending.extend(account.check_silence(self._clock()))
        return account

    def connection(self, venue: str, source: str | None = None) -> ConnectionState | None:
        """Return the state of a source's TCP connection to a venue's account feed; None for one on this machine.

        ``source`` is a source as text, ``h2:b``; None for the first.

        Raises:
            FeedError: The account or the source is not part of this feed.
        """
        self.account(venue)
        link = self._links.link(source)
        if link.monitor is None or not link.is_remote or venue not in link.endpoints:
            return None
        self._read_connections(self._clock())
        return link.monitor.state(venue)

    def _add_sources(self, numbers: Iterable[int], now: int) -> None:
        """Add the sources of new links to all accounts."""
        for number in numbers:
            for account in self._accounts.values():
                account.add_source(self._links.links[number].source, now)
        if len(self._links.links) > 1:
            self._links.watch(now)

    def _read_connections(self, now: int) -> None:
        for number, link in enumerate(self._links.links):
            if link.monitor is None:
                continue
            for name, state in link.monitor.read(now).items():
                if name != LIFECYCLE:
                    self._accounts[name].set_silence_reason(number, None if state in UNEXPLAINED else str(state))
            for name in link.monitor.ended() if len(self._links.links) > 1 else ():
                if name != LIFECYCLE:
                    self._receive_all(number)  # what came over it counts
                    self._pending.extend(self._accounts[name].disconnect(number, now))

    def _check_silence(self) -> None:
        """Make silent accounts unusable, also those that a consumer holds; read the monitors of the connections."""
        now = self._clock()
        self._read_connections(now)
        for account in self._accounts.values():
            self._pending.extend(account.check_silence(now))
        self._losses.flush(now)

    def _receive(self) -> bool:
        message = self._links.receive()
        if message is None:
            return False
        self._handle(*message)
        return True

    def _receive_all(self, number: int) -> None:
        while (parts := self._links.links[number].receive()) is not None:
            self._handle(number, parts)

    def _handle(self, number: int, parts: Sequence[bytes]) -> None:
        now = self._clock()
        try:
            head, payload = parts
            topic = head.decode()
            event = decode(payload)
            if isinstance(event, Lifecycle):
                self._on_lifecycle(number, event, now)
                return
            account = self._accounts[event.venue] if event is not None else None
        except (ValueError, KeyError, DecodeError) as error:
            self.malformed += 1
            log.warning("feed.malformed", error=str(error))
            return
        if event is None or account is None:
            return
        lost = account.lost
        events, needs_snapshot = account.handle(number, topic, event, now)
        if account.lost > lost:
            self._losses.add(account.venue, topic, account.lost - lost, now)
        self._pending.extend(events)
        if needs_snapshot:  # the status comes last
            topics = [f"{channel}.{account.venue}" for channel in (*ACCOUNT_CHANNELS, "status")]
            request_snapshots(self._links.links[number].socket, topics)

    def _on_lifecycle(self, number: int, event: Lifecycle, now: int) -> None:
        """Follow what a system describes: a line may be added, or end."""
        changes = self._links.update(number, event, now)
        if changes is not None:
            self._add_sources(changes.new, now)
            for one, venue in changes.gone:
                if venue != LIFECYCLE:
                    self._pending.extend(self._accounts[venue].disconnect(one, now))


def _account(system: System, venue: str, line: Line) -> str | None:
    return system.account(venue, line)


def _followed(systems: Iterable[System]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(venue for system in systems for venue in system.followed()))
