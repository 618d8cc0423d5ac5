"""Measured program: ccxt.pro's own loop on the same frames, with only its URLs changed; it publishes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import ccxt.pro

from bench.frames import START_MS, wire
from bench.task import Task, TaskResult, reply

#: The unified symbol of the one market of the frames.
SYMBOLS = {
    "hyperliquid": "BTC/USDC:USDC",
    "aster": "BTC/USDT:USDT",
    "extended": "BTC/USDC:USDC",
    "lighter": "BTC/USDC:USDC",
    "paradex": "BTC/USD:USDC",
}
#: Interval of checks for the last frame, which may not wake ccxt's own loop.
_CHECK_S = 0.05
_LIMIT_S = 90.0


def point_at(exchange: Any, ws_url: str, rest_url: str) -> None:
    """Change the URLs of an exchange of ccxt."""
    api = exchange.urls["api"]
    root = rest_url.removesuffix("/api/v1")
    match exchange.id:
        case "hyperliquid":
            api.update(public=rest_url, private=rest_url)
            api["ws"]["public"] = ws_url
        case "aster":
            api.update(fapiPublic=rest_url + "/fapi", sapiPublic=rest_url + "/api")
            api["ws"]["public"]["swap"] = ws_url + "/stream"
        case "paradex":
            api.update(v1=rest_url, ws=ws_url)
        case "extended":
            api.update(rest=root, ws=ws_url)
        case _:
            api.update(root=root, public=root, private=root, ws=ws_url)


def know_market(exchange: Any) -> None:
    """List the market, as ``load_markets`` would from REST."""
    symbol, wire_name = SYMBOLS[exchange.id], wire(exchange.id, 0)
    base, _, quote = symbol.partition(":")[0].partition("/")
    settle = symbol.rpartition(":")[2]
    market = {"id": wire_name, "symbol": symbol, "base": base, "quote": quote, "settle": settle, "type": "swap"}
    ids = {"baseId": base, "quoteId": quote, "settleId": settle}
    marks = {"spot": False, "swap": True, "contract": True, "linear": True, "inverse": False, "active": True}
    more = {
        "contractSize": 1.0,
        "precision": {"price": 0.1, "amount": 0.00001},
        "info": {"name": wire_name},
        "baseName": base,
    }
    exchange.set_markets([exchange.safe_market_structure({**market, **ids, **marks, **more})])


def frames_handled(exchange: Any, symbol: str, kind: str) -> int:
    """Return the number of frames that ccxt has handled, by the time stamp of the last one."""
    if kind == "trade":
        trades = exchange.trades.get(symbol)
        time_ms = trades[-1]["timestamp"] if trades else None
    else:
        book = exchange.orderbooks.get(symbol)
        time_ms = book["timestamp"] if book else None
    return 0 if time_ms is None else int(time_ms) - START_MS + 1


async def follow(exchange: Any, symbol: str, kind: str) -> None:
    """Follow a stream as a user of ccxt does."""
    while True:
        if kind == "trade":
            await exchange.watch_trades(symbol)
        else:
            await exchange.watch_order_book(symbol)


async def measure(task: Task) -> TaskResult:
    """Follow the stream to its last frame; the clock runs from the first one on."""
    exchange = getattr(ccxt.pro, task.venue)({"enableRateLimit": False})
    if task.kind.startswith("json"):
        exchange.options["sbe"] = False
    point_at(exchange, task.ws_url, task.rest_url)
    symbol = SYMBOLS[task.venue]
    know_market(exchange)
    if task.kind == "trade":
        await exchange.watch_trades(symbol)
    else:
        await exchange.watch_order_book(symbol)
    before, wall, cpu = frames_handled(exchange, symbol, task.kind), time.perf_counter(), time.process_time()
    following = asyncio.create_task(follow(exchange, symbol, task.kind))
    handled, until = before, time.monotonic() + _LIMIT_S
    while handled < task.frames and not following.done() and time.monotonic() < until:
        await asyncio.sleep(_CHECK_S)
        handled = frames_handled(exchange, symbol, task.kind)
    outcome = TaskResult(
        handled - before, time.process_time() - cpu, time.perf_counter() - wall, handled == task.frames
    )
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    return outcome


if __name__ == "__main__":
    reply(asyncio.run(measure(Task.of_command_line())))
