"""Simulated venue without sockets: tests advance the time, and clients are objects."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec

from simulator.fault_controller import FaultController
from simulator.rest import HttpRequest, HttpResponse
from simulator.schedule import Schedule
from simulator.session import ClientSession
from simulator.settings import SimSettings, VenuePorts
from simulator.venues import VENUE_BUILDERS
from simulator.wire import Frame, Upgrade, UpgradeRefusal

__all__ = ["Client", "FakeLoop", "FakeWire", "Stage"]

#: 2026-10-01 12:34:56 UTC, in nanoseconds.
_START_NS = 1_790_858_096_000_000_000


class FakeLoop:
    """Event loop whose time moves only in :meth:`advance`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._due: list[tuple[float, int, FakeHandle]] = []
        self._counter = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None], /) -> FakeHandle:
        handle = FakeHandle(callback)
        heapq.heappush(self._due, (when, next(self._counter), handle))
        return handle

    def advance(self, seconds: float) -> None:
        """Advance the time and run due callbacks in order."""
        end = self._now + seconds
        while self._due and self._due[0][0] <= end:
            when, _, handle = heapq.heappop(self._due)
            self._now = max(self._now, when)
            if not handle.is_cancelled:
                handle.callback()
        self._now = end


class FakeHandle:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeWire:
    """Wire that records what a session sends."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.pings = 0
        self.close_code: int | None = None
        self.close_text: str | None = None
        self.is_aborted = False
        self.is_frozen = False
        self.bytes_per_s: float | None = None
        self.mute_pongs = False

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)

    def ping(self, payload: bytes = b"") -> None:
        del payload
        self.pings += 1

    def close(self, code: int, reason: str = "") -> None:
        self.close_code = code
        self.close_text = reason

    def abort(self) -> None:
        self.is_aborted = True

    def freeze(self) -> None:
        self.is_frozen = True

    def trickle(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s


def assert_no_failures(venue: Any) -> None:
    """Fail if the simulator could not build a frame, except for expected failures."""
    unexpected = [row for row in venue.failures.describe() if row["symbol"] not in EXPECTED_FAILURES]
    assert not unexpected


#: Symbols whose frames may fail.
EXPECTED_FAILURES: set[str] = set()


class Client:
    """Client of the stage's venue."""

    def __init__(self, wire: FakeWire, session: ClientSession) -> None:
        self.wire = wire
        self.session = session

    def say(self, message: Any) -> None:
        """Send a message; a string is sent unchanged."""
        self.session.on_text(message.encode() if isinstance(message, str) else msgspec.json.encode(message))
        assert_no_failures(self.session.venue)

    def raw(self) -> list[Frame]:
        """Return the frames since the last call."""
        frames, self.wire.frames = self.wire.frames, []
        return frames

    def heard(self) -> list[Any]:
        """Return the JSON messages since the last call."""
        return [msgspec.json.decode(frame.payload) for frame in self.raw() if frame.payload[:1] in {b"{", b"["}]

    def leave(self) -> None:
        self.session.on_gone()


class Stage:
    """Venue with its time and its clients."""

    def __init__(self, name: str, *, is_started: bool = True, **changes: Any) -> None:
        settings = SimSettings(ports={name: VenuePorts(1, 2)}, admin_port=3, venues=(name,), **changes)
        #: IP address of the clients that connect and ask from here on.
        self.peer = "127.0.0.1"
        self.loop = FakeLoop()
        begin = self.loop.time()
        self.schedule = Schedule(self.loop, lambda: _START_NS + int((self.loop.time() - begin) * 1e9))
        self.venue: Any = VENUE_BUILDERS[name](settings, self.schedule)
        self.controller = FaultController({name: self.venue}, self.schedule)
        if is_started:
            self.venue.start()

    def run(self, seconds: float) -> None:
        self.loop.advance(seconds)
        assert_no_failures(self.venue)

    def knock(self, path: str, headers: dict[str, str] | None = None, **query: str) -> Client | UpgradeRefusal:
        """Connect; return a client or a refusal."""
        wire = FakeWire()
        sent = {"user-agent": "test"} if headers is None else headers
        upgrade = Upgrade(path, {name: [text] for name, text in query.items()}, sent, self.peer)
        session = self.venue.accept(upgrade, wire)
        if isinstance(session, UpgradeRefusal):
            return session
        session.on_open()
        return Client(wire, session)

    def connect(self, path: str, **query: str) -> Client:
        """Connect; fail if refused."""
        client = self.knock(path, **query)
        assert isinstance(client, Client), client
        return client

    def ask(
        self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> HttpResponse:
        """Send a REST request; a body of bytes is sent unchanged."""
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        target = f"{path}?{urlencode(query)}"
        parts = {name: [text] for name, text in query.items()}
        return self.venue.answer(
            HttpRequest(method, path, parts, {"user-agent": "test", **(headers or {})}, data, target, self.peer)
        )

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON of a REST request that must succeed."""
        response = self.ask(path, **query)
        assert response.status == 200, response
        return msgspec.json.decode(response.body)

    def fault(self, name: str, **arguments: Any) -> int:
        return self.controller.inject(self.venue.name, {"fault": name, **arguments})

    def book(self, symbol: str) -> tuple[dict[float, float], dict[float, float]]:
        """Return the true book: sizes by price."""
        truth = self.venue.truth(symbol)
        bids, asks = ({float(p): float(q) for p, q in truth[side]} for side in ("bids", "asks"))
        return bids, asks
