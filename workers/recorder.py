"""The tape: every frame of a worker's public sessions, kept for a while and told to whoever records.

Into the black box (:mod:`ipc.ring`) goes everything, always; onto the raw endpoint only while somebody listens. Both
begin in the middle of a conversation, so they are told the books as they stand: when somebody joins, and when a half of
the black box is begun anew. When something went wrong, the black box is saved under its reason a moment later, so that
what followed is on it as well.
Account sessions have no tape: what is secret is never kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.codec import encode
from ipc.events import BookSnapshot
from ipc.health import Reason
from ipc.log import get_log
from ipc.raw import RawHeader, RawKind, encode_line, make
from ipc.ring import BINARY, KINDS, Ring
from ipc.rundir import RunDir, replace_file
from workers.net.frames import BINARY as BINARY_FRAME
from workers.venues.venue import Listing

__all__ = ["SUFFIX", "FrameRecorder", "save_left_behind"]

log = get_log(__name__)

#: Ending of a saved black box.
SUFFIX: Final = ".blackbox"
_NS: Final = 1_000_000_000
_OPEN, _IN, _OUT, _REST, _CLOSE, _BOOK = range(len(KINDS))
#: Of a half of the black box, for the books that it begins with.
_BOOKS_SHARE: Final = 2
#: After something went wrong, before the black box is saved.
_AFTERMATH_NS: Final = _NS
#: Between two savings.
_PAUSE_NS: Final = 10 * _NS
#: Raw records are not numbered, so none should be lost: room for what a recorder takes its time for.
_SEND_HWM: Final = 10_000
_NOT_WORTH_KEEPING: Final = frozenset({Reason.REQUESTED, Reason.CONFIG_CHANGED, Reason.DRILL, Reason.ROTATION})


class FrameRecorder:
    """One worker's tape. Records are added within a turn of the publisher; the rest is the main thread's.

    Args:
        venue: Whose frames these are.
        run_dir: Where the ring and the raw endpoint are.
        directory: Where black boxes are saved; None saves none.
        size: Bytes of the ring; 0 keeps none.
        keep: How many saved black boxes stay.
        context: The worker's ZeroMQ context.
        version: The program's, for the headers.
    """

    def __init__(
        self,
        venue: str,
        run_dir: RunDir,
        directory: Path | None,
        size: int,
        keep: int,
        context: zmq.Context[Any],
        version: str = "",
    ) -> None:
        self._venue = venue
        self._directory = directory
        self._keep = keep
        self._header = RawHeader(venue=venue, version=version)
        self._sessions: list[str] = []
        self._ring = _make_ring(run_dir.ring(venue), size)
        self._wanted: tuple[Reason, int] | None = None
        self._saved_ns = -_PAUSE_NS
        self._listeners = 0
        #: What the books of this moment are told for: somebody joined; there is so much room in the black box.
        self._is_joined = False
        self._room = 0
        self._turns = 0
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
        self._socket.bind(run_dir.raw(venue))

    def describe(self, sessions: Sequence[str], listings: Sequence[Listing], options: dict[str, str]) -> None:
        """These are the sessions and the markets from now on."""
        self._sessions = list(sessions)
        self._header = msgspec.structs.replace(
            self._header,
            sessions=self._sessions,
            options=options,
            listings=[msgspec.to_builtins(listing) for listing in listings],
        )
        self._tell_header()

    # --- records, within a turn ---------------------------------------------------------------------------------------

    def frame(self, session: int, opcode: int, payload: memoryview | bytes, mono_ns: int, wall_ns: int) -> None:
        """A frame came."""
        is_binary = opcode == BINARY_FRAME
        if self._ring is not None:
            self._ring.put(_IN | BINARY if is_binary else _IN, session, mono_ns, wall_ns, payload)
        if self._listeners:
            self._tell("in", session, mono_ns, wall_ns, bytes(payload), is_binary=is_binary)

    def opened(self, session: int, url: str) -> None:
        """A connection is open."""
        self._put(_OPEN, session, url.encode())

    def sent(self, session: int, message: bytes) -> None:
        """A message went out."""
        self._put(_OUT, session, message)

    def answered(self, session: int, symbol: str, purpose: str, reason: Reason | None, body: bytes) -> None:
        """REST answered, or why it did not."""
        note = f"{symbol} {purpose} {reason or ''}".strip()
        self._put(_REST, session, body, note, symbol=symbol, purpose=purpose, reason=reason)

    def closed(self, session: int, reason: Reason) -> None:
        """A connection is gone."""
        self._put(_CLOSE, session, reason.encode())

    def _put(self, kind: int, session: int, payload: bytes, note: str = "", **more: str | None) -> None:
        mono_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if self._ring is not None:
            self._ring.put(kind, session, mono_ns, wall_ns, payload, note.encode())
        if self._listeners:
            self._tell(KINDS[kind], session, mono_ns, wall_ns, payload, **more)  # type: ignore[arg-type]

    def _tell(
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

    # --- the main thread, within a turn -----------------------------------------------------------------------------

    def look(self) -> bool:
        """See whether anybody listens; whether the books as they stand are to be told now, within this turn."""
        self._is_joined = False
        with contextlib.suppress(zmq.Again):
            while True:
                message = self._socket.recv(zmq.DONTWAIT)
                joins = message[:1] == b"\x01"
                self._listeners = max(0, self._listeners + (1 if joins else -1))
                if joins:
                    self._is_joined = True
                    self._tell_header()
        ring = self._ring
        has_turned = ring is not None and ring.turns != self._turns
        if ring is not None and has_turned:
            self._turns, self._room = ring.turns, ring.half // _BOOKS_SHARE
        return self._is_joined or has_turned

    def book(self, session: int, book: BookSnapshot, mono_ns: int, wall_ns: int) -> None:
        """A book as it stands behind the frame that was read at that time; what there is no room for is left out."""
        payload = encode(book)
        if self._ring is not None and len(payload) <= self._room:
            self._room -= len(payload)
            self._ring.put(_BOOK, session, mono_ns, wall_ns, payload)
        if self._is_joined:
            self._tell("book", session, mono_ns, wall_ns, payload)

    def want(self, reason: Reason) -> None:
        """Something went wrong: the black box is to be saved, later when one was saved just now."""
        if self._wanted is None and reason not in _NOT_WORTH_KEEPING:
            self._wanted = (reason, max(time.monotonic_ns() + _AFTERMATH_NS, self._saved_ns + _PAUSE_NS))

    def due(self, now_ns: int) -> tuple[Reason, bytes] | None:
        """The black box, when it is time to save it."""
        if self._wanted is None or self._ring is None or now_ns < self._wanted[1]:
            return None
        (reason, _), self._wanted = self._wanted, None
        if self._directory is None:
            return None
        self._saved_ns = now_ns
        return reason, self._ring.snapshot()

    def save(self, reason: Reason, ring: bytes) -> None:
        """Write a black box; not within a turn. A full disk costs the box and nothing else."""
        if self._directory is not None:
            _save(self._directory, self._header, reason, ring, self._keep)

    def close(self) -> None:
        """End the raw endpoint; the ring stays for whoever comes after."""
        self._socket.close()

    def _tell_header(self) -> None:
        if self._listeners:
            self._send(encode_line(self._header))

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart((f"raw.{self._venue}".encode(), line), zmq.DONTWAIT)

    def _name(self, session: int) -> str:
        return self._sessions[session] if session < len(self._sessions) else str(session)


def save_left_behind(venue: str, run_dir: RunDir, directory: Path | None, reason: Reason | None, keep: int) -> None:
    """Save the ring that a dead worker left, unless its death was planned; before the next one makes its own."""
    path = run_dir.ring(venue)
    if directory is None or reason is None or reason in _NOT_WORTH_KEEPING or not path.exists():
        return
    try:
        ring = path.read_bytes()
    except OSError as error:
        log.warning("blackbox.unreadable", venue=venue, error=str(error))
        return
    described = run_dir.describe_worker(venue)
    header = RawHeader(
        venue=venue,
        sessions=described.get("sessions", []),
        options=described.get("options", {}),
        listings=described.get("listings", []),
    )
    _save(directory, header, reason, ring, keep)


def _make_ring(path: Path, size: int) -> Ring | None:
    if not size:
        return None
    try:
        return Ring(path, size)
    except OSError as error:
        log.warning("blackbox.none", path=str(path), error=str(error))
        return None


def _save(directory: Path, header: RawHeader, reason: Reason, ring: bytes, keep: int) -> None:
    """One file: a header line, then the ring as it was; the oldest beyond ``keep`` go."""
    wall_ns = time.time_ns()
    header = msgspec.structs.replace(header, reason=str(reason), created_wall_ns=wall_ns)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_ns // _NS))
    path = directory / f"{header.venue}-{stamp}.{wall_ns // 1_000_000 % 1000:03d}Z-{reason}{SUFFIX}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, encode_line(header) + ring)
        for old in sorted(directory.glob(f"{header.venue}-*{SUFFIX}"))[:-keep]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("blackbox.not_saved", venue=header.venue, reason=reason, error=str(error))
        return
    log.info("blackbox.saved", venue=header.venue, reason=reason, path=str(path))
