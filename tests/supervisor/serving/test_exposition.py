"""Text format of metrics: byte for byte what prometheus-client writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from supervisor.serving.exposition import encode, series_of

#: Zero has no sign here.
NUMBERS = st.floats().map(lambda value: value + 0.0)


class Fixed(Collector):
    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


def reference(*families):
    registry = CollectorRegistry()
    registry.register(Fixed(families))
    return generate_latest(registry)


def gauge(*series, help_text="Help.", labels=("b", "a")):
    family = GaugeMetricFamily("paraphina_gauge", help_text, labels=labels)
    for values, value in series:
        family.samples.append(series_of("paraphina_gauge", labels, values).sample(value))
    return family


def test_every_kind():
    counter = CounterMetricFamily("paraphina_things_total", "Things.", labels=["venue"])
    counter.samples.append(series_of("paraphina_things_total", ("venue",), ("lighter",)).sample(3))
    histogram = HistogramMetricFamily("paraphina_handling_seconds", "Time.", labels=["venue"])
    for bound, count in (("0.5", 1.0), ("+Inf", 2.0)):
        bucket = series_of("paraphina_handling_seconds_bucket", ("venue", "le"), ("lighter", bound))
        histogram.samples.append(bucket.sample(count))
    info = InfoMetricFamily("paraphina_build", "Build.")
    info.samples.append(series_of("paraphina_build_info", ("version",), ("1.0",)).sample(1))
    empty = GaugeMetricFamily("paraphina_nothing", "No series.", labels=["venue"])
    alone = gauge(((), 1.5), labels=())
    families = [counter, histogram, info, empty, alone, gauge((("x", "y"), 1))]
    assert encode(families) == reference(*families)


def test_samples_are_those_of_the_library():
    """The library's own ``add_metric`` gives the same names, labels and values."""
    name, of = "paraphina_handling_seconds", ("lighter",)
    ours = [
        series_of(f"{name}_bucket", ("venue", "le"), (*of, "+Inf")).sample(2.0),
        series_of(f"{name}_count", ("venue",), of).sample(2.0),
        series_of(f"{name}_sum", ("venue",), of).sample(7.5),
    ]
    theirs = HistogramMetricFamily(name, "Time.", labels=["venue"])
    theirs.add_metric(["lighter"], [("+Inf", 2.0)], 7.5)
    assert ours == theirs.samples


def test_a_sample_is_made_again_only_when_its_value_changes():
    series = series_of("paraphina_gauge", ("a",), ("x",))
    first = series.sample(1.0)
    assert series.sample(1.0) is first
    assert series.sample(2.0).line == 'paraphina_gauge{a="x"} 2.0\n'
    assert first.line == 'paraphina_gauge{a="x"} 1.0\n'


@pytest.mark.parametrize(
    "value",
    [0, 1, 1.5, -2.25, 1e6, 1234567.5, 1_796_054_641.065, 1e22, 1e-9, float("inf"), -float("inf"), float("nan")],
)
def test_numbers(value):
    assert encode([gauge((("x", "y"), value))]) == reference(gauge((("x", "y"), value)))


@given(
    st.lists(st.tuples(st.tuples(st.text(max_size=8), st.text(max_size=8)), NUMBERS), max_size=5),
    st.text(max_size=9),
)
def test_any_text_and_any_number(series, help_text):
    family = gauge(*series, help_text=help_text)
    assert encode([family]) == reference(family)
