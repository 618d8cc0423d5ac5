"""Publication of stream states: to the board, the bus and, where it matters, the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from ipc.board import Board, CellWord, Row
from ipc.events import Status
from ipc.health import Reason, Stream, StreamState, code_of
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.topics import Topic
from workers.protocol.actions import StateChanged
from workers.protocol.streams import MarketStream

log = get_log(__name__)

_MS: Final = 1_000_000
#: Log events of the states that are logged.
_LOG_EVENTS: Final = {
    StreamState.STALE: "stream.stale",
    StreamState.QUIET: "stream.quiet",
    StreamState.RESYNC: "stream.resync",
    StreamState.FAILED: "stream.failed",
}
#: States that a reason leads to; in every other one a stream keeps the reason that it had.
_TROUBLED: Final = frozenset({StreamState.BACKOFF, StreamState.STALE, StreamState.RESYNC, StreamState.FAILED})


def write_state(cell: Row, state: StreamState | None, reason: Reason | None, now_ns: int) -> None:
    """Write a state with the time since when, and a reason that has just occurred; None keeps what is there."""
    if state is not None:
        cell[CellWord.STATE], cell[CellWord.SINCE] = code_of(state), now_ns
    if reason is not None:
        cell[CellWord.REASON], cell[CellWord.REASON_AT] = code_of(reason), now_ns


def stamp_data(cell: Row, now_ns: int) -> None:
    """Stamp a cell after data or an answer came that needs no further step, as of REST."""
    for word in (CellWord.LAST_DATA_RX, CellWord.LAST_PARSED, CellWord.LAST_PUBLISHED, CellWord.LAST_GOOD):
        cell[word] = now_ns


class StatusPublisher:
    """Publisher of ``status`` events; markets of a stream that change alike share one."""

    def __init__(self, venue: str, board: Board, publisher: Publisher, clock: Callable[[], int] | None = None) -> None:
        self._venue = venue
        self._words = board.words
        self._publisher = publisher
        self._feed = publisher.topic(Topic("status", venue, ""))
        self._pid = os.getpid()
        #: Monotonic, ns.
        self._clock = clock or time.monotonic_ns

    def changed(self, changes: Iterable[StateChanged], *, attempt: int, backoff_s: float | None) -> None:
        """Publish changed states; the caller does not hold the publisher's lock."""
        now = self._clock()
        last = {change.stream: change for change in changes}
        for change in last.values():
            self._write_cell(change.stream, now)
        alike = sorted(last.values(), key=_group_key)
        with self._publisher.exclusive():
            for _, group in groupby(alike, key=_group_key):
                self._publish_group(list(group), now, attempt, backoff_s)

    def _write_cell(self, stream: MarketStream, now: int) -> None:
        cell = Row(self._words, stream.cell_offset, CellWord.COUNT)
        has_occurred = stream.state in _TROUBLED or code_of(stream.reason) != cell[CellWord.REASON]
        write_state(cell, stream.state, stream.reason if has_occurred else None, now)

    def _publish_group(self, group: list[StateChanged], now: int, attempt: int, backoff_s: float | None) -> None:
        first = group[0]
        stream = first.stream
        symbol = stream.symbol if len(group) == 1 else None
        self.publish(
            stream.kind,
            stream.state,
            first.previous,
            stream.reason,
            symbol=symbol,
            attempt=attempt,
            backoff_s=backoff_s,
            ages_ms={c.stream.symbol: _age_ms(c.stream, now) for c in group},
        )
        log_event = _LOG_EVENTS.get(stream.state)
        if log_event is not None:
            names = ",".join(c.stream.symbol for c in group)
            log.warning(log_event, venue=self._venue, stream=stream.kind, symbol=names, reason=stream.reason)

    def publish(
        self,
        stream: Stream,
        state: StreamState,
        previous: StreamState | None,
        reason: Reason | None,
        *,
        symbol: str | None,
        attempt: int,
        backoff_s: float | None,
        ages_ms: dict[str, int | None],
    ) -> None:
        """Publish one event; requires the publisher's lock."""
        event = Status(
            venue=self._venue,
            symbol=symbol,
            venue_symbol=None,
            exchange_ns=None,
            stream=stream,
            state=state,
            previous=previous,
            reason=reason,
            attempt=attempt,
            backoff_s=backoff_s,
            pid=self._pid,
            ages_ms=ages_ms,
        )
        event.recv_ns = time.time_ns()
        event.recv_mono_ns = self._clock()
        symbols: frozenset[str | None] = frozenset(ages_ms) or frozenset({symbol})
        for key in [key for key in self._feed.latest if key[0] is stream and key[1] <= symbols]:  # type: ignore[index]
            del self._feed.latest[key]
        self._publisher.send_latest(self._feed, (stream, symbols), event)


def _group_key(change: StateChanged) -> tuple[str, str, str]:
    stream = change.stream
    return (stream.kind, stream.state, str(stream.reason))


def _age_ms(stream: MarketStream, now: int) -> int | None:
    return (now - stream.applied_ns) // _MS if stream.applied_ns else None
