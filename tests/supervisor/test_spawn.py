"""Forks of real processes: environment, exit and cleanup of a child."""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ipc import log
from ipc.errors import ConfigError
from supervisor.spawn import CONFIG_EXIT, ForkError, prepare, spawn


@pytest.fixture
def in_fork(forking):
    return forking.in_fork


@pytest.fixture
def ended(forking):
    """Return a function that waits for a child's exit and reaps it: (exit code, signal)."""

    def wait(child):
        assert forking.has_ended(child.pid), "it goes on"
        return child.reap()

    return wait


def written(path):
    """Wait for what a child wrote with :func:`write`, and return it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists():
            return json.loads(path.read_text())
        time.sleep(0.005)
    raise AssertionError(f"nobody wrote {path.name}")


def write(path, what):
    """Write ``what`` atomically; for targets, which have the standard descriptors alone."""
    path.with_suffix(".new").write_text(json.dumps(what))
    path.with_suffix(".new").rename(path)


def stderr_into(path):
    """Redirect standard error and the log into a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)
    os.close(file)
    log.setup("info", pretty=False)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_a_target_that_returns_ends_with_zero(in_fork, ended):
    assert in_fork(lambda: ended(spawn("child", lambda: None))) == (0, None)


def test_an_exception_ends_it_with_one_and_is_logged_with_its_traceback(in_fork, ended, tmp_path):
    def crash():
        raise ValueError("the venue sent a banana")

    def scenario():
        stderr_into(tmp_path / "err")
        return ended(spawn("lighter", crash))

    assert in_fork(scenario) == (1, None)
    (record,) = records(tmp_path / "err")
    assert (record["event"], record["level"], record["child"]) == ("child.crashed", "error", "lighter")
    assert "the venue sent a banana" in record["traceback"]
    assert "in crash" in record["traceback"]


