"""Reports of a judged shadow run: Markdown, a comparison of two runs, and an SVG of states over time. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

_COLOURS: Final = {
    "live": "#3a9d5d",
    "stale": "#d9482b",
    "starting": "#e0a030",
    "backoff": "#e0a030",
    "killing": "#b03060",
    "unkillable": "#600020",
    "failed": "#600020",
    "unusable": "#d9482b",
    "silent": "#a02c5a",
    "outage": "#7a7a7a",
    "stopped": "#bbbbbb",
    "down": "#222222",
}
_WIDTH, _ROW, _LEFT, _TOP = 1000, 34, 120, 40
_FONT: Final = 'font-family="sans-serif" font-size="13"'


def markdown(result: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    verdict = "met" if result["ok"] else "NOT met"
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(result["started_wall_ns"] / 1e9))
    notes = [
        "" if result["is_complete"] else "The run was stopped before its time.",
        "The last line of its record was cut off." if result["is_torn"] else "",
        "The venues were simulated." if result["is_simulated"] else "",
        f"Limits and criteria are shortened by {result['compress']:g}." if result["compress"] != 1 else "",
    ]
    lines = [
        "# Shadow run",
        "",
        f"Version {result['version']}, started {started}, {result['duration_s']:.0f} s.",
        f"Success criteria **{verdict}**.",
        *[note for note in notes if note],
        "",
        "![states](states.svg)",
        "",
        "## Verdict",
        "",
        *_criteria_table(result["criteria"]),
        "",
        "## Venues",
        "",
        *_venue_table(result["venues"]),
        "",
        "Ages are true ages: time since the frame of the last applied book event was read, four samples a second.",
        "*Tick ages* are the predecessor's: 0 whenever anything arrived within the tick of 250 ms.",
        "",
        f"Messages lost on the way to this consumer: {result['lost']}.",
        f"Books that differed from the worker's: {result['drifts']}.",
    ]
    return "\n".join(lines) + "\n"


def _criteria_table(criteria: Sequence[dict[str, Any]]) -> list[str]:
    rows = ["| criterion | limit | worst | verdict |", "|---|---|---|---|"]
    for row in criteria:
        values = [value for value in row["values"].values() if value is not None]
        worst = max(values) if values else None
        verdict = "met" if row["ok"] else "**missed** by " + ", ".join(row["missed_by"])
        rows.append(f"| {row['criterion']} | {_number(row['limit'])} | {_number(worst)} | {verdict} |")
    return rows


_FIGURES: Final[Sequence[tuple[str, Callable[[dict[str, Any]], object]]]] = (
    ("healthy share", lambda of: f"{(of['healthy_share'] or 0) * 100:.2f} %"),
    ("stale, s (longest)", lambda of: f"{of['stale_s']} ({of['longest_stale_s']})"),
    ("outage, s", lambda of: of["outage_s"]),
    ("age p50 / p95 / p99 / max, ms", lambda of: _ages(of["ages_ms"])),
    ("tick age p50 / p95 / p99 / max, ms", lambda of: _ages(of["tick_ages_ms"])),
    ("funding age p50 / p95 / p99 / max, ms", lambda of: _ages(of["funding_age_ms"])),
    ("reconnects", lambda of: f"{of['reconnects']} {_counts(of['reconnect_reasons'])}"),
    ("gaps", lambda of: _counts(of["gaps"]) or "0"),
    (
        "crashes (recovered)",
        lambda of: f"{of['crashes']['count']} ({of['crashes']['recovered']}) {_counts(of['crashes']['reasons'])}",
    ),
    ("restarts", lambda of: of["restarts"]),
    ("crossed books, full pipes", lambda of: f"{of['crossed']}, {of['drops']}"),
    ("memory, MB (slope per h)", lambda of: f"{of['memory_mb']['last']} ({of['memory_mb']['slope_per_h']})"),
)


def _venue_table(venues: dict[str, dict[str, Any]]) -> list[str]:
    rows = ["| | " + " | ".join(venues) + " |", "|---" * (len(venues) + 1) + "|"]
    for text, figure in _FIGURES:
        cells = [str(figure(of)) for of in venues.values()]
        rows.append(f"| {text} | " + " | ".join(cells) + " |")
    return rows


def compare_text(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Compare two runs: before, after, change."""
    rows = ["# Before and after", "", "| venue | figure | before | after | change |", "|---|---|---|---|---|"]
    for venue in [name for name in before["venues"] if name in after["venues"]]:
        old, new = before["venues"][venue], after["venues"][venue]
        for text, pick in COMPARED:
            a, b = pick(old), pick(new)
            change = "-" if a is None or b is None else f"{b - a:+.6g}"
            rows.append(f"| {venue} | {text} | {_number(a)} | {_number(b)} | {change} |")
    verdicts = f"Success criteria: before {_met(before)}, after {_met(after)}."
    return "\n".join([*rows, "", verdicts]) + "\n"


