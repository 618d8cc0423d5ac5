"""Paradex: REST (``/v1``).

Source: Paradex, REST API documentation; members as in captured bodies, among them integers that some market rows write
as strings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.decimals import shortest
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.venues.paradex.messages import (
    FUNDING_HOURS,
    bbo_json,
    funding_json,
    is_option,
    level_pair,
    problem,
    summary_json,
    trade_json,
)
from simulator.venues.paradex.stream import SimulatedParadex

_MOST_PAGE = 5000
_DEPTH = 20
#: Interval of the funding observations in the history.
_OBSERVED_MS = 5_000


class ParadexRest:
    """REST routes of the venue."""

    def __init__(self, venue: SimulatedParadex) -> None:
        self._venue = venue
        self._rate_limit = venue.rate_limit(1500, 60)
        for path, answer in (
            ("system/state", lambda _: json({"status": "ok"})),
            ("system/time", lambda _: json({"server_time": str(venue.now_ms())})),
            ("markets", self._markets),
            ("markets/summary", self._summary),
            ("trades", self._of_market(self._trades)),
            ("funding/data", self._of_market(self._funding)),
            ("orderbook/{market}", self._of_market(self._order_book)),
            ("orderbook/{market}/interactive", self._of_market(self._order_book)),
            ("bbo/{market}", self._of_market(self._bbo)),
            ("bbo/{market}/interactive", self._of_market(self._bbo)),
        ):
            venue.routes.add("GET", f"/v1/{path}", self._checked(answer))
        for method, path, answer in venue.accounts.routes():
            venue.routes.add(method, f"/v1/{path}", self._checked(answer))

    def _checked(self, answer: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def respond(request: HttpRequest, **names: str) -> HttpResponse:
            if not self._rate_limit.acquire():
                return self._venue.failure(429)
            try:
                return answer(request, **names)
            except ValueError:
                return problem(400, "VALIDATION_ERROR", "invalid parameter")

        return respond

    def _of_market(self, answer: Callable[[HttpRequest, Market], HttpResponse]) -> Callable[..., HttpResponse]:
        """Return a handler for one market, named in the path or in the query."""

        def respond(request: HttpRequest, market: str = "") -> HttpResponse:
            found = self._venue.find(market or request.param("market") or "")
            return self._unknown() if found is None else answer(request, found)

        return respond

    def _unknown(self) -> HttpResponse:
        return problem(400, "INVALID_MARKET", "market not found")

    def _selected(self, request: HttpRequest) -> list[Market] | None:
        """Return the markets that ``market`` selects; None for an unknown one."""
        name = request.param("market")
        if name in {None, "", "ALL"}:
            return self._venue.listed()
        found = self._venue.find(name or "")
        return None if found is None else [found]

    def _markets(self, request: HttpRequest) -> HttpResponse:
        selected = self._selected(request)
        if selected is None:
            return self._unknown()
        return json({"results": [self._specification(market) for market in selected]})

    def _specification(self, market: Market) -> dict[str, Any]:
        listing, is_an_option = market.listing, is_option(market)
        writes_text = is_an_option or listing.contract.multiplier > 1
        row: dict[str, Any] = {
            "symbol": listing.name,
            "base_currency": listing.name.split("-", maxsplit=1)[0],
            "quote_currency": "USD",
            "settlement_currency": "USDC",
            "order_size_increment": shortest(1, listing.size_places),
            "price_tick_size": shortest(1, listing.price_places),
            "min_notional": "10",
            "open_at": 1_717_065_600_000,
            "expiry_at": "0" if writes_text else 0,
            "asset_kind": "PERP_OPTION" if is_an_option else "PERP",
            "market_kind": "cross",
            "position_limit": "2000000",
            "price_bands_width": "0.05",
            "max_open_orders": 150,
            "max_funding_rate": "0.05",
            "interest_rate": "0.0001",
            "clamp_rate": "0.0005",
            "funding_period_hours": str(FUNDING_HOURS) if writes_text else FUNDING_HOURS,
            "funding_multiplier": 1,
            "max_order_size": "1000",
            "max_funding_rate_change": "0.0005",
            "max_tob_spread": "0.2",
        }
        return {**row, "strike_price": "96000", "option_type": "CALL"} if is_an_option else row

    def _summary(self, request: HttpRequest) -> HttpResponse:
        if request.param("market") is None:
            return problem(400, "VALIDATION_ERROR", "market is required")
        selected = self._selected(request)
        if selected is None:
            return self._unknown()
        now = self._venue.now_ms()
        rows = [summary_json(market, now) for market in selected]
        return json({"results": rows})

    def _trades(self, request: HttpRequest, market: Market) -> HttpResponse:
        count = min(request.number("page_size", 100), _MOST_PAGE)
        rows = [trade_json(market, trade) for trade in list(market.trades)[-count:][::-1]]
        return json({"next": None, "prev": None, "results": rows})

    def _funding(self, request: HttpRequest, market: Market) -> HttpResponse:
        """Return observations, newest first; ``cursor`` is the time of the next page."""
        now = self._venue.now_ms()
        end = min(request.number("cursor", request.number("end_at", now)), now)
        count = min(request.number("page_size", 100), _MOST_PAGE)
        first = request.number("start_at", end - count * _OBSERVED_MS)
        times = range(end // _OBSERVED_MS * _OBSERVED_MS, first - 1, -_OBSERVED_MS)
        rows = [funding_json(market, time_ms) for time_ms in times[:count]]
        following = str(times[count]) if len(times) > count else None
        return json({"next": following, "prev": None, "results": rows})

    def _order_book(self, request: HttpRequest, market: Market) -> HttpResponse:
        depth = request.number("depth", _DEPTH)
        sides = {
            "asks": [level_pair(market, *level) for level in market.asks.top(depth)],
            "bids": [level_pair(market, *level) for level in market.bids.top(depth)],
        }
        head = {"market": market.listing.name, "seq_no": self._venue.book_seq(market)}
        return json({**head, "last_updated_at": self._venue.now_ms(), **sides})

    def _bbo(self, request: HttpRequest, market: Market) -> HttpResponse:
        del request
        return json(bbo_json(market, self._venue.book_seq(market), self._venue.now_ms()))
