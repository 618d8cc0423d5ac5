"""REST answers of a venue: its markets, the book that aster's deltas follow, little else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.frames import ASTER_SNAPSHOT, START_MS, base, whole_book, wire


def rest_answer(venue: str, target: str, body: bytes, markets: int) -> bytes | None:
    """Return the answer to a request for ``target`` (path and query), or None if it is unknown."""
    parts = urlsplit(target)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    names = [wire(venue, number) for number in range(markets)]
    found = _ANSWERS[venue](parts.path, query, body, names)
    return None if found is None else json.dumps(found).encode()


def _hyperliquid(_path: str, _query: dict[str, str], body: bytes, names: list[str]) -> Any:
    asked = json.loads(body)["type"]
    if asked == "meta":
        return {"universe": [{"name": name, "szDecimals": 5} for name in names]}
    if asked == "predictedFundings":
        rate = {"fundingRate": "0.0000125", "nextFundingTime": START_MS, "fundingIntervalHours": 1}
        return [[name, [["HlPerp", rate]]] for name in names]
    return []


def _aster(path: str, query: dict[str, str], _body: bytes, names: list[str]) -> Any:
    match path.rpartition("/")[2]:
        case "exchangeInfo":
            kind = {"status": "TRADING", "contractType": "PERPETUAL", "marginAsset": "USDT", "filters": []}
            return {"symbols": [{"symbol": name, **kind} for name in names]}
        case "depth":
            book = whole_book()
            return {"lastUpdateId": ASTER_SNAPSHOT, "E": START_MS, "T": START_MS, "bids": book.bids, "asks": book.asks}
        case "openInterest":
            return {"symbol": query["symbol"], "openInterest": "9000.5", "time": START_MS}
        case "premiumIndex":
            rows = [{"symbol": name, "lastFundingRate": "0.0001", "nextFundingTime": START_MS} for name in names]
            return rows[0] if "symbol" in query else rows
    return []


def _extended(path: str, _query: dict[str, str], _body: bytes, names: list[str]) -> Any:
    if not path.endswith("/markets"):
        return {"status": "OK", "data": []}
    stats = {"markPrice": "80000", "indexPrice": "80010", "fundingRate": "0.0000125", "openInterestBase": "9"}
    return {"status": "OK", "data": [{"name": name, "status": "ACTIVE", "marketStats": stats} for name in names]}


def _lighter(path: str, _query: dict[str, str], _body: bytes, names: list[str]) -> Any:
    match path.rpartition("/")[2]:
        case "orderBooks":
            rows = [{"symbol": base(int(name) - 1), "market_id": int(name), "market_type": "perp"} for name in names]
            return {"code": 200, "order_books": rows}
        case "funding-rates":
            return {"code": 200, "funding_rates": []}
        case "fundings":
            return {"code": 200, "fundings": []}
    return {"code": 200, "asks": [], "bids": []}


def _paradex(path: str, query: dict[str, str], _body: bytes, names: list[str]) -> Any:
    if path.endswith("/markets"):
        return {"results": [{"symbol": name, "asset_kind": "PERP", "funding_period_hours": 8} for name in names]}
    return {"results": [{"market": query.get("market", ""), "funding_rate": "0.0001", "created_at": START_MS}]}


_ANSWERS: dict[str, Callable[[str, dict[str, str], bytes, list[str]], Any]] = {
    "hyperliquid": _hyperliquid,
    "aster": _aster,
    "extended": _extended,
    "lighter": _lighter,
    "paradex": _paradex,
}
