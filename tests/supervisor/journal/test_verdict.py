"""The last line of ``verify``, and the lines on each recording."""

from __future__ import annotations

import pytest

from supervisor.journal.findings import RecordingReport, SpanReport, TopicReport, VerifyReport
from supervisor.journal.verdict import recording_lines, verdict

SECOND = 1_000_000_000
BEGAN = 1_785_499_200 * SECOND


def span(**changes):
    return SpanReport(BEGAN, BEGAN + 60 * SECOND, **{"from_start": True, "to_end": True, **changes})


def recording(**changes):
    fields = {"began_ns": BEGAN, "ended_ns": BEGAN + 60 * SECOND, "state": "ended", "described": True}
    return RecordingReport(**{**fields, "venues": {"aster": span()}, **changes})


def report(*recordings):
    topics = {"aster": {"heartbeat.aster": TopicReport(events=1)}}
    return VerifyReport(topics=topics, recordings={f"r{number}": of for number, of in enumerate(recordings, 1)})


@pytest.mark.parametrize(
    ("recordings", "line", "code"),
    [
        ([recording()], "whole and right", 0),
        ([recording(), recording()], "whole and right", 0),
        ([recording(left_out=["x", "y"])], "no fault found; not recorded, because of --venues: x, y", 0),
        ([recording(described=False)], "no fault found; which venues the system ran is not known", 0),
        ([recording(missing_files=[1, 3])], "no fault found; missing files: 1, 3", 0),
        ([recording(state="open", ended_ns=0)], "no fault found; r1 is still being written", 0),
        ([recording(), recording(state="open")], "no fault found; r2 is still being written", 0),
        (
            [recording(state="unknown", ended_ns=0)],
            "no fault found; r1 does not say where it ends (recording-r1.json is missing)",
            0,
        ),
        (
            [recording(venues={"aster": span(to_end=False), "lighter": span(from_start=False)})],
            "no fault found; not recorded from start to end: aster, lighter",
            0,
        ),
        (
            [recording(), recording(state="broken_off", missing_files=[2])],
            "NOT WHOLE: r2 breaks off (the recorder was killed, or the disk was full); missing files: 2",
            1,
        ),
    ],
)
def test_the_last_line_says_whole_only_of_what_is_known_to_be(recordings, line, code):
    of = report(*recordings)
    assert verdict(of) == line
    assert of.exit_code == code
    assert of.is_whole is (line == "whole and right")


def test_a_fault_comes_first():
    of = report(recording(state="broken_off"))
    of.problem("seq_gap", "f", 1, "t", "x")
    assert (verdict(of), of.exit_code) == ("NOT WELL: 1 seq_gap", 1)


def test_nothing_is_no_success():
    assert (verdict(VerifyReport()), VerifyReport().exit_code) == ("NOTHING RECORDED", 1)


def test_a_recording_is_described_by_its_time_and_its_exceptions():
    venues = {
        "aster": span(),
        "extended": span(silences=2, silent_ns=1_900 * SECOND),
        "lighter": span(from_start=False, silences=1, silent_ns=9 * SECOND),
        "paradex": SpanReport(),
    }
    assert recording_lines("r1", recording(venues=venues)) == [
        "recording r1: 2026-07-31 12:00:00Z to 2026-07-31 12:01:00Z, 4 venues",
        "  extended     silent 2 times, 1,900 s in all",
        "  lighter      from 2026-07-31 12:00:00Z to 2026-07-31 12:01:00Z",
        "  lighter      silent 1 time, 9 s in all",
        "  paradex      no heartbeat",
    ]
    assert recording_lines("r1", recording(state="open", ended_ns=0, venues={"aster": span(to_end=False)})) == [
        "recording r1: 2026-07-31 12:00:00Z to ?, 1 venue"
    ]
    assert recording_lines("r1", RecordingReport()) == []
