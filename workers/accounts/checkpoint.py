"""Checkpoint of published fills and payments across restarts: an append-only file in the run directory.

It is written after the events were sent, in one ``write``. A worker that is killed in between publishes those events
again after its restart: repeating a fill is harmless because its id is known; losing one is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from ipc.log import get_log
from ipc.rundir import replace_file
from workers.accounts.ledger import OnceKey

log = get_log(__name__)

#: Number of appended lines after which the file is rewritten.
_APPENDED: Final = 100_000
_lines: Final = msgspec.json.Decoder(tuple[str, str])
_CHANNELS: Final = frozenset({"fill", "payment"})


class PublishedFills:
    """Checkpoint file of one account: a JSON line ``["fill", "<id>"]`` for each fill and payment.

    A file that another process truncated, removed or wrote is rewritten. After a failed write, for instance on a full
    disk, the next one rewrites the file.
    """

    def __init__(self, path: Path, venue: str) -> None:
        self._path = path
        self._venue = venue
        #: Size after our last write, bytes; -1 when the file must be rewritten.
        self._size = -1
        self._appended = 0

    def load(self) -> list[OnceKey]:
        """Return what earlier processes published, oldest first; skip lines that cannot be parsed."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return []
        found = [key for line in data.splitlines() if (key := _parsed(line)) is not None]
        if _encoded(found) == data:
            self._size, self._appended = len(data), len(found)
        return found

    def add(self, keys: Iterable[OnceKey], known: Callable[[], Iterable[OnceKey]]) -> None:
        """Add new keys; ``known`` returns all keys with the new ones, for when the file is rewritten."""
        added = list(keys)
        if not added:
            return
        try:
            if self._size < 0 or self._appended > _APPENDED or not self._append(_encoded(added)):
                self._rewrite(list(known()))
            else:
                self._appended += len(added)
        except OSError as error:
            self._size = -1
            log.warning("account.unremembered", venue=self._venue, error=str(error))

    def restore(self, keys: list[OnceKey]) -> None:
        """Write the whole file again after it was lost; raise OSError if it cannot be written."""
        if keys:
            self._rewrite(keys)

    def _append(self, data: bytes) -> bool:
        """Append to the file; return False if its size is unexpected or not all bytes were written."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != self._size or os.write(descriptor, data) != len(data):
                return False
        finally:
            os.close(descriptor)
        self._size += len(data)
        return True

    def _rewrite(self, keys: list[OnceKey]) -> None:
        data = _encoded(keys)
        replace_file(self._path, data)
        self._size, self._appended = len(data), 0


def _encoded(keys: Iterable[OnceKey]) -> bytes:
    return b"".join(msgspec.json.encode(key) + b"\n" for key in keys)


def _parsed(line: bytes) -> OnceKey | None:
    try:
        key = _lines.decode(line)
    except (ValueError, RecursionError):
        return None
    return key if key[0] in _CHANNELS else None
