"""Prometheus collector of a system: computed at each scrape from the object that ``status --json`` prints.

The counters live on the board, which the worker processes write; they outlive the gateway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ipc.health import BOOK_STREAMS, Stream, StreamState, WorkerState
from ipc.lines import LINES, line_of, process_of, venue_of
from supervisor.serving.exposition import series_of
from supervisor.serving.histograms import Histogram, StreamHistograms
from supervisor.serving.metric_table import METRICS, Kind, MetricSpec

_WORKER_STATES: Final = tuple(map(str, WorkerState))
_STREAM_STATES: Final = tuple(map(str, StreamState))
#: States of a book in which its prices hold.
_USABLE: Final = frozenset({"live", "quiet"})
#: Value by venue and symbol.
Ratios = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that is read for one scrape.

    Attributes:
        status: Object that ``status --json`` prints.
        histograms: By worker's process and stream.
        funding: Funding rates.
        spreads: Spreads.
        wall_s: Time of the reading, Unix time.
    """

    status: Mapping[str, Any]
    histograms: Mapping[str, Mapping[Stream, StreamHistograms]] = field(default_factory=dict)
    funding: Ratios = field(default_factory=dict)
    spreads: Ratios = field(default_factory=dict)
    wall_s: float = field(default_factory=time.time)


class StatusCollector(Collector):
    """Collector of all metrics.

    Args:
        read: Reads the system.
        per_market: Whether series by market are exported.
    """

    def __init__(self, read: Callable[[], Reading], *, per_market: bool = True) -> None:
        self._read = read
        self._specs = tuple(spec for spec in METRICS if per_market or not spec.is_per_market)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, so that a scrape can ask for some by name."""
        return [_family(spec) for spec in self._specs]

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; raise UnknownStateError when the system cannot be read."""
        return families(self._read(), self._specs)


def families(reading: Reading, specs: Iterable[MetricSpec] = METRICS) -> list[Metric]:
    """Return the metrics of a reading."""
    out = _Families(specs)
    status = reading.status
    _add_supervisor(out, status["supervisor"], reading.wall_s)
    for name, process in (("gateway", status["gateway"]), ("simulator", status["simulator"])):
        if process is not None:
            _add_process(out, name, process, reading.wall_s)
    for name, venue in status["venues"].items():
        _add_venue(out, name, venue)
        for line, worker in (venue.get("lines") or {LINES[0]: venue}).items():
            _add_process(out, process_of(name, line), worker, reading.wall_s)
            _add_sessions(out, (name, line), worker)
            for stream, of in worker["streams"].items():
                _add_stream(out, (name, line), stream, of, reading.wall_s)
    for process, streams in reading.histograms.items():
        for stream, histograms in streams.items():
            labels = (venue_of(process), stream, line_of(process))
            out.add_histogram("paraphina_handling_seconds", labels, histograms.handling)
            out.add_histogram("paraphina_exchange_lag_seconds", labels, histograms.lag)
    _add_prices(out, reading)
    return out.all


class _Families:
    """Metrics under construction, by name; a name that is not exported is left out."""

    def __init__(self, specs: Iterable[MetricSpec]) -> None:
        self._by_name: dict[str, tuple[Metric, MetricSpec]] = {spec.name: (_family(spec), spec) for spec in specs}

    @property
    def all(self) -> list[Metric]:
        """Return all of them, in the order of the table."""
        return [metric for metric, _ in self._by_name.values()]

    def add(self, name: str, labels: tuple[str, ...], value: float | None) -> None:
        """Add a series; None for one that has no value now."""
        if value is not None and name in self._by_name:
            metric, spec = self._by_name[name]
            metric.samples.append(series_of(spec.name, spec.labels, labels).sample(float(value)))

    def add_states(self, name: str, labels: tuple[str, ...], words: Iterable[str], state: str) -> None:
        """Add a series for each state, of which one is 1."""
        metric, spec = self._by_name[name]
        for word in words:
            metric.samples.append(series_of(name, spec.labels, (*labels, word)).sample(float(word == state)))

    def add_histogram(self, name: str, labels: tuple[str, ...], of: Histogram) -> None:
        """Add a histogram."""
        metric, spec = self._by_name[name]
        bucket, bucket_labels = f"{name}_bucket", (*spec.labels, "le")
        for bound, count in of.buckets:
            metric.samples.append(series_of(bucket, bucket_labels, (*labels, bound)).sample(count))
        metric.samples.append(series_of(f"{name}_count", spec.labels, labels).sample(of.buckets[-1][1]))
        metric.samples.append(series_of(f"{name}_sum", spec.labels, labels).sample(of.sum_s))


def _family(spec: MetricSpec) -> Metric:
    match spec.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        case Kind.INFO:
            return InfoMetricFamily(spec.name.removesuffix("_info"), spec.help)
    return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)


