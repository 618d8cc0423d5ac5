"""Black box: the last raw records of a worker in a mapped file of fixed size, which survives a crash.

Two halves are filled alternately; when one is full the other is emptied, so at least half of the space holds the latest
records. None of them is torn: a record is valid once the fill of its half includes it, which is one aligned store. One
thread at a time writes (a worker does so with exclusive access to its publisher).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ipc.errors import DecodeError
from ipc.watched_files import identity_of

_MAGIC: Final = int.from_bytes(b"paraphrg", "little")
#: Words of the header: magic, bytes of one half, half in use, fill of the first, fill of the second.
_HEADER: Final = struct.Struct("<QQQQQ")
_HALF_WORD, _FILL_WORD = 2, 3
#: Header of a record: length of the payload, kind, session, length of the note, monotonic and wall ns.
_RECORD: Final = struct.Struct("<IBBHQQ")
KINDS: Final = ("open", "in", "out", "rest", "close", "book")
#: Added to a kind's number: the payload is binary.
BINARY: Final = 0x80


class Entry(NamedTuple):
    """Record of a ring; ``note`` is ``symbol purpose reason`` of a REST response."""

    kind: str
    is_binary: bool
    session: int
    note: str
    mono_ns: int
    wall_ns: int
    payload: bytes


class Ring:
    """Writer of a black box of ``size`` bytes, in place of an older file; raise OSError without space.

    ``half`` is the size of one half, ``turns`` counts the switches between them.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.half = max(size // 2, 65_536)
        self.turns = 0
        self._path = path
        self._active = 0
        self._fill = 0
        self._create(_HEADER.pack(_MAGIC, self.half, 0, 0, 0))

    def _create(self, content: bytes) -> None:
        """Map a new file that begins with ``content``, and rename it into place."""
        total = _HEADER.size + 2 * self.half
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, total)
            mapped = mmap.mmap(file, total)
            mapped[: len(content)] = content
            temporary.rename(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._map = mapped
        self._bytes = memoryview(mapped)
        self._words = self._bytes[: _HEADER.size].cast("Q")
        self._identity = identity_of(self._path)

    @property
    def is_intact(self) -> bool:
        """True while the path names this black box."""
        return identity_of(self._path) == self._identity

    def restore(self) -> None:
        """Create a file that was removed again, with its content; only for the thread that writes."""
        lost = self._words, self._bytes, self._map
        self._create(self.snapshot())
        for one in lost[:2]:
            one.release()
        lost[2].close()

    def put(
        self, kind: int, session: int, mono_ns: int, wall_ns: int, payload: bytes | memoryview, note: bytes = b""
    ) -> None:
        """Append a record; ``kind`` is its index in :data:`KINDS`, plus :data:`BINARY`. Long payloads are truncated."""
        length, noted = len(payload), len(note)
        needed = _RECORD.size + noted + length
        if needed > self.half:
            length = self.half - _RECORD.size - noted
            payload, needed = payload[:length], self.half
        if self._fill + needed > self.half:
            self._turn_over()
        at = _HEADER.size + self._active * self.half + self._fill
        _RECORD.pack_into(self._map, at, length, kind, session, noted, mono_ns, wall_ns)
        at += _RECORD.size
        if noted:
            self._bytes[at : at + noted] = note
            at += noted
        self._bytes[at : at + length] = payload
        self._fill += needed
        self._words[_FILL_WORD + self._active] = self._fill

    def snapshot(self) -> bytes:
        """Return the content of the file."""
        return bytes(self._bytes)

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
        self._bytes.release()
        self._map.close()

    def _turn_over(self) -> None:
        """Switch to the other half: first empty it, then make it the one in use."""
        self.turns += 1
        self._active = 1 - self._active
        self._fill = 0
        self._words[_FILL_WORD + self._active] = 0
        self._words[_HALF_WORD] = self._active


def read_ring(data: bytes) -> Iterator[Entry]:
    """Yield the records of a black box, oldest first; raise DecodeError if it is not one."""
    if len(data) < _HEADER.size:
        raise DecodeError("not a black box: too short")
    magic, half, active, *fills = _HEADER.unpack_from(data)
    if magic != _MAGIC or active > 1 or len(data) != _HEADER.size + 2 * half or max(fills) > half:
        raise DecodeError("not a black box")
    for which in (1 - active, active):
        start = _HEADER.size + which * half
        yield from _read_half(data, start, start + fills[which])


def _read_half(data: bytes, at: int, end: int) -> Iterator[Entry]:
    while at + _RECORD.size <= end:
        length, kind, session, noted, mono_ns, wall_ns = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        note = data[at : at + noted].decode("utf-8", "replace")
        at += noted
        if at + length > end or (kind & ~BINARY) >= len(KINDS):
            raise DecodeError("incomplete black box")
        payload = data[at : at + length]
        at += length
        yield Entry(KINDS[kind & ~BINARY], bool(kind & BINARY), session, note, mono_ns, wall_ns, payload)
