"""Answers to probes, from the board alone: they hold without the run directory, and whatever the venues do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ipc.board import HeaderWord, Row, WorkerWord

_NS: Final = 1_000_000_000
#: A parent that has not checked its processes for so long is stopped or stuck.
_BEAT_NS: Final = 10 * _NS
#: A system is ready after this long, whatever its venues do: an outage is no reason to replace it.
_READY_NS: Final = 60 * _NS


def is_alive(header: Row, now_ns: int) -> bool:
    """Return whether the parent checks its processes."""
    beat = max(header[HeaderWord.PARENT_BEAT], header[HeaderWord.PARENT_STARTED])
    return now_ns - beat < _BEAT_NS


def is_ready(header: Row, workers: Iterable[Row], now_ns: int) -> bool:
    """Return whether every worker was live once since the start of the system, or had enough time to be.

    It stays true: the parent keeps the time at which a worker was last live over its restarts.
    """
    if now_ns - header[HeaderWord.PARENT_STARTED] >= _READY_NS:
        return True
    return all(row[WorkerWord.LIVE_AT] for row in workers)
