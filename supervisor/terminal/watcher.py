"""Reader of a running system for ``top``: board, feed and lifecycle events, without the gateway."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from ipc.consumer_names import name_of
from ipc.events import Status
from ipc.feed import Feed
from ipc.log import prettied
from ipc.rundir import RunDir
from supervisor.followed import LifecycleFollower
from supervisor.overview.document import Overview
from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices
from supervisor.status.document import read_status

#: Events of one call of :meth:`Watcher.drain`; more wait for the next.
_MAX_EVENTS: Final = 5_000
#: Read of a log to find a venue's last lines, bytes.
_LOG_BYTES: Final = 262_144


class Watcher:
    """Everything that is known of one system; a context manager, for one thread.

    Args:
        directory: Run directory.
        symbols: Symbols whose prices are wanted; empty for all.
    """

    def __init__(self, directory: RunDir, symbols: Sequence[str] = ()) -> None:
        self._directory = directory
        self._symbols = list(symbols)
        self._prices = Prices()
        self._follower = LifecycleFollower(directory.control)
        self._history = History()
        self._history.restore(self._follower.past())
        self._feed = Feed(
            directory.path,
            symbols=self._symbols or None,
            channels=["bbo", "mark", "funding"],
            name=name_of("top"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()
        self._feed.close()

    def drain(self, timeout_s: float = 0.0) -> None:
        """Take over every event that has come; wait at most ``timeout_s`` for the first."""
        for lifecycle in self._follower.read():
            self._history.event(lifecycle)
        event = self._feed.poll(timeout_s)
        for _ in range(_MAX_EVENTS):
            if event is None:
                return
            self._prices.update(event)
            if isinstance(event, Status):
                self._history.event(event)
            event = self._feed.poll(0.0)

    def overview(self) -> Overview:
        """Return the overview of now.

        Raises:
            UnknownStateError: The run directory cannot be read.
        """
        status, now = read_status(self._directory), time.time()
        self._history.record(status, now)
        return build(status, self._history, self._prices, now, self._symbols)

    def log_lines(self, venue: str, count: int) -> list[str]:
        """Return the last lines of the log that name a venue, escaped; else a line that says why there are none."""
        path = self._log_path()
        if path is None:
            return ["it writes its log to its own standard error; start it with --detach for a file"]
        try:
            lines = _last_lines(path)
        except OSError as error:
            return [prettied(f"{path}: {error.strerror}")]
        found = [line for line in lines if f'"{venue}"' in line]
        shown = [part for line in found[-count:] for part in prettied(line).split("\n")]
        return shown or ["nothing of it in the last lines"]

    def _log_path(self) -> Path | None:
        log = self._directory.describe().get("log")
        return Path(log) if isinstance(log, str) else None


def _last_lines(path: Path) -> list[str]:
    """Return the complete lines at the end of a file."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        lines = file.read(_LOG_BYTES).decode(errors="replace").split("\n")
    return lines[0 if size <= _LOG_BYTES else 1 :]
