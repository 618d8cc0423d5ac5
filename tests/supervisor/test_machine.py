"""Requirements of the machine, on one that meets them and with calls that are refused."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys

import pytest

from ipc.errors import UsageError
from supervisor import machine

ADVICE = "in the seccomp profile of the container runtime, or use a newer runtime"


def failing(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


def problems():
    return {what: problem for what, problem in machine.findings() if problem is not None}


def test_this_machine_has_all_of_it():
    assert problems() == {}
    assert machine.require_machine() is None


def test_a_probe_leaves_no_descriptor(forking):
    before = forking.descriptors()
    list(machine.findings())
    assert forking.descriptors() == before


def test_pidfd_open_refused_by_a_profile(monkeypatch):
    monkeypatch.setattr(os, "pidfd_open", failing(errno.EPERM))
    problem = f"pidfd_open is refused: Operation not permitted (allow pidfd_open {ADVICE})"
    assert problems() == {"Linux with pidfds": problem}
    assert not any(what.startswith("signals") for what, _ in machine.findings())
    with pytest.raises(UsageError) as caught:
        machine.require_machine()
    assert str(caught.value) == f"Linux with pidfds: {problem}"


def test_scheduling_refused_by_a_profile(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", failing(errno.EPERM))
    problem = f"sched_setscheduler is refused: Operation not permitted (allow sched_setscheduler {ADVICE})"
    assert problems() == {"scheduling of threads": problem}


def test_another_failure_has_no_advice_on_profiles(monkeypatch):
    monkeypatch.setattr(os, "pidfd_open", failing(errno.EMFILE))
    assert problems() == {"Linux with pidfds": "pidfd_open fails: Too many open files"}


def test_pidfd_open_missing_in_the_kernel(monkeypatch):
    monkeypatch.setattr(os, "pidfd_open", failing(errno.ENOSYS))
    assert f"this program needs Linux 5.4 or newer, this is {os.uname().release}" in problems()["Linux with pidfds"]


def test_a_python_without_pidfd_open(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    assert problems()["Linux with pidfds"].startswith("this Python was built without os.pidfd_open")


def test_another_system_has_one_finding(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert list(machine.findings()) == [("Linux with pidfds", "darwin has none; this program needs Linux 5.4 or newer")]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_refused_pidfd_send_signal_is_replaced(monkeypatch, code):
    monkeypatch.setattr(signal, "pidfd_send_signal", failing(code))
    assert problems() == {}
    assert any(what.startswith("signals by pid: pidfd_send_signal is refused") for what, _ in machine.findings())


@pytest.mark.parametrize(
    ("link", "problem"), [(None, "it is not mounted"), ("1", "it belongs to another PID namespace")]
)
def test_proc_of_another_namespace_or_none(monkeypatch, tmp_path, link, problem):
    if link is not None:
        (tmp_path / "self").symlink_to(link)
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert problems() == {
        "/proc of this PID namespace": (
            f"{problem} (mount this one's: mount -t proc proc /proc, or unshare --mount-proc)"
        )
    }


def test_a_refused_death_signal_and_no_abstract_sockets(monkeypatch):
    monkeypatch.setattr(machine, "_set_death_signal", failing(errno.EPERM))
    monkeypatch.setattr(machine, "_bind_abstract", failing(errno.EACCES))
    assert problems() == {
        "children that die with their parent": (
            f"prctl(PR_SET_PDEATHSIG) is refused: Operation not permitted (allow prctl(PR_SET_PDEATHSIG) {ADVICE})"
        ),
        "abstract Unix sockets": f"bind is refused: Permission denied (allow bind {ADVICE})",
    }


def test_the_death_signal_stays_as_it_was(forking):
    def scenario():
        before = death_signal()
        list(machine.findings())
        return before, death_signal()

    assert forking.in_fork(scenario) == (signal.SIGKILL, signal.SIGKILL)


def death_signal():
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))
    return number.value
