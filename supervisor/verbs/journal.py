"""``verify``, ``convert`` and ``replay``: check, export and publish recordings."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipc.errors import UsageError
from ipc.printable import joined_lines, printable
from supervisor.journal.verdict import recording_lines, verdict
from supervisor.progress import progress
from supervisor.verbs.options import end_as_interrupted, json_option, print_json

if TYPE_CHECKING:
    from supervisor.journal.findings import TopicReport, VerifyReport

_MB: Final = 1_000_000
#: Findings shown per kind.
_SHOWN: Final = 10


class Speed(click.ParamType[float]):
    """Replay speed as a factor, or ``max``."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the factor; infinity for ``max``."""
        try:
            factor = math.inf if value == "max" else float(value)
        except ValueError:
            factor = 0.0
        if not factor > 0:
            self.fail(f"{value!r} is no speed; write 1, 0.5, 10 or max", param, ctx)
        return factor


@click.command()
@click.argument("path", metavar="FILE|DIR", type=click.Path(exists=True, path_type=Path))
@json_option
def verify(path: Path, as_json: bool) -> int:
    """Check that the recordings in FILE or below DIR are complete and correct.

    Events: sequence, epochs, time, books and their checksums, and whether every venue and channel is present, from the
    start to the end of the recording. Raw frames: lines and time.

    Exit codes: 0 what was recorded is right, and the last line says whether it is all; 1 a problem, nothing recorded,
    or a recording that broke off; 2 not a recording.
    """
    from supervisor.journal import verify as journal

    with progress("verifying") as advance:
        report = journal.verify(path, lambda done: advance(done, ""))
    if as_json:
        print_json(report.to_builtins())
    else:
        click.echo(_text(report))
    return report.exit_code


@click.command()
@click.argument("source", metavar="FILE|DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "kind", type=click.Choice(["parquet"]), required=True, help="The format to convert to.")
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="The directory to make.")
@json_option
def convert(source: Path, kind: str, out: Path, as_json: bool) -> int:  # noqa: ARG001 - there is only one format
    """Convert a journal into Parquet files, partitioned by date, venue and channel.

    DIR appears only when complete. Exit code 1 when lines were skipped.
    """
    from supervisor.journal import parquet

    end_as_interrupted()
    with progress("converting") as advance:
        done = parquet.convert(source, out, lambda done: advance(done, ""))
    if as_json:
        counts = {"events": done.events, "files": done.files, "left_out": done.unknown, "bad_lines": done.bad}
        print_json({"out": str(out), **counts})
        return int(done.bad > 0)
    click.echo(printable(f"{done.events:,} events in {done.files} files, in {out}"))
    if done.unknown:
        click.echo(f"events of a newer schema left out: {done.unknown:,}", err=True)
    if done.bad:
        click.echo(printable(f"bad lines left out: {done.bad:,}; see: verify {source}"), err=True)
    return int(done.bad > 0)


@click.command()
@click.argument("source", metavar="FILE|DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--run-dir", required=True, metavar="DIR", help="Where the feeds are bound; no system may run there.")
@click.option("--speed", type=Speed(), default="1", show_default=True, help="Times as fast as recorded, or max.")
@json_option
def replay(source: Path, run_dir: str, speed: float, as_json: bool) -> int:
    """Publish a journal again on the same topics, in a separate run directory; every event is flagged `replay`.

    Consumers work as with a live system. TERM and INT end the replay. Exit code 1 when lines were skipped.
    """
    from supervisor.process_state import reset_process_state

    reset_process_state()
    from ipc.rundir import RunDir
    from ipc.start_directory import absolute
    from supervisor.journal.read import EventFile, find
    from supervisor.journal.replay import Replay
    from supervisor.system import program_version

    files = [file for file in find(source) if isinstance(file, EventFile)]
    if not files:
        advice = "play raw frames as a fixture, see: paraphina-supervisor fixture info"
        raise UsageError("raw frames only", where=str(source), advice=advice)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    performance = Replay(files, RunDir(Path(absolute(run_dir))), speed, program_version())
    if not as_json:
        click.echo(printable(f"replaying in {run_dir}; consumers take the same --run-dir"))
    try:
        with progress("replaying") as advance:
            performance.run(lambda: bool(stopped), lambda done: advance(done, ""))
    finally:
        performance.close()
    if as_json:
        counts = {"events": performance.published, "drops": performance.drops, "bad_lines": performance.bad}
        print_json({"run_dir": run_dir, **counts})
        return int(performance.bad > 0)
    click.echo(f"{performance.published:,} events, {performance.drops:,} times a subscriber was too far behind")
    if performance.bad:
        click.echo(printable(f"bad lines left out: {performance.bad:,}; see: verify {source}"), err=True)
    return int(performance.bad > 0)


def _text(report: VerifyReport) -> str:
    """Format the report as text: contents first, then problems."""
    lines = [f"{report.files} file{'s' * (report.files != 1)}, {report.size / _MB:,.1f} MB, {report.lines:,} lines"]
    for venue, topics in sorted(report.topics.items()):
        lines.append(_venue(venue, topics))
    shown: dict[str, int] = {}
    for finding in (*report.notes, *report.problems):
        shown[finding.kind] = shown.get(finding.kind, 0) + 1
        if shown[finding.kind] <= _SHOWN:
            lines.append(str(finding))
        elif shown[finding.kind] == _SHOWN + 1:
            lines.append(f"… {report.counts[finding.kind] - _SHOWN:,} more of {finding.kind}")
    lines += [text for stamp, of in sorted(report.recordings.items()) for text in recording_lines(stamp, of)]
    lines.append(verdict(report))
    return joined_lines(lines)


def _venue(venue: str, topics: dict[str, TopicReport]) -> str:
    """Format one venue's counts; raw frames are listed separately."""
    of_events = [topic for name, topic in topics.items() if name != "raw"]
    parts = [f"  {venue:<12}"]
    if of_events:
        count = f"{len(of_events)} topic{'s' * (len(of_events) != 1)}"
        parts.append(f"{sum(topic.events for topic in of_events):>12,} events in {count}")
    if "raw" in topics:
        parts.append(f"{topics['raw'].events:>12,} raw")
    lost = sum(topic.lost for topic in of_events)
    if lost:
        parts.append(f"LOST {lost:,}")
    return "  ".join(parts)
