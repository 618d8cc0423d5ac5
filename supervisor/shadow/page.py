"""Pages of shadow runs: one run, and two runs side by side. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.reporting import charts
from supervisor.reporting.charts import ChartLine, RangeRow
from supervisor.reporting.kinds import reason_words
from supervisor.reporting.markup import Content, Html, page, section, table, tag
from supervisor.reporting.scales import Scale, around_scale, linear_scale, log_scale, megabytes, milliseconds, short
from supervisor.reporting.series import Series, numbers
from supervisor.shadow.judge import P95_MS
from supervisor.shadow.render import COMPARED
from supervisor.shadow.series import VenueSeries


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """Shadow run as a page needs it: the judged figures, the series, and what the run is called beside another."""

    result: dict[str, Any]
    series: Mapping[str, VenueSeries]
    name: str = ""
    style: str = "now"


def _lag_scale(values: Iterable[float]) -> Scale:
    """Return a logarithmic scale, unless a clock that is ahead makes a time negative."""
    there = list(values)
    return log_scale(there) if min(there) > 0 else around_scale(there)


@dataclass(frozen=True, slots=True)
class _ChartKind:
    """Charts of one figure, one a venue, with a common scale."""

    title: str
    about: str
    pick: Callable[[VenueSeries], Series]
    show: Callable[[float], str]
    make_scale: Callable[[Iterable[float]], Scale]
    limit: float | None = None


_CHARTS: Final = (
    _ChartKind(
        "Age of the book",
        "Age of each venue's oldest book at the consumer: time since the frame of its last event was read, the highest "
        "of each second. Logarithmic; dashed: the limit of the 95th percentile.",
        lambda of: of.age_ms,
        milliseconds,
        log_scale,
        P95_MS,
    ),
    _ChartKind(
        "Funding",
        "Age of each venue's newest funding rate at the consumer. Logarithmic.",
        lambda of: of.funding_age_ms,
        milliseconds,
        log_scale,
    ),
    _ChartKind(
        "Latency: frame read to consumer",
        "Time from reading a book's frame in the worker to its event in the watching consumer, the median of each "
        "second. Logarithmic.",
        lambda of: of.delivery_ms,
        milliseconds,
        log_scale,
    ),
    _ChartKind(
        "Latency: exchange to frame read",
        "Time from the exchange's own stamp to the read frame, the median of each second. It contains the "
        "difference of two clocks, so it may be negative; compare it over time, not between venues.",
        lambda of: of.lag_ms,
        milliseconds,
        _lag_scale,
    ),
    _ChartKind("Memory", "Resident memory of each venue's worker.", lambda of: of.memory_mb, megabytes, linear_scale),
)


def report_page(run: JudgedRun) -> str:
    """Return the page of one run."""
    result = run.result
    missed = [row for row in result["criteria"] if not row["ok"]]
    return page(
        "Shadow run",
        *_verdict(result),
        _facts(result),
        [
            section("Criteria", _criteria(result), about="" if missed else "All of them were met."),
            _states([run]),
            _ages([run]),
            *_charts([run]),
            _reconnects([run]),
            _figures(result),
        ],
    )


def comparison_page(before: JudgedRun, after: JudgedRun) -> str:
    """Return the page of two runs; venues that are not in both are left out."""
    runs = [before, after]
    facts = [f"{run.name.capitalize()}: {' '.join([_outcome(run.result), *_facts(run.result)])}" for run in runs]
    sign, kind, outcome = _verdict(after.result)
    return page(
        "Shadow runs, before and after",
        sign,
        kind,
        f"After: {outcome[0].lower()}{outcome[1:]}",
        facts,
        [_states(runs), _ages(runs), _changes(before, after), *_charts(runs), _reconnects(runs)],
    )


def _verdict(result: dict[str, Any]) -> tuple[str, str, str]:
    """Return sign, colour and sentence."""
    return ("●", "live", _outcome(result)) if result["ok"] else ("■", "down", _outcome(result))


def _outcome(result: dict[str, Any]) -> str:
    missed = [row for row in result["criteria"] if not row["ok"]]
    if not missed:
        return f"All {len(result['criteria'])} criteria met."
    venues = ", ".join(dict.fromkeys(name for row in missed for name in row["missed_by"]))
    return f"{len(missed)} of {len(result['criteria'])} criteria missed: {venues}."


def _facts(result: dict[str, Any]) -> list[str]:
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(result["started_wall_ns"] / 1e9))
    notes = [
        "" if result["is_complete"] else "The run was stopped before its time.",
        "The last line of its record was cut off." if result["is_torn"] else "",
        "The venues were simulated." if result["is_simulated"] else "",
        f"Limits and criteria are shortened by {result['compress']:g}." if result["compress"] != 1 else "",
    ]
    duration = milliseconds(result["duration_s"] * 1000)
    first = f"Started {started}, watched for {duration}, version {result['version']}."
    return [first, " ".join(note for note in notes if note)] if any(notes) else [first]


def _criteria(result: dict[str, Any]) -> Html:
    rows: list[Sequence[Content]] = []
    for row in result["criteria"]:
        values = {name: value for name, value in row["values"].items() if value is not None}
        worst = max(values, key=lambda name: values[name], default=None)
        is_one_worse = worst is not None and min(values.values()) < values[worst]
        verdict = (
            tag("span", "● met", class_="live")
            if row["ok"]
            else tag("span", f"■ missed by {', '.join(row['missed_by'])}", class_="down")
        )
        figures = (short(None if worst is None else values[worst]), short(row["limit"]))
        rows.append((row["criterion"], verdict, *figures, worst if is_one_worse else ""))
    return table("Criteria", ("criterion", "verdict", "worst", "limit", "worst venue"), rows, texts=(0, 1, 4))


def _venues(runs: Sequence[JudgedRun]) -> list[str]:
    """Return the venues that are in all runs, in the order of the last one."""
    return [name for name in runs[-1].result["venues"] if all(name in run.result["venues"] for run in runs)]


def _each(runs: Sequence[JudgedRun]) -> list[tuple[str, JudgedRun]]:
    return [(venue, run) for venue in _venues(runs) for run in runs]


def _name(venue: str, run: JudgedRun) -> str:
    return f"{venue}, {run.name}" if run.name else venue


def _states(runs: Sequence[JudgedRun]) -> Html:
    total_s = max(run.result["duration_s"] for run in runs)
    rows: list[tuple[Content, Html, Sequence[Content]]] = []
    seen: list[str] = []
    for venue, run in _each(runs):
        of = run.result["venues"][venue]
        share = f"{of['healthy_share'] * 100:.2f} %" if of["healthy_share"] is not None else "-"
        title = (
            f"States of {_name(venue, run)}: live {share} of the time, longest stale time {of['longest_stale_s']:g} s"
        )
        spans = [*of["states"], *_unwatched(run, total_s)]
        seen += [state for state, _ in spans]
        drawn = charts.timeline(spans, run.series[venue].marks, total_s, title)
        rows.append((_name(venue, run), drawn, (share, f"{of['stale_s']:g} s", f"{of['longest_stale_s']:g} s")))
    marks = [("bar-ink", "worker exited"), ("bar-line", "book reconnected")]
    return section(
        "States over time",
        charts.plot_table(
            "States over time", ("venue", "state", "live", "stale", "longest"), rows, charts.time_axis(total_s)
        ),
        charts.state_legend(seen),
        charts.legend(marks),
        about="As the system reports them, corrected by what the consumer saw: unusable is a book that may not be "
        "used, silent a venue without any book event for ten seconds although it calls itself live.",
    )


def _unwatched(run: JudgedRun, total_s: float) -> list[tuple[str, float]]:
    """Return the span after a shorter run's end."""
    rest = total_s - run.result["duration_s"]
    return [("not watched", rest)] if rest > 0 else []


