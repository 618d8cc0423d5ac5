from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.errors import UsageError
from supervisor.journal.read import EventFile, Lines, RawFile, find


def test_lines_are_numbered(tmp_path):
    path = tmp_path / "some"
    path.write_bytes(b"one\ntwo\n")
    lines = Lines(path)
    assert [(line, lines.number) for line in lines] == [(b"one\n", 1), (b"two\n", 2)]
    assert lines.torn == 0


def test_a_line_without_its_end_is_left_out_and_reported(tmp_path):
    path = tmp_path / "some"
    path.write_bytes(b"one\ntwo")
    lines = Lines(path)
    assert list(lines) == [b"one\n"]
    assert (lines.number, lines.torn) == (1, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_at_any_byte_is_read_up_to_the_last_whole_line(tmp_path, new_script, data):
    whole = new_script().everything().bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path / "events-20260731T120000.000Z-000001.jsonl"
    path.write_bytes(whole[:cut])
    (found,) = find(path)
    lines = Lines(found.path)
    read = b"".join(lines)
    assert read == whole[: whole.rfind(b"\n", 0, cut) + 1]
    assert lines.torn == cut - len(read)


def test_journals_are_found_in_the_order_of_their_writing_and_raw_frames_after_them(tmp_path, new_script, raw_script):
    later = new_script(recording="20260801T000000.000Z").everything()
    earlier = new_script().everything()
    expected = [
        earlier.write(tmp_path / "z", 1),
        earlier.write(tmp_path / "a", 2),
        later.write(tmp_path / "b", 1),
        raw_script.frame({}).write(tmp_path / "lighter"),
    ]
    found = find(tmp_path)
    assert [file.path for file in found] == expected
    assert [type(file) for file in found] == [EventFile] * 3 + [RawFile]


def test_other_files_are_left_alone(tmp_path, script):
    (tmp_path / "shadow.jsonl").write_bytes(b'{"type":"meta"}\n')
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"hello\n")
    path = script.everything().write(tmp_path)
    assert [file.path for file in find(tmp_path)] == [path]


@pytest.mark.parametrize("content", [b"", b'{"journal":1,"sche', b"damaged\n"])
def test_a_damaged_beginning_leaves_a_journal_a_journal(tmp_path, content):
    path = tmp_path / "events-20260731T120000.000Z-000001.jsonl"
    path.write_bytes(content)
    assert find(path) == [EventFile(path, len(content), None)]
    raw = tmp_path / "raw-lighter-20260731T120000.000Z-000001.jsonl"
    raw.write_bytes(content)
    assert find(raw) == [RawFile(raw, len(content), None)]


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no recording in it"):
        find(tmp_path)
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"hello\n")
    with pytest.raises(UsageError, match="neither a journal nor a raw recording"):
        find(path)
    with pytest.raises(UsageError, match="No such file"):
        find(tmp_path / "missing")


def test_a_format_of_the_future_is_named(tmp_path):
    path = tmp_path / "events-1.jsonl"
    path.write_bytes(b'{"journal":9}\n')
    with pytest.raises(UsageError, match="format 9") as reported:
        find(tmp_path)
    assert reported.value.where == str(path)
