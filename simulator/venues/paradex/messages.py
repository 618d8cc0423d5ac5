"""Paradex: messages of market data, as JSON and as binary frames.

Source: Paradex, WebSocket and REST documentation; number formats as in captured frames. All JSON numbers are strings,
and any of them may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from simulator.decimals import shortest
from simulator.market import LevelChange, Market, MarketTrade
from simulator.rest import HttpResponse, json
from simulator.venues.paradex import sbe

FUNDING_HOURS = 8
OPTION = "BTC-USD-96000-C"
_INDEX_START_MS = 1_700_000_000_000

Levels = Iterable[tuple[int, int]]


def problem(status: int, word: str, text: str) -> HttpResponse:
    """Return an error in the venue's envelope."""
    return json({"error": word, "message": text, "data": None}, status)


def is_option(market: Market) -> bool:
    """Return whether a market is no perpetual."""
    return market.listing.name == OPTION


def _price(market: Market, price: int) -> str:
    return shortest(price, market.listing.price_places)


def _size(market: Market, size: int) -> str:
    return shortest(size, market.listing.size_places)


def level_pair(market: Market, price: int, size: int) -> list[str]:
    """Return a book level for REST."""
    return [_price(market, price), _size(market, size)]


def level_json(market: Market, side: str, price: int, size: int) -> dict[str, str]:
    """Return a book level for the stream."""
    return {"side": side, "price": _price(market, price), "size": _size(market, size)}


def level_e8(market: Market, price: int, size: int) -> tuple[int, int]:
    """Return price and size in 10^-8."""
    listing = market.listing
    return price * 10 ** (8 - listing.price_places), size * 10 ** (8 - listing.size_places)


def snapshot_json(market: Market, seq: int, time_ms: int, depth: int | None) -> dict[str, Any]:
    """Return a complete book, or its best levels."""
    buys = [level_json(market, "BUY", *level) for level in market.bids.top(depth)]
    sells = [level_json(market, "SELL", *level) for level in market.asks.top(depth)]
    return _book_json(market, seq, time_ms, "s", inserts=buys + sells)


def delta_json(
    market: Market, seq: int, time_ms: int, bids: Sequence[LevelChange], asks: Sequence[LevelChange]
) -> dict[str, Any]:
    """Return the changes: levels inserted, updated and deleted."""
    changes = [("BUY", change) for change in bids] + [("SELL", change) for change in asks]
    lists: dict[str, list[Any]] = {"inserts": [], "updates": [], "deletes": []}
    for side, change in changes:
        name = "deletes" if not change.new else "updates" if change.old else "inserts"
        lists[name].append(level_json(market, side, change.price, change.new))
    return _book_json(market, seq, time_ms, "d", **lists)


def _book_json(market: Market, seq: int, time_ms: int, kind: str, **lists: Any) -> dict[str, Any]:
    head = {"seq_no": seq, "market": market.listing.name, "last_updated_at": time_ms, "update_type": kind}
    return {**head, "inserts": [], "updates": [], "deletes": [], **lists}


def snapshot_sbe(market: Market, version: int, seq: int, time_ms: int, depth: int | None) -> bytes:
    """Return a complete book without its touch, or its best levels with it."""
    bids, asks = ([level_e8(market, *level) for level in side.top(depth)] for side in (market.bids, market.asks))
    best: tuple[int, ...] = (sbe.NULL,) * 9
    if depth is not None:
        touch = (*(bids[0] if bids else (sbe.NULL,) * 2), *(asks[0] if asks else (sbe.NULL,) * 2))
        spread = (asks[0][0] - bids[0][0]) * 10**8 // asks[0][0] if bids and asks else sbe.NULL
        best = (*touch, spread, *touch)
    return sbe.book(version, time_ms * 1000, seq, (bids, asks), market.listing.name, is_delta=False, best=best)


def delta_sbe(
    market: Market, version: int, seq: int, time_ms: int, bids: Sequence[LevelChange], asks: Sequence[LevelChange]
) -> bytes:
    """Return the changes, with the new sizes."""
    sides = tuple([level_e8(market, change.price, change.new) for change in side] for side in (bids, asks))
    return sbe.book(version, time_ms * 1000, seq, (sides[0], sides[1]), market.listing.name, is_delta=True)


def bbo_json(market: Market, seq: int, time_ms: int) -> dict[str, Any]:
    """Return the touch, with empty strings for an empty side."""
    bid, ask = market.bids.best(), market.asks.best()
    return {
        "market": market.listing.name,
        "seq_no": seq,
        "bid": _price(market, bid[0]) if bid else "",
        "bid_size": _size(market, bid[1]) if bid else "",
        "ask": _price(market, ask[0]) if ask else "",
        "ask_size": _size(market, ask[1]) if ask else "",
        "last_updated_at": time_ms,
    }


def bbo_sbe(market: Market, version: int, seq: int, time_ms: int) -> bytes:
    """Return the touch."""
    bid, ask = (level_e8(market, *best) if best else (sbe.NULL, sbe.NULL) for best in _touch(market))
    return sbe.bbo(version, time_ms * 1000, seq, (*bid, *ask), market.listing.name)


def _touch(market: Market) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    return market.bids.best(), market.asks.best()


def trade_id(market: Market, trade: MarketTrade) -> str:
    """Return 28 digits that begin with the time."""
    return f"{trade.time_ms}{sum(market.listing.name.encode()) % 1000:03d}{trade.number:012d}"