def test_a_configuration_error_ends_it_with_78_and_is_named(in_fork, ended, tmp_path):
    def wrong():
        raise ConfigError(["paraphina.toml:venues.lighter.stale_ms: is no number"])

    def scenario():
        stderr_into(tmp_path / "err")
        return ended(spawn("lighter", wrong))

    assert CONFIG_EXIT == 78
    assert in_fork(scenario) == (78, None)
    (record,) = records(tmp_path / "err")
    assert record["event"] == "child.config_error"
    assert "venues.lighter.stale_ms" in record["error"]
    assert "traceback" not in record


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_in_a_target_is_a_crash(in_fork, ended, tmp_path, code):
    def scenario():
        stderr_into(tmp_path / "err")
        return ended(spawn("child", lambda: sys.exit(code)))

    assert in_fork(scenario) == (1, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_signal_is_reported_as_such(in_fork, ended, number):
    assert in_fork(lambda: ended(spawn("child", lambda: os.kill(os.getpid(), number)))) == (None, number)


def test_what_the_target_printed_is_flushed(in_fork, ended, tmp_path):
    def say():
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stdout.write("half a line")

    def scenario():
        file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        return ended(spawn("child", say))

    assert in_fork(scenario) == (0, None)
    assert (tmp_path / "out").read_text() == "half a line"


def test_a_closed_standard_output_does_not_change_the_end(in_fork, ended):
    def say():
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stdout.write("into nowhere")
        os.close(1)

    assert in_fork(lambda: ended(spawn("child", say))) == (0, None)


# --- what a child finds -----------------------------------------------------------------------------------------------


def test_a_child_leads_a_process_group_of_its_own(in_fork, ended, tmp_path):
    def scenario():
        child = spawn("child", lambda: write(tmp_path / "said", [os.getpid(), os.getpgid(0), os.getsid(0)]))
        ended(child)
        return child.pid, os.getpgid(0), os.getsid(0)

    pid, group, session = in_fork(scenario)
    assert written(tmp_path / "said") == [pid, pid, session]
    assert group != pid


def test_a_child_has_only_the_standard_descriptors(in_fork, ended, forking, tmp_path):
    def scenario():
        kept = [os.pipe() for _ in range(20)]
        sibling = spawn("sibling", lambda: time.sleep(60))
        ended(spawn("child", lambda: write(tmp_path / "said", sorted(forking.descriptors()))))
        sibling.kill_group()
        ended(sibling)
        return len(kept)

    in_fork(scenario)
    assert written(tmp_path / "said") == [0, 1, 2]


def test_a_child_has_default_handlers_and_ignores_the_terminal(in_fork, ended, tmp_path):
    asked = ("SIGTERM", "SIGCHLD", "SIGALRM", "SIGRTMIN", "SIGINT", "SIGPIPE", "SIGUSR2", "SIGTTOU", "SIGHUP")

    def look():
        handlers = {name: str(signal.getsignal(signal.Signals[name])) for name in asked}
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        write(tmp_path / "said", [handlers, blocked, signal.set_wakeup_fd(-1)])

    def scenario():
        for name in asked:
            signal.signal(signal.Signals[name], lambda *_: None)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        return ended(spawn("child", look)), reader

    in_fork(scenario)
    handlers, blocked, wakeup = written(tmp_path / "said")
    default, ignored = str(signal.SIG_DFL), str(signal.SIG_IGN)
    assert handlers == dict(zip(asked, [default] * 4 + [ignored] * 5, strict=True))
    assert blocked == []
    assert wakeup == -1


def test_a_child_is_not_the_service_that_systemd_started(in_fork, ended, monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", "@somewhere")

    def scenario():
        end = ended(spawn("child", lambda: write(tmp_path / "said", os.environ.get("NOTIFY_SOCKET"))))
        return end, os.environ["NOTIFY_SOCKET"]

    assert in_fork(scenario) == ((0, None), "@somewhere")
    assert written(tmp_path / "said") is None


def test_an_interrupt_from_the_terminal_does_not_end_a_child(in_fork, ended):
    assert in_fork(lambda: ended(spawn("child", lambda: os.kill(os.getpid(), signal.SIGINT)))) == (0, None)


def test_a_hang_up_does_not_end_a_child(in_fork, ended):
    assert in_fork(lambda: ended(spawn("child", lambda: os.kill(os.getpid(), signal.SIGHUP)))) == (0, None)


def test_the_dump_signal_writes_the_stacks_and_ends_nothing(in_fork, ended, tmp_path):
    def busy_here():
        os.kill(os.getpid(), signal.SIGUSR1)

    def scenario():
        stderr_into(tmp_path / "err")
        return ended(spawn("child", busy_here))

    assert in_fork(scenario) == (0, None)
    assert "busy_here" in (tmp_path / "err").read_text()


def test_two_children_do_not_draw_the_same_chance(in_fork, ended, tmp_path):
    def scenario():
        random.seed(1)
        for name in ("one", "two"):
            ended(spawn(name, lambda name=name: write(tmp_path / name, random.random())))

    in_fork(scenario)
    assert written(tmp_path / "one") != written(tmp_path / "two")


# --- parent and child -------------------------------------------------------------------------------------------------


def test_children_die_with_a_parent_that_is_killed(in_fork, forking, tmp_path):
    """A grandparent kills the parent; the children exit although they ignore every signal that they can."""

    def deaf():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60)

    def parent(writer):
        pids = [spawn(f"child {n}", deaf).pid for n in range(3)]
        while len(list(tmp_path.iterdir())) < len(pids):
            time.sleep(0.01)
        os.write(writer, json.dumps(pids).encode())
        time.sleep(60)

    def scenario():
        forking.adopt_orphans()
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            parent(writer)
        pids = json.loads(os.read(reader, 1000))
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        return [forking.has_ended(pid) and os.waitpid(pid, 0)[1] for pid in pids]

    assert in_fork(scenario) == [signal.SIGKILL] * 3


def test_a_child_whose_parent_died_during_the_fork_ends_before_its_target(in_fork, ended, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert in_fork(lambda: ended(spawn("child", lambda: write(tmp_path / "said", "ran")))) == (1, None)
    assert not (tmp_path / "said").exists()


def test_a_signal_during_the_fork_waits_for_the_parent_and_spares_the_child(in_fork, ended, monkeypatch):
    def scenario():
        heard = []
        signal.signal(signal.SIGTERM, lambda *_: heard.append(os.getpid()))
        fork = os.fork

        def interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            return fork()

        os.fork = interrupted
        end = ended(spawn("child", lambda: None))
        return end, heard == [os.getpid()], signal.pthread_sigmask(signal.SIG_BLOCK, ())

    assert in_fork(scenario) == ((0, None), True, set())


def test_a_signal_right_after_the_fork_is_not_handled_as_the_parent_would(in_fork, ended):
    """It reaches the child before its first line: the parent's handler must not run there."""

    def scenario():
        signal.signal(signal.SIGTERM, lambda *_: None)
        fork = os.fork

        def struck():
            pid = fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return pid

        os.fork = struck
        return ended(spawn("child", lambda: None))

    assert in_fork(scenario) == (None, signal.SIGTERM)


def test_the_parents_mask_is_what_it_was(in_fork, ended):
    def scenario():
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
        ended(spawn("child", lambda: None))
        return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]

    assert in_fork(scenario) == [signal.SIGUSR2]


def test_a_second_thread_forbids_the_fork(in_fork):
    def scenario():
        end = threading.Event()
        thread = threading.Thread(target=end.wait, daemon=True)
        thread.start()
        with pytest.raises(RuntimeError, match="one thread"):
            spawn("child", lambda: None)
        end.set()
        thread.join()

    in_fork(scenario)


# --- no room ----------------------------------------------------------------------------------------------------------


def refuse(*_):
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_no_room_for_a_process_is_an_error_with_its_name(in_fork, monkeypatch):
    def scenario():
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.fork = refuse
        with pytest.raises(ForkError, match="cannot fork lighter: Resource temporarily unavailable"):
            spawn("lighter", lambda: None)
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())

    assert in_fork(scenario) == set(), "and signals are let through again"


