"""One trading account: its orders, fills, positions and money.

Pure: no I/O, no clock, no chance. Every action returns what came of it, for the venue to tell. Orders do not meet the
market's book: whoever plays the account says when they are filled. Positions are marked whenever something happens to
the account, so that what was told last is what is true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from simulator.accounts.money import PLACES, cost_of, notional, ratio, rounded
from simulator.accounts.records import (
    AccountOutcome,
    AccountRules,
    Cause,
    Deposit,
    FillRecord,
    FundingRecord,
    MarginRecord,
    OrderChange,
    OrderRecord,
    OrderSpec,
    PositionRecord,
    Status,
)
from simulator.market import BUY, SELL, Market

__all__ = ["SimulatedAccount"]

#: What is remembered, at most.
_CLOSED_ORDERS, _FILLS, _FUNDINGS = 1000, 2000, 500
#: Numbers begin with the milliseconds since 2026, so that a venue that is started again does not repeat them.
_EPOCH_MS = 1_767_225_600_000
_TOUCH_LEVELS = 3
#: How far beyond the touch the limit of an order lies that stands for one at the market, in hundredths.
_SLIPPAGE = 2


class SimulatedAccount:
    """An account.

    Args:
        markets: Where it may trade.
        rules: What the venue grants.
        money: What it begins with.
        now_ms: Wall clock.

    Attributes:
        orders: Those that live, by number, oldest first.
        closed: The last that ended, oldest first.
        positions: By symbol; every market has one.
        wallet: Money, without what positions have made so far.
        holdings: Of other assets.
        marks_e8: Mark prices at the last action, by symbol.
    """

    def __init__(self, markets: Iterable[Market], rules: AccountRules, money: int, now_ms: int) -> None:
        self.rules = rules
        self.orders: dict[int, OrderRecord] = {}
        self.closed: deque[OrderRecord] = deque(maxlen=_CLOSED_ORDERS)
        self.fills: deque[FillRecord] = deque(maxlen=_FILLS)
        self.fundings: deque[FundingRecord] = deque(maxlen=_FUNDINGS)
        self.positions = {market.listing.symbol: PositionRecord(market) for market in markets}
        self.wallet = money
        self.holdings = dict(rules.holdings)
        self.marks_e8: dict[str, int] = {}
        self._numbers = count(max(1, now_ms - _EPOCH_MS))
        self._mark()

    # What can happen to it.

    def place(self, spec: OrderSpec, now_ms: int) -> AccountOutcome:
        """Place an order, which waits."""
        status: Status = "open" if spec.trigger is None else "untriggered"
        return self._outcome(now_ms, [self._put(self._new(spec, status, now_ms))])

    def place_market(self, spec: OrderSpec, now_ms: int) -> AccountOutcome:
        """Place an order at the market, which is filled at once."""
        if not self.rules.has_market_orders:
            spec = spec._replace(price=_beyond(spec))
        order = self._new(spec, "open", now_ms)
        changes = [self._put(order)]
        for price, size in _at_touch(spec):
            changes.append(self._fill(changes[-1].order, price, size, now_ms, is_maker=False))
        return self._outcome(now_ms, changes)

    def place_rejected(self, spec: OrderSpec, status: Status, now_ms: int) -> AccountOutcome:
        """Place an order that the venue does not accept."""
        order = replace(self._new(spec, status, now_ms), cause="margin")
        return self._outcome(now_ms, [self._put(order)])

    def execute(self, number: int, size: int, now_ms: int) -> AccountOutcome:
        """Fill ``size`` lots of an open order at its price."""
        order = self.orders[number]
        price = order.spec.price or order.market.listing.price
        return self._outcome(now_ms, [self._fill(order, price, min(size, order.remaining), now_ms, is_maker=True)])

    def close_order(self, number: int, status: Status, cause: Cause, now_ms: int) -> AccountOutcome:
        """End an order that lives."""
        return self._outcome(now_ms, [self._end(self.orders[number], status, cause, now_ms)])

    def trigger(self, number: int, now_ms: int) -> AccountOutcome:
        """Let an order that waited for its trigger become an open one."""
        return self._outcome(now_ms, [self._put(replace(self.orders[number], status="open", updated_ms=now_ms))])

    def liquidate(self, symbol: str, now_ms: int) -> AccountOutcome:
        """Close a position by force, after all orders of its market."""
        position = self.positions[symbol]
        waiting = [order for order in self.orders.values() if order.market is position.market]
        changes = [self._end(order, "canceled", "liquidation", now_ms) for order in waiting]
        side = SELL if position.size > 0 else BUY
        spec = OrderSpec(position.market, side, abs(position.size), is_liquidation=True)
        if not self.rules.has_market_orders:
            spec = spec._replace(price=_beyond(spec))
        changes.append(self._put(self._new(spec, "open", now_ms)))
        price = max(1, position.market.mark_e8 // 10 ** (8 - position.market.listing.price_places))
        changes.append(self._fill(changes[-1].order, price, spec.size, now_ms, is_maker=False))
        return self._outcome(now_ms, changes, liquidated=position)

    def pay_funding(self, now_ms: int) -> AccountOutcome:
        """Pay, or be paid, an hour's funding for each position: longs pay a positive rate."""
        payments = []
        for symbol, position in self.positions.items():
            if position.size:
                market = position.market
                worth = notional(market.listing, market.index_e8, position.size)
                exact = -ratio(worth * market.funding_e12, 10**12)
                payment = rounded(exact, self.rules.fee_places) * 10 ** (PLACES - self.rules.fee_places)
                self.wallet += payment
                self.positions[symbol] = replace(position, funding=position.funding + payment, updated_ms=now_ms)
                payments.append(FundingRecord(now_ms, self.positions[symbol], payment, market.funding_e12))
        self.fundings += payments
        return self._outcome(now_ms, fundings=tuple(payments))

    def deposit(self, asset: str, money: int, now_ms: int) -> AccountOutcome:
        """Take in money from outside: to the wallet, or to the holdings of an asset that is not traded with."""
        if asset in self.holdings:
            self.holdings[asset] += money
        else:
            self.wallet += money
        return self._outcome(now_ms, deposit=Deposit(asset, money))

    # What it comes to.

    def assets(self) -> list[str]:
        """What can be deposited."""
        return list(dict.fromkeys([self.rules.quote, *self.holdings]))

    def held(self) -> list[PositionRecord]:
        """The positions that are not flat."""
        return [position for position in self.positions.values() if position.size]

    def unrealised(self, position: PositionRecord) -> int:
        """What a position would make if it were closed at the mark."""
        return self.worth(position) - position.cost

    def worth(self, position: PositionRecord) -> int:
        """A position at the mark; negative for a short."""
        mark = self.marks_e8[position.market.listing.symbol]
        return notional(position.market.listing, mark, position.size)

    def margin(self) -> MarginRecord:
        """The margin, all positions together."""
        return self.margin_of(self.held(), self.wallet)

    def margin_of(self, positions: Iterable[PositionRecord], wallet: int) -> MarginRecord:
        """The margin of some positions that are kept by a part of the money."""
        held = list(positions)
        unrealised = sum(self.unrealised(position) for position in held)
        exposure = sum(abs(self.worth(position)) for position in held)
        equity = wallet + unrealised
        initial = ratio(exposure * self.rules.initial_e6, 10**6)
        maintenance = ratio(exposure * self.rules.maintenance_e6, 10**6)
        return MarginRecord(equity, max(0, equity - initial), initial, maintenance, unrealised)

    def liquidation_e8(self, position: PositionRecord) -> int | None:
        """The mark at which the venue would close a position, in 10^-8; None when there is none."""
        cushion = self.margin().equity - self.margin().maintenance
        mark = self.marks_e8[position.market.listing.symbol]
        lot = notional(position.market.listing, 10**8, position.size)
        price = mark - ratio(cushion * 10**8 * (1 if lot > 0 else -1), abs(lot)) if lot else 0
        return price if price > 0 else None

    def _outcome(
        self,
        now_ms: int,
        changes: Iterable[OrderChange] = (),
        fundings: tuple[FundingRecord, ...] = (),
        deposit: Deposit | None = None,
        liquidated: PositionRecord | None = None,
    ) -> AccountOutcome:
        self._mark()
        return AccountOutcome(now_ms, tuple(changes), fundings, deposit, liquidated)

    def _mark(self) -> None:
        for symbol, position in self.positions.items():
            self.marks_e8[symbol] = position.market.mark_e8

    def _new(self, spec: OrderSpec, status: Status, now_ms: int) -> OrderRecord:
        """An order; every third one was given no number by the client."""
        number = next(self._numbers)
        client = None if number % 3 == 0 or spec.is_liquidation else number
        return OrderRecord(number, spec, client, status, now_ms, now_ms)

    def _put(self, order: OrderRecord, fill: FillRecord | None = None) -> OrderChange:
        """Remember a new state of an order."""
        if order.is_live:
            self.orders[order.number] = order
        else:
            self.orders.pop(order.number, None)
            self.closed.append(order)
        return OrderChange(order, fill)

    def _end(self, order: OrderRecord, status: Status, cause: Cause, now_ms: int) -> OrderChange:
        return self._put(replace(order, status=status, cause=cause, updated_ms=now_ms))

    def _fill(self, order: OrderRecord, price: int, size: int, now_ms: int, *, is_maker: bool) -> OrderChange:
        position = self.positions[order.market.listing.symbol]
        cost = cost_of(order.market.listing, price, size)
        rate = self.rules.maker_e6 if is_maker else self.rules.taker_e6
        fee = rounded(ratio(cost * rate, 10**6), self.rules.fee_places) * 10 ** (PLACES - self.rules.fee_places)
        signed = size if order.spec.side == BUY else -size
        realised = position.gain(price, signed)
        fill = FillRecord(next(self._numbers), order, now_ms, price, size, fee, is_maker, position.size, realised)
        self.fills.append(fill)
        self.wallet += realised - fee
        self.positions[order.market.listing.symbol] = position.after(fill)
        filled: Status = "filled" if size == order.remaining else "open"
        return self._put(
            replace(
                order,
                status=filled,
                filled=order.filled + size,
                cost=order.cost + cost,
                fees=order.fees + fee,
                updated_ms=now_ms,
            ),
            fill,
        )


def _beyond(spec: OrderSpec) -> int:
    """A limit that surely trades."""
    touch, _ = _ladder(spec)[0]
    away = max(1, touch * _SLIPPAGE // 100)
    return touch + away if spec.side == BUY else max(1, touch - away)


def _at_touch(spec: OrderSpec) -> list[tuple[int, int]]:
    """Prices and sizes at which an order at the market is filled; the last level takes all that is left."""
    left, found = spec.size, []
    levels = _ladder(spec)
    for price, size in levels:
        part = left if price == levels[-1][0] else min(left, size)
        if part:
            found.append((price, part))
        left -= part
    return found


def _ladder(spec: OrderSpec) -> list[tuple[int, int]]:
    """The best levels of the side that an order takes from."""
    ladder = spec.market.asks if spec.side == BUY else spec.market.bids
    return ladder.top(_TOUCH_LEVELS) or [(spec.market.listing.price, spec.size)]
