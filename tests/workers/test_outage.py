"""Outage or fault of ours: a venue is down only when its books and its REST have both been gone for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.outage import OutageDetector, unanswered_since_ns

NS = 1_000_000_000
NOW = 1_000 * NS


@pytest.fixture
def judge():
    return OutageDetector()


def at(seconds):
    return NOW + int(seconds * NS)


def gone(judge, seconds, *, rest_since_s=0.0):
    return judge.update(at(seconds), has_book=False, unanswered_since_ns=at(rest_since_s))


def test_venue_is_down_when_books_and_rest_have_been_gone_for_five_seconds(judge):
    assert not gone(judge, 0)
    assert not gone(judge, 5)
    assert gone(judge, 5.1)
    assert judge.since_ns == NOW


def test_verdict_is_reported_once_each_way(judge):
    told = [gone(judge, second) for second in range(20)]
    told += [judge.update(at(20 + second), has_book=True, unanswered_since_ns=0) for second in range(5)]
    assert [second for second, is_told in enumerate(told) if is_told] == [6, 20]
    assert judge.since_ns == 0


def test_books_without_rest_are_no_outage(judge):
    for second in range(60):
        assert not judge.update(at(second), has_book=True, unanswered_since_ns=NOW)


def test_rest_without_books_is_no_outage(judge):
    for second in range(60):
        assert not judge.update(at(second), has_book=False, unanswered_since_ns=0)


def test_time_counts_from_the_later_of_both(judge):
    for second in range(10):
        assert not judge.update(at(second), has_book=False, unanswered_since_ns=0)
    assert not gone(judge, 14, rest_since_s=10)
    assert gone(judge, 15.1, rest_since_s=10)
    assert judge.since_ns == NOW


def test_outage_ends_when_rest_answers_though_no_book_is_there_yet(judge):
    gone(judge, 0)
    gone(judge, 6)
    assert judge.update(at(7), has_book=False, unanswered_since_ns=0)
    assert judge.since_ns == 0


def test_book_in_between_begins_the_count_again(judge):
    gone(judge, 0)
    judge.update(at(4), has_book=True, unanswered_since_ns=NOW)
    assert not gone(judge, 5)
    assert not gone(judge, 9.9)
    assert gone(judge, 10.1)


@given(looks=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_venue_is_never_called_down_while_a_side_of_it_is_heard(looks):
    judge, unanswered = OutageDetector(), 0
    for second, (has_book, answers) in enumerate(looks):
        unanswered = 0 if answers else unanswered or at(second)
        judge.update(at(second), has_book=has_book, unanswered_since_ns=unanswered)
        assert not (judge.since_ns and (has_book or answers))


@pytest.mark.parametrize(
    ("poll", "fetch", "since"),
    [
        pytest.param((0, 50), (0, 0), 0, id="all is well"),
        pytest.param((60, 50), (0, 0), 60, id="the only lane that asks fails"),
        pytest.param((60, 50), (62, 40), 62, id="both fail"),
        pytest.param((0, 70), (60, 0), 0, id="books fail, polls are answered"),
        pytest.param((60, 0), (0, 70), 0, id="polls fail, books are answered"),
        pytest.param((75, 70), (60, 0), 75, id="books failed before, now polls do as well"),
    ],
)
def test_venue_that_answers_one_lane_after_another_began_to_fail_is_not_down(poll, fetch, since):
    assert unanswered_since_ns(poll, fetch) == since
