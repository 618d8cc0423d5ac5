"""The market model: one order book with its trades, mark, index, funding and open interest.

Pure and seeded: integers only, no I/O, no clock. Prices are in ticks (10^-price_places of the quote), sizes in lots
(10^-size_places contracts). Bids never stand above the fair price and asks always do, so a book cannot cross. How a
venue tells of all this is the venue's business.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from simulator.listing import SimulatedListing

__all__ = ["BUY", "SELL", "Batch", "LevelChange", "Market", "MarketStep", "MarketTrade", "PriceLevels"]

Aggressor = Literal["buy", "sell"]
BUY: Aggressor = "buy"
SELL: Aggressor = "sell"

#: Fewest and most levels of a side, and of one of a thin market.
_LEVELS, _THIN_LEVELS = (60, 100), (2, 5)
#: How many levels a step touches; one of these at random.
_TOUCHES = (0, 0, 1, 1, 2, 2, 3, 5)
#: What an order is worth, in the quote; one of these at random, times 0.01 to 1.
_ORDERS_WORTH = (400, 2_000, 2_000, 10_000, 10_000, 40_000, 150_000)
_WARM_UP_STEPS = 160
_WARM_UP_GAP_MS = 250
_HOUR_MS = 3_600_000


class LevelChange(NamedTuple):
    """A level whose size went from ``old`` to ``new`` lots; zero is absent."""

    price: int
    old: int
    new: int


class MarketTrade(NamedTuple):
    """A fill. Fills of one taker order share ``order``."""

    number: int
    order: int
    time_ms: int
    price: int
    size: int
    side: Aggressor
    is_liquidation: bool


@dataclass(frozen=True, slots=True)
class MarketStep:
    """What one step of a market changed; all of it may be empty."""

    time_ms: int
    bids: tuple[LevelChange, ...]
    asks: tuple[LevelChange, ...]
    trades: tuple[MarketTrade, ...]
    touch_moved: bool


class PriceLevels:
    """One side of a book: lots by price, and what changed since :meth:`drain_changes`."""

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.levels: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def put(self, price: int, size: int) -> None:
        """Set the size of a level; zero removes it."""
        self._before.setdefault(price, self.levels.get(price, 0))
        if size:
            self.levels[price] = size
        else:
            self.levels.pop(price, None)

    def best(self) -> tuple[int, int] | None:
        """Price and size of the touch; None when the side is empty."""
        if not self.levels:
            return None
        price = max(self.levels) if self.is_bid else min(self.levels)
        return price, self.levels[price]

    def prices(self) -> list[int]:
        """All prices, best first."""
        return sorted(self.levels, reverse=self.is_bid)

    def top(self, depth: int | None = None) -> list[tuple[int, int]]:
        """The ``depth`` best levels (all of them when None), best first."""
        return [(price, self.levels[price]) for price in self.prices()[:depth]]

    def drain_changes(self) -> tuple[LevelChange, ...]:
        """The levels whose size is not what it was at the last call."""
        found = (LevelChange(price, old, self.levels.get(price, 0)) for price, old in self._before.items())
        changes = tuple(change for change in found if change.old != change.new)
        self._before.clear()
        return changes


class Batch:
    """The changes of several steps, merged: what a venue sends every so many milliseconds."""

    def __init__(self) -> None:
        self._bids: dict[int, LevelChange] = {}
        self._asks: dict[int, LevelChange] = {}

    def __bool__(self) -> bool:
        """Whether anything was touched since :meth:`drain`."""
        return bool(self._bids or self._asks)

    def add(self, step: MarketStep) -> None:
        """Merge the changes of a step."""
        for pending, changes in ((self._bids, step.bids), (self._asks, step.asks)):
            for change in changes:
                first = pending.get(change.price, change)
                pending[change.price] = LevelChange(change.price, first.old, change.new)

    def drain(self, *, keep_unchanged: bool = False) -> tuple[list[LevelChange], list[LevelChange]]:
        """Bids and asks that changed since the last call.

        Args:
            keep_unchanged: Also levels that came and went in between, or went and came back.
        """
        taken = [
            [change for change in pending.values() if keep_unchanged or change.old != change.new]
            for pending in (self._bids, self._asks)
        ]
        self._bids.clear()
        self._asks.clear()
        return taken[0], taken[1]


class Market:
    """One market of one venue.

    Args:
        listing: What is traded.
        seed: Anything; the same seed gives the same market, but for its times.
        now_ms: Wall clock. The market has some history before it.

    Attributes:
        trades: The last trades, oldest first.
        mark_e8: Mark price, in 10^-8 of the quote.
        index_e8: Index price, likewise.
        premium_e10: Mark over index, in 10^-10.
        funding_e12: Funding rate now building up, a fraction per hour in 10^-12.
        open_interest: Lots, one-sided.
        volume: Lots traded in 24 hours.
        opening: Price 24 hours ago; ``high`` and ``low`` since.
        is_thin: Whether a side of the book has a handful of levels; holds from the next step.
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
        self._reach = max(1, listing.price // 40_000)
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
        """Let the market live on for a moment; a delisted one does nothing."""
        trades: list[MarketTrade] = []
        if self.listing.contract.live:
            trades += self._drift(now_ms)
            for _ in range(self._random.choice(_TOUCHES)):
                self._churn(self._random.choice((self.bids, self.asks)))
            for ladder in (self.bids, self.asks):
                self._keep_depth(ladder)
        self._tally(trades)
        touch = (self.bids.best(), self.asks.best())
        moved, self._touch = touch != self._touch, touch
        return MarketStep(now_ms, self.bids.drain_changes(), self.asks.drain_changes(), tuple(trades), moved)

    def reprice(self, now_ms: int) -> None:
        """Move mark, index, funding and open interest; call it about once a second."""
        fair_e8 = self._fair * 10 ** (8 - self.listing.price_places)
        noise = self._mark_random.randint(-5_000, 5_000)
        self.index_e8 = fair_e8 + fair_e8 * noise // 20_000_000
        self.mark_e8 = fair_e8 + fair_e8 * self._mark_random.randint(-500, 500) // 20_000_000
        self.premium_e10 = (self.mark_e8 - self.index_e8) * 10**10 // self.index_e8
        coming = self.settled_funding_e12(now_ms // _HOUR_MS + 1)
        self.funding_e12 = coming + coming * self._mark_random.randint(-300, 300) // 10_000
        lots = self.open_interest * self._mark_random.randint(-20, 20) // 1_000_000
        self.open_interest = max(1, self.open_interest + lots)

    def settled_funding_e12(self, hour: int) -> int:
        """The rate that was settled ``hour`` hours after the epoch: a fraction per hour, in 10^-12."""
        drawn = zlib.crc32(f"{self._seed}:{self.listing.name}:{hour}".encode())
        return 12_500_000 if drawn % 3 == 0 else (drawn % 60_000 - 20_000) * 1_000 + drawn % 997

    def _warm_up(self, now_ms: int) -> None:
        for ladder in (self.bids, self.asks):
            self._keep_depth(ladder)
        for left in range(_WARM_UP_STEPS, 0, -1):
            self.step(now_ms - left * _WARM_UP_GAP_MS)

    def _drift(self, now_ms: int) -> list[MarketTrade]:
        """Move the fair price now and then; whatever stands in its way is traded."""
        if self._random.random() > 0.4:
            return self._nibble(now_ms) if self._random.random() < 0.2 else []
        move = self._random.randint(-self._reach, self._reach)
        if abs(self._fair - self.listing.price) > self.listing.price // 50:
            move = -abs(move) if self._fair > self.listing.price else abs(move)
        self._fair += move
        ladder, side = (self.asks, BUY) if move > 0 else (self.bids, SELL)
        fills = [fill for fill in ladder.top() if (fill[0] <= self._fair) == (move > 0)]
        return self._take(ladder, side, fills, now_ms)

    def _nibble(self, now_ms: int) -> list[MarketTrade]:
        """A taker order that is no larger than the touch."""
        ladder, side = self._random.choice(((self.asks, BUY), (self.bids, SELL)))
        best = ladder.best()
        if best is None:
            return []
        return self._take(ladder, side, [(best[0], min(best[1], self._order_size()))], now_ms)

    def _take(
        self, ladder: PriceLevels, side: Aggressor, fills: list[tuple[int, int]], now_ms: int
    ) -> list[MarketTrade]:
        """Fill one taker order, level by level."""
        if not fills:
            return []
        self._orders += 1
        is_liquidation = self._random.random() < 0.01
        trades = []
        for price, size in fills:
            ladder.put(price, ladder.levels[price] - size)
            self._fills += 1
            trades.append(MarketTrade(self._fills, self._orders, now_ms, price, size, side, is_liquidation))
        return trades

    def _churn(self, ladder: PriceLevels) -> None:
        """Let a level change, vanish or appear; most often near the touch, at times far from it."""
        chance = self._random.random()
        if chance < 0.65 and not ladder.levels:
            return  # in a thin market
        if chance < 0.45:
            ladder.put(self._some_price(ladder), self._order_size())
        elif chance < 0.65:
            ladder.put(self._some_price(ladder), 0)
        else:
            span = self._gap * (40 if chance < 0.9 else 400)
            away = int(self._random.random() ** 2 * span)
            ladder.put(self._fair - away if ladder.is_bid else self._fair + 1 + away, self._order_size())

    def _some_price(self, ladder: PriceLevels) -> int:
        prices = ladder.prices()
        return prices[int(self._random.random() ** 2 * len(prices))]

    def _keep_depth(self, ladder: PriceLevels) -> None:
        """Keep the touch near the fair price and the number of levels in bounds."""
        away = -1 if ladder.is_bid else 1
        near = self._fair if ladder.is_bid else self._fair + 1
        best = ladder.best()
        if best is None or abs(best[0] - near) > 2 * self._reach:
            ladder.put(near + away * self._random.randint(0, self._reach), self._order_size())
        prices = ladder.prices()
        fewest, most = _THIN_LEVELS if self.is_thin else _LEVELS
        for price in prices[most:]:
            ladder.put(price, 0)
        edge = prices[-1]
        for _ in range(fewest - len(prices)):
            edge += away * self._random.randint(1, 3 * self._gap)
            ladder.put(edge, self._order_size())

    def _order_size(self) -> int:
        return self._lots_for(self._random.choice(_ORDERS_WORTH) * self._random.randint(100, 10_000) // 10_000)

    def _lots_for(self, worth: int) -> int:
        """The lots that ``worth`` units of the quote buy, at least one."""
        listing = self.listing
        lots: int = worth * 10 ** (listing.price_places + listing.size_places) // listing.price
        return max(1, lots)

    def _tally(self, trades: Iterable[MarketTrade]) -> None:
        for trade in trades:
            self.trades.append(trade)
            self.volume += trade.size
            self.high = max(self.high, trade.price)
            self.low = min(self.low, trade.price)