def test_a_failed_fork_leaves_no_descriptor(in_fork, forking):
    def scenario():
        before = forking.descriptors()
        os.fork = refuse
        for _ in range(5):
            with pytest.raises(ForkError):
                spawn("child", lambda: None)
        gc.collect()
        return sorted(forking.descriptors() - before)

    assert in_fork(scenario) == []


def test_a_child_that_cannot_be_watched_does_not_live_on(in_fork, forking):
    def scenario():
        os.pidfd_open, real = refuse, os.pidfd_open
        with pytest.raises(ForkError):
            spawn("child", lambda: time.sleep(60))
        os.pidfd_open = real
        return Path("/proc/thread-self/children").read_text()

    assert in_fork(scenario) == ""


def test_no_room_for_descriptors_is_an_error_too_and_leaves_none(in_fork, ended, forking):
    """Any step may lack a descriptor: reading the threads, a pipe, the second pipe, the pidfd."""

    def scenario():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        gc.collect()  # what earlier tests left
        while os.open(os.devnull, os.O_RDONLY) < max(forking.descriptors()):
            pass  # the free numbers below the limit are to be those above all that is open
        before = forking.descriptors()
        outcomes = []
        for free in range(8):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + free, hard))
            try:
                child = spawn("lighter", lambda: None)
            except ForkError as error:
                outcomes.append("Too many open files" in str(error))
                child = None
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            if child is not None:
                ended(child)
            gc.collect()
            assert forking.descriptors() <= before, f"with {free} free"
        assert Path("/proc/thread-self/children").read_text() == ""
        return outcomes

    outcomes = in_fork(scenario)
    assert len(outcomes) >= 3
    assert all(outcomes)


# --- as the parent holds it -------------------------------------------------------------------------------------------


def test_two_hundred_children_leave_no_descriptor_and_no_zombie(in_fork, ended, forking):
    def scenario():
        ended(spawn("first", lambda: None))
        before = forking.descriptors()
        # Kept, so that nothing is given back merely because nobody holds it any more.
        children, ends = [], set()
        for _ in range(10):
            batch = [spawn(f"child {n}", lambda: None) for n in range(20)]
            ends |= {ended(child) for child in batch}
            children += batch
        return ends, sorted(forking.descriptors() - before), Path("/proc/thread-self/children").read_text()

    assert in_fork(scenario, 60) == ({(0, None)}, [], "")


