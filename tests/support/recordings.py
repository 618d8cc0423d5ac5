"""Recorders of systems under test, and what stands in their journals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Self

import msgspec
import zmq
from systems import VENUES, wait_for

from ipc.codec import decode
from ipc.events import BookSnapshot, Event, Gap, Heartbeat
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import RunDir
from ipc.topics import CHANNELS, Topic
from supervisor.journal.format import topic_of
from supervisor.journal.read import EventFile, Lines, find

__all__ = ["REMADE", "TIMES", "Loudspeakers", "Recorder", "essence", "journal", "story"]

#: What differs between a system and its replay, or between two plays: the publisher's life, and what it sends when.
REMADE = frozenset({"epoch", "seq", "publish_ns", "flags"})
#: The times of receipt, which are those of the play.
TIMES = frozenset({"recv_ns", "recv_mono_ns"})


class Recorder:
    """``record`` in a process of its own; a context manager that ends it as an operator would.

    Args:
        run_dir: Of the system.
        out: Where the journal goes; a directory that is not there yet, unless the system is.
        arguments: More of them.
    """

    def __init__(self, run_dir: RunDir, out: Path, *arguments: str) -> None:
        self.out = out
        self._run_dir = run_dir
        command = [sys.executable, "-m", "supervisor", "record", "--out", str(out), "--run-dir", str(run_dir.path)]
        self.process = subprocess.Popen(
            [*command, "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.code: int | None = None
        self.tally: dict[str, Any] = {}
        self.errors = ""

    def __enter__(self) -> Self:
        """Wait until it listens: it makes its directory just before."""
        wait_for(lambda: self.out.exists() or self.process.poll() is not None, what="a recorder")
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
        """Until something of everything stands in the journal, two heartbeats of each venue among it: a second."""
        venues = self._run_dir.describe()["venues"]

        def has_everything() -> bool:
            written = b"".join(path.read_bytes() for path in self.out.glob("events-*"))
            return all(written.count(f'"heartbeat.{venue}"'.encode()) >= 2 for venue in venues)

        wait_for(has_everything, 60, 0.1, f"a journal of {', '.join(venues)}")


class Loudspeakers:
    """Publishers of all venues that repeat the events of a journal, at the requested rate.

    Args:
        run_dir: Where their feeds are.
        topics: The events by topic.
    """

    def __init__(self, run_dir: RunDir, topics: dict[str, list[Event]]) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._publishers = {venue: Publisher(self._context, run_dir.feed(venue), time.time_ns()) for venue in VENUES}
        self._scripts = {
            venue: cycle(self._script(publisher, [(n, e) for n, of in topics.items() for e in of if e.venue == venue]))
            for venue, publisher in self._publishers.items()
        }

    @staticmethod
    def _script(publisher: Publisher, events: list[tuple[str, Event]]) -> list[tuple[TopicFeed, Event]]:
        said = [(Topic.parse(name), event) for name, event in events if not name.startswith("lifecycle.")]
        said.sort(key=lambda one: one[1].recv_mono_ns)
        return [(publisher.topic(topic), event) for topic, event in said]

    def __enter__(self) -> Self:
        """Wait until somebody listens to every channel, so that what follows is heard from its beginning."""
        wait_for(lambda: all(map(self._is_heard, self._publishers.values())), 60, what="a consumer of every venue")
        return self

    @staticmethod
    def _is_heard(publisher: Publisher) -> bool:
        with publisher.exclusive():  # applies what was subscribed
            return publisher.subscriptions >= len(CHANNELS)

    def __exit__(self, *_: object) -> None:
        for publisher in self._publishers.values():
            publisher.close()
        self._context.term()

    def play(self, rate: int, seconds: float, every_s: float = 0.01) -> None:
        """Say so many events a second on each venue, in bursts."""
        began = time.monotonic()
        for burst in range(int(seconds / every_s)):
            for venue, publisher in self._publishers.items():
                with publisher.exclusive():
                    for feed, event in islice(self._scripts[venue], int(rate * every_s)):
                        publisher.send(feed, event)
            time.sleep(max(0.0, began + (burst + 1) * every_s - time.monotonic()))


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
    """Event without the fields that are set again each time it is published."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if name not in without}


def story(topics: dict[str, list[Event]], venue: str) -> dict[str, list[tuple[str, str]]]:
    """What became of a venue's books: gaps with their reasons, snapshots with their causes.

    Books that REST shows while a connection is away are left out: they are of no connection, and so of no recording.
    """
    reported: dict[str, list[tuple[str, str]]] = {}
    for name, events in topics.items():
        if not name.startswith((f"book.{venue}.", f"book20.{venue}.")):
            continue
        reported[name] = [
            ("gap", str(event.reason)) if isinstance(event, Gap) else ("snapshot", event.cause)
            for event in events
            if isinstance(event, Gap | BookSnapshot) and "rest" not in event.flags
        ]
    return reported
