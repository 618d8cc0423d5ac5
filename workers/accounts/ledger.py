"""What is known of an account, so that every fill is published once and no older state after a newer one. Pure.

Two sources describe an account: the stream pushes changes, and REST answers with everything now and then. An answer may
be older than a push that came while it was under way, which :attr:`Ledger.pushes`, read before the request, shows.

One rule decides between them, see :meth:`Ledger._wins`: an answer replaces whatever was pushed before it was requested,
whatever the times of the two say (a venue may stamp a position with its last trade); it never replaces what was pushed
since. Between pushes the venue's times decide, and the later arrival where these are equal or missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal, localcontext
from typing import Final, TypeAlias

import msgspec

from ipc.decimals import is_zero, number
from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Payment, Position
from workers.venues.account import Covers, Leg, LegName, everything, nothing
from workers.venues.account_values import order_status

__all__ = ["Ledger", "OnceKey", "once_key"]

#: Ids of fills and payments, and orders, that are remembered; the oldest go.
_REMEMBERED: Final = 100_000
#: Digits enough for a sum of any two decimals that an event may have.
_EXACT: Final = 100
#: What an event is the state of: a kind, which of it, and which leg of that.
_Key: TypeAlias = tuple[str, str | None, str]
#: What is published once: the channel, and which of it.
OnceKey: TypeAlias = tuple[str, str]
#: Stamps and marks that make no difference between two states.
_NO_DIFFERENCE: Final = frozenset(
    {"snapshot", "exchange_ns", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
)
_OTHER_SIDE: Final = {"buy": "sell", "sell": "buy"}
_OTHER_LEG: Final[dict[LegName, LegName]] = {"long": "short", "short": "long"}


class Ledger:
    """One account's state.

    Args:
        published: Fills and payments that were published before this life of the worker, oldest first.

    Attributes:
        pushes: Number of states that the stream pushed.
        repeated: Number of fills and payments that came again.
        outdated: Number of states that were older than what was known.
        contested: Number of answers that a push overtook.
        unpushed: Fills that REST told of and the stream has not: it is late, or deaf.
    """

    def __init__(self, published: Iterable[OnceKey] = ()) -> None:
        self.pushes = 0
        self.repeated = 0
        self.outdated = 0
        self.overtaken = 0
        self.missing_from_stream: set[str] = set()
        #: By channel and id; the value tells whether it was published in an earlier life and not seen in this one.
        self._once: dict[str, dict[str, bool]] = {"fill": {}, "payment": {}}
        for channel, event_id in published:
            _remember(self._once[channel], event_id, is_earlier=True)
        self._orders: dict[str, Order] = {}
        self._states: dict[_Key, AccountEvent] = {}
        #: By the venue's name of the market.
        self._legs: dict[str | None, dict[LegName, Position]] = {}
        #: Markets of which a leg came since :meth:`nets` was called, and which position that was.
        self._changed: dict[str | None, Position] = {}
        #: Where the last list of positions was complete: a leg that was never heard of is flat there.
        self._legs_of: Covers = nothing
        self._pushed: dict[_Key, int] = {}
        #: The newest time of any state, ns; a state without a time does not make an older one new again.
        self._newest_ns: dict[_Key, int] = {}

    def take(self, item: AccountEvent | Leg, asked_at: int | None = None) -> AccountEvent | None:
        """Note an event, and return what is new for the account's subscribers.

        Args:
            item: What came; its decimals are valid.
            asked_at: For an answer: :attr:`pushes` when it was requested. None for a push.

        Returns:
            The event to publish: the one that came, or the net of its position. None when it says nothing new, and for
            a leg: what legs lead to, :meth:`nets` returns when all that came together was taken.
        """
        if isinstance(item, Fill | Payment):
            return self._take_once(item, is_pushed=asked_at is None)
        state = item.position if isinstance(item, Leg) else item
        key = _key(item)
        if not self._wins(key, state, asked_at):
            return None
        match item:
            case Leg(name, position):
                self._legs.setdefault(position.venue_symbol, {})[name] = position
                self._changed[position.venue_symbol] = position
                return None
            case Position():
                self._legs.setdefault(item.venue_symbol, {})["both"] = item
                return self._take_net(item)
            case Order():
                return self._take_order(item, is_listed=asked_at is not None)
            case _:
                return self._take_state(key, item)

    def nets(self) -> list[AccountEvent]:
        """Return the net positions that legs have changed since the last call; none while a leg is unknown."""
        found = [self._take_net(position) for position in self._changed.values()]
        self._changed.clear()
        return [net for net in found if net is not None]

    def is_from_earlier_life(self, event: AccountEvent) -> bool:
        """Tell once of a fill or payment, which came again, that it was published before the worker's start."""
        if not isinstance(event, Fill | Payment):
            return False
        channel, event_id = once_key(event)
        is_earlier = self._once[channel].get(event_id, False)
        if is_earlier:
            self._once[channel][event_id] = False
        return is_earlier

    def is_second_side(self, fill: Fill) -> bool:
        """Tell whether a fill that was taken is the later side of a trade with ourselves: two fills of one id."""
        one, other = f"{fill.fill_id}:{fill.side}", f"{fill.fill_id}:{_OTHER_SIDE[fill.side]}"
        known = self._once["fill"]
        return other in known and next(event_id for event_id in known if event_id in {one, other}) == other

    def published(self) -> list[OnceKey]:
        """Return the fills and payments that are known, oldest first."""
        return [(channel, event_id) for channel, known in self._once.items() for event_id in known]

    def closed_unseen(self, open_orders: Iterable[str], asked_at: int, covers: Covers = everything) -> list[Order]:
        """Return the orders that were open when REST was asked and that its list lacks: how they ended was missed.

        They are ``filled`` when the fills say so, else ``closed``. Should the venue list one after all, it opens again.

        Args:
            open_orders: Ids of the orders that are listed.
            asked_at: :attr:`pushes` when the list was requested.
            covers: Where the list is complete.
        """
        listed = frozenset(open_orders)
        missing = [order for order in self.open_orders() if order.order_id not in listed and covers(order.venue_symbol)]
        return [_presumed(order) for order in missing if self._is_untouched(order, asked_at)]

    def flat_positions(
        self,
        listed: Collection[tuple[str | None, LegName]],
        asked_at: int | None = None,
        covers: Covers = everything,
        at_ns: int | None = None,
    ) -> list[Leg]:
        """Return the legs that a list lacks where it is complete, with a size of zero.

        Args:
            listed: Market, by the venue's name, and leg of each position that is listed.
            asked_at: :attr:`pushes` when the list was requested; None for a list that was pushed.
            covers: Where the list is complete.
            at_ns: The venue's time of the list, ns; a pushed list that is older than a position does not end it.
        """
        self._legs_of = covers
        missing = [
            Leg(name, _flat(position, at_ns, is_listed=asked_at is not None))
            for symbol, legs in self._legs.items()
            for name, position in self._wanted(legs)
            if (symbol, name) not in listed and covers(symbol)
        ]
        return [leg for leg in missing if self._is_untouched(leg, asked_at)]

    def empty_balances(self, listed: Iterable[str], asked_at: int, covers: Covers = everything) -> list[Balance]:
        """Return what was held of assets that are not ``listed`` where the list is complete, with a total of zero."""
        assets = frozenset(listed)
        held = [state for state in self._states.values() if isinstance(state, Balance) and not is_zero(state.total)]
        return [
            msgspec.structs.replace(
                balance, total="0", available=None if balance.available is None else "0", exchange_ns=None
            )
            for balance in held
            if balance.asset not in assets and covers(balance.asset) and self._is_untouched(balance, asked_at)
        ]

    def open_orders(self) -> list[Order]:
        """Return the orders that are open as far as is known."""
        return [order for order in self._orders.values() if order.is_open]

    # --- what comes once --------------------------------------------------------------------------------------------

    def _take_once(self, event: Fill | Payment, *, is_pushed: bool) -> AccountEvent | None:
        channel, event_id = once_key(event)
        known = self._once[channel]
        is_new = event_id not in known
        if isinstance(event, Fill):
            self._note_source(event_id, is_pushed=is_pushed, is_new=is_new)
        if not is_new:
            self.repeated += 1
            return None
        _remember(known, event_id, is_earlier=False)
        return event

    def _note_source(self, fill_id: str, *, is_pushed: bool, is_new: bool) -> None:
        if is_pushed:
            self.missing_from_stream.discard(fill_id)
        elif is_new:
            self.missing_from_stream.add(fill_id)

    # --- states -----------------------------------------------------------------------------------------------------

    def _wins(self, key: _Key, state: AccountEvent, asked_at: int | None) -> bool:
        """Tell whether a state replaces what is known of its key: the one rule between pushes and answers.

        A state that wins leaves its time behind, which later pushes are compared with.
        """
        newest_ns = self._newest_ns.get(key, 0)
        at_ns = state.exchange_ns or 0
        if asked_at is None:
            self.pushes += 1
            if at_ns and at_ns < newest_ns:
                self.outdated += 1
                return False
            self._pushed[key] = self.pushes
        elif self._pushed.get(key, 0) > asked_at:
            self.overtaken += 1
            return False
        if at_ns:
            self._newest_ns[key] = max(newest_ns, at_ns)
        return True

    def _is_untouched(self, item: AccountEvent | Leg, asked_at: int | None) -> bool:
        """Tell whether nothing of it was pushed since REST was asked; for the list of a push that does not matter."""
        return asked_at is None or self._pushed.get(_key(item), 0) <= asked_at

    def _take_order(self, order: Order, *, is_listed: bool) -> Order | None:
        known = self._orders.get(order.order_id)
        if known is not None and _is_undone(order, known, is_listed=is_listed):
            self.outdated += 1
            return None
        if known is not None and not order.order_type:
            # Some pushes leave out what kind of order it is; that does not change.
            order.order_type, order.reduce_only = known.order_type, known.reduce_only
        if known is not None and _alike(order, known):
            return None
        self._orders[order.order_id] = order
        if len(self._orders) > _REMEMBERED:
            self._forget_closed()
        return order

    def _forget_closed(self) -> None:
        closed = next((one for one in self._orders.values() if not one.is_open), None)
        if closed is not None:
            del self._orders[closed.order_id]
            for known in (self._pushed, self._newest_ns):
                known.pop(_key(closed), None)

    def _take_state(self, key: _Key, event: AccountEvent) -> AccountEvent | None:
        known = self._states.get(key)
        if known is not None and _alike(event, known):
            return None
        self._states[key] = event
        return event

    # --- positions --------------------------------------------------------------------------------------------------

    def _take_net(self, latest: Position) -> AccountEvent | None:
        """Return the net position of a market unless a leg of it is unknown, or nothing changed."""
        symbol = latest.venue_symbol
        legs = self._legs[symbol]
        if _unheard(legs) and not self._legs_of(symbol):
            return None
        return self._take_state(("net", symbol, ""), _net(legs, latest))

    @staticmethod
    def _wanted(legs: dict[LegName, Position]) -> list[tuple[LegName, Position]]:
        """Return the legs that a complete list must name: those that are held, and one that was never heard of."""
        held = [(name, position) for name, position in legs.items() if not is_zero(position.size)]
        return held + [(name, next(iter(legs.values()))) for name in _unheard(legs)]


