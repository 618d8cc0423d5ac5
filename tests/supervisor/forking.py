"""Scenarios in a fork of the test process: one thread, signal handlers and descriptors of their own."""

from __future__ import annotations

import ast
import ctypes
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["adopt_orphans", "descriptors", "has_ended", "in_fork", "wait_until"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def in_fork(scenario: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Run ``scenario`` in a fork; return its result (plain data), or raise its failure as an AssertionError."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on: other tests may have left threads, which is why this forks at all.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(scenario, writer)
    os.close(writer)
    said = _read(reader, time.monotonic() + timeout_s)
    if said is None:
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not said:
        raise AssertionError(f"the scenario said nothing within {timeout_s} s, or was killed")
    kind, value = ast.literal_eval(said.decode())
    if kind == "failed":
        raise AssertionError(value)
    return value


def _run(scenario: Callable[[], Any], writer: int) -> None:
    try:
        os.setpgid(0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        said = ("returned", scenario())
    except BaseException:
        said = ("failed", traceback.format_exc())
    try:
        os.write(writer, repr(said).encode())
        sys.stderr.flush()
    finally:
        os._exit(0)


def _read(reader: int, deadline: float) -> bytes | None:
    """Read up to the end of the pipe; return None on a timeout."""
    said = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                piece = pipe.read(65_536)
                if not piece:
                    return said
                said += piece
    return None


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose own parent dies, to wait for them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def has_ended(pid: int, timeout_s: float = 15.0) -> bool:
    """Wait for a process; return whether it exits in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until ``condition`` returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout_s} s: {condition}")
        time.sleep(0.005)
    return found


def descriptors() -> set[int]:
    """Return the open descriptors of this process."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
