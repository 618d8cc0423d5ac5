"""Whole system to measure: the real command line in its own process, and the processes of its children."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from bench.feeder import Feeder
from bench.task import ROOT
from ipc.rundir import RunDir
from supervisor.bound import bound_command
from supervisor.status.document import pid_of, read_status

_LIMIT_S = 30.0
_CHECK_S = 0.005


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = _LIMIT_S) -> float:
    """Wait until a condition holds and return the seconds that it took; raise RuntimeError after ``limit_s``."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > limit_s:
            raise RuntimeError(f"not within {limit_s:g} s: {what}")
        time.sleep(_CHECK_S)
    return time.monotonic() - start


def fed(feeders: Mapping[str, Feeder], markets: int = 1) -> str:
    """Return the configuration of a system that reads these feeders."""
    bases = ["BTC"] + [f"X{number:03d}" for number in range(1, markets)]
    lines = ["[supervisor]", f"venues = {list(feeders)}", f"markets = {bases}".replace("'", '"')]
    for venue, feeder in feeders.items():
        lines += [f"[venues.{venue}]", f'ws_url = "{feeder.ws_url}"', f'rest_url = "{feeder.rest_url}"']
    return "\n".join(lines).replace("'", '"')


class BenchSystem:
    """Context manager of ``paraphina-supervisor start`` in a temporary directory; on the simulator without a config."""

    def __init__(self, config: str = "", *arguments: str) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="pb-", dir="/dev/shm"))
        self.run_dir = RunDir(self._path / "run")
        self._arguments = ["--run-dir", str(self.run_dir.path), *arguments]
        if config:
            (self._path / "config.toml").write_text(config, encoding="utf-8")
            self._arguments += ["--config", str(self._path / "config.toml")]
        else:
            self._arguments.append("--sim")
        self.started_ns = 0

    def __enter__(self) -> Self:
        command = bound_command("start", *self._arguments)
        own = {"XDG_STATE_HOME": str(self._path), "PARAPHINA_GATEWAY_HTTP": "127.0.0.1:0"}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **own}
        self.started_ns = time.monotonic_ns()
        with (self._path / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._path, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the parent."""
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """Return the status of the system."""
        return read_status(self.run_dir)

    def wait_live(self, limit_s: float = _LIMIT_S) -> float:
        """Wait until every venue is live; return the seconds that it took."""

        def is_live() -> bool:
            if self._process.poll() is not None:
                raise RuntimeError(f"the system ended: {(self._path / 'log').read_text(encoding='utf-8')[-800:]}")
            venues = self.status()["venues"]
            return bool(venues) and all(venue["state"] == "live" for venue in venues.values())

        return wait_for(is_live, "every venue live", limit_s)

    def process(self, name: str) -> psutil.Process:
        """Return the process of a venue or the gateway; raise RuntimeError when it is not running."""
        pid = pid_of(self.status(), name)
        if pid is None:
            raise RuntimeError(f"{name} has no process")
        return psutil.Process(pid)

    def cpu_s(self, name: str) -> float:
        """Return the CPU time that a process has used, s."""
        times = self.process(name).cpu_times()
        return float(times.user + times.system)
