"""Extended: one client's connection, which is one stream; nothing is acknowledged.

Source: Extended, API documentation, public WebSocket streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from simulator.session import ClientSession, OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.venues.extended.messages import ExtendedMessage
from simulator.wire import Upgrade, Wire

_PING_S, _PONG_S = 15, 10


class ExtendedChannel(NamedTuple):
    """Stream of a connection; an empty ``symbol`` selects all markets."""

    kind: str
    symbol: str

    def __str__(self) -> str:
        """Return the channel in words."""
        return f"{self.kind}/{self.symbol or 'all'}"


ACCOUNT_CHANNEL: Final = ExtendedChannel("account", "")


class ExtendedSession(ClientSession):
    """Connection of a client: one stream."""

    def __init__(
        self,
        venue: SimulatedVenue,
        wire: Wire,
        upgrade: Upgrade,
        channel: ExtendedChannel,
        welcome: Callable[[ExtendedSession, ExtendedChannel], None],
    ) -> None:
        super().__init__(venue, wire, upgrade)
        self._channel = channel
        self._welcome = welcome
        self._seq = 0

    def begin(self) -> None:
        """Start the stream and pings."""
        self.require_pongs(_PING_S, _PONG_S)
        self._welcome(self, self._channel)
        self.venue.subscriptions.add(self, self._channel)

    def receive(self, text: bytes) -> None:
        """Ignore a message: clients have nothing to request."""

    def restart(self) -> None:
        """Restart the sequence numbers."""
        self._seq = 0

    def publish(self, symbol: str, message: ExtendedMessage) -> None:
        """Send a message with the next sequence number, which is used up even if a fault drops the frame."""
        self._seq += 1
        value: dict[str, Any] = {} if message.type is None else {"type": message.type}
        value |= {"data": message.data, "ts": message.ts, "seq": self._seq, **dict(message.more)}
        word = _WORDS.get(self._channel.kind, self._channel.kind)
        self.push(OutgoingFrame(word, symbol, message.kind, self.venue.text(value)))


#: Names of streams whose channel has another name.
_WORDS = {"touch": "bbo", "index": "mark"}
