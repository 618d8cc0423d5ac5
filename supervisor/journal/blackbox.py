"""Conversion of black boxes: a worker's ring buffer as the raw recording that fixture mode plays.

Also reads raw recordings of either form. :mod:`supervisor.journal.offline_decode` lists the events of a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipc.errors import DecodeError, ParaphinaError, UsageError
from ipc.raw import RawHeader, RawRecord, decode_line, encode_line, make
from ipc.ring import Entry, read_ring
from supervisor.journal.format import SUFFIX, stamp_of
from supervisor.journal.read import Lines, RawFile, find
from workers.venues import VENUES
from workers.venues.venue import Venue

#: File suffix of a saved black box.
BLACKBOX: Final = ".blackbox"


@dataclass(frozen=True, slots=True)
class RawRecording:
    """Raw records of one venue.

    Attributes:
        header: Last header that names the markets, else the last header.
        records: Records in order.
        bad: Invalid lines.
    """

    header: RawHeader
    records: list[RawRecord] = field(default_factory=list)
    bad: int = 0


def played_venue(recording: RawRecording) -> Venue:
    """Return the venue that can play a recording.

    Raises:
        UsageError: The recording is empty or does not name its markets, or its venue is not known.
    """
    header = recording.header
    venue = VENUES.get(header.venue)
    if venue is None:
        raise UsageError("it cannot be played: unknown venue", where=header.venue)
    if not header.listings or not recording.records:
        what = "nothing recorded" if header.listings else "it does not name its markets"
        raise UsageError(f"it cannot be played: {what}", where=header.venue)
    return venue


def read_blackbox(path: Path) -> RawRecording:
    """Read a saved black box.

    Raises:
        UsageError: It is not a black box, or cannot be read.
    """
    try:
        line, _, ring = path.read_bytes().partition(b"\n")
        header = decode_line(line)
        if not isinstance(header, RawHeader):
            raise DecodeError("it does not begin with a header")
        records = [_record(entry, header.sessions) for entry in read_ring(ring)]
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except DecodeError as error:
        advice = "workers save theirs as *.blackbox; where, says: paraphina-supervisor config show"
        raise UsageError("not a black box", where=str(path), advice=advice) from error
    return RawRecording(header, records)


def read_recordings(path: Path) -> list[RawRecording]:
    """Read a black box, or the raw recordings in a file or below a directory, one per venue.

    Raises:
        UsageError: There is none.
    """
    if path.suffix == BLACKBOX:
        return [read_blackbox(path)]
    by_venue: dict[str, list[RawFile]] = {}
    for file in find(path):
        if isinstance(file, RawFile) and file.header is not None:
            by_venue.setdefault(file.header.venue, []).append(file)
    if not by_venue:
        raise UsageError("no raw frames", where=str(path), advice="record some with: record --raw")
    return [_read(files) for files in by_venue.values()]


def write_fixture(recording: RawRecording, out: Path) -> Path:
    """Write a raw recording as a fixture, ``<out>/<venue>/raw-<venue>-….jsonl``.

    Returns:
        The venue's directory, to be configured for fixture mode.

    Raises:
        UsageError: The directory already holds recordings, which would be played together with this one.
        ParaphinaError: It cannot be written.
    """
    venue = recording.header.venue
    directory = out / venue
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.glob(f"*{SUFFIX}")):
            advice = "name another directory: fixture mode plays all recordings in it"
            raise UsageError("there is a recording already", where=str(directory), advice=advice)
        path = directory / f"raw-{venue}-{stamp_of(recording.header.created_wall_ns)}-000001{SUFFIX}"
        with path.open("xb") as file:
            file.write(encode_line(recording.header))
            file.writelines(encode_line(record) for record in recording.records)
    except OSError as error:
        raise ParaphinaError(f"cannot be written: {error.strerror}", where=str(directory)) from error
    return directory


def _record(entry: Entry, sessions: list[str]) -> RawRecord:
    """Convert a ring entry to a raw record; replace session numbers by names."""
    session = sessions[entry.session] if entry.session < len(sessions) else str(entry.session)
    # A REST answer's note is `symbol purpose reason`; the reason is present when there is no book.
    words = dict(zip(("symbol", "purpose", "reason"), entry.note.split(), strict=False))
    return make(
        entry.kind,  # type: ignore[arg-type]
        session,
        entry.mono_ns,
        entry.wall_ns,
        entry.payload,
        is_binary=entry.is_binary,
        **words,
    )


def _read(files: list[RawFile]) -> RawRecording:
    header = files[0].header or RawHeader(venue="")
    records: list[RawRecord] = []
    bad = 0
    for item in _items(files):
        if isinstance(item, RawRecord):
            records.append(item)
        elif item is None:
            bad += 1
        elif item.listings or not header.listings:
            header = item
    return RawRecording(header, records, bad)


def _items(files: list[RawFile]) -> Iterator[RawHeader | RawRecord | None]:
    for file in files:
        for line in Lines(file.path):
            try:
                yield decode_line(line)
            except DecodeError:
                yield None
