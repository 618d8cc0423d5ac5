"""Lighter: REST (``/api/v1``).

Source: Lighter, API documentation (REST reference, data structures); members as in captured bodies of 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.decimals import padded
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.venue import SimulatedVenue
from simulator.venues.lighter.account import LighterAccounts
from simulator.venues.lighter.markets import LighterMarkets
from simulator.venues.lighter.messages import LighterApiError, daily_numbers, funding_percent, limit_of, trade_row

_HOUR_S = 3600
_MOST_ORDERS, _MOST_TRADES, _MOST_FUNDINGS = 250, 100, 500


class LighterRest:
    """REST routes of the venue."""

    def __init__(self, venue: SimulatedVenue, markets: LighterMarkets, accounts: LighterAccounts) -> None:
        self._venue = venue
        self._markets = markets
        self._rate_limit = venue.rate_limit(60, 60)
        for path, answer in (
            ("orderBooks", self._order_books),
            ("orderBookDetails", self._order_book_details),
            ("orderBookOrders", self._order_book_orders),
            ("recentTrades", self._recent_trades),
            ("funding-rates", self._funding_rates),
            ("fundings", self._fundings),
            ("exchangeStats", self._exchange_stats),
            ("assetDetails", self._asset_details),
            *accounts.routes(),
        ):
            venue.routes.add("GET", f"/api/v1/{path}", self._limited(answer))
        venue.routes.add("GET", "/", lambda _: json({"status": 200, "network_id": 304}))

    def _limited(self, answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponse]:
        """Enforce the rate limit; the answer may raise a LighterApiError, or a ValueError for a bad parameter."""

        def respond(request: HttpRequest) -> HttpResponse:
            if not self._rate_limit.acquire():
                return self._venue.failure(429)
            try:
                return json({"code": 200, **answer(request)})
            except LighterApiError as error:
                return json({"code": error.code, "message": str(error)}, 400)
            except ValueError as error:
                return json({"code": 20001, "message": f"invalid param: {error}"}, 400)

        return respond

    def _market(self, request: HttpRequest) -> Market:
        """Return the market that ``market_id`` selects.

        Raises:
            ValueError: It is missing or unknown.
        """
        market = self._markets.find(request.param("market_id") or "")
        if market is None:
            raise ValueError("market_id")
        return market

    def _selected(self, request: HttpRequest) -> list[tuple[int, Market]]:
        """Return the markets that ``market_id`` and ``filter`` select; 255 selects all."""
        market_id, kind = request.param("market_id"), request.param("filter") or "all"
        if market_id not in {None, "255"}:
            self._market(request)
        return [
            (number, market)
            for number, market in self._markets.numbered()
            if market_id in {None, "255", str(number)} and kind in {"all", self._markets.kind_of(market)}
        ]

    def _order_books(self, request: HttpRequest) -> dict[str, Any]:
        return {"order_books": [self._specification(number, market) for number, market in self._selected(request)]}

    def _specification(self, number: int, market: Market) -> dict[str, Any]:
        listing = market.listing
        return {
            "symbol": listing.name,
            "market_id": number,
            "market_type": self._markets.kind_of(market),
            "base_asset_id": 0,
            "quote_asset_id": 0,
            "status": "active" if self._venue.is_live(market) else "inactive",
            "taker_fee": "0.0000",
            "is_taker_fee_enabled": True,
            "maker_fee": "0.0000",
            "is_maker_fee_enabled": True,
            "liquidation_fee": "1.0000",
            "min_base_amount": padded(20, listing.size_places),
            "min_quote_amount": "10.000000",
            "order_quote_limit": "281474976.710655",
            "supported_size_decimals": listing.size_places,
            "supported_price_decimals": listing.price_places,
            "supported_quote_decimals": 6,
        }

    def _order_book_details(self, request: HttpRequest) -> dict[str, Any]:
        rows = [
            (self._markets.kind_of(market), self._details(number, market)) for number, market in self._selected(request)
        ]
        return {
            "order_book_details": [row for kind, row in rows if kind == "perp"],
            "spot_order_book_details": [row for kind, row in rows if kind == "spot"],
        }

    def _details(self, number: int, market: Market) -> dict[str, Any]:
        listing = market.listing
        last = market.trades[-1].price if market.trades else listing.price
        return {
            **self._specification(number, market),
            "size_decimals": listing.size_places,
            "price_decimals": listing.price_places,
            "quote_multiplier": 1,
            "default_initial_margin_fraction": 500,
            "min_initial_margin_fraction": 200,
            "maintenance_margin_fraction": 120,
            "closeout_margin_fraction": 80,
            "last_trade_price": last / 10**listing.price_places,
            "daily_trades_count": 428_074,
            **daily_numbers(market),
            "open_interest": market.open_interest / 10**listing.size_places,
            "daily_chart": {},
            "market_config": {
                "market_margin_mode": 0,
                "force_reduce_only": False,
                "trading_hours": "",
                "hidden": False,
            },
        }

    def _order_book_orders(self, request: HttpRequest) -> dict[str, Any]:
        market, limit = self._market(request), limit_of(request, _MOST_ORDERS)
        sides = {"asks": _orders(market, is_ask=True), "bids": _orders(market, is_ask=False)}
        cut = {name: orders[:limit] for name, orders in sides.items()}
        return {"total_asks": len(cut["asks"]), "total_bids": len(cut["bids"]), **cut}

    def _recent_trades(self, request: HttpRequest) -> dict[str, Any]:
        market, limit = self._market(request), limit_of(request, _MOST_TRADES)
        number = self._markets.id_of(market)
        return {"trades": [trade_row(market, number, trade) for trade in list(market.trades)[-limit:][::-1]]}

    def _funding_rates(self, request: HttpRequest) -> dict[str, Any]:
        """Return rates per 8 hours, as fractions, with those of other exchanges."""
        del request
        rows = []
        for number, market in self._markets.perpetuals():
            own = market.funding_e12 * 8 / 10**12
            for exchange, rate in (("binance", 0.0001), ("lighter", own), ("hyperliquid", 0.00008)):
                rows.append({"market_id": number, "exchange": exchange, "symbol": market.listing.name, "rate": rate})
        return {"funding_rates": rows}

    def _fundings(self, request: HttpRequest) -> dict[str, Any]:
        """Return settled rates in percent per hour, unsigned; times are in seconds."""
        market, now = self._market(request), self._venue.now_ms() // 1000
        first = -(-request.number("start_timestamp", now - 24 * _HOUR_S) // _HOUR_S)
        last = min(request.number("end_timestamp", now), now) // _HOUR_S
        hours = range(first, last + 1)[-min(request.number("count_back", 100), _MOST_FUNDINGS) :]
        rates = {hour: market.settled_funding_e12(hour) for hour in hours}
        rows = [
            {
                "timestamp": hour * _HOUR_S,
                "value": padded(abs(rate) * market.index_e8 // 10**12, 8),
                "rate": funding_percent(abs(rate)),
                "direction": "long" if rate >= 0 else "short",
            }
            for hour, rate in rates.items()
        ]
        return {"resolution": request.param("resolution") or "1h", "fundings": rows}

    def _exchange_stats(self, request: HttpRequest) -> dict[str, Any]:
        del request
        rows = [{"symbol": market.listing.name, **daily_numbers(market)} for _, market in self._markets.numbered()]
        return {"total": len(rows), "order_book_stats": rows}

    def _asset_details(self, request: HttpRequest) -> dict[str, Any]:
        del request
        assets = [
            {"asset_id": number, "symbol": symbol, "decimals": decimals, "min_transfer_amount": "1.000000"}
            for number, (symbol, decimals) in enumerate((("ETH", 18), ("USDC", 6)), start=1)
        ]
        return {"asset_details": assets}


def _orders(market: Market, *, is_ask: bool) -> list[dict[str, Any]]:
    """Return the orders of a side, best first; a level consists of one to three."""
    orders: list[dict[str, Any]] = []
    for price, size in (market.asks if is_ask else market.bids).top():
        count = min(1 + price % 3, size)
        parts = [size - size // count * (count - 1)] + [size // count] * (count - 1)
        for place, part in enumerate(parts):
            number = (281_476_929_000_000 if is_ask else 562_947_905_000_000) + price * 4 + place
            orders.append(_order(market, number, price, part))
    return orders


def _order(market: Market, number: int, price: int, size: int) -> dict[str, Any]:
    amount = padded(size, market.listing.size_places)
    return {
        "order_index": number,
        "order_id": str(number),
        "owner_account_index": 281_474_976_600_000 + price % 1000,
        "initial_base_amount": amount,
        "remaining_base_amount": amount,
        "price": padded(price, market.listing.price_places),
        "order_expiry": 1_893_456_000_000,
        "transaction_time": 0,
    }
