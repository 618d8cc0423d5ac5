"""Other people's clients work against the simulator when only their URLs are changed."""

from __future__ import annotations

import asyncio

import ccxt.pro
import pytest

pytestmark = pytest.mark.integration

SYMBOLS = {
    "hyperliquid": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "aster": ("BTC/USDT:USDT", "ETH/USDT:USDT"),
    "extended": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "lighter": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "paradex": ("BTC/USD:USDC", "ETH/USD:USDC"),
}


def point_at(exchange, urls):
    """Change the URLs of an exchange of ccxt, and nothing else."""
    api = exchange.urls["api"]
    if exchange.id == "hyperliquid":
        api.update(public=urls.rest, private=urls.rest)
        api["ws"]["public"] = urls.ws
    elif exchange.id == "aster":
        api.update(fapiPublic=urls.rest + "/fapi", sapiPublic=urls.rest + "/api")
        api["ws"]["public"]["swap"] = urls.ws + "/stream"
    elif exchange.id == "paradex":
        api.update(v1=urls.rest, ws=urls.ws)
    elif exchange.id == "extended":
        api.update(rest=urls.rest.removesuffix("/api/v1"), ws=urls.ws)
    else:
        root = urls.rest.removesuffix("/api/v1")
        api.update(root=root, public=root, private=root, ws=urls.ws)


def levels(side):
    return [[float(price), float(size)] for price, size in side]


async def follow(exchange, symbol):
    while True:
        await exchange.watch_order_book(symbol)


async def until_equal(exchange, symbol, truth):
    """Wait until what ccxt holds is the top of the true book; how many levels that is."""
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


async def use_rest(sim, venue):
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    point_at(exchange, sim.urls[venue])
    symbol = SYMBOLS[venue][0]
    try:
        await exchange.load_markets()
        book = await exchange.fetch_order_book(symbol)
        truth = await asyncio.to_thread(sim.truth, venue, "BTC-PERP")
        trades = await exchange.fetch_trades(symbol)
        rates = await exchange.fetch_funding_rates([symbol]) if venue != "paradex" else {}
        return exchange.markets, book, truth, trades, rates
    finally:
        await exchange.close()


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt_reads_catalogue_book_trades_and_funding_over_rest(sim, venue):
    sim.pause()
    try:
        markets, book, truth, trades, rates = asyncio.run(asyncio.wait_for(use_rest(sim, venue), 30))
    finally:
        sim.resume()
    assert levels(level[:2] for level in book["bids"]) == levels(truth["bids"])[: len(book["bids"])]
    assert len(book["asks"]) >= 20
    assert set(SYMBOLS[venue]) <= set(markets)
    assert {trade["side"] for trade in trades} <= {"buy", "sell"}
    assert {trade["id"] for trade in trades} & {row["trade_id"] for row in truth["trades"]} or venue == "aster"
    assert all(abs(rate["fundingRate"]) < 0.01 for rate in rates.values())
