"""What a session asks the thread that owns its socket to do, collected in a :class:`ActionQueue`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ipc.events import Event
from ipc.health import Reason, StreamState
from workers.protocol.streams import MarketStream

__all__ = [
    "Action",
    "ActionQueue",
    "CloseConnection",
    "FetchBook",
    "LogEvent",
    "Publication",
    "Purpose",
    "Send",
    "SendPing",
    "StateChanged",
]

_LOST_NS: Final = 60_000_000_000
#: Why a book is fetched by REST: to join the stream, because it stands still, to compare with, or to show while there
#: is no stream.
Purpose: TypeAlias = Literal["bridge", "soft", "compare", "rest"]
#: An event and its route; None instead of an event: data came that was left out.
Publication: TypeAlias = tuple[MarketStream, Event | None]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message."""

    message: bytes


@dataclass(frozen=True, slots=True)
class SendPing:
    """Send a ping frame."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """End the connection."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class FetchBook:
    """Ask REST for the book of a route; the answer comes through :meth:`workers.protocol.session.MarketSession.fetched`."""

    route: MarketStream
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A route has another state."""

    route: MarketStream
    previous: StreamState


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Something for the log: an event name and its fields."""

    event: str
    fields: dict[str, object]


Action: TypeAlias = Send | SendPing | CloseConnection | FetchBook | StateChanged | LogEvent


class ActionQueue:
    """The actions that wait, in their order; falsy while there are none."""

    __slots__ = ("_actions",)

    def __init__(self) -> None:
        self._actions: list[Action] = []

    def __bool__(self) -> bool:
        return bool(self._actions)

    def take(self) -> list[Action]:
        """All of them, once."""
        actions, self._actions = self._actions, []
        return actions

    def send(self, *messages: bytes) -> None:
        """Send text messages."""
        self._actions += [Send(message) for message in messages]

    def ping(self) -> None:
        """Send a ping frame."""
        self._actions.append(SendPing())

    def close(self, reason: Reason, text: str) -> None:
        """End the connection; of several wishes the first counts."""
        self._actions.append(CloseConnection(reason, text))

    def fetch(self, route: MarketStream, purpose: Purpose, now_ns: int) -> None:
        """Ask REST for a book, unless that is under way; an answer that is out for too long will not come."""
        if not route.is_fetching or now_ns - route.fetched_ns > _LOST_NS:
            route.is_fetching = True
            route.fetched_ns = now_ns
            self._actions.append(FetchBook(route, purpose))

    def change(self, route: MarketStream, state: StreamState, reason: Reason | None) -> None:
        """Give a route a state, and tell of it when it is another one."""
        if route.state is not state or route.reason is not reason:
            previous, route.state, route.reason = route.state, state, reason
            self._actions.append(StateChanged(route, previous))

    def note(self, event: str, **fields: object) -> None:
        """Say something in the log."""
        self._actions.append(LogEvent(event, fields))
