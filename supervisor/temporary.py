"""Temporary system in a directory of its own; it ends with the process that started it.

A starter that is killed cannot remove the directory, so the next one does. It recognises it by a lock in it, which the
kernel releases with its owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from ipc.errors import ParaphinaError
from ipc.rundir import RunDir
from supervisor.bound import bound_command
from supervisor.lock import holder_of

_PLACE: Final = Path("/dev/shm")  # noqa: S108 - mkdtemp makes private directories in it
_PREFIX: Final = "paraphina-temporary-"
_OWNER: Final = "owner.lock"
_STOP_S: Final = 20.0
#: The configured address belongs to the system that runs beside this one.
_HTTP: Final = "127.0.0.1:0"
#: Bytes of the log that an error shows.
_TAIL: Final = 2000


class TemporarySystem:
    """Context manager of a directory and of the system that runs in it.

    Attributes:
        path: The directory, for a configuration and the log.
        run_dir: The system's run directory, in it.
        process: The supervisor; None when it was not started or has been reaped.
    """

    def __init__(self) -> None:
        _remove_leftovers()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
        self._owner = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        self.run_dir = RunDir(self.path / "run")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._owner)

    def start(self, *arguments: str) -> None:
        """Start the system with the arguments of ``start``; does not wait. Call it in the main thread."""
        command = bound_command("start", "--run-dir", str(self.run_dir.path), *arguments)
        environment = {**os.environ, "PARAPHINA_GATEWAY_HTTP": _HTTP}
        with (self.path / "log").open("ab") as log_file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log_file, env=environment
            )

    def stop(self) -> None:
        """Stop the system, gracefully if it can be."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    @property
    def has_ended(self) -> bool:
        """True when the system ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def log_tail(self) -> str:
        """Return the end of the system's log."""
        try:
            return (self.path / "log").read_text(errors="replace")[-_TAIL:]
        except OSError:
            return ""


def _remove_leftovers() -> None:
    """Remove the directories of starters that were killed, once their systems have ended."""
    for path in _PLACE.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ParaphinaError):
            _remove_leftover(path)


def _remove_leftover(path: Path) -> None:
    owner = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if holder_of(RunDir(path / "run").lock) is None:
            shutil.rmtree(path)
    finally:
        os.close(owner)
