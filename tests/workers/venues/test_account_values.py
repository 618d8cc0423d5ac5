"""The rules for words and numbers that all private sides share."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from workers.venues.account_rows import Number, NumberOrNone, decoded, json_decoder
from workers.venues.account_values import (
    above_zero,
    fault_of,
    fill_type,
    margin_mode,
    order_status,
    priced,
    without_values,
)

TABLE: Any = {"DONE": "filled", "GONE": "canceled", "NO": "rejected", "LIVE": "open"}


@pytest.mark.parametrize(
    ("word", "size", "filled", "status"),
    [
        ("LIVE", "2", "0", "open"),
        ("LIVE", "2.0", "2", "filled"),
        ("GONE", "2", "2.00", "filled"),
        ("GONE", "2", "1.9", "canceled"),
        ("NO", "2", "0", "rejected"),
        ("DONE", "2", "1", "filled"),
        ("A_NEW_WORD", "2", "1", "open"),
        ("A_NEW_WORD", "2", "2e0", "filled"),
        ("", "2", "0", "open"),
        ("LIVE", "0", "0", "open"),
        ("GONE", "0.0", "0", "canceled"),
    ],
)
def test_quantity_decides_before_the_word_and_an_unknown_word_closes_nothing(
    word: str, size: str, filled: str, status: str
) -> None:
    assert order_status(TABLE, word, size, filled) == status
    waiting = order_status(TABLE, word, size, filled, waits=True)
    assert waiting == ("untriggered" if status == "open" else status)


@pytest.mark.parametrize("text", ["", "many", "NaN", " 1"])
def test_a_quantity_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal"):
        order_status(TABLE, "LIVE", text, "0")


def test_no_price_is_none() -> None:
    assert [priced(text) for text in (None, "", "0", "0.0", "0E-8", "-0", "1.5", "-1")] == [None] * 6 + ["1.5", "-1"]
    assert [above_zero(text) for text in (None, "", "0.0", "-5", "1E3")] == [None] * 4 + ["1E3"]


def test_margin_modes() -> None:
    words = ["cross", "CROSSED", "isolated", "ISOLATED", "new", "", None]
    assert [margin_mode(word) for word in words] == ["cross", "cross", "isolated", "isolated", None, None, None]


@pytest.mark.parametrize(
    ("word", "liquidity", "kind"),
    [
        ("FORCED", "taker", "liquidation"),
        ("FORCED", None, "liquidation"),
        ("FORCED", "maker", "trade"),
        ("LIQUIDATION", "maker", "trade"),
        ("ADL", "maker", "adl"),
        ("A_NEW_WORD", "maker", "a_new_word"),
    ],
)
def test_a_liquidation_is_one_for_the_account_that_takes(word: str, liquidity: str | None, kind: str) -> None:
    assert fill_type({"FORCED": "liquidation", "ADL": "adl"}, word, liquidity) == kind


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("price '81000.5': negative", "price …: negative"),
        ("""not a decimal number: 'a"b'""", "not a decimal number: …"),
        ('Invalid enum value "X" - at `$.side`', "Invalid enum value … - at `$.side`"),
        ("cut '81000", "cut …"),
        ("Expected `str`, got `int` - at `$.px`", "Expected `str`, got `int` - at `$.px`"),
        ("'1' and '2'", "…"),
    ],
)
def test_the_values_in_an_error_are_not_shown(error: str, shown: str) -> None:
    assert without_values(error) == shown


class Pair(msgspec.Struct):
    a: Number
    b: Number | None = None


def test_numbers_are_kept_to_the_last_digit_however_they_are_written() -> None:
    pair = decoded(json_decoder(Pair), b'{"a": 12345678901234567.123456789, "b": "0.10"}', "pairs")
    assert (pair.a, pair.b) == ("12345678901234567.123456789", "0.10")
    assert type(pair.a) is str
    assert decoded(json_decoder(Pair), b'{"a": 7, "b": null}', "pairs") == Pair("7", None)


class Perhaps(msgspec.Struct):
    a: NumberOrNone = None


@pytest.mark.parametrize("body", [b"{}", b'{"a": null}', b'{"a": ""}'])
def test_null_and_the_empty_text_are_no_number_where_there_need_be_none(body: bytes) -> None:
    assert decoded(json_decoder(Perhaps), body, "rows").a is None


@pytest.mark.parametrize(("text", "number"), [(b'"0"', "0"), (b"1e-7", "1e-7"), (b"5", "5"), (b'"NaN"', "NaN")])
def test_what_is_written_is_kept_where_there_need_be_none(text: bytes, number: str) -> None:
    assert decoded(json_decoder(Perhaps), b'{"a": %b}' % text, "rows").a == number


@pytest.mark.parametrize("text", [b"true", b"[]", b"{}"])
def test_what_can_be_no_number_is_refused_where_there_need_be_none(text: bytes) -> None:
    with pytest.raises(ValueError, match="malformed rows"):
        decoded(json_decoder(Perhaps), b'{"a": %b}' % text, "rows")


@pytest.mark.parametrize("body", [b'{"a": true}', b'{"a": []}', b'{"a": null}', b"{}", b"5", b"[" * 100_000])
def test_anything_else_is_no_number(body: bytes) -> None:
    with pytest.raises(ValueError, match="malformed pairs"):
        decoded(json_decoder(Pair), body, "pairs")


def test_a_parsers_fault_is_named_without_what_it_read() -> None:
    try:
        int("1234 secret")
    except ValueError as error:
        fault = fault_of(error)
    assert fault.startswith("ValueError in test_account_values.py, line ")
    assert "secret" not in fault
