"""Two lines of one truth, of which one is struck: a delivered book is right, never goes back, and is never away."""

from __future__ import annotations

import pytest
from truth_of_lines import Plan, runs

#: Venue, cadence and by how much the lines' pushes differ, ms, and the limit, ms.
VENUES = [
    ("hyperliquid", 500, 490, 750),
    ("aster", 100, 0, 350),
    ("extended", 100, 95, 350),
    ("lighter", 50, 5, 300),
    ("paradex", 100, 95, 350),
]
SEEDS = 3


@pytest.mark.parametrize(("venue", "cadence_ms", "apart_ms", "limit_ms"), VENUES)
@pytest.mark.parametrize("fault", ["kill", "stall", "slow", "lossy"])
@pytest.mark.parametrize("quiet", [1, 8])
def test_a_fault_of_one_line_is_not_seen(venue, cadence_ms, apart_ms, limit_ms, fault, quiet):
    for run in runs(Plan(venue, cadence_ms, quiet, apart_ms, fault), SEEDS):
        assert (run.wrong, run.went_back, run.unusable_ms) == (0, 0, 0)
        allowed = cadence_ms + 100 if fault in {"kill", "lossy"} else limit_ms + 150
        assert run.lag_ms <= allowed + (60 if fault == "lossy" else 0)


@pytest.mark.parametrize(("venue", "cadence_ms", "apart_ms", "limit_ms"), VENUES)
@pytest.mark.parametrize("quiet", [1, 20])
def test_healthy_lines_make_no_change_over(venue, cadence_ms, apart_ms, limit_ms, quiet):
    for run in runs(Plan(venue, cadence_ms, quiet, apart_ms, "none"), SEEDS):
        assert run.consumer.arbitration.changeovers == {}
        assert (run.wrong, run.went_back, run.unusable_ms) == (0, 0, 0)
        assert run.lag_ms <= limit_ms
