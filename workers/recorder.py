"""Frame recorder: keeps the latest frames of a worker's public sessions and sends them to raw subscribers.

Every frame goes into the black box (:mod:`ipc.ring`), and to the raw endpoint while it has subscribers. Both start in
the middle of a stream, so they receive the current books: when a subscriber joins, and when a half of the black box is
overwritten. After a failure the black box is saved under its reason a moment later, so that it shows the aftermath.
Account sessions are never recorded, because their frames hold secrets.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.codec import encode
from ipc.events import BookSnapshot
from ipc.health import Reason
from ipc.lines import venue_of
from ipc.listening import ListeningSocket
from ipc.log import get_log
from ipc.raw import RawHeader, RawKind, encode_line, make
from ipc.ring import BINARY, KINDS, Ring
from ipc.rundir import RunDir, replace_file
from ipc.watched_files import WatchedFiles
from workers.net.frames import BINARY as BINARY_FRAME
from workers.venues.listing import Listing

log = get_log(__name__)

#: File name extension of a saved black box.
SUFFIX: Final = ".blackbox"
_NS: Final = 1_000_000_000
_OPEN, _IN, _OUT, _REST, _CLOSE, _BOOK = range(len(KINDS))
#: The books at the start of a half of the black box take at most half of it.
_BOOKS_SHARE: Final = 2
#: Delay between a failure and the dump.
_AFTERMATH_NS: Final = _NS
#: Least time between two dumps.
_PAUSE_NS: Final = 10 * _NS
#: Raw records carry no sequence number, so the queue is long enough for a slow subscriber.
_SEND_HWM: Final = 10_000
#: Subscriptions that are handled in one turn.
_SUBSCRIPTIONS: Final = 256
_PLANNED: Final = frozenset({Reason.REQUESTED, Reason.CONFIG_CHANGED, Reason.DRILL, Reason.ROTATION})


class FrameRecorder:
    """Recorder of one worker. Recording requires the publisher's lock; everything else belongs to the main thread.

    The ring has ``size`` bytes, 0 for none; ``directory`` takes at most ``keep`` dumps, None for none.
    """

    def __init__(
        self,
        process: str,
        run_dir: RunDir,
        directory: Path | None,
        size: int,
        keep: int,
        context: zmq.Context[Any],
        version: str = "",
    ) -> None:
        self._process = process
        self._topic = f"raw.{venue_of(process)}".encode()
        self._directory = directory
        self._keep = keep
        self._header = RawHeader(venue=venue_of(process), version=version)
        self._sessions: list[str] = []
        self._ring = _make_ring(run_dir.ring(process), size)
        #: Reason and due time of the next dump.
        self._scheduled: tuple[Reason, int] | None = None
        self._saved_ns = -_PAUSE_NS
        self._subscribers = 0
        #: Whether a subscriber joined and needs the current books.
        self._has_joined = False
        #: Bytes left in the black box for the current books.
        self._room = 0
        #: Number of halves of the ring that were overwritten when it was last checked.
        self._turns = 0
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
        self.listening = ListeningSocket(self._socket, run_dir.raw(process))

    def describe(self, sessions: Sequence[str], listings: Sequence[Listing], options: dict[str, str]) -> None:
        """Set the names of sessions, the markets and the options, and publish them."""
        self._sessions = list(sessions)
        self._header = msgspec.structs.replace(
            self._header,
            sessions=self._sessions,
            options=options,
            listings=[msgspec.to_builtins(listing) for listing in listings],
        )
        self._send_header()

    def frame(self, session: int, opcode: int, payload: memoryview | bytes, mono_ns: int, wall_ns: int) -> None:
        """Record a received frame."""
        is_binary = opcode == BINARY_FRAME
        if self._ring is not None:
            self._ring.put(_IN | BINARY if is_binary else _IN, session, mono_ns, wall_ns, payload)
        if self._subscribers:
            self._send_record("in", session, mono_ns, wall_ns, bytes(payload), is_binary=is_binary)

    def opened(self, session: int, url: str) -> None:
        """Record that a connection is open."""
        self._put(_OPEN, session, url.encode())

    def sent(self, session: int, message: bytes) -> None:
        """Record a sent message."""
        self._put(_OUT, session, message)

    def answered(self, session: int, symbol: str, purpose: str, reason: Reason | None, body: bytes) -> None:
        """Record an answer of REST, or why there is none."""
        note = f"{symbol} {purpose} {reason or ''}".strip()
        self._put(_REST, session, body, note, symbol=symbol, purpose=purpose, reason=reason)

    def closed(self, session: int, reason: Reason) -> None:
        """Record that a connection is closed."""
        self._put(_CLOSE, session, reason.encode())

    def _put(self, kind: int, session: int, payload: bytes, note: str = "", **more: str | None) -> None:
        mono_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if self._ring is not None:
            self._ring.put(kind, session, mono_ns, wall_ns, payload, note.encode())
        if self._subscribers:
            self._send_record(KINDS[kind], session, mono_ns, wall_ns, payload, **more)  # type: ignore[arg-type]

    def _send_record(
        self,
        kind: RawKind,
        session: int,
        mono_ns: int,
        wall_ns: int,
        payload: bytes,
        *,
        is_binary: bool = False,
        **more: str | None,
    ) -> None:
        record = make(kind, self._name(session), mono_ns, wall_ns, payload, is_binary=is_binary, **more)
        self._send(encode_line(record))

    def needs_books(self) -> bool:
        """Handle subscriptions; return whether to record the current books before the lock is released."""
        self._has_joined = False
        with contextlib.suppress(zmq.Again):
            for _ in range(_SUBSCRIPTIONS):  # the rest waits for the next turn: the feed waits for this one
                message = self._socket.recv(zmq.DONTWAIT)
                is_joining = message[:1] == b"\x01"
                self._subscribers = max(0, self._subscribers + (1 if is_joining else -1))
                self._has_joined = self._has_joined or is_joining
        if self._has_joined:
            self._send_header()
        ring = self._ring
        has_turned = ring is not None and ring.turns != self._turns
        if ring is not None and has_turned:
            self._turns, self._room = ring.turns, ring.half // _BOOKS_SHARE
        return self._has_joined or has_turned

    def book(self, session: int, book: BookSnapshot, mono_ns: int, wall_ns: int) -> None:
        """Record a current book with the times of its last frame; leave it out if the black box has no room."""
        payload = encode(book)
        if self._ring is not None and len(payload) <= self._room:
            self._room -= len(payload)
            self._ring.put(_BOOK, session, mono_ns, wall_ns, payload)
        if self._has_joined:
            self._send_record("book", session, mono_ns, wall_ns, payload)

    def schedule_dump(self, reason: Reason) -> None:
        """Save the black box after a failure: a moment later, or when the last dump is old enough."""
        if self._scheduled is None and reason not in _PLANNED:
            self._scheduled = (reason, max(time.monotonic_ns() + _AFTERMATH_NS, self._saved_ns + _PAUSE_NS))

    def due_dump(self, now_ns: int) -> tuple[Reason, bytes] | None:
        """Return reason and content of the black box when its dump is due."""
        if self._scheduled is None or self._ring is None or now_ns < self._scheduled[1]:
            return None
        (reason, _), self._scheduled = self._scheduled, None
        if self._directory is None:
            return None
        self._saved_ns = now_ns
        return reason, self._ring.snapshot()

    def save_dump(self, reason: Reason, ring: bytes) -> None:
        """Write a dump without holding the lock; log when the disk refuses it."""
        if self._directory is not None:
            _save(self._process, self._directory, self._header, reason, ring, self._keep)

    def close(self) -> None:
        """Close the raw endpoint; the ring stays for the next worker."""
        self.listening.close()

    def watch_files(
        self, files: WatchedFiles, run_dir: RunDir, exclusive: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Watch the raw endpoint and the black box; both are restored with the publisher's lock."""

        def restore(action: Callable[[], None]) -> None:
            with exclusive():
                action()

        listening, ring = self.listening, self._ring
        if listening.path is not None:
            files.add(listening.path, partial(restore, listening.bind), lambda: listening.is_intact)
        if ring is not None:
            files.add(run_dir.ring(self._process), partial(restore, ring.restore), lambda: ring.is_intact)

    def _send_header(self) -> None:
        if self._subscribers:
            self._send(encode_line(self._header))

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart((self._topic, line), zmq.DONTWAIT)

    def _name(self, session: int) -> str:
        return self._sessions[session] if session < len(self._sessions) else str(session)


