"""Measured program: nautilus_trader's Hyperliquid client (Rust core) on the same frames, to the objects of its API."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from nautilus_trader.core import nautilus_pyo3 as core
from nautilus_trader.model.data import capsule_to_data

from bench.task import Task, TaskResult, reply

_LIMIT_S = 60.0
_CHECK_S = 0.02


def instrument() -> Any:
    """Return the market of the frames."""
    price, size = core.Price.from_str("0.1"), core.Quantity.from_str("0.00001")
    usd, usdc = core.Currency.from_str("USD"), core.Currency.from_str("USDC")
    return core.CryptoPerpetual(
        instrument_id=core.InstrumentId.from_str("BTC-USD-PERP.HYPERLIQUID"),
        raw_symbol=core.Symbol("BTC"),
        base_currency=core.Currency.from_str("BTC"),
        quote_currency=usd,
        settlement_currency=usdc,
        is_inverse=False,
        price_precision=1,
        size_precision=5,
        price_increment=price,
        size_increment=size,
        ts_event=0,
        ts_init=0,
    )


async def measure(task: Task) -> TaskResult:
    """Read the stream to its last frame; the clock runs from the first one on."""
    market, came = instrument(), 0

    def handle(capsule: object) -> None:
        nonlocal came
        capsule_to_data(capsule)  # as its own data client does
        came += 1

    client = core.HyperliquidWebSocketClient(url=task.ws_url)
    await client.connect([market], handle)
    if task.kind == "trade":
        await client.subscribe_trades(market.id)
    else:
        await client.subscribe_order_book_deltas(market.id, 2, 0)
    until = time.monotonic() + _LIMIT_S
    while not came and time.monotonic() < until:  # noqa: ASYNC110 - the callback comes from a thread of Rust
        await asyncio.sleep(_CHECK_S)
    before, wall, cpu = came, time.perf_counter(), time.process_time()
    while came < task.frames and time.monotonic() < until:  # noqa: ASYNC110 - the same
        await asyncio.sleep(_CHECK_S)
    return TaskResult(came - before, time.process_time() - cpu, time.perf_counter() - wall, came == task.frames)


if __name__ == "__main__":
    reply(asyncio.run(measure(Task.of_command_line())))
