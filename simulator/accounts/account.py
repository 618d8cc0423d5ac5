"""Trading account: orders, fills, positions and money.

Pure: no I/O, no clock, no randomness. Every action returns its outcome, which the venue publishes. Orders do not enter
the market's book: the script decides when they are filled. Positions are marked on every action, so that the last
published state is the true one.
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

#: Maximum length of each history.
_CLOSED_ORDERS, _FILLS, _FUNDINGS = 1000, 2000, 500
#: Numbers start from the milliseconds since 2026, so that a restarted venue does not repeat them.
_EPOCH_MS = 1_767_225_600_000
_TOUCH_LEVELS = 3
#: Distance from the touch, in percent, of a limit that replaces a market order.
_SLIPPAGE = 2


class SimulatedAccount:
    """Account of a simulated venue.

    Args:
        markets: Markets that it may trade.
        rules: Rules of the venue.
        money: Initial wallet balance.
        now_ms: Wall clock.

    Attributes:
        orders: Live orders by number, oldest first.
        closed: Recently closed orders, oldest first.
        positions: Position by symbol, one for every market.
        wallet: Wallet balance, without unrealised profit.
        holdings: Balances of other assets.
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

    # Actions.

    def place(self, spec: OrderSpec, now_ms: int) -> AccountOutcome:
        """Place a limit or stop order."""
        status: Status = "open" if spec.trigger is None else "untriggered"
        return self._outcome(now_ms, [self._store(self._create(spec, status, now_ms))])

    def place_market(self, spec: OrderSpec, now_ms: int) -> AccountOutcome:
        """Place a market order and fill it at once."""
        if not self.rules.has_market_orders:
            spec = spec._replace(price=_aggressive_limit(spec))
        order = self._create(spec, "open", now_ms)
        changes = [self._store(order)]
        for price, size in _market_fills(spec):
            changes.append(self._fill(changes[-1].order, price, size, now_ms, is_maker=False))
        return self._outcome(now_ms, changes)

    def place_rejected(self, spec: OrderSpec, status: Status, now_ms: int) -> AccountOutcome:
        """Place an order that the venue rejects."""
        order = replace(self._create(spec, status, now_ms), cause="margin")
        return self._outcome(now_ms, [self._store(order)])

    def execute(self, number: int, size: int, now_ms: int) -> AccountOutcome:
        """Fill ``size`` lots of an open order at its price."""
        order = self.orders[number]
        price = order.spec.price or order.market.listing.price
        return self._outcome(now_ms, [self._fill(order, price, min(size, order.remaining), now_ms, is_maker=True)])

    def close_order(self, number: int, status: Status, cause: Cause, now_ms: int) -> AccountOutcome:
        """Close a live order."""
        return self._outcome(now_ms, [self._close(self.orders[number], status, cause, now_ms)])

    def trigger(self, number: int, now_ms: int) -> AccountOutcome:
        """Turn an untriggered order into an open one."""
        return self._outcome(now_ms, [self._store(replace(self.orders[number], status="open", updated_ms=now_ms))])

    def liquidate(self, symbol: str, now_ms: int) -> AccountOutcome:
        """Cancel all orders of a market, then close its position by liquidation."""
        position = self.positions[symbol]
        live = [order for order in self.orders.values() if order.market is position.market]
        changes = [self._close(order, "canceled", "liquidation", now_ms) for order in live]
        side = SELL if position.size > 0 else BUY
        spec = OrderSpec(position.market, side, abs(position.size), is_liquidation=True)
        if not self.rules.has_market_orders:
            spec = spec._replace(price=_aggressive_limit(spec))
        changes.append(self._store(self._create(spec, "open", now_ms)))
        price = max(1, position.market.mark_e8 // 10 ** (8 - position.market.listing.price_places))
        changes.append(self._fill(changes[-1].order, price, spec.size, now_ms, is_maker=False))
        return self._outcome(now_ms, changes, liquidated=position)

    def pay_funding(self, now_ms: int) -> AccountOutcome:
        """Settle one hour of funding for each position: longs pay a positive rate."""
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
        """Deposit money to the wallet, or to the holdings of another asset."""
        if asset in self.holdings:
            self.holdings[asset] += money
        else:
            self.wallet += money
        return self._outcome(now_ms, deposit=Deposit(asset, money))

    # State.

    def assets(self) -> list[str]:
        """Return the assets that can be deposited."""
        return list(dict.fromkeys([self.rules.quote, *self.holdings]))

    def held(self) -> list[PositionRecord]:
        """Return the positions that are not flat."""
        return [position for position in self.positions.values() if position.size]

    def unrealised(self, position: PositionRecord) -> int:
        """Return the unrealised profit of a position at the mark."""
        return self.worth(position) - position.cost

    def worth(self, position: PositionRecord) -> int:
        """Return the value of a position at the mark; negative for a short."""
        mark = self.marks_e8[position.market.listing.symbol]
        return notional(position.market.listing, mark, position.size)

    def margin(self) -> MarginRecord:
        """Return the margin of all positions."""
        return self.margin_of(self.held(), self.wallet)

    def margin_of(self, positions: Iterable[PositionRecord], wallet: int) -> MarginRecord:
        """Return the margin of some positions backed by part of the money."""
        held = list(positions)
        unrealised = sum(self.unrealised(position) for position in held)
        exposure = sum(abs(self.worth(position)) for position in held)
        equity = wallet + unrealised
        initial = ratio(exposure * self.rules.initial_e6, 10**6)
        maintenance = ratio(exposure * self.rules.maintenance_e6, 10**6)
        return MarginRecord(equity, max(0, equity - initial), initial, maintenance, unrealised)

    def liquidation_e8(self, position: PositionRecord) -> int | None:
        """Return the mark price that triggers liquidation, in 10^-8; None if there is none."""
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

    def _create(self, spec: OrderSpec, status: Status, now_ms: int) -> OrderRecord:
        """Create an order; every third one has no client number."""
        number = next(self._numbers)
        client = None if number % 3 == 0 or spec.is_liquidation else number
        return OrderRecord(number, spec, client, status, now_ms, now_ms)

    def _store(self, order: OrderRecord, fill: FillRecord | None = None) -> OrderChange:
        """Store a new state of an order."""
        if order.is_live:
            self.orders[order.number] = order
        else:
            self.orders.pop(order.number, None)
            self.closed.append(order)
        return OrderChange(order, fill)

    def _close(self, order: OrderRecord, status: Status, cause: Cause, now_ms: int) -> OrderChange:
        return self._store(replace(order, status=status, cause=cause, updated_ms=now_ms))

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
        return self._store(
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


def _aggressive_limit(spec: OrderSpec) -> int:
    """Return a limit far enough beyond the touch to trade."""
    touch, _ = _opposite_levels(spec)[0]
    away = max(1, touch * _SLIPPAGE // 100)
    return touch + away if spec.side == BUY else max(1, touch - away)


def _market_fills(spec: OrderSpec) -> list[tuple[int, int]]:
    """Return prices and sizes of a market order's fills; the last level fills the rest."""
    left, found = spec.size, []
    levels = _opposite_levels(spec)
    for price, size in levels:
        part = left if price == levels[-1][0] else min(left, size)
        if part:
            found.append((price, part))
        left -= part
    return found


def _opposite_levels(spec: OrderSpec) -> list[tuple[int, int]]:
    """Return the best levels of the side that an order trades against."""
    side = spec.market.asks if spec.side == BUY else spec.market.bids
    return side.top(_TOUCH_LEVELS) or [(spec.market.listing.price, spec.size)]
