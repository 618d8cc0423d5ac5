"""``fixture``: what is in a black box or a recording, in words, and the way from the one to the other."""

from __future__ import annotations

import json

import pytest

from ipc.raw import encode_line
from ipc.ring import KINDS, Ring
from workers import fixture

BIDS, ASKS = [("99", "1")], [("100", "1")]


@pytest.fixture
def tape(raw_script):
    """A book, a lost update, and the book again."""
    raw_script.add("open", b"ws://x").book("subscribed", 0, 10, BIDS, ASKS).book("update", 12, 13, [("99.5", "2")])
    return raw_script.book("subscribed", 0, 14, BIDS, ASKS)


@pytest.fixture
def box(tmp_path, tape):
    """These, as a worker's black box."""
    ring = Ring(tmp_path / "ring", 131_072)
    for record in tape.records:
        number = tape.head.sessions.index(record.session)
        ring.put(KINDS.index(record.kind), number, record.mono_ns, record.wall_ns, record.payload)
    tape.head.reason = "seq_gap"
    path = tmp_path / "lighter-20260731T120000.000Z-seq_gap.blackbox"
    path.write_bytes(encode_line(tape.head) + ring.snapshot())
    ring.close()
    return path


def test_a_black_box_becomes_a_fixture_and_says_how_to_play_it(cli, box, tmp_path):
    ran = cli("fixture", "from-blackbox", box, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    directory = tmp_path / "out" / "lighter"
    assert ran.out.splitlines() == [
        f"4 records of lighter in {directory}; play them with",
        f"  LIGHTER_FIXTURE_DIR={directory} paraphina-supervisor start --venues lighter",
    ]
    assert len(fixture.load(str(directory), "lighter").records) == 4


def test_a_fixture_for_programs(cli, box, tmp_path):
    ran = cli("fixture", "from-blackbox", box, "--out", tmp_path / "out", "--json")
    made = {"venue": "lighter", "records": 4, "fixture": str(tmp_path / "out" / "lighter")}
    assert (ran.code, json.loads(ran.out)) == (0, made)


def test_a_second_fixture_in_one_place_is_refused(cli, box, tmp_path):
    cli("fixture", "from-blackbox", box, "--out", tmp_path / "out")
    ran = cli("fixture", "from-blackbox", box, "--out", tmp_path / "out")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "there is a recording already" in line


def test_what_is_no_black_box_is_refused_in_one_line(cli, tape, tmp_path):
    for path in (tape.write(tmp_path), tmp_path / "letter"):
        if path.name == "letter":
            path.write_text("hello")
        ran = cli("fixture", "from-blackbox", path, "--out", tmp_path / "out")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert f"{path}: not a black box (" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("of", ["box", "recording"])
def test_it_tells_what_is_in_it_and_what_it_gives(cli, box, tape, tmp_path, of):
    ran = cli("fixture", "info", box if of == "box" else tape.write(tmp_path / "lighter"))
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "lighter (seq_gap, made 2026-07-31 12:00:00Z): BTC-PERP, ETH-PERP"
    assert lines[1] == "  2026-07-31 12:00:00Z, 0.1 s, sessions main: 3 in, 1 open"
    assert lines[2] == "  played, it gives 3 book"
    assert lines[3] == "  BTC-PERP book: 2 snapshots, 0 deltas, 1 gap"
    assert lines[4] == "  ETH-PERP book: no snapshot in this recording"


def test_programs_get_the_same(cli, box):
    (reported,) = json.loads(cli("fixture", "info", box, "--json").out)
    assert (reported["venue"], reported["reason"], reported["sessions"], reported["problem"]) == (
        "lighter",
        "seq_gap",
        ["main"],
        None,
    )
    assert reported["records"] == {"open": 1, "in": 3}
    assert reported["books"]["BTC-PERP"] == {"snapshots": 2, "deltas": 0, "gaps": 1}
    assert reported["last_wall_ns"] - reported["first_wall_ns"] == 60_000_000


def test_what_cannot_be_played_is_reported_and_is_no_success(cli, raw_script, tmp_path):
    raw_script.head.listings = []
    path = raw_script.frame({}).write(tmp_path)
    path.write_bytes(path.read_bytes() + b"hello\n")
    ran = cli("fixture", "info", path)
    assert ran.code == 1
    assert "NOT PLAYABLE: " in ran.out
    assert "bad lines left out: 1" in ran.out


def test_what_is_no_recording_is_refused(cli, script, tmp_path):
    ran = cli("fixture", "info", script.everything().write(tmp_path))
    assert ran.code == 2
    assert "record --raw" in ran.err
