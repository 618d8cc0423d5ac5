"""Files that are written in lines, begun anew when they are large or old, and whole but for the last line.

What a recording promises its readers is kept here: lines leave within a second, a killed writer costs at most the end
of one line, and a full disk ends the recording with one error and files that end with a whole line.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.errors import ParaphinaError
from supervisor.journal.format import SUFFIX

__all__ = ["JournalLimits", "RotatingFile", "WriteError"]

#: Lines are handed to the kernel in blocks of this size, or when :meth:`RotatingFile.flush` is called.
_BLOCK: Final = 256 * 1024


class WriteError(ParaphinaError):
    """A file of the recording cannot be written: the disk is full, or worse."""

    def __init__(self, error: OSError, path: Path) -> None:
        super().__init__(
            f"the recording ends: {error.strerror}",
            where=str(path),
            advice="make room or record elsewhere; what was recorded until now is kept",
        )


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """When a file is ended and the next one begun."""

    max_bytes: int = 256 * 1024 * 1024
    max_age_s: float = 3600.0


class RotatingFile:
    """Lines into ``<directory>/<name>-<number>.jsonl``, one file after the other.

    Args:
        directory: Where the files go; made with the first line.
        name: What the files are called.
        header: Gives the first line of the file with a number.
        limits: When the next file is begun.
        clock: Monotonic, s.

    ``number`` is that of the file at hand, 0 before the first line; ``size`` counts the bytes of all files.
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
        self.path = directory / f"{name}{SUFFIX}"
        self._directory = directory
        self._name = name
        self._header = header
        self._limits = limits
        self._clock = clock
        self._file: int | None = None
        self._file_size = 0
        self._begun = 0.0
        self._lines: list[bytes] = []
        self._waiting = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a file at hand; the next line begins one when there is none."""
        return self._file is not None

    def write(self, line: bytes) -> None:
        """Add a line.

        Raises:
            WriteError: The file cannot be written; nothing more can be added.
        """
        if self._file is None:
            self._begin()
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Hand what waits to the kernel, and end the file when it is large or old.

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

    def close(self) -> None:
        """Write what waits and end the file.

        Raises:
            WriteError: As in :meth:`write`.
        """
        try:
            self.flush()
        finally:
            self._end()

    def _begin(self) -> None:
        self.number += 1
        self.path = self._directory / f"{self._name}-{self.number:06d}{SUFFIX}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise WriteError(error, self.path) from error
        self._file_size = 0
        self._begun = self._clock()
        self._lines = [self._header(self.number)]
        self._waiting = len(self._lines[0])

    def _write(self, file: int, block: bytes) -> None:
        """All of a block, or as many whole lines of it as there is room for, and an error."""
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
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
