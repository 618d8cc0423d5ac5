"""Frames of each venue in their documented shapes, prepared before anything is measured.

A stream is endless and without gaps: its sequence numbers follow the venue's rule, so that nothing is
resynchronised. Books have 200 levels a side; a delta changes two of the best hundred on either side, a wide one ten of
them, some to zero. Frame ``n`` carries the time ``START_MS + n``, from which readers derive their progress. The text
of the levels is rendered once and used in turn; a frame then costs some µs, so that a million of them can be made.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

START_MS = 1_790_000_000_000
#: Sequence number of aster's REST book, which the first delta follows.
ASTER_SNAPSHOT = 1000
BOOK_DEPTH = 200
#: Kinds of frames per venue: whole books (of 20, 5 or other levels), changes (few or many), trades; Paradex also JSON.
KINDS: dict[str, tuple[str, ...]] = {
    "hyperliquid": ("book20", "book5", "trade"),
    "aster": ("delta", "wide", "trade"),
    "extended": ("delta", "wide", "book", "trade"),
    "lighter": ("delta", "wide", "trade"),
    "paradex": ("book", "delta", "wide", "trade", "json_delta", "json_book"),
}

_VARIANTS = 256
_FEW, _MANY, _NEAR = 2, 10, 100
_MIDDLE = 80_000
_SBE_SCALE = 100_000_000
_SBE_NULL = -(2**63)

Sides = tuple[str, str]


def base(number: int) -> str:
    """Return the base asset of a market."""
    return "BTC" if number == 0 else f"X{number:03d}"


def wire(venue: str, number: int) -> str:
    """Return a venue's name of a market in its frames."""
    if venue == "lighter":
        return str(number + 1)
    return base(number) + {"hyperliquid": "", "aster": "USDT", "extended": "-USD", "paradex": "-USD-PERP"}[venue]


def websocket_frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """Return an unmasked server frame (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + payload


def encoded(venue: str, kind: str, frames: int, markets: int = 1) -> list[bytes]:
    """Return frames of a venue about ``markets`` markets in turn, ready for the wire."""
    opcode = 0x2 if venue == "paradex" and not kind.startswith("json") else 0x1
    stream = _STREAMS[venue, kind](markets)
    return [websocket_frame(payload, opcode) for payload in islice(stream, frames)]


class BookFrames(NamedTuple):
    """Levels of both sides, best first: price and size; size zero deletes."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


def whole_book(depth: int = BOOK_DEPTH, seed: int = 0) -> BookFrames:
    """Return a book with ``depth`` levels per side."""
    return _book(random.Random(seed), range(1, depth + 1), gone=0)


