"""Naive order books, one per venue, that follow the documented rules independently of the simulator."""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["AsterBook", "ExtendedBook", "GapError", "HyperliquidBook", "LighterBook", "ParadexBook", "decode_sbe"]


class GapError(Exception):
    """Raised when the continuity rule of the venue is broken."""


class NaiveBook:
    """Book of two dictionaries, sizes by price."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.frames = 0

    def replace(self, bids: Any, asks: Any) -> None:
        self.bids = {float(price): float(size) for price, size in bids}
        self.asks = {float(price): float(size) for price, size in asks}

    def put(self, side: dict[float, float], price: Any, size: Any) -> None:
        if float(size):
            side[float(price)] = float(size)
        else:
            side.pop(float(price), None)

    def is_crossed(self) -> bool:
        return bool(self.bids and self.asks) and max(self.bids) >= min(self.asks)


class HyperliquidBook(NaiveBook):
    """Book whose every frame is a full snapshot."""

    def feed(self, message: dict[str, Any]) -> None:
        if message.get("channel") == "l2Book":
            self.frames += 1
            bids, asks = ([(level["px"], level["sz"]) for level in side] for side in message["data"]["levels"])
            self.replace(bids, asks)


class LighterBook(NaiveBook):
    """Book whose ``begin_nonce`` continues ``nonce``."""

    nonce: int | None = None

    def feed(self, message: dict[str, Any]) -> None:
        if not message.get("type", "").endswith("/order_book"):
            return
        self.frames += 1
        book = message["order_book"]
        if message["type"] == "subscribed/order_book":
            self.bids, self.asks = {}, {}
        elif self.nonce is None:
            return
        elif book["begin_nonce"] != self.nonce:
            raise GapError(f"{book['begin_nonce']} after {self.nonce}")
        self.nonce = book["nonce"]
        for side, levels in ((self.bids, book["bids"]), (self.asks, book["asks"])):
            for level in levels:
                self.put(side, level["price"], level["size"])


class AsterBook(NaiveBook):
    """Book that buffers events until a REST snapshot bridges them; then ``pu`` continues ``u``."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: list[dict[str, Any]] = []
        self.last: int | None = None
        self.is_joined = False

    def feed(self, message: dict[str, Any]) -> None:
        event = message.get("data", message)
        if event.get("e") != "depthUpdate":
            return
        self.frames += 1
        if self.last is None:
            self.buffer.append(event)
        else:
            self._apply(event)

    def join(self, snapshot: dict[str, Any]) -> str:
        """Join a snapshot to the stream: ``inside``, ``exact``, ``waiting`` (no event yet) or ``behind`` (too old)."""
        last = snapshot["lastUpdateId"]
        events = [event for event in self.buffer if event["u"] >= last]
        if events and not (events[0]["U"] <= last <= events[0]["u"] or events[0]["pu"] == last):
            return "behind"
        self.replace(snapshot["bids"], snapshot["asks"])
        self.last, self.buffer = last, []
        if not events:
            return "waiting"
        how = "exact" if events[0]["pu"] == last else "inside"
        for event in events:
            self._apply(event)
        return how

    def _apply(self, event: dict[str, Any]) -> None:
        if event["u"] <= self.last and self.is_joined:
            return
        is_first = not self.is_joined and event["U"] <= self.last <= event["u"]
        if event["pu"] != self.last and not is_first:
            raise GapError(f"{event['pu']} after {self.last}")
        self.is_joined, self.last = True, event["u"]
        for side, levels in ((self.bids, event["b"]), (self.asks, event["a"])):
            for price, size in levels:
                self.put(side, price, size)


class ExtendedBook(NaiveBook):
    """Book whose ``seq`` counts every frame; ``c`` is the new size and ``q`` the change."""

    seq = 0

    def feed(self, message: dict[str, Any]) -> None:
        self.frames += 1
        if message["seq"] != self.seq + 1:
            raise GapError(f"{message['seq']} after {self.seq}")
        self.seq = message["seq"]
        data = message["data"]
        if message["type"] == "SNAPSHOT":
            bids, asks = ([(level["p"], level["q"]) for level in data[side]] for side in "ba")
            self.replace(bids, asks)
            return
        for side, levels in ((self.bids, data["b"]), (self.asks, data["a"])):
            for level in levels:
                before = side.get(float(level["p"]), 0.0)
                if abs(before + float(level["q"]) - float(level["c"])) > 1e-6:
                    raise GapError(f"{before} {level}")
                self.put(side, level["p"], level["c"])


class ParadexBook(NaiveBook):
    """Book whose ``seq`` counts every frame of the market, in JSON and in binary."""

    seq: int | None = None

    def feed(self, message: dict[str, Any]) -> None:
        data = message.get("params", {}).get("data", message)
        if "seq_no" not in data or "inserts" not in data:
            return
        self.frames += 1
        if data["update_type"] == "s":
            self.bids, self.asks = {}, {}
        elif self.seq is None or data["seq_no"] != self.seq + 1:
            raise GapError(f"{data['seq_no']} after {self.seq}")
        self.seq = data["seq_no"]
        for level in data["inserts"] + data["updates"] + data["deletes"]:
            side = self.bids if level["side"] == "BUY" else self.asks
            self.put(side, level["price"], level["size"])

    def feed_sbe(self, payload: bytes) -> None:
        event = decode_sbe(payload)
        if event["template"] != 3:
            return
        self.frames += 1
        if event["is_snapshot"]:
            self.bids, self.asks = {}, {}
        elif self.seq is None or event["seq"] != self.seq + 1:
            raise GapError(f"{event['seq']} after {self.seq}")
        self.seq = event["seq"]
        for side, levels in ((self.bids, event["bids"]), (self.asks, event["asks"])):
            for price, size in levels:
                self.put(side, price / 1e8, size / 1e8)


def decode_sbe(payload: bytes) -> dict[str, Any]:
    """Decode a binary frame by the block length on the wire."""
    length, template, schema, version = struct.unpack_from("<HHHH", payload)
    event: dict[str, Any] = {"length": length, "template": template, "schema": schema, "version": version}
    block, tail = payload[8 : 8 + length], payload[8 + length :]
    event["ts"], event["seq"] = struct.unpack_from("<qq", block)
    if template == 3:
        event["is_snapshot"] = block[16] == 0
        event["best"] = struct.unpack_from("<9q", block, 17)
        for name in ("bids", "asks"):
            entry, count = struct.unpack_from("<HH", tail)
            event[name] = [struct.unpack_from("<qq", tail, 4 + entry * n) for n in range(count)]
            tail = tail[4 + entry * count :]
    elif template == 1:
        event["fields"] = struct.unpack("<qBqqqB", block[16:])
    else:
        count = (length - 16) // 8
        event["fields"] = struct.unpack_from(f"<{count}q", block, 16)
        event["rest"] = block[16 + 8 * count :]
    event["strings"] = []
    while tail:
        event["strings"].append(tail[1 : 1 + tail[0]].decode())
        tail = tail[1 + tail[0] :]
    return event
