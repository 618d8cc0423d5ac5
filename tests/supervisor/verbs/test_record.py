"""``record``: a line for people, an object for programs, and exit codes that tell how it went."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
import zmq

from ipc.publisher import Publisher
from ipc.topics import Topic
from supervisor.journal import record as module
from supervisor.journal.write import RotatingFile, WriteError
from supervisor.verbs.record import _text

pytestmark = pytest.mark.usefixtures("signals")


@pytest.fixture
def worker(run_dir, say):
    """Publishes a trade a hundred times a second, until the test is over.

    ``worker.lose(n, out)`` leaves some out once the journal in ``out`` has begun.
    """
    made = Worker(run_dir, say)
    yield made
    made.close()


class Worker:
    def __init__(self, run_dir, say):
        self._say = say
        self._ends = threading.Event()
        self._context = zmq.Context()
        self._publisher = Publisher(self._context, run_dir.feed("lighter"), time.time_ns())
        self._lost = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def lose(self, count, out):
        self._lost, self._out = count, out

    def _run(self):
        feed = self._publisher.topic(Topic("trade", "lighter", "BTC-PERP"))
        number = 0
        while not self._ends.wait(0.01):
            number += 1
            with self._publisher.exclusive():
                if self._lost and any(self._out.glob("events-*")):
                    feed.seq, self._lost = feed.seq + self._lost, 0
                self._publisher.send(feed, self._say.trade(number))

    def close(self):
        self._ends.set()
        self._thread.join()
        self._publisher.close()
        self._context.term()


def test_it_tells_what_it_recorded_and_where(cli, worker, tmp_path):
    ran = cli("record", "--out", tmp_path / "out", "--for", "1")
    assert ran.code == 0
    head, venue = ran.out.splitlines()
    assert " events, 0 lost, " in head
    assert head.endswith(f"MB in 1 file, in {tmp_path / 'out'}")
    assert venue.split()[0] == "lighter"
    assert "LOST" not in ran.out
    assert ran.err == ""


def test_raw_frames_come_with_the_way_to_play_them(tmp_path):
    tally = module.Tally(events={"lighter": 3}, lost={"lighter": 0}, raw={"lighter": 1_234}, files=2, size=2_000_000)
    assert _text(tally, "tape").splitlines() == [
        "3 events, 0 lost, 2.0 MB in 2 files, in tape",
        "  lighter                 3   raw      1,234",
        "play the raw frames with: ROADMAP_B_FIXTURE_DIR=tape paraphina-supervisor start",
    ]


def test_programs_get_an_object(cli, worker, tmp_path):
    reported = json.loads(cli("record", "--out", tmp_path, "--for", "1", "--json").out)
    assert reported["events"]["lighter"] > 10
    assert (reported["lost"], reported["malformed"], reported["files"]) == ({"lighter": 0}, 0, 1)
    assert reported["size"] == sum(path.stat().st_size for path in tmp_path.glob("events-*"))


def test_losses_are_reported_and_are_no_success(cli, worker, tmp_path):
    worker.lose(7, tmp_path)
    ran = cli("record", "--out", tmp_path, "--for", "1")
    assert ran.code == 1
    assert "7 lost" in ran.out
    assert "LOST 7" in ran.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_good_end(cli, worker, tmp_path, monkeypatch, number):
    turns = []

    class Signalled(module.JournalRecorder):
        def run(self, duration_s, stop, progress):
            def is_stopped():
                turns.append(1)
                if len(turns) == 50:
                    os.kill(os.getpid(), number)
                return stop()

            super().run(duration_s, is_stopped, progress)

    monkeypatch.setattr(module, "JournalRecorder", Signalled)
    ran = cli("record", "--out", tmp_path)
    assert ran.code == 0
    assert "0 lost" in ran.out


def test_nothing_at_all_says_how_to_start_a_system(cli, tmp_path, run_dir):
    ran = cli("record", "--out", tmp_path, "--for", "0.1")
    assert ran.code == 3
    assert ran.err.splitlines() == [
        f"paraphina-supervisor: {run_dir.path}: no event came (start a system with: paraphina-supervisor start)"
    ]


@pytest.mark.parametrize(
    ("venues", "what"),
    [("lighter,binance", "unknown venue 'binance'"), (",", "no venue named"), ("", "no venue named")],
)
def test_venues_that_are_none_are_refused_in_one_line(cli, tmp_path, venues, what):
    ran = cli("record", "--out", tmp_path / "out", "--venues", venues)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert what in line
    assert "venues are hyperliquid" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_refused_at_once(cli, tmp_path, place):
    (tmp_path / "file").touch()
    ran = cli("record", "--out", tmp_path / place)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "cannot be written" in line


def test_a_full_disk_is_one_error(cli, worker, tmp_path, monkeypatch):
    def full(file, _number, _block):
        raise WriteError(OSError(28, "No space left on device"), file.path)

    monkeypatch.setattr(RotatingFile, "_write", full)
    ran = cli("record", "--out", tmp_path, "--for", "20")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert "No space left on device" in line
    assert ran.out == ""


@pytest.fixture
def described(run_dir, held_lock):
    """A system that says what it runs."""

    def describe(*venues):
        run_dir.description.write_text(json.dumps({"pid": held_lock, "venues": {name: {} for name in venues}}))

    return describe


def test_a_venue_that_ran_and_was_not_recorded_is_named(cli, worker, tmp_path, described):
    described("lighter", "aster\x1b[2J")
    ran = cli("record", "--out", tmp_path, "--for", "1", "--venues", "lighter")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "  not recorded, because of --venues: aster\\x1b[2J"


def test_a_venue_of_which_nothing_came_is_no_success(cli, worker, tmp_path, described):
    described("lighter", "aster")
    ran = cli("record", "--out", tmp_path, "--for", "1")
    assert ran.code == 1
    assert ran.out.splitlines()[-1].split() == ["aster", "NOTHING", "CAME"]
    assert json.loads(cli("record", "--out", tmp_path, "--for", "1", "--json").out)["silent"] == ["aster"]


def test_a_venue_that_the_system_does_not_run_is_refused(cli, tmp_path, described):
    described("lighter", "newcomer")
    ran = cli("record", "--out", tmp_path / "out", "--venues", "aster")
    expected = "--venues: unknown venue 'aster' (the system runs lighter, newcomer)"
    assert (ran.code, ran.err) == (2, f"paraphina-supervisor: {expected}\n")
    assert not (tmp_path / "out").exists()


def test_a_system_that_says_nothing_is_not_called_absent(cli, tmp_path, run_dir, described):
    described("lighter")
    ran = cli("record", "--out", tmp_path, "--for", "0.1")
    expected = f"{run_dir.path}: a supervisor is running, but no event came of lighter"
    assert ran.code == 1
    assert ran.err == f"paraphina-supervisor: {expected} (see why with: paraphina-supervisor status)\n"


def test_only_the_wanted_venues_are_recorded(cli, worker, tmp_path):
    assert cli("record", "--out", tmp_path, "--for", "0.5", "--venues", "aster").code == 3
