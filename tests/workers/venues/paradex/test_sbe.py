"""Binary decoder, against an independent encoder written from the published layout."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import DecodeError
from workers.venues.paradex.sbe import FundingData, MarketSummary, SbeBbo, SbeBook, SbeTrade, decode, fixed_text

NULL = -(2**63)
SATURATED = 2**63 - 1
MARKET = "BTC-USD-PERP"
TS = 1_790_000_123_456_789

I64 = st.integers(-(2**63) + 1, 2**63 - 1)
OPTIONAL = st.one_of(st.just(NULL), st.just(SATURATED), I64)
LEVELS = st.lists(st.tuples(I64, I64), max_size=30)
NAMES = st.text(max_size=60)


def text(units: int) -> str:
    """Return ``units`` of 1e-8 as text, by the standard library."""
    plain = f"{Decimal(units).scaleb(-8):f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def optional(units: int) -> str | None:
    return None if units in {NULL, SATURATED} else text(units)


def string(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<B", len(raw)) + raw


def header(block: bytes, template: int, version: int = 1, schema: int = 1) -> bytes:
    return struct.pack("<HHHH", len(block), template, schema, version)


def frame(template: int, block: bytes, tail: bytes, version: int = 1) -> bytes:
    return header(block, template, version) + block + tail


def group(levels: list[tuple[int, int]], padding: bytes = b"") -> bytes:
    entries = b"".join(struct.pack("<qq", price, size) + padding for price, size in levels)
    return struct.pack("<HH", 16 + len(padding), len(levels)) + entries


def book_block(ts: int = TS, seq: int = 7, package: int = 0) -> bytes:
    return struct.pack("<qqB9q", ts, seq, package, *[NULL] * 9)


def book(bids: list[tuple[int, int]], asks: list[tuple[int, int]], package: int = 0) -> bytes:
    return frame(3, book_block(package=package), group(bids) + group(asks) + string(MARKET))


def bbo_block(bid: tuple[int, int], ask: tuple[int, int]) -> bytes:
    return struct.pack("<qqqqqq", TS, 7, *bid, *ask)


def trade_block(side: int = 1, price: int = 100, size: int = 200, kind: int = 1) -> bytes:
    return struct.pack("<qqqBqqqB", TS, 7, 12345, side, price, size, TS - 5, kind)


def summary_block(mark: int, index: int, open_interest: int, fields: int = 25) -> bytes:
    values = [mark, index, 3, 4, open_interest, *range(6, 100)]
    return struct.pack(f"<qq{fields}q", TS, 7, *values[:fields])


def funding_block(rate: int, hours: int) -> bytes:
    return struct.pack("<7qh", TS, 7, rate, 99, TS - 5, 98, 97, hours)


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (0, "0"),
        (1, "0.00000001"),
        (-1, "-0.00000001"),
        (100_000_000, "1"),
        (-100_000_000, "-1"),
        (8_265_350_000_000, "82653.5"),
        (1_000_000_000_000, "10000"),
        (-50_000_000, "-0.5"),
        (2**63 - 1, "92233720368.54775807"),
    ],
)
def test_integers_become_the_shortest_plain_decimal(units: int, expected: str) -> None:
    assert fixed_text(units) == expected


@settings(deadline=None)
@given(I64)
def test_text_of_any_number_is_exact(units: int) -> None:
    assert fixed_text(units) == text(units)
    assert Decimal(fixed_text(units)) == Decimal(units).scaleb(-8)


def test_cache_of_texts_is_bounded() -> None:
    assert fixed_text.cache_info().maxsize == 16_384


# --- round trips --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(LEVELS, LEVELS, st.integers(0, 255), NAMES, st.binary(max_size=8), st.binary(max_size=8))
def test_books_of_any_version(bids, asks, package, market, longer_block, longer_entry) -> None:
    block = book_block(package=package) + longer_block
    tail = group(bids, longer_entry) + group(asks) + string(market[:20])
    assert decode(frame(3, block, tail)) == SbeBook(
        market[:20],
        TS,
        7,
        package,
        [(text(price), text(size)) for price, size in bids],
        [(text(price), text(size)) for price, size in asks],
    )


@settings(deadline=None)
@given(OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, st.binary(max_size=8))
def test_best_bid_and_offer(bid_price, bid_size, ask_price, ask_size, longer_block) -> None:
    payload = frame(2, bbo_block((bid_price, bid_size), (ask_price, ask_size)) + longer_block, string(MARKET))
    assert decode(payload) == SbeBbo(
        MARKET, TS, optional(bid_price), optional(bid_size), optional(ask_price), optional(ask_size)
    )


@settings(deadline=None)
@given(st.integers(0, 255), I64, I64, st.integers(0, 255))
def test_trades(side, price, size, kind) -> None:
    payload = frame(1, trade_block(side, price, size, kind), string(MARKET))
    assert decode(payload) == SbeTrade(MARKET, TS, TS - 5, 7, side, text(price), text(size), kind, "")


@pytest.mark.parametrize("fields", [25, 28, 29, 40])
def test_market_summaries_of_every_version(fields: int) -> None:
    payload = frame(4, summary_block(NULL, 500_000_000, 150_000_000, fields), string(MARKET))
    assert decode(payload) == MarketSummary(MARKET, TS, None, "5", "1.5")


@pytest.mark.parametrize(
    ("units", "expected"), [(NULL, None), (SATURATED, None), (SATURATED - 1, "92233720368.54775806"), (0, "0")]
)
def test_an_open_interest_that_is_missing_or_overflows_is_null_and_the_rest_is_decoded(units, expected) -> None:
    payload = frame(4, summary_block(973_000, 974_000, units, 28), string("kPEPE-USD-PERP"))
    assert decode(payload) == MarketSummary("kPEPE-USD-PERP", TS, "0.00973", "0.00974", expected)


@pytest.mark.parametrize("appended", [b"", struct.pack("<q", 5)])
def test_funding_data_of_every_version(appended: bytes) -> None:
    payload = frame(5, funding_block(-7_114, 8) + appended, string(MARKET))
    assert decode(payload) == FundingData(MARKET, TS, TS - 5, "-0.00007114", 8)


def test_missing_rate_is_none_and_not_zero() -> None:
    payload = frame(5, funding_block(NULL, 8), string(MARKET))
    assert decode(payload) == FundingData(MARKET, TS, TS - 5, None, 8)


def test_frames_are_read_from_a_view() -> None:
    buffer = bytearray(book([(100_000_000, 200_000_000)], []))
    message = decode(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == SbeBook(MARKET, TS, 7, 0, [("1", "2")], [])


def test_golden_bytes_of_a_delta() -> None:
    payload = bytes.fromhex(
        "5900030001000100"  # block of 89 bytes, template 3, schema 1, version 1
        "15cd5b0700000000"  # time
        "0700000000000000"  # sequence number
        "01" + "0000000000000080" * 9 + "10000100"  # one bid
        "00a3e11100000000"  # 3
        "0000000000000000"  # gone
        "10000000"  # no ask
        "0c4254432d5553442d50455250"
    )
    assert decode(payload) == SbeBook(MARKET, 123_456_789, 7, 1, [("3", "0")], [])


# --- trade ids ----------------------------------------------------------------------------------------------------

LONG_ID = "1718179273230201709233240002"


def trade_id(tail: bytes, version: int) -> str:
    message = decode(frame(1, trade_block(), string(MARKET) + tail, version))
    assert isinstance(message, SbeTrade)
    return message.trade_id


@pytest.mark.parametrize("version", [2, 3])
def test_full_trade_id_follows_the_market(version: int) -> None:
    assert trade_id(string(LONG_ID), version) == LONG_ID


@pytest.mark.parametrize(("tail", "version"), [(b"", 2), (string(""), 2), (b"", 1), (string(LONG_ID), 1)])
def test_trade_without_full_id_has_none(tail: bytes, version: int) -> None:
    assert trade_id(tail, version) == ""


# --- frames that are nothing to us, and malformed ones ------------------------------------------------------------


@pytest.mark.parametrize("template", [0, 6, 20, 21, 22, 23, 40, 41, 99])
def test_other_templates_are_skipped(template: int) -> None:
    assert decode(frame(template, struct.pack("<qq", TS, 7), b"")) is None


def test_other_schema_is_refused() -> None:
    block = book_block()
    with pytest.raises(DecodeError, match="schema 2"):
        decode(header(block, 3, schema=2) + block + group([]) + group([]) + string(MARKET))


FRAMES = [
    book([(100, 200), (90, 10)], [(110, 5)]),
    frame(2, bbo_block((1, 2), (3, 4)), string(MARKET)),
    frame(1, trade_block(), string(MARKET) + string(LONG_ID), 2),
    frame(4, summary_block(1, 2, 3), string(MARKET)),
    frame(5, funding_block(1, 8), string(MARKET)),
]


@pytest.mark.parametrize("payload", FRAMES)
def test_frame_cut_anywhere_is_malformed(payload: bytes) -> None:
    # A trade may end before its full id, which is an addition.
    mandatory = payload.index(MARKET.encode()) + len(MARKET)
    for length in range(mandatory):
        with pytest.raises(DecodeError):
            decode(payload[:length])


@pytest.mark.parametrize("template", [1, 2, 3, 4, 5])
def test_block_shorter_than_its_first_version_is_malformed(template: int) -> None:
    block = struct.pack("<qq", TS, 7)
    with pytest.raises(DecodeError, match="16 bytes"):
        decode(frame(template, block, bytes(300)))


def test_more_entries_than_bytes_are_malformed() -> None:
    with pytest.raises(DecodeError, match="declares"):
        decode(frame(3, book_block(), struct.pack("<HH", 16, 65_535) + bytes(64)))


@pytest.mark.parametrize("entry_bytes", [0, 15])
def test_entries_too_short_for_a_level_are_malformed(entry_bytes: int) -> None:
    with pytest.raises(DecodeError, match="level"):
        decode(frame(3, book_block(), struct.pack("<HH", entry_bytes, 2) + bytes(64)))


@pytest.mark.parametrize("level", [(NULL, 1), (1, NULL)])
def test_level_without_price_or_size_is_malformed(level: tuple[int, int]) -> None:
    with pytest.raises(DecodeError, match="level"):
        decode(book([level], []))


def test_market_that_is_not_text_is_malformed() -> None:
    with pytest.raises(DecodeError):
        decode(frame(2, bbo_block((1, 2), (3, 4)), b"\x02\xff\xff"))


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 250), st.integers(0, 20), st.binary(max_size=8))
def test_damaged_frames_raise_only_decode_errors(payload, start, cut, put) -> None:
    try:
        decode(payload[:start] + put + payload[start + cut :])
    except DecodeError:
        return


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 6))
def test_noise_behind_a_good_header_raise_only_decode_errors(noise, template) -> None:
    try:
        decode(struct.pack("<HHHH", min(len(noise), 89), template, 1, 2) + noise)
    except DecodeError:
        return
