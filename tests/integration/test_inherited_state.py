"""Systems that inherit a hostile process state: each goes live, survives the death of its worker, and stops with 0."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from systems import wait_for

from ipc.errors import ParaphinaError
from ipc.feed import Feed
from ipc.rundir import RunDir
from supervisor.status.document import read_status

pytestmark = pytest.mark.integration

CONFIG = '[supervisor]\nfirst_restart = "immediate"\nvenues = ["lighter"]\n[venues.lighter]\nstale_ms = {}\n'
#: Each changes one thing that the program inherits; ``given`` is an argument.
STATES = {
    "signals": """
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
""",
    "descriptors": """
for _ in range(50):
    os.set_inheritable(os.open("/dev/zero", os.O_RDONLY), True)
held = os.open(given, os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
os.set_inheritable(held, True)
""",
    "umask": "os.umask(0o777)",
    "soft limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    "hard limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
    "removed directory": "os.mkdir(given + '.d'); os.chdir(given + '.d'); os.rmdir(given + '.d')",
    "closed streams": "os.closerange(0, 3)",
}
STARTER = """
import fcntl, os, resource, signal, sys
given = sys.argv[1]
{}
os.execv(sys.executable, [sys.executable, "-m", "supervisor", *sys.argv[2:]])
"""
#: Leads a session on a terminal, as a shell does, and starts the program in a process group of its own.
SHELL = """
import fcntl, os, signal, sys, termios
terminal, is_foreground, is_nohup = int(sys.argv[1]), sys.argv[2] == "1", sys.argv[3] == "1"
os.setsid()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for number in range(3):
    os.dup2(terminal, number)
signal.signal(signal.SIGHUP, lambda *_: None)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    if is_foreground:
        os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    if is_nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, "-m", "supervisor", *sys.argv[4:]])
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
"""


class Started:
    """A system that another program starts; a context manager."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="pi-", dir="/dev/shm"))
        self.run_dir = RunDir(self.path / "run")
        self.env = {**os.environ, "XDG_STATE_HOME": str(self.path / "state")}
        self.configure(10_000)
        self.options = ["start", "--sim", "--run-dir", str(self.run_dir.path)]
        self.options += ["--config", str(self.path / "config.toml")]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self._end(self.process.pid)
            self.process.wait()
        with contextlib.suppress(ParaphinaError):
            self._end(self.parent())
        shutil.rmtree(self.path)

    @staticmethod
    def _end(pid):
        """Kill a process that a failed test left, with all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in [*parent.children(recursive=True), parent]:
                process.kill()

    def configure(self, stale_ms):
        (self.path / "config.toml").write_text(CONFIG.format(stale_ms))

    def start(self, program, *arguments, **kwargs):
        with (self.path / "err").open("ab") as err, (self.path / "out").open("ab") as out:
            command = [sys.executable, "-c", program, *arguments]
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            self.process = subprocess.Popen(command, env=self.env, **{**streams, **kwargs})
        return self

    def in_state(self, *states, extra=(), **kwargs):
        program = STARTER.format("\n".join(STATES[state] for state in states))
        return self.start(program, str(self.path / "held"), *self.options, *extra, **kwargs)

    @property
    def err(self):
        return (self.path / "err").read_text()

    def worker(self):
        """The live worker's pid."""

        def find():
            assert self.process is None or self.process.poll() is None, self.err
            try:
                venue = read_status(self.run_dir)["venues"]["lighter"]
            except (ParaphinaError, KeyError):
                return None
            return venue["pid"] if venue["state"] == "live" else None

        return wait_for(find, 90, what=f"live; {self.err}")

    def next_worker(self, before):
        return wait_for(lambda: (pid := self.worker()) != before and pid, 90, what="the next worker")

    def parent(self):
        return self.run_dir.describe()["pid"]

    def survives_a_death(self):
        """Kill the worker; return the pid of the next one."""
        before = self.worker()
        os.kill(before, signal.SIGKILL)
        return self.next_worker(before)

    def stop(self):
        """End it; return its exit code."""
        os.kill(self.parent(), signal.SIGTERM)
        return self.process.wait(60)


