"""Union of the prints of one topic over all sources: each once, in the order of arrival."""

from __future__ import annotations

from typing import Final

from ipc.events import Liquidation, Trade

#: How long an id is kept, and how many of a topic at most.
_KEPT_NS: Final = 600_000_000_000
_KEPT: Final = 50_000
#: In ids of trades that are made where the venue sends none: they are of one connection.
_MADE: Final = ":"


class TradeUnion:
    """Prints of one topic, trades or liquidations.

    ``alone`` counts those that one source alone has brought so far, ``repeated`` those that were suppressed.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.alone = 0
        #: Time of arrival and first source of each print that was delivered, oldest first.
        self._delivered: dict[object, tuple[int, int]] = {}
        #: Number of equal prints without an id by source: two of one millisecond are two.
        self._counts: dict[tuple[int, object], int] = {}
        #: The venue's time of the newest print of each source.
        self._newest: dict[int, int] = {}

    def admit(self, source: int, event: Trade | Liquidation, now_ns: int, *, is_active: bool) -> bool:
        """Return whether to deliver a print; flag one that is older than another source's newest as late.

        ``is_active`` says whether the source's book is the delivered one.
        """
        if isinstance(event, Trade) and _MADE in event.trade_id:
            return is_active
        self._forget(now_ns)
        key = self._key(source, event)
        known = self._delivered.get(key)
        if known is not None:
            if known[1] not in {source, -1}:
                self.alone -= 1
                self._delivered[key] = known[0], -1
            self.repeated += 1
            return False
        self._delivered[key] = now_ns, source
        self.alone += 1
        at = event.exchange_ns
        if at is not None:
            if any(newest > at for other, newest in self._newest.items() if other != source):
                event.flags = (*event.flags, "late")
            self._newest[source] = max(at, self._newest.get(source, 0))
        return True

    def _key(self, source: int, event: Trade | Liquidation) -> object:
        """Return what makes a print itself: its id, or for one without, its values and how often it was sent."""
        if isinstance(event, Trade):
            return event.trade_id
        values = event.exchange_ns, event.price, event.size, event.side
        count = self._counts[source, values] = self._counts.get((source, values), 0) + 1
        return values, count

    def _forget(self, now_ns: int) -> None:
        while self._delivered:
            key = next(iter(self._delivered))
            at_ns, source = self._delivered[key]
            if len(self._delivered) < _KEPT and now_ns - at_ns < _KEPT_NS:
                return
            del self._delivered[key]
            self.alone -= source != -1
            if isinstance(key, tuple):
                for one in [one for one in self._counts if one[1] == key[0]]:
                    del self._counts[one]
