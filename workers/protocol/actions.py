"""Actions that a session requests of the thread that owns its socket, collected in an :class:`ActionQueue`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ipc.events import Event
from ipc.health import Reason, StreamState
from workers.protocol.streams import MarketStream

#: Purpose of a book's REST fetch: to bridge to the stream, as a precaution because the book is silent, to compare with
#: it, or to show while there is no stream.
Purpose: TypeAlias = Literal["bridge", "soft", "compare", "rest"]
#: An event and its stream; None instead of an event: data came that was left out.
Publication: TypeAlias = tuple[MarketStream, Event | None]


@dataclass(frozen=True, slots=True)
class Send:
    """Request to send a text message."""

    message: bytes


@dataclass(frozen=True, slots=True)
class SendPing:
    """Request to send a ping frame."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Request to close the connection."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class FetchBook:
    """Request to fetch a book by REST; :meth:`workers.protocol.session.MarketSession.fetched` handles the answer."""

    stream: MarketStream
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Change of a stream's state."""

    stream: MarketStream
    previous: StreamState


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Entry for the log: an event name and its fields."""

    event: str
    fields: dict[str, object]


Action: TypeAlias = Send | SendPing | CloseConnection | FetchBook | StateChanged | LogEvent


class ActionQueue:
    """Pending actions in their order; falsy while there are none."""

    __slots__ = ("_actions",)

    def __init__(self) -> None:
        self._actions: list[Action] = []

    def __bool__(self) -> bool:
        return bool(self._actions)

    def drain(self) -> list[Action]:
        """Return all pending actions and forget them."""
        actions, self._actions = self._actions, []
        return actions

    def send(self, *messages: bytes) -> None:
        """Send text messages."""
        self._actions += [Send(message) for message in messages]

    def ping(self) -> None:
        """Send a ping frame."""
        self._actions.append(SendPing())

    def close(self, reason: Reason, text: str) -> None:
        """Close the connection; of several requests the first counts."""
        self._actions.append(CloseConnection(reason, text))

    def fetch(self, stream: MarketStream, purpose: Purpose, now_ns: int) -> None:
        """Fetch a book by REST unless a fetch is outstanding."""
        if stream.fetch.request(now_ns):
            self._actions.append(FetchBook(stream, purpose))

    def change(self, stream: MarketStream, state: StreamState, reason: Reason | None) -> None:
        """Set a stream's state and report the change, if it is one."""
        previous = stream.change_state(state, reason)
        if previous is not None:
            self._actions.append(StateChanged(stream, previous))

    def log_event(self, event: str, **fields: object) -> None:
        """Write an entry to the log."""
        self._actions.append(LogEvent(event, fields))
