"""Expectations: what matches, and what is said of one that was missed."""

from __future__ import annotations

import pytest

from supervisor.scenario.expect import difference

BIDS, ASKS = [("99", "1")], [("100", "1")]
WHOLE = ("subscribed", 0, 10, BIDS, ASKS)
TOPIC = "book.lighter.BTC-PERP"


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2, "d": 3}]}}),
        ({"a": None}, {}),
        ({"a": None}, {"a": None}),
        ({"on": "public"}, {"on": "public/main"}),
        ({"t": 10.6}, {"t": 10.65}),
        ({"t": [10, 11]}, {"t": 10.6}),
        ({"n": 1.0}, {"n": 1}),
    ],
)
def test_a_pattern_is_part_of_what_it_matches(pattern, value):
    assert difference(pattern, value) is None


@pytest.mark.parametrize(
    ("pattern", "value", "text"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b: 1 expected, 2 came"),
        ({"a": [1]}, {"a": [1, 2]}, "a: [1] expected, [1, 2] came"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "a[0].b: 1 expected, 2 came"),
        ({"a": 1}, {}, "a: 1 expected, nothing came"),
        ({"a": True}, {"a": 1}, "a: true expected, 1 came"),
        ({"a": "1"}, {"a": 1}, 'a: "1" expected, 1 came'),
        ({"on": "pub"}, {"on": "public/main"}, 'on: "pub" expected, "public/main" came'),
        ({"t": 10}, {"t": 10.6}, "t: 10 expected, 10.6 came"),
        ({"t": ["a", 1]}, {"t": 10.6}, 't: ["a", 1] expected, 10.6 came'),
    ],
)
def test_a_difference_names_its_place(pattern, value, text):
    assert difference(pattern, value) == text


def test_lines_are_seen_in_order(playing, book):
    snapshot, gap = {"topic": TOPIC, "kind": "book_snapshot"}, {"topic": TOPIC, "kind": "gap", "reason": "seq_gap"}
    steps = (book(*WHOLE), {"wait": 1}, book("update", 12, 13, [("98", "1")]))
    assert playing(*steps, expect={"seen": [snapshot, gap]}).missed == []
    (text,) = playing(*steps, expect={"seen": [gap, snapshot]}).missed
    assert text.startswith('file.json:expect at 1 s: seen[1]: {"topic": "book.lighter.BTC-PERP"')
    assert "did not come behind" in text
    (text,) = playing(*steps, expect={"seen": [{**gap, "reason": "crossed_book"}]}).missed
    assert 'nearest at 1 s: reason: "crossed_book" expected, "seq_gap" came' in text


def test_only_and_never(playing, book):
    of = {"topic": TOPIC}
    expect = {"only": [{"of": of, "are": [{"kind": "book_snapshot"}]}], "never": [{"kind": "gap"}]}
    assert playing(book(*WHOLE), expect=expect).missed == []
    gap = book("update", 12, 13, [("98", "1")])
    one, other = playing(book(*WHOLE), gap, expect=expect).missed
    assert "only[0]: one more came: " in one
    assert "never[0]: it came: " in other
    expect = {"only": [{"of": of, "are": [{"depth": 5}, {"kind": "gap"}]}]}
    one, other = playing(book(*WHOLE), expect=expect).missed
    assert "only[0].are[0]: depth: 5 expected, null came; in {" in one
    assert "only[0].are[1]: " in other
    assert "did not come; 1 lines match" in other


def test_books_last_values_and_counts(playing, book):
    expect = {
        "books": {"BTC-PERP": {"usable": True, "bids": [["99", "1"]]}},
        "last": {"instrument.lighter.BTC-PERP": {"status": "active"}, "mark.lighter.BTC-PERP": None},
        "counts": {"malformed": 0, "invalid_rows": 0, "lost": 0, "unused_answers": 0, "unrouted": 0},
    }
    assert playing(book(*WHOLE), expect=expect).missed == []
    expect = {
        "books": {"BTC-PERP": {"usable": False}},
        "last": {"instrument.lighter.BTC-PERP": {"status": "halted"}},
        "counts": {"malformed": 1},
    }
    texts = playing(book(*WHOLE), expect=expect).missed
    assert [text.partition("s: ")[2] for text in texts] == [
        "books.BTC-PERP: usable: false expected, true came",
        'last.instrument.lighter.BTC-PERP: status: "halted" expected, "active" came',
        "counts.malformed: 1 expected, 0 came",
    ]


def test_an_expectation_among_the_steps_is_about_what_came_since_the_last_one(playing, book):
    seen, never = {"expect": {"seen": [{"topic": TOPIC}]}}, {"expect": {"never": [{"topic": TOPIC}]}}
    assert playing(never, book(*WHOLE), seen, {"wait": 1}, never).missed == []
    assert len(playing(book(*WHOLE), never, seen).missed) == 2
