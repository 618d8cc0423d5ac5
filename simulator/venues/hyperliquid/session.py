"""Hyperliquid: one client's connection, its subscriptions and replies.

Source: Hyperliquid, API documentation, WebSocket subscriptions, timeouts and rate limits; error texts and the abrupt
close after an unknown coin as observed on the live venue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec

from simulator.limits import RateLimit
from simulator.market import Market
from simulator.schedule import Job
from simulator.session import ClientSession, OutgoingFrame, decoded
from simulator.venue import SimulatedVenue
from simulator.venues.hyperliquid.messages import GREETING, USER_DEFAULTS, book, is_address
from simulator.wire import Upgrade, Wire

_SILENCE_S = 60
_FAST_S, _FAST_DEPTH = 0.5, 5
_SLOW_S, _SLOW_DEPTH = 5.0, 20
_MOST_CHANNELS, _MOST_USERS = 1000, 15
_DIGITS: tuple[Any, ...] = (None, 2, 3, 4, 5)
_MANTISSAS: tuple[Any, ...] = (1, 2, 5)


class HyperliquidChannel(NamedTuple):
    """Subscription with all defaults filled in."""

    type: str
    coin: str = ""
    digits: int | None = None
    mantissa: int | None = None
    fast: bool = False
    user: str = ""
    dex: str = ""

    def echo(self) -> dict[str, Any]:
        """Return the subscription as the venue repeats it."""
        if self.user:
            defaults = USER_DEFAULTS[self.type]
            return {
                "type": self.type,
                "user": self.user,
                **defaults,
                **({"dex": self.dex} if "dex" in defaults else {}),
            }
        if self.type == "allMids":
            return {"type": self.type, "dex": ""}
        plain_echo: dict[str, Any] = {"type": self.type, "coin": self.coin}
        if self.type != "l2Book":
            return plain_echo
        return {**plain_echo, "nSigFigs": self.digits, "mantissa": self.mantissa, "fast": self.fast}

    def __str__(self) -> str:
        """Return the subscription as error texts contain it."""
        return msgspec.json.encode(self.echo()).decode()


def parse_channel(subscription: dict[str, Any]) -> HyperliquidChannel | None:
    """Return the channel that a client requests; None for an invalid request."""
    kind, coin = subscription.get("type"), subscription.get("coin")
    if kind == "allMids":
        return HyperliquidChannel("allMids")
    if kind in USER_DEFAULTS:
        user, dex = subscription.get("user"), subscription.get("dex", "") if "dex" in USER_DEFAULTS[kind] else ""
        return (
            HyperliquidChannel(kind, user=user.lower(), dex=dex) if is_address(user) and isinstance(dex, str) else None
        )
    if not isinstance(coin, str) or kind not in {"l2Book", "bbo", "trades", "activeAssetCtx"}:
        return None
    if kind != "l2Book":
        return HyperliquidChannel(kind, coin)
    digits, mantissa = subscription.get("nSigFigs"), subscription.get("mantissa")
    if digits not in _DIGITS or (mantissa is not None and (digits != 5 or mantissa not in _MANTISSAS)):
        return None
    return HyperliquidChannel(kind, coin, digits, mantissa, subscription.get("fast") is True)


class HyperliquidStream(Protocol):
    """Parts of the venue that a connection uses."""

    messages: RateLimit
    #: Answers a query of the info endpoint.
    answer_info: Callable[[dict[str, Any]], Any]

    def block_ms(self) -> int:
        """Return the time of the last block."""

    def users(self) -> set[str]:
        """Return the addresses with subscriptions."""

    def publish_mids(self, session: ClientSession) -> None:
        """Send the mid prices of all books."""

    def first_frame(self, channel: HyperliquidChannel, market: Market) -> OutgoingFrame:
        """Return the frame that a new subscription starts with."""

    def first_account_frames(self, channel: HyperliquidChannel) -> list[OutgoingFrame]:
        """Return the frames that a new subscription to a user's channel starts with."""


