"""Text format of metrics: byte for byte what prometheus-client writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from supervisor.serving.exposition import encode

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
        family.add_metric(values, value)
    return family


def test_every_kind():
    counter = CounterMetricFamily("paraphina_things_total", "Things.", labels=["venue"])
    counter.add_metric(["lighter"], 3)
    histogram = HistogramMetricFamily("paraphina_handling_seconds", "Time.", labels=["venue"])
    histogram.add_metric(["lighter"], [("0.5", 1.0), ("+Inf", 2.0)], 7.5)
    info = InfoMetricFamily("paraphina_build", "Build.")
    info.add_metric((), {"version": "1.0"})
    empty = GaugeMetricFamily("paraphina_nothing", "No series.", labels=["venue"])
    alone = GaugeMetricFamily("paraphina_alone", "No labels.", 1.5)
    families = [counter, histogram, info, empty, alone, gauge((("x", "y"), 1))]
    assert encode(families) == reference(*families)


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
