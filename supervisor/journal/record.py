"""Recording a running system: everything that its feeds send, and its raw frames when they are asked for.

The recorder is a consumer like any other: a full disk, a slow one or the recorder's death costs no feed anything. It
may be there before the system, and it stays when workers or the whole system come and go.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.errors import NotRunningError, UnknownStateError
from ipc.feed import Subscription
from ipc.feed_state import LIFECYCLE
from ipc.raw import RawHeader, encode_line
from ipc.rundir import RunDir
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import CHANNELS, VENUES, Topic
from supervisor.journal.format import Header, Stamps, encode_header, prefix_of, publisher_of, stamp_of
from supervisor.journal.write import JournalLimits, RotatingFile

__all__ = ["JournalRecorder", "Tally"]

#: Messages are taken in bursts: waking up for every one of them costs three times as much.
_NAP_S: Final = 0.01
_FLUSH_S: Final = 0.5
#: Messages taken from one socket in one go.
_BURST: Final = 20_000
#: The raw endpoint numbers nothing, so here nothing may be lost: room for minutes.
_RAW_HWM: Final = 200_000
_RECONNECT_MS: Final = 10
#: Channels whose topics have a value that holds until the next one; a new file begins with them.
_STATE_CHANNELS: Final = frozenset({"book", "book20", "mark", "funding", "instrument"})
_RAW_HEADER: Final = b'{"raw":"header"'


@dataclass(slots=True)
class Tally:
    """What was recorded so far.

    Attributes:
        events: By venue, and those of the gateway as ``lifecycle``.
        lost: Events that never came, by the same.
        raw: Raw records by venue.
        malformed: Messages that are no events.
        files: Files begun; ``size``: bytes in them.
    """

    events: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    raw: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    files: int = 0
    size: int = 0


@dataclass(slots=True)
class _Source:
    """One topic: what its lines begin with, and whose it is."""

    publisher: str
    name: str
    prefix: bytes
    sequence: PublisherSequence


class JournalRecorder:
    """Records one system; :meth:`run`, then :meth:`close`.

    Args:
        run_dir: The system's directory.
        out: Where the files go; raw ones into ``<out>/<venue>``, which is then a fixture directory.
        venues: Which venues.
        raw: Whether to record raw frames as well.
        limits: When a file is ended.
        version: The program's, for the headers.
    """

    def __init__(
        self,
        run_dir: RunDir,
        out: Path,
        *,
        venues: Iterable[str] = VENUES,
        raw: bool = False,
        limits: JournalLimits | None = None,
        version: str = "",
    ) -> None:
        self.tally = Tally()
        self._run_dir = run_dir
        self._out = out
        self._venues = tuple(venues)
        self._version = version
        self._limits = limits or JournalLimits()
        self._recording = stamp_of(time.time_ns())
        self._events = RotatingFile(out, f"events-{self._recording}", self._header, self._limits)
        self._asked_in = 1
        self._sequences = {name: PublisherSequence() for name in (*self._venues, LIFECYCLE)}
        self._sources: dict[bytes, _Source] = {}
        self._raw: dict[str, RotatingFile] = {}
        self._raw_headers: dict[str, bytes] = {}
        self._stamps = msgspec.json.Decoder(Stamps)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        Subscription(run_dir.path, self._venues, CHANNELS, None).open(self._socket)
        self._raw_socket = self._open_raw() if raw else None

    def run(self, duration_s: float | None, stop: Callable[[], bool], progress: Callable[[Tally], None]) -> None:
        """Record until the time is over (None: for ever) or ``stop()`` says so.

        Raises:
            WriteError: A file cannot be written; the recording is over.
        """
        began = time.monotonic()
        due = began + _FLUSH_S
        while not stop() and (duration_s is None or time.monotonic() - began < duration_s):
            self._drain()
            if time.monotonic() >= due:
                due = time.monotonic() + _FLUSH_S
                self._look()
                progress(self.tally)
            time.sleep(_NAP_S)
        self._drain()
        self._look()
        progress(self.tally)

    def close(self) -> None:
        """Leave the feeds and end the files.

        Raises:
            WriteError: The end of a file cannot be written; the other files are ended all the same.
        """
        for socket in (self._socket, self._raw_socket):
            if socket is not None:
                socket.close(0)
        self._context.term()
        with contextlib.ExitStack() as ending:
            for file in self._files():
                ending.callback(file.close)

    # --- events -----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Take what has come."""
        now = time.monotonic_ns()
        receive = self._socket.recv_multipart
        with contextlib.suppress(zmq.Again):
            for _ in range(_BURST):
                self._take(receive(zmq.DONTWAIT), now)
        if self._raw_socket is not None:
            with contextlib.suppress(zmq.Again):
                for _ in range(_BURST):
                    self._take_raw(self._raw_socket.recv_multipart(zmq.DONTWAIT))

    def _take(self, parts: list[bytes], now: int) -> None:
        """Keep a message as it is; only its place in its topic is looked at."""
        try:
            topic, payload = parts
            source = self._sources.get(topic) or self._new_source(topic)
            stamps = self._stamps.decode(payload)
        except (ValueError, KeyError, RecursionError):
            self.tally.malformed += 1
            return
        if not payload.startswith(b"{") or b"\n" in payload:
            self.tally.malformed += 1  # JSON that another program laid out would not stay one line
            return
        sequence, name = source.sequence, source.name
        last = sequence.last(name)
        if sequence.judge(name, stamps.epoch, stamps.seq, now) is Verdict.GAP:
            self.tally.lost[source.publisher] += stamps.seq - (last or 0) - 1
        self.tally.events[source.publisher] += 1
        self._events.write(source.prefix + payload[1:] + b"\n")

    def _new_source(self, topic: bytes) -> _Source:
        name = topic.decode()
        publisher = publisher_of(name)
        source = _Source(publisher, name, prefix_of(topic), self._sequences[publisher])
        self.tally.events.setdefault(publisher, 0)
        self.tally.lost.setdefault(publisher, 0)
        self._sources[topic] = source
        return source

    def _header(self, number: int) -> bytes:
        try:
            config = self._run_dir.describe()["venues"]
        except (NotRunningError, UnknownStateError, KeyError):
            config = {}
        return encode_header(
            Header(
                version=self._version,
                recording=self._recording,
                file=number,
                created_wall_ns=time.time_ns(),
                created_mono_ns=time.monotonic_ns(),
                run_dir=str(self._run_dir.path),
                config={name: of for name, of in config.items() if name in self._venues},
            )
        )

    def _look(self) -> None:
        """Twice a second: what was written leaves, and a file that was begun gets the books as they stand."""
        for file in self._files():
            file.flush()
        self.tally.files = sum(file.number for file in self._files())
        self.tally.size = sum(file.size for file in self._files())
        if self._events.number > self._asked_in:
            self._asked_in = self._events.number
            for source in self._sources.values():
                if Topic.parse(source.name).channel in _STATE_CHANNELS:
                    self._socket.subscribe(source.name)
                    self._socket.unsubscribe(source.name)

    def _files(self) -> list[RotatingFile]:
        return [self._events, *self._raw.values()]

    # --- raw frames -------------------------------------------------------------------------------------------------

    def _open_raw(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, _RAW_HWM), (zmq.RECONNECT_IVL, _RECONNECT_MS)):
            socket.setsockopt(option, value)
        socket.subscribe("raw.")
        for venue in self._venues:
            socket.connect(self._run_dir.raw(venue))
            name, header = f"raw-{venue}-{self._recording}", partial(self._raw_header, venue)
            self._raw[venue] = RotatingFile(self._out / venue, name, header, self._limits)
        return socket

    def _raw_header(self, venue: str, _number: int) -> bytes:
        return self._raw_headers.get(venue) or encode_line(RawHeader(venue=venue, version=self._version))

    def _take_raw(self, parts: list[bytes]) -> None:
        """A worker tells its header to whoever joins, and whenever its sessions are others; a file begins with it."""
        topic, line = parts
        venue = topic.decode().removeprefix("raw.")
        file = self._raw.get(venue)
        if file is None:
            self.tally.malformed += 1
            return
        if line.startswith(_RAW_HEADER):
            is_known = self._raw_headers.get(venue) == line
            self._raw_headers[venue] = line
            if is_known or not file.is_open:
                return
        else:
            self.tally.raw[venue] = self.tally.raw.get(venue, 0) + 1
        file.write(line)
