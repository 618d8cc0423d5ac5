"""``record``: write a running system's feeds to a journal."""

from __future__ import annotations

import errno
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ipc.errors import NotRunningError, ParaphinaError, UsageError
from ipc.printable import joined_lines
from supervisor.progress import is_shown
from supervisor.verbs.completion import complete_venues
from supervisor.verbs.options import FiniteRange, json_option, open_run_dir, print_json_text, run_dir_option
from supervisor.verbs.start import Duration

if TYPE_CHECKING:
    from ipc.rundir import RunDir
    from supervisor.journal.record import Tally

_MB: Final = 1_000_000


@click.command()
@click.option("--out", required=True, metavar="DIR", help="Where the journal goes.")
@click.option("--raw", is_flag=True, help="Record the venues' own frames as well, as fixtures, into DIR/<venue>.")
@click.option("--for", "for_s", type=Duration(), metavar="DURATION", help="Stop after so long: 90, 5m, 2h.")
@click.option("--venues", metavar="A,B", help="Only these venues.", shell_complete=complete_venues)
@click.option("--rotate-mb", type=FiniteRange(0.01), default=256, show_default=True, help="Largest file, MB.")
@click.option("--rotate-every", type=Duration(), default="1h", show_default=True, help="Longest time in one file.")
@json_option
@run_dir_option
def record(
    out: str,
    raw: bool,
    for_s: float | None,
    venues: str | None,
    rotate_mb: float,
    rotate_every: float,
    as_json: bool,
    run_dir: str | None,
) -> int:
    """Record a running system's feeds into a journal: JSON lines, one event each, exactly as published.

    All venues of the system are recorded, also those that a reload adds. It may be started before the system and
    survives worker restarts; TERM and INT end it. Exit code 1 when events were lost, nothing came of a venue, or the
    disk is full; 3 when no system ran.
    """
    import msgspec

    from supervisor.journal.record import JournalRecorder
    from supervisor.journal.write import JournalLimits
    from supervisor.system import program_version

    directory = open_run_dir(run_dir)
    wanted = _wanted(venues, directory)
    _make(Path(out))
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    recorder = JournalRecorder(
        directory,
        Path(out),
        venues=wanted,
        raw=raw,
        limits=JournalLimits(int(rotate_mb * _MB), rotate_every),
        version=program_version(),
    )
    try:
        with _progress(for_s) as advance:
            recorder.run(for_s, lambda: bool(stopped), advance)
    finally:
        recorder.close()
    tally = recorder.tally
    if not sum(tally.events.values()):
        raise _nothing_came(directory, tally)
    if as_json:
        print_json_text(msgspec.json.encode(tally).decode())
    else:
        click.echo(_text(tally, out))
    return int(any(tally.lost.values()) or tally.malformed > 0 or bool(tally.silent))


def _nothing_came(directory: RunDir, tally: Tally) -> ParaphinaError:
    """Return the error of an empty recording, which depends on whether a system runs."""
    from supervisor.lock import holder_of

    if holder_of(directory.lock) is None:
        advice = "start a system with: paraphina-supervisor start"
        return NotRunningError("no event came", where=str(directory.path), advice=advice)
    what = f"a supervisor is running, but no event came of {', '.join(tally.silent) or 'its venues'}"
    return ParaphinaError(what, where=str(directory.path), advice="see why with: paraphina-supervisor status")


def _make(out: Path) -> None:
    """Create the target now, so that an unwritable place fails at once and not at the first event."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return  # the recorder reports it
        raise UsageError(
            f"cannot be written: {error.strerror}", where=str(out), advice="name a directory with --out"
        ) from error


def _wanted(venues: str | None, directory: RunDir) -> list[str] | None:
    """Return the requested venues, None for all; reject those that the running system, or else any system, lacks."""
    from ipc.topics import VENUES
    from supervisor.journal.coverage import running_venues

    if venues is None:
        return None
    running = running_venues(directory)
    known = VENUES if running is None else tuple(running)
    names = list(dict.fromkeys(name.strip() for name in venues.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"unknown venue {unknown[0]!r}" if unknown else "no venue named"
        where = "venues are" if running is None else "the system runs"
        raise UsageError(what, where="--venues", advice=f"{where} {', '.join(known)}")
    return names


def _text(tally: Tally, out: str) -> str:
    lines = [f"{_count(tally)}, in {out}"]
    for venue, events in sorted(tally.events.items()):
        raw = f"   raw {tally.raw[venue]:>10,}" if venue in tally.raw else ""
        lost = f"   LOST {tally.lost[venue]:,}" if tally.lost[venue] else ""
        lines.append(f"  {venue:<12} {events:>12,}{raw}{lost}")
    lines += [f"  {venue:<12} NOTHING CAME" for venue in tally.silent]
    if tally.left_out:
        lines.append(f"  not recorded, because of --venues: {', '.join(tally.left_out)}")
    if tally.malformed:
        lines.append(f"  {tally.malformed:,} messages were no events")
    if tally.raw:
        lines.append(f"play the raw frames with: ROADMAP_B_FIXTURE_DIR={out} paraphina-supervisor start")
    return joined_lines(lines)


def _count(tally: Tally) -> str:
    lost = sum(tally.lost.values())
    return (
        f"{sum(tally.events.values()):,} events, {lost:,} lost, {tally.size / _MB:,.1f} MB "
        f"in {tally.files} file{'s' * (tally.files != 1)}"
    )


@contextmanager
def _progress(duration_s: float | None) -> Iterator[Callable[[Tally], None]]:
    """Show a running count when standard error is a terminal."""
    if not is_shown():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task("waiting for the system", total=duration_s)

        def advance(tally: Tally) -> None:
            text = _count(tally) if tally.files else "waiting for the system"
            progress.update(task, description=text, completed=progress.tasks[0].elapsed or 0.0)

        yield advance
