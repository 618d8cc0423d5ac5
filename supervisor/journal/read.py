"""Discovery of recordings, and reading up to their last complete line."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.errors import DecodeError, UsageError
from ipc.raw import RawHeader, decode_line
from supervisor.journal.format import SUFFIX, Header, decode_header

_BUFFER: Final = 1024 * 1024
_END: Final = ord("\n")
#: First bytes of files of gzip, zstd, xz and bzip2.
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh")


@dataclass(frozen=True, slots=True)
class EventFile:
    """File of events; ``header`` is None when its first line is not a header."""

    path: Path
    size: int
    header: Header | None


@dataclass(frozen=True, slots=True)
class RawFile:
    """File of raw frames; ``header`` is None when its first line is not a header."""

    path: Path
    size: int
    header: RawHeader | None


class Lines:
    """Complete lines of a file, as bytes; each iteration restarts at the beginning.

    ``number`` is that of the last line yielded. ``torn``, after the last one, is the size of an incomplete line, as
    a killed writer leaves it.
    """

    def __init__(self, path: Path) -> None:
        self.number = 0
        self.torn = 0
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        self.number = self.torn = 0
        with self._path.open("rb", buffering=_BUFFER) as file:
            for line in file:
                if line[-1] != _END:
                    self.torn = len(line)
                    return
                self.number += 1
                yield line


def find(path: Path) -> list[EventFile | RawFile]:
    """Find the recordings at a path or below a directory: events first, in the order written.

    Raises:
        UsageError: There is no recording, or the file is something else.
    """
    paths = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    try:
        found = [file for file in map(_identify, paths) if file is not None]
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=error.filename or str(path)) from error
    if not found:
        what = "no recording in it" if path.is_dir() else "neither a journal nor a raw recording"
        raise UsageError(what, where=str(path), advice="make one with: paraphina-supervisor record --out DIR")
    return sorted(found, key=_order)


def _identify(path: Path) -> EventFile | RawFile | None:
    """Identify a file by its first line, or by its name when that is damaged; return None for other files.

    Raises:
        UsageError: It is a recording that this program cannot read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UsageError("not a regular file", where=str(path))
    size = found.st_size
    with path.open("rb") as file:
        line = file.readline(_BUFFER)
    if line.startswith(_COMPRESSED):
        raise UsageError("compressed", where=str(path), advice="decompress it first")
    try:
        header = decode_header(line)
    except DecodeError as error:
        raise UsageError(error.what, where=str(path)) from error
    if header is not None or path.name.startswith("events-"):
        return EventFile(path, size, header)
    try:
        first = decode_line(line)
    except DecodeError:
        return RawFile(path, size, None) if path.name.startswith("raw-") else None
    return RawFile(path, size, first if isinstance(first, RawHeader) else None)


def _order(file: EventFile | RawFile) -> tuple[bool, str, str, str]:
    if isinstance(file, RawFile):
        return (True, file.header.venue if file.header else "", "", str(file.path))
    header = file.header
    return (False, header.recording if header else "", f"{header.file:09d}" if header else "", str(file.path))
