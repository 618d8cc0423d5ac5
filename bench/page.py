"""Page of the results: medians with their spread, and both sides of every comparison."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import captions
from supervisor.overview.words import counted
from supervisor.reporting import charts
from supervisor.reporting.charts import RangeRow
from supervisor.reporting.markup import Content, Html, page, section, table
from supervisor.reporting.scales import Scale, linear_scale, log_scale, short

_SPREAD = "Dot: median of the runs; bar: from the least to the most."


def results_page(results: Mapping[str, Any]) -> str:
    """Return the page of one run; leave out parts that were not measured."""
    machine = results["machine"]
    where = (
        f"{machine['cores']} cores ({machine['model']}), {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['python']}; load at start {', '.join(map(str, machine['load_at_start']))}."
    )
    facts = [f"Measured at {results['at']}.", where]
    parts = [part for name, make in _PARTS.items() if name in results for part in make(results[name])]
    count = sum(name in results for name in _PARTS)
    kind = "quick run" if results["quick"] else "complete run"
    return page("Benchmarks", "●", "none", f"{counted(count, 'part')}, {kind}", facts, parts)


def _micro(value: float) -> str:
    return f"{short(value)} µs"


def _spread_row(name: str, values: Sequence[float], style: str, more: Sequence[Content] = ()) -> RangeRow:
    if not values:
        return RangeRow(name, None, None, None, ["-", "-", *more], style)
    low, middle, high = min(values), statistics.median(values), max(values)
    return RangeRow(
        name,
        low,
        middle,
        high,
        [short(middle), f"{short(low)} to {short(high)}" if len(values) > 1 else "-", *more],
        style,
    )


def _drawn(
    title: str, columns: Sequence[str], rows: Sequence[RangeRow], scale: Scale, show: Callable[[float], str]
) -> Html:
    cells = [(row.name, charts.range_cell(row, scale), row.texts) for row in rows]
    return charts.plot_table(title, columns, cells, charts.range_axis(scale, show))


def _ratio(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"


def _compared(
    title: str, about: str, cases: Sequence[Mapping[str, Any]], rival: Callable[[Mapping[str, Any]], str]
) -> Html:
    """Return ours and theirs below each other, case by case."""
    rows = []
    for case in cases:
        name = f"{case['venue']} {case['kind']}, {case['tempo']}"
        rows.append(_spread_row(f"{name}: ours", case["ours"], "line", [""]))
        if case["theirs"]:
            rows.append(_spread_row(f"{name}: {rival(case)}", case["theirs"], "past", [_ratio(case["ratio"])]))
    scale = log_scale(value for case in cases for value in [*case["ours"], *case["theirs"]])
    columns = ("case", "CPU a message, µs", "median", "spread", "theirs / ours")
    legend = charts.legend([("bar-line", "ours"), ("bar-past", "the other")])
    return section(
        title,
        legend,
        _drawn(f"CPU a message {title[0].lower()}{title[1:]}", columns, rows, scale, _micro),
        about=f"{about} {_SPREAD} Logarithmic.",
    )


def _hot_path(cases: list[dict[str, Any]]) -> list[Html]:
    about = "CPU a message, from the socket to published, beside ccxt.pro on the same frames (aim: 5 times as much)."
    return [_compared("Beside ccxt.pro", about, cases, lambda _: "ccxt.pro")]


def _rivals(cases: list[dict[str, Any]]) -> list[Html]:
    measured = [case for case in cases if case["ratio"]]
    missing = "; ".join(dict.fromkeys(f"{case['rival']}: {case['why']}" for case in cases if not case["ratio"]))
    about = "CPU a message beside nautilus_trader (Hyperliquid) and cryptofeed (aster as Binance futures)."
    title = "Beside nautilus_trader and cryptofeed"
    if not measured:
        return [section(title, about=f"{about} Not measured: {missing}.")]
    return [_compared(title, f"{about} {missing}".strip(), measured, lambda case: str(case["rival"]))]


def _latency(found: list[dict[str, Any]]) -> list[Html]:
    rows = []
    for one in found:
        name = f"{one['venues']} x {one['per_s']}/s"
        more = ["yes" if one["is_whole"] else "no", f"{one['lost']}"]
        rows.append(
            RangeRow(name, one["p50"], one["p50"], one["p999"], [*_ms3(one["p50"], one["p99"], one["p999"]), *more])
        )
        bare = one["bare"]
        rows.append(RangeRow(f"{name}: bare message", bare[0], bare[0], bare[2], [*_ms3(*bare), "", ""], "past"))
    scale = log_scale(value for row in rows for value in (row.low, row.high) if value)
    columns = ("rate", "p50 to p99.9, ms", "p50", "p99", "p99.9", "all came", "lost")
    title = "Frame read to consumer"
    about = (
        "Aim: p99 of 1 ms at 5 x 1000/s, no loss at 1 x 5000/s. A bare message between two idle processes meanwhile."
    )
    return [
        section(
            title,
            _drawn(title, columns, rows, scale, lambda value: f"{short(value)} ms"),
            about=f"{about} Logarithmic.",
        )
    ]


def _ms3(*values: float) -> list[str]:
    return [f"{value:.2f}" for value in values]


def _pressure(found: dict[str, Any]) -> list[Html]:
    rows: list[Sequence[Content]] = [
        ("frames sent", f"{found['frames']:,}"),
        ("published", f"{sum(found['published'].values()):,}"),
        ("carried a second", f"{found['carried_per_s']:,.0f}"),
        ("received by the slow consumer", f"{found['received']:,}"),
        ("lost to it, and known to be", f"{found['lost']:,}"),
        ("times that its pipe was full", f"{found['drops']:,}"),
        ("received + lost = published", "yes" if found["is_accounted"] else "no"),
        ("book usable afterwards", "yes" if found["is_book_usable"] else "no"),
        ("differences found in it", f"{found['drifts']}"),
    ]
    title = "A flood, and a consumer that is too slow"
    return [section(title, table(title, ("what", "found"), rows))]


def _scaling(found: Iterable[dict[str, Any]]) -> list[Html]:
    """Return one chart for all venues: a row per size."""
    cases = list(found)
    rows = [
        _spread_row(
            f"{one['venue']}, {size}", values, "line", [_ratio(one["growth"]) if str(size) == _largest(one) else ""]
        )
        for one in cases
        for size, values in one["us"].items()
    ]
    scale = linear_scale(value for one in cases for values in one["us"].values() for value in values)
    title = f"By number of {cases[0]['what']}"
    columns = ("venue and number", "CPU a message, µs", "median", "spread", "most / least")
    aim = "Aim: 200 markets at most 1.2 times one market. " if cases[0]["what"] == "markets" else ""
    return [section(title, _drawn(title, columns, rows, scale, _micro), about=f"{aim}{_SPREAD}")]


def _largest(one: dict[str, Any]) -> str:
    return str(max(map(int, one["us"])))


def _venues(found: dict[str, dict[str, float]]) -> list[Html]:
    names = list(dict.fromkeys(name for workers in found.values() for name in workers))
    rows = [(count, *(short(workers.get(name)) for name in names)) for count, workers in found.items()]
    title = "By number of venues"
    return [
        section(title, table(title, ("venues", *names), rows, is_wide=True), about="CPU a message of each worker, µs.")
    ]


def _durations(title: str, names: Mapping[str, str], found: Mapping[str, Any], unit: str) -> Html:
    rows = [_spread_row(text, found[name], "line") for name, text in names.items()]
    scale = log_scale(value for name in names for value in found[name])
    columns = ("what", f"least to most, {unit}", "median", "spread")
    return section(
        title,
        _drawn(title, columns, rows, scale, lambda value: f"{short(value)} {unit}"),
        about=f"{_SPREAD} Logarithmic.",
    )


def _joins(found: dict[str, Any]) -> list[Html]:
    return [_durations("Consumers that join together", captions.joins(found), found, "s")]


def _memory(found: dict[str, Any]) -> list[Html]:
    parts = {"parent": found["parent"], **found["workers"], "gateway": found["gateway"]}
    rows = [RangeRow(name, 0.0, mib, mib, [f"{mib:.1f}"]) for name, mib in parts.items()]
    scale = linear_scale(parts.values())
    title = "Memory"
    drawn = _drawn(title, ("process", "PSS, MiB", "MiB"), rows, scale, lambda value: f"{short(value)} MiB")
    return [section(title, drawn, about=f"{found['total']:.1f} MiB in all (aim: 160). Shared pages are counted once.")]


def _start(found: dict[str, list[float]]) -> list[Html]:
    seconds = _durations("Starts", captions.START_S, found, "s")
    return [seconds, _durations("Restarts and verbs", captions.START_MS, found, "ms")]


_PARTS: dict[str, Callable[[Any], list[Html]]] = {
    "hot_path": _hot_path,
    "rivals": _rivals,
    "latency": _latency,
    "pressure": _pressure,
    "markets": _scaling,
    "subscribers": lambda found: _scaling([found]),
    "venues": _venues,
    "joins": _joins,
    "memory": _memory,
    "start": _start,
}
