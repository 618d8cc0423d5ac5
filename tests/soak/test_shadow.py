"""A compressed shadow run: limits shortened five times, faults throughout. It meets every criterion, and the same run
without the watchdog does not.

Each takes as long as ``PARAPHINA_SOAK_S`` says, 20 minutes at most; ``PARAPHINA_SOAK_SEED`` repeats a run. The reports
stay in ``PARAPHINA_SOAK_REPORTS`` when that names a directory. The long run with real limits is ``make soak-shadow``.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Final

import pytest
from shadowed import ShadowRun

pytestmark = pytest.mark.soak

DURATION_S = min(1200.0, float(os.environ.get("PARAPHINA_SOAK_S", "3600")))
SEED = int(os.environ.get("PARAPHINA_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
COMPRESS: Final = 5
#: The watchdog never cuts.
NEVER_MS: Final = 3_600_000
STALE = "no venue stale for longer (s), outages left out"


def reports(tmp_path: Path, name: str) -> Path:
    """Where a run's report goes."""
    kept = os.environ.get("PARAPHINA_SOAK_REPORTS")
    directory = (Path(kept) if kept else tmp_path) / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def missed(result: dict[str, Any]) -> dict[str, list[str]]:
    """The criteria that were missed, and by whom."""
    return {row["criterion"]: row["missed_by"] for row in result["criteria"] if not row["ok"]}


def test_a_run_with_faults_throughout_meets_every_criterion(tmp_path: Path) -> None:
    run = ShadowRun(reports(tmp_path, "protected"), DURATION_S, COMPRESS, SEED)
    code = run.make()
    assert missed(run.result) == {}, f"PARAPHINA_SOAK_SEED={SEED}"
    assert run.violations == []
    assert code == 0
    assert run.result["is_complete"]


def test_the_same_run_without_the_watchdog_fails_visibly(tmp_path: Path) -> None:
    run = ShadowRun(reports(tmp_path, "unprotected"), DURATION_S, COMPRESS, SEED, stale_ms=NEVER_MS)
    assert run.make(with_truth=False) == 1
    assert STALE in missed(run.result), f"PARAPHINA_SOAK_SEED={SEED}"