def _ages(runs: Sequence[JudgedRun]) -> Html:
    found = [(venue, run, run.result["venues"][venue]["ages_ms"]) for venue, run in _each(runs)]
    scale = log_scale(value for _, _, ages in found for value in ages.values() if value is not None)
    rows: list[tuple[Content, Html, Sequence[Content]]] = []
    for venue, run, ages in found:
        texts = [milliseconds(ages[name]) for name in ("p50", "p95", "p99", "max")]
        style = "past" if run.style == "past" else "line"
        row = RangeRow(_name(venue, run), ages["p50"], ages["p50"], ages["p99"], texts, style)
        rows.append((row.name, charts.range_cell(row, scale), texts))
    return section(
        "How old books were",
        charts.plot_table(
            "Ages of books",
            ("venue", "p50 to p99", "p50", "p95", "p99", "highest"),
            rows,
            charts.range_axis(scale, milliseconds),
        ),
        about="True ages at the consumer, four samples a second of every book. Dot: median; bar: up to the 99th "
        "percentile. Logarithmic.",
    )


def _charts(runs: Sequence[JudgedRun]) -> list[Html]:
    return [found for kind in _CHARTS if (found := _chart_section(kind, runs)) is not None]


def _chart_section(kind: _ChartKind, runs: Sequence[JudgedRun]) -> Html | None:
    """Return the charts of a figure; None where nothing of it was recorded."""
    venues = _venues(runs)
    values = [value for run in runs for venue in venues for value in numbers(kind.pick(run.series[venue]).points)]
    if not values:
        return None
    scale = kind.make_scale(values)
    total_s = max(run.result["duration_s"] for run in runs)
    figures = [
        charts.line_chart(
            venue,
            [ChartLine(run.name, kind.pick(run.series[venue]), run.style) for run in runs],
            scale,
            kind.show,
            total_s,
            kind.limit,
            about=kind.title,
        )
        for venue in venues
    ]
    names = charts.legend((f"bar-{'past' if run.style == 'past' else 'line'}", run.name) for run in runs if run.name)
    is_thinned = any(kind.pick(run.series[venue]).middle for run in runs for venue in venues)
    about = f"{kind.about} Pale: from least to highest; line: median." if is_thinned else kind.about
    return section(kind.title, names, tag("div", figures, class_="charts"), about=about)


