"""Completeness of recordings: what headers and summaries say is compared with what was found in the files. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.journal.checks import SILENCE_NS
from supervisor.journal.coverage import Coverage, Summary, VenuePresence
from supervisor.journal.findings import RecordingReport, SpanReport, VerifyReport
from supervisor.journal.format import Header


def cover(
    report: VerifyReport,
    recording: str,
    headers: Sequence[tuple[Header, str]],
    summary: Summary | None,
    *,
    is_open: bool,
) -> None:
    """Complete the report on one recording.

    Args:
        report: Merged report on all files.
        recording: Stamp of the recording.
        headers: Header and path of each of its files.
        summary: Summary of the recording; None when it is missing.
        is_open: Whether a recorder is at work on one of its files.
    """
    of = report.recordings[recording]
    coverage = _coverage(headers, summary)
    if coverage is None:
        return
    of.began_ns, of.described, of.left_out = coverage.began_ns, coverage.described, coverage.left_out()
    if summary is None:
        of.missing_files = _absent(of, max(of.files, default=0))
    else:
        of.ended_ns = summary.ended_ns
        of.missing_files = _absent(of, len(summary.written))
        _compare_lines(report, of, headers, summary)
        of.state = "ended" if summary.ended_ns else "open" if is_open else "broken_off"
    for name, presence in coverage.venues.items():
        if presence.recorded:
            _judge_span(report, of, name, presence)


def _coverage(headers: Sequence[tuple[Header, str]], summary: Summary | None) -> Coverage | None:
    """Return the latest coverage that is known; None for journals of version 0.1."""
    known = [header.coverage for header, _ in headers if header.coverage is not None]
    return summary.coverage if summary is not None else (known[-1] if known else None)


def _absent(of: RecordingReport, count: int) -> list[int]:
    return [number for number in range(1, count + 1) if number not in of.files]


def _compare_lines(
    report: VerifyReport, of: RecordingReport, headers: Sequence[tuple[Header, str]], summary: Summary
) -> None:
    """Report files that are shorter than the recorder left them."""
    for header, path in headers:
        if 0 < header.file <= len(summary.written):
            written, found = summary.written[header.file - 1], of.files.get(header.file, 0)
            if found < written:
                text = f"{written - found:,} of {written:,} lines are not there"
                report.problem("missing_lines", path, found + 1, "", text)


def _judge_span(report: VerifyReport, of: RecordingReport, name: str, presence: VenuePresence) -> None:
    """Compare the time for which a venue was recorded with the time for which it was there."""
    begin_ns = max(presence.since_ns, of.began_ns)
    ends = [at_ns for at_ns in (presence.until_ns, of.ended_ns) if at_ns]
    span = of.venues.get(name)
    if span is None:
        is_long = bool(ends) and min(ends) - begin_ns > SILENCE_NS
        if is_long and not of.missing_files and name not in report.topics:
            report.problem("missing_venue", "", 0, name, "nothing of it was recorded")
        of.venues[name] = SpanReport()
        return
    span.from_start = span.is_joined or span.first_ns - begin_ns <= SILENCE_NS
    span.to_end = bool(ends) and min(ends) - span.last_ns <= SILENCE_NS
