"""Best prices and funding of every symbol on all venues, and in a sentence how they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from ipc.events import Bbo, Event, Funding, Mark
from ipc.health import Stream, StreamState
from supervisor.overview.condition import condition_of
from supervisor.overview.document import PriceRow, PriceTable
from supervisor.overview.words import reason_words, stream_name, stream_words
from supervisor.status.document import GOOD_STATES

_BP: Final = Decimal(10_000)
_NS: Final = 1_000_000_000
#: Markets that are remembered: more than a system can have.
_MAX_MARKETS: Final = 10_000


@dataclass(slots=True)
class _Market:
    """Last events of a market."""

    bbo: Bbo | None = None
    mark: Mark | None = None
    funding: Funding | None = None


#: A market of which nothing has come.
_NOTHING: Final = _Market()


class _Quote(NamedTuple):
    """Prices of a market that may be shown; ``why`` says why none may."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    bid_text: str | None = None
    ask_text: str | None = None
    at_ns: int = 0
    why: str | None = None


class Prices:
    """Last prices, marks and funding rates; feed it with the channels ``bbo``, ``mark`` and ``funding``."""

    def __init__(self) -> None:
        self._markets: dict[tuple[str, str], _Market] = {}

    def update(self, event: Event) -> None:
        """Take over an event; those of other kinds are ignored."""
        if event.symbol is None or not isinstance(event, Bbo | Mark | Funding):
            return
        key = event.venue, event.symbol
        market = self._markets.get(key)
        if market is None:
            if len(self._markets) >= _MAX_MARKETS:
                return
            market = self._markets[key] = _Market()
        if isinstance(event, Bbo):
            market.bbo = event
        elif isinstance(event, Mark):
            market.mark = event if event.mark_price is not None else market.mark
        elif event.phase == "predicted":
            market.funding = event

    def rows(self, status: Mapping[str, Any], wall_s: float, symbols: Iterable[str] = ()) -> list[PriceTable]:
        """Return a table for each symbol.

        Args:
            status: Status document: it says which books are usable.
            wall_s: Time at which it was read.
            symbols: Only these; empty for all.
        """
        wanted = set(symbols)
        tables: dict[str, dict[str, Mapping[str, Any]]] = {}
        for name, venue in status["venues"].items():
            for symbol in venue["streams"].get(Stream.BOOK, {}).get("markets", {}):
                if not wanted or symbol in wanted:
                    tables.setdefault(symbol, {})[name] = venue
        return [self._table(symbol, venues, wall_s) for symbol, venues in tables.items()]

    def _table(self, symbol: str, venues: Mapping[str, Mapping[str, Any]], wall_s: float) -> PriceTable:
        quotes = {name: self._quote(name, symbol, venue) for name, venue in venues.items()}
        bids = {name: quote.bid for name, quote in quotes.items() if quote.bid is not None}
        asks = {name: quote.ask for name, quote in quotes.items() if quote.ask is not None}
        best_bid = max(bids.values(), default=None) if len(bids) > 1 else None
        best_ask = min(asks.values(), default=None) if len(asks) > 1 else None
        rows = []
        for name, quote in quotes.items():
            market = self._markets.get((name, symbol), _NOTHING)
            is_best = quote.bid == best_bid is not None, quote.ask == best_ask is not None
            rows.append(_row(name, quote, market, is_best, wall_s))
        return PriceTable(symbol, rows, _summary(rows, best_bid, best_ask))

    def _quote(self, name: str, symbol: str, venue: Mapping[str, Any]) -> _Quote:
        """Return what may be shown of a market: only prices of a usable book, of the life that publishes now."""
        why = _why_not(name, symbol, venue)
        if why is not None:
            return _Quote(why=why)
        bbo = self._markets.get((name, symbol), _NOTHING).bbo
        if bbo is None or (venue["epoch"] is not None and bbo.epoch < venue["epoch"]):
            return _Quote(why="no price yet")
        bid, ask = _decimal(bbo.bid_price), _decimal(bbo.ask_price)
        return _Quote(bid, ask, bbo.bid_price, bbo.ask_price, bbo.recv_ns)


def _why_not(name: str, symbol: str, venue: Mapping[str, Any]) -> str | None:
    """Return why the prices of a market must not be shown; None when they may."""
    for stream in (Stream.BOOK, Stream.BBO):
        market = venue["streams"].get(stream, {}).get("markets", {}).get(symbol)
        if market is None or (market["state"] in GOOD_STATES and market["state"] != StreamState.OFF):
            continue
        if market["state"] == StreamState.OFF:
            condition = condition_of(name, venue)
            return condition.what or "process is down"
        words = reason_words(market["reason"])
        return words or f"{stream_name(stream)} {stream_words(market['state'])}"
    return None


def _row(name: str, quote: _Quote, market: _Market, is_best: tuple[bool, bool], wall_s: float) -> PriceRow:
    funding = market.funding
    return PriceRow(
        venue=name,
        bid=quote.bid_text,
        ask=quote.ask_text,
        spread_bp=_apart_bp(quote.bid, quote.ask),
        age_s=round(max(0.0, wall_s - quote.at_ns / _NS), 3) if quote.at_ns else None,
        mark=None if market.mark is None else market.mark.mark_price,
        funding=_number(funding.rate) if funding else None,
        funding_8h=_number(funding.rate_8h) if funding else None,
        interval_s=funding.interval_s if funding else None,
        next_funding_at=funding.next_funding_ns / _NS if funding and funding.next_funding_ns else None,
        is_best_bid=is_best[0],
        is_best_ask=is_best[1],
        why=quote.why,
    )


def _summary(rows: list[PriceRow], bid: Decimal | None, ask: Decimal | None) -> str:
    """Return how far the best prices are apart, or cross, and how much funding differs; empty for one venue."""
    sentences = []
    apart = _apart_bp(bid, ask)
    if apart is not None:
        bidder = next(row.venue for row in rows if row.is_best_bid)
        asker = next(row.venue for row in rows if row.is_best_ask)
        how = "crossed" if apart < 0 else "apart"
        sentences.append(f"Best bid {bidder}, best ask {asker}: {how} by {abs(apart):.2f} bp.")
    rates = [row.funding_8h for row in rows if row.funding_8h is not None]
    if len(rates) > 1:
        sentences.append(f"Funding differs by {(max(rates) - min(rates)) * 100:.4f} % per 8 h.")
    return " ".join(sentences)


def _apart_bp(bid: Decimal | None, ask: Decimal | None) -> float | None:
    """Return how far the ask is above the bid, in basis points of the middle; negative when they cross."""
    if bid is None or ask is None or bid + ask <= 0:
        return None
    return round(float((ask - bid) * 2 / (bid + ask) * _BP), 4)


def _decimal(text: str | None) -> Decimal | None:
    try:
        number = None if text is None else Decimal(text)
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def _number(text: str | None) -> float | None:
    number = _decimal(text)
    return None if number is None else float(number)
