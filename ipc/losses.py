"""Log of the messages that a consumer lost: one line per venue and period, with the number of all that were lost."""

from __future__ import annotations

from typing import Final

from ipc.log import get_log

log = get_log(__name__)

#: Least time between two lines on a venue.
PERIOD_NS: Final = 10_000_000_000


class LossLog:
    """Losses of one consumer; times are monotonic ns."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        #: Time of the last line, by venue.
        self._logged_ns: dict[str, int] = {}
        #: Last topic and number of messages that no line reports yet, by venue.
        self._waiting: dict[str, tuple[str, int]] = {}

    def add(self, venue: str, topic: str, count: int, now_ns: int) -> None:
        """Log a loss, or add it to the next line if there was one within the period."""
        self._waiting[venue] = topic, self._waiting.get(venue, ("", 0))[1] + count
        self.flush(now_ns)

    def flush(self, now_ns: int) -> None:
        """Log what waits for the end of a period; cheap to call often."""
        for venue in [name for name in self._waiting if self._is_due(name, now_ns)]:
            topic, lost = self._waiting.pop(venue)
            self._logged_ns[venue] = now_ns
            log.warning("feed.lost", consumer=self._consumer, venue=venue, topic=topic, lost=lost)

    def _is_due(self, venue: str, now_ns: int) -> bool:
        logged = self._logged_ns.get(venue)
        return logged is None or now_ns - logged >= PERIOD_NS