def _remember(known: dict[str, bool], event_id: str, *, is_earlier: bool) -> None:
    """Add an id to those that are known; the oldest goes when there are too many."""
    known[event_id] = is_earlier
    if len(known) > _REMEMBERED:
        del known[next(iter(known))]


def once_key(event: Fill | Payment) -> OnceKey:
    """Return the key of what is published once; a fill's has its side, because a self trade is two fills of one id."""
    if isinstance(event, Fill):
        return "fill", f"{event.fill_id}:{event.side}"
    return "payment", event.payment_id


def _key(item: AccountEvent | Leg) -> _Key:
    """Return what an event is the state of."""
    match item:
        case Leg(name, position):
            return "position", position.venue_symbol, name
        case Position():
            return "position", item.venue_symbol, "both"
        case Order():
            return "order", item.order_id, ""
        case Balance():
            return "balance", item.asset, ""
        case Margin():
            return "margin", None, ""
        case _:
            return type(item).__name__, item.venue_symbol, ""


def _alike(one: AccountEvent, other: AccountEvent) -> bool:
    return _content(one) == _content(other)


def _content(event: AccountEvent) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(event).items() if key not in _NO_DIFFERENCE}


def _is_undone(order: Order, known: Order, *, is_listed: bool) -> bool:
    """Tell whether a state would undo what cannot be undone, and so is the older one.

    A closed order does not open, unless a list has one that was merely presumed closed. Of two pushes that the venue
    stamped alike the one that has more filled is the newer.
    """
    if order.is_open and not known.is_open:
        return not (is_listed and _is_presumed(known))
    is_same_time = not is_listed and order.exchange_ns is not None and order.exchange_ns == known.exchange_ns
    return is_same_time and number(order.filled) < number(known.filled)


