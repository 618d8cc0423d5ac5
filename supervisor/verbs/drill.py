"""``drill``: inject faults, measure recovery, print the table."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipc.errors import UsageError
from ipc.printable import joined_lines, printable_json
from supervisor.progress import progress
from supervisor.verbs.completion import complete_venues
from supervisor.verbs.options import (
    end_as_interrupted,
    json_option,
    make_report_dir,
    open_run_dir,
    print_json,
    require_running,
)

if TYPE_CHECKING:
    from ipc.rundir import RunDir
    from supervisor.drill.catalogue import Drill
    from supervisor.drill.environment import DrillEnvironment
    from supervisor.drill.measure import Attempt, DrillTarget

_REDRAW_S: Final = 0.5


@click.command()
@click.argument("faults", nargs=-1, metavar="[FAULT]...")
@click.option("--all", "is_all", is_flag=True, help="Every fault, on every venue.")
@click.option("--list", "is_list", is_flag=True, help="Say which faults there are, and do nothing.")
@click.option("--venues", metavar="A,B", help="Only these venues.", shell_complete=complete_venues)
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="How often each.")
@click.option("--immediate", is_flag=True, help="Start the system to drill with first_restart = immediate.")
@click.option("--report", "report", metavar="DIR", help="Where drill.html, drill.md and drill.json go.")
@click.option("--run-dir", metavar="DIR", help="Drill the system that runs here, in place of one made for the purpose.")
@click.option("--live", is_flag=True, help="Yes, also when the system that runs there is connected to live venues.")
@json_option
def drill(
    faults: tuple[str, ...],
    is_all: bool,
    is_list: bool,
    venues: str | None,
    rounds: int,
    immediate: bool,
    report: str | None,
    run_dir: str | None,
    live: bool,
    as_json: bool,
) -> int:
    """Inject faults and measure how the system recovers; exit code 1 when a limit is missed.

    Without --run-dir, a simulated system with shortened limits is started. Kills go through the control socket and do
    not count towards backoff.
    """
    from supervisor.drill.catalogue import DRILLS, PARENT

    if is_list:
        _list(as_json=as_json)
        return 0
    names = [*DRILLS, PARENT] if is_all else list(faults)
    if not names:
        raise UsageError("no fault named", advice="name some, or take --all; --list shows what there is")
    unknown = [name for name in names if name not in DRILLS and name != PARENT]
    if unknown:
        raise UsageError(f"no fault {unknown[0]!r}", advice=f"there are {', '.join([*DRILLS, PARENT])}")
    directory = None if report is None else make_report_dir(report)
    started = time.time()
    with _open_target(run_dir, venues, immediate=immediate, live=live) as (target, markets, training):
        chosen = [DRILLS[name] for name in names if name in DRILLS]
        rows = _drill_venues(target, markets, chosen, rounds)
        if PARENT in names:
            rows.append(_drill_parent(training, rounds))
    if directory is not None:
        _write_report(directory, rows, started, rounds, target)
    if as_json:
        print_json(rows)
    else:
        click.echo(_table(rows))
    return int(any(row["result"] == "missed" for row in rows))


def _write_report(
    directory: Path, rows: list[dict[str, Any]], started: float, rounds: int, target: DrillTarget
) -> None:
    """Write the results as a page, as Markdown and as JSON."""
    from supervisor.drill.page import DrillRun, markdown, report_page
    from supervisor.system import program_version

    run = DrillRun(rows, started, time.time() - started, rounds, program_version(), target.conditions)
    texts = {
        "drill.html": report_page(run),
        "drill.md": markdown(run),
        "drill.json": printable_json(json.dumps(rows)) + "\n",
    }
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")


def _list(*, as_json: bool) -> None:
    """Print the drills."""
    from supervisor.drill.catalogue import DRILLS, PARENT

    rows = [{"fault": one.name, "kind": one.kind, "effect": one.effect, "text": one.text} for one in DRILLS.values()]
    rows.append({"fault": PARENT, "kind": "process", "effect": "restart", "text": "SIGKILL to the parent itself"})
    if as_json:
        print_json(rows)
    else:
        click.echo("\n".join(f"{one['fault']:<19} {one['kind']:<8} {one['effect']:<10} {one['text']}" for one in rows))


@contextmanager
def _open_target(
    run_dir: str | None, venues: str | None, *, immediate: bool, live: bool
) -> Iterator[tuple[DrillTarget, dict[str, list[str]], DrillEnvironment | None]]:
    """Open the system to drill; return it, its symbols by venue, and the environment started for it, if any."""
    from ipc.control import ControlRequest, ask
    from supervisor.drill.environment import DrillEnvironment
    from supervisor.drill.measure import DrillTarget
    from supervisor.status.document import refuse_stalled, symbols_of
    from workers.venues import VENUES

    wanted = [name.strip() for name in venues.split(",")] if venues else list(VENUES)
    unknown = [name for name in wanted if name not in VENUES]
    if unknown:
        raise UsageError(f"unknown venue {unknown[0]!r}", where="--venues", advice=f"venues are {', '.join(VENUES)}")
    if run_dir is None:
        end_as_interrupted()
        with DrillEnvironment(wanted, "immediate" if immediate else "backoff") as training:
            yield training.target(), symbols_of(training.run_dir), training
        return
    directory = open_run_dir(run_dir)
    if directory.describe().get("simulator") is None and not live:
        raise UsageError("this system is connected to live venues", where=run_dir, advice="say --live if you mean it")
    require_running(directory)
    refuse_stalled(directory)
    ask(directory.control, ControlRequest("ping"))  # another user's is refused before anything begins
    there = symbols_of(directory)
    absent = [name for name in wanted if venues and name not in there]
    if absent:
        raise UsageError(f"no venue {absent[0]!r} here", where="--venues", advice=f"there are {', '.join(there)}")
    stopped = _stopped(directory)
    named = [name for name in wanted if venues and name in stopped]
    if named:
        advice = f"start it with: paraphina-supervisor start {named[0]}"
        raise UsageError(f"{named[0]} is stopped, and cannot be drilled", where="--venues", advice=advice)
    chosen = {name: of for name, of in there.items() if name in wanted and name not in stopped}
    yield DrillTarget.of(directory, _conditions(directory)), chosen, None


def _stopped(directory: RunDir) -> set[str]:
    """Return the venues that an operator stopped."""
    from supervisor.status.document import read_status

    return {name for name, venue in read_status(directory)["venues"].items() if venue["stopped"] is not None}


def _conditions(directory: Any) -> Any:
    """Read a running system's limits from its board."""
    from supervisor.drill.catalogue import Conditions
    from supervisor.status.document import read_status

    limits = [venue["streams"]["book"]["limit_ms"] or 10_000 for venue in read_status(directory)["venues"].values()]
    return Conditions(stale_s=max(limits, default=10_000) / 1000)


