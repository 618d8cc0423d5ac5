"""``scenario``: play a file of frames, REST answers, silence and time, without a system or a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipc.printable import joined_lines, printable
from supervisor.verbs.options import json_option, print_json

if TYPE_CHECKING:
    from supervisor.scenario.player import Played


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--expect", "is_test", is_flag=True, help="Compare with the files' expectations; print what was missed.")
@json_option
def scenario(files: tuple[Path, ...], is_test: bool, as_json: bool) -> int:
    """Play scenario files; print what a consumer would see and what would be sent to the venue.

    A scenario is a JSON file of what happens to one venue's connections: frames, REST answers, silence and time
    (docs/scenarios.md). It is played through the session, books, account ledger and consumer code of a running system,
    on a simulated clock: nothing connects, and an hour takes a moment.

    `fixture from-blackbox --scenario` makes a scenario from a black box.

    Exit codes: 0 all expectations met, or none given; 1 an expectation was missed; 2 not a scenario (names the step and
    the remedy).
    """
    from supervisor.scenario.form import load
    from supervisor.scenario.player import play

    loaded = [(str(path), load(path)) for path in files]
    missed = 0
    for path, one in loaded:
        played = play(one, path)
        missed += len(played.missed)
        _print(path, played, is_test=is_test, as_json=as_json, is_alone=len(loaded) == 1)
    return int(is_test and missed > 0)


def _print(path: str, played: Played, *, is_test: bool, as_json: bool, is_alone: bool) -> None:
    from supervisor.scenario.text import text_of

    if as_json:
        for line in played.lines:
            print_json({"file": path, **line})
        if is_test:
            print_json({"file": path, "ok": not played.missed, "missed": played.missed})
        return
    if is_test:
        head = f"{path}: {'as expected' if not played.missed else f'{len(played.missed)} missed'}"
        click.echo(joined_lines([head, *(f"  {text}" for text in played.missed)]))
        return
    if not is_alone:
        click.echo(printable(f"{path}:"))
    for line in played.lines:
        click.echo(printable(text_of(line)))
