"""Lighter: the shapes of its data, and its REST side (``/api/v1``).

Source: Lighter, API documentation (REST reference, WebSocket reference, data structures); members as in captured bodies
of 2026. Two units of the funding rate and two of open interest are the venue's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator.decimals import padded
from simulator.market import Market, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, json

if TYPE_CHECKING:
    from simulator.venues.lighter.stream import SimulatedLighter

__all__ = ["LighterApiError", "LighterRest", "funding_percent", "level", "market_stats", "trade_id", "trade_row"]

_HOUR_S = 3600
_MOST_ORDERS, _MOST_TRADES, _MOST_FUNDINGS = 250, 100, 500
_FIRST_TRADE = 19_211_490_000
_NO_LIMIT = "72057594037927936.000000"


def level(market: Market, price: int, size: int) -> dict[str, str]:
    """A book level; both numbers have the market's own count of decimals."""
    return {
        "price": padded(price, market.listing.price_places),
        "size": padded(size, market.listing.size_places),
    }


def trade_id(market_id: int, trade: MarketTrade) -> int:
    """Unique over all markets."""
    return _FIRST_TRADE + trade.number * 4096 + market_id


def trade_row(market: Market, market_id: int, trade: MarketTrade) -> dict[str, Any]:
    """A trade; members whose value is zero are left out, as the venue does."""
    listing, number = market.listing, trade_id(market_id, trade)
    worth = trade.price * trade.size * 10**6 // 10 ** (listing.price_places + listing.size_places)
    ask, bid = 281_476_000_000_000 + number, 562_949_000_000_000 - number
    row: dict[str, Any] = {
        "trade_id": number,
        "trade_id_str": str(number),
        "tx_hash": hashlib.sha256(f"{market_id}:{trade.order}".encode()).hexdigest() + f"{trade.order:016x}",
        "type": "liquidation" if trade.is_liquidation else "trade",
        "market_id": market_id,
        "size": padded(trade.size, listing.size_places),
        "price": padded(trade.price, listing.price_places),
        "usd_amount": padded(worth, 6),
        "ask_id": ask,
        "ask_id_str": str(ask),
        "bid_id": bid,
        "bid_id_str": str(bid),
        "ask_client_id": 0,
        "ask_client_id_str": "0",
        "bid_client_id": trade.order,
        "bid_client_id_str": str(trade.order),
        "ask_account_id": 719_347,
        "bid_account_id": 317_087,
        "is_maker_ask": trade.side == "buy",
        "block_height": 227_557_648 + trade.order,
        "timestamp": trade.time_ms,
        "transaction_time": trade.time_ms * 1000 + trade.number % 1000,
    }
    if trade.number % 3:
        row["taker_fee"] = 196
    if trade.number % 2:
        row["maker_fee"] = 28
    return row


