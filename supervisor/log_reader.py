"""Reader of a log file that is rotated, truncated, replaced or removed while it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from ipc.printable import printable_json

_CHUNK: Final = 64 * 1024
#: Length at which a line without an end is shown as it is, bytes.
_LONGEST: Final = 256 * 1024


class LogReader:
    """Lines of a log file, as far as they are complete; ``path`` is the file's.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._rest = b""

    @property
    def is_removed(self) -> bool:
        """True while there is no file of this name; the removed one is read on."""
        return not self.path.exists()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def lines(self) -> Iterator[str]:
        """Yield the lines that were completed since the last call, of the file that has replaced it as well."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            yield from self.unfinished()
            self._file.seek(0)
        yield from self._read()
        if self._is_replaced():
            yield from self.unfinished()
            self._file.close()
            self._file = self.path.open("rb")
            yield from self._read()

    def unfinished(self) -> Iterator[str]:
        """Yield the line that has no end yet, if there is one; what is written next begins another."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest.decode("utf-8", "replace")

    def _read(self) -> Iterator[str]:
        while chunk := self._file.read(_CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
            if len(self._rest) > _LONGEST:
                yield from self.unfinished()

    def _is_replaced(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        return not os.path.samestat(found, os.fstat(self._file.fileno()))


def json_line(line: str) -> str:
    """Return a line as one JSON object: itself, or the text of a line that is something else, such as a stack dump."""
    try:
        value = json.loads(line, parse_constant=_reject)
        if isinstance(value, dict):
            return line if line.isprintable() else printable_json(json.dumps(value, allow_nan=False))
    except (ValueError, RecursionError):
        pass
    return printable_json(json.dumps({"event": "log.text", "text": line}))


def _reject(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