def _presumed(order: Order) -> Order:
    """Return how an order ended that the venue lists no more; the venue has said no word of it."""
    status = order_status({"": "closed"}, "", order.size, order.filled)
    return msgspec.structs.replace(order, status=status, venue_status="", snapshot=True, exchange_ns=None)


def _is_presumed(order: Order) -> bool:
    return not order.venue_status


def _unheard(legs: dict[LegName, Position]) -> list[LegName]:
    """Return the counterpart that was never heard of, where a market is held long and short apart."""
    return [other for name, other in _OTHER_LEG.items() if name in legs and other not in legs]


def _flat(position: Position, at_ns: int | None, *, is_listed: bool) -> Position:
    return msgspec.structs.replace(
        position,
        size="0",
        entry_price=None,
        unrealised_pnl=None,
        liquidation_price=None,
        exchange_ns=at_ns,
        snapshot=is_listed,
    )


def _net(legs: dict[LegName, Position], latest: Position) -> Position:
    """Return the sum of a market's legs, with the time of the one that changed last."""
    held = [position for position in legs.values() if not is_zero(position.size)]
    shown = held[0] if len(held) == 1 else latest
    net = msgspec.structs.replace(shown, exchange_ns=latest.exchange_ns, snapshot=latest.snapshot)
    if len(held) > 1:
        pnls = [position.unrealised_pnl for position in held if position.unrealised_pnl is not None]
        net.size = _total(position.size for position in held)
        net.unrealised_pnl = _total(pnls) if len(pnls) == len(held) else None
        net.margin_mode = held[0].margin_mode if len({position.margin_mode for position in held}) == 1 else None
        net.entry_price = net.liquidation_price = None
    return net


def _total(texts: Iterable[str]) -> str:
    with localcontext(prec=_EXACT):
        return f"{sum((number(text) for text in texts), Decimal(0)).normalize():f}"
