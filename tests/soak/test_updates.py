"""A million updates a venue with random faults: no book that a consumer trusts is ever another than the truth; and how
long a gap takes from the worker that learnt of it to a consumer's book.

``PARAPHINA_SOAK_UPDATES`` is the number of updates a venue, ``PARAPHINA_SOAK_S`` bounds the time of the second part,
and ``PARAPHINA_SOAK_SEED`` repeats a run. The suite does a small part of each (``tests/integration/test_updates.py``).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from storm import SETTINGS
from systems import System, wait_for
from truth import TruthChecker, compare_while_paused, explain
from updates import GapWatch, follow, quantile, upset

pytestmark = pytest.mark.soak

UPDATES = int(os.environ.get("PARAPHINA_SOAK_UPDATES", "1000000"))
WATCHED_S = min(300.0, float(os.environ.get("PARAPHINA_SOAK_S", "300")))
SEED = int(os.environ.get("PARAPHINA_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
P99_MS = 50.0

Say = Callable[[str], None]


@pytest.mark.parametrize("venue", ["hyperliquid", "aster", "extended", "lighter", "paradex"])
def test_a_million_updates_with_random_faults_and_no_silent_divergence(say: Say, venue: str) -> None:
    say(f"{venue}, PARAPHINA_SOAK_SEED={SEED}")
    say(f"{venue}: {follow(venue, SEED, UPDATES)}, 0 silent divergences")


def test_a_gap_reaches_a_consumer_within_milliseconds(say: Say) -> None:
    with System("--sim-rate", "200", config=SETTINGS) as system, TruthChecker(system) as checker:
        system.wait_live()
        wait_for(lambda: all(checker.is_well(venue) for venue in checker.venues))
        with GapWatch(system) as watch:
            struck = upset(system, WATCHED_S, SEED, (0.05, 0.4))
        compare_while_paused(system, [checker])
        assert not checker.violations, explain(system, checker.violations)
    every = [late for of in watch.late_ms.values() for late in of]
    for name, late in [*watch.late_ms.items(), ("all", every)]:
        figures = f"p50 {quantile(late, 0.5):6.2f} ms, p99 {quantile(late, 0.99):6.2f} ms, max {max(late):6.2f} ms"
        say(f"gap to unusable at a consumer, {name:<12} {len(late):>6} gaps: {figures}")
    say(f"{sum(struck.values())} faults, {sum(checker.compared.values())} books compared with the truth, 0 differed")
    assert watch.trusted == []
    assert quantile(every, 0.99) < P99_MS
