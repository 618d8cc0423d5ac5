"""Raw records: what went over a venue's connections, as it was, so that it can be looked at and played again.

One record is one thing that happened to one session. In a file it is one JSON object a line; binary payloads stand in
``b64``. The order of a session's records is the order in which its brain was told.
"""

from __future__ import annotations

import base64
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ipc.errors import DecodeError

__all__ = ["FORMAT", "RawHeader", "RawKind", "RawRecord", "decode_line", "encode_line", "make"]

#: Version of the format.
FORMAT: Final = 1

#: A connection opened, a frame came, a message went, REST answered with a book, the connection closed; and, so that a
#: recording may begin anywhere, a book as it stood behind the session's last frame.
RawKind: TypeAlias = Literal["open", "in", "out", "rest", "close", "book"]


class RawHeader(msgspec.Struct, tag_field="raw", tag="header", kw_only=True):
    """First line of a file: whose records follow, and which markets they are about."""

    format: int = FORMAT
    venue: str
    version: str = ""
    created_wall_ns: int = 0
    #: Why the file was made: ``record``, or the reason of a black box.
    reason: str = "record"
    options: dict[str, str] = {}
    #: Names of the worker's sessions by number, for black boxes.
    sessions: list[str] = []
    #: The venue's listings of the followed markets, as :class:`workers.venues.venue.Listing` has them.
    listings: list[dict[str, Any]] = []


class RawRecord(msgspec.Struct, tag_field="raw", tag="record", omit_defaults=True, kw_only=True):
    """One thing that happened.

    Attributes:
        kind: What.
        session: To which session of the worker.
        mono_ns: When, monotonic; ``wall_ns``: when, by the wall clock.
        text: The payload of a text frame, the URL of an ``open``, the reason of a ``close``, the body of a ``rest``,
            the event ``book_snapshot`` of a ``book``.
        b64: The payload of a binary frame.
        symbol: Whose book REST gave, for which ``purpose``; ``reason`` when it gave none.
    """

    kind: RawKind
    session: str
    mono_ns: int
    wall_ns: int
    text: str | None = None
    b64: str | None = None
    symbol: str | None = None
    purpose: str | None = None
    reason: str | None = None

    @property
    def payload(self) -> bytes:
        """The bytes of it."""
        return base64.b64decode(self.b64) if self.b64 is not None else (self.text or "").encode()

    @property
    def is_binary(self) -> bool:
        """Whether it is a binary frame."""
        return self.b64 is not None


_decoder: Final = msgspec.json.Decoder(RawHeader | RawRecord)
_encoder: Final = msgspec.json.Encoder()


def make(
    kind: RawKind,
    session: str,
    mono_ns: int,
    wall_ns: int,
    payload: bytes,
    *,
    is_binary: bool = False,
    **more: str | None,
) -> RawRecord:
    """A record of a payload; text that is not UTF-8 is kept as binary, so that nothing is lost."""
    text: str | None = None
    if not is_binary:
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            is_binary = True
    b64 = base64.b64encode(payload).decode() if is_binary else None
    return RawRecord(kind=kind, session=session, mono_ns=mono_ns, wall_ns=wall_ns, text=text, b64=b64, **more)


def encode_line(record: RawHeader | RawRecord) -> bytes:
    """A record as a line, with its end."""
    return _encoder.encode(record) + b"\n"


def decode_line(line: bytes) -> RawHeader | RawRecord:
    """The record in a line.

    Raises:
        DecodeError: It is none.
    """
    try:
        record = _decoder.decode(line)
        if isinstance(record, RawRecord) and record.b64 is not None:
            base64.b64decode(record.b64, validate=True)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a raw record: {error}") from error
    return record
