"""Funding intervals that a venue's own payment times disprove.

An interval comes from a venue's market list, which is read once an hour; each rate carries the next payment's time.
When a venue changes the interval, those times show it at once, while an eight-hour rate by the old interval would be
wrong by the factor between the two.
"""

from __future__ import annotations

from typing import Final

from ipc.events import Funding

_NS: Final = 1_000_000_000
#: Payment times need not be exact, nor the venue's clock.
_SLACK_NS: Final = 60 * _NS


class FundingIntervals:
    """Disproved intervals of one venue's markets; one set for a worker, used by all its threads.

    An interval is disproved by a step between two payment times that is no multiple of it (payments in between may have
    been missed), or by a payment that is further away than the interval. A step of exactly the interval confirms it.
    """

    def __init__(self) -> None:
        #: Next payment by symbol, ns, and the interval that the venue last listed, s.
        self._next_ns: dict[str, int] = {}
        self._listed_s: dict[str, int] = {}
        #: Symbols with an interval, s, that is wrong for them.
        self._disproved: set[tuple[str, int]] = set()
        self._is_lookup_due = False

    def check(self, event: Funding) -> None:
        """Remove a disproved interval from a rate: ``interval_s`` and ``rate_8h`` are then None."""
        symbol, interval_s = str(event.symbol), event.interval_s
        if interval_s is None:
            return
        self._listed_s[symbol] = interval_s
        if event.next_funding_ns is not None:
            self._compare((symbol, interval_s), event.next_funding_ns, event.exchange_ns)
        if (symbol, interval_s) in self._disproved:
            event.interval_s = event.rate_8h = None

    def consume_lookup(self) -> bool:
        """Return True once after an interval was disproved: the list must be read."""
        is_due, self._is_lookup_due = self._is_lookup_due, False
        return is_due

    @property
    def are_doubtful(self) -> bool:
        """True while the venue lists an interval that is disproved."""
        return any(self._listed_s.get(symbol) == interval_s for symbol, interval_s in tuple(self._disproved))

    def _compare(self, key: tuple[str, int], next_ns: int, now_ns: int | None) -> None:
        symbol, interval_ns = key[0], key[1] * _NS
        step_ns = abs(next_ns - self._next_ns.get(symbol, next_ns))
        self._next_ns[symbol] = next_ns
        is_too_far = now_ns is not None and next_ns - now_ns > interval_ns + _SLACK_NS
        if is_too_far or _SLACK_NS < step_ns % interval_ns < interval_ns - _SLACK_NS:
            self._is_lookup_due |= key not in self._disproved
            self._disproved.add(key)
        elif abs(step_ns - interval_ns) <= _SLACK_NS:
            self._disproved.discard(key)
