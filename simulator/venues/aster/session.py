"""Aster: one client's connection, its subscriptions and replies.

Source: Aster, futures API documentation v3, WebSocket market streams; an unknown stream is acknowledged and stays
silent as on the exchange whose protocol this is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.session import ClientSession, decoded
from simulator.venue import SimulatedVenue
from simulator.wire import Frame, Upgrade, Wire

MOST_STREAMS = 200
_PING_S, _PONG_S = 300, 900
_OLDEST_S = 24 * 3600
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


def framed(session: ClientSession, stream: str, event: Any) -> Frame:
    """Return an event as the session expects it: bare, or wrapped with the name of its stream."""
    is_wrapped = isinstance(session, AsterSession) and session.is_combined
    return session.venue.text({"stream": stream, "data": event} if is_wrapped else event)


class AsterSession(ClientSession):
    """Connection of a client."""

    def __init__(
        self,
        venue: SimulatedVenue,
        wire: Wire,
        upgrade: Upgrade,
        streams: list[str],
        join: Callable[[ClientSession, str], None],
    ) -> None:
        super().__init__(venue, wire, upgrade)
        self.is_combined = upgrade.path == "/stream"
        self._streams = streams
        self._join = join
        #: One second at any pace, so that a faster pace does not tighten the limit for clients.
        self._messages = self.venue.rate_limit(10, venue.settings.pace)

    def begin(self) -> None:
        """Subscribe to the streams of the URL, send pings, and close after a day."""
        for stream in self._streams:
            self._join(self, stream)
        self.require_pongs(_PING_S, _PONG_S)
        self.close_after(_OLDEST_S, 1001, "connection is 24 hours old")

    def on_ping(self) -> None:
        """Count a ping as a message."""
        self._count()

    def receive(self, text: bytes) -> None:
        """Handle a request."""
        if not self._count():
            return
        match decoded(text):
            case None:
                self._error(3, "Invalid JSON: expected value at line 1 column 1")
            case {"method": method, **rest}:
                self._handle(method, rest.get("params"), rest.get("id"))
            case _:
                self._error(2, "Invalid request: missing field `method` at line 1 column 1")

    def _count(self) -> bool:
        """Count a message; close the connection after too many."""
        if self._messages.acquire():
            return True
        self.wire.close(1008, "Too many requests")
        return False

    def _handle(self, method: Any, params: Any, number: Any) -> None:
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
            self._error(2, "Invalid request: request ID must be an unsigned integer")
        elif method not in _METHODS:
            known = ", ".join(f"`{name}`" for name in _METHODS)
            self._error(2, f"Invalid request: unknown variant `{method}`, expected one of {known}")
        elif method == "LIST_SUBSCRIPTIONS":
            self.reply({"result": self.subscribed(), "id": number})
        elif method in {"SET_PROPERTY", "GET_PROPERTY"}:
            self._property(params, number, is_set=method == "SET_PROPERTY")
        elif not isinstance(params, list) or not all(isinstance(param, str) for param in params):
            self._error(2, "Invalid request: invalid type: params must be an array of strings")
        else:
            self._change(params, number, is_joining=method == "SUBSCRIBE")

    def _change(self, streams: list[str], number: Any, *, is_joining: bool) -> None:
        """Subscribe or unsubscribe; acknowledge unknown streams like others."""
        if is_joining and len({*self.subscribed(), *streams}) > MOST_STREAMS:
            self._error(2, "Invalid request: too many streams")
            return
        self.reply({"result": None, "id": number})
        for stream in streams:
            if is_joining:
                self._join(self, stream)
            else:
                self.venue.subscriptions.remove(self, stream)

    def _property(self, params: Any, number: Any, *, is_set: bool) -> None:
        if not isinstance(params, list) or not params or not isinstance(params[0], str):
            self._error(2, "Invalid request: property name must be a string")
        elif len(params) > (2 if is_set else 1):
            self._error(2, "Invalid request: too many parameters")
        elif params[0] != "combined":
            self._error(0, "Unknown property")
        elif not is_set:
            self.reply({"result": self.is_combined, "id": number})
        elif len(params) < 2 or not isinstance(params[1], bool):
            self._error(1, "Invalid value type: expected Boolean")
        else:
            self.is_combined = params[1]
            self.reply({"result": None, "id": number})

    def _error(self, code: int, message: str) -> None:
        self.reply({"code": code, "msg": message})
