"""Fixtures: what was recorded, or left in a black box, is played by real workers and gives what it gave live."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from recordings import REMADE, TIMES, Recorder, essence, journal, story
from systems import VENUES, System, paraphina, wait_for

from ipc.events import Status

pytestmark = pytest.mark.integration

#: How a fault that breaks the books of BTC is made, and the reason for which they are then lost.
FAULTS = (
    ("drop_delta", {"symbol": "BTC-PERP"}),
    ("crossed_book", {"symbol": "BTC-PERP"}),
    ("close", {}),
    ("garbage", {"count": 12}),
)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a system from its first second, in which every venue suffered every fault."""
    out = tmp_path_factory.mktemp("recording") / "live"
    system = System()
    with Recorder(system.run_dir, out, "--raw") as recorder:
        with system:
            system.wait_live()
            for name, arguments in FAULTS:
                for venue in VENUES:
                    system.fault(venue, name, **arguments)
                time.sleep(3.5)  # hyperliquid's book must have been silent for seconds to be known as lost
                system.wait_live()
        # Both the frames and the events have their end on the record.
        assert recorder.stop() == 0, recorder.errors
    return out


def play(recording: Path, out: Path, seconds: float, speed: str) -> Path:
    """The journal of a system that plays a recording to its end."""
    env = {"ROADMAP_B_FIXTURE_DIR": str(recording), "PARAPHINA_FIXTURE_SPEED": speed}
    system = System(sim=False, env=env)
    with Recorder(system.run_dir, out) as recorder, system:
        wait_for(
            lambda: len(system.log("fixture.played")) == len(VENUES), seconds + 60, what="the end of the recording"
        )
        time.sleep(1.5)
        assert system.log("worker.restarting") == []
        assert recorder.stop() == 0, recorder.errors
    return out


def length_s(recording: Path) -> float:
    """How long a recording is."""
    reported = json.loads(paraphina("fixture", "info", str(recording), "--json").stdout)
    return max((one["last_wall_ns"] - one["first_wall_ns"]) / 1e9 for one in reported)