def trade_json(market: Market, trade: MarketTrade) -> dict[str, Any]:
    """Return a trade."""
    return {
        "id": trade_id(market, trade),
        "market": market.listing.name,
        "side": trade.side.upper(),
        "size": _size(market, trade.size),
        "price": _price(market, trade.price),
        "created_at": trade.time_ms,
        "trade_type": "LIQUIDATION" if trade.is_liquidation else "FILL",
    }


def trade_sbe(market: Market, version: int, seq: int, time_ms: int, trade: MarketTrade) -> bytes:
    """Return a trade."""
    price, size = level_e8(market, trade.price, trade.size)
    times = (time_ms * 1000, trade.time_ms * 1000)
    side, kind = 1 if trade.side == "buy" else 2, 2 if trade.is_liquidation else 1
    return sbe.trade(version, times, seq, trade_id(market, trade), side, price, size, kind, market.listing.name)


def _volume_usd_e8(market: Market) -> int:
    listing = market.listing
    worth: int = market.volume * market.opening * 10**8 // 10 ** (listing.price_places + listing.size_places)
    return worth


def summary_json(market: Market, time_ms: int) -> dict[str, Any]:
    """Return prices, open interest and funding; an option has no funding rate."""
    bid, ask = _touch(market)
    last = market.trades[-1].price if market.trades else None
    change = shortest(((last or 0) - market.opening) * 10**6 // market.opening, 6)
    return {
        "symbol": market.listing.name,
        "mark_price": shortest(market.mark_e8, 8),
        "last_traded_price": _price(market, last) if last else "",
        "bid": _price(market, bid[0]) if bid else "",
        "bid_size": _size(market, bid[1]) if bid else "",
        "ask": _price(market, ask[0]) if ask else "",
        "ask_size": _size(market, ask[1]) if ask else "",
        "volume_24h": shortest(_volume_usd_e8(market), 8),
        "total_volume": shortest(_volume_usd_e8(market) * 400, 8),
        "created_at": time_ms,
        "underlying_price": shortest(market.index_e8, 8),
        "open_interest": _size(market, market.open_interest),
        "funding_rate": "" if is_option(market) else _rate(market.funding_e12),
        "price_change_rate_24h": change if last and time_ms % 5 else "",
        "future_funding_rate": _rate(market.funding_e12),
    }


def summary_sbe(market: Market, version: int, seq: int, time_ms: int) -> bytes:
    """Return the summary in binary; total volume saturates, and fields that the market lacks are null."""
    bid, ask = (level_e8(market, *best) if best else (sbe.NULL, sbe.NULL) for best in _touch(market))
    last = market.trades[-1].price if market.trades else None
    rate = market.funding_e12 * FUNDING_HOURS
    has_funding = not is_option(market)
    funding = rate // 10**4 if has_funding else sbe.NULL
    greeks = (sbe.NULL,) * 4 + (10**8 if has_funding else 50_000_000,) + (sbe.NULL,) * 6
    fields = (
        market.mark_e8,
        market.index_e8,
        level_e8(market, last, 0)[0] if last else sbe.NULL,
        sbe.clamp(_volume_usd_e8(market)),
        level_e8(market, 0, market.open_interest)[1],
        funding,
        bid[0],
        ask[0],
        sbe.clamp(_volume_usd_e8(market) * 400),
        ((last or market.opening) - market.opening) * 10**8 // market.opening,
        *greeks,
        rate // 10**4,
        sbe.NULL,
        bid[1],
        ask[1],
    )
    extras = (sbe.NULL, sbe.NULL, rate if has_funding else sbe.NULL, sbe.NULL)
    return sbe.summary(version, time_ms * 1000, seq, fields, extras, market.listing.name)


def _rate(hourly_e12: int) -> str:
    """Return a rate for the whole period."""
    return shortest(hourly_e12 * FUNDING_HOURS * 100, 14)


def _funding_index_e12(market: Market, time_ms: int) -> int:
    """Return the accrued funding, which only grows here."""
    return 20_511_936_082_340_445 + (time_ms - _INDEX_START_MS) * market.index_e8 // 10**8


def funding_json(market: Market, time_ms: int) -> dict[str, Any]:
    """Return a funding observation."""
    rate = market.funding_e12 * FUNDING_HOURS
    return {
        "market": market.listing.name,
        "funding_index": shortest(_funding_index_e12(market, time_ms), 12),
        "funding_premium": shortest(rate * market.index_e8, 20),
        "funding_rate": _rate(market.funding_e12),
        "funding_rate_8h": shortest(rate // 10**4, 8),
        "funding_period_hours": FUNDING_HOURS,
        "impact_premium_rate": shortest(market.premium_e10, 10),
        "created_at": time_ms,
    }


def funding_sbe(market: Market, version: int, seq: int, time_ms: int) -> bytes:
    """Return a funding observation in binary."""
    rate_e8 = market.funding_e12 * FUNDING_HOURS // 10**4
    index_e8 = _funding_index_e12(market, time_ms) // 10**4
    rates = (rate_e8, index_e8, time_ms * 1000, rate_e8 * market.index_e8 // 10**8, rate_e8)
    impact = market.premium_e10 // 100
    return sbe.funding(version, time_ms * 1000, seq, rates, FUNDING_HOURS, impact, market.listing.name)