def funding_percent(rate_e12: int) -> str:
    """A rate as the stream tells it: percent per hour, four decimals."""
    return padded(rate_e12 // 10**6 if rate_e12 >= 0 else -(-rate_e12 // 10**6), 4)


def market_stats(market: Market, market_id: int, now_ms: int) -> dict[str, Any]:
    """Prices, funding and 24-hour numbers; open interest is worth in USDC here, and base units over REST."""
    listing, best_bid, best_ask = market.listing, market.bids.best(), market.asks.best()
    places = listing.price_places
    scale = 10 ** (8 - places)
    hour = now_ms // 1000 // _HOUR_S
    interest = market.open_interest * market.mark_e8 // 10 ** (listing.size_places + 2)
    middle = padded((best_bid[0] + best_ask[0]) // 2, places) if best_bid and best_ask else ""
    return {
        "symbol": listing.name,
        "market_id": market_id,
        "index_price": padded(market.index_e8 // scale, places),
        "mark_price": padded(market.mark_e8 // scale, places),
        "mid_price": middle,
        "open_interest": padded(interest, 6),
        "open_interest_limit": _NO_LIMIT,
        "funding_clamp_small": "0.0500",
        "funding_clamp_big": "4.0000",
        "last_trade_price": padded(market.trades[-1].price, places) if market.trades else "",
        "current_funding_rate": funding_percent(market.funding_e12),
        "funding_rate": funding_percent(market.settled_funding_e12(hour)),
        "funding_timestamp": hour * _HOUR_S * 1000 + hour % 5,
        "base_interest_rate": "0.0100",
        **_daily(market),
    }


def _daily(market: Market) -> dict[str, Any]:
    """Numbers over 24 hours: JSON numbers, an integer where that is enough."""
    price_unit, size_unit = 10**market.listing.price_places, 10**market.listing.size_places
    last = market.trades[-1].price if market.trades else market.opening
    numbers = {
        "daily_base_token_volume": market.volume / size_unit,
        "daily_quote_token_volume": market.volume * market.opening / (price_unit * size_unit),
        "daily_price_low": market.low / price_unit,
        "daily_price_high": market.high / price_unit,
        "daily_price_change": (last - market.opening) / market.opening * 100,
    }
    return {name: int(number) if number == int(number) else number for name, number in numbers.items()}


class LighterApiError(Exception):
    """A request that is answered with a code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class LighterRest:
    """The REST routes."""

    def __init__(self, venue: SimulatedLighter) -> None:
        self._venue = venue
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
        ):
            self.add(path, answer)
        venue.routes.add("GET", "/", lambda _: json({"status": 200, "network_id": 304}))

    def add(self, path: str, answer: Callable[[HttpRequest], Any]) -> None:
        """Serve a path; the answer may raise an :class:`LighterApiError`, or a ``ValueError`` for a wrong parameter."""
        self._venue.routes.add("GET", f"/api/v1/{path}", self._limited(answer))

    def _limited(self, answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponse]:
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
        """The market that ``market_id`` names.

        Raises:
            ValueError: It is missing or unknown.
        """
        market = self._venue.find_id(request.param("market_id") or "")
        if market is None:
            raise ValueError("market_id")
        return market

    def _wanted(self, request: HttpRequest) -> list[tuple[int, Market]]:
        """The markets that ``market_id`` and ``filter`` choose; 255 is all."""
        wanted, kind = request.param("market_id"), request.param("filter") or "all"
        if wanted not in {None, "255"}:
            self._market(request)
        return [
            (number, market)
            for number, market in self._venue.numbered()
            if wanted in {None, "255", str(number)} and kind in {"all", self._venue.kind_of(market)}
        ]

    def _order_books(self, request: HttpRequest) -> dict[str, Any]:
        return {"order_books": [self._specification(number, market) for number, market in self._wanted(request)]}

    def _specification(self, number: int, market: Market) -> dict[str, Any]:
        listing = market.listing
        return {
            "symbol": listing.name,
            "market_id": number,
            "market_type": self._venue.kind_of(market),
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
            (self._venue.kind_of(market), self._details(number, market)) for number, market in self._wanted(request)
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
            **_daily(market),
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
        market, limit = self._market(request), _limit(request, _MOST_ORDERS)
        sides = {"asks": _orders(market, is_ask=True), "bids": _orders(market, is_ask=False)}
        cut = {name: orders[:limit] for name, orders in sides.items()}
        return {"total_asks": len(cut["asks"]), "total_bids": len(cut["bids"]), **cut}

    def _recent_trades(self, request: HttpRequest) -> dict[str, Any]:
        market, limit = self._market(request), _limit(request, _MOST_TRADES)
        number = self._venue.id_of(market)
        return {"trades": [trade_row(market, number, trade) for trade in list(market.trades)[-limit:][::-1]]}

    def _funding_rates(self, request: HttpRequest) -> dict[str, Any]:
        """Rates per 8 hours, as fractions, with those of other exchanges mixed in."""
        del request
        rows = []
        for number, market in self._venue.numbered():
            if self._venue.kind_of(market) == "perp":
                own = market.funding_e12 * 8 / 10**12
                for exchange, rate in (("binance", 0.0001), ("lighter", own), ("hyperliquid", 0.00008)):
                    rows.append(
                        {"market_id": number, "exchange": exchange, "symbol": market.listing.name, "rate": rate}
                    )
        return {"funding_rates": rows}

    def _fundings(self, request: HttpRequest) -> dict[str, Any]:
        """Settled rates in percent per hour, without their sign; times are seconds here."""
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
        rows = [{"symbol": market.listing.name, **_daily(market)} for _, market in self._venue.numbered()]
        return {"total": len(rows), "order_book_stats": rows}

    def _asset_details(self, request: HttpRequest) -> dict[str, Any]:
        del request
        assets = [
            {"asset_id": number, "symbol": symbol, "decimals": decimals, "min_transfer_amount": "1.000000"}
            for number, (symbol, decimals) in enumerate((("ETH", 18), ("USDC", 6)), start=1)
        ]
        return {"asset_details": assets}


def _limit(request: HttpRequest, most: int) -> int:
    """The parameter ``limit``.

    Raises:
        ValueError: It is missing or out of range.
    """
    limit = request.number("limit", 0)
    if not 1 <= limit <= most:
        raise ValueError("limit")
    return limit


def _orders(market: Market, *, is_ask: bool) -> list[dict[str, Any]]:
    """The single orders of a side, best first; a level is made of one to three."""
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
