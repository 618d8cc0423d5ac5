"""Frames and answers that the simulator itself failed to make: counted, logged, and left out.

A market whose name, id or size does not fit a wire format costs its own frames and nothing else: a connection that
ended for it would look like a fault of the venue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ipc.log import get_log

__all__ = ["Failures"]

log = get_log(__name__)

#: Kinds that are counted apart; the rest are counted together.
_MOST_KINDS: Final = 500
_OTHERS: Final = ("(others)", "", "")


class Failures:
    """What one venue failed to make.

    Attributes:
        counts: By what was to be made, the market (empty for all), and the exception's type.
    """

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._last: dict[tuple[str, str, str], str] = {}
        self.counts: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def guard(self, what: str, symbol: str = "") -> Iterator[None]:
        """Leave out what raises an exception in this block.

        The first failure of a kind is logged with its traceback, then each tenth, hundredth, and so on.

        Args:
            what: What is made, in the words of a stream: ``book``, ``mark``; or ``request``.
            symbol: Of which market.
        """
        try:
            yield
        except Exception as error:
            self._note((what, symbol, type(error).__name__), error)

    def describe(self) -> list[dict[str, Any]]:
        """Return a row for each kind: what, symbol, error, count, and the text of the last one."""
        return [
            {"what": what, "symbol": symbol, "error": error, "count": count, "last": self._last[what, symbol, error]}
            for (what, symbol, error), count in self.counts.items()
        ]

    def _note(self, kind: tuple[str, str, str], error: Exception) -> None:
        if kind not in self.counts and len(self.counts) >= _MOST_KINDS:
            kind = _OTHERS
        self.counts[kind] += 1
        self._last[kind] = str(error)
        count = self.counts[kind]
        if count == 10 ** (len(str(count)) - 1):
            what, symbol, name = kind
            fields = {"venue": self._venue, "what": what, "symbol": symbol, "error": name, "count": count}
            log.exception("sim.frame_failed", **fields)  # noqa: LOG004 - the caller handles the exception