def save_left_behind(process: str, run_dir: RunDir, directory: Path | None, reason: Reason | None, keep: int) -> None:
    """Save the ring of a worker that died unexpectedly, before its successor creates another."""
    path = run_dir.ring(process)
    if directory is None or reason is None or reason in _PLANNED or not path.exists():
        return
    try:
        ring = path.read_bytes()
    except OSError as error:
        log.warning("blackbox.unreadable", venue=process, error=str(error))
        return
    described = run_dir.describe_worker(process)
    header = RawHeader(
        venue=venue_of(process),
        sessions=described.get("sessions", []),
        options=described.get("options", {}),
        listings=described.get("listings", []),
    )
    _save(process, directory, header, reason, ring, keep)


def _make_ring(path: Path, size: int) -> Ring | None:
    if not size:
        return None
    try:
        return Ring(path, size)
    except OSError as error:
        log.warning("blackbox.none", path=str(path), error=str(error))
        return None


def _save(process: str, directory: Path, header: RawHeader, reason: Reason, ring: bytes, keep: int) -> None:
    """Write a header line and the ring into one file; delete the oldest files beyond ``keep``."""
    wall_ns = time.time_ns()
    header = msgspec.structs.replace(header, reason=str(reason), created_wall_ns=wall_ns)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_ns // _NS))
    path = directory / f"{process}-{stamp}.{wall_ns // 1_000_000 % 1000:03d}Z-{reason}{SUFFIX}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, encode_line(header) + ring)
        for old in sorted(directory.glob(f"{process}-*{SUFFIX}"))[:-keep]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("blackbox.not_saved", venue=process, reason=reason, error=str(error))
        return
    log.info("blackbox.saved", venue=process, reason=reason, path=str(path))
