"""Figures of a shadow run over time: a few bounded series per venue, from the record alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ipc.health import StreamState
from supervisor.reporting.charts import TimelineMark
from supervisor.reporting.kinds import reason_words
from supervisor.reporting.series import Series, series
from supervisor.shadow.judge import ShadowRun

_NS: Final = 1_000_000_000
_MB: Final = 1e6
_US_PER_MS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class VenueSeries:
    """Series of a venue.

    Attributes:
        age_ms: Age of its oldest book, the highest of each second.
        funding_age_ms: Age of its newest funding rate.
        delivery_ms: Median time from a book's frame to the consumer, by second.
        lag_ms: Median time from the exchange's stamp to the read frame, by second; a difference of two clocks.
        memory_mb: Resident memory of its worker.
        marks: Exits of its worker and reconnects of its book.
    """

    age_ms: Series
    funding_age_ms: Series
    delivery_ms: Series
    lag_ms: Series
    memory_mb: Series
    marks: list[TimelineMark]


def series_of(run: ShadowRun) -> dict[str, VenueSeries]:
    """Return the series of every venue; figures that an older record lacks are empty series."""
    started_ns = run.meta["started_mono_ns"]

    def at_s(row: dict[str, Any]) -> float:
        return float(row["mono_ns"] - started_ns) / _NS

    def over(venue: str, pick: Callable[[dict[str, Any]], float | None]) -> Series:
        return series((at_s(row), pick(row["venues"][venue])) for row in run.seconds)

    return {
        venue: VenueSeries(
            age_ms=over(venue, lambda of: _highest(of["ages_ms"])),
            funding_age_ms=over(venue, lambda of: of["funding_age_ms"]),
            delivery_ms=over(venue, lambda of: _median_ms(of.get("delivery_us"))),
            lag_ms=over(venue, lambda of: _median_ms(of.get("lag_us"))),
            memory_mb=over(venue, lambda of: of["rss_bytes"] / _MB if of.get("rss_bytes") else None),
            marks=_marks((at_s(row), row["event"]) for row in run.events if row["event"]["venue"] == venue),
        )
        for venue in run.meta["venues"]
    }


def _highest(ages_ms: list[int]) -> float | None:
    """Return the highest age of a second; None before the first book, where ages are -1."""
    return max((age for age in ages_ms if age >= 0), default=None)


def _median_ms(summary_us: list[int] | None) -> float | None:
    return summary_us[0] / _US_PER_MS if summary_us else None


def _marks(events: Iterable[tuple[float, dict[str, Any]]]) -> list[TimelineMark]:
    marks = []
    for at_s, event in events:
        if event["kind"] == "lifecycle" and event["event"] == "exited":
            marks.append(TimelineMark(at_s, "exit", f"exited: {reason_words(event['reason'])}"))
        elif event["kind"] == "status" and event["stream"] == "book" and event["state"] == StreamState.BACKOFF:
            marks.append(TimelineMark(at_s, "reconnect", f"reconnect: {reason_words(event['reason'])}"))
    return marks
