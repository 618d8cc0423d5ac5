"""What looking at recordings brings to light: problems, notes, and what there was, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = ["Finding", "Kind", "TopicReport", "VerifyReport", "merge"]

#: Of one kind, so many are listed; all are counted.
_LISTED: Final = 50

#: What can be wrong with a recording.
Problem: TypeAlias = Literal[
    "bad_line",  # no event or record, or one that its topic does not fit
    "seq_gap",  # events of a topic were lost
    "lost_tail",  # a heartbeat counts events that are not there
    "repeated",  # a seq that was there before
    "epoch_order",  # an event of an older life of its publisher
    "time_order",  # received before the one in front of it
    "bad_level",  # a price level that is none
    "crossed_book",  # a book that consumers would have used, with the best bid at or above the best ask
    "drift",  # a refresh shows another book than the events before it make
    "checksum",  # a heartbeat knows another book at the same seq
    "missing_venue",  # the header names it, and nothing of it came
    "missing_channel",  # the same of a channel that is never silent for long
    "no_listings",  # raw frames without the markets that they are about, so they cannot be played
]
#: What is worth knowing and no fault of the recording.
Note: TypeAlias = Literal[
    "torn_line",  # the writer was killed, or is still writing
    "missing_file",  # the number of a file in between
    "clock_step",  # the wall clock was set
    "silent_channel",  # nothing traded, perhaps
    "no_snapshot",  # a book that cannot be rebuilt, because it never stands whole in here
    "newer_kind",  # an event of a schema that this program does not know
]
Kind: TypeAlias = Problem | Note


class Finding(msgspec.Struct):
    """One thing that was found: what, where (``file`` and ``line`` are empty when it is nowhere), and in words."""

    kind: Kind
    file: str
    line: int
    topic: str
    text: str

    def __str__(self) -> str:
        """It in one line."""
        place = f"{self.file}:{self.line}: " if self.file else ""
        topic = f"{self.topic}: " if self.topic else ""
        return f"{place}{self.kind}: {topic}{self.text}"


class TopicReport(msgspec.Struct):
    """What there is of one topic, or of one venue's raw frames.

    Attributes:
        events: Events, or raw records.
        epochs: Lives of the publisher in which it was heard.
        gaps: Times that the worker itself declared the book lost.
        snapshots: Whole books.
        lost: Events that are not there.
        first_ns: Wall clock at which the first one was received; ``last_ns``: the last one.
    """

    events: int = 0
    epochs: int = 0
    gaps: int = 0
    snapshots: int = 0
    lost: int = 0
    first_ns: int = 0
    last_ns: int = 0


class VerifyReport(msgspec.Struct):
    """What was found.

    Attributes:
        topics: By venue, then by topic; raw frames stand under ``raw``.
        counts: Findings by kind, all of them.
        problems: The first of each kind; ``notes``: the same of what is no fault.
    """

    files: int = 0
    size: int = 0
    lines: int = 0
    topics: dict[str, dict[str, TopicReport]] = {}
    counts: dict[str, int] = {}
    problems: list[Finding] = []
    notes: list[Finding] = []

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def problem(self, kind: Problem, file: str, line: int, topic: str, text: str) -> None:
        """Something is wrong."""
        self._add(self.problems, Finding(kind, file, line, topic, text))

    def note(self, kind: Note, file: str, line: int, topic: str, text: str) -> None:
        """Something is worth knowing."""
        self._add(self.notes, Finding(kind, file, line, topic, text))

    def _add(self, findings: list[Finding], finding: Finding) -> None:
        count = self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        if count <= _LISTED:
            findings.append(finding)

    def to_builtins(self) -> dict[str, Any]:
        """For programs."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def merge(reports: Iterable[VerifyReport]) -> VerifyReport:
    """The reports of several looks, each at its own venues, as one."""
    whole = VerifyReport()
    for report in reports:
        whole.lines += report.lines
        for venue, topics in report.topics.items():
            whole.topics.setdefault(venue, {}).update(topics)
        for kind, count in report.counts.items():
            whole.counts[kind] = whole.counts.get(kind, 0) + count
        whole.problems += report.problems
        whole.notes += report.notes
    return whole
