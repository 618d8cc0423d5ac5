"""Aster: REST (``/fapi/v1`` and ``/fapi/v3``, which answer alike).

Source: Aster, futures API documentation v3; ``openInterest`` is not documented but used by many clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simulator.decimals import padded
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.venues.aster.messages import (
    HOUR_MS,
    agg_trade,
    extra_zeros,
    funding_hours,
    level,
    mark,
    price_text,
    rate_text,
    size_text,
    ticker,
)
from simulator.venues.aster.stream import SimulatedAster

_WEIGHT_LIMIT = 2400
#: Requests over the limit that are answered with 429; further ones cause a ban.
_TOLERATED = 20
_BAN_S = 120
_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_MOST_FUNDINGS, _MOST_TRADES = 1000, 1000


class AsterApiError(Exception):
    """Request that fails with a code and a message of the venue."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class AsterRest:
    """REST routes of the venue, and the weights of requests."""

    def __init__(self, venue: SimulatedAster) -> None:
        self._venue = venue
        self._weight = venue.rate_limit(_WEIGHT_LIMIT, 60)
        #: Requests rejected in a row.
        self._refused = 0
        self._banned_until_s = 0.0
        for path, weight, answer in (
            ("ping", 1, lambda _: {}),
            ("time", 1, lambda _: {"serverTime": venue.now_ms()}),
            ("exchangeInfo", 1, self._exchange_info),
            ("depth", _depth_weight, self._depth),
            ("trades", 1, self._trades),
            ("aggTrades", 20, self._agg_trades),
            ("premiumIndex", 1, self._premium_index),
            ("fundingInfo", 1, self._funding_info),
            ("fundingRate", 1, self._funding_rate),
            ("ticker/bookTicker", 2, self._book_ticker),
            ("ticker/24hr", 40, self._ticker),
            ("ticker/price", 2, self._price),
            ("openInterest", 1, self._open_interest),
            ("indexreferences", 1, self._index_references),
        ):
            for version in ("v1", "v3"):
                self.add("GET", f"/fapi/{version}/{path}", weight, answer)
        venue.routes.add("GET", "/api/v3/exchangeInfo", lambda _: json(_spot_info(venue.now_ms())))

    def add(self, method: str, path: str, weight: Any, answer: Callable[[HttpRequest], Any]) -> None:
        """Serve a path at a ``weight``: a number, or a function of the request."""
        self._venue.routes.add(method, path, self._weighed(weight, answer))

    def _weighed(self, weight: Any, answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponse]:
        def respond(request: HttpRequest) -> HttpResponse:
            refusal = self._refuse(weight(request) if callable(weight) else weight)
            if refusal is not None:
                return refusal
            try:
                response = json(answer(request))
            except AsterApiError as error:
                response = json({"code": error.code, "msg": str(error)}, error.status)
            return response.with_headers(X_MBX_USED_WEIGHT_1M=str(self._weight.used))

        return respond

    def _refuse(self, weight: int) -> HttpResponse | None:
        """Return 429 over the limit, and 418 when the client continues regardless."""
        now_s = self._venue.schedule.mono_s()
        if now_s >= self._banned_until_s and self._weight.acquire(weight):
            self._refused = 0
            return None
        self._refused += 1
        if now_s >= self._banned_until_s and self._refused <= _TOLERATED:
            text = f"Too many requests; current limit is {_WEIGHT_LIMIT} requests per minute."
            return json({"code": -1003, "msg": text}, 429)
        if now_s >= self._banned_until_s:
            self._banned_until_s = now_s + self._venue.scaled(_BAN_S)
        until = self._venue.now_ms() + int((self._banned_until_s - now_s) * 1000)
        return json({"code": -1003, "msg": f"Way too many requests; IP banned until {until}."}, 418)

    def market(self, request: HttpRequest, code: int = -1121) -> Market:
        """Return the market that ``symbol`` selects.

        Raises:
            AsterApiError: It is missing or unknown.
        """
        name = request.param("symbol")
        if not name:
            text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            raise AsterApiError(-1102, text)
        market = self._venue.find(name)
        if market is None:
            raise AsterApiError(code, "Invalid symbol.")
        return market

    def _one_or_all(self, request: HttpRequest, row_of: Callable[[Market], Any]) -> Any:
        """Return a row for the requested symbol, or rows for all."""
        if request.param("symbol"):
            return row_of(self.market(request))
        return [row_of(market) for market in self._venue.listed()]

    def _exchange_info(self, request: HttpRequest) -> Any:
        del request
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": _WEIGHT_LIMIT}
        orders = {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200}
        assets = [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]
        return {
            "timezone": "UTC",
            "serverTime": self._venue.now_ms(),
            "futuresType": "U_MARGINED",
            "rateLimits": [weight, orders, {**orders, "interval": "SECOND", "intervalNum": 10, "limit": 300}],
            "exchangeFilters": [],
            "assets": assets,
            "symbols": [self._specification(market) for market in self._venue.listed()],
        }

    def _specification(self, market: Market) -> dict[str, Any]:
        listing = market.listing
        name = listing.name.removesuffix("USDT")
        return {
            "symbol": listing.name,
            "pair": listing.name,
            "contractType": "PERPETUAL",
            "deliveryDate": 4_133_404_800_000,
            "onboardDate": 1_627_628_400_000,
            "status": "TRADING" if self._venue.is_live(market) else "SETTLING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": name,
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": listing.price_places + extra_zeros(market),
            "quantityPrecision": listing.size_places,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "symbolType": 0,
            "tradingMode": 0,
            "name": name,
            "channel": "{}",
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "filters": _filters(market),
            "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }

    def _depth(self, request: HttpRequest) -> Any:
        market, limit = self.market(request), _number(request, "limit", 500)
        if limit not in _DEPTH_WEIGHTS:
            raise AsterApiError(-4021, f"{limit} is not valid depth limit.")
        past, now = self._venue.snapshot(market), self._venue.now_ms()
        sides = [[level(market, price, size) for price, size in levels[:limit]] for levels in (past.bids, past.asks)]
        return {"lastUpdateId": past.update_id, "E": now, "T": past.time_ms, "bids": sides[0], "asks": sides[1]}

    def _trades(self, request: HttpRequest) -> Any:
        market, limit = self.market(request), _number(request, "limit", 500)
        rows = []
        for trade in list(market.trades)[-min(limit, _MOST_TRADES) :]:
            row = agg_trade(market, trade)
            worth = trade.price * trade.size * 100 // 10 ** (market.listing.price_places + market.listing.size_places)
            rows.append(
                {
                    "id": row["l"],
                    "price": row["p"],
                    "qty": row["q"],
                    "quoteQty": padded(worth, 2),
                    "time": row["T"],
                    "isBuyerMaker": row["m"],
                }
            )
        return rows

    def _agg_trades(self, request: HttpRequest) -> Any:
        market, limit = self.market(request), _number(request, "limit", 500)
        return [agg_trade(market, trade) for trade in list(market.trades)[-min(limit, _MOST_TRADES) :]]

    def _premium_index(self, request: HttpRequest) -> Any:
        def row_of(market: Market) -> dict[str, Any]:
            row = mark(market, self._venue.now_ms())
            return {
                "symbol": row["s"],
                "markPrice": row["p"],
                "indexPrice": row["i"],
                "estimatedSettlePrice": row["P"],
                "lastFundingRate": row["r"],
                "interestRate": "0.00010000",
                "nextFundingTime": row["T"],
                "time": row["E"],
            }

        rows = self._one_or_all(request, row_of)
        if isinstance(rows, list) and rows:
            # The answer for all symbols also has instruments that are not in the catalogue.
            rows.append({**rows[0], "symbol": "BTCUSD", "lastFundingRate": "0"})
        return rows

    def _funding_info(self, request: HttpRequest) -> Any:
        now = self._venue.now_ms() // 1000 * 1000
        rows = [
            {
                "symbol": market.listing.name,
                "interestRate": "0.00010000",
                "time": now,
                "fundingIntervalHours": funding_hours(market),
                "fundingFeeCap": 0.03 if market.listing.contract.live else None,
                "fundingFeeFloor": -0.03 if market.listing.contract.live else None,
            }
            for market in self._venue.listed()
        ]
        symbol = request.param("symbol")
        return [row for row in rows if symbol in {None, row["symbol"]}]

    def _funding_rate(self, request: HttpRequest) -> Any:
        market, now = self.market(request), self._venue.now_ms()
        limit = min(_number(request, "limit", 100), _MOST_FUNDINGS)
        hours = funding_hours(market)
        end = min(_number(request, "endTime", now), now)
        last = end // (hours * HOUR_MS)
        start = _number(request, "startTime", -1)
        first = -(-start // (hours * HOUR_MS)) if start >= 0 else last - limit + 1
        return [
            {
                "symbol": market.listing.name,
                "fundingTime": period * hours * HOUR_MS,
                "fundingRate": rate_text(market, market.settled_funding_e12(period * hours)),
            }
            for period in range(first, last + 1)[:limit]
        ]

    def _book_ticker(self, request: HttpRequest) -> Any:
        def row_of(market: Market) -> dict[str, Any]:
            bid, ask = market.bids.best() or (0, 0), market.asks.best() or (0, 0)
            return {
                "symbol": market.listing.name,
                "bidPrice": price_text(market, bid[0]),
                "bidQty": size_text(market, bid[1]),
                "askPrice": price_text(market, ask[0]),
                "askQty": size_text(market, ask[1]),
                "time": self._venue.now_ms(),
            }

        return self._one_or_all(request, row_of)

    def _ticker(self, request: HttpRequest) -> Any:
        return self._one_or_all(request, lambda market: ticker(market, self._venue.now_ms()))

    def _price(self, request: HttpRequest) -> Any:
        def row_of(market: Market) -> dict[str, Any]:
            row = ticker(market, self._venue.now_ms())
            return {"symbol": row["symbol"], "price": row["lastPrice"], "time": row["closeTime"]}

        return self._one_or_all(request, row_of)

    def _open_interest(self, request: HttpRequest) -> Any:
        market = self.market(request)
        interest = size_text(market, market.open_interest)
        return {"symbol": market.listing.name, "openInterest": interest, "time": self._venue.now_ms()}

    def _index_references(self, request: HttpRequest) -> Any:
        market = self.market(request, code=-1000)
        references = [
            {"exchange": exchange, "symbol": market.listing.name, "weight": weight}
            for exchange, weight in (("binance", "0.60000000"), ("bybit", "0.40000000"))
        ]
        return {"symbol": market.listing.name, "time": self._venue.now_ms(), "references": references}


def _number(request: HttpRequest, name: str, default: int) -> int:
    text = request.param(name)
    return number_of({} if text is None else {name: text}, name, default)


def number_of(params: Mapping[str, str], name: str, default: int) -> int:
    """Return a parameter as an integer.

    Raises:
        AsterApiError: It is not an integer.
    """
    try:
        return int(params.get(name, default))
    except ValueError:
        raise AsterApiError(-1102, f"Mandatory parameter '{name}' was malformed.") from None


def _depth_weight(request: HttpRequest) -> int:
    try:
        return _DEPTH_WEIGHTS.get(request.number("limit", 500), 2)
    except ValueError:
        return 2


def _filters(market: Market) -> list[dict[str, Any]]:
    listing = market.listing
    tick, step = price_text(market, 1), padded(1, listing.size_places)
    lots = {"stepSize": step, "minQty": step, "maxQty": "1000000"}
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", **lots},
        {"filterType": "MARKET_LOT_SIZE", **lots},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
    ]


def _spot_info(now_ms: int) -> dict[str, Any]:
    """Return the catalogue of the spot side, which has no markets here."""
    assets = [{"asset": "USDT"}, {"asset": "BTC"}]
    return {"timezone": "UTC", "serverTime": now_ms, "rateLimits": [], "assets": assets, "symbols": []}
