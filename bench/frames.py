"""Frames to measure with: each venue's book updates, made here by its documented shapes, in unbroken sequence.

Every book has 20 or more levels a side around a drifting price; every delta changes ten levels a side, as in the
figures that others publish. Frames are complete WebSocket frames, ready for the wire.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator

NS_PER_MS = 1_000_000
START_MS = 1_790_000_000_000
LEVELS = 20
CHANGED = 10


def websocket_frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """An unmasked server frame (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + payload


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _side(dice: random.Random, start: float, step: float, count: int, decimals: int) -> list[tuple[str, str]]:
    return [(f"{start + step * i:.{decimals}f}", f"{dice.uniform(0.001, 9):.5f}") for i in range(count)]


def hyperliquid(count: int, dice: random.Random) -> Iterator[bytes]:
    """Whole books, 20 levels a side."""
    for number in range(count):
        middle = 80_000 + number % 50
        book = [
            [{"px": p, "sz": q, "n": 3} for p, q in _side(dice, middle - 1, -1, LEVELS, 1)],
            [{"px": p, "sz": q, "n": 3} for p, q in _side(dice, middle + 1, 1, LEVELS, 1)],
        ]
        data = {"coin": "BTC", "time": START_MS + number, "levels": book}
        yield websocket_frame(_compact({"channel": "l2Book", "data": data}))


def lighter(count: int, dice: random.Random) -> Iterator[bytes]:
    """A snapshot, then deltas in a nonce chain."""
    nonce = 1000
    for number in range(count):
        begin, nonce = (nonce, nonce + dice.randrange(1, 300)) if number else (0, nonce)
        depth = CHANGED if number else 200
        book = {
            "code": 0,
            "asks": [{"price": p, "size": q} for p, q in _side(dice, 80_001, 0.5, depth, 1)],
            "bids": [{"price": p, "size": q} for p, q in _side(dice, 79_999, -0.5, depth, 1)],
            "offset": number,
            "nonce": nonce,
            "last_updated_at": (START_MS + number) * 1000,
            "begin_nonce": begin,
        }
        frame = {
            "channel": "order_book:1",
            "last_updated_at": (START_MS + number) * 1000,
            "offset": number,
            "order_book": book,
            "timestamp": START_MS + number,
            "type": "update/order_book" if number else "subscribed/order_book",
        }
        yield websocket_frame(_compact(frame))


def aster(count: int, dice: random.Random) -> Iterator[bytes]:
    """Deltas in a pu chain; they follow a snapshot with number 1000."""
    last = 1000
    for number in range(count):
        first, final = last + 5, last + 20
        data = {
            "e": "depthUpdate",
            "E": START_MS + number,
            "T": START_MS + number,
            "s": "BTCUSDT",
            "U": first,
            "u": final,
            "pu": last,
            "b": _side(dice, 79_999, -0.5, CHANGED, 1),
            "a": _side(dice, 80_001, 0.5, CHANGED, 1),
        }
        last = final
        yield websocket_frame(_compact({"stream": "btcusdt@depth@100ms", "data": data}))


def extended(count: int, dice: random.Random) -> Iterator[bytes]:
    """A snapshot, then deltas, numbered on their connection."""
    for number in range(1, count + 1):
        kind, depth = ("DELTA", CHANGED) if number > 1 else ("SNAPSHOT", 200)

        def side(levels: list[tuple[str, str]], kind: str = kind) -> list[dict[str, str]]:
            return [{"q": q, "p": p, **({"c": q} if kind == "DELTA" else {})} for p, q in levels]

        data = {
            "t": kind,
            "m": "BTC-USD",
            "b": side(_side(dice, 79_999, -1, depth, 0)),
            "a": side(_side(dice, 80_001, 1, depth, 0)),
            "d": "f",
        }
        yield websocket_frame(_compact({"type": kind, "data": data, "ts": START_MS + number, "seq": number}))


def paradex(count: int, dice: random.Random) -> Iterator[bytes]:
    """A snapshot, then deltas, in the binary encoding."""
    null = -(2**63)
    for number in range(count):
        depth = CHANGED if number else 100
        groups = b""
        for sign in (-1, 1):
            levels = [
                (int((80_000 + sign * (1 + i * 0.5)) * 1e8), dice.randrange(1, 900) * 1_000_000) for i in range(depth)
            ]
            groups += struct.pack("<HH", 16, depth) + b"".join(struct.pack("<qq", *level) for level in levels)
        fixed = struct.pack("<qqB9q", (START_MS + number) * 1000, 5000 + number, int(number > 0), *([null] * 9))
        name = b"BTC-USD-PERP"
        frame = struct.pack("<HHHH", len(fixed), 3, 1, 1) + fixed + groups + bytes([len(name)]) + name
        yield websocket_frame(frame, 0x2)


FRAMES = {
    "hyperliquid": hyperliquid,
    "aster": aster,
    "extended": extended,
    "lighter": lighter,
    "paradex": paradex,
}


def encoded(venue: str, count: int, seed: int = 7) -> list[bytes]:
    """``count`` frames of a venue."""
    return list(FRAMES[venue](count, random.Random(seed)))
