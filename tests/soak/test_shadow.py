"""A compressed shadow run: limits shortened five times, faults throughout. It meets every criterion, and the same run
without the watchdog does not.

Each takes as long as ``PARAPHINA_SOAK_S`` says, 20 minutes at most; ``PARAPHINA_SOAK_SEED`` repeats a run. The reports
stay in ``PARAPHINA_SOAK_REPORTS`` when that names a directory.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from systems import VENUES, System, wait_for

pytestmark = pytest.mark.soak

DURATION_S = min(1200.0, float(os.environ.get("PARAPHINA_SOAK_S", "3600")))
SEED = int(os.environ.get("PARAPHINA_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
COMPRESS: Final = 5
STALE_MS: Final = 2000
STALE = "no venue stale for longer (s), outages left out"
#: Between two faults of a venue, s: longer than the healthy run that earns the first delay again.
PAUSE_S = (25.0, 50.0)
#: Before the end of the run there is peace, so that the last fault is recovered from in it.
PEACE_S = 15.0

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV, "SIGSTOP": signal.SIGSTOP}
#: What the simulator does, with its parameters.
FAULTS: dict[str, dict[str, Any]] = {
    "stall": {"only_open": True},
    "half_open": {"duration_s": 10.0},
    "slow_drip": {"duration_s": 10.0},
    "no_pong": {"duration_s": 9.0},
    "close": {},
    "shutdown": {},
    "age_cut": {},
    "refuse": {"duration_s": 1.5},
    "huge_frame": {},
    "drop_delta": {},
    "corrupt_delta": {},
    "crossed_book": {},
    "reorder_delta": {},
    "duplicate_delta": {},
    "garbage": {},
    "invalid_utf8": {},
    "clock_skew": {"duration_s": 2.0},
    "rest_error": {"duration_s": 5.0},
    "http_html": {"duration_s": 5.0},
}


def settings(stale_ms: int) -> str:
    """Everything that is timed, five times as fast; but for the first delay, which is what it is."""
    lines = [f"[health]\nhealthy_threshold_ms = {60_000 // COMPRESS}"]
    lines += [
        f"[venues.{venue}]\nstale_ms = {stale_ms}\nping_interval_ms = 6000\npong_timeout_ms = 2000\n"
        "connect_timeout_ms = 3000\nread_timeout_ms = 10000\nfunding_poll_ms = 2000"
        for venue in VENUES
    ]
    return "\n".join(lines) + "\n"


def harass(system: System, venue: str, peace: threading.Event, struck: Counter[str]) -> None:
    """One fault after the other, whatever comes of it: each once before any comes again."""
    chance = random.Random(f"{SEED}:{venue}")
    names: list[str] = []
    while not peace.wait(chance.uniform(*PAUSE_S)):
        names = names or chance.sample([*SIGNALS, *FAULTS], len(SIGNALS) + len(FAULTS))
        name = names.pop()
        if name in SIGNALS:
            os.kill(system.pid(venue), SIGNALS[name])
        else:
            system.fault(venue, name, **FAULTS[name])
        struck[name] += 1


def watched(config: str, directory: Path) -> tuple[int, dict[str, Any]]:
    """A shadow run with faults: its exit code and its report."""
    struck: Counter[str] = Counter()
    peace = threading.Event()
    with System(config=config) as system:
        system.wait_live()
        command = [sys.executable, "-m", "supervisor", "shadow", "--report", str(directory)]
        command += ["--run-dir", str(system.run_dir.path), "--compress", str(COMPRESS), "--duration", f"{DURATION_S}s"]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        ends_at = time.monotonic() + DURATION_S - PEACE_S
        threads = [threading.Thread(target=harass, args=(system, venue, peace, struck)) for venue in VENUES]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: time.monotonic() > ends_at or run.poll() is not None, DURATION_S + 60, 1.0)
        finally:
            peace.set()
            for thread in threads:
                thread.join(60)
        code = run.wait(120)
    (directory / "faults.json").write_text(json.dumps(dict(struck)))
    return code, json.loads((directory / "report.json").read_text())


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
    code, result = watched(settings(STALE_MS), reports(tmp_path, "protected"))
    assert missed(result) == {}, f"PARAPHINA_SOAK_SEED={SEED}"
    assert code == 0
    assert result["is_complete"]


def test_the_same_run_without_the_watchdog_fails_visibly(tmp_path: Path) -> None:
    code, result = watched(settings(3_600_000), reports(tmp_path, "unprotected"))
    assert code == 1
    assert STALE in missed(result), f"PARAPHINA_SOAK_SEED={SEED}"
