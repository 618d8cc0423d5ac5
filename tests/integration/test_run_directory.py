"""Run directory of a running system: removed, replaced, shared; there are never two systems on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from systems import System, paraphina, wait_for

from ipc.watched_files import identity_of
from simulator.accounts.credentials import HYPERLIQUID_ADDRESS

pytestmark = pytest.mark.integration

VENUE = "hyperliquid"
SYMBOL = "BTC-PERP"
CONFIG = f'[venues.{VENUE}]\naccount = "desk"\naccount_period_ms = 5000\n'
ENV = {"HL_VAULT_ADDRESS": HYPERLIQUID_ADDRESS}
#: Limit of a restoration, ten times the goal: several systems run side by side here, on a machine that may be busy.
RESTORED_S = 30.0
#: Holds a run directory, and does nothing else.
HOLDER = """
import signal, sys
from pathlib import Path
from ipc.rundir import RunDir
from supervisor.lock import Instance
instance = Instance(RunDir(Path(sys.argv[1])))
print("held", flush=True)
signal.pause()
"""


def new_system() -> System:
    return System("--venues", VENUE, config=CONFIG, env=ENV)


def files_of(system: System) -> list[Path]:
    return sorted(path for path in system.run_dir.path.iterdir() if path.name[0] != ".")


class SecondStarts:
    """Starts of a second system, one after another, until the end of the block; all must be refused."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._is_over = threading.Event()
        self.codes: list[int] = []
        self.errors: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(30)

    def _run(self) -> None:
        command = ("start", "--sim", "--venues", VENUE, "--for", "1", "--run-dir", str(self._system.run_dir.path))
        while not self._is_over.is_set():
            ran = paraphina(*command)
            self.codes.append(ran.returncode)
            self.errors.update(ran.stderr.decode().splitlines())


def check_works(system: System) -> None:
    """Check that ``status``, a new consumer and ``restart`` find the system, and that a killed worker recovers."""
    system.wait_live([VENUE], RESTORED_S)
    assert paraphina("status", "--run-dir", str(system.run_dir.path)).returncode == 0
    assert has_book(system)
    generation = system.venue(VENUE)["generation"]
    assert paraphina("restart", VENUE, "--run-dir", str(system.run_dir.path)).returncode == 0
    wait_for(lambda: system.venue(VENUE)["generation"] > generation)
    system.wait_live([VENUE])
    generation = system.venue(VENUE)["generation"]
    os.kill(system.pid(VENUE), signal.SIGKILL)
    wait_for(lambda: system.venue(VENUE)["generation"] > generation)
    system.wait_live([VENUE])
    assert has_book(system)


def has_book(system: System) -> bool:
    """Return whether a new consumer gets a usable book."""
    with system.feed(venues=[VENUE], channels=["book"]) as feed:
        deadline = time.monotonic() + RESTORED_S
        while not feed.book(VENUE, SYMBOL).usable and time.monotonic() < deadline:
            feed.poll(0.1)
        return feed.book(VENUE, SYMBOL).usable


