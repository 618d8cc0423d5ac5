"""What is known of an account, so that every fill is told once and no older state after a newer one. Pure.

Two sources tell of an account: the stream pushes changes, and REST answers with everything now and then. An answer can
be older than a push that came while it was under way; :attr:`Ledger.pushes`, read before asking, tells that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from ipc.decimals import is_zero, shortest
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Payment, Position

__all__ = ["Ledger"]

#: Ids of fills and payments, and orders, that are remembered; the oldest go.
_REMEMBERED: Final = 100_000
_OPEN: Final = frozenset({"open", "untriggered"})
#: What an event is the state of: a kind, and which of it.
_Key: TypeAlias = tuple[str, str | None]
#: Stamps and marks that make no difference between two states.
_NO_DIFFERENCE: Final = frozenset(
    {"snapshot", "exchange_ns", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
)


class Ledger:
    """One account's state.

    ``pushes`` counts what the stream told. ``repeated`` counts fills and payments that came again, ``outdated`` states
    that were older than what was known, ``contested`` answers that a push overtook. ``unpushed`` are the fills that
    REST told of and the stream has not: it is late, or deaf.
    """

    def __init__(self) -> None:
        self.pushes = 0
        self.repeated = 0
        self.outdated = 0
        self.contested = 0
        self.unpushed: set[str] = set()
        self._fills: dict[str, None] = {}
        self._payments: dict[str, None] = {}
        self._orders: dict[str, Order] = {}
        self._states: dict[_Key, AccountEvent] = {}
        self._pushed: dict[_Key, int] = {}
        #: The newest time of anything told, ns; what is told without a time does not make an older one new again.
        self._newest_ns: dict[_Key, int] = {}

    def take(self, event: AccountEvent, asked_at: int | None = None) -> bool:
        """Whether an event says something new; it is then known.

        Args:
            event: What was told.
            asked_at: For an answer: :attr:`pushes` when it was asked for. None for a push.
        """
        if isinstance(event, Fill):
            return self._take_fill(event.fill_id, is_pushed=asked_at is None)
        if isinstance(event, Payment):
            return self._take_once(event.payment_id, self._payments)
        key = _key(event)
        if asked_at is None:
            self.pushes += 1
            self._pushed[key] = self.pushes
        elif self._pushed.get(key, 0) > asked_at:
            self.contested += 1
            return False
        if isinstance(event, Order):
            return self._take_order(key, event, is_listed=asked_at is not None)
        return self._take_state(key, event)

    def closed_unseen(self, open_orders: Iterable[str], asked_at: int) -> list[Order]:
        """Orders that were open when REST was asked and that it did not list: how they ended was missed.

        They are told as ``filled`` when the fills say so, else as ``closed``. Should the venue list one after all, it
        opens again.
        """
        listed = frozenset(open_orders)
        missing = [order for order in self.open_orders() if order.order_id not in listed]
        return [_presumed(order) for order in missing if self._is_untouched(order, asked_at)]

    def flat_positions(self, listed: Iterable[str | None], asked_at: int | None = None) -> list[Position]:
        """Positions that were held and are not among all that the venue ``listed``, by its names for their markets."""
        symbols = frozenset(listed)
        held = [state for state in self._states.values() if isinstance(state, Position) and not is_zero(state.size)]
        return [
            msgspec.structs.replace(
                position, size="0", entry_price=None, unrealised_pnl=None, liquidation_price=None, exchange_ns=None
            )
            for position in held
            if position.venue_symbol not in symbols and self._is_untouched(position, asked_at)
        ]

    def empty_balances(self, listed: Iterable[str], asked_at: int) -> list[Balance]:
        """What was held of assets that are not among all that the venue ``listed``."""
        assets = frozenset(listed)
        held = [state for state in self._states.values() if isinstance(state, Balance) and not is_zero(state.total)]
        return [
            msgspec.structs.replace(
                balance, total="0", available=None if balance.available is None else "0", exchange_ns=None
            )
            for balance in held
            if balance.asset not in assets and self._is_untouched(balance, asked_at)
        ]

    def open_orders(self) -> list[Order]:
        """The orders that are open as far as is known."""
        return [order for order in self._orders.values() if order.status in _OPEN]

    def _take_fill(self, fill_id: str, *, is_pushed: bool) -> bool:
        is_new = self._take_once(fill_id, self._fills)
        if is_pushed:
            self.unpushed.discard(fill_id)
        elif is_new:
            self.unpushed.add(fill_id)
        return is_new

    def _take_once(self, event_id: str, known: dict[str, None]) -> bool:
        if event_id in known:
            self.repeated += 1
            return False
        known[event_id] = None
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]
        return True

    def _is_untouched(self, event: AccountEvent, asked_at: int | None) -> bool:
        """Whether nothing was pushed of it since REST was asked; for the list of a push that does not matter."""
        return asked_at is None or self._pushed.get(_key(event), 0) <= asked_at

    def _take_order(self, key: _Key, order: Order, *, is_listed: bool) -> bool:
        known = self._orders.get(order.order_id)
        opens_again = known is not None and known.status not in _OPEN and order.status in _OPEN
        may_open = is_listed and known is not None and _is_presumed(known)
        if (opens_again and not may_open) or self._is_older(key, order):
            self.outdated += 1
            return False
        if known is not None and _alike(order, known):
            return False
        self._orders[order.order_id] = order
        if len(self._orders) > _REMEMBERED:
            self._forget_closed()
        return True

    def _forget_closed(self) -> None:
        closed = next((one for one in self._orders.values() if one.status not in _OPEN), None)
        if closed is not None:
            del self._orders[closed.order_id]
            for known in (self._pushed, self._newest_ns):
                known.pop(_key(closed), None)

    def _take_state(self, key: _Key, event: AccountEvent) -> bool:
        if self._is_older(key, event):
            self.outdated += 1
            return False
        known = self._states.get(key)
        if known is not None and _alike(event, known):
            return False
        self._states[key] = event
        return True

    def _is_older(self, key: _Key, event: AccountEvent) -> bool:
        """Whether a state comes from before what is known; if not, its time is."""
        if not event.exchange_ns:
            return False
        newest_ns = self._newest_ns.get(key, 0)
        self._newest_ns[key] = max(newest_ns, event.exchange_ns)
        return event.exchange_ns < newest_ns


def _key(event: AccountEvent) -> _Key:
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


def _alike(one: AccountEvent, other: AccountEvent) -> bool:
    return _content(one) == _content(other)


def _content(event: AccountEvent) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(event).items() if key not in _NO_DIFFERENCE}


def _presumed(order: Order) -> Order:
    """How an order ended that the venue lists no more; the venue has said no word of it."""
    status = "filled" if shortest(order.filled) == shortest(order.size) else "closed"
    return msgspec.structs.replace(order, status=status, venue_status="", snapshot=True, exchange_ns=None)


def _is_presumed(order: Order) -> bool:
    return not order.venue_status
