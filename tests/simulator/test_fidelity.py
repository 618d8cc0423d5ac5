"""Third-party clients work against the simulator when only their URLs are changed."""

from __future__ import annotations

import asyncio

import ccxt.pro
import pytest
from ccxt_clients import SYMBOLS, follow, point_at

pytestmark = pytest.mark.integration


def levels(side):
    return [[float(price), float(size)] for price, size in side]


async def until_equal(exchange, symbol, truth):
    """Wait until ccxt's book is the top of the true book; return its number of levels."""
    while True:
        book = exchange.orderbooks[symbol]
        held = [[list(level[:2]) for level in book[side]] for side in ("bids", "asks")]
        if all(held) and held == [levels(truth[side])[: len(held[n])] for n, side in enumerate(("bids", "asks"))]:
            return min(len(side) for side in held)
        await asyncio.sleep(0.05)


async def follow_and_compare(sim, venue):
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    point_at(exchange, sim.urls[venue])
    tasks = []
    try:
        await exchange.load_markets()
        for symbol in SYMBOLS[venue]:
            await exchange.watch_order_book(symbol)
            tasks.append(asyncio.create_task(follow(exchange, symbol)))
        await asyncio.sleep(2)
        await asyncio.to_thread(sim.pause)
        depths = []
        for symbol, ours in zip(SYMBOLS[venue], ("BTC-PERP", "ETH-PERP"), strict=True):
            truth = await asyncio.to_thread(sim.truth, venue, ours)
            depths.append(await until_equal(exchange, symbol, truth))
        return depths
    finally:
        await asyncio.to_thread(sim.resume)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await exchange.close()


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt_follows_the_books(sim, venue):
    depths = asyncio.run(asyncio.wait_for(follow_and_compare(sim, venue), 30))
    least = {"hyperliquid": 20, "aster": 20, "paradex": 15}.get(venue, 50)
    assert all(depth >= least for depth in depths)


def added_up(side):
    """Return sizes by price; ccxt lists single orders where the venue does."""
    sums = {}
    for price, size in levels(level[:2] for level in side):
        sums[price] = round(sums.get(price, 0.0) + size, 8)
    return sums


async def use_rest(sim, venue):
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    point_at(exchange, sim.urls[venue])
    symbol = SYMBOLS[venue][0]
    try:
        await exchange.load_markets()
        book = await exchange.fetch_order_book(symbol)
        # For hyperliquid ccxt means the trades of an account.
        trades = await exchange.fetch_trades(symbol) if venue != "hyperliquid" else []
        if exchange.has["fetchFundingRateHistory"]:
            rates = await exchange.fetch_funding_rate_history(symbol, limit=10)
        else:
            rates = [(await exchange.fetch_funding_rates([symbol]))[symbol]]
        return book, trades, rates
    finally:
        await exchange.close()


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt_reads_book_trades_and_funding_over_rest(sim, venue):
    sim.pause()
    try:
        truth = sim.truth(venue, "BTC-PERP")
        book, trades, rates = asyncio.run(asyncio.wait_for(use_rest(sim, venue), 30))
    finally:
        sim.resume()
    bids, true_bids = (list(added_up(side).items()) for side in (book["bids"], truth["bids"]))
    assert len(bids) >= 20
    # The last level may be cut in the middle of its orders.
    assert bids[:-1] == true_bids[: len(bids) - 1]
    assert venue == "hyperliquid" or {trade["side"] for trade in trades} == {"buy", "sell"}
    assert rates
    assert all(abs(row["fundingRate"]) < 0.01 for row in rates)


STREAMS = {
    "hyperliquid": ["watch_trades", "watch_ticker"],
    "aster": ["watch_trades", "watch_ticker", "watch_mark_price"],
    "extended": ["watch_trades", "watch_mark_price", "watch_funding_rate"],
    "lighter": ["watch_trades", "watch_ticker", "watch_mark_price"],
    "paradex": ["watch_trades", "watch_ticker", "watch_funding_rate"],
}


async def watch(sim, venue, method):
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    point_at(exchange, sim.urls[venue])
    try:
        await exchange.load_markets()
        return await getattr(exchange, method)(SYMBOLS[venue][0])
    finally:
        await exchange.close()


@pytest.mark.parametrize(("venue", "method"), [(venue, method) for venue in STREAMS for method in STREAMS[venue]])
def test_ccxt_reads_the_other_streams(sim, venue, method):
    answer = asyncio.run(asyncio.wait_for(watch(sim, venue, method), 30))
    row = answer[-1] if isinstance(answer, list) else answer
    assert row["symbol"] == SYMBOLS[venue][0]
    numbers = [row.get(name) for name in ("price", "last", "markPrice", "fundingRate")]
    assert any(number for number in numbers), row
