"""What a journal's lines are: a header, then one event a line as it was published, with its topic put in front.

An event is never decoded to be kept: its bytes are spliced, so a journal holds what consumers were sent. Names of
files sort in the order in which they were written.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from ipc.errors import DecodeError
from ipc.events import SCHEMA
from ipc.feed_state import LIFECYCLE
from ipc.topics import Topic

__all__ = [
    "FORMAT",
    "SUFFIX",
    "Header",
    "Stamps",
    "decode_header",
    "encode_header",
    "prefix_of",
    "stamp_of",
    "topic_of",
]

#: Version of the format.
FORMAT: Final = 1
SUFFIX: Final = ".jsonl"
_NS: Final = 1_000_000_000
_TOPIC: Final = b'{"topic":"'


class Header(msgspec.Struct, kw_only=True):
    """First line of a file.

    Attributes:
        journal: Version of the format.
        schema: Version of the events' schema.
        version: Of the program that recorded.
        recording: UTC stamp that the files of one recording share.
        file: Number of the file within its recording, from 1.
        created_wall_ns: When the file was begun, wall clock; ``created_mono_ns``: the same by the monotonic clock.
        run_dir: Of the system that was recorded.
        config: What the system said of each recorded venue: symbols, streams, addresses.
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


class Stamps(msgspec.Struct, gc=False):
    """The place of an event in its topic."""

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
    """A header as a line, with its end."""
    return _encoder.encode(header) + b"\n"


def decode_header(line: bytes) -> Header | None:
    """The header in a line; None when the line is no header of a journal.

    Raises:
        DecodeError: It is the header of a format that this program does not know.
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
    """What takes the place of an event's opening brace."""
    return _TOPIC + topic + b'",'


def topic_of(line: bytes) -> str:
    """The topic of an event's line; it comes first, as it was written, unless another program wrote the line anew.

    Raises:
        DecodeError: It has none.
    """
    start = len(_TOPIC)
    try:
        if line.startswith(_TOPIC):
            return line[start : line.index(b'"', start)].decode()
        return _topic.decode(line).topic
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"no event with a topic: {error}") from error


def publisher_of(topic: str) -> str:
    """Who sends a topic: its venue's worker, or the gateway, which is called ``lifecycle``.

    Raises:
        ValueError: It is no topic.
    """
    channel, venue, _ = Topic.parse(topic)
    return LIFECYCLE if channel == LIFECYCLE else venue


def stamp_of(wall_ns: int) -> str:
    """A time in a file's name: ``20260731T075432.123Z``."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(wall_ns // _NS))}.{wall_ns // 1_000_000 % 1000:03d}Z"
