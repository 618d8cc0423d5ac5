"""Judgement of a shadow run: figures and a verdict per criterion, from its record alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.errors import UsageError
from supervisor.shadow.record import FILE

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Criteria, s: longest stale time of a venue, time to the first healthy funding rate, first backoff delay.
_STALE_S: Final = 120.0
_FUNDING_S: Final = 60.0
_FIRST_DELAY_S: Final = 1.0
#: Ten times tighter than the predecessor's gate: ages in ms, and reconnects for one reason.
P95_MS: Final = 1000.0
_P99_MS: Final = 3000.0
_STABLE_S: Final = 60.0
#: A venue is silent when none of its books has had an event for this long; some books update only twice a second.
_SILENT_S: Final = 10.0
_LEAST_SILENT_S: Final = 1.0
_NOT_CRASHES: Final = frozenset({"requested", "config_changed", "drill"})


@dataclass(slots=True)
class ShadowRun:
    """Record of a shadow run in memory.

    ``torn``: its last line is incomplete; ``is_complete``: the run reached its planned end.
    """

    meta: dict[str, Any]
    seconds: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    torn: bool = False
    is_complete: bool = False


def read(directory: Path) -> ShadowRun:
    """Read the record of a shadow run, including an interrupted one.

    Raises:
        UsageError: There is no record.
    """
    path = directory / FILE
    if not path.is_file():
        raise UsageError("no shadow run was recorded here", where=str(directory), advice="make one with `shadow`")
    run = ShadowRun(meta={})
    with path.open("rb") as file:
        for line in file:
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except ValueError:
                run.torn = True
                break
            _read_line(run, row)
    if not run.meta or not run.seconds:
        raise UsageError("the record of this shadow run is empty", where=str(path))
    return run


def _read_line(run: ShadowRun, row: dict[str, Any]) -> None:
    match row.get("type"):
        case "meta":
            run.meta = row
        case "second":
            run.seconds.append(row)
        case "event":
            run.events.append(row)
        case "end":
            run.is_complete = not row["was_stopped"]


def judge(run: ShadowRun) -> dict[str, Any]:
    """Return figures per venue and the verdict."""
    venues = {name: _figures(run, name) for name in run.meta["venues"]}
    criteria = _criteria(run, venues)
    return {
        "version": run.meta["version"],
        "started_wall_ns": run.meta["started_wall_ns"],
        "duration_s": round((run.seconds[-1]["mono_ns"] - run.meta["started_mono_ns"]) / _NS, 1),
        "compress": run.meta["compress"],
        "is_complete": run.is_complete,
        "is_torn": run.torn,
        "is_simulated": run.meta["is_simulated"],
        "lost": run.seconds[-1]["lost"],
        "drifts": run.seconds[-1]["drifts"],
        "venues": venues,
        "criteria": criteria,
        "ok": all(row["ok"] for row in criteria),
    }


def _figures(run: ShadowRun, venue: str) -> dict[str, Any]:
    seconds = [row["venues"][venue] for row in run.seconds]
    spans = _spans(run, venue)
    events = [row["event"] for row in run.events if row["event"]["venue"] == venue]
    not_live = [span for span in spans if span[0] not in {"live", "outage"}]
    total_s = sum(seconds_of for _, seconds_of in spans)
    return {
        "ages_ms": _ages(age for second in seconds for age in second["ages_ms"]),
        "tick_ages_ms": _ages(age for second in seconds for age in second["tick_ages_ms"]),
        "funding_age_ms": _ages(second["funding_age_ms"] or -1 for second in seconds),
        "funding_first_s": _funding_first_s(run, venue),
        "healthy_share": round(sum(s for state, s in spans if state == "live") / total_s, 5) if total_s else None,
        "stale_s": round(sum(s for _, s in not_live), 1),
        "longest_stale_s": round(_longest(spans), 1),
        "outage_s": round(sum(s for state, s in spans if state == "outage"), 1),
        "reconnects": _reconnects(seconds),
        "reconnect_reasons": _reconnect_reasons(events),
        "gaps": dict(Counter(event["reason"] for event in events if event["kind"] == "gap")),
        "crossed": max((second["crossed"] for second in seconds), default=0),
        "drops": max((second.get("drops", 0) for second in seconds), default=0),
        "crashes": _crashes(events),
        "restarts": max((second.get("restarts", 0) for second in seconds), default=0),
        "late_resets": _late_resets(run, venue),
        "memory_mb": _memory(run, venue),
        "states": spans,
    }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the quantile ``share`` of ordered values; None when there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ages(values: Iterable[int]) -> dict[str, float | None]:
    ordered = sorted(value for value in values if value >= 0)
    return {
        "p50": quantile(ordered, 0.5),
        "p95": quantile(ordered, 0.95),
        "p99": quantile(ordered, 0.99),
        "max": ordered[-1] if ordered else None,
    }


def _state(run: ShadowRun, row: dict[str, Any], venue: str) -> str:
    """Return the state that the system reports, corrected by the consumer's view where it is ``live``."""
    if row["supervisor"] not in {"running", "draining", "stalled"}:  # the workers of a stalled one go on
        return "down"
    of = row["venues"][venue]
    if of.get("outage"):
        return "outage"
    state = str(of.get("state", "down"))
    if state != "live":
        return state
    if not of.get("usable", True):
        return "unusable"
    silent_ms = max(_SILENT_S / run.meta["compress"], _LEAST_SILENT_S) * 1000
    return "silent" if _youngest_ms(run, row, venue) > silent_ms else "live"


