"""``fixture``: recordings of raw frames, played instead of a live venue."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipc.errors import UsageError
from ipc.printable import joined_lines, printable_values
from supervisor.verbs.options import json_option, print_json

if TYPE_CHECKING:
    from supervisor.journal.blackbox import RawRecording

_NS: Final = 1_000_000_000


@click.group()
def fixture() -> None:
    """Manage recordings of raw frames, which a worker can play instead of connecting to its venue.

    A worker plays the directory that <V>_FIXTURE_DIR names (HL, ASTER, EXTENDED, LIGHTER, PARADEX), or the venue's
    part of ROADMAP_B_FIXTURE_DIR.
    """


@fixture.command("from-blackbox")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Where the fixture goes.")
@click.option(
    "--scenario",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Make a scenario of it instead, without private values.",
)
@json_option
def from_blackbox(path: Path, out: Path | None, scenario: Path | None, as_json: bool) -> int:
    """Convert a saved black box into a fixture in DIR/<venue>, or into a scenario.

    A scenario is one file that can be attached to a bug report: connection addresses are removed, and credentials,
    signatures, listen keys and account ids are replaced by placeholders. FILE may also be a raw recording of one venue.
    """
    if (out is None) is (scenario is None):
        raise UsageError("say either where", where="--out, --scenario", advice="--out DIR, or --scenario FILE")
    if scenario is not None:
        return _to_scenario(path, scenario, as_json=as_json)
    from supervisor.journal.blackbox import read_blackbox, write_fixture

    recording = read_blackbox(path)
    directory = write_fixture(recording, Path(str(out)))
    venue = recording.header.venue
    if as_json:
        print_json({"venue": venue, "records": len(recording.records), "fixture": str(directory)})
        return 0
    click.echo(
        joined_lines(
            [
                f"{len(recording.records):,} records of {venue} in {directory}; play them with",
                f"  {_variable(venue)}={directory} paraphina-supervisor start --venues {venue}",
            ]
        )
    )
    return 0


def _to_scenario(path: Path, out: Path, *, as_json: bool) -> int:
    import os

    from supervisor.journal.blackbox import read_recordings
    from supervisor.scenario.recorded import scenario_of

    recordings = read_recordings(path)
    if len(recordings) > 1:
        raise UsageError("recordings of several venues", where=str(path), advice="a scenario is of one; name its file")
    text = scenario_of(recordings[0], os.environ)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError("there is a file already", where=str(out), advice="name another") from None
    if as_json:
        print_json({"venue": recordings[0].header.venue, "records": len(recordings[0].records), "scenario": str(out)})
        return 0
    click.echo(
        joined_lines(
            [
                f"{len(recordings[0].records):,} records of {recordings[0].header.venue} in {out}; play them with",
                f"  paraphina-supervisor scenario {out}",
                "Look through it before you show it to others.",
            ]
        )
    )
    return 0


@fixture.command()
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@json_option
def info(path: Path, as_json: bool) -> int:
    """Describe a black box, a raw recording or a directory of them, and the events that playing it produces.

    Exit code 1 when a recording cannot be played.
    """
    from supervisor.journal.blackbox import read_recordings

    described = [_describe(recording) for recording in read_recordings(path)]
    if as_json:
        print_json(described)
    else:
        click.echo("\n".join(map(_text, printable_values(described))))
    return int(any(one["problem"] is not None for one in described))


def _variable(venue: str) -> str:
    from workers.venues import VENUES

    return f"{VENUES[venue].env}_FIXTURE_DIR"


def _describe(recording: RawRecording) -> dict[str, Any]:
    header, records = recording.header, recording.records
    described: dict[str, Any] = {
        "venue": header.venue,
        "reason": header.reason,
        "created_wall_ns": header.created_wall_ns,
        "markets": [f"{row['base']}-PERP" for row in header.listings],
        "sessions": sorted({record.session for record in records}),
        "records": dict(Counter(record.kind for record in records)),
        "bad_lines": recording.bad,
        "first_wall_ns": records[0].wall_ns if records else None,
        "last_wall_ns": records[-1].wall_ns if records else None,
    }
    return {**described, **_played(recording)}


def _played(recording: RawRecording) -> dict[str, Any]:
    """Play a recording; count events by channel, and snapshots, deltas and gaps per book."""
    from ipc.events import BookDelta, BookSnapshot, Gap
    from ipc.topics import Topic
    from supervisor.journal.offline_decode import offline_decode

    try:
        said = [(Topic.parse(name), event) for name, event in offline_decode(recording)]
    except UsageError as error:
        return {"events": {}, "books": {}, "problem": error.what}
    books = {
        f"{row['base']}-PERP": dict.fromkeys(("snapshots", "deltas", "gaps"), 0) for row in recording.header.listings
    }
    counted = {BookSnapshot: "snapshots", BookDelta: "deltas", Gap: "gaps"}
    for topic, event in said:
        if topic.channel == "book" and type(event) in counted:
            books[topic.symbol][counted[type(event)]] += 1
    return {"events": dict(Counter(topic.channel for topic, _ in said)), "books": books, "problem": None}


def _text(one: dict[str, Any]) -> str:
    made = f", made {_clock(one['created_wall_ns'])}" if one["created_wall_ns"] else ""
    lines = [f"{one['venue']} ({one['reason']}{made}): {', '.join(one['markets'])}"]
    if one["first_wall_ns"] is not None:
        seconds = (one["last_wall_ns"] - one["first_wall_ns"]) / _NS
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(one["records"].items()))
        lines.append(
            f"  {_clock(one['first_wall_ns'])}, {seconds:,.1f} s, sessions {', '.join(one['sessions'])}: {kinds}"
        )
    if one["bad_lines"]:
        lines.append(f"  bad lines left out: {one['bad_lines']:,}")
    if one["problem"] is not None:
        return "\n".join([*lines, f"  NOT PLAYABLE: {one['problem']}"])
    events = ", ".join(f"{count:,} {channel}" for channel, count in sorted(one["events"].items()))
    lines.append(f"  played, it gives {events or 'no event'}")
    for symbol, book in one["books"].items():
        counts = ", ".join(f"{count:,} {what if count != 1 else what[:-1]}" for what, count in book.items())
        lines.append(f"  {symbol} book: {counts if book['snapshots'] else 'no snapshot in this recording'}")
    return "\n".join(lines)


def _clock(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(wall_ns // _NS))
