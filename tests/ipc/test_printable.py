"""Whatever text comes from outside, a terminal gets nothing that it would act on."""

from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.log import JsonFormatter, PrettyFormatter, prettied
from ipc.printable import joined_lines, printable, printable_json, printable_lines, printable_values

#: Texts of every character, surrogates included, with more of those that terminals act on than chance would give.
EVIL = "\x1b\x9b\x07\x00\x7f\x85\n\r\t\u202a\u202e\u2066\u2069\u2028\u2029\ud800\udfff\U000e0041\u200f\ufeff"
texts = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from(EVIL)), max_size=40)
#: What a terminal acts on, or what hides: controls, DEL, C1, separators, directions, surrogates.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("größer 価格 €", "größer 価格 €"),
        ("a\\b", "a\\b"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("\x7f\x9b31m", "\\x7f\\x9b31m"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printable_becomes_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(texts)
def test_a_line_stays_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not UNSAFE.search(shown)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@given(texts)
def test_lines_stay_the_lines_they_are(text: str) -> None:
    shown = printable_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert not UNSAFE.search(shown.replace("\n", ""))


@given(st.lists(texts))
def test_joined_lines_are_as_many_as_there_were(lines: list[str]) -> None:
    assert joined_lines(lines).count("\n") == max(0, len(lines) - 1)


@given(texts, texts)
def test_values_are_escaped_at_every_depth(key: str, value: str) -> None:
    shown = printable_values({key: [value, {"a": (value, 1, None, True)}]})
    assert shown == {printable(key): [printable(value), {"a": [printable(value), 1, None, True]}]}


@given(texts)
def test_json_stays_equal_json_in_one_printable_line(text: str) -> None:
    for form in (json.dumps({text: [text]}), json.dumps({text: [text]}, ensure_ascii=False)):
        shown = printable_json(form)
        assert shown.isprintable()
        assert json.loads(shown) == json.loads(json.dumps({text: [text]}))


# --- the formatters of the log ----------------------------------------------------------------------------------------


def failed(message: str, fields: dict[str, object], error: str | None) -> logging.LogRecord:
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, message, None, None)
    record.fields = fields
    if error is not None:
        try:
            raise ValueError(error)
        except ValueError as raised:
            record.exc_info = (ValueError, raised, raised.__traceback__)
    return record


@given(texts, texts, texts, st.none() | texts)
def test_no_formatter_lets_it_through(event: str, key: str, value: str, error: str | None) -> None:
    record = failed(event.replace("%", ""), {key: value, "nested": {key: [value]}}, error)
    pretty, as_json = PrettyFormatter().format(record), JsonFormatter().format(record)
    stored = prettied(as_json)
    for text in (pretty, stored, prettied(value)):
        assert all(line.isprintable() for line in text.split("\n"))
    assert as_json.isprintable()
    assert isinstance(json.loads(as_json), dict)
    if error is None:
        assert "\n" not in pretty + stored


def test_the_traceback_keeps_its_lines_and_the_text_of_the_error_is_escaped() -> None:
    record = failed("worker.failed", {}, "no\x1b[2J\u202e")
    for text in (PrettyFormatter().format(record), prettied(JsonFormatter().format(record))):
        head, first, *_, last = text.split("\n")
        assert head.endswith("worker.failed")
        assert first == "Traceback (most recent call last):"
        assert last == "ValueError: no\\x1b[2J\\u202e"


@pytest.mark.parametrize(
    "line",
    [
        "\x1b[31mFatal Python error",
        '{"ts":1,"level":"info"',
        '{"ts":1e300,"level":"info","event":"a\\u001b"}\x1b',
        '{"ts":NaN,"level":"info","event":"\x7f"}',
        '{"ts":1e400,"level":"info","event":"\x7f"}',
        "[" * 100_000,
        "42\x9b",
    ],
)
def test_a_stored_line_that_is_none_of_ours_is_only_escaped(line: str) -> None:
    assert prettied(line) == printable(line)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {(1, 2): 3}, {"a": [float("-inf")]}])
def test_what_json_lacks_becomes_text_and_the_line_stays_json(value: object) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    record = failed("odd", {"value": value}, None)
    line = json.loads(JsonFormatter().format(record), parse_constant=refuse)
    assert (line["event"], line["value"]) == ("odd", str(value))
