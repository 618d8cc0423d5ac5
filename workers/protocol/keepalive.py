"""Keep-alive of a connection: when to ping, and when a pong is overdue."""

from __future__ import annotations


class PingTimer:
    """Ping schedule of one connection, monotonic ns; the first unanswered ping must be answered within ``pong_ns``."""

    __slots__ = ("_interval_ns", "_ping_at_ns", "_pong_due_ns", "_pong_ns")

    def __init__(self, interval_ns: int, pong_ns: int) -> None:
        self._interval_ns = interval_ns
        self._pong_ns = pong_ns
        self._ping_at_ns = 0
        #: Deadline of the first unanswered ping; 0 when there is none.
        self._pong_due_ns = 0

    def start(self, now_ns: int) -> None:
        """Start over for a new connection; the first ping is due after one interval."""
        self._ping_at_ns = now_ns + self._interval_ns
        self._pong_due_ns = 0

    def pong(self) -> None:
        """Record that the peer answered."""
        self._pong_due_ns = 0

    def is_overdue(self, now_ns: int) -> bool:
        """Return True when a ping was not answered in time."""
        return 0 < self._pong_due_ns < now_ns

    def should_ping(self, now_ns: int) -> bool:
        """Return True when a ping must be sent now, and schedule the next one."""
        if now_ns < self._ping_at_ns:
            return False
        self._ping_at_ns = now_ns + self._interval_ns
        self._pong_due_ns = self._pong_due_ns or now_ns + self._pong_ns
        return True
