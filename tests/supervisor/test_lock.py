"""Lock of a run directory, held by the kernel."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from ipc.errors import AlreadyRunningError, RunDirError, UnknownStateError
from supervisor.lock import Holder, InstanceLock, holder_of


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
    with pytest.raises(UnknownStateError, match="ask as the user who runs it") as refused:
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
