"""Words: none is missing, and durations have one unit."""

import pytest

from ipc.health import Reason, StreamState, WorkerState
from supervisor.overview import words


def test_every_reason_and_state_has_words():
    assert set(words.REASONS) == set(Reason)
    assert set(words.WORKER_STATES) == set(WorkerState)
    assert set(words.STREAM_STATES) == set(StreamState)
    assert words.KINDS.keys() == words.SIGNS.keys()


def test_no_two_reasons_have_the_same_words():
    assert len(set(words.REASONS.values())) == len(Reason)


@pytest.mark.parametrize("text", [*words.REASONS.values(), *words.WORKER_STATES.values()])
def test_words_are_words(text):
    assert "_" not in text
    assert len(text) <= 45
    assert "unhealthy" not in text


def test_words_of_a_newer_version_are_shown_as_they_are():
    assert words.reason_words("melted") == "melted"
    assert words.reason_words(None) is None
    assert words.worker_words("melted") == words.stream_words("melted") == "melted"
    assert words.reason_words("killed") == "killed from outside"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (17.2, "17 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (1_080, "18 min"),
        (7_199.9, "2 h"),
        (36_000, "10 h"),
        (172_799.9, "2 d"),
        (1e7, "116 d"),
    ],
)
def test_durations_have_one_unit(seconds, text):
    assert words.duration(seconds) == text


def test_lists_and_numbers():
    assert [words.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [words.counted(number, "book") for number in (0, 1, 2)] == ["0 books", "1 book", "2 books"]
    assert words.counted(2, "process", "processes") == "2 processes"
    assert words.ago(None) == ""
    assert words.ago(1_080) == "18 min ago"
