"""``decode``: raw frames to normalised events, without a system and without a network."""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from ipc.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from workers.venues.venue import Item, Venue

__all__ = ["decode"]

_BASE64: Final = b"base64:"
#: Stamps that only a running system can give.
_STAMPS: Final = frozenset({"epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns"})


@click.command()
@click.option("--venue", required=True, help="Whose frames these are.")
@click.argument("file", type=click.File("rb"), default="-")
def decode(venue: str, file: BinaryIO) -> int:
    """Turn raw frames of FILE (or standard input) into normalised events, one JSON object a line.

    One frame a line; binary frames as `base64:…`. Each frame is taken by itself. Lines that cannot be decoded are
    reported on standard error with their number, and the exit code is then 1.
    """
    from workers.venues import VENUES

    if venue not in VENUES:
        raise UsageError(f"unknown venue {venue!r}", where="--venue", advice=f"venues are {', '.join(VENUES)}")
    bad = 0
    for number, line in enumerate(file, start=1):
        frame = line.strip()
        if not frame:
            continue
        try:
            for text in _decoded(VENUES[venue], frame):
                sys.stdout.write(text + "\n")
        except (ValueError, RecursionError) as error:
            bad += 1
            sys.stdout.flush()
            what = error.what if isinstance(error, DecodeError) else str(error)
            click.echo(f"line {number}: {what}", err=True)
    sys.stdout.flush()
    return 1 if bad else 0


class _Offline:
    """Every market is known by what its name says."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def get(self, wire: str, /) -> Any:
        return self._venue.offline_listing(wire)


def _decoded(venue: Venue, frame: bytes) -> Iterator[str]:
    """The events of one frame as JSON; all of them or an error, so that no half of a frame is printed.

    Raises:
        ValueError: The frame cannot be decoded.
    """
    is_binary = frame.startswith(_BASE64)
    if is_binary:
        try:
            frame = base64.b64decode(frame[len(_BASE64) :], validate=True)
        except binascii.Error as error:
            raise DecodeError(f"not base64: {error}") from error
    items = venue.decode(frame, is_binary, _Offline(venue))
    return iter([text for text in map(_as_json, items) if text is not None])


def _as_json(item: Item) -> str | None:
    import msgspec

    from ipc.events import Event
    from workers.venues.venue import RelativeDelta

    if isinstance(item, RelativeDelta):
        raise DecodeError("a level says only how much it changed, not its size; that takes the book it belongs to")
    if not isinstance(item, Event):
        return None
    fields = msgspec.to_builtins(item)
    return msgspec.json.encode({key: value for key, value in fields.items() if key not in _STAMPS}).decode()