def streams_of(pid):
    """What the descriptors of a process are open on."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(path.name)] = str(path.readlink())
    return found


def ignored_and_blocked(pid):
    """Return the masks of a process."""
    words = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return [
        {number for number in signal.valid_signals() if int(words[name], 16) >> (number - 1) & 1}
        for name in ("SigIgn", "SigBlk")
    ]


def a_hostile_start():
    """All states that can be inherited together, in the foreground."""
    with Started() as system:
        system.in_state("descriptors", "umask", "soft limit", "signals", "closed streams")
        worker = system.survives_a_death()
        for pid in (system.parent(), worker):
            opened = streams_of(pid)
            assert "/dev/zero" not in opened.values()
            assert str(system.path / "held") not in opened.values()
            assert [opened[number] for number in range(3)] == ["/dev/null"] * 3
            ignored, blocked = ignored_and_blocked(pid)
            assert blocked == set()
            assert not ignored & {signal.SIGCHLD, signal.SIGTERM, signal.SIGSEGV}
            assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0] > 64
        assert system.run_dir.board.stat().st_mode & 0o777 == 0o600
        assert system.stop() == 0


def a_hostile_start_in_the_background():
    """As cron starts it, below a lock that the next run of the same job takes."""
    with Started() as system:
        system.in_state("descriptors", "umask", "soft limit", "signals", extra=["--detach"])
        assert system.process.wait(90) == 0, system.err
        system.process = None
        worker, parent = system.survives_a_death(), system.parent()
        with (system.path / "held").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for pid in (parent, worker):
            assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
            assert "/dev/zero" not in streams_of(pid).values()
        os.kill(parent, signal.SIGTERM)
        wait_for(lambda: not psutil.pid_exists(parent), 60)


def relative_paths_in_the_background():
    """The directory of the start is what paths refer to, also when the configuration is read again."""
    with Started() as system:
        system.env["XDG_STATE_HOME"] = "state"
        system.options[-3:] = ["run", "--config", "config.toml"]
        system.start("from supervisor.cli import main; main()", *system.options, "--detach", cwd=system.path)
        assert system.process.wait(90) == 0, system.err
        system.process = None
        before, parent = system.worker(), system.parent()
        system.configure(9_000)
        os.kill(parent, signal.SIGHUP)
        system.next_worker(before)
        assert "supervisor.reloaded" in (system.path / "state" / "paraphina" / "log").read_text()
        os.kill(parent, signal.SIGTERM)
        wait_for(lambda: not psutil.pid_exists(parent), 60)


def a_removed_directory():
    with Started() as system:
        system.in_state("removed directory")
        system.survives_a_death()
        assert Path(f"/proc/{system.parent()}/cwd").readlink() == Path("/")
        assert system.stop() == 0


def a_simulator_and_a_worker_alone():
    """The other programs that run for long."""
    hostile = ["descriptors", "umask", "soft limit", "signals"]
    with Started() as simulator, Started() as worker:
        simulator.options = ["sim", "--venues", "lighter"]
        simulator.in_state(*hostile)
        lines = wait_for(lambda: [*(simulator.path / "out").read_text().splitlines()][:1], 60)
        _, ws_url, rest_url = lines[0].split()
        worker.options = ["worker", "lighter", "--ws-url", ws_url, "--rest-url", rest_url]
        worker.options += ["--run-dir", str(worker.run_dir.path)]
        worker.in_state(*hostile)
        with Feed(worker.run_dir.path) as feed:
            assert feed.wait_live([("lighter", "BTC-PERP")], 60)
        for system in (worker, simulator):
            assert "/dev/zero" not in streams_of(system.process.pid).values()
            system.process.terminate()
            assert system.process.wait(60) == 0


def closed_streams():
    """Each combination of closed streams: they lead nowhere, and no file of the system gets their numbers."""
    combinations = [set(some) for count in (1, 2, 3) for some in itertools.combinations(range(3), count)]
    with ExitStack() as stack:
        systems = [stack.enter_context(Started()) for _ in combinations]
        for system, closed in zip(systems, combinations, strict=True):
            system.start(STARTER.format(f"for number in {closed}: os.close(number)"), "", *system.options)
        for system, closed in zip(systems, combinations, strict=True):
            worker = system.worker()
            given = {0: os.devnull, 1: str(system.path / "out"), 2: str(system.path / "err")}
            wanted = {number: os.devnull if number in closed else path for number, path in given.items()}
            for pid in (system.parent(), worker):
                assert {number: streams_of(pid)[number] for number in range(3)} == wanted, closed
            assert system.stop() == 0, closed


def a_hard_limit_of_docker():
    """Nothing counts up to the limit: the first fork alone would take minutes."""
    most = 1_073_741_816
    state = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))"
    if subprocess.run([sys.executable, "-c", f"import resource; {state}"], capture_output=True).returncode:
        pytest.skip(f"the hard limit cannot be {most:,} here")
    with Started() as system:
        system.start(STARTER.format(state), "", *system.options)
        system.survives_a_death()
        assert system.stop() == 0


def a_relative_path_and_a_removed_directory():
    with Started() as system:
        system.options[-1] = "config.toml"
        system.in_state("removed directory")
        assert system.process.wait(60) == 2
        assert system.err == (
            "paraphina-supervisor: config.toml: a relative path, but the current directory was removed "
            "(give an absolute path)\n"
        )


def a_hard_limit_that_is_too_low():
    with Started() as system:
        system.in_state("hard limit")
        assert system.process.wait(60) == 2
        assert system.err.startswith("paraphina-supervisor: RLIMIT_NOFILE: the hard limit of 64 file descriptors is")
        assert system.err.count("\n") == 1


class Terminal:
    """A terminal with ``stty tostop``, read by a thread until it is closed."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        modes = termios.tcgetattr(self.slave)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(self.slave, termios.TCSANOW, modes)
        self.shown = b""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def start(self, system, *, is_foreground, is_nohup=False):
        arguments = [str(self.slave), str(int(is_foreground)), str(int(is_nohup)), *system.options]
        system.start(SHELL, *arguments, pass_fds=[self.slave])
        os.close(self.slave)

    def close(self):
        """Close the other end, as a window or a connection that ends."""
        self._closing.set()
        self._thread.join(30)
        os.close(self.master)

    def _read(self):
        os.set_blocking(self.master, False)
        while not self._closing.wait(0.05):
            try:
                self.shown += os.read(self.master, 65_536)
            except BlockingIOError:
                continue
            except OSError:  # no process has it open any more
                return


