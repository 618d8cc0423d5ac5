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
        #: Next payment by symbol, ns, and the interval that was last said of it, s.
        self._next_ns: dict[str, int] = {}
        self._said_s: dict[str, int] = {}
        #: Symbols with an interval, s, that is wrong for them.
        self._disproved: set[tuple[str, int]] = set()
        self._is_lookup_due = False

    def check(self, event: Funding) -> None:
        """Take a disproved interval out of a rate; ``interval_s`` and ``rate_8h`` are then None."""
        symbol, interval_s = str(event.symbol), event.interval_s
        if interval_s is None:
            return
        self._said_s[symbol] = interval_s
        if event.next_funding_ns is not None:
            self._judge((symbol, interval_s), event.next_funding_ns, event.exchange_ns)
        if (symbol, interval_s) in self._disproved:
            event.interval_s = event.rate_8h = None

    def consume_lookup(self) -> bool:
        """Whether an interval was disproved since this was last asked, so that the list is to be read."""
        is_due, self._is_lookup_due = self._is_lookup_due, False
        return is_due

    @property
    def are_doubtful(self) -> bool:
        """Whether the venue still says an interval that is disproved."""
        return any(self._said_s.get(symbol) == interval_s for symbol, interval_s in tuple(self._disproved))

    def _judge(self, said: tuple[str, int], next_ns: int, now_ns: int | None) -> None:
        symbol, interval_ns = said[0], said[1] * _NS
        step_ns = abs(next_ns - self._next_ns.get(symbol, next_ns))
        self._next_ns[symbol] = next_ns
        is_too_far = now_ns is not None and next_ns - now_ns > interval_ns + _SLACK_NS
        if is_too_far or _SLACK_NS < step_ns % interval_ns < interval_ns - _SLACK_NS:
            self._is_lookup_due |= said not in self._disproved
            self._disproved.add(said)
        elif abs(step_ns - interval_ns) <= _SLACK_NS:
            self._disproved.discard(said)
