"""Lifecycle events of the parent, read from its control socket; they come without the gateway.

The parent sends a follower its last 500 events, and every later one at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from ipc.control import ControlClient, ControlRequest
from ipc.errors import ParaphinaError
from ipc.events import Lifecycle
from ipc.health import Reason

#: Between two attempts to reach a parent that is not there.
_RETRY_S: Final = 1.0
#: Longest wait for a packet in :meth:`LifecycleFollower.read`.
_WAIT_S: Final = 0.001
#: The parent sends what its socket does not hold at once on its next ticks, which are 0.25 s apart by default.
_QUIET_S: Final = 0.3
_PAST_S: Final = 1.5
_TURN_S: Final = 0.01
#: Packets of one read: more than the parent keeps.
_MAX_PACKETS: Final = 1_000


class LifecycleMessage(msgspec.Struct):
    """Lifecycle event as the parent sends it to its followers."""

    number: int
    process: str
    event: str
    reason: Reason | None
    pid: int | None
    generation: int
    exit_code: int | None
    signal: str | None
    delay_s: float | None
    failures: int
    restarts: int
    uptime_s: float | None
    mono_ns: int
    wall_ns: int

    def as_event(self) -> Lifecycle:
        """Return it as the event that the gateway publishes."""
        event = Lifecycle(
            venue=self.process,
            symbol=None,
            venue_symbol=None,
            exchange_ns=None,
            event=self.event,
            reason=self.reason,
            pid=self.pid,
            generation=self.generation,
            exit_code=self.exit_code,
            signal=self.signal,
            delay_s=self.delay_s,
            failures=self.failures,
            restarts=self.restarts,
            uptime_s=self.uptime_s,
        )
        event.recv_ns, event.recv_mono_ns = self.wall_ns, self.mono_ns
        return event


_decoder: Final = msgspec.json.Decoder(LifecycleMessage)


def decode_lifecycle(packet: bytes) -> LifecycleMessage:
    """Decode a packet of the parent; raise ValueError or RecursionError if it is not an event."""
    return _decoder.decode(packet)


class LifecycleFollower:
    """Follower of one system's lifecycle events, whichever parent runs it; a context manager.

    Every connection begins with the events that the parent still has, so some come again. A parent that is away, or
    that refuses because it belongs to another user, gives none.

    Args:
        path: Control socket of the system.
        clock: Monotonic, s.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._client: ControlClient | None = None
        self._retry_at = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> list[Lifecycle]:
        """Return the events that have come since the last call; does not wait for any."""
        events: list[Lifecycle] = []
        client = self._connected()
        for _ in range(_MAX_PACKETS if client is not None else 0):
            try:
                packet = client.receive()  # type: ignore[union-attr]
            except TimeoutError:
                break
            except ParaphinaError:
                self.close()
                break
            with contextlib.suppress(ValueError, RecursionError):  # a refusal, or of another version
                events.append(decode_lifecycle(packet).as_event())
        return events

    def past(self) -> list[Lifecycle]:
        """Return the events that the parent still has, oldest first; waits until no more come, at most 1.5 s."""
        events: list[Lifecycle] = []
        deadline = self._clock() + _PAST_S
        quiet_at = self._clock() + _QUIET_S
        while self._clock() < min(deadline, quiet_at):
            new = self.read()
            events += new
            if new:
                quiet_at = self._clock() + _QUIET_S
            if self._client is None:
                break
            time.sleep(_TURN_S)
        return events

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> ControlClient | None:
        if self._client is None and self._clock() >= self._retry_at:
            self._retry_at = self._clock() + _RETRY_S
            try:
                self._client = ControlClient(self._path, _WAIT_S)
                self._client.send(ControlRequest("follow"))
            except ParaphinaError:
                self.close()
        return self._client
