"""Metrics that the gateway exports: names, kinds, labels and meaning; ``docs/metrics.md`` is printed from this table.

``process`` names a process of the supervisor, ``venue`` only a venue. What belongs to a venue's connections has the
label ``line``: each of several redundant workers of a venue is one. Times are Unix time, everything else base units.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Kind of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """Metric: its name as exported (a histogram's without its suffixes), kind, labels and meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def is_per_market(self) -> bool:
        """True when there is a series for each market."""
        return "symbol" in self.labels


_PROCESS: Final = ("process",)
_VENUE: Final = ("venue",)
_STREAM: Final = ("venue", "stream", "line")
_MARKET: Final = ("venue", "stream", "symbol", "line")
_PRICE: Final = ("venue", "symbol")

METRICS: Final = (
    MetricSpec(
        "paraphina_build_info", Kind.INFO, ("version",), "Version of the running program, as a label; always 1."
    ),
    MetricSpec(
        "paraphina_supervisor_start_time_seconds",
        Kind.GAUGE,
        (),
        "When the supervisor was started, Unix time in whole seconds.",
    ),
    MetricSpec(
        "paraphina_supervisor_last_beat_timestamp_seconds",
        Kind.GAUGE,
        (),
        "When the supervisor last checked its processes, Unix time in seconds.",
    ),
    MetricSpec(
        "paraphina_supervisor_stalls_total",
        Kind.COUNTER,
        (),
        "Times that the supervisor itself did not run for more than a second: the machine is too busy.",
    ),
    MetricSpec("paraphina_supervisor_forks_total", Kind.COUNTER, (), "Processes started, restarts included."),
    MetricSpec(
        "paraphina_clock_synchronised",
        Kind.GAUGE,
        (),
        "1 while the kernel reports a synchronised clock, else 0; absent where it does not say.",
    ),
    MetricSpec(
        "paraphina_process_state",
        Kind.GAUGE,
        (*_PROCESS, "state"),
        "1 for the state that a process is in, 0 for every other state.",
    ),
    MetricSpec(
        "paraphina_process_start_time_seconds",
        Kind.GAUGE,
        _PROCESS,
        "When a running process was started, Unix time in whole seconds.",
    ),
    MetricSpec("paraphina_process_restarts_total", Kind.COUNTER, _PROCESS, "Restarts of a process."),
    MetricSpec(
        "paraphina_process_exits_total", Kind.COUNTER, (*_PROCESS, "reason"), "Exits of a process by their reason."
    ),
    MetricSpec(
        "paraphina_process_crash_loop",
        Kind.GAUGE,
        _PROCESS,
        "1 while a process exits again and again without a healthy run in between, else 0.",
    ),
    MetricSpec(
        "paraphina_process_consecutive_failures",
        Kind.GAUGE,
        _PROCESS,
        "Exits of a process in a row without a healthy run in between.",
    ),
    MetricSpec(
        "paraphina_process_stale_seconds_total",
        Kind.COUNTER,
        _PROCESS,
        "Seconds that a process was stale: running without fresh data.",
    ),
    MetricSpec(
        "paraphina_process_cpu_seconds_total",
        Kind.COUNTER,
        _PROCESS,
        "CPU time of a running process since it was started, user and system, in seconds.",
    ),
    MetricSpec(
        "paraphina_process_resident_memory_bytes",
        Kind.GAUGE,
        _PROCESS,
        "Resident memory of a running process in bytes, with what it shares with the others.",
    ),
    MetricSpec(
        "paraphina_process_open_fds",
        Kind.GAUGE,
        _PROCESS,
        "Open file descriptors of a process; each consumer takes one.",
    ),
    MetricSpec("paraphina_process_max_fds", Kind.GAUGE, _PROCESS, "Limit of the file descriptors of a process."),
    MetricSpec(
        "paraphina_time_to_fresh_seconds",
        Kind.GAUGE,
        _VENUE,
        "Seconds from the last start of a venue's worker until every book was usable and fresh; absent before.",
    ),
    MetricSpec(
        "paraphina_venue_outage",
        Kind.GAUGE,
        _VENUE,
        "1 while a venue fails on WebSocket and REST alike, so that nothing here can help; else 0.",
    ),
    MetricSpec(
        "paraphina_venue_stopped", Kind.GAUGE, _VENUE, "1 while a venue is stopped by an operator's request, else 0."
    ),
    MetricSpec("paraphina_books_wanted", Kind.GAUGE, _VENUE, "Order books that a venue should have."),
    MetricSpec(
        "paraphina_books_usable",
        Kind.GAUGE,
        _VENUE,
        "Order books of a venue that consumers can trade on now, on at least one line.",
    ),
    MetricSpec(
        "paraphina_consumers",
        Kind.GAUGE,
        _VENUE,
        "Consumers of a venue's feed that are connected and say their names, as the Python library does.",
    ),
    MetricSpec(
        "paraphina_publish_full_pipes_total",
        Kind.COUNTER,
        _VENUE,
        "Events that were dropped for a consumer because it was too far behind.",
    ),
    MetricSpec(
        "paraphina_stream_state",
        Kind.GAUGE,
        (*_STREAM, "state"),
        "1 for the state that a stream is in (of its worst market), 0 for every other state.",
    ),
    MetricSpec(
        "paraphina_stream_stale_limit_seconds", Kind.GAUGE, _STREAM, "Age in seconds from which a stream is stale."
    ),
    MetricSpec(
        "paraphina_stream_reconnects_total",
        Kind.COUNTER,
        _STREAM,
        "Connections of a stream that ended (of the market with the most).",
    ),
    MetricSpec(
        "paraphina_stream_events_total",
        Kind.COUNTER,
        _STREAM,
        "Events of a stream that were published, in all markets.",
    ),
    MetricSpec(
        "paraphina_stream_last_update_timestamp_seconds",
        Kind.GAUGE,
        _MARKET,
        "When a market's stream last delivered, Unix time in seconds; kept over reconnects and restarts.",
    ),
    MetricSpec(
        "paraphina_stream_gaps_total",
        Kind.COUNTER,
        _MARKET,
        "Losses in a stream of books that made a market's book unusable.",
    ),
    MetricSpec(
        "paraphina_session_ends_total",
        Kind.COUNTER,
        ("venue", "line", "reason"),
        "Connections and REST threads of a venue that ended, by their reason.",
    ),
    MetricSpec(
        "paraphina_session_frames_total",
        Kind.COUNTER,
        ("venue", "session", "line"),
        "Frames that a connection of a venue received.",
    ),
    MetricSpec(
        "paraphina_handling_seconds",
        Kind.HISTOGRAM,
        _STREAM,
        "Seconds from the receipt of a message to the end of its publication.",
    ),
    MetricSpec(
        "paraphina_exchange_lag_seconds",
        Kind.HISTOGRAM,
        _STREAM,
        "Seconds from the venue's time to the receipt here; contains the difference of the two clocks.",
    ),
    MetricSpec(
        "paraphina_funding_rate_8h_ratio",
        Kind.GAUGE,
        _PRICE,
        "Last funding rate of a market as a fraction for eight hours; positive when longs pay.",
    ),
    MetricSpec(
        "paraphina_spread_ratio",
        Kind.GAUGE,
        _PRICE,
        "Best ask less best bid, as a fraction of the middle; absent while the book cannot be used.",
    ),
)
