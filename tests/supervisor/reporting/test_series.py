"""Series of the reports: thinned, they keep what a reader looks for."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from supervisor.reporting.series import MOST_POINTS, Point, clean, numbers, segments, series, thin

values = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(values, max_size=400), st.integers(3, 90))
def test_a_thinned_series_is_short_and_keeps_extremes_order_and_gaps(figures, most):
    points = [Point(float(at), value) for at, value in enumerate(figures)]
    kept = thin(points, most)
    assert len(kept) <= most
    assert kept == sorted(kept, key=lambda point: point.at_s)
    assert set(kept) <= set(points)
    assert numbers(kept)[:1] == numbers(points)[:1]
    assert numbers(kept)[-1:] == numbers(points)[-1:]
    assert any(point.value is None for point in kept) == any(point.value is None for point in points)


def test_a_day_of_seconds_keeps_its_one_bad_second():
    points = [Point(float(at), 9_000.0 if at == 40_000 else 80.0) for at in range(86_400)]
    kept = thin(points)
    assert len(kept) <= MOST_POINTS
    assert Point(40_000.0, 9_000.0) in kept


def test_what_is_no_number_is_a_gap():
    points = clean([(0, 1.0), (1, math.nan), (2, math.inf), (3, None), (4, 2), (math.nan, 5.0)])
    assert points == [(0, 1.0), (1, None), (2, None), (3, None), (4, 2.0)]
    assert segments(points) == [[(0, 1.0)], [(4, 2.0)]]


def test_nothing_has_no_segments():
    assert segments([]) == []
    assert segments([Point(0.0, None)]) == []
    assert thin([]) == []


def test_a_long_series_has_the_median_of_every_stretch():
    found = series((float(at), None if at < 5_000 else at % 100) for at in range(10_000))
    assert len(found.middle) <= MOST_POINTS // 3
    assert {point.value for point in found.middle if point.at_s < 4_900} == {None}
    assert all(20 <= point.value <= 80 for point in found.middle if point.at_s > 5_100)
    assert series([(0.0, 1.0)]).middle == []
