"""What is missing in a recording, and what may be."""

from __future__ import annotations

import pytest

from supervisor.journal.verify import verify
from supervisor.journal.write import JournalLimits, RotatingFile

RECORDING = "20260731T120000.000Z"


@pytest.fixture
def whole(tmp_path, script):
    """A journal of two files, whole."""
    script.cover().everything()
    script.write(tmp_path, 1, script.lines[:7])
    script.write(tmp_path, 2, script.lines[7:])
    script.write_summary(tmp_path, 7, len(script.lines) - 7)
    return tmp_path


def recording_of(path):
    return verify(path).recordings[RECORDING]


def test_a_whole_journal_is_whole(whole):
    report = verify(whole)
    assert report.is_whole
    assert report.exit_code == 0
    of = report.recordings[RECORDING]
    assert (of.state, of.described, of.left_out, of.missing_files) == ("ended", True, [], [])
    span = of.venues["lighter"]
    assert (span.from_start, span.to_end, span.silences) == (True, True, 0)


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_file_is_noticed_be_it_the_first_or_the_last(whole, number):
    (whole / f"events-{RECORDING}-{number:06d}.jsonl").unlink()
    report = verify(whole)
    assert report.recordings[RECORDING].missing_files == [number]
    assert not report.is_whole


def test_one_file_alone_is_a_part(whole):
    report = verify(whole / f"events-{RECORDING}-000002.jsonl")
    assert report.recordings[RECORDING].missing_files == [1]
    assert not report.is_whole


def test_a_copy_without_its_summary_does_not_know_its_end(whole):
    next(whole.glob("recording-*")).unlink()
    of = recording_of(whole)
    assert (of.state, of.described, of.is_whole) == ("unknown", True, False)


def test_a_journal_of_an_older_version_is_not_known_to_be_whole(tmp_path, script):
    script.everything().write(tmp_path)
    report = verify(tmp_path)
    assert (report.ok, report.is_whole, report.exit_code) == (True, False, 0)


def test_a_recording_that_goes_on_is_open_and_one_whose_recorder_is_gone_is_broken_off(tmp_path, script):
    script.cover().everything()
    lines = iter(script.lines)
    file = RotatingFile(tmp_path, f"events-{RECORDING}", script.header, JournalLimits(max_bytes=1500))
    for line in lines:
        file.write(line)
        file.flush()
    assert len(file.written) > 1
    script.write_summary(tmp_path, *file.written, ended_after_s=None)
    assert recording_of(tmp_path).state == "open"
    assert verify(tmp_path).exit_code == 0
    file.close()
    assert sum(file.written) == len(script.lines)
    report = verify(tmp_path)
    assert (report.recordings[RECORDING].state, report.ok, report.exit_code) == ("broken_off", True, 1)


def test_a_recorder_between_two_files_is_at_work(tmp_path, script):
    script.cover().everything()
    file = RotatingFile(tmp_path, f"events-{RECORDING}", script.header, JournalLimits(max_bytes=1))
    file.write(script.lines[0])
    file.flush()
    assert not file.is_open
    script.write_summary(tmp_path, 1, ended_after_s=None)
    assert recording_of(tmp_path).state == "open"
    file.close()
    assert recording_of(tmp_path).state == "broken_off"


def beat_at(script, second):
    script.now_ns = second * 1_000_000_000
    return script.beat([("99.5", "3"), ("99", "1"), ("98", "2")], [("100", "1")])


def test_silences_are_counted(tmp_path, script):
    script.cover().everything()
    for second in (1, 2, 9, 10, 22):
        beat_at(script, second)
    script.write(tmp_path)
    script.write_summary(tmp_path)
    span = recording_of(tmp_path).venues["lighter"]
    assert (span.silences, round(span.silent_ns / 1e9)) == (2, 19)
    assert recording_of(tmp_path).is_whole


def test_a_recording_that_stopped_before_its_venue_is_not_whole(tmp_path, script):
    script.cover().everything().write(tmp_path)
    script.write_summary(tmp_path, ended_after_s=30)
    of = recording_of(tmp_path)
    assert not of.venues["lighter"].to_end
    assert not of.is_whole


def test_a_recording_that_came_late_is_not_whole(tmp_path, script):
    script.cover().everything()
    script.seqs["heartbeat.lighter"] = 30
    beat_at(script, 31)
    script.lines = script.lines[-1:]
    script.write(tmp_path)
    script.write_summary(tmp_path)
    assert not recording_of(tmp_path).venues["lighter"].from_start


def test_a_venue_that_was_hardly_there_is_no_fault(tmp_path, script):
    script.cover("lighter", "aster").everything().write(tmp_path)
    script.write_summary(tmp_path)
    report = verify(tmp_path)
    assert report.ok
    assert not report.is_whole


def test_several_processes_cover_what_one_covers(tmp_path, script, say):
    script.cover("lighter", "aster").everything()
    script.say("trade", say.trade(1, venue="aster"))
    script.write(tmp_path)
    script.write_summary(tmp_path)
    assert verify(tmp_path, processes=1).recordings == verify(tmp_path, processes=2).recordings
