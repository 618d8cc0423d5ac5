"""Line files with rotation by size and age; at most the last line can be incomplete.

Guarantees of a recording: lines are flushed within a second, a killed writer loses at most the end of one line, and a
full disk ends the recording with one error and files that end with a complete line. A file is locked until the next one
is, so that a reader can tell a recording that goes on from one whose writer is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.errors import ParaphinaError
from supervisor.journal.format import SUFFIX

#: Block size of writes; :meth:`RotatingFile.flush` writes smaller blocks.
_BLOCK: Final = 256 * 1024


class WriteError(ParaphinaError):
    """Failure to write a file of the recording, such as a full disk."""

    def __init__(self, error: OSError, path: Path) -> None:
        super().__init__(
            f"the recording ends: {error.strerror}",
            where=str(path),
            advice="make room or record elsewhere; what was recorded until now is kept",
        )


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Size and age at which a new file is started."""

    max_bytes: int = 256 * 1024 * 1024
    max_age_s: float = 3600.0


def is_being_written(path: Path) -> bool:
    """Return whether a recorder is at work on the file, or will go on after it."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class RotatingFile:
    """Writer of lines into numbered files ``<directory>/<name>-<number>.jsonl``.

    Args:
        directory: Target directory; created with the first line.
        name: Prefix of file names.
        header: Returns the first line of the file with a number.
        limits: When to start the next file.
        clock: Monotonic, s.

    ``number`` is the current file's number, 0 before the first line; ``size`` counts the bytes of all files;
    ``written`` lists the lines of each complete file, without its header.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        header: Callable[[int], bytes],
        limits: JournalLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = 0
        self.size = 0
        self.written: list[int] = []
        self.path = directory / f"{name}{SUFFIX}"
        self._directory = directory
        self._name = name
        self._header = header
        self._limits = limits
        self._clock = clock
        self._file: int | None = None
        self._locked: int | None = None
        self._count = 0
        self._file_size = 0
        self._begun = 0.0
        self._lines: list[bytes] = []
        self._waiting = 0

    @property
    def is_open(self) -> bool:
        """True while a file is open; the next line opens one otherwise."""
        return self._file is not None

    def write(self, line: bytes) -> None:
        """Add a line.

        Raises:
            WriteError: The file cannot be written; no more lines can be added.
        """
        if self._file is None:
            self._begin()
        self._lines.append(line)
        self._count += 1
        self._waiting += len(line)
        if self._waiting >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Flush buffered lines, and close the file when it is large or old.

        Raises:
            WriteError: As in :meth:`write`.
        """
        if self._file is None:
            return
        if self._lines:
            block, self._lines, self._waiting = b"".join(self._lines), [], 0
            self._write(self._file, block)
        is_old = self._clock() - self._begun >= self._limits.max_age_s
        if self._file_size >= self._limits.max_bytes or is_old:
            self._end()
            self.written.append(self._count)

    def close(self) -> None:
        """Flush and close the file.

        Raises:
            WriteError: As in :meth:`write`.
        """
        try:
            self.flush()
            if self._file is not None:
                self.written.append(self._count)
        finally:
            self._end()
            self._unlock()

    def _begin(self) -> None:
        self.number += 1
        self.path = self._directory / f"{self._name}-{self.number:06d}{SUFFIX}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WriteError(error, self.path) from error
        self._unlock()
        self._file_size = self._count = 0
        self._begun = self._clock()
        self._lines = [self._header(self.number)]
        self._waiting = len(self._lines[0])

    def _write(self, file: int, block: bytes) -> None:
        """Write a block; on a full disk keep as many complete lines as fit, then raise."""
        done = 0
        try:
            while done < len(block):
                done += os.write(file, memoryview(block)[done:])
        except OSError as error:
            whole = block.rfind(b"\n", 0, done) + 1
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._file_size + whole)
            raise WriteError(error, self.path) from error
        self._file_size += done
        self.size += done

    def _end(self) -> None:
        if self._file is not None:
            self._unlock()
            self._locked, self._file = self._file, None

    def _unlock(self) -> None:
        file, self._locked = self._locked, None
        if file is not None:
            os.close(file)
