"""Numbers in whatever spelling, rows one by one, and lists that come page by page."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from courses import drive
from fake_account import order

from workers.venues import pagination as module
from workers.venues.account_rows import Number, WholeNumber, converted, json_decoder
from workers.venues.pagination import all_pages, page_of, raw_rows
from workers.venues.rows import InvalidRow
from workers.venues.venue import RestRequest


class Row(msgspec.Struct):
    number: Number | None = None
    whole: WholeNumber | None = None


ROWS = json_decoder(Row)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('"1.50"', "1.50"),
        ("1.50", "1.50"),
        ("15", "15"),
        ("-1e-7", "-1e-7"),
        ("63807.605956624996111", "63807.605956624996111"),
        ('""', ""),
        ("null", None),
    ],
)
def test_a_number_keeps_its_digits(text: str, number: str | None) -> None:
    read = ROWS.decode(f'{{"number": {text}}}'.encode()).number
    assert read == number
    assert read is None or type(read) is str


@pytest.mark.parametrize(
    ("text", "whole"), [("8", 8), ('"8"', 8), ("8.0", 8), ('"-8"', -8), ("12345678901234567890", 12345678901234567890)]
)
def test_a_whole_number_may_be_text_or_a_fraction_of_zero(text: str, whole: int) -> None:
    assert ROWS.decode(f'{{"whole": {text}}}'.encode()).whole == whole


@pytest.mark.parametrize(
    "text", ["8.5", '"8.5"', '""', '" 8"', '"8_0"', '"٨"', "true", "[]", "1e2", '"' + "9" * 41 + '"']
)
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="whole"):
        ROWS.decode(f'{{"whole": {text}}}'.encode())


@pytest.mark.parametrize("text", ["true", "[]", "{}"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="number"):
        ROWS.decode(f'{{"number": {text}}}'.encode())


def test_members_are_converted_as_json_is_decoded() -> None:
    assert converted({"number": "1.5", "whole": 5}, Row) == ROWS.decode(b'{"number": 1.5, "whole": "5"}')


def test_what_is_no_list_is_a_row_that_is_invalid() -> None:
    assert [bytes(row) for row in raw_rows(msgspec.Raw(b'[1,{"x":2}]'))] == [b"1", b'{"x":2}']
    assert raw_rows(msgspec.Raw(b"null")) == []
    assert [bytes(row) for row in raw_rows(msgspec.Raw(b'{"x":2}'))] == [b'{"x":2}']


def pages(answers: list[Any]) -> Any:
    def read(body: bytes) -> Any:
        ids, cursor = json.loads(body)
        return page_of([order(str(one)) if one else InvalidRow("orders", "no id") for one in ids], cursor)

    return drive(all_pages("orders", lambda cursor: RestRequest(f"/x?cursor={cursor}"), read), {"/x": answers})


@pytest.mark.parametrize(
    ("answers", "ids", "is_whole"),
    [
        ([([1, 2], None)], "12", True),
        ([([1], "a/b"), ([2], "")], "12", True),
        ([([1], "a"), ([], "b")], "1", True),
        ([([1], "a"), ([2], "b"), ([3], "a")], "123", False),
        ([([1, 0], "a"), ([2], None)], "12", False),
    ],
)
def test_a_list_is_whole_when_its_last_page_was_read_and_every_row_valid(answers: Any, ids: str, is_whole: Any) -> None:
    course = pages(answers)
    assert "".join(event.order_id for event in course.result.events) == ids
    assert course.result.covers("BTC") == is_whole
    assert bool(course.result.invalid) != is_whole
    assert [course.query(number) for number in range(len(answers))][1:] == [
        {"cursor": cursor} for _, cursor in answers[:-1]
    ]


def test_a_list_of_too_many_pages_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_PAGES", 3)
    result = pages([([number], f"page {number}") for number in range(1, 9)]).result
    assert [event.order_id for event in result.events] == ["1", "2", "3"]
    assert not result.covers("BTC")
    assert result.invalid == [InvalidRow("orders", "the list ends early, after 3 pages")]
    assert result.is_cut
