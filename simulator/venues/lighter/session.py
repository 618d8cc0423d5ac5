"""Lighter: one client's connection, its subscriptions and replies.

Source: Lighter, API documentation, WebSocket reference and rate limits; error texts as captured.
"""

from __future__ import annotations

import random
import uuid
from typing import Any, Protocol

from simulator.limits import RateLimit
from simulator.session import ClientSession, OutgoingFrame, decoded
from simulator.venue import SimulatedVenue
from simulator.venues.lighter.messages import LighterApiError
from simulator.wire import Upgrade, Wire

_PING_S = 30
_IDLE_S = 120
_MOST_CHANNELS = 500
#: Prefixes of account channels.
_PRIVATE = ("account_", "user_stats")


class LighterStream(Protocol):
    """Parts of the venue that a connection uses; all connections share the limits."""

    messages: RateLimit
    in_flight: RateLimit

    def key_of(self, channel: str, token: Any) -> str:
        """Return a channel's key: its name with colons.

        Raises:
            LighterApiError: The token or the channel is not accepted.
        """

    def requires_token(self, key: str) -> bool:
        """Return whether a channel is private."""

    def first_frames(self, session: LighterSession, key: str) -> list[OutgoingFrame]:
        """Return the frames that answer a subscription."""


class LighterSession(ClientSession):
    """Connection of a client."""

    def __init__(self, venue: SimulatedVenue, wire: Wire, upgrade: Upgrade, stream: LighterStream) -> None:
        super().__init__(venue, wire, upgrade)
        self._stream = stream
        #: Tokens that opened account channels, by channel.
        self.tokens: dict[str, str] = {}
        #: Start of this server's offsets, which count per server.
        self.offset_base = random.Random(f"offset:{self.number}").randrange(10**6, 10**7)

    def begin(self) -> None:
        """Send the session id, send JSON pings, and watch for idle clients."""
        self.reply({"session_id": str(uuid.uuid4()), "type": "connected"})
        schedule = self.venue.schedule
        self.add_job(schedule.every(self.venue.scaled(_PING_S), lambda: self.reply({"type": "ping"})))
        self.add_job(schedule.every(self.venue.scaled(1), self._close_when_idle))

    def receive(self, text: bytes) -> None:
        """Handle a message within the rate limits."""
        if not self._stream.messages.acquire():
            self._error(30009, "Too Many Websocket Messages!")
        elif not self._stream.in_flight.acquire():
            self._error(30010, "Too Many Inflight Messages!")
        else:
            self._handle(decoded(text))

    def _handle(self, message: Any) -> None:
        match message:
            case {"type": "subscribe", "channel": str(channel), **rest}:
                self._subscribe(channel, rest.get("auth"))
            case {"type": "unsubscribe", "channel": str(channel)}:
                self._unsubscribe(channel)
            case {"type": "ping"}:
                if not self.venue.mutes_pings:
                    self.reply({"type": "pong"})
            case {"type": "pong"}:
                pass
            case {"type": "subscribe" | "unsubscribe"}:
                self._error(30007, "Invalid Data")
            case {"type": kind}:
                self._error(30001, f"Invalid Type: {kind}")
            case _:
                self._error(30000, "Invalid JSON")

    def _subscribe(self, channel: str, token: Any) -> None:
        key = self._key(channel, token)
        if key is None:
            return
        if self.venue.subscriptions.has(self, key):
            self._error(30003, f"Already Subscribed to : {key}")
        elif len(self.venue.subscriptions.keys_of(self)) >= _MOST_CHANNELS:
            self._error(23001, "Too Many Subscriptions!")
        else:
            for outgoing in self._stream.first_frames(self, key):
                self.push(outgoing)
            self.venue.subscriptions.add(self, key)
            if self._stream.requires_token(key):
                self.tokens[key] = str(token)

    def _unsubscribe(self, channel: str) -> None:
        key = channel.replace("/", ":") if channel.startswith(_PRIVATE) else self._key(channel)
        if key is None:
            return
        self.tokens.pop(key, None)
        if self.venue.subscriptions.remove(self, key):
            self.reply({"type": "unsubscribed", "channel": key})
        else:
            self._error(30002, f"Not Subscribed to : {key}")

    def _key(self, channel: str, token: Any = None) -> str | None:
        """Return a channel's key, or None after an error reply."""
        try:
            return self._stream.key_of(channel, token)
        except LighterApiError as error:
            self._error(error.code, str(error))
            return None

    def _error(self, code: int, message: str) -> None:
        error = {"code": code, "message": message}
        self.reply({"type": "error", **error} if self.venue.has_flat_errors else {"error": error})

    def _close_when_idle(self) -> None:
        if self.venue.schedule.mono_s() - self.last_received_s > self.venue.scaled(_IDLE_S):
            self.wire.close(1000, "idle")
