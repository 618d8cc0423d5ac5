"""Extended: messages of market data, on the streams and over REST, and the envelope of all messages.

Source: Extended, API documentation, public REST API and streams; number formats and members as in captures of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from simulator.decimals import padded, pointed, shortest
from simulator.market import LevelChange, Market, MarketTrade
from simulator.rest import HttpResponse, json
from simulator.session import Kind

_HOUR_MS = 3_600_000
_FIRST_TRADE = 2_104_498_657_000_000_000


class ExtendedMessage(NamedTuple):
    """Frame without its sequence number, which each connection counts itself."""

    type: str | None
    data: msgspec.Raw
    ts: int
    kind: Kind = "data"
    more: tuple[tuple[str, Any], ...] = ()


def message(word: str | None, data: Any, now_ms: int) -> ExtendedMessage:
    """Return a message with encoded data."""
    return ExtendedMessage(word, msgspec.Raw(msgspec.json.encode(data)), now_ms)


def ok(data: Any, **more: Any) -> HttpResponse:
    """Return a response in the envelope of successful requests."""
    return json({"status": "OK", "data": data, **more})


def problem(status: int, code: int, text: str) -> HttpResponse:
    """Return a response in the envelope of errors."""
    return json({"status": "ERROR", "error": {"code": code, "message": text}}, status)


def is_spot(market: Market) -> bool:
    """Return whether a market is no perpetual."""
    return not market.listing.symbol.endswith("-PERP")


def price_text(market: Market, price: int, *, is_pointed: bool = False) -> str:
    """Return a price; the venue's format varies: ``82653`` and ``82653.0`` are one level."""
    places = market.listing.price_places
    return pointed(price, places) if is_pointed else shortest(price, places)


def size_text(market: Market, size: int) -> str:
    """Return a size, at times padded."""
    places = market.listing.size_places
    return padded(size, places) if size and size % 3 == 0 else shortest(size, places)


def snapshot_levels(market: Market, levels: Iterable[tuple[int, int]]) -> list[dict[str, str]]:
    """Return levels with their sizes."""
    return [{"q": size_text(market, size), "p": price_text(market, price)} for price, size in levels]


def delta_levels(market: Market, changes: Iterable[LevelChange]) -> list[dict[str, str]]:
    """Return levels with the change of their size (``q``) and the new size (``c``)."""
    return [
        {
            "q": shortest(change.new - change.old, market.listing.size_places),
            "p": price_text(market, change.price, is_pointed=change.price % 4 == 0),
            "c": size_text(market, change.new),
        }
        for change in changes
    ]


def trade_id(market: Market, trade: MarketTrade) -> int:
    """Return a trade id above 2^53, unique over all markets."""
    return _FIRST_TRADE + trade.number * 4096 + sum(market.listing.name.encode()) % 4096


def trade_row(market: Market, trade: MarketTrade) -> dict[str, Any]:
    """Return a trade."""
    return {
        "i": trade_id(market, trade),
        "m": market.listing.name,
        "S": trade.side.upper(),
        "tT": "LIQUIDATION" if trade.is_liquidation else "TRADE",
        "T": trade.time_ms,
        "p": price_text(market, trade.price),
        "q": padded(trade.size, market.listing.size_places),
    }


def fine_price(price_e8: int) -> str:
    """Return a mark or index price, with the many digits of a computed number."""
    return shortest(price_e8 * 10_000 + price_e8 % 9_973, 12)


def funding_row(market: Market, hour: int) -> dict[str, Any]:
    """Return the rate applied at an hour: an hourly fraction."""
    rate = shortest(market.settled_funding_e12(hour) // 10**6, 6)
    return {"m": market.listing.name, "T": hour * _HOUR_MS + 1_028, "f": rate}
