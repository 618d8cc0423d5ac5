"""A funding interval that the venue's own payment times disprove is not used until it is known again."""

from __future__ import annotations

import pytest

from ipc.events import Funding
from workers.protocol.funding_intervals import FundingIntervals

HOUR_S = 3600
NS = 1_000_000_000
#: 08:00 UTC of some day.
EIGHT = 1_790_000_000 // 86_400 * 86_400 + 8 * HOUR_S


def rate(next_s, now_s=None, hours=8, symbol="BTC-PERP"):
    next_ns, now_ns = (None if time is None else time * NS for time in (next_s, now_s))
    return Funding(
        "aster", symbol, symbol, now_ns, "0.0001", "0.0001", "fraction_per_interval", hours * HOUR_S, "0.0001", next_ns,
        "predicted", "mark",
    )  # fmt: skip


@pytest.fixture
def intervals():
    return FundingIntervals()


def shown(intervals, event):
    """The interval in hours that consumers are reported; None when neither it nor the rate for eight hours is."""
    intervals.check(event)
    assert (event.interval_s is None) == (event.rate_8h is None)
    assert event.rate == "0.0001"
    return None if event.interval_s is None else event.interval_s // HOUR_S


def test_steps_of_the_interval_change_nothing(intervals):
    for count in range(5):
        at = EIGHT + count * 8 * HOUR_S
        assert shown(intervals, rate(at, at - 5)) == 8
        assert shown(intervals, rate(at + 8 * HOUR_S, at + 5)) == 8
    assert not intervals.consume_lookup()


def test_shorter_step_disproves_the_interval_until_it_is_looked_up(intervals):
    assert shown(intervals, rate(EIGHT, EIGHT - 10)) == 8
    assert shown(intervals, rate(EIGHT + 4 * HOUR_S, EIGHT + 1)) is None
    assert shown(intervals, rate(EIGHT + 4 * HOUR_S, EIGHT + 2)) is None
    assert intervals.are_doubtful
    assert (intervals.consume_lookup(), intervals.consume_lookup()) == (True, False)
    assert shown(intervals, rate(EIGHT + 4 * HOUR_S, EIGHT + 20, hours=4)) == 4
    assert not intervals.are_doubtful


def test_payment_further_away_than_the_interval_disproves_it(intervals):
    assert shown(intervals, rate(EIGHT, EIGHT - 10, hours=4)) == 4
    assert shown(intervals, rate(EIGHT + 8 * HOUR_S, EIGHT + 1, hours=4)) is None
    assert intervals.consume_lookup()


def test_list_that_still_says_the_wrong_interval_changes_nothing(intervals):
    shown(intervals, rate(EIGHT))
    shown(intervals, rate(EIGHT + HOUR_S))
    assert intervals.consume_lookup()
    assert shown(intervals, rate(EIGHT + HOUR_S)) is None
    assert intervals.are_doubtful
    assert not intervals.consume_lookup()


def test_step_of_just_the_interval_proves_it_again(intervals):
    shown(intervals, rate(EIGHT))
    assert shown(intervals, rate(EIGHT + 4 * HOUR_S)) is None
    assert shown(intervals, rate(EIGHT + 12 * HOUR_S)) == 8


def test_payments_that_were_missed_disprove_nothing(intervals):
    shown(intervals, rate(EIGHT, EIGHT - 10, hours=4))
    assert shown(intervals, rate(EIGHT + 12 * HOUR_S, EIGHT + 9 * HOUR_S, hours=4)) == 4


def test_rate_of_just_before_the_payment_disproves_nothing(intervals):
    """The next payment may be reported a moment before the one that is due."""
    assert shown(intervals, rate(EIGHT + 8 * HOUR_S, EIGHT - 1)) == 8
    assert shown(intervals, rate(EIGHT, EIGHT - 1)) == 8


def test_markets_are_judged_apart_and_settled_rates_with_them(intervals):
    shown(intervals, rate(EIGHT))
    shown(intervals, rate(EIGHT + 4 * HOUR_S))
    assert shown(intervals, rate(EIGHT, symbol="ETH-PERP")) == 8
    assert shown(intervals, rate(None)) is None


def test_unknown_interval_stays_unknown(intervals):
    event = rate(EIGHT)
    event.interval_s = event.rate_8h = None
    assert shown(intervals, event) is None
    assert not intervals.are_doubtful
