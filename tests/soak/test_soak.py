"""The long runs: an hour of random faults under the eyes of consumers who know the truth, ten thousand restarts, ten
minutes without a free core.

``PARAPHINA_SOAK_S`` says how long the first takes (and bounds the last), ``PARAPHINA_SOAK_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import psutil
import pytest
from churn import assert_nothing_grew, churn, quantile
from load import assert_nobody_suffers
from storm import SETTINGS, Blow, Storm, drills_on, joining
from systems import MARKETS, VENUES, System, wait_for
from truth import TruthChecker, Violation, compare_while_paused, explain

from supervisor.drill.catalogue import Drill

pytestmark = pytest.mark.soak

SOAK_S = float(os.environ.get("PARAPHINA_SOAK_S", "3600"))
SEED = int(os.environ.get("PARAPHINA_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
#: Between two comparisons of whole books.
ROUND_S = 60.0
RESTARTS = 10_000
BUSY_S = min(600.0, SOAK_S)
NUMBERED = [market for market in MARKETS if market[0] in {"aster", "lighter", "paradex"}]
#: The longest pause between two blows. Lighter takes 200 messages a minute, and a blow costs up to ten.
PAUSE_S = {"lighter": 6.0}

Say = Callable[[str], None]


def blows_on(venue: str, chance: random.Random) -> Iterator[list[Drill]]:
    """A plan without an end: mostly one fault at a time, at times two together."""
    drills = drills_on(venue, has_tls=True)
    while True:
        time.sleep(chance.uniform(0.0, PAUSE_S.get(venue, 2.0)))
        yield chance.sample(drills, 2 if chance.random() < 0.2 else 1)


def test_an_hour_of_random_faults_and_no_consumer_trusts_a_wrong_book(say: Say) -> None:
    say(f"PARAPHINA_SOAK_SEED={SEED}, {SOAK_S:.0f} s")
    chance = random.Random(SEED)
    ends_at = time.monotonic() + SOAK_S
    found: list[Violation] = []
    times: dict[str, list[float]] = {}
    compared: Counter[tuple[str, str]] = Counter()
    with (
        System("--sim-tls", config=SETTINGS) as system,
        TruthChecker(system) as steady,
        TruthChecker(system, nap_s=(5.0, 10.0), poll_s=0.1) as slow,
    ):
        system.wait_live()
        wait_for(lambda: all(steady.is_well(venue) for venue in VENUES))

        def join() -> None:
            with TruthChecker(system, poll_s=0.1) as joiner:
                time.sleep(chance.uniform(0.5, 5.0))
            found.extend(joiner.violations)
            compared.update(joiner.compared)

        storm = Storm(system, steady)
        plans = {venue: blows_on(venue, random.Random(f"{SEED}:{venue}")) for venue in VENUES}
        with joining(join):
            for number in count(1):
                round_ends_at = min(ends_at, time.monotonic() + ROUND_S)
                blows = storm.run(plans, goes_on=lambda at=round_ends_at: time.monotonic() < at)
                note(blows, times)
                os.kill(system.pid("gateway"), signal.SIGKILL)
                with TruthChecker(system) as late:
                    compare_while_paused(system, [steady, late])
                found += late.violations
                say(f"round {number}: {len(blows)} blows, {sum(steady.compared.values())} comparisons")
                violations = found + steady.violations + slow.violations
                assert not violations, explain(system, violations)
                if time.monotonic() >= ends_at:
                    break
        compare_while_paused(system, [steady, slow])
        violations = found + steady.violations + slow.violations
        assert not violations, explain(system, violations)
        assert steady.lost == 0
        for checked in (steady.compared, slow.compared, compared):
            assert all(checked[market] for market in NUMBERED)
        for fault, seconds in sorted(times.items()):
            say(f"{fault:<18}{len(seconds):>5} p50 {quantile(seconds, 0.5):5.1f} s, max {max(seconds):5.1f} s")
        processes = system.descendants()
        assert system.stop() == 0
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert not alive


def note(blows: Sequence[Blow], times: dict[str, list[float]]) -> None:
    """Keep how long the single faults took."""
    for blow in blows:
        times.setdefault(blow.faults[0] if len(blow.faults) == 1 else "two together", []).append(blow.seconds)


def test_a_venue_that_closes_again_and_again_never_has_enough_of_our_messages() -> None:
    with System("--venues", "lighter", config=SETTINGS) as system:
        system.wait_live(["lighter"])
        pid, ends_at = system.pid("lighter"), time.monotonic() + min(45.0, SOAK_S)
        while time.monotonic() < ends_at:
            system.fault("lighter", "close")
            time.sleep(0.4)
        assert not system.log("ws.refused"), "it keeps the pace over all of its connections"
        assert not system.log("stream.failed"), "it is no market's fault"
        system.wait_live(["lighter"])
        assert system.pid("lighter") == pid, "no restart mends that"


def test_ten_thousand_restarts_leave_the_parent_as_it_was(say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="pp-", dir="/dev/shm") as path:
        seen = churn(Path(path) / "run", RESTARTS, timeout_s=1800)
    for reading, tenth in zip(seen.readings, seen.times_ms, strict=True):
        times = f"p50 {quantile(tenth, 0.5):5.1f} ms, p99 {quantile(tenth, 0.99):5.1f} ms"
        say(f"{reading.restarts:>6} restarts: {times}, {reading.rss_bytes / 1e6:.2f} MB")
    assert_nothing_grew(seen)


def test_ten_minutes_without_a_free_core_cost_no_worker_and_no_session() -> None:
    assert_nobody_suffers(BUSY_S)
