"""Charts of the reports: what is drawn where, and in words."""

from __future__ import annotations

import pytest
from pages import coordinates, parsed, texts

from supervisor.reporting import charts
from supervisor.reporting.charts import ChartLine, RangeRow, TimelineMark
from supervisor.reporting.markup import page
from supervisor.reporting.scales import Scale, log_scale, milliseconds
from supervisor.reporting.series import series

SCALE = Scale(0.0, 100.0)
EVIL = "<script>alert(1)</script>"


def drawn(part):
    """A part of a page; the page must be well-formed."""
    return parsed(page("t", "●", "live", "v", [], [part])).find(".//main")


def chart(values, **more):
    points = series((float(at), value) for at, value in enumerate(values))
    return drawn(charts.line_chart("lighter", [ChartLine("", points)], SCALE, milliseconds, 10.0, **more))


def lines_of(root):
    return [path.get("d") for path in root.iter("path") if path.get("class") == "now"]


def test_a_line_goes_through_its_points_and_says_its_figures():
    root = chart([0.0, 100.0, 50.0], limit=75.0, about="Age")
    (path,) = lines_of(root)
    (left, bottom), (_, top), (_, middle) = coordinates(path)
    assert bottom > middle > top
    assert middle == pytest.approx((bottom + top) / 2)
    assert texts(root, "figcaption") == ["median 50 ms, highest 100 ms at 0:01"]
    (svg,) = root.iter("svg")
    assert svg.get("aria-label") == "Age lighter: median 50 ms, highest 100 ms at 0:01"
    assert left == 46.0
    assert [path.get("class") for path in root.iter("path")].count("limit") == 1
    assert {"0 ms", "100 ms", "0:00", "0:10"} <= set(texts(root, "text"))


def test_a_gap_interrupts_a_line_and_a_lone_point_is_a_dot():
    (path,) = lines_of(chart([1.0, 2.0, None, 3.0, float("nan"), 4.0, 5.0]))
    assert path.count("M") == 3
    assert path.count("h0") == 1


@pytest.mark.parametrize("values", [[], [None], [float("nan")]])
def test_without_data_a_chart_says_so(values):
    root = chart(values)
    assert lines_of(root) == [""]
    assert texts(root, "figcaption") == ["nothing recorded"]


def test_a_limit_outside_of_the_scale_is_not_drawn():
    assert "limit" not in [path.get("class") for path in chart([1.0], limit=500.0).iter("path")]


def test_a_long_series_is_drawn_within_bounds_and_keeps_its_peak():
    points = series((float(at), 90.0 if at == 7_777 else 1.0) for at in range(86_400))
    text = charts.line_chart("x", [ChartLine("now", points)], SCALE, milliseconds, 86_400.0)
    assert len(text) < 20_000
    assert "median 1 ms, highest 90 ms at 2:09:37" in text
    root = drawn(text)
    (middle,) = lines_of(root)
    heights = [y for _, y in coordinates(middle)]
    assert heights == pytest.approx([8 + 122 * 0.99] * len(heights), abs=0.1), "the median stays in sight"
    (path,) = [path.get("d") for path in root.iter("path") if path.get("class") == "now spread"]
    assert min(y for _, y in coordinates(path)) == pytest.approx(8 + 122 * 0.1, abs=0.1)


def test_states_follow_each_other_in_their_places():
    spans = [("live", 10.0), ("stale", 5.0), ("failed", 1.0), ("outage", 2.0), (EVIL, 2.0)]
    root = drawn(charts.timeline(spans, [], 20.0, "of lighter"))
    rects = list(root.iter("rect"))
    assert [rect.get("class") for rect in rects] == [
        "bar-live",
        "bar-down",
        "bar-person",
        "bar-outage",
        "bar-unwatched",
    ]
    assert [(rect.get("x"), rect.get("width")) for rect in rects[:2]] == [("0.00%", "50.00%"), ("50.00%", "25.00%")]
    assert texts(rects[1], "title") == ["no fresh data for 5 s, from 0:10"]
    assert EVIL in texts(rects[4], "title")[0]
    (svg,) = root.iter("svg")
    assert svg.get("aria-label") == "of lighter"


def test_a_day_of_flapping_is_bounded_and_its_worst_states_stay():
    spans = [("live", 5.0), ("backoff", 1.0)] * 10_000 + [("failed", 0.5)] + [("live", 5.0), ("stale", 1.0)] * 4_000
    marks = [TimelineMark(at * 6.0, "reconnect", "reconnect: cut") for at in range(14_000)]
    text = charts.timeline(spans, marks, 84_000.5, "x")
    assert len(text) < 250_000
    root = drawn(text)
    assert "bar-person" in [rect.get("class") for rect in root.iter("rect")]
    assert len(list(root.iter("line"))) <= 401
    assert any("more" in title for title in texts(root, "title"))
    ends = [float(rect.get("x")[:-1]) + float(rect.get("width")[:-1]) for rect in root.iter("rect")]
    assert max(ends) == pytest.approx(100.0, abs=0.1)


def test_an_exit_is_a_stroke_and_a_reconnect_a_mark_below():
    marks = [TimelineMark(5.0, "exit", EVIL), TimelineMark(10.0, "reconnect", "cut")]
    exited, cut = drawn(charts.timeline([("live", 20.0)], marks, 20.0, "x")).iter("line")
    assert (exited.get("class"), exited.get("x1"), texts(exited, "title")) == ("mark", "25.00%", [f"0:05 {EVIL}"])
    assert (cut.get("class"), cut.get("x1")) == ("mark-reconnect", "50.00%")


@pytest.mark.parametrize("total", [0.0, 0.5, 1.0, 75.0, 90_000.0])
def test_an_axis_of_time_begins_at_zero(total):
    marks = texts(drawn(charts.time_axis(total)), "text")
    assert marks[0] == "0:00"
    assert len(marks) <= 6


def test_a_range_shows_its_middle_between_its_ends():
    scale = log_scale([1.0, 100.0])
    row = RangeRow("x", 1.0, 10.0, 100.0, ["10"])
    root = drawn(
        charts.plot_table(
            "t",
            ("a", "b", "c"),
            [("x", charts.range_cell(row, scale), row.texts)],
            charts.range_axis(scale, milliseconds),
        )
    )
    (bar,) = root.iter("rect")
    (dot,) = root.iter("circle")
    assert (bar.get("x"), bar.get("width"), dot.get("cx")) == ("0.00%", "100.00%", "50.00%")
    assert texts(root, "td")[1] == "10"
    assert {len(list(row)) for row in root.iter("tr")} == {3}


def test_a_range_without_figures_is_empty():
    root = drawn(charts.range_cell(RangeRow("x", None, None, None, []), log_scale([])))
    assert not [*root.iter("rect"), *root.iter("circle")]


def test_a_legend_has_every_kind_of_state_once_with_sign_and_words():
    root = drawn(charts.state_legend(["live", "stale", "backoff", "live", "outage"]))
    assert texts(root, "li") == ["● live", "✕ venue outage", "■ no fresh data, waits for its next start"]
