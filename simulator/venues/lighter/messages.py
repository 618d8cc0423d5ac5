"""Lighter: messages of market data, on the stream and over REST.

Source: Lighter, API documentation (REST reference, WebSocket reference, data structures); members as in captured bodies
of 2026. The venue uses two units for the funding rate and two for open interest.
"""

from __future__ import annotations

import hashlib
from typing import Any

from simulator.decimals import padded
from simulator.market import Market, MarketTrade
from simulator.rest import HttpRequest

_HOUR_S = 3600
_FIRST_TRADE = 19_211_490_000
_NO_LIMIT = "72057594037927936.000000"


class LighterApiError(Exception):
    """Request that fails with a code and a message of the venue."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def level(market: Market, price: int, size: int) -> dict[str, str]:
    """Return a book level, with the market's decimals."""
    return {"price": padded(price, market.listing.price_places), "size": padded(size, market.listing.size_places)}


def trade_id(market_id: int, trade: MarketTrade) -> int:
    """Return a trade id, unique over all markets."""
    return _FIRST_TRADE + trade.number * 4096 + market_id


def trade_row(market: Market, market_id: int, trade: MarketTrade) -> dict[str, Any]:
    """Return a trade; members whose value is zero are left out, as the venue does."""
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
    """Return a rate in percent per hour, with four decimals."""
    return padded(rate_e12 // 10**6 if rate_e12 >= 0 else -(-rate_e12 // 10**6), 4)


def market_stats(market: Market, market_id: int, now_ms: int) -> dict[str, Any]:
    """Return prices, funding and 24-hour numbers; open interest is in USDC here, in base units over REST."""
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
        **daily_numbers(market),
    }


def daily_numbers(market: Market) -> dict[str, Any]:
    """Return numbers over 24 hours, as integers where exact."""
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


def limit_of(request: HttpRequest, most: int) -> int:
    """Return the parameter ``limit``.

    Raises:
        ValueError: It is missing or out of range.
    """
    limit = request.number("limit", 0)
    if not 1 <= limit <= most:
        raise ValueError("limit")
    return limit
