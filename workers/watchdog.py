"""Watchdog thread: checks the board every 200 ms and interrupts sockets that are overdue or stale.

With two lines it also compares the books with the other line's (:mod:`workers.witness`).

It reads the board alone, writes only its own words, and stamps a beat by which the parent sees that the process runs.
Missed checks are skipped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ipc.board import CellWord, Row, SessionWord, WorkerWord
from ipc.health import Phase, Reason, code_of
from ipc.log import get_log
from workers.net.interrupter import SocketInterrupter
from workers.witness import Witness, WitnessedBook

log = get_log(__name__)

_MS: Final = 1_000_000
_CONNECTING: Final = code_of(Phase.CONNECTING)
_SUBSCRIBED: Final = code_of(Phase.SUBSCRIBED)


@dataclass(frozen=True, slots=True)
class WatchdogLimits:
    """Limits of age and silence of a session, ns."""

    stale_ns: int
    read_ns: int


@dataclass(frozen=True, slots=True)
class Watched:
    """Watched session: its board row, the cells of its books, and its socket's interrupter."""

    name: str
    row: Row
    books: tuple[Row, ...]
    interrupter: SocketInterrupter
    #: True for a REST thread, for which only the deadline counts.
    is_rest: bool = False
    #: Lower bound of the limit of silence, ns: an account's connection may receive nothing but pongs.
    min_read_ns: int = 0
    #: Its books beside the other line's.
    witnessed: tuple[WitnessedBook, ...] = ()

    def read_ns(self, limits: WatchdogLimits) -> int:
        """Return its limit of silence, ns."""
        return max(limits.read_ns, self.min_read_ns)


def anchor_ns(session: Row, books: Sequence[Row]) -> int:
    """Return the start of a session's staleness: its freshest book, else the start of its connect."""
    fresh = max((max(cell[CellWord.LAST_PARSED], cell[CellWord.LAST_PUBLISHED]) for cell in books), default=0)
    return max(fresh, session[SessionWord.CONNECT_START])


def overdue_reason(watched: Watched, now_ns: int, limits: WatchdogLimits, *, venue_flows: bool) -> Reason | None:
    """Return why a session must be interrupted now, or None.

    A connection with a single book is not stale while the venue's other books flow: its market may be quiet, which
    the session checks itself.
    """
    row = watched.row
    deadline, phase = row[SessionWord.DEADLINE], row[SessionWord.PHASE]
    if watched.is_rest or phase == _CONNECTING:
        if deadline and now_ns > deadline:
            return Reason.READ_TIMEOUT if watched.is_rest else Reason.CONNECT_TIMEOUT
        return None
    if phase != _SUBSCRIBED:
        return None
    is_checked = watched.books and not (len(watched.books) == 1 and venue_flows)
    if is_checked and now_ns - anchor_ns(row, watched.books) > limits.stale_ns:
        return Reason.STALE_WATCHDOG
    heard = max(row[SessionWord.LAST_WS_RX], row[SessionWord.OPENED])
    return Reason.READ_TIMEOUT if heard and now_ns - heard > watched.read_ns(limits) else None


class Watchdog:
    """Watchdog of a worker, run as a thread; other threads may call :meth:`watch` at any time.

    It checks every ``tick_s``. The process exits when its parent is not ``parent_pid``; None disables this.
    ``witness`` compares with the venue's other line; None without one.
    """

    def __init__(
        self,
        venue: str,
        worker: Row,
        limits: WatchdogLimits,
        tick_s: float,
        parent_pid: int | None,
        stop: threading.Event,
        clock: Callable[[], int] = time.monotonic_ns,
        witness: Witness | None = None,
    ) -> None:
        self._venue = venue
        self._worker = worker
        self._limits = limits
        self._tick_s = tick_s
        self._parent_pid = parent_pid
        self._stop = stop
        self._clock = clock
        self._witness = witness
        self._watched: tuple[Watched, ...] = ()
        self._main_loops = -1

    def watch(self, watched: Sequence[Watched]) -> None:
        """Replace the watched sessions."""
        self._watched = tuple(watched)

    def venue_flows(self, now_ns: int) -> bool:
        """Return whether any book of the worker is fresh."""
        cells = [cell for watched in self._watched for cell in watched.books]
        fresh = max((max(c[CellWord.LAST_PARSED], c[CellWord.LAST_PUBLISHED]) for c in cells), default=0)
        return now_ns - fresh <= self._limits.stale_ns

    def run(self) -> None:
        """Check periodically until stopped."""
        due = time.monotonic()
        while not self._stop.is_set():
            self.check()
            due = max(due + self._tick_s, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def check(self) -> None:
        """Check the parent process and every session once."""
        now = self._clock()
        self._worker[WorkerWord.BEAT] = now
        loops = self._worker[WorkerWord.MAIN_LOOPS]
        if loops != self._main_loops:
            self._main_loops = loops
            self._worker[WorkerWord.MAIN_SEEN] = now
        if self._parent_pid is not None and os.getppid() != self._parent_pid:
            log.error("worker.orphaned", venue=self._venue, reason=Reason.PARENT_LOST)
            os._exit(1)
        flows = self.venue_flows(now)
        for watched in self._watched:
            reason = overdue_reason(watched, now, self._limits, venue_flows=flows)
            if reason is not None:
                self._interrupt(watched, reason)
        if self._witness is not None:
            self._compare(self._witness, now)

    def _compare(self, witness: Witness, now: int) -> None:
        for watched in self._watched:
            if watched.witnessed and witness.check(watched.witnessed, now):
                self._interrupt(watched, Reason.STALE_WATCHDOG, "its books stand still while the other line's move")

    def _interrupt(self, watched: Watched, reason: Reason, why: str | None = None) -> None:
        is_first = watched.interrupter.reason is None
        watched.interrupter.interrupt(reason)
        if not is_first:
            return
        self._worker.add(WorkerWord.CUTS)
        limit_ms = (self._limits.stale_ns if reason is Reason.STALE_WATCHDOG else watched.read_ns(self._limits)) // _MS
        stream = "book" if watched.books else watched.name
        text = why
        if reason is Reason.STALE_WATCHDOG and why is None:
            text = f"{self._venue} {stream} stale: freshness exceeded {limit_ms} ms"
        log.warning("ws.cut", venue=self._venue, session=watched.name, reason=reason, text=text)
