"""Scales and figures of the reports."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.reporting.scales import (
    Scale,
    around_scale,
    clock,
    linear_scale,
    log_scale,
    megabytes,
    milliseconds,
    short,
    time_step,
)

figures = st.lists(st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda value: value == 0 or abs(value) > 1e-6))


@pytest.mark.parametrize("make", [linear_scale, log_scale, around_scale])
@given(found=figures)
def test_a_scale_contains_its_values_and_has_a_few_ticks(make, found):
    scale = make(found)
    assert scale.low < scale.high
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)
    assert all(0 <= scale.share(tick) <= 1 for tick in ticks)
    assert all(scale.share(value) <= scale.share(max(found)) <= 1 for value in found)
    inside = [value for value in found if make is around_scale or value > 0]
    assert all(
        scale.low * (1 - 1e-6) - 1e-6 <= value <= scale.high * (1 + 1e-6) + 1e-6 or make is around_scale
        for value in inside
    )


def test_positions_on_scales():
    assert Scale(0.0, 10.0).share(2.5) == 0.25
    assert Scale(1.0, 100.0, is_log=True).share(10.0) == pytest.approx(0.5)
    assert Scale(1.0, 100.0, is_log=True).share(0.0) == 0.0
    assert Scale(0.0, 10.0).share(20.0) == 1.0
    assert linear_scale([60.0]).ticks() == [0, 20, 40, 60]
    assert log_scale([12.0, 900.0]).ticks() == [10.0, 100.0, 1000.0]
    assert around_scale([-3.0, 7.0]).low <= -3.0
    assert linear_scale([]).high > 0
    assert log_scale([0.0]).low > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0, "0 ms"),
        (0.254, "0.254 ms"),
        (84.0, "84 ms"),
        (999.6, "1 s"),
        (3211, "3.21 s"),
        (90_000, "90 s"),
        (1_080_000, "18 min"),
        (10_800_000, "3 h"),
        (-20.0, "-20 ms"),
    ],
)
def test_durations_have_one_unit(value, text):
    assert milliseconds(value) == text


def test_other_figures():
    assert [short(value) for value in (None, math.inf, 0, 1234.5, 0.012345)] == ["-", "-", "0", "1,234", "0.0123"]
    assert (megabytes(None), megabytes(48.25)) == ("-", "48.2 MB")
    assert [clock(second) for second in (0, 5, 75, 3600, 90_061)] == ["0:00", "0:05", "1:15", "1:00:00", "25:01:01"]


@pytest.mark.parametrize("total", [1, 9, 75, 4_000, 90_000])
def test_an_axis_of_time_has_a_few_marks(total):
    assert total / time_step(total, 5) <= 5
