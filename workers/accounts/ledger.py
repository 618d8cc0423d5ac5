"""Ledger of an account: every fill is published once, and no state after a newer one. Pure.

An account has two sources: the stream pushes changes, and REST returns snapshots. A snapshot may be older than a push
that arrived after its request; :attr:`Ledger.pushes`, read before the request, detects that.

One rule decides between them, see :meth:`Ledger._wins`: a snapshot replaces everything that was pushed before its
request, whatever the timestamps say (a venue may stamp a position with its last trade), and nothing that was pushed
since. Between pushes the venue's timestamps decide, then the order of arrival.
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

#: Limit of remembered fills, payments and orders; the oldest are dropped.
_MAX_REMEMBERED: Final = 100_000
#: Enough digits for exact sums of any decimals in events.
_EXACT: Final = 100
#: Identity of a state: kind, id or symbol, and leg.
_Key: TypeAlias = tuple[str, str | None, str]
#: Identity of an event that is published once: channel and id.
OnceKey: TypeAlias = tuple[str, str]
#: Fields that are ignored when two states are compared.
_IGNORED: Final = frozenset(
    {"snapshot", "exchange_ns", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
)
_OTHER_SIDE: Final = {"buy": "sell", "sell": "buy"}
_OTHER_LEG: Final[dict[LegName, LegName]] = {"long": "short", "short": "long"}


class Ledger:
    """State of one account; ``published`` by earlier processes are these fills and payments, oldest first.

    Attributes:
        pushes: Number of states pushed by the stream.
        repeated: Number of repeated fills and payments.
        outdated: Number of states that were older than the known one.
        overtaken: Number of snapshot states that a push overtook.
        missing_from_stream: Fills that only REST reported: the stream is late or misses fills.
    """

    def __init__(self, published: Iterable[OnceKey] = ()) -> None:
        self.pushes = 0
        self.repeated = 0
        self.outdated = 0
        self.overtaken = 0
        self.missing_from_stream: set[str] = set()
        #: By channel and id; True for those that an earlier process published and this one has not seen.
        self._once: dict[str, dict[str, bool]] = {"fill": {}, "payment": {}}
        self.add_published(published)
        self._orders: dict[str, Order] = {}
        self._states: dict[_Key, AccountEvent] = {}
        #: By the venue's symbol.
        self._legs: dict[str | None, dict[LegName, Position]] = {}
        #: Position of the last leg by market, since the last call of :meth:`nets`.
        self._changed: dict[str | None, Position] = {}
        #: Coverage of the last list of positions: an unknown leg is flat there.
        self._legs_of: Covers = nothing
        #: Value of :attr:`pushes` at the last push.
        self._pushed: dict[_Key, int] = {}
        #: Newest timestamp, ns; a state without a timestamp keeps it.
        self._newest_ns: dict[_Key, int] = {}

    def add_published(self, published: Iterable[OnceKey]) -> None:
        """Add fills and payments that other processes published, oldest first."""
        for channel, event_id in published:
            if event_id not in self._once[channel]:
                _remember(self._once[channel], event_id, is_restored=True)

    def forget_states(self) -> None:
        """Forget all but fills and payments, as after a restart: another process publishes the states now."""
        for known in (self._orders, self._states, self._legs, self._changed, self._pushed, self._newest_ns):
            known.clear()
        self._legs_of = nothing
        self.missing_from_stream.clear()

    def apply(self, item: AccountEvent | Leg, asked_at: int | None = None) -> AccountEvent | None:
        """Apply an event with valid decimals; return the event, or the net position, to publish.

        Return None when nothing is new, and for legs, whose net positions :meth:`nets` returns after a whole batch.
        ``asked_at`` is :attr:`pushes` at the request of a snapshot; None for a push.
        """
        if isinstance(item, Fill | Payment):
            return self._apply_once(item, is_pushed=asked_at is None)
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
                return self._apply_net(item)
            case Order():
                return self._apply_order(item, is_listed=asked_at is not None)
            case _:
                return self._apply_state(key, item)

    def nets(self) -> list[AccountEvent]:
        """Return the net positions that changed legs since the last call; none while a leg is unknown."""
        found = [self._apply_net(position) for position in self._changed.values()]
        self._changed.clear()
        return [net for net in found if net is not None]

    def was_published_before(self, event: AccountEvent) -> bool:
        """Return, once per fill or payment, whether it was published before the worker's start."""
        if not isinstance(event, Fill | Payment):
            return False
        channel, event_id = once_key(event)
        is_restored = self._once[channel].get(event_id, False)
        if is_restored:
            self._once[channel][event_id] = False
        return is_restored

    def is_second_side(self, fill: Fill) -> bool:
        """Return whether an applied fill is the later side of a self trade: two fills with one id."""
        one, other = f"{fill.fill_id}:{fill.side}", f"{fill.fill_id}:{_OTHER_SIDE[fill.side]}"
        known = self._once["fill"]
        return other in known and next(event_id for event_id in known if event_id in {one, other}) == other

    def published(self) -> list[OnceKey]:
        """Return the known fills and payments, oldest first."""
        return [(channel, event_id) for channel, known in self._once.items() for event_id in known]

    def closed_unseen(self, open_orders: Iterable[str], asked_at: int, covers: Covers = everything) -> list[Order]:
        """Return the known open orders that a list lacks: their end was missed.

        Their status is ``filled`` if the fills add up, else ``closed``. If the venue lists one later, it reopens.

        Args:
            open_orders: Ids of the listed orders.
            asked_at: :attr:`pushes` at the request of the list.
            covers: Coverage of the list.
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
        """Return the legs that a list lacks within its coverage, with a size of zero.

        ``listed`` has market (the venue's symbol) and leg of each listed position; ``asked_at`` is as in :meth:`apply`.
        ``at_ns`` is the list's timestamp: a pushed list that is older than a position does not close it.
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
        """Return the known balances that a list lacks within its coverage, with a total of zero."""
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
        """Return the known open orders."""
        return [order for order in self._orders.values() if order.is_open]

    def _apply_once(self, event: Fill | Payment, *, is_pushed: bool) -> AccountEvent | None:
        channel, event_id = once_key(event)
        known = self._once[channel]
        is_new = event_id not in known
        if isinstance(event, Fill):
            self._track_source(event_id, is_pushed=is_pushed, is_new=is_new)
        if not is_new:
            self.repeated += 1
            return None
        _remember(known, event_id, is_restored=False)
        return event

    def _track_source(self, fill_id: str, *, is_pushed: bool, is_new: bool) -> None:
        if is_pushed:
            self.missing_from_stream.discard(fill_id)
        elif is_new:
            self.missing_from_stream.add(fill_id)

    def _wins(self, key: _Key, state: AccountEvent, asked_at: int | None) -> bool:
        """Return whether a state replaces the known one: the rule between pushes and snapshots.

        The timestamp of a winning state is kept for comparison with later pushes.
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
        """Return whether the item was not pushed since the request; always True for a pushed list."""
        return asked_at is None or self._pushed.get(_key(item), 0) <= asked_at

    def _apply_order(self, order: Order, *, is_listed: bool) -> Order | None:
        known = self._orders.get(order.order_id)
        if known is not None and _is_reverting(order, known, is_listed=is_listed):
            self.outdated += 1
            return None
        if known is not None and not order.order_type:
            # Some pushes omit the order type, which does not change.
            order.order_type, order.reduce_only = known.order_type, known.reduce_only
        if known is not None and _alike(order, known):
            return None
        self._orders[order.order_id] = order
        if len(self._orders) > _MAX_REMEMBERED:
            self._forget_closed()
        return order

    def _forget_closed(self) -> None:
        closed = next((one for one in self._orders.values() if not one.is_open), None)
        if closed is not None:
            del self._orders[closed.order_id]
            for known in (self._pushed, self._newest_ns):
                known.pop(_key(closed), None)

    def _apply_state(self, key: _Key, event: AccountEvent) -> AccountEvent | None:
        known = self._states.get(key)
        if known is not None and _alike(event, known):
            return None
        self._states[key] = event
        return event

    def _apply_net(self, latest: Position) -> AccountEvent | None:
        """Return the net position of a market, or None if a leg is unknown or nothing changed."""
        symbol = latest.venue_symbol
        legs = self._legs[symbol]
        if _unknown_legs(legs) and not self._legs_of(symbol):
            return None
        return self._apply_state(("net", symbol, ""), _net(legs, latest))

    @staticmethod
    def _wanted(legs: dict[LegName, Position]) -> list[tuple[LegName, Position]]:
        """Return the legs that a complete list must contain: held ones, and an unknown counterpart."""
        held = [(name, position) for name, position in legs.items() if not is_zero(position.size)]
        return held + [(name, next(iter(legs.values()))) for name in _unknown_legs(legs)]


def _remember(known: dict[str, bool], event_id: str, *, is_restored: bool) -> None:
    """Remember an id; drop the oldest beyond the limit."""
    known[event_id] = is_restored
    if len(known) > _MAX_REMEMBERED:
        del known[next(iter(known))]


def once_key(event: Fill | Payment) -> OnceKey:
    """Return the identity of a fill or payment; a fill's includes its side, since a self trade has two with one id."""
    if isinstance(event, Fill):
        return "fill", f"{event.fill_id}:{event.side}"
    return "payment", event.payment_id


def _key(item: AccountEvent | Leg) -> _Key:
    """Return the identity of a state."""
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
    return {key: value for key, value in msgspec.structs.asdict(event).items() if key not in _IGNORED}


def _is_reverting(order: Order, known: Order, *, is_listed: bool) -> bool:
    """Return whether a state is older because it would revert something irreversible.

    A closed order does not reopen, unless it was only presumed closed and a list contains it. Of two pushes with the
    same timestamp, the one with more filled is newer.
    """
    if order.is_open and not known.is_open:
        return not (is_listed and _is_presumed(known))
    is_same_time = not is_listed and order.exchange_ns is not None and order.exchange_ns == known.exchange_ns
    return is_same_time and number(order.filled) < number(known.filled)


def _presumed(order: Order) -> Order:
    """Return the presumed end of an order that the venue no longer lists."""
    status = order_status({"": "closed"}, "", order.size, order.filled)
    return msgspec.structs.replace(order, status=status, venue_status="", snapshot=True, exchange_ns=None)


def _is_presumed(order: Order) -> bool:
    return not order.venue_status


def _unknown_legs(legs: dict[LegName, Position]) -> list[LegName]:
    """Return the counterpart of a leg if it is unknown."""
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
    """Return the sum of a market's legs, with the timestamp of the last change."""
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
