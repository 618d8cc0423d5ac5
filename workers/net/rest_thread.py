"""REST thread: one client and its interrupter, so that no socket ever waits for REST.

Each REST thread publishes the deadline of its call on the board and is interrupted by the watchdog as a socket is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from ipc.board import Board, SessionWord
from ipc.errors import DecodeError
from ipc.health import Reason
from ipc.log import get_log
from workers.net.budget import MinuteBudget
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestClient, RestError
from workers.settings import WorkerSettings
from workers.venues.rows import InvalidRow
from workers.venues.venue import RestRequest, Venue, parse_answer

log = get_log(__name__)

T = TypeVar("T")

#: Failures without an answer that do not show that the venue is down: the budget is spent, DNS or the proxy fails.
_NOT_THE_VENUE: Final = frozenset({Reason.RATE_LIMITED, Reason.DNS_FAILED, Reason.PROXY_FAILED})
#: From this HTTP status on the server failed (RFC 9110 section 15.6).
_SERVER_ERROR: Final = 500


class RestThread:
    """Base of the threads that call the venue's REST interface: a client, an interrupter, a row on the board."""

    def __init__(
        self, name: str, venue: Venue, settings: WorkerSettings, number: int, board: Board, budget: MinuteBudget
    ) -> None:
        self.name = name
        self.interrupter = SocketInterrupter()
        self.row = board.session(settings.slot, number)
        #: Since when the venue's REST interface has not answered this thread; 0 while it answers.
        self.unanswered_since_ns = 0
        #: When it last answered.
        self.answered_ns = 0
        self._venue = venue
        self._settings = settings
        self._client = RestClient(
            venue, settings.rest_url, budget, self.interrupter, self._announce, options=settings.dial
        )

    def _announce(self, deadline_ns: int) -> None:
        self.row[SessionWord.DEADLINE] = deadline_ns

    def _call(self, request: RestRequest, deadline_s: float) -> bytes:
        """Return an answer's body, or raise RestError; record whether the venue answers at all."""
        try:
            body = self._client.call(request, deadline_s)
        except RestError as error:
            if error.status is not None and error.status < _SERVER_ERROR:
                self._answered()
            elif error.status is not None or error.reason not in _NOT_THE_VENUE:
                self.unanswered_since_ns = self.unanswered_since_ns or time.monotonic_ns()
            raise
        self._answered()
        return body

    def _parsed(self, parse: Callable[..., T], *arguments: object) -> T:
        """Return what a parser makes of an answer, or raise DecodeError; log a parser's fault with its traceback."""
        try:
            return parse_answer(parse, *arguments)
        except DecodeError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ValueError | RecursionError):
                log.exception("rest.parser_failed", venue=self._settings.venue, lane=self.name, error=error.what)
            raise

    def _report_invalid(self, what: str, rows: Sequence[InvalidRow]) -> None:
        """Count the rows that were left out of an answer, and log the first one's error."""
        if rows:
            self.row.add(SessionWord.INVALID_ROWS, len(rows))
            fields = {"venue": self._settings.venue, "answer": what, "rows": len(rows)}
            log.warning("rest.invalid_row", **fields, what=rows[0].what, error=rows[0].error)

    def _answered(self) -> None:
        self.unanswered_since_ns = 0
        self.answered_ns = time.monotonic_ns()
