"""Faults on a running simulated system: one blow after the other on a venue, the venues side by side.

Each blow is awaited to its end. Which faults there are, and what they take, says :mod:`supervisor.drill.catalogue`;
whether consumers received the truth meanwhile is checked by :mod:`truth`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile

from systems import VENUES, System, wait_for
from truth import TruthChecker

from ipc.errors import UsageError
from supervisor.drill.catalogue import DRILLS, Conditions, Drill
from supervisor.drill.measure import DrillTarget

__all__ = ["CONDITIONS", "SETTINGS", "Blow", "Storm", "drills_on", "joining"]

#: Limits so short that every fault shows soon.
CONDITIONS = Conditions(stale_s=2.0, ping_s=1.0, pong_s=1.0, first_s=0.2, connect_s=3.0)
SETTINGS = """
[supervisor]
tick_ms = 100
backoff_base_ms = 200
backoff_cap_ms = 2000
[health]
healthy_threshold_ms = 100
watchdog_tick_ms = 100
memory_limit_mb = 512
""" + "".join(
    f"""
[venues.{venue}]
stale_ms = 2000
ping_interval_ms = 1000
pong_timeout_ms = 1000
connect_timeout_ms = 3000
read_timeout_ms = 5000
funding_poll_ms = 1000
"""
    for venue in VENUES
)

#: A fault that leaves no mark has struck within this time.
_STRIKE_S = 0.3
#: Beyond the time that a recovery may take, to tell "late" from "never".
_OVERTIME_S = 20.0


@dataclass(frozen=True, slots=True)
class Blow:
    """Faults that struck a venue together, and how long it took until all of its books were usable again."""

    venue: str
    faults: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{self.venue} {'+'.join(self.faults)} {self.seconds:.1f} s"


class Storm:
    """Faults on a system, as one of its consumers lives through them.

    Args:
        system: It was started with :data:`SETTINGS`.
        witness: The consumer; it notes as a violation what does not recover.
        conditions: What the settings come to.
    """

    def __init__(self, system: System, witness: TruthChecker, conditions: Conditions = CONDITIONS) -> None:
        self._system = system
        self._witness = witness
        self._conditions = conditions
        self._ground = DrillTarget.of(system.run_dir, conditions)

    def run(
        self, plans: Mapping[str, Iterable[Sequence[Drill]]], goes_on: Callable[[], bool] = lambda: True
    ) -> list[Blow]:
        """Every blow of each venue's plan, while ``goes_on()``; the venues side by side."""

        def suffer(venue: str) -> list[Blow]:
            return [self.strike(venue, drills) for drills in takewhile(lambda _: goes_on(), plans[venue])]

        with ThreadPoolExecutor(max_workers=len(plans)) as pool:
            return [blow for blows in pool.map(suffer, plans) for blow in blows]

    def strike(self, venue: str, drills: Sequence[Drill]) -> Blow:
        """One blow on a venue that is well, awaited to its end. Of several faults not each need have its effect."""
        wait_for(lambda: self._witness.is_well(venue), _OVERTIME_S, what=f"{venue} is well before it is struck")
        upsets = self._witness.upsets(venue)
        is_felt = len(drills) == 1 and drills[0].effect_on(venue) != "none"
        lasts_s = self._lasts_s(drills)
        limit_s = sum(drill.limit_s(self._conditions) for drill in drills) + _OVERTIME_S
        faults = tuple(drill.name for drill in drills)
        began = time.monotonic()
        self._inject(venue, drills)

        def is_over() -> bool:
            if is_felt and self._witness.upsets(venue) == upsets:
                return False
            return time.monotonic() - began >= lasts_s and self._witness.is_well(venue)

        try:
            wait_for(is_over, limit_s)
        except AssertionError:
            kind = "not_felt" if is_felt and self._witness.upsets(venue) == upsets else "not_recovered"
            reasons = self._witness.reasons(venue)
            self._witness.object(kind, venue, None, f"{'+'.join(faults)} after {limit_s:.1f} s: {reasons}")
        self._system.fault(venue, "clear")
        return Blow(venue, faults, time.monotonic() - began)

    def _lasts_s(self, drills: Sequence[Drill]) -> float:
        """How long to wait at least; of several, none may still be under way when the venue is struck again."""
        if len(drills) > 1:
            return max(drill.duration_s(self._conditions) for drill in drills)
        return float(drills[0].arguments(self._conditions).get("duration_s", _STRIKE_S))

    def _inject(self, venue: str, drills: Sequence[Drill]) -> None:
        self._ground.inject(drills[0], venue)
        for drill in drills[1:]:
            with suppress(UsageError):  # the first one has killed it
                self._ground.inject(drill, venue)


def drills_on(venue: str, *, without: Sequence[str] = (), has_tls: bool = False) -> list[Drill]:
    """Every drill that there is on a venue, but for some."""
    return [
        drill
        for drill in DRILLS.values()
        if drill.applies_to(venue) and drill.name not in without and (has_tls or not drill.needs_tls)
    ]


@contextmanager
def joining(join: Callable[[], None]) -> Iterator[None]:
    """Consumers that come and go beside the rest: ``join`` again and again, in a thread; its failure is raised."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            join()

    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(run)
        try:
            yield
        finally:
            stop.set()
            done.result(60)
