"""Frames and responses that the simulator failed to build: counted, logged, and skipped.

A market whose name, id or size does not fit a wire format loses its own frames and nothing else: a closed connection
would look like a fault of the venue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ipc.log import get_log

log = get_log(__name__)

#: Kinds with their own counter; all others share one.
_MAX_KINDS: Final = 500
_OTHERS: Final = ("(others)", "", "")


class Failures:
    """Failures of one venue.

    Attributes:
        counts: By what was to be built, the market (empty for all), and the type of the exception.
    """

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._last: dict[tuple[str, str, str], str] = {}
        self.counts: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def guard(self, what: str, symbol: str = "") -> Iterator[None]:
        """Suppress and count any exception of this block.

        Log the first failure of a kind with its traceback, then the tenth, the hundredth, and so on.

        Args:
            what: Stream that is built, as ``book`` or ``mark``; or ``request``.
            symbol: Its market.
        """
        try:
            yield
        except Exception as error:
            self._record((what, symbol, type(error).__name__), error)

    def describe(self) -> list[dict[str, Any]]:
        """Return one row per kind: what, symbol, error, count, and the text of the last error."""
        return [
            {"what": what, "symbol": symbol, "error": error, "count": count, "last": self._last[what, symbol, error]}
            for (what, symbol, error), count in self.counts.items()
        ]

    def _record(self, kind: tuple[str, str, str], error: Exception) -> None:
        if kind not in self.counts and len(self.counts) >= _MAX_KINDS:
            kind = _OTHERS
        self.counts[kind] += 1
        self._last[kind] = str(error)
        count = self.counts[kind]
        if count == 10 ** (len(str(count)) - 1):
            what, symbol, name = kind
            fields = {"venue": self._venue, "what": what, "symbol": symbol, "error": name, "count": count}
            log.exception("sim.frame_failed", **fields)  # noqa: LOG004 - the caller handles the exception