def _changes(count: int) -> Callable[[random.Random], BookFrames]:
    return lambda dice: _book(
        dice, sorted(dice.sample(range(1, _NEAR + 1), count)), gone=dice.randint(0, 2 * count // 3)
    )


def _book(dice: random.Random, places: Sequence[int], gone: int) -> BookFrames:
    """Return levels at these half units from the middle, ``gone`` per side with size zero."""
    sizes = [[f"{dice.uniform(0.001, 9):.5f}" for _ in places] for _ in range(2)]
    for side in sizes:
        for place in dice.sample(range(len(side)), gone):
            side[place] = "0.00000"
    bids = [(f"{_MIDDLE - place / 2:.1f}", size) for place, size in zip(places, sizes[0], strict=True)]
    asks = [(f"{_MIDDLE + place / 2:.1f}", size) for place, size in zip(places, sizes[1], strict=True)]
    return BookFrames(bids, asks)


def _rendered(
    render: Callable[[tuple[str, str]], object], make: Callable[[random.Random], BookFrames], variants: int = _VARIANTS
) -> list[Sides]:
    """Return both sides of ``variants`` books as JSON text."""
    dice = random.Random(7)
    books = [make(dice) for _ in range(variants)]
    return [(_text(map(render, book.bids)), _text(map(render, book.asks))) for book in books]


def _text(levels: Iterator[object]) -> str:
    return json.dumps(list(levels), separators=(",", ":"))


def _whole(depth: int) -> Callable[[random.Random], BookFrames]:
    return lambda dice: _book(dice, range(1, depth + 1), gone=0)


def _hyperliquid_book(depth: int, markets: int) -> Iterator[bytes]:
    sides = _rendered(lambda level: {"px": level[0], "sz": level[1], "n": 3}, _whole(depth))
    fast = ',"fast":true' if depth == 5 else ""
    coins = [base(number) for number in range(markets)]
    for n in count():
        bids, asks = sides[n % _VARIANTS]
        yield (
            f'{{"channel":"l2Book","data":{{"coin":"{coins[n % markets]}","time":{START_MS + n},'
            f'"levels":[{bids},{asks}]{fast}}}}}'
        ).encode()


def _hyperliquid_trade(markets: int) -> Iterator[bytes]:
    coins = [base(number) for number in range(markets)]
    for n in count():
        yield (
            f'{{"channel":"trades","data":[{{"coin":"{coins[n % markets]}","side":"{"BA"[n % 2]}",'
            f'"px":"80{n % 900:03d}.5",'
            f'"sz":"0.{n % 97 + 1:05d}","time":{START_MS + n},"hash":"0x{n:064x}","tid":{10**14 + n},'
            f'"users":["0x{n:040x}","0x{n + 1:040x}"]}}]}}'
        ).encode()


def _aster_delta(markets: int, changed: int = _FEW) -> Iterator[bytes]:
    """Yield changes in a ``pu`` chain that follows the snapshot."""
    sides = _rendered(list, _changes(changed))
    symbols = [wire("aster", number) for number in range(markets)]
    last = [ASTER_SNAPSHOT] * markets
    for n in count():
        market = n % markets
        previous = last[market]
        last[market] = previous + 20
        bids, asks = sides[n % _VARIANTS]
        yield (
            f'{{"stream":"{symbols[market].lower()}@depth@100ms","data":{{"e":"depthUpdate","E":{START_MS + n},'
            f'"T":{START_MS + n},"s":"{symbols[market]}","U":{previous + 5},"u":{previous + 20},"pu":{previous},'
            f'"b":{bids},"a":{asks}}}}}'
        ).encode()


def _aster_trade(markets: int) -> Iterator[bytes]:
    symbols = [wire("aster", number) for number in range(markets)]
    for n in count():
        symbol = symbols[n % markets]
        yield (
            f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":{START_MS + n},"a":{10**7 + n},'
            f'"s":"{symbol}","p":"80{n % 900:03d}.5","q":"0.{n % 97 + 1:03d}","f":{10**7 + n},"l":{10**7 + n},'
            f'"T":{START_MS + n},"m":{"true" if n % 2 else "false"}}}}}'
        ).encode()


def _extended_book(markets: int) -> Iterator[bytes]:
    """Yield whole books of 50 levels, as the venue repeats them every minute."""
    sides = _rendered(lambda level: {"q": level[1], "p": level[0]}, _whole(50))
    yield from _extended_frames(markets, sides, sides, "SNAPSHOT")


def _extended_delta(markets: int, changed: int = _FEW) -> Iterator[bytes]:
    """Yield a snapshot of each market, then changes; frames are numbered on their connection."""
    changes = _rendered(lambda level: {"q": level[1], "p": level[0], "c": level[1]}, _changes(changed))
    whole = _rendered(lambda level: {"q": level[1], "p": level[0]}, _whole(BOOK_DEPTH), 1)
    yield from _extended_frames(markets, whole, changes, "DELTA")


def _extended_frames(markets: int, first: list[Sides], then: list[Sides], kind: str) -> Iterator[bytes]:
    names = [wire("extended", number) for number in range(markets)]
    for n in count():
        is_first = n < markets
        bids, asks = first[0] if is_first else then[n % _VARIANTS]
        word = "SNAPSHOT" if is_first else kind
        yield (
            f'{{"type":"{word}","data":{{"t":"{word}","m":"{names[n % markets]}","b":{bids},"a":{asks},"d":"f"}},'
            f'"ts":{START_MS + n},"seq":{n + 1}}}'
        ).encode()


def _extended_trade(markets: int) -> Iterator[bytes]:
    names = [wire("extended", number) for number in range(markets)]
    for n in count():
        yield (
            f'{{"data":[{{"i":{2 * 10**18 + n},"m":"{names[n % markets]}","S":"{"BUY" if n % 2 else "SELL"}",'
            f'"tT":"TRADE","T":{START_MS + n},"p":"80{n % 900:03d}","q":"0.{n % 97 + 1:05d}"}}],'
            f'"ts":{START_MS + n},"seq":{n + 1}}}'
        ).encode()


def _lighter_delta(markets: int, changed: int = _FEW) -> Iterator[bytes]:
    """Yield a snapshot of each market, then changes in a nonce chain."""

    def render(level: tuple[str, str]) -> object:
        return {"price": level[0], "size": level[1]}

    changes, whole = _rendered(render, _changes(changed)), _rendered(render, _whole(BOOK_DEPTH), 1)
    nonces = [10**10] * markets
    for n in count():
        market = n % markets
        is_first = n < markets
        bids, asks = whole[0] if is_first else changes[n % _VARIANTS]
        begin = nonces[market]
        nonces[market] = nonce = begin + 1 + n % 300
        word = "subscribed" if is_first else "update"
        us = (START_MS + n) * 1000
        yield (
            f'{{"channel":"order_book:{market + 1}","last_updated_at":{us},"offset":{n},"order_book":{{"code":0,'
            f'"asks":{asks},"bids":{bids},"offset":{n},"nonce":{nonce},"last_updated_at":{us},"begin_nonce":{begin}}},'
            f'"timestamp":{START_MS + n},"type":"{word}/order_book"}}'
        ).encode()


def _lighter_trade(markets: int) -> Iterator[bytes]:
    for n in count():
        market = n % markets + 1
        word = "subscribed" if n < markets else "update"
        yield (
            f'{{"channel":"trade:{market}","liquidation_trades":[],"nonce":{10**10 + n},'
            f'"trades":[{{"trade_id":{10**10 + n},'
            f'"trade_id_str":"{10**10 + n}","tx_hash":"{n:040x}","type":"trade","market_id":{market},'
            f'"size":"0.{n % 97 + 1:05d}","price":"80{n % 900:03d}.5","usd_amount":"8000.{n % 97:06d}",'
            f'"ask_id":281476612587355,"ask_id_str":"281476612587355","bid_id":562948334068259,'
            f'"bid_id_str":"562948334068259","ask_client_id":363283,"ask_client_id_str":"363283",'
            f'"bid_client_id":23004521241,"bid_client_id_str":"23004521241","ask_account_id":57890,'
            f'"bid_account_id":317068,"is_maker_ask":{"true" if n % 2 else "false"},"block_height":198321831,'
            f'"timestamp":{START_MS + n},"taker_fee":196,"maker_fee":28,"transaction_time":{(START_MS + n) * 1000}}}],'
            f'"type":"{word}/trade"}}'
        ).encode()


def _paradex_book(markets: int) -> Iterator[bytes]:
    """Yield whole books of 15 levels, as their own channel sends them."""
    yield from _paradex_books(markets, 15, changed=0)


def _paradex_delta(markets: int, changed: int = _FEW) -> Iterator[bytes]:
    """Yield a snapshot of each market, then changes."""
    yield from _paradex_books(markets, BOOK_DEPTH, changed)


def _paradex_books(markets: int, depth: int, changed: int) -> Iterator[bytes]:
    dice, is_delta = random.Random(7), changed > 0
    whole = _groups(whole_book(depth))
    later = [_groups(_changes(changed)(dice) if is_delta else whole_book(depth, n)) for n in range(_VARIANTS)]
    names = [_sbe_text(wire("paradex", number)) for number in range(markets)]
    nulls = [_SBE_NULL] * 9
    for n in count():
        is_first = n < markets
        package = int(is_delta and not is_first)
        fixed = struct.pack("<qqB9q", (START_MS + n) * 1000, 5000 + n // markets, package, *nulls)
        groups = whole if is_first else later[n % _VARIANTS]
        yield struct.pack("<HHHH", len(fixed), 3, 1, 1) + fixed + groups + names[n % markets]


def _paradex_json(markets: int, *, is_delta: bool) -> Iterator[bytes]:
    """Yield the JSON form, with every level among the ``inserts``: other clients read nothing else."""
    channel = "deltas" if is_delta else "snapshot@15@100ms"
    dice = random.Random(7)
    whole = _inserts(whole_book(BOOK_DEPTH if is_delta else 15))
    later = [_inserts(_changes(_FEW)(dice) if is_delta else whole_book(15, n)) for n in range(_VARIANTS)]
    names = [wire("paradex", number) for number in range(markets)]
    for n in count():
        is_first = n < markets
        name, kind = names[n % markets], "d" if is_delta and not is_first else "s"
        yield (
            f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"order_book.{name}.{channel}","data":{{'
            f'"seq_no":{5000 + n // markets},"market":"{name}","last_updated_at":{START_MS + n},"update_type":"{kind}",'
            f'"inserts":{whole if is_first else later[n % _VARIANTS]},"updates":[],"deletes":[]}}}}}}'
        ).encode()


def _inserts(book: BookFrames) -> str:
    sides = zip(("BUY", "SELL"), book, strict=True)
    return _text({"side": word, "price": price, "size": size} for word, side in sides for price, size in side)


def _paradex_trade(markets: int) -> Iterator[bytes]:
    names = [_sbe_text(wire("paradex", number)) for number in range(markets)]
    for n in count():
        us = (START_MS + n) * 1000
        price, size = (80_000 + n % 900) * _SBE_SCALE, (n % 97 + 1) * 100_000
        fixed = struct.pack("<3qB3qB", us, 5000 + n, 0, 1 + n % 2, price, size, us, 1)
        yield struct.pack("<HHHH", len(fixed), 1, 1, 1) + fixed + names[n % markets]


def _groups(book: BookFrames) -> bytes:
    return b"".join(
        struct.pack("<HH", 16, len(side)) + b"".join(struct.pack("<qq", *map(_sbe_units, level)) for level in side)
        for side in book
    )


def _sbe_units(text: str) -> int:
    return round(float(text) * _SBE_SCALE)


def _sbe_text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


_STREAMS: dict[tuple[str, str], Callable[[int], Iterator[bytes]]] = {
    ("hyperliquid", "book20"): lambda markets: _hyperliquid_book(20, markets),
    ("hyperliquid", "book5"): lambda markets: _hyperliquid_book(5, markets),
    ("hyperliquid", "trade"): _hyperliquid_trade,
    ("aster", "delta"): _aster_delta,
    ("aster", "wide"): lambda markets: _aster_delta(markets, _MANY),
    ("aster", "trade"): _aster_trade,
    ("extended", "delta"): _extended_delta,
    ("extended", "wide"): lambda markets: _extended_delta(markets, _MANY),
    ("extended", "book"): _extended_book,
    ("extended", "trade"): _extended_trade,
    ("lighter", "delta"): _lighter_delta,
    ("lighter", "wide"): lambda markets: _lighter_delta(markets, _MANY),
    ("lighter", "trade"): _lighter_trade,
    ("paradex", "delta"): _paradex_delta,
    ("paradex", "wide"): lambda markets: _paradex_delta(markets, _MANY),
    ("paradex", "book"): _paradex_book,
    ("paradex", "trade"): _paradex_trade,
    ("paradex", "json_book"): lambda markets: _paradex_json(markets, is_delta=False),
    ("paradex", "json_delta"): lambda markets: _paradex_json(markets, is_delta=True),
}
