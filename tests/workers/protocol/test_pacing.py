"""Token buckets: never more than the capacity at once, never more than the rate in the long run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.pacing import TokenBucket

NS = 1_000_000_000
START = 1_000 * NS


def test_full_at_the_start_and_empty_after_its_capacity():
    bucket = TokenBucket(3, 1)
    assert [bucket.acquire(1, START) for _ in range(4)] == [True, True, True, False]


def test_refills_at_its_rate_and_no_further_than_its_capacity():
    bucket = TokenBucket(2, 4)
    assert bucket.acquire(2, START)
    assert not bucket.acquire(1, START + NS // 5)
    assert bucket.acquire(1, START + NS // 4)
    assert bucket.acquire(2, START + 60 * NS)
    assert not bucket.acquire(1, START + 60 * NS)


def test_a_refused_request_costs_nothing():
    bucket = TokenBucket(2, 1)
    bucket.acquire(1, START)
    assert not bucket.acquire(2, START)
    assert bucket.acquire(1, START)


def test_wait_is_the_time_until_the_tokens_are_there():
    bucket = TokenBucket(10, 2)
    assert bucket.wait_s(10, START) == 0
    bucket.acquire(10, START)
    assert bucket.wait_s(1, START) == pytest.approx(0.5)
    assert bucket.wait_s(4, START + NS) == pytest.approx(1.0)


def test_a_request_over_the_capacity_waits_for_a_full_bucket_and_leaves_a_debt():
    bucket = TokenBucket(2, 1)
    bucket.acquire(1, START)
    assert bucket.wait_s(5, START) == pytest.approx(1.0)
    assert not bucket.acquire(5, START)
    assert bucket.acquire(5, START + NS)
    assert bucket.wait_s(1, START + NS) == pytest.approx(4.0)


def test_drained_bucket_is_empty_and_refills():
    bucket = TokenBucket(5, 1)
    bucket.acquire(1, START)
    bucket.drain()
    assert not bucket.acquire(1, START)
    assert bucket.acquire(1, START + NS)


def test_draining_forgives_no_debt():
    bucket = TokenBucket(1, 1)
    bucket.acquire(3, START)
    bucket.drain()
    assert bucket.wait_s(1, START) == pytest.approx(3.0)


@given(
    capacity=st.integers(1, 20),
    per_s=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 2 * NS), st.integers(1, 5)), max_size=60),
)
def test_what_is_taken_never_exceeds_capacity_plus_rate(capacity, per_s, steps):
    bucket = TokenBucket(capacity, per_s)
    # A single request over the capacity is let through by a full bucket.
    most = max(capacity, max((tokens for _, tokens in steps), default=0))
    now, taken = START, 0
    for pause_ns, tokens in steps:
        now += pause_ns
        taken += tokens * bucket.acquire(tokens, now)
        assert taken <= most + per_s * (now - START) / NS + 1e-6


@given(tokens=st.integers(1, 10), taken=st.integers(0, 10), per_s=st.integers(1, 50))
def test_after_the_wait_the_tokens_are_there(tokens, taken, per_s):
    bucket = TokenBucket(10, per_s)
    if taken:
        assert bucket.acquire(taken, START)
    wait_s = bucket.wait_s(tokens, START)
    # A nanosecond more: the wait is a float.
    assert bucket.acquire(tokens, START + int(wait_s * NS) + 1)
