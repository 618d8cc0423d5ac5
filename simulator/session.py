"""Client connections of a venue, and the venue's state that they share.

A venue's own session adds the protocol; :mod:`simulator.wire` handles the bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from itertools import count
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from simulator.failures import Failures
from simulator.limits import RateLimit
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse
from simulator.schedule import Job, Schedule
from simulator.settings import SimSettings
from simulator.wire import Frame, Upgrade, UpgradeRefusal, Wire

Kind = Literal["snapshot", "delta", "data"]


def decoded(text: bytes) -> Any:
    """Decode JSON of a client; return None for invalid JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


class OutgoingFrame(NamedTuple):
    """Data frame on its way to one subscriber.

    ``stream`` is the project's name of the channel (``ipc.health.Stream``, or ``other``). Books and private channels
    start with a ``snapshot``; everything else is ``data``. Private data has no symbol.
    """

    stream: str
    symbol: str
    kind: Kind
    frame: Frame


class ClientSubscriptions:
    """Subscriptions of all clients; keys are the venue's own, sessions are compared by identity."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[ClientSession, None]] = {}
        self._by_session: dict[ClientSession, dict[Hashable, None]] = {}
        #: Active subscriptions, all clients together.
        self.total = 0

    def add(self, session: ClientSession, key: Hashable) -> bool:
        """Subscribe; return False if already subscribed."""
        if self.has(session, key):
            return False
        self._by_key.setdefault(key, {})[session] = None
        self._by_session.setdefault(session, {})[key] = None
        self.total += 1
        return True

    def remove(self, session: ClientSession, key: Hashable) -> bool:
        """Unsubscribe; return False if not subscribed."""
        if not self.has(session, key):
            return False
        del self._by_key[key][session], self._by_session[session][key]
        if not self._by_key[key]:
            del self._by_key[key]
        self.total -= 1
        return True

    def has(self, session: ClientSession, key: Hashable) -> bool:
        """Return whether ``session`` has subscribed to ``key``."""
        return key in self._by_session.get(session, ())

    def drop(self, session: ClientSession) -> None:
        """Remove all subscriptions of a session."""
        for key in self.keys_of(session):
            self.remove(session, key)
        self._by_session.pop(session, None)

    def keys_of(self, session: ClientSession) -> list[Hashable]:
        """Return the subscriptions of ``session``, oldest first."""
        return list(self._by_session.get(session, ()))

    def active(self) -> list[Hashable]:
        """Return every key that has a subscriber."""
        return list(self._by_key)

    def to(self, key: Hashable) -> list[ClientSession]:
        """Return the subscribers of ``key``."""
        return list(self._by_key.get(key, ()))


class FaultHook:
    """Hooks of an active fault, called for every frame, connection and request; by default they change nothing.

    ``peer`` is the IP address of the clients that it strikes; None for all.
    """

    peer: str | None = None

    def before_send(self, _session: ClientSession, _outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Return the frames to send instead of ``frames``."""
        return frames

    def on_upgrade(self, _upgrade: Upgrade) -> UpgradeRefusal | None:
        """Return a refusal for a client that connects, or None."""
        return None

    def before_answer(self, _request: HttpRequest) -> HttpResponse | None:
        """Return a response that replaces the venue's own, or None."""
        return None

    def after_answer(self, _request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Return the response to send instead of ``response``."""
        return response


class VenueState:
    """State of a venue that its connections and its account work on.

    Attributes:
        markets: By symbol; by the venue's name for markets that are not perpetuals.
        sessions: Open connections, oldest first.
        numbers: Numbers of connections.
        accepted: Connections accepted since the start.
        frames: Frames sent since the start.
        hooks: Active faults.
        hidden: Symbols removed from the catalogue (by fault).
        delisted: Symbols delisted (by fault): still in the catalogue, without data.
        skew_ms: How far the venue's clock is ahead (by fault).
        mutes_pings: Whether pings stay unanswered (by fault).
        has_flat_errors: Whether errors have their code at the top level (by fault), where both shapes occur.
        is_paused: Whether markets and account are paused.
        failures: Frames and responses that could not be built.
        book_sent_ns: Wall clock of the last book frame by symbol.
    """

    name: ClassVar[str]
    markets: dict[str, Market]

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        self.settings = settings
        self.schedule = schedule
        self.subscriptions = ClientSubscriptions()
        self.sessions: dict[ClientSession, None] = {}
        self.numbers = count(1)
        self.accepted = 0
        self.frames = 0
        self.hooks: list[FaultHook] = []
        self.hidden: set[str] = set()
        self.delisted: set[str] = set()
        self.skew_ms = 0
        self.mutes_pings = False
        self.has_flat_errors = False
        self.is_paused = False
        self.failures = Failures(self.name)
        self.book_sent_ns: dict[str, int] = {}

    def now_ms(self) -> int:
        """Return the venue's clock, in milliseconds."""
        return self.schedule.wall_ms() + self.skew_ms

    def now_us(self) -> int:
        """Return the venue's clock, in microseconds."""
        return self.schedule.wall_ns() // 1000 + self.skew_ms * 1000

    def scaled(self, seconds: float) -> float:
        """Return a documented period, shortened by the configured pace."""
        return seconds / self.settings.pace

    def rate_limit(self, limit: int, window_s: float) -> RateLimit:
        """Create a rate limit whose window follows the configured pace."""
        return RateLimit(limit, self.scaled(window_s), self.schedule.mono_s)

    def text(self, value: Any) -> Frame:
        """Encode a value as a JSON text frame."""
        return Frame(msgspec.json.encode(value))

    def sessions_of(self, peer: str | None) -> list[ClientSession]:
        """Return the connections of an IP address; all for None."""
        return [session for session in self.sessions if peer in {None, session.upgrade.peer}]

    def hooks_of(self, peer: str) -> list[FaultHook]:
        """Return the active faults that strike an IP address."""
        return [hook for hook in self.hooks if hook.peer in {None, peer}]

    def close_all(self, code: int, reason: str, peer: str | None = None) -> None:
        """Close all connections, or those of an IP address."""
        for session in self.sessions_of(peer):
            session.wire.close(code, reason)

    def abort_all(self, peer: str | None = None) -> None:
        """Drop all connections, or those of an IP address, without a close frame."""
        for session in self.sessions_of(peer):
            session.wire.abort()

    def publish(self, key: Hashable, stream: str, market: Market, kind: Kind, make: Callable[[], Frame]) -> None:
        """Send one frame to all subscribers of ``key``; build it only if there are any."""
        sessions = self.subscriptions.to(key)
        if not sessions:
            return
        with self.failures.guard(stream, market.listing.symbol):
            outgoing = OutgoingFrame(stream, market.listing.symbol, kind, make())
            for session in sessions:
                session.push(outgoing)


class ClientSession(ABC):
    """Connection of one client to a venue.

    Attributes:
        number: Number of the connection at this venue, from 1.
        frames: Frames sent.
        last_data_s: Monotonic time of the last data frame, or of the connect.
        last_received_s: Monotonic time of the last text message, or of the connect.
    """

    def __init__(self, venue: VenueState, wire: Wire, upgrade: Upgrade) -> None:
        self.venue = venue
        self.wire = wire
        self.upgrade = upgrade
        self.number = next(venue.numbers)
        self.frames = 0
        self.last_data_s = self.last_received_s = venue.schedule.mono_s()
        self._jobs: list[Job] = []
        self._pong_due: Job | None = None

    def on_open(self) -> None:
        """Register with the venue and start the protocol."""
        self.venue.sessions[self] = None
        self.venue.accepted += 1
        self.wire.mute_pongs = self.venue.mutes_pings
        with self.venue.failures.guard("welcome"):
            self.begin()

    def on_text(self, text: bytes) -> None:
        """Handle a message of the client."""
        self.last_received_s = self.venue.schedule.mono_s()
        with self.venue.failures.guard("request"):
            self.receive(text)

    def on_ping(self) -> None:  # noqa: B027 - most venues do not count it as activity
        """Handle a ping frame."""

    def on_pong(self) -> None:
        """Handle a pong frame: cancel the pong timeout."""
        if self._pong_due is not None:
            self._pong_due.cancel()
            self._pong_due = None

    def on_gone(self) -> None:
        """Remove the client from the venue."""
        for job in self._jobs:
            job.cancel()
        self.on_pong()
        self.venue.subscriptions.drop(self)
        self.venue.sessions.pop(self, None)

    @abstractmethod
    def begin(self) -> None:
        """Send the venue's greeting, if it has one, and start its keep-alive."""

    @abstractmethod
    def receive(self, text: bytes) -> None:
        """Handle a message of the client."""

    def subscribed(self) -> list[str]:
        """Return the client's subscriptions as text."""
        return [str(key) for key in self.venue.subscriptions.keys_of(self)]

    def add_job(self, job: Job) -> None:
        """Cancel ``job`` when the session ends."""
        self._jobs.append(job)

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close the connection when it reaches this age."""
        self.add_job(self.venue.schedule.once(self.venue.scaled(seconds), partial(self.wire.close, code, reason)))

    def require_pongs(self, every_s: float, within_s: float) -> None:
        """Send ping frames, and close the connection when a pong is overdue."""
        self.add_job(self.venue.schedule.every(self.venue.scaled(every_s), partial(self._ping, within_s)))

    def _ping(self, within_s: float) -> None:
        self.wire.ping(str(self.venue.now_ms()).encode())
        if self._pong_due is None:
            give_up = partial(self.wire.close, 1008, "Pong timeout")
            self._pong_due = self.venue.schedule.once(self.venue.scaled(within_s), give_up)

    def reply(self, value: Any) -> None:
        """Send an acknowledgement, an error or another control message; data faults do not apply."""
        self.send(self.venue.text(value))

    def push(self, outgoing: OutgoingFrame) -> None:
        """Send data through the active faults."""
        if outgoing.symbol in self.venue.delisted:
            return
        frames = [outgoing.frame]
        for hook in self.venue.hooks_of(self.upgrade.peer) if self.venue.hooks else ():
            frames = hook.before_send(self, outgoing, frames)
        for frame in frames:
            self.last_data_s = self.venue.schedule.mono_s()
            self.send(frame)
        if frames and outgoing.symbol and outgoing.kind != "data":
            self.venue.book_sent_ns[outgoing.symbol] = self.venue.schedule.wall_ns()

    def send(self, frame: Frame) -> None:
        """Send a frame unchanged."""
        self.frames += 1
        self.venue.frames += 1
        self.wire.send(frame)
