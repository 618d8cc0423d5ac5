"""Raw records of a venue's connections, for inspection and replay.

One record is one event of one session, in a file one JSON object a line with binary payloads in ``b64``. Records of a
session are in the order in which its logic received them.
"""

from __future__ import annotations

import base64
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ipc.errors import DecodeError

#: Version of the format.
FORMAT: Final = 1

#: Connection opened, frame received, message sent, book received by REST, connection closed; and, so that a recording
#: may begin anywhere, the state of a book after the session's last frame.
RawKind: TypeAlias = Literal["open", "in", "out", "rest", "close", "book"]


class RawHeader(msgspec.Struct, tag_field="raw", tag="header", kw_only=True):
    """First line of a file: origin of its records, and their markets."""

    format: int = FORMAT
    venue: str
    version: str = ""
    created_wall_ns: int = 0
    #: Reason for the file: ``record``, or that of a black box.
    reason: str = "record"
    options: dict[str, str] = {}
    #: Names of the worker's sessions by number, for black boxes.
    sessions: list[str] = []
    #: Listings of the followed markets, as :class:`workers.venues.venue.Listing`.
    listings: list[dict[str, Any]] = []


class RawRecord(msgspec.Struct, tag_field="raw", tag="record", omit_defaults=True, kw_only=True):
    """Event of one session.

    Attributes:
        kind: Kind of event.
        session: Name of the session.
        mono_ns: Monotonic time.
        wall_ns: Wall-clock time.
        text: Payload of a text frame, URL of an ``open``, reason of a ``close``, body of a ``rest``, or event
            ``book_snapshot`` of a ``book``.
        b64: Payload of a binary frame.
        symbol: Market of a book by REST, fetched for ``purpose``; ``reason`` when the request failed.
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
        """Payload as bytes."""
        return base64.b64decode(self.b64) if self.b64 is not None else (self.text or "").encode()

    @property
    def is_binary(self) -> bool:
        """True for a binary frame."""
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
    """Return a record of a payload; text that is not UTF-8 is kept as binary."""
    text: str | None = None
    if not is_binary:
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            is_binary = True
    b64 = base64.b64encode(payload).decode() if is_binary else None
    return RawRecord(kind=kind, session=session, mono_ns=mono_ns, wall_ns=wall_ns, text=text, b64=b64, **more)


def encode_line(record: RawHeader | RawRecord) -> bytes:
    """Encode a record as a line, with its newline."""
    return _encoder.encode(record) + b"\n"


def decode_line(line: bytes) -> RawHeader | RawRecord:
    """Decode a line; raise DecodeError if it is not a raw record."""
    try:
        record = _decoder.decode(line)
        if isinstance(record, RawRecord) and record.b64 is not None:
            base64.b64decode(record.b64, validate=True)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a raw record: {error}") from error
    return record
