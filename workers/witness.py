"""Witness: the other line of a venue shows that a book stands still here while its market moves.

Without it, silence is judged by REST or by patience. A market that is quiet on both lines is none of its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ipc.board import MARKETS, Board, CellWord, Row, WorkerWord
from ipc.health import Reason, Stream, StreamState, code_of

_NS: Final = 1_000_000_000
#: A book stands still after this time, or after this many times the venue's cadence.
_STILL_S: Final = 2.0
_CADENCES: Final = 4
#: Of more books, it is the session that stands still: subscribing each again would cost messages and help none.
_FEW: Final = 4
#: The other line's cells are listed at most this often.
_LIST_NS: Final = _NS
_LIVE: Final = code_of(StreamState.LIVE)
#: States in which a book is published; in any other one its session is at work already.
_PUBLISHED: Final = frozenset({_LIVE, code_of(StreamState.QUIET), code_of(StreamState.STALE)})
_RESYNC: Final = code_of(StreamState.RESYNC)
_SOFT_RESYNC: Final = code_of(Reason.SOFT_RESYNC)


def still_ns(cadence_s: float | None) -> int:
    """Return the time after which a book of this cadence stands still, ns; None for one that changes on demand."""
    return int(max(_STILL_S, _CADENCES * (cadence_s or 0.0)) * _NS)


@dataclass(slots=True)
class WitnessedBook:
    """Book of a session, and what the other line has shown of its market.

    Attributes:
        cell: Its words on the board.
        report: Called with its last stamp of publication when it stands still.
        own_ns: That stamp as it was last read.
        peer: Words of the same market on the other line; None while they are not found.
        peer_ns: Stamp of the other line's last publication.
        peer_losses: Its reconnects and gaps, after which a publication shows no movement of the market.
        moves: Publications of the other line since this book's last one.
        since_ns: When the first of them was seen.
    """

    cell: Row
    report: Callable[[int], None]
    own_ns: int = 0
    peer: Row | None = None
    peer_ns: int = 0
    peer_losses: tuple[int, int] = (0, 0)
    moves: int = 0
    since_ns: int = 0

    def observe(self, now_ns: int) -> None:
        """Compare both lines' books with the last observation."""
        own_ns = self.cell[CellWord.LAST_PUBLISHED]
        peer = self.peer
        if own_ns != self.own_ns or not own_ns or peer is None or not self._is_comparable(peer):
            self._restart(own_ns, peer)
            return
        peer_ns = peer[CellWord.LAST_PUBLISHED]
        if peer_ns != self.peer_ns:
            self.peer_ns = peer_ns
            self.moves += 1
            if self.moves == 1:
                self.since_ns = now_ns

    def stands_still(self, now_ns: int, limit_ns: int) -> bool:
        """Return whether the market moved more than once, the first time longer ago than the limit, and not here."""
        return self.moves > 1 and now_ns - self.since_ns >= limit_ns

    def submit(self) -> None:
        """Report that it stands still; the next report needs as much again."""
        self.moves = 0
        self.report(self.own_ns)

    def _is_comparable(self, peer: Row) -> bool:
        state = self.cell[CellWord.STATE]
        is_ours = state in _PUBLISHED or (state == _RESYNC and self.cell[CellWord.REASON] == _SOFT_RESYNC)
        is_whole = peer[CellWord.STATE] == _LIVE and self.peer_ns != 0
        return is_ours and is_whole and _losses(peer) == self.peer_losses

    def _restart(self, own_ns: int, peer: Row | None) -> None:
        self.own_ns = own_ns
        self.moves = 0
        if peer is not None:
            self.peer_losses = _losses(peer)
            self.peer_ns = peer[CellWord.LAST_PUBLISHED]


class Witness:
    """Witness of a line's books, for the watchdog thread: it reads the cells of the line in ``peer_slot``."""

    def __init__(self, board: Board, peer_slot: int, limit_ns: int) -> None:
        self._board = board
        self._peer_slot = peer_slot
        self._peer = board.worker(peer_slot)
        self._limit_ns = limit_ns
        #: Cells of the other line by the key of their market, and when they were last listed.
        self._cells: dict[int, Row] = {}
        self._listed_ns = 0

    def check(self, books: Sequence[WitnessedBook], now_ns: int) -> bool:
        """Report the books of a session that stand still; return True when the session does, for twice the limit."""
        if not self._peer[WorkerWord.EPOCH]:
            return False
        for book in books:
            if not _is_of(book.peer, book.cell[CellWord.MARKET]):
                book.peer = self._find(book.cell[CellWord.MARKET], now_ns)
            book.observe(now_ns)
        still = [book for book in books if book.stands_still(now_ns, self._limit_ns)]
        if len(still) > _FEW:
            return any(book.stands_still(now_ns, 2 * self._limit_ns) for book in still)
        for book in still:
            book.submit()
        return False

    def _find(self, market: int, now_ns: int) -> Row | None:
        """Return the other line's cell of a market: it may have another order, and other markets after a reload."""
        if now_ns - self._listed_ns >= _LIST_NS:
            self._listed_ns = now_ns
            cells = (self._board.cell(self._peer_slot, place, Stream.BOOK) for place in range(MARKETS))
            self._cells = {cell[CellWord.MARKET]: cell for cell in cells}
        found = self._cells.get(market)
        return found if _is_of(found, market) else None


def _is_of(cell: Row | None, market: int) -> bool:
    return cell is not None and cell[CellWord.MARKET] == market


def _losses(cell: Row) -> tuple[int, int]:
    return cell[CellWord.RECONNECTS], cell[CellWord.GAPS]
