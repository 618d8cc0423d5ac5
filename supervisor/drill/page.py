"""Reports of drills: Markdown and a page. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.drill.catalogue import DRILLS, Conditions
from supervisor.reporting import charts
from supervisor.reporting.charts import RangeRow
from supervisor.reporting.kinds import reason_words
from supervisor.reporting.markup import Content, Html, page, section, table, tag
from supervisor.reporting.scales import log_scale, milliseconds

#: Slowest recoveries that are listed.
_SLOWEST: Final = 12
#: Venue of a drill of the whole system.
ALL: Final = "all"
_COLUMNS: Final = (
    "venue",
    "fault",
    "n",
    "detected",
    "recovered",
    "fresh p50",
    "fresh p99",
    "limit",
    "result",
    "reason",
    "note",
)


@dataclass(frozen=True, slots=True)
class DrillRun:
    """Results of drills.

    Attributes:
        rows: As ``drill --json`` prints them.
        started: Wall time, s.
        duration_s: Of all drills.
        rounds: How often each fault was injected.
        version: Program version.
        conditions: Limits of the drilled system.
    """

    rows: Sequence[dict[str, Any]]
    started: float
    duration_s: float
    rounds: int
    version: str
    conditions: Conditions


def markdown(run: DrillRun) -> str:
    """Return the results as Markdown; times in ms."""
    lines = [
        "# Drills",
        "",
        *_facts(run),
        "",
        _outcome(run),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for row in run.rows:
        times = (row["detected_ms"], row["recovered_ms"], row["fresh_ms"]["p50"], row["fresh_ms"]["p99"])
        cells = [row["venue"], row["fault"], row["n"], *("-" if one is None else f"{one:.0f}" for one in times)]
        cells += [row["limit_ms"], row["result"], row["reason"] or "-", row["note"] or "-"]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def report_page(run: DrillRun) -> str:
    """Return the page: what was missed, the times by venue, every fault on every venue, and the slowest recoveries."""
    missed = _with(run, "missed")
    sign, kind = ("■", "down") if missed else ("●", "live")
    parts = [_missed(missed)] if missed else []
    return page(
        "Drills", sign, kind, _outcome(run), _facts(run), [*parts, _by_venue(run), _every_fault(run), _slowest(run)]
    )


def _with(run: DrillRun, result: str) -> list[dict[str, Any]]:
    return [row for row in run.rows if row["result"] == result]


def _outcome(run: DrillRun) -> str:
    missed, done = _with(run, "missed"), len(run.rows) - len(_with(run, "skipped"))
    if not done:
        return "Nothing was drilled."
    if not missed:
        return (
            f"All {done} drills recovered within their limits." if done > 1 else "The drill recovered within its limit."
        )
    names = ", ".join(f"{row['fault']} on {row['venue']}" for row in missed[:3])
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return f"{len(missed)} of {done} drills missed their limits: {names}{more}."


def _facts(run: DrillRun) -> list[str]:
    of = run.conditions
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.started))
    skipped = len(_with(run, "skipped"))
    limits = (
        f"Limits of the system: a book is stale after {of.stale_s:g} s, ping every {of.ping_s:g} s with "
        f"{of.pong_s:g} s for the answer, first delay {of.first_s:g} s, "
        f"wedged after {of.beat_s:g} s, {of.connect_s:g} s to connect."
    )
    rounds = "once" if run.rounds == 1 else f"{run.rounds} times"
    return [
        f"Started {started}, took {milliseconds(run.duration_s * 1000)}, version {run.version}; each fault {rounds}."
        + (
            f" {skipped} not done, because the venue does not have the fault or the system cannot inject it."
            if skipped
            else ""
        ),
        limits,
    ]


def _missed(rows: Sequence[dict[str, Any]]) -> Html:
    columns = ("fault", "venue", "detected", "fresh again", "limit", "reason", "note")
    cells = [
        (
            row["fault"],
            row["venue"],
            milliseconds(row["detected_ms"]),
            milliseconds(row["fresh_ms"]["p99"]),
            milliseconds(row["limit_ms"]),
            _reason(row),
            row["note"] or "-",
        )
        for row in rows
    ]
    return section("Missed limits", table("Missed limits", columns, cells, texts=(0, 1, 5, 6), is_wide=True))


def _reason(row: dict[str, Any]) -> str:
    return "-" if row["reason"] is None else reason_words(row["reason"])


def _venues(run: DrillRun) -> list[str]:
    return list(dict.fromkeys(row["venue"] for row in run.rows))


def _by_venue(run: DrillRun) -> Html:
    """Return how long recoveries took, by venue; faults that must have no effect are not among them."""
    times = {
        venue: sorted(row["fresh_ms"]["p50"] for row in run.rows if row["venue"] == venue and _took(row))
        for venue in _venues(run)
    }
    scale = log_scale(one for all_times in times.values() for one in all_times)
    rows: list[tuple[Content, Html, Sequence[Content]]] = []
    for venue, of in times.items():
        low, middle, high = (of[0], of[len(of) // 2], of[-1]) if of else (None, None, None)
        texts = [str(len(of)), milliseconds(low), milliseconds(middle), milliseconds(high)]
        rows.append((venue, charts.range_cell(RangeRow(venue, low, middle, high, texts), scale), texts))
    columns = ("venue", "shortest to longest", "recoveries", "shortest", "median", "longest")
    return section(
        "From the fault to fresh books",
        charts.plot_table("Times to fresh books by venue", columns, rows, charts.range_axis(scale, milliseconds)),
        about="Until every book of the venue was fresh again at a consumer. Dot: median. Logarithmic. Faults that had "
        "no effect, as required, are left out.",
    )


def _took(row: dict[str, Any]) -> bool:
    """Return whether a drill had an effect that was recovered from."""
    return row["fresh_ms"]["p50"] is not None and row["detected_ms"] is not None


def _every_fault(run: DrillRun) -> Html:
    cells = {(row["fault"], row["venue"]): row for row in run.rows}
    venues = [name for name in _venues(run) if name != ALL]
    rows: list[Sequence[Content]] = []
    for fault in dict.fromkeys(row["fault"] for row in run.rows):
        text = DRILLS[fault].text if fault in DRILLS else "SIGKILL to the parent itself"
        name = [fault, tag("span", text, class_="remark")]
        if (fault, ALL) in cells:  # of the whole system
            whole = [tag("span", "all: ", class_="none"), _cell(cells[fault, ALL])]
            rows.append((name, whole, *("" for _ in venues[1:])) if venues else (name,))
            continue
        rows.append((name, *(_cell(cells.get((fault, venue))) for venue in venues)))
    return section(
        "Every fault on every venue",
        charts.legend(
            [
                ("bar-line", "until detected"),
                ("bar-live", "until fresh"),
                ("bar-down", "missed"),
                ("bar-track", "limit"),
            ]
        ),
        table("Every fault on every venue", ("fault", *venues), rows, is_wide=True),
        about="Time to detection / to fresh books, and both as shares of the limit. 'No effect' is what the fault "
        "requires; - is a fault that this venue does not have.",
    )


def _cell(row: dict[str, Any] | None) -> Content:
    if row is None or row["result"] == "skipped":
        return tag("span", "-", class_="none")
    fresh, detected = row["fresh_ms"]["p99"], row["detected_ms"]
    if row["result"] == "ok" and detected is None:
        return tag("span", "no effect", class_="none")
    text: Content = f"{milliseconds(detected)} / {milliseconds(fresh)}"
    if row["result"] == "missed":
        text = tag("span", f"■ {row['note'] or 'late'}: ", text, class_="down")
    limit = max(row["limit_ms"], 1)
    shares = [100 * min((one or 0.0) / limit, 1.0) for one in (detected, limit if fresh is None else fresh)]
    colour = "bar-live" if row["result"] == "ok" else "bar-down"
    picture = tag(
        "svg",
        tag("rect", y=2, width="100%", height=5, class_="bar-track"),
        tag("rect", y=2, width=f"{shares[1]:.1f}%", height=5, class_=colour),
        tag("rect", y=2, width=f"{shares[0]:.1f}%", height=5, class_="bar-line"),
        aria_hidden="true",
    )
    return tag("div", text, picture, class_="cell")


def _slowest(run: DrillRun) -> Html:
    slow = sorted(
        (row for row in run.rows if _took(row)), key=lambda row: -row["fresh_ms"]["p99"] / max(row["limit_ms"], 1)
    )
    rows = [
        (
            row["fault"],
            row["venue"],
            milliseconds(row["detected_ms"]),
            milliseconds(row["recovered_ms"]),
            milliseconds(row["fresh_ms"]["p99"]),
            milliseconds(row["limit_ms"]),
            f"{100 * row['fresh_ms']['p99'] / max(row['limit_ms'], 1):.0f} %",
            _reason(row),
        )
        for row in slow[:_SLOWEST]
    ]
    columns = ("fault", "venue", "detected", "recovered", "fresh", "limit", "of the limit", "reason")
    return section(
        "Nearest to their limits", table("Nearest to their limits", columns, rows, texts=(0, 1, 7), is_wide=True)
    )
