"""The watchdog thread: looks at the board every 200 ms and cuts the socket of whoever is overdue or stale.

It decides by the board alone, touches nothing but its own words and the interrupters, and beats so that the parent sees
that this process still runs. Missed looks are skipped, not made up for.
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

__all__ = ["Watchdog", "WatchdogLimits", "Watched", "anchor_ns", "judge"]

log = get_log(__name__)

_MS: Final = 1_000_000
_CONNECTING: Final = code_of(Phase.CONNECTING)
_SUBSCRIBED: Final = code_of(Phase.SUBSCRIBED)


@dataclass(frozen=True, slots=True)
class WatchdogLimits:
    """When a session is to be cut, ns."""

    stale_ns: int
    read_ns: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A session under watch: its words, the cells of its books, and the way to cut it."""

    name: str
    row: Row
    books: tuple[Row, ...]
    interrupter: SocketInterrupter
    #: Whether it is a REST lane, of which only the deadline counts.
    is_lane: bool = False
    #: It may be silent for at least so long, ns, whatever the limit: nothing need come but what answers its pings.
    may_be_silent_ns: int = 0

    def read_ns(self, limits: WatchdogLimits) -> int:
        """How long it may be silent, ns."""
        return max(limits.read_ns, self.may_be_silent_ns)


def anchor_ns(session: Row, books: Sequence[Row]) -> int:
    """The moment from which the staleness of a session counts: its freshest book, else the start of its connect."""
    fresh = max((max(cell[CellWord.LAST_PARSED], cell[CellWord.LAST_PUBLISHED]) for cell in books), default=0)
    return max(fresh, session[SessionWord.CONNECT_START])


def judge(watched: Watched, now_ns: int, limits: WatchdogLimits, *, venue_flows: bool) -> Reason | None:
    """Why a session must be cut now, if it must.

    A connection that carries one book of several is not stale while the venue's other books flow: its market may be
    quiet, and the session finds that out by itself.
    """
    row = watched.row
    deadline, phase = row[SessionWord.DEADLINE], row[SessionWord.PHASE]
    if watched.is_lane or phase == _CONNECTING:
        if deadline and now_ns > deadline:
            return Reason.READ_TIMEOUT if watched.is_lane else Reason.CONNECT_TIMEOUT
        return None
    if phase != _SUBSCRIBED:
        return None
    is_judged = watched.books and not (len(watched.books) == 1 and venue_flows)
    if is_judged and now_ns - anchor_ns(row, watched.books) > limits.stale_ns:
        return Reason.STALE_WATCHDOG
    heard = max(row[SessionWord.LAST_WS_RX], row[SessionWord.OPENED])
    return Reason.READ_TIMEOUT if heard and now_ns - heard > watched.read_ns(limits) else None


class Watchdog:
    """Runs as a thread; :meth:`watch` may be called by others at any time.

    Args:
        venue: For the log.
        worker: The worker's words on the board.
        limits: When to cut.
        tick_s: Between two looks.
        parent_pid: Ends the process when its parent is another one; None when it has none.
        stop: Set when the worker ends.
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
    ) -> None:
        self._venue = venue
        self._worker = worker
        self._limits = limits
        self._tick_s = tick_s
        self._parent_pid = parent_pid
        self._stop = stop
        self._clock = clock
        self._watched: tuple[Watched, ...] = ()
        self._main_loops = -1

    def watch(self, watched: Sequence[Watched]) -> None:
        """These are the sessions from now on."""
        self._watched = tuple(watched)

    def venue_flows(self, now_ns: int) -> bool:
        """Whether any book of the worker is fresh."""
        cells = [cell for watched in self._watched for cell in watched.books]
        fresh = max((max(c[CellWord.LAST_PARSED], c[CellWord.LAST_PUBLISHED]) for c in cells), default=0)
        return now_ns - fresh <= self._limits.stale_ns

    def run(self) -> None:
        """Look, for ever."""
        due = time.monotonic()
        while not self._stop.is_set():
            self.look()
            due = max(due + self._tick_s, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def look(self) -> None:
        """One look at everything."""
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
            reason = judge(watched, now, self._limits, venue_flows=flows)
            if reason is not None:
                self._cut(watched, reason, now)

    def _cut(self, watched: Watched, reason: Reason, now: int) -> None:
        is_first = watched.interrupter.reason is None
        watched.interrupter.interrupt(reason)
        if not is_first:
            return
        self._worker.add(WorkerWord.CUTS)
        watched.row[SessionWord.CUT] = now
        limit_ms = (self._limits.stale_ns if reason is Reason.STALE_WATCHDOG else watched.read_ns(self._limits)) // _MS
        stream = "book" if watched.books else watched.name
        text = None
        if reason is Reason.STALE_WATCHDOG:
            text = f"{self._venue} {stream} stale: freshness exceeded {limit_ms} ms"
        log.warning("ws.cut", venue=self._venue, session=watched.name, reason=reason, text=text)