@pytest.fixture(scope="module")
def plays(rehearsed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Journals of two plays of the recording, in its own time and as fast as possible."""
    in_time = play(rehearsed, tmp_path_factory.mktemp("play") / "out", length_s(rehearsed), "recorded")
    at_once = play(rehearsed, tmp_path_factory.mktemp("play") / "out", 20, "max")
    return in_time, at_once


@pytest.mark.parametrize("venue", VENUES)
def test_a_played_recording_gives_the_gaps_and_resyncs_of_the_live_system(
    rehearsed: Path, plays: tuple[Path, Path], venue: str
) -> None:
    live = story(journal(rehearsed), venue)
    gaps = {reason for reported in live.values() for what, reason in reported if what == "gap"}
    assert {"seq_gap", "crossed_book", "server_close", "parse_errors"} <= gaps
    assert story(journal(plays[0]), venue) == live


def test_the_events_of_a_played_recording_are_those_of_the_live_system(
    rehearsed: Path, plays: tuple[Path, Path]
) -> None:
    def said(out: Path) -> dict[str, list[dict[str, Any]]]:
        reported = {}
        for name, events in journal(out).items():
            if name.split(".")[0] in {"book", "book20", "bbo", "trade", "mark", "liquidation"}:
                # How long a book was silent, to the millisecond, stands in `got`.
                of = [essence(one, REMADE | TIMES | {"got"}) for one in events if "rest" not in one.flags]
                # Two connections feed one topic, and what came at once has no order.
                reported[name] = sorted(of, key=repr) if name.startswith("mark.extended.") else of
        return reported

    assert said(plays[0]) == said(rehearsed)


def test_a_recording_of_a_running_system_begins_with_its_books(tmp_path: Path) -> None:
    with System() as system:
        system.wait_live()
        with Recorder(system.run_dir, tmp_path, "--raw", "--for", "3") as recorder:
            recorder.process.wait(30)
            assert recorder.stop() == 0, recorder.errors
    ran = paraphina("fixture", "info", str(tmp_path), "--json")
    described = {one["venue"]: one for one in json.loads(ran.stdout)}
    assert set(described) == set(VENUES)
    for venue, one in described.items():
        assert one["records"].get("open", 0) == 0, venue
        for symbol, book in one["books"].items():
            assert book["snapshots"] >= 1, (venue, symbol)
            assert book["gaps"] == 0, (venue, symbol)
            assert venue == "hyperliquid" or book["deltas"] > 5, (venue, symbol)
    assert paraphina("verify", str(tmp_path)).returncode == 0


def test_a_recording_gives_the_same_events_however_fast_it_is_played(plays: tuple[Path, Path]) -> None:
    first, second = (
        {
            name: [essence(event, (REMADE | TIMES) - {"flags"}) for event in events if not isinstance(event, Status)]
            for name, events in journal(out).items()
            # A worker publishes its instruments when it starts: the recorder has them live, or as a refresh.
            if not name.startswith(("lifecycle.", "instrument."))
        }
        for out in plays
    )
    assert first == second
    assert sum(map(len, first.values())) > 1_000


def test_a_played_recording_is_whole_and_right(plays: tuple[Path, Path]) -> None:
    ran = paraphina("verify", str(plays[0]))
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, b"whole and right"), ran.stdout.decode()


# --- black boxes ------------------------------------------------------------------------------------------------------


def boxes(system: System, venue: str) -> dict[str, Path]:
    """The saved black boxes of a venue by their reasons."""
    found = (system.path / "state/paraphina/blackbox").glob(f"{venue}-*.blackbox")
    return {path.stem.split("Z-")[1]: path for path in found}


def playable(box: Path, out: Path) -> dict[str, Any]:
    """Make a fixture of a black box; what is in it."""
    made = paraphina("fixture", "from-blackbox", str(box), "--out", str(out))
    assert made.returncode == 0, made.stderr
    ran = paraphina("fixture", "info", str(out), "--json")
    assert ran.returncode == 0, ran.stderr
    (described,) = json.loads(ran.stdout)
    return described


@pytest.mark.parametrize(
    ("fault", "arguments", "reason"),
    [
        ("drop_delta", {"symbol": "BTC-PERP"}, "seq_gap"),
        ("crossed_book", {"symbol": "BTC-PERP"}, "crossed_book"),
        ("garbage", {}, "parse_errors"),
        ("close", {}, "server_close"),
    ],
)
def test_what_went_wrong_is_in_a_black_box_under_its_reason_and_can_be_played(
    tmp_path: Path, fault: str, arguments: dict[str, Any], reason: str
) -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        system.fault("lighter", fault, **arguments)
        box = wait_for(lambda: boxes(system, "lighter").get(reason), what=f"a black box of {reason}")
        assert box.stat().st_mode & 0o777 == 0o600
        described = playable(box, tmp_path)
    assert (described["venue"], described["reason"]) == ("lighter", reason)
    book = described["books"]["BTC-PERP"]
    assert book["snapshots"] >= 1
    assert book["gaps"] == (0 if fault == "garbage" else 1)


@pytest.mark.parametrize("venue", VENUES)
def test_a_black_box_survives_the_kill_of_its_worker_and_is_played_by_another(tmp_path: Path, venue: str) -> None:
    # A small one has restarted before the kill, so that it begins in the middle of the conversation.
    config = "[supervisor]\nblackbox_kb = 128\n"
    with System("--venues", venue, "--sim-rate", "200", config=config) as system:
        system.wait_live([venue])
        time.sleep(6)
        os.kill(system.pid(venue), signal.SIGKILL)
        box = wait_for(lambda: boxes(system, venue).get("killed"), what="the dead worker's black box")
        described = playable(box, tmp_path)
    assert "open" not in described["records"] or venue == "extended"
    assert all(book["snapshots"] for book in described["books"].values())
    env = {"ROADMAP_B_FIXTURE_DIR": str(tmp_path)}
    with System("--venues", venue, sim=False, env=env) as system, system.feed() as feed:

        def is_usable() -> bool:
            feed.poll(0.1)
            return feed.book(venue, "BTC-PERP").usable and feed.book(venue, "ETH-PERP").usable

        wait_for(is_usable, what="books of the black box")
        assert system.log("worker.restarting") == []


def test_a_worker_that_crashes_leaves_its_black_box(tmp_path: Path) -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        os.kill(system.pid("lighter"), signal.SIGSEGV)
        wait_for(lambda: boxes(system, "lighter"), what="a black box")
        ((reason, box),) = boxes(system, "lighter").items()
        assert reason in {"crash", "killed"}
        assert playable(box, tmp_path)["books"]["BTC-PERP"]["snapshots"] == 1


def test_a_planned_end_leaves_no_black_box() -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        before = system.pid("lighter")
        assert paraphina("restart", "lighter", "--run-dir", str(system.run_dir.path)).returncode == 0
        wait_for(lambda: system.venue("lighter")["pid"] not in {None, before})
        system.wait_live(["lighter"])
        assert boxes(system, "lighter") == {}
