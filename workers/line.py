"""Line of a venue that a worker is: what it shares with the other line, and what it reads of it on the board."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ipc.board import ACCOUNT_SESSION, Board, Row, WorkerWord
from ipc.health import Stream, WorkerState, code_of
from ipc.lines import LINES
from workers.budgets import Budgets
from workers.duty import LineDuty
from workers.net.connection import ConnectionThread, Standstill
from workers.protocol.policy import Policy
from workers.protocol.streams import MarketStream
from workers.settings import WorkerSettings
from workers.venues.venue import Venue
from workers.watchdog import Watched
from workers.witness import Witness, WitnessedBook, still_ns

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_LIVE: Final = code_of(WorkerState.LIVE)
#: Parts into which venues spread the rotations of their connections.
_PARTS: Final = 8


class WorkerLine:
    """Line of a venue, alone or one of two.

    Attributes:
        budgets: What the venue allows the address; shared with the other line.
        duty: Whether this line polls and follows the account.
        witness: Compares books with the other line's; None for a venue's only line.
    """

    def __init__(self, venue: Venue, settings: WorkerSettings, board: Board) -> None:
        self._venue = venue
        self._settings = settings
        self.budgets = Budgets(venue.limits, settings, board)
        self.duty = LineDuty()
        self.witness: Witness | None = None
        self._peer: Row | None = None
        if settings.peer_slot is not None:
            self.duty = LineDuty(board.worker(settings.slot))
            self.witness = Witness(board, settings.peer_slot, still_ns(venue.streams.get(Stream.BOOK)))
            self._peer = board.worker(settings.peer_slot)

    @property
    def has_peer(self) -> bool:
        """True when the venue has another line."""
        return self._peer is not None

    def policy(self, number: int, venue_flows: Callable[[int], bool]) -> Policy:
        """Return the settings of the session in a row of the board."""
        settings, keepalive = self._settings, self._venue.keepalive
        ping_ms, pong_ms = settings.ping_interval_ms, settings.pong_timeout_ms
        return Policy(
            stale_ns=settings.stale_ms * _MS,
            ping_ns=int(keepalive.interval_s * _NS) if ping_ms is None else ping_ms * _MS,
            pong_ns=int(keepalive.pong_within_s * _NS) if pong_ms is None else pong_ms * _MS,
            venue_flows=venue_flows,
            stagger=self._stagger(number),
            is_covered=None if self._peer is None else partial(_is_live, self._peer),
        )

    def watched(self, connection: ConnectionThread, cell_of: Callable[[str], Row]) -> Watched:
        """Return what the watchdog checks of a connection; ``cell_of`` gives the words of a base asset's book."""
        streams = [stream for stream in connection.session.book_streams if stream.kind is Stream.BOOK]
        cells = tuple(cell_of(str(stream.listing.base)) for stream in streams)
        witnessed: tuple[WitnessedBook, ...] = ()
        if self.witness is not None:
            reports = [partial(_report, connection, stream) for stream in streams]
            witnessed = tuple(WitnessedBook(cell, report) for cell, report in zip(cells, reports, strict=True))
        return Watched(connection.name, connection.row, cells, connection.interrupter, witnessed=witnessed)

    def _stagger(self, number: int) -> float:
        """Return by how much a session rotates earlier, in [0, 1): lines half the span apart from each other."""
        settings = self._settings
        is_second = settings.peer_slot is not None and settings.line != LINES[0]
        slot = settings.peer_slot if is_second and settings.peer_slot is not None else settings.slot
        return ((slot + number / ACCOUNT_SESSION) / _PARTS + is_second / 2) % 1.0


def _is_live(worker: Row) -> bool:
    return worker[WorkerWord.STATE] == _LIVE


def _report(connection: ConnectionThread, stream: MarketStream, published_ns: int) -> None:
    connection.deliver(Standstill(stream, published_ns))
