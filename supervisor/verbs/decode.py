"""``decode``: raw frames to normalised events, without a system and without a network."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from ipc.errors import DecodeError, UsageError
from ipc.printable import printable, printable_json
from supervisor.verbs.completion import complete_venue

if TYPE_CHECKING:
    from ipc.events import Event
    from workers.venues.venue import Item, Venue

_BASE64: Final = b"base64:"
#: Fields that only a running system can fill.
_STAMPS: Final = frozenset({"epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns"})


@click.command()
@click.option("--venue", required=True, help="Whose frames these are.", shell_complete=complete_venue)
@click.argument("file", type=click.File("rb"), default="-")
def decode(venue: str, file: BinaryIO) -> int:
    """Turn raw frames of FILE (or standard input) into normalised events, one JSON object a line.

    One frame per line; binary frames as `base64:…`. Each frame is decoded independently. Lines or rows that cannot be
    decoded are reported on standard error with their line number, and the exit code is then 1.
    """
    from workers.venues import VENUES

    if venue not in VENUES:
        raise UsageError(f"unknown venue {venue!r}", where="--venue", advice=f"venues are {', '.join(VENUES)}")
    bad = 0
    for number, line in enumerate(file, start=1):
        frame = line.strip()
        if not frame:
            continue
        problems: list[str] = []
        try:
            for text in _decoded(VENUES[venue], frame, problems):
                sys.stdout.write(printable_json(text) + "\n")
        except Exception as error:
            problems.append(error.what if isinstance(error, DecodeError) else str(error))
        if problems:
            bad += 1
            sys.stdout.flush()
        for what in problems:
            click.echo(printable(f"line {number}: {what}"), err=True)
    sys.stdout.flush()
    return 1 if bad else 0


class _Offline:
    """Market lookup that derives a listing from the market's name alone."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def get(self, wire: str, /) -> Any:
        return self._venue.offline_listing(wire)


def _decoded(venue: Venue, frame: bytes, problems: list[str]) -> list[str]:
    """Return the events of one frame as JSON; append what is invalid in it to ``problems``.

    Raises:
        ValueError: The frame cannot be decoded.
    """
    is_binary = frame.startswith(_BASE64)
    if is_binary:
        try:
            frame = base64.b64decode(frame[len(_BASE64) :], validate=True)
        except binascii.Error as error:
            raise DecodeError(f"not base64: {error}") from error
    texts: list[str] = []
    for item in venue.decode(frame, is_binary, _Offline(venue)):
        try:
            texts += _as_json(item)
        except ValueError as error:
            problems.append(error.what if isinstance(error, DecodeError) else str(error))
    return texts


def _as_json(item: Item) -> list[str]:
    """Return an event as JSON; None for items that are not events.

    Raises:
        ValueError: It is invalid, or holds a value outside the event schema.
    """
    import msgspec

    from ipc.checks import checked
    from ipc.events import Event
    from workers.venues.rows import InvalidRow
    from workers.venues.venue import InvalidBook, RelativeDelta

    if isinstance(item, RelativeDelta):
        raise DecodeError("a level says only how much it changed, not its size; that takes the book it belongs to")
    if isinstance(item, InvalidRow):
        raise DecodeError(f"{item.what}: {item.error}")
    if isinstance(item, InvalidBook):
        raise DecodeError(f"{item.stream} of {item.listing.venue_symbol}: {item.error}")
    if not isinstance(item, Event):
        return []
    _check_levels(item)
    fields = msgspec.to_builtins(checked(item))
    return [msgspec.json.encode({key: value for key, value in fields.items() if key not in _STAMPS}).decode()]


def _check_levels(event: Event) -> None:
    """Validate levels as an order book would; afterwards they hold plain decimals.

    Raises:
        ValueError: A level is invalid.
    """
    from ipc.events import BookDelta, BookSnapshot
    from ipc.orderbook import OrderBook

    if isinstance(event, BookSnapshot):
        event.bids, event.asks = OrderBook().replace(event.bids, event.asks)  # type: ignore[assignment]
    elif isinstance(event, BookDelta):
        event.bids, event.asks = OrderBook().apply(event.bids, event.asks)  # type: ignore[assignment]
