"""Fixtures, and tools that are loaded by path."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from ipc.rundir import RunDir
from supervisor.cli import main

#: Holds a run directory's lock until it is ended, as a supervisor that does nothing else.
_HOLDER = """
import ctypes, signal, sys
from pathlib import Path
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from supervisor.lock import InstanceLock
lock = InstanceLock(Path(sys.argv[1]))
print("held", flush=True)
signal.pause()
"""


def _load(name: str) -> ModuleType:
    unique = f"supervisor_tests_{name}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[unique] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[unique]


@pytest.fixture(scope="session", autouse=True)
def _this_process_keeps_its_state():
    """A verb that runs for long closes all descriptors of its process: here, those of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supervisor.process_state.reset_process_state", lambda: None)
        yield


@pytest.fixture(scope="session")
def forking():
    return _load("forking")


@pytest.fixture(scope="session")
def boards():
    return _load("boards")


@pytest.fixture
def new_world(monkeypatch, run_dir, signals):
    """Return a function that makes a parent in simulated time: ``new_world(venues="lighter")``."""
    module = _load("world")
    worlds = []

    def make(*arguments, **flags):
        worlds.append(module.World(monkeypatch, run_dir, *arguments, **flags))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def run_dir():
    """Prepared run directory with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ps-"))
    directory = RunDir(path / "run")
    directory.prepare()
    yield directory
    shutil.rmtree(path)


@pytest.fixture
def signals():
    """Restore signal handlers after the test."""
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wakeup = signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(wakeup)
    for number, handler in kept.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def start_holder():
    """Return a function that starts a process that holds a lock: ``start_holder(path)``."""
    started = []

    def start(lock: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def held_lock(run_dir, start_holder):
    """Pid of a process that holds the run directory's lock during the test."""
    return start_holder(run_dir.lock).pid


@dataclass(frozen=True)
class Ran:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys, monkeypatch, run_dir):
    """Return a function that runs a verb in this process, by default on the test's run directory."""
    for name in list(os.environ):
        if name.startswith("PARAPHINA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PARAPHINA_RUN_DIR", str(run_dir.path))

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(left.value.code or 0, printed.out, printed.err)

    return run


@pytest.fixture
def command(run_dir):
    """Return a function that runs a verb in a new process."""

    def run(*arguments: str, **kwargs) -> Ran:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PARAPHINA_")}
        env |= {"PARAPHINA_GATEWAY_HTTP": "127.0.0.1:0", "PARAPHINA_RUN_DIR": str(run_dir.path)}
        env |= kwargs.pop("env", {})
        program = "from supervisor.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, env=env, **kwargs
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
