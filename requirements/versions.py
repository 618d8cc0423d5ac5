"""Try the program on other versions than the recorded ones: `make test-versions`.

The lowest versions that pyproject.toml allows run a simulated system and unit tests, on the oldest Python here; so do
the newest ones that the index offers, but what fails there is only reported. On every other Python from 3.11 on, the
recorded versions run a simulated system. Environments and logs are below build/versions/.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "build" / "versions"
# Those of the code that calls libraries; the simulator's are left out for time, the system that goes live runs it.
TESTS = [
    "tests/test_requirements.py",
    "tests/ipc",
    "tests/supervisor",
    "tests/workers",
    "-q",
    "-m",
    "not integration and not soak and not operate",
]
LIVE_S = 60.0
STEP_S = 900.0
PROBE = "import ensurepip, sys, venv; print(sys.implementation.name, sys.base_prefix, *sys.version_info[:3], sep='\\n')"


@dataclass(frozen=True)
class Python:
    """Interpreter of this machine that can create environments."""

    version: tuple[int, ...]
    prefix: str
    path: Path

    @property
    def name(self) -> str:
        """Return its version as people write it."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Trial:
    """Set of versions on one interpreter."""

    name: str
    record: str
    python: Python
    has_tests: bool = False
    is_required: bool = True


class FailedError(Exception):
    """Failure of a step; the text names it."""


def pythons() -> list[Python]:
    """Return the interpreters from 3.11 on, oldest first, each version once; this one stands for its own."""
    found: dict[tuple[int, ...], Python] = {}
    for path in [Path(sys.executable), *candidates()]:
        if python := probed(path):
            found.setdefault(python.version, python)
    return sorted(found.values(), key=lambda python: python.version)


def candidates() -> Iterator[Path]:
    """Yield what may be an interpreter: on the PATH, and pyenv's."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield from (path for path in sorted(Path(folder).glob("python3*")) if not path.name.endswith("-config"))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/*/bin/python3"))


def probed(path: Path) -> Python | None:
    """Return the interpreter at this path, or None if it does not start, is too old or cannot make environments."""
    try:
        answer = subprocess.run([path, "-c", PROBE], check=False, capture_output=True, text=True, timeout=20)
        implementation, prefix, *numbers = answer.stdout.splitlines()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    version = tuple(map(int, numbers))
    return Python(version, prefix, path) if version >= (3, 11) and implementation == "cpython" else None


def trials(found: list[Python]) -> list[Trial]:
    """Return what to try, the longest first."""
    own = next(python for python in found if python.prefix == sys.base_prefix)
    return [
        Trial("lowest", "lowest", found[0], has_tests=True),
        Trial("newest", "newest", own, has_tests=True, is_required=False),
        *(Trial(f"python-{python.name}", "run", python) for python in found if python != own),
    ]


def log_of(trial: Trial) -> Path:
    """Return the file that holds the output of a trial."""
    return HERE / f"{trial.name}.log"


def run(trial: Trial) -> str:
    """Try one set of versions; return what failed, or nothing."""
    place = HERE / trial.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with log_of(trial).open("w") as log:
        try:
            step(log, trial.python.path, ROOT / "requirements/install.py", trial.record, place)
            go_live(log, place / "bin/paraphina-supervisor")
            if trial.has_tests:
                step(log, place / "bin/python", "-m", "pytest", *TESTS, PARAPHINA_RECORD=trial.record)
        except (FailedError, subprocess.TimeoutExpired) as error:
            return str(error)
    return ""


def step(log: TextIO, *command: str | Path, **variables: str) -> None:
    """Run a command to its end; raise FailedError if it says no, TimeoutExpired if it hangs."""
    print("$", *command, file=log, flush=True)
    environment = os.environ | variables
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        timeout=STEP_S,
    )
    if done.returncode:
        raise FailedError(f"exit code {done.returncode}: {' '.join(map(str, command))}")


def go_live(log: TextIO, program: Path) -> None:
    """Run a simulated system until all is live, kill a worker, and see it come back; raise FailedError if not."""
    with tempfile.TemporaryDirectory(prefix="paraphina-") as directory:
        where = ["--run-dir", f"{directory}/run"]
        print("$", program, "start --sim", file=log, flush=True)
        system = subprocess.Popen(
            [program, "start", "--sim", *where],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PARAPHINA_GATEWAY_HTTP": "127.0.0.1:0"},
        )
        try:
            pid = wait_until_live(program, where)
            os.kill(int(pid), signal.SIGKILL)
            wait_until_live(program, where, killed=pid)
            system.terminate()
            if code := system.wait(LIVE_S):
                raise FailedError(f"the simulated system ended with exit code {code}")
        finally:
            system.kill()


def wait_until_live(program: Path, where: list[str], killed: str = "") -> str:
    """Wait until all venues are live and return the pid of lighter's worker; raise FailedError after LIVE_S."""
    until = time.monotonic() + LIVE_S
    while time.monotonic() < until:
        is_live = ask(program, "status", *where).returncode == 0
        pid = ask(program, "status", "--pid", "lighter", *where).stdout.strip()
        if is_live and pid not in ("", killed):
            return pid
        time.sleep(0.5)
    raise FailedError(f"not all venues were live after {LIVE_S:.0f} s" + (", lighter was killed" if killed else ""))


def ask(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what a verb answers."""
    return subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=LIVE_S)


def report(trial: Trial) -> bool:
    """Run a trial and print one line about it; return False if a required one failed."""
    began = time.monotonic()
    failure = run(trial)
    took = f"{time.monotonic() - began:4.0f} s"
    word = "passed" if not failure else "FAILED" if trial.is_required else "failed (reported only)"
    hint = f": {failure}\n{'':16}see {log_of(trial)}" if failure else ""
    print(f"{trial.name:16}Python {trial.python.name:8}{took}  {word}{hint}", flush=True)
    return not failure or not trial.is_required


def main() -> int:
    """Try everything, two at a time; return the exit code."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return 0 if all(list(pool.map(report, trials(pythons())))) else 1


if __name__ == "__main__":
    sys.exit(main())