def _drill_venues(
    target: DrillTarget, markets: dict[str, list[str]], drills: list[Drill], rounds: int
) -> list[dict[str, Any]]:
    """Run every drill on every venue: sequentially within a venue, venues in parallel."""
    current: dict[str, str] = {}
    done = 0
    lock = threading.Lock()

    def run(venue: str) -> list[dict[str, Any]]:
        nonlocal done
        rows = []
        for one in drills:
            current[venue] = one.name
            rows.append(_drill_one(target, one, venue, markets[venue], rounds))
            with lock:
                done += 1
        current.pop(venue, None)
        return rows

    with (
        progress("drilling", len(drills) * len(markets), is_counted=True) as advance,
        ThreadPoolExecutor(max_workers=len(markets) or 1) as pool,
    ):
        futures = [pool.submit(run, venue) for venue in markets]
        while wait(futures, _REDRAW_S).not_done:
            advance(done, "  ".join(f"{venue}: {name}" for venue, name in current.copy().items()))
        return [row for future in futures for row in future.result()]


def _drill_one(target: DrillTarget, one: Drill, venue: str, symbols: list[str], rounds: int) -> dict[str, Any]:
    from supervisor.drill.measure import attempt

    limit_ms = round(one.limit_s(target.conditions) * 1000)
    hindrance = target.hinders(one, venue)
    if hindrance is not None:
        return _row(venue, one.name, [], limit_ms, hindrance)
    return _row(venue, one.name, [attempt(target, one, venue, symbols) for _ in range(rounds)], limit_ms)


def _drill_parent(training: DrillEnvironment | None, rounds: int) -> dict[str, Any]:
    from supervisor.drill.catalogue import PARENT
    from supervisor.drill.page import ALL

    if training is None:
        return _row(ALL, PARENT, [], 0, "not done to a system that is not ours")
    return _row(ALL, PARENT, [training.kill_parent() for _ in range(rounds)], 15_000)


def _row(venue: str, fault: str, attempts: list[Attempt], limit_ms: int, note: str = "") -> dict[str, Any]:
    missed = [one for one in attempts if one.result == "missed"]
    fresh = sorted(one.fresh_ms for one in attempts if one.fresh_ms is not None)
    return {
        "venue": venue,
        "fault": fault,
        "n": len(attempts),
        "detected_ms": _median([one.detected_ms for one in attempts]),
        "recovered_ms": _median([one.recovered_ms for one in attempts]),
        "fresh_ms": {"p50": _quantile(fresh, 0.5), "p99": _quantile(fresh, 0.99)},
        "limit_ms": limit_ms,
        "result": "skipped" if not attempts else "missed" if missed else "ok",
        "reason": next((one.reason for one in attempts if one.reason is not None), None),
        "note": note or (missed or attempts)[0].note,
    }


def _median(values: list[float | None]) -> float | None:
    return _quantile(sorted(value for value in values if value is not None), 0.5)


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _table(rows: list[dict[str, Any]]) -> str:
    numbers = f"{'detected':>9} {'recovered':>10} {'fresh p50':>10} {'p99':>8} {'limit':>7}"
    lines = [f"{'venue':<12} {'fault':<19} {'n':>3} {numbers}  {'result':<8} {'reason':<16} (ms from the fault)"]
    for row in rows:
        shown = [row["detected_ms"], row["recovered_ms"], row["fresh_ms"]["p50"], row["fresh_ms"]["p99"]]
        detected, recovered, p50, p99 = ("-" if value is None else f"{value:.0f}" for value in shown)
        line = (
            f"{row['venue']:<12} {row['fault']:<19} {row['n']:>3} {detected:>9} {recovered:>10} {p50:>10} {p99:>8} "
            f"{row['limit_ms']:>7}  {row['result']:<8} {row['reason'] or '-':<16} {row['note']}"
        )
        lines.append(line.rstrip())
    return joined_lines(lines)
