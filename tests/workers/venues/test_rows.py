"""Rows are read one by one: an invalid one costs itself alone."""

from __future__ import annotations

import msgspec
import pytest

from ipc.errors import DecodeError
from workers.venues.rows import InvalidRow, each_row, items_of_rows, opens, split_rows


def test_invalid_row_stands_where_it_stood():
    assert each_row(["1", "x", "3"], int, "numbers") == [
        1,
        InvalidRow("numbers", "invalid literal for int() with base 10: 'x'"),
        3,
    ]


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, OverflowError, ZeroDivisionError, RecursionError])
def test_whatever_reading_a_row_raises_costs_that_row(error):
    def parse(row):
        if row == "bad":
            raise error("why")
        return row

    items = each_row(["a", "bad", "b"], parse, "rows")
    assert split_rows(items)[0] == ["a", "b"]


def test_decode_errors_and_types_are_invalid_rows():
    rows = msgspec.json.decode(b'[{"a":1},{"a":"1"},5,null]', type=list[msgspec.Raw])
    valid, invalid = split_rows(each_row(rows, lambda row: msgspec.json.decode(row, type=dict[str, int]), "rows"))
    assert (valid, len(invalid)) == ([{"a": 1}], 3)

    def refuse(_):
        raise DecodeError("not one of ours")

    assert each_row([1], refuse, "rows") == [InvalidRow("rows", "not one of ours")]


def test_what_is_said_of_a_row_is_short():
    def refuse(_):
        raise ValueError("x" * 10_000)

    (row,) = each_row([1], refuse, "rows")
    assert len(row.error) == 200


def test_row_may_hold_any_number_of_items():
    def repeated(count):
        if count < 0:
            raise ValueError("less than none")
        return [count] * count

    assert items_of_rows([0, 2, -1, 1], repeated, "rows") == [
        2,
        2,
        InvalidRow("rows", "less than none"),
        1,
    ]
    assert items_of_rows(None, list, "rows") == []


def test_bracket_of_raw_json():
    lists, objects = msgspec.json.decode(b'[[1], {"a": 1}]', type=list[msgspec.Raw])
    assert (opens(lists, b"["), opens(lists, b"{"), opens(objects, b"{"), opens(b"", b"[")) == (
        True,
        False,
        True,
        False,
    )
