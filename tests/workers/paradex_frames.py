"""Private binary frames of Paradex, encoded here from the published layout."""

from __future__ import annotations

import struct

NULL = -(2**63)
US = 1_790_000_123_456_789
MS = US // 1000
ADDRESS = bytes(range(32))


def string(value: str) -> bytes:
    raw = value.encode()
    return bytes([len(raw)]) + raw


def frame(template: int, block: bytes, *texts: str, version: int = 1, schema: int = 1) -> bytes:
    return struct.pack("<4H", len(block), template, schema, version) + block + b"".join(map(string, texts))


def order_block(
    status: int = 3,
    side: int = 1,
    price: int = 8_100_050_000_000,
    flags: int = 1,
    size: int = 5_000_000,
    remaining: int = 3_000_000,
    average: int = 8_100_000_000_000,
) -> bytes:
    numbers = (price, NULL, size, remaining, average, US - 9000, US)
    return struct.pack("<2q4B7q32s2q2B", US, 7, status, side, 1, 1, *numbers, ADDRESS, US, US, 0, flags)


def fill_block(
    fee: int = -19_455, kind: int = 1, side: int = 2, liquidity: int = 1, price: int = 6_485_290_000_000
) -> bytes:
    numbers = (price, 1_000_000, fee, NULL, US)
    return struct.pack("<2q3B5q32s2q", US, NULL, kind, side, liquidity, *numbers, ADDRESS, 1, 2)


def position_block(side: int = 2, status: int = 1, size: int = 10_000_000) -> bytes:
    numbers = (size, 6_483_996_000_000, -239_677_214, 5, NULL, 7_000_000_000_000, 500_000_000, US)
    return struct.pack("<2qB8q32s5qB", US, 7, side, *numbers, ADDRESS, 1, 2, 3, 4, 5, status)


def account_block() -> bytes:
    numbers = (100, 90_050_000_000, 10_000_000_000, 5_000_000_000, 100_050_000_000, NULL, US)
    return struct.pack("<9q32sqB", US, 7, *numbers, ADDRESS, 95, 1)


ORDER = frame(20, order_block(), "171894", "desk-1", "BTC-USD-PERP", "")
FILL = frame(21, fill_block(), "1718947571560201703986670001", "171894", "", "t1", "BTC-USD-PERP")
POSITION = frame(22, position_block(), "BTC-USD-PERP", "f1")
ACCOUNT = frame(23, account_block(), "USDC")
FRAMES = [ORDER, FILL, POSITION, ACCOUNT]
