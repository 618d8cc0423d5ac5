"""Backoff: the table of delays, what jitter may do to them, and what earns a new start."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.backoff import POLL_INIT, Backoff, BackoffPolicy

NS = 1_000_000_000
EXACT = BackoffPolicy(jitter=0.0)
HEALTHY_NS = 60 * NS


def delays_s(policy, attempts):
    backoff = Backoff(policy)
    return [backoff.failed(0) / NS for _ in range(attempts)]


def test_delay_doubles_from_one_second_to_the_cap_of_thirty():
    assert delays_s(EXACT, 8) == [1, 2, 4, 8, 16, 30, 30, 30]


def test_initialisation_of_pollers_is_retried_after_five_seconds_doubling_to_sixty():
    assert delays_s(POLL_INIT, 7) == [5, 10, 20, 40, 60, 60, 60]


def test_first_attempt_comes_at_once_where_that_is_asked_for_and_the_table_follows():
    assert delays_s(BackoffPolicy(jitter=0.0, first_immediate=True), 8) == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_base_over_the_cap_is_capped():
    assert delays_s(BackoffPolicy(base_s=50.0, jitter=0.0), 2) == [30, 30]


@pytest.mark.parametrize("healthy_ns", [0, 1, 59 * NS, HEALTHY_NS - 1])
def test_run_that_was_fresh_for_less_than_the_threshold_goes_on_counting(healthy_ns):
    backoff = Backoff(EXACT, failures=3)
    assert backoff.failed(healthy_ns) == 8 * NS
    assert backoff.failures == 4


@pytest.mark.parametrize("healthy_ns", [HEALTHY_NS, HEALTHY_NS + 1, 86_400 * NS])
def test_run_that_was_fresh_for_at_least_the_threshold_starts_again_at_one_second(healthy_ns):
    backoff = Backoff(EXACT, failures=7)
    assert backoff.failed(healthy_ns) == NS
    assert backoff.failures == 1
    assert backoff.failed(0) == 2 * NS


def test_threshold_is_a_setting():
    backoff = Backoff(BackoffPolicy(healthy_s=2.0, jitter=0.0), failures=4)
    assert backoff.failed(2 * NS - 1) == 16 * NS
    assert backoff.failed(2 * NS) == NS


def test_without_a_threshold_any_fresh_data_is_healthy_but_none_is_not():
    backoff = Backoff(POLL_INIT)
    assert not backoff.is_healthy(0)
    assert backoff.is_healthy(1)


def test_reset_starts_the_count_again():
    backoff = Backoff(EXACT)
    for _ in range(5):
        backoff.failed(0)
    backoff.reset()
    assert backoff.failed(0) == NS


def test_first_delay_has_no_jitter():
    policy = BackoffPolicy(jitter=0.5)
    assert {policy.delay_ns(1, chance) for chance in (0.0, 0.3, 0.999)} == {NS}


def test_jitter_takes_off_a_tenth_at_most_and_is_spread():
    policy = BackoffPolicy()
    assert policy.delay_ns(2, 0.0) == 2 * NS
    assert policy.delay_ns(2, 0.5) == pytest.approx(1.9 * NS)
    delays = {Backoff(policy, failures=5, chance=random.Random(seed)).failed(0) for seed in range(20)}
    assert len(delays) > 10


@given(
    failures=st.integers(1, 10_000),
    chance=st.floats(0.0, 1.0, exclude_max=True),
    base_s=st.floats(0.001, 10.0),
    cap_s=st.floats(0.001, 100.0),
    jitter=st.floats(0.0, 0.5),
    is_immediate=st.booleans(),
)
def test_delay_is_never_above_the_cap_and_never_below_its_share(failures, chance, base_s, cap_s, jitter, is_immediate):
    policy = BackoffPolicy(base_s, cap_s, 60.0, jitter, is_immediate)
    exact = BackoffPolicy(base_s, cap_s, 60.0, 0.0, is_immediate).delay_ns(failures, 0.0)
    delay = policy.delay_ns(failures, chance)
    assert exact * (1.0 - jitter) - 1 <= delay <= exact <= cap_s * NS


@given(failures=st.integers(1, 100), jitter=st.sampled_from([0.0]), is_immediate=st.booleans())
def test_delay_never_shrinks_as_failures_go_on(failures, jitter, is_immediate):
    policy = BackoffPolicy(jitter=jitter, first_immediate=is_immediate)
    assert policy.delay_ns(failures, 0.0) <= policy.delay_ns(failures + 1, 0.0)


@given(runs=st.lists(st.integers(0, 2 * HEALTHY_NS), max_size=40))
def test_count_is_the_number_of_failures_since_the_last_healthy_run(runs):
    backoff = Backoff(EXACT)
    expected = 0
    for healthy_ns in runs:
        expected = 1 if healthy_ns >= HEALTHY_NS else expected + 1
        assert backoff.failed(healthy_ns) == EXACT.delay_ns(expected, 0.0)
        assert backoff.failures == expected
