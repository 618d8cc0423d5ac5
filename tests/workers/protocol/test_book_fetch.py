"""State of a book's REST fetch: each transition, and what is ignored in which state."""

from __future__ import annotations

import pytest

from workers.protocol.book_fetch import BookFetch, FetchState

NS = 1_000_000_000
MS = 1_000_000


@pytest.fixture
def fetch():
    return BookFetch()


def in_state(state):
    fetch = BookFetch()
    if state in {FetchState.IN_FLIGHT, FetchState.QUEUED}:
        fetch.request(1)
    if state is FetchState.QUEUED:
        fetch.queue()
    if state is FetchState.RATE_LIMITED:
        fetch.finish(is_rate_limited=True)
    assert fetch.state is state
    return fetch


def test_one_request_is_outstanding_at_a_time(fetch):
    assert (fetch.state, fetch.requested_ns, fetch.is_outstanding) == (FetchState.IDLE, 0, False)
    assert fetch.request(5)
    assert (fetch.state, fetch.requested_ns, fetch.is_outstanding) == (FetchState.IN_FLIGHT, 5, True)
    assert not fetch.request(5 + 60 * NS)
    assert fetch.requested_ns == 5
    assert fetch.request(6 + 60 * NS), "an answer that takes a minute is lost"
    assert fetch.requested_ns == 6 + 60 * NS


@pytest.mark.parametrize(
    ("state", "is_outstanding", "is_delayed"),
    [
        (FetchState.IDLE, False, False),
        (FetchState.IN_FLIGHT, True, False),
        (FetchState.QUEUED, True, True),
        (FetchState.RATE_LIMITED, False, True),
    ],
)
def test_meaning_of_each_state(state, is_outstanding, is_delayed):
    fetch = in_state(state)
    assert (fetch.is_outstanding, fetch.is_delayed) == (is_outstanding, is_delayed)
    assert fetch.request(9) is not is_outstanding


TRANSITIONS = {
    "queue": {FetchState.IN_FLIGHT: FetchState.QUEUED},
    "start": {FetchState.QUEUED: FetchState.IN_FLIGHT},
    "clear_limit": {FetchState.RATE_LIMITED: FetchState.IDLE},
    "reset": {FetchState.IN_FLIGHT: FetchState.IDLE, FetchState.QUEUED: FetchState.IDLE},
}


@pytest.mark.parametrize("state", FetchState)
@pytest.mark.parametrize("method", TRANSITIONS)
def test_transitions(method, state):
    fetch = in_state(state)
    getattr(fetch, method)()
    assert fetch.state is TRANSITIONS[method].get(state, state)


@pytest.mark.parametrize("state", FetchState)
def test_answer_ends_a_request_in_any_state(state):
    fetch = in_state(state)
    fetch.finish(is_rate_limited=False)
    assert fetch.state is FetchState.IDLE
    fetch.finish(is_rate_limited=True)
    assert fetch.state is FetchState.RATE_LIMITED


def test_pause_after_failures_doubles_up_to_two_seconds(fetch):
    assert [fetch.fail() // MS for _ in range(12)] == [100, 200, 400, 800, 1600, *[2000] * 7]


@pytest.mark.parametrize("forget", ["clear_failures", "reset"])
def test_failures_are_forgotten(fetch, forget):
    fetch.fail()
    fetch.fail()
    getattr(fetch, forget)()
    assert fetch.fail() == 100 * MS
