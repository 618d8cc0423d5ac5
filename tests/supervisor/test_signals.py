"""Signals to children, orphans and debuggers: real processes, and kernel calls that are refused."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from ptrace import Debugger

from ipc import log
from supervisor import proc
from supervisor import spawn as module
from supervisor.spawn import reap_orphans, spawn


@pytest.fixture
def in_fork(forking):
    return forking.in_fork


def refuse(*_):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def sleeping():
    time.sleep(60)


def await_end(forking, child):
    assert forking.has_ended(child.pid)
    return child.reap()


# --- without pidfd_send_signal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_refused_call_is_replaced_by_the_pid_of_an_unreaped_child(in_fork, forking, code):
    def scenario():
        def fail(*_):
            raise OSError(code, os.strerror(code))

        signal.pidfd_send_signal = fail
        child = spawn("child", sleeping)
        child.signal(signal.SIGTERM)
        return await_end(forking, child)

    assert in_fork(scenario) == (None, signal.SIGTERM)


def test_a_reaped_child_is_never_signalled_by_pid(in_fork, forking):
    """Forking another child makes multiprocess reap the first, whose pid may then be a stranger's."""

    def scenario():
        sent = []
        first = spawn("first", lambda: None)
        assert forking.has_ended(first.pid)
        second = spawn("second", sleeping)
        signal.pidfd_send_signal = refuse
        real, os.kill, os.killpg = os.kill, lambda *args: sent.append(args), lambda *args: sent.append(args)
        first.signal(signal.SIGTERM)
        first.kill_group()
        os.kill = real
        second.signal(signal.SIGKILL)
        return sent, first.reap(), await_end(forking, second)

    assert in_fork(scenario) == ([], (0, None), (None, signal.SIGKILL))


def test_a_signal_that_is_refused_altogether_is_logged(in_fork, forking, tmp_path):
    def scenario():
        file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 2)
        log.setup("info", pretty=False)
        child = spawn("child", sleeping)
        real, signal.pidfd_send_signal = signal.pidfd_send_signal, refuse
        real_kill, os.kill = os.kill, refuse
        child.signal(signal.SIGTERM)
        signal.pidfd_send_signal, os.kill = real, real_kill
        child.signal(signal.SIGKILL)
        return child.pid, await_end(forking, child)

    pid, end = in_fork(scenario)
    assert end == (None, signal.SIGKILL)
    [record] = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (record["event"], record["worker_pid"], record["number"]) == ("child.signal_refused", pid, signal.SIGTERM)


def test_no_other_place_signals_by_pid():
    """A pid may be of another process by then, or of another namespace; 0 is the own process group."""
    root = Path(__file__).parents[2]
    paths = [
        path for package in ("ipc", "simulator", "supervisor", "workers") for path in (root / package).rglob("*.py")
    ]
    found = {path.relative_to(root).as_posix() for path in paths if re.search(r"\bos\.kill(pg)?\b", path.read_text())}
    assert found == {"supervisor/spawn.py"}


# --- orphans ----------------------------------------------------------------------------------------------------------


def leave_orphans(count):
    """Fork grandchildren that end after their parent."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        for _ in range(count):
            if os.fork() == 0:
                os.close(writer)
                os.read(reader, 1)  # until the last holder of the other end is gone
                os._exit(3)
        os._exit(0)
    os.close(reader)
    return writer


def children():
    return Path("/proc/thread-self/children").read_text().split()


def test_orphans_are_reaped_and_own_children_keep_their_exit_codes(in_fork, forking):
    def scenario():
        forking.adopt_orphans()
        own = {child.pid: child for child in (spawn("one", lambda: os._exit(5)), spawn("two", sleeping))}
        os.close(leave_orphans(20))
        forking.wait_until(lambda: len(children()) == 23)
        one, two = own.values()
        assert forking.has_ended(one.pid)
        reap_orphans(own)
        seen = one.reap()
        own.pop(one.pid)

        def only_own_are_left():
            reap_orphans(own)
            return children() == [str(two.pid)]

        forking.wait_until(only_own_are_left)
        two.signal(signal.SIGKILL)
        return seen, await_end(forking, two)

    assert in_fork(scenario) == ((5, None), (None, signal.SIGKILL))


def test_no_child_at_all(in_fork):
    assert in_fork(lambda: reap_orphans([])) is None


# --- debuggers --------------------------------------------------------------------------------------------------------


def traced_states(forking, child, thread):
    """Return whether a child is traced before, during and after a debugger holds one of its threads."""
    seen = [child.is_traced()]
    try:
        with Debugger(thread):
            seen.append(child.is_traced())
        seen.append(child.is_traced())
    except PermissionError:
        seen = []
    child.signal(signal.SIGKILL)
    await_end(forking, child)
    return seen


def require_seen(seen):
    if not seen:
        pytest.skip("needs ptrace")
    assert seen == [False, True, False]


def test_a_debugger_is_seen(in_fork, forking):
    def scenario():
        child = spawn("child", sleeping)
        return traced_states(forking, child, child.pid)

    require_seen(in_fork(scenario))


def test_a_debugger_of_another_thread_is_seen(in_fork, forking):
    def two_threads():
        threading.Thread(target=sleeping, daemon=True).start()
        sleeping()

    def scenario():
        child = spawn("child", two_threads)
        tasks = Path(f"/proc/{child.pid}/task")
        [other] = forking.wait_until(lambda: [t.name for t in tasks.iterdir() if t.name != str(child.pid)])
        return traced_states(forking, child, int(other))

    require_seen(in_fork(scenario))


@pytest.mark.parametrize(
    ("status", "traced"),
    [
        ("State:\tS (sleeping)\nTracerPid:\t0\n", False),
        ("State:\tS (sleeping)\nTracerPid:\t17\n", True),
        ("State:\tt (tracing stop)\nTracerPid:\t0\n", True),
        ("State:\tT (stopped)\nTracerPid:\t0\n", False),
        ("", False),
    ],
)
def test_a_tracer_of_another_namespace_shows_by_the_state_alone(monkeypatch, status, traced):
    monkeypatch.setattr(proc, "_status_of", lambda _: ("Name:\tState:\\tT\n" * bool(status) + status).encode())
    assert module.ForkedProcess(None, os.getpid(), -1).is_traced() is traced


def test_a_process_that_is_gone_is_not_traced():
    assert not module.ForkedProcess(None, 2**22 + 1, -1).is_traced()
