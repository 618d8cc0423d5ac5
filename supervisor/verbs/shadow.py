"""``shadow`` and ``report``: watch a running system and judge the run."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipc.errors import UsageError
from ipc.printable import printable_lines
from supervisor.progress import progress
from supervisor.verbs.options import (
    FiniteRange,
    json_option,
    open_run_dir,
    print_json_text,
    require_running,
    run_dir_option,
)
from supervisor.verbs.start import Duration

if TYPE_CHECKING:
    from supervisor.shadow.page import JudgedRun


@click.command()
@click.option("--duration", type=Duration(), required=True, metavar="DURATION", help="How long: 90, 20m, 24h.")
@click.option("--report", "directory", required=True, metavar="DIR", help="Where the record and the report go.")
@click.option("--compress", type=FiniteRange(min=1), default=1.0, help="The system's limits are shortened by so much.")
@json_option
@run_dir_option
def shadow(duration: float, directory: str, compress: float, as_json: bool, run_dir: str | None) -> int:
    """Watch a running system and report on it; exit code 1 when a success criterion is missed.

    Writes report.html, report.md, report.json and states.svg to the directory of --report. An interrupted run is
    reported as far as it was recorded.
    """
    from supervisor.shadow.record import ShadowRecorder

    system = open_run_dir(run_dir)
    require_running(system)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    recorder = ShadowRecorder(system, Path(directory), compress)
    with progress("watching", duration) as advance:
        recorder.run(duration, lambda: bool(stopped), lambda done, states: advance(done, _in_words(states)))
    recorder.close()
    return _report(Path(directory), None, as_json=as_json)


def _in_words(states: dict[str, str]) -> str:
    """Return who is not live, and how many are: ``lighter: waits for its next start, 4 live``."""
    from supervisor.reporting.kinds import state_words

    live = [venue for venue, state in states.items() if state == "live"]
    others = [f"{venue}: {state_words(state)}" for venue, state in states.items() if state != "live"]
    return ", ".join([*others, f"{len(live)} live"])


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--compare", metavar="DIR", help="An earlier run to compare with.")
@json_option
def report(directory: str, compare: str | None, as_json: bool) -> int:
    """Judge the shadow run recorded in DIR; exit code 1 when a success criterion is missed.

    Writes report.html, report.md, report.json and states.svg to DIR, with --compare also comparison.html and
    comparison.md.
    """
    return _report(Path(directory), Path(compare) if compare else None, as_json=as_json)


def _judged(directory: Path, name: str = "", style: str = "now") -> JudgedRun:
    """Judge the run recorded in a directory.

    Raises:
        UsageError: It holds no run, or a run in another format.
    """
    from supervisor.shadow.judge import judge, read
    from supervisor.shadow.page import JudgedRun
    from supervisor.shadow.series import series_of

    try:
        run = read(directory)
        return JudgedRun(judge(run), series_of(run), name, style)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"its record is of another version, or was changed: {error!r}",
            where=str(directory),
            advice="use the program that recorded it",
        ) from error


def _report(directory: Path, earlier: Path | None, *, as_json: bool) -> int:
    import msgspec

    from supervisor.shadow.page import comparison_page, report_page
    from supervisor.shadow.render import compare_text, markdown, picture

    run = _judged(directory)
    result = run.result
    text = markdown(result)
    outputs: dict[str, str | bytes] = {
        "report.md": text,
        "report.html": report_page(run),
        "report.json": msgspec.json.format(msgspec.json.encode(result)),
        "states.svg": picture(result),
    }
    shown: Any = msgspec.json.encode(result).decode() if as_json else text
    if earlier is not None:
        before = _judged(earlier, "before", "past")
        shown = outputs["comparison.md"] = compare_text(before.result, result)
        outputs["comparison.html"] = comparison_page(before, replace(run, name="after"))
        if as_json:
            shown = msgspec.json.encode({"before": before.result, "after": result}).decode()
    for name, content in outputs.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if as_json:
        print_json_text(shown)
    else:
        click.echo(printable_lines(shown))
    return 0 if result["ok"] else 1
