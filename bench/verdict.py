"""Figures that survive a noisy machine: ratios of neighbours with their spread, percentiles, and the machine itself."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of pairs, and their spread."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Return the ratios of pairs of consecutive measurements."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that ``part`` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def machine() -> dict[str, object]:
    """Return a description of this machine."""
    return {
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "model": _model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
