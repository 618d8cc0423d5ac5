"""Private binary frames, against an independent encoder."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paradex_frames import (
    ACCOUNT,
    FILL,
    FRAMES,
    MS,
    NULL,
    ORDER,
    POSITION,
    account_block,
    fill_block,
    frame,
    order_block,
    position_block,
)

from ipc.errors import DecodeError
from workers.venues.paradex.account_sbe import decode


def test_blocks_are_as_long_as_the_layout_says() -> None:
    blocks = (order_block(), fill_block(), position_block(), account_block())
    assert [len(block) for block in blocks] == [126, 107, 154, 113]


def test_an_order() -> None:
    assert decode(ORDER) == (
        "orders",
        {
            "id": "171894",
            "client_id": "desk-1",
            "market": "BTC-USD-PERP",
            "cancel_reason": "",
            "status": "OPEN",
            "side": "BUY",
            "type": "LIMIT",
            "price": "81000.5",
            "size": "0.05",
            "remaining_size": "0.03",
            "avg_fill_price": "81000",
            "last_updated_at": MS,
            "flags": ["REDUCE_ONLY"],
        },
    )


def test_an_order_without_a_price_or_flags() -> None:
    message = decode(frame(20, order_block(price=NULL, flags=0b110), "1", "", "BTC-USD-PERP", "USER_CANCELED"))
    assert message is not None
    assert (message.data["price"], message.data["flags"]) == (None, [])
    assert message.data["cancel_reason"] == "USER_CANCELED"


def test_a_fill() -> None:
    assert decode(FILL) == (
        "fills",
        {
            "id": "1718947571560201703986670001",
            "order_id": "171894",
            "client_id": "",
            "market": "BTC-USD-PERP",
            "fee_currency": None,
            "fill_type": "FILL",
            "side": "SELL",
            "liquidity": "MAKER",
            "price": "64852.9",
            "size": "0.01",
            "fee": "-0.00019455",
            "created_at": MS,
        },
    )


def test_a_position_has_a_separate_side() -> None:
    assert decode(POSITION) == (
        "positions",
        {
            "market": "BTC-USD-PERP",
            "side": "SHORT",
            "size": "0.1",
            "average_entry_price": "64839.96",
            "unrealized_pnl": "-2.39677214",
            "mark_price": None,
            "liquidation_price": "70000",
            "last_updated_at": MS,
            "status": "OPEN",
        },
    )


def test_an_account() -> None:
    assert decode(ACCOUNT) == (
        "account",
        {
            "account_value": "1000.5",
            "free_collateral": "900.5",
            "initial_margin_requirement": "100",
            "maintenance_margin_requirement": "50",
            "updated_at": MS,
        },
    )


def test_fields_of_later_versions_are_skipped() -> None:
    order = frame(20, order_block() + bytes(2), "171894", "desk-1", "BTC-USD-PERP", "", "r1", "text", version=2)
    assert decode(order) == decode(ORDER)
    assert decode(frame(23, account_block() + bytes(8), "USDC", version=2)) == decode(ACCOUNT)
    texts = ("1718947571560201703986670001", "171894", "", "t1", "BTC-USD-PERP", "DIME")
    fill = decode(frame(21, fill_block() + bytes(9), *texts, version=2))
    assert fill is not None
    assert fill.data["fee_currency"] == "DIME"


@pytest.mark.parametrize("template", [1, 2, 3, 4, 5, 6, 19, 24, 40, 41, 999])
def test_other_templates_are_ignored(template: int) -> None:
    assert decode(frame(template, bytes(200), "x")) is None


@pytest.mark.parametrize(
    ("code", "word"),
    [(1, "FILL"), (2, "LIQUIDATION"), (3, "TRANSFER"), (4, "SETTLE_MARKET"), (5, "RPI"), (6, "BLOCK_TRADE")],
)
def test_types_of_fills(code: int, word: str) -> None:
    message = decode(frame(21, fill_block(kind=code), "1", "2", "", "t1", "BTC-USD-PERP"))
    assert message is not None
    assert message.data["fill_type"] == word


def test_missing_values_and_unknown_words_are_kept_as_such() -> None:
    message = decode(frame(20, order_block(side=254, status=9, size=NULL), "1", "", "BTC-USD-PERP", ""))
    assert message is not None
    assert (message.data["side"], message.data["status"], message.data["size"]) == (None, "9", None)


def test_a_flat_position_has_no_side() -> None:
    message = decode(frame(22, position_block(side=254, status=2), "BTC-USD-PERP", ""))
    assert message is not None
    assert (message.data["side"], message.data["status"]) == (None, "CLOSED")


def test_another_schema_is_refused() -> None:
    with pytest.raises(DecodeError, match="schema 2"):
        decode(frame(20, order_block(), "1", "", "BTC-USD-PERP", "", schema=2))


@pytest.mark.parametrize("whole", FRAMES)
def test_a_frame_that_is_cut_short_anywhere_is_refused(whole: bytes) -> None:
    for end in range(len(whole)):
        with pytest.raises(DecodeError):
            decode(memoryview(whole)[:end])


def test_a_block_that_is_shorter_than_the_layout_is_refused() -> None:
    with pytest.raises(DecodeError, match="113"):
        decode(frame(23, account_block()[:-1], "USDC"))


@given(st.sampled_from(FRAMES), st.data())
def test_mutated_frames_raise_only_decode_errors(whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        decode(bytes(changed))