class HyperliquidSession(ClientSession):
    """Connection of a client."""

    venue: SimulatedVenue

    def __init__(self, venue: SimulatedVenue, wire: Wire, upgrade: Upgrade, stream: HyperliquidStream) -> None:
        super().__init__(venue, wire, upgrade)
        self._stream = stream
        #: Timers of the subscribed books, and the levels last sent.
        self._books: dict[HyperliquidChannel, Job] = {}
        self._sent: dict[HyperliquidChannel, Any] = {}

    def begin(self) -> None:
        """Greet in plain text, and watch for lack of data to the client."""
        if self.venue.settings.greeting:
            self.send(GREETING)
        self.add_job(self.venue.schedule.every(self.venue.scaled(1), self._close_when_silent))

    def receive(self, text: bytes) -> None:
        """Handle a request."""
        if not self._stream.messages.acquire():
            self._error("Cannot send more than 2000 messages per minute.")
            return
        match decoded(text):
            case {"method": "ping"}:
                if not self.venue.mutes_pings:
                    self.last_data_s = self.venue.schedule.mono_s()
                    self.reply({"channel": "pong"})
            case {"method": "subscribe", "subscription": {"type": str()} as subscription}:
                self._subscribe(subscription)
            case {"method": "unsubscribe", "subscription": {"type": str()} as subscription}:
                self._unsubscribe(subscription)
            case {"method": "post", "id": int(number), "request": {"type": "info", "payload": dict(query)}}:
                self._post(number, query)
            case _:
                received = text.decode(errors="replace")
                self._error(f"Error parsing JSON into valid websocket request: {received}")

    def on_gone(self) -> None:
        """Cancel the books' timers, and remove the client."""
        for job in self._books.values():
            job.cancel()
        super().on_gone()

    def catch_up(self) -> None:
        """Send the books that changed since they were last sent."""
        for channel in self._books:
            market = self.venue.find_even_hidden(channel.coin)
            if market is not None and self._levels(channel, market) != self._sent.get(channel):
                self._send_book(channel, market)

    def _subscribe(self, subscription: dict[str, Any]) -> None:
        channel = parse_channel(subscription)
        if channel is None:
            self._error(f"Invalid subscription {msgspec.json.encode(subscription).decode()}")
        elif channel.coin and self.venue.find(channel.coin) is None:
            self.wire.abort()
        elif self.venue.subscriptions.has(self, channel):
            self._error(f"Already subscribed: {channel}")
        elif self.venue.subscriptions.total >= _MOST_CHANNELS:
            self._error(f"Cannot subscribe to more than {_MOST_CHANNELS} channels.")
        elif channel.user and len({*self._stream.users(), channel.user}) > _MOST_USERS:
            self._error(f"Cannot track more than {_MOST_USERS} total users.")
        else:
            self.venue.subscriptions.add(self, channel)
            self._acknowledge("subscribe", channel)
            self._send_first(channel)

    def _unsubscribe(self, subscription: dict[str, Any]) -> None:
        channel = parse_channel(subscription)
        if channel is None:
            self._error(f"Invalid subscription {msgspec.json.encode(subscription).decode()}")
        elif not self.venue.subscriptions.remove(self, channel):
            self._error(f"Already unsubscribed: {channel}")
        else:
            if channel in self._books:
                self._books.pop(channel).cancel()
            self._acknowledge("unsubscribe", channel)

    def _acknowledge(self, method: str, channel: HyperliquidChannel) -> None:
        data = {"method": method, "subscription": channel.echo()}
        self.reply({"channel": "subscriptionResponse", "data": data})

    def _send_first(self, channel: HyperliquidChannel) -> None:
        market = self.venue.find(channel.coin)
        if channel.user:
            for outgoing in self._stream.first_account_frames(channel):
                self.push(outgoing)
        elif market is None:
            self._stream.publish_mids(self)
        elif channel.type == "l2Book":
            self._send_book(channel, market)
            period = _FAST_S if channel.fast else _SLOW_S
            self._books[channel] = self.venue.schedule.every(period, partial(self._send_book, channel, market))
        else:
            self.push(self._stream.first_frame(channel, market))

    def _levels(self, channel: HyperliquidChannel, market: Market) -> Any:
        depth = _FAST_DEPTH if channel.fast else _SLOW_DEPTH
        return book(market, 0, depth, channel.digits, channel.mantissa)["levels"]

    def _send_book(self, channel: HyperliquidChannel, market: Market) -> None:
        stream, symbol = "book" if channel.fast else "book20", market.listing.symbol
        with self.venue.failures.guard(stream, symbol):
            levels = self._sent[channel] = self._levels(channel, market)
            data = {"coin": channel.coin, "time": self._stream.block_ms(), "levels": levels}
            # Only fast frames are marked: an ordinary frame of a thin market can have as few levels.
            marked = {**data, "fast": True} if channel.fast else data
            self.push(OutgoingFrame(stream, symbol, "snapshot", self.venue.text({"channel": "l2Book", "data": marked})))

    def _post(self, number: int, query: dict[str, Any]) -> None:
        payload = {"type": query.get("type"), "data": self._stream.answer_info(query)}
        self.reply({"channel": "post", "data": {"id": number, "response": {"type": "info", "payload": payload}}})

    def _error(self, text: str) -> None:
        self.reply({"channel": "error", "data": text})

    def _close_when_silent(self) -> None:
        if self.venue.schedule.mono_s() - self.last_data_s > self.venue.scaled(_SILENCE_S):
            self.wire.close(1000, "Inactive")
