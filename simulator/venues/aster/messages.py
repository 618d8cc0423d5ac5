"""Aster: messages of market data, on the stream and over REST.

Source: Aster, futures API documentation v3; number formats and undocumented members as in recorded frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simulator.decimals import padded, shortest
from simulator.market import Market, MarketTrade

HOUR_MS = 3_600_000
_FIRST_TRADE = 37_632_000


def price_text(market: Market, price: int) -> str:
    """Return a price, padded as the venue pads it, at times beyond the tick."""
    return padded(price, market.listing.price_places, market.listing.price_places + extra_zeros(market))


def size_text(market: Market, size: int) -> str:
    """Return a quantity."""
    return padded(size, market.listing.size_places)


def level(market: Market, price: int, size: int) -> list[str]:
    """Return a book level; the size of a removed one is ``0`` or padded, both occur."""
    return [price_text(market, price), size_text(market, size) if size or price % 2 else "0"]


def extra_zeros(market: Market) -> int:
    """Return the number of digits beyond the tick that prices are padded with."""
    return 0 if market.listing.contract.base in {"BTC", "ETH"} else 1


def funding_hours(market: Market) -> int:
    """Return the funding interval in hours."""
    return 4 if market.listing.contract.multiplier > 1 else 8


def next_funding_ms(market: Market, now_ms: int) -> int:
    """Return the end of the current funding interval."""
    interval = funding_hours(market) * HOUR_MS
    return (now_ms // interval + 1) * interval


def rate_text(market: Market, hourly_e12: int) -> str:
    """Return a rate per interval, with eight decimals."""
    return padded(hourly_e12 * funding_hours(market) // 10**4, 8)


def mark(market: Market, now_ms: int) -> dict[str, Any]:
    """Return a ``markPriceUpdate``."""
    return {
        "e": "markPriceUpdate",
        "E": now_ms // 1000 * 1000,
        "s": market.listing.name,
        "p": padded(market.mark_e8, 8),
        "P": padded(market.index_e8 + 7_001, 8),
        "i": padded(market.index_e8, 8),
        "r": rate_text(market, market.funding_e12),
        "T": next_funding_ms(market, now_ms),
    }


def agg_trade(market: Market, trade: MarketTrade) -> dict[str, Any]:
    """Return a trade: ``a`` has no gaps and aggregates one or two fills; ``m`` is true when the aggressor sold."""
    first = _FIRST_TRADE + trade.number + trade.number // 2
    return {
        "a": _FIRST_TRADE + trade.number,
        "p": price_text(market, trade.price),
        "q": size_text(market, trade.size),
        "f": first,
        "l": first + trade.number % 2,
        "T": trade.time_ms,
        "m": trade.side == "sell",
    }


def ticker(market: Market, now_ms: int) -> dict[str, Any]:
    """Return 24-hour numbers, with the members of the REST body."""
    listing = market.listing
    last = market.trades[-1] if market.trades else None
    price = last.price if last else market.opening
    worth = market.volume * market.opening * 100 // 10 ** (listing.price_places + listing.size_places)
    return {
        "symbol": listing.name,
        "priceChange": shortest(price - market.opening, listing.price_places),
        "priceChangePercent": padded((price - market.opening) * 100_000 // market.opening, 3),
        "weightedAvgPrice": price_text(market, (market.high + market.low) // 2),
        "lastPrice": price_text(market, price),
        "lastQty": size_text(market, last.size if last else 0),
        "openPrice": price_text(market, market.opening),
        "highPrice": price_text(market, market.high),
        "lowPrice": price_text(market, market.low),
        "volume": size_text(market, market.volume),
        "quoteVolume": padded(worth, 2),
        "openTime": now_ms - 24 * HOUR_MS,
        "closeTime": now_ms,
        "firstId": _FIRST_TRADE,
        "lastId": _FIRST_TRADE + (last.number if last else 0),
        "count": last.number if last else 0,
        "baseAsset": listing.contract.base,
        "quoteAsset": "USDT",
    }


def trade_pro(market: Market, trade: MarketTrade, now_ms: int) -> dict[str, Any]:
    """Return a ``tradepro``, whose ``m`` is a pair of hidden addresses."""
    row = agg_trade(market, trade)
    return {
        "e": "tradepro",
        "E": now_ms,
        "T": row["T"],
        "s": market.listing.name,
        "t": row["l"],
        "p": row["p"],
        "q": row["q"],
        "h": "0X" + 64 * "0",
        "m": ["hidden", "hidden"],
    }


def book_ticker(market: Market, update_id: int, now_ms: int) -> dict[str, Any]:
    """Return a ``bookTicker``."""
    bid, ask = market.bids.best() or (0, 0), market.asks.best() or (0, 0)
    return {
        "e": "bookTicker",
        "u": update_id,
        "s": market.listing.name,
        "b": price_text(market, bid[0]),
        "B": size_text(market, bid[1]),
        "a": price_text(market, ask[0]),
        "A": size_text(market, ask[1]),
        "T": now_ms - 1,
        "E": now_ms,
    }


def force_order(market: Market, trade: MarketTrade, now_ms: int) -> dict[str, Any]:
    """Return a ``forceOrder``; ``S`` is the side of the liquidating order."""
    size, price = size_text(market, trade.size), price_text(market, trade.price)
    order = {
        "s": market.listing.name,
        "S": trade.side.upper(),
        "o": "LIMIT",
        "f": "IOC",
        "q": size,
        "p": price,
        "ap": price,
        "X": "FILLED",
        "l": size,
        "z": size,
        "T": trade.time_ms,
    }
    return {"e": "forceOrder", "E": now_ms, "o": order}


def _renamed(event: str, market: Market, now_ms: int, names: Iterable[tuple[str, str]]) -> dict[str, Any]:
    row = ticker(market, now_ms)
    return {"e": event, "E": now_ms, "s": market.listing.name, **{short: row[name] for short, name in names}}


_MINI = (("c", "lastPrice"), ("o", "openPrice"), ("h", "highPrice"), ("l", "lowPrice"), ("v", "volume"))
_QUOTE = ("q", "quoteVolume")
_FULL = (
    ("p", "priceChange"),
    ("P", "priceChangePercent"),
    ("w", "weightedAvgPrice"),
    ("Q", "lastQty"),
    *_MINI,
    _QUOTE,
    ("O", "openTime"),
    ("C", "closeTime"),
    ("F", "firstId"),
    ("L", "lastId"),
    ("n", "count"),
)


def ticker_event(market: Market, now_ms: int) -> dict[str, Any]:
    """Return a ``24hrTicker``."""
    return _renamed("24hrTicker", market, now_ms, _FULL)


def mini_ticker_event(market: Market, now_ms: int) -> dict[str, Any]:
    """Return a ``24hrMiniTicker``."""
    return _renamed("24hrMiniTicker", market, now_ms, (*_MINI, _QUOTE))
