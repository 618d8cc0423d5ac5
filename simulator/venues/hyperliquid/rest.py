"""Hyperliquid: REST (``POST /info``).

Source: Hyperliquid, API documentation, info endpoint; members and number formats as in recorded bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.decimals import padded, pointed, shortest
from simulator.limits import RateLimit
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json, plain
from simulator.session import decoded
from simulator.venues.hyperliquid.messages import DEX, asset_ctx, book, dex_of, is_spot, trade_rows
from simulator.venues.hyperliquid.stream import SimulatedHyperliquid

_HOUR_MS = 3_600_000
_MOST_ROWS = 500
#: Queries of low weight.
_LIGHT = frozenset({"l2Book", "allMids", "exchangeStatus", "clearinghouseState", "spotClearinghouseState"})


class HyperliquidInfo:
    """Answers of ``POST /info``, also given to ``post`` requests on a WebSocket."""

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
            "allMids": lambda query: venue.mids(query.get("dex") or ""),
            "recentTrades": self._recent_trades,
            "fundingHistory": self._funding_history,
            "predictedFundings": self._predicted_fundings,
            "exchangeStatus": lambda _: {"time": self._venue.now_ms(), "specialStatuses": None},
            **dict.fromkeys(venue.accounts.answers, venue.accounts.answer),
        }
        venue.routes.add("POST", "/info", self.serve)

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
        """Return the answer to a query; None for an unknown coin or query."""
        answer = self._answers.get(str(query.get("type")))
        try:
            return None if answer is None else answer(query)
        except (KeyError, TypeError, ValueError):
            return None

    def _perps(self, query: dict[str, Any]) -> list[Market]:
        """Return the universe of a dex, in its order."""
        dex = query.get("dex") or ""
        return [m for m in self._venue.listed() if not is_spot(m) and dex_of(m) == dex]

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

    def _spot_meta(self, _query: dict[str, Any]) -> dict[str, Any]:
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
        return [market for market in self._venue.listed() if is_spot(market)]

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
