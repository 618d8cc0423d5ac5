"""One client's connection to a venue: what it has subscribed to, its keep-alive, and what is sent to it.

A venue's own session adds the protocol; the bytes are the wire's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from simulator.schedule import Job
from simulator.wire import Frame, Upgrade, Wire

if TYPE_CHECKING:
    from simulator.venue import SimulatedVenue

__all__ = ["ClientSession", "ClientSubscriptions", "Kind", "OutgoingFrame", "decoded"]

Kind = Literal["snapshot", "delta", "data"]


def decoded(text: bytes) -> Any:
    """A client's message; None when it is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


class OutgoingFrame(NamedTuple):
    """A data frame on its way to one subscriber.

    ``stream`` is our word for the channel (``ipc.health.Stream``, or ``other``). Books and private channels are told
    with a state first; all else is of kind ``data``. Private data is of no symbol.
    """

    stream: str
    symbol: str
    kind: Kind
    frame: Frame


class ClientSubscriptions:
    """Who has subscribed to what; keys are the venue's own, sessions are told apart by identity."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[ClientSession, None]] = {}
        self._by_session: dict[ClientSession, dict[Hashable, None]] = {}
        self.total = 0

    def add(self, session: ClientSession, key: Hashable) -> bool:
        """Subscribe; False when that was so already."""
        if self.has(session, key):
            return False
        self._by_key.setdefault(key, {})[session] = None
        self._by_session.setdefault(session, {})[key] = None
        self.total += 1
        return True

    def remove(self, session: ClientSession, key: Hashable) -> bool:
        """Unsubscribe; False when there was nothing to undo."""
        if not self.has(session, key):
            return False
        del self._by_key[key][session], self._by_session[session][key]
        if not self._by_key[key]:
            del self._by_key[key]
        self.total -= 1
        return True

    def has(self, session: ClientSession, key: Hashable) -> bool:
        """Whether ``session`` has subscribed to ``key``."""
        return key in self._by_session.get(session, ())

    def drop(self, session: ClientSession) -> None:
        """Forget a session."""
        for key in self.keys_of(session):
            self.remove(session, key)
        self._by_session.pop(session, None)

    def keys_of(self, session: ClientSession) -> list[Hashable]:
        """What ``session`` has subscribed to, oldest first."""
        return list(self._by_session.get(session, ()))

    def active(self) -> list[Hashable]:
        """Everything that somebody has subscribed to."""
        return list(self._by_key)

    def to(self, key: Hashable) -> list[ClientSession]:
        """Who has subscribed to ``key``."""
        return list(self._by_key.get(key, ()))


class ClientSession(ABC):
    """One client's connection to a venue.

    Attributes:
        number: Counts the connections of the venue.
        frames: Frames sent.
        last_data_s: Monotonic time of the last frame that was no acknowledgement, or of the connect.
        last_received_s: Monotonic time of the last text message, or of the connect.
    """

    def __init__(self, venue: SimulatedVenue, wire: Wire, upgrade: Upgrade) -> None:
        self.venue = venue
        self.wire = wire
        self.upgrade = upgrade
        self.number = next(venue.numbers)
        self.frames = 0
        self.last_data_s = self.last_received_s = venue.schedule.mono_s()
        self._jobs: list[Job] = []
        self._pong_due: Job | None = None

    def on_open(self) -> None:
        """Join the venue's sessions and start talking."""
        self.venue.sessions[self] = None
        self.venue.accepted += 1
        self.wire.mute_pongs = self.venue.mutes_pings
        with self.venue.failures.guard("welcome"):
            self.begin()

    def on_text(self, text: bytes) -> None:
        """Take a message from the client."""
        self.last_received_s = self.venue.schedule.mono_s()
        with self.venue.failures.guard("request"):
            self.receive(text)

    def on_ping(self) -> None:  # noqa: B027 - to most venues it is no sign of life
        """A ping frame came."""

    def on_pong(self) -> None:
        """A pong frame came."""
        if self._pong_due is not None:
            self._pong_due.cancel()
            self._pong_due = None

    def on_gone(self) -> None:
        """Forget the client."""
        for job in self._jobs:
            job.cancel()
        self.on_pong()
        self.venue.subscriptions.drop(self)
        self.venue.sessions.pop(self, None)

    @abstractmethod
    def begin(self) -> None:
        """Say what the venue says first, and start its keep-alive."""

    @abstractmethod
    def receive(self, text: bytes) -> None:
        """Act on a message of the client."""

    def subscribed(self) -> list[str]:
        """What the client has subscribed to, in words."""
        return [str(key) for key in self.venue.subscriptions.keys_of(self)]

    def add_job(self, job: Job) -> None:
        """Let a job end with the session."""
        self._jobs.append(job)

    def close_after(self, seconds: float, code: int, reason: str) -> None:
        """Close the connection when it is so old."""
        self.add_job(self.venue.schedule.once(self.venue.scaled(seconds), partial(self.wire.close, code, reason)))

    def require_pongs(self, every_s: float, within_s: float) -> None:
        """Send ping frames, and close when one stays unanswered for too long."""
        self.add_job(self.venue.schedule.every(self.venue.scaled(every_s), partial(self._ping, within_s)))

    def _ping(self, within_s: float) -> None:
        self.wire.ping(str(self.venue.now_ms()).encode())
        if self._pong_due is None:
            give_up = partial(self.wire.close, 1008, "Pong timeout")
            self._pong_due = self.venue.schedule.once(self.venue.scaled(within_s), give_up)

    def reply(self, value: Any) -> None:
        """Send an acknowledgement, an error or another word about the session itself; faults leave it alone."""
        self.send(self.venue.text(value))

    def push(self, outgoing: OutgoingFrame) -> None:
        """Send data, past the faults that are at work."""
        if outgoing.symbol in self.venue.delisted:
            return
        frames = [outgoing.frame]
        for hook in self.venue.hooks:
            frames = hook.before_send(self, outgoing, frames)
        for frame in frames:
            self.last_data_s = self.venue.schedule.mono_s()
            self.send(frame)
        if frames and outgoing.symbol and outgoing.kind != "data":
            self.venue.book_sent_ns[outgoing.symbol] = self.venue.schedule.wall_ns()

    def send(self, frame: Frame) -> None:
        """Send a frame as it is."""
        self.frames += 1
        self.venue.frames += 1
        self.wire.send(frame)
