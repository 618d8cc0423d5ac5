"""Tables of results in Markdown, each with its target."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import captions

_Rows = list[Sequence[object]]


def tables(results: Mapping[str, Any]) -> str:
    """Return all tables of one run; leave out parts that were not measured."""
    machine = results["machine"]
    title = f"# Measured at {results['at']}{' (quick run)' if results['quick'] else ''}"
    where = (
        f"{machine['cores']} cores ({machine['model']}), {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['python']}; load at start {', '.join(map(str, machine['load_at_start']))}. "
        "Spread in brackets: least and most of the runs."
    )
    return (
        "\n\n".join([title, where, *(make(results[name]) for name, make in _PARTS.items() if name in results)]) + "\n"
    )


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _spread(values: Sequence[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _ratio(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['median']:.2f} ({found['least']:.2f}-{found['most']:.2f})"


def _hot_path(cases: list[dict[str, Any]]) -> str:
    rows: _Rows = [
        (
            case["tempo"],
            case["venue"],
            case["kind"],
            _spread(case["ours"], 1),
            _spread(case["theirs"], 1) if case["theirs"] else "-",
            _ratio(case["ratio"]),
        )
        for case in cases
    ]
    title = "CPU a message, socket to published, µs; ccxt.pro on the same frames (aim: 5 times as much, or more)"
    return _table(title, ["tempo", "venue", "frames", "ours", "ccxt.pro", "ccxt.pro / ours"], rows)


def _rivals(cases: list[dict[str, Any]]) -> str:
    rows: _Rows = [
        (
            case["tempo"],
            case["venue"],
            case["kind"],
            case["rival"],
            _ratio(case["ratio"]) if case["ratio"] else case["why"],
        )
        for case in cases
    ]
    title = "CPU a message beside nautilus_trader (Hyperliquid) and cryptofeed (aster as Binance futures)"
    return _table(title, ["tempo", "venue", "frames", "rival", "rival / ours"], rows)


def _latency(found: list[dict[str, Any]]) -> str:
    rows: _Rows = [
        (
            f"{one['venues']} x {one['per_s']}/s",
            one["events"],
            *(f"{one[name]:.2f}" for name in ("p50", "p99", "p999")),
            f"{one['bare'][1]:.2f}, {one['bare'][2]:.2f}",
            one["lost"],
            "yes" if one["is_whole"] else "no",
        )
        for one in found
    ]
    title = "Frame read to Feed delivering, ms (aim: p99 of 1 at 5 x 1000/s; no loss at 1 x 5000/s)"
    return _table(title, ["rate", "events", "p50", "p99", "p99.9", "bare message p99, p99.9", "lost", "all came"], rows)


def _pressure(found: dict[str, Any]) -> str:
    rows: _Rows = [
        ("frames sent", found["frames"]),
        ("published", sum(found["published"].values())),
        ("carried a second", f"{found['carried_per_s']:.0f}"),
        ("received by the slow consumer", found["received"]),
        ("lost to it, and known to be", found["lost"]),
        ("times that its pipe was full, by the worker's count", found["drops"]),
        ("received + lost = published", found["is_accounted"]),
        ("book usable afterwards; differences found", f"{found['is_book_usable']}; {found['drifts']}"),
    ]
    return _table("A flood and a consumer that is too slow", ["what", "found"], rows)


def _scaling(found: list[dict[str, Any]]) -> str:
    rows: _Rows = [
        (
            one["what"],
            one["venue"],
            ", ".join(f"{size}: {_spread(values)}" for size, values in one["us"].items()),
            _ratio(one["growth"]),
        )
        for one in found
    ]
    title = "CPU a message, µs, by number (aim: 200 markets at most 1.2 times one market)"
    return _table(title, ["of", "venue", "µs", "most / least"], rows)


def _venues(found: dict[str, dict[str, float]]) -> str:
    rows: _Rows = [
        (count, ", ".join(f"{name} {us:.0f}" for name, us in workers.items())) for count, workers in found.items()
    ]
    return _table("CPU a message of each worker, µs, by number of venues", ["venues", "workers"], rows)


def _joins(found: dict[str, Any]) -> str:
    rows: _Rows = [(text, _spread(found[name], 2)) for name, text in captions.joins(found).items()]
    return _table("Consumers that join together, s", ["what", "found"], rows)


def _memory(found: dict[str, Any]) -> str:
    workers = ", ".join(f"{name} {mib:.1f}" for name, mib in found["workers"].items())
    row = (f"{found['parent']:.1f}", workers, f"{found['gateway']:.1f}", f"{found['total']:.1f}")
    return _table("Memory (PSS), MiB (aim: 160 in all)", ["parent", "workers", "gateway", "all"], [row])


def _start(found: dict[str, list[float]]) -> str:
    names = {**captions.START_S, **captions.START_MS}
    rows: _Rows = [(text, f"{_spread(found[name], 2)} {name.rpartition('_')[2]}") for name, text in names.items()]
    return _table("Beginnings", ["what", "found"], rows)


_PARTS: dict[str, Callable[[Any], str]] = {
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
