"""Watch over the run directory: what is lost comes back, what is replaced is an error."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from ipc.board import Board, HeaderWord
from ipc.control import ControlReply, ControlRequest, ask
from ipc.errors import RunDirLostError
from ipc.watched_files import identity_of
from supervisor.control import ControlServer
from supervisor.guard import GuardThread, RunDirGuard
from supervisor.lock import Holder, Instance
from supervisor.reactor import Reactor

HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
def instance(run_dir):
    instance = Instance(run_dir)
    yield instance
    instance.close()


@pytest.fixture
def board(run_dir, instance):
    board = Board.create(run_dir.board, 7)
    yield board
    board.close()


@pytest.fixture
def guard(run_dir, instance, board):
    return RunDirGuard(run_dir, instance, board)


def lose(run_dir):
    shutil.rmtree(run_dir.path)


def holder_seen_by_others(run_dir):
    """Ask in another process, for nobody sees a lock of its own; of the file alone."""
    program = "import sys, pathlib, supervisor.lock as lock; print(lock._holder_of_file(pathlib.Path(sys.argv[1])))"
    return subprocess.check_output([sys.executable, "-c", program, run_dir.lock], text=True).strip()


def test_directory_and_lock_come_back(run_dir, guard):
    lose(run_dir)
    guard.check(0)
    assert stat.S_IMODE(run_dir.path.stat().st_mode) == 0o700
    assert holder_seen_by_others(run_dir) == str(Holder(os.getpid()))
    assert run_dir.lock.read_text() == f"{os.getpid()}\n"


def test_what_is_intact_is_left_alone(run_dir, guard):
    before = {entry.name: identity_of(entry.path) for entry in run_dir.entries()}
    guard.check(0)
    guard.refresh_board()
    assert {entry.name: identity_of(entry.path) for entry in run_dir.entries()} == before


def test_lock_that_was_removed_is_locked_again(run_dir, guard):
    run_dir.lock.unlink()
    guard.check(0)
    assert holder_seen_by_others(run_dir) == str(Holder(os.getpid()))


def test_lock_that_another_system_has_taken_is_the_end(run_dir, guard, start_holder):
    """In another network namespace nobody knows our name."""
    run_dir.lock.unlink()
    holder = start_holder(run_dir.lock)
    with pytest.raises(RunDirLostError, match=rf"already running here \(pid {holder.pid}\)") as lost:
        guard.check(0)
    assert lost.value.exit_code == 4
    assert run_dir.lock.read_text() == f"{holder.pid}\n"


def test_new_readers_see_a_copy_of_a_lost_board_and_old_ones_the_board(run_dir, guard, board):
    old = Board.attach(run_dir.board)
    lose(run_dir)
    board.header[HeaderWord.FORKS] = 5
    guard.check(0)
    new = Board.attach(run_dir.board)
    assert (new.header[HeaderWord.FORKS], new.header[HeaderWord.CREATED_WALL_NS]) == (5, 7)
    board.header[HeaderWord.FORKS] = 6
    guard.refresh_board()
    assert new.header[HeaderWord.FORKS] == old.header[HeaderWord.FORKS] == 6
    for reader in (old, new):
        reader.close()


def test_copy_that_is_lost_is_copied_again(run_dir, guard, board):
    for forks in (5, 6):
        run_dir.board.unlink()
        board.header[HeaderWord.FORKS] = forks
        guard.check(0)
        reader = Board.attach(run_dir.board)
        assert reader.header[HeaderWord.FORKS] == forks
        reader.close()


def test_simulators_certificate_comes_back(run_dir, instance, board):
    run_dir.simulator_ca.write_text("certificate")
    guard = RunDirGuard(run_dir, instance, board)
    lose(run_dir)
    guard.check(0)
    assert run_dir.simulator_ca.read_text() == "certificate"


def replace(path, by):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    {"link": lambda: path.symlink_to(path.parent), "directory": path.mkdir, "file": path.touch}[by]()


@pytest.mark.parametrize(
    ("name", "by"),
    [
        *((".", by) for by in ("link", "file")),
        *(
            (name, by)
            for name in ("board", "control", "lighter.feed", "supervisor.lock")
            for by in ("link", "directory")
        ),
    ],
)
def test_what_is_replaced_is_the_end_and_stays(run_dir, guard, name, by):
    path = run_dir.path / name
    replace(path, by)
    before = identity_of(path)
    with pytest.raises(RunDirLostError) as lost:
        guard.check(0)
    assert lost.value.where == str(path)
    assert identity_of(path) == before


def test_another_users_directory_is_the_end(run_dir, guard, monkeypatch):
    run_dir.path.rename(run_dir.path.with_name("away"))
    run_dir.path.mkdir(0o700)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(RunDirLostError, match=f"belongs to uid {owner}, not to you"):
        guard.check(0)


def test_directory_of_ours_that_is_not_private_is_the_end_when_it_is_a_new_one(run_dir, guard):
    lose(run_dir)
    run_dir.path.mkdir()
    run_dir.path.chmod(0o755)
    with pytest.raises(RunDirLostError, match="has mode 0755"):
        guard.check(0)


def test_directory_that_cannot_be_created_again_is_the_end(run_dir, guard):
    """As after a logout, which removes the user's runtime directory with all in it."""
    above = run_dir.path.parent
    above.rename(above.with_name(above.name + "-away"))
    above.touch()
    try:
        with pytest.raises(RunDirLostError):
            guard.check(0)
    finally:
        above.unlink()
        above.with_name(above.name + "-away").rename(above)


