from __future__ import annotations

import pytest

from ipc.errors import ParaphinaError, UsageError
from ipc.raw import encode_line
from ipc.ring import BINARY, KINDS, Ring
from supervisor.journal.blackbox import read_blackbox, read_recordings, write_fixture

OPEN, IN, OUT, REST, CLOSE, BOOK = range(len(KINDS))


@pytest.fixture
def box(tmp_path, raw_script):
    """A black box of some records, as a worker saves one."""

    def make(*records, header=None):
        ring = Ring(tmp_path / "ring", 131_072)
        for number, (kind, session, payload, *note) in enumerate(records):
            ring.put(kind, session, 1000 + number, 2000 + number, payload, *note)
        path = tmp_path / "lighter-20260731T120000.000Z-killed.blackbox"
        path.write_bytes(encode_line(header or raw_script.head) + ring.snapshot())
        ring.close()
        return path

    return make


def test_a_black_box_is_read_with_the_names_of_its_sessions(box, raw_script):
    path = box(
        (OPEN, 2, b"ws://x"),
        (IN, 2, b'{"a":1}'),
        (IN | BINARY, 2, b"\x01\xff"),
        (OUT, 2, b"ping"),
        (CLOSE, 9, b"server_close"),
    )
    recording = read_blackbox(path)
    assert recording.header == raw_script.head
    assert [(record.kind, record.session, record.payload) for record in recording.records] == [
        ("open", "main", b"ws://x"),
        ("in", "main", b'{"a":1}'),
        ("in", "main", b"\x01\xff"),
        ("out", "main", b"ping"),
        ("close", "9", b"server_close"),
    ]
    assert [record.is_binary for record in recording.records] == [False, False, True, False, False]
    assert (recording.records[1].mono_ns, recording.records[1].wall_ns) == (1001, 2001)


def test_what_rest_answered_comes_with_its_purpose(box):
    recording = read_blackbox(
        box((REST, 2, b'{"bids":[]}', b"BTC-PERP bridge"), (REST, 2, b"", b"ETH-PERP soft rate_limited"))
    )
    assert [(r.symbol, r.purpose, r.reason) for r in recording.records] == [
        ("BTC-PERP", "bridge", None),
        ("ETH-PERP", "soft", "rate_limited"),
    ]


@pytest.mark.parametrize("content", [b"", b"hello", b"hello\nworld", b'{"raw":"record"}\n', b"\xff" * 100])
def test_what_is_no_black_box_is_refused(tmp_path, content):
    path = tmp_path / "x.blackbox"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a black box"):
        read_blackbox(path)


def test_a_cut_black_box_is_refused(box):
    path = box((IN, 2, b"{}"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="not a black box"):
        read_blackbox(path)


def test_a_fixture_made_from_a_black_box_reads_as_the_box(box, tmp_path):
    recording = read_blackbox(
        box((OPEN, 2, b"ws://x"), (IN | BINARY, 2, b"\x00\xff"), (REST, 2, b"{}", b"BTC-PERP soft"))
    )
    directory = write_fixture(recording, tmp_path / "out")
    assert directory == tmp_path / "out" / "lighter"
    assert [path.name for path in directory.iterdir()] == ["raw-lighter-20260731T120000.000Z-000001.jsonl"]
    assert read_recordings(tmp_path / "out") == [recording]


def test_a_fixture_is_not_mixed_with_another(box, tmp_path):
    recording = read_blackbox(box((IN, 2, b"{}")))
    write_fixture(recording, tmp_path / "out")
    with pytest.raises(UsageError, match="a recording already"):
        write_fixture(recording, tmp_path / "out")


def test_a_place_that_cannot_be_written_is_reported(box, tmp_path):
    recording = read_blackbox(box((IN, 2, b"{}")))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ParaphinaError, match="cannot be written"):
        write_fixture(recording, tmp_path / "file")


def test_raw_recordings_are_read_by_venue_over_their_files(tmp_path, raw_script, new_raw_script):
    first = raw_script.frame({"a": 1})
    first.write(tmp_path / "lighter", 1)
    second = new_raw_script().frame({"b": 2})
    second.write(tmp_path / "lighter", 2)
    other = new_raw_script(listings=False)
    other.venue = other.head.venue = "aster"
    other.frame({}).write(tmp_path / "aster")
    aster, lighter = read_recordings(tmp_path)
    assert aster.header.venue == "aster"
    assert lighter.records == first.records + second.records


def test_the_header_that_names_the_markets_counts(tmp_path, raw_script, new_raw_script):
    """A worker that starts tells a header before it knows its markets."""
    path = raw_script.frame({}).write(tmp_path)
    unknowing = new_raw_script(listings=False)
    path.write_bytes(unknowing.bytes() + raw_script.bytes() + unknowing.bytes())
    (recording,) = read_recordings(path)
    assert recording.header == raw_script.head


def test_bad_lines_of_a_raw_recording_are_counted(tmp_path, raw_script):
    path = raw_script.frame({}).write(tmp_path)
    path.write_bytes(path.read_bytes() + b"hello\ntorn")
    (recording,) = read_recordings(path)
    assert (len(recording.records), recording.bad) == (1, 1)


def test_a_journal_is_no_raw_recording(tmp_path, script):
    with pytest.raises(UsageError, match="no raw frames"):
        read_recordings(script.everything().write(tmp_path))
