"""A real Prometheus watches real systems with real faults: which alerts fire, and that no other does.

All times of the rules are divided by ``PARAPHINA_ALERTS_FACTOR`` (10), and so are the delays and limits of the systems
as far as that is possible; ``make soak-alerts`` sets it to 1.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import pytest
from alerting import INTERVAL_MS, Prometheus
from dashboards import expressions, filled, variables
from systems import System, paraphina, wait_for
from tools import needs

pytestmark = pytest.mark.operate

FACTOR = int(os.environ.get("PARAPHINA_ALERTS_FACTOR", "10"))
INTERVAL_S = INTERVAL_MS / 1000 / FACTOR
#: Which venues run where. No venue of ``healthy`` and ``gateway`` has a fault; an operator stops aster of ``healthy``.
VENUES = {
    "healthy": ["hyperliquid", "aster"],
    "faulty": ["hyperliquid", "aster", "extended", "lighter", "paradex"],
    "blind": ["extended", "lighter"],
    "gateway": ["paradex"],
}
#: The alerts that must fire. In ``faulty``: aster has an outage, hyperliquid sends no mark prices, lighter sends
#: nothing, paradex is killed as soon as it is live, and extended was killed once.
REQUIRED = {
    "healthy": set(),
    "faulty": {
        ("ParaphinaVenueStale", "lighter"),
        ("ParaphinaVenueOutage", "aster"),
        ("ParaphinaFundingStale", "hyperliquid"),
        ("ParaphinaNeedsPerson", "paradex"),
        ("ParaphinaVenueFlapping", "paradex"),
        ("ParaphinaTooManyRestarts", "paradex"),
    },
    "blind": {("ParaphinaNoBooks", ""), ("ParaphinaVenueStale", "extended"), ("ParaphinaVenueStale", "lighter")},
    "gateway": {("ParaphinaDown", "")},
}
#: Further alerts that may fire: what else a venue without data causes if it lasts.
STALLED = ("VenueFlapping", "FundingStale", "TooManyRestarts", "NeedsPerson")
ALLOWED = {
    "healthy": set(),
    "faulty": {
        *((f"Paraphina{name}", "lighter") for name in STALLED),
        ("ParaphinaVenueStale", "paradex"),
        ("ParaphinaTooManyRestarts", "hyperliquid"),
    },
    "blind": {(f"Paraphina{name}", venue) for name in STALLED for venue in VENUES["blind"]},
    "gateway": set(),
}


def config(venues: list[str]) -> str:
    """Return a configuration with limits and delays divided by the factor."""
    lines = [
        f"[supervisor]\nblackbox_kb = 0\nbackoff_base_ms = {1000 // FACTOR}\nbackoff_cap_ms = {30_000 // FACTOR}",
        f"[health]\nhealthy_threshold_ms = {60_000 // FACTOR}",
    ]
    # A limit below 2 s would find stalls on a busy machine.
    limits = f"stale_ms = {max(2000, 10_000 // FACTOR)}\nfunding_poll_ms = {max(1000, 10_000 // FACTOR)}"
    return "\n".join([*lines, *(f"[venues.{venue}]\n{limits}" for venue in venues)])


def control(system: System, verb: str, venue: str) -> None:
    """Stop or start a venue, as an operator."""
    done = paraphina(verb, venue, "--run-dir", str(system.run_dir.path))
    assert done.returncode == 0, done.stderr


class Watched:
    """Four systems and the Prometheus that watches them."""

    def __init__(self, prometheus: Prometheus, systems: dict[str, System]) -> None:
        self.prometheus = prometheus
        self.systems = systems
        self.is_crashing = threading.Event()

    def firing(self, name: str) -> set[tuple[str, str]]:
        """Return the alerts of a system that fire now; those of no system for ""."""
        return _alerts(self.prometheus.query(f'ALERTS{{alertstate="firing",instance="{name}"}}'))

    def fired(self, name: str) -> set[tuple[str, str]]:
        """Return all alerts of a system that have fired."""
        return _alerts(self.prometheus.query(f'max_over_time(ALERTS{{alertstate="firing",instance="{name}"}}[3h])'))

    def wait(self, seconds: float) -> None:
        """Wait for seconds of the rules' time."""
        time.sleep(seconds / FACTOR)

    def wait_for(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Wait for a condition, at most so many seconds of the rules' time and a minute for a busy machine."""
        wait_for(condition, seconds / FACTOR + 60, INTERVAL_S / 3, what)

    def crash_again_and_again(self, name: str, venue: str) -> None:
        """Kill a worker whenever it has been live for the time between two scrapes."""
        while self.is_crashing.is_set():
            if self.systems[name].venue(venue)["state"] == "live":
                time.sleep(0.7 * INTERVAL_S)
                with suppress(ProcessLookupError):
                    os.kill(self.systems[name].pid(venue), signal.SIGKILL)
            time.sleep(0.1)


def _alerts(samples: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return alerts with their venue or process; without the one that says that the machine is too busy for tests."""
    labels = [sample["metric"] for sample in samples]
    found = {(of["alertname"], of.get("venue") or of.get("process", "")) for of in labels}
    return {one for one in found if one[0] != "ParaphinaMachineTooBusy"}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        systems = {
            name: stack.enter_context(System("--venues", ",".join(venues), config=config(venues)))
            for name, venues in VENUES.items()
        }
        for name, system in systems.items():
            system.wait_live(VENUES[name])
        targets = {name: system.url.removeprefix("http://") for name, system in systems.items()}
        prometheus = stack.enter_context(Prometheus(targets, FACTOR))
        wait_for(lambda: len(prometheus.query("up == 1")) == len(targets), 60, 0.2, "every system is scraped")
        watched = Watched(prometheus, systems)
        yield watched
        watched.is_crashing.clear()


@needs("prometheus")
def test_each_fault_has_its_alert_and_nothing_else_fires(watched):
    faulty, blind, gateway = (watched.systems[name] for name in ("faulty", "blind", "gateway"))
    # All is well for two minutes, a restart of a worker and one of a gateway apart.
    os.kill(faulty.pid("extended"), signal.SIGKILL)
    os.kill(gateway.pid("gateway"), signal.SIGKILL)
    control(watched.systems["healthy"], "stop", "aster")
    watched.wait(120)
    assert {name: watched.fired(name) for name in VENUES} == {name: set() for name in VENUES}

    began = time.time()
    faulty.fault("lighter", "stall")
    faulty.fault("aster", "refuse")
    faulty.fault("aster", "rest_error")
    faulty.fault("hyperliquid", "stall", stream="mark")
    for venue in VENUES["blind"]:
        blind.fault(venue, "stall")
    watched.is_crashing.set()
    crashes = threading.Thread(target=watched.crash_again_and_again, args=("faulty", "paradex"), daemon=True)
    crashes.start()
    assert gateway.process is not None
    gateway.process.kill()
    for name in VENUES:
        watched.wait_for(
            lambda name=name: watched.fired(name) >= REQUIRED[name], 1200, f"{name}: {sorted(REQUIRED[name])}"
        )

    # A page goes on, through all restarts that its fault causes, until the fault ends.
    selector = 'ALERTS{alertname="ParaphinaVenueStale",alertstate="firing",instance="faulty",venue="lighter"}'
    (series,) = watched.prometheus.query_range(selector, began, time.time(), INTERVAL_S / 2)
    moments = [at for at, _ in series["values"]]
    assert max((after - before for before, after in pairwise(moments)), default=0) <= 4 * INTERVAL_S
    assert time.time() - moments[-1] < 3 * INTERVAL_S + 1

    # ParaphinaDown may have fired before the first scrape: `absent` waits for it a tenth of a minute only.
    assert watched.firing("") == {("ParaphinaAlive", "")}
    for name in VENUES:
        assert REQUIRED[name] <= watched.fired(name) <= REQUIRED[name] | ALLOWED[name], name


@needs("prometheus")
@pytest.mark.parametrize("name", expressions())
def test_every_query_of_the_dashboard_finds_data(watched, name):
    """After the faults above, and while they last."""
    window = f"{max(60, 900 // FACTOR)}s"
    found = watched.prometheus.query(expressions(rate_interval=window)[name])
    assert found
    assert any(sample["value"][1] not in {"NaN", "+Inf", "-Inf"} for sample in found), found


@needs("prometheus")
def test_the_variables_of_the_dashboard_have_values(watched):
    values = {
        name: {sample["metric"].get(label) for sample in watched.prometheus.query(filled(series))}
        for name, (series, label) in variables().items()
    }
    assert values["venue"] == set(VENUES["faulty"])


@needs("prometheus")
def test_alerts_end_with_their_faults(watched):
    watched.is_crashing.clear()
    for name in ("faulty", "blind"):
        watched.systems[name].mend()
    control(watched.systems["healthy"], "start", "aster")

    def none_pages():
        pages = {one for name in ("faulty", "blind") for one in watched.firing(name)}
        return not pages & {
            ("ParaphinaNoBooks", ""),
            ("ParaphinaVenueStale", "lighter"),
            ("ParaphinaVenueStale", "extended"),
            ("ParaphinaVenueOutage", "aster"),
        }

    watched.wait_for(none_pages, 300, "no page any more")
    watched.systems["healthy"].wait_live(["aster"])
    assert watched.fired("healthy") == set()
