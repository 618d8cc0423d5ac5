"""Results of checking recordings: problems, notes and contents, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

#: Findings listed per kind; all are counted.
_LISTED: Final = 50

#: Kinds of problems.
Problem: TypeAlias = Literal[
    "bad_line",  # not an event or record, or it does not match its topic
    "seq_gap",  # events of a topic were lost
    "lost_tail",  # a heartbeat counts events that are missing
    "repeated",  # a seq seen before
    "epoch_order",  # an event of an older epoch of its publisher
    "time_order",  # received before the preceding event
    "bad_level",  # an invalid price level
    "crossed_book",  # a usable book with its best bid at or above its best ask
    "drift",  # a refresh differs from the book that the preceding events make
    "checksum",  # a heartbeat's checksum differs at the same seq
    "missing_venue",  # named in the header, but without any event
    "missing_channel",  # the same for a channel that is never silent for long
    "missing_lines",  # fewer lines than the recorder wrote
    "no_listings",  # raw frames without their markets, which cannot be played
]
#: Kinds of notes, which are not problems.
Note: TypeAlias = Literal[
    "torn_line",  # the writer was killed, or is still writing
    "missing_file",  # a missing file number
    "clock_step",  # the wall clock stepped
    "silent_channel",  # possibly no trades
    "no_snapshot",  # a book that cannot be rebuilt, because no snapshot of it was recorded
    "newer_kind",  # an event of an unknown schema
]
Kind: TypeAlias = Problem | Note


class Finding(msgspec.Struct):
    """Finding: kind, place (``file`` and ``line`` empty when it has none), and text."""

    kind: Kind
    file: str
    line: int
    topic: str
    text: str

    def __str__(self) -> str:
        """Format the finding on one line."""
        place = f"{self.file}:{self.line}: " if self.file else ""
        topic = f"{self.topic}: " if self.topic else ""
        return f"{place}{self.kind}: {topic}{self.text}"


class TopicReport(msgspec.Struct):
    """Contents of one topic, or of one venue's raw frames.

    Attributes:
        events: Events, or raw records.
        epochs: Publisher epochs in which the topic appeared.
        gaps: Gap events, published when the worker lost the book.
        snapshots: Book snapshots.
        lost: Missing events.
        first_ns: Receive time of the first event, wall clock; ``last_ns``: of the last.
    """

    events: int = 0
    epochs: int = 0
    gaps: int = 0
    snapshots: int = 0
    lost: int = 0
    first_ns: int = 0
    last_ns: int = 0


class SpanReport(msgspec.Struct):
    """Time for which a venue was recorded, by its heartbeats, wall clock.

    Attributes:
        first_ns: First heartbeat; ``last_ns``: last one.
        silences: Times without a heartbeat between them; ``silent_ns``: their sum.
        is_joined: True when the first heartbeat of its worker is the first one recorded.
        from_start: False when the recording of the venue began late, or that is not known; ``to_end``: the same for
            its end.
    """

    first_ns: int = 0
    last_ns: int = 0
    silences: int = 0
    silent_ns: int = 0
    is_joined: bool = False
    from_start: bool = False
    to_end: bool = False


class RecordingReport(msgspec.Struct):
    """Coverage of one recording, as far as the journal tells it.

    Attributes:
        began_ns: Start, wall clock; 0 when it is not known. ``ended_ns``: the same for its end.
        state: ``ended``, ``open`` (it is still being written), ``broken_off``, or ``unknown`` without its summary.
        described: True when all venues that the system ran are known.
        left_out: Venues that the system ran and that were not recorded.
        missing_files: Numbers of files that are not there.
        files: Lines of each file by its number, without the header.
        venues: Recorded venues.
    """

    began_ns: int = 0
    ended_ns: int = 0
    state: Literal["ended", "open", "broken_off", "unknown"] = "unknown"
    described: bool = False
    left_out: list[str] = []
    missing_files: list[int] = []
    files: dict[int, int] = {}
    venues: dict[str, SpanReport] = {}

    @property
    def is_whole(self) -> bool:
        """True when every venue that the system ran was recorded from the start to the end."""
        return (
            self.state == "ended"
            and self.described
            and not self.left_out
            and not self.missing_files
            and all(span.from_start and span.to_end for span in self.venues.values())
        )


class VerifyReport(msgspec.Struct):
    """Report on checked recordings.

    Attributes:
        topics: By venue, then by topic; raw frames under ``raw``.
        counts: Number of findings by kind.
        problems: First findings of each kind; ``notes``: the same for notes.
        recordings: Coverage of each recording of events, by its stamp.
    """

    files: int = 0
    size: int = 0
    lines: int = 0
    topics: dict[str, dict[str, TopicReport]] = {}
    counts: dict[str, int] = {}
    problems: list[Finding] = []
    notes: list[Finding] = []
    recordings: dict[str, RecordingReport] = {}

    @property
    def ok(self) -> bool:
        """True when there are no problems."""
        return not self.problems

    @property
    def is_whole(self) -> bool:
        """True when nothing is missing, and nothing may be missing without being known."""
        return self.ok and bool(self.recordings) and all(one.is_whole for one in self.recordings.values())

    @property
    def exit_code(self) -> int:
        """0 when what was recorded is right, else 1: a problem, nothing recorded, or a recording that broke off."""
        is_right = self.ok and bool(self.topics)
        return int(not is_right or any(one.state == "broken_off" for one in self.recordings.values()))

    def problem(self, kind: Problem, file: str, line: int, topic: str, text: str) -> None:
        """Add a problem."""
        self._add(self.problems, Finding(kind, file, line, topic, text))

    def note(self, kind: Note, file: str, line: int, topic: str, text: str) -> None:
        """Add a note."""
        self._add(self.notes, Finding(kind, file, line, topic, text))

    def _add(self, findings: list[Finding], finding: Finding) -> None:
        count = self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        if count <= _LISTED:
            findings.append(finding)

    def to_builtins(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"ok": self.ok, "whole": self.is_whole, **msgspec.to_builtins(self, str_keys=True)}


def merge(reports: Iterable[VerifyReport]) -> VerifyReport:
    """Merge reports on disjoint sets of venues."""
    whole = VerifyReport()
    for report in reports:
        whole.lines += report.lines
        for venue, topics in report.topics.items():
            whole.topics.setdefault(venue, {}).update(topics)
        for kind, count in report.counts.items():
            whole.counts[kind] = whole.counts.get(kind, 0) + count
        for recording, of in report.recordings.items():
            whole.recordings.setdefault(recording, RecordingReport(files=of.files)).venues.update(of.venues)
        whole.problems += report.problems
        whole.notes += report.notes
    return whole
