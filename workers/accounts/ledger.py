"""What is known of an account, so that every fill is told once and no older state after a newer one. Pure.

Two sources tell of an account: the stream pushes changes, and REST answers with everything now and then. An answer can
be older than a push that came while it was under way; :attr:`Ledger.pushes`, read before asking, tells that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ipc.decimals import is_zero, shortest
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Payment, Position

__all__ = ["Ledger"]

#: Ids of fills and payments, and orders, that are remembered; the oldest go.
_REMEMBERED: Final = 100_000
_OPEN: Final = frozenset({"open", "untriggered"})
#: Stamps and marks that make no difference between two states.
_NO_DIFFERENCE: Final = frozenset(
    {"snapshot", "exchange_ns", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
)


class Ledger:
    """One account's state.

    ``pushes`` counts what the stream told. ``repeated`` counts fills and payments that came again, ``outdated`` states
    that were older than what was known, ``contested`` answers that a push overtook.
    """

    def __init__(self) -> None:
        self.pushes = 0
        self.repeated = 0
        self.outdated = 0
        self.contested = 0
        self._fills: dict[str, None] = {}
        self._payments: dict[str, None] = {}
        self._orders: dict[str, Order] = {}
        self._states: dict[tuple[str, str | None], AccountEvent] = {}
        self._pushed: dict[tuple[str, str | None], int] = {}

    def take(self, event: AccountEvent, asked_at: int | None = None) -> bool:
        """Whether an event says something new; it is then known.

        Args:
            event: What was told.
            asked_at: For an answer: :attr:`pushes` when it was asked for. None for a push.
        """
        if isinstance(event, Fill):
            return self._take_once(event.fill_id, self._fills)
        if isinstance(event, Payment):
            return self._take_once(event.payment_id, self._payments)
        key = _key(event)
        if asked_at is None:
            self.pushes += 1
            self._pushed[key] = self.pushes
        elif self._pushed.get(key, 0) > asked_at:
            self.contested += 1
            return False
        return self._take_order(event) if isinstance(event, Order) else self._take_state(key, event)

    def closed_unseen(self, open_orders: Iterable[str], asked_at: int) -> list[Order]:
        """Orders that were open when REST was asked and that it did not list: how they ended was missed.

        They are told as ``filled`` when the fills say so, else as ``closed``.
        """
        listed = frozenset(open_orders)
        return [
            _ended(order)
            for order in self.open_orders()
            if order.order_id not in listed and self._pushed.get(_key(order), 0) <= asked_at
        ]

    def flat_positions(self, listed: Iterable[str | None], asked_at: int | None = None) -> list[Position]:
        """Positions that were held and are not among all that the venue ``listed``, by its names for their markets."""
        symbols = frozenset(listed)
        held = [state for state in self._states.values() if isinstance(state, Position) and not is_zero(state.size)]
        return [
            msgspec.structs.replace(
                position, size="0", entry_price=None, unrealised_pnl=None, liquidation_price=None, exchange_ns=None
            )
            for position in held
            if position.venue_symbol not in symbols
            and (asked_at is None or self._pushed.get(_key(position), 0) <= asked_at)
        ]

    def open_orders(self) -> list[Order]:
        """The orders that are open as far as is known."""
        return [order for order in self._orders.values() if order.status in _OPEN]

    def _take_once(self, event_id: str, known: dict[str, None]) -> bool:
        if event_id in known:
            self.repeated += 1
            return False
        known[event_id] = None
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]
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
                self._pushed.pop(_key(self._orders.pop(closed)), None)
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


def _key(event: AccountEvent) -> tuple[str, str | None]:
    """What an event is the state of."""
    match event:
        case Order():
            return "order", event.order_id
        case Position():
            return "position", event.venue_symbol
        case Balance():
            return "balance", event.asset
        case Margin():
            return "margin", None
        case _:
            return type(event).__name__, event.venue_symbol


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
    status = "filled" if shortest(order.filled) == shortest(order.size) else "closed"
    return msgspec.structs.replace(order, status=status, venue_status="", snapshot=True, exchange_ns=None)
