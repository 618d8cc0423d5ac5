"""Extended: REST (``/api/v1``).

Source: Extended, API documentation, public REST API; number formats and members as in captures of 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.decimals import padded, shortest
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, html
from simulator.venue import SimulatedVenue
from simulator.venues.extended.account import ExtendedAccounts
from simulator.venues.extended.messages import (
    fine_price,
    funding_row,
    is_spot,
    ok,
    price_text,
    problem,
    size_text,
    trade_row,
)

_HOUR_MS = 3_600_000
_MOST_TRADES, _MOST_FUNDINGS, _MOST_INTERESTS = 50, 10_000, 300


class ExtendedRest:
    """REST routes of the venue."""

    def __init__(self, venue: SimulatedVenue, accounts: ExtendedAccounts) -> None:
        self._venue = venue
        self._rate_limit = venue.rate_limit(1000, 60)
        for path, answer in (
            ("info/markets", self._markets),
            ("info/assets", self._assets),
            ("info/markets/{market}/stats", self._of_market(self._stats)),
            ("info/markets/{market}/orderbook", self._of_market(self._order_book)),
            ("info/markets/{market}/trades", self._of_market(self._trades)),
            ("info/{market}/funding", self._of_market(self._funding)),
            ("info/{market}/open-interests", self._of_market(self._open_interests)),
            *accounts.routes(),
        ):
            venue.routes.add("GET", f"/api/v1/{path}", self._checked(answer))

    def _checked(self, answer: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """Require a user agent and enforce the rate limit; the answer may raise a ValueError for a bad parameter."""

        def respond(request: HttpRequest, **names: str) -> HttpResponse:
            if not request.headers.get("user-agent"):
                return html(403)
            if not self._rate_limit.acquire():
                return self._venue.failure(429)
            try:
                return answer(request, **names)
            except ValueError:
                return problem(400, 1000, "Invalid request.")

        return respond

    def _of_market(self, answer: Callable[[HttpRequest, Market], HttpResponse]) -> Callable[..., HttpResponse]:
        def respond(request: HttpRequest, market: str) -> HttpResponse:
            found = self._venue.find(market)
            return problem(404, 1001, "Market not found.") if found is None else answer(request, found)

        return respond

    def _markets(self, request: HttpRequest) -> HttpResponse:
        names = request.query.get("market")
        if names and any(self._venue.find(name) is None for name in names):
            return problem(404, 1001, "Market not found.")
        listed = [market for market in self._venue.listed() if not names or market.listing.name in names]
        return ok([self._specification(market) for market in listed])

    def _specification(self, market: Market) -> dict[str, Any]:
        listing, is_live = market.listing, self._venue.is_live(market)
        return {
            "name": listing.name,
            "uiName": listing.name,
            "type": "SPOT" if is_spot(market) else "PERPETUAL",
            "category": "Crypto",
            "assetName": listing.name.removesuffix("-USD"),
            "assetPrecision": listing.size_places,
            "collateralAssetName": "USD",
            "collateralAssetPrecision": 6,
            "active": is_live,
            "status": "ACTIVE" if is_live else "DELISTED",
            "isRfq": False,
            "marketStats": self._statistics(market),
            "tradingConfig": {
                "minOrderSize": shortest(10, listing.size_places),
                "minOrderSizeChange": shortest(1, listing.size_places),
                "minPriceChange": shortest(1, listing.price_places),
                "maxMarketOrderValue": "3000000",
                "maxLimitOrderValue": "15000000",
                "maxPositionValue": "60000000",
                "maxLeverage": "50.00",
                "hourlyFundingRateCap": "0.25",
                "maxNumOrders": "200",
                "limitPriceCap": "0.05",
                "limitPriceFloor": "0.05",
                "riskFactorConfig": [{"upperBound": "4000000", "riskFactor": "0.02"}],
            },
            "l2Config": {
                "type": "STARKX",
                "collateralId": "0x1",
                "syntheticId": "0x" + listing.name.encode().hex(),
                "syntheticResolution": 10**listing.size_places,
                "collateralResolution": 1_000_000,
            },
            "visibleOnUi": is_live,
            "createdAt": 1_752_829_532_673,
        }

    def _statistics(self, market: Market) -> dict[str, Any]:
        """Return 24-hour numbers; ``nextFundingRate`` is a time despite its name."""
        listing, now = market.listing, self._venue.now_ms()
        bid, ask = market.bids.best() or (0, 0), market.asks.best() or (0, 0)
        last = market.trades[-1].price if market.trades else market.opening
        worth = market.volume * market.opening * 10**6 // 10 ** (listing.price_places + listing.size_places)
        interest = market.open_interest * market.mark_e8 // 10 ** (listing.size_places + 2)
        return {
            "dailyVolume": padded(worth, 6),
            "dailyVolumeBase": padded(market.volume, listing.size_places),
            "dailyPriceChange": shortest(last - market.opening, listing.price_places),
            "dailyPriceChangePercentage": padded((last - market.opening) * 10_000 // market.opening, 4),
            "dailyLow": price_text(market, market.low),
            "dailyHigh": price_text(market, market.high),
            "lastPrice": price_text(market, last),
            "askPrice": price_text(market, ask[0]),
            "bidPrice": price_text(market, bid[0]),
            "markPrice": fine_price(market.mark_e8),
            "indexPrice": fine_price(market.index_e8),
            "fundingRate": shortest(market.funding_e12 // 10**6, 6),
            "nextFundingRate": (now // _HOUR_MS + 1) * _HOUR_MS,
            "openInterest": padded(interest, 6),
            "openInterestBase": padded(market.open_interest, listing.size_places),
            "deleverageLevels": {"shortPositions": [], "longPositions": []},
        }

    def _stats(self, request: HttpRequest, market: Market) -> HttpResponse:
        del request
        return ok(self._statistics(market))

    def _order_book(self, request: HttpRequest, market: Market) -> HttpResponse:
        del request
        sides = [
            [{"qty": size_text(market, size), "price": price_text(market, price)} for price, size in ladder.top()]
            for ladder in (market.bids, market.asks)
        ]
        return ok({"market": market.listing.name, "bid": sides[0], "ask": sides[1]})

    def _trades(self, request: HttpRequest, market: Market) -> HttpResponse:
        del request
        return ok([trade_row(market, trade) for trade in list(market.trades)[-_MOST_TRADES:][::-1]])

    def _funding(self, request: HttpRequest, market: Market) -> HttpResponse:
        now = self._venue.now_ms()
        end = min(request.number("cursor", request.number("endTime", now)), now)
        first = -(-request.number("startTime", now - 24 * _HOUR_MS) // _HOUR_MS)
        limit = min(request.number("limit", 100), _MOST_FUNDINGS)
        last = (end - 1_028) // _HOUR_MS
        hours = range(last, max(first, last - limit + 1) - 1, -1)
        rows = [funding_row(market, hour) for hour in hours]
        cursor = rows[-1]["T"] - 1 if rows else end
        return ok(rows, pagination={"cursor": cursor, "count": len(rows)})

    def _open_interests(self, request: HttpRequest, market: Market) -> HttpResponse:
        period = 24 * _HOUR_MS if request.param("interval") == "P1D" else _HOUR_MS
        now = self._venue.now_ms()
        last = min(request.number("endTime", now), now) // period
        count = min(request.number("limit", 24), _MOST_INTERESTS)
        first = max(-(-request.number("startTime", 0) // period), last - count + 1)
        worth = market.open_interest * market.mark_e8 // 10**market.listing.size_places
        row = {"i": padded(worth, 8, 16), "I": padded(market.open_interest, market.listing.size_places, 16)}
        return ok([{**row, "t": number * period} for number in range(last, first - 1, -1)])

    def _assets(self, request: HttpRequest) -> HttpResponse:
        del request
        names = {"USD": 6} | {m.listing.name.removesuffix("-USD"): m.listing.size_places for m in self._venue.listed()}
        return ok(
            [
                {"id": number, "name": name, "symbol": name, "precision": precision, "isActive": True}
                for number, (name, precision) in enumerate(names.items(), start=1)
            ]
        )
