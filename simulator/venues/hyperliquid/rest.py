"""Hyperliquid: the shapes of its data, and its REST side (``POST /info``).

Source: Hyperliquid, API documentation, info endpoint and WebSocket subscriptions; members and number formats as in
recorded frames of 2025 and 2026.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from simulator.decimals import padded, pointed, shortest
from simulator.limits import RateLimit
from simulator.market import Market, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, json, plain
from simulator.session import decoded
from simulator.wire import Frame

if TYPE_CHECKING:
    from simulator.venues.hyperliquid.stream import SimulatedHyperliquid

__all__ = [
    "BLOCK_LAG_MS",
    "BUILT",
    "DEX",
    "GREETING",
    "Info",
    "asset_ctx",
    "book",
    "dex_of",
    "entry",
    "trade_id",
    "trade_rows",
]

#: Times are those of blocks, which are behind the clock.
BLOCK_LAG_MS = 650
#: A dex of a builder, and the market that it has; every dex but the core one stands before the names of its markets.
DEX = "xyz"
BUILT = f"{DEX}:TSLA"
_HOUR_MS = 3_600_000
_DEEPEST = 20
_MOST_ROWS = 500
_NO_HASH = "0x" + 64 * "0"
#: Queries that weigh little.
_LIGHT = frozenset({"l2Book", "allMids", "exchangeStatus", "clearinghouseState", "spotClearinghouseState"})
GREETING = Frame(b"Websocket connection established.")
#: Odd, so that multiplying by it modulo 2^50 maps numbers one to one onto ids that look drawn.
_SCATTER = 0x2545F4914F6CDD1D


def dex_of(market: Market) -> str:
    """The dex of a market; empty for the core one."""
    dex, colon, _ = market.listing.name.partition(":")
    return dex if colon else ""


def entry(market: Market, price: int, size: int) -> dict[str, Any]:
    """A book level."""
    orders = 1 + (price * 7 + size) % 11 if size > 50 else 1
    return {"px": _price(market, price), "sz": pointed(size, market.listing.size_places), "n": orders}


def book(
    market: Market, time_ms: int, depth: int = _DEEPEST, digits: int | None = None, mantissa: int | None = None
) -> dict[str, Any]:
    """A book of at most ``depth`` levels a side; ``digits`` significant digits when it is aggregated."""
    sides = []
    for ladder in (market.bids, market.asks):
        levels = ladder.top(depth if digits is None else None)
        if digits is not None:
            levels = _aggregate(levels, 10 ** max(0, len(str(market.listing.price)) - digits) * (mantissa or 1), ladder)
        sides.append([entry(market, price, size) for price, size in levels[:depth]])
    return {"coin": market.listing.name, "time": time_ms, "levels": sides}


def _aggregate(levels: list[tuple[int, int]], quantum: int, ladder: Any) -> list[tuple[int, int]]:
    """Levels on a coarser grid: bids are rounded down, asks up."""
    sums: dict[int, int] = {}
    for price, size in levels:
        coarse = price // quantum * quantum if ladder.is_bid else -(-price // quantum) * quantum
        sums[coarse] = sums.get(coarse, 0) + size
    return list(sums.items())


def trade_id(market: Market, trade: MarketTrade) -> int:
    """``tid``: unique over all assets, about 50 bits."""
    asset = sum(market.listing.name.encode()) % 1024
    return (asset << 40 | trade.number) * _SCATTER % 2**50


def trade_rows(market: Market, trades: Iterable[MarketTrade]) -> list[dict[str, Any]]:
    """Trades as rows of the ``trades`` channel; fills of one taker order share their hash."""
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
                "hash": _NO_HASH if trade.is_liquidation else "0x" + digest,
                "tid": trade_id(market, trade),
                "users": ["0x" + digest[:40], "0x" + digest[24:]],
            }
        )
    return rows


def asset_ctx(market: Market, *, is_live: bool) -> dict[str, Any]:
    """Mark, oracle, funding and open interest; what needs a book is null without one."""
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
    """A price with one digit more than the grid has."""
    places = market.listing.price_places + 1
    return pointed(price_e8 // 10 ** (8 - places), places)


class Info:
    """The answers of ``POST /info``; also what the WebSocket's ``post`` gives."""

    def __init__(self, venue: SimulatedHyperliquid) -> None:
        self._venue = venue
        self._weight: RateLimit = venue.rate_limit(1200, 60)
        self._answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "meta": self._meta,
            "allPerpMetas": lambda _: [self._meta({}), self._meta({"dex": DEX})],
            "metaAndAssetCtxs": lambda query: [self._meta(query), self._contexts(query)],
            "perpDexs": lambda _: [None, {"name": DEX, "fullName": "XYZ", "deployer": "0x" + 40 * "8"}],
            "spotMeta": self._spot_meta,
            "spotMetaAndAssetCtxs": lambda query: [self._spot_meta(query), self._spot_contexts()],
            "l2Book": self._book,
            "allMids": self.all_mids,
            "recentTrades": self._recent_trades,
            "fundingHistory": self._funding_history,
            "predictedFundings": self._predicted_fundings,
            "exchangeStatus": lambda _: {"time": self._venue.now_ms(), "specialStatuses": None},
            **dict.fromkeys(venue.accounts.answers, venue.accounts.answer),
        }

    def serve(self, request: HttpRequest) -> HttpResponse:
        """Answer a REST request."""
        query = decoded(request.body)
        kind = query.get("type") if isinstance(query, dict) else None
        if not isinstance(kind, str) or kind not in self._answers:
            return plain("Failed to deserialize the JSON body into the target type", 422)
        self._venue.routes.counts[f"/info {kind}"] += 1
        if not self._weight.acquire(2 if kind in _LIGHT else 20):
            return json(None, 429)
        answer = self.answer(query)
        return json(answer, 500 if answer is None and kind != "l2Book" else 200)

    def answer(self, query: dict[str, Any]) -> Any:
        """The answer to a query; None for an unknown coin or an unknown query."""
        answer = self._answers.get(str(query.get("type")))
        try:
            return None if answer is None else answer(query)
        except (KeyError, TypeError, ValueError):
            return None

    def _perps(self, query: dict[str, Any]) -> list[Market]:
        """The universe of a dex, in its order."""
        dex = query.get("dex") or ""
        return [m for m in self._venue.listed() if not self._venue.is_spot(m) and dex_of(m) == dex]

    def _meta(self, query: dict[str, Any]) -> dict[str, Any]:
        universe = []
        for market in self._perps(query):
            row = {
                "szDecimals": market.listing.size_places,
                "name": market.listing.name,
                "maxLeverage": 40,
                "marginTableId": 56,
            }
            universe.append(row if self._venue.is_live(market) else {**row, "isDelisted": True})
        tiers = [{"lowerBound": "0.0", "maxLeverage": 40}]
        return {
            "universe": universe,
            "marginTables": [[56, {"description": "tiered 40x", "marginTiers": tiers}]],
            "collateralToken": 0,
        }

    def _contexts(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        return [asset_ctx(market, is_live=self._venue.is_live(market)) for market in self._perps(query)]

    def _spot_meta(self, query: dict[str, Any]) -> dict[str, Any]:
        del query
        names = ("USDC", "PURR", "HYPE")
        tokens = [
            {
                "name": name,
                "szDecimals": 8 if name == "USDC" else 2,
                "weiDecimals": 8,
                "index": index,
                "tokenId": f"0x{index:032x}",
                "isCanonical": index < 2,
                "evmContract": None,
                "fullName": None,
            }
            for index, name in enumerate(names)
        ]
        universe = [
            {"tokens": [number, 0], "name": market.listing.name, "index": number - 1, "isCanonical": number == 1}
            for number, market in enumerate(self._spots(), start=1)
        ]
        return {"tokens": tokens, "universe": universe}

    def _spots(self) -> list[Market]:
        return [market for market in self._venue.listed() if self._venue.is_spot(market)]

    def _spot_contexts(self) -> list[dict[str, Any]]:
        rows = []
        for market in self._spots():
            ctx = asset_ctx(market, is_live=True)
            kept = {name: ctx[name] for name in ("prevDayPx", "dayNtlVlm", "markPx", "midPx")}
            rows.append({**kept, "circulatingSupply": "1000000000.0", "coin": market.listing.name})
        return rows

    def _book(self, query: dict[str, Any]) -> dict[str, Any] | None:
        market = self._venue.find(str(query.get("coin")))
        if market is None:
            return None
        return book(market, self._venue.block_ms(), digits=query.get("nSigFigs"), mantissa=query.get("mantissa"))

    def all_mids(self, query: dict[str, Any]) -> dict[str, str]:
        """The middle of each book of a dex; the core one includes the spot side."""
        dex = query.get("dex") or ""
        here = [m for m in self._venue.listed() if self._venue.is_live(m) and dex_of(m) == dex]
        contexts = {m.listing.name: asset_ctx(m, is_live=True) for m in here}
        return {coin: ctx["midPx"] for coin, ctx in contexts.items() if ctx["midPx"] is not None}

    def _recent_trades(self, query: dict[str, Any]) -> list[dict[str, Any]] | None:
        market = self._venue.find(str(query.get("coin")))
        return None if market is None else trade_rows(market, list(market.trades)[-10:][::-1])

    def _funding_history(self, query: dict[str, Any]) -> list[dict[str, Any]] | None:
        market = self._venue.find(str(query.get("coin")))
        if market is None:
            return None
        now = self._venue.now_ms()
        first = -(-int(query.get("startTime", now)) // _HOUR_MS)
        last = min(int(query.get("endTime") or now), now) // _HOUR_MS
        return [
            {
                "coin": market.listing.name,
                "fundingRate": pointed(market.settled_funding_e12(hour) // 100, 10),
                "premium": padded(market.settled_funding_e12(hour) // 40, 10),
                "time": hour * _HOUR_MS + 16 + hour % 80,
            }
            for hour in range(first, last + 1)
        ][:_MOST_ROWS]

    def _predicted_fundings(self, query: dict[str, Any]) -> list[Any]:
        next_hour = (self._venue.now_ms() // _HOUR_MS + 1) * _HOUR_MS
        rows = []
        for market in self._perps(query):
            own = {
                "fundingRate": shortest(market.funding_e12 // 100, 10),
                "nextFundingTime": next_hour,
                "fundingIntervalHours": 1,
            }
            other = {"fundingRate": "0.0001", "nextFundingTime": next_hour, "fundingIntervalHours": 8}
            venues = [["BinPerp", other], ["HlPerp", own], ["BybitPerp", None]]
            rows.append([market.listing.name, venues])
        return rows