def test_reaping_out_of_order_gives_each_its_own_end(in_fork, ended):
    def scenario():
        targets = {n: spawn(f"child {n}", lambda n=n: os._exit(n)) for n in range(5)}
        return {n: ended(targets[n]) for n in (4, 0, 3, 1, 2)}

    assert in_fork(scenario) == {n: (n, None) for n in range(5)}


def test_the_pidfd_is_readable_when_it_is_gone_even_with_a_grandchild_alive(in_fork, ended, forking, tmp_path):
    def leave_grandchild():
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        write(tmp_path / "said", pid)

    def scenario():
        forking.adopt_orphans()
        end = ended(spawn("child", leave_grandchild))
        grandchild = written(tmp_path / "said")
        os.kill(grandchild, signal.SIGKILL)
        os.waitpid(grandchild, 0)
        return end

    assert in_fork(scenario) == (0, None)


def test_killing_the_group_ends_what_it_started_too(in_fork, ended, forking, tmp_path):
    def start_more():
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        write(tmp_path / "said", pid)
        time.sleep(60)

    def scenario():
        forking.adopt_orphans()
        child = spawn("child", start_more)
        grandchild = written(tmp_path / "said")
        child.kill_group()
        end = ended(child)
        return end, forking.has_ended(grandchild) and os.waitpid(grandchild, 0)[1]

    assert in_fork(scenario) == ((None, signal.SIGKILL), signal.SIGKILL)


def test_killing_before_the_child_has_its_group_kills_it_all_the_same(in_fork, ended):
    """The child has not left the parent's group yet, which must not receive the signal."""

    def scenario():
        os.setpgid, real = (lambda *_: time.sleep(60)), os.setpgid
        child = spawn("child", lambda: None)
        os.setpgid = real
        child.kill_group()
        return ended(child)

    assert in_fork(scenario) == (None, signal.SIGKILL)


def test_a_signal_to_one_that_is_gone_is_no_error(in_fork, forking):
    def scenario():
        child = spawn("child", lambda: None)
        forking.has_ended(child.pid)
        child.signal(signal.SIGTERM)
        child.process.join()
        child.signal(signal.SIGTERM)
        child.kill_group()
        return child.is_stopped()

    assert in_fork(scenario) is False


def test_a_stopped_child_is_seen_as_stopped(in_fork, ended, forking):
    def scenario():
        child = spawn("child (T) tricky", lambda: time.sleep(60))
        seen = [child.is_stopped()]
        child.signal(signal.SIGSTOP)
        forking.wait_until(child.is_stopped)
        child.signal(signal.SIGCONT)
        forking.wait_until(lambda: not child.is_stopped())
        child.signal(signal.SIGKILL)
        ended(child)
        return seen

    assert in_fork(scenario) == [False]


def test_a_process_name_with_brackets_does_not_hide_its_state(in_fork, ended, forking):
    """The name is in brackets before the state, and may contain brackets itself."""

    def renamed():
        ctypes.CDLL(None).prctl(15, b"a) T (b")  # PR_SET_NAME
        time.sleep(60)

    def scenario():
        child = spawn("child", renamed)
        forking.wait_until(lambda: "a) T (b" in Path(f"/proc/{child.pid}/stat").read_text())
        seen = child.is_stopped()
        child.signal(signal.SIGKILL)
        ended(child)
        return seen

    assert in_fork(scenario) is False


def test_prepare_moves_what_exists_out_of_the_collectors_sight(in_fork):
    def scenario():
        gc.unfreeze()
        prepare()
        return gc.get_freeze_count() > 1000

    assert in_fork(scenario) is True


def test_a_parent_that_fails_ends_with_its_children_instead_of_waiting_for_them(forking):
    """multiprocess joins at exit: a parent without its loop would never exit, and hold the lock."""
    program = """
import os, time
from supervisor.spawn import prepare, spawn
prepare()
print(spawn("child", lambda: time.sleep(600)).pid, flush=True)
raise OSError("a fault of the parent")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "a fault of the parent" in done.stderr
    assert forking.has_ended(int(done.stdout))


def test_no_directory_of_temporary_files_is_needed():
    """A container whose root is read-only has none."""
    program = """
import tempfile
def refuse(): raise FileNotFoundError("No usable temporary directory")
tempfile._get_default_tempdir = refuse
import supervisor.parent
assert tempfile.tempdir is None
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
