"""A shadow run of a simulated system while random faults strike it, and a consumer compares its books with the truth.

``python -m shadowed --duration 3h --report DIR`` makes one (``make soak-shadow``). It needs no test runner, so nothing
but its own duration ends it; SIGINT and SIGTERM end it early, with a report on what was recorded.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from storm import drills_on
from systems import VENUES, System
from truth import TruthChecker

from ipc.errors import ParaphinaError
from supervisor.drill.catalogue import Conditions
from supervisor.drill.measure import DrillTarget
from supervisor.verbs.options import FiniteRange
from supervisor.verbs.start import Duration

__all__ = ["ShadowRun"]

SIGNALS: Final = {"SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV, "SIGSTOP": signal.SIGSTOP}
#: Drills that are the signals above; the parent does not count a drill as a crash.
_AS_SIGNALS: Final = ("kill", "segv", "stop")
#: Where the fault is to last until the system itself ends it, not for the drill's time.
_LASTING: Final[dict[str, dict[str, Any]]] = {"stall": {"only_open": True}}
#: Between two faults of a venue with real limits, s: longer than the healthy run that earns the first delay again.
_PAUSE_S: Final = (125.0, 250.0)
#: Before the end of the run there is peace, so that the last fault is recovered from in it.
_PEACE_S: Final = 15.0
_TRUTH_EVERY_S: Final = 0.1


def settings(compress: float, stale_ms: float | None = None) -> str:
    """Return a configuration: real limits, or all of them shortened but for the first delay, which stays 1 s."""

    def ms(default: float) -> int:
        return round(default / compress)

    lines = [f"[health]\nhealthy_threshold_ms = {ms(60_000)}\nmemory_limit_mb = 512"]
    for venue in VENUES:
        lines.append(f"[venues.{venue}]\nstale_ms = {ms(10_000) if stale_ms is None else stale_ms:.0f}")
        if compress > 1:  # else each venue has its own keep-alive
            lines += [f"ping_interval_ms = {ms(30_000)}", f"pong_timeout_ms = {ms(10_000)}"]
            lines += [f"connect_timeout_ms = {ms(15_000)}", f"read_timeout_ms = {ms(50_000)}"]
            lines += [f"funding_poll_ms = {ms(10_000)}"]
    return "\n".join(lines) + "\n"


@dataclass
class ShadowRun:
    """One run; :meth:`make` makes it.

    Attributes:
        directory: Where the record, the report, ``faults.json``, ``truth.json`` and the system's log go.
        duration_s: How long.
        compress: By how much all limits are shortened, and the pauses between two faults with them.
        seed: Of the faults.
        stale_ms: Another limit of staleness than the shortened one; so long that the watchdog never cuts, for example.
        struck: How often each fault was injected, by venue.
        violations: Events that a consumer received and that were not true.
        compared: Books that were compared with the truth.
    """

    directory: Path
    duration_s: float
    compress: float = 1.0
    seed: int = 1
    stale_ms: float | None = None
    struck: dict[str, Counter[str]] = field(default_factory=lambda: {venue: Counter() for venue in VENUES})
    violations: list[str] = field(default_factory=list)
    compared: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    _peace: threading.Event = field(default_factory=threading.Event)

    def make(self, *, with_truth: bool = True) -> int:
        """Run it to its end; the exit code of ``shadow``, or 1 when a consumer trusted a wrong book."""
        with ExitStack() as stack:
            system = stack.enter_context(System(config=settings(self.compress, self.stale_ms)))
            system.wait_live()
            command = [sys.executable, "-m", "supervisor", "shadow", "--report", str(self.directory)]
            command += ["--run-dir", str(system.run_dir.path), "--compress", str(self.compress)]
            watcher = subprocess.Popen([*command, "--duration", f"{self.duration_s}s"], stdout=subprocess.DEVNULL)
            stack.callback(watcher.kill)
            checker = stack.enter_context(TruthChecker(system, poll_s=_TRUTH_EVERY_S)) if with_truth else None
            self._strike_until_the_end(system, watcher)
            code = watcher.wait(120)
            if checker is not None:
                self.violations = [str(one) for one in checker.violations]
                self.compared = sum(checker.compared.values())
            shutil.copy(system.path / "log", self.directory / "system.log")
        self._write()
        self.result = json.loads((self.directory / "report.json").read_text())
        return 1 if self.violations else code

    def stop(self) -> None:
        """End early; may be called from a signal handler."""
        self._peace.set()

    def _strike_until_the_end(self, system: System, watcher: subprocess.Popen[bytes]) -> None:
        ends_at = time.monotonic() + self.duration_s - _PEACE_S
        threads = [threading.Thread(target=self._strike, args=(system, venue)) for venue in VENUES]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() < ends_at and watcher.poll() is None and not self._peace.wait(0.5):
                pass
            if self._peace.is_set():
                watcher.send_signal(signal.SIGINT)
        finally:
            self._peace.set()
            for thread in threads:
                thread.join(60)

    def _strike(self, system: System, venue: str) -> None:
        """One fault after the other on a venue, whatever comes of it: each once before any comes again."""
        chance = random.Random(f"{self.seed}:{venue}")
        drills = {drill.name: drill for drill in drills_on(venue, without=_AS_SIGNALS)}
        every = 1 / self.compress
        limits = Conditions(stale_s=10 * every, ping_s=30 * every, pong_s=10 * every, connect_s=15 * every)
        target = DrillTarget.of(system.run_dir, limits)
        names: list[str] = []
        while not self._peace.wait(chance.uniform(*_PAUSE_S) * every):
            names = names or chance.sample([*SIGNALS, *drills], len(SIGNALS) + len(drills))
            name = names.pop()
            try:
                system.fault(venue, "clear")  # some faults have no end of their own
                if name in SIGNALS:
                    os.kill(system.pid(venue), SIGNALS[name])
                elif name in _LASTING:
                    system.fault(venue, name, **_LASTING[name])
                else:
                    target.inject(drills[name], venue)
            except (OSError, ParaphinaError, AssertionError):  # its worker is about to be replaced: the next one then
                name = "missed"
            self.struck[venue][name] += 1

    def _write(self) -> None:
        struck = {"seed": self.seed, "compress": self.compress, "faults": self.struck}
        (self.directory / "faults.json").write_text(json.dumps(struck, indent=1))
        truth = {"compared": self.compared, "violations": self.violations}
        (self.directory / "truth.json").write_text(json.dumps(truth, indent=1))


@click.command()
@click.option("--duration", type=Duration(), default="3h", show_default=True, help="How long: 90m, 3h.")
@click.option("--report", "directory", required=True, type=click.Path(path_type=Path), help="A directory of its own.")
@click.option("--compress", type=FiniteRange(min=1), default=1.0, show_default=True, help="Shorten all limits.")
@click.option("--seed", type=int, default=lambda: random.SystemRandom().randrange(1, 10**6), help="Of the faults.")
def main(duration: float, directory: Path, compress: float, seed: int) -> None:
    """Make a shadow run with random faults; exit code 1 when a criterion was missed or a wrong book was trusted."""
    directory.mkdir(parents=True, exist_ok=True)
    run = ShadowRun(directory, duration, compress, seed)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    code = run.make()
    faults = sum(sum(counts.values()) for counts in run.struck.values())
    click.echo((directory / "report.md").read_text())
    click.echo(f"{faults} faults (seed {seed}), {run.compared} comparisons, {len(run.violations)} violations")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
