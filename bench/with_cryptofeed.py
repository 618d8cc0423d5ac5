"""Measured program: cryptofeed's parser of Binance futures, whose protocol aster's is, on aster's frames.

cryptofeed has no connector for our venues, so its reading loop is repeated here on its own WebSocket library.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import websockets
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.exchanges import BinanceFutures
from cryptofeed.symbols import Symbols
from cryptofeed.types import OrderBook

from bench.frames import ASTER_SNAPSHOT, whole_book
from bench.task import Task, TaskResult, reply

_SYMBOL = "BTC-USDT-PERP"
_PATHS = {"trade": "btcusdt@aggTrade"}


def parser(took: Any) -> Any:
    """Return the exchange with a known market and the REST book."""
    Symbols.set(BinanceFutures.id, {_SYMBOL: "BTCUSDT"}, {"instrument_type": {_SYMBOL: "perpetual"}})
    feed = BinanceFutures(symbols=[_SYMBOL], channels=[L2_BOOK, TRADES], callbacks={L2_BOOK: took, TRADES: took})
    feed.start(asyncio.get_running_loop())
    book = whole_book()
    sides = [{Decimal(price): Decimal(size) for price, size in side} for side in book]
    feed._l2_book = {_SYMBOL: OrderBook(feed.id, _SYMBOL, bids=sides[0], asks=sides[1])}  # noqa: SLF001
    feed.last_update_id[_SYMBOL] = ASTER_SNAPSHOT
    return feed


async def measure(task: Task) -> TaskResult:
    """Read the stream to its last frame; the clock runs from the first one on."""
    came = 0

    async def took(_event: object, _timestamp: float) -> None:
        nonlocal came
        came += 1

    feed = parser(took)
    path = _PATHS.get(task.kind, "btcusdt@depth@100ms")
    async with websockets.connect(f"{task.ws_url}/stream?streams={path}", compression=None) as socket:
        await feed.message_handler(await socket.recv(), None, time.time())
        before, wall, cpu = came, time.perf_counter(), time.process_time()
        while came < task.frames:
            await feed.message_handler(await asyncio.wait_for(socket.recv(), 10.0), None, time.time())
    return TaskResult(came - before, time.process_time() - cpu, time.perf_counter() - wall, came == task.frames)


if __name__ == "__main__":
    reply(asyncio.run(measure(Task.of_command_line())))
