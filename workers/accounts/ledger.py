"""What is known of an account, so that every fill is told once and no older state after a newer one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ipc.decimals import is_zero
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position

__all__ = ["Ledger"]

#: Fill ids that are remembered; the oldest go.
_REMEMBERED: Final = 100_000
_OPEN: Final = frozenset({"open", "untriggered"})
#: Stamps and marks that make no difference between two states.
_NO_DIFFERENCE: Final = frozenset(
    {"snapshot", "exchange_ns", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
)


class Ledger:
    """One account's state.

    ``repeated`` counts fills that came again, ``outdated`` states that were older than what was known.
    ``last_fill_ns`` is the venue's time of the newest fill, 0 before the first.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.outdated = 0
        self.last_fill_ns = 0
        self._fills: dict[str, None] = {}
        self._orders: dict[str, Order] = {}
        self._states: dict[tuple[str, str | None], AccountEvent] = {}

    def take(self, event: AccountEvent) -> bool:
        """Whether an event says something new; it is then known."""
        match event:
            case Fill():
                return self._take_fill(event)
            case Order():
                return self._take_order(event)
            case Position():
                return self._take_state(("position", event.symbol), event)
            case Balance():
                return self._take_state(("balance", event.asset), event)
            case Margin():
                return self._take_state(("margin", None), event)
            case _:
                return True

    def closed_unseen(self, open_orders: Iterable[str]) -> list[Order]:
        """Orders that were open and are not listed any more: how they ended was missed.

        They are told as ``filled`` when the fills say so, else as ``closed``.
        """
        listed = frozenset(open_orders)
        gone = [order for order in self._orders.values() if order.status in _OPEN and order.order_id not in listed]
        return [_ended(order) for order in gone]

    def flat_positions(self, listed: Iterable[str | None]) -> list[Position]:
        """Positions that were held and are not listed any more."""
        symbols = frozenset(listed)
        held = [state for state in self._states.values() if isinstance(state, Position) and not is_zero(state.size)]
        return [
            msgspec.structs.replace(position, size="0", exchange_ns=None, snapshot=True)
            for position in held
            if position.symbol not in symbols
        ]

    def open_orders(self) -> list[Order]:
        """The orders that are open as far as is known."""
        return [order for order in self._orders.values() if order.status in _OPEN]

    def _take_fill(self, fill: Fill) -> bool:
        if fill.fill_id in self._fills:
            self.repeated += 1
            return False
        self._fills[fill.fill_id] = None
        if len(self._fills) > _REMEMBERED:
            del self._fills[next(iter(self._fills))]
        self.last_fill_ns = max(self.last_fill_ns, fill.exchange_ns or 0)
        return True

    def _take_order(self, order: Order) -> bool:
        known = self._orders.get(order.order_id)
        if known is not None:
            if _is_older(order, known):
                self.outdated += 1
                return False
            if _alike(order, known):
                return False
        self._orders[order.order_id] = order
        if len(self._orders) > _REMEMBERED:
            closed = next((key for key, one in self._orders.items() if one.status not in _OPEN), None)
            if closed is not None:
                del self._orders[closed]
        return True

    def _take_state(self, key: tuple[str, str | None], event: AccountEvent) -> bool:
        known = self._states.get(key)
        if known is not None and (event.exchange_ns or 0) < (known.exchange_ns or 0) and event.exchange_ns:
            self.outdated += 1
            return False
        if known is not None and _alike(event, known):
            return False
        self._states[key] = event
        return True


def _is_older(order: Order, known: Order) -> bool:
    """Whether a state comes from before the one that is known: a closed order does not open again."""
    if known.status not in _OPEN and order.status in _OPEN:
        return True
    return bool(order.exchange_ns and known.exchange_ns and order.exchange_ns < known.exchange_ns)


def _alike(one: AccountEvent, other: AccountEvent) -> bool:
    return _content(one) == _content(other)


def _content(event: AccountEvent) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(event).items() if key not in _NO_DIFFERENCE}


def _ended(order: Order) -> Order:
    status = "filled" if order.filled == order.size else "closed"
    return msgspec.structs.replace(order, status=status, venue_status="", snapshot=True, exchange_ns=None)
