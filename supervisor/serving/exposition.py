"""Prometheus' text format of metrics, encoded several times as fast as prometheus-client does it.

The library makes every sample at each scrape, and checks and escapes all its labels, which is most of the cost. Most
values do not change between two scrapes, and labels never do; so what was made of them is kept. Tests compare the
output with the library's, which is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from prometheus_client.core import Metric, Sample
from prometheus_client.utils import floatToGoString

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Series that are kept; five venues with two markets each have a thousand.
_KEPT: Final = 16_384
_SUFFIXES: Final = {"counter": "_total", "info": "_info"}
_KINDS: Final = {"info": "gauge"}


class TextSample(Sample):
    """Sample of the library, and its line in the text format."""

    line: str


class MetricSeries:
    """Series of a metric: what names it, and its last sample."""

    __slots__ = ("_labels", "_name", "_sample", "_text")

    def __init__(self, name: str, label_names: Sequence[str], label_values: Sequence[str]) -> None:
        self._name = name
        self._labels = dict(zip(label_names, label_values, strict=True))
        pairs = [f'{label}="{_escaped(value, quotes=True)}"' for label, value in sorted(self._labels.items())]
        self._text = f"{name}{{{','.join(pairs)}}}" if pairs else name
        self._sample: TextSample | None = None

    def sample(self, value: float) -> TextSample:
        """Return the sample of a value."""
        sample = self._sample
        if sample is None or sample.value != value:
            sample = self._sample = TextSample(self._name, self._labels, value)
            sample.line = f"{self._text} {floatToGoString(value)}\n"  # type: ignore[no-untyped-call]
        return sample


#: The same object for the same name and labels.
series_of = lru_cache(_KEPT)(MetricSeries)


def encode(metrics: Iterable[Metric]) -> bytes:
    """Return metrics of the kinds gauge, counter, histogram and info as text; their samples are :class:`TextSample`."""
    lines: list[str] = []
    for metric in metrics:
        name = metric.name + _SUFFIXES.get(metric.type, "")
        lines.append(f"# HELP {name} {_escaped(metric.documentation)}\n")
        lines.append(f"# TYPE {name} {_KINDS.get(metric.type, metric.type)}\n")
        lines += [sample.line for sample in metric.samples]  # type: ignore[attr-defined]
    return "".join(lines).encode()


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
