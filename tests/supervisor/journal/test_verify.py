from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.errors import UsageError
from supervisor.journal.verify import verify

VERIFY = """
import json, sys
from pathlib import Path
from supervisor.journal.verify import verify
print(json.dumps(verify(Path(sys.argv[1]), processes=int(sys.argv[2])).to_builtins()))
"""


def test_a_good_journal_of_several_files_and_raw_frames_is_good(tmp_path, script, raw_script):
    script.everything()
    script.write(tmp_path, 1, script.lines[:7])
    script.write(tmp_path, 2, script.lines[7:])
    raw_script.frame({}).write(tmp_path / "lighter")
    report = verify(tmp_path)
    assert report.counts == {}
    assert report.files == 3
    assert report.lines == len(script.lines) + 2 + 2
    assert report.size == sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl"))
    assert report.topics["lighter"]["raw"].events == 1
    assert report.topics["lighter"]["book.lighter.BTC-PERP"].events == 3


def test_one_file_can_be_looked_at_alone(tmp_path, script):
    assert verify(script.everything().write(tmp_path)).ok


def test_progress_goes_from_nothing_to_all(tmp_path, script, raw_script):
    script.everything().write(tmp_path)
    raw_script.frame({}).write(tmp_path / "lighter")
    reported = []
    verify(tmp_path, reported.append)
    assert reported == sorted(reported)
    assert reported[-1] == 1.0


def test_nothing_to_look_at_is_a_mistake(tmp_path):
    with pytest.raises(UsageError):
        verify(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_journal_cut_at_any_byte_is_no_worse_than_short(tmp_path_factory, new_script, data):
    """What was cut off is missing; nothing that is left is wrong."""
    directory = tmp_path_factory.mktemp("cut")
    path = new_script(config={}).everything().write(directory)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    report = verify(directory)
    assert report.ok
    is_torn = cut and whole[cut - 1 : cut] != b"\n"
    assert report.counts == ({"torn_line": 1} if is_torn else {})


@pytest.fixture
def faulty(tmp_path, new_script, say, raw_script):
    """A journal of three venues with a fault in each, and lines that belong to nobody."""
    config = {venue: {"symbols": ["BTC-PERP"], "streams": []} for venue in ("lighter", "aster", "paradex", "extended")}
    script = new_script(config=config)
    for venue in ("lighter", "aster", "paradex"):
        for channel, event in say.one_of_each(venue):
            script.say(channel, event)
    script.lines.append(b"hello\n")
    script.book(say.delta(bids=[("101", "1")]))
    script.say("trade", say.trade(1, venue="aster"), seq=9)
    script.say("trade", say.trade(1, venue="unheard"))
    script.say("trade", say.trade(1, venue="unheard"), seq=4)
    script.say("lifecycle", say.one_of_each("aster")[-1][1], seq=3)
    path = script.write(tmp_path)
    path.write_bytes(path.read_bytes() + b"torn")
    raw_script.frame({}).write(tmp_path / "lighter")
    return tmp_path


@pytest.mark.parametrize("processes", [2, 3, 9])
def test_several_processes_find_what_one_finds(faulty, processes):
    """They are forked, so they get a process to be forked from that runs nothing else."""
    alone = verify(faulty, processes=1)
    assert alone.counts == {
        "bad_line": 1,
        "crossed_book": 1,
        "seq_gap": 3,
        "missing_venue": 1,
        "missing_channel": 3,
        "torn_line": 1,
    }
    command = [sys.executable, "-c", VERIFY, str(faulty), str(processes)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    together = json.loads(done.stdout)
    expected = alone.to_builtins()
    for part in ("problems", "notes"):
        for report in (together, expected):
            report[part].sort(key=str)
    assert together == expected
