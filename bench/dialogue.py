"""Replies of a venue's server to a client that subscribes: as much of each protocol as clients need to begin.

Pure: a message and the path of the connection determine the reply and the streams that it subscribes. The simulator
implements the protocols in full; here nothing may cost time during a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.frames import START_MS, base


class Answer(NamedTuple):
    """Reply to a message: streams that it subscribes (``book``, ``trade``), and messages to repeat against muteness."""

    replies: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


def greeting(venue: str, path: str) -> Answer:
    """Return the reply to a new connection: a greeting, or the subscriptions in its path."""
    if venue == "hyperliquid":
        # nautilus_trader subscribes only after it has read a message.
        return Answer(repeated=('{"channel":"pong"}',))
    if venue == "lighter":
        return Answer(('{"session_id":"7","type":"connected"}',))
    if venue == "extended":
        return _extended(path)
    if venue == "aster":
        return Answer(streams=_named(path, _ASTER))
    return Answer()


def answer(venue: str, message: bytes) -> Answer:
    """Return the reply to a client's text message."""
    decide = _ANSWERS.get(venue)
    return decide(json.loads(message)) if decide else Answer()


#: The venues' names of the streams, in messages or in paths.
_HYPERLIQUID = {"l2Book": "book", "trades": "trade"}
_ASTER = {"@depth": "book", "@aggTrade": "trade"}
_EXTENDED = {"/orderbooks": "book", "/publicTrades": "trade"}
_PARADEX = {"order_book.": "book", "trades.": "trade"}


def _named(text: str, words: dict[str, str]) -> tuple[str, ...]:
    return tuple(stream for word, stream in words.items() if word in text)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _hyperliquid(message: dict[str, Any]) -> Answer:
    if message["method"] == "ping":
        return Answer(('{"channel":"pong"}',))
    wanted = message["subscription"]
    reply = _text({"channel": "subscriptionResponse", "data": message})
    if wanted["type"] == "activeAssetCtx":
        context = {"funding": "0.0000125", "openInterest": "29000.5", "oraclePx": "80010.0", "markPx": "80000.0"}
        mark = _text({"channel": "activeAssetCtx", "data": {"coin": wanted["coin"], "ctx": context}})
        return Answer((reply, mark), repeated=(mark,))
    return Answer((reply,), _named(wanted["type"], _HYPERLIQUID))


def _aster(message: dict[str, Any]) -> Answer:
    names = " ".join(message.get("params") or ())
    return Answer((_text({"result": None, "id": message.get("id")}),), _named(names, _ASTER))


def _extended(path: str) -> Answer:
    """Return the stream of a path: ``/v1/orderbooks/BTC-USD``, with ``?depth=1`` for the best levels only."""
    return Answer(streams=() if "depth=1" in path else _named(path, _EXTENDED))


def _lighter(message: dict[str, Any]) -> Answer:
    if message["type"] == "ping":
        return Answer(('{"type":"pong"}',))
    name, _, market = message.get("channel", "").partition("/")
    if name == "order_book":
        return Answer(streams=("book",))  # the first frame of which is the acknowledgement
    frame: dict[str, Any] = {"channel": f"{name}:{market}", "type": f"subscribed/{name}", "timestamp": START_MS}
    if name == "trade":
        return Answer((_text({**frame, "trades": []}),), ("trade",))
    if name == "ticker":
        sides = {
            "s": base(int(market) - 1),
            "a": {"price": "80000.5", "size": "1"},
            "b": {"price": "79999.5", "size": "1"},
        }
        return Answer((_text({**frame, "ticker": sides}),))
    stats = {"symbol": base(int(market) - 1), "index_price": "80010.0", "mark_price": "80000.0", "open_interest": "9"}
    first = _text({**frame, "market_stats": {**stats, "current_funding_rate": "0.0012"}})
    return Answer((first,), repeated=(first.replace("subscribed/", "update/"),))


def _paradex(message: dict[str, Any]) -> Answer:
    channel = message.get("params", {}).get("channel", "")
    reply = _text({"jsonrpc": "2.0", "id": message.get("id"), "result": {"channel": channel}, "usIn": 0, "usOut": 0})
    return Answer((reply,), _named(channel, _PARADEX))


_ANSWERS: dict[str, Callable[[dict[str, Any]], Answer]] = {
    "hyperliquid": _hyperliquid,
    "aster": _aster,
    "lighter": _lighter,
    "paradex": _paradex,
}