@pytest.mark.parametrize(("number", "is_lost"), [(errno.EACCES, True), (errno.EROFS, True), (errno.ENOSPC, False)])
@pytest.mark.parametrize("call", ["os.scandir", "pathlib.Path.mkdir", "supervisor.lock.os.open"])
def test_permission_is_the_end_and_a_lack_of_space_is_not(run_dir, guard, monkeypatch, caplog, number, is_lost, call):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    lose(run_dir)
    with monkeypatch.context() as refusing:
        refusing.setattr(call, refuse)
        if is_lost:
            with pytest.raises(RunDirLostError, match=os.strerror(number)):
                guard.check(0)
            return
        for _ in range(3):
            guard.check(0)
    assert [one.getMessage() for one in caplog.records if one.msg != "run_dir.restored"] == ["run_dir.not_restored"]
    guard.check(0)
    assert run_dir.board.exists()
    assert holder_seen_by_others(run_dir) == str(Holder(os.getpid()))


def test_files_are_touched_every_hour(run_dir, guard):
    paths = [run_dir.path, run_dir.board, run_dir.lock]
    guard.check(1)
    for path in paths:
        os.utime(path, (1, 1))
    guard.check(HOUR_NS)
    assert all(path.stat().st_mtime == 1 for path in paths)
    guard.check(HOUR_NS + 1)
    assert all(path.stat().st_mtime > time.time() - 60 for path in paths)


def test_link_is_not_followed_and_a_foreign_name_not_touched(run_dir, guard):
    notes = run_dir.path / "notes"
    notes.touch()
    os.utime(notes, (1, 1))
    (run_dir.path / "link").symlink_to(notes)
    guard.check(1)
    assert notes.stat().st_mtime == 1


def test_process_without_a_parent_is_stopped_by_its_thread(run_dir, guard):
    stop = threading.Event()
    thread = GuardThread(guard, stop)
    replace(run_dir.path, "link")
    assert stop.wait(15)
    with pytest.raises(RunDirLostError, match="is a symbolic link"):
        thread.join()


def test_thread_ends_with_its_process(guard):
    stop = threading.Event()
    thread = GuardThread(guard, stop)
    stop.set()
    thread.join()


# --- in the parent ----------------------------------------------------------------------------------------------------


def test_parent_restores_socket_and_description_and_its_clients_stay(new_world, run_dir):
    world = new_world(venues="lighter")
    described = []
    world.at(2, lambda: described.append(run_dir.description.read_bytes()))
    world.at(2, lambda: lose(run_dir))
    world.at(4, lambda: described.append(run_dir.description.read_bytes()))
    world.at(4, lambda: described.append(run_dir.control.is_socket()))
    assert world.run(6) == 0
    assert described == [described[0], described[0], True]
    assert not run_dir.control.exists()


def test_parent_restores_the_description_of_the_configuration_that_it_runs(new_world, run_dir):
    world = new_world(venues="lighter")
    described = []
    world.environ["PARAPHINA_MARKETS"] = "BTC"
    world.at(1, lambda: world.environ.update(PARAPHINA_MARKETS="SOL"))
    world.signal_at(2, signal.SIGHUP)
    world.at(4, run_dir.description.unlink)
    world.at(6, lambda: described.append(run_dir.describe()["venues"]["lighter"]["symbols"]))
    world.run(8)
    assert described == [["SOL-PERP"]]


def test_parent_stops_with_one_error_and_leaves_the_others_socket(new_world, run_dir, caplog):
    world = new_world(venues="lighter")
    world.at(2, lambda: (run_dir.control.unlink(), run_dir.control.mkdir()))
    assert world.run(60) == 4
    assert world.now_s < 10
    assert not world.living()
    assert run_dir.control.is_dir()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [error.getMessage() for error in errors] == ["supervisor.run_dir_lost"]


def test_request_at_the_restored_socket_is_answered(run_dir, instance, board):
    reactor = Reactor()
    server = ControlServer(run_dir.control, lambda *_: ControlReply(True), reactor.watch)
    run_dir.control.unlink()
    assert not server.is_intact
    server.relisten()
    assert server.is_intact
    asked = threading.Thread(target=lambda: (ask(run_dir.control, ControlRequest("stop")), reactor.stop()))
    asked.start()
    reactor.at(time.monotonic_ns() + 15_000_000_000, reactor.stop)
    reactor.run()
    asked.join(15)
    assert not asked.is_alive()
    server.close()
    reactor.close()
