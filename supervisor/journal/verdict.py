"""Words for what a verified journal covers; "whole and right" only where nothing can be missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from supervisor.journal.findings import RecordingReport, SpanReport, VerifyReport

_NS: Final = 1_000_000_000


def recording_lines(recording: str, of: RecordingReport) -> list[str]:
    """Return the lines on one recording: its time, and every venue that was not recorded all of that time."""
    if not of.began_ns:
        return []
    end = _clock(of.ended_ns) if of.ended_ns else "?"
    count = f"{len(of.venues)} venue{'s' * (len(of.venues) != 1)}"
    lines = [f"recording {recording}: {_clock(of.began_ns)} to {end}, {count}"]
    for name, span in sorted(of.venues.items()):
        lines += [f"  {name:<12} {text}" for text in _exceptions(span, is_end_known=of.state == "ended")]
    return lines


def verdict(report: VerifyReport) -> str:
    """Return the last line: what is wrong, else what is or may be missing, else that the journal is whole."""
    if not report.ok:
        return f"NOT WELL: {_counted(report)}"
    if not report.topics:
        return "NOTHING RECORDED"
    if report.is_whole:
        return "whole and right"
    missing = [text for recording in sorted(report.recordings.items()) for text in _missing(*recording)]
    if not report.recordings:
        missing = ["raw frames are not numbered, so a loss cannot be seen"]
    if any(of.state == "broken_off" for of in report.recordings.values()):
        return "NOT WHOLE: " + "; ".join(missing)
    return "no fault found; " + "; ".join(missing)


def _counted(report: VerifyReport) -> str:
    kinds = dict.fromkeys(finding.kind for finding in report.problems)
    return ", ".join(f"{report.counts[kind]:,} {kind}" for kind in kinds)


def _missing(recording: str, of: RecordingReport) -> Iterator[str]:
    """Yield what is or may be missing in a recording."""
    if of.state == "broken_off":
        yield f"{recording} breaks off (the recorder was killed, or the disk was full)"
    elif of.state == "open":
        yield f"{recording} is still being written"
    elif of.state == "unknown":
        yield f"{recording} does not say where it ends (recording-{recording}.json is missing)"
    if of.missing_files:
        yield f"missing files: {', '.join(map(str, of.missing_files))}"
    if of.left_out:
        yield f"not recorded, because of --venues: {', '.join(of.left_out)}"
    if not of.described:
        yield "which venues the system ran is not known"
    partly = [name for name, span in sorted(of.venues.items()) if not (span.from_start and span.to_end)]
    if partly and of.state == "ended":
        yield f"not recorded from start to end: {', '.join(partly)}"


def _exceptions(span: SpanReport, *, is_end_known: bool) -> Iterator[str]:
    if not span.first_ns:
        yield "no heartbeat"
        return
    if not span.from_start or (is_end_known and not span.to_end):
        yield f"from {_clock(span.first_ns)} to {_clock(span.last_ns)}"
    if span.silences:
        yield f"silent {span.silences} time{'s' * (span.silences != 1)}, {span.silent_ns / _NS:,.0f} s in all"


def _clock(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(wall_ns // _NS))
