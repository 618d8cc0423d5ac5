"""REST fetch of one book: whether it was requested, waits in the fetcher's queue, is in flight, or was rate-limited."""

from __future__ import annotations

from enum import Enum
from typing import Final

_MS: Final = 1_000_000

#: An answer that takes longer than this is considered lost.
_LOST_NS: Final = 60_000_000_000
#: Pause after a fetch that gave no book that bridges to the stream: doubles up to the cap.
_REFETCH_PAUSE_NS: Final = 100 * _MS
REFETCH_CAP_NS: Final = 2000 * _MS
_MAX_DOUBLINGS: Final = 8


class FetchState(Enum):
    """State of a book's REST fetch."""

    IDLE = "idle"
    #: Requested; the answer is outstanding.
    IN_FLIGHT = "in_flight"
    #: Requested; the fetcher handles other books first.
    QUEUED = "queued"
    #: Not outstanding; the last one was over the venue's limit.
    RATE_LIMITED = "rate_limited"


_OUTSTANDING: Final = frozenset({FetchState.IN_FLIGHT, FetchState.QUEUED})
_DELAYED: Final = frozenset({FetchState.QUEUED, FetchState.RATE_LIMITED})


class BookFetch:
    """Fetch state of one book, changed by its methods only.

    :meth:`queue` and :meth:`start` are the fetcher's; the others belong to the thread of the connection.
    """

    __slots__ = ("_failures", "requested_ns", "state")

    def __init__(self) -> None:
        self.state = FetchState.IDLE
        #: When the book was last requested, monotonic.
        self.requested_ns = 0
        #: Fetches in a row that gave no book that bridges to the stream.
        self._failures = 0

    @property
    def is_outstanding(self) -> bool:
        """True while an answer is expected."""
        return self.state in _OUTSTANDING

    @property
    def is_delayed(self) -> bool:
        """True while request limits delay the book: its own request is queued, or the last one was refused."""
        return self.state in _DELAYED

    def request(self, now_ns: int) -> bool:
        """Record a request; return False when one is outstanding and not yet considered lost."""
        if self.is_outstanding and now_ns - self.requested_ns <= _LOST_NS:
            return False
        self.state = FetchState.IN_FLIGHT
        self.requested_ns = now_ns
        return True

    def queue(self) -> None:
        """Record that the request waits for those of other books."""
        if self.state is FetchState.IN_FLIGHT:
            self.state = FetchState.QUEUED

    def start(self) -> None:
        """Record that the fetcher handles the request now."""
        if self.state is FetchState.QUEUED:
            self.state = FetchState.IN_FLIGHT

    def finish(self, *, is_rate_limited: bool) -> None:
        """Record the answer."""
        self.state = FetchState.RATE_LIMITED if is_rate_limited else FetchState.IDLE

    def clear_limit(self) -> None:
        """Forget that the last request was over the limit."""
        if self.state is FetchState.RATE_LIMITED:
            self.state = FetchState.IDLE

    def reset(self) -> None:
        """Forget failures and an outstanding request, for its connection ended; a refusal stays until an answer."""
        self._failures = 0
        if self.is_outstanding:
            self.state = FetchState.IDLE

    def fail(self) -> int:
        """Count a fetch that gave no book that bridges to the stream; return the pause before the next one, ns."""
        pause_ns = min(_REFETCH_PAUSE_NS << min(self._failures, _MAX_DOUBLINGS), REFETCH_CAP_NS)
        self._failures += 1
        return pause_ns

    def clear_failures(self) -> None:
        """Record that the last fetched book bridged to the stream."""
        self._failures = 0
