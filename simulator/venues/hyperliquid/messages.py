"""Hyperliquid: messages of market data, on the stream and over REST.

Source: Hyperliquid, API documentation, info endpoint and WebSocket subscriptions; members and number formats as in
recorded frames of 2025 and 2026.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

from simulator.decimals import pointed, shortest
from simulator.market import Market, MarketTrade, PriceLevels
from simulator.wire import Frame

#: Times are those of blocks, which are this far behind the clock.
BLOCK_LAG_MS = 650
#: Dex of a builder, and its market; market names begin with their dex, except on the core one.
DEX = "xyz"
BUILT = f"{DEX}:TSLA"
_DEEPEST = 20
NO_HASH = "0x" + 64 * "0"
GREETING = Frame(b"Websocket connection established.")
#: Odd, so multiplication modulo 2^50 maps numbers one to one onto ids that look random.
_SCATTER = 0x2545F4914F6CDD1D
#: Defaults of the user channels.
USER_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "orderUpdates": {},
    "userEvents": {},
    "userFills": {"aggregateByTime": False},
    "userFundings": {},
    "openOrders": {"dex": ""},
    "clearinghouseState": {"dex": ""},
    "spotState": {"ignorePortfolioMargin": False},
}
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def is_address(text: Any) -> TypeGuard[str]:
    """Return whether a value has the form of an address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def dex_of(market: Market) -> str:
    """Return the dex of a market; empty for the core one."""
    dex, colon, _ = market.listing.name.partition(":")
    return dex if colon else ""


def is_spot(market: Market) -> bool:
    """Return whether a market is no perpetual."""
    return not market.listing.symbol.endswith("-PERP") and not dex_of(market)


def entry(market: Market, price: int, size: int) -> dict[str, Any]:
    """Return a book level."""
    orders = 1 + (price * 7 + size) % 11 if size > 50 else 1
    return {"px": _price(market, price), "sz": pointed(size, market.listing.size_places), "n": orders}


def book(
    market: Market, time_ms: int, depth: int = _DEEPEST, digits: int | None = None, mantissa: int | None = None
) -> dict[str, Any]:
    """Return a book of at most ``depth`` levels a side, aggregated to ``digits`` significant digits if given."""
    sides = []
    for ladder in (market.bids, market.asks):
        levels = ladder.top(depth if digits is None else None)
        if digits is not None:
            levels = _aggregate(levels, 10 ** max(0, len(str(market.listing.price)) - digits) * (mantissa or 1), ladder)
        sides.append([entry(market, price, size) for price, size in levels[:depth]])
    return {"coin": market.listing.name, "time": time_ms, "levels": sides}


def _aggregate(levels: list[tuple[int, int]], quantum: int, ladder: PriceLevels) -> list[tuple[int, int]]:
    """Return levels on a coarser grid: bids rounded down, asks up."""
    sums: dict[int, int] = {}
    for price, size in levels:
        coarse = price // quantum * quantum if ladder.is_bid else -(-price // quantum) * quantum
        sums[coarse] = sums.get(coarse, 0) + size
    return list(sums.items())


def trade_id(market: Market, trade: MarketTrade) -> int:
    """Return ``tid``: unique over all assets, about 50 bits."""
    asset = sum(market.listing.name.encode()) % 1024
    return (asset << 40 | trade.number) * _SCATTER % 2**50


def trade_rows(market: Market, trades: Iterable[MarketTrade]) -> list[dict[str, Any]]:
    """Return rows of the ``trades`` channel; fills of one taker order share their hash."""
    rows = []
    for trade in trades:
        digest = hashlib.sha256(f"{market.listing.name}:{trade.order}".encode()).hexdigest()
        rows.append(
            {
                "coin": market.listing.name,
                "side": "B" if trade.side == "buy" else "A",
                "px": _price(market, trade.price),
                "sz": pointed(trade.size, market.listing.size_places),
                "time": trade.time_ms - BLOCK_LAG_MS,
                "hash": NO_HASH if trade.is_liquidation else "0x" + digest,
                "tid": trade_id(market, trade),
                "users": ["0x" + digest[:40], "0x" + digest[24:]],
            }
        )
    return rows


def asset_ctx(market: Market, *, is_live: bool) -> dict[str, Any]:
    """Return mark, oracle, funding and open interest; members that need a book are null without one."""
    listing, best_bid, best_ask = market.listing, market.bids.best(), market.asks.best()
    ctx: dict[str, Any] = {
        "funding": shortest(market.funding_e12 // 100, 10) if is_live else "0.0",
        "openInterest": pointed(market.open_interest if is_live else 0, listing.size_places),
        "prevDayPx": _price(market, market.opening),
        "dayNtlVlm": pointed(
            market.volume * market.opening if is_live else 0, listing.price_places + listing.size_places
        ),
        "premium": None,
        "oraclePx": _fine(market, market.index_e8),
        "markPx": pointed(market.mark_e8 // 10 ** (8 - listing.price_places), listing.price_places),
        "midPx": None,
        "impactPxs": None,
        "dayBaseVlm": pointed(market.volume if is_live else 0, listing.size_places),
    }
    if best_bid and best_ask:
        ctx["premium"] = pointed(market.premium_e10, 10)
        ctx["midPx"] = pointed((best_bid[0] + best_ask[0]) * 5, listing.price_places + 1)
        ctx["impactPxs"] = [
            pointed(best_bid[0] * 10 - 3, listing.price_places + 1),
            pointed(best_ask[0] * 10 + 3, listing.price_places + 1),
        ]
    return ctx


def _price(market: Market, price: int) -> str:
    return pointed(price, market.listing.price_places)


def _fine(market: Market, price_e8: int) -> str:
    """Return a price with one digit more than the grid has."""
    places = market.listing.price_places + 1
    return pointed(price_e8 // 10 ** (8 - places), places)
