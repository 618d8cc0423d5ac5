"""Lock of a run directory, held by the kernel."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipc.errors import AlreadyRunningError, RunDirError, UnknownStateError
from supervisor.lock import Holder, Instance, InstanceLock, InstanceName, holder_of, name_of


def test_nobody_holds_a_lock_that_does_not_exist(run_dir):
    assert holder_of(run_dir.lock) is None


def test_nobody_holds_a_file_that_is_only_there(run_dir):
    run_dir.lock.write_text("4711\n")
    assert holder_of(run_dir.lock) is None


def test_the_holder_is_known_by_its_pid(run_dir, held_lock):
    assert holder_of(run_dir.lock) == Holder(held_lock)


def test_a_directory_of_somebody_else_is_not_called_free(run_dir, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("supervisor.lock.os.open", refuse)
    with pytest.raises(UnknownStateError, match="refused: the system belongs to ") as refused:
        holder_of(run_dir.lock)
    assert refused.value.exit_code == 4


def test_a_second_holder_is_refused_with_the_pid_of_the_first(run_dir, held_lock):
    with pytest.raises(AlreadyRunningError, match=rf"already running here \(pid {held_lock}\)") as refused:
        InstanceLock(run_dir.lock)
    assert refused.value.exit_code == 2
    assert str(run_dir.path) in str(refused.value)
    assert "paraphina-supervisor stop" in refused.value.advice


def test_a_refused_one_leaves_the_lock_alone(run_dir, held_lock):
    before = run_dir.lock.read_text()
    for _ in range(3):
        with pytest.raises(AlreadyRunningError):
            InstanceLock(run_dir.lock)
    assert holder_of(run_dir.lock) == Holder(held_lock)
    assert run_dir.lock.read_text() == before == f"{held_lock}\n"


def test_a_refused_one_leaves_no_descriptor(run_dir, held_lock, forking):
    before = forking.descriptors()
    with pytest.raises(AlreadyRunningError):
        InstanceLock(run_dir.lock)
    assert forking.descriptors() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_holder_frees_it(run_dir, start_holder, number):
    holder = start_holder(run_dir.lock)
    holder.send_signal(number)
    holder.wait()
    assert holder_of(run_dir.lock) is None
    assert holder_of(run_dir.lock) != Holder(start_holder(run_dir.lock).pid)


def test_what_is_written_in_it_decides_nothing(run_dir, forking):
    """The file of a dead supervisor has the pid of a running process."""
    run_dir.lock.write_text(f"{os.getppid()}\nand much more than the next one writes\n")

    def scenario():
        InstanceLock(run_dir.lock)
        return run_dir.lock.read_text() == f"{os.getpid()}\n"

    assert forking.in_fork(scenario) is True


def test_a_child_does_not_inherit_it(run_dir, forking):
    """The holder dies while its child runs on; the next supervisor may start."""

    def scenario():
        forking.adopt_orphans()
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            lock = InstanceLock(run_dir.lock)
            child = os.fork()
            if child:
                os.write(writer, str(child).encode())
            time.sleep(60)
            del lock
        child = int(os.read(reader, 100))
        held_by = holder_of(run_dir.lock) == Holder(middle)
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        free = holder_of(run_dir.lock)
        InstanceLock(run_dir.lock)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return held_by, free

    assert forking.in_fork(scenario) == (True, None)


def test_a_childs_end_does_not_free_the_parents_lock(run_dir, forking):
    def scenario():
        InstanceLock(run_dir.lock)
        child = os.fork()
        if child == 0:
            os.closerange(3, 1000)
            os._exit(0)
        os.waitpid(child, 0)
        asker = os.fork()
        if asker == 0:
            os._exit(0 if holder_of(run_dir.lock) == Holder(os.getppid()) else 1)
        return os.waitpid(asker, 0)[1]

    assert forking.in_fork(scenario) == 0


def test_a_place_where_no_lock_can_be_made_is_named(run_dir):
    with pytest.raises(RunDirError, match="the lock cannot be made: No such file or directory") as refused:
        InstanceLock(run_dir.path / "missing" / "supervisor.lock")
    assert refused.value.exit_code == 2


def test_a_full_disk_does_not_matter_to_the_lock(run_dir, monkeypatch, forking):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("supervisor.lock.os.pwrite", full)
    forking.in_fork(lambda: InstanceLock(run_dir.lock) and None)


# --- the name ---------------------------------------------------------------------------------------------------------

#: Holds a run directory, or its name alone, until it is ended.
_INSTANCE = """
import signal, sys
from pathlib import Path
from ipc.rundir import RunDir
from supervisor.lock import Instance, InstanceName
held = InstanceName(Path(sys.argv[1])) if sys.argv[2:] else Instance(RunDir(Path(sys.argv[1])))
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def start_instance(run_dir):
    started = []

    def start(*options):
        command = [sys.executable, "-c", _INSTANCE, run_dir.path, *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b"held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_name_outlives_the_directory_and_ends_with_its_process(run_dir, start_instance):
    holder = start_instance()
    shutil.rmtree(run_dir.path)
    assert holder_of(run_dir.lock) == Holder(holder.pid)
    with pytest.raises(AlreadyRunningError, match=rf"already running here \(pid {holder.pid}\)"):
        Instance(run_dir)
    assert not run_dir.path.exists(), "not touched"
    holder.kill()
    holder.wait()
    assert holder_of(run_dir.lock) is None
    Instance(run_dir).close()
    assert run_dir.lock.exists()


def test_instance_that_was_closed_may_be_had_again(run_dir):
    for _ in range(2):
        Instance(run_dir).close()


def test_directory_that_cannot_be_used_frees_its_name(run_dir):
    run_dir.path.chmod(0o755)
    for _ in range(2):
        with pytest.raises(RunDirError, match="has mode 0755"):
            Instance(run_dir)


def test_directory_is_one_by_whatever_path(run_dir, start_instance):
    holder = start_instance("the name alone")
    other = run_dir.path.parent.with_name(run_dir.path.parent.name + "-link")
    other.symlink_to(run_dir.path.parent)
    try:
        with pytest.raises(AlreadyRunningError, match=str(holder.pid)):
            InstanceName(other / "run")
    finally:
        other.unlink()


def test_name_differs_by_user_path_and_file_system(run_dir, monkeypatch):
    names = {name_of(run_dir.path), name_of(run_dir.path / "deeper"), name_of(run_dir.path.parent)}
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path: SimpleNamespace(st_dev=real(path).st_dev + 1))
    names.add(name_of(run_dir.path))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    names.add(name_of(run_dir.path))
    assert len(names) == 5
    assert all(name[:1] == b"\0" and len(name) <= 108 for name in names)


