from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.listing import contracts, list_market
from simulator.market import Batch, LevelChange, Market, MarketStep, PriceLevels

NOW = 1_790_858_096_000


def make(base="BTC", places=1, seed=1):
    contract = next(c for c in contracts([base, "ETH"]) if c.base == base)
    return Market(list_market(contract, base, places, 5), seed, NOW)


def run(market, steps):
    return [market.step(NOW + 100 * n) for n in range(steps)]


@settings(max_examples=25, deadline=None)
@given(st.integers(), st.sampled_from([("BTC", 1), ("BTC", 0), ("ETH", 2), ("PEPE", 8), ("QQQ", 4)]))
def test_a_book_never_crosses_and_keeps_its_depth(seed, grid):
    market = make(*grid, seed=seed)
    for n in range(300):
        market.step(NOW + n)
        assert max(market.bids.sizes) < min(market.asks.sizes)
        assert min(*market.bids.sizes.values(), *market.asks.sizes.values()) > 0
        assert 55 <= len(market.bids.sizes) <= 101
        assert min(market.bids.sizes) > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(), st.lists(st.integers(1, 9), max_size=40))
def test_changes_applied_to_a_naive_book_give_the_model(seed, batch_sizes):
    market, batch = make(seed=seed), Batch()
    market.bids.drain_changes(), market.asks.drain_changes()
    bids, asks = dict(market.bids.sizes), dict(market.asks.sizes)
    for count in batch_sizes:
        for step in run(market, count):
            batch.add(step)
        for book, changes in zip((bids, asks), batch.drain(), strict=True):
            for change in changes:
                assert book.get(change.price, 0) == change.old
                book[change.price] = change.new
                if not change.new:
                    del book[change.price]
    assert bids == market.bids.sizes
    assert asks == market.asks.sizes


def test_the_same_seed_gives_the_same_market():
    first, second = make(seed="x"), make(seed="x")
    assert run(first, 200) == run(second, 200)
    assert first.bids.sizes == second.bids.sizes


def test_another_seed_gives_another_market():
    assert run(make(seed=1), 50) != run(make(seed=2), 50)


def test_marks_do_not_affect_the_book():
    first, second = make(), make()
    for n in range(50):
        second.reprice(NOW + n)
    assert run(first, 100) == run(second, 100)


def test_a_market_moves():
    market = make()
    steps = run(market, 1000)
    assert any(not step.bids and not step.asks for step in steps)
    assert any(step.trades for step in steps)
    assert any(step.touch_moved for step in steps)
    assert any(change.old and not change.new for step in steps for change in step.bids)
    assert any(change.new and not change.old for step in steps for change in step.asks)


def test_trades_reduce_the_book_and_are_numbered_without_gaps():
    market = make()
    numbers = []
    for step in run(market, 500):
        numbers += [trade.number for trade in step.trades]
        assert all(trade.size > 0 for trade in step.trades)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_there_is_history_before_the_first_step():
    market = make()
    assert len(market.trades) > 10
    assert all(trade.time_ms < NOW for trade in market.trades)


def test_a_delisted_market_is_empty_and_still():
    contract = next(c for c in contracts(["BTC"]) if not c.live)
    market = Market(list_market(contract, "MATIC", 4, 1), 1, NOW)
    assert market.step(NOW) == MarketStep(NOW, (), (), (), touch_moved=False)
    assert market.bids.best() is None
    assert market.mark_e8 > 0


def test_mark_stays_near_the_index_and_settled_funding_is_a_pure_function():
    market = make()
    for n in range(100):
        market.reprice(NOW + n * 1000)
        assert abs(market.mark_e8 - market.index_e8) < market.index_e8 // 1000
    assert market.settled_funding_e12(490_000) == make().settled_funding_e12(490_000)
    assert len({market.settled_funding_e12(hour) for hour in range(48)}) > 10


def test_a_level_that_appears_and_disappears_within_a_batch_is_omitted_unless_requested():
    batch = Batch()
    for change in (LevelChange(10, 0, 5), LevelChange(10, 5, 0)):
        batch.add(MarketStep(NOW, (change,), (), (), touch_moved=True))
    assert batch
    assert batch.drain() == ([], [])
    assert not batch
    batch.add(MarketStep(NOW, (LevelChange(10, 0, 5),), (), (), touch_moved=True))
    batch.add(MarketStep(NOW, (LevelChange(10, 5, 0),), (), (), touch_moved=True))
    assert batch.drain(keep_unchanged=True) == ([LevelChange(10, 0, 0)], [])


@pytest.mark.parametrize(("is_bid", "best"), [(True, 30), (False, 10)])
def test_the_best_level_of_a_side(is_bid, best):
    ladder = PriceLevels(is_bid=is_bid)
    for price in (10, 20, 30):
        ladder.put(price, price)
    assert ladder.best() == (best, best)
    assert ladder.top(1) == [(best, best)]
    ladder.put(best, 0)
    assert ladder.prices()[0] == 20
    assert {change.price for change in ladder.drain_changes()} == {10, 20, 30} - {best}