def _youngest_ms(run: ShadowRun, row: dict[str, Any], venue: str) -> float:
    """Return the age of a venue's newest book event, ms; without one, the time since the run began."""
    since_start_ms = (row["mono_ns"] - run.meta["started_mono_ns"]) / _MS
    last = row["venues"][venue]["ages_ms"][-len(run.meta["venues"][venue]) :]
    return min((age if age >= 0 else since_start_ms for age in last), default=0.0)


def _spans(run: ShadowRun, venue: str) -> list[tuple[str, float]]:
    """Return consecutive states, each with its duration, s."""
    spans: list[tuple[str, float]] = []
    before = run.meta["started_mono_ns"]
    for row in run.seconds:
        state, seconds = _state(run, row, venue), (row["mono_ns"] - before) / _NS
        before = row["mono_ns"]
        if spans and spans[-1][0] == state:
            spans[-1] = (state, spans[-1][1] + seconds)
        else:
            spans.append((state, seconds))
    return [(state, round(seconds, 2)) for state, seconds in spans]


def _longest(spans: Sequence[tuple[str, float]]) -> float:
    """Return the longest continuous time in which a venue was neither live nor in outage."""
    longest = current = 0.0
    for state, seconds in spans:
        current = 0.0 if state in {"live", "outage"} else current + seconds
        longest = max(longest, current)
    return longest


def _funding_first_s(run: ShadowRun, venue: str) -> float | None:
    """Return the time to the first second with a fresh funding rate; None without one."""
    for row in run.seconds:
        if row["venues"][venue]["funding_age_ms"] is not None:
            return round(int(row["mono_ns"] - run.meta["started_mono_ns"]) / _NS, 1)
    return None


def _reconnects(seconds: Sequence[dict[str, Any]]) -> int:
    """Count ended sessions across worker restarts (a restart resets the board's counters)."""
    total = 0
    before: dict[str, int] = {}
    for second in seconds:
        now = second.get("reconnects", {})
        total += sum(max(0, count - before.get(name, 0)) for name, count in now.items())
        before = now
    return total


def _reconnect_reasons(events: Sequence[dict[str, Any]]) -> dict[str, int]:
    ends = [e for e in events if e["kind"] == "status" and e["state"] == "backoff" and e["stream"] == "book"]
    return dict(Counter(str(event["reason"]) for event in ends))


