"""Best prices and funding rates of all markets, and their marks, read now and then; for one thread at a time.

A feed (:class:`ipc.feed.Feed`) checks and decodes every message. Here only what holds at the time of a look matters,
and whether it may be shown follows from the status document; so quotes that were replaced meanwhile are not decoded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import zmq

from ipc.codec import decode
from ipc.errors import DecodeError
from ipc.events import Event
from ipc.links import connect
from ipc.rundir import RunDir
from ipc.subscription import Subscription

_CHANNELS: Final = ("bbo", "funding")
_MARKS: Final = "mark."
_QUOTE: Final = b"bbo."
#: Messages of one read; what is left comes with the next one.
_MOST: Final = 20_000


class Quotes:
    """Subscription to the quotes of the system's venues, open while they are wanted; marks only while they are.

    Args:
        context: ZeroMQ context.
        run_dir: Run directory of the system.
    """

    def __init__(self, context: zmq.Context[Any], run_dir: RunDir) -> None:
        self._context = context
        self._run_dir = run_dir
        self._venues: tuple[str, ...] = ()
        self._socket: zmq.Socket[bytes] | None = None
        self._opened_s = 0.0
        self._has_marks = False

    @property
    def open_s(self) -> float:
        """Time since it was opened, s; 0 while it is closed."""
        return 0.0 if self._socket is None else time.monotonic() - self._opened_s

    def read(self, venues: tuple[str, ...], *, with_marks: bool) -> list[Event]:
        """Return what has come, of each quote the last; open the subscription first if it is closed or of others."""
        if self._socket is None or venues != self._venues:
            self._socket = self._open(venues)
        if with_marks != self._has_marks:
            (self._socket.subscribe if with_marks else self._socket.unsubscribe)(_MARKS)
            self._has_marks = with_marks
        payloads = latest(_messages(self._socket))
        return [event for payload in payloads if (event := _decoded(payload)) is not None]

    def close(self) -> None:
        """Close the subscription until the next read."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self, venues: tuple[str, ...]) -> zmq.Socket[bytes]:
        self.close()
        endpoints = Subscription(self._run_dir.path, venues, _CHANNELS, None).endpoints
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        connect(socket, endpoints.values(), [f"{channel}." for channel in _CHANNELS], None)
        self._venues, self._opened_s, self._has_marks = venues, time.monotonic(), False
        return socket


def latest(messages: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the payloads to decode: of each market's quotes the last one, and all others."""
    quotes: dict[bytes, bytes] = {}
    others: list[bytes] = []
    for topic, payload in messages:
        if topic.startswith(_QUOTE):
            quotes[topic] = payload
        else:
            others.append(payload)
    return [*quotes.values(), *others]


def _messages(socket: zmq.Socket[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the topics and payloads that have come."""
    receive = socket.recv
    messages: list[tuple[bytes, bytes]] = []
    try:
        while len(messages) < _MOST:
            messages.append((receive(zmq.DONTWAIT), receive()))  # the parts of a message come together
    except zmq.Again:
        pass
    return messages


def _decoded(payload: bytes) -> Event | None:
    try:
        return decode(payload)
    except DecodeError:  # what cannot be read is not shown; consumers count it
        return None
