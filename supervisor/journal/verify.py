"""Verification of recordings: finding the files, distributing the work over processes, merging the reports.

Venues are independent, so a large journal is read by several processes, each of which checks some venues and skips the
others.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.journal.checks import EventsCheck, RawCheck
from supervisor.journal.completeness import cover
from supervisor.journal.coverage import read_summary
from supervisor.journal.findings import VerifyReport, merge
from supervisor.journal.format import publisher_of, topic_of
from supervisor.journal.read import EventFile, Lines, RawFile, find
from supervisor.journal.write import is_being_written

#: Below this, processes cost more time than they save.
_WORTH_IT: Final = 16 * 1024 * 1024
#: Lines sampled to distribute the work.
_SAMPLED: Final = 20_000
#: Lines between two reports of progress.
_STRIDE: Final = 8192
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Task:
    """Task: check the raw frames of ``venue``, or the events of ``own`` (None: all but ``others``)."""

    files: Sequence[EventFile | RawFile]
    venue: str | None = None
    own: frozenset[str] | None = None
    others: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def owns(self, publisher: str) -> bool:
        return publisher not in self.others if self.own is None else publisher in self.own


def verify(
    path: Path, progress: Callable[[float], None] = lambda _: None, processes: int | None = None
) -> VerifyReport:
    """Verify the recordings at a path or below a directory.

    Args:
        path: A file or a directory.
        progress: Receives the completed fraction, from 0 to 1.
        processes: Number of processes; None chooses by size and cores.

    Raises:
        UsageError: There is no recording.
    """
    files = find(path)
    size = sum(file.size for file in files)
    if processes is None:
        processes = (os.cpu_count() or 1) if size >= _WORTH_IT else 1
    tasks = [*_event_tasks([file for file in files if isinstance(file, EventFile)], processes), *_raw_tasks(files)]
    reports = _in_parallel(tasks, processes, progress) if processes > 1 else _in_turn(tasks, progress)
    report = merge(reports)
    report.files, report.size = len(files), size
    _cover(report, [file for file in files if isinstance(file, EventFile)])
    return report


def _cover(report: VerifyReport, files: Sequence[EventFile]) -> None:
    """Add what headers and summaries say of each recording, and what follows from it."""
    by_recording: dict[str, list[EventFile]] = {}
    for file in files:
        if file.header is not None:
            by_recording.setdefault(file.header.recording, []).append(file)
    for recording, of in by_recording.items():
        summaries = (read_summary(directory, recording) for directory in dict.fromkeys(file.path.parent for file in of))
        summary = next((summary for summary in summaries if summary is not None), None)
        headers = [(file.header, str(file.path)) for file in of if file.header is not None]
        cover(report, recording, headers, summary, is_open=any(is_being_written(file.path) for file in of))


def _event_tasks(files: Sequence[EventFile], shares: int) -> list[_Task]:
    """Split the publishers of a journal into tasks of similar size; the first also checks the remainder."""
    if not files:
        return []
    if shares == 1:
        return [_Task(files)]
    parts = _parts(_sample(max(files, key=lambda file: file.size).path), shares)
    others = frozenset(publisher for part in parts[1:] for publisher in part)
    return [_Task(files, others=others), *(_Task(files, own=part) for part in parts[1:])]


def _parts(sizes: Mapping[str, int], shares: int) -> list[frozenset[str]]:
    """Partition publishers into parts of similar size, assigning the largest first to the smallest part."""
    parts: list[set[str]] = [set() for _ in range(shares)]
    for publisher in sorted(sizes, key=lambda name: -sizes[name]):
        min(parts, key=lambda part: sum(sizes[name] for name in part)).add(publisher)
    return [frozenset(part) for part in parts if part] or [frozenset()]


def _sample(path: Path) -> dict[str, int]:
    """Return the bytes per publisher in the first lines of a file."""
    sizes: dict[str, int] = {}
    lines = Lines(path)
    for line in itertools.islice(lines, _SAMPLED):
        with contextlib.suppress(ValueError):
            publisher = publisher_of(topic_of(line))
            sizes[publisher] = sizes.get(publisher, 0) + len(line)
    return sizes


def _raw_tasks(files: Sequence[EventFile | RawFile]) -> list[_Task]:
    raw: dict[str, list[RawFile]] = {}
    for file in files:
        if isinstance(file, RawFile):
            raw.setdefault(file.header.venue if file.header else _venue_in(file.path), []).append(file)
    return [_Task(own, venue=venue) for venue, own in raw.items()]


def _venue_in(path: Path) -> str:
    """Return the venue in a file name ``raw-<venue>-…``."""
    return path.stem.split("-")[1]


def _run(task: _Task, advance: Callable[[int], None]) -> VerifyReport:
    """Run a task; ``advance`` receives the number of bytes read."""
    check: Any = EventsCheck(task.owns, owns_rest=task.own is None) if task.venue is None else RawCheck(task.venue)
    for file in task.files:
        lines = Lines(file.path)
        check.begin_file(str(file.path), file.header)
        read = told = 0
        take = check.check_line
        for line in lines:
            take(line, lines.number)
            read += len(line)
            if not lines.number % _STRIDE:
                advance(read - told)
                told = read
        check.end_file(lines.torn)
        check.report.lines += lines.number if task.own is None else 0  # once for each file
        advance(file.size - told)
    report: VerifyReport = check.finish()
    return report


def _in_turn(tasks: Sequence[_Task], progress: Callable[[float], None]) -> list[VerifyReport]:
    total = max(1, sum(task.size for task in tasks))
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(done / total)

    return [_run(task, advance) for task in tasks]


#: In a pool process: bytes read per task, shared with the parent.
_shared: Any = None


def _begin(shared: Any) -> None:
    """Initialise a pool process; the parent handles the terminal's interrupt."""
    global _shared  # noqa: PLW0603 - how a pool hands shared memory to its processes
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_shared(number: int, task: _Task) -> VerifyReport:
    def advance(size: int) -> None:
        _shared[number] += size

    return _run(task, advance)


def _in_parallel(tasks: Sequence[_Task], processes: int, progress: Callable[[float], None]) -> list[VerifyReport]:
    context = multiprocessing.get_context("fork")
    total = max(1, sum(task.size for task in tasks))
    shared = context.Array("Q", len(tasks), lock=False)
    workers = min(processes, len(tasks))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(shared,)) as pool:
        looks = [pool.submit(_run_shared, *one) for one in enumerate(tasks)]
        while not all(look.done() for look in looks):
            progress(sum(shared) / total)
            time.sleep(_LOOK_S)
        return [look.result() for look in looks]
