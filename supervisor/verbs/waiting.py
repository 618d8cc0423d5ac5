"""Notes on standard error while a verb waits for events: what it waits for, and how the system is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import click

from ipc.errors import FeedError, NotRunningError, ParaphinaError
from ipc.printable import printable

if TYPE_CHECKING:
    from ipc.feed import Feed
    from ipc.rundir import RunDir

#: Silence after which a verb says what it waits for: at a terminal, and elsewhere.
_SOON_S: Final = 1.0
_LATE_S: Final = 5.0
_TURN_S: Final = 0.2


class Waiting:
    """Reporter of silence: one note per silence, and another when the state of the system changes.

    Args:
        directory: Run directory of the system.
        what: Completes "waiting for …".
        clock: Monotonic, s.
    """

    def __init__(self, directory: RunDir, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._what = what
        self._clock = clock
        self._since = clock()
        self._due = self._since + self._patience_s()
        self._said: str | None = None

    def has_come(self) -> None:
        """Note that something came; the next silence begins."""
        self._since = self._clock()
        self._due = self._since + _LATE_S
        self._said = None

    def check(self) -> None:
        """Print the note if it is due; call it several times a second."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + _SOON_S
        state = state_of(self._directory)
        if state != self._said:
            self._said = state
            seconds = now - self._since
            click.echo(printable(f"waiting for {self._what} ({seconds:.0f} s; supervisor: {state})"), err=True)

    @staticmethod
    def _patience_s() -> float:
        return _SOON_S if sys.stderr.isatty() else _LATE_S


def state_of(directory: RunDir) -> str:
    """Return the state of the supervisor in a word, or the error with which it cannot be read."""
    from supervisor.status.document import read_status

    try:
        return str(read_status(directory)["supervisor"]["state"])
    except ParaphinaError as error:
        return str(error)


def wait_live(feed: Feed, markets: Sequence[tuple[str, str]], waiting: Waiting, timeout_s: float) -> bool:
    """Read until the books of all markets are usable; return False on timeout."""
    deadline = time.monotonic() + timeout_s
    while not feed.wait_live(markets, _TURN_S):
        if time.monotonic() > deadline:
            return False
        waiting.check()
    return True


def is_gone(directory: RunDir) -> bool:
    """Return whether the system has ended."""
    from supervisor.lock import holder_of

    return holder_of(directory.lock) is None


def failed_wait(directory: RunDir, what: str, where: str) -> ParaphinaError:
    """Return the error of a wait in vain, which depends on the state of the supervisor."""
    if is_gone(directory):
        return NotRunningError(f"{what}: no supervisor is running any more", where=where)
    state = state_of(directory)
    detail = "" if state == "running" else f" (supervisor: {state})"
    return FeedError(f"{what}{detail}", where=where, advice="see why with: paraphina-supervisor status")
