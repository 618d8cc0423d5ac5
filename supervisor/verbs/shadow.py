"""``shadow`` and ``report``: watch a running system and judge the run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ipc.errors import UsageError
from ipc.printable import printable_lines
from supervisor.verbs.options import (
    FiniteRange,
    json_option,
    open_run_dir,
    print_json_text,
    require_running,
    run_dir_option,
)
from supervisor.verbs.start import Duration


@click.command()
@click.option("--duration", type=Duration(), required=True, metavar="DURATION", help="How long: 90, 20m, 24h.")
@click.option("--report", "directory", required=True, metavar="DIR", help="Where the record and the report go.")
@click.option("--compress", type=FiniteRange(min=1), default=1.0, help="The system's limits are shortened by so much.")
@json_option
@run_dir_option
def shadow(duration: float, directory: str, compress: float, as_json: bool, run_dir: str | None) -> int:
    """Watch a running system and report on it; exit code 1 when a success criterion is missed.

    An interrupted run is reported as far as it was recorded.
    """
    from supervisor.shadow.record import ShadowRecorder

    system = open_run_dir(run_dir)
    require_running(system)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    recorder = ShadowRecorder(system, Path(directory), compress)
    with _progress(duration) as advance:
        recorder.run(duration, lambda: bool(stopped), advance)
    recorder.close()
    return _report(Path(directory), None, as_json=as_json)


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--compare", metavar="DIR", help="An earlier run to compare with.")
@json_option
def report(directory: str, compare: str | None, as_json: bool) -> int:
    """Judge the shadow run recorded in DIR; exit code 1 when a success criterion is missed."""
    return _report(Path(directory), Path(compare) if compare else None, as_json=as_json)


def _judged(directory: Path) -> dict[str, Any]:
    """Judge the run recorded in a directory.

    Raises:
        UsageError: It holds no run, or a run in another format.
    """
    from supervisor.shadow.judge import judge, read

    try:
        return judge(read(directory))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"its record is of another version, or was changed: {error!r}",
            where=str(directory),
            advice="use the program that recorded it",
        ) from error


def _report(directory: Path, earlier: Path | None, *, as_json: bool) -> int:
    import msgspec

    from supervisor.shadow.render import compare_text, markdown, picture

    result = _judged(directory)
    text = markdown(result)
    outputs: dict[str, str | bytes] = {
        "report.md": text,
        "report.json": msgspec.json.format(msgspec.json.encode(result)),
        "states.svg": picture(result),
    }
    shown: Any = msgspec.json.encode(result).decode() if as_json else text
    if earlier is not None:
        before = _judged(earlier)
        shown = compare_text(before, result)
        outputs["comparison.md"] = shown
        if as_json:
            shown = msgspec.json.encode({"before": before, "after": result}).decode()
    for name, content in outputs.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if as_json:
        print_json_text(shown)
    else:
        click.echo(printable_lines(shown))
    return 0 if result["ok"] else 1


@contextmanager
def _progress(duration_s: float) -> Iterator[Callable[[float], None]]:
    """Show a progress bar when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("shadow run"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("shadow", total=duration_s)
        yield lambda done: progress.update(task, completed=done)
