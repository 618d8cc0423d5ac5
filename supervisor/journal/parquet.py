"""Conversion of journals to Parquet files, partitioned by date, venue and channel.

A conversion is complete or absent: it is written to a temporary directory that is renamed at the end. The columns are
defined in :mod:`supervisor.journal.columns`; :mod:`supervisor.journal.verify` checks the events.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ipc.codec import decode
from ipc.errors import ParaphinaError, UsageError
from ipc.events import BookDelta, BookSnapshot, Event
from ipc.topics import Topic
from supervisor.journal.columns import CHANNELS, Columns
from supervisor.journal.format import topic_of
from supervisor.journal.read import EventFile, Lines, find

#: Limits of a row group, in rows and in price levels, whichever is reached first.
_ROWS: Final = 50_000
_LEVELS: Final = 500_000
_STRIDE: Final = 4096
_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Converted:
    """Result of a conversion.

    Attributes:
        events: Rows written.
        bad: Invalid lines, skipped.
        unknown: Events of a newer schema, skipped.
        files: Parquet files written.
    """

    events: int = 0
    bad: int = 0
    unknown: int = 0
    files: int = 0


def convert(source: Path, out: Path, progress: Callable[[float], None] = lambda _: None) -> Converted:
    """Write the events of a journal (or of all below a directory) as Parquet into a new directory.

    Args:
        source: A journal's file or directory.
        out: The directory to make.
        progress: Receives the completed fraction, from 0 to 1.

    Raises:
        UsageError: There is no journal, the directory exists, or Parquet support is not installed.
        ParaphinaError: Writing failed; the temporary directory is removed.
    """
    files = [file for file in find(source) if isinstance(file, EventFile)]
    if not files:
        raise UsageError("raw frames only", where=str(source), advice="convert the journal of events")
    if out.exists():
        raise UsageError("is there already", where=str(out), advice="name a directory that is not there yet")
    conversion = _Conversion(Columns(), out.with_name(f".{out.name}.{os.getpid()}"))
    try:
        conversion.run(files, progress)
        conversion.directory.rename(out)
    except OSError as error:
        what = error.strerror or str(error)
        raise ParaphinaError(f"cannot be written: {what}", where=str(out), advice="nothing was left behind") from error
    finally:
        shutil.rmtree(conversion.directory, ignore_errors=True)
    return conversion.done


class _Place(NamedTuple):
    """Partition key of an event."""

    date: str
    venue: str
    channel: str


class _Partition:
    """Partition that is being written."""

    def __init__(self, place: _Place, columns: Columns, directory: Path) -> None:
        self._channel = place.channel
        self._columns = columns
        folder = directory / f"date={place.date}" / f"venue={place.venue}" / f"channel={place.channel}"
        folder.mkdir(parents=True)
        self._writer: Any = columns.writer(place.channel, str(folder / "part-0.parquet"))
        self._events: list[Event] = []
        self._levels = 0

    def add(self, event: Event) -> None:
        """Add an event; write a row group at the limit."""
        self._events.append(event)
        if isinstance(event, BookDelta | BookSnapshot):
            self._levels += len(event.bids) + len(event.asks)
        if len(self._events) >= _ROWS or self._levels >= _LEVELS:
            self.flush()

    def flush(self) -> None:
        """Write the buffered row group."""
        events, self._events, self._levels = self._events, [], 0
        if events:
            self._writer.write_table(self._columns.table(self._channel, events))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class _Conversion:
    """Conversion into ``directory``."""

    def __init__(self, columns: Columns, directory: Path) -> None:
        self.done = Converted()
        self.directory = directory
        self._columns = columns
        self._partitions: dict[_Place, _Partition] = {}

    def run(self, files: Sequence[EventFile], progress: Callable[[float], None]) -> None:
        """Read all files and write all partitions."""
        self.directory.mkdir(parents=True)
        total, read = max(1, sum(file.size for file in files)), 0
        with contextlib.ExitStack() as ending:
            ending.callback(self._close)
            for file in files:
                lines = Lines(file.path)
                for line in lines:
                    read += len(line)
                    if lines.number > 1 or file.header is None:
                        self._handle(line)
                    if not lines.number % _STRIDE:
                        progress(read / total)
            for partition in self._partitions.values():
                partition.flush()
        self.done.files = len(self._partitions)
        progress(1.0)

    def _handle(self, line: bytes) -> None:
        try:
            topic = Topic.parse(topic_of(line))
            event = decode(line)
        except ValueError:
            self.done.bad += 1
            return
        if event is None or topic.channel not in CHANNELS:
            self.done.unknown += 1
            return
        place = _Place(_date(event.recv_ns or event.publish_ns), topic.venue, topic.channel)
        partition = self._partitions.get(place)
        if partition is None:
            partition = self._partitions[place] = _Partition(place, self._columns, self.directory)
        partition.add(event)
        self.done.events += 1

    def _close(self) -> None:
        with contextlib.ExitStack() as ending:
            for partition in self._partitions.values():
                ending.callback(partition.close)


def _date(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(wall_ns // _NS))