def _reconnects(runs: Sequence[JudgedRun]) -> Html:
    columns = ("venue", "reconnects", "why the book reconnected", "gaps", "why", "exits", "recovered", "why")
    rows = []
    for venue, run in _each(runs):
        of = run.result["venues"][venue]
        crashes = of["crashes"]
        texts = [
            _counted(reasons, reason_words) for reasons in (of["reconnect_reasons"], of["gaps"], crashes["reasons"])
        ]
        rows.append(
            (
                _name(venue, run),
                of["reconnects"],
                texts[0],
                sum(of["gaps"].values()),
                texts[1],
                crashes["count"],
                crashes["recovered"],
                texts[2],
            )
        )
    return section(
        "Reconnects, gaps and exits",
        table("Reconnects, gaps and exits", columns, rows, texts=(0, 2, 4, 7), is_wide=True),
        about="Reconnects count the ended sessions of all streams; a gap makes a book unusable until the next "
        "snapshot; exits that were asked for are left out.",
    )


def _counted(counts: Mapping[str, int], words: Callable[[str], str]) -> str:
    return "; ".join(f"{words(reason)}: {count}" for reason, count in sorted(counts.items())) or "-"


def _figures(result: dict[str, Any]) -> Html:
    rows = []
    for venue, of in result["venues"].items():
        memory = of["memory_mb"]
        rows.append(
            (
                venue,
                f"{of['outage_s']:g} s",
                "-" if of["funding_first_s"] is None else f"{of['funding_first_s']:g} s",
                milliseconds(of["funding_age_ms"]["p95"]),
                milliseconds(of["tick_ages_ms"]["p95"]),
                of["restarts"],
                of["crossed"],
                of["drops"],
                megabytes(memory["last"]),
                "-" if memory["slope_per_h"] is None else f"{memory['slope_per_h']:+g} MB",
            )
        )
    columns = (
        "venue",
        "outage",
        "first funding rate after",
        "funding age p95",
        "tick age p95",
        "restarts",
        "crossed by the venue",
        "full pipes",
        "memory",
        "an hour",
    )
    lost = f"Messages lost on the way to this consumer: {result['lost']}. Books that differed from the worker's: "
    return section(
        "More figures",
        table("More figures", columns, rows, is_wide=True),
        about=f"{lost}{result['drifts']}. Tick ages are the predecessor's: 0 whenever anything arrived within 250 ms.",
    )


def _changes(before: JudgedRun, after: JudgedRun) -> Html:
    venues = _venues([before, after])
    rows: list[Sequence[Content]] = []
    for text, pick in COMPARED:
        pairs = [(pick(before.result["venues"][name]), pick(after.result["venues"][name])) for name in venues]
        rows.append((text, *(_change(a, b) for a, b in pairs)))
    return section(
        "Change",
        table("Before and after", ("figure", *venues), rows, is_wide=True),
        about="Before and after, and below them the difference where there is one.",
    )


def _change(before: float | None, after: float | None) -> Content:
    if before == after:
        return tag("span", _plain(after), class_="none")
    change = "" if before is None or after is None else f"{after - before:+.4g}"
    return [f"{_plain(before)} → {_plain(after)}", tag("br"), tag("span", change, class_="none")]


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
