from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path

import pytest

from simulator.venues.paradex import sbe

MARKET = bytes.fromhex("0c") + b"BTC-USD-PERP"
NULL = "0000000000000080"

#: Put together by hand from the layout: 1.5 is 150000000 units, 0x08f0d180.
BBO = (
    "3000" "0200" "0100" "0100"
    "0100000000000000"
    "0200000000000000"
    "80d1f00800000000"
    "00e1f50500000000" + NULL + NULL
)  # fmt: skip
BOOK_DELTA = (
    "5900" "0300" "0100" "0100"
    "0100000000000000"
    "ffffff0100000000"
    "01" + 9 * NULL + "1000" "0200"
    "80d1f00800000000" "0000000000000000"
    "00e1f50500000000" "0100000000000000"
    "1000" "0000"
)  # fmt: skip
TRADE = (
    "3200" "0100" "0100" "0200"
    "0500000000000000"
    "0600000000000000"
    "efbeadde00000000"
    "02"
    "80d1f00800000000"
    "00e1f50500000000"
    "0400000000000000"
    "01"
)  # fmt: skip
FUNDING = (
    "4200" "0500" "0100" "0100"
    "0100000000000000"
    "0200000000000000"
    "ffffffffffffffff"
    "0300000000000000"
    "0400000000000000"
    "0500000000000000"
    "0600000000000000"
    "0800"
    "0700000000000000"
)  # fmt: skip


def test_golden_bbo():
    frame = sbe.bbo(1, 1, 2, (150_000_000, 100_000_000, sbe.NULL, sbe.NULL), "BTC-USD-PERP")
    assert frame == bytes.fromhex(BBO) + MARKET


def test_golden_book_delta():
    bids = [(150_000_000, 0), (100_000_000, 1)]
    frame = sbe.book(1, 1, 0x1FFFFFF, (bids, []), "BTC-USD-PERP", is_delta=True)
    assert frame == bytes.fromhex(BOOK_DELTA) + MARKET


def test_golden_trade_with_the_whole_id_from_version_2_on():
    arguments = ((5, 4), 6, "3735928559", 2, 150_000_000, 100_000_000, 1, "BTC-USD-PERP")
    assert sbe.trade(2, *arguments) == bytes.fromhex(TRADE) + MARKET + b"\x0a3735928559"
    assert sbe.trade(1, *arguments) == bytes.fromhex(TRADE.replace("01000200", "01000100", 1)) + MARKET


def test_golden_funding():
    frame = sbe.funding(1, 1, 2, (-1, 3, 4, 5, 6), 8, 7, "BTC-USD-PERP")
    assert frame == bytes.fromhex(FUNDING) + MARKET


def test_a_trade_id_of_28_digits_is_truncated():
    frame = sbe.trade(1, (0, 0), 0, "1718179273230201709233240002", 1, 0, 0, 1, "X")
    assert struct.unpack_from("<q", frame, 24) == (697_056_161_572_911_042,)


@pytest.mark.parametrize(("version", "length"), [(0, 216), (1, 240), (2, 240), (3, 248)])
def test_a_summary_grows_with_the_version(version, length):
    frame = sbe.summary(version, 1, 2, range(25), (7, 8, 9, 10), "BTC-USD-PERP")
    assert struct.unpack_from("<HHHH", frame) == (length, 4, 1, version)
    assert len(frame) == 8 + length + len(MARKET)


def test_a_summary_of_the_wrong_size_is_rejected():
    with pytest.raises(ValueError, match="24 fields"):
        sbe.summary(1, 1, 2, range(24), (), "X")


def test_large_numbers_saturate():
    assert sbe.clamp(10**30) == 2**63 - 1
    assert sbe.clamp(-5) == -5


def test_a_bid_is_prepended_and_a_first_price_is_removed(books):
    frame = sbe.book(1, 1, 2, ([(5, 6)], [(7, 8)]), "X", is_delta=True)
    assert books.decode_sbe(sbe.with_bid(frame, 9, 10))["bids"] == [(9, 10), (5, 6)]
    assert books.decode_sbe(sbe.without_first_price(frame))["bids"] == [(sbe.NULL, 6)]
    asks_only = sbe.book(1, 1, 2, ([], [(7, 8)]), "X", is_delta=True)
    assert books.decode_sbe(sbe.without_first_price(asks_only))["asks"] == [(sbe.NULL, 8)]
    assert sbe.without_first_price(sbe.book(1, 1, 2, ([], []), "X", is_delta=True)) is None


def _real_frames():
    directory = os.environ.get("PARAPHINA_SAMPLES_DIR")
    paths = sorted(Path(directory, "paradex").glob("sbe_*.json")) if directory else []
    return [
        pytest.param(base64.b64decode(message["b64"]), id=f"{path.stem}-{n}")
        for path in paths
        for n, message in enumerate(json.loads(path.read_text())["messages"])
        if message["opcode"] == "binary"
    ]


@pytest.mark.skipif("PARAPHINA_SAMPLES_DIR" not in os.environ, reason="no recorded messages here")
@pytest.mark.parametrize("frame", _real_frames())
def test_a_real_frame_decoded_and_encoded_again_is_the_same(books, frame):
    event = books.decode_sbe(frame)
    assert event["schema"] == sbe.SCHEMA
    encoded = _encode(event)
    if encoded is not None:
        assert encoded == frame


def _encode(event):
    version, ts, seq, strings = event["version"], event["ts"], event["seq"], event["strings"]
    if event["template"] == 1:
        number, side, price, size, created, kind = event["fields"]
        trade_id = strings[1] if version >= 2 else str(number)
        return sbe.trade(version, (ts, created), seq, trade_id, side, price, size, kind, strings[0])
    if event["template"] == 2:
        return sbe.bbo(version, ts, seq, event["fields"], strings[0])
    if event["template"] == 3:
        sides = (event["bids"], event["asks"])
        is_delta = not event["is_snapshot"]
        return sbe.book(version, ts, seq, sides, strings[0], is_delta=is_delta, best=event["best"])
    if event["template"] == 4:
        return sbe.summary(version, ts, seq, event["fields"][:25], event["fields"][25:], strings[0])
    if event["template"] == 5:
        hours, *impact = struct.unpack("<h" + "q" * (event["length"] == 66), _tail(event))
        # A block of 58 bytes is what version 0 sends.
        encoded = sbe.funding(bool(impact), ts, seq, event["fields"][:5], hours, *(impact or [0]), strings[0])
        return encoded[:6] + version.to_bytes(2, "little") + encoded[8:]
    return None


def _tail(event):
    """Return what follows the five numbers of a funding block."""
    numbers = struct.pack(f"<{len(event['fields'])}q", *event["fields"]) + event["rest"]
    return numbers[40:]
