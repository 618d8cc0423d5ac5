"""What is wrong with a frame or an answer, however it is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ipc.errors import DecodeError
from workers.venues.rows import InvalidRow
from workers.venues.venue import Ack, FrameSeq, InvalidBook

__all__ = ["error_of"]


def error_of(read: Callable[..., Sequence[Any]], *arguments: Any) -> str:
    """The error with which reading fails, or that of the invalid row or book which is all that was found."""
    try:
        items = [item for item in read(*arguments) if not isinstance(item, Ack | FrameSeq)]
    except DecodeError as error:
        return error.what
    assert items, "it is passed over"
    assert all(isinstance(item, InvalidRow | InvalidBook) for item in items), items
    return str(items[0].error)