COMPARED: Final[Sequence[tuple[str, Callable[[dict[str, Any]], Any]]]] = (
    ("healthy share", lambda of: of["healthy_share"]),
    ("stale, s", lambda of: of["stale_s"]),
    ("longest stale, s", lambda of: of["longest_stale_s"]),
    ("age p95, ms", lambda of: of["ages_ms"]["p95"]),
    ("age p99, ms", lambda of: of["ages_ms"]["p99"]),
    ("age max, ms", lambda of: of["ages_ms"]["max"]),
    ("funding age p95, ms", lambda of: of["funding_age_ms"]["p95"]),
    ("reconnects", lambda of: of["reconnects"]),
    ("gaps", lambda of: sum(of["gaps"].values())),
    ("crashes", lambda of: of["crashes"]["count"]),
    ("memory slope, MB/h", lambda of: of["memory_mb"]["slope_per_h"]),
)


def picture(result: dict[str, Any]) -> str:
    """Draw each venue's state over time as SVG."""
    venues = result["venues"]
    total = max(result["duration_s"], 0.001)
    scale = (_WIDTH - _LEFT - 20) / total
    height = _TOP + _ROW * len(venues) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">States over {total:.0f} s</text>',
    ]
    for index, (name, of) in enumerate(venues.items()):
        y = _TOP + index * _ROW
        parts.append(f'<text x="10" y="{y + 17}">{escape(name)}</text>')
        x = float(_LEFT)
        for state, seconds in of["states"]:
            width = max(seconds * scale, 0.6)
            title = f"{state}, {seconds:g} s"
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" fill="{_COLOURS.get(state, "#999999")}">'
                f"<title>{escape(title)}</title></rect>"
            )
            x += seconds * scale
    parts += _axis(total, scale, _TOP + _ROW * len(venues)) + _legend(venues, height - 14) + ["</svg>"]
    return "\n".join(parts) + "\n"


def _axis(total: float, scale: float, y: int) -> list[str]:
    step = next((s for s in (1, 5, 10, 60, 300, 600, 3600, 7200, 14400) if total / s <= 10), 14400)
    marks = range(0, int(total) + 1, step)
    return [
        f'<text x="{_LEFT + mark * scale:.1f}" y="{y + 16}" fill="#555" text-anchor="middle">{_clock(mark)}</text>'
        for mark in marks
    ]


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def _legend(venues: dict[str, dict[str, Any]], y: int) -> list[str]:
    seen = dict.fromkeys(state for of in venues.values() for state, _ in of["states"])
    parts = []
    for index, state in enumerate(seen):
        x = _LEFT + index * 110
        parts.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{_COLOURS.get(state, "#999999")}"/>')
        parts.append(f'<text x="{x + 17}" y="{y}">{escape(state)}</text>')
    return parts


def _ages(of: dict[str, float | None]) -> str:
    return " / ".join(_number(of[name]) for name in ("p50", "p95", "p99", "max"))


def _crashes(of: dict[str, Any]) -> str:
    return f"{of['count']} ({of['recovered']}) {_counts(of['reasons'])}"


def _counts(counts: dict[str, int]) -> str:
    return " ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _met(result: dict[str, Any]) -> str:
    return "met" if result["ok"] else "not met"
