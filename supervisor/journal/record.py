"""Recorder of a running system: all events of its feeds, and raw frames on request.

The recorder is an ordinary consumer: a full or slow disk, or its death, does not affect the feeds. It may start before
the system, and continues when workers or the whole system restart. The venues are those of the system, also when a
reload adds one (:mod:`supervisor.journal.coverage`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.consumer_names import name_of
from ipc.errors import NotRunningError, UnknownStateError
from ipc.feed import Subscription
from ipc.feed_state import LIFECYCLE
from ipc.raw import RawHeader, encode_line
from ipc.rundir import RunDir
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import CHANNELS, Topic
from supervisor.journal.coverage import Summary, SystemWatch, summary_path
from supervisor.journal.format import Header, Stamps, encode_header, prefix_of, publisher_of, stamp_of
from supervisor.journal.write import JournalLimits, RotatingFile, WriteError

#: Messages are read in bursts: waking up for each one costs three times as much.
_NAP_S: Final = 0.01
_FLUSH_S: Final = 0.5
#: Messages read from one socket per round.
_BURST: Final = 20_000
#: Raw records have no sequence numbers, so losses would go unnoticed: queue for minutes.
_RAW_HWM: Final = 200_000
_RECONNECT_MS: Final = 10
#: Channels with a current value; a new file starts with the latest of each.
_STATE_CHANNELS: Final = frozenset({"book", "book20", "mark", "funding", "instrument"})
_RAW_HEADER: Final = b'{"raw":"header"'


@dataclass(slots=True)
class Tally:
    """Counts of a recording so far.

    Attributes:
        events: Events by venue; the gateway's as ``lifecycle``.
        lost: Missing events, by the same keys.
        raw: Raw records by venue.
        malformed: Messages that are not events.
        left_out: Venues that the system ran and that were not recorded, because others were requested.
        silent: Venues that were to be recorded and of which nothing came.
        files: Files created; ``size``: their bytes.
    """

    events: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    raw: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    left_out: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0


@dataclass(slots=True)
class _Source:
    """Topic with its line prefix and its publisher."""

    publisher: str
    name: str
    prefix: bytes
    sequence: PublisherSequence


class JournalRecorder:
    """Recorder of one system; call :meth:`run`, then :meth:`close`.

    Args:
        run_dir: The system's directory.
        out: Target directory; raw files go to ``<out>/<venue>``, which is then a fixture directory.
        venues: Venues to record; None for all that the system runs.
        raw: Whether to record raw frames as well.
        limits: Size and age at which a file is closed.
        version: Program version, for the headers.
    """

    def __init__(
        self,
        run_dir: RunDir,
        out: Path,
        *,
        venues: Sequence[str] | None = None,
        raw: bool = False,
        limits: JournalLimits | None = None,
        version: str = "",
    ) -> None:
        self.tally = Tally()
        self._run_dir = run_dir
        self._out = out
        self._watch = SystemWatch(run_dir, venues)
        self._version = version
        self._limits = limits or JournalLimits()
        self._recording = stamp_of(time.time_ns())
        self._events = RotatingFile(out, f"events-{self._recording}", self._header, self._limits)
        self._summary = b""
        self._has_ended = False
        self._asked_in = 1
        self._sequences = {LIFECYCLE: PublisherSequence()}
        self._sources: dict[bytes, _Source] = {}
        self._raw: dict[str, RotatingFile] = {}
        self._raw_headers: dict[str, bytes] = {}
        self._stamps = msgspec.json.Decoder(Stamps)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        Subscription(run_dir.path, (), CHANNELS, None, name=name_of("record")).open(self._socket)
        self._raw_socket = self._open_raw() if raw else None
        self._add_venues()

    def run(self, duration_s: float | None, stop: Callable[[], bool], progress: Callable[[Tally], None]) -> None:
        """Record for a duration (None: unlimited) or until ``stop()`` returns true.

        Raises:
            WriteError: A file cannot be written; the recording ends.
        """
        began = time.monotonic()
        due = began + _FLUSH_S
        while not stop() and (duration_s is None or time.monotonic() - began < duration_s):
            if self._watch.has_changed():
                self._add_venues()
            self._drain()
            if time.monotonic() >= due:
                due = time.monotonic() + _FLUSH_S
                self._flush()
                progress(self.tally)
            time.sleep(_NAP_S)
        self._drain()
        self._flush()
        progress(self.tally)
        self._has_ended = True

    def close(self) -> None:
        """Unsubscribe and close the files.

        Raises:
            WriteError: The end of a file cannot be written; the other files are closed anyway.
        """
        for socket in (self._socket, self._raw_socket):
            if socket is not None:
                socket.close(0)
        self._context.term()
        with contextlib.ExitStack() as ending:
            for file in self._files():
                ending.callback(file.close)
        if self._has_ended:
            self._write_summary(time.time_ns())

    def _add_venues(self) -> None:
        """Connect to the feeds of venues that were not there before."""
        for venue in self._watch.find_new():
            self._sequences[venue] = PublisherSequence()
            self._socket.connect(self._run_dir.feed(venue))
            if self._raw_socket is not None:
                self._raw_socket.connect(self._run_dir.raw(venue))
                name, header = f"raw-{venue}-{self._recording}", partial(self._raw_header, venue)
                self._raw[venue] = RotatingFile(self._out / venue, name, header, self._limits)

    def _drain(self) -> None:
        """Read all pending messages."""
        now = time.monotonic_ns()
        receive = self._socket.recv_multipart
        with contextlib.suppress(zmq.Again):
            for _ in range(_BURST):
                self._handle(receive(zmq.DONTWAIT), now)
        if self._raw_socket is not None:
            with contextlib.suppress(zmq.Again):
                for _ in range(_BURST):
                    self._handle_raw(self._raw_socket.recv_multipart(zmq.DONTWAIT))

    def _handle(self, parts: list[bytes], now: int) -> None:
        """Write a message unchanged; only its position in its topic is checked."""
        try:
            topic, payload = parts
            source = self._sources.get(topic) or self._new_source(topic)
            stamps = self._stamps.decode(payload)
        except (ValueError, KeyError, RecursionError):
            self.tally.malformed += 1
            return
        if not payload.startswith(b"{") or b"\n" in payload:
            self.tally.malformed += 1  # JSON formatted by another program might span lines
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
                config={name: of for name, of in config.items() if self._watch.wants(name)},
                coverage=self._watch.coverage,
            )
        )

    def _write_summary(self, ended_ns: int = 0) -> None:
        """Replace the summary if it has changed; there is none before the first event."""
        if not self._events.number:
            return
        summary = msgspec.json.encode(
            Summary(
                recording=self._recording,
                written=self._events.written,
                ended_ns=ended_ns,
                coverage=self._watch.coverage,
            )
        )
        if summary == self._summary:
            return
        path = summary_path(self._out, self._recording)
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(summary)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise WriteError(error, path) from error
        self._summary = summary

    def _flush(self) -> None:
        """Flush and look for venues twice a second, and request snapshots for a new file."""
        self._add_venues()
        for file in self._files():
            file.flush()
        self.tally.files = sum(file.number for file in self._files())
        self.tally.size = sum(file.size for file in self._files())
        self._note_venues()
        self._write_summary()
        if self._events.number > self._asked_in:
            self._asked_in = self._events.number
            for source in self._sources.values():
                if Topic.parse(source.name).channel in _STATE_CHANNELS:
                    self._socket.subscribe(source.name)
                    self._socket.unsubscribe(source.name)

    def _note_venues(self) -> None:
        coverage = self._watch.coverage
        self.tally.left_out = coverage.left_out()
        expected = dict.fromkeys((*coverage.venues, *((coverage.wanted or ()) if coverage.described else ())))
        self.tally.silent = [name for name in expected if self._watch.wants(name) and not self.tally.events.get(name)]

    def _files(self) -> list[RotatingFile]:
        return [self._events, *self._raw.values()]

    def _open_raw(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, _RAW_HWM), (zmq.RECONNECT_IVL, _RECONNECT_MS)):
            socket.setsockopt(option, value)
        socket.subscribe("raw.")
        return socket

    def _raw_header(self, venue: str, _number: int) -> bytes:
        return self._raw_headers.get(venue) or encode_line(RawHeader(venue=venue, version=self._version))

    def _handle_raw(self, parts: list[bytes]) -> None:
        """Write a raw record; a worker sends its header to new subscribers and when its sessions change."""
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