def a_terminal_in_the_foreground():
    """Its modes stop no worker; it reloads on SIGHUP, and stops when the terminal is closed."""
    with Started() as system:
        terminal = Terminal()
        terminal.start(system, is_foreground=True)
        before = system.survives_a_death()
        os.kill(system.parent(), signal.SIGHUP)
        wait_for(lambda: b"supervisor.reloaded" in terminal.shown, 60)
        assert b"lighter is live" in terminal.shown
        assert system.worker() == before
        terminal.close()
        assert system.process.wait(60) == 0


def a_terminal_in_the_background():
    with Started() as system:
        terminal = Terminal()
        terminal.start(system, is_foreground=False)
        system.survives_a_death()
        wait_for(lambda: terminal.shown.count(b"worker.started") >= 2, 60)
        terminal.close()
        assert system.process.wait(60) == 0


def a_terminal_under_nohup():
    """It goes on without its terminal, whatever it writes there, and SIGHUP still reloads."""
    with Started() as system:
        terminal = Terminal()
        terminal.start(system, is_foreground=True, is_nohup=True)
        system.worker()
        terminal.close()
        before = system.survives_a_death()
        system.configure(9_000)
        os.kill(system.parent(), signal.SIGHUP)
        system.next_worker(before)
        parent = psutil.Process(system.parent())
        parent.cpu_percent()
        assert parent.cpu_percent(1.0) < 50, "it does not spin on the closed terminal"
        assert system.stop() == 0


CASES = [
    a_hostile_start,
    a_hostile_start_in_the_background,
    relative_paths_in_the_background,
    a_simulator_and_a_worker_alone,
    closed_streams,
    a_hard_limit_of_docker,
    a_removed_directory,
    a_relative_path_and_a_removed_directory,
    a_hard_limit_that_is_too_low,
    a_terminal_in_the_foreground,
    a_terminal_in_the_background,
    a_terminal_under_nohup,
]


@pytest.fixture(scope="module")
def outcomes():
    """Futures of all cases, which mostly wait and so run at the same time."""
    with ThreadPoolExecutor(4) as pool:
        yield {case: pool.submit(case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_system_with(case, outcomes):
    outcomes[case].result(300)
