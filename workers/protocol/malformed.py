"""Malformed frames: the limit that every connection has, and the counts of a public one."""

from __future__ import annotations

from typing import Final

from ipc.events import Event
from ipc.health import Reason
from workers.protocol.actions import ActionQueue
from workers.venues.rows import InvalidRow
from workers.venues.venue import InvalidBook, RelativeDelta

#: Malformed frames in a row after which a connection is closed.
MAX_MALFORMED_IN_ROW: Final = 10


class MalformedFrames:
    """Count of a connection's malformed frames since the last valid one."""

    __slots__ = ("in_row",)

    def __init__(self) -> None:
        self.in_row = 0

    def add(self) -> bool:
        """Count a malformed frame; return True when there were too many in a row."""
        self.in_row += 1
        return self.in_row >= MAX_MALFORMED_IN_ROW


class FrameFaults(MalformedFrames):
    """Faults of a public connection's frames: counts and logs them, and closes the connection at the limit.

    ``malformed`` counts frames that could not be decoded, ``invalid_rows`` rows that were left out of frames,
    ``unrouted`` events of streams that are not followed; the first of a connection is logged.
    """

    __slots__ = ("_actions", "_is_unrouted_logged", "has_failed", "invalid_rows", "malformed", "unrouted")

    def __init__(self, actions: ActionQueue) -> None:
        super().__init__()
        self.malformed = 0
        self.invalid_rows = 0
        self.unrouted = 0
        #: True when the frame at hand made a book invalid.
        self.has_failed = False
        self._actions = actions
        self._is_unrouted_logged = False

    def opened(self) -> None:
        """Start over on a new connection."""
        self.in_row = 0
        self._is_unrouted_logged = False

    def on_malformed(self, error: str, payload: memoryview | bytes) -> None:
        """Handle a frame that cannot be decoded."""
        self.malformed += 1
        head = bytes(payload[:80]).decode("utf-8", "replace")
        self._actions.log_event("ws.malformed", error=error[:200], head=head)
        if self.add():
            self._close()

    def on_failed(self, *, has_valid_book: bool) -> None:
        """Handle a frame that made a book invalid; while another book is valid, such frames close no connection."""
        self.has_failed = False
        if self.add() and not has_valid_book:
            self._close()

    def on_invalid_row(self, row: InvalidRow) -> None:
        """Handle a row that was left out of a frame."""
        self.invalid_rows += 1
        self._actions.log_event("ws.invalid_row", what=row.what, error=row.error)

    def on_unrouted(self, event: Event | RelativeDelta | InvalidBook) -> None:
        """Handle an event of a stream that is not followed."""
        self.unrouted += 1
        if not self._is_unrouted_logged:
            self._is_unrouted_logged = True
            symbol = event.symbol if isinstance(event, Event) else event.listing.symbol
            self._actions.log_event("ws.unrouted", what=type(event).__name__, symbol=symbol)

    def _close(self) -> None:
        self._actions.close(Reason.PARSE_ERRORS, f"{self.in_row} malformed or invalid frames in a row")