def in_parallel(*actions: Callable[[], None]) -> None:
    """Run actions at the same time; raise the first failure."""
    failed: list[BaseException] = []

    def run(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def lose_directory(system: System) -> None:
    names = {path.name for path in files_of(system)}
    shutil.rmtree(system.run_dir.path)
    wait_for(lambda: system.run_dir.path.exists() and {path.name for path in files_of(system)} >= names, RESTORED_S)
    assert system.run_dir.path.stat().st_mode & 0o777 == 0o700


def lose_each_file(system: System) -> None:
    for path in files_of(system):
        before = identity_of(path)
        path.unlink()
        wait_for(lambda path=path, before=before: identity_of(path) not in {None, before}, RESTORED_S, what=path.name)


def test_what_is_removed_comes_back_and_a_second_start_is_refused_meanwhile() -> None:
    with ExitStack() as stack:
        losses = [(stack.enter_context(new_system()), lose) for lose in (lose_directory, lose_each_file)]
        for system, _ in losses:
            system.wait_live([VENUE])
            system.admin(f"/account/{VENUE}", {"rate": 20, "run": True})
            wait_for(system.run_dir.account_published(VENUE, "desk").exists, what="a fill")
            wait_for(system.run_dir.account_checkpoint(VENUE).exists, what="a snapshot")

        def run(system: System, lose: Callable[[System], None]) -> None:
            with SecondStarts(system) as second:
                pid, kept = system.status()["supervisor"]["pid"], published_by(system)
                lose(system)
            assert published_by(system) >= kept
            assert set(second.codes) == {2}, second.errors
            assert system.status()["supervisor"]["pid"] == pid
            assert system.log(level="error") == []
            check_works(system)
            assert system.stop() == 0
            assert system.venue(VENUE)["last_exit"]["reason"] == "requested", "the last state is in the restored board"

        in_parallel(*(lambda system=system, lose=lose: run(system, lose) for system, lose in losses))


def published_by(system: System) -> set[str]:
    """Return the fills and payments in the checkpoint; a restart must not publish them again."""
    return set(system.run_dir.account_published(VENUE, "desk").read_text().splitlines())


# --- what cannot be restored ------------------------------------------------------------------------------------------


def replace_directory_by_link(system: System) -> None:
    away = system.path / "away"
    system.run_dir.path.rename(away)
    system.run_dir.path.symlink_to(away)


def replace_directory_by_file(system: System) -> None:
    system.run_dir.path.rename(system.path / "away")
    system.run_dir.path.touch()


def replace_feed_by_link(system: System) -> None:
    feed = system.run_dir.feed_path("lighter")
    feed.unlink()
    (system.path / "other").touch()
    feed.symlink_to(system.path / "other")


def replace_board_by_directory(system: System) -> None:
    system.run_dir.board.unlink()
    system.run_dir.board.mkdir()


REPLACED = (replace_directory_by_link, replace_directory_by_file, replace_feed_by_link, replace_board_by_directory)


def test_what_is_replaced_ends_the_system_with_one_error_and_leaves_what_is_not_ours() -> None:
    with ExitStack() as stack:
        losses = [(stack.enter_context(System("--venues", "lighter")), replace) for replace in REPLACED]

        def run(system: System, replace: Callable[[System], None]) -> None:
            system.wait_live(["lighter"])
            children = system.descendants()
            replace(system)
            assert system.process is not None
            assert system.process.wait(3 * RESTORED_S) == 4
            (error,) = system.log(level="error")
            assert (error["event"], error["reason"]) == ("supervisor.run_dir_lost", "run_dir_lost")
            assert str(system.run_dir.path) in error["error"]
            assert not any(child.is_running() for child in children)

        in_parallel(*(lambda system=system, replace=replace: run(system, replace) for system, replace in losses))
        by_link, by_file, feed_by_link, board_by_directory = (system for system, _ in losses)
        assert by_link.run_dir.path.is_symlink()
        assert by_file.run_dir.path.is_file()
        assert feed_by_link.run_dir.feed_path("lighter").is_symlink()
        assert (feed_by_link.path / "other").exists()
        assert board_by_directory.run_dir.board.is_dir()


# --- other ends and other systems -------------------------------------------------------------------------------------


def test_other_systems_and_the_next_one() -> None:
    with System("--venues", "lighter") as system:
        system.wait_live(["lighter"])
        check_worker_without_parent(system)
        assert system.process is not None
        left = [system.run_dir.path / ".board.4194305", system.run_dir.feed_path("aster")]
        left[0].touch()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(left[1]))
        system.process.kill()
        system.process.wait()
        system.start()
        pid = system.process.pid
        wait_for(lambda: system.status()["supervisor"]["pid"] == pid)
        system.wait_live(["lighter"])
        assert not any(path.exists() for path in left)


@pytest.fixture(scope="module")
def unshare() -> str:
    """Program that runs another one in a network namespace of its own."""
    path = shutil.which("unshare")
    if path is None or subprocess.run([path, "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs to create a network namespace")
    return path


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for socket names."""
    path = Path(tempfile.mkdtemp(prefix="pp-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def test_a_system_in_another_network_namespace_is_refused_by_the_lock_file(unshare: str, short_dir: Path) -> None:
    """Its abstract socket is another one."""
    run_dir = str(short_dir / "run")
    command = [sys.executable, "-m", "supervisor", "start", "--sim", "--venues", "lighter", "--run-dir", run_dir]
    with subprocess.Popen([sys.executable, "-c", HOLDER, run_dir], stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == b"held\n"
            seconds = [
                subprocess.Popen([*prefix, *command, "--for", "3"], stderr=subprocess.PIPE)
                for prefix in ((), (unshare, "-n"))
            ]
            errors = [second.communicate(timeout=60)[1].decode() for second in seconds]
        finally:
            first.kill()
    assert [second.returncode for second in seconds] == [2, 2]
    assert all(f"a supervisor is already running here (pid {first.pid})" in error for error in errors)


def check_worker_without_parent(system: System) -> None:
    """Check that a venue's worker on its own restores its directory, and ends when it cannot."""
    urls = system.run_dir.describe()["simulator"]["venues"]["lighter"]
    place = system.path / "alone"
    options = ("--ws-url", urls["ws"], "--rest-url", urls["rest"], "--run-dir", str(place))
    command = [sys.executable, "-m", "supervisor", "worker", "lighter", *options]
    alone = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        names = ("board", "describe.json", "supervisor.lock", "lighter.feed", "lighter.json", "lighter.markets.json")
        wait_for(lambda: all((place / name).exists() for name in names))
        shutil.rmtree(place)
        wait_for(lambda: all((place / name).exists() for name in names), RESTORED_S)
        assert paraphina("worker", "lighter", *options).returncode == 2
        place.rename(system.path / "away")
        place.symlink_to(system.path / "away")
        assert alone.wait(RESTORED_S) == 4
    finally:
        alone.kill()
        alone.wait()
