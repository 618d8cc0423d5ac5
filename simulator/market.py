"""Market model: one order book with its trades, mark, index, funding and open interest.

Pure and seeded: integers only, no I/O, no clock. Prices are in ticks (10^-price_places of the quote), sizes in lots
(10^-size_places contracts). Bids are at or below the fair price and asks above it, so a book cannot cross.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from simulator.listing import SimulatedListing

Aggressor = Literal["buy", "sell"]
BUY: Aggressor = "buy"
SELL: Aggressor = "sell"

#: Minimum and maximum levels of a side; likewise in a thin market.
_LEVELS, _THIN_LEVELS = (60, 100), (2, 5)
#: Levels that a step changes; chosen at random.
_TOUCHES = (0, 0, 1, 1, 2, 2, 3, 5)
#: Values of orders in the quote; chosen at random, times 0.01 to 1.
_ORDER_VALUES = (400, 2_000, 2_000, 10_000, 10_000, 40_000, 150_000)
_WARM_UP_STEPS = 160
_WARM_UP_GAP_MS = 250
_HOUR_MS = 3_600_000


class LevelChange(NamedTuple):
    """Level whose size changed from ``old`` to ``new`` lots; zero means absent."""

    price: int
    old: int
    new: int


class MarketTrade(NamedTuple):
    """Trade; all trades of one taker order share ``order``."""

    number: int
    order: int
    time_ms: int
    price: int
    size: int
    side: Aggressor
    is_liquidation: bool


@dataclass(frozen=True, slots=True)
class MarketStep:
    """Changes of one step of a market; any of them may be empty."""

    time_ms: int
    bids: tuple[LevelChange, ...]
    asks: tuple[LevelChange, ...]
    trades: tuple[MarketTrade, ...]
    touch_moved: bool


class PriceLevels:
    """Side of a book: lots by price, and the changes since the last :meth:`drain_changes`."""

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.sizes: dict[int, int] = {}
        #: Sizes before the pending changes, by price.
        self._before: dict[int, int] = {}

    def put(self, price: int, size: int) -> None:
        """Set the size of a level; zero removes it."""
        self._before.setdefault(price, self.sizes.get(price, 0))
        if size:
            self.sizes[price] = size
        else:
            self.sizes.pop(price, None)

    def best(self) -> tuple[int, int] | None:
        """Return price and size of the best level; None if the side is empty."""
        if not self.sizes:
            return None
        price = max(self.sizes) if self.is_bid else min(self.sizes)
        return price, self.sizes[price]

    def prices(self) -> list[int]:
        """Return all prices, best first."""
        return sorted(self.sizes, reverse=self.is_bid)

    def top(self, depth: int | None = None) -> list[tuple[int, int]]:
        """Return the ``depth`` best levels (None: all), best first."""
        return [(price, self.sizes[price]) for price in self.prices()[:depth]]

    def drain_changes(self) -> tuple[LevelChange, ...]:
        """Return the levels whose size differs from that at the last call."""
        found = (LevelChange(price, old, self.sizes.get(price, 0)) for price, old in self._before.items())
        changes = tuple(change for change in found if change.old != change.new)
        self._before.clear()
        return changes


class Batch:
    """Merged changes of several steps, for venues that publish at fixed intervals."""

    def __init__(self) -> None:
        self._bids: dict[int, LevelChange] = {}
        self._asks: dict[int, LevelChange] = {}

    def __bool__(self) -> bool:
        """Return whether any level was touched since the last :meth:`drain`."""
        return bool(self._bids or self._asks)

    def add(self, step: MarketStep) -> None:
        """Merge the changes of a step."""
        for pending, changes in ((self._bids, step.bids), (self._asks, step.asks)):
            for change in changes:
                first = pending.get(change.price, change)
                pending[change.price] = LevelChange(change.price, first.old, change.new)

    def drain(self, *, keep_unchanged: bool = False) -> tuple[list[LevelChange], list[LevelChange]]:
        """Return the bids and asks that changed since the last call.

        Args:
            keep_unchanged: Include levels that ended up unchanged.
        """
        drained = [
            [change for change in pending.values() if keep_unchanged or change.old != change.new]
            for pending in (self._bids, self._asks)
        ]
        self._bids.clear()
        self._asks.clear()
        return drained[0], drained[1]


class Market:
    """Market of one venue.

    Args:
        listing: Traded contract.
        seed: Any object; the same seed gives the same market, except for times.
        now_ms: Wall clock. The market starts with some history.

    Attributes:
        trades: The last trades, oldest first.
        mark_e8: Mark price, in 10^-8 of the quote.
        index_e8: Index price, likewise.
        premium_e10: Mark over index, in 10^-10.
        funding_e12: Predicted funding rate, a fraction per hour in 10^-12.
        open_interest: Lots, one-sided.
        volume: Lots traded in 24 hours.
        opening: Price 24 hours ago; ``high`` and ``low`` since.
        is_thin: Whether each side of the book has a handful of levels; applies from the next step.
    """

    def __init__(self, listing: SimulatedListing, seed: object, now_ms: int) -> None:
        self.listing = listing
        self.is_thin = listing.contract.is_thin
        self.bids = PriceLevels(is_bid=True)
        self.asks = PriceLevels(is_bid=False)
        self.trades: deque[MarketTrade] = deque(maxlen=500)
        self._seed = seed
        self._random = random.Random(f"{seed}:{listing.name}:book")
        self._mark_random = random.Random(f"{seed}:{listing.name}:mark")
        self._fair = listing.price
        #: Largest move of the fair price in a step, in ticks.
        self._reach = max(1, listing.price // 40_000)
        #: Typical distance of levels, in ticks.
        self._gap = max(1, self._reach // 2)
        self._orders = self._fills = 0
        self._touch: tuple[object, object] = (None, None)
        self.opening = self.high = self.low = listing.price
        self.open_interest = self._lots_for(900_000_000)
        self.volume = self._lots_for(2_500_000_000)
        self.mark_e8 = self.index_e8 = self.premium_e10 = self.funding_e12 = 0
        if listing.contract.live:
            self._warm_up(now_ms)
        self.reprice(now_ms)

    def step(self, now_ms: int) -> MarketStep:
        """Advance the market by one step; a delisted market does not change."""
        trades: list[MarketTrade] = []
        if self.listing.contract.live:
            trades += self._move_fair_price(now_ms)
            for _ in range(self._random.choice(_TOUCHES)):
                self._change_level(self._random.choice((self.bids, self.asks)))
            for levels in (self.bids, self.asks):
                self._enforce_depth(levels)
        self._record(trades)
        touch = (self.bids.best(), self.asks.best())
        moved, self._touch = touch != self._touch, touch
        return MarketStep(now_ms, self.bids.drain_changes(), self.asks.drain_changes(), tuple(trades), moved)

    def reprice(self, now_ms: int) -> None:
        """Move mark, index, funding and open interest; call about once a second."""
        fair_e8 = self._fair * 10 ** (8 - self.listing.price_places)
        noise = self._mark_random.randint(-5_000, 5_000)
        self.index_e8 = fair_e8 + fair_e8 * noise // 20_000_000
        self.mark_e8 = fair_e8 + fair_e8 * self._mark_random.randint(-500, 500) // 20_000_000
        self.premium_e10 = (self.mark_e8 - self.index_e8) * 10**10 // self.index_e8
        next_rate = self.settled_funding_e12(now_ms // _HOUR_MS + 1)
        self.funding_e12 = next_rate + next_rate * self._mark_random.randint(-300, 300) // 10_000
        lots = self.open_interest * self._mark_random.randint(-20, 20) // 1_000_000
        self.open_interest = max(1, self.open_interest + lots)

    def settled_funding_e12(self, hour: int) -> int:
        """Return the rate settled ``hour`` hours after the epoch: a fraction per hour, in 10^-12."""
        drawn = zlib.crc32(f"{self._seed}:{self.listing.name}:{hour}".encode())
        return 12_500_000 if drawn % 3 == 0 else (drawn % 60_000 - 20_000) * 1_000 + drawn % 997

    def _warm_up(self, now_ms: int) -> None:
        for levels in (self.bids, self.asks):
            self._enforce_depth(levels)
        for left in range(_WARM_UP_STEPS, 0, -1):
            self.step(now_ms - left * _WARM_UP_GAP_MS)

    def _move_fair_price(self, now_ms: int) -> list[MarketTrade]:
        """Move the fair price now and then, and trade every level that it crosses."""
        if self._random.random() > 0.4:
            return self._trade_at_touch(now_ms) if self._random.random() < 0.2 else []
        move = self._random.randint(-self._reach, self._reach)
        if abs(self._fair - self.listing.price) > self.listing.price // 50:
            move = -abs(move) if self._fair > self.listing.price else abs(move)
        self._fair += move
        levels, side = (self.asks, BUY) if move > 0 else (self.bids, SELL)
        fills = [fill for fill in levels.top() if (fill[0] <= self._fair) == (move > 0)]
        return self._fill_taker(levels, side, fills, now_ms)

    def _trade_at_touch(self, now_ms: int) -> list[MarketTrade]:
        """Trade no more than the size of the best level."""
        levels, side = self._random.choice(((self.asks, BUY), (self.bids, SELL)))
        best = levels.best()
        if best is None:
            return []
        return self._fill_taker(levels, side, [(best[0], min(best[1], self._order_size()))], now_ms)

    def _fill_taker(
        self, levels: PriceLevels, side: Aggressor, fills: list[tuple[int, int]], now_ms: int
    ) -> list[MarketTrade]:
        """Fill one taker order, level by level."""
        if not fills:
            return []
        self._orders += 1
        is_liquidation = self._random.random() < 0.01
        trades = []
        for price, size in fills:
            levels.put(price, levels.sizes[price] - size)
            self._fills += 1
            trades.append(MarketTrade(self._fills, self._orders, now_ms, price, size, side, is_liquidation))
        return trades

    def _change_level(self, levels: PriceLevels) -> None:
        """Change, remove or add a level, mostly near the touch."""
        chance = self._random.random()
        if chance < 0.65 and not levels.sizes:
            return  # in a thin market
        if chance < 0.45:
            levels.put(self._some_price(levels), self._order_size())
        elif chance < 0.65:
            levels.put(self._some_price(levels), 0)
        else:
            span = self._gap * (40 if chance < 0.9 else 400)
            away = int(self._random.random() ** 2 * span)
            levels.put(self._fair - away if levels.is_bid else self._fair + 1 + away, self._order_size())

    def _some_price(self, levels: PriceLevels) -> int:
        prices = levels.prices()
        return prices[int(self._random.random() ** 2 * len(prices))]

    def _enforce_depth(self, levels: PriceLevels) -> None:
        """Keep the best level near the fair price and the number of levels within bounds."""
        away = -1 if levels.is_bid else 1
        near = self._fair if levels.is_bid else self._fair + 1
        best = levels.best()
        if best is None or abs(best[0] - near) > 2 * self._reach:
            levels.put(near + away * self._random.randint(0, self._reach), self._order_size())
        prices = levels.prices()
        fewest, most = _THIN_LEVELS if self.is_thin else _LEVELS
        for price in prices[most:]:
            levels.put(price, 0)
        edge = prices[-1]
        for _ in range(fewest - len(prices)):
            edge += away * self._random.randint(1, 3 * self._gap)
            levels.put(edge, self._order_size())

    def _order_size(self) -> int:
        return self._lots_for(self._random.choice(_ORDER_VALUES) * self._random.randint(100, 10_000) // 10_000)

    def _lots_for(self, value: int) -> int:
        """Return the lots that ``value`` units of the quote buy, at least one."""
        listing = self.listing
        lots: int = value * 10 ** (listing.price_places + listing.size_places) // listing.price
        return max(1, lots)

    def _record(self, trades: Iterable[MarketTrade]) -> None:
        for trade in trades:
            self.trades.append(trade)
            self.volume += trade.size
            self.high = max(self.high, trade.price)
            self.low = min(self.low, trade.price)
