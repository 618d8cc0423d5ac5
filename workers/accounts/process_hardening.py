"""Keeping secrets that a process was given in its environment from being read out of it.

``/proc/<pid>/environ`` shows the environment as it was when the program began, to whoever runs as the same user and
whatever is changed later; so the values are overwritten where they lie. A core dump, a debugger and
``/proc/<pid>/mem`` would show them all the same, so these are denied. What forks after that has it too.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workers.accounts.secrets import environment_names

__all__ = ["harden_process"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE: Final = 4
#: Fields of ``/proc/<pid>/stat`` (proc(5), numbered from 1) with where the environment begins and ends.
_ENV_START, _ENV_END = 50, 51
#: The first field behind the name, which may hold blanks.
_STATE: Final = 3


def harden_process() -> None:
    """Do so, if there are secrets in the environment; ``os.environ`` keeps them."""
    names = [name for name in environment_names() if os.environ.get(name)]
    if not names:
        return
    wanted = {os.fsencode(name) for name in names}
    for found, address, length in _entries():
        if found in wanted:
            ctypes.memset(address, ord("-"), length)
    for name in names:
        os.environ[name] = os.environ[name]  # a copy elsewhere, for programs that are started
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _entries() -> Iterator[tuple[bytes, int, int]]:
    """Names of the environment that this program began with, and where their values lie: address and length."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    address, end = (int(fields[number - _STATE]) for number in (_ENV_START, _ENV_END))
    for entry in ctypes.string_at(address, end - address).split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            yield name, address + len(name) + 1, len(value)
        address += len(entry) + 1
