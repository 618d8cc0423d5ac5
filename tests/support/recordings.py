"""Recorders of systems under test, and what stands in their journals."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

import msgspec
from systems import wait_for

from ipc.codec import decode
from ipc.events import BookSnapshot, Event, Gap, Heartbeat
from ipc.rundir import RunDir
from supervisor.journal.format import topic_of
from supervisor.journal.read import EventFile, Lines, find

__all__ = ["REMADE", "TIMES", "Recorder", "essence", "journal", "story"]

#: What differs between a system and its replay, or between two plays: the publisher's life, and what it sends when.
REMADE = frozenset({"epoch", "seq", "publish_ns", "flags"})
#: The times of receipt, which are those of the play.
TIMES = frozenset({"recv_ns", "recv_mono_ns"})


class Recorder:
    """``record`` in a process of its own; a context manager that ends it as an operator would.

    Args:
        run_dir: Of the system.
        out: Where the journal goes.
        arguments: More of them.
    """

    def __init__(self, run_dir: RunDir, out: Path, *arguments: str) -> None:
        self.out = out
        command = [sys.executable, "-m", "supervisor", "record", "--out", str(out), "--run-dir", str(run_dir.path)]
        self.process = subprocess.Popen(
            [*command, "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.code: int | None = None
        self.tally: dict[str, Any] = {}
        self.errors = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code, its ``tally`` and its ``errors``."""
        if self.code is None:
            self.process.send_signal(number)
            out, self.errors = self.process.communicate(timeout=30)
            self.code = self.process.returncode
            self.tally = msgspec.json.decode(out) if out else {}
        return self.code

    def wait_for_events(self) -> None:
        """Until something stands in the journal."""
        wait_for(lambda: any(path.stat().st_size > 10_000 for path in self.out.glob("events-*")), what="a journal")


def journal(out: Path) -> dict[str, list[Event]]:
    """The events of a journal by topic, but for heartbeats and refreshes, which nobody's history consists of."""
    topics: dict[str, list[Event]] = defaultdict(list)
    for file in find(out):
        if not isinstance(file, EventFile):
            continue
        lines = Lines(file.path)
        for line in lines:
            event = decode(line) if lines.number > 1 else None
            if event is not None and not isinstance(event, Heartbeat) and "refresh" not in event.flags:
                topics[topic_of(line)].append(event)
    return dict(topics)


def essence(event: Event, without: frozenset[str] = REMADE) -> dict[str, Any]:
    """An event without what is made anew each time it is said."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if name not in without}


def story(topics: dict[str, list[Event]], venue: str) -> dict[str, list[tuple[str, str]]]:
    """What became of a venue's books: gaps with their reasons, snapshots with their causes.

    Books that REST shows while a connection is away are left out: they are of no connection, and so of no recording.
    """
    told: dict[str, list[tuple[str, str]]] = {}
    for name, events in topics.items():
        if not name.startswith((f"book.{venue}.", f"book20.{venue}.")):
            continue
        told[name] = [
            ("gap", str(event.reason)) if isinstance(event, Gap) else ("snapshot", event.cause)
            for event in events
            if isinstance(event, Gap | BookSnapshot) and "rest" not in event.flags
        ]
    return told
