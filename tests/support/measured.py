"""Results of the benchmarks, made up: every part, with both sides of a comparison and with none."""

from __future__ import annotations

from typing import Any

from bench.verdict import machine

RATIO = {"median": 9.5, "least": 9.1, "most": 10.2}


def results(text: str = "lighter") -> dict[str, Any]:
    """Return the results of a complete run; ``text`` is the name of a venue in all of them."""
    case = {"venue": text, "kind": "delta", "tempo": "steady", "frames": 3000}
    both = {"ours": [60.1, 66.0, 63.2], "theirs": [600.0, 640.0, 580.0], "ratio": RATIO}
    alone = {"ours": [70.0, 75.0, 71.0], "theirs": [], "ratio": None}
    percentiles = {"p50": 0.2, "p99": 0.9, "p999": 3.1, "bare": (0.05, 0.1, 0.9)}
    return {
        "at": "2026-11-30T120000Z",
        "quick": False,
        "machine": machine(),
        "hot_path": [{**case, **both}, {**case, "kind": "wide", **alone}],
        "rivals": [
            {**case, "rival": "cryptofeed", **both, "why": ""},
            {**case, "rival": "nautilus", **alone, "why": "BENCH_RIVALS is not set"},
        ],
        "latency": [{"venues": 5, "per_s": 1000, "events": 10_000, "lost": 0, "is_whole": True, **percentiles}],
        "pressure": {
            "frames": 1000,
            "published": {"book": 600, "trade": 400},
            "carried_per_s": 8000.0,
            "received": 700,
            "lost": 300,
            "drops": 5,
            "is_accounted": True,
            "is_book_usable": True,
            "drifts": 0,
        },
        "markets": [
            {"what": "markets", "venue": text, "us": {"1": [50.0, 52.0], "200": [55.0, 60.0]}, "growth": RATIO}
        ],
        "subscribers": {"what": "subscribers", "venue": text, "us": {"0": [50.0], "50": [90.0]}, "growth": RATIO},
        "venues": {"1": {text: 100.0}, "5": {text: 110.0, "aster": 90.0}},
        "joins": {
            "consumers": 200,
            "topics": 500,
            "pairs": 15_000,
            "storm_first_s": [0.5, 0.6],
            "storm_all_s": [1.5, 1.6],
            "killed_s": [1.1, 1.2],
            "churn_s": [0.1, 0.2],
        },
        "memory": {"seconds": 60.0, "parent": 11.0, "workers": {text: 15.0}, "gateway": 17.0, "total": 43.0},
        "start": {
            "live_s": [1.5, 2.0],
            "restart_ms": [60.0, 70.0],
            "help_ms": [90.0, 95.0],
            "status_ms": [200.0, 210.0],
            "bare_ms": [20.0, 22.0],
        },
    }
