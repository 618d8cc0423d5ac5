"""Journal format: a header, then one event per line as published, with its topic inserted first.

Events are not decoded: their bytes are spliced, so a journal holds exactly what was published. File names sort in the
order written.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from ipc.errors import DecodeError
from ipc.events import SCHEMA
from ipc.feed_state import LIFECYCLE
from ipc.topics import Topic
from supervisor.journal.coverage import Coverage

#: Version of the format.
FORMAT: Final = 1
SUFFIX: Final = ".jsonl"
_NS: Final = 1_000_000_000
_TOPIC: Final = b'{"topic":"'


class Header(msgspec.Struct, kw_only=True):
    """Header, the first line of a file.

    Attributes:
        journal: Version of the format.
        schema: Version of the events' schema.
        version: Version of the recording program.
        recording: UTC stamp shared by the files of one recording.
        file: Number of the file within its recording, from 1.
        created_wall_ns: Creation time, wall clock; ``created_mono_ns``: monotonic clock.
        run_dir: Run directory of the recorded system.
        config: Description of each recorded venue: symbols, streams, addresses.
        coverage: Coverage until then; None in journals of version 0.1.
    """

    journal: int = FORMAT
    schema: int = SCHEMA
    version: str = ""
    recording: str = ""
    file: int = 1
    created_wall_ns: int = 0
    created_mono_ns: int = 0
    run_dir: str = ""
    config: dict[str, dict[str, Any]] = {}
    coverage: Coverage | None = None


class Stamps(msgspec.Struct, gc=False):
    """Position of an event in its topic."""

    epoch: int
    seq: int


class _Topic(msgspec.Struct):
    topic: str


class _Marked(msgspec.Struct):
    journal: int


_header: Final = msgspec.json.Decoder(Header)
_marked: Final = msgspec.json.Decoder(_Marked)
_topic: Final = msgspec.json.Decoder(_Topic)
_encoder: Final = msgspec.json.Encoder()


def encode_header(header: Header) -> bytes:
    """Encode a header as a line with its newline."""
    return _encoder.encode(header) + b"\n"


def decode_header(line: bytes) -> Header | None:
    """Decode the header in a line; return None when it is not a journal header.

    Raises:
        DecodeError: The header names an unknown format version.
    """
    try:
        version = _marked.decode(line).journal
    except (ValueError, RecursionError):
        return None
    if version != FORMAT:
        raise DecodeError(f"a journal of format {version}; this program reads format {FORMAT}")
    try:
        return _header.decode(line)
    except ValueError as error:
        raise DecodeError(f"not the header of a journal: {error}") from error


def prefix_of(topic: bytes) -> bytes:
    """Return the text that replaces an event's opening brace."""
    return _TOPIC + topic + b'",'


def topic_of(line: bytes) -> str:
    """Return the topic of an event's line; it comes first unless another program rewrote the line.

    Raises:
        DecodeError: The line has no topic.
    """
    start = len(_TOPIC)
    try:
        if line.startswith(_TOPIC):
            return line[start : line.index(b'"', start)].decode()
        return _topic.decode(line).topic
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"no event with a topic: {error}") from error


def publisher_of(topic: str) -> str:
    """Return the publisher of a topic: its venue, or ``lifecycle`` for the gateway.

    Raises:
        ValueError: The text is not a topic.
    """
    channel, venue, _ = Topic.parse(topic)
    return LIFECYCLE if channel == LIFECYCLE else venue


def stamp_of(wall_ns: int) -> str:
    """Format a time for a file name: ``20260731T075432.123Z``."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(wall_ns // _NS))}.{wall_ns // 1_000_000 % 1000:03d}Z"