def test_name_that_another_user_holds_blocks_nobody(run_dir, start_instance, monkeypatch, caplog):
    start_instance("the name alone")
    name, uid = name_of(run_dir.path), os.getuid()
    monkeypatch.setattr("supervisor.lock.name_of", lambda _: name)
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert holder_of(run_dir.lock) is None
    InstanceName(run_dir.path).close()
    assert [record.getMessage() for record in caplog.records] == ["run_dir.name_taken"]


def test_name_that_nobody_answers_for_blocks_for_a_second_only(run_dir, caplog):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(name_of(run_dir.path))
        InstanceName(run_dir.path).close()
        assert holder_of(run_dir.lock) is None
    assert [record.getMessage() for record in caplog.records] == ["run_dir.name_taken"]


def test_questions_are_answered_while_the_holder_drops_them(run_dir, monkeypatch):
    monkeypatch.setattr("supervisor.lock._BACKLOG", 2)
    name = InstanceName(run_dir.path)
    asked = []
    for _ in range(10):
        asked.append(holder_of(run_dir.lock))
        name.drop_questions()
    name.close()
    assert asked == [Holder(os.getpid())] * 10


def test_holder_in_another_pid_namespace_has_no_pid(run_dir, held_lock, monkeypatch):
    unpack = struct.unpack
    monkeypatch.setattr("supervisor.lock.struct.unpack", lambda form, data: (*unpack(form, data)[:-1], 0))
    assert holder_of(run_dir.lock) == Holder(None)
    with pytest.raises(AlreadyRunningError, match="in another PID namespace"):
        InstanceLock(run_dir.lock)
