"""Funding intervals that a venue's own payment times disprove.

An interval comes from a venue's market list, the next payment's time with each rate. When a venue shortens or lengthens
the interval, the time tells at once and the list is read an hour later: until then a rate for eight hours would be
wrong by the factor between the two.
"""

from __future__ import annotations

from typing import Final

from ipc.events import Funding

__all__ = ["FundingIntervals"]

_NS: Final = 1_000_000_000
#: Payment times need not be exact, nor the venue's clock.
_SLACK_NS: Final = 60 * _NS


class FundingIntervals:
    """The intervals of one venue's markets that are proved wrong; one for a worker, used by all its threads.

    A step between two payment times that is no multiple of the interval disproves it (payments in between may have been
    missed), and so does a payment that is further away than the interval. A step of just the interval proves it again.
    """

    def __init__(self) -> None:
        #: Next payment by symbol, ns.
        self._next_ns: dict[str, int] = {}
        #: Wrong interval by symbol, s.
        self._disproved: dict[str, int] = {}
        self._is_lookup_due = False

    def check(self, event: Funding) -> None:
        """Take a disproved interval out of a rate; ``interval_s`` and ``rate_8h`` are then None."""
        symbol, interval_s = str(event.symbol), event.interval_s
        if interval_s is None:
            return
        if event.next_funding_ns is not None:
            self._judge(symbol, interval_s, event.next_funding_ns, event.exchange_ns)
        if self._disproved.get(symbol) == interval_s:
            event.interval_s = event.rate_8h = None

    def take_lookup(self) -> bool:
        """Whether an interval was disproved since this was last asked, so that the list is to be read."""
        is_due, self._is_lookup_due = self._is_lookup_due, False
        return is_due

    @property
    def are_doubtful(self) -> bool:
        """Whether a market's interval is not known for being disproved; the list may still say the old one."""
        return bool(self._disproved)

    def looked_up(self, intervals_s: dict[str, int | None]) -> None:
        """Forget what is disproved of markets of which the list now says another interval."""
        for symbol, interval_s in list(self._disproved.items()):
            if intervals_s.get(symbol) != interval_s:
                self._disproved.pop(symbol, None)

    def _judge(self, symbol: str, interval_s: int, next_ns: int, now_ns: int | None) -> None:
        interval_ns = interval_s * _NS
        step_ns = abs(next_ns - self._next_ns.get(symbol, next_ns))
        self._next_ns[symbol] = next_ns
        is_too_far = now_ns is not None and next_ns - now_ns > interval_ns + _SLACK_NS
        if is_too_far or _SLACK_NS < step_ns % interval_ns < interval_ns - _SLACK_NS:
            self._is_lookup_due |= self._disproved.get(symbol) != interval_s
            self._disproved[symbol] = interval_s
        elif abs(step_ns - interval_ns) <= _SLACK_NS and self._disproved.get(symbol) == interval_s:
            del self._disproved[symbol]