def _add_supervisor(out: _Families, supervisor: Mapping[str, Any], wall_s: float) -> None:
    out.add("paraphina_build_info", (supervisor["version"],), 1)
    out.add("paraphina_supervisor_start_time_seconds", (), _start(supervisor["uptime_s"], wall_s))
    beat_ms = supervisor["beat_age_ms"]
    beat = None if beat_ms is None else round(wall_s - beat_ms / 1000, 3)
    out.add("paraphina_supervisor_last_beat_timestamp_seconds", (), beat)
    out.add("paraphina_supervisor_stalls_total", (), supervisor["self_stalls"])
    out.add("paraphina_supervisor_forks_total", (), supervisor["forks"])
    out.add("paraphina_clock_synchronised", (), supervisor["clock"]["synchronised"])


def _add_process(out: _Families, name: str, process: Mapping[str, Any], wall_s: float) -> None:
    of = (name,)
    out.add_states("paraphina_process_state", of, _WORKER_STATES, process["state"])
    out.add("paraphina_process_start_time_seconds", of, _start(process["uptime_s"], wall_s))
    out.add("paraphina_process_restarts_total", of, process["restarts"])
    for reason, count in process["exits"].items():
        out.add("paraphina_process_exits_total", (name, reason), count)
    out.add("paraphina_process_crash_loop", of, process["crash_loop"])
    out.add("paraphina_process_consecutive_failures", of, process["failures"])
    out.add("paraphina_process_stale_seconds_total", of, process["stale_s"])
    out.add("paraphina_process_cpu_seconds_total", of, process["cpu_s"])
    out.add("paraphina_process_resident_memory_bytes", of, process["rss_bytes"])
    descriptors = process.get("descriptors") or {}
    out.add("paraphina_process_open_fds", of, descriptors.get("open"))
    out.add("paraphina_process_max_fds", of, descriptors.get("limit"))


def _add_venue(out: _Families, name: str, venue: Mapping[str, Any]) -> None:
    of = (name,)
    fresh = venue["time_to_fresh_ms"]
    out.add("paraphina_time_to_fresh_seconds", of, None if fresh is None else fresh / 1000)
    out.add("paraphina_venue_outage", of, venue["outage"])
    out.add("paraphina_venue_stopped", of, venue["stopped"] is not None)
    out.add("paraphina_books_wanted", of, venue["books"]["wanted"])
    out.add("paraphina_books_usable", of, venue["books"]["usable"])
    out.add("paraphina_consumers", of, len(venue["consumers"]))
    out.add("paraphina_publish_full_pipes_total", of, venue["drops"])


def _add_sessions(out: _Families, of: tuple[str, str], worker: Mapping[str, Any]) -> None:
    venue, line = of
    for reason, count in worker["session_ends"].items():
        out.add("paraphina_session_ends_total", (venue, line, reason), count)
    for session, counts in worker["sessions"].items():
        out.add("paraphina_session_frames_total", (venue, session, line), counts["frames"])


def _add_stream(out: _Families, worker: tuple[str, str], name: str, stream: Mapping[str, Any], wall_s: float) -> None:
    venue, line = worker
    of = (venue, name, line)
    out.add_states("paraphina_stream_state", of, _STREAM_STATES, stream["state"])
    limit = stream["limit_ms"]
    out.add("paraphina_stream_stale_limit_seconds", of, None if limit is None else limit / 1000)
    out.add("paraphina_stream_reconnects_total", of, stream["reconnects"])
    out.add("paraphina_stream_events_total", of, stream["events"])
    for symbol, market in stream["markets"].items():
        labels = (venue, name, symbol, line)
        age = market["age_ms"]
        last = None if age is None else round(wall_s - age / 1000, 3)
        out.add("paraphina_stream_last_update_timestamp_seconds", labels, last)
        if name in BOOK_STREAMS:
            out.add("paraphina_stream_gaps_total", labels, market["gaps"])


def _add_prices(out: _Families, reading: Reading) -> None:
    venues = reading.status["venues"]
    for (venue, symbol), rate in reading.funding.items():
        if venue in venues:
            out.add("paraphina_funding_rate_8h_ratio", (venue, symbol), rate)
    for (venue, symbol), spread in reading.spreads.items():
        books = venues[venue]["streams"]["book"]["markets"] if venue in venues else {}
        if symbol in books and books[symbol]["state"] in _USABLE:
            out.add("paraphina_spread_ratio", (venue, symbol), spread)


def _start(uptime_s: float | None, wall_s: float) -> float | None:
    """Return the start of a process in whole seconds: a finer time would differ a little at each scrape."""
    return None if uptime_s is None else float(round(wall_s - uptime_s))
