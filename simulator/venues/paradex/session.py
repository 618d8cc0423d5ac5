"""Paradex: one client's connection. Control is JSON-RPC in text frames; data is JSON or binary.

Source: Paradex, WebSocket documentation (control messages, errors, keep-alive, binary encoding); an acknowledgement
precedes the first data of its channel, as captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from simulator.market import Market
from simulator.session import ClientSession, Kind, OutgoingFrame, decoded
from simulator.venue import SimulatedVenue
from simulator.wire import Frame, Upgrade, Wire

_PING_S, _PONG_S = 55, 5
_NODE = "73cf456f7cb78d59"
#: Names of streams by topic.
WORDS = {"order_book": "book", "bbo": "bbo", "trades": "trade", "markets_summary": "mark", "funding_data": "funding"}


class RpcError(Exception):
    """Request that is answered with an error."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ParadexChannel(NamedTuple):
    """Channel: ``name`` as the client writes it, ``market`` empty for all, ``flavour`` of an order book."""

    name: str
    topic: str
    market: str = ""
    flavour: str = ""
    is_private: bool = False

    def __str__(self) -> str:
        """Return the name as the client writes it."""
        return self.name


class ChannelMessage(NamedTuple):
    """Message in both encodings, each encoded when first needed."""

    market: Market
    as_json: Callable[[], Any]
    as_sbe: Callable[[int], bytes]
    kind: Kind = "data"


class ParadexStream(Protocol):
    """Parts of the venue that a connection uses."""

    def parse(self, name: str) -> ParadexChannel:
        """Return a channel from its name.

        Raises:
            ValueError: The venue rejects it; the text is the reason.
        """

    def login_error(self, bearer: Any) -> tuple[int, str] | None:
        """Return code and text of the error for a bearer token; None for a valid one."""

    def welcome(self, session: ParadexSession, channel: ParadexChannel) -> None:
        """Send a new subscription its first data."""


class ParadexSession(ClientSession):
    """Connection of a client.

    Attributes:
        version: Version of the binary schema; None when data is JSON.
        sent_seqs: Sequence number of the last snapshot by channel.
        is_authorised: Whether private channels are allowed, from the first login on.
    """

    def __init__(
        self, venue: SimulatedVenue, wire: Wire, upgrade: Upgrade, version: int | None, stream: ParadexStream
    ) -> None:
        super().__init__(venue, wire, upgrade)
        self._stream = stream
        self.version = version
        self.sent_seqs: dict[ParadexChannel, int] = {}
        self.is_authorised = False

    def begin(self) -> None:
        """Send pings."""
        self.require_pongs(_PING_S, _PONG_S)

    def receive(self, text: bytes) -> None:
        """Handle a request."""
        received_us, request = self.venue.now_us(), decoded(text)
        number = request.get("id", 0) if isinstance(request, dict) else 0
        try:
            method, params = _method_of(request)
            if method == "auth":
                self._authorise(params.get("bearer"))
                self._answer(number, received_us, {"node_id": _NODE})
                return
            channel = self._change(method, params)
        except RpcError as error:
            self._answer(number, received_us, error)
            return
        self._answer(number, received_us, {"channel": channel.name})
        if method == "subscribe":
            self._stream.welcome(self, channel)

    def _authorise(self, bearer: Any) -> None:
        """Allow private channels.

        Raises:
            RpcError: The token is not valid.
        """
        problem = self._stream.login_error(bearer)
        if problem is not None:
            raise RpcError(*problem)
        self.is_authorised = True

    def _change(self, method: str, params: dict[str, Any]) -> ParadexChannel:
        """Subscribe or unsubscribe.

        Raises:
            RpcError: The request is wrong.
        """
        if not isinstance(params.get("channel"), str):
            raise RpcError(-32602, "invalid params")
        text, subscriptions = f"invalid {method} request", self.venue.subscriptions
        try:
            channel = self._stream.parse(params["channel"])
        except ValueError as error:
            raise RpcError(-32600, text, str(error)) from error
        if channel.is_private and not self.is_authorised:
            raise RpcError(40111, "invalid or expired bearer")
        if method == "unsubscribe":
            if not subscriptions.remove(self, channel):
                raise RpcError(-32600, text, "not subscribed")
        elif self._shares_a_book(channel):
            raise RpcError(-32600, text, "order_book channels of one market cannot share an SBE session")
        elif not subscriptions.add(self, channel):
            raise RpcError(-32600, text, "already subscribed")
        return channel

    def _shares_a_book(self, channel: ParadexChannel) -> bool:
        """Return whether a binary connection has another book of the market: binary frames name no channel."""
        held = [key for key in self.venue.subscriptions.keys_of(self) if isinstance(key, ParadexChannel)]
        books = [key for key in held if key.topic == channel.topic == "order_book" and key.market == channel.market]
        return self.version is not None and any(key != channel for key in books)

    def _answer(self, number: Any, received_us: int, result: dict[str, str] | RpcError) -> None:
        sent_us = self.venue.now_us()
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
        if isinstance(result, dict):
            answer["result"] = result
        else:
            answer["error"] = {"code": result.code, "message": str(result)}
            if result.data is not None:
                answer["error"]["data"] = result.data
        # Some servers send this time as text.
        answer["usIn"] = received_us if self.number % 2 else str(received_us)
        self.reply({**answer, "usDiff": sent_us - received_us, "usOut": sent_us})

    def publish(self, channel: ParadexChannel, message: ChannelMessage) -> None:
        """Send data in the encoding of this connection."""
        word, symbol = WORDS.get(channel.topic, "other"), message.market.listing.symbol
        with self.venue.failures.guard(word, symbol):
            self.push(OutgoingFrame(word, symbol, message.kind, self._frame(channel, message)))

    def _frame(self, channel: ParadexChannel, message: ChannelMessage) -> Frame:
        if self.version is not None:
            return Frame(message.as_sbe(self.version), is_binary=True)
        params = {"channel": channel.name, "data": message.as_json()}
        return self.venue.text({"jsonrpc": "2.0", "method": "subscription", "params": params})


def _method_of(request: Any) -> tuple[str, dict[str, Any]]:
    """Return the method of a request and its parameters.

    Raises:
        RpcError: The request is wrong.
    """
    if request is None:
        raise RpcError(-32700, "parse error")
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        raise RpcError(-32600, "invalid request")
    method, params = request.get("method"), request.get("params")
    if method not in ("auth", "subscribe", "unsubscribe"):
        raise RpcError(-32601, "method not found")
    if not isinstance(params, dict):
        raise RpcError(-32602, "invalid params")
    return method, params