def _crashes(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count unplanned worker deaths by reason, and how many were followed by a live worker."""
    life = [event for event in events if event["kind"] == "lifecycle"]
    deaths = [index for index, e in enumerate(life) if e["event"] == "exited" and e["reason"] not in _NOT_CRASHES]
    recovered = sum(any(later["event"] == "live" for later in life[index:]) for index in deaths)
    reasons = Counter(str(life[index]["reason"]) for index in deaths)
    return {"count": len(deaths), "recovered": recovered, "reasons": dict(reasons)}


def _late_resets(run: ShadowRun, venue: str) -> int:
    """Count reconnects after a long stable run that did not start at the first backoff delay."""
    longest_ns = 2 * _STABLE_S / run.meta["compress"] * _NS
    started_ns = run.meta["started_mono_ns"]
    #: Start of delivery per stream and market; None while it does not deliver.
    live_ns: dict[tuple[str, str | None], int | None] = {}
    late = 0
    for row in run.events:
        event = row["event"]
        if event["venue"] != venue or event["kind"] != "status":
            continue
        keys = [(event["stream"], symbol) for symbol in event["ages_ms"] or (event["symbol"],)]
        if event["backoff_s"] is not None:
            lived_ns = [row["mono_ns"] - since for key in keys if (since := live_ns.get(key, started_ns)) is not None]
            late += max(lived_ns, default=0) > longest_ns and event["backoff_s"] > _FIRST_DELAY_S
            live_ns.update(dict.fromkeys(keys))
        elif event["state"] == "live":
            live_ns.update({key: row["mono_ns"] for key in keys if live_ns.get(key, started_ns) is None})
    return late


def _memory(run: ShadowRun, venue: str) -> dict[str, float | None]:
    """Return resident memory at start and end, MB, and its least-squares slope, MB per hour."""
    points = [
        (row["mono_ns"] / _NS / 3600, row["venues"][venue]["rss_bytes"] / 1e6)
        for row in run.seconds
        if row["venues"][venue].get("rss_bytes")
    ]
    if len(points) < 2:
        return {"first": None, "last": None, "slope_per_h": None}
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return {"first": round(points[0][1], 1), "last": round(points[-1][1], 1), "slope_per_h": round(slope, 2)}


def _criteria(run: ShadowRun, venues: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    compress = run.meta["compress"]
    rows: list[dict[str, Any]] = []

    def add(text: str, limit: float | None, values: dict[str, float | None], *, is_most: bool = True) -> None:
        bad = [
            name for name, value in values.items() if value is None or (is_most and limit is not None and value > limit)
        ]
        rows.append({"criterion": text, "limit": limit, "values": values, "ok": not bad, "missed_by": bad})

    add("no venue stale for longer (s), outages left out", _STALE_S / compress, _each(venues, "longest_stale_s"))
    add("a funding rate within (s)", _FUNDING_S, _each(venues, "funding_first_s"))
    add("reconnects after a stable run that did not begin with 1 s", 0, _each(venues, "late_resets"))
    add(
        "crashes that were not recovered",
        0,
        {name: of["crashes"]["count"] - of["crashes"]["recovered"] for name, of in venues.items()},
    )
    add("age of the book, p95 (ms)", P95_MS, {name: of["ages_ms"]["p95"] for name, of in venues.items()})
    add("age of the book, p99 (ms)", _P99_MS, {name: of["ages_ms"]["p99"] for name, of in venues.items()})
    add("full subscriber pipes", 0, _each(venues, "drops"))
    add("books that differed from the worker's", 0, {"all": run.seconds[-1]["drifts"]})
    return rows


def _each(venues: dict[str, dict[str, Any]], figure: str) -> dict[str, float | None]:
    return {name: of[figure] for name, of in venues.items()}
